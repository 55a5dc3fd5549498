"""Cells of recurrent networks as one op: LSTM and GRU, with their gradient ops."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from savax.errors import ShapeMismatchError
from savax.function.ops._registry import evaluates


class _Weights(NamedTuple):
    """Weights of an LSTM.

    Attributes:
      kernel: [inputs + cells, 4 * cells].
      peephole_i: what the input gate sees of the state, [cells].
      peephole_f: the same of the forget gate.
      peephole_o: the same of the output gate.
      bias: [4 * cells].
    """

    kernel: Any
    peephole_i: Any
    peephole_f: Any
    peephole_o: Any
    bias: Any


class _Options(NamedTuple):
    """Attributes of an LSTM.

    Attributes:
      forget_bias: is added to the forget gate.
      clip: bound of the state; 0 or less is none.
      peephole: whether the gates see the state.
      forget_first: whether the forget gate is in front of the cell's input in the kernel.
    """

    forget_bias: float
    clip: float
    peephole: bool
    forget_first: bool


def _gates(gates: Any, forget_first: bool) -> tuple[Any, Any, Any, Any]:
    """Returns the parts of input gate, cell input, forget gate and output gate."""
    i, second, third, o = jnp.split(gates, 4, axis=-1)
    return (i, third, second, o) if forget_first else (i, second, third, o)


def _joined(gates: tuple[Any, ...], forget_first: bool) -> Any:
    """Puts together what ``_gates`` takes apart."""
    i, ci, f, o = gates
    parts = (i, f, ci, o) if forget_first else (i, ci, f, o)
    return jnp.concatenate(parts, axis=-1)


def _lstm_step(
    x: Any, cs_prev: Any, h_prev: Any, w: _Weights, options: _Options
) -> tuple[Any, ...]:
    """Returns i, cs, f, o, ci, co and h of one step.

    TensorFlow's gradient passes the clipping as if it weren't there.
    """
    sums = jnp.concatenate([x, h_prev], axis=-1) @ w.kernel + w.bias
    i, ci, f, o = _gates(sums, options.forget_first)
    f = f + jnp.asarray(options.forget_bias, f.dtype)
    if options.peephole:
        i, f = i + cs_prev * w.peephole_i, f + cs_prev * w.peephole_f
    i, ci, f = jax.nn.sigmoid(i), jnp.tanh(ci), jax.nn.sigmoid(f)
    cs = i * ci + f * cs_prev
    if options.clip > 0:
        bound = jnp.asarray(options.clip, cs.dtype)
        cs = cs + lax.stop_gradient(jnp.clip(cs, -bound, bound) - cs)
    co = jnp.tanh(cs)
    o = jax.nn.sigmoid(o + cs * w.peephole_o if options.peephole else o)
    return i, cs, f, o, ci, co, o * co


def _checked(x: Any, cs_prev: Any, h_prev: Any, w: _Weights) -> None:
    cells = cs_prev.shape[-1]
    wanted = (x.shape[-2], cells), (x.shape[-1] + cells, 4 * cells), (4 * cells,)
    found = h_prev.shape, w.kernel.shape, w.bias.shape
    if found != wanted or cs_prev.shape != h_prev.shape:
        raise ShapeMismatchError(
            f"An LSTM with inputs {x.shape} and states {cs_prev.shape} takes states {wanted[0]}, "
            f"a kernel {wanted[1]} and a bias {wanted[2]}; found {found[0]}, {found[1]} and "
            f"{found[2]}."
        )


@functools.partial(jax.jit, static_argnames="options")
def _lstm(
    seq_len_max: Any, x: Any, cs_prev: Any, h_prev: Any, w: _Weights, options: _Options
) -> tuple[Any, ...]:
    """Returns the results of all steps, [time, batch, cells]; zeros behind the longest row."""

    def step(carry: tuple[Any, Any, Any], item: Any) -> Any:
        number, cs, h = carry
        results = _lstm_step(item, cs, h, w, options)
        results = tuple(jnp.where(number < seq_len_max, y, 0) for y in results)
        return (number + 1, results[1], results[6]), results

    start = jnp.zeros_like(seq_len_max), cs_prev, h_prev
    results: tuple[Any, ...] = lax.scan(step, start, x)[1]
    return _differentiable(results)


def _differentiable(results: tuple[Any, ...]) -> tuple[Any, ...]:
    """Stops the gradients of all results but the states, as TensorFlow does."""
    return tuple(y if n in (1, 6) else lax.stop_gradient(y) for n, y in enumerate(results))


def _block(forget_first: bool) -> Any:
    def rule(
        seq_len_max: Any,
        x: Any,
        cs_prev: Any,
        h_prev: Any,
        w: Any,
        wci: Any,
        wcf: Any,
        wco: Any,
        b: Any,
        *,
        forget_bias: float,
        cell_clip: float,
        use_peephole: bool,
    ) -> tuple[Any, ...]:
        weights = _Weights(*(jnp.asarray(v) for v in (w, wci, wcf, wco, b)))
        _checked(x, cs_prev, h_prev, weights)
        options = _Options(forget_bias, cell_clip, use_peephole, forget_first)
        arrays = (jnp.asarray(v) for v in (seq_len_max, x, cs_prev, h_prev))
        found: tuple[Any, ...] = _lstm(*arrays, weights, options)
        return found

    return rule


def _block_v2(rule: Any) -> Any:
    """Returns the rule of the second version, which has no bias of the forget gate of its own."""

    def rule_v2(
        seq_len_max: Any,
        x: Any,
        cs_prev: Any,
        h_prev: Any,
        w: Any,
        wci: Any,
        wcf: Any,
        wco: Any,
        b: Any,
        *,
        cell_clip: float,
        use_peephole: bool,
    ) -> Any:
        operands = seq_len_max, x, cs_prev, h_prev, w, wci, wcf, wco, b
        return rule(*operands, forget_bias=0.0, cell_clip=cell_clip, use_peephole=use_peephole)

    return rule_v2


evaluates("BlockLSTM")(_block(False))
evaluates("BlockLSTMV2")(_block_v2(_block(True)))


@evaluates("LSTMBlockCell")
def _lstm_block_cell(
    x: Any,
    cs_prev: Any,
    h_prev: Any,
    w: Any,
    wci: Any,
    wcf: Any,
    wco: Any,
    b: Any,
    *,
    forget_bias: float,
    cell_clip: float,
    use_peephole: bool,
) -> tuple[Any, ...]:
    weights = _Weights(*(jnp.asarray(v) for v in (w, wci, wcf, wco, b)))
    _checked(x, cs_prev, h_prev, weights)
    options = _Options(forget_bias, cell_clip, use_peephole, False)
    x, cs_prev, h_prev = (jnp.asarray(v) for v in (x, cs_prev, h_prev))
    return _lstm_step(x, cs_prev, h_prev, weights, options)


# Gradients as ops. They use the results of the forward op, and know nothing of its clipping.


class _Results(NamedTuple):
    """Results of a step that its gradient needs."""

    i: Any
    cs: Any
    f: Any
    o: Any
    ci: Any
    co: Any


def _lstm_step_gradient(
    y: _Results, cs_prev: Any, cs_grad: Any, h_grad: Any, w: _Weights, peephole: bool
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Returns gradients of the state before, of the four gates and of the three peepholes."""
    do = y.o * (1 - y.o) * h_grad * y.co
    dcs = (1 - y.co * y.co) * h_grad * y.o + cs_grad
    if peephole:
        dcs = dcs + do * w.peephole_o
    dci = (1 - y.ci * y.ci) * dcs * y.i
    df = y.f * (1 - y.f) * dcs * cs_prev
    di = y.i * (1 - y.i) * dcs * y.ci
    before = dcs * y.f
    if not peephole:
        none = jnp.zeros_like(w.peephole_i)
        return before, (di, dci, df, do), (none, none, none)
    before = before + di * w.peephole_i + df * w.peephole_f
    seen = (jnp.sum(di * cs_prev, 0), jnp.sum(df * cs_prev, 0), jnp.sum(do * y.cs, 0))
    return before, (di, dci, df, do), seen


