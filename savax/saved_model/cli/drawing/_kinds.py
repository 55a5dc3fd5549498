"""Kinds of operations, which the pictures have colors for."""

from __future__ import annotations

_OPS = {
    "linear": "MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Conv2D Conv3D Conv1D "
    "DepthwiseConv2dNative Conv2DBackpropInput Conv3DBackpropInputV2 SparseMatMul Cholesky Qr Svd",
    "activation": "Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softplus Softsign Softmax LogSoftmax "
    "Erf Exp Log",
    "norm": "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN Rsqrt L2Loss",
    "pool": "MaxPool MaxPoolV2 MaxPool3D AvgPool AvgPool3D Mean Sum Max Min Prod Cumsum Cumprod",
    "math": "Add AddV2 AddN Sub Mul Div RealDiv FloorDiv FloorMod Pow Neg Abs Square Sqrt Maximum "
    "Minimum SquaredDifference BiasAdd Select SelectV2 Sin Cos Log1p Expm1 Floor Ceil Round Sign "
    "Inv Reciprocal Xlogy ClipByValue DivNoNan MulNoNan Atan Atan2",
    "layout": "Reshape Transpose Squeeze ExpandDims ConcatV2 Concat Split SplitV Pack Unpack Pad "
    "PadV2 MirrorPad Tile BroadcastTo Slice StridedSlice ReverseV2 Identity StopGradient "
    "SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace",
    "other": "GatherV2 GatherNd ScatterNd Cast Shape Size Rank Range Fill",
    "control": "If StatelessIf While StatelessWhile Case StatelessCase PartitionedCall "
    "StatefulPartitionedCall Switch Merge Enter Exit NextIteration LoopCond",
    "state": "AssignVariableOp AssignAddVariableOp AssignSubVariableOp ReadVariableOp Assign "
    "AssignAdd AssignSub RestoreV2 SaveV2 VarIsInitializedOp LookupTableFindV2",
}
_KIND_OF = {op: kind for kind, ops in _OPS.items() for op in ops.split()}
_SAME_TYPE = frozenset({"linear", "activation", "norm", "pool", "math", "layout"})


def kind_of(op: str) -> str:
    """Returns the kind of an operation; ``"other"`` if it is of none."""
    return _KIND_OF.get(op, "other")


def has_type_of_input(op: str) -> bool:
    """Whether an operation is known to have results of its attribute T."""
    return _KIND_OF.get(op) in _SAME_TYPE
