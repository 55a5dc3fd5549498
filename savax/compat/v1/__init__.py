"""Version 1 of TensorFlow's interface: graphs and sessions, under its names."""

from __future__ import annotations

from savax.compat.v1 import saved_model, train
from savax.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool,
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)
from savax.function import IndexedSlices, RaggedTensor, SparseTensor
from savax.function.graph._default_stack import (
    get_default_graph,
    get_default_session,
)
from savax.function.graph._graph import (
    Graph,
)
from savax.function.graph._graph_keys import (
    GraphKeys,
)
from savax.function.graph._graph_ops import (
    add_to_collection,
    assign,
    assign_add,
    assign_sub,
    constant,
    control_dependencies,
    device,
    get_collection,
    group,
    identity,
    name_scope,
    no_op,
    placeholder,
    placeholder_with_default,
    sparse_placeholder,
)
from savax.function.graph._graph_variables import GraphVariable as Variable
from savax.function.graph._handles import (
    Operation,
    Tensor,
)
from savax.function.graph._import_graph import (
    import_graph_def,
)
from savax.function.graph._variable_functions import (
    AUTO_REUSE,
    get_variable,
    global_variables,
    global_variables_initializer,
    is_variable_initialized,
    local_variables,
    local_variables_initializer,
    tables_initializer,
    trainable_variables,
    variable_scope,
    variables_initializer,
)
from savax.protos import (
    GraphDef,
    MetaGraphDef,
    NodeDef,
    SaverDef,
    SignatureDef,
    TensorInfo,
    VariableDef,
)
from savax.saved_model.v1._fetches import SparseTensorValue
from savax.saved_model.v1._session import (
    Session,
)
from savax.types import (
    TensorShape,
    TensorSpec,
)

__all__ = [
    "AUTO_REUSE",
    "DType",
    "Graph",
    "GraphDef",
    "GraphKeys",
    "IndexedSlices",
    "MetaGraphDef",
    "NodeDef",
    "Operation",
    "RaggedTensor",
    "SaverDef",
    "Session",
    "SignatureDef",
    "SparseTensor",
    "SparseTensorValue",
    "Tensor",
    "TensorInfo",
    "TensorShape",
    "TensorSpec",
    "Variable",
    "VariableDef",
    "add_to_collection",
    "as_dtype",
    "assign",
    "assign_add",
    "assign_sub",
    "bfloat16",
    "bool",
    "complex64",
    "complex128",
    "constant",
    "control_dependencies",
    "device",
    "double",
    "float16",
    "float32",
    "float64",
    "get_collection",
    "get_default_graph",
    "get_default_session",
    "get_variable",
    "global_variables",
    "global_variables_initializer",
    "group",
    "half",
    "identity",
    "import_graph_def",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_variable_initialized",
    "local_variables",
    "local_variables_initializer",
    "name_scope",
    "no_op",
    "placeholder",
    "placeholder_with_default",
    "saved_model",
    "sparse_placeholder",
    "string",
    "tables_initializer",
    "train",
    "trainable_variables",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "variable_scope",
    "variables_initializer",
]
