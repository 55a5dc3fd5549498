"""PythonState: an object that checkpoints hold as one string of its own making."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import NotEncodableError
from savax.trackable._base import Trackable
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from savax.trackable._base import StoredTensor

_PY_STATE = "py_state"  # the attribute name that TensorFlow's checkpoints use


class PythonState(Trackable, abc.ABC):
    """Base of objects whose state is a string in a checkpoint: iterators, generators, settings.

    Subclasses say how the state becomes a string, and how it is taken from one.
    """

    @abc.abstractmethod
    def serialize(self) -> str | bytes:
        """Returns the state; called when a checkpoint is written."""

    @abc.abstractmethod
    def deserialize(self, string_value: bytes) -> None:
        """Takes over a state, as bytes; called when a checkpoint is restored."""

    def _serialize_to_tensors(self) -> Mapping[str, Any]:
        state = self.serialize()
        if isinstance(state, str):
            state = state.encode()
        if not isinstance(state, bytes):
            raise NotEncodableError(
                f"{type(self).__name__}.serialize must return str or bytes, not "
                f"{type(state).__name__}."
            )
        return {_PY_STATE: np.array(state, dtype=object)}

    def _tensor_names(self) -> Collection[str]:
        return (_PY_STATE,)

    def _restore_from_tensors(self, restored_tensors: Mapping[str, Any]) -> None:
        self.deserialize(restored_tensors[_PY_STATE].item())

    def _restoration_problems(self, stored: Mapping[str, StoredTensor]) -> Sequence[str]:
        tensor = stored[_PY_STATE]
        problems = []
        if tensor.dtype is not as_dtype("string"):
            problems.append(f"expected dtype string, found {tensor.dtype.name}")
        if tensor.shape != ():
            problems.append(f"expected shape (), found {tensor.shape}")
        return problems
