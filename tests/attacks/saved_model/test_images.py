"""Hostile images: records that lie about themselves or about each other."""

from __future__ import annotations

import random
import resource
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sv
from savax.errors import (
    CorruptSavedModelError,
    NotFoundError,
    ResourceLimitError,
    SavaxError,
    UnsafePathError,
)
from savax.protos import ChunkMetadata, SavedModel, decode_tensor
from savax.saved_model import SaveOptions, load, save
from savax.saved_model._reader import open_model, read_saved_model
from savax.trackable.bundle._varint import encode_varint
from tests.image_files import ChunkFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20


def image(
    change: Callable[[ChunkMetadata], Any], *more: bytes, graph: bytes = b"", method: str = ""
) -> bytes:
    """Returns an image of three records and more, whose metadata a function has changed."""
    base = SavedModel(saved_model_schema_version=1)
    base.meta_graphs.add().graph_def.node.add(name="Const", op="Const")
    records = [base.SerializeToString(), graph, b"five5", *more]
    file, metadata = ChunkFile(), ChunkMetadata()
    for record in records:
        (position,) = file.add_records([record], method)
        metadata.chunks.add(type="MESSAGE", size=len(record), offset=position)
    metadata.message.chunk_index = 0
    change(metadata)
    file.add_records([metadata.SerializeToString()])
    return bytes(file.data)


def read(data: bytes, folder: Path) -> SavedModel:
    (folder / "saved_model.cpb").write_bytes(data)
    with open_model(folder) as directory:
        return read_saved_model(directory)


def field(*path: int | str | tuple[int], record: int = 2) -> Callable[[ChunkMetadata], None]:
    """Adds a field; numbers are fields, texts keys of maps, and tuples indices."""

    def change(metadata: ChunkMetadata) -> None:
        added = metadata.message.chunked_fields.add()
        for step in path:
            tag = added.field_tag.add()
            if isinstance(step, tuple):
                (tag.index,) = step
            elif isinstance(step, str):
                tag.map_key.s = step
            else:
                tag.field = step
        added.message.chunk_index = record

    return change


def test_the_images_of_these_tests_are_right(tmp_path) -> None:
    path = (2, (0,), 2, 1, (0,), 5, "value", 8, 4)
    model = read(image(field(*path)), tmp_path)
    assert model.meta_graphs[0].graph_def.node[0].attr["value"].tensor.tensor_content == b"five5"


LIES: dict[str, Callable[[ChunkMetadata], Any]] = {
    "a record that isn't there": field(2, (0,), 2, record=99),
    "another size": lambda m: setattr(m.chunks[0], "size", 3),
    "an offset beyond the file": lambda m: setattr(m.chunks[0], "offset", 1 << 62),
    "an offset of no record": lambda m: setattr(m.chunks[0], "offset", 3),
    "no such field": field(77),
    "a field of a field that has none": field(1, 1),
    "an index first": field((0,)),
    "a key first": field("value"),
    "no index": field(2),
    "a key for an index": field(2, "value"),
    "an index for a key": field(2, (0,), 5, (0,)),
    "no key": field(2, (0,), 5),
    "an absurd index": field(2, (1 << 40,)),
    "an absurd index of a text": field(2, (0,), 1, 4, (1 << 40,)),
    "a number": field(1),
    "bytes that are no message": field(2, (0,), 2),
    "bytes that are no part": field(),
    "bytes that are no text": field(2, (0,), 1, 5, record=3),
    "an index of bytes": field(2, (0,), 2, 1, (0,), 5, "value", 8, 4, (0,)),
    "an index of a text": field(2, (0,), 2, 1, (0,), 1, (0,)),
    "no index of a text": field(2, (0,), 2, 1, (0,), 3),
    "a path without end": field(2, (0,), 7, 1, (0,), 6, 2, 1, *(51, 1, (0,)) * 20_000),
}


@pytest.mark.parametrize("lie", LIES)
def test_metadata_that_lies(lie, tmp_path) -> None:
    with pytest.raises(CorruptSavedModelError):
        read(image(LIES[lie], b"\xff\xfe"), tmp_path)


def test_gaps_are_limited_for_all_fields_together(tmp_path) -> None:
    def change(metadata: ChunkMetadata) -> None:
        for i in range(1, 100):
            field(2, (0,), 2, 1, (60_000 * i,), record=1)(metadata)

    with pytest.raises(CorruptSavedModelError, match="no element"):
        read(image(change), tmp_path)


