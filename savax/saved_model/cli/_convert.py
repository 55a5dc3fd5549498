"""``savax convert``: a SavedModel in another form, with other tags or names of signatures."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from savax.errors import (
    InvalidArgumentError,
    NotEncodableError,
    NotFoundError,
    PublishError,
)
from savax.protos import SavedModel, canonical_bytes, serialize
from savax.saved_model._constants import RESERVED_SIGNATURE_KEYS
from savax.saved_model._directory import publish_directory
from savax.saved_model._model_forms import (
    MOST_BYTES,
    BinaryForm,
    ImageForm,
    ModelForm,
    TextForm,
)
from savax.saved_model._reader import choose_meta_graph, open_model, put_back, read_parts
from savax.saved_model.cli._copied_files import copy_other_files
from savax.saved_model.cli._renamed_signatures import rename_signatures
from savax.trackable.bundle._locations import as_location, is_url
from savax.trackable.bundle._storage import is_directory, list_names
from savax.types import index_path, variables_prefix
from savax.types._paths import FINGERPRINT_PB, SAVED_MODEL_CPB, SAVED_MODEL_PB, SAVED_MODEL_PBTXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from savax.saved_model._reader import ModelDirectory
    from savax.types import PathLike

# In the order in which a reader looks for them.
FORMS = {"pb": SAVED_MODEL_PB, "pbtxt": SAVED_MODEL_PBTXT, "cpb": SAVED_MODEL_CPB}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is to be changed.

    Attributes:
      form: a key of ``FORMS``; None keeps that of the model.
      chosen_tags: of the only graph that is kept; None keeps all.
      new_tags: that this graph, or the only one, gets; None keeps its own.
      signatures: keys of those that are kept, as the model has them; empty keeps all.
      renames: pairs of an old and a new key.
      force: whether to replace what is at the target, be it the model itself.
    """

    form: str | None = None
    chosen_tags: Sequence[str] | None = None
    new_tags: Sequence[str] | None = None
    signatures: Sequence[str] = ()
    renames: Sequence[tuple[str, str]] = ()
    force: bool = False


@dataclasses.dataclass(frozen=True)
class ConvertedGraph:
    """A graph that was written.

    Attributes:
      tags: its tags.
      signatures: the sorted keys of its signatures.
    """

    tags: tuple[str, ...]
    signatures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """A model that was written.

    Attributes:
      directory: of the model.
      file: that holds its proto.
      graphs: in their order.
    """

    directory: str
    file: str
    graphs: tuple[ConvertedGraph, ...]


def convert_model(source: PathLike, target: PathLike, conversion: Conversion) -> ConversionReport:
    """Writes a model anew, with its variables, assets and other files.

    The target appears, or is replaced, in one step.

    Args:
      source: directory of the model.
      target: directory to write; parents are made.
      conversion: what to change.

    Raises:
      NotFoundError: there is no model.
      CorruptSavedModelError: it can't be parsed.
      TagsMismatchError: it has no graph with the tags asked for.
      KeyNotFoundError: no graph has a signature that was named.
      InvalidArgumentError: the changes contradict each other or the model, it is too large for the
        form, or without ``force`` the target isn't empty.
      UnsafePathError: the source holds links, or entries that aren't files.
      PublishError: the target can't be written, or the source was replaced meanwhile.
    """
    check_target(source, target, force=conversion.force)
    with open_model(source) as directory:
        form_name = conversion.form or _form_of(directory)
        model, constants = read_parts(directory)
        constants = _keep_graph(model, constants, conversion, directory.path)
        rename_signatures(model.meta_graphs, conversion.signatures, conversion.renames)
        form = _form(model, constants, form_name)

        def build(work: str) -> None:
            copy_other_files(directory, work)
            form.write(work)
            index = directory.read(os.path.relpath(index_path(variables_prefix(".")), "."))
            with open(os.path.join(work, FINGERPRINT_PB), "xb") as file:
                file.write(serialize(form.fingerprint(index)))
            if not directory.is_current():
                raise PublishError(f"{directory.path!r} was replaced while it was read; try again.")

        publish_directory(target, build)
    graphs = tuple(
        ConvertedGraph(
            tuple(graph.meta_info_def.tags),
            tuple(sorted(set(graph.signature_def) - RESERVED_SIGNATURE_KEYS)),
        )
        for graph in model.meta_graphs
    )
    return ConversionReport(os.fspath(target), FORMS[form_name], graphs)


