"""The active trace, as Variables see it: a frame that reads and writes values in their place."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from savax.trackable._variable import Variable


class Frame(Protocol):
    """Where a trace keeps the values of Variables while it runs."""

    def read(self, variable: Variable) -> Any:
        """Returns the value that the trace holds for a Variable, usually a tracer."""
        ...

    def write(self, variable: Variable, value: Any) -> None:
        """Records a new value; its shape and dtype are checked already.

        The dtype may be a narrower one of the same kind where JAX has no 64-bit values.
        """
        ...

    def create(self, variable: Variable, initial_value: Any) -> None:
        """Takes note of a Variable that is made while the trace runs.

        The Variable has no stored value yet if its initial value is a tracer.
        """
        ...


# Per context, so that a thread that starts during a trace sees stored values, not tracers.
_FRAME: ContextVar[Frame | None] = ContextVar("savax_frame", default=None)


def current_frame() -> Frame | None:
    """Returns the frame of the trace that runs in this context, or None."""
    return _FRAME.get()


@contextlib.contextmanager
def frame_scope(frame: Frame | None) -> Iterator[None]:
    """Makes a frame the active one; ``None`` gives access to stored values within a trace."""
    token = _FRAME.set(frame)
    try:
        yield
    finally:
        _FRAME.reset(token)