@evaluates("LSTMBlockCellGrad")
def _lstm_block_cell_grad(
    x: Any,
    cs_prev: Any,
    h_prev: Any,
    w: Any,
    wci: Any,
    wcf: Any,
    wco: Any,
    b: Any,
    i: Any,
    cs: Any,
    f: Any,
    o: Any,
    ci: Any,
    co: Any,
    cs_grad: Any,
    h_grad: Any,
    *,
    use_peephole: bool,
) -> tuple[Any, ...]:
    weights = _Weights(*(jnp.asarray(v) for v in (w, wci, wcf, wco, b)))
    results = _Results(*(jnp.asarray(v) for v in (i, cs, f, o, ci, co)))
    cs_prev, cs_grad, h_grad = (jnp.asarray(v) for v in (cs_prev, cs_grad, h_grad))
    before, gates, seen = _lstm_step_gradient(
        results, cs_prev, cs_grad, h_grad, weights, use_peephole
    )
    return before, _joined(gates, False), *seen


def _block_gradient(forget_first: bool) -> Any:
    def rule(
        seq_len_max: Any,
        x: Any,
        cs_prev: Any,
        h_prev: Any,
        w: Any,
        wci: Any,
        wcf: Any,
        wco: Any,
        b: Any,
        i: Any,
        cs: Any,
        f: Any,
        o: Any,
        ci: Any,
        co: Any,
        h: Any,
        cs_grad: Any,
        h_grad: Any,
        *,
        use_peephole: bool,
    ) -> tuple[Any, ...]:
        weights = _Weights(*(jnp.asarray(v) for v in (w, wci, wcf, wco, b)))
        results = _Results(*(jnp.asarray(v) for v in (i, cs, f, o, ci, co)))
        arrays = (jnp.asarray(v) for v in (seq_len_max, x, cs_prev, h_prev, h, cs_grad, h_grad))
        found: tuple[Any, ...] = _lstm_gradient(
            *arrays, weights, results, use_peephole, forget_first
        )
        return found

    return rule


