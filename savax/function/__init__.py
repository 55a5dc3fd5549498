"""Functions: traced from Python or loaded from a file, lowered to TensorFlow, evaluated on JAX.

Importing this package tells ``savax.trackable`` about JAX, so that Variables hold its arrays.

The package has the name of the decorator, and is the decorator too: ``@savax.function`` calls it.
"""

from __future__ import annotations

import inspect
import sys
import types

from savax.function import (  # noqa: F401 - install what Variables know of JAX
    _arrays,
    _shardings,
    _trees,
)
from savax.function._arguments import unique_names
from savax.function._as_jax import PureFunction, as_jax
from savax.function._composites import (
    IndexedSlices,
    IndexedSlicesSpec,
    RaggedTensor,
    RaggedTensorSpec,
    SparseTensor,
    SparseTensorSpec,
    export_composites,
    import_composites,
)
from savax.function._concrete import Body, ConcreteFunction
from savax.function._custom_ops import register_op
from savax.function._execution import TracedExecution
from savax.function._freezing import FrozenBody, freeze
from savax.function._function_spec import FunctionSpec
from savax.function._gradients import grad, value_and_grad
from savax.function._op_schemas import stripped_op_list
from savax.function._polymorphic import Function, function
from savax.function.evaluation._evaluation import LoadedBody
from savax.function.evaluation._plan import PlanLibrary
from savax.function.evaluation._plan_values import ResourceHandle
from savax.function.evaluation._registered_gradients import (
    GRADIENT_ATTR,
    Capture,
    CapturedTensor,
    GradientFunction,
    RegisteredGradients,
    gradient_type_of,
)
from savax.function.evaluation._segments import Segment
from savax.function.lowering._body_lowering import lower_body, renamed_function
from savax.function.lowering._captured_arrays import CapturedArrays
from savax.function.lowering._function_library import FunctionLibrary
from savax.function.lowering._gradient_functions import lower_gradients
from savax.function.lowering._graph_writer import GraphWriter, free_name
from savax.function.lowering._portable_forms import PortableForms
from savax.function.stablehlo._options import (
    OPS,
    Backend,
    StableHLO,
    checked_fallback,
    checked_lowering,
    chosen_backend,
)

__all__ = [
    "GRADIENT_ATTR",
    "OPS",
    "Backend",
    "Body",
    "Capture",
    "CapturedArrays",
    "CapturedTensor",
    "ConcreteFunction",
    "FrozenBody",
    "Function",
    "FunctionLibrary",
    "FunctionSpec",
    "GradientFunction",
    "GraphWriter",
    "IndexedSlices",
    "IndexedSlicesSpec",
    "LoadedBody",
    "PlanLibrary",
    "PortableForms",
    "PureFunction",
    "RaggedTensor",
    "RaggedTensorSpec",
    "RegisteredGradients",
    "ResourceHandle",
    "Segment",
    "SparseTensor",
    "SparseTensorSpec",
    "StableHLO",
    "TracedExecution",
    "as_jax",
    "checked_fallback",
    "checked_lowering",
    "chosen_backend",
    "export_composites",
    "free_name",
    "freeze",
    "function",
    "grad",
    "gradient_type_of",
    "import_composites",
    "lower_body",
    "lower_gradients",
    "register_op",
    "renamed_function",
    "stripped_op_list",
    "unique_names",
    "value_and_grad",
]


class _DecoratorPackage(types.ModuleType):
    """A package that decorates when it is called.

    Importing any part of it makes the package, not the decorator, the attribute ``function`` of
    ``savax``; so ``savax.function`` is this object in every order of imports.
    """

    __call__ = staticmethod(function)
    __signature__ = inspect.signature(function)


sys.modules[__name__].__class__ = _DecoratorPackage
