"""XlaCallModule nodes of jax2tf, Keras and of no good origin, run on JAX."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from savax import saved_model
from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    InvalidArgumentError,
    SavaxError,
    ShapeMismatchError,
    UnsupportedError,
)
from savax.function import LoadedBody, value_and_grad
from savax.function.stablehlo._modules import read_module, write_module
from savax.function.stablehlo._programs import ModuleProgram
from savax.protos import FunctionDef, NodeDef, SavedModel
from savax.types import as_dtype

MODELS = Path(__file__).with_name("models")
W = np.arange(6, dtype=np.float32).reshape(3, 2) / 10
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
KERAS_RESULT = [
    [0.5645747184753418, 0.435425341129303],
    [0.5406981110572815, 0.4593019187450409],
    [0.5042406320571899, 0.4957593083381653],
]


def _body(artifact, *types, results=("float32",), version=9, platforms=("CPU",), **attrs):
    """Returns a function of one XlaCallModule node."""
    node = NodeDef(name="call", op="XlaCallModule")
    node.attr["version"].i = version
    node.attr["module"].s = artifact
    node.attr["platforms"].list.s.extend(name.encode() for name in platforms)
    node.attr["Tin"].list.type.extend(as_dtype(dtype).number for dtype in types)
    node.attr["Tout"].list.type.extend(as_dtype(dtype).number for dtype in results)
    for _ in results:
        node.attr["Sout"].list.shape.add(unknown_rank=True)
    for name, value in attrs.items():
        node.attr[name].CopyFrom(value)
    definition = FunctionDef()
    definition.signature.name = "f"
    for index, dtype in enumerate(types):
        definition.signature.input_arg.add(name=f"x{index}", type=as_dtype(dtype).number)
        node.input.append(f"x{index}")
    for index, dtype in enumerate(results):
        definition.signature.output_arg.add(name=f"y{index}", type=as_dtype(dtype).number)
        definition.ret[f"y{index}"] = f"call:output:{index}"
    definition.node_def.append(node)
    inner = FunctionDef()
    inner.signature.name = "inner"
    return LoadedBody("f", {"f": definition, "inner": inner}, ())


def _exported(fn, *specs, platforms=("cpu",)):
    return export.export(jax.jit(fn), platforms=platforms)(*specs).mlir_module_serialized


def _dynamic(fn=lambda x: jnp.tanh(x) * 2, platforms=("cpu",)):
    (b,) = export.symbolic_shape("b")
    return _exported(fn, jax.ShapeDtypeStruct((b, 3), np.float32), platforms=platforms)


def _text(text):
    # The context of a module that was read has all dialects.
    return write_module(ir.Module.parse(text, read_module(DYNAMIC).context))


DYNAMIC = _dynamic()


def _model(name):
    """Returns a model; those of JAX 0.10 hold StableHLO 1.15, which JAX 0.9 can't read."""
    if name in ("jax2tf_10", "keras", "orbax") and stablehlo.get_current_version() < "1.15":
        pytest.skip("this JAX is older than the model")
    return saved_model.load(str(MODELS / name))


@pytest.fixture(scope="module", params=["jax2tf_6", "jax2tf_10"])
def jax2tf_model(request):
    return _model(request.param)


def test_models_of_jax2tf_run_at_any_batch(jax2tf_model) -> None:
    for x in (X, X[:2]):
        found = jax2tf_model.serve(x, np.float32(3))
        np.testing.assert_allclose(found["y"], np.tanh(x @ W).reshape(-1), rtol=1e-6)
        np.testing.assert_allclose(found["total"], 3 * np.tanh(x @ W).sum(), rtol=1e-6)


def test_models_of_jax2tf_have_their_gradients(jax2tf_model) -> None:
    def total(x):
        return jax2tf_model.serve(x, np.float32(3))["total"]

    expected = jax.grad(lambda x: 3 * jnp.tanh(x @ W).sum())
    both = np.stack([X, X + 1])
    found = jax.jit(jax.vmap(jax.grad(total)))(both)
    np.testing.assert_allclose(found, jax.vmap(expected)(both), rtol=1e-5, atol=1e-6)


def test_models_of_keras_on_jax_run_at_any_batch() -> None:
    model = _model("keras")
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_allclose(model.serve(x), KERAS_RESULT, rtol=1e-5)
    np.testing.assert_allclose(model.serve(x[1:]), KERAS_RESULT[1:], rtol=1e-5)
    with pytest.raises(InvalidArgumentError, match="Expected value >= 1 for dimension variable"):
        model.serve(x[:0])


ORBAX_X = np.float32([[8, 2], [3, 1]])
ORBAX_W = np.arange(6, dtype=np.float32).reshape(2, 3) / 10


