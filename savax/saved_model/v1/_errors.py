"""Errors of the version 1 builder, under the built-in types that TensorFlow raises."""

from __future__ import annotations

from savax.errors import InvalidArgumentError, NotFoundError


class BuilderStateError(InvalidArgumentError, AssertionError):
    """A builder's method is called out of order, or its directory isn't empty."""


class IncompleteSignatureError(InvalidArgumentError, AssertionError):
    """A TensorInfo of a signature lacks its tensor or its dtype."""


class ReservedSignatureKeyError(InvalidArgumentError, KeyError):
    """A signature has a key that the format needs."""


class AssetTensorError(InvalidArgumentError, TypeError):
    """An asset isn't given as a scalar string constant of the graph."""


class NoGraphTensorError(InvalidArgumentError, RuntimeError):
    """A tensor of a graph is needed, and something else was given."""


class MissingCheckpointError(NotFoundError, InvalidArgumentError):
    """There is no checkpoint where variables of a graph are to be restored from."""
