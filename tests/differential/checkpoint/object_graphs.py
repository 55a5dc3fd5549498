"""Object graphs that are built alike from savax's classes and from TensorFlow's."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Library:
    """What both libraries offer under the same names."""

    module: Any
    variable: Any
    checkpoint: Any
    bfloat16: Callable[[Any], Any]


class Pair(NamedTuple):
    first: Any
    second: Any


def dtypes(lib: Library, fill: int) -> Any:
    root = lib.module()
    numbers = [
        np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8,
        np.uint16, np.uint32, np.uint64, np.complex64, np.complex128, ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e4m3fn,
    ]  # fmt: skip
    for dtype in numbers:
        value = np.full((2, 3), fill + 1).astype(dtype)
        setattr(root, np.dtype(dtype).name, lib.variable(value))
    root.bool = lib.variable([bool(fill), True])
    root.string = lib.variable(["a" * fill, "ä"])
    root.scalar = lib.variable("text" * fill)
    root.bfloat16 = lib.variable(lib.bfloat16([1.5 + fill, -2.0]))
    root.empty = lib.variable(np.zeros((0, 3), np.float32))
    root.empty_string = lib.variable(np.zeros((0,), object).astype(str))
    return root


def names(lib: Library, fill: int) -> Any:
    root = lib.module()
    root.d = {
        key: lib.variable(float(fill + i))
        for i, key in enumerate(["a/b", ".dot", "..x", ".", "ä b", "a.S"])
    }
    root.named = lib.variable(float(fill), name="a/strange-name")
    return root


def containers(lib: Library, fill: int) -> Any:
    root = lib.module()
    root.list = [lib.variable(1.0 + fill), 5, [lib.variable(2 + fill)], "x", None]
    root.dict = {"b": lib.variable(3.0 + fill), "a": {"z": lib.variable(4.0 + fill)}, 7: "x"}
    root.ordered = collections.OrderedDict(z=lib.variable(5.0 + fill), y=lib.module())
    root.tuple = (lib.variable(6.0 + fill), [lib.variable(7.0 + fill)], 3)
    root.named = Pair(lib.variable(8.0 + fill), (lib.variable(9.0 + fill), 1))
    root.plain_tuple, root.plain_list, root.plain_dict = (1, 2), [1, 2], {"a": 1}
    root.empty_list, root.empty_dict = [], {}
    root.list.append(lib.variable(10.0 + fill))
    root.dict["c"] = [lib.variable(11.0 + fill)]
    root.dict["b"] = lib.variable(12.0 + fill)
    return root


def cycles(lib: Library, fill: int) -> Any:
    root = lib.module()
    root.a, root.b = lib.module(), lib.module()
    root.a.peer, root.b.peer = root.b, root.a
    root.a.shared = root.b.shared = root.shared = lib.variable(1.0 + fill)
    root.me = root
    root.both = [root.a, root]
    root.a.deep = lib.module()
    root.a.deep.v, root.a.deep.up = lib.variable(2.0 + fill), root.both
    return root


def reassigned(lib: Library, fill: int) -> Any:
    root = lib.module()
    root.a, root.b, root.c = lib.variable(1.0), lib.variable(2.0 + fill), lib.module()
    root.a = lib.variable(3.0 + fill)
    del root.c
    root.c = lib.variable(4.0 + fill)
    return root


def scopes(lib: Library, fill: int) -> Any:
    root = lib.module(name="outer")
    with root.name_scope:
        root.w = lib.variable(1.0 + fill, name="w")
        root.inner = lib.module(name="inner")
        with root.inner.name_scope:
            root.inner.w = lib.variable(2.0 + fill, name="w", trainable=False)
            root.inner.unnamed = lib.variable(3.0 + fill)
    return root


def deep(lib: Library, fill: int) -> Any:
    root = current = lib.module()
    for _ in range(100):
        current.n = lib.module()
        current = current.n
    current.v = lib.variable(1.0 + fill)
    return root


GRAPHS: dict[str, Callable[[Library, int], Any]] = {
    build.__name__: build for build in (dtypes, names, containers, cycles, reassigned, scopes, deep)
}
