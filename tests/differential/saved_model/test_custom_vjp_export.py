"""Functions with ``jax.custom_vjp``: TensorFlow's gradients of what was saved are JAX's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import savax  # noqa: E402
from savax.saved_model import SaveOptions, load, save  # noqa: E402

pytestmark = pytest.mark.tf

X = np.array([[0.3, -0.5, 1.0], [2.0, 1.0, -1.0]], np.float32)
W = np.arange(12, dtype=np.float32).reshape(3, 4) / 10


@jax.custom_vjp
def _clipped(x, bound):
    return x


def _clip(bound, ct):
    return jnp.clip(ct, -bound, bound), None


_clipped.defvjp(lambda x, bound: (x, bound), _clip)


@jax.custom_vjp
def _product(x, w, n):
    """Has several results, and a gradient that isn't its derivative."""
    return (x @ w) * n.astype(x.dtype), x.sum()


def _product_backward(residuals, cotangents):
    x, w, n = residuals
    of_product, of_sum = cotangents
    return 3 * of_product @ w.T * n.astype(x.dtype) + of_sum, x.T @ of_product, None


_product.defvjp(lambda *args: (_product(*args), args), _product_backward)


@jax.custom_vjp
def _squared(z):
    return z * z


_squared.defvjp(lambda z: (z * z, z), lambda z, ct: (ct * 2 * z * 3j,))


class _Model(savax.Module):
    def __init__(self):
        self.w = savax.Variable(W)

    @savax.function(input_signature=[savax.TensorSpec(["b", 3])])
    def nested(self, x):
        product, total = _product(_clipped(x * 2, 0.5), self.w.value, jnp.int32(2))
        return product * total

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def one_result(self, x):
        return _product(x, self.w.value, jnp.int32(3))[0]

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def sizes(self, x):
        return _product(x, self.w.value, jnp.int32(x.shape[0]))[0]

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def loop(self, x):
        return jax.lax.fori_loop(0, 3, lambda _, x: _clipped(x * 1.5, 0.1) * 2, x)

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def branch(self, x):
        return jax.lax.cond(x.sum() > 0, lambda x: _clipped(x * x, 0.1), lambda x: x, x)

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def complex_numbers(self, x):
        y = _squared(x + 1j * x)
        return y.real + 2 * y.imag

    @savax.function(input_signature=[savax.TensorSpec([None, 3])])
    def batched(self, x):
        return jax.vmap(lambda row: _product(row[None], self.w.value, jnp.int32(2))[0])(x)


NAMES = ("nested", "one_result", "sizes", "loop", "branch", "complex_numbers", "batched")


@pytest.fixture(scope="module")
def model():
    return _Model()


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("custom_vjp") / "model")
    save(model, path)
    return path


@pytest.fixture(scope="module")
def in_tensorflow(directory):
    return tf.saved_model.load(directory)


def _tensorflow_gradients(model, name):
    with tf.GradientTape() as tape:
        x = tf.constant(X)
        tape.watch(x)
        loss = tf.reduce_sum(getattr(model, name)(x) ** 2)
    found = tape.gradient(loss, [x, model.w], unconnected_gradients="zero")
    return [gradient.numpy() for gradient in found]


def _gradients(model, name):
    def loss(x):
        return (getattr(model, name)(x) ** 2).sum()

    _, (of_x, of_variables) = savax.value_and_grad(loss, variables=[model.w], argnums=0)(X)
    return [np.asarray(of_x), np.asarray(of_variables[0])]


def _assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_tensorflow_has_the_gradients_of_jax(model, in_tensorflow, name):
    _assert_close(_tensorflow_gradients(in_tensorflow, name), _gradients(model, name))


def test_loading_again_has_the_gradients(model, directory):
    loaded = load(directory)
    for name in NAMES:
        _assert_close(_gradients(loaded, name), _gradients(model, name))


def _library(path):
    with open(f"{path}/saved_model.pb", "rb") as file:
        return savax.protos.SavedModel.FromString(file.read()).meta_graphs[0].graph_def.library


def test_the_forward_pass_computes_nothing_more(directory):
    """A gradient function has what the backward pass needs; the function itself hasn't."""
    library = _library(directory)
    (loop,) = [f for f in library.function if f.signature.name.startswith("__inference_one_result")]
    assert sorted(node.op for node in loop.node_def if node.op not in ("Const", "Identity")) == [
        *("IdentityN", "MatMul", "Mul", "NoOp", "ReadVariableOp")
    ]


def test_gradients_can_be_left_out(model, tmp_path):
    options = SaveOptions(experimental_custom_gradients=False)
    save(model, tmp_path / "model", options=options)
    library = _library(tmp_path / "model")
    assert not library.registered_gradients
    assert not any("_gradient_op_type" in n.attr for f in library.function for n in f.node_def)


def test_the_same_program_gives_the_same_bytes(directory, tmp_path):
    save(_Model(), tmp_path / "again")
    with open(f"{directory}/saved_model.pb", "rb") as first:
        assert first.read() == (tmp_path / "again" / "saved_model.pb").read_bytes()


