"""What a row is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Sizes = dict[str, int]

# Every named dim gets each of these, different names different sizes where there are several.
_NAMES = "bnmk"


class Row(NamedTuple):
    """A function with its signature.

    Attributes:
      fn: function of arrays.
      specs: what it takes.
      sizes: the sizes of the named dims, for each run.
      constraints: what is known of the dims.
      rtol: relative tolerance of floating results.
      atol: absolute tolerance of them.
    """

    fn: Callable[..., Any]
    specs: tuple[TensorSpec, ...]
    sizes: tuple[Sizes, ...]
    constraints: tuple[str, ...]
    rtol: float
    atol: float


def row(
    fn: Callable[..., Any],
    *specs: TensorSpec,
    sizes: Sequence[Sizes | int] = (0, 1, 3),
    constraints: Sequence[str] = (),
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Row:
    """Returns a row.

    Args:
      fn: function of arrays.
      *specs: what it takes.
      sizes: for each run, the sizes by name; a number is the size of ``b``, and the names after it
        (``n``, ``m``, ``k``) are larger by one each.
      constraints: what is known of the dims.
      rtol: relative tolerance of floating results.
      atol: absolute tolerance of them.
    """
    every = tuple(
        {name: size + i for i, name in enumerate(_NAMES)} if isinstance(size, int) else size
        for size in sizes
    )
    return Row(fn, specs, every, tuple(constraints), rtol, atol)


def f32(*dims: int | str) -> TensorSpec:
    """Returns the spec of an array of float32."""
    return TensorSpec(dims, "float32")


def i32(*dims: int | str) -> TensorSpec:
    """Returns the spec of an array of int32."""
    return TensorSpec(dims, "int32")


def u32(*dims: int | str) -> TensorSpec:
    """Returns the spec of an array of uint32, as the words of a PRNG key."""
    return TensorSpec(dims, "uint32")


def b8(*dims: int | str) -> TensorSpec:
    """Returns the spec of an array of bool."""
    return TensorSpec(dims, "bool")


def c64(*dims: int | str) -> TensorSpec:
    """Returns the spec of an array of complex64."""
    return TensorSpec(dims, "complex64")
