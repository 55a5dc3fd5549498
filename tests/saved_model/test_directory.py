"""Where a model is written, what is kept there, and what a save that fails leaves behind."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import Any

import jax
import numpy as np
import pytest

import savax as sv
from savax.errors import (
    MissingDependencyError,
    PublishError,
    UnsupportedError,
    UntrackedDependencyError,
)
from savax.saved_model import _directory, contains_saved_model, load, save
from savax.saved_model._directory import publish_directory
from savax.trackable.bundle import _remote
from tests.work_counter import calls_during


def module(value: float = 1.0) -> Any:
    m = sv.Module()
    m.v = sv.Variable(value)
    m.f = sv.function(lambda x: x * m.v, input_signature=[sv.TensorSpec([], sv.float32)])
    return m


def value_in(path: Any) -> float:
    model = load(path)
    value = float(model.v.numpy())
    assert float(model.f(2.0)) == 2 * value
    return value


def tree(path: Any) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_parents_are_made(tmp_path) -> None:
    save(module(), tmp_path / "a" / "b" / "model")
    assert value_in(tmp_path / "a" / "b" / "model") == 1
    assert os.listdir(tmp_path / "a" / "b") == ["model"]


def test_relative_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(module(), "model")
    assert value_in("model") == 1
    assert value_in("./model/") == 1
    assert contains_saved_model("model")


def test_overwriting_keeps_what_is_not_the_models(tmp_path) -> None:
    path = tmp_path / "model"
    save(module(1.0), path)
    (path / "assets.extra" / "deep").mkdir(parents=True)
    (path / "assets.extra" / "deep" / "warmup").write_text("requests")
    (path / "README").write_text("mine")
    (path / "assets" / "old.txt").write_text("the model's")
    (path / "debug").mkdir()
    (path / "debug" / "saved_model_debug_info.pb").write_text("the old model's")
    (path / "saved_model.pbtxt").write_text("the old model's")
    os.symlink("README", path / "link")
    save(module(2.0), path)
    assert value_in(path) == 2
    assert (path / "assets.extra" / "deep" / "warmup").read_text() == "requests"
    assert (path / "README").read_text() == "mine"
    assert os.readlink(path / "link") == "README"
    assert sorted(os.listdir(path)) == [
        *("README", "assets", "assets.extra", "fingerprint.pb", "link", "saved_model.pb"),
        "variables",
    ]
    assert os.listdir(path / "assets") == []
    assert os.listdir(tmp_path) == ["model"]


def test_a_directory_that_holds_no_model(tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    save(module(), tmp_path / "notes")
    assert value_in(tmp_path / "notes") == 1
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_through_a_symbolic_link(tmp_path) -> None:
    save(module(1.0), tmp_path / "real")
    os.symlink("real", tmp_path / "link")
    save(module(2.0), tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "real"
    assert value_in(tmp_path / "real") == value_in(tmp_path / "link") == 2


def test_through_a_dangling_link(tmp_path) -> None:
    os.symlink("real", tmp_path / "link")
    save(module(2.0), tmp_path / "link")
    assert value_in(tmp_path / "real") == 2


def test_a_file_is_no_place_for_a_model(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(PublishError):
            save(module(), path)
    assert tree(tmp_path) == {"file": b"mine"}


def test_permissions_follow_the_umask(tmp_path) -> None:
    old = os.umask(0o027)
    try:
        save(module(), tmp_path / "model")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "model").st_mode) == 0o750
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index"):
        assert stat.S_IMODE(os.stat(tmp_path / "model" / name).st_mode) == 0o640, name
    assert stat.S_IMODE(os.stat(tmp_path / "model" / "variables").st_mode) == 0o750


def test_an_existing_directory_keeps_its_mode(tmp_path) -> None:
    (tmp_path / "model").mkdir(mode=0o700)
    save(module(), tmp_path / "model")
    assert stat.S_IMODE(os.stat(tmp_path / "model").st_mode) == 0o700


def untracked() -> Any:
    m, lost = sv.Module(), sv.Variable(1.0, name="lost")
    m.f = sv.function(lambda x: x * lost, input_signature=[sv.TensorSpec([], sv.float32)])
    return m


def unsupported() -> Any:
    def f(x):
        return jax.lax.linalg.schur(x)

    m = sv.Module()
    m.f = sv.function(f, input_signature=[sv.TensorSpec([3, 3], sv.float32)])
    return m


def without_asset() -> Any:
    m = sv.Module()
    m.file = sv.saved_model.Asset("/nowhere/at/all")
    return m


def without_value() -> Any:
    m, unwritable = module(), object()
    m.g = sv.function(lambda x, how=unwritable: x)
    m.g(np.ones(2, np.float32))
    return m


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (untracked, UntrackedDependencyError),
        (unsupported, UnsupportedError),
        (without_asset, FileNotFoundError),
        (without_value, TypeError),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_save_that_fails_changes_nothing(make, error, exists, tmp_path) -> None:
    path = tmp_path / "model"
    if exists:
        save(module(7.0), path)
        (path / "mine").write_text("kept")
    before = tree(tmp_path)
    with pytest.raises(error):
        save(make(), path)
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == (["model"] if exists else [])


def test_all_untracked_variables_are_named(tmp_path) -> None:
    m = sv.Module()
    lost = [sv.Variable(1.0, name=f"lost{i}") for i in range(3)]
    m.inner = sv.Module()
    m.inner.f = sv.function(lambda: lost[0].value + lost[1], input_signature=[])
    m.g = sv.function(lambda: lost[2].value, input_signature=[])
    with pytest.raises(AssertionError) as error:
        save(m, tmp_path / "model")
    for text in ("lost0", "lost1", "lost2", "root.inner.f", "root.g"):
        assert text in str(error.value)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables.index"])
def test_a_full_disk_changes_nothing(name, tmp_path, monkeypatch) -> None:
    save(module(7.0), tmp_path / "model")
    before = tree(tmp_path)
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        save(module(8.0), tmp_path / "model")
    monkeypatch.undo()
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == ["model"]


def fill(text: str) -> Any:
    def build(path: str) -> None:
        os.mkdir(os.path.join(path, "variables"))
        for name in ("saved_model.pb", "variables/variables.index"):
            with open(os.path.join(path, name), "w") as file:
                file.write(text)

    return build


@pytest.fixture(params=["exchange", "two_renames", "in_place"])
def way(request, monkeypatch) -> str:
    """Each way in which a directory is replaced."""
    if request.param != "exchange":
        monkeypatch.setattr(_directory, "_exchange", lambda first, second: False)
    if request.param == "in_place":
        monkeypatch.setattr(os.path, "ismount", lambda path: True)
    return str(request.param)


def test_every_way_of_replacing(way, tmp_path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    publish_directory(path, fill("old"))
    (path / "mine").write_text("kept")
    (path / "saved_model.pbtxt").write_text("old")
    (path / "debug").mkdir()
    publish_directory(path, fill("new"))
    assert tree(path) == {
        "mine": b"kept",
        "saved_model.pb": b"new",
        "variables/variables.index": b"new",
    }
    assert sorted(os.listdir(path)) == ["mine", "saved_model.pb", "variables"]
    assert os.listdir(tmp_path) == ["model"]


def test_every_way_leaves_the_old_model_if_building_fails(way, tmp_path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    publish_directory(path, fill("old"))

    def build(work: str) -> None:
        fill("new")(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_directory(path, build)
    assert set(tree(path).values()) == {b"old"}
    assert os.listdir(tmp_path) == ["model"]


def test_a_parent_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    path = tmp_path / "model"
    publish_directory(path, fill("old"))
    real = os.mkdir

    def mkdir(name: Any, *args: Any, **kwargs: Any) -> None:
        if os.path.dirname(name) == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        real(name, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", mkdir)
    publish_directory(path, fill("new"))
    assert set(tree(path).values()) == {b"new"}
    with pytest.raises(PublishError, match="can't be written"):
        publish_directory(tmp_path / "other", fill("new"))
    assert os.listdir(tmp_path) == ["model"]


def test_a_crash_between_two_renames_is_repaired(tmp_path) -> None:
    path = tmp_path / "model"
    save(module(3.0), path)
    os.rename(path, tmp_path / ".model.savax-old-0123456789abcdef")
    assert value_in(path) == 3
    os.rename(path, tmp_path / ".model.savax-old-0123456789abcdef")
    save(module(4.0), path)
    assert value_in(path) == 4
    assert os.listdir(tmp_path) == ["model"]


def test_work_of_a_dead_writer_is_removed(tmp_path) -> None:
    dead = tmp_path / ".model.savax-0123456789abcdef"
    dead.mkdir()
    (dead / "owner").touch()
    (dead / "model").mkdir()
    save(module(), tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


def test_loading_while_others_save(tmp_path) -> None:
    path = tmp_path / "model"
    save(module(0.0), path)
    done = threading.Event()

    def write() -> None:
        models = [module(float(i)) for i in range(4)]
        while not done.is_set():
            for m in models:
                save(m, path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            assert value_in(path) in range(4)
    finally:
        done.set()
        writer.join()


def test_saving_and_loading_take_linear_work(tmp_path) -> None:
    def work(count: int) -> int:
        m = sv.Module()
        m.list = [sv.Variable(np.float32(i), name="v") for i in range(count)]
        spec = [sv.TensorSpec([], sv.float32)]
        m.f = sv.function(lambda x: x + m.list[0], input_signature=spec)
        m.f.get_concrete_function()
        return calls_during(lambda: (save(m, tmp_path / "m"), load(tmp_path / "m")))

    work(10)  # what is done once in a process doesn't count
    assert work(2000) < 12 * work(200)


def test_a_missing_package_for_a_url_is_named(tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(_remote.importlib, "import_module", missing)
    for action in (
        lambda: save(module(), "gs://bucket/model"),
        lambda: load("gs://bucket/model"),
        lambda: contains_saved_model("gs://bucket/model"),
    ):
        with pytest.raises(MissingDependencyError, match=r"gs://bucket/model.*savax\[remote\]"):
            action()
    save(module(), f"file://{tmp_path}/model")
    assert contains_saved_model(tmp_path / "model")
    assert value_in(f"file://{tmp_path}/model") == 1.0
