"""The state file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from savax.errors import InvalidArgumentError
from savax.trackable.checkpoint import (
    get_checkpoint_state,
    latest_checkpoint,
    write_checkpoint_state,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_history_and_times_are_written_as_tensorflow_writes_them(tmp_path: Path) -> None:
    prefixes = [str(tmp_path / "c-1"), "/elsewhere/c-2", str(tmp_path / "sub" / "c-3")]
    write_checkpoint_state(
        tmp_path, prefixes, timestamps=[1.5, 2.5, 3.5], last_preserved_timestamp=1.5
    )
    assert (tmp_path / "checkpoint").read_text() == (
        'model_checkpoint_path: "sub/c-3"\n'
        'all_model_checkpoint_paths: "c-1"\n'
        'all_model_checkpoint_paths: "/elsewhere/c-2"\n'
        'all_model_checkpoint_paths: "sub/c-3"\n'
        "all_model_checkpoint_timestamps: 1.5\n"
        "all_model_checkpoint_timestamps: 2.5\n"
        "all_model_checkpoint_timestamps: 3.5\n"
        "last_preserved_timestamp: 1.5\n"
    )
    state = get_checkpoint_state(tmp_path)
    assert state is not None
    assert list(state.all_model_checkpoint_paths) == prefixes
    assert state.model_checkpoint_path == prefixes[-1]
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("content", [None, b"no: text {", b"\xff\xfe"])
def test_a_missing_or_broken_state_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "checkpoint").write_bytes(content)
    assert get_checkpoint_state(tmp_path) is None
    assert latest_checkpoint(tmp_path) is None


def test_an_empty_state_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    with pytest.raises(InvalidArgumentError, match="names no checkpoint"):
        get_checkpoint_state(tmp_path)


def test_a_state_whose_checkpoint_is_gone_names_none(tmp_path: Path) -> None:
    write_checkpoint_state(tmp_path, [str(tmp_path / "c-1")])
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "c-1.index").touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "c-1")


def test_other_state_files(tmp_path: Path) -> None:
    write_checkpoint_state(tmp_path, [str(tmp_path / "c-1")], latest_filename="best")
    (tmp_path / "c-1.index").touch()
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path, "best") == str(tmp_path / "c-1")


def test_a_checkpoint_may_not_be_named_like_the_state_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="another prefix"):
        write_checkpoint_state(tmp_path, [str(tmp_path / "checkpoint")])
