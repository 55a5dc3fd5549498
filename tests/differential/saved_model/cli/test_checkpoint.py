"""``savax checkpoint`` says of checkpoints of TensorFlow's what TensorFlow says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sx
from savax.saved_model.cli import main
from tests.saved_model.cli.test_checkpoint import flip

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_DTYPES = ["bfloat16", "bool", "complex64", "complex128", "float16", "float32", *_INTEGERS]


class Net(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by_dtype = [tf.Variable(tf.cast([0, 1, 1], name), name=name) for name in _DTYPES]
        self.words = tf.Variable(["a", "bcd", ""])
        self.empty = tf.Variable(tf.zeros((0, 2)))


def report(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["checkpoint", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def net_prefix(tmp_path_factory: pytest.TempPathFactory) -> str:
    net = Net()
    prefix = str(tmp_path_factory.mktemp("net") / "ckpt")
    return str(tf.train.Checkpoint(net=net).save(prefix))


def test_list_agrees_with_list_variables(
    net_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = tf.train.load_checkpoint(net_prefix)
    dtypes = reader.get_variable_to_dtype_map()
    listed = report(capsys, "list", net_prefix)["tensors"]
    assert [(t["key"], t["shape"]) for t in listed] == tf.train.list_variables(net_prefix)
    assert {t["key"]: t["dtype"] for t in listed} == {k: d.name for k, d in dtypes.items()}


def test_object_based_checkpoint(net_prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(capsys, "verify", net_prefix)["damaged"] == []
    shown = report(capsys, "show", net_prefix)
    assert shown["others"] == []
    kinds = {node["path"]: node["detail"] for node in shown["objects"]}
    assert kinds["root.net.words"] == "string[3]"
    assert kinds["root.net.by_dtype.0"] == "bfloat16[3]"
    paths = [f"net.by_dtype.{i}" for i in range(len(_DTYPES))]
    values = report(capsys, "show", net_prefix, *paths)["tensors"]
    assert [value["dtype"] for value in values] == _DTYPES
    assert all(v["mean"] in (pytest.approx(2 / 3, abs=1e-6), "0.666667+0j") for v in values)


def test_the_same_values_written_by_both_are_equal(
    net_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = tf.train.load_checkpoint(net_prefix)

    class Copy(sx.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by_dtype = [
                sx.Variable(reader.get_tensor(f"net/by_dtype/{i}/.ATTRIBUTES/VARIABLE_VALUE"))
                for i in range(len(_DTYPES))
            ]
            self.words = sx.Variable(np.array([b"a", b"bcd", b""], object))
            self.empty = sx.Variable(np.zeros((0, 2), np.float32))

    checkpoint = sx.train.Checkpoint(net=Copy())
    prefix = checkpoint.save(str(tmp_path / "ckpt"))
    compared = report(capsys, "diff", net_prefix, prefix)
    assert compared["num_equal"] == len(_DTYPES) + 3  # the save counter too


def test_slots_of_an_optimizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variable = tf.Variable([1.0, 2.0], name="w")
    optimizer = tf.keras.optimizers.Adam(0.1)
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    prefix = tf.train.Checkpoint(w=variable, optimizer=optimizer).write(str(tmp_path / "k"))
    assert report(capsys, "show", prefix)["others"] == []
    assert report(capsys, "verify", prefix)["damaged"] == []
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    later = tf.train.Checkpoint(w=variable, optimizer=optimizer).write(str(tmp_path / "k2"))
    keys = [pair["key"] for pair in report(capsys, "diff", prefix, later, code=1)["values"]]
    assert "w/.ATTRIBUTES/VARIABLE_VALUE" in keys


def test_slot_variables_of_an_older_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = tf.Variable([1.0, 2.0], name="w")
    optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    prefix = tf.train.Checkpoint(w=variable, optimizer=optimizer).write(str(tmp_path / "old"))
    shown = report(capsys, "show", prefix)
    assert [(s["variable"], s["slot_name"], s["optimizer"]) for s in shown["slots"]] == [
        ("root.w", "m", "root.optimizer"),
        ("root.w", "v", "root.optimizer"),
    ]
    assert shown["slots"][0]["tensors"][0]["shape"] == [2]
    assert shown["others"] == []
    assert report(capsys, "diff", prefix, prefix)["num_equal"] == 5  # w, m, v, two powers


def test_name_based_checkpoint_with_slices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = str(tmp_path / "v1")
    whole = np.arange(8, dtype=np.float32).reshape(4, 2)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=["part", "part", "w"],
        shape_and_slices=["4 2 0,2:-", "4 2 2,2:-", ""],
        tensors=[whole[:2], whole[2:], tf.constant([7], tf.int64)],
    )
    assert report(capsys, "verify", prefix)["damaged"] == []
    shown = report(capsys, "show", prefix)
    assert shown["objects"] == []
    assert [(t["key"], t["num_slices"]) for t in shown["others"]] == [("part", 2), ("w", 0)]
    (values,) = report(capsys, "show", prefix, "part")["tensors"]
    assert (values["minimum"], values["maximum"]) == (0.0, 7.0)


def test_damage_is_found_where_tensorflow_finds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {f"w{i}": np.full(5, i, np.float32) for i in range(6)}
    prefix = str(tmp_path / "v1")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    for key in ("w1", "w4"):
        flip(prefix, key)
    refused = []
    for key in values:
        try:
            tf.raw_ops.RestoreV2(
                prefix=prefix, tensor_names=[key], shape_and_slices=[""], dtypes=[tf.float32]
            )
        except tf.errors.DataLossError:
            refused.append(key)
    damaged = [d["name"] for d in report(capsys, "verify", prefix, code=1)["damaged"]]
    assert damaged == refused == ["w1", "w4"]


def test_saved_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tf.saved_model.save(Net(), str(tmp_path / "model"))
    assert report(capsys, "verify", str(tmp_path / "model"))["damaged"] == []
    assert report(capsys, "diff", str(tmp_path / "model"), str(tmp_path / "model"))["num_equal"]
