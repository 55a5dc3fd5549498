"""Random crops of images that keep enough of one of their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from savax.errors import InvalidArgumentError, ResourceLimitError
from savax.function.ops._operands import static_float
from savax.function.ops._philox import state_from_seed
from savax.function.ops._registry import evaluates
from savax.function.ops._word_stream import Words
from savax.function.ops.stateful_random import taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext

_MAX_ATTEMPTS = 1 << 20


class _Box(NamedTuple):
    """A rectangle of pixels; the ends are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def area(self) -> np.float32:
        return np.float32((self.right - self.left) * (self.bottom - self.top))

    def common(self, other: _Box) -> _Box:
        low = max(self.left, other.left), max(self.top, other.top)
        high = min(self.right, other.right), min(self.bottom, other.bottom)
        if low[0] > high[0] or low[1] > high[1]:
            return _Box(0, 0, 0, 0)
        return _Box(*low, *high)


class _Limits(NamedTuple):
    """What crops may be like.

    Attributes:
      covered: least share of an object that is in the crop.
      ratios: least and largest width divided by height.
      areas: least and largest share of the image.
      attempts: how many crops are tried.
      whole_image: whether an image without objects is one.
    """

    covered: float
    ratios: Sequence[float]
    areas: Sequence[float]
    attempts: int
    whole_image: bool


def _rounded(x: Any) -> int:
    """Rounds halves to the even number."""
    return int(np.rint(np.float32(x)))


def _crop(width: int, height: int, areas: Sequence[Any], ratio: Any, words: Words) -> _Box | None:
    """Returns a random crop of an image, None if its shape isn't possible.

    All is in single precision, as in TensorFlow: rounding decides how many numbers are drawn.
    """
    least, most = (area * np.float32(width) * np.float32(height) for area in areas)
    if areas[0] > areas[1] or width <= 0 or height <= 0:
        return None
    rows = _rounded(np.sqrt(least / ratio))
    limit = _rounded(np.sqrt(most / ratio))
    if _rounded(limit * ratio) > width:
        limit = int((width + 0.5 - float(np.float32(1e-7))) / float(ratio))
        limit -= _rounded(limit * ratio) > width
    limit = min(limit, height)
    rows = min(rows, limit)
    if rows < limit:
        rows += words.below(limit - rows + 1, 32)
    columns = _rounded(rows * ratio)
    if np.float32(columns * rows) < least:
        rows += 1
        columns = _rounded(rows * ratio)
    if np.float32(columns * rows) > most:
        rows -= 1
        columns = _rounded(rows * ratio)
    area = np.float32(columns * rows)
    if not (least <= area <= most and 0 < columns <= width and 0 < rows <= height):
        return None
    top = words.below(height - rows, 32) if rows < height else 0
    left = words.below(width - columns, 32) if columns < width else 0
    return _Box(left, top, left + columns, top + rows)


def _covers(crop: _Box, objects: Sequence[_Box], covered: np.float32) -> bool:
    sizes = [(each, each.area()) for each in objects]
    return any(size >= 1 and crop.common(each).area() / size >= covered for each, size in sizes)


def _objects(boxes: Any, width: int, height: int, limits: _Limits) -> list[_Box]:
    """Returns boxes [batch, number, 4] in pixels; they are given as shares of the image."""
    if boxes.ndim != 3 or boxes.shape[-1] != 4:
        raise InvalidArgumentError(
            f"The boxes of objects are [batch, number, 4], found {boxes.shape}."
        )
    if boxes.size and not (boxes.min() >= 0 and boxes.max() <= 1):
        raise InvalidArgumentError(
            f"The boxes of objects are in [0, 1], found {boxes.min()} to {boxes.max()}."
        )
    if not boxes.size and not limits.whole_image:
        raise InvalidArgumentError(
            "The image has no objects, and use_image_if_no_bounding_boxes isn't set."
        )
    scale = np.array([height, width, height, width], np.float32)
    pixels = (boxes.reshape(-1, 4) * scale).astype(np.int32).tolist()
    found = [_Box(left, top, right, bottom) for top, left, bottom, right in pixels]
    return found or [_Box(0, 0, width, height)]


