"""Every Python block of the documentation runs, and says what it says it says.

The blocks of a page run in order, in one namespace and an empty directory. A line

    value  # -> text

is checked: ``text`` is ``repr(value)``, spaces aside. A comment before a block changes what happens
to it: ``<!-- test: tf -->`` and ``<!-- test: with NAME -->`` run it only where TensorFlow or that
package is installed, ``<!-- test: raises X -->`` expects the exception X, and
``<!-- test: skip (reason) -->`` leaves it out.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from savax.saved_model.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- test: (?P<how>[^>]*?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_EXPECTED = re.compile(r"#\s*->\s*(.*)$")


class Block(NamedTuple):
    """A fenced block: its first line in the page, how to test it, its code."""

    line: int
    how: str
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    return [
        Block(
            text.count("\n", 0, match.start("code")) + 1,
            match["how"] or "",
            match["language"],
            match["code"],
        )
        for match in _BLOCK.finditer(text)
    ]


def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Runs a block statement by statement and checks the values that it promises."""
    lines = block.code.splitlines()
    source = "\n" * (block.line - 1) + block.code  # so that tracebacks name the page's line
    for node in ast.parse(source, str(page)).body:
        promise = _EXPECTED.search(lines[(node.end_lineno or 0) - block.line])
        if isinstance(node, ast.Expr) and promise:
            value = eval(compile(ast.Expression(node.value), str(page), "eval"), namespace)
            assert squeezed(repr(value)) == squeezed(promise[1]), f"{page.name}:{node.lineno}"
        else:
            exec(compile(ast.Module([node], []), str(page), "exec"), namespace)


@pytest.fixture(autouse=True)
def jax_settings() -> Iterator[None]:
    """Takes back what a page's blocks set in JAX, for the tests that follow in this process."""
    before = dict(jax.config.values)
    yield
    for name, value in before.items():
        if jax.config.values[name] != value:
            jax.config.update(name, value)
    compilation_cache.reset_cache()


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.language != "python" or block.how.startswith("skip"):
            continue
        if any(importlib.util.find_spec(name) is None for name in needed(block)):
            continue
        if block.how.startswith("raises"):
            kind = eval(block.how.removeprefix("raises"), namespace)
            with pytest.raises(kind):
                run(block, page, namespace)
        else:
            run(block, page, namespace)
    for block in blocks(page.read_text()):
        if block.language == "console" and not block.how.startswith("skip"):
            run_console(block)


def needed(block: Block) -> list[str]:
    """Returns the packages that a block can't run without."""
    if block.how == "tf":
        return ["tensorflow"]
    return block.how.removeprefix("with").split() if block.how.startswith("with ") else []


def run_console(block: Block) -> None:
    """Runs the ``savax`` commands of a block."""
    commands = [shlex.split(line[2:]) for line in block.code.splitlines() if line.startswith("$ ")]
    for program, *arguments in commands:
        assert program == "savax"
        assert main(arguments) == 0


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == listed


def test_skipped_blocks_say_why() -> None:
    for page in PAGES:
        for block in blocks(page.read_text()):
            assert not block.how.startswith("skip") or "(" in block.how, f"{page}:{block.line}"


def test_a_wrong_promise_fails(tmp_path: Path) -> None:
    block = blocks("text\n\n```python\nx = 1\nx + 1  # -> 3\n```\n")[0]
    assert block.line == 4
    with pytest.raises(AssertionError, match=r"page.md:5"):
        run(block, tmp_path / "page.md", {})