def conversion_lines(report: ConversionReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"Wrote {os.path.join(report.directory, report.file)}"
    for graph in report.graphs:
        signatures = ", ".join(graph.signatures) or "(none)"
        yield f"  tags {', '.join(graph.tags) or '(none)'}: signatures {signatures}"


def check_target(source: PathLike, target: PathLike, *, force: bool) -> None:
    """Checks where a model is to be written.

    Args:
      source: directory of the model that is read, or its URL.
      target: directory to write, or its URL.
      force: whether something that is there may be replaced.

    Raises:
      NotFoundError: there is no source.
      InvalidArgumentError: the target isn't empty, or it is inside the source.
      SavaxError: a remote file system can't be asked.
    """
    old, new = _resolved(source), _resolved(target)
    if not is_directory(old):
        raise NotFoundError(f"There is no SavedModel directory {os.fspath(source)!r}.")
    if new.startswith(f"{old.rstrip('/')}/"):
        raise InvalidArgumentError(f"{new!r} is inside the model that is converted, {old!r}.")
    if force or not is_directory(new) or not list_names(new):
        return
    if new == old:
        raise InvalidArgumentError(f"The model {old!r} would replace itself; --force lets it.")
    raise InvalidArgumentError(f"{new!r} isn't empty; --force replaces a model there.")


def _resolved(place: PathLike) -> str:
    """Returns a path without links, or a URL without a slash at its end."""
    location = as_location(place)
    return location.rstrip("/") if is_url(location) else os.path.realpath(location)


def _form_of(directory: ModelDirectory) -> str:
    present = os.listdir(directory.fd)
    for form, file in FORMS.items():
        if file in present:
            return form
    raise NotFoundError(
        f"There is no SavedModel in {directory.path!r}: no {' or '.join(FORMS.values())}."
    )


def _keep_graph(
    model: SavedModel,
    constants: dict[int, np.ndarray[Any, Any]],
    conversion: Conversion,
    path: str,
) -> dict[int, np.ndarray[Any, Any]]:
    """Removes the graphs that weren't chosen; returns the constants of the first one left."""
    if conversion.chosen_tags is not None:
        choose_meta_graph(model, conversion.chosen_tags, path)
        wanted = set(conversion.chosen_tags)
        tags = [set(graph.meta_info_def.tags) for graph in model.meta_graphs]
        position = tags.index(wanted)
        del model.meta_graphs[position + 1 :]
        del model.meta_graphs[:position]
        constants = {} if position else constants
    elif conversion.new_tags is not None:
        choose_meta_graph(model, None, path)
    if conversion.new_tags is not None:
        info = model.meta_graphs[0].meta_info_def
        del info.tags[:]
        info.tags.extend(dict.fromkeys(conversion.new_tags))
    return constants


def _form(model: SavedModel, constants: Mapping[int, np.ndarray[Any, Any]], form: str) -> ModelForm:
    if form == "cpb":
        if len(model.meta_graphs) != 1:
            raise InvalidArgumentError(
                f"The image form holds one graph, the model has {len(model.meta_graphs)}; choose "
                "one by --tag-set."
            )
        nodes = model.meta_graphs[0].graph_def.node
        return ImageForm(model, {nodes[i].name: array for i, array in constants.items()})
    too_large = (
        f"The model has more than {MOST_BYTES:,} bytes, which only the image form (cpb) holds."
    )
    if sum(array.nbytes for array in constants.values()) > MOST_BYTES:
        raise InvalidArgumentError(too_large)
    put_back(model, constants)
    try:
        data = canonical_bytes(model)
    except NotEncodableError as error:
        raise InvalidArgumentError(too_large) from error
    if len(data) > MOST_BYTES:
        raise InvalidArgumentError(too_large)
    if form == "pb":
        return BinaryForm(model, data)
    if _has_unknown_fields(model):
        raise InvalidArgumentError(
            "The model has fields that savax doesn't know, perhaps of a later TensorFlow; text "
            "would lose them."
        )
    return TextForm(model, data)


def _has_unknown_fields(model: SavedModel) -> bool:
    known = SavedModel()
    known.CopyFrom(model)
    known.DiscardUnknownFields()
    return known.ByteSize() != model.ByteSize()
