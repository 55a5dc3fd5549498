"""Writing in the background: one at a time, errors seen once, nothing lost at exit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import NotEncodableError, TrackingError, UnsupportedError
from savax.trackable import AutoTrackable, Trackable, Variable
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint import (
    Checkpoint,
    CheckpointManager,
    CheckpointOptions,
    PythonState,
    get_checkpoint_state,
    latest_checkpoint,
    load_variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.trackable.checkpoint.conftest import Gate

ASYNC = CheckpointOptions(enable_async=True)
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.mark.parametrize("name", ["enable_async", "experimental_enable_async_checkpoint"])
def test_the_option_returns_at_once(name: str, tmp_path: Path, gate: Gate) -> None:
    options = CheckpointOptions(**{name: True})  # type: ignore[arg-type]
    assert options.enable_async
    checkpoint = Checkpoint(v=Variable(7))
    assert checkpoint.save(tmp_path / "c", options) == str(tmp_path / "c-1")
    assert checkpoint.save_counter == 1
    assert gate.reached.wait(30)
    assert names(tmp_path) == []
    assert latest_checkpoint(tmp_path) is None
    gate.open()
    checkpoint.sync()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "c-1")
    assert load_variable(tmp_path / "c-1", "v" + VALUE) == 7
    assert load_variable(tmp_path / "c-1", "save_counter" + VALUE) == 1
    assert checkpoint.write(tmp_path / "w", options) == str(tmp_path / "w")
    checkpoint.sync()
    assert load_variable(tmp_path / "w", "v" + VALUE) == 7


def test_what_is_written_is_what_is_written_at_once(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(np.arange(100000.0)), s=Variable("text"), n=[Variable(1)])
    checkpoint.write(tmp_path / "a")
    assert checkpoint.write_async(tmp_path / "b").result(30) == str(tmp_path / "b")
    for end in (".index", ".data-00000-of-00001"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


class Owner(Trackable):
    """Hands out its own array, and a list."""

    def __init__(self) -> None:
        self.array, self.list = np.zeros(3), [1, 2]

    def _serialize_to_tensors(self) -> dict[str, Any]:
        view = self.array[:]
        view.flags.writeable = False  # no promise: the array behind it can change
        return {"array": self.array, "view": view, "list": self.list, "text": "abc"}


class Words(PythonState):
    def __init__(self) -> None:
        self.words = ["a"]

    def serialize(self) -> str:
        return " ".join(self.words)

    def deserialize(self, string_value: bytes) -> None:
        self.words = string_value.decode().split()


def test_values_are_those_at_the_call(tmp_path: Path, gate: Gate) -> None:
    root = AutoTrackable()
    root.v, root.s = Variable(np.zeros(3)), Variable(["x", "y"])
    root.owner, root.words, root.list = Owner(), Words(), [Variable(1)]
    checkpoint = Checkpoint(root)
    future = checkpoint.save_async(tmp_path / "c")
    root.v.assign([1, 2, 3])
    root.s.assign(["changed", "too"])
    root.owner.array[:] = 5
    root.owner.list.append(3)
    root.words.words.append("b")
    root.list.append(Variable(2))
    checkpoint.save_counter.assign(9)
    del root.v
    gate.open()
    prefix = future.result(30)
    for attribute in ("array", "view"):
        stored = load_variable(prefix, f"owner/.ATTRIBUTES/{attribute}")
        np.testing.assert_array_equal(stored, np.zeros(3))
    assert load_variable(prefix, "owner/.ATTRIBUTES/list").tolist() == [1, 2]
    assert load_variable(prefix, "owner/.ATTRIBUTES/text") == b"abc"
    assert load_variable(prefix, "words/.ATTRIBUTES/py_state") == b"a"
    assert load_variable(prefix, "s" + VALUE).tolist() == [b"x", b"y"]
    assert load_variable(prefix, "v" + VALUE).tolist() == [0, 0, 0]
    assert load_variable(prefix, "save_counter" + VALUE) == 1
    with BundleReader(prefix) as reader:
        assert "list/1" + VALUE not in reader


def in_thread(call: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        pool.shutdown(wait=False)
    return future


@pytest.mark.parametrize("call", ["save", "write_async", "sync", "read", "compare"])
def test_the_next_call_waits(call: str, tmp_path: Path, gate: Gate) -> None:
    v = Variable(1)
    checkpoint = Checkpoint(v=v)
    prefix = checkpoint.write(tmp_path / "c", ASYNC)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    argument = tmp_path / ("c" if call in ("read", "compare") else "d")
    arguments = () if call == "sync" else (argument,)
    later = pool.submit(getattr(checkpoint, call), *arguments)
    assert gate.reached.wait(30)
    time.sleep(0.05)
    assert not later.done()
    assert gate.number == 1
    gate.open()
    later.result(30)
    pool.shutdown()
    checkpoint.sync()
    assert load_variable(prefix, "v" + VALUE) == 1


def test_threads_take_turns(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(np.zeros(1000)))
    manager = CheckpointManager(checkpoint, tmp_path, max_to_keep=2)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        saves = [pool.submit(manager.save, options=ASYNC) for _ in range(12)]
        prefixes = [save.result(60) for save in saves]
    manager.sync()
    assert len(set(prefixes)) == 12
    assert checkpoint.save_counter == 12
    assert manager.checkpoints == [str(tmp_path / f"ckpt-{n}") for n in (11, 12)]
    assert [name for name in names(tmp_path) if name.endswith(".index")] == [
        "ckpt-11.index",
        "ckpt-12.index",
    ]


@pytest.mark.parametrize("call", ["save", "save_async", "write", "read", "restore", "compare"])
def test_errors_surface_at_the_next_call_and_once(call: str, tmp_path: Path, failing: Gate) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    checkpoint.save(tmp_path / "bad", ASYNC)
    with pytest.raises(OSError, match="No space") as caught:
        getattr(checkpoint, call)(tmp_path / "good")
    assert "bad-1" in caught.value.__notes__[0]
    failing.error = None
    assert checkpoint.save_counter == 1  # neither counted nor taken back
    checkpoint.write(tmp_path / "good")
    checkpoint.sync()
    assert names(tmp_path) == ["good.data-00000-of-00001", "good.index"]


def test_an_error_that_was_asked_for_is_not_raised_again(tmp_path: Path, failing: Gate) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    future = checkpoint.write_async(tmp_path / "bad")
    assert future.exception(30) is failing.full
    checkpoint.sync()
    with pytest.raises(OSError, match="No space"):
        future.result()


def test_the_counter_after_errors(tmp_path: Path, gate: Gate) -> None:
    v = Variable(1)
    checkpoint = Checkpoint(v=v)
    gate.open(gate.full)
    assert checkpoint.save(tmp_path / "c", ASYNC) == str(tmp_path / "c-1")
    with pytest.raises(OSError, match="No space"):
        checkpoint.sync()
    # The name was returned, so no other checkpoint gets it.
    assert checkpoint.save_counter == 1
    assert latest_checkpoint(tmp_path) is None
    gate.error = None
    assert checkpoint.save(tmp_path / "c", ASYNC) == str(tmp_path / "c-2")
    gate.error = gate.full
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path / "c")
    assert checkpoint.save_counter == 2  # nothing was returned
    gate.error = None
    assert checkpoint.save(tmp_path / "c") == str(tmp_path / "c-3")


def test_errors_in_values_are_raised_by_the_call(tmp_path: Path) -> None:
    class Odd(Trackable):
        def _serialize_to_tensors(self) -> dict[str, Any]:
            raise NotEncodableError("odd")

    checkpoint = Checkpoint(odd=Odd())
    with pytest.raises(NotEncodableError, match="odd"):
        checkpoint.save_async(tmp_path / "c")
    assert checkpoint.save_counter == 0
    tracked = AutoTrackable()
    tracked.list = [Variable(1)]
    tracked.list.insert(0, Variable(2))
    checkpoint = Checkpoint(tracked)
    with pytest.raises(TrackingError):
        checkpoint.save(tmp_path / "c", ASYNC)
    assert checkpoint.save_counter == 0
    checkpoint.sync()


def test_futures(tmp_path: Path, gate: Gate) -> None:
    future = Checkpoint(v=Variable(1)).save_async(tmp_path / "c")
    assert isinstance(future, concurrent.futures.Future)
    assert future.prefix == str(tmp_path / "c-1")
    assert future.running()
    assert not future.done()
    assert not future.cancel()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    seen: list[str] = []
    future.add_done_callback(lambda done: seen.append(done.result()))
    gate.open()
    done, _ = concurrent.futures.wait([future], timeout=30)
    assert done == {future}
    assert future.result() == future.prefix
    assert future.exception() is None

    async def wait() -> str:
        return await asyncio.wrap_future(future)

    assert asyncio.run(wait()) == future.prefix
    assert seen == [future.prefix]


def test_managers_take_note_when_it_is_complete(tmp_path: Path, gate: Gate) -> None:
    gate.open()
    checkpoint = Checkpoint(v=Variable(1))
    manager = CheckpointManager(checkpoint, tmp_path, max_to_keep=1)
    first = manager.save()
    gate.opened.clear()
    gate.reached.clear()
    second = manager.save(options=ASYNC)
    assert gate.reached.wait(30)
    assert manager.latest_checkpoint == latest_checkpoint(tmp_path) == first
    assert manager.checkpoints == [first]
    assert os.path.exists(f"{first}.index")
    gate.open()
    manager.sync()
    assert manager.latest_checkpoint == latest_checkpoint(tmp_path) == second
    assert manager.checkpoints == [second]
    assert not os.path.exists(f"{first}.index")


def test_managers_wait_before_they_restore(tmp_path: Path, gate: Gate) -> None:
    v = Variable(1)
    manager = CheckpointManager(Checkpoint(v=v), tmp_path, max_to_keep=1)
    manager.save(options=ASYNC)
    v.assign(2)
    threading.Timer(0.05, gate.open).start()
    assert manager.restore_or_initialize() == str(tmp_path / "ckpt-1")
    assert v == 1


def test_a_step_that_failed_is_saved_again(tmp_path: Path, gate: Gate) -> None:
    step = Variable(0)
    checkpoint = Checkpoint(step=step)
    manager = CheckpointManager(
        checkpoint, tmp_path, max_to_keep=2, step_counter=step, checkpoint_interval=3
    )
    future = manager.save_async()
    assert future is not None
    step.assign(1)
    assert manager.save_async() is None  # not due, since step 0 is being saved
    gate.open(gate.full)
    concurrent.futures.wait([future])
    with pytest.raises(OSError, match="No space"):
        manager.save()
    assert manager.checkpoints == []
    assert get_checkpoint_state(tmp_path) is None
    gate.error = None
    assert manager.save(options=ASYNC) == str(tmp_path / "ckpt-2")
    manager.sync()
    assert manager.save() is None
    state = get_checkpoint_state(tmp_path)
    assert state is not None
    assert list(state.all_model_checkpoint_paths) == manager.checkpoints


def test_errors_surface_also_when_it_is_not_time_for_a_checkpoint(
    tmp_path: Path, gate: Gate
) -> None:
    step = Variable(0)
    manager = CheckpointManager(
        Checkpoint(step=step), tmp_path, None, step_counter=step, checkpoint_interval=3
    )
    gate.open()
    manager.save()
    step.assign(1)
    gate.error = gate.full
    future = manager.save_async(check_interval=False)
    assert future is not None
    concurrent.futures.wait([future])
    with pytest.raises(OSError, match="No space"):
        manager.save()
    assert manager.save() is None


def test_the_working_directory_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    for name in ("there", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "there")
    checkpoint = Checkpoint(v=Variable(1))
    manager = CheckpointManager(checkpoint, "run", max_to_keep=1)
    gate.open()
    assert manager.save() == "run/ckpt-1"
    gate.opened.clear()
    assert manager.save(options=ASYNC) == "run/ckpt-2"
    monkeypatch.chdir(tmp_path / "elsewhere")
    gate.open()
    manager.sync()
    assert latest_checkpoint(tmp_path / "there" / "run") == str(tmp_path / "there/run/ckpt-2")
    assert manager.latest_checkpoint == "run/ckpt-2"
    gate.opened.clear()
    assert checkpoint.save("c", ASYNC) == "c-3"
    monkeypatch.chdir(tmp_path / "there")
    gate.open()
    checkpoint.sync()
    assert latest_checkpoint(tmp_path / "elsewhere") == str(tmp_path / "elsewhere" / "c-3")
    assert names(tmp_path / "there") == ["run"]
    assert len(names(tmp_path / "there" / "run")) == 3


def test_copies_have_nothing_under_way(tmp_path: Path, gate: Gate) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    checkpoint.write(tmp_path / "c", ASYNC)
    copied = copy.deepcopy(checkpoint)
    copied.sync()
    pickle.loads(pickle.dumps(checkpoint._writer)).wait()
    gate.open()
    checkpoint.sync()
    copied.write(tmp_path / "d", ASYNC)
    copied.sync()
    assert len(names(tmp_path)) == 4


def test_a_dropped_checkpoint_is_written(tmp_path: Path, gate: Gate) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    gone = weakref.ref(checkpoint)
    checkpoint.save(tmp_path / "c", ASYNC)
    del checkpoint
    gc.collect()
    assert gone() is None
    gate.open()
    wait_for_threads()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "c-1")


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(30)


def test_an_error_that_nobody_can_ask_for_is_reported(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_value))
    checkpoint = Checkpoint(v=Variable(1))
    checkpoint.save(tmp_path / "c", ASYNC)
    del checkpoint
    gate.open(OSError(errno.EIO, "Input/output error"))
    wait_for_threads()
    gc.collect()
    assert [error.errno for error in reported] == [errno.EIO]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Lets SIGINT interrupt, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_wait(tmp_path: Path, gate: Gate) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    checkpoint.write(tmp_path / "c", ASYNC)
    main = threading.main_thread().ident
    threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        checkpoint.sync()
    gate.open()
    checkpoint.sync()
    assert load_variable(tmp_path / "c", "v" + VALUE) == 1


class Tracked(Trackable):
    """Values whose snapshots can be watched."""

    def __init__(self, count: int) -> None:
        self.arrays = {f"a{i}": np.full(20000, i, np.float32) for i in range(count)}

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return self.arrays


def watch_snapshots(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Returns what will refer to the snapshots of the next save."""
    found: list[weakref.ref[Any]] = []
    from savax.trackable.checkpoint import _async_writing

    real = _async_writing.snapshot_tensors

    def watched(tensors: Any, **options: Any) -> Any:
        snapshot = real(tensors, **options)
        found.extend(weakref.ref(v) for k, v in snapshot if k.startswith("t/"))
        return snapshot

    monkeypatch.setattr(_async_writing, "snapshot_tensors", watched)
    return found


