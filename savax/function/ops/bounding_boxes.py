"""Boxes on images: suppression of those that overlap better ones, and drawing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.evaluation._plan_values import is_traced
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops.segments import lowest

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext


# Suppression. The best box that is left is taken, and all others that overlap it lose score (soft)
# or drop out (hard), until enough are taken or none is above the score threshold.


def _corners(boxes: Any) -> tuple[Any, Any, Any, Any]:
    """Returns the bounds of boxes, whichever two opposite corners they are given by."""
    boxes = boxes.astype(jnp.float32)
    low = jnp.minimum(boxes[..., :2], boxes[..., 2:])
    high = jnp.maximum(boxes[..., :2], boxes[..., 2:])
    return low[..., 0], low[..., 1], high[..., 0], high[..., 1]


def _overlaps(boxes: Any, index: Any) -> Any:
    """Returns the intersection over union of all boxes with one."""
    top, left, bottom, right = _corners(boxes)
    area = (bottom - top) * (right - left)
    height = jnp.minimum(bottom, bottom[index]) - jnp.maximum(top, top[index])
    width = jnp.minimum(right, right[index]) - jnp.maximum(left, left[index])
    common = jnp.maximum(height, 0) * jnp.maximum(width, 0)
    valid = (area > 0) & (area[index] > 0)
    return jnp.where(valid, common / jnp.where(valid, area + area[index] - common, 1), 0)


@functools.partial(jax.jit, static_argnames=("count", "by_overlap"))
def _selected(
    boxes: Any,
    scores: Any,
    overlap_threshold: Any,
    score_threshold: Any,
    sigma: Any,
    count: int,
    by_overlap: bool = False,
) -> tuple[Any, Any, Any]:
    """Returns indices and scores of up to ``count`` boxes, zeros behind them, and their number.

    Args:
      boxes: [number, 4], or with ``by_overlap`` all pairs' overlaps, [number, number].
      scores: [number].
      overlap_threshold: more overlap with a better box drops a box.
      score_threshold: only boxes with more are taken.
      sigma: if positive, overlap lowers scores by a Gaussian of this width instead.
      count: how many to take at most.
      by_overlap: what ``boxes`` is.
    """
    number, dtype = scores.shape[0], scores.dtype
    if not number or not count:
        return jnp.zeros(count, jnp.int32), jnp.zeros(count, dtype), jnp.int32(0)
    soft = sigma > 0
    scale = jnp.where(soft, -0.5 / jnp.where(soft, sigma, 1), 0).astype(dtype)
    threshold = jnp.asarray(score_threshold, dtype)
    dropped = jnp.asarray(-jnp.inf, dtype)

    def take(step: Any, state: Any) -> Any:
        left, indices, found, taken = state
        best = jnp.argmax(left).astype(jnp.int32)
        valid = left[best] > threshold
        overlap = (boxes[best] if by_overlap else _overlaps(boxes, best)).astype(dtype)
        kept = soft | (overlap <= overlap_threshold)
        weakened = left * jnp.exp(scale * overlap * overlap)
        next_left = jnp.where(kept & (weakened > threshold), weakened, dropped)
        next_left = next_left.at[best].set(dropped)
        return (
            jnp.where(valid, next_left, left),
            indices.at[step].set(jnp.where(valid, best, 0)),
            found.at[step].set(jnp.where(valid, left[best], 0)),
            taken + valid.astype(jnp.int32),
        )

    start = jnp.where(scores > threshold, scores, dropped)
    empty = jnp.zeros(count, jnp.int32), jnp.zeros(count, dtype), jnp.int32(0)
    _, indices, found, taken = lax.fori_loop(0, count, take, (start, *empty))
    return indices, found, taken


def _suppressed(
    ctx: NodeContext,
    operands: tuple[Any, ...],
    count: Any,
    pad: bool,
    by_overlap: bool = False,
) -> tuple[Any, Any, Any]:
    """Returns what ``_selected`` does, without padding unless asked for it.

    Args:
      ctx: of the node.
      operands: those of ``_selected`` up to ``sigma``.
      count: how many to take at most.
      pad: whether to keep the padding. Without it, the operands must be known.
      by_overlap: as in ``_selected``.
    """
    if pad:
        found: tuple[Any, Any, Any] = _selected(
            *(jnp.asarray(x) for x in operands), static_int(count), by_overlap
        )
        return found
    if any(is_traced(x) for x in operands):
        ctx.needs_value("scores", "the number of results depends on it")
    with jax.ensure_compile_time_eval():
        arrays = [jnp.asarray(x) for x in operands]
        indices, scores, taken = _selected(*arrays, static_int(count), by_overlap)
        return indices[: int(taken)], scores[: int(taken)], taken


@evaluates("NonMaxSuppression", static=("max_output_size",), with_context=True)
def _non_max_suppression(
    ctx: NodeContext, boxes: Any, scores: Any, max_output_size: Any, *, iou_threshold: float
) -> Any:
    return _v2(ctx, boxes, scores, max_output_size, np.float32(iou_threshold))


@evaluates("NonMaxSuppressionV2", static=("max_output_size",), with_context=True)
def _v2(ctx: NodeContext, boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any) -> Any:
    return _v3(ctx, boxes, scores, max_output_size, iou_threshold, lowest(scores.dtype))


@evaluates("NonMaxSuppressionV3", static=("max_output_size",), with_context=True)
def _v3(
    ctx: NodeContext,
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any,
    score_threshold: Any,
) -> Any:
    operands = boxes, scores, iou_threshold, score_threshold, 0.0
    return _suppressed(ctx, operands, max_output_size, False)[0]


@evaluates("NonMaxSuppressionV4", static=("max_output_size",), with_context=True)
def _v4(
    ctx: NodeContext,
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any,
    score_threshold: Any,
    *,
    pad_to_max_output_size: bool,
) -> tuple[Any, Any]:
    operands = boxes, scores, iou_threshold, score_threshold, 0.0
    indices, _, taken = _suppressed(ctx, operands, max_output_size, pad_to_max_output_size)
    return indices, taken


@evaluates("NonMaxSuppressionV5", static=("max_output_size",), with_context=True)
def _v5(
    ctx: NodeContext,
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: Any,
    score_threshold: Any,
    soft_nms_sigma: Any,
    *,
    pad_to_max_output_size: bool,
) -> tuple[Any, Any, Any]:
    operands = boxes, scores, iou_threshold, score_threshold, soft_nms_sigma
    return _suppressed(ctx, operands, max_output_size, pad_to_max_output_size)


@evaluates("NonMaxSuppressionWithOverlaps", static=("max_output_size",), with_context=True)
def _with_overlaps(
    ctx: NodeContext,
    overlaps: Any,
    scores: Any,
    max_output_size: Any,
    overlap_threshold: Any,
    score_threshold: Any,
) -> Any:
    operands = overlaps, scores, overlap_threshold, score_threshold, 0.0
    return _suppressed(ctx, operands, max_output_size, False, by_overlap=True)[0]


@evaluates("CombinedNonMaxSuppression", static=("max_output_size_per_class", "max_total_size"))
def _combined(
    boxes: Any,
    scores: Any,
    max_output_size_per_class: Any,
    max_total_size: Any,
    iou_threshold: Any,
    score_threshold: Any,
    *,
    pad_per_class: bool,
    clip_boxes: bool,
) -> tuple[Any, ...]:
    per_class, total = static_int(max_output_size_per_class), static_int(max_total_size)
    number, classes = scores.shape[1:]
    size = min(total, per_class * classes) if pad_per_class else total
    arrays = (jnp.asarray(x) for x in (boxes, scores, iou_threshold, score_threshold))
    chosen, found, which, taken = _selected_of_images(*arrays, min(per_class, number), size)
    return jnp.clip(chosen, 0, 1) if clip_boxes else chosen, found, which, taken


@functools.partial(jax.jit, static_argnames=("count", "size"))
def _selected_of_images(
    boxes: Any, scores: Any, iou_threshold: Any, score_threshold: Any, count: int, size: int
) -> tuple[Any, ...]:
    """Returns boxes, scores, classes and the number of the best of all classes of each image."""
    number, classes = scores.shape[1:]
    boxes = jnp.broadcast_to(boxes, (boxes.shape[0], number, classes, 4))

    def of_class(own: Any, score: Any) -> Any:
        return _selected(own, score, iou_threshold, score_threshold, 0.0, count)

    def of_image(own: Any, score: Any) -> tuple[Any, ...]:
        indices, found, taken = jax.vmap(of_class, in_axes=1)(own, score)
        valid = jnp.arange(count) < taken[:, None]
        ranked = jnp.where(valid, found, -jnp.inf).reshape(-1)
        order = jnp.argsort(-ranked, stable=True)[:size]
        room = (0, size - order.shape[0])
        which = (order // max(count, 1)).astype(jnp.int32)
        present = jnp.pad(valid.reshape(-1)[order], room)
        chosen = own[indices.reshape(-1)[order], which]
        chosen = jnp.pad(chosen, (room, (0, 0)))
        return (
            jnp.where(present[:, None], chosen, 0),
            jnp.where(present, jnp.pad(found.reshape(-1)[order], room), 0),
            jnp.where(present, jnp.pad(which, room), 0).astype(jnp.float32),
            jnp.sum(present, dtype=jnp.int32),
        )

    results: tuple[Any, ...] = jax.vmap(of_image)(boxes, scores)
    return results


# Drawing.

# TensorFlow's ten colors, red, green, blue and alpha.
_COLORS = np.array(
    [
        [1, 1, 0, 1],
        [0, 0, 1, 1],
        [1, 0, 0, 1],
        [0, 1, 0, 1],
        [0.5, 0, 0.5, 1],
        [0.5, 0.5, 0, 1],
        [0.5, 0, 0, 1],
        [0, 0, 0.5, 1],
        [0, 1, 1, 1],
        [1, 0, 1, 1],
    ],
    np.float32,
)


@evaluates("DrawBoundingBoxes")
def _draw_bounding_boxes(images: Any, boxes: Any) -> Any:
    return _draw_bounding_boxes_v2(images, boxes, np.zeros((0, 4), np.float32))


@evaluates("DrawBoundingBoxesV2")
def _draw_bounding_boxes_v2(images: Any, boxes: Any, colors: Any) -> Any:
    return _drawn(jnp.asarray(images), jnp.asarray(boxes), jnp.asarray(colors))


@jax.jit
def _drawn(images: Any, boxes: Any, colors: Any) -> Any:
    height, width, depth = images.shape[1:]
    if not colors.size:
        colors = jnp.ones((1, 1)) if depth == 1 else jnp.asarray(_COLORS)
    top, left, bottom, right = (
        jnp.trunc(boxes[..., i] * np.float32(size - 1)).astype(jnp.int32)[..., None, None]
        for i, size in enumerate((height, width, height, width))
    )
    row = jnp.arange(height, dtype=jnp.int32)[:, None]
    column = jnp.arange(width, dtype=jnp.int32)[None, :]
    inside = (row >= top) & (row <= bottom) & (column >= left) & (column <= right)
    edge = (row == top) | (row == bottom) | (column == left) | (column == right)

    def draw(number: Any, drawn: Any) -> Any:
        color = colors[number % colors.shape[0], :depth].astype(images.dtype)
        hit = (inside & edge)[:, number]
        return jnp.where(hit[..., None], color, drawn)

    return lax.fori_loop(0, boxes.shape[1], draw, images)
