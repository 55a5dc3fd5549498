"""Large arrays that functions close over, as Variables of the model that is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function.tracing._constant_hoisting import is_large, num_bytes
from savax.trackable import Constant, Variable, content_key
from savax.trackable._names import CAPTURED_ARRAY
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Hashable

    from savax.function.tracing._traced_body import Capture

# Smaller ones stay constants, which converters fold and compilers know the values of. Few of this
# size would fill a graph, and all of them are weights or tables, never shapes or axes.
LEAST_BYTES = 1 << 20

# TensorFlow has no kernels that assign Variables of these.
_NO_VARIABLES = frozenset({"float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz"})


class CapturedArrays:
    """The Variables of one save that stand for arrays which its functions close over.

    Equal arrays have one Variable. It holds the array itself, without a copy.

    Attributes:
      variables: in the order in which functions need them.
      stand_ins: the Variable of each Constant that has one, by the Constant's id.
    """

    def __init__(self) -> None:
        self.variables: list[Variable] = []
        self.stand_ins: dict[int, Variable] = {}
        self._by_identity: dict[int, Variable] = {}
        self._alike: dict[Hashable, dict[Hashable, Variable]] = {}
        self._kept: list[Constant] = []

    @staticmethod
    def takes(array: Any) -> bool:
        """Whether an array, which may be a tracer, gets a Variable."""
        if not is_large(array) or num_bytes(array) < LEAST_BYTES:
            return False
        return as_dtype(array.dtype).name not in _NO_VARIABLES

    def stand_in(self, capture: Capture) -> Capture:
        """Returns the Variable that stands for a large constant; any other capture as it is."""
        if not isinstance(capture, Constant) or not self.takes(capture.array):
            return capture
        if id(capture) not in self.stand_ins:
            self._kept.append(capture)  # as its id and that of its array are keys
            self.stand_ins[id(capture)] = self._variable_of(capture.array)
        return self.stand_ins[id(capture)]

    def _variable_of(self, array: Any) -> Variable:
        if id(array) in self._by_identity:
            return self._by_identity[id(array)]
        alike = self._alike.setdefault((array.dtype.name, tuple(array.shape)), {})
        # Contents are compared where there are two arrays of a dtype and shape.
        if None in alike:
            first = alike.pop(None)
            alike[content_key(first._stored)] = first
        key = content_key(array) if alike else None
        found = alike[key] if key in alike else self._new(array)
        alike[key] = self._by_identity[id(array)] = found
        return found

    def _new(self, array: Any) -> Variable:
        name = f"{CAPTURED_ARRAY}{len(self.variables)}"
        spec = TensorSpec(tuple(array.shape), as_dtype(array.dtype), name)
        variable = Variable.without_value(spec, trainable=False)
        variable._set_host_value(array)
        self.variables.append(variable)
        return variable
