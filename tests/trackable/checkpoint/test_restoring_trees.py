"""How a tree is restored: from one snapshot of the checkpoint, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._restoration import Restoration
from savax.train import restore_tree, save_tree

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_checkpoint_that_changes_in_between_is_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tree(tmp_path / "c", {"a": 1, "b": 1})
    report = Restoration.report

    def report_and_replace(self: Any, *args: Any) -> Any:
        monkeypatch.undo()
        save_tree(tmp_path / "c", {"a": 2})
        return report(self, *args)

    monkeypatch.setattr(Restoration, "report", report_and_replace)
    assert restore_tree(tmp_path / "c", {"a": 0, "b": 0}) == {"a": 1, "b": 1}
    assert restore_tree(tmp_path / "c") == {"a": 2}


def test_the_index_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tree(tmp_path / "c", {"a": 1, "b": 1})
    opened = []
    init = BundleReader.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        opened.append(args)
        init(self, *args, **options)

    monkeypatch.setattr(BundleReader, "__init__", noted)
    assert restore_tree(tmp_path / "c", {"a": 0, "b": 0}) == {"a": 1, "b": 1}
    assert len(opened) == 1
