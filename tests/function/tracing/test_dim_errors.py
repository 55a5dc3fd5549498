"""What JAX can't decide or do with unknown dims is reported with the line, and with what to add."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from savax.errors import InconclusiveDimensionError, TracingError, UnsupportedParamError
from savax.function import function
from savax.function._dims import deciding_constraints
from savax.function.ops._registry import LOWERINGS, Lowering
from savax.types import TensorSpec
from tests.lowering_check import lower


def traced(fn: Any, *dims: Any, constraints: Any = ()) -> Any:
    specs = [TensorSpec(shape, "float32") for shape in dims]
    traced = function(fn, input_signature=specs, constraints=constraints)
    return traced.get_concrete_function()


# The function, the shape of its argument, the advice, and shape and constraints that cure it.
UNDECIDED: dict[str, tuple[Any, Any, str, Any, tuple[str, ...]]] = {
    "a comparison in Python": (
        lambda x: x[0] if x.shape[0] > 3 else x[1],
        ["x_0", 4],
        r'constraints=\("x_0 >= 4",\) or constraints=\("x_0 <= 3",\)',
        ["x_0", 4],
        ("x_0 >= 4",),
    ),
    "an unnamed dim": (
        lambda x: jnp.linspace(0, 1, x.shape[0]),
        [None, 4],
        r'constraints=\("x_0 >= 2",\)',
        ["x_0", 4],
        ("x_0 >= 2",),
    ),
    "top_k": (
        lambda x: lax.top_k(x, 2),
        ["b"],
        r'constraints=\("b <= 1",\) or constraints=\("b >= 2",\)',
        ["b"],
        ("b >= 2",),
    ),
    "a slice of a dim less a number": (
        lambda x: x[: x.shape[0] - 3],
        ["b"],
        r'"b - 3 >= 0"',
        ["b"],
        ("b - 3 >= 0",),
    ),
    "padding up to a number": (
        lambda x: jnp.pad(x, (0, 8 - x.shape[0])),
        ["b"],
        r'"- b \+ 8 >= 0"',
        ["b"],
        ("- b + 8 >= 0",),
    ),
    "a dynamic slice": (
        lambda x: lax.dynamic_slice_in_dim(x, 0, 5),
        ["b"],
        r'"b >= 5"',
        ["b"],
        ("b >= 5",),
    ),
    "a reshape that may not divide": (
        lambda x: x.reshape(-1, 8),
        ["b", 4],
        r'Write the dim as a multiple, as in TensorSpec\(\["8\*n", 4\]\)',
        ["8*n", 4],
        (),
    ),
    "a number that JAX needs": (
        lambda x: jnp.zeros(int(x.shape[0])),
        ["b"],
        "give the dim a size",
        [3],
        (),
    ),
    "rows as a Python list": (lambda x: list(x), ["b", 4], "jax.lax.scan", [3, 4], ()),
}

REFUSED: dict[str, tuple[Any, Any, str, Any]] = {
    "a dim as index": (
        lambda x: x[x.shape[0] // 2],
        ["b"],
        r"x\[jnp.asarray\(x.shape\[0\] // 2\)\]",
        lambda x: x[jnp.asarray(x.shape[0] // 2)],
    ),
    "a loop over a dim": (
        lambda x: sum(x[i] for i in range(x.shape[0])),
        ["b"],
        "jax.lax.fori_loop",
        lambda x: lax.fori_loop(0, x.shape[0], lambda i, s: s + x[i], 0.0),
    ),
    "an associative scan": (
        lambda x: lax.associative_scan(jnp.maximum, x),
        ["b"],
        "JAX's own function needs the number there",
        lambda x: lax.cummax(x),
    ),
    "a permutation": (
        lambda x: jax.random.permutation(jax.random.key(0), x),
        ["b"],
        "JAX's own function needs the number there",
        lambda x: x[jnp.argsort(jax.random.uniform(jax.random.key(0), x.shape))],
    ),
    "an uneven split": (
        lambda x: jnp.split(x, 2),
        ["b"],
        "Write the dim as a multiple",
        lambda x: jnp.array_split(x.reshape(1, -1), 1),
    ),
    "squeezing whatever is 1": (
        lambda x: jnp.squeeze(x),
        ["b", 1],
        "Name the axes",
        lambda x: jnp.squeeze(x, axis=1),
    ),
    "sizes that differ by one": (
        lambda x: x + jnp.zeros(x.shape[0] + 1),
        ["b"],
        "give the size itself",
        lambda x: x + jnp.zeros(x.shape[0]),
    ),
}


@pytest.mark.parametrize("kind", UNDECIDED)
def test_what_depends_on_sizes_is_reported_with_line_and_cure(kind: str) -> None:
    fn, dims, advice, cured_dims, constraints = UNDECIDED[kind]
    with pytest.raises(InconclusiveDimensionError, match=advice) as caught:
        traced(fn, dims)
    text = str(caught.value)
    assert f"{__file__}:" in text
    assert "The signature is (x: float32[" in text
    assert "This error arises" not in text
    assert traced(fn, cured_dims, constraints=constraints)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_jax_does_not_do_is_reported_with_line_and_cure(kind: str) -> None:
    fn, dims, advice, cured = REFUSED[kind]
    with pytest.raises(TracingError, match=advice) as caught:
        traced(fn, dims)
    assert f"{__file__}:" in str(caught.value)
    assert traced(cured, dims)


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="an error that says nothing of sizes")
def test_what_jax_does_by_number_is_reported_with_line_and_cure() -> None:
    with pytest.raises(TracingError, match="JAX's own function needs the number there") as caught:
        traced(lambda x: jnp.unstack(x), ["b", 4])
    assert f"{__file__}:" in str(caught.value)
    assert traced(lambda x: jnp.unstack(x, axis=1), ["b", 4])


@pytest.mark.parametrize(
    ("text", "constraints"),
    [
        ("comparison 'b' > '3' is", ("b >= 4", "b <= 3")),
        ("comparison 'b' >= '3' is", ("b >= 3", "b <= 2")),
        ("comparison 'b' < '3' is", ("b <= 2", "b >= 3")),
        ("comparison 'b' <= '3' is", ("b <= 3", "b >= 4")),
        ("comparison '3' < 'b' is", ("b >= 4", "b <= 3")),
        ("comparison 'b' < '2*n' is", ("b <= 2*n - 1", "b >= 2*n")),
        ("something else", ()),
    ],
)
def test_constraints_that_decide(text: str, constraints: tuple[str, ...]) -> None:
    assert deciding_constraints(text) == constraints


def _by_size(g: Any, x: Any, *, accuracy: Any) -> Any:
    return g.op("Sin", x) if x.shape[0] > 3 else g.op("Cos", x)


def test_a_form_that_depends_on_sizes_is_reported_with_line_and_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LOWERINGS, "sin", Lowering("sin", _by_size, frozenset({"accuracy"})))

    def wavy(x: jax.Array) -> jax.Array:
        return jnp.sin(x)

    with pytest.raises(UnsupportedParamError) as caught:
        lower(wavy, np.ones(5, np.float32), specs=[("b",)])
    text = str(caught.value)
    assert "sin, " in text
    assert "wavy)" in text
    assert 'say "b >= 4" or "b <= 3" in the function\'s constraints' in text
