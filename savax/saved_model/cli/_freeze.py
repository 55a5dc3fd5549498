"""``savax freeze``: a SavedModel's signatures with the values of variables as constants."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from savax.errors import (
    CorruptSavedModelError,
    InvalidArgumentError,
    NotEncodableError,
    PublishError,
    UnsupportedError,
)
from savax.protos import (
    MetaGraphDef,
    NodeDef,
    SavedModel,
    TensorInfo,
    canonical_bytes,
    encode_tensor,
    functions_by_name,
    serialize,
)
from savax.saved_model._constants import INIT_OP_SIGNATURE_KEY, RESERVED_SIGNATURE_KEYS
from savax.saved_model._directory import publish_directory
from savax.saved_model._model_forms import MOST_BYTES, BinaryForm
from savax.saved_model._reader import choose_meta_graph, open_model, read_saved_model
from savax.saved_model.cli._convert import check_target
from savax.saved_model.cli._copied_files import copy_other_files
from savax.saved_model.cli._frozen_functions import VARIABLES, Freezer, Value
from savax.saved_model.cli._renamed_signatures import rename_signatures
from savax.saved_model.cli._restored_values import (
    Stored,
    ancestors,
    stored_variables,
    variable_name,
)
from savax.saved_model.v1._constants import LEGACY_INIT_OP_KEY, MAIN_OP_KEY
from savax.trackable.bundle import BundleReader, parse_slice_spec
from savax.types import as_dtype
from savax.types._paths import FINGERPRINT_PB, VARIABLES_DIRECTORY, VARIABLES_FILENAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from savax.saved_model._reader import ModelDirectory
    from savax.types import PathLike

# Collections of version 1 that say what to run when a model is loaded.
_MAIN_OPS = (MAIN_OP_KEY, LEGACY_INIT_OP_KEY)
_KEPT_COLLECTIONS = (*_MAIN_OPS, "saved_model_assets")


@dataclasses.dataclass(frozen=True)
class FreezeReport:
    """A frozen model that was written.

    Attributes:
      directory: of the model.
      signatures: sorted keys of its signatures.
      num_variables: variables that became constants.
      size_bytes: bytes of their values.
    """

    directory: str
    signatures: tuple[str, ...]
    num_variables: int
    size_bytes: int


def freeze_model(
    source: PathLike,
    target: PathLike,
    *,
    tags: Sequence[str] | None = None,
    signatures: Sequence[str] = (),
    force: bool = False,
) -> FreezeReport:
    """Writes a graph's signatures as a model without variables, in version 1's form.

    Args:
      source: directory of the model.
      target: directory to write; it appears, or is replaced, in one step.
      tags: exactly those of the graph; None for the only one.
      signatures: keys of those to keep; all if empty.
      force: whether to replace what is at the target.

    Raises:
      UnsupportedError: a signature writes to a variable, or does more with it than to read it; or
        a variable's value isn't in the checkpoint.
      InvalidArgumentError: the values don't fit into a file, or the target isn't empty.
      NotFoundError: there is no model, or it lacks its checkpoint.
      TagsMismatchError: it has no graph with these tags.
      KeyNotFoundError: it lacks a signature.
      CorruptSavedModelError: it contradicts itself.
      UnsafePathError: it holds links, or entries that aren't files.
      PublishError: the target can't be written, or the source was replaced meanwhile.
    """
    check_target(source, target, force=force)
    with open_model(source) as directory:
        model = read_saved_model(directory)
        meta_graph = choose_meta_graph(model, tags, directory.path)
        rename_signatures([meta_graph], signatures, ())
        if not set(meta_graph.signature_def) - RESERVED_SIGNATURE_KEYS:
            raise InvalidArgumentError(f"The model {directory.path!r} has no signatures to freeze.")
        frozen = _Frozen(directory, meta_graph)
        result = SavedModel(saved_model_schema_version=model.saved_model_schema_version)
        result.meta_graphs.add().CopyFrom(frozen.meta_graph())
        try:
            data = canonical_bytes(result)
        except NotEncodableError as error:
            raise InvalidArgumentError(_too_large(frozen.size_bytes)) from error
        if len(data) > MOST_BYTES:
            raise InvalidArgumentError(_too_large(frozen.size_bytes))
        form = BinaryForm(result, data)

        def build(work: str) -> None:
            copy_other_files(directory, work, without=(VARIABLES_DIRECTORY,))
            form.write(work)
            with open(os.path.join(work, FINGERPRINT_PB), "xb") as file:
                file.write(serialize(form.fingerprint(None)))
            if not directory.is_current():
                raise PublishError(f"{directory.path!r} was replaced while it was read; try again.")

        publish_directory(target, build)
    keys = tuple(sorted(set(meta_graph.signature_def) - RESERVED_SIGNATURE_KEYS))
    return FreezeReport(os.fspath(target), keys, len(frozen.variables), frozen.size_bytes)


def freeze_lines(report: FreezeReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"Wrote {report.directory}: signatures {', '.join(report.signatures)}"
    yield f"  {report.num_variables} variables, {report.size_bytes:,} bytes, are constants now"


class _Frozen:
    """A graph on its way to become one without variables."""

    def __init__(self, directory: ModelDirectory, meta_graph: MetaGraphDef) -> None:
        self._directory = directory
        self._meta_graph = meta_graph
        self._nodes = {node.name: node for node in meta_graph.graph_def.node}
        library = meta_graph.graph_def.library
        self._functions = functions_by_name(library)
        restore_op = meta_graph.saver_def.restore_op_name
        self._stored = stored_variables(meta_graph.graph_def, restore_op, self._functions)
        self.variables: dict[str, np.ndarray[Any, Any]] = {}
        self.size_bytes = 0

    def meta_graph(self) -> MetaGraphDef:
        """Returns the frozen graph."""
        tensors = [
            name
            for key, definition in self._meta_graph.signature_def.items()
            if key not in RESERVED_SIGNATURE_KEYS
            for info in (*definition.inputs.values(), *definition.outputs.values())
            for name in _tensor_names(info)
        ]
        run = ancestors(self._nodes, tensors)
        initial = ancestors(self._nodes, self._main_ops())
        self._check_initial(run, initial)
        variables = {name for name in run if self._nodes[name].op in VARIABLES}
        self._read_values({variable_name(self._nodes[name]) for name in variables})
        freezer = Freezer(self._functions)
        kept_initial = [self._nodes[name] for name in self._nodes if name in initial]
        freezer.keep(kept_initial, may_hold_variables=True)
        values = {name: self._value(self._nodes[name]) for name in variables}
        handles = {n: v for n, v in values.items() if self._nodes[n].op == "VarHandleOp"}
        references = {
            tensor: values[name].variable
            for name in variables - handles.keys()
            for tensor in (name, f"{name}:0")
        }
        nodes = [self._nodes[n] for n in self._nodes if n in run - initial - variables]
        shared = [self._nodes[n] for n in self._nodes if n in run & initial]
        frozen = MetaGraphDef()
        self._copy_rest(frozen)
        graph = frozen.graph_def
        graph.versions.CopyFrom(self._meta_graph.graph_def.versions)
        graph.node.extend(self._constant(name) for name in sorted(variables))
        graph.node.extend(shared)
        graph.node.extend(n for n in kept_initial if n.name not in run)
        graph.node.extend(freezer.main_graph(nodes, handles, references))
        graph.library.function.extend(freezer.library.values())
        graph.library.gradient.extend(
            gradient
            for gradient in self._meta_graph.graph_def.library.gradient
            if {gradient.function_name, gradient.gradient_func} <= freezer.library.keys()
        )
        return frozen

    def _main_ops(self) -> list[str]:
        definition = self._meta_graph.signature_def
        if INIT_OP_SIGNATURE_KEY in definition:
            return [info.name for info in definition[INIT_OP_SIGNATURE_KEY].outputs.values()]
        collections = self._meta_graph.collection_def
        return [
            name
            for key in _MAIN_OPS
            if key in collections
            for name in collections[key].node_list.value
        ]

    def _check_initial(self, run: set[str], initial: set[str]) -> None:
        """Refuses what is run at loading if it needs variables of the checkpoint or signatures."""
        frozen = {variable_name(self._nodes[n]) for n in run if self._nodes[n].op in VARIABLES}
        for name in sorted(initial):
            node = self._nodes[name]
            if node.op in VARIABLES:
                variable = variable_name(node)
                if variable in frozen or variable in self._stored:
                    raise UnsupportedError(
                        f"The variable {variable!r} can't become a constant: the operation that is "
                        "run when the model is loaded needs it."
                    )

    def _read_values(self, names: set[str]) -> None:
        missing = sorted(names - self._stored.keys())
        if missing:
            raise UnsupportedError(
                f"The variable {missing[0]!r} can't become a constant: its value isn't in the "
                "model's checkpoint."
            )
        if not names:
            return
        prefix = f"{VARIABLES_DIRECTORY}/{VARIABLES_FILENAME}"
        with BundleReader(prefix, dir_fd=self._directory.fd, contained=True) as reader:
            self.size_bytes = sum(_size(reader, self._stored[name]) for name in names)
            if self.size_bytes > MOST_BYTES:
                raise InvalidArgumentError(_too_large(self.size_bytes))
            for name in names:
                self.variables[name] = _read(reader, self._stored[name])

    def _value(self, node: NodeDef) -> Value:
        name = variable_name(node)
        return Value(node.attr["dtype"].type, self.variables[name].shape, name)

    def _constant(self, name: str) -> NodeDef:
        node = self._nodes[name]
        value = self.variables[variable_name(node)]
        dtype = as_dtype(node.attr["dtype"].type)
        tensor = encode_tensor(value)
        if tensor.dtype != dtype.number:
            raise CorruptSavedModelError(
                f"The variable {variable_name(node)!r} is {dtype.name}, its value in the "
                f"checkpoint {as_dtype(tensor.dtype).name}."
            )
        constant = NodeDef(name=name, op="Const", device=node.device)
        constant.attr["dtype"].type = dtype.number
        constant.attr["value"].tensor.CopyFrom(tensor)
        return constant

    def _copy_rest(self, frozen: MetaGraphDef) -> None:
        source = self._meta_graph
        frozen.meta_info_def.CopyFrom(source.meta_info_def)
        frozen.meta_info_def.function_aliases.clear()
        frozen.asset_file_def.extend(source.asset_file_def)
        for key, definition in source.signature_def.items():
            if key not in RESERVED_SIGNATURE_KEYS:
                frozen.signature_def[key].CopyFrom(definition)
        for key in _KEPT_COLLECTIONS:
            if key in source.collection_def:
                frozen.collection_def[key].CopyFrom(source.collection_def[key])
        if INIT_OP_SIGNATURE_KEY in source.signature_def:
            # In models without objects, TensorFlow takes each signature for one to be called.
            names = sorted(name.split(":")[0] for name in self._main_ops())
            frozen.collection_def[MAIN_OP_KEY].node_list.value[:] = dict.fromkeys(names)


def _tensor_names(info: TensorInfo) -> list[str]:
    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        sparse = info.coo_sparse
        return [
            sparse.values_tensor_name,
            sparse.indices_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if kind == "composite_tensor":
        return [name for part in info.composite_tensor.components for name in _tensor_names(part)]
    return [info.name]


def _box(stored: Stored) -> tuple[list[int], list[int]]:
    shape, extents = parse_slice_spec(stored.part)
    sizes = [
        size if length < 0 else length for (_, length), size in zip(extents, shape, strict=True)
    ]
    return [start for start, _ in extents], sizes


def _size(reader: BundleReader, stored: Stored) -> int:
    entry = reader.entry(stored.key)
    shape = _box(stored)[1] if stored.part else entry.shape
    count = 1
    for size in shape:
        count *= size
    return count * entry.dtype.size or entry.size_bytes


def _read(reader: BundleReader, stored: Stored) -> np.ndarray[Any, Any]:
    if stored.part:
        return reader.read_slice(stored.key, *_box(stored))
    return reader.read(stored.key)


def _too_large(size: int) -> str:
    return (
        f"The variables have {size:,} bytes; a frozen model, with its graph, can't have more than "
        f"{MOST_BYTES:,}. "
        "Choose fewer signatures by --signature."
    )