evaluates("BlockLSTMGrad")(_block_gradient(False))
evaluates("BlockLSTMGradV2")(_block_gradient(True))


@functools.partial(jax.jit, static_argnames=("peephole", "forget_first"))
def _lstm_gradient(
    seq_len_max: Any,
    x: Any,
    cs_prev: Any,
    h_prev: Any,
    h: Any,
    cs_grad: Any,
    h_grad: Any,
    w: _Weights,
    results: _Results,
    peephole: bool,
    forget_first: bool,
) -> tuple[Any, ...]:
    """Returns gradients of inputs, first states and weights, by going back through the steps."""
    steps, _, inputs = x.shape

    def step(carry: Any, item: Any) -> Any:
        cs_back, h_back, sums = carry
        number, xh, cs_before, y, cs_own, h_own = item
        before, gates, seen = _lstm_step_gradient(
            y, cs_before, cs_back + cs_own, h_back + h_own, w, peephole
        )
        joined = _joined(gates, forget_first)
        xh_grad = joined @ w.kernel.T
        found = (xh.T @ joined, *seen, jnp.sum(joined, 0))
        valid = number < seq_len_max
        sums = tuple(a + jnp.where(valid, b, 0) for a, b in zip(sums, found, strict=True))
        carry = jnp.where(valid, before, cs_back), jnp.where(valid, xh_grad[:, inputs:], h_back)
        return (*carry, sums), jnp.where(valid, xh_grad[:, :inputs], 0)

    cs_before = jnp.concatenate([cs_prev[None], results.cs])[:steps]
    h_before = jnp.concatenate([h_prev[None], h])[:steps]
    numbers = jnp.arange(steps, dtype=seq_len_max.dtype)
    xh = jnp.concatenate([x, h_before], axis=-1)
    items = numbers, xh, cs_before, results, cs_grad, h_grad
    start = jnp.zeros_like(cs_prev), jnp.zeros_like(h_prev), tuple(map(jnp.zeros_like, w))
    (cs_back, h_back, sums), x_grad = lax.scan(step, start, items, reverse=True)
    return x_grad, cs_back, h_back, *sums


@evaluates("GRUBlockCell")
def _gru_block_cell(
    x: Any, h_prev: Any, w_ru: Any, w_c: Any, b_ru: Any, b_c: Any
) -> tuple[Any, ...]:
    arrays = (jnp.asarray(v) for v in (x, h_prev, w_ru, w_c, b_ru, b_c))
    x, h_prev, w_ru, w_c, b_ru, b_c = arrays
    gates = jax.nn.sigmoid(jnp.concatenate([x, h_prev], axis=-1) @ w_ru + b_ru)
    r, u = jnp.split(gates, 2, axis=-1)
    c = jnp.tanh(jnp.concatenate([x, h_prev * r], axis=-1) @ w_c + b_c)
    return r, u, c, u * (h_prev - c) + c


@evaluates("GRUBlockCellGrad")
def _gru_block_cell_grad(
    x: Any,
    h_prev: Any,
    w_ru: Any,
    w_c: Any,
    b_ru: Any,
    b_c: Any,
    r: Any,
    u: Any,
    c: Any,
    d_h: Any,
) -> tuple[Any, ...]:
    arrays = (jnp.asarray(v) for v in (h_prev, w_ru, w_c, r, u, c, d_h))
    h_prev, w_ru, w_c, r, u, c, d_h = arrays
    inputs = x.shape[-1]
    d_c = d_h * (1 - u) * (1 - c * c)
    d_u = d_h * (h_prev - c) * u * (1 - u)
    of_c = d_c @ w_c.T
    d_hr = of_c[:, inputs:]
    d_r = d_hr * h_prev * r * (1 - r)
    d_ru = jnp.concatenate([d_r, d_u], axis=-1)
    of_ru = d_ru @ w_ru.T
    d_x = (of_ru + of_c)[:, :inputs]
    return d_x, of_ru[:, inputs:] + d_hr * r + d_h * u, d_c, d_ru
