"""Parts of a model by their paths: TensorFlow-made and savax-made, against TensorFlow's loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sv
from savax.errors import CorruptBundleError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

X = np.float32([[1, 2], [3, 4]])


class Layer(tf.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.float32([[scale, 0], [1, scale]]))

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def __call__(self, x: Any) -> Any:
        return x @ self.kernel


class Model(tf.Module):
    """Two layers; the head uses what it doesn't own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = tf.Module()
        self.encoder.layers = [Layer(2.0), Layer(3.0)]
        self.encoder.table = {"a.b": tf.Variable(7, dtype=tf.int64)}
        self.head = tf.Module()
        shared, own = self.encoder.layers[1].kernel, tf.Variable([1.0, -1.0])
        self.head.bias = own
        self.head.run = tf.function(
            lambda x: x @ shared + own, input_signature=[tf.TensorSpec([None, 2])]
        )
        self.rest = tf.Variable(np.arange(1000, dtype=np.float32))


@pytest.fixture(scope="module", params=["tensorflow", "savax"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    tf.saved_model.save(Model(), str(path))
    if request.param == "savax":
        again = path.parent / "again"
        sv.saved_model.save(sv.saved_model.load(path), again)
        return again
    return path


def load_by_tensorflow(directory: Path, filters: list[str]) -> Any:
    return tf.__internal__.saved_model.load_partial(str(directory), filters)


def test_a_layer_of_a_list(directory: Path) -> None:
    filters = ["root.encoder.layers.0", "root.encoder.layers.0.kernel"]
    found = sv.saved_model.load_partial(directory, filters)
    assert list(found) == filters
    np.testing.assert_allclose(found[filters[0]](X), X @ np.float32([[2, 0], [1, 2]]))
    assert found[filters[1]] is found[filters[0]].kernel


def test_only_what_is_needed_is_read(directory: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    (copied / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (copied / name).write_bytes((directory / name).read_bytes())
    name = "variables/variables.data-00000-of-00001"
    data = bytearray((directory / name).read_bytes())
    place = data.find(np.arange(1000, dtype=np.float32).tobytes())
    assert place >= 0
    data[place] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(CorruptBundleError):
        sv.saved_model.load(copied)
    found = sv.saved_model.load_partial(copied, ["root.encoder"])["root.encoder"]
    np.testing.assert_allclose(found.layers[1](X), X @ np.float32([[3, 0], [1, 3]]))


def test_captures_come_along(directory: Path) -> None:
    found = sv.saved_model.load_partial(directory, ["root.head"])["root.head"]
    whole = tf.saved_model.load(str(directory))
    np.testing.assert_allclose(found.run(X), whole.head.run(X))


def test_variables_are_those_of_tensorflow(directory: Path) -> None:
    filters = ["root.encoder.layers.1.kernel", "root.head.bias", "root.rest"]
    try:
        expected = load_by_tensorflow(directory, filters)
    except ValueError:  # it refuses some models as soon as a function captures a Variable
        whole = tf.saved_model.load(str(directory))
        values = (whole.encoder.layers[1].kernel, whole.head.bias, whole.rest)
        expected = dict(zip(filters, values, strict=True))
    found = sv.saved_model.load_partial(directory, filters)
    for path in filters:
        np.testing.assert_array_equal(found[path].numpy(), expected[path].numpy())


def test_names_with_dots(directory: Path) -> None:
    (found,) = sv.saved_model.load_partial(directory, ["root.encoder.table.a.b"]).values()
    assert found.numpy() == 7


def test_root_is_the_whole_model(directory: Path) -> None:
    (found,) = sv.saved_model.load_partial(directory, ["root"]).values()
    np.testing.assert_array_equal(found.rest.numpy(), np.arange(1000))
    np.testing.assert_allclose(
        found.head.run(X), X @ found.encoder.layers[1].kernel.numpy() + [1, -1]
    )


def test_a_part_saves_again(directory: Path, tmp_path: Path) -> None:
    (encoder,) = sv.saved_model.load_partial(directory, ["root.encoder"]).values()
    sv.saved_model.save(encoder, tmp_path / "encoder")
    found = tf.saved_model.load(str(tmp_path / "encoder"))
    np.testing.assert_allclose(found.layers[0](X), encoder.layers[0](X))


def test_slots_of_an_optimizer(tmp_path: Path) -> None:
    model = tf.keras.Sequential([tf.keras.Input([2]), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.Adam(0.1), "mse")
    model.fit(X, X[:, :1], verbose=0)
    tf.saved_model.save(model, str(tmp_path))
    (optimizer,) = sv.saved_model.load_partial(tmp_path, ["root.optimizer"]).values()
    assert optimizer._iterations.numpy() == 1
    moments = [np.asarray(v) for v in optimizer._momentums]
    for found, expected in zip(moments, model.optimizer._momentums, strict=True):
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (["encoder"], "doesn't start with 'root'"),
        (["root.nothing"], r"'root' has '.*encoder'.*"),
        (["root.encoder.layers.5"], r"'root.encoder.layers' has '0', '1'"),
        (["root.a", "root.b"], r"'root.a' .*; 'root.b' "),
    ],
    ids=["no root", "no child", "no index", "all at once"],
)
def test_wrong_paths(directory: Path, filters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="root"):
        load_by_tensorflow(directory, filters)
    with pytest.raises(InvalidArgumentError, match=message):
        sv.saved_model.load_partial(directory, filters)


def test_no_paths(directory: Path, tmp_path: Path) -> None:
    for filters in ([], "root"):
        with pytest.raises(InvalidArgumentError):
            sv.saved_model.load_partial(directory, filters)
    with pytest.raises(NotFoundError):
        sv.saved_model.load_partial(tmp_path, ["root"])


def test_version_1_has_no_objects(tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [])
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": x * 2})
    with pytest.raises(InvalidArgumentError, match="version 1"):
        sv.saved_model.load_partial(tmp_path / "m", ["root"])
