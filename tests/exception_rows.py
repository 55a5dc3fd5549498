"""Rows of code that TensorFlow refuses, to be run with its names and with savax's.

An error of savax must have the built-in type of TensorFlow's. Classes of TensorFlow's own that have
no built-in base stand for the built-in ones in ``_MEANS``.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tensorflow = pytest.importorskip("tensorflow")

_MEANS = {
    tensorflow.errors.FailedPreconditionError: OSError,
    tensorflow.errors.DataLossError: OSError,
    tensorflow.errors.NotFoundError: (OSError, KeyError),
    tensorflow.errors.InvalidArgumentError: ValueError,
}
SAME = object()


def _tensorflow() -> Any:
    v1 = tensorflow.compat.v1
    return types.SimpleNamespace(tf=tensorflow, v1=v1, sm=v1.saved_model, is_tensorflow=True)


def _savax() -> Any:
    v1 = savax.compat.v1
    return types.SimpleNamespace(tf=savax, v1=v1, sm=v1.saved_model, is_tensorflow=False)


class Rows:
    """A table of code and of what it raises.

    A row takes the names of one side (``tf``, ``v1``, ``sm``: TensorFlow or savax, its version 1,
    and the SavedModels of that) and an empty folder.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Callable[[Any, Path], Any], Any, Any]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the rows."""
        return list(self._rows)

    def add(self, name: str, code: Callable[[Any, Path], Any]) -> None:
        """Adds a row of which both sides raise the same."""
        self._rows[name] = code, SAME, SAME

    def row(self, code: Callable[[Any, Path], Any]) -> Callable[[Any, Path], Any]:
        """Adds a function as a row of which both sides raise the same."""
        self.add(code.__name__, code)
        return code

    def differs(self, tensorflow: Any, savax: Any) -> Callable[..., Any]:
        """Adds a function as a row with a documented difference.

        Args:
          tensorflow: what TensorFlow raises; None for nothing.
          savax: what savax raises; None for nothing.
        """

        def added(code: Callable[[Any, Path], Any]) -> Callable[[Any, Path], Any]:
            self._rows[code.__name__] = code, tensorflow, savax
            return code

        return added

    def check(self, name: str, folder: Path) -> None:
        """Runs a row on both sides and compares."""
        code, their_type, our_type = self._rows[name]
        theirs = _raised(_tensorflow(), code, folder / "tensorflow")
        ours = _raised(_savax(), code, folder / "savax")
        if their_type is SAME:
            assert theirs is not None, "TensorFlow doesn't refuse this"
            our_type = _MEANS.get(type(theirs)) or _built_in(type(theirs))
        else:
            assert _is(theirs, their_type), f"TensorFlow raises {theirs!r}"
        assert _is(ours, our_type), f"{ours!r}, where TensorFlow raises {theirs!r}"


def _raised(side: Any, code: Callable[[Any, Path], Any], folder: Path) -> Exception | None:
    folder.mkdir()
    try:
        code(side, folder)
    except Exception as error:
        return error
    return None


def _is(error: Exception | None, kind: Any) -> bool:
    return error is None if kind is None else isinstance(error, kind)


def _built_in(kind: type) -> type:
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


class Graph1:
    """A builder and a session on a small graph, inside a ``with``.

    Attributes:
      side: the names that it is made by.
      builder: the builder.
      session: a session whose variable has a value.
      x: a placeholder.
      v: a variable.
    """

    def __init__(self, side: Any, folder: Path) -> None:
        self.side = side
        self.builder = side.sm.Builder(str(folder / "model"))
        graph = side.tf.Graph()
        self.session = side.v1.Session(graph=graph)

    def __enter__(self) -> Any:
        self.session.__enter__()
        self.x = self.side.v1.placeholder(self.side.tf.float32, [None], name="x")
        self.v = self.side.v1.Variable(np.float32(1), name="v")
        self.session.run(self.v.initializer)
        return self

    def __exit__(self, *error: Any) -> None:
        self.session.__exit__(*error)


def built(side: Any, folder: Path) -> str:
    """Writes a model of two graphs with a signature; returns its directory."""
    with Graph1(side, folder) as one:
        signature = side.sm.predict_signature_def({"x": one.x}, {"y": one.x + 1.0})
        one.builder.add_meta_graph_and_variables(one.session, ["serve"], {"key": signature})
        one.builder.add_meta_graph(["a", "b"])
        one.builder.save()
    return str(folder / "model")
