"""``savax draw``: a picture of a function or of the objects of a model."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from savax.errors import InvalidArgumentError, PublishError
from savax.saved_model._reader import choose_meta_graph, open_model, read_parts
from savax.saved_model._stored_debug_info import read_debug_info
from savax.saved_model.cli._tables import size_text
from savax.saved_model.cli._whole_files import whole_file
from savax.saved_model.cli.drawing import (
    draw_function,
    draw_objects,
    function_body,
    objects_page,
    objects_svg,
    picture_page,
    picture_svg,
    signature_body,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.protos import MetaGraphDef
    from savax.saved_model._reader import ModelDirectory
    from savax.types import PathLike

_PAGES, _IMAGES = (".html", ".htm"), (".svg",)


@dataclasses.dataclass(frozen=True)
class DrawArguments:
    """What to draw.

    Attributes:
      output: file to write, whose name ends in ``.svg`` or ``.html``.
      tags: of the graph; None for the only one.
      signature: key of the signature; None for ``serving_default``, or the only one.
      function: name of a FunctionDef, or path of a function, to be drawn instead.
      objects: whether to draw the object graph instead.
      opened: paths of the groups that are open at first; if empty, as many as can be seen well.
      overwrite: whether the file is replaced if there is one.
    """

    output: str
    tags: tuple[str, ...] | None = None
    signature: str | None = None
    function: str | None = None
    objects: bool = False
    opened: Sequence[str] = ()
    overwrite: bool = False


def draw_model(export_dir: PathLike, arguments: DrawArguments) -> str:
    """Writes a picture of a part of a model.

    Args:
      export_dir: directory of the model.
      arguments: what to draw, and where to.

    Returns:
      What was written, as a line for people.

    Raises:
      NotFoundError: there is no model.
      TagsMismatchError: it has no graph with these tags, or several.
      KeyNotFoundError: it lacks the signature, the function, the objects or a group.
      ResourceLimitError: it is too large to be drawn.
      InvalidArgumentError: the file has another ending.
      PublishError: the file exists, and isn't to be replaced.
      CorruptSavedModelError: the model can't be parsed, or contradicts itself.
      UnsafePathError: links are in the place of its files.
    """
    file = arguments.output
    if not file.lower().endswith((*_PAGES, *_IMAGES)):
        raise InvalidArgumentError(f"The name of {file!r} ends in neither .svg nor .html.")
    if os.path.lexists(file) and not arguments.overwrite:
        raise PublishError(f"{file!r} exists; --overwrite replaces it.")
    with open_model(export_dir) as directory:
        model, _ = read_parts(directory)  # large constants are drawn by their shapes
        meta_graph = choose_meta_graph(model, arguments.tags, directory.path)
        is_page = file.lower().endswith(_PAGES)
        data = _drawn(directory, meta_graph, arguments, is_page=is_page).encode()
    with whole_file(file, overwrite=arguments.overwrite) as stream:
        stream.write(data)
    return f"Wrote {file}, {size_text(len(data))}"


def _drawn(
    directory: ModelDirectory,
    meta_graph: MetaGraphDef,
    arguments: DrawArguments,
    *,
    is_page: bool,
) -> str:
    name = os.path.basename(os.path.abspath(directory.path))
    if arguments.objects:
        objects = draw_objects(f"{name}: objects", meta_graph, arguments.opened)
        return objects_page(objects) if is_page else objects_svg(objects)
    if arguments.function is not None:
        body = function_body(meta_graph, arguments.function)
        title = f"{name}: function {arguments.function}"
    else:
        key, body = signature_body(meta_graph, arguments.signature)
        title = f"{name}: signature {key}"
    debug_info = read_debug_info(directory)
    picture = draw_function(title, meta_graph, body, debug_info, arguments.opened)
    return picture_page(picture) if is_page else picture_svg(picture)