def _orbax_scores(x, w=ORBAX_W):
    return jax.nn.swish(x @ w) + np.float32([0.5, 0, -0.5])


def test_models_of_orbax_run_with_their_processors_on_the_host() -> None:
    model = _model("orbax")
    for x in (ORBAX_X, ORBAX_X[:1]):
        (scores,) = model.signatures["serving_default"](x=x).values()
        np.testing.assert_allclose(scores, _orbax_scores(x), rtol=1e-6)
    for name in ("text", "alias"):
        found = model.signatures[name](text=np.array([b"a bc def", b"abc"], object))
        expected = _orbax_scores(ORBAX_X + np.float32([[0, 1], [0, 0]]))
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-6)
        assert found["label"].tolist() == [b"yes", b"no"]


def test_models_of_orbax_have_gradients_by_their_parameters() -> None:
    signature = _model("orbax").signatures["serving_default"]
    _, w = signature.trainable_variables
    assert w.name == "w"

    def loss(x):
        (scores,) = signature(x=x).values()
        return (scores**2).sum()

    value, (of_x, of_variables) = value_and_grad(loss, variables=[w], argnums=0)(ORBAX_X)
    expected, gradients = jax.value_and_grad(
        lambda x, w: (_orbax_scores(x, w) ** 2).sum(), argnums=(0, 1)
    )(ORBAX_X, jnp.asarray(w.value))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(of_x, gradients[0], rtol=1e-5)
    np.testing.assert_allclose(of_variables[0], gradients[1], rtol=1e-5)
    with pytest.raises(UnsupportedError, match="forward mode"):
        jax.jvp(loss, (ORBAX_X,), (ORBAX_X,))


def test_loaded_modules_are_saved_again(tmp_path) -> None:
    model = saved_model.load(str(MODELS / "jax2tf_8"))
    saved_model.save(model, str(tmp_path / "again"))
    again = saved_model.load(str(tmp_path / "again"))
    found = again.serve(X, np.float32(1))["y"]
    np.testing.assert_allclose(found, np.tanh(X @ W).reshape(-1), rtol=1e-6)


@pytest.mark.parametrize("version", [4, 9])
def test_other_versions_run(version, tmp_path) -> None:
    source = MODELS / ("jax2tf_6" if version < 8 else "jax2tf_8")
    shutil.copytree(source, tmp_path / "model")
    path = tmp_path / "model" / "saved_model.pb"
    proto = SavedModel.FromString(path.read_bytes())
    for definition in proto.meta_graphs[0].graph_def.library.function:
        for node in definition.node_def:
            if node.op == "XlaCallModule":
                node.attr["version"].i = version
    path.write_bytes(proto.SerializeToString())
    found = saved_model.load(str(tmp_path / "model")).serve(X, np.float32(1))["y"]
    np.testing.assert_allclose(found, np.tanh(X @ W).reshape(-1), rtol=1e-6)


def test_modules_compute_with_64_bits_whatever_jax_is_set_to() -> None:
    with jax.enable_x64(True):
        artifact = _exported(
            lambda x, n: (x * 2, n + 2**40),
            jax.ShapeDtypeStruct((2,), np.float64),
            jax.ShapeDtypeStruct((), np.int64),
        )
    body = _body(artifact, "float64", "int64", results=("float64", "int64"))
    x, n = np.array([1 / 3, 2.0]), np.int64(5)
    for run in (body.run, lambda values: jax.jit(lambda: body.run(values))()):
        found = run([x, n])
        assert [y.dtype for y in found] == [np.float64, np.int64]
        np.testing.assert_array_equal(found[0], x * 2)
        assert int(found[1]) == 5 + 2**40


def test_derivatives_that_the_model_lacks_are_refused() -> None:
    body = _body(DYNAMIC, "float32")
    x = np.ones((2, 3), np.float32)
    with pytest.raises(UnsupportedError, match="'call' has no derivative"):
        jax.grad(lambda x: body.run([x])[0].sum())(x)
    # One that nobody needs isn't.
    found = jax.grad(lambda x: (jax.lax.stop_gradient(body.run([x])[0]) * x).sum())(x)
    np.testing.assert_allclose(found, np.tanh(x) * 2, rtol=1e-6)


