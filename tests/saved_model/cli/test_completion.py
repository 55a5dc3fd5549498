"""The script of ``savax completion`` in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from savax.saved_model.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    if shutil.which(shell) is None:
        if os.environ.get("SAVAX_REQUIRE_SHELLS"):
            pytest.fail(f"there is no {shell}")
        pytest.skip(f"there is no {shell}")
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def offered(command: list[str], directory: Path) -> list[str]:
    """Returns the lines that a shell prints, sorted."""
    environment = {**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory / "x")}
    result = subprocess.run(
        command, cwd=directory, env=environment, check=True, capture_output=True, text=True
    )
    assert result.stderr == ""
    return sorted(result.stdout.split("\n")[:-1])


def offered_by_bash(source: str, directory: Path, words: Sequence[str]) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        f"{source}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _savax\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return offered(["bash", "-u", "-c", ask], directory)


def offered_by_zsh(source: str, directory: Path, words: Sequence[str]) -> list[str]:
    # Outside of its line editor zsh lacks compadd and _files: these print what they are given, as
    # far as it begins as the last word does.
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        "compdef() { }\n"
        'compadd() { shift; local w; for w in "$@"; do '
        '[[ $w == "$words[CURRENT]"* ]] && print -r -- $w; done; return 0 }\n'
        '_files() { setopt local_options null_glob; print -rl -- "$words[CURRENT]"* }\n'
        f"{source}\nwords=({quoted}); CURRENT={len(words)}; _savax"
    )
    return offered(["zsh", "-f", "-u", "-c", ask], directory)


def offered_by_fish(source: str, directory: Path, words: Sequence[str]) -> list[str]:
    line = " ".join(words)
    ask = f"{source}\ncomplete --do-complete='{line}'"
    found = offered(["fish", "--no-config", "-c", ask], directory)
    # Fish tells folders apart by a slash, and adds descriptions after a tab.
    return sorted(offer.partition("\t")[0].rstrip("/") for offer in found)


SHELLS = {"bash": offered_by_bash, "zsh": offered_by_zsh, "fish": offered_by_fish}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (
            ("savax", ""),
            [
                *("check", "checkpoint", "completion", "convert", "diff", "draw", "freeze", "run"),
                *("scan", "show"),
            ],
        ),
        (("savax", "s"), ["scan", "show"]),
        (("savax", "checkpoint", ""), ["diff", "list", "show", "verify"]),
        (("savax", "checkpoint", "diff", "a", "--a"), ["--atol"]),
        (("savax", "diff", "--a"), ["--atol"]),
        (("savax", "show", "--"), ["--all", "--help", "--json", "--signature", "--tags"]),
        (("savax", "show", "mo"), ["model one", "model_two"]),
        (("savax", "run", "model", "--in"), ["--input-examples", "--input-exprs", "--inputs"]),
        (("savax", "completion", ""), ["bash", "fish", "zsh"]),
        (("savax", "scan", "show", "--o"), ["--ops"]),
    ],
    ids=range(10),
)
def test_shells_offer_what_can_follow(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    shell: str,
    words: tuple[str, ...],
    offers: list[str],
) -> None:
    (tmp_path / "model one").mkdir()
    (tmp_path / "model_two").mkdir()
    found = SHELLS[shell](script(capsys, shell), tmp_path, words)
    assert [offer for offer in found if words[-1] or not offer.startswith(("-", "m"))] == offers


def test_other_shells_are_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "cmd"])
    capsys.readouterr()
