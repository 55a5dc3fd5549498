"""What is lowered and evaluated again gives JAX's numbers; no TensorFlow is needed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from lowering_check import lower
from special_values import INTEGERS, special_pairs, special_values, tolerance

from savax.function.evaluation._plan import PlanLibrary
from savax.function.evaluation._walk import Store, Walk
from savax.function.ops._registry import EVALUATIONS
from savax.types import as_dtype

FLOATING = ("float32", "bfloat16")

ROWS: list[tuple[str, Any, tuple[str, ...]]] = [
    *(
        (name, getattr(lax, name), FLOATING)
        for name in ("exp", "log1p", "tanh", "logistic", "sin", "atan", "erf", "erf_inv", "floor")
    ),
    *((name, getattr(lax, name), (*FLOATING, "int8")) for name in ("abs", "sign", "neg", "square")),
    ("round", lax.round, FLOATING),
    ("integer_pow", lambda x: lax.integer_pow(x, 5), (*FLOATING, "int32")),
    ("clz", lax.clz, INTEGERS),
    ("casts", lambda x: [x.astype(t) for t in (np.int32, np.uint8, np.bool_)], FLOATING),
    ("arg", lambda x: (jnp.argmax(x), jnp.argmin(x)), (*FLOATING, "int32", "bool")),
    ("sort", jnp.sort, (*FLOATING, "int16", "uint32", "bool")),
    ("argsort", jnp.argsort, (*FLOATING, "int16", "uint32", "bool")),
    ("cummax", lambda x: (lax.cummax(x), lax.cummin(x, reverse=True)), (*FLOATING, "int8")),
    ("xor", lambda x: lax.reduce_xor(x, (0,)), ("int32", "uint8", "bool")),
    ("sums", lambda x: (jnp.sum(x), jnp.max(x), jnp.prod(x[:4])), ("int32", "float32")),
]
PAIR_ROWS: list[tuple[str, Any, tuple[str, ...]]] = [
    *((name, getattr(lax, name), (*FLOATING, *INTEGERS)) for name in ("div", "rem", "max", "lt")),
    *(
        (name, getattr(lax, name), INTEGERS)
        for name in ("shift_left", "shift_right_logical", "shift_right_arithmetic")
    ),
    ("floor", lambda x, y: (jnp.floor_divide(x, y), x % y), ("int32", "uint8")),
    ("where", lambda x, y: jnp.where(x > y, x, y), ("float32", "int64")),
]


def evaluated(fn: Any, *args: Any) -> list[Any]:
    """Lowers a function and evaluates the FunctionDefs on JAX."""
    lowered = lower(fn, *args)
    library = PlanLibrary(dict(lowered.library.functions))
    name = lowered.function.signature.name
    walk = Walk(library, Store({}))
    plan = library.runnable_plan(name)
    return jax.jit(lambda *xs: walk.run(plan, xs))(*args)


def assert_round_trip(fn: Any, *args: Any, dtype: str = "float32") -> None:
    with jax.enable_x64(True):
        expected = jax.tree_util.tree_leaves(fn(*map(jnp.asarray, args)))
        for have, want in zip(evaluated(fn, *args), expected, strict=True):
            assert have.dtype == want.dtype
            have, want = np.asarray(have), np.asarray(want)
            if have.dtype.kind in "biu":
                np.testing.assert_array_equal(have, want)
            else:
                have, want = have.astype(np.float64), want.astype(np.float64)
                np.testing.assert_allclose(have, want, rtol=tolerance(dtype), atol=1e-30)


def cases(rows: list[tuple[str, Any, tuple[str, ...]]]) -> list[Any]:
    return [
        pytest.param(fn, dtype, id=f"{name}-{dtype}")
        for name, fn, dtypes in rows
        for dtype in dtypes
    ]


@pytest.mark.parametrize(("fn", "dtype"), cases(ROWS))
def test_function_of_special_values_survives(fn: Any, dtype: str) -> None:
    assert_round_trip(fn, special_values(dtype), dtype=dtype)


@pytest.mark.parametrize(("fn", "dtype"), cases(PAIR_ROWS))
def test_function_of_pairs_survives(fn: Any, dtype: str) -> None:
    assert_round_trip(fn, *special_pairs(dtype), dtype=dtype)


def test_random_numbers_survive() -> None:
    def draw(words: Any) -> Any:
        first, second = jax.random.split(jax.random.wrap_key_data(words))
        return jax.random.normal(first, (5,)), jax.random.randint(second, (4,), 0, 100)

    assert_round_trip(draw, np.array([1, 2], np.uint32))


def test_layer_normalization_and_attention_weights_survive() -> None:
    def fn(x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return jax.nn.softmax(jax.nn.gelu(centred * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)))

    assert_round_trip(fn, np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4))


def test_rules_evaluate_at_symbolic_sizes() -> None:
    """Sizes that stay unknown while a graph is evaluated reach the rules as symbolic dims."""
    (batch,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 4), np.float32)
    vector = np.ones(4, np.float32)

    def rule(op: str) -> Any:
        return EVALUATIONS[op].rule

    def fn(x: Any) -> Any:
        trained = rule("FusedBatchNormV3")(
            x[:, None, None],
            vector,
            vector,
            vector,
            vector,
            epsilon=1e-3,
            data_format="NHWC",
            exponential_avg_factor=1.0,
            is_training=True,
        )
        return [
            rule("Mean")(x, np.array([0]), keep_dims=True),
            rule("Mean")(x.astype(np.int32), np.array([0, 1]), keep_dims=False),
            rule("Cumsum")(x, np.array(0), exclusive=True, reverse=False),
            rule("ArgMax")(x, np.array(1), output_type=as_dtype("int32")),
            *trained,
        ]

    avals = jax.export.export(jax.jit(fn))(x).out_avals
    assert [aval.shape for aval in avals[:4]] == [(1, 4), (), (batch, 4), (batch,)]
