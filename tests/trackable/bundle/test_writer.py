"""write_bundle as a whole: order, memory, many tensors, arrays of JAX."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import InvalidArgumentError
from savax.trackable import bundle
from savax.trackable.bundle import BundleReader, write_bundle
from tests.work_counter import calls_during

if TYPE_CHECKING:
    from pathlib import Path


def test_public_names() -> None:
    public = {name for name in vars(bundle) if not name.startswith("_")}
    assert public - set(bundle.__all__) <= {"annotations"}
    assert sorted(bundle.__all__) == bundle.__all__ or set(bundle.__all__) <= public


def test_data_is_in_the_order_given(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", [("b", np.uint8(1)), ("c", np.uint8(2)), ("a", np.uint8(3))])
    assert (tmp_path / "x.data-00000-of-00001").read_bytes() == b"\1\2\3"
    with BundleReader(tmp_path / "x") as reader:
        assert [reader.entry(key).offset_bytes for key in "abc"] == [2, 0, 1]


def test_index_byte_by_byte(tmp_path: Path) -> None:
    # The example of docs/formats/tensor_bundle.md.
    write_bundle(tmp_path / "x", [("w", np.float32(1))])
    expected = bytes.fromhex(
        "000006 08011a020801"  # the header
        "00010b 77 08011200 2804 3581a5da2b"  # the entry
        "0000000001000000 00 81e40d4d"
        "0000000001000000 00 c0f2a1b0"
        "000102 78 0020 0000000001000000 00 e1ed65da"
        "2508 320e" + "00" * 36 + "57fb808b247547db"
    )
    assert (tmp_path / "x.index").read_bytes() == expected
    assert (tmp_path / "x.data-00000-of-00001").read_bytes() == bytes.fromhex("0000803f")


def test_arrays_of_jax(tmp_path: Path) -> None:
    values = {
        "f": jnp.arange(100000.0),
        "b": jnp.ones((3, 4), jnp.bfloat16),
        "i": jnp.arange(5, dtype=jnp.int4),
        "s": jnp.float32(2),
    }
    write_bundle(tmp_path / "x", values.items())
    with BundleReader(tmp_path / "x") as reader:
        for key, value in values.items():
            found = reader.read(key)
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, np.asarray(value))
        on_device = jax.device_put(reader.read("f"))
        assert on_device.shape == (100000,)


def test_prefix_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="slash"):
        write_bundle(f"{tmp_path}/", [])


def test_mistakes_are_met_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        write_bundle(tmp_path / "new" / "x", [("a", 1), ("a", 2)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("strided", [False, True])
def test_writing_and_reading_take_little_memory(strided: bool, tmp_path: Path) -> None:
    array = np.zeros((4096, 2048), np.float32)  # 32 MiB
    if strided:
        array = array.T
    tracemalloc.start()
    write_bundle(tmp_path / "x", [("a", array), ("b", array)], shards=2, fsync=False)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 2 * (8 << 20)
    with BundleReader(tmp_path / "x") as reader:
        tracemalloc.reset_peak()
        reader.verify()
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 2 << 20
        tracemalloc.reset_peak()
        reader.read("a")
        _, peak = tracemalloc.get_traced_memory()
        assert peak < array.nbytes + (2 << 20)
    tracemalloc.stop()


def test_many_small_tensors_take_linear_work(tmp_path: Path) -> None:
    def work(count: int) -> tuple[int, int]:
        values = [(f"layer_{i:06d}/kernel", np.full((4,), i, np.float32)) for i in range(count)]

        def read() -> None:
            with BundleReader(tmp_path / "x") as reader:
                for i, (_, value) in enumerate(reader.read_many(reader.keys())):
                    assert value[0] == i

        written = calls_during(lambda: write_bundle(tmp_path / "x", values, fsync=False))
        return written, calls_during(read)

    for few, many in zip(work(2000), work(20000), strict=True):
        assert many < 12 * few
