"""Imports go down the layers, never up, never in a circle, and never hide in a function."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "savax"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. The longest matching prefix decides; facades sit on top of the layers.
LAYERS = (
    "savax._version",
    "savax._lazy",
    "savax.errors",
    "savax.types",
    "savax.protos",
    "savax.portability",
    "savax.trackable.bundle",
    "savax.trackable",
    "savax.trackable.checkpoint",
    "savax.function",
    "savax.saved_model",
    "savax.saved_model.cli",
)
FACADES = ("savax", "savax.train", "savax.train.experimental", "savax.compat", "savax.__main__")
JAX_LAYER = "savax.function"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    """Index of a module's layer; None for the facades on top."""
    matching = [layer for layer in LAYERS if module == layer or module.startswith(layer + ".")]
    return LAYERS.index(max(matching, key=len)) if matching else None


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, at any depth, blocks for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def upward_imports(path: Path) -> Iterator[str]:
    here = layer_of(module_name(path))
    if here is None:
        return
    for name, line in imported(path):
        if name != "savax" and not name.startswith("savax."):
            continue
        there = layer_of(name)
        if there is None or there > here:
            yield f"{path.relative_to(ROOT)}:{line}: must not import {name}"


def test_no_module_imports_a_higher_layer() -> None:
    assert [problem for path in FILES for problem in upward_imports(path)] == []


def test_the_walk_finds_an_upward_import(tmp_path: Path) -> None:
    source = "def f():\n    from savax.saved_model import save\n"
    path = tmp_path / "x.py"
    path.write_text(source)
    assert [name for name, _ in imported(path)] == ["savax.saved_model"]
    assert layer_of("savax.saved_model") > layer_of("savax.trackable.checkpoint._matching")


def test_imports_make_no_circle() -> None:
    modules = {module_name(path): path for path in FILES}
    edges = {
        module: {
            target
            for name, _ in runtime_imports(path)
            for target in (name,)
            if target in modules and target != module
        }
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def runtime_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Imports that run: those outside ``if TYPE_CHECKING`` blocks."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


@pytest.mark.parametrize("banned", ["tensorflow", "jax._src"])
def test_no_module_imports(banned: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        for name, line in imported(path)
        if name == banned or name.startswith(banned + ".")
    ]
    assert found == []


def test_only_the_function_layer_and_above_import_jax() -> None:
    limit = LAYERS.index(JAX_LAYER)
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        for name, line in imported(path)
        if name.split(".")[0] in ("jax", "jaxlib") and (layer_of(module_name(path)) or 0) < limit
    ]
    assert found == []


def test_no_function_imports() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert found == []


def test_no_global_statements() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Global)
    ]
    assert found == []
