"""Python state in checkpoints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax
from savax.errors import InvalidArgumentError, NotEncodableError
from savax.trackable import Variable
from savax.trackable.bundle import write_bundle
from savax.trackable.checkpoint import Checkpoint, PythonState, load_variable

if TYPE_CHECKING:
    from pathlib import Path


class Settings(PythonState):
    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def serialize(self) -> str:
        return json.dumps(self.settings)

    def deserialize(self, string_value: bytes) -> None:
        self.settings = json.loads(string_value)


class Raw(PythonState):
    def __init__(self, state: Any) -> None:
        self.state = state

    def serialize(self) -> Any:
        return self.state

    def deserialize(self, string_value: bytes) -> None:
        self.state = string_value


def test_text_and_bytes(tmp_path: Path) -> None:
    source = Checkpoint(settings=Settings(name="ä", rate=0.1), raw=Raw(b"\x00\xff"))
    prefix = source.save(tmp_path / "c")
    assert load_variable(prefix, "raw/.ATTRIBUTES/py_state") == b"\x00\xff"
    settings, raw = Settings(), Raw(b"")
    Checkpoint(settings=settings, raw=raw).restore(prefix).assert_consumed()
    assert settings.settings == {"name": "ä", "rate": 0.1}
    assert raw.state == b"\x00\xff"


def test_a_state_that_is_tracked_later(tmp_path: Path) -> None:
    Checkpoint(raw=Raw("x")).write(tmp_path / "c")
    checkpoint = Checkpoint()
    status = checkpoint.read(tmp_path / "c")
    checkpoint.raw = Raw(None)  # a report must not ask it for a state that it doesn't have
    assert checkpoint.raw.state == b"x"
    status.assert_consumed()


@pytest.mark.parametrize("state", [None, 5, ["a"]])
def test_a_state_is_a_string(tmp_path: Path, state: Any) -> None:
    with pytest.raises(NotEncodableError, match=r"Raw\.serialize"):
        Checkpoint(raw=Raw(state)).write(tmp_path / "c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [np.float32(1), np.array([b"a", b"b"], object), np.ones(2)], ids=str
)
def test_a_stored_state_is_one_string(tmp_path: Path, value: Any) -> None:
    good = Checkpoint(raw=Raw("x"), v=Variable(1))
    good.write(tmp_path / "good")
    graph = np.array(load_variable(tmp_path / "good", "_CHECKPOINTABLE_OBJECT_GRAPH"), object)
    tensors = [
        ("raw/.ATTRIBUTES/py_state", value),
        ("v/.ATTRIBUTES/VARIABLE_VALUE", np.int32(5)),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", graph),
    ]
    write_bundle(tmp_path / "bad", tensors)
    with pytest.raises(InvalidArgumentError, match=r"root\.raw: expected"):
        good.read(tmp_path / "bad")
    assert good.v == 1


def test_the_base_is_abstract_and_public() -> None:
    assert savax.train.experimental.PythonState is PythonState
    with pytest.raises(TypeError, match="abstract"):
        PythonState()  # type: ignore[abstract]