def test_values_are_freed_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = watch_snapshots(monkeypatch)
    alive: list[int] = []
    real = os.write

    def counting(fd: int, data: Any) -> int:
        if len(data) == 80000:
            alive.append(sum(ref() is not None for ref in snapshots))
        return real(fd, data)

    monkeypatch.setattr(os, "write", counting)
    Checkpoint(t=Tracked(6)).write_async(tmp_path / "c").result(30)
    assert alive == [6, 5, 4, 3, 2, 1]


def test_values_are_freed_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = watch_snapshots(monkeypatch)
    real = os.write
    numbers = iter(range(100))
    full = OSError(errno.ENOSPC, "No space left on device")

    def failing(fd: int, data: Any) -> int:
        if next(numbers) == 2:
            raise full
        return real(fd, data)

    monkeypatch.setattr(os, "write", failing)
    checkpoint = Checkpoint(t=Tracked(6))
    future = checkpoint.write_async(tmp_path / "c")
    concurrent.futures.wait([future])
    wait_for_threads()
    assert len(snapshots) == 6
    assert not [ref for ref in snapshots if ref() is not None]  # though the error wasn't seen yet
    assert future.exception() is full
    assert names(tmp_path) == []


def test_without_threads_everything_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    checkpoint = Checkpoint(v=Variable(1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        future = checkpoint.save_async(tmp_path / "c")
        assert future.done()
    assert latest_checkpoint(tmp_path) == future.prefix
    checkpoint.sync()
    assert checkpoint.save(tmp_path / "c", ASYNC) == str(tmp_path / "c-2")
    checkpoint.sync()


def test_callbacks_cannot_wait_for_themselves(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    for call in (checkpoint.sync, lambda: checkpoint.save(tmp_path / "d")):
        options = CheckpointOptions(experimental_write_callbacks=[call])  # type: ignore[list-item]
        future = checkpoint.write_async(tmp_path / "c", options)
        assert isinstance(future.exception(30), UnsupportedError)
        checkpoint.sync()
    done: list[str] = []
    nested = CheckpointOptions(
        experimental_write_callbacks=[lambda: done.append(checkpoint.write(tmp_path / "e"))]
    )
    checkpoint.write(tmp_path / "c", nested)
    assert done == [str(tmp_path / "e")]


HEAD = """
import errno, os, sys, threading, time, atexit, signal
import numpy as np
from savax.trackable import Variable
from savax.trackable.checkpoint import Checkpoint, CheckpointManager, CheckpointOptions
from savax.trackable.checkpoint import _sharding_policies

ASYNC = CheckpointOptions(enable_async=True)
real = _sharding_policies.write_bundle

def after_the_main_thread(prefix, tensors, error=None, **_):
    while threading.main_thread().is_alive():
        time.sleep(0.005)
    if error:
        raise error
    real(prefix, tensors)

os.chdir(sys.argv[1])
"""


def run(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + program, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_exit_waits_for_large_checkpoints(tmp_path: Path) -> None:
    # Above 64 MiB, which takes more threads; pools of threads have been closed by then.
    done = run(
        tmp_path,
        """
_sharding_policies.write_bundle = after_the_main_thread
values = {f"v{i}": Variable(np.full(9 << 20, i, np.uint8)) for i in range(8)}
manager = CheckpointManager(Checkpoint(**values), "run", 1)
manager.save(options=ASYNC)
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert latest_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "ckpt-1")
    with BundleReader(tmp_path / "run" / "ckpt-1") as reader:
        assert reader.header.num_shards > 1 or len(os.sched_getaffinity(0)) == 1
        reader.verify()


def test_exit_reports_errors(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def full(prefix, tensors, **_):
    after_the_main_thread(prefix, tensors, OSError(errno.ENOSPC, "No space left on device"))

_sharding_policies.write_bundle = full
checkpoint = Checkpoint(v=Variable(1))
checkpoint.save("c", ASYNC)
""",
    )
    assert "No space left on device" in done.stderr
    assert "the checkpoint 'c-1'" in done.stderr
    assert "Traceback" in done.stderr


def test_exit_is_quiet_about_errors_that_were_seen(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def full(prefix, tensors, **_):
    raise OSError(errno.ENOSPC, "No space left on device")

_sharding_policies.write_bundle = full
checkpoint = Checkpoint(v=Variable(1))
checkpoint.save("c", ASYNC)
try:
    checkpoint.sync()
except OSError:
    print("seen")
""",
    )
    assert (done.stdout, done.stderr) == ("seen\n", "")


def test_saves_while_python_exits_are_written_at_once(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
checkpoint = Checkpoint(v=Variable(np.zeros(1000)))
atexit.register(lambda: checkpoint.save("c", ASYNC))
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert latest_checkpoint(tmp_path) == str(tmp_path / "c-1")


@pytest.mark.usefixtures("_interruptible")  # a child process inherits what is ignored
def test_an_exit_that_is_cut_short_says_so(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def endless(prefix, tensors, **_):
    while threading.main_thread().is_alive():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)

_sharding_policies.write_bundle = endless
checkpoint = Checkpoint(v=Variable(1))
checkpoint.save("c", ASYNC)
""",
    )
    assert "KeyboardInterrupt" in done.stderr
    assert "The checkpoint 'c-1' wasn't written" in done.stderr


def test_forked_processes_have_nothing_under_way(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
opened = threading.Event()

def held(prefix, tensors, **_):
    if prefix.endswith("c-1"):
        opened.wait(30)
    real(prefix, tensors)

_sharding_policies.write_bundle = held
checkpoint = Checkpoint(v=Variable(1))
future = checkpoint.save_async("c")
child = os.fork()
if not child:
    checkpoint.sync()
    assert checkpoint.write("child", ASYNC) == "child"
    checkpoint.sync()
    try:
        future.result()
    except NotImplementedError as error:
        print(error, flush=True)
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
opened.set()
print(future.result(30))
""",
    )
    assert done.stdout.splitlines()[0].startswith("The checkpoint 'c-1' is written by the process")
    assert done.stdout.splitlines()[1:] == ["c-1"]
    assert [name for name in names(tmp_path) if name.endswith(".index")] == [
        "c-1.index",
        "child.index",
    ]
