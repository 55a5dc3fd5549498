"""Nodes and tensors of a graph under construction, before they have names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function._op_schemas import OpSchema, op_schema, output_ranges, output_types
from savax.types import DType, as_dtype

# A shape whose sizes are ints or JAX's symbolic dims.
DimShape = tuple[Any, ...]

# Constants up to this many bytes are compared by content, larger ones by identity.
_CONTENT_KEY_BYTES = 1 << 12


# Constants are shared by their values; calls have functions of their own.
_UNSHARED = frozenset({"Const", "PartitionedCall", "StatelessIf", "StatelessWhile"})


class Node:
    """One op of the graph.

    Attributes:
      op: op type.
      schema: schema of the op type.
      inputs: data inputs, flat.
      attrs: attributes as Python values, those inferred from the inputs included.
      base_name: the name it would like; ``name`` is what it got when it was written.
      controls: nodes that run before it, if anything else makes them run.
      outputs: its tensors.
      source: the equation that it was written for and those around it, outermost first.
    """

    __slots__ = (
        *("attrs", "base_name", "controls", "inputs", "name", "op", "outputs", "schema"),
        "source",
    )

    def __init__(
        self,
        schema: OpSchema,
        inputs: Sequence[Symbol],
        attrs: dict[str, Any],
        base_name: str,
    ) -> None:
        self.op = schema.name
        self.schema = schema
        self.inputs = tuple(inputs)
        self.attrs = attrs
        self.base_name = base_name
        self.name = ""
        self.controls: list[Node] = []
        self.outputs: tuple[Symbol, ...] = ()
        self.source: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<Node {self.op} {self.name or self.base_name!r}>"


class Symbol:
    """One tensor of the graph.

    Attributes:
      node: the producer; None for an argument.
      output: index among the producer's tensors.
      dtype: element type.
      shape: sizes; ints or JAX's symbolic dims.
      constant: the value, if it is known: a read-only numpy array.
      dim: the dimension expression that this scalar holds, if it holds one.
      scalar: a scalar tensor that all elements equal, if there is one.
    """

    __slots__ = ("_name", "constant", "dim", "dtype", "node", "output", "scalar", "shape")

    def __init__(
        self,
        dtype: DType,
        shape: DimShape,
        node: Node | None = None,
        output: int = 0,
        name: str = "",
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.node = node
        self.output = output
        self.constant: np.ndarray[Any, Any] | None = None
        self.dim: Any = None
        self.scalar: Symbol | None = None
        self._name = name

    @property
    def name(self) -> str:
        """The tensor's name inside a FunctionDef; known when its graph has been written."""
        node = self.node
        if node is None:
            return self._name
        outputs = node.schema.outputs
        if len(outputs) == 1:
            return f"{node.name}:{outputs[0].name}:{self.output}"
        for name, (start, length) in output_ranges(node.schema, node.attrs).items():
            if start <= self.output < start + length:
                return f"{node.name}:{name}:{self.output - start}"
        raise InvalidArgumentError(f"{node.op} has no output {self.output}.")

    def rename(self, name: str) -> None:
        """Gives an argument the name that its function has for it."""
        self._name = name

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        source = self._name if self.node is None else repr(self.node)
        return f"<Symbol {self.dtype.name}{list(self.shape)} of {source}>"


def is_static(dim_or_shape: Any) -> bool:
    """Whether a dim is a number, or all dims of a shape are."""
    if isinstance(dim_or_shape, Iterable):
        return all(is_static(dim) for dim in dim_or_shape)
    return isinstance(dim_or_shape, int | np.integer)


