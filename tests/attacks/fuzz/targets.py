"""What is fuzzed: readers of files that may come from anybody.

A target takes bytes, puts them in the place of one file of a small model, and reads. What may come
out are savax's errors. Anything else is a defect: another exception, minutes, gibibytes.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

import savax as sv
from savax.errors import SavaxError
from savax.protos import (
    BundleEntryProto,
    BundleHeaderProto,
    ChunkMetadata,
    SavedModel,
    TrackableObjectGraph,
    to_text,
)
from savax.saved_model.cli import main
from savax.trackable import OBJECT_GRAPH_KEY
from savax.trackable.bundle import BundleReader, write_bundle
from savax.trackable.bundle._table import build_table, read_table
from tests.attacks.fuzz.mutations import mutated
from tests.image_files import ChunkFile

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

CORPUS = Path(__file__).with_name("corpus")
_PREFIX = "variables/variables"
_INDEX = f"{_PREFIX}.index"


class Small(sv.Module):
    """Variables, containers, a table, control flow and strings, in little space."""

    def __init__(self) -> None:
        self.w = sv.Variable(np.eye(2, dtype=np.float32), name="w")
        self.counts = [sv.Variable(np.int64(3)), {"a": sv.Variable(np.array([b"x"], object))}]
        self.table = sv.lookup.StaticHashTable(
            sv.lookup.KeyValueTensorInitializer(["a", "b"], np.array([1, 2])), -1
        )

    @sv.function(input_signature=[sv.TensorSpec([None, 2], name="x")])
    def numbers(self, x: Any) -> Any:
        return {"y": x @ self.w, "sorted": sv.value_and_grad(_sum, argnums=0)(x)[1]}

    @sv.function(input_signature=[sv.TensorSpec([None], "string", name="s")])
    def words(self, s: Any) -> Any:
        return {"ids": self.table.lookup(sv.strings.lower(s))}


def _sum(x: Any) -> Any:
    return (x**2).sum()


class Targets:
    """The targets, over a model that is written once.

    Attributes:
      by_name: each target, a function of bytes.
    """

    def __init__(self) -> None:
        self._expected: tuple[type[Exception], ...] = (SavaxError,)
        self._home = Path(tempfile.mkdtemp(prefix="savax_fuzz_"))
        small = Small()
        signatures = {"numbers": small.numbers, "words": small.words}
        sv.saved_model.save(small, self._home / "model", signatures)
        options = sv.saved_model.SaveOptions(experimental_image_format=True)
        sv.saved_model.save(small, self._home / "image", signatures, options)
        (self._home / "model" / "fingerprint.pb").unlink()
        self._graph = SavedModel.FromString(self._read("model/saved_model.pb"))
        with BundleReader(self._home / "model" / _PREFIX) as reader:
            self._values = {key: reader.read(key) for key in reader}
        self.by_name: dict[str, Callable[[bytes], None]] = {
            "graph": self.graph,
            "calls": self.calls,
            "text": self.text,
            "image": self.image,
            "index": self.index,
            "fingerprint": self.fingerprint,
            "objects": self.objects,
            "commands": self.commands,
        }

    @contextlib.contextmanager
    def errors_pass(self) -> Iterator[None]:
        """Lets savax's errors out of the targets, too."""
        self._expected = ()
        try:
            yield
        finally:
            self._expected = (SavaxError,)

    def close(self) -> None:
        """Removes the model."""
        shutil.rmtree(self._home)

    def seeds(self, name: str) -> list[bytes]:
        """Returns whole files to begin with."""
        if name == "text":
            return [to_text(self._graph).encode()]
        if name == "objects":
            return [self._values[OBJECT_GRAPH_KEY].item()]
        files = {
            "image": "image/saved_model.cpb",
            "index": f"model/{_INDEX}",
            "fingerprint": "image/fingerprint.pb",
        }
        return [self._read(files.get(name, "model/saved_model.pb"))]

    def variants(self, name: str, rng: random.Random) -> Iterator[bytes]:
        """Yields damaged files without end: changed fields of messages, and changed bytes."""
        (whole,) = self.seeds(name)
        while True:
            changed = self.changed_fields(name, whole, rng) if rng.random() < 0.8 else None
            yield _changed_bytes(whole, rng) if changed is None else changed

    def changed_fields(self, name: str, data: bytes, rng: random.Random) -> bytes | None:
        """Returns a file with changed fields and right checksums, or None if that can't be."""
        changes = rng.choice((1, 1, 2, 4))
        if name in ("graph", "calls", "commands", "objects"):
            kind: Any = TrackableObjectGraph if name == "objects" else SavedModel
            try:
                message = kind.FromString(data)
            except DecodeError:
                message = kind.FromString(self.seeds(name)[0])
            return mutated(message, rng, changes).SerializeToString()
        if name == "text":
            return to_text(mutated(self._graph, rng, changes)).encode()
        if name == "image":
            return self._image(rng, changes)
        return _changed_index(self._read(f"model/{_INDEX}"), rng) if name == "index" else None

    def _image(self, rng: random.Random, changes: int) -> bytes:
        """Returns an image in which a record, or the list of records, is changed."""
        base, graph = SavedModel(), self._graph.meta_graphs[0].graph_def
        base.CopyFrom(self._graph)
        base.meta_graphs[0].ClearField("graph_def")
        metadata = ChunkMetadata()
        metadata.message.chunk_index = 0
        field = metadata.message.chunked_fields.add()
        for number, index in ((2, None), (None, 0), (2, None)):
            tag = field.field_tag.add()
            if index is None:
                tag.field = number
            else:
                tag.index = index
        field.message.chunk_index = 1
        which = rng.randrange(3)
        records = [base, graph]
        if which < len(records):
            records[which] = mutated(records[which], rng, changes)
        file = ChunkFile()
        for record in records:
            data = record.SerializeToString()
            (position,) = file.add_records([data], rng.choice(("", "b", "z")))
            metadata.chunks.add(type="MESSAGE", size=len(data), offset=position)
        if which == len(records):
            metadata = mutated(metadata, rng, changes)
        file.add_records([metadata.SerializeToString()])
        return bytes(file.data)

    def graph(self, data: bytes) -> None:
        """Loads a model with another ``saved_model.pb``."""
        with self._model("model", "saved_model.pb", data) as path:
            sv.saved_model.load(path)

    def calls(self, data: bytes) -> None:
        """Loads such a model and calls its signatures on small arguments."""
        with self._model("model", "saved_model.pb", data) as path:
            loaded: Any = sv.saved_model.load(path)
            signatures = getattr(loaded, "signatures", None)
            for signature in signatures.values() if isinstance(signatures, Mapping) else ():
                signature(**{spec.name: _example(spec) for spec in signature.inputs})

    def text(self, data: bytes) -> None:
        """Loads a model in text form."""
        with self._model("model", "saved_model.pb", None) as path:
            (path / "saved_model.pbtxt").write_bytes(data)
            sv.saved_model.load(path)

    def image(self, data: bytes) -> None:
        """Loads a model in the image format."""
        with self._model("image", "saved_model.cpb", data) as path:
            sv.saved_model.load(path)

    def index(self, data: bytes) -> None:
        """Loads a model with another index of its values."""
        with self._model("model", _INDEX, data) as path:
            sv.saved_model.load(path)

    def fingerprint(self, data: bytes) -> None:
        """Reads another fingerprint."""
        with self._model("image", "fingerprint.pb", data) as path:
            sv.saved_model.experimental.read_fingerprint(path).singleprint()

    def objects(self, data: bytes) -> None:
        """Loads, restores and lists a model with another object graph of its values."""
        with self._model("model", _INDEX, b"") as path:
            tensors = self._values | {OBJECT_GRAPH_KEY: np.array(data, object)}
            write_bundle(path / _PREFIX, tensors.items())
            _run("checkpoint", "show", str(path))
            with contextlib.suppress(self._expected):
                sv.saved_model.load(path)
            part = sv.Module()
            part.w, part.counts = sv.Variable(np.zeros((2, 2), np.float32)), [sv.Variable(0)]
            sv.train.Checkpoint(part).read(path / _PREFIX).assert_consumed()

    def commands(self, data: bytes) -> None:
        """Looks at a model with another ``saved_model.pb``."""
        with self._model("model", "saved_model.pb", data) as path:
            _run("show", "--all", str(path))
            _run("show", "--json", str(path))
            _run("scan", str(path))
            _run("check", str(path))
            _run("diff", str(path), str(self._home / "model"))

    def _read(self, name: str) -> bytes:
        return (self._home / name).read_bytes()

    def _model(self, kind: str, name: str, data: bytes | None) -> _Copy:
        return _Copy(self._home / kind, self._home / "damaged", name, data, self._expected)


