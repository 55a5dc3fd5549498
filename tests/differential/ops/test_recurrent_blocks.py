"""Cells of recurrent networks that are one op agree with TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf

STEPS, BATCH, INPUTS, CELLS = 4, 2, 3, 2


def arrays(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def lstm_operands(rng: np.random.Generator, dtype: Any = np.float32) -> list[np.ndarray]:
    """Returns two states, the kernel, three peepholes and the bias."""
    kernel = (INPUTS + CELLS, 4 * CELLS)
    shapes = ((BATCH, CELLS),) * 2, kernel, ((CELLS,),) * 3, (4 * CELLS,)
    return arrays(rng, *shapes[0], shapes[1], *shapes[2], shapes[3], dtype=dtype)


OPTIONS: list[dict[str, Any]] = [
    {"use_peephole": True, "cell_clip": 0.3, "forget_bias": 0.5},
    {"use_peephole": False},
]


@pytest.mark.parametrize(
    ("version", "attrs"), [("", OPTIONS[0]), ("V2", OPTIONS[1])], ids=["1", "2"]
)
def test_blocks_agree(version: str, attrs: dict[str, Any], rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (STEPS, BATCH, INPUTS))
    operands = [np.int64(STEPS), x, *lstm_operands(rng)]
    attrs = {k: v for k, v in attrs.items() if not version or k != "forget_bias"}
    results = check_evaluation(f"BlockLSTM{version}", *operands, **attrs)
    gradients = arrays(rng, *((STEPS, BATCH, CELLS),) * 2)
    peephole = attrs["use_peephole"]
    inputs = *operands, *results, *gradients
    check_evaluation(f"BlockLSTMGrad{version}", *inputs, use_peephole=peephole, rtol=1e-4)


def test_derivatives_of_blocks_agree(rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (STEPS, BATCH, INPUTS))
    operands = [np.int64(STEPS), x, *lstm_operands(rng)]
    check_evaluation("BlockLSTM", *operands, grad=True, **OPTIONS[0])


def test_blocks_of_half_precision_and_of_no_steps_agree(rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (STEPS, BATCH, INPUTS), dtype=np.float16)
    weights = lstm_operands(rng, np.float16)
    check_evaluation("BlockLSTM", np.int64(STEPS), x, *weights, rtol=1e-2, atol=1e-2)
    check_evaluation("BlockLSTM", np.int64(0), x[:0], *weights)


def test_steps_behind_the_longest_row_agree(rng: np.random.Generator) -> None:
    def states(length: tf.Tensor, x: tf.Tensor, *weights: tf.Tensor) -> Any:
        names = ("cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b")
        operands = {"seq_len_max": length, "x": x, **dict(zip(names, weights, strict=True))}
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = tf.raw_ops.BlockLSTMV2(**operands, use_peephole=True)
            # The kernel leaves the other results as they are.
            loss = tf.reduce_sum(tf.sin(results.cs) + tf.cos(results.h))
        return results.cs, results.h, results.i[:length], tape.gradient(loss, x)

    (x,) = arrays(rng, (STEPS, BATCH, INPUTS))
    weights = lstm_operands(rng)
    for length in (2, 0):
        check_function(tf.function(states), np.int64(length), x, *weights, rtol=1e-4)


@pytest.mark.parametrize("attrs", OPTIONS, ids=["peephole", "plain"])
def test_lstm_cells_agree(attrs: dict[str, Any], rng: np.random.Generator) -> None:
    (x,) = arrays(rng, (BATCH, INPUTS))
    operands = [x, *lstm_operands(rng)]
    results = check_evaluation("LSTMBlockCell", *operands, **attrs)
    inputs = *operands, *results[:6], *arrays(rng, *((BATCH, CELLS),) * 2)
    check_evaluation("LSTMBlockCellGrad", *inputs, use_peephole=attrs["use_peephole"])


@pytest.mark.parametrize("batch", [BATCH, 0])
def test_gru_cells_agree(batch: int, rng: np.random.Generator) -> None:
    rows = INPUTS + CELLS
    shapes = (rows, 2 * CELLS), (rows, CELLS), (2 * CELLS,), (CELLS,)
    operands = arrays(rng, (batch, INPUTS), (batch, CELLS), *shapes)
    results = check_evaluation("GRUBlockCell", *operands)
    check_evaluation("GRUBlockCellGrad", *operands, *results[:3], *arrays(rng, (batch, CELLS)))


def test_weights_that_do_not_fit_are_named(rng: np.random.Generator) -> None:
    @tf.function
    def cell(x: tf.Tensor, *weights: tf.Tensor) -> Any:
        names = ("cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b")
        return tf.raw_ops.LSTMBlockCell(x=x, **dict(zip(names, weights, strict=True)))

    operands = [*arrays(rng, (BATCH, INPUTS)), *lstm_operands(rng)]
    specs = [tf.TensorSpec([None] * a.ndim, a.dtype) for a in operands]
    body = load_function(cell.get_concrete_function(*specs)).body
    operands[3] = operands[3][1:]
    with pytest.raises(savax.errors.ShapeMismatchError, match=r"a kernel \(5, 8\)"):
        body.run(operands)
