"""A model of version 1, which has no objects, as an object: its Variables and signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.function import ConcreteFunction, FunctionSpec
from savax.function.graph._graph import Graph
from savax.function.graph._graph_variables import variables_of
from savax.function.graph._handles import Operation
from savax.function.graph._pruning import Feed
from savax.function.graph._tensor_names import canonical_tensor
from savax.protos import decode_tensor
from savax.saved_model._constants import RESERVED_SIGNATURE_KEYS
from savax.saved_model._loaded_objects import LoadedObject
from savax.saved_model._signatures import SignatureMap
from savax.saved_model.v1._asset_collection import asset_feeds
from savax.saved_model.v1._composite_infos import composite_of, part_names
from savax.saved_model.v1._graph_tables import GraphTable, graph_tables
from savax.saved_model.v1._loader import main_op_name, restore_variables, run_main_op
from savax.saved_model.v1._meta_graph import import_into_graph
from savax.saved_model.v1._saver import Saver
from savax.saved_model.v1._session import Session
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.protos import MetaGraphDef, SignatureDef, TensorInfo
    from savax.saved_model._options import LoadOptions
    from savax.saved_model._reader import ModelDirectory
    from savax.trackable import Trackable
    from savax.types import PathLike

# Ops that make objects which only the graph's own initializer can fill.
_TABLES = "HashTable"


class LoadedGraph(LoadedObject):
    """A graph of a model of version 1.

    Attributes:
      variables: its variables.
      signatures: its signatures by key; functions of tensors by keyword that return dicts. A
        SparseTensor ``x`` is given as ``x_indices``, ``x_values`` and ``x_dense_shape``, another
        composite as ``x_component_0`` and so on; results are composites.
      graph: the graph.
      asset_paths: the paths of its assets.
    """

    variables: Any
    signatures: SignatureMap
    graph: Graph
    asset_paths: list[str]
    _session: Session
    _meta_graph: MetaGraphDef
    _path: str
    _tables: dict[str, GraphTable]

    def __init__(self, session: Session, meta_graph: MetaGraphDef, path: str) -> None:
        self.set_untracked("_session", session)
        self.set_untracked("_meta_graph", meta_graph)
        self.set_untracked("_path", path)
        self.set_untracked("graph", session.graph)
        assets = asset_feeds(meta_graph, path)
        self.set_untracked("asset_paths", list(assets.values()))
        self.set_untracked("_tables", graph_tables(session, assets))
        info = meta_graph.meta_info_def
        self.set_untracked("tensorflow_version", info.tensorflow_version)
        self.set_untracked("tensorflow_git_version", info.tensorflow_git_version)
        self.set_untracked("graph_debug_info", None)
        self.variables = [
            session.variable(_spec(variable), variable.trainable)
            for variable in variables_of(session.graph)
        ]
        self.set_untracked("signatures", self._imported_signatures())

    def _imported_signatures(self) -> SignatureMap:
        signatures, defaults = {}, {}
        for key, definition in sorted(self._meta_graph.signature_def.items()):
            if key in RESERVED_SIGNATURE_KEYS:
                continue
            signatures[key] = self._signature(key, definition)
            defaults[key] = {
                name: decode_tensor(value)
                for name, value in definition.defaults.items()
                if name in definition.inputs
            }
        return SignatureMap(signatures, defaults)

    def _signature(self, key: str, definition: SignatureDef) -> ConcreteFunction:
        inputs: dict[str, str] = {}
        for name in sorted(definition.inputs):
            value = self._tensors(definition.inputs[name])
            names = zip(part_names(name, value), jax.tree.leaves(value), strict=True)
            inputs.update(names)
        inputs = dict(sorted(inputs.items()))
        outputs = {
            name: self._tensors(definition.outputs[name]) for name in sorted(definition.outputs)
        }
        specs = {name: self._tensor_spec(tensor, name) for name, tensor in inputs.items()}
        return self._function(
            [Feed(tensor, name) for name, tensor in inputs.items()],
            jax.tree.leaves(outputs),
            FunctionSpec(name=f"signature_wrapper_{key}", kwonlyargs=tuple(inputs)),
            ((), specs),
            {name: self._result_specs(value, name) for name, value in outputs.items()},
        )

    def _result_specs(self, value: Any, name: str) -> Any:
        return jax.tree.map(lambda tensor: self._tensor_spec(tensor, name), value)

    def _tensors(self, info: TensorInfo) -> Any:
        """Returns the name of a tensor, or a composite of names."""
        if info.WhichOneof("encoding") == "name":
            return canonical_tensor(info.name)
        return composite_of(info, self._tensors)

    def prune(self, feeds: Any, fetches: Any, name: str = "pruned") -> ConcreteFunction:
        """Returns the function of some of the graph's tensors that computes others.

        Args:
          feeds: the arguments: tensors or their names, in lists, tuples and dicts.
          fetches: the results, in the same way.
          name: of the function.

        Returns:
          A function that takes the arguments in the flattened order of the feeds, and returns
          results in the structure of the fetches.

        Raises:
          InvalidArgumentError: the graph doesn't have them, or placeholders are needed that aren't
            among the feeds.
        """
        fed = [self._element(item) for item in jax.tree.leaves(feeds)]
        wanted = jax.tree.map(self._element, fetches)
        specs = [self._tensor_spec(tensor, f"arg_{i}") for i, tensor in enumerate(fed)]
        return self._function(
            [Feed(tensor, f"arg_{i}") for i, tensor in enumerate(fed)],
            jax.tree.leaves(wanted),
            FunctionSpec(name=name, args=tuple(f"arg_{i}" for i in range(len(fed)))),
            (tuple(specs), {}),
            jax.tree.map(lambda tensor: self._tensor_spec(tensor, None), wanted),
        )

    def _element(self, item: Any) -> str:
        element = self.graph.as_graph_element(item)
        if isinstance(element, Operation):
            raise InvalidArgumentError(f"{item!r} is an operation; prune takes and gives tensors.")
        return element.name

    def _function(
        self,
        feeds: Sequence[Feed],
        fetches: Sequence[str],
        spec: FunctionSpec,
        call: Any,
        structure: Any,
    ) -> ConcreteFunction:
        name = f"__inference_{spec.name}"
        _, body = self._session.function(feeds, fetches, [], name, tables=self._tables)
        return ConcreteFunction(body, spec, call, structure, [feed.name for feed in feeds])

    def _tensor_spec(self, name: str, key: str | None) -> TensorSpec:
        tensor = self.graph.get_tensor_by_name(name)
        return TensorSpec(tensor.shape, tensor.dtype, key)

    def restore(self, save_path: PathLike) -> None:
        """Gives the variables the values of another checkpoint of the graph."""
        Saver(saver_def=self._meta_graph.saver_def).restore(self._session, save_path)

    def initializer(self) -> None:
        """Runs the graph's main op again."""
        run_main_op(self._session, self._meta_graph, self._path)

    def _trackable_children(self, save_type: Any = "checkpoint", **_: Any) -> Mapping[str, Any]:
        children: dict[str, Trackable] = dict(super()._trackable_children(save_type))
        if save_type == "savedmodel":
            operations = [o.name for o in self.graph.get_operations() if _TABLES in o.type]
            others = [name for name in operations if name not in self._tables]
            if others:
                raise UnsupportedError(
                    f"The lookup tables {', '.join(others)} of a loaded model of version 1 can't "
                    "be saved again: they are mutable, or not filled by one operation."
                )
            children |= {f"_table_{i}": table for i, table in enumerate(self._tables.values())}
        return children


def load_graph(
    directory: ModelDirectory, meta_graph: MetaGraphDef, options: LoadOptions
) -> LoadedGraph:
    """Returns a model without objects: its graph with restored variables, after its main op.

    Args:
      directory: of the model.
      meta_graph: the graph.
      options: LoadOptions.
    """
    session = Session(graph=Graph())
    import_into_graph(session.graph, meta_graph)
    loaded = LoadedGraph(session, meta_graph, directory.path)
    if not options.experimental_skip_checkpoint:
        restore_variables(session, meta_graph, directory)
    if main_op_name(meta_graph) is not None:
        run_main_op(session, meta_graph, directory.path, owner=directory.copy)
    return loaded


def _spec(variable: Any) -> TensorSpec:
    shared = variable.op.get_attr("shared_name").decode("utf-8", "surrogateescape")
    return TensorSpec(variable.shape, variable.dtype, shared or variable.op.name)
