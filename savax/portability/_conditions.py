"""Nodes that a consumer runs or not for other reasons than their dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class InputView(NamedTuple):
    """What is known of an input of a node.

    Attributes:
      producer: the op that it comes from; None for an argument.
      constant: its value, if it is a constant.
      shape: its shape, if it is known; sizes that aren't known aren't ints.
    """

    producer: str | None = None
    constant: Any = None
    shape: Sequence[Any] | None = None


class NodeView(NamedTuple):
    """A node of a graph that is written or of a file.

    Attributes:
      op: the op's name.
      dtypes: names of the dtypes that it computes with.
      inputs: its data inputs.
    """

    op: str
    dtypes: frozenset[str]
    inputs: tuple[InputView, ...] = ()


class Condition(NamedTuple):
    """When a consumer runs an op.

    Attributes:
      is_met: of a node; where nothing is known that speaks against it, it is.
      advice: the way around if not.
    """

    is_met: Callable[[NodeView], bool]
    advice: str


def _has_fixed_elements(node: NodeView) -> bool:
    sizes = node.inputs[0].constant if node.inputs else None
    return sizes is None or all(int(size) >= 0 for size in sizes.ravel())


def _has_equal_shapes(node: NodeView) -> bool:
    shapes = [tuple(i.shape) for i in node.inputs if i.shape is not None]
    return len(shapes) < 2 or shapes[0] == shapes[1]


def _has_one_group(node: NodeView) -> bool:
    shapes = [i.shape for i in node.inputs[:2]]
    if len(shapes) < 2 or shapes[0] is None or shapes[1] is None:
        return True
    return bool(shapes[0][-1] == shapes[1][-2])


def _follows_no_product(node: NodeView) -> bool:
    return all(i.producer not in ("AddV2", "BiasAdd", "MatMul", "Conv2D") for i in node.inputs)


def _follows_no_scaling(node: NodeView) -> bool:
    return all(i.producer != "Mul" for i in node.inputs)


def _divides_sizes(node: NodeView) -> bool:
    is_integer = any("int" in dtype for dtype in node.dtypes)
    return not is_integer or all(i.producer == "Abs" for i in node.inputs)


# What the measured dtypes don't say, by consumer and op.
CONDITIONS: dict[tuple[str, str], Condition] = {
    ("litert", "Atan2"): Condition(_has_equal_shapes, "broadcast the operands to one shape"),
    ("litert", "TensorListReserve"): Condition(
        _has_fixed_elements,
        "a scan with stacked results needs all sizes of an element; export with fixed sizes",
    ),
    ("tfjs", "Conv2D"): Condition(_has_one_group, "split the channels, and join the results"),
    ("tfjs", "Tanh"): Condition(
        _follows_no_product, "it is fused with the product before it, and then fails"
    ),
    ("onnx", "StopGradient"): Condition(
        _follows_no_scaling, "with an infinite product it gives NaN; leave it out"
    ),
    ("onnx", "FloorDiv"): Condition(
        _divides_sizes, "it rounds negative quotients of integers to zero; use floats"
    ),
}
