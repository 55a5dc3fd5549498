"""The file that holds a model's proto, in one of three forms, and the fingerprint that fits it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from savax.errors import InvalidArgumentError, NotEncodableError
from savax.protos import canonical_bytes, encode_tensor, to_text
from savax.saved_model._fingerprint import make_fingerprint, make_image_fingerprint
from savax.saved_model.image._splitting import ImageWriter
from savax.types._paths import SAVED_MODEL_CPB, SAVED_MODEL_PB, SAVED_MODEL_PBTXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from savax.protos import FingerprintDef, SavedModel
    from savax.saved_model._options import SaveOptions

# A protobuf message can't be larger.
MOST_BYTES = (1 << 31) - 1
_TOO_LARGE = f"The model's graph has more than {MOST_BYTES:,} bytes, more than its format can hold."


class ModelForm(Protocol):
    """A model, ready to be written."""

    def write(self, directory: str) -> None:
        """Writes the file of the proto into a directory."""
        ...

    def fingerprint(self, index: bytes | None) -> FingerprintDef:
        """Returns the fingerprint, given the content of the checkpoint's index, if it has one."""
        ...


def model_form(
    model: SavedModel, constants: Mapping[str, np.ndarray[Any, Any]], options: SaveOptions
) -> ModelForm:
    """Returns the form in which a model is written.

    Args:
      model: the proto of a model with one MetaGraphDef; it is changed.
      constants: content of those constants of the main graph that isn't in the proto, by node.
      options: ask for a form; without a wish it is ``saved_model.pb``.

    Raises:
      InvalidArgumentError: the model, or a part of an image, is too large for the form.
    """
    meta_graph = model.meta_graphs[0]
    if options.experimental_image_format:
        return ImageForm(model, constants)
    try:
        for node in meta_graph.graph_def.node:
            if node.name in constants:
                node.attr["value"].tensor.CopyFrom(encode_tensor(constants[node.name]))
        data = canonical_bytes(model)
    except NotEncodableError as error:
        raise InvalidArgumentError(_TOO_LARGE) from error
    if len(data) > MOST_BYTES:
        raise InvalidArgumentError(_TOO_LARGE)
    if options.as_text:
        return TextForm(model, data)
    return BinaryForm(model, data)


class BinaryForm:
    """``saved_model.pb``.

    Args:
      model: the proto.
      data: its canonical bytes. In this order of bytes, the fingerprint's checksum is that of the
        file as it is.
    """

    def __init__(self, model: SavedModel, data: bytes) -> None:
        self._model = model
        self._data = data

    def write(self, directory: str) -> None:
        """Writes the file."""
        _write_file(os.path.join(directory, SAVED_MODEL_PB), self._data)

    def fingerprint(self, index: bytes | None) -> FingerprintDef:
        """Returns the fingerprint."""
        return make_fingerprint(self._model, self._data, index)


class TextForm(BinaryForm):
    """``saved_model.pbtxt``; its fingerprint is that of the same model as bytes."""

    def write(self, directory: str) -> None:
        """Writes the file."""
        path = os.path.join(directory, SAVED_MODEL_PBTXT)
        _write_file(path, to_text(self._model).encode())


class ImageForm:
    """``saved_model.cpb``.

    Args:
      model: the proto.
      constants: what is missing in it.
    """

    def __init__(self, model: SavedModel, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._model = model
        self._writer = ImageWriter(model, constants)

    def write(self, directory: str) -> None:
        """Writes the file."""
        with open(os.path.join(directory, SAVED_MODEL_CPB), "xb") as file:
            self._writer.write(file)

    def fingerprint(self, index: bytes | None) -> FingerprintDef:
        """Returns the fingerprint."""
        return make_image_fingerprint(self._model, self._writer.graphs[0], index)


def _write_file(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
