"""Control flow of version 1 graphs, written as If and While nodes, which savax evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from savax.function.graph._frames import Frame, frames_of
from savax.function.graph._functional_branches import write_branches
from savax.function.graph._functional_loops import write_loop
from savax.function.lowering._graph_writer import free_name, legal_function_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.protos import FunctionDef, NodeDef
    from savax.types import DType

_CONTROL_FLOW = frozenset({"Merge", "Enter"})


class FunctionWriter(Protocol):
    """Writes functions of a graph's nodes."""

    def write(
        self,
        arguments: Sequence[str],
        results: Sequence[str],
        targets: Sequence[str],
        name: str,
        dropped: frozenset[str],
    ) -> FunctionDef:
        """Returns the function of some tensors that gives others."""
        ...

    def dtype(self, tensor: str) -> DType:
        """Returns the dtype of a tensor."""
        ...


class FunctionalGraph:
    """A graph while its control flow is rewritten.

    Args:
      nodes: its nodes by name.
      functions: its library.
      writer: writes functions of these nodes.

    Attributes:
      nodes: its nodes by name.
      functions: its library, with new functions.
      values: for outputs that nodes no longer have, the tensors that have their values.
    """

    def __init__(
        self,
        nodes: dict[str, NodeDef],
        functions: dict[str, FunctionDef],
        writer: FunctionWriter,
    ) -> None:
        self.nodes = nodes
        self.functions = functions
        self.values: dict[str, str] = {}
        self._writer = writer
        self._frames = frames_of(nodes)

    def rewrite(self) -> None:
        """Rewrites all branches and loops, the innermost first."""
        frames = sorted(set(self._frames.values()) | {()}, key=len, reverse=True)
        for frame in frames:
            write_branches(self, frame)
            if frame:
                write_loop(self, frame, self.members(frame))

    def members(self, frame: Frame) -> list[str]:
        """Returns the names of the nodes that run in a loop, those of inner loops excepted."""
        return [name for name in self.nodes if self._frames.get(name) == frame]

    def add(self, node: NodeDef, frame: Frame) -> None:
        """Adds a node, or replaces the one of its name."""
        self.nodes[node.name] = node
        self._frames[node.name] = frame

    def free_name(self, base: str) -> str:
        """Returns a name that no node has."""
        return free_name(base, self.nodes)

    def dtype(self, tensor: str) -> DType:
        """Returns the dtype of a tensor."""
        return self._writer.dtype(tensor)

    def write_function(
        self,
        name: str,
        arguments: Sequence[str],
        results: Sequence[str],
        dropped: frozenset[str],
        targets: Sequence[str] = (),
    ) -> str:
        """Writes the function of some tensors that gives others; returns its name.

        Args:
          name: what it should be called.
          arguments: the tensors that it takes.
          results: the tensors that it gives.
          dropped: nodes that its nodes don't wait for.
          targets: nodes that it runs for their effects.
        """
        base, number = legal_function_name(name), 0
        while (unique := f"{base}_{number}") in self.functions:
            number += 1
        self.functions[unique] = self._writer.write(arguments, results, targets, unique, dropped)
        return unique


def has_control_flow(nodes: Mapping[str, NodeDef]) -> bool:
    """Whether a graph has branches or loops of version 1."""
    return any(node.op in _CONTROL_FLOW for node in nodes.values())
