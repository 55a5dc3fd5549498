"""Files of savax against files that TensorFlow writes for the same tensors: the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from savax.trackable.bundle import BundleReader, Partitioned, parse_slice_spec, write_bundle
from savax.trackable.bundle._entries import EntryDecoder, EntryEncoder
from savax.trackable.bundle._table import build_table, read_table
from savax.types import ALL_DTYPES, DType, index_path, shard_path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

DTYPES = [d for d in ALL_DTYPES if d.size and not d.name.startswith("q")]


def numbers(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    top = {"bool": 2, "int2": 4, "uint2": 4, "int4": 16, "uint4": 16, "float4_e2m1fn": 16}
    size = int(np.prod(shape)) * dtype.size
    return (
        rng.integers(0, top.get(dtype.name, 256), size, np.uint8)
        .view(dtype.numpy_dtype)
        .reshape(shape)
    )


def tf_constant(value: Any) -> Any:
    if value.dtype == object:
        return tf.constant(value.tolist(), tf.string, shape=value.shape)
    return tf.constant(value)


def tf_save(prefix: Path, tensors: dict[str, Any], slices: list[str] | None = None) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=slices or [""] * len(tensors),
        tensors=[tf_constant(value) for value in tensors.values()],
    )


def assert_same_files(ours: Path, theirs: Path, num_shards: int = 1) -> None:
    names = [index_path(""), *(shard_path("", i, num_shards) for i in range(num_shards))]
    for name in names:
        left = ours.with_name(ours.name + name).read_bytes()
        right = theirs.with_name(theirs.name + name).read_bytes()
        assert left == right, name


def objects(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_every_dtype_and_shape(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors: dict[str, Any] = {}
    for dtype in DTYPES:
        for shape in [(), (1,), (3, 5), (0, 3), (2, 0), (1, 2, 3, 1, 2)]:
            tensors[f"{dtype.name}/{shape}"] = numbers(dtype, shape, rng)
    tensors["s"] = objects(b"ab", b"", b"\xff\0", b"x" * 300)
    tensors["s0"] = objects()
    tensors["big"] = rng.random((300, 400), np.float32)
    tensors["z"] = objects(b"y" * 100000).reshape(())
    tf_save(tmp_path / "theirs", tensors)
    write_bundle(tmp_path / "ours", tensors.items())
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 9001])
def test_numbers_of_entries(count: int, tmp_path: Path) -> None:
    tensors = {f"layer_{i:06d}/kernel": np.float32(i) for i in range(count)}
    if count:
        tf_save(tmp_path / "theirs", tensors)
        write_bundle(tmp_path / "ours", tensors.items())
        assert_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_keys_of_all_kinds(tmp_path: Path) -> None:
    keys = ["a", "a/b", "a\x01", "é", "日本", "A" * 300, "A" * 200 + "b", "~", "_CHECKPOINTABLE"]
    tensors = {key: np.int64(i) for i, key in enumerate(keys)}
    tf_save(tmp_path / "theirs", tensors)
    write_bundle(tmp_path / "ours", tensors.items())
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.parametrize("size", [524271, 524286, 524287, 524288, 524289, 600000])
def test_huge_entries_of_the_index(size: int, tmp_path: Path) -> None:
    # 13 bytes of value beside the key. Keys so long are over savax's limit for reading files.
    tensors = {"a": np.float32(1), "b" * (size - 13): np.float32(2), "c": np.float32(3)}
    tf_save(tmp_path / "x", tensors)
    data = (tmp_path / "x.index").read_bytes()
    values = [
        b"\x08\x01\x12\x00\x28\x04",
        b"\x08\x01\x12\x00\x20\x04\x28\x04",
        b"\x08\x01\x12\x00\x20\x08\x28\x04",
    ]
    crcs = [data[data.index(value + b"\x35") + len(value) :][:5] for value in values]
    rows = [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    rows += [(k.encode(), v + c) for k, v, c in zip(tensors, values, crcs, strict=True)]
    assert len(rows[2][0] + rows[2][1]) == size
    assert build_table(rows) == data


SLICED = {
    "a": ((4, 3), ["0,2:-", "2,2:-"]),
    "b": ((6,), ["0,1", "1,2", "3,3"]),
    "c": ((100, 200), ["0,64:0,100", "0,64:100,100", "64,36:-"]),
    "d": ((2, 2), ["-:-"]),
    "e": ((2, 2), ["0,2:0,2"]),
}


def test_slices(tmp_path: Path, rng: np.random.Generator) -> None:
    names, specs, arrays = [], [], []
    values: list[tuple[str, Any]] = []
    for key, (shape, texts) in SLICED.items():
        full = rng.random(shape, np.float32)
        parts = []
        for text in texts:
            spec_text = f"{' '.join(map(str, shape))} {text}"
            _, spec = parse_slice_spec(spec_text)
            index = tuple(slice(s, None if n < 0 else s + n) for s, n in spec)
            names.append(key)
            specs.append(spec_text)
            arrays.append(tf.constant(full[index]))
            parts.append((spec, full[index]))
        values.append((key, Partitioned(shape, np.float32, parts)))
    values.insert(2, ("whole", np.arange(5)))
    names.insert(5, "whole")
    specs.insert(5, "")
    arrays.insert(5, tf.constant(np.arange(5)))
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"), tensor_names=names, shape_and_slices=specs, tensors=arrays
    )
    write_bundle(tmp_path / "ours", values)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_several_data_files(tmp_path: Path) -> None:
    tensors = {f"k{i}": np.full(100, i, np.float32) for i in range(6)}
    items = list(tensors.items())
    parts = []
    for i in range(3):
        parts.append(str(tmp_path / f"part{i}"))
        tf_save(Path(parts[-1]), dict(items[2 * i : 2 * i + 2]))
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "theirs")
    )
    write_bundle(tmp_path / "ours", items, shards=3)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs", 3)


def test_object_based_checkpoint(tmp_path: Path) -> None:
    root = tf.Module()
    root.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    root.b = tf.Variable(tf.zeros(2, tf.float64))
    root.steps = tf.Variable(7, dtype=tf.int64)
    tf.train.Checkpoint(root=root).write(str(tmp_path / "theirs"))
    with BundleReader(tmp_path / "theirs") as reader:
        keys = sorted(reader.keys(), key=lambda key: reader.entry(key).offset_bytes)
        values = [(key, reader.read(key)) for key in keys]
    assert keys[-1] == "_CHECKPOINTABLE_OBJECT_GRAPH"
    write_bundle(tmp_path / "ours", values)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_messages_against_tensorflows_own(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    tf_save(tmp_path / "x", {"a": np.zeros((3, 0, 200)), "b": np.float32(1)}, ["", ""])
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "y"),
        tensor_names=["p", "p"],
        shape_and_slices=["4 3 0,2:-", "4 3 2,2:-"],
        tensors=[tf.ones((2, 3)), tf.ones((2, 3))],
    )
    for name in "xy":
        for raw_key, value in read_table((tmp_path / f"{name}.index").read_bytes())[1:]:
            proto = tensor_bundle_pb2.BundleEntryProto.FromString(value)
            entry = EntryDecoder().decode(repr(raw_key), value)
            assert entry.dtype_number == proto.dtype
            assert entry.shape == tuple(dim.size for dim in proto.shape.dim)
            assert entry.offset_bytes == proto.offset
            assert entry.size_bytes == proto.size
            assert entry.crc32c_masked == proto.crc32c
            assert len(entry.slices) == len(proto.slices)
            assert EntryEncoder().encode(entry) == value == proto.SerializeToString()
