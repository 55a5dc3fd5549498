"""Large arrays that functions close over are Variables of the saved model, never constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import savax as sv
from savax.protos import SavedModel, parse
from savax.saved_model import SaveOptions, load, save
from savax.train import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

ROWS, COLUMNS = 600, 512  # 1.2 MB of float32
X = np.linspace(-1, 1, 2 * ROWS, dtype=np.float32).reshape(2, ROWS)
LIST = "_captured_arrays"


def weight(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, COLUMNS), np.float32) / 30


W = weight()


def proto(directory: Path) -> SavedModel:
    return parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "")


def captured(directory: Path) -> list[str]:
    """Returns the names of the Variables that stand for arrays, in the list's order."""
    nodes = proto(directory).meta_graphs[0].object_graph_def.nodes
    ids = {child.local_name: child.node_id for child in nodes[0].children}
    if LIST not in ids:
        return []
    variables = [nodes[child.node_id].variable for child in nodes[ids[LIST]].children]
    assert not any(variable.trainable for variable in variables)
    return [variable.name for variable in variables]


def largest_node(directory: Path) -> int:
    graph = proto(directory).meta_graphs[0].graph_def
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return max(node.ByteSize() for body in bodies for node in body)


def module(function: Callable[..., Any], shape: Any = (None, ROWS)) -> sv.Module:
    root = sv.Module()
    root.f = sv.function(function, input_signature=[sv.TensorSpec(shape, sv.float32, name="x")])
    return root


def step(c: Any, w: Any) -> Any:
    return jnp.tanh(c @ w @ w.T)


def custom_vjp(x: Any, w: Any) -> Any:
    @jax.custom_vjp
    def f(x: Any) -> Any:
        return jax.jit(lambda x: x @ w)(x)

    f.defvjp(lambda x: (f(x), ()), lambda _, g: (jax.jit(lambda g: 2 * g @ w.T)(g),))
    return f(x)


