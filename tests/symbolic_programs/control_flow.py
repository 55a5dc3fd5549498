"""Branches, loops, scans and calls inside each other, with batches of known and unknown size."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.symbolic_programs.rows import Row, f32, i32, row

X = f32("b", 4)
SEQUENCE = f32("b", "n", 4)
W = np.linspace(-0.5, 0.5, 16, dtype=np.float32).reshape(4, 4)


# Branches and loops


def loop_in_branch_in_loop(x: jax.Array) -> jax.Array:
    scale = x.sum() * 0 + 1

    def inner(i: Any, y: jax.Array) -> jax.Array:
        return y * 0.5 + scale * i

    def outer(i: Any, y: jax.Array) -> jax.Array:
        return lax.cond(
            i % 2 == 0, lambda: lax.fori_loop(0, i + 1, inner, y), lambda: y - x * x.shape[0]
        )

    return lax.fori_loop(0, 4, outer, x)


def while_with_closures(x: jax.Array) -> Any:
    limit, step = jnp.abs(x).sum() + 3, x[:, :1] * 0 + 1

    def go_on(state: Any) -> jax.Array:
        return (state[0] < 9) & (state[1].sum() < limit + x.shape[0])

    return lax.while_loop(go_on, lambda s: (s[0] + 1, s[1] + step), (0, x * 0))


def switch_in_scan(x: jax.Array) -> Any:
    branches = [jnp.sin, lambda y: y * x.shape[0], lambda y: y + x[0], jnp.negative]

    def step(carry: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = lax.switch(i, branches, carry)
        return carry, carry.sum()

    return lax.scan(step, x, jnp.array([0, 1, 2, 3, 1]))


def while_in_while(x: jax.Array) -> Any:
    def inner(total: jax.Array) -> jax.Array:
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + x), (0, total))[1]

    return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, inner(s[1])), (0, x * 0))[1]


def branch_of_shapes_of_two(x: jax.Array, y: jax.Array) -> Any:
    return lax.cond(
        x.sum() > y.sum(),
        lambda: (x * y.shape[0], y.sum(0)),
        lambda: (x + 1, y.sum(0) * x.shape[0]),
    )


def branch_by_row(x: jax.Array) -> Any:
    return jax.vmap(lambda r: lax.switch(jnp.int32(r[0] > 0), [jnp.sin, jnp.cos], r))(x)


def loop_by_row(x: jax.Array) -> Any:
    return jax.vmap(lambda r: lax.while_loop(lambda s: s.sum() < 5, lambda s: s + 1, r))(x)


# Scans


def many_carries(x: jax.Array) -> Any:
    def step(carry: Any, row: jax.Array) -> Any:
        total, count, largest, last = carry
        total, count = total + row, count + 1
        largest = jnp.maximum(largest, row)
        return (total, count, largest, row), (total * count, row > last, {"largest": largest})

    zero = jnp.zeros(4)
    return lax.scan(step, (zero, jnp.int32(0), zero - 9, zero), x)


def batch_inside_scan(x: jax.Array) -> Any:
    def step(h: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jnp.tanh(at @ W + h)
        return h, h[:, :2]

    h, hs = lax.scan(step, jnp.zeros((x.shape[0], 4)), x.swapaxes(0, 1))
    return h, hs.swapaxes(0, 1)


def reverse_scan(x: jax.Array) -> Any:
    return lax.scan(lambda c, r: (c * 0.5 + r, c), jnp.ones(4), x, reverse=True)


def reverse_unrolled(x: jax.Array) -> Any:
    return lax.scan(lambda c, r: (c + r, c * r), x[:, 0], x.T, reverse=True, unroll=True)


def unrolled_in_part(x: jax.Array) -> Any:
    return lax.scan(lambda c, r: (c + r, c * r), x[:, 0], x.T, unroll=2)


def scan_in_scan(x: jax.Array) -> Any:
    def outer(carry: jax.Array, rows: jax.Array) -> Any:
        total, seen = lax.scan(lambda c, r: (c + r * x.shape[0], c), carry, rows)
        return total, seen

    return lax.scan(outer, jnp.zeros(4), x)


def scan_of_known_length(x: jax.Array) -> Any:
    return lax.scan(lambda c, _: (c * 1.5 + 1, c.sum()), x, None, length=3)


def scan_as_long_as_a_dim(x: jax.Array) -> Any:
    return lax.scan(lambda c, i: (c + i, c), jnp.float32(0), jnp.arange(x.shape[0]))


def mapped(x: jax.Array) -> Any:
    return lax.map(lambda r: (jnp.sin(r).sum(), r * x.shape[0]), x)


def mapped_in_batches(x: jax.Array) -> Any:
    return lax.map(lambda column: column * 2 + column.sum(), x.T, batch_size=2)


def associative(x: jax.Array) -> Any:
    def combine(a: Any, b: Any) -> Any:
        return a[0] * b[0], b[0] * a[1] + b[1]

    pair = (x * 0.5, x)
    return lax.associative_scan(combine, pair, axis=1), lax.associative_scan(
        combine, pair, axis=1, reverse=True
    )


def decoded(x: jax.Array, count: jax.Array) -> Any:
    """Greedy decoding with a cache that is written step by step."""

    def step(state: Any) -> Any:
        i, h, out = state
        h = jnp.tanh(h @ W)
        return i + 1, h, lax.dynamic_update_slice(out, h.argmax(-1)[:, None], (0, i))

    out = jnp.zeros((x.shape[0], 5), jnp.int32)
    return lax.while_loop(lambda s: s[0] < jnp.minimum(count, 5), step, (jnp.int32(0), x, out))[2]


# Functions with derivatives of their own


@jax.custom_jvp
def clipped(x: jax.Array) -> jax.Array:
    return jnp.clip(x, -1, 1)


clipped.defjvp(lambda primals, tangents: (clipped(primals[0]), tangents[0] * 2))


@jax.custom_vjp
def rounded(x: jax.Array) -> jax.Array:
    return jnp.round(x)


rounded.defvjp(lambda x: (rounded(x), x.shape), lambda shape, g: (g * 3,))


def own_derivatives_in_a_scan(x: jax.Array) -> Any:
    def loss(x: jax.Array) -> jax.Array:
        return lax.scan(lambda c, r: (rounded(c * 3) + clipped(r), c), x[0], x)[1].sum()

    return rounded(clipped(x)), jax.grad(loss)(x)


def newton(x: jax.Array) -> Any:
    def solve(f: Any, y: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 25, lambda i, y: y - f(y) / (3 * y * y), y)

    def root(a: jax.Array) -> jax.Array:
        start = jnp.ones_like(a)
        result: jax.Array = lax.custom_root(
            lambda y: y**3 - a, start, solve, lambda g, y: y / g(jnp.ones_like(y))
        )
        return result

    a = jnp.abs(x) + 1
    return root(a), jax.grad(lambda a: root(a).sum())(a)


def linear_solve(x: jax.Array) -> Any:
    matrix = jnp.eye(4) * 3 + W

    def solved(b: jax.Array) -> jax.Array:
        result: jax.Array = lax.custom_linear_solve(
            lambda v: v @ matrix,
            b,
            lambda _, b: b @ jnp.linalg.inv(matrix),
            lambda _, b: b @ jnp.linalg.inv(matrix).T,
        )
        return result

    return solved(x), jax.grad(lambda b: (solved(b) ** 2).sum())(x)


def conjugate_gradients(x: jax.Array) -> Any:
    return jax.scipy.sparse.linalg.cg(lambda v: v * 3 + v.sum(1, keepdims=True), x)[0]


# Checkpoints and calls


def block(x: jax.Array) -> jax.Array:
    return jnp.sin(x @ W) @ W


def with_checkpoints(policy: Any, x: jax.Array) -> Any:
    def loss(x: jax.Array) -> jax.Array:
        fn = jax.checkpoint(block, policy=policy)
        return lax.scan(lambda c, _: (fn(c), None), x, None, length=3)[0].sum()

    return jax.value_and_grad(loss)(x)


POLICIES = jax.checkpoint_policies
inner_jit = jax.jit(lambda x, scale: (x * scale + x.shape[0], x.sum(0)), static_argnums=1)


@jax.jit
def outer_jit(x: jax.Array) -> Any:
    y, total = inner_jit(x, 2.0)
    z, _ = inner_jit(y, 2.0)
    return jax.jit(lambda a: lax.cond(a.sum() > 0, jnp.sin, lambda a: inner_jit(a, 3.0)[0], a))(
        z
    ), total


def one_device_mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]), ("batch",))


def sharded_map(x: jax.Array) -> Any:
    axis = "batch"

    def local(x: jax.Array) -> Any:
        shared = lax.psum(x.sum(0), axis) + lax.pmax(x, axis) + lax.pmean(x, axis)
        gathered = lax.all_gather(x, axis), lax.all_gather(x, axis, tiled=True)
        sent = lax.ppermute(x, axis, [(0, 0)]), lax.psum_scatter(x, axis, tiled=True)
        turned = lax.all_to_all(x[None], axis, 0, 1), lax.all_to_all(x, axis, 0, 1, tiled=True)
        return x * 2 + shared + lax.axis_index(axis), gathered, sent, turned

    spec = PartitionSpec(axis)
    fn = jax.shard_map(local, mesh=one_device_mesh(), in_specs=spec, out_specs=spec)
    return fn(x)


def constrained(x: jax.Array) -> Any:
    sharding = NamedSharding(one_device_mesh(), PartitionSpec("batch"))
    return jax.lax.with_sharding_constraint(x * 2, sharding) + 1


ROWS: dict[str, Row] = {
    "loop_in_branch_in_loop": row(loop_in_branch_in_loop, X),
    "while_with_closures": row(while_with_closures, X),
    "while_in_while": row(while_in_while, X),
    "switch_in_scan": row(switch_in_scan, X, sizes=[1, 3]),
    "branch_of_shapes_of_two": row(branch_of_shapes_of_two, X, f32("n", 2)),
    "branch_by_row": row(branch_by_row, X),
    "loop_by_row": row(loop_by_row, X),
    "many_carries": row(many_carries, X),
    "batch_inside_scan": row(batch_inside_scan, SEQUENCE),
    "reverse_scan": row(reverse_scan, X),
    "reverse_unrolled": row(reverse_unrolled, X),
    "unrolled_in_part": row(unrolled_in_part, X),
    "scan_in_scan": row(scan_in_scan, SEQUENCE),
    "scan_of_known_length": row(scan_of_known_length, X),
    "scan_as_long_as_a_dim": row(scan_as_long_as_a_dim, X),
    "mapped": row(mapped, X),
    "mapped_in_batches": row(mapped_in_batches, X, sizes=[1, 3]),
    "associative": row(associative, X),
    "decoded": row(decoded, X, i32()),
    "own_derivatives_in_a_scan": row(own_derivatives_in_a_scan, X, sizes=[1, 3]),
    "newton": row(newton, X, rtol=1e-4),
    "linear_solve": row(linear_solve, X, rtol=1e-4),
    "conjugate_gradients": row(conjugate_gradients, X, sizes=[1, 3], rtol=1e-4),
    "checkpoint": row(partial(with_checkpoints, None), X, rtol=1e-4),
    "checkpoint_of_dots": row(partial(with_checkpoints, POLICIES.dots_saveable), X, rtol=1e-4),
    "checkpoint_of_nothing": row(
        partial(with_checkpoints, POLICIES.nothing_saveable), X, rtol=1e-4
    ),
    "jit_in_jit": row(outer_jit, X),
    "sharded_map": row(sharded_map, X, sizes=[1, 3]),
    "constrained": row(constrained, X),
}
