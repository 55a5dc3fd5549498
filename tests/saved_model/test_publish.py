"""Publishing: numbers, what is deleted and what never, and what lies beside the model."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from publish_stress import read, run

import savax as sx
from savax.errors import (
    InvalidArgumentError,
    KeyNotFoundError,
    NotFoundError,
    PublishError,
    UnsupportedError,
    UnsupportedPrimitiveError,
)
from savax.protos import MetaGraphDef
from savax.saved_model import latest_version, publish
from savax.saved_model._publish import MARKER
from savax.saved_model._reader import open_model
from savax.saved_model._serving_extras import warmup_records


class Model(sx.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sx.Variable(np.ones(3, np.float32))

    @sx.function(input_signature=[sx.TensorSpec([None, 3], name="x")])
    def __call__(self, x: Any) -> Any:
        return {"y": x * self.w}

    @sx.function(input_signature=[sx.TensorSpec([None], sx.string, name="text")])
    def length(self, text: Any) -> Any:
        return {"length": sx.strings.length(text)}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def put(model: Model, base: Path, **options: Any) -> int:
    path = publish(model, base, signatures=model.__call__, **options)
    assert os.path.dirname(path) == str(base)
    return int(os.path.basename(path))


def versions(base: Path) -> set[str]:
    return set(os.listdir(base))


def age(base: Path, *numbers: int, seconds: float = 10_000) -> None:
    for number in numbers:
        marker = base / str(number) / MARKER
        changed = marker.stat().st_mtime - seconds
        os.utime(marker, (changed, changed))


def test_versions_are_counted(model: Model, tmp_path: Path) -> None:
    base = tmp_path / "deep" / "model"
    assert [put(model, base), put(model, base)] == [1, 2]
    assert versions(base) == {"1", "2"}
    loaded = sx.saved_model.load(latest_version(base))
    np.testing.assert_array_equal(
        loaded.signatures["serving_default"](x=np.ones((1, 3), np.float32))["y"], 1
    )


def test_the_next_number_is_after_all_integers(model: Model, tmp_path: Path) -> None:
    for name in ("7", "0012", "best", "99x", "-50", "99999999999999999999"):
        (tmp_path / name).mkdir()
    (tmp_path / "40").write_text("a file")
    assert put(model, tmp_path) == 13
    (tmp_path / "14").write_text("a file")
    assert put(model, tmp_path) == 15


def test_a_base_without_a_further_number(model: Model, tmp_path: Path) -> None:
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(PublishError, match="no version after"):
        put(model, tmp_path)
    assert versions(tmp_path) == {str(2**63 - 1)}


def test_the_latest_version_has_a_model(model: Model, tmp_path: Path) -> None:
    assert latest_version(tmp_path) is None
    path = publish(model, tmp_path, signatures=model.__call__)
    (tmp_path / "9").mkdir()
    assert latest_version(tmp_path) == path
    with pytest.raises(NotFoundError):
        latest_version(tmp_path / "missing")


def test_old_versions_are_deleted(model: Model, tmp_path: Path) -> None:
    for _ in range(4):
        put(model, tmp_path, keep=2, grace_seconds=0)
    assert versions(tmp_path) == {"3", "4"}


def test_servers_have_time_to_change(model: Model, tmp_path: Path) -> None:
    for _ in range(3):
        put(model, tmp_path)
    age(tmp_path, 1, 2)
    put(model, tmp_path, keep=1)
    # 1 was followed by 2 long ago; 2 was the newest until 3 came, a moment ago.
    assert versions(tmp_path) == {"2", "3", "4"}


def test_what_others_made_stays(model: Model, tmp_path: Path) -> None:
    sx.saved_model.save(model, tmp_path / "1", signatures=model.__call__)
    put(model, tmp_path)
    put(model, tmp_path)
    os.rename(tmp_path / "2", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", tmp_path / "2")
    sx.saved_model.save(model, tmp_path / "3", signatures=model.__call__)  # savax's, but no publish
    put(model, tmp_path, keep=1, grace_seconds=0)
    put(model, tmp_path, keep=1, grace_seconds=0)
    assert versions(tmp_path) == {"1", "2", "3", "5", "elsewhere"}


def test_a_version_that_is_read_stays(model: Model, tmp_path: Path) -> None:
    put(model, tmp_path)
    with open_model(tmp_path / "1"):
        put(model, tmp_path, keep=1, grace_seconds=0)
        assert versions(tmp_path) == {"1", "2"}
    put(model, tmp_path, keep=1, grace_seconds=0)
    assert versions(tmp_path) == {"3"}


def test_a_version_on_its_way_out_is_not_opened(model: Model, tmp_path: Path) -> None:
    import fcntl

    put(model, tmp_path)
    fd = os.open(tmp_path / "1", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def move() -> None:
        os.rename(tmp_path / "1", tmp_path / "old")
        os.close(fd)

    mover = threading.Timer(0.1, move)
    mover.start()
    try:
        with pytest.raises(NotFoundError), open_model(tmp_path / "1"):
            pass
    finally:
        mover.join()


@pytest.mark.parametrize("keep", [0, -1, 1.5, True, "2"])
def test_wrong_numbers_to_keep(model: Model, tmp_path: Path, keep: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="keep is"):
        put(model, tmp_path / "base", keep=keep)
    assert versions(tmp_path) == set()


def test_a_model_that_can_not_be_saved_leaves_nothing(tmp_path: Path) -> None:
    class Broken(sx.Module):
        @sx.function(input_signature=[sx.TensorSpec([2])])
        def f(self, x: Any) -> Any:
            import jax

            return jax.pure_callback(lambda v: v, x, x)

    with pytest.raises(UnsupportedPrimitiveError):
        publish(Broken(), tmp_path)
    assert versions(tmp_path) == set()


def test_bases_that_are_no_directories(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for base in ("file", "file/below"):
        with pytest.raises(PublishError, match="no directory"):
            put(model, tmp_path / base)
    with pytest.raises(UnsupportedError):
        publish(model, "gs://bucket/model")


def records(path: Path) -> list[bytes]:
    """Reads a TFRecord file and checks its checksums by the format's definition."""

    def masked(part: bytes) -> int:
        crc = google_crc32c.value(part)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        record = data[12 : 12 + length]
        assert struct.unpack_from("<I", data, 8) == (masked(data[:8]),)
        assert struct.unpack_from("<I", data, 12 + length) == (masked(record),)
        found.append(record)
        data = data[16 + length :]
    return found


