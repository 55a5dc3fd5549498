"""TensorFlow ops that savax doesn't evaluate, and why."""

from __future__ import annotations

import re

from savax.function.ops.internal_ops import internal_reason

_PYTHON = "it calls Python code of the process that wrote the model, which no file holds"
_FILES = "a loaded model may read its own assets only, and write no files"
_NETWORK = "a loaded model doesn't talk to other processes"
_CHECKPOINT = "savax saves and restores Variables itself; the graph's own saver isn't run"
_QUEUE = "queues, barriers and readers move data between threads of a TensorFlow session"
_DATASET = "input pipelines aren't part of a model's computation; build them outside of it"
_TPU = "it runs on TPUs through TensorFlow's runtime; JAX compiles the same functions for TPUs"
_SUMMARY = "summaries are written for TensorBoard by the process that trains"
_CUDNN = (
    "it is a kernel of cuDNN for GPUs; Keras keeps a portable form of the layer beside it, which "
    "savax runs"
)
_COLLECTIVE = "it sends data between devices; shard the arguments with JAX instead"
_STATE = "it makes an object that lives in a TensorFlow session"
_TENSORS_MAP = (
    "it keeps sparse tensors in a TensorFlow session, to hand them through a queue; queues are for "
    "training input"
)
_TREES = "it belongs to boosted trees or forests, which newer TensorFlow doesn't have either"
_GRADIENT_STACK = (
    "it links a loop of a version 1 graph with the loop of its gradient; differentiate the "
    "function with jax.grad instead"
)
_OLD_GRADIENT_ARRAY = "it collects the gradient of a version 1 loop; use jax.grad instead"
_QUANTIZED = (
    "it computes with 8-bit integers in kernels that depend on the processor, such as oneDNN's; "
    "dequantize the model, or use fake quantization"
)
_DEBUG = "it reports to TensorFlow's debugger"
_SOBOL = "it needs TensorFlow's table of direction numbers; draw with scipy.stats.qmc instead"
_ORDERING = (
    "the order that it finds is one of many, and comes from a library inside TensorFlow; keep the "
    "permutation as a constant of the model"
)
_REMOVED = "TensorFlow removed it before its version 1.0, and doesn't run it either"
_NO_KERNEL = "TensorFlow has no kernel of it for CPUs"
_SDCA = "it trains linear estimators of TensorFlow 1, in threads whose order changes the result"
_LEARNED = (
    "it draws by counts that it collects while it trains, and keeps in memory only; "
    "FixedUnigramCandidateSampler draws by known ones"
)
_SESSION_VARIABLE = (
    "it acts on a reference variable of a version 1 graph; in such graphs savax turns reference "
    "variables into resources, elsewhere they don't occur"
)
_OLD_ARRAY = (
    "in version 1 graphs savax turns it into the TensorArray of the third version; in functions it "
    "doesn't occur"
)
_FRAMES = "in version 1 graphs savax turns it into While and If; in functions it doesn't occur"
_REFERENCE_CHOICE = (
    "it chooses between reference variables while the graph runs, so that none can be a resource"
)
_LIST_BATCH = (
    "it works on a tensor whose elements are lists, which TensorFlow makes of loops it vectorizes; "
    "save the loop itself"
)
_CRASH = "it ends the process"
_MEMORY = "it asks where TensorFlow keeps a value in memory"
_MAP = "it keeps a map of tensors in a variant, which TensorFlow itself never differentiates"

