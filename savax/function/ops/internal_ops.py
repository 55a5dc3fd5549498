"""Ops of TensorFlow's registry that its runtime and its tests use; saved models have none of them.

``tf.raw_ops`` doesn't have them either.
"""

from __future__ import annotations

import re

_TEST = "it belongs to TensorFlow's own tests"
_RUNTIME = (
    "TensorFlow's runtime puts it into a graph while it runs that; save the graph as it was before"
)
_DIALECT = "it belongs to a set of ops that TensorFlow has no kernels for"
_MESH = "it places parts of arrays on a mesh of devices; shard the arguments with JAX instead"
_TPU_DATA = "it prepares embeddings for TPUs inside TensorFlow's runtime"
_TPU_ONLY = "TensorFlow has it for accelerators only"
_COMPILER = "it is made while TensorFlow compiles a graph for an accelerator; save the graph itself"
_SORT = "it sorts by a function of the graph, and JAX's sort takes none"
_BOUNDS = (
    "its result has a size that changes while a compiled program runs, which JAX has no form for"
)
_NUMBERS = "what it draws depends on the compiler; draw with tf.random.stateless_uniform"
_KERNEL_CALL = "it calls a kernel that is linked into the process that wrote the model"
_CALIBRATION = "it collects statistics of values for TensorFlow's quantizer"
_SETTING = "it asks for the state of TensorFlow's runtime"
_WORD_VECTORS = "it trained word vectors from a text file, and TensorFlow's kernels for it are gone"
_AUDIO_FEATURES = (
    "it computes features of sound by TensorFlow Lite's arithmetic of integers; use tf.signal"
)

_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"Risc\w+", _DIALECT),
    (r"DTensor\w+|CopyToMesh\w*|Relayout\w*|XlaSpmd\w+", _MESH),
    (r"\w*Dedup(Data|Tuple)\w*|UpdateTaskIdAndGlobalCoreArray", _TPU_DATA),
    (r"TopKUnique|TopKWithUnique|MakeUnique|KthOrderStatistic|XlaDequantize", _TPU_ONLY),
    (r"XlaCustomCall(V2)?", _KERNEL_CALL),
    (
        r"XlaLaunch(V2)?|XlaClusterOutput|XlaHostCompute|Xla(Send|Recv)\w*|MlirPassthroughOp",
        _COMPILER,
    ),
    (r"XlaSetDynamicDimensionSize", _BOUNDS),
    (r"XlaVariadicSort", _SORT),
    (r"XlaRngBitGenerator|StochasticCastToInt", _NUMBERS),
    (r"CalibrationStatisticsSaver|CustomAggregator|DumpTensor", _CALIBRATION),
    (r"GetDeadline|IsResourceHandleRefCounting|IsTensorFloat32Enabled", _SETTING),
    (r"MakeWeakResourceHandle|StubResourceHandleOp|DeleteRpcFutureResource", _SETTING),
    (r"Skipgram|NegTrain", _WORD_VECTORS),
    (r"AudioMicrofrontend", _AUDIO_FEATURES),
    (r"_(?!(Fused)?Quantized)\w+", _RUNTIME),
)
INTERNAL_PATTERNS = tuple((re.compile(pattern), reason) for pattern, reason in _FAMILIES)

_TEST_NAMES = """
    A Attr AttrBool AttrBoolList AttrDefault AttrEmptyListDefault AttrEnum AttrEnumList AttrFloat
    AttrListDefault AttrListMin AttrListTypeDefault AttrMin AttrPartialShape AttrPartialShapeList
    AttrShape AttrShapeList AttrTypeDefault B Binary ComplexStruct ConstructionFails CopyOp
    DefaultAttrs DevicePlacementOp DtypeWithDefaultOp FiveFloatOutputs FloatInput FloatOutput
    FloatOutputStringOutput Foo1 Foo2 Foo3 FuncAttr FuncListAttr GraphDefVersion InPolymorphicTwice
    Int64Output IntAttr IntInput IntInputFloatInput IntInputIntOutput IntOutput IntOutputFloatOutput
    KernelLabel KernelLabelRequired ListInput ListOutput MixedStruct NInPolymorphicTwice NInTwice
    NInTwoTypeVariables NIntsIn NIntsOut NIntsOutDefault NPolymorphicIn NPolymorphicOut
    NPolymorphicOutDefault NPolymorphicRestrictIn NPolymorphicRestrictOut Namespace>TestStringOutput
    None Old OpWithDefaultAttr OpWithFutureDefaultAttr OutT OutTypeList OutTypeListRestrict
    Polymorphic PolymorphicDefaultOut PolymorphicOut RefIn RefInputFloatInput
    RefInputFloatInputIntOutput RefInputIntInput RefOut RefOutput RefOutputFloatOutput
    RequiresOlderGraphVersion ReservedAttr ReservedInput ResourceCreateOp ResourceInitializedOp
    ResourceUsingOp Restrict Simple SimpleStruct SleepIdentityOp SleepOp StringListAttr TestAttr
    TestStringOutput TwoFloatInputs TwoFloatInputsFloatOutput TwoFloatInputsIntOutput
    TwoFloatOutputs TwoIntInputs TwoIntOutputs TwoRefsIn TypeList TypeListRestrict TypeListTwice
    Unary
"""
TEST_OPS = frozenset(_TEST_NAMES.split())

# TensorFlow's graph optimizer writes these, so that a graph that is saved later has them.
_OPTIMIZER_NAMES = """
    _FusedBatchNormEx _FusedBatchNormGradEx _FusedConv2D _FusedConv3D _FusedDepthwiseConv2dNative
    _FusedMatMul _MklFusedBatchMatMulV2 _MklFusedInstanceNorm _MklFusedMish _MklLayerNorm _MklSwish
    _TensorToHashBucketFast _UnaryOpsComposition
"""
_OPTIMIZER_OPS = frozenset(_OPTIMIZER_NAMES.split())


def internal_reason(op: str) -> str | None:
    """Returns why an op is in no model that is saved; None for other ops."""
    if op in TEST_OPS:
        return _TEST
    if op in _OPTIMIZER_OPS:
        return None
    for pattern, reason in INTERNAL_PATTERNS:
        if pattern.fullmatch(op):
            return reason
    return None
