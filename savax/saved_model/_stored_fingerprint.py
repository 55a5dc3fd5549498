"""The fingerprint that a model was saved with, read from its directory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError, NotFoundError
from savax.protos import FingerprintDef, parse
from savax.saved_model._reader import open_model
from savax.types._paths import FINGERPRINT_PB

if TYPE_CHECKING:
    from savax.saved_model._reader import ModelDirectory
    from savax.types import PathLike


class UnreadableFingerprintError(CorruptSavedModelError, RuntimeError):
    """A fingerprint file that isn't one."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Hashes of the parts of a SavedModel; two are equal if all hashes are.

    Attributes:
      saved_model_checksum: of the whole of ``saved_model.pb``.
      graph_def_program_hash: of the main graph, without what differs between two saves of a
        program.
      signature_def_hash: of the signatures.
      saved_object_graph_hash: of the object graph.
      checkpoint_hash: of the checkpoint's index, and so of all its checksums.
      version: of the way in which these are computed.
    """

    saved_model_checksum: int | None = None
    graph_def_program_hash: int | None = None
    signature_def_hash: int | None = None
    saved_object_graph_hash: int | None = None
    checkpoint_hash: int | None = None
    version: int | None = dataclasses.field(default=None, compare=False)

    def singleprint(self) -> str:
        """Returns the hashes of program, signatures, objects and values as one text.

        Two saves of the same program with the same values have the same one.
        """
        return (
            f"{self.graph_def_program_hash}/{self.signature_def_hash}"
            f"/{self.saved_object_graph_hash}/{self.checkpoint_hash}"
        )


def read_fingerprint(export_dir: PathLike) -> Fingerprint:
    """Returns the fingerprint of the model in a directory.

    Raises:
      NotFoundError: the directory has no fingerprint; models of TensorFlow before 2.10 don't.
      UnreadableFingerprintError: the file is damaged.
    """
    with open_model(export_dir) as directory:
        found = fingerprint_in(directory)
    if found is None:
        raise NotFoundError(f"There is no {FINGERPRINT_PB} in {directory.path!r}.")
    return found


def fingerprint_in(directory: ModelDirectory) -> Fingerprint | None:
    """Returns the fingerprint in an open directory, or None if there is none.

    Raises:
      UnreadableFingerprintError: the file is damaged.
    """
    data = directory.read(FINGERPRINT_PB)
    if data is None:
        return None
    try:
        proto = parse(FingerprintDef, data, f"{directory.path}/{FINGERPRINT_PB}")
    except CorruptSavedModelError as error:
        raise UnreadableFingerprintError(str(error)) from error
    return Fingerprint(
        proto.saved_model_checksum,
        proto.graph_def_program_hash,
        proto.signature_def_hash,
        proto.saved_object_graph_hash,
        proto.checkpoint_hash,
        proto.version.producer,
    )
