"""What a Variable is beside its value: name, dtype, shape, and how it would be distributed."""

from __future__ import annotations

import enum
from typing import Any

from savax.trackable._base import Trackable
from savax.types import DType, Shape, TensorSpec


class VariableSynchronization(enum.IntEnum):
    """When copies of a distributed Variable are brought together; kept for the file format."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(enum.IntEnum):
    """How copies of a distributed Variable are combined; kept for the file format."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3


class VariableProperties(Trackable):
    """The part of a Variable that never changes."""

    _name: str
    _dtype: DType
    _shape: Shape
    _trainable: bool
    _synchronization: VariableSynchronization
    _aggregation: VariableAggregation

    @property
    def name(self) -> str:
        """The name, with the prefixes of the name scopes it was made in."""
        return self._name

    @property
    def dtype(self) -> DType:
        """Element type; it never changes."""
        return self._dtype

    @property
    def shape(self) -> Any:
        """What values may have: a tuple of sizes, None for sizes that may change.

        None instead of a tuple if the rank may change.
        """
        return self._shape

    @property
    def trainable(self) -> bool:
        """Whether gradients are wanted."""
        return self._trainable

    @property
    def synchronization(self) -> VariableSynchronization:
        """When copies would be brought together."""
        return self._synchronization

    @property
    def aggregation(self) -> VariableAggregation:
        """How copies would be combined."""
        return self._aggregation

    @property
    def spec(self) -> TensorSpec:
        """Dtype, shape and name."""
        return TensorSpec(self._shape, self._dtype, self._name)
