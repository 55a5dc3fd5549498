"""TensorFlow reads what savax writes, and savax reads what TensorFlow writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import NotFoundError
from savax.trackable.bundle import BundleReader, Partitioned, write_bundle
from savax.types import ALL_DTYPES, DType

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

DTYPES = [d for d in ALL_DTYPES if d.size and not d.name.startswith("q")]
QUANTIZED = [d for d in ALL_DTYPES if d.name.startswith("q")]


def numbers(dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    top = {"bool": 2, "int2": 4, "uint2": 4, "int4": 16, "uint4": 16, "float4_e2m1fn": 16}
    size = int(np.prod(shape)) * dtype.size
    raw = np.random.default_rng(dtype.number).integers(0, top.get(dtype.name, 256), size, np.uint8)
    return raw.view(dtype.numpy_dtype).reshape(shape)


def restore(prefix: Path, name: str, dtype: Any, spec: str = "") -> np.ndarray:
    (tensor,) = tf.raw_ops.RestoreV2(
        prefix=str(prefix), tensor_names=[name], shape_and_slices=[spec], dtypes=[dtype]
    )
    return tensor.numpy()


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (0, 2)])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_numbers_both_ways(dtype: DType, shape: tuple[int, ...], tmp_path: Path) -> None:
    value = numbers(dtype, shape)
    write_bundle(tmp_path / "ours", [("k", value)])
    assert restore(tmp_path / "ours", "k", dtype.name).tobytes() == value.tobytes()
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=["k"],
        shape_and_slices=[""],
        tensors=[tf.constant(value)],
    )
    with BundleReader(tmp_path / "theirs") as reader:
        found = reader.read("k")
        reader.verify()
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert found.tobytes() == value.tobytes()


@pytest.mark.parametrize("dtype", QUANTIZED, ids=lambda d: d.name)
def test_quantized_numbers_of_tensorflow(dtype: DType, tmp_path: Path) -> None:
    value = numbers(dtype, (5,))
    tensor = tf.bitcast(tf.constant(value), tf.as_dtype(dtype.name))
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "x"), tensor_names=["k"], shape_and_slices=[""], tensors=[tensor]
    )
    with BundleReader(tmp_path / "x") as reader:
        assert reader.entry("k").dtype is dtype
        np.testing.assert_array_equal(reader.read("k"), value)


def test_checkpoint_reader_of_tensorflow(tmp_path: Path) -> None:
    parts = [
        ([(0, 1), None], np.ones((1, 3), np.float32)),
        ([(1, 2), None], np.zeros((2, 3), "f4")),
    ]
    values = {
        "a": np.arange(6.0).reshape(2, 3),
        "p": Partitioned((3, 3), np.float32, parts),
        "s": np.array([["x", "é"]], object),
        "t": "scalar",
    }
    write_bundle(tmp_path / "x", values.items(), shards=3)
    reader = tf.train.load_checkpoint(str(tmp_path / "x"))
    assert reader.get_variable_to_shape_map() == {"a": [2, 3], "p": [3, 3], "s": [1, 2], "t": []}
    np.testing.assert_array_equal(reader.get_tensor("a"), values["a"])
    assert reader.get_tensor("p").tolist() == [[1] * 3, [0] * 3, [0] * 3]
    assert reader.get_tensor("s").tolist() == [[b"x", "é".encode()]]
    assert reader.get_tensor("t") == b"scalar"
    assert restore(tmp_path / "x", "p", tf.float32, "3 3 0,2:1,2").tolist() == [[1, 1], [0, 0]]


def test_partitioned_tensor_of_tensorflow(tmp_path: Path) -> None:
    full = np.arange(600, dtype=np.int32).reshape(20, 30)
    specs, parts = [], []
    for rows in range(0, 20, 7):
        for columns in range(0, 30, 11):
            part = full[rows : rows + 7, columns : columns + 11]
            parts.append(tf.constant(part))
            specs.append(f"20 30 {rows},{part.shape[0]}:{columns},{part.shape[1]}")
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "x"),
        tensor_names=["k"] * len(parts),
        shape_and_slices=specs,
        tensors=parts,
    )
    with BundleReader(tmp_path / "x") as reader:
        assert reader.keys() == ["k"]
        np.testing.assert_array_equal(reader.read("k"), full)
        for starts, sizes in [((0, 0), (1, 1)), ((6, 10), (2, 2)), ((3, 0), (15, 30))]:
            index = tuple(slice(s, s + n) for s, n in zip(starts, sizes, strict=True))
            np.testing.assert_array_equal(reader.read_slice("k", starts, sizes), full[index])
        reader.verify()


def test_sharding_policies_of_tensorflow(tmp_path: Path) -> None:
    root = tf.Module()
    root.v = tf.Variable(np.arange(100, dtype=np.float32))
    root.w = tf.Variable(np.arange(60, dtype=np.float32).reshape(6, 10))
    policy = tf.train.experimental.MaxShardSizePolicy(200)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    tf.train.Checkpoint(root=root).write(str(tmp_path / "x"), options)
    with BundleReader(tmp_path / "x") as reader:
        assert reader.header.num_shards > 1
        suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(reader.read(f"v{suffix}"), root.v.numpy())
        np.testing.assert_array_equal(reader.read(f"w{suffix}"), root.w.numpy())
        reader.verify()


def test_values_of_tensorflow_are_written(tmp_path: Path) -> None:
    values = {"v": tf.Variable([1.0, 2.0]), "c": tf.constant([[3]]), "s": tf.constant(["a", "b"])}
    write_bundle(tmp_path / "x", values.items())
    with BundleReader(tmp_path / "x") as reader:
        assert reader.read("v").tolist() == [1, 2]
        assert reader.read("c").tolist() == [[3]]
        assert reader.read("s").tolist() == [b"a", b"b"]


def test_overwritten_bundle_is_read_by_tensorflow(tmp_path: Path) -> None:
    for i in range(3):
        write_bundle(tmp_path / "x", [("k", np.float32(i))])
        assert tf.train.load_checkpoint(str(tmp_path / "x")).get_tensor("k") == i


def test_the_same_file_is_missing_for_both(tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError):
        tf.train.load_checkpoint(str(tmp_path / "x"))
    with pytest.raises(NotFoundError):
        BundleReader(tmp_path / "x")


def test_damage_is_found_by_both(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", [("k", np.arange(100.0))])
    path = tmp_path / "x.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[400] ^= 4
    path.write_bytes(data)
    with pytest.raises(tf.errors.OpError):
        restore(tmp_path / "x", "k", tf.float64)
    with pytest.raises(OSError, match="checksum"):
        BundleReader(tmp_path / "x").read("k")