def test_modules_run_where_their_platforms_are() -> None:
    x = np.ones((2, 3), np.float32)
    several = _dynamic(platforms=("tpu", "cuda", "cpu"))
    body = _body(several, "float32", platforms=("TPU", "CUDA", "CPU"))
    np.testing.assert_allclose(body.run([x])[0], np.tanh(x) * 2, rtol=1e-6)
    elsewhere = _body(_dynamic(platforms=("tpu",)), "float32", platforms=("TPU",))
    with pytest.raises(UnsupportedError, match="compiled for tpu only, and JAX has devices of cpu"):
        elsewhere.run([x])
    unchecked = NodeDef().attr["disabled_checks"]
    unchecked.list.s.append(b"platform")
    body = _body(DYNAMIC, "float32", platforms=("TPU",), disabled_checks=unchecked)
    np.testing.assert_allclose(body.run([x])[0], np.tanh(x) * 2, rtol=1e-6)


def _attr(**values):
    attr = NodeDef().attr["x"]
    for name in values.get("functions", ()):
        attr.list.func.add(name=name)
    for text in values.get("strings", ()):
        attr.list.s.append(text)
    if "flag" in values:
        attr.b = values["flag"]
    return attr


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"version": 3}, "version 3; savax runs versions 4 to 10"),
        ({"version": 11}, "version 11; savax knows versions up to 10"),
        ({"function_list": _attr(functions=["inner"])}, r"\('inner'\) by call_tf"),
        ({"has_token_input_output": _attr(flag=True)}, "orders effects on the host by tokens"),
        ({"dim_args_spec": _attr(strings=[b"0.0"])}, "has dim_args_spec"),
        ({"platforms": ("OTHER",)}, "compiled for other only"),
    ],
)
def test_nodes_that_need_more_than_jax_are_refused(attrs, message) -> None:
    with pytest.raises((UnsupportedError, CorruptSavedModelError), match=message):
        _body(DYNAMIC, "float32", **attrs).run([np.ones((2, 3), np.float32)])


_CALL = """
func.func public @main(%x: tensor<2xf32>) -> tensor<2xf32> {{
  {op}
  return %y : tensor<2xf32>
}}
"""


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            '%y = stablehlo.custom_call @xla_python_cpu_callback(%x) {backend_config = "1"} : '
            "(tensor<2xf32>) -> tensor<2xf32>",
            "calls functions outside of StableHLO, .*: xla_python_cpu_callback",
        ),
        (
            "%t = stablehlo.create_token : !stablehlo.token\n"
            '%y, %u = "stablehlo.infeed"(%t) : (!stablehlo.token) -> '
            "(tensor<2xf32>, !stablehlo.token)",
            "exchanges data with the host by stablehlo.infeed",
        ),
        (
            "%y = func.call @main(%x) : (tensor<2xf32>) -> tensor<2xf32>",
            "is damaged: its functions call themselves: main",
        ),
    ],
)
def test_modules_that_do_more_than_compute_are_refused(op, message) -> None:
    artifact = _text(_CALL.format(op=op))
    with pytest.raises(SavaxError, match=message):
        _body(artifact, "float32").run([np.ones(2, np.float32)])


def test_arguments_that_dont_fit_the_module_are_named() -> None:
    x = np.ones((2, 3), np.float32)
    program = ModuleProgram(DYNAMIC, ["cpu"], any_platform=False)
    assert program([x], "it")[0].shape == (2, 3)
    with pytest.raises(CorruptSavedModelError, match="takes 1 arguments, the node has 2"):
        program([x, x], "it")
    with pytest.raises(DTypeMismatchError, match="expected dtype f32, found int32"):
        program([x.astype(np.int32)], "it")
    with pytest.raises(ShapeMismatchError, match=r"expected shape \[None, 3\], found \[2, 4\]"):
        program([np.ones((2, 4), np.float32)], "it")


def test_bytes_that_are_no_module_are_refused() -> None:
    x = np.ones((2, 3), np.float32)
    newer = DYNAMIC.replace(b"StableHLO_v1.", b"StableHLO_v9.", 1)
    with pytest.raises(UnsupportedError, match=r"StableHLO 9\.\d+\.\d+, and this JAX reads"):
        _body(newer, "float32").run([x])
    for artifact in (b"", b"ML\xefR", b"\xff" * 99, b"module {}", DYNAMIC[4:]):
        with pytest.raises(CorruptSavedModelError, match="no StableHLO portable artifact"):
            _body(artifact, "float32").run([x])


@pytest.mark.parametrize("seed", range(3))
def test_damaged_modules_never_end_the_process(seed) -> None:
    # Every second one of these crashes MLIR's reader.
    rng = np.random.default_rng(seed)
    damaged = bytearray(DYNAMIC)
    for position in rng.integers(24, len(damaged), 40):
        damaged[position] ^= 1 << int(rng.integers(8))
    with pytest.raises(SavaxError):
        _body(bytes(damaged), "float32").run([np.ones((2, 3), np.float32)])
