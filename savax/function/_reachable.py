"""Which Variables a Python function is likely to use: a trace starts with them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from savax.trackable import Trackable, Variable

# A look around, not a search: what is missed is found by the trace itself, at the price of another.
_MOST_OBJECTS = 10_000


def reachable_variables(function: Callable[..., Any]) -> list[Variable]:
    """Returns the Variables within reach of a callable, each once, in the order they are found.

    Looks at a bound method's ``self``, at what the function closes over, at the globals that it
    names, and from there along the edges of Trackables and through plain containers.
    """
    variables: list[Variable] = []
    seen: set[int] = set()
    queue = list(_roots(function))
    for value in queue:
        if id(value) in seen or len(seen) > _MOST_OBJECTS:
            continue
        seen.add(id(value))
        if isinstance(value, Variable):
            variables.append(value)
        else:
            queue.extend(_edges(value))
    return variables


def _roots(function: Any) -> Iterator[Any]:
    if isinstance(function, functools.partial):
        yield from (*function.args, *function.keywords.values())
        yield from _roots(function.func)
        return
    if inspect.ismethod(function):
        yield function.__self__
        function = function.__func__
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if code is None:
        yield function
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]


def _edges(value: Any) -> Iterator[Any]:
    if isinstance(value, Trackable):
        yield from value._trackable_children().values()
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif inspect.isfunction(value) and value.__closure__:
        yield from _roots(value)
