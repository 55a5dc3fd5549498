"""Object graphs to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.protos import MetaGraphDef
from savax.saved_model.cli.drawing import draw_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.saved_model.cli.drawing._object_tree import ObjectPicture


def object_graph(children: Mapping[int, Mapping[str, int]], count: int) -> MetaGraphDef:
    """Returns objects with edges to others by name."""
    meta_graph = MetaGraphDef()
    for i in range(count):
        node = meta_graph.object_graph_def.nodes.add()
        node.user_object.identifier = "_generic_user_object"
        for name, child in children.get(i, {}).items():
            node.children.add(local_name=name, node_id=child)
    return meta_graph


def shared_and_cyclic() -> MetaGraphDef:
    """A variable that is also in a list, whose other element has an edge to the root."""
    meta_graph = object_graph({0: {"kernel": 1, "layers": 2}, 2: {"0": 3, "1": 1}, 3: {"up": 0}}, 4)
    nodes = meta_graph.object_graph_def.nodes
    nodes[1].variable.dtype, nodes[1].variable.name = 1, "kernel"
    nodes[1].variable.trainable = True
    for size in (2, 3):
        nodes[1].variable.shape.dim.add(size=size)
    nodes[2].user_object.identifier = "trackable_list_wrapper"
    return meta_graph


def drawn_objects(meta_graph: MetaGraphDef, *opened: str) -> ObjectPicture:
    return draw_objects("objects", meta_graph, opened)