# From the official messages: PredictionLog(predict_log=PredictLog(request=PredictRequest(...))) of
# the model "m" and its signature "serving_default", with "x" = float32 [[1, 2, 3]].
GOLDEN = (
    "32390a370a140a016d1a0f73657276696e675f64656661756c74121f0a0178121a08011208120208"
    "0112020803220c0000803f0000004000004040"
)


def test_warmup_requests_have_the_official_bytes(model: Model, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put(model, base, warmup=[{"x": [[1, 2, 3]]}])
    (record,) = records(base / "1" / "assets.extra" / "tf_serving_warmup_requests")
    assert record.hex() == GOLDEN


def test_warmup_requests_for_several_signatures(model: Model, tmp_path: Path) -> None:
    path = publish(
        model,
        tmp_path,
        signatures={"number": model.__call__, "text": model.length},
        warmup={
            "text": [{"text": ["ü", "a"]}],
            "number": [{"x": np.zeros((n, 3), np.float32)} for n in (0, 1, 8)],
        },
    )
    found = records(Path(path) / "assets.extra" / "tf_serving_warmup_requests")
    assert [b"number" in record for record in found] == [True, True, True, False]
    assert "ü".encode() in found[3]


def test_samples_that_do_not_fit_publish_nothing(model: Model, tmp_path: Path) -> None:
    x = np.zeros((1, 3), np.float32)
    for samples, error, message in (
        ([{"z": x}], KeyNotFoundError, "'z'"),
        ([{}], InvalidArgumentError, "lacks the inputs ['x']"),
        ([x], InvalidArgumentError, "a sample is a dict"),
        ([{"x": x}, {"x": x[:, :2]}], InvalidArgumentError, "Sample 1 for 'serving_default'"),
        ([{"x": x.astype(np.float64)}], InvalidArgumentError, "float64"),
        ({"other": []}, KeyNotFoundError, "no signature 'other'"),
        ([{"x": x}] * 1001, InvalidArgumentError, "1001 samples"),
    ):
        with pytest.raises(error) as caught:
            put(model, tmp_path, warmup=samples)
        assert message in str(caught.value)
    assert versions(tmp_path) == set()


def test_no_samples_make_an_empty_file(model: Model, tmp_path: Path) -> None:
    put(model, tmp_path, warmup=[])
    assert records(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests") == []
    put(model, tmp_path)
    assert os.listdir(tmp_path / "2" / "assets.extra") == ["README.md"]


def test_official_messages_read_the_requests(tmp_path: Path) -> None:
    """Runs where tensorflow-serving-api is installed."""
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    meta_graph = MetaGraphDef()
    signature = meta_graph.signature_def["k"]
    for name, dtype in (("x", 1), ("s", 7), ("n", 9), ("b", 14)):
        signature.inputs[name].dtype = dtype
        signature.inputs[name].tensor_shape.unknown_rank = True
    values = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "s": np.array([b"a\xff", b""], object),
        "n": np.array(2**40),
        "b": np.ones(2, sx.bfloat16.numpy_dtype),
    }
    (record,) = warmup_records(meta_graph, {"k": [values]}, "the model")
    log = logs.PredictionLog.FromString(record)
    request = log.predict_log.request
    assert request.model_spec.name == "the model"
    assert request.model_spec.signature_name == "k"
    from tensorflow import make_ndarray

    assert request.inputs.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(make_ndarray(request.inputs[name]), value)


def test_the_card_says_what_the_model_takes(model: Model, tmp_path: Path) -> None:
    put(model, tmp_path / "net|`1", description="Scales.\n\nBy *ones*.")
    text = (tmp_path / "net|`1" / "1" / "assets.extra" / "README.md").read_text()
    assert text.startswith(
        "# net  1\n\nScales.\n\nBy *ones*.\n\n- Format: SavedModel, tags serve\n"
    )
    assert "- Variables and state: 1 tensors, 3 elements" in text
    assert "## Signature `serving_default`" in text
    assert "| input | `x` | float32 | [any, 3] |" in text
    assert "| output | `y` | float32 | [any, 3] |" in text


def test_publishing_the_same_gives_the_same_bytes(model: Model, tmp_path: Path) -> None:
    put(model, tmp_path, warmup=[{"x": [[1, 2, 3]]}])
    put(model, tmp_path, warmup=[{"x": [[1, 2, 3]]}])
    files = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*")]
    assert len(files) > 6
    files.remove(Path("fingerprint.pb"))  # it has a random id
    for file in files:
        if (tmp_path / "1" / file).is_file():
            first, second = (tmp_path / version / file for version in ("1", "2"))
            assert first.read_bytes() == second.read_bytes(), file


def test_leftovers_of_a_killed_publisher_are_removed(model: Model, tmp_path: Path) -> None:
    code = (
        "import os, signal, savax as sx, savax.saved_model._publish as p\n"
        "p.write_extras = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "m = sx.Module(); m.f = sx.function(lambda x: x, input_signature=[sx.TensorSpec([])])\n"
        f"sx.saved_model.publish(m, {str(tmp_path)!r})"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert killed.returncode == -9
    (leftover,) = versions(tmp_path)
    assert leftover.startswith(".version.savax-")
    assert latest_version(tmp_path) is None
    put(model, tmp_path)
    assert versions(tmp_path) == {"1"}


def test_publishers_and_readers_at_once_with_kills(tmp_path: Path) -> None:
    counts = run(str(tmp_path), seconds=3, publishers=4, readers=3, keep=2)
    assert counts["publish"] >= 2
    assert counts["kills"] >= 1
    assert counts["read"] >= 1
    numbers = [name for name in versions(tmp_path) if not name.startswith(".")]
    assert len(numbers) >= 2
    assert all(read(str(tmp_path), str(tmp_path / name)) is not None for name in numbers)