def test_a_gradient_of_a_loaded_function_is_saved_with_what_calls_it(tmp_path):
    @tf.custom_gradient
    def op(x):
        return tf.identity(x), lambda dy: 7 * dy

    inner = tf.Module()
    inner.f = tf.function(op, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(inner, str(tmp_path / "inner"))
    outer = savax.Module()
    outer.inner = load(tmp_path / "inner")
    outer.g = savax.function(
        lambda x: outer.inner.f(x * 2) * 3, input_signature=[savax.TensorSpec([None, 3])]
    )
    save(outer, tmp_path / "outer")
    loaded = tf.saved_model.load(str(tmp_path / "outer"))
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = loaded.g(x)
    np.testing.assert_allclose(tape.gradient(y, x), np.full_like(X, 42))


def _host(ct):
    return jax.pure_callback(lambda ct: ct, jax.ShapeDtypeStruct((2, 3), ct.dtype), ct)


def _model_with_backward(backward):
    model = savax.Module()
    model.w = savax.Variable(2.0)

    @jax.custom_vjp
    def op(x):
        return x + 1

    op.defvjp(lambda x: (x + 1, None), lambda _, ct: (backward(model, ct),))
    model.f = savax.function(op, input_signature=[savax.TensorSpec([2, 3])])
    return model


@pytest.mark.parametrize("inner", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_backward_pass_reads_variables(tmp_path, inner):
    model = _model_with_backward(lambda model, ct: inner(lambda ct: ct * model.w.value)(ct))
    save(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    again = load(tmp_path / "model")
    for factor in (2, 5):
        x = tf.constant(X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = loaded.f(x)
        np.testing.assert_array_equal(tape.gradient(y, x), np.full_like(X, factor))
        gradient = jax.grad(lambda x: again.f(x).sum())(X)
        np.testing.assert_array_equal(gradient, np.full_like(X, factor))
        loaded.w.assign(5.0)
        again.w.assign(5.0)


def _op_whose_backward_pass_reads(w):
    @jax.custom_vjp
    def op(x):
        return jnp.sin(x)

    op.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x) * w.value**2,))
    return op


def _op_with_backward_pass(w):
    @jax.custom_vjp
    def op(x, w):
        return jnp.sin(x) * w

    op.defvjp(
        lambda x, w: (jnp.sin(x) * w, (x, w)),
        lambda kept, ct: (ct * jnp.cos(kept[0]) * kept[1] ** 2, (ct * kept[0]).sum()),
    )
    return lambda x: op(x, w.value)


def _op_with_forward_mode(w):
    @jax.custom_jvp
    def op(x, w):
        return jnp.sin(x) * w

    @op.defjvp
    def _(primals, tangents):
        x, w = primals
        return op(x, w), jnp.cos(x) * w**2 * tangents[0] + x * tangents[1]

    return lambda x: op(x, w.value)


@pytest.mark.parametrize(
    "make", [_op_whose_backward_pass_reads, _op_with_backward_pass, _op_with_forward_mode]
)
def test_second_derivatives_reach_variables(tmp_path, make):
    """All three have the gradient cos(x) * w**2 with respect to x."""
    model = savax.Module()
    model.w = savax.Variable(1.5)
    model.f = savax.function(make(model.w), input_signature=[savax.TensorSpec([None, 3])])
    save(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    x = tf.constant(X)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = tf.reduce_sum(loaded.f(x))
        penalty = tf.reduce_sum(inner.gradient(total, x) ** 2)
    found = outer.gradient(penalty, [x, loaded.w])
    _assert_close(found, jax.grad(lambda x, w: ((jnp.cos(x) * w**2) ** 2).sum(), (0, 1))(X, 1.5))


def test_a_variable_of_a_backward_pass_must_be_saved_too(tmp_path):
    other = savax.Variable(3.0, name="other")
    model = _model_with_backward(lambda _, ct: ct * other.value)
    with pytest.raises(savax.errors.UntrackedDependencyError, match="other"):
        save(model, tmp_path / "model")


@pytest.mark.parametrize("reason", ["a callback", "an assignment"])
def test_a_backward_pass_that_cant_be_written_is_refused_by_tensorflow(tmp_path, reason):
    def backward(model, ct):
        if reason == "a callback":
            return _host(ct)
        model.w.assign(1.0)
        return ct

    save(_model_with_backward(backward), tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    x = tf.constant(X)
    np.testing.assert_array_equal(loaded.f(x), X + 1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(LookupError, match="IdentityN"):
            loaded.f(x)


def test_functions_of_jax_without_a_derivative_are_saved(tmp_path):
    """JAX has no derivative of xlog1py where a factor is an integer."""

    @savax.function(input_signature=[savax.TensorSpec([None, 3], "int32"), savax.TensorSpec([3])])
    def f(n, x):
        return jax.scipy.special.xlog1py(n, x)

    model = savax.Module()
    model.f = f
    save(model, tmp_path / "model")
    n = np.arange(6, dtype=np.int32).reshape(2, 3)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.f(n, np.abs(X[0])), f(n, np.abs(X[0])), rtol=1e-6)


def test_an_error_of_a_backward_pass_says_how_to_save(tmp_path):
    def backward(model, ct):
        raise KeyError("scale")

    model = _model_with_backward(backward)
    with pytest.raises(KeyError, match="scale") as caught:
        save(model, tmp_path / "model")
    (note,) = caught.value.__notes__
    assert f"{__file__}:" in note
    assert "experimental_custom_gradients=False" in note
    assert not (tmp_path / "model").exists()
    save(model, tmp_path / "model", options=SaveOptions(experimental_custom_gradients=False))
