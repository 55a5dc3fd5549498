"""Session: values of a graph's variables, and runs of its operations."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from savax.errors import (
    InvalidArgumentError,
    SavaxError,
    TracingError,
    UnsafePathError,
    UnsupportedError,
    UnsupportedOptionError,
)
from savax.function import LoadedBody, PlanLibrary
from savax.function.graph._default_stack import get_default_graph, graph_scope, session_scope
from savax.function.graph._pruning import Feed, PrunableGraph
from savax.saved_model.v1._checkpoint_feeds import restore_feeds
from savax.saved_model.v1._fetches import Fetches, fed_values
from savax.trackable import Trackable, Variable, current_frame
from savax.trackable.bundle import BundleReader
from savax.types import contained_path

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from savax.function.graph._graph import Graph
    from savax.protos import FunctionDef, GraphDef, NodeDef
    from savax.types import TensorSpec


class ClosedSessionError(SavaxError, RuntimeError):
    """A session is used after it was closed, or on a graph without operations."""


class SessionVariable(Variable):
    """A variable's value in a session; there may be none yet."""

    def _stored_value(self) -> Any:
        return None if self._stored is None else super()._stored_value()

    @property
    def is_initialized(self) -> bool:
        """Whether it has a value."""
        return self._stored is not None


# The strings that the caller of a run feeds: files that operations may read by these names.
_FED_STRINGS: ContextVar[frozenset[bytes]] = ContextVar("savax_fed_strings", default=frozenset())


class SessionLibrary(PlanLibrary):
    """The functions that a session runs, and the files that they may read.

    Those are the assets of models that were loaded into it, and files that the caller of a run
    names by what is fed.
    """

    def __init__(self, functions: Mapping[str, FunctionDef]) -> None:
        super().__init__(functions)
        self.asset_folders: list[str] = []
        self.owners: list[object] = []  # what must live as long as these folders are read

    def asset_file(self, path: bytes) -> str:
        """Returns the path of a file that an operation wants to read.

        Raises:
          UnsafePathError: it may not.
        """
        name = os.fsdecode(path)
        if path in _FED_STRINGS.get():
            return name
        absolute = os.path.abspath(name)
        for folder in self.asset_folders:
            if absolute.startswith(folder + os.sep):
                return contained_path(folder, os.path.relpath(absolute, folder), "asset file")
        raise UnsafePathError(
            f"The graph reads the file {name!r}. savax reads only the assets of models that were "
            "loaded into the session, and files whose names are fed."
        )


class _Program(NamedTuple):
    """What runs for one set of fetches and feeds.

    Attributes:
      body: the computation.
      restores: the RestoreV2 nodes that must be fed before it can run.
      assigns: whether it may keep what is fed as the value of a variable.
    """

    body: LoadedBody
    restores: tuple[NodeDef, ...]
    assigns: bool


