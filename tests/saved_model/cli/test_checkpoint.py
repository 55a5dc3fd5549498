"""``savax checkpoint``: what its commands print, find, refuse and end with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import savax as sx
from savax.protos import TrackableObjectGraph
from savax.saved_model.cli import main
from savax.trackable.bundle import BundleReader, Partitioned, write_bundle
from savax.trackable.bundle._index import build_index, encode_key, read_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from savax.trackable.bundle import Entry

VALUES: list[tuple[str, Any]] = [
    ("bf", np.arange(4).astype(ml_dtypes.bfloat16)),
    ("bool", np.array([True, False])),
    ("complex", np.array([1 + 2j], np.complex64)),
    ("empty", np.zeros((0, 3), np.float64)),
    ("floats", np.array([1, np.nan, np.inf, 2], np.float32)),
    ("int4", np.array([-8, 7]).astype(ml_dtypes.int4)),
    (
        "parted",
        Partitioned(
            (4, 2),
            "float32",
            [
                ([(0, 2), None], np.full((2, 2), 1, np.float32)),
                ([(2, 2), None], np.full((2, 2), 3, np.float32)),
            ],
        ),
    ),
    ("strings", np.array([b"abc", b"\x1b[31mred"], object)),
    ("uint64", np.array([2**64 - 1, 0], np.uint64)),
]


class Model(sx.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.layers = [sx.Variable(np.arange(1, 7, dtype=np.float32) * scale)]
        self.first = self.layers[0]


@pytest.fixture
def flat(tmp_path: Path) -> str:
    """A name-based checkpoint."""
    prefix = str(tmp_path / "flat")
    write_bundle(prefix, VALUES)
    return prefix


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """An object-based checkpoint."""
    step = sx.Variable(3, dtype=sx.int64)
    return sx.train.Checkpoint(model=Model(), step=step).write(str(tmp_path / "tree" / "ckpt"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["checkpoint", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""  # no progress bar where there is no terminal
    return captured.out


def report(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", code=code))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(["checkpoint", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("savax: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def flip(prefix: str, key: str, position: int = 0) -> None:
    """Changes a byte of a tensor in its data file."""
    with BundleReader(prefix) as reader:
        entry = reader.entry(key)
        path = f"{prefix}.data-{entry.shard:05d}-of-{reader.header.num_shards:05d}"
    with open(path, "r+b") as file:
        file.seek(entry.offset_bytes + position)
        byte = file.read(1)[0]
        file.seek(entry.offset_bytes + position)
        file.write(bytes((byte ^ 0x10,)))


# list


def test_list_has_every_key_sorted_with_totals(
    flat: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = report(capsys, "list", flat)
    assert [tensor["key"] for tensor in listed["tensors"]] == [key for key, _ in VALUES]
    by_key = {tensor["key"]: tensor for tensor in listed["tensors"]}
    assert by_key["bf"] == {
        "key": "bf",
        "dtype": "bfloat16",
        "shape": [4],
        "size_bytes": 8,
        "num_slices": 0,
    }
    assert (by_key["parted"]["size_bytes"], by_key["parted"]["num_slices"]) == (32, 2)
    assert listed["num_elements"] == 4 + 2 + 1 + 0 + 4 + 2 + 8 + 2 + 2
    assert listed["size_bytes"] == sum(tensor["size_bytes"] for tensor in listed["tensors"])


def test_list_is_a_table(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "list", flat).splitlines()
    assert "parted   float32[4, 2]  32 B  in 2 slices" in lines
    assert "empty    float64[0, 3]   0 B" in lines
    assert "9 tensors, 25 elements" in lines[1]


def test_list_takes_a_pattern(tree: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = report(capsys, "list", tree, "--match", "model/*")
    assert [t["key"] for t in listed["tensors"]] == ["model/first/.ATTRIBUTES/VARIABLE_VALUE"]
    assert "matches 'nothing*'" in error_of(capsys, "list", tree, "--match", "nothing*")


def test_all_ways_to_name_a_checkpoint(
    tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = sx.train.Checkpoint(model=Model())
    checkpoint.save(str(tmp_path / "run" / "ckpt"))
    latest = checkpoint.save(str(tmp_path / "run" / "ckpt"))
    sx.saved_model.save(Model(), tmp_path / "model")
    assert report(capsys, "list", f"{tree}.index")["prefix"] == tree
    assert report(capsys, "list", str(tmp_path / "run"))["prefix"] == latest
    variables = report(capsys, "list", str(tmp_path / "model"))
    assert variables["prefix"] == str(tmp_path / "model" / "variables" / "variables")


# show


def test_show_is_the_object_tree(tree: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "show", tree)
    assert "object-based, 2 tensors, 32 B in 1 data file" in text
    assert "first: variable float32[6], 24 B" in text
    assert "0 -> root.model.first" in text
    assert "Tensors" not in text


def test_show_of_a_name_based_checkpoint_is_flat(
    flat: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "show", flat)
    assert "name-based, 9 tensors" in text
    assert "Objects:" not in text
    assert "bf       bfloat16[4]" in text


def graph_with_slot() -> TrackableObjectGraph:
    """A Variable, an optimizer, its slot that only it names, and a cycle."""
    graph = TrackableObjectGraph()
    root, variable, optimizer, slot = (graph.nodes.add() for _ in range(4))
    root.children.add(local_name="w", node_id=1)
    root.children.add(local_name="opt", node_id=2)
    optimizer.children.add(local_name="owner", node_id=0)
    variable.attributes.add(name="VARIABLE_VALUE", checkpoint_key="w/v")
    slot.attributes.add(name="VARIABLE_VALUE", checkpoint_key="w/m")
    optimizer.slot_variables.add(
        original_variable_node_id=1, slot_name="m", slot_variable_node_id=3
    )
    return graph


def write_graph(prefix: Path, graph: TrackableObjectGraph, *keys: str) -> str:
    data = np.array(graph.SerializeToString(), object)
    values = [(key, np.ones(2, np.float32)) for key in keys]
    write_bundle(prefix, [*values, ("_CHECKPOINTABLE_OBJECT_GRAPH", data)])
    return str(prefix)


def test_show_has_slots_and_tensors_of_no_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = write_graph(tmp_path / "slots", graph_with_slot(), "w/v", "w/m", "left over")
    text = run(capsys, "show", prefix)
    assert "Slot variables:\n  root.w: m  float32[2]  8 B  in root.opt" in text
    assert "Tensors of no object:\n  left over  float32[2]  8 B" in text
    assert "owner -> root" in text
    assert report(capsys, "show", prefix)["slots"][0]["tensors"][0]["key"] == "w/m"


def test_show_sums_up_values(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [key for key, _ in VALUES]
    shown = {t["key"]: t for t in report(capsys, "show", flat, *keys)["tensors"]}
    floats = shown["floats"]
    assert (floats["minimum"], floats["maximum"], floats["mean"]) == (1.0, 2.0, 1.5)
    assert (floats["num_nan"], floats["num_infinite"]) == (1, 1)
    assert floats["first"] == ["1.0", "nan", "inf", "2.0"]
    assert shown["uint64"]["maximum"] == 2**64 - 1
    assert (shown["int4"]["minimum"], shown["int4"]["maximum"]) == (-8, 7)
    assert shown["bf"]["mean"] == 1.5
    assert shown["complex"]["mean"] == "1+2j"
    assert shown["parted"]["mean"] == 2.0
    assert (shown["empty"]["minimum"], shown["empty"]["first"]) == (None, [])
    assert (shown["strings"]["minimum"], shown["strings"]["maximum"]) == (3, 8)
    text = run(capsys, "show", flat, *keys)
    assert "\x1b" not in text
    assert "values  b'abc', b'\\x1b[31mred'" in text


@pytest.mark.parametrize("path", ["model.layers.0", "root.model.first"])
def test_show_takes_any_path_of_an_object(
    tree: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tensor,) = report(capsys, "show", tree, path)["tensors"]
    assert (tensor["key"], tensor["maximum"]) == ("model/first/.ATTRIBUTES/VARIABLE_VALUE", 6.0)


def test_show_of_an_unknown_key_names_the_nearest(
    tree: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "The nearest are 'step/.ATTRIBUTES" in error_of(capsys, "show", tree, "stop")


def test_show_of_a_damaged_value_is_an_error(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    flip(flat, "floats")
    assert "'floats' doesn't match its checksum" in error_of(capsys, "show", flat, "floats")


# verify


def test_verify_of_a_sound_checkpoint(
    flat: str, tree: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no damage" in run(capsys, "verify", tree)
    verified = report(capsys, "verify", flat)
    assert verified["damaged"] == []
    assert verified["size_bytes"] == os.path.getsize(f"{flat}.data-00000-of-00001")


def test_verify_names_every_damaged_tensor(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    for key, position in (("floats", 3), ("bf", 0), ("strings", 0), ("uint64", 9)):
        flip(flat, key, position)
    damaged = {d["name"]: d["reason"] for d in report(capsys, "verify", flat, code=1)["damaged"]}
    assert list(damaged) == ["bf", "floats", "strings", "uint64"]
    assert damaged["uint64"].startswith("16 B at byte ")
    text = run(capsys, "verify", flat, code=1)
    assert "4 damaged" in text
    assert "\n  floats   16 B at byte" in text


def test_verify_names_slices(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{flat}.data-00000-of-00001"
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[data.index(np.full(4, 3, np.float32).tobytes())] ^= 1
    with open(path, "wb") as file:
        file.write(data)
    (damage,) = report(capsys, "verify", flat, code=1)["damaged"]
    assert damage["name"] == "parted[2:4, 0:2]"


def test_verify_of_a_data_file_cut_off_names_all_behind_it(
    flat: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with BundleReader(flat) as reader:
        entry = reader.entry("strings")
    os.truncate(f"{flat}.data-00000-of-00001", entry.offset_bytes + 1)
    flip_before = "bf"
    with open(f"{flat}.data-00000-of-00001", "r+b") as file:
        file.write(b"\xff")
    verified = report(capsys, "verify", flat, code=1)
    assert [d["name"] for d in verified["damaged"]] == [flip_before, "strings", "uint64"]
    assert "which has only" in verified["damaged"][1]["reason"]


def test_verify_without_a_data_file_checks_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = str(tmp_path / "two")
    write_bundle(prefix, [("a", np.ones(4)), ("b", np.ones(4)), ("c", np.ones(4))], shards=3)
    os.unlink(f"{prefix}.data-00001-of-00003")
    with open(f"{prefix}.data-00002-of-00003", "r+b") as file:
        file.write(b"\1")
    damaged = {d["name"]: d["reason"] for d in report(capsys, "verify", prefix, code=1)["damaged"]}
    assert list(damaged) == ["b", "c"]
    assert damaged["b"] == "data file 1 can't be opened: No such file or directory"


def test_verify_of_a_damaged_index_is_damage(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open(f"{flat}.index", "r+b") as file:
        file.seek(20)
        file.write(b"\xff\xff")
    (damage,) = report(capsys, "verify", flat, code=1)["damaged"]
    assert damage["name"] == f"{flat}.index"


@pytest.mark.parametrize("size", range(0, 120, 7))
def test_verify_of_every_kind_of_truncated_index_ends(
    flat: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(f"{flat}.index", size)
    assert len(report(capsys, "verify", flat, code=1)["damaged"]) == 1


def rewrite_index(prefix: str, change: Callable[[dict[bytes, Entry]], None]) -> None:
    """Writes the index anew, with entries by stored key that a function changed."""
    with open(f"{prefix}.index", "rb") as file:
        index = read_index(file.read())
    entries = {encode_key(key): entry for key, entry in index.entries.items()} | index.slices
    change(entries)
    with open(f"{prefix}.index", "wb") as file:
        file.write(build_index(index.header.num_shards, entries.items()))


def test_verify_names_all_tensors_of_the_same_bytes(
    flat: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_index(flat, lambda entries: entries.update({b"again": entries[b"floats"]}))
    before = report(capsys, "verify", flat)["size_bytes"]
    assert before == os.path.getsize(f"{flat}.data-00000-of-00001")  # read once only
    flip(flat, "floats")
    damaged = report(capsys, "verify", flat, code=1)["damaged"]
    assert [damage["name"] for damage in damaged] == ["again", "floats"]


def test_verify_misses_slices_that_are_not_there(
    flat: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_index(flat, lambda entries: entries.pop(min(entries)))
    (damage,) = report(capsys, "verify", flat, code=1)["damaged"]
    assert damage["name"] == "parted"
    assert "slice" in damage["reason"]


def test_verify_says_what_it_could_not_check(flat: str, capsys: pytest.CaptureFixture[str]) -> None:
    variant = 21
    rewrite_index(
        flat,
        lambda entries: entries.update(
            {b"bf": entries[b"bf"]._replace(dtype_number=variant, shape=())}
        ),
    )
    verified = report(capsys, "verify", flat)
    assert verified["unchecked"] == ["bf"]
    assert "1 tensor of types whose checksums only TensorFlow" in run(capsys, "verify", flat)
    assert [p["key"] for p in report(capsys, "diff", flat, flat, code=2)["unreadable"]] == ["bf"]


def test_verify_checks_the_object_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = write_graph(tmp_path / "lacking", graph_with_slot(), "w/v")
    (damage,) = report(capsys, "verify", prefix, code=1)["damaged"]
    assert damage["name"] == "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert "'w/m'" in damage["reason"]


def test_verify_refuses_booleans_that_reading_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = str(tmp_path / "bytes")
    write_bundle(prefix, [("x", np.array([0, 2], np.uint8))])
    number = sx.bool.number
    rewrite_index(
        prefix, lambda entries: entries.update({b"x": entries[b"x"]._replace(dtype_number=number)})
    )
    (damage,) = report(capsys, "verify", prefix, code=1)["damaged"]
    assert damage["reason"] == "holds booleans other than 0 and 1"


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("name", ["flat", "tree"])
def test_what_verify_calls_sound_is_what_was_written(
    name: str,
    suffix: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = request.getfixturevalue(name)
    for end in (".index", ".data-00000-of-00001"):
        shutil.copy(sound + end, tmp_path / f"changed{end}")
    changed = tmp_path / f"changed{suffix}"
    data = changed.read_bytes()
    codes = set()
    for _ in range(60):
        mutant = bytearray(data)
        mutant[rng.integers(len(data))] ^= 1 << rng.integers(8)
        changed.write_bytes(
            mutant[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else mutant
        )
        code = main(["checkpoint", "verify", str(tmp_path / "changed")])
        codes.add(code)
        compared = main(["checkpoint", "diff", sound, str(tmp_path / "changed")])
        assert (code, compared) in {(0, 0), (1, 2)}
        assert main(["checkpoint", "list", str(tmp_path / "changed")]) in (0, 1)
    assert 1 in codes
    capsys.readouterr()


def test_verify_of_nothing_is_trouble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no checkpoint" in error_of(capsys, "verify", str(tmp_path / "x"), code=2)


# diff


def test_equal_checkpoints(flat: str, tree: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "9 tensors equal" in run(capsys, "diff", flat, flat)  # NaN and infinity included
    assert "2 tensors equal" in run(capsys, "diff", tree, tree)


def pair(tmp_path: Path, a: dict[str, Any], b: dict[str, Any]) -> tuple[str, str]:
    prefixes = str(tmp_path / "a"), str(tmp_path / "b")
    for prefix, values in zip(prefixes, (a, b), strict=True):
        write_bundle(prefix, values.items())
    return prefixes


def test_diff_sorts_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones = np.ones(3, np.float32)
    a, b = pair(
        tmp_path,
        {"same": ones, "gone": ones, "shape": ones, "dtype": ones, "value": ones, "s": [b"x"]},
        {
            "same": ones,
            "new": ones,
            "shape": np.ones((3, 1), np.float32),
            "dtype": np.array([1, 1, 1.5], ml_dtypes.bfloat16),
            "value": np.array([1, 2, 5], np.float32),
            "s": [b"y"],
        },
    )
    found = report(capsys, "diff", a, b, code=1)
    assert [t["key"] for t in found["only_in_a"]] == ["gone"]
    assert [t["key"] for t in found["only_in_b"]] == ["new"]
    assert [p["key"] for p in found["kinds"]] == ["dtype", "shape"]
    assert found["kinds"][0]["distance"]["max_absolute"] == 0.5
    assert found["kinds"][1]["distance"] is None
    assert [p["key"] for p in found["values"]] == ["s", "value"]
    assert found["values"][0]["distance"]["max_absolute"] is None
    assert found["values"][1]["distance"] == {
        "num_elements": 3,
        "num_unequal": 2,
        "num_outside": 2,
        "max_absolute": 4.0,
        "max_relative": 0.8,
    }
    text = run(capsys, "diff", a, b, code=1)
    assert "value  float32[3]  2 of 3  max abs 4  max rel 0.8" in text
    assert "shape  float32[3]  float32[3, 1]" in text
    assert text.endswith("\n1 tensor equal\n")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 1),
        (["--atol", "0.5"], 0),
        (["--atol", "0.49"], 1),
        (["--rtol", "0.2"], 0),
        (["--rtol", "0.19"], 1),
        (["--atol", "0.25", "--rtol", "0.1"], 0),
    ],
)
def test_tolerance(
    tmp_path: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair(tmp_path, {"x": np.array([1.0, 2.0])}, {"x": np.array([1.0, 2.5])})
    run(capsys, "diff", a, b, *options, code=code)
    run(capsys, "diff", b, a, *options, code=code)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much"])
def test_tolerance_that_is_none(flat: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["checkpoint", "diff", flat, flat, f"--atol={text}"])
    assert "--atol" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (np.array([2**53], np.int64), np.array([2**53 + 1], np.int64), 1.0),
        (np.array([2**63 - 1], np.int64), np.array([-(2**63)], np.int64), 2.0**64),
        (np.array([0], np.uint64), np.array([2**64 - 1], np.uint64), 2.0**64),
        (np.array([np.nan]), np.array([1.0]), "inf"),
        (np.array([np.inf]), np.array([-np.inf]), "inf"),
        (np.array([1e308]), np.array([-1e308]), "inf"),
        (np.array([1 + 1j]), np.array([1 + 4j]), 3.0),
        (np.array([True]), np.array([False]), 1.0),
    ],
    ids=str,
)
def test_distance_at_the_ends_of_types(
    tmp_path: Path, a: Any, b: Any, distance: object, capsys: pytest.CaptureFixture[str]
) -> None:
    prefixes = pair(tmp_path, {"x": a}, {"x": b})
    (found,) = report(capsys, "diff", *prefixes, code=1)["values"]
    assert found["distance"]["max_absolute"] == distance
    assert found["distance"]["num_outside"] == 1


def test_infinite_distance_is_within_no_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefixes = pair(tmp_path, {"x": np.array([np.nan, np.inf])}, {"x": np.array([1.0, 1.0])})
    (found,) = report(capsys, "diff", *prefixes, "--rtol", "1", code=1)["values"]
    assert found["distance"]["num_outside"] == 2


def test_zeros_of_both_signs_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefixes = pair(tmp_path, {"x": np.array([0.0])}, {"x": np.array([-0.0])})
    assert report(capsys, "diff", *prefixes)["num_equal"] == 1


def test_parted_and_whole_tensors_are_compared_by_value(
    flat: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = np.repeat(np.array([1, 1, 3, 3], np.float32)[:, None], 2, axis=1)
    write_bundle(tmp_path / "whole", [("parted", whole)])
    run(capsys, "diff", flat, str(tmp_path / "whole"), "--match", "parted")


def test_diff_of_a_part_that_the_pattern_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefixes = pair(tmp_path, {"x": [1.0], "y": [1.0]}, {"x": [1.0], "y": [2.0]})
    run(capsys, "diff", *prefixes, "--match", "x*")
    assert "A or B" in error_of(capsys, "diff", *prefixes, "--match", "z*", code=2)


def test_diff_goes_on_behind_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(tmp_path, {"x": [1.0], "y": [1.0]}, {"x": [1.0], "y": [2.0]})
    flip(b, "x")
    found = report(capsys, "diff", a, b, code=2)
    assert [p["key"] for p in found["unreadable"]] == ["x"]
    assert [p["key"] for p in found["values"]] == ["y"]


def test_diff_goes_on_behind_a_damaged_object_graph(
    tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sx.train.Checkpoint(model=Model(2.0), step=sx.Variable(3, dtype=sx.int64))
    prefix = other.write(str(tmp_path / "other"))
    flip(prefix, "_CHECKPOINTABLE_OBJECT_GRAPH", 9)
    found = report(capsys, "diff", tree, prefix, code=2)
    assert [p["key"] for p in found["unreadable"]] == ["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert [p["key"] for p in found["values"]] == ["model/first/.ATTRIBUTES/VARIABLE_VALUE"]


def test_object_graphs_are_compared_by_path(
    tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model()
    del model.layers
    step = sx.Variable(3, dtype=sx.int64)
    other = sx.train.Checkpoint(model=model, step=step).write(str(tmp_path / "other"))
    found = report(capsys, "diff", tree, other, code=1)
    assert found["graph_only_in_a"] == [
        "root.model.layers",
        "root.model.layers.0 -> root.model.first",
    ]
    assert found["graph_only_in_b"] == []
    assert found["values"] == []


def test_order_of_nodes_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = graph_with_slot()
    other = TrackableObjectGraph()
    for old in (0, 3, 2, 1):  # swaps the Variable and its slot
        other.nodes.add().CopyFrom(graph.nodes[old])
    other.nodes[0].children[0].node_id = 3
    slot = other.nodes[2].slot_variables[0]
    slot.original_variable_node_id, slot.slot_variable_node_id = 3, 1
    a = write_graph(tmp_path / "a", graph, "w/v", "w/m")
    b = write_graph(tmp_path / "b", other, "w/v", "w/m")
    run(capsys, "diff", a, b)


# all of them


@pytest.mark.parametrize("command", ["list", "show", "verify", "diff"])
def test_help_has_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["checkpoint", command, "--help"])
    assert "Exit codes: 0" in capsys.readouterr().out


def test_interrupted_work_is_no_traceback(
    tree: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("savax.saved_model.cli._verify.read_into", interrupt)
    assert run(capsys, "verify", tree, code=130) == ""


def test_names_with_control_characters_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = str(tmp_path / "odd")
    write_bundle(prefix, [("\x1b[31m\nline", [1.0]), ("no utf-8 \udcff", [1.0])])
    for command in ("list", "show", "verify"):
        assert "\x1b" not in run(capsys, command, prefix)
    assert "\\x1b[31m\\nline" in run(capsys, "list", prefix)


def test_paths_that_look_alike_are_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = TrackableObjectGraph()
    nodes = [graph.nodes.add() for _ in range(41)]
    for i, node in enumerate(nodes[:-2]):  # as many ways as Fibonacci's numbers
        node.children.add(local_name="a", node_id=i + 1)
        node.children.add(local_name="a.a", node_id=i + 2)
    prefix = write_graph(tmp_path / "dots", graph)
    assert run(capsys, "show", prefix).count("\n") < 200
    error_of(capsys, "show", prefix, "a." * 38 + "nowhere")


def test_commands_load_neither_jax_nor_tensorflow(tree: str) -> None:
    code = (
        "import sys\n"
        "from savax.saved_model.cli import main\n"
        f"p = {tree!r}\n"
        "calls = (['list', p], ['show', p], ['show', p, 'step'], ['verify', p], ['diff', p, p])\n"
        "codes = [main(['checkpoint', *call]) for call in calls]\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(any(codes) or bool(loaded & {'jax', 'jaxlib', 'tensorflow'}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
