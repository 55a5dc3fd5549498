"""ConcreteFunction: one signature, the state that it closes over, and a body.

The body was traced from Python or comes from a file; nothing else differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import jax

from savax.errors import SignatureMismatchError
from savax.function._arguments import (
    FlatArguments,
    convert_argument,
    flatten_call,
    is_array,
    tensor_spec_of,
)
from savax.function._call_memo import CallMemo
from savax.trackable import FunctionLike, TableResource, Trackable, Variable
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function._function_spec import Canonical, FunctionSpec
    from savax.function.evaluation._segments import Segment
    from savax.trackable import SaveType


class Body(Protocol):
    """What a ConcreteFunction runs."""

    @property
    def captures(self) -> tuple[Trackable, ...]:
        """The Variables, constants and resources that the function closes over, in order."""
        ...

    def run(self, flat_arguments: Sequence[Any]) -> Sequence[Any]:
        """Computes the flat results; reads and assigns the captured Variables.

        Args:
          flat_arguments: arrays of the signature's dtypes and of shapes that fit it.
        """
        ...

    def segments(self) -> list[Segment]:
        """Returns the parts in which a call runs."""
        ...


class ConcreteFunction(FunctionLike):
    """A function with one signature.

    Call it as the Python function that it comes from, or with its tensors alone: by their graph
    names, or positionally in flattened order if it has positional parameters or one tensor.

    Attributes:
      function_spec: the parameters that calls bind to.
      structured_input_signature: ``(args, kwargs)`` with a TensorSpec for each tensor and the
        values of all other arguments.
      structured_outputs: the result's structure with a TensorSpec for each tensor.
      argument_names: the name of each tensor argument in a graph.
      body: the computation.
    """

    def __init__(
        self,
        body: Body,
        function_spec: FunctionSpec,
        structured_input_signature: Canonical,
        structured_outputs: Any,
        argument_names: Sequence[str],
    ) -> None:
        self.body = body
        self.function_spec = function_spec
        self.structured_input_signature = structured_input_signature
        self.structured_outputs = structured_outputs
        self.argument_names = tuple(argument_names)
        self._wanted: FlatArguments = flatten_call(structured_input_signature)
        self._specs: tuple[TensorSpec, ...] = tuple(self._wanted.tensor_leaves)
        self._outputs, tree = jax.tree.flatten(structured_outputs)
        self._out_tree: Any = tree
        self._memo: CallMemo[None] = CallMemo()

    @property
    def name(self) -> str:
        """The Python function's name."""
        return self.function_spec.name

    @property
    def captures(self) -> tuple[Trackable, ...]:
        """The Variables, constants and resources that the function closes over."""
        return self.body.captures

    @property
    def captured_inputs(self) -> tuple[Trackable, ...]:
        """The captures (TensorFlow's spelling)."""
        return self.body.captures

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The captured Variables."""
        return tuple(c for c in self.captures if isinstance(c, Variable))

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        """The captured Variables that are trainable."""
        return tuple(v for v in self.variables if v.trainable)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensor arguments in flattened order, under their graph names."""
        return tuple(
            TensorSpec(spec.dims, spec.dtype, name)
            for spec, name in zip(self._specs, self.argument_names, strict=True)
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The results in flattened order."""
        return tuple(self._outputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the function.

        Raises:
          SignatureMismatchError: the arguments fit neither the structured signature nor the list
            of tensors; the message shows what was wanted and given.
        """
        found = self._memo.find(args, kwargs)
        if found is not None:
            return self.run_flat(found[1])
        tensors = self.converted(self._bind(args, kwargs))
        self._memo.remember(args, kwargs, tensors, None)
        return self.run_flat(tensors)

    def segments(self) -> list[Segment]:
        """Returns the parts in which a call runs, in running order.

        A numeric function is one compiled part. One that handles strings or tables, or makes
        shapes of values, is cut: such nodes run in Python, and what is between them is compiled.
        What has to run in Python may show in a call only, so ask after the first one. Inside
        another function, or a transformation of JAX, what is numeric isn't cut.

        Raises:
          UnsupportedOpError: ops of the function can't be evaluated.
        """
        return self.body.segments()

    def converted(self, values: Sequence[Any]) -> list[Any]:
        """Returns tensor arguments in flattened order as arrays that fit the signature."""
        return [
            convert_argument(value, spec, f"Argument {name!r} of {self.name}")
            for value, spec, name in zip(values, self._specs, self.argument_names, strict=True)
        ]

    def run_flat(self, tensors: Sequence[Any]) -> Any:
        """Computes the function on what ``converted`` returns."""
        return self._out_tree.unflatten(self.body.run(tensors))

    def accepts(self, flat: FlatArguments, *, convert: bool) -> bool:
        """Whether a flattened call fits the structured signature.

        Args:
          flat: the call.
          convert: whether Python values in the place of tensors count too.
        """
        return not self._differences(flat, convert=convert)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        try:
            flat = flatten_call(self.function_spec.bind(args, kwargs))
            problems = self._differences(flat, convert=True)
        except SignatureMismatchError as error:
            problems = [str(error)]
        else:
            if not problems:
                leaves = self._aligned(flat).leaves
                return [leaves[i] for i in self._wanted.tensors]
        values = self._bind_flat(args, kwargs)
        if values is not None:
            return values
        raise SignatureMismatchError(
            f"{self.name} can't be called so.\n  wanted: {describe_call(self._signature())}\n"
            f"  given:  {describe_call((args, dict(kwargs)))}\n  " + "\n  ".join(problems)
        )

    def _bind_flat(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any] | None:
        names = self.argument_names
        if len(args) + len(kwargs) != len(names) or set(kwargs) != set(names[len(args) :]):
            return None
        spec = self.function_spec
        if args and len(names) > 1 and not spec.args and spec.varargs is None:
            return None  # keywords have no order, as those of a signature
        return [*args, *(kwargs[name] for name in names[len(args) :])]

    def _aligned(self, flat: FlatArguments) -> FlatArguments:
        """Returns a call with the lists of numbers that stand for tensors as single leaves."""
        wanted: Any = self._wanted.treedef
        if flat.treedef == wanted:
            return flat
        call = jax.tree.unflatten(flat.treedef, flat.leaves)
        try:
            leaves = wanted.flatten_up_to(call)
        except (ValueError, TypeError):
            return flat
        arrays = tuple(i for i, leaf in enumerate(leaves) if is_array(leaf))
        return FlatArguments(wanted, leaves, arrays)

    def _differences(self, flat: FlatArguments, *, convert: bool) -> list[str]:
        wanted = self._wanted
        if convert:
            flat = self._aligned(flat)
        if flat.treedef != wanted.treedef:
            return ["The arguments have another structure."]
        problems = []
        tensors, given_tensors = set(wanted.tensors), set(flat.tensors)
        for i, (want, given) in enumerate(zip(wanted.leaves, flat.leaves, strict=True)):
            if i in tensors:
                problems += self._tensor_problem(want, given, i in given_tensors, convert)
            elif i in given_tensors or type(want) is not type(given) or want != given:
                problems.append(f"The value {want!r} is part of the signature, got {given!r}.")
        return problems

    def _tensor_problem(
        self, want: TensorSpec, given: Any, is_tensor: bool, convert: bool
    ) -> list[str]:
        if not is_tensor:
            return [] if convert else [f"A tensor {want} is wanted, got {given!r}."]
        spec = tensor_spec_of(given)
        fits = spec.is_subtype_of(want) and spec.name in (None, want.name)
        return [] if fits else [f"{want} is wanted, got {spec}."]

    def _signature(self) -> Canonical:
        return self.structured_input_signature

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        if save_type != "savedmodel":
            return {}
        return {
            f"capture_{i}": capture
            for i, capture in enumerate(self.captures)
            if not isinstance(capture, Variable | TableResource)
        }

    def __repr__(self) -> str:
        result = jax.tree.map(_short_spec, self.structured_outputs)
        return f"<ConcreteFunction {self.name}{describe_call(self._signature())} -> {result}>"


def describe_call(call: Canonical) -> str:
    """Returns a call in one line, arrays by their specs."""
    args, kwargs = call
    parts = [_describe(arg) for arg in args]
    parts += [f"{name}={_describe(value)}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"


def _describe(value: Any) -> str:
    return str(jax.tree.map(_short_spec, value, is_leaf=lambda leaf: isinstance(leaf, Variable)))


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _short_spec(value: Any) -> Any:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        spec = tensor_spec_of(value)
        dims = "..." if spec.dims is None else ", ".join(str(d) for d in spec.dims)
        return _Text(f"{spec.dtype.name}[{dims}]")
    return value
