"""Functions: traced from Python or loaded from a file, lowered to TensorFlow, evaluated on JAX.

Importing this package tells ``savax.trackable`` about JAX, so that Variables hold its arrays.
"""

from __future__ import annotations

from savax.function import _arrays  # noqa: F401 - installs what Variables need to know of JAX
from savax.function._arguments import unique_names
from savax.function._body_lowering import lower_function, reachable_functions, renamed_function
from savax.function._concrete import Body, ConcreteFunction
from savax.function._evaluation import LoadedBody
from savax.function._execution import TracedExecution
from savax.function._function_library import FunctionLibrary
from savax.function._function_spec import FunctionSpec
from savax.function._graph_writer import GraphWriter
from savax.function._op_schemas import stripped_op_list
from savax.function._plan import PlanLibrary
from savax.function._polymorphic import Function, function

__all__ = [
    "Body",
    "ConcreteFunction",
    "Function",
    "FunctionLibrary",
    "FunctionSpec",
    "GraphWriter",
    "LoadedBody",
    "PlanLibrary",
    "TracedExecution",
    "reachable_functions",
    "function",
    "lower_function",
    "renamed_function",
    "stripped_op_list",
    "unique_names",
]