def _check_limits(limits: _Limits) -> None:
    areas, ratios = limits.areas, limits.ratios
    if len(areas) != 2 or not all(0 < area <= 1 for area in areas):
        raise InvalidArgumentError(f"The areas of crops are two of (0, 1], found {list(areas)}.")
    if len(ratios) != 2 or not all(ratio > 0 for ratio in ratios):
        raise InvalidArgumentError(f"The ratios of crops are two above 0, found {list(ratios)}.")
    if not limits.covered >= 0 or limits.attempts <= 0:
        raise InvalidArgumentError(
            f"A crop that covers {limits.covered} of an object isn't found in {limits.attempts} "
            "attempts."
        )


def _distorted(image_size: Any, boxes: Any, words: Words, limits: _Limits) -> tuple[Any, Any, Any]:
    """Returns where the crop begins, its size and the crop as a box [1, 1, 4] of shares."""
    _check_limits(limits)
    if image_size.shape != (3,) or image_size[:2].min() < 0 or image_size.max() >= 2**31 - 1:
        raise InvalidArgumentError(
            f"The size of an image is its height, width and depth, found {image_size.tolist()}."
        )
    height, width = (int(size) for size in image_size[:2])
    objects = _objects(boxes, width, height, limits)
    areas = [np.float32(area) for area in limits.areas]
    low, high = (np.float32(ratio) for ratio in limits.ratios)
    chosen = _Box(0, 0, width, height)
    for attempt in range(limits.attempts):
        if attempt == _MAX_ATTEMPTS:
            raise ResourceLimitError(f"No crop was found in {attempt:,} attempts.")
        ratio = words.single() * (high - low) + low
        crop = _crop(width, height, areas, ratio, words)
        if crop is not None and _covers(crop, objects, np.float32(limits.covered)):
            chosen = crop
            break
    dtype = image_size.dtype
    begin = np.array([chosen.top, chosen.left, 0]).astype(dtype)
    size = np.array([chosen.bottom - chosen.top, chosen.right - chosen.left, -1]).astype(dtype)
    corners = np.array([chosen.top, chosen.left, chosen.bottom, chosen.right], np.float32)
    with np.errstate(invalid="ignore"):  # an image without pixels
        shares = corners / np.array([height, width, height, width], np.float32)
    return begin, size, shares.reshape(1, 1, 4)


@evaluates(
    "SampleDistortedBoundingBox",
    with_context=True,
    on_host=True,
    draws=True,
    ignores=("seed", "seed2"),
)
def _sample_distorted_bounding_box(
    ctx: NodeContext,
    image_size: Any,
    bounding_boxes: Any,
    *,
    min_object_covered: float,
    aspect_ratio_range: Sequence[float],
    area_range: Sequence[float],
    max_attempts: int,
    use_image_if_no_bounding_boxes: bool,
) -> tuple[Any, Any, Any]:
    limits = _Limits(
        min_object_covered,
        aspect_ratio_range,
        area_range,
        max_attempts,
        use_image_if_no_bounding_boxes,
    )
    return _distorted(image_size, bounding_boxes, Words(taken(ctx, max_attempts)), limits)


@evaluates(
    "SampleDistortedBoundingBoxV2",
    with_context=True,
    on_host=True,
    draws=True,
    ignores=("seed", "seed2"),
)
def _sample_distorted_bounding_box_v2(
    ctx: NodeContext,
    image_size: Any,
    bounding_boxes: Any,
    min_object_covered: Any,
    *,
    aspect_ratio_range: Sequence[float],
    area_range: Sequence[float],
    max_attempts: int,
    use_image_if_no_bounding_boxes: bool,
) -> tuple[Any, Any, Any]:
    limits = _Limits(
        static_float(min_object_covered),
        aspect_ratio_range,
        area_range,
        max_attempts,
        use_image_if_no_bounding_boxes,
    )
    return _distorted(image_size, bounding_boxes, Words(taken(ctx, max_attempts)), limits)


@evaluates(
    "StatelessSampleDistortedBoundingBox",
    static=("image_size", "bounding_boxes", "min_object_covered", "seed"),
    on_host=True,
)
def _stateless_sample_distorted_bounding_box(
    image_size: Any,
    bounding_boxes: Any,
    min_object_covered: Any,
    seed: Any,
    *,
    aspect_ratio_range: Sequence[float],
    area_range: Sequence[float],
    max_attempts: int,
    use_image_if_no_bounding_boxes: bool,
) -> tuple[Any, Any, Any]:
    limits = _Limits(
        static_float(min_object_covered),
        aspect_ratio_range,
        area_range,
        max_attempts,
        use_image_if_no_bounding_boxes,
    )
    return _distorted(image_size, bounding_boxes, Words(state_from_seed(seed)), limits)