def custom_jvp(x: Any, w: Any) -> Any:
    @jax.custom_jvp
    def f(x: Any) -> Any:
        return x @ w

    f.defjvp(lambda xs, ts: (xs[0] @ w, ts[0] @ w * 2))
    return f(x)


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda x, w: x @ w,
    "jit": lambda x, w: jax.jit(lambda x: jax.jit(lambda y: y @ w)(x) + 1)(x),
    "scan": lambda x, w: jax.lax.scan(lambda c, _: (step(c, w), None), x, None, length=3)[0],
    "jit_in_scan": lambda x, w: jax.lax.scan(
        lambda c, _: (jax.jit(lambda c: step(c, w))(c), None), x, None, length=3
    )[0],
    "scan_in_scan": lambda x, w: jax.lax.scan(
        lambda c, _: (
            jax.lax.scan(lambda c, _: (jax.jit(lambda c: step(c, w))(c), None), c, None, length=2)[
                0
            ],
            None,
        ),
        x,
        None,
        length=2,
    )[0],
    "while": lambda x, w: jax.lax.while_loop(
        lambda c: jax.jit(lambda c: jnp.abs(c @ w).sum())(c) > 1,
        jax.jit(lambda c: step(c, w) / 3),
        x,
    ),
    "cond": lambda x, w: jax.lax.cond(
        x.sum() > 0, jax.jit(lambda x: x @ w), jax.jit(lambda x: x @ (w + 1)), x
    ),
    "switch": lambda x, w: jax.lax.switch(
        1, [lambda x: x, jax.jit(lambda x: step(x, w)), jnp.negative], x
    ),
    "remat": lambda x, w: jax.checkpoint(jax.jit(lambda x: x @ w))(x),
    "map": lambda x, w: jax.lax.map(lambda row: jnp.tanh(row @ w), x),
    "custom_vjp": custom_vjp,
    "custom_jvp": custom_jvp,
    "grad": lambda x, w: jax.grad(lambda x: jnp.tanh(x @ w).sum())(x),
    "folded": lambda x, w: x @ (w * 2 + 1),
}


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_have_no_large_constant(name, tmp_path) -> None:
    w = W if name == "folded" else jnp.asarray(W)
    shape = (2, ROWS) if name == "map" else (None, ROWS)
    root = module(lambda x: PROGRAMS[name](x, w), shape)
    save(root, tmp_path / "m")
    assert captured(tmp_path / "m") == ["captured_array_0"]
    assert largest_node(tmp_path / "m") < 1 << 16
    want = np.asarray(root.f(X))
    np.testing.assert_allclose(want, PROGRAMS[name](X, W), rtol=1e-4, atol=1e-4)
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(theirs.f(X), want, rtol=1e-4, atol=1e-4)
    ours = load(tmp_path / "m")
    np.testing.assert_allclose(ours.f(X), want, rtol=1e-4, atol=1e-4)
    if name in ("custom_vjp", "custom_jvp"):
        x = tf.constant(X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = theirs.f(x)
        expected = 2 * np.ones_like(want) @ W.T
        np.testing.assert_allclose(tape.gradient(y, x), expected, rtol=1e-4, atol=1e-4)
        found = jax.grad(lambda x: ours.f(x).sum())(X)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


class Model(sv.Module):
    """Closes over two arrays, one of them in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.v = sv.Variable(np.eye(2, dtype=np.float32), name="v")
        w, equal, other = W, W.copy(), weight(1)
        on_device = jnp.asarray(W)
        spec = [sv.TensorSpec([None, ROWS], name="x")]
        self.f = sv.function(lambda x: x @ w, input_signature=spec)
        self.g = sv.function(lambda x: x @ equal + x @ w, input_signature=spec)
        self.h = sv.function(lambda x: jax.jit(lambda x: x @ on_device)(x), input_signature=spec)
        self.many = sv.function(lambda x: {"y": x @ other, "z": x @ w})
        self.many.get_concrete_function(sv.TensorSpec([2, ROWS], name="x"))
        self.many.get_concrete_function(sv.TensorSpec([None, 3, ROWS], name="x"))


def test_equal_arrays_are_stored_once(tmp_path) -> None:
    root = Model()
    before = set(vars(root))
    signatures = {"f": root.f.get_concrete_function(), "h": root.h.get_concrete_function()}
    save(root, tmp_path / "m", signatures=signatures)
    save(root, tmp_path / "again", signatures=signatures)
    assert set(vars(root)) == before
    assert [v.name for v in root.f.get_concrete_function().variables] == []
    assert captured(tmp_path / "m") == ["captured_array_0", "captured_array_1"]
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        a, b = ((tmp_path / model / name).read_bytes() for model in ("m", "again"))
        assert a == b
    stored = tf.train.load_checkpoint(str(tmp_path / "m" / "variables" / "variables"))
    found = [stored.get_tensor(f"{LIST}/{i}/.ATTRIBUTES/VARIABLE_VALUE") for i in (0, 1)]
    np.testing.assert_array_equal(found, [W, weight(1)])
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    want = X @ W
    np.testing.assert_allclose(theirs.g(X), 2 * want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(theirs.h(X), want, rtol=1e-4, atol=1e-4)
    assert len(theirs.signatures["f"].variables) == 1
    assert theirs.signatures["f"].trainable_variables == ()
    many = theirs.many(np.stack([X] * 3, 1))
    np.testing.assert_allclose(many["y"][:, 1], X @ weight(1), rtol=1e-4, atol=1e-4)


def test_a_session_of_version_1_restores_them(tmp_path) -> None:
    root = module(lambda x: {"y": x @ W})
    save(root, tmp_path / "m")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "m"))
        signature = meta.signature_def["serving_default"]
        found = session.run(signature.outputs["y"].name, {signature.inputs["x"].name: X})
    np.testing.assert_allclose(found, X @ W, rtol=1e-4, atol=1e-4)


def test_what_was_loaded_is_saved_again(tmp_path) -> None:
    save(Model(), tmp_path / "m")
    for source, target in (("m", "again"), ("again", "third")):
        loaded = load(tmp_path / source)
        save(loaded, tmp_path / target)
        assert captured(tmp_path / target) == captured(tmp_path / "m")
        theirs = tf.saved_model.load(str(tmp_path / target))
        np.testing.assert_allclose(theirs.f(X), X @ W, rtol=1e-4, atol=1e-4)
    # Another function gives the loaded object another list.
    loaded.more = module(lambda x: x @ weight(2)).f
    save(loaded, tmp_path / "more")
    nodes = proto(tmp_path / "more").meta_graphs[0].object_graph_def.nodes
    names = {child.local_name for child in nodes[0].children}
    assert {LIST, f"{LIST}_1"} <= names
    theirs = tf.saved_model.load(str(tmp_path / "more"))
    np.testing.assert_allclose(theirs.more(X), X @ weight(2), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(theirs.f(X), X @ W, rtol=1e-4, atol=1e-4)


def test_an_attribute_of_that_name_stays(tmp_path) -> None:
    root = module(lambda x: x @ W)
    root._captured_arrays = [sv.Variable(1.0)]
    save(root, tmp_path / "m")
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    assert float(theirs._captured_arrays[0]) == 1
    assert theirs._captured_arrays_1[0].shape == (ROWS, COLUMNS)


def test_the_variables_are_a_checkpoint_of_the_object(tmp_path) -> None:
    root = Model()
    save(root, tmp_path / "m")
    prefix = str(tmp_path / "m" / "variables" / "variables")
    other = Model()
    other.v.assign(np.zeros((2, 2), np.float32))
    status = Checkpoint(other).restore(prefix)
    status.assert_consumed().assert_existing_objects_matched()
    assert status.report().is_complete
    np.testing.assert_array_equal(other.v.numpy(), np.eye(2))
    # What else the checkpoint has too much is still told.
    small = sv.Module()
    with pytest.raises(AssertionError, match=r"root\.v"):
        Checkpoint(small).restore(prefix).assert_consumed()
    # A loaded model keeps its arrays when it gets a checkpoint of the object.
    loaded = load(tmp_path / "m")
    path = Checkpoint(other).write(str(tmp_path / "checkpoint"))
    Checkpoint(loaded).restore(path).assert_consumed()
    np.testing.assert_allclose(loaded.f(X), X @ W, rtol=1e-4, atol=1e-4)
    Checkpoint(loaded).restore(prefix).assert_consumed()
    theirs = tf.Module()
    theirs.v = tf.Variable(tf.zeros((2, 2)))
    tf.train.Checkpoint(theirs).restore(prefix).expect_partial()
    np.testing.assert_array_equal(theirs.v, np.eye(2))


@pytest.mark.parametrize(
    "dtype",
    ["bfloat16", "float16", "float8_e5m2", "int4", "uint8", "int64", "bool", "complex64"],
)
def test_dtypes(dtype, tmp_path) -> None:
    numpy_dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    count = (2 << 20) // numpy_dtype.itemsize + 8
    values = (np.arange(count) % 2 if dtype == "bool" else np.arange(count) % 7).astype(numpy_dtype)
    root = module(lambda x: jnp.real(jnp.asarray(values)[3:9]).astype(jnp.float32) + x, ())
    save(root, tmp_path / "m")
    assert largest_node(tmp_path / "m") < 1 << 16
    assert len(captured(tmp_path / "m")) == 1
    want = np.real(values[3:9]).astype(np.float32)
    np.testing.assert_array_equal(load(tmp_path / "m").f(np.float32(0)), want)
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(theirs.f(np.float32(0)), want)


def test_dtypes_without_variables_stay_constants(tmp_path) -> None:
    values = np.zeros((1 << 20) + 8, ml_dtypes.float8_e4m3fnuz)
    save(module(lambda x: (x, jnp.asarray(values)), ()), tmp_path / "m")
    assert captured(tmp_path / "m") == []


def test_smaller_arrays_stay_constants(tmp_path) -> None:
    small = W[:500]
    save(module(lambda x: x[:, :500] @ small), tmp_path / "m")
    assert small.nbytes < 1 << 20
    assert captured(tmp_path / "m") == []


def test_the_proto_of_a_large_array_is_small(tmp_path) -> None:
    large = np.random.default_rng(0).standard_normal((5000, 1000), np.float32)
    table = jnp.asarray(large)
    root = sv.Module()
    root.f = sv.function(
        lambda i: table[i], input_signature=[sv.TensorSpec([None], sv.int32, name="i")]
    )
    save(root, tmp_path / "m")
    assert (tmp_path / "m" / "saved_model.pb").stat().st_size < 100_000
    rows = tf.saved_model.load(str(tmp_path / "m")).f(np.int32([7, 4999]))
    np.testing.assert_array_equal(rows, large[[7, 4999]])


@pytest.mark.parametrize("name", ["jit_in_scan", "custom_vjp"])
def test_modules_take_them_as_operands(name, tmp_path) -> None:
    w = jnp.asarray(W)
    root = module(lambda x: PROGRAMS[name](x, w), (2, ROWS))
    save(root, tmp_path / "m", options=SaveOptions(lowering="stablehlo"))
    assert captured(tmp_path / "m") == ["captured_array_0"]
    assert largest_node(tmp_path / "m") < 1 << 16
    theirs, x = tf.saved_model.load(str(tmp_path / "m")), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = theirs.f(x)
    np.testing.assert_allclose(y, PROGRAMS[name](X, W), rtol=1e-4, atol=1e-4)
    expected = jax.grad(lambda x: PROGRAMS[name](x, W).sum())(X)
    np.testing.assert_allclose(tape.gradient(y, x), expected, rtol=1e-4, atol=1e-4)


def test_unknown_rank(tmp_path) -> None:
    root = module(lambda x: jnp.tanh(x) @ W if x.ndim == 2 else x.sum() * W[0], None)
    save(root, tmp_path / "m")
    assert captured(tmp_path / "m") == ["captured_array_0"]
    assert largest_node(tmp_path / "m") < 1 << 16
    for model in (tf.saved_model.load(str(tmp_path / "m")), load(tmp_path / "m")):
        np.testing.assert_allclose(model.f(X), np.tanh(X) @ W, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(model.f(X[0]), X[0].sum() * W[0], rtol=1e-4, atol=1e-4)


def test_doors_to_jax(tmp_path) -> None:
    save(Model(), tmp_path / "m")
    partial = sv.saved_model.load_partial(tmp_path / "m", ["root.f"])["root.f"]
    loaded = load(tmp_path / "m")
    pure, params = sv.as_jax(loaded.f, loaded)
    assert set(params) == {"v"}
    assert set(pure.state) == {f"{LIST}.0", f"{LIST}.1"}
    for function in (partial, sv.freeze(loaded.f), lambda x: pure(params, x)):
        np.testing.assert_allclose(function(X), X @ W, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_concrete", [False, True], ids=["function", "concrete"])
def test_a_model_that_is_a_function_keeps_constants(is_concrete, tmp_path) -> None:
    root = module(lambda x: x @ W).f
    root = root.get_concrete_function() if is_concrete else root
    save(root, tmp_path / "m", signatures=root)
    assert captured(tmp_path / "m") == []
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    found = theirs.signatures["serving_default"](x=tf.constant(X))["output_0"]
    np.testing.assert_allclose(found, X @ W, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(load(tmp_path / "m")(X), X @ W, rtol=1e-4, atol=1e-4)


def test_functions_of_aliases(tmp_path) -> None:
    inner = module(lambda x: x @ weight(3)).f
    inner.get_concrete_function()
    root = module(lambda x: inner(x) + x @ W)
    save(root, tmp_path / "m", options=SaveOptions(function_aliases={"inner": inner}))
    assert len(captured(tmp_path / "m")) == 2
    # A signature alone keeps the arrays alive.
    signature = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    found = signature(x=tf.constant(X))["output_0"]
    np.testing.assert_allclose(found, X @ (W + weight(3)), rtol=1e-4, atol=1e-4)


def test_graphs_of_version_1_have_each_array_once(tmp_path) -> None:
    on_device = jnp.asarray(W)
    with sv.compat.v1.Session(graph=sv.Graph()) as session:
        x = sv.compat.v1.placeholder(sv.float32, [None, ROWS], name="x")
        graph = session.graph
        y = graph.add(lambda x: x @ W, x, name="y")
        z = graph.add(lambda x: PROGRAMS["jit_in_scan"](x, on_device), x, name="z")
        builder = sv.compat.v1.saved_model.Builder(str(tmp_path / "m"))
        signature = sv.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y, "z": z})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
    builder.save()
    graph_def = proto(tmp_path / "m").meta_graphs[0].graph_def
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    assert sum(node.ByteSize() > 1 << 20 for body in bodies for node in body) == 1
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "m"))
        found = session.run(["y:0", "z:0"], {"x:0": X})
    np.testing.assert_allclose(found[0], X @ W, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], PROGRAMS["jit_in_scan"](X, W), rtol=1e-4, atol=1e-4)