# Reasons of single ops.
OP_REASONS: dict[str, str] = {
    **dict.fromkeys(("EagerPyFunc", "PyFunc", "PyFuncStateless"), _PYTHON),
    **dict.fromkeys(
        (
            *("MatchingFiles", "WriteFile", "FixedLengthRecordReader"),
            *("FixedLengthRecordReaderV2", "IdentityReader", "IdentityReaderV2", "LMDBReader"),
            *("TFRecordReader", "TFRecordReaderV2", "TextLineReader", "TextLineReaderV2"),
            *("WholeFileReader", "WholeFileReaderV2", "FileSystemSetConfiguration"),
            *("GenerateVocabRemapping", "ImmutableConst", "RecordInput"),
        ),
        _FILES,
    ),
    **dict.fromkeys(
        (
            *("MergeV2Checkpoints", "Restore", "RestoreSlice", "RestoreV2"),
            *("Save", "SaveSlices", "SaveV2", "ShardedFilename", "ShardedFilespec"),
            "LoadAndRemapMatrix",
        ),
        _CHECKPOINT,
    ),
    **dict.fromkeys(("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "CudnnRNNCanonicalToParams"), _CUDNN),
    **dict.fromkeys(
        (
            *("Assign", "AssignAdd", "AssignSub", "CountUpTo", "DestroyTemporaryVariable"),
            *("IsVariableInitialized", "RefIdentity", "StridedSliceAssign", "TemporaryVariable"),
            *("Variable", "VariableV2"),
        ),
        _SESSION_VARIABLE,
    ),
    **dict.fromkeys(
        (
            *("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"),
            *("RefEnter", "RefExit", "RefMerge", "RefNextIteration", "RefSwitch"),
        ),
        _FRAMES,
    ),
    **dict.fromkeys(
        ("Stack", "StackClose", "StackPop", "StackPush"),
        _GRADIENT_STACK,
    ),
    **dict.fromkeys(
        (
            *("AddManySparseToTensorsMap", "AddSparseToTensorsMap"),
            "TakeManySparseFromTensorsMap",
        ),
        _TENSORS_MAP,
    ),
    **dict.fromkeys(
        (
            *("ComputeBatchSize", "CompressElement", "DatasetCardinality", "DatasetFingerprint"),
            *("DatasetFromGraph", "DatasetToSingleElement", "DatasetToTFRecord"),
            *("DistributedSave", "GetElementAtIndex", "GetOptions", "SnapshotDatasetReader"),
            *("SnapshotNestedDatasetReader", "StatsAggregatorHandle", "StatsAggregatorHandleV2"),
            *("ThreadPoolHandle", "UncompressElement", "UnwrapDatasetVariant", "WindowOp"),
            "WrapDatasetVariant",
        ),
        _DATASET,
    ),
    **dict.fromkeys(("GlobalIterId", "SyncDevice", "WorkerHeartbeat"), _TPU),
    **dict.fromkeys(("ImportEvent",), _SUMMARY),
    "Abort": _CRASH,
    "CheckPinned": _MEMORY,
    "RefSelect": _REFERENCE_CHOICE,
    "TensorListPushBackBatch": _LIST_BATCH,
    "TensorArrayGradWithShape": _OLD_GRADIENT_ARRAY,
    **dict.fromkeys(
        (
            *("BatchNormWithGlobalNormalizationGrad", "Conv3DBackpropFilter"),
            *("Conv3DBackpropInput", "RandomCrop"),
        ),
        _REMOVED,
    ),
    **dict.fromkeys(
        (
            *("Conv2DBackpropFilterV2", "Conv2DBackpropInputV2"),
            "GenerateBoundingBoxProposals",
        ),
        _NO_KERNEL,
    ),
    "DecodeJxl": "neither Pillow nor another usual library of Python decodes JPEG XL",
    **dict.fromkeys(("SdcaOptimizer", "SdcaOptimizerV2", "SdcaShrinkL1"), _SDCA),
    "SdcaFprint": "TensorFlow keeps the hash to itself, and may change it in any version",
    "LearnedUnigramCandidateSampler": _LEARNED,
    "ThreadUnsafeUnigramCandidateSampler": _LEARNED,
    "SobolSample": _SOBOL,
    "SparseMatrixOrderingAMD": _ORDERING,
}

# Reasons of families, by the names of their ops.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"CudnnRNN\w+", _CUDNN),
    (r"\w*TPU\w*|\w*Tpu\w*", _TPU),
    (r"\w*Dataset(V\d+)?|\w*Iterator\w*|Experimental\w+|DatasetToGraph\w*", _DATASET),
    (r"(Anonymous|Delete|Dummy)\w*(SeedGenerator|MemoryCache|IterationCounter)", _DATASET),
    (r"XlaSparse\w+|\w*SparseCore\w*|\w*(Infeed|Outfeed)\w*|Prelinearize\w*", _TPU),
    (r"Get\w+WithPhysicalReplica|ConvertToCooTensor|StoreMinibatchStatisticsInFdo", _TPU),
    (
        r"TensorArray(Close|Concat|Gather|Grad|Pack|Read|Scatter|Size|Split|Unpack|Write)?(V2)?",
        _OLD_ARRAY,
    ),
    (r"\w*Queue\w*|Barrier\w*|Reader\w+|StagingArea|Stage\w*|Unstage", _QUEUE),
    (r"Collective\w+|Nccl\w+|_?Send|_?Recv|_Host(Send|Recv)", _COLLECTIVE),
    (r"\w*Summary\w*", _SUMMARY),
    (r"Rpc\w+|\w+DebugServer|Dist\w+Coordination\w*", _NETWORK),
    (r"(IsBoosted|Boosted)Trees\w+|TensorForest\w+", _TREES),
    (r"Debug\w+", _DEBUG),
    (r"Apply\w+|SparseApply\w+|Scatter(Add|Sub|Mul|Div|Max|Min|Update|Nd\w+)", _SESSION_VARIABLE),
    (
        r"Quantized(ConcatV2|Conv2D\w+|DepthwiseConv2D\w*|InstanceNorm|MatMulWith\w+"
        r"|ResizeBilinear)|Requantiz\w+PerChannel|UniformQuantized\w+|_(Fused)?Quantized\w+",
        _QUANTIZED,
    ),
    (r"Map(Clear|Incomplete\w*|Peek|Size|Stage|Unstage\w*)|OrderedMap\w+", _STATE),
    (r"TensorMap\w+|EmptyTensorMap", _MAP),
    (r"\w*Accumulator\w*|GetSession\w+|DeleteSession\w+", _STATE),
)
PATTERNS = tuple((re.compile(pattern), reason) for pattern, reason in _FAMILIES)


def is_rewritten(op: str) -> bool:
    """Whether an op of version 1 graphs is turned into others before the graph is evaluated."""
    return op_reason(op) in (_SESSION_VARIABLE, _FRAMES, _OLD_ARRAY)


def op_reason(op: str) -> str | None:
    """Returns why an op isn't evaluated; None if there is no reason but that nobody wrote it."""
    if op in OP_REASONS:
        return OP_REASONS[op]
    for pattern, reason in PATTERNS:
        if pattern.fullmatch(op):
            return reason
    return internal_reason(op)
