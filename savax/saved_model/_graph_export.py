"""The main graph: what the C++ loader, TF Serving and sessions run.

State and constants as nodes, a call for each signature, and the parts that restore and save.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import NotEncodableError
from savax.function import ConcreteFunction, GraphWriter
from savax.protos import (
    GraphDef,
    SaverDef,
    SignatureDef,
    TensorInfo,
    TensorProto,
    encode_shape,
    encode_tensor,
)
from savax.protos._graph_versions import GRAPH_MIN_CONSUMER, GRAPH_PRODUCER
from savax.protos._tensor_codec import all_equal
from savax.saved_model._constants import (
    INIT_OP_SIGNATURE_KEY,
    PREDICT_METHOD_NAME,
)
from savax.saved_model._tables_export import add_call
from savax.saved_model.image._paths import LEAST_APART
from savax.trackable import (
    VARIABLE_VALUE,
    Asset,
    Constant,
    ObjectGraph,
    Variable,
    content_key,
    host_array,
)
from savax.types import DType, Shape, TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from savax.saved_model._functions_export import ExportedFunctions
    from savax.saved_model._signatures import SignatureMap
    from savax.saved_model._tables_export import GraphTables

_NO_NODE_NAME_START = re.compile(r"^[^A-Za-z0-9.]+")
_NO_NODE_NAME = re.compile(r"[^A-Za-z0-9_.-]")

_STRING = as_dtype("string")
_RESOURCE = as_dtype("resource")


@dataclasses.dataclass
class MainGraph:
    """The main graph under construction, and the names of what is in it.

    Attributes:
      writer: writes its nodes.
      tensors: the tensor that stands for each captured object, by the object's id.
      constants: name of each captured constant's node, by the object's id.
      asset_nodes: name of the placeholder of each asset, in the order of the files.
      devices: the device of each Variable, by the object's id, if they are kept.
      large_constants: content of constants by node, where the node has dtype and shape only. It is
        written as it is, where the proto would need copies.
    """

    writer: GraphWriter = dataclasses.field(default_factory=GraphWriter)
    tensors: dict[int, str] = dataclasses.field(default_factory=dict)
    constants: dict[int, str] = dataclasses.field(default_factory=dict)
    asset_nodes: list[str] = dataclasses.field(default_factory=list)
    devices: Mapping[int, str] = dataclasses.field(default_factory=dict)
    large_constants: dict[str, np.ndarray[Any, Any]] = dataclasses.field(default_factory=dict)
    _initializers: list[str] = dataclasses.field(default_factory=list)
    _by_content: dict[Hashable, str] = dataclasses.field(default_factory=dict)
    _asset_handles: dict[int, str] = dataclasses.field(default_factory=dict)

    def add_state(
        self, graph: ObjectGraph, assets: Sequence[Asset], devices: Mapping[int, str]
    ) -> None:
        """Adds constants, assets and Variables, in TensorFlow's order: what was tracked last first.

        Args:
          graph: the frozen object graph.
          assets: one asset for each file, in the order of the files.
          devices: the device of each Variable, by the object's id, if they are kept.
        """
        self.devices = devices
        objects = [node.obj for node in graph.nodes]
        for obj in objects:
            if isinstance(obj, Constant):
                self._add_constant(obj)
        for asset in assets:
            self._add_asset(asset)
        for obj in reversed(objects):
            if isinstance(obj, Variable):
                self._add_variable(obj)
        for other, stand_in in graph.stand_ins.items():
            self.tensors[other] = self.tensors[id(stand_in)]

    def _add_constant(self, constant: Constant) -> None:
        value = host_array(constant.array)
        # Each function that closes over an array has a Constant of its own for it.
        name = self._by_content.get(key := content_key(value))
        if name is None:
            dtype = as_dtype(value.dtype)
            large = dtype.size > 0 and value.nbytes >= LEAST_APART and not all_equal(value, dtype)
            tensor = TensorProto(dtype=dtype.number, tensor_shape=encode_shape(value.shape))
            attrs = {"dtype": dtype, "value": tensor if large else value}
            name = self._by_content[key] = self.writer.add_node("Const", "Const", attrs=attrs).name
            if large:
                self.large_constants[name] = value
        self.constants[id(constant)] = self.tensors[id(constant)] = name

    def _add_asset(self, asset: Asset) -> None:
        # While they initialize the graph, the loaders feed the path inside the loaded directory
        # into the placeholder; a Variable keeps it.
        attrs: dict[str, Any] = {"dtype": _STRING, "shape": ()}
        path = self.writer.add_node("Placeholder", "asset_path_initializer", attrs=attrs)
        handle = self._add_handle("Variable", _STRING, ())
        inputs = [handle, path.name]
        assign = self.writer.add_node(
            "AssignVariableOp", f"{handle}/Assign", inputs, {"dtype": _STRING}
        )
        self._initializers.append(assign.name)
        self.asset_nodes.append(path.name)
        self.tensors[id(asset)] = self.read(handle, _STRING, ())
        self._asset_handles[id(asset)] = handle

    def add_tables(self, tables: GraphTables, assets: Mapping[int, int]) -> None:
        """Adds the tables, and what fills them when a loader initializes the graph.

        Args:
          tables: the tables of the object graph.
          assets: for each asset, by id, the id of the one that stands for its file.
        """
        tables.add_handles()
        self.tensors |= tables.handles
        reads = {}
        attrs = {"dtype": _STRING, "_output_shapes": [()]}
        for asset, owner in assets.items():
            # The path is there once the loader has fed it.
            handle = self._asset_handles[owner]
            inputs = [handle, f"^{handle}/Assign"]
            reads[asset] = self.writer.add_node("ReadVariableOp", "path", inputs, attrs).name
        tables.add_fillers(self.tensors, reads)
        self._initializers += tables.fillers

    def _add_variable(self, variable: Variable) -> None:
        device = self.devices.get(id(variable), "")
        handle = self._add_handle(variable.name, variable.dtype, variable.shape, device)
        self.read(handle, variable.dtype, variable.shape, device)
        self.tensors[id(variable)] = handle

    def _add_handle(self, name: str, dtype: DType, shape: Shape, device: str = "") -> str:
        # Equal shared names would make two Variables one, so the unique node name serves as both.
        attrs = {"dtype": dtype, "shape": shape}
        node = self.writer.add_node("VarHandleOp", name, attrs=attrs, device=device)
        node.attr["shared_name"].s = node.name.encode()
        return node.name

    def read(self, handle: str, dtype: DType, shape: Shape, device: str = "") -> str:
        """Adds the node that reads a Variable; returns its name."""
        attrs = {"dtype": dtype, "_output_shapes": [shape]}
        name = f"{handle}/Read/ReadVariableOp"
        return self.writer.add_node("ReadVariableOp", name, [handle], attrs, device).name

    def add_signatures(
        self, signatures: SignatureMap, functions: ExportedFunctions
    ) -> dict[str, SignatureDef]:
        """Adds placeholders and a call for each signature; returns the SignatureDefs by key."""
        return {
            key: self._add_signature(
                key, signatures[key], signatures.defaults.get(key, {}), functions
            )
            for key in sorted(signatures)
        }

    def _add_signature(
        self,
        key: str,
        concrete: ConcreteFunction,
        defaults: Mapping[str, np.ndarray[Any, Any]],
        functions: ExportedFunctions,
    ) -> SignatureDef:
        definition = SignatureDef(method_name=PREDICT_METHOD_NAME)
        inputs = []
        for spec in concrete.inputs:
            name = str(spec.name)
            node = self._add_input(_node_name(f"{key}_{name}"), spec, defaults.get(name))
            inputs.append(node)
            definition.inputs[name].CopyFrom(tensor_info(node, 0, spec.dtype, spec.shape))
            if name in defaults:
                definition.defaults[name].CopyFrom(encode_tensor(defaults[name], spec.dtype))
        captures = [self.tensors[id(capture)] for capture in concrete.captures]
        shapes = {"_output_shapes": [spec.shape for spec in concrete.outputs]}
        called = functions.definition_of(concrete)
        call = add_call(self.writer, called, [*inputs, *captures], shapes)
        for index, (name, spec) in enumerate(_outputs_by_key(key, concrete)):
            info = tensor_info(call, index, spec.dtype, spec.shape)
            definition.outputs[name].CopyFrom(info)
        return definition

    def _add_input(self, name: str, spec: TensorSpec, default: np.ndarray[Any, Any] | None) -> str:
        attrs: dict[str, Any] = {"dtype": spec.dtype, "shape": spec.shape}
        if default is None:
            return self.writer.add_node("Placeholder", name, attrs=attrs).name
        value = {"dtype": spec.dtype, "value": default}
        constant = self.writer.add_node("Const", f"{name}/input", attrs=value).name
        return self.writer.add_node("PlaceholderWithDefault", name, [constant], attrs).name

    def add_init_op(self) -> SignatureDef:
        """Adds the op that loaders run after restoring; returns the signature that names it."""
        node = self.writer.add_node("NoOp", "NoOp", [f"^{name}" for name in self._initializers])
        definition = SignatureDef()
        info = definition.outputs[INIT_OP_SIGNATURE_KEY]
        info.name = node.name  # an op, so without ":0"
        info.tensor_shape.unknown_rank = True
        return definition

    def add_saver(
        self, graph: ObjectGraph, tables: GraphTables, key: str, object_graph: Any
    ) -> SaverDef:
        """Adds the nodes by which a session restores and saves Variables and mutable tables.

        Args:
          graph: the frozen object graph.
          tables: its tables.
          key: the checkpoint key of the object graph's proto.
          object_graph: the string tensor that holds it.
        """
        add = self.writer.add_node
        attrs: dict[str, Any] = {"dtype": _STRING, "shape": ()}
        filename = add("Placeholder", "saver_filename", attrs=attrs).name
        variables = [
            (node.obj, graph.checkpoint_key(node, VARIABLE_VALUE))
            for node in graph.nodes
            if isinstance(node.obj, Variable)
        ]
        keys = [variable_key for _, variable_key in variables]
        dtypes = [variable.dtype for variable, _ in variables]
        reads = [f"{self.tensors[id(variable)]}/Read/ReadVariableOp" for variable, _ in variables]
        contents = tables.saved_tensors()
        for _, pair in contents:
            keys += [tensor.key for tensor in pair]
            dtypes += [tensor.dtype for tensor in pair]
            reads += [tensor.value for tensor in pair]
        proto = self._strings("Const", object_graph)
        inputs = [filename, self._names("SaveV2/tensor_names", [*keys, key])]
        inputs += [self._names("SaveV2/shape_and_slices", [""] * (len(keys) + 1)), *reads, proto]
        save = add("SaveV2", "SaveV2", inputs, {"dtypes": [*dtypes, _STRING]}).name
        saved = add("Identity", "Identity", [filename, f"^{save}"], {"T": _STRING}).name
        waits: list[str] = []
        if keys:
            values = self._restored(filename, keys, dtypes)
            waits += self._assignments(variables, values)
            rest = iter(values[len(variables) :])
            waits += [tables.add_restore(table, next(rest), next(rest)) for table, _ in contents]
        restore = add("NoOp", "restore_all", [f"^{name}" for name in waits]).name
        return SaverDef(
            filename_tensor_name=f"{filename}:0",
            save_tensor_name=f"{saved}:0",
            restore_op_name=restore,
            version=SaverDef.V2,
        )

    def _restored(self, filename: str, keys: Sequence[str], dtypes: Sequence[DType]) -> list[str]:
        """Adds the node that reads tensors from a checkpoint; returns their names."""
        names = self._names("RestoreV2/tensor_names", keys)
        slices = self._names("RestoreV2/shape_and_slices", [""] * len(keys))
        attrs = {"dtypes": list(dtypes)}
        node = self.writer.add_node("RestoreV2", "RestoreV2", [filename, names, slices], attrs)
        return [f"{node.name}:{index}" if index else node.name for index in range(len(keys))]

    def _assignments(
        self, variables: Sequence[tuple[Variable, str]], values: Sequence[str]
    ) -> Iterable[str]:
        assigns = []
        for (variable, _), value in zip(variables, values, strict=False):
            assign = self.writer.add_node(
                "AssignVariableOp",
                "AssignVariableOp",
                [self.tensors[id(variable)], value],
                {"dtype": variable.dtype},
            )
            assigns.append(assign.name)
        return assigns

    def _names(self, name: str, values: Sequence[str]) -> str:
        return self._strings(name, np.array([value.encode() for value in values], dtype=object))

    def _strings(self, name: str, value: np.ndarray[Any, Any]) -> str:
        attrs = {"dtype": _STRING, "value": value}
        return self.writer.add_node("Const", name, attrs=attrs).name

    def finish(self, functions: ExportedFunctions) -> GraphDef:
        """Returns the graph with its library."""
        graph = self.writer.graph
        for definition in functions.library.values():
            graph.library.function.add().CopyFrom(definition)
        graph.versions.producer = GRAPH_PRODUCER
        graph.versions.min_consumer = GRAPH_MIN_CONSUMER
        return graph


def tensor_info(node: str, index: int, dtype: DType, shape: Shape) -> TensorInfo:
    """Returns the TensorInfo of a tensor of the main graph."""
    info = TensorInfo(name=f"{node}:{index}", dtype=dtype.number)
    info.tensor_shape.CopyFrom(encode_shape(shape))
    return info


def _node_name(name: str) -> str:
    """Returns the node name that TensorFlow would give to the input of a signature."""
    return _NO_NODE_NAME.sub("_", _NO_NODE_NAME_START.sub("", name)) or "input"


def _outputs_by_key(key: str, concrete: ConcreteFunction) -> list[tuple[str, TensorSpec]]:
    """Returns the outputs of a signature in their order.

    Raises:
      NotEncodableError: one is a composite, as that of a loaded model may be.
    """
    outputs: Mapping[str, Any] = concrete.structured_outputs
    wrong = [name for name in sorted(outputs) if not isinstance(outputs[name], TensorSpec)]
    if wrong:
        raise NotEncodableError(
            f"The signature {key!r} of the loaded model returns sparse or ragged tensors "
            f"({', '.join(map(repr, wrong))}), which savax doesn't write. Choose others by "
            "`signatures=`, or pass `signatures={}`."
        )
    return [(name, outputs[name]) for name in sorted(outputs)]