class Session:
    """Runs operations of a graph, whose variables have their values here.

    As a context manager it is the default session and its graph the default graph; it is closed at
    the end.

    Args:
      target: empty; savax computes in this process.
      graph: the graph; by default the default one.
      config: accepted and ignored: JAX is configured by itself.

    Attributes:
      graph: the graph.
      library: the functions that were cut out of it, and the tables that it shares by names.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        del config
        if target:
            raise UnsupportedOptionError(f"savax has no remote sessions: target={target!r}.")
        self.graph = get_default_graph() if graph is None else graph
        self._variables: dict[str, SessionVariable] = {}
        self._programs: dict[Any, _Program] = {}
        self._functions: dict[str, Any] = {}
        self.library = SessionLibrary(self._functions)
        self._prunable: tuple[int, PrunableGraph] | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._contexts: list[AbstractContextManager[Any]] = []

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        """Computes tensors and runs operations; only what they need runs.

        A program is compiled for each set of fetches and feeds, and kept.

        Args:
          fetches: tensors, variables, operations or names of them, in any structure of lists,
            tuples and dicts.
          feed_dict: values of placeholders or of any other tensors, by tensor or name.
          options: accepted and ignored.
          run_metadata: accepted and ignored.

        Returns:
          Numpy arrays in the structure of the fetches, None for operations; strings as bytes.

        Raises:
          TypeError: a fetch, or a key or value of the feeds, is of a wrong type.
          InvalidArgumentError: names that the graph doesn't have, placeholders without a value,
            variables without a value.
          UnsupportedOpError: operations that savax can't evaluate; all are listed.
          ClosedSessionError: the session is closed.
        """
        del options, run_metadata
        self._check_open()
        wanted = Fetches(self.graph, fetches)
        values = self._run(wanted.tensors, wanted.targets, fed_values(self.graph, feed_dict))
        return wanted.rebuild([_fetched(value) for value in values])

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] | None = None) -> Any:
        """Returns a function of the values of some tensors that runs the fetches."""
        keys = list(feed_list or ())

        def call(*values: Any) -> Any:
            return self.run(fetches, dict(zip(keys, values, strict=True)))

        return call

    def _run(
        self,
        tensors: Sequence[str],
        targets: Sequence[str],
        feeds: Mapping[str, Any],
        open_checkpoint: Callable[[str], BundleReader] = BundleReader,
    ) -> list[Any]:
        """Computes tensors by name, from fed arrays by name.

        Args:
          tensors: what to compute.
          targets: operations to run.
          feeds: arrays.
          open_checkpoint: opens the checkpoint of a prefix that is fed.
        """
        if current_frame() is not None:
            raise TracingError("A session can't run while a savax.function is traced.")
        feeds = dict(sorted(feeds.items()))  # one program, in whichever order they come
        program = self._program(tuple(tensors), tuple(targets), tuple(feeds))
        if program.restores:
            read = restore_feeds(program.restores, feeds, self._run, open_checkpoint)
            return self._run(tensors, targets, {**feeds, **read})
        token = _FED_STRINGS.set(frozenset(_strings(feeds.values())))
        try:
            results = program.body.run(_own(feeds.values(), program.assigns))
        finally:
            _FED_STRINGS.reset(token)
        return [np.asarray(value) for value in results]

    def _allow_assets(self, folder: str, owner: object = None) -> None:
        """Lets operations read the files of a folder, which exists as long as its owner."""
        self.library.asset_folders.append(os.path.abspath(folder))
        self.library.owners.append(owner)

    @staticmethod
    def _string(value: str) -> np.ndarray[Any, Any]:
        """Returns a string as it is fed."""
        return np.array(value.encode("utf-8", "surrogateescape"), dtype=object)

    def _program(
        self, tensors: tuple[str, ...], targets: tuple[str, ...], feeds: tuple[str, ...]
    ) -> _Program:
        key = (tensors, targets, feeds)
        found = self._programs.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self._build(tensors, targets, feeds)
            return self._programs[key]

    def _build(
        self, tensors: Sequence[str], targets: Sequence[str], feeds: Sequence[str]
    ) -> _Program:
        fed = [Feed(tensor, tensor.partition(":")[0]) for tensor in feeds]
        pruned, body = self.function(fed, tensors, targets, "session_run")
        restores = tuple(
            self.prunable().nodes[node.name]
            for node in pruned.node_def
            if node.op == "RestoreV2" and f"{node.name}:0" not in feeds
        )
        return _Program(body, restores, any(_may_assign(node.op) for node in pruned.node_def))

    def function(
        self,
        feeds: Sequence[Feed],
        tensors: Sequence[str],
        targets: Sequence[str],
        name: str,
        *,
        tables: Mapping[str, Trackable] | None = None,
        bound: Sequence[Trackable] = (),
    ) -> tuple[FunctionDef, LoadedBody]:
        """Returns the part of the graph that a run needs, as a function of what is fed.

        Args:
          feeds: the arguments.
          tensors: names of the results.
          targets: names of operations to run.
          name: of the function; a number is put behind it.
          tables: objects for tables of the graph, by their nodes; the function captures them.
          bound: what it captures instead of its arguments, one object for each of them.

        Raises:
          InvalidArgumentError: it needs placeholders that aren't fed.
        """
        number = len(self._functions)
        while f"{name}_{number}" in self._functions:
            number += 1
        name = f"{name}_{number}"
        objects = tables or {}
        pruned = self.prunable().prune(feeds, tensors, targets, name, tables=objects)
        if pruned.unfed:
            placeholders = ", ".join(
                f"{name!r} ({self.graph.get_tensor_by_name(f'{name}:0')!r})"
                for name in pruned.unfed
            )
            raise InvalidArgumentError(f"You must feed a value for the placeholder {placeholders}.")
        self._functions.update(self.prunable().functions)
        self._functions[name] = pruned.definition
        captures: list[Trackable] = [*bound, *map(self.variable, pruned.resources)]
        captures += [objects[table] for table in pruned.tables]
        return pruned.definition, LoadedBody(name, self.library, captures)

    def prunable(self) -> PrunableGraph:
        """Returns the graph as it is evaluated."""
        version = self.graph.version
        if self._prunable is None or self._prunable[0] != version:
            self._prunable = version, PrunableGraph.of(self.graph.nodes(), self.graph.functions())
        return self._prunable[1]

    def variable(self, spec: TensorSpec, trainable: bool = True) -> SessionVariable:
        """Returns what holds a variable's value here.

        Args:
          spec: its dtype and shape, and the name that the graph shares it by.
          trainable: whether a new one is trainable.
        """
        name = str(spec.name)
        found = self._variables.get(name)
        if found is None:
            found = SessionVariable.without_value(spec, trainable)
            self._variables[name] = found
        if found.dtype is not spec.dtype:
            raise UnsupportedError(
                f"The graph has variables of dtype {found.dtype.name} and {spec.dtype.name} that "
                f"share the name {name!r}."
            )
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedSessionError("The session is closed.")
        if not self.graph.version:
            raise ClosedSessionError("The session's graph has no operations yet.")

    @property
    def graph_def(self) -> GraphDef:
        """The graph as a message."""
        return self.graph.as_graph_def()

    # Contexts.

    def close(self) -> None:
        """Ends the session; its values are gone."""
        self._closed = True
        self._variables.clear()
        self._programs.clear()

    def as_default(self) -> AbstractContextManager[Any]:
        """Makes this the default session, inside a ``with`` that leaves it open."""
        return session_scope(self)

    def __enter__(self) -> Self:
        graph, session = graph_scope(self.graph), session_scope(self)
        graph.__enter__()
        session.__enter__()
        self._contexts += [graph, session]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._contexts.pop().__exit__(kind, error, traceback)
        self._contexts.pop().__exit__(kind, error, traceback)
        self.close()


# How the names of ops that may assign Variables begin.
_ASSIGNING_OPS = (
    *("Assign", "ResourceApply", "ResourceCountUpTo", "ResourceScatter", "ResourceSparseApply"),
    *("ResourceStridedSliceAssign", "StatefulPartitioned"),
)


def _may_assign(op: str) -> bool:
    return op.startswith(_ASSIGNING_OPS)


def _own(arrays: Iterable[Any], is_kept: bool) -> list[Any]:
    """Returns arrays that stay as they are, if they are kept, when the caller changes his."""
    return [np.array(a) if is_kept and a.flags.writeable else a for a in arrays]


def _strings(arrays: Iterable[Any]) -> Iterator[bytes]:
    """Returns single strings among arrays."""
    for array in arrays:
        if array.dtype == np.dtype(object) and array.ndim == 0:
            yield array.item()


def _fetched(array: np.ndarray[Any, Any]) -> Any:
    """Returns a result as numpy has it: an array of its own, a scalar for a single value."""
    if array.ndim == 0:
        return array[()]
    return array if array.flags.writeable else np.array(array)
