"""Saver: checkpoints of a session's variables, by name."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import (
    InvalidArgumentError,
    UnsupportedError,
    UnsupportedOptionError,
)
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._graph_variables import variables_of
from savax.function.graph._tensor_names import canonical_tensor, split_tensor
from savax.protos import SaverDef
from savax.saved_model.v1._errors import MissingCheckpointError
from savax.saved_model.v1._meta_graph import export_meta_graph
from savax.saved_model.v1._saver_nodes import add_saver_nodes
from savax.trackable.bundle import Partitioned, delete_bundle, parse_slice_spec, write_bundle
from savax.trackable.checkpoint import write_checkpoint_state
from savax.types import index_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.graph._graph import Graph
    from savax.function.graph._graph_variables import GraphVariable
    from savax.protos import MetaGraphDef, NodeDef
    from savax.saved_model.v1._session import Session
    from savax.types import PathLike


class Saver:
    """Saves and restores variables of the default graph.

    It adds the nodes that do so in TensorFlow to the graph; savax reads from them which values
    belong under which names.

    Args:
      var_list: variables, or a dict of them by name in the checkpoint; by default all that are in
        collections of the graph.
      reshape: not implemented: only False.
      sharded: whether TensorFlow, when it saves, writes a file for each device.
      max_to_keep: how many checkpoints ``save`` keeps; None or 0 for all.
      keep_checkpoint_every_n_hours: for which interval one more is kept.
      name: scope of the nodes; ``save`` by default.
      saver_def: the message of nodes that the graph has already.
      allow_empty: whether there may be no variables.
      pad_step_number: whether steps are written with eight digits.
      save_relative_paths: accepted and ignored: the state file has them relative to its directory.
      restore_sequentially: accepted and ignored.
      filename: default of the checkpoint's name in the graph.

    Raises:
      InvalidArgumentError: there are no variables to save, or two of one name.
    """

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        *,
        saver_def: SaverDef | None = None,
        allow_empty: bool = False,
        pad_step_number: bool = False,
        save_relative_paths: bool = True,
        restore_sequentially: bool = False,
        filename: str = "model",
    ) -> None:
        del save_relative_paths, restore_sequentially  # the state file's are; one run restores all
        if reshape:
            raise UnsupportedOptionError("Saver(reshape=True) isn't implemented.")
        self._step_format = "08d" if pad_step_number else "d"
        self._kept: list[tuple[str, float]] = []
        self._next_extra = time.time() + keep_checkpoint_every_n_hours * 3600
        if saver_def is not None:
            self.saver_def = SaverDef()
            self.saver_def.CopyFrom(saver_def)
            self._graph: Graph | None = None
            return
        graph = self._graph = get_default_graph()
        named = _by_name(graph, var_list)
        if not named and not allow_empty:
            raise InvalidArgumentError("There are no variables to save.")
        self.saver_def = SaverDef()
        if named:
            self.saver_def = add_saver_nodes(
                graph, named, sharded=sharded, name=name or "save", filename=filename
            )
            self.saver_def.max_to_keep = max_to_keep or 0
            self.saver_def.keep_checkpoint_every_n_hours = keep_checkpoint_every_n_hours

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that are kept, oldest first."""
        return [path for path, _ in self._kept]

    def as_saver_def(self) -> SaverDef:
        """Returns the message that names the nodes."""
        return self.saver_def

    def save(
        self,
        sess: Session,
        save_path: PathLike,
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
    ) -> str | None:
        """Writes the values that variables have in a session.

        Args:
          sess: the session.
          save_path: prefix of the checkpoint's files.
          global_step: a number, or a tensor or variable that has it, that is put behind the prefix.
          latest_filename: name of the state file, ``checkpoint`` by default.
          meta_graph_suffix: of the file with the graph.
          write_meta_graph: whether to write that file.
          write_state: whether to say in the state file that this is the latest checkpoint, and to
            delete those that aren't kept.

        Returns:
          The prefix; None if there are no variables.

        Raises:
          InvalidArgumentError: a variable has no value.
          UnsupportedError: the graph saves in a way that savax can't follow.
        """
        path = os.fspath(save_path)
        if global_step is not None:
            plain = isinstance(global_step, int | np.integer)
            step = global_step if plain else sess.run(global_step)
            path = f"{path}-{int(step):{self._step_format}}"
        if self.saver_def.save_tensor_name:
            write_bundle(path, _tensors(sess, self.saver_def))
        if write_meta_graph:
            with sess.graph.as_default():
                self.export_meta_graph(f"{path}.{meta_graph_suffix}")
        if write_state and self.saver_def.save_tensor_name:
            self._remember(path, latest_filename, meta_graph_suffix)
        return path if self.saver_def.save_tensor_name else None

    def _remember(self, path: str, latest_filename: str | None, suffix: str) -> None:
        self._kept = [(p, t) for p, t in self._kept if p != path] + [(path, time.time())]
        most = self.saver_def.max_to_keep
        old = self._kept[:-most] if most > 0 else []
        self._kept = self._kept[len(old) :]
        write_checkpoint_state(
            os.path.dirname(path) or ".", self.last_checkpoints, latest_filename=latest_filename
        )
        for prefix, written in old:
            if written > self._next_extra:
                self._next_extra += self.saver_def.keep_checkpoint_every_n_hours * 3600
                continue
            delete_bundle(prefix)
            if os.path.exists(f"{prefix}.{suffix}"):
                os.remove(f"{prefix}.{suffix}")

    def restore(self, sess: Session, save_path: PathLike) -> None:
        """Gives variables in a session the values of a checkpoint.

        Raises:
          InvalidArgumentError: there is no path.
          MissingCheckpointError: there is no such checkpoint (a NotFoundError and a ValueError).
          KeyNotFoundError: it lacks a variable.
          CorruptBundleError: it is damaged.
        """
        if save_path is None:
            raise InvalidArgumentError("Saver.restore needs the path of a checkpoint, got None.")
        if not self.saver_def.restore_op_name:
            return
        if not os.path.isfile(index_path(os.fspath(save_path))):
            raise MissingCheckpointError(f"There is no checkpoint {os.fspath(save_path)!r}.")
        sess.run(
            self.saver_def.restore_op_name,
            {canonical_tensor(self.saver_def.filename_tensor_name): os.fspath(save_path)},
        )

    def export_meta_graph(
        self,
        filename: PathLike | None = None,
        collection_list: Sequence[str] | None = None,
        as_text: bool = False,
        clear_devices: bool = False,
        strip_default_attrs: bool = False,
    ) -> MetaGraphDef:
        """Returns the default graph with its collections, and writes it if there is a file name."""
        return export_meta_graph(
            filename,
            saver_def=self.saver_def,
            collection_list=collection_list,
            as_text=as_text,
            clear_devices=clear_devices,
            strip_default_attrs=strip_default_attrs,
            graph=self._graph,
        )


