"""Lookup tables of a loaded graph as objects, so that its functions can be saved with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function import ConcreteFunction, FunctionSpec
from savax.function.graph._frames import source
from savax.function.graph._pruning import Feed
from savax.trackable import Asset, LookupTable, TableResource, Trackable
from savax.trackable._resource import CREATE, INITIALIZE
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.protos import NodeDef
    from savax.saved_model.v1._session import Session
    from savax.trackable import SaveType

_TABLE = "HashTableV2"
_FILLERS = frozenset({"InitializeTableV2", "InitializeTableFromTextFileV2"})


class GraphTable(TableResource):
    """A static table of a graph, which one operation fills.

    Args:
      session: runs the graph; it has the table.
      node: makes the table.
      filler: name of the operation that fills it.
      assets: the files that the operation reads, by the names of the tensors with their paths.
    """

    def __init__(
        self, session: Session, node: NodeDef, filler: str, assets: Mapping[str, Asset]
    ) -> None:
        self.name = node.attr["shared_name"].s.decode("utf-8", "surrogateescape") or node.name
        self._session = session
        self._node = node
        self._filler = filler
        self._assets = assets
        self._functions: dict[str, ConcreteFunction] = {}

    def lookup_table(self) -> LookupTable:
        """Returns the table that the session has."""
        key, value = (as_dtype(int(self._node.attr[f"{n}_dtype"].type)) for n in ("key", "value"))
        fresh = LookupTable(self.name, key, value)
        found: LookupTable = self._session.library.shared_object(self.name, fresh)
        return found

    @property
    def has_state(self) -> bool:
        """Whether the content belongs to checkpoints; that of a static table doesn't."""
        return False

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        children: dict[str, Trackable] = {
            f"_asset_{index}": asset for index, asset in enumerate(self._assets.values())
        }
        if save_type == "savedmodel":
            if not self._functions:
                self._functions = {CREATE: self._creator(), INITIALIZE: self._initializer()}
            children |= self._functions
        return children

    def _creator(self) -> ConcreteFunction:
        definition, body = self._session.function([], [f"{self._node.name}:0"], [], "creator")
        for node in definition.node_def:
            if node.op == _TABLE:  # without a name to share it by, it would end with the call
                node.attr["shared_name"].s = self.name.encode("utf-8", "surrogateescape")
        handle = TensorSpec([], "resource")
        return ConcreteFunction(body, FunctionSpec(name="creator"), ((), {}), handle, [])

    def _initializer(self) -> ConcreteFunction:
        feeds = [Feed(name, f"asset_{index}") for index, name in enumerate(self._assets)]
        _, body = self._session.function(
            feeds,
            [],
            [self._filler],
            "initializer",
            tables={self._node.name: self},
            bound=list(self._assets.values()),
        )
        return ConcreteFunction(body, FunctionSpec(name="initializer"), ((), {}), None, [])


def graph_tables(session: Session, asset_paths: Mapping[str, str]) -> dict[str, GraphTable]:
    """Returns the static tables of a graph that one operation each fills, by their nodes.

    Args:
      session: runs the graph.
      asset_paths: paths of files by the names of the tensors that hold them.
    """
    nodes = session.prunable().nodes
    fillers: dict[str, list[str]] = {}
    for node in nodes.values():
        if node.op in _FILLERS and node.input:
            fillers.setdefault(source(node.input[0]), []).append(node.name)
    return {
        name: GraphTable(session, nodes[name], found[0], _assets(nodes, found[0], asset_paths))
        for name, found in fillers.items()
        if len(found) == 1 and name in nodes and nodes[name].op == _TABLE
    }


def _assets(
    nodes: Mapping[str, NodeDef], filler: str, asset_paths: Mapping[str, str]
) -> dict[str, Asset]:
    """Returns the files that an operation needs."""
    seen: set[str] = set()
    pending = [filler]
    while pending:
        name = pending.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            pending += map(source, nodes[name].input)
    return {tensor: Asset(path) for tensor, path in asset_paths.items() if source(tensor) in seen}
