"""Arithmetic, comparison and array attributes that a Variable forwards to its value."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def _value_of(other: Any) -> Any:
    return other.value if isinstance(other, ArrayOperators) else other


class ArrayOperators:
    """Lets an object stand for the array that its ``value`` is.

    Comparison is elementwise, so objects of this kind can't be hashed.
    """

    # Makes numpy leave `array + variable` to __radd__ below.
    __array_priority__ = 100

    @property
    def value(self) -> Any:
        """The array."""
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = np.asarray(self.value, dtype=dtype)
        return array.copy() if copy else array

    def __jax_array__(self) -> Any:
        return self.value

    def __getitem__(self, index: Any) -> Any:
        return self.value[_value_of(index)]

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __complex__(self) -> complex:
        return complex(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    def __neg__(self) -> Any:
        return -self.value

    def __pos__(self) -> Any:
        return +self.value

    def __abs__(self) -> Any:
        return abs(self.value)

    def __invert__(self) -> Any:
        return ~self.value

    def __round__(self, digits: int = 0) -> Any:
        return self.value.round(digits)

    def __floor__(self) -> int:
        return math.floor(float(self.value))

    def __add__(self, other: Any) -> Any:
        return self.value + _value_of(other)

    def __radd__(self, other: Any) -> Any:
        return other + self.value

    def __sub__(self, other: Any) -> Any:
        return self.value - _value_of(other)

    def __rsub__(self, other: Any) -> Any:
        return other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * _value_of(other)

    def __rmul__(self, other: Any) -> Any:
        return other * self.value

    def __truediv__(self, other: Any) -> Any:
        return self.value / _value_of(other)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.value

    def __floordiv__(self, other: Any) -> Any:
        return self.value // _value_of(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.value

    def __mod__(self, other: Any) -> Any:
        return self.value % _value_of(other)

    def __rmod__(self, other: Any) -> Any:
        return other % self.value

    def __divmod__(self, other: Any) -> Any:
        return divmod(self.value, _value_of(other))

    def __rdivmod__(self, other: Any) -> Any:
        return divmod(other, self.value)

    def __pow__(self, other: Any) -> Any:
        return self.value ** _value_of(other)

    def __rpow__(self, other: Any) -> Any:
        return other**self.value

    def __matmul__(self, other: Any) -> Any:
        return self.value @ _value_of(other)

    def __rmatmul__(self, other: Any) -> Any:
        return other @ self.value

    def __and__(self, other: Any) -> Any:
        return self.value & _value_of(other)

    def __rand__(self, other: Any) -> Any:
        return other & self.value

    def __or__(self, other: Any) -> Any:
        return self.value | _value_of(other)

    def __ror__(self, other: Any) -> Any:
        return other | self.value

    def __xor__(self, other: Any) -> Any:
        return self.value ^ _value_of(other)

    def __rxor__(self, other: Any) -> Any:
        return other ^ self.value

    def __lshift__(self, other: Any) -> Any:
        return self.value << _value_of(other)

    def __rlshift__(self, other: Any) -> Any:
        return other << self.value

    def __rshift__(self, other: Any) -> Any:
        return self.value >> _value_of(other)

    def __rrshift__(self, other: Any) -> Any:
        return other >> self.value

    def __lt__(self, other: Any) -> Any:
        return self.value < _value_of(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value_of(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value_of(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value_of(other)

    def __eq__(self, other: object) -> Any:
        return self.value == _value_of(other)

    def __ne__(self, other: object) -> Any:
        return self.value != _value_of(other)

    __hash__ = None  # type: ignore[assignment]