def known_shape(shape: Iterable[Any]) -> tuple[int | None, ...]:
    """Returns a shape as TensorFlow writes it, with None for symbolic dims."""
    return tuple(int(dim) if is_static(dim) else None for dim in shape)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal for all values of the symbolic dims."""
    # Comparing JAX's dims is slow, and they are mostly the same object.
    return a is b or (len(a) == len(b) and all(x is y or x == y for x, y in zip(a, b, strict=True)))


class Graph:
    """The nodes of one function, in an order in which they can run.

    Attributes:
      nodes: all nodes, including those that nobody reads.
      effects: nodes that run although nobody reads them.
      source: what new nodes get as theirs.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.effects: list[Node] = []
        self.source: tuple[Any, ...] = ()
        self._constants: dict[Any, Symbol] = {}
        self._known: dict[Any, Node] = {}

    def add(
        self,
        op: str,
        inputs: Sequence[Any],
        attrs: dict[str, Any],
        shapes: Sequence[DimShape],
        base_name: str = "",
    ) -> Node:
        """Adds a node, or returns the one that computes the same already.

        Args:
          op: op type.
          inputs: one entry per input of the schema, a list for list inputs; symbols, or what
            numpy can make an array of.
          attrs: attributes that the inputs don't determine.
          shapes: shapes of the output tensors.
          base_name: the name it should have, unless it is taken.

        Raises:
          InvalidArgumentError: the inputs or attributes don't fit the schema.
        """
        schema = op_schema(op)
        flat = self.typed_inputs(schema, inputs, attrs)
        _check_attrs(schema, attrs)
        key = _node_key(schema, flat, attrs)
        if key in self._known:
            return self._known[key]
        node = Node(schema, flat, attrs, base_name or op)
        node.source = self.source
        dtypes = output_types(schema, attrs)
        if len(dtypes) != len(shapes):
            raise InvalidArgumentError(
                f"{op} has {len(dtypes)} output tensors, {len(shapes)} shapes were given."
            )
        node.outputs = tuple(
            Symbol(dtype, tuple(shape), node, index)
            for index, (dtype, shape) in enumerate(zip(dtypes, shapes, strict=True))
        )
        self.nodes.append(node)
        if key is not None:
            self._known[key] = node
        return node

    def constant(self, value: Any, dtype: DType | None = None, base_name: str = "") -> Symbol:
        """Returns the Const with a value; equal values share one node.

        Args:
          value: numpy array or scalar, or a Python value.
          dtype: element type; by default that of the array, int32 and float32 for Python numbers.
          base_name: the name it should have.
        """
        array = _host_array(value, dtype)
        dtype = as_dtype(array.dtype) if dtype is None else dtype
        key = _constant_key(array, dtype)
        found = self._constants.get(key)
        if found is not None:
            return found
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        node = self.add(
            "Const", (), {"dtype": dtype, "value": array}, [array.shape], base_name or "Const"
        )
        symbol = node.outputs[0]
        symbol.constant = array
        if array.ndim == 0:
            symbol.scalar = symbol
        self._constants[key] = symbol
        return symbol

    def typed_inputs(
        self, schema: OpSchema, inputs: Sequence[Any], attrs: dict[str, Any]
    ) -> list[Symbol]:
        """Returns the flat inputs, and adds the attributes that they determine to ``attrs``."""
        flat: list[Symbol] = []
        for arg, value in schema.paired(inputs):
            if arg.type_list_attr is not None:
                symbols = [self._symbol(item, None) for item in value]
                attrs.setdefault(arg.type_list_attr, [symbol.dtype for symbol in symbols])
            else:
                wanted = arg.type or attrs.get(arg.type_attr or "")
                items = value if arg.number_attr is not None else (value,)
                symbols = [self._symbol(item, wanted) for item in items]
                if arg.number_attr is not None:
                    attrs.setdefault(arg.number_attr, len(symbols))
                if wanted is None and symbols:
                    wanted = symbols[0].dtype
                    attrs[arg.type_attr or ""] = wanted
                for symbol in symbols:
                    if symbol.dtype is not wanted:
                        raise InvalidArgumentError(
                            f"{schema.name}: input {arg.name!r} must have dtype "
                            f"{getattr(wanted, 'name', wanted)}, got {symbol.dtype.name}."
                        )
            flat += symbols
        return flat

    def _symbol(self, value: Any, dtype: DType | None) -> Symbol:
        if isinstance(value, Symbol):
            return value
        if isinstance(value, np.ndarray | np.generic):
            return self.constant(value)
        return self.constant(value, dtype)


def _check_attrs(schema: OpSchema, attrs: Mapping[str, Any]) -> None:
    for name, attr in schema.attrs.items():
        if attr.default is None and name not in attrs:
            raise InvalidArgumentError(f"{schema.name} needs the attribute {name!r}.")
    for name in attrs:
        if name not in schema.attrs and not name.startswith("_"):
            raise InvalidArgumentError(
                f"{schema.name} has no attribute {name!r}; it has {', '.join(schema.attrs)}."
            )


def _host_array(value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    if dtype is not None:
        if dtype.name == "string":
            return np.asarray(value, dtype=object)
        return np.asarray(value, dtype=dtype.numpy_dtype)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    array = np.asarray(value)
    # Python numbers mean TensorFlow's defaults; an empty list is a list of axes or sizes.
    if array.dtype == np.float64 and array.size:
        return array.astype(np.float32)
    return array.astype(np.int32) if array.dtype in (np.int64, np.float64) else array


def _node_key(schema: OpSchema, inputs: Sequence[Symbol], attrs: Mapping[str, Any]) -> Any:
    """Returns what a node computes as a key; None if it must be a node of its own.

    Lists are changed in place where nobody else holds them, so each needs its own node.
    """
    if schema.is_stateful or schema.name in _UNSHARED or schema.name.startswith("TensorList"):
        return None
    values = tuple((name, _plain(value)) for name, value in sorted(attrs.items()))
    key = (schema.name, tuple(map(id, inputs)), values)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _plain(value: Any) -> Any:
    # True equals 1, but not as an attribute.
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else (type(value), value)


def _constant_key(array: np.ndarray[Any, Any], dtype: DType) -> Any:
    if array.dtype.kind in "OT":
        return (dtype, array.shape, tuple(array.ravel().tolist()))
    if array.nbytes > _CONTENT_KEY_BYTES:
        return (dtype, array.shape, array.strides, array.__array_interface__["data"])
    return (dtype, array.shape, array.tobytes())


def reachable(outputs: Iterable[Symbol], effects: Iterable[Node]) -> set[int]:
    """Returns the ids of the nodes that outputs and effects depend on, themselves included."""
    found: set[int] = set()
    waiting = [symbol.node for symbol in outputs if symbol.node is not None]
    waiting += effects
    while waiting:
        node = waiting.pop()
        if id(node) in found:
            continue
        found.add(id(node))
        waiting += [symbol.node for symbol in node.inputs if symbol.node is not None]
    return found
