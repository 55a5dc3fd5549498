"""Models with ops of users' own, which TensorFlow has from plugins.

The models are TensorFlow's, with an op of its own under another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import savax as sv
from savax.errors import UnsupportedOpError
from savax.function import register_op
from savax.function._op_schemas import add_op, op_schema
from savax.function.ops._registry import EVALUATIONS
from savax.protos import OpDef, SavedModel, parse

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

X = np.float32([-1.0, 0.5, 2.0])


def _renamed_model(path: Path, fn: Any, spec: Any, old: str, new: str) -> None:
    """Saves a function by TensorFlow, in which one op has another name."""
    module = tf.Module()
    module.run = tf.function(fn, input_signature=[spec])
    tf.saved_model.save(module, str(path))
    model = parse(SavedModel, (path / "saved_model.pb").read_bytes(), str(path))
    meta_graph = model.meta_graphs[0]
    for function in meta_graph.graph_def.library.function:
        for node in function.node_def:
            node.op = new if node.op == old else node.op
    for op in meta_graph.meta_info_def.stripped_op_list.op:
        op.name = new if op.name == old else op.name
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    (path / "fingerprint.pb").unlink()


@pytest.fixture(autouse=True)
def _forget_registrations(monkeypatch: pytest.MonkeyPatch) -> Any:
    known = dict(EVALUATIONS)
    yield
    EVALUATIONS.clear()
    EVALUATIONS.update(known)


def test_an_op_with_attributes(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None], tf.float32)
    fn = lambda x: tf.nn.leaky_relu(tf.sin(x), alpha=0.3) * 2.0  # noqa: E731
    _renamed_model(tmp_path / "m", fn, spec, "LeakyRelu", "Acme>Leaky")
    loaded: Any = sv.saved_model.load(tmp_path / "m")
    with pytest.raises(UnsupportedOpError, match=r"(?s)Acme>Leaky.*register_op"):
        loaded.run(X)

    @register_op(
        "Acme>Leaky",
        inputs=["features: T"],
        outputs=["activations: T"],
        attrs=["alpha: float = 0.2", "T: {half, bfloat16, float, double} = DT_FLOAT"],
    )
    def leaky(x: Any, *, alpha: float) -> Any:
        return jax.numpy.where(x > 0, x, alpha * x)

    loaded = sv.saved_model.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.run(X), fn(X), rtol=1e-6)
    slope = jax.grad(lambda x: loaded.run(x).sum())(X)
    tensor = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = fn(tensor)
    np.testing.assert_allclose(slope, tape.gradient(value, tensor), rtol=1e-5)
    sv.saved_model.save(loaded, tmp_path / "again")
    again = parse(SavedModel, (tmp_path / "again" / "saved_model.pb").read_bytes(), "again")
    listed = {op.name: op for op in again.meta_graphs[0].meta_info_def.stripped_op_list.op}
    assert [attr.name for attr in listed["Acme>Leaky"].attr] == ["alpha", "T"]
    np.testing.assert_allclose(sv.saved_model.load(tmp_path / "again").run(X), fn(X), rtol=1e-6)


def test_an_op_on_strings(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None], tf.string)
    _renamed_model(tmp_path / "m", tf.strings.lower, spec, "StringLower", "Acme>Quieter")

    @register_op(
        "Acme>Quieter",
        inputs=["input: string"],
        outputs=["output: string"],
        attrs=["encoding: string = ''"],
    )
    def quieter(strings: Any) -> Any:
        lowered = [text.lower() for text in strings.reshape(-1)]
        return np.array(lowered, object).reshape(strings.shape)

    loaded: Any = sv.saved_model.load(tmp_path / "m")
    assert list(loaded.run(np.array([b"AbC", b""], object))) == [b"abc", b""]


def test_an_op_of_tensorflow_that_savax_lacks(tmp_path: Path) -> None:
    spec = tf.TensorSpec([None], tf.float32)
    fn = lambda x: tf.raw_ops.Softsign(features=x)  # noqa: E731
    _renamed_model(tmp_path / "m", fn, spec, "Softsign", "TpuFake")
    missing = "DebugGradientIdentity"
    assert missing not in EVALUATIONS
    model = parse(SavedModel, (tmp_path / "m" / "saved_model.pb").read_bytes(), "m")
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "TpuFake":
                node.op = missing
            for i, name in enumerate(node.input):
                node.input[i] = name.replace(":activations:", ":output:")
    (tmp_path / "m" / "saved_model.pb").write_bytes(model.SerializeToString())

    @register_op(missing)
    def increment(x: Any) -> Any:
        return x + 1

    loaded: Any = sv.saved_model.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.run(X), X + 1)


def test_a_later_registration_replaces_the_first() -> None:
    for by in (2, 3):
        register_op("Acme>By", inputs=["x: float"], outputs=["y: float"])(lambda x, by=by: x * by)
    assert EVALUATIONS["Acme>By"].rule(1) == 3
    add_op(OpDef(name="Acme>By"))
    assert not op_schema("Acme>By").inputs
