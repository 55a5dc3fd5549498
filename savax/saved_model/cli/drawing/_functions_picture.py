"""The picture of a signature or a function of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import KeyNotFoundError
from savax.saved_model.cli.drawing._bodies import drawn_bodies
from savax.saved_model.cli.drawing._operations import collect_operations
from savax.saved_model.cli.drawing._picture import Item, Picture
from savax.saved_model.cli.drawing._scopes import group_operations
from savax.saved_model.cli.drawing._wiring import wired_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.protos import GraphDebugInfo, MetaGraphDef
    from savax.saved_model.cli.drawing._bodies import Body
    from savax.saved_model.cli.drawing._picture import Group

_MOST_OPEN = 60  # boxes that are seen at first


def draw_function(
    title: str,
    meta_graph: MetaGraphDef,
    body: Body,
    debug_info: GraphDebugInfo,
    opened: Sequence[str] = (),
) -> Picture:
    """Returns the picture of a body.

    Args:
      title: of the picture.
      meta_graph: the graph that the body is of.
      body: what to draw.
      debug_info: of the model; may be empty.
      opened: paths of groups that are to be open; if empty, as many as can be seen well.

    Raises:
      ResourceLimitError: there are too many nodes.
      KeyNotFoundError: there is no group at one of the paths.
    """
    bodies = drawn_bodies(meta_graph, body)
    groups = []
    for drawn in (bodies.root, *bodies.functions.values()):
        operations = collect_operations(drawn, debug_info)
        groups.append(wired_group(group_operations(operations), operations, bodies.functions))
    root, *others = groups
    functions = dict(zip(bodies.functions, others, strict=True))
    picture = Picture(title, root, functions, frozenset())
    paths = [path for text in opened for path in _path_to(picture, text)]
    return picture._replace(opened=frozenset(paths or _levels(picture)))


def _openable(picture: Picture, group: Group, path: str) -> Iterator[tuple[str, Item, Group]]:
    for item in group.items:
        content = picture.content_of(item)
        if content is not None:
            yield f"{path}{item.key}", item, content


def _levels(picture: Picture) -> Iterator[str]:
    """Yields the paths of all groups of one level after another, while there is room."""
    seen = _boxes(picture.root)
    level = list(_openable(picture, picture.root, ""))
    while level:
        seen += sum(_boxes(content) - 1 for _, _, content in level)
        if seen > _MOST_OPEN:
            return
        yield from (path for path, _, _ in level)
        level = [
            inner for path, _, content in level for inner in _openable(picture, content, f"{path}/")
        ]


def _boxes(group: Group) -> int:
    return sum(bool(item.key) for item in group.items)


def _path_to(picture: Picture, text: str) -> list[str]:
    """Returns the paths of a group and of those around it."""
    rest, path, group = text.strip("/"), "", picture.root
    found: list[str] = []
    while rest:
        steps = [
            step
            for step in _openable(picture, group, path)
            if rest == step[1].key or rest.startswith(f"{step[1].key}/")
        ]
        if not steps:
            known = [step[0] for step in _openable(picture, group, path)][:20]
            raise KeyNotFoundError(
                f"There is no group {text!r} to open; there are: {', '.join(known) or 'none'}."
            )
        inner, item, group = max(steps, key=lambda step: len(step[1].key))
        rest = rest[len(item.key) + 1 :]
        found.append(inner)
        path = f"{inner}/"
    return found
