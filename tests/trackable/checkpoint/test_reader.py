"""Reading by keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.errors import KeyNotFoundError, NotFoundError
from savax.trackable.bundle import write_bundle
from savax.trackable.checkpoint import list_variables, load_checkpoint, load_variable
from savax.types import as_dtype

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    tensors = [
        ("w", np.ones((2, 3), np.float32)),
        ("text", np.array(b"hello", object)),
        ("step", np.int64(7)),
    ]
    write_bundle(tmp_path / "c", tensors)
    return tmp_path / "c"


def test_maps_of_the_reader(prefix: Path) -> None:
    reader = load_checkpoint(prefix)
    assert reader.get_variable_to_shape_map() == {"step": [], "text": [], "w": [2, 3]}
    assert reader.get_variable_to_dtype_map()["w"] is as_dtype("float32")
    assert reader.has_tensor("w")
    assert not reader.has_tensor("v")
    assert reader.debug_string().splitlines()[-1] == "w (float32) [2, 3]"
    assert reader.get_tensor("w").tolist() == [[1] * 3] * 2
    assert reader.get_tensor("text") == b"hello"
    assert isinstance(reader.get_tensor("step"), np.int64)


def test_variables_by_name(prefix: Path) -> None:
    assert list_variables(prefix) == [("step", []), ("text", []), ("w", [2, 3])]
    assert load_variable(prefix, "step:0") == 7
    with pytest.raises(KeyNotFoundError, match="'step'"):
        load_variable(prefix, "stp")
    with pytest.raises(NotFoundError):
        list_variables(prefix.with_name("d"))