def _by_name(graph: Graph, var_list: Any) -> dict[str, list[GraphVariable]]:
    if isinstance(var_list, dict):
        return {name: [variable] for name, variable in var_list.items()}
    found: dict[str, list[GraphVariable]] = {}
    for variable in variables_of(graph) if var_list is None else var_list:
        info = variable.save_slice
        name = variable.op.name if info is None else info.full_name
        found.setdefault(name, []).append(variable)
        if info is None and len(found[name]) > 1:
            raise InvalidArgumentError(f"Two variables are to be saved as {name!r}.")
    return found


def _tensors(sess: Session, saver: SaverDef) -> list[tuple[str, Any]]:
    """Returns what a graph's SaveV2 nodes would write."""
    nodes = _save_nodes(sess, saver.save_tensor_name)
    tensors: dict[str, Any] = {}
    for node in nodes:
        inputs = [canonical_tensor(name) for name in node.input if not name.startswith("^")]
        names, slices, *values = sess._run(inputs[1:], [], {})
        for name, spec, value in zip(names.tolist(), slices.tolist(), values, strict=True):
            key = name.decode()
            if not spec:
                tensors[key] = value
                continue
            shape, extents = parse_slice_spec(spec.decode())
            known = tensors.get(key)
            earlier = known.slices if isinstance(known, Partitioned) else ()
            whole = [extent if extent != (0, -1) else None for extent in extents]
            tensors[key] = Partitioned(shape, value.dtype, [*earlier, (whole, value)])
    return list(tensors.items())


def _save_nodes(sess: Session, tensor: str) -> list[NodeDef]:
    graph = sess.graph
    pending = [split_tensor(canonical_tensor(tensor))[0]]
    seen: set[str] = set()
    found = []
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.get_operation_by_name(name).node_def
        if node.op == "SaveV2":
            found.append(node)
            continue
        pending += [t.removeprefix("^").partition(":")[0] for t in node.input]
    if not found:
        raise UnsupportedError(
            f"The graph saves by {tensor!r}, which leads to no SaveV2 operation. Models of "
            "TensorFlow 2 save in functions; load them by savax.saved_model.load to save them."
        )
    return found
