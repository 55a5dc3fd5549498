"""Models at URLs: what a local directory can do, and what readers see while one is replaced."""

from __future__ import annotations

import gc
import glob
import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sx
from savax.errors import (
    CorruptSavedModelError,
    NotFoundError,
    RemoteStorageError,
)
from savax.saved_model import SaveOptions, contains_saved_model, load, save
from savax.saved_model import _remote_models as remote_module
from savax.saved_model.cli import main
from savax.saved_model.experimental import read_fingerprint

fsspec = pytest.importorskip("fsspec")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "memory://models/m"
X = np.float32([1, 2, 3])


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store, and a folder for temporary files that is empty afterwards."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    gc.collect()
    assert os.listdir(tmp_path / "temporary") == []


class Model(sx.Module):
    def __init__(self, factor: float = 2.0, vocabulary: Any = None) -> None:
        super().__init__()
        self.w = sx.Variable(np.float32(factor))
        self.steps = sx.Variable(np.int64(2**40))
        self.empty = sx.Variable(np.zeros((0, 3), np.float32))
        if vocabulary is not None:
            self.file = sx.saved_model.Asset(vocabulary)

    @sx.function(input_signature=[sx.TensorSpec([None], sx.float32)])
    def __call__(self, x):
        return x * self.w.value


def names(store: Any) -> list[str]:
    return sorted(path.removeprefix("/models/m/") for path in store.find("models/m"))


