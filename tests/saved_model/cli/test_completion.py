"""The script of ``savax completion`` in real shells."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from savax.saved_model.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def completed(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> list[str]:
    """Returns what a shell offers for the last of some words."""
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _savax\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "-u", "-c", ask], cwd=directory, check=True, capture_output=True, text=True
    )
    assert result.stderr == ""
    return sorted(result.stdout.split("\n")[:-1])


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (
            ("savax", ""),
            [
                *("checkpoint", "completion", "convert", "diff", "draw", "freeze", "run", "scan"),
                "show",
            ],
        ),
        (("savax", "s"), ["scan", "show"]),
        (("savax", "checkpoint", ""), ["diff", "list", "show", "verify"]),
        (("savax", "checkpoint", "diff", "a", "--a"), ["--atol"]),
        (("savax", "diff", "--a"), ["--atol"]),
        (("savax", "show", "--"), ["--all", "--help", "--json", "--signature", "--tags"]),
        (("savax", "show", "mo"), ["model one", "model_two"]),
        (("savax", "run", "model", "--in"), ["--input-examples", "--input-exprs", "--inputs"]),
        (("savax", "completion", ""), ["bash"]),
        (("savax", "scan", "show", "--o"), ["--ops"]),
    ],
    ids=range(10),
)
def test_bash_offers_what_can_follow(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], offers: list[str]
) -> None:
    (tmp_path / "model one").mkdir()
    (tmp_path / "model_two").mkdir()
    found = completed(capsys, tmp_path, *words)
    assert [offer for offer in found if words[-1] or not offer.startswith(("-", "m"))] == offers


def test_other_shells_are_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "cmd"])
    capsys.readouterr()
