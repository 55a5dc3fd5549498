"""Unknown dims of a signature as JAX's symbolic dims: their names, and which of them are equal.

A named dim is the user's word and stays what it is. A dim that is None gets a name of its own,
*token* in this file; tokens start independent, and what JAX says when a trace fails tells which
of them have to be equal to another dim or to a number.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from typing import TYPE_CHECKING, Any

import jax.errors
import jax.export

from savax.errors import (
    InvalidArgumentError,
    SavaxError,
)
from savax.function._dims import dim_names
from savax.function._jax_names import InconclusiveDimensionOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.types import TensorSpec

_LOGGER = logging.getLogger(__name__)

Dim = int | str
Dims = tuple[Dim, ...]

_NAME = re.compile(r"[A-Za-z_]\w*")
# "(x_0, 4)", and "float32[x_0,4]" in messages about loop carries.
_TUPLE = re.compile(r"\(([^()]*)\)|\[([^\[\]()]*)\]")
# Convolutions compare a dim divided by a group count: "x_3 // 1 != 3".
_UNEQUAL = re.compile(r"(\w+)\s*(?://\s*(\d+)\s*)?!=\s*(\w+)")
# einsum names the axes: "lhs.shape=(x_0, 8) lhs_names=bk rhs.shape=(y_0,) rhs_names=b".
_LABELLED = re.compile(r"\(([^()]*)\) \w*names=(\w+)")
# "table[:n]" of a table with 32 rows: as long as n, if n is at most 32.
_BOUND = re.compile(r"min\((?:(\d+), (\w+)|(\w+), (\d+))\)")
_GUESSES = 4  # ranks of candidates from here on are guesses
_MOST_TUPLES = 40  # in one message; more would be somebody's data

# Errors of JAX that concern values, not shapes: equal dims can't cure them.
_VALUE_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
    SavaxError,
)
_SHAPE_ERRORS = (
    TypeError,
    ValueError,
    AssertionError,
    IndexError,
    NotImplementedError,
    InconclusiveDimensionOperation,
)


@dataclasses.dataclass(frozen=True)
class _Token:
    """Where a token comes from."""

    owner: str
    axis: int


class DimensionTable:
    """The unknown dims of one signature.

    Args:
      named: the names that the user gave to dims.
      constraints: what the user says about them, e.g. ``"b >= 2"``.
    """

    def __init__(self, named: Iterable[str], constraints: Sequence[str]) -> None:
        self._named = frozenset(named)
        self._constraints = tuple(constraints)
        self._tokens: dict[str, _Token] = {}
        self._by_place: dict[_Token, str] = {}
        self._equal: dict[str, Dim] = {}

    @classmethod
    def of(cls, specs: Iterable[TensorSpec], constraints: Sequence[str]) -> DimensionTable:
        """Returns the table for the dims that specs name."""
        named = [d for spec in specs for d in spec.dim_names if d is not None]
        return cls((name for text in named for name in dim_names(text)), constraints)

    @property
    def named(self) -> frozenset[str]:
        """The names that the user gave."""
        return self._named

    @property
    def constraints(self) -> tuple[str, ...]:
        """What the user says about dims, and the bounds that were found."""
        return self._constraints

    def dims(self, owner: str, wanted: Sequence[int | str | None]) -> Dims:
        """Returns a shape with a name for each unknown dim, and what is known to be equal.

        Args:
          owner: names the argument or Variable in the tokens of its dims.
          wanted: the sizes, names and None of a spec.
        """
        return tuple(
            dim if isinstance(dim, int) else self._resolve(dim or self._token(owner, axis))
            for axis, dim in enumerate(wanted)
        )

    def spec_dims(self, owner: str, wanted: Sequence[int | str | None]) -> tuple[Any, ...]:
        """Returns a spec's dims with what was found: equal dims named, others None again."""
        counts = [self._resolve(token) for token in self._tokens]
        result: list[Dim | None] = []
        for dim in self.dims(owner, wanted):
            alone = isinstance(dim, str) and dim in self._tokens and counts.count(dim) == 1
            result.append(None if alone else dim)
        return tuple(result)

    def symbolic(self, shapes: Sequence[Dims]) -> list[tuple[Any, ...]]:
        """Returns shapes with JAX's symbolic dims, all in one new scope.

        Raises:
          InvalidArgumentError: a name or a constraint isn't in JAX's grammar of dims.
        """
        try:
            scope = jax.export.SymbolicScope(self._constraints)
            return [
                tuple(
                    dim
                    if isinstance(dim, int)
                    else jax.export.symbolic_shape(f"{dim},", scope=scope)[0]
                    for dim in shape
                )
                for shape in shapes
            ]
        except ValueError as error:
            raise InvalidArgumentError(
                f"The signature's dims or constraints can't be read: {error}\nDims are names and "
                "expressions of names such as 'batch' or '2*n + 1'; constraints are comparisons "
                "such as 'batch >= 2'."
            ) from error

    def learn(self, error: Exception, *, guess: bool = False) -> bool:
        """Makes two dims equal, or bounds one, where an error shows them in each other's way.

        No wording is read: two shapes in the text that differ in one place are enough, and so is
        the minimum of a dim and a number, in the place of the dim itself.

        Args:
          error: what the trace raised.
          guess: whether shapes that differ in several places, or in rank, are good enough too.

        Returns:
          Whether something was learnt, so that another trace makes sense.
        """
        text = str(error)
        if not self._tokens or isinstance(error, _VALUE_ERRORS):
            return False
        if self._learn_bound(text):
            return True
        found = min(self._candidates(text), key=lambda row: row[0], default=None)
        if found is None or (found[0] >= _GUESSES and not guess):
            return False
        self._unify(found[1], found[2])
        return True

    def _learn_bound(self, text: str) -> bool:
        for match in _BOUND.finditer(text):
            name, bound = match[2] or match[3], match[1] or match[4]
            constraint = f"{name} <= {bound}"
            if name in self._tokens and constraint not in self._constraints:
                self._constraints = (*self._constraints, constraint)
                _LOGGER.info("Dim %s of the signature has to be at most %s.", name, bound)
                return True
        return False

    def share_leading(self) -> bool:
        """Makes the unknown first dims of all arguments equal; returns whether that is news."""
        leading = [self._resolve(n) for n, token in self._tokens.items() if token.axis == 0]
        distinct = list(dict.fromkeys(d for d in leading if d in self._tokens))
        for other in distinct[1:]:
            self._unify(distinct[0], other)
        return len(distinct) > 1

    def mentions(self, text: str) -> bool:
        """Whether a text names one of the unknown dims."""
        return any(name in self._named or name in self._tokens for name in _NAME.findall(text))

    @property
    def has_unknown(self) -> bool:
        """Whether there is any unknown dim."""
        return bool(self._named or self._tokens)

    def _token(self, owner: str, axis: int) -> str:
        place = _Token(owner, axis)
        if place not in self._by_place:
            name = re.sub(r"\W", "_", owner) + f"_{axis}"
            name = name if _NAME.match(name) else "d" + name
            while name in self._named or name in self._tokens:
                name += "_"
            self._by_place[place] = name
            self._tokens[name] = place
        return self._by_place[place]

    def _resolve(self, dim: Dim) -> Dim:
        while isinstance(dim, str) and dim in self._equal:
            dim = self._equal[dim]
        return dim

    def _unify(self, a: Dim, b: Dim) -> None:
        a, b = self._resolve(a), self._resolve(b)
        if b in self._tokens:
            a, b = b, a
            if b in self._tokens:  # the older name stays
                order = list(self._tokens)
                a, b = (a, b) if order.index(str(a)) > order.index(str(b)) else (b, a)
        self._equal[str(a)] = b
        _LOGGER.info("Dim %s of the signature has to be %s.", a, b)

    def _candidates(self, text: str) -> Iterator[tuple[int, Dim, Dim]]:
        """Yields pairs of dims to make equal, with a rank: lower is likelier."""
        yield from self._labelled_candidates(text)
        tuples = [self._items(match[1] or match[2] or "") for match in _TUPLE.finditer(text)]
        tuples = [items for items in tuples if items][:_MOST_TUPLES]
        for one, other in itertools.combinations(tuples, 2):
            width = min(len(one), len(other))
            pairs = [
                (x, y)
                for x, y in zip(one[len(one) - width :], other[len(other) - width :], strict=True)
                if x != y
            ]
            usable = [pair for pair in pairs if self._is_usable(*pair)]
            if not usable:
                continue
            rank = 0 if len(pairs) == 1 else _GUESSES
            rank += 0 if len(one) == len(other) else 2
            # A size of 0 or 1 in a message is rather an axis number or a broadcast.
            rank += 2 if any(isinstance(d, int) and d < 2 for d in usable[0]) else 0
            rank += 1 if any(isinstance(d, int) for d in usable[0]) else 0
            yield rank, *usable[0]
        for match in _UNEQUAL.finditer(text):
            name, divisor, found = match.groups()
            wanted: Dim = int(found) * int(divisor or 1) if found.isdigit() else found
            if self._is_usable(name, wanted) and (found.isdigit() or not divisor):
                yield 3, name, wanted

    def _labelled_candidates(self, text: str) -> Iterator[tuple[int, Dim, Dim]]:
        shapes = [(self._items(m[1]), m[2]) for m in _LABELLED.finditer(text)]
        for (one, names), (other, other_names) in itertools.pairwise(shapes):
            if len(one) != len(names) or len(other) != len(other_names):
                continue
            for label, a in zip(names, one, strict=True):
                b = other[other_names.index(label)] if label in other_names else a
                if self._is_usable(a, b):
                    yield -1, a, b

    def _items(self, text: str) -> list[Dim]:
        stripped = [item.strip() for item in text.split(",") if item.strip()]
        return [int(item) if item.isdigit() else item for item in stripped]

    def _is_usable(self, a: Dim, b: Dim) -> bool:
        a, b = self._resolve(a), self._resolve(b)
        known = all(isinstance(d, int) or d in self._tokens or d in self._named for d in (a, b))
        return known and a != b and (a in self._tokens or b in self._tokens)


def is_shape_error(error: Exception) -> bool:
    """Whether equal dims might cure an error."""
    return isinstance(error, _SHAPE_ERRORS) and not isinstance(error, _VALUE_ERRORS)