@pytest.mark.parametrize("form", ["pb", "pbtxt", "cpb"])
def test_round_trip(form: str, memory: Any) -> None:
    options = SaveOptions(as_text=form == "pbtxt", experimental_image_format=form == "cpb")
    assert not contains_saved_model(URL)
    with pytest.raises(NotFoundError, match=URL):
        load(URL)
    save(Model(3.0), URL, options=options)
    assert contains_saved_model(URL)
    loaded = load(URL)
    np.testing.assert_array_equal(loaded(X), X * 3)
    np.testing.assert_array_equal(loaded(X[:0]), X[:0])
    assert loaded.steps.numpy() == 2**40
    assert names(memory) == [
        "fingerprint.pb",
        f"saved_model.{form}",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    checkpoint = sx.train.Checkpoint(Model(0.0))
    checkpoint.restore(URL).expect_partial()
    assert float(checkpoint.root.w) == 3


def test_assets_live_as_long_as_what_uses_them(tmp_path: Path, memory: Any) -> None:
    (tmp_path / "ü.txt").write_bytes(b"a\nb\n\xff")
    save(Model(1.0, tmp_path / "ü.txt"), URL)
    memory.pipe_file("models/m/assets.extra/kept.txt", b"kept")
    asset = load(URL).file
    gc.collect()
    with open(asset, "rb") as file:
        assert file.read() == b"a\nb\n\xff"
    kept = os.listdir(os.path.dirname(os.path.dirname(asset.asset_path)))
    assert kept == ["assets"]
    save(load(URL), URL)
    (tmp_path / "other").write_text("c")
    save(Model(2.0, tmp_path / "other"), URL)
    assert names(memory)[:2] == ["assets.extra/kept.txt", "assets/other"]
    save(Model(2.0), URL)
    assert not [name for name in names(memory) if name.startswith("assets/")]


def test_tables_read_their_files_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    root = sx.Module()
    initializer = sx.lookup.TextFileInitializer(
        *(str(tmp_path / "words.txt"), sx.string, sx.lookup.TextFileIndex.WHOLE_LINE),
        *(sx.int64, sx.lookup.TextFileIndex.LINE_NUMBER),
    )
    root.table = sx.lookup.StaticHashTable(initializer, -1)

    @sx.function(input_signature=[sx.TensorSpec([None], sx.string)])
    def find(words):
        return root.table.lookup(words)

    root.find = find
    save(root, URL)
    find_loaded = load(URL).find
    gc.collect()
    assert np.asarray(find_loaded(np.array(["b", "?"], object))).tolist() == [1, -1]


def test_what_reads_models_reads_them_at_urls(
    memory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Model(3.0), URL)
    save(Model(3.0), tmp_path / "m")
    singleprints = {read_fingerprint(place).singleprint() for place in (URL, tmp_path / "m")}
    assert len(singleprints) == 1
    assert main(["show", URL, "--all"]) == 0
    assert "serving_default" in capsys.readouterr().out


def test_convert_from_and_to_urls(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    save(Model(3.0), URL)
    memory.pipe_file("models/m/assets.extra/kept.txt", b"kept")
    assert main(["convert", URL, "memory://models/text", "--to", "pbtxt"]) == 0
    assert contains_saved_model("memory://models/text")
    assert memory.cat_file("models/text/assets.extra/kept.txt") == b"kept"
    assert load("memory://models/text").w.numpy() == 3
    capsys.readouterr()
    for target, message in (
        ("memory://models/text", "isn't empty"),
        (f"{URL}/inside", "is inside"),
        (f"{URL}/", "replace itself"),
    ):
        assert main(["convert", URL, target]) != 0
        assert message in capsys.readouterr().err
    assert main(["convert", "memory://models/none", "memory://models/x"]) != 0
    assert "no SavedModel" in capsys.readouterr().err


def test_models_of_version_1(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a")
    v1 = sx.compat.v1
    builder = v1.saved_model.Builder("memory://models/v1")
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(sx.float32, [None], name="x")
        w = v1.get_variable("w", initializer=np.float32(4))
        y = x * w
        v1.add_to_collection(
            v1.GraphKeys.ASSET_FILEPATHS, v1.constant(str(tmp_path / "words").encode())
        )
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
        assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, assets_collection=assets
        )
    assert not contains_saved_model("memory://models/v1")
    builder.save()
    assert memory.cat_file("models/v1/assets/words") == b"a"
    with pytest.raises(AssertionError, match="isn't empty"):
        v1.saved_model.Builder("memory://models/v1")
    loaded = load("memory://models/v1")
    np.testing.assert_array_equal(loaded.signatures["serving_default"](x=X)["y"], X * 4)
    gc.collect()
    assert [os.path.basename(path) for path in map(str, loaded.asset_paths)] == ["words"]
    with v1.Graph().as_default(), v1.Session() as session:
        v1.saved_model.loader.load(session, ["serve"], "memory://models/v1")
        np.testing.assert_array_equal(session.run(y.name, {"x:0": X}), X * 4)
    assert not os.path.exists("memory:")


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a")
    save(Model(1.0, tmp_path / "words"), URL)
    loaded = load(URL)
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        loaded.file._owner.remove()
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.path.exists(loaded.file)


class StoppedError(Exception):
    """The process ends here."""


def seen() -> float | None:
    """What a reader gets: a model's factor, or nothing."""
    try:
        return float(load(URL).w)
    except NotFoundError:
        return None


def test_readers_find_the_old_model_none_or_the_new_one_wherever_a_save_ends(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    (tmp_path / "a").write_text("a")
    originals = {name: getattr(remote_module, name) for name in ("_send", "delete_object")}
    last = 10**6

    def counted(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal steps
            if steps == last:
                raise StoppedError
            steps += 1
            return originals[name](*arguments)

        return call

    for name in originals:
        monkeypatch.setattr(remote_module, name, counted(name))
    save(Model(1.0, tmp_path / "a"), URL)
    first = steps
    found = []
    for before in (False, True):
        last = 0
        while True:
            memory.store.clear()
            steps, allowed, last = 0, last, 10**6
            if before:
                save(Model(1.0, tmp_path / "a"), URL)
            steps, last = 0, allowed
            try:
                save(Model(2.0, tmp_path / "a"), URL)
            except StoppedError:
                found.append((before, seen()))
                last += 1
                continue
            assert seen() == 2
            break
    fresh = [value for before, value in found if not before]
    replaced = [value for before, value in found if before]
    assert fresh == [None] * first
    assert replaced[0] == 1
    assert set(replaced) == {1, None, 2}
    assert replaced == sorted(replaced, key=[1, None, 2].index)
    # The data of the Variables is sent while the old model is whole.
    assert replaced.count(1) >= 2


def test_a_failure_of_the_store_is_told(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Model(1.0), URL)

    def refuse(*_: Any) -> None:
        raise RemoteStorageError("no")

    monkeypatch.setattr(remote_module, "delete_object", refuse)
    with pytest.raises(RemoteStorageError) as caught:
        save(Model(2.0), URL)
    assert "older model" in caught.value.__notes__[0]


def test_what_cannot_be_saved_changes_nothing(memory: Any) -> None:
    save(Model(1.0), URL)
    before = {name: memory.cat_file(f"models/m/{name}") for name in names(memory)}
    with pytest.raises(ValueError, match="input_signature"):
        save(Model(2.0), URL, signatures=lambda x: x)
    assert {name: memory.cat_file(f"models/m/{name}") for name in names(memory)} == before


def test_a_model_that_changes_while_it_is_copied_is_copied_again(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Model(1.0), URL)
    count = 0

    def changed(self: Any) -> None:
        nonlocal count
        count += 1
        if count <= changes:
            raise remote_module.CorruptBundleError("it changed")

    monkeypatch.setattr(remote_module.RemoteSource, "check_unchanged", changed)
    changes = 3
    assert seen() == 1
    count, changes = 0, 100
    with pytest.raises(CorruptSavedModelError, match="changes while it is read"):
        load(URL)


def test_names_from_the_store_stay_inside(memory: Any, tmp_path: Path) -> None:
    save(Model(1.0), URL)
    for name in ("assets/../../../escaped", "assets/..", "variables/\0x"):
        memory.store[f"/models/m/{name}"] = memory.store["/models/m/fingerprint.pb"]
    assert seen() == 1
    assert not glob.glob(str(tmp_path / "**" / "escaped"), recursive=True)
