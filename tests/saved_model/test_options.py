"""Options: what is implemented is checked when they are made, the rest is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import savax as sv
from savax.errors import InvalidArgumentError, UnsupportedOptionError
from savax.saved_model import LoadOptions, SaveOptions, load, save
from savax.saved_model.experimental import VariablePolicy
from savax.train import CheckpointOptions
from savax.train.experimental import ShardByTaskPolicy

# A value other than the default for each field that does nothing yet.
UNSUPPORTED: dict[Any, dict[str, Any]] = {
    SaveOptions: {
        "experimental_io_device": "/job:worker/task:1",
    },
    LoadOptions: {"experimental_io_device": "/job:worker"},
}
SUPPORTED: dict[Any, dict[str, Any]] = {
    SaveOptions: {
        "namespace_whitelist": [],
        "save_debug_info": True,
        "function_aliases": {},
        "experimental_debug_stripper": True,
        "experimental_variable_policy": "save_variable_devices",
        "experimental_custom_gradients": False,
        "experimental_skip_saver": True,
        "experimental_sharding_callback": ShardByTaskPolicy(),
        "extra_tags": ["gpu"],
        "experimental_image_format": True,
    },
    LoadOptions: {
        "allow_partial_checkpoint": True,
        "experimental_skip_checkpoint": True,
        "experimental_variable_policy": VariablePolicy.SAVE_VARIABLE_DEVICES,
        "experimental_load_function_aliases": True,
    },
}


@pytest.mark.parametrize("options", [SaveOptions, LoadOptions])
def test_every_field_is_obeyed_or_refused(options) -> None:
    names = [field.name for field in dataclasses.fields(options)]
    known = {*UNSUPPORTED[options], *SUPPORTED[options], "experimental_io_device"}
    assert set(names) - {"as_text", "lowering", "fallback", "target"} == known
    options(**SUPPORTED[options])
    for name, value in UNSUPPORTED[options].items():
        with pytest.raises(UnsupportedOptionError, match=name):
            options(**{name: value})
    with pytest.raises(TypeError):
        options(unknown=1)


@pytest.mark.parametrize("value", [3, "f", lambda: None, [3], None])
def test_an_alias_is_of_a_function(value) -> None:
    with pytest.raises(TypeError, match="'name'"):
        SaveOptions(function_aliases={"name": value})


def test_aliases_of_several_functions() -> None:
    f, g = sv.function(lambda x: x), sv.function(lambda x: x + 1)
    concrete = f.get_concrete_function(sv.TensorSpec([], sv.float32))
    options = SaveOptions(function_aliases={"one": f, "two": concrete, "three": [f, g]})
    assert options.aliases() == {"one": [f], "two": [concrete], "three": [f, g]}


def test_extra_tags_are_a_list() -> None:
    with pytest.raises(ValueError, match="list of tags"):
        SaveOptions(extra_tags="gpu")


@pytest.mark.parametrize("options", [SaveOptions, LoadOptions, CheckpointOptions])
def test_files_are_read_and_written_by_this_host(options) -> None:
    for device in (None, "", "/job:localhost", "/job:localhost/replica:0/task:0/device:CPU:0"):
        assert options(experimental_io_device=device).experimental_io_device == device
    for device in ("/job:worker", "/task:1", "/job:localhost/task:3/device:CPU:0"):
        with pytest.raises(UnsupportedOptionError, match="/job:localhost"):
            options(experimental_io_device=device)
    for device in ("localhost", 3, "/task:x"):
        with pytest.raises(InvalidArgumentError, match="device"):
            options(experimental_io_device=device)


def test_every_field_has_a_row_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    for options in (SaveOptions, LoadOptions, CheckpointOptions):
        _, _, section = page.partition(f".{options.__name__}\n")
        section = section.partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE)
        assert rows == [(field.name, repr(field.default)) for field in dataclasses.fields(options)]


def test_nothing_but_the_root_is_no_partial_checkpoint(tmp_path) -> None:
    model, other = sv.Module(), sv.Module()
    model.w, model.b, other.x = sv.Variable(1.0), sv.Variable(2.0), sv.Variable(3.0)
    save(model, tmp_path / "m")
    (tmp_path / "m" / "fingerprint.pb").unlink()
    sv.train.Checkpoint(other).write(tmp_path / "m" / "variables" / "variables")
    partial = LoadOptions(allow_partial_checkpoint=True)
    with pytest.raises(AssertionError, match="nothing in common"):
        load(tmp_path / "m", options=partial)
    other.b = sv.Variable(5.0)
    sv.train.Checkpoint(other).write(tmp_path / "m" / "variables" / "variables")
    with pytest.raises(ValueError, match="'Variable' \\(node"):
        load(tmp_path / "m")
    loaded = load(tmp_path / "m", options=partial)
    assert float(loaded.b) == 5
    with pytest.raises(ValueError, match="no value yet"):
        float(loaded.w)


@pytest.mark.parametrize("options", [SaveOptions, LoadOptions])
def test_policies_by_name(options) -> None:
    for policy in VariablePolicy:
        for spelled in (policy, policy.value, (policy.value or "").upper() or None):
            made = options(experimental_variable_policy=spelled)
            assert made.experimental_variable_policy is policy
    with pytest.raises(ValueError, match="save_variable_devices"):
        options(experimental_variable_policy="devices")


def test_loaded_values_go_to_their_devices(tmp_path) -> None:
    model = sv.Module()
    model.w = sv.Variable(np.ones(3, np.float32))
    model.steps = sv.Variable(np.int64(2**40))
    model.words = sv.Variable(["a", "b"])
    save(
        model,
        tmp_path / "m",
        options=SaveOptions(experimental_variable_policy="save_variable_devices"),
    )
    loaded = load(
        tmp_path / "m", options=LoadOptions(experimental_variable_policy="save_variable_devices")
    )
    assert loaded.w._converted  # on the device already
    assert not load(tmp_path / "m").w._converted
    assert loaded.steps._host_value() == 2**40
    assert loaded.words.numpy().tolist() == [b"a", b"b"]


def test_a_device_that_this_machine_lacks_is_no_error(tmp_path) -> None:
    model = sv.Module()
    model.w = sv.Variable(np.ones(3, np.float32))
    policy = "expand_distributed_variables"
    save(
        model,
        tmp_path / "m",
        options=SaveOptions(experimental_variable_policy=policy, as_text=True),
    )
    path = tmp_path / "m" / "saved_model.pbtxt"
    for device in ("TPU:7", "XPU:1", "CPU:99999", "nonsense"):
        changed = re.sub(r"device:\w+:?\d*\"", f'device:{device}"', path.read_text())
        path.write_text(changed)
        loaded = load(tmp_path / "m", options=LoadOptions(experimental_variable_policy=policy))
        assert loaded.w.numpy().tolist() == [1, 1, 1]
