"""What sharding callbacks are given, what becomes of it, and what is wrong with some."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import InvalidArgumentError
from savax.trackable import Variable
from savax.trackable.bundle import BundleReader, Partitioned
from savax.trackable.bundle._writer import write_plan
from savax.trackable.checkpoint import Checkpoint, CheckpointOptions
from savax.trackable.checkpoint._sharding_policies import plan_with
from savax.train.experimental import MaxShardSizePolicy, ShardByTaskPolicy, ShardingCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "v/.ATTRIBUTES/VARIABLE_VALUE"


class Callback(ShardingCallback):
    """A callback made of a function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    @property
    def description(self) -> str:
        return "Do what the test wants."

    def __call__(self, shardable_tensors: Any) -> Any:
        return self._function(shardable_tensors)


def write(function: Callable[[Any], Any], tmp_path: Path, value: Any = (1.0, 2.0, 3.0)) -> str:
    options = CheckpointOptions(experimental_sharding_callback=Callback(function))
    return Checkpoint(v=Variable(value)).write(tmp_path / "x", options)


def everything(tensors: Any) -> dict[str, Any]:
    return {tensor.checkpoint_key: {tensor.slice_spec: tensor.tensor} for tensor in tensors}


def test_what_a_callback_is_given(tmp_path: Path) -> None:
    given = []

    def note(tensors: Any) -> Any:
        given.extend(tensors)
        return [everything(tensors)]

    write(note, tmp_path)
    by_key = {tensor.checkpoint_key: tensor for tensor in given}
    assert set(by_key) == {KEY, "_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert by_key[KEY].shape == (3,)
    assert by_key[KEY].dtype.name == "float32"
    assert by_key[KEY].slice_spec == ""
    assert np.asarray(by_key[KEY].tensor).tolist() == [1.0, 2.0, 3.0]
    assert by_key["_CHECKPOINTABLE_OBJECT_GRAPH"].dtype.name == "string"


def test_slices_of_ones_own(tmp_path: Path) -> None:
    def halves(tensors: Any) -> Any:
        shards: list[Any] = [everything(tensors), {}]
        value = shards[0].pop(KEY)[""]
        shards[0][KEY] = {"3 0,2": value[:2]}
        shards[1][KEY] = {"3 2,1 ": value[2:]}
        return shards

    with BundleReader(write(halves, tmp_path)) as reader:
        assert reader.read(KEY).tolist() == [1.0, 2.0, 3.0]
        assert reader.entry(KEY).slices == (((0, 2),), ((2, 1),))
        assert reader.header.num_shards == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shard: None, "must return a list"),
        (lambda shard: shard, "must return a list"),
        (lambda shard: [[shard]], "must return a list"),
        (lambda shard: [shard | {KEY: np.zeros(3)}], "a dict {slice spec: value}"),
        (lambda shard: [shard | {KEY: {None: np.zeros(3)}}], "a dict {slice spec: value}"),
        (lambda shard: [{k: v for k, v in shard.items() if k != KEY}], f"1 tensors.*{KEY}"),
        (lambda shard: [shard | {KEY: {}}], f"none of the data files:\n  {KEY}"),
        (lambda shard: [shard | {"new": {"": np.zeros(3)}}], "no tensor 'new'"),
        (lambda shard: [shard, {KEY: shard[KEY]}], "overlap"),
        (lambda shard: [shard | {KEY: {"": np.zeros(3)}}], "must stay float32.*float64"),
        (lambda shard: [shard | {KEY: {"": np.zeros(4, np.float32)}}], r"shape \(3,\).*\(4,\)"),
        (lambda shard: [shard | {KEY: {"3 0,2": np.zeros(2, np.float32)}}], "2 elements"),
        (
            lambda shard: [
                shard | {KEY: {"3 0,2": np.zeros(2, np.float32), "3 1,2": np.zeros(2, np.float32)}}
            ],
            "overlap",
        ),
        (lambda shard: [shard | {KEY: {"4 0,4": np.zeros(4, np.float32)}}], r"shape \(4,\)"),
        (lambda shard: [shard | {KEY: {"3 0,9": np.zeros(9, np.float32)}}], "leaves"),
        (lambda shard: [shard | {KEY: {"x": np.zeros(3, np.float32)}}], "not the spec"),
    ],
)
def test_mistakes_of_callbacks_are_named(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=f"(?s)callback Callback .Do what.*{message}"):
        write(lambda tensors: change(everything(tensors)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exceptions_of_callbacks_come_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write(lambda tensors: 1 // 0, tmp_path)


@pytest.mark.parametrize("size", [0, -1, 1.5, "1", None, True])
def test_sizes_that_can_not_be(size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_shard_size"):
        MaxShardSizePolicy(size)


def test_too_many_data_files(tmp_path: Path) -> None:
    options = CheckpointOptions(experimental_sharding_callback=MaxShardSizePolicy(1))
    with pytest.raises(InvalidArgumentError, match="use at least 3"):
        Checkpoint(v=Variable(np.zeros(25_001, np.int64))).write(tmp_path / "x", options)


@pytest.mark.parametrize("callback", [lambda tensors: [], MaxShardSizePolicy, "by task"])
def test_only_callbacks_are_accepted(callback: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"experimental\.ShardingCallback"):
        CheckpointOptions(experimental_sharding_callback=callback)


def test_one_file_whatever_its_size(tmp_path: Path) -> None:
    options = CheckpointOptions(experimental_sharding_callback=ShardByTaskPolicy())
    value = np.zeros((65 << 20) // 4, np.float32)  # would be several files
    Checkpoint(v=Variable(value)).write(tmp_path / "x", options)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [
        ".data-00000-of-00001",
        ".index",
    ]


def test_in_the_background_and_by_a_manager(tmp_path: Path) -> None:
    options = CheckpointOptions(
        experimental_sharding_callback=MaxShardSizePolicy(8), enable_async=True
    )
    checkpoint = Checkpoint(v=Variable([1.0, 2.0, 3.0]))
    prefix = checkpoint.save(tmp_path / "x", options)
    checkpoint.sync()
    with BundleReader(prefix) as reader:
        assert reader.entry(KEY).slices == (((0, 2),), ((2, 1),))
        assert reader.read(KEY).tolist() == [1.0, 2.0, 3.0]


def test_tensors_that_are_in_slices_already(tmp_path: Path) -> None:
    value = np.arange(24, dtype=np.int16).reshape(4, 6)
    slices = [([(0, 1), None], value[:1]), ([(1, 3), (0, 6)], value[1:])]
    tensors = [("k", Partitioned((4, 6), np.int16, slices)), ("s", ["a", "bcd", "", "efghijklm"])]
    for limit in (7, 12, 30, 1000):
        prefix = tmp_path / str(limit)
        write_plan(prefix, plan_with(MaxShardSizePolicy(limit), tensors))
        with BundleReader(prefix) as reader:
            np.testing.assert_array_equal(reader.read("k"), value)
            assert reader.read("s").tolist() == [b"a", b"bcd", b"", b"efghijklm"]


def test_arrays_of_jax_are_fetched_when_they_are_written(tmp_path: Path) -> None:
    value = jnp.arange(24.0).reshape(4, 6)
    write_plan(tmp_path / "x", plan_with(MaxShardSizePolicy(20), [("k", value)]))
    with BundleReader(tmp_path / "x") as reader:
        np.testing.assert_array_equal(reader.read("k"), value)
        assert reader.header.num_shards > 4


@given(
    shapes=st.lists(st.lists(st.integers(0, 6), max_size=4), max_size=5),
    limit=st.integers(1, 120),
    item_bytes=st.sampled_from([1, 2, 4, 8]),
)
def test_no_file_is_larger_and_nothing_is_lost(
    shapes: list[list[int]], limit: int, item_bytes: int
) -> None:
    dtype = np.dtype(f"i{item_bytes}")
    values = {
        str(i): np.arange(math.prod(shape)).astype(dtype).reshape(shape)
        for i, shape in enumerate(shapes)
    }
    plan = plan_with(MaxShardSizePolicy(limit), values.items())
    for shard in plan.shards:
        assert sum(t.size_bytes for t in shard) <= limit or (
            len(shard) == 1 and shard[0].size_bytes == item_bytes
        )
    # plan_parts has checked that slices make up their tensors.
    stored = [tensor for shard in plan.shards for tensor in shard]
    assert {tensor.key for tensor in stored} == set(values)
    assert sum(t.size_bytes for t in stored) == sum(value.nbytes for value in values.values())
