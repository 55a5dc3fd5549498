"""Functions as modules, in every supported JAX: what savax writes, savax runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import savax
from savax.errors import UnsupportedError
from savax.saved_model import load, save

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def test_a_written_module_is_the_function_and_its_derivative(tmp_path) -> None:
    module = savax.Module()
    module.w = savax.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))

    def fn(x):
        best, _ = jax.lax.top_k(x @ module.w, 1)
        key = jax.random.key(0)
        return best, jax.lax.erf(x), jnp.arcsinh(x) * jax.random.uniform(key, x.shape)

    module.f = savax.function(
        fn, input_signature=[savax.TensorSpec([None, 3])], lowering="stablehlo"
    )
    save(module, str(tmp_path / "m"))
    loaded = load(str(tmp_path / "m"))
    for x in (X, X[:2], X[:0]):
        for have, want in zip(loaded.f(x), fn(jnp.asarray(x)), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-6)

    def total(f):
        return lambda x: sum(part.sum() for part in f(x))

    found, expected = jax.grad(total(loaded.f))(X), jax.grad(total(fn))(jnp.asarray(X))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    (written,) = module.f.get_concrete_function().compiled_modules()
    assert loaded.f.concrete_functions[0].compiled_modules()[0].stablehlo_version == (
        written.stablehlo_version
    )


def test_what_other_programs_dont_have_is_refused_by_name() -> None:
    fn = savax.function(
        jnp.linalg.cholesky, input_signature=[savax.TensorSpec([3, 3])], lowering="stablehlo"
    )
    with pytest.raises(UnsupportedError, match=r"which TensorFlow doesn't have: .*potrf"):
        fn.get_concrete_function().compiled_modules()