class _Copy:
    """A copy of a model with other content in one file, while it is read."""

    def __init__(
        self,
        source: Path,
        place: Path,
        name: str,
        data: bytes | None,
        expected: tuple[type[Exception], ...],
    ) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
        if data is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(data)
        self._place, self._expected = place, expected
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Path:
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        return self._place

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self._warnings.__exit__(kind, error, trace)
        return isinstance(error, self._expected)


def _run(*arguments: str) -> None:
    """Runs a command, which catches savax's errors itself."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        main(list(arguments))


def _example(spec: Any) -> np.ndarray[Any, Any]:
    shape = [2 if size is None else min(size, 4) for size in spec.shape or ()]
    if spec.dtype.name == "string":
        return np.full(shape, b"a", object)
    return np.zeros(shape, spec.dtype.numpy_dtype)


def _changed_index(data: bytes, rng: random.Random) -> bytes:
    """Returns an index in which an entry or a key is changed."""
    entries = dict(read_table(data))
    key = rng.choice(sorted(entries))
    kind = BundleEntryProto if key else BundleHeaderProto
    changed = mutated(kind.FromString(entries[key]), rng, rng.choice((1, 1, 3)))
    if rng.random() < 0.2:
        del entries[key]
        key = _changed_bytes(key, rng) if key else b"x"
    entries[key] = changed.SerializeToString()
    return build_table(sorted(entries.items()))


def _changed_bytes(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    length = rng.choice((0, 1, 4, 40))
    kind = rng.randrange(4)
    if kind == 0:
        return data[:start]
    if kind == 1:
        return data[:start] + data[start + length :]
    if kind == 2:
        return data[:start] + data[start : start + length] * 2 + data[start + length :]
    return data[:start] + rng.randbytes(length) + data[start + length :]
