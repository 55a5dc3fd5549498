"""Functions of unknown rank as FunctionDefs: one body where it fits, else a branch for each rank.

Elementwise functions lower to the same nodes at every rank, and are written once. Of others the
graph holds the lowered trace of each rank, chosen by nested ``StatelessIf`` on ``Rank``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from savax.function._op_schemas import op_schema
from savax.function.lowering._function_library import FunctionLibrary
from savax.function.lowering._graph_writer import UniqueNames, legal_argument_name, legal_node_name
from savax.function.lowering._lowering import (
    CaptureSpec,
    capture_spec,
    capture_specs,
    lower_function,
    lower_jaxpr,
)
from savax.protos import FunctionDef, FunctionRef, encode_attr, encode_shape
from savax.types import DType, Shape, TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.tracing._traced_body import RankPolymorphicBody, TracedBody

_BOOL, _INT32, _STRING = as_dtype("bool"), as_dtype("int32"), as_dtype("string")
_RESOURCE = as_dtype("resource")


class _Branch(NamedTuple):
    """The lowered trace of consecutive ranks.

    Attributes:
      highest: the highest of the ranks.
      name: of its function, which takes arguments and captured values, and returns results and
        new values.
    """

    highest: int
    name: str


def lower_ranks(
    body: RankPolymorphicBody,
    name: str,
    library: FunctionLibrary,
    *,
    output_names: Sequence[str] | None = None,
) -> FunctionDef:
    """Lowers a function with arguments of unknown rank and adds the FunctionDef to the library.

    Args:
      body: the trace at each rank.
      name: name of the FunctionDef, unique in the library.
      library: gets it and the functions that it calls.
      output_names: names of the results; ``output_0`` ... by default.

    Raises:
      UnsupportedPrimitiveError: primitives have no lowering; all are listed.
    """
    groups = _groups(body)
    if len(groups) == 1:
        function = lower_function(groups[0][0], name, library, output_names=output_names)
        for index in body.unranked_args:
            _set_shape(function, index, None)
        return function
    base = name.removeprefix("__inference_")
    branches = []
    for trace, highest in groups:
        branch_name = library.unique_name(f"{base}_rank_{highest}")
        _lower_branch(trace, branch_name, library)
        branches.append(_Branch(highest, branch_name))
    writer = _RankWriter(body, library, base)
    return writer.write(name, branches, output_names)


def _groups(body: RankPolymorphicBody) -> list[tuple[TracedBody, int]]:
    """Returns a trace for each run of ranks that lower to the same nodes, and its highest rank."""
    groups: list[tuple[TracedBody, int]] = []
    last: Any = None
    for rank, trace in sorted(body.bodies.items()):
        lowered = _comparable(trace)
        if lowered == last:
            groups[-1] = (groups[-1][0], rank)
        else:
            groups.append((trace, rank))
        last = lowered
    return groups


def _comparable(trace: TracedBody) -> list[bytes]:
    """Returns what a trace lowers to without the shapes of its arguments."""
    library = FunctionLibrary()
    _lower_branch(trace, "branch", library)
    functions = []
    for function in library.functions.values():
        copied = FunctionDef()
        copied.CopyFrom(function)
        copied.arg_attr.clear()
        functions.append(copied.SerializeToString(deterministic=True))
    return functions


def _lower_branch(trace: TracedBody, name: str, library: FunctionLibrary) -> None:
    specs = [
        TensorSpec(spec.dims, spec.dtype, argument)
        for spec, argument in zip(trace.arg_specs, trace.arg_names, strict=True)
    ]
    captures = [capture_spec(capture) for capture in trace.captures]
    dtypes = [spec.dtype for spec in trace.out_specs]
    dtypes += [captures[index].dtype for index in trace.written]
    lower_jaxpr(
        trace.jaxpr,
        name,
        library,
        arg_specs=specs,
        captures=[dataclasses.replace(spec, is_variable=False) for spec in captures],
        out_dtypes=dtypes,
    )


class _RankWriter:
    """Writes the function that chooses among the branches, and those of the choices within."""

    def __init__(self, body: RankPolymorphicBody, library: FunctionLibrary, base: str) -> None:
        self._body = body
        self._library = library
        self._base = base
        self._captures = capture_specs(body.captures, library)
        self._written = [self._captures[index].dtype for index in body.written]
        self._results = [spec.dtype for spec in body.out_specs]
        self._types = [spec.dtype for spec in body.arg_specs]
        self._types += [capture.dtype for capture in self._captures]

    def write(
        self, name: str, branches: Sequence[_Branch], output_names: Sequence[str] | None
    ) -> FunctionDef:
        """Writes the function itself."""
        function = _Writer(name, self._library)
        args = self._add_arguments(function)
        captures = self._add_captures(function)
        values, reads = self._read(function, captures)
        guard = self._add_guard(function, args)
        chosen = self._choose(function, branches, [*args, *values], [f"^{guard}"])
        effects = [guard]
        for position, index in enumerate(self._body.written):
            value = f"{chosen}:output:{len(self._results) + position}"
            inputs = [captures[index], value, f"^{reads[index]}"]
            attrs = {"dtype": self._written[position]}
            effects.append(function.add("AssignVariableOp", inputs, attrs))
        function.finish_effects([*effects, *(read for read in reads.values())])
        wanted = output_names or [f"output_{i}" for i in range(len(self._results))]
        for i, (dtype, output) in enumerate(zip(self._results, wanted, strict=True)):
            function.add_output(output, dtype, f"{chosen}:output:{i}")
        self._library.add(function.definition)
        return function.definition

    def _add_arguments(self, function: _Writer) -> list[str]:
        return [
            function.add_argument(name, spec.dtype, spec.shape, user_name=name)
            for spec, name in zip(self._body.arg_specs, self._body.arg_names, strict=True)
        ]

    def _add_captures(self, function: _Writer) -> list[str]:
        return [function.add_capture(capture) for capture in self._captures]

    def _read(self, function: _Writer, captures: Sequence[str]) -> tuple[list[str], dict[int, str]]:
        values, reads = [], {}
        for index, (capture, name) in enumerate(zip(self._captures, captures, strict=True)):
            if not capture.is_variable:
                values.append(name)
                continue
            attrs = {"dtype": capture.dtype, "_output_shapes": [capture.shape]}
            read = function.add("ReadVariableOp", [name], attrs, f"{capture.name}/ReadVariableOp")
            reads[index] = read
            values.append(f"{read}:value:0")
        return values, reads

    def _add_guard(self, function: _Writer, args: Sequence[str]) -> str:
        """Adds the check that the rank is one of those that the function was traced at."""
        first = self._body.unranked_args[0]
        ranks = sorted(self._body.bodies)
        rank = self._rank(function, args)
        valid = function.constant(np.array(ranks, np.int32), _INT32)
        equal = function.add("Equal", [rank, valid], {"T": _INT32})
        axis = function.constant(np.array(0, np.int32), _INT32)
        inputs = [f"{equal}:z:0", axis]
        known = function.add("Any", inputs, {"Tidx": _INT32})
        message = (
            f"{self._base.rpartition('_')[0]}: the rank of {self._body.arg_names[first]} is not "
            f"one of {', '.join(map(str, ranks))}."
        )
        text = function.constant(np.array(message.encode(), object), _STRING)
        return function.add("Assert", [f"{known}:output:0", text], {"T": [_STRING]})

    def _rank(self, function: _Writer, args: Sequence[str]) -> str:
        first = self._body.unranked_args[0]
        node = function.add("Rank", [args[first]], {"T": self._types[first]})
        return f"{node}:output:0"

    def _choose(
        self,
        function: _Writer,
        branches: Sequence[_Branch],
        inputs: Sequence[str],
        controls: Sequence[str] = (),
    ) -> str:
        """Adds the choice among branches; returns the node whose outputs are the results."""
        highest = function.constant(np.array(branches[0].highest, np.int32), _INT32)
        rank = self._rank(function, inputs)
        condition = function.add("LessEqual", [rank, highest], {"T": _INT32})
        attrs = {
            "Tcond": _BOOL,
            "Tin": self._types,
            "Tout": [*self._results, *self._written],
            "then_branch": FunctionRef(branches[0].name),
            "else_branch": FunctionRef(self._rest(branches[1:])),
            # Else TensorFlow takes the shapes of one branch for those of all.
            "output_shapes": [None] * (len(self._results) + len(self._written)),
        }
        return function.add("StatelessIf", [f"{condition}:z:0", *inputs, *controls], attrs)

    def _rest(self, branches: Sequence[_Branch]) -> str:
        """Returns the function that chooses among the remaining branches."""
        if len(branches) == 1:
            return branches[0].name
        name = self._library.unique_name(f"{self._base}_above_rank")
        function = _Writer(name, self._library)
        inputs = [
            function.add_argument(f"arg_{i}", dtype, None) for i, dtype in enumerate(self._types)
        ]
        chosen = self._choose(function, branches, inputs)
        for i, dtype in enumerate([*self._results, *self._written]):
            function.add_output(f"output_{i}", dtype, f"{chosen}:output:{i}")
        self._library.add(function.definition)
        return name


class _Writer:
    """A FunctionDef under construction whose tensors have no known shapes."""

    def __init__(self, name: str, library: FunctionLibrary) -> None:
        self.definition = FunctionDef()
        self.definition.signature.name = name
        self._encoder = library.encoder
        self._names = UniqueNames()
        self._arguments = UniqueNames()
        self._barrier: list[str] = []

    def add_argument(
        self, name: str, dtype: DType, shape: Shape, user_name: str | None = None
    ) -> str:
        """Adds an argument; returns its name."""
        unique = self._names.unique(self._arguments.unique(legal_argument_name(name)))
        self.definition.signature.input_arg.add(name=unique, type=dtype.number)
        index = len(self.definition.signature.input_arg) - 1
        _set_shape(self.definition, index, shape)
        if user_name is not None:
            attrs = self.definition.arg_attr[index].attr
            attrs["_user_specified_name"].CopyFrom(encode_attr(user_name, "string"))
        return unique

    def add_capture(self, capture: CaptureSpec) -> str:
        """Adds the argument of a capture; returns its name."""
        if not capture.is_variable:
            return self.add_argument(capture.name, capture.dtype, capture.shape)
        name = self.add_argument(f"{capture.name}_resource", _RESOURCE, (), "resource")
        handle = self.definition.signature.input_arg[-1].handle_data.add()
        handle.dtype = capture.dtype.number
        handle.shape.CopyFrom(encode_shape(capture.shape))
        return name

    def add(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Any], name: str | None = None
    ) -> str:
        """Adds a node; returns its name."""
        unique = self._names.unique(legal_node_name(name or op))
        node = self.definition.node_def.add()
        self._encoder.encode(node, unique, op, inputs, attrs, op_schema(op))
        return unique

    def constant(self, value: np.ndarray[Any, Any], dtype: DType) -> str:
        """Adds a constant; returns its tensor."""
        node = self.add("Const", [], {"dtype": dtype, "value": value})
        return f"{node}:output:0"

    def finish_effects(self, effects: Sequence[str]) -> None:
        """Makes nodes run whoever calls the function, and before its results."""
        self.definition.signature.is_stateful = True
        for node in effects:
            self.definition.signature.control_output.append(node)
            self.definition.control_ret[node] = node
        barrier = self.add("NoOp", [f"^{node}" for node in effects], {})
        self._barrier = [f"^{barrier}"]

    def add_output(self, name: str, dtype: DType, tensor: str) -> None:
        """Adds a result."""
        output = self._arguments.unique(legal_argument_name(name))
        self.definition.signature.output_arg.add(name=output, type=dtype.number)
        identity = self.add("Identity", [tensor, *self._barrier], {"T": dtype})
        self.definition.ret[output] = f"{identity}:output:0"


def _set_shape(function: FunctionDef, index: int, shape: Shape) -> None:
    attrs = function.arg_attr[index].attr
    attrs["_output_shapes"].CopyFrom(encode_attr([shape], "list(shape)"))