def test_chunks_are_not_read_again_and_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("savax.saved_model.image._riegeli_reader._READ_FLOOR", MIB)
    base = SavedModel()
    base.meta_graphs.add()
    file, metadata = ChunkFile(), ChunkMetadata()
    for records in ([base.SerializeToString()], [b"", bytes(MIB // 4)], [b"", bytes(MIB // 4)]):
        for record, position in zip(records, file.add_records(records), strict=True):
            metadata.chunks.add(type="MESSAGE", size=len(record), offset=position)
    metadata.message.chunk_index = 0
    for i in range(5_000):  # by empty records, which cost nothing, of both chunks in turn
        field(2, (0,), 2, 1, (i,), record=1 + 2 * (i % 2))(metadata)
    file.add_records([metadata.SerializeToString()])
    with pytest.raises(ResourceLimitError, match="again and again"):
        read(bytes(file.data), tmp_path)


def test_nested_without_end(tmp_path) -> None:
    def nest(metadata: ChunkMetadata) -> None:
        message = metadata.message
        for _ in range(40):
            message = message.chunked_fields.add().message

    # More depth than this, protobuf's parser refuses by itself.
    read(image(nest), tmp_path)
    deep = b""
    for _ in range(5000):
        deep = b"\x1a" + encode_varint(len(deep)) + deep
        deep = b"\x12" + encode_varint(len(deep)) + deep
    file = ChunkFile()
    file.add_records([b"\x1a" + encode_varint(len(deep)) + deep])
    with pytest.raises(CorruptSavedModelError):
        read(bytes(file.data), tmp_path)


def test_one_record_many_times(tmp_path) -> None:
    def repeat(metadata: ChunkMetadata) -> None:
        for _ in range(2000):
            field(2, (0,), 2, 4, 1, record=3)(metadata)
            field(2, (0,), 1, 5, record=3)(metadata)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ResourceLimitError, CorruptSavedModelError)):
        read(image(repeat, b"x" * MIB), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


@pytest.mark.parametrize("method", ["b", "z"])
def test_records_that_grow_without_measure(method, tmp_path) -> None:
    zeros = bytes(80 * MIB)
    with pytest.raises(ResourceLimitError, match="has records"):
        read(image(lambda m: None, zeros, method=method), tmp_path)


def constants_of(parts: list[bytes], shape: int, dtype: int = 1) -> bytes:
    def change(metadata: ChunkMetadata) -> None:
        added = metadata.message.chunked_fields.add()
        for step in (2, None, 2, 1, None, 5, "value", 8):
            tag = added.field_tag.add()
            if step is None:
                tag.index = 0
            elif isinstance(step, str):
                tag.map_key.s = step
            else:
                tag.field = step
        for index in range(len(parts) - 1):
            added.message.chunked_fields.add().message.chunk_index = 4 + index
        added.message.chunk_index = 3

    dim = b"\x08" + encode_varint(shape)
    tensor = (
        b"\x08"
        + bytes([dtype])
        + b"\x12"
        + encode_varint(2 + len(dim))
        + b"\x12"
        + encode_varint(len(dim))
        + dim
    )
    return image(change, tensor, *parts[1:])


def packed(size: int, tag: bytes = b"\x2a") -> bytes:
    return tag + encode_varint(size) + bytes(size)


@pytest.mark.parametrize(
    ("parts", "shape"),
    {
        "too few elements": ([b"", packed(MIB), packed(MIB - 4)], 2 * MIB // 4),
        "another field among them": ([b"", packed(MIB), packed(MIB, b"\x32")], 2 * MIB // 4),
        "a length that lies": (
            [b"", packed(MIB), b"\x2a" + encode_varint(9 * MIB) + bytes(MIB)],
            2 * MIB // 4,
        ),
    }.values(),
    ids=["few", "field", "length"],
)
def test_constants_in_parts(parts, shape, tmp_path) -> None:
    with pytest.raises(CorruptSavedModelError):
        read(constants_of(parts, shape), tmp_path)


def test_a_constant_of_an_absurd_shape_takes_no_memory(tmp_path) -> None:
    read(constants_of([b"", packed(MIB)], 1 << 50), tmp_path)
    with open_model(tmp_path) as directory:
        tensor = read_saved_model(directory).meta_graphs[0].graph_def.node[0].attr["value"].tensor
    with pytest.raises(SavaxError):
        decode_tensor(tensor)


def test_files_that_are_none(tmp_path) -> None:
    with pytest.raises(NotFoundError):
        load(tmp_path)
    for data in (b"", b"\0" * 64, b"x" * 1000, ChunkFile().data):
        with pytest.raises(CorruptSavedModelError):
            read(bytes(data), tmp_path)
    (tmp_path / "saved_model.cpb").unlink()
    (tmp_path / "saved_model.cpb").symlink_to("/dev/zero")
    with pytest.raises(UnsafePathError):
        load(tmp_path)


def test_sparse_file_of_many_gibibytes(tmp_path) -> None:
    path = tmp_path / "saved_model.cpb"
    path.write_bytes(image(lambda m: None))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptSavedModelError):
        load(tmp_path)


def test_random_damage_to_a_model(tmp_path) -> None:
    model = sv.Module()
    model.w = sv.Variable(np.arange(6, dtype=np.float32))
    model.f = sv.function(lambda x: x * model.w.value, input_signature=[sv.TensorSpec([6])])
    save(model, tmp_path / "m", options=SaveOptions(experimental_image_format=True))
    path = tmp_path / "m" / "saved_model.cpb"
    good, rng = path.read_bytes(), random.Random(0)
    for _ in range(60):
        position = rng.randrange(len(good))
        path.write_bytes(good[:position] + rng.randbytes(4) + good[position + 4 :])
        try:
            found = load(tmp_path / "m").f(np.ones(6, np.float32))
        except SavaxError:
            continue
        np.testing.assert_array_equal(found, np.arange(6))  # damaged where nothing is: in padding
