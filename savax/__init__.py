"""SavedModel and TensorFlow checkpoints for JAX, without TensorFlow.

    import savax as sx        # or, for code written for TensorFlow: import savax as tf

Every name is imported when it is first used, so that reading a checkpoint, or looking into a
SavedModel, never loads JAX. ``__init__.pyi`` has the same names for type checkers and editors.
"""

from __future__ import annotations

from savax._lazy import lazy_names
from savax._version import __version__ as __version__

# TensorFlow's names of element types.
_DTYPE_NAMES = (
    *("bfloat16", "half", "float16", "float32", "float64", "double"),
    *("float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    *("float4_e2m1fn", "int2", "int4", "int8", "int16", "int32", "int64"),
    *("uint2", "uint4", "uint8", "uint16", "uint32", "uint64"),
    *("qint8", "qint16", "qint32", "quint8", "quint16"),
    *("bool", "complex64", "complex128", "string", "resource", "variant"),
)

_LAZY = lazy_names(
    __name__,
    # ``savax.function`` is a package that can be called: it is the decorator too.
    submodules=(
        "compat",
        "dtypes",
        "errors",
        "function",
        "io",
        "lookup",
        "saved_model",
        "strings",
        "train",
    ),
    names={
        "savax.compat.v1": ("Graph", "Session"),
        "savax._objects": ("Module", "TrackedState", "Variable"),
        "savax.dtypes": ("DType", "as_dtype", *_DTYPE_NAMES),
        "savax.function": (
            *("IndexedSlices", "RaggedTensor", "SparseTensor"),
            *("IndexedSlicesSpec", "RaggedTensorSpec", "SparseTensorSpec"),
            *("StableHLO", "as_jax", "freeze", "grad", "register_op", "value_and_grad"),
        ),
        "savax.trackable": (
            "AutoTrackable",
            "NoDependency",
            "Trackable",
            "VariableAggregation",
            "VariableSynchronization",
        ),
        "savax.types": ("TensorShape", "TensorSpec"),
    },
)
__getattr__ = _LAZY.getattr
__dir__ = _LAZY.dir
__all__ = _LAZY.all
