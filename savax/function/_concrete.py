"""ConcreteFunction: one signature, the state that it closes over, and a body.

The body was traced from Python or comes from a file; nothing else differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import jax

from savax.errors import SignatureMismatchError
from savax.function._arguments import FlatArguments, convert_argument, flatten_call
from savax.function._call_matching import (
    aligned,
    call_differences,
    describe_call,
    describe_specs,
    fits,
    tensors_of,
)
from savax.function._call_memo import CallMemo
from savax.function.stablehlo._options import chosen_backend
from savax.trackable import FunctionLike, TableResource, Trackable, Variable
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function._function_spec import Canonical, FunctionSpec
    from savax.function.evaluation._segments import Segment
    from savax.function.stablehlo._options import Backend
    from savax.protos import CompiledModule
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

    def frozen(self) -> Body:
        """Returns a body in whose compiled programs the captures' present values are constants."""
        ...

    def segments(self) -> list[Segment]:
        """Returns the parts in which a call runs."""
        ...

    def compiled_modules(self, name: str, backend: Backend) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules that a saved model has for it.

        Args:
          name: what the function is called.
          backend: what it is written as, if it was traced.
        """
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

    def tensors_of(self, flat: FlatArguments) -> list[Any]:
        """Returns the tensors of a call that the signature accepts, as arrays that fit it."""
        return self.converted(tensors_of(flat, self._wanted))

    def compiled_modules(self) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules (``XlaCallModule``) in the function as it is saved.

        A traced function is lowered for that, as its own ``lowering`` and ``fallback`` say.

        Raises:
          UnsupportedError: it has no form that could be saved.
        """
        spec = self.function_spec
        return self.body.compiled_modules(self.name, chosen_backend(spec.lowering, spec.fallback))

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
        return fits(flat, self._wanted, convert=convert)

    def has_structure(self, flat: FlatArguments) -> bool:
        """Whether a call has the signature's lists, tuples, dicts and Nones."""
        return bool(aligned(flat, self._wanted).treedef == self._wanted.treedef)

    def differences(self, flat: FlatArguments) -> list[str]:
        """Returns a line for each place where a call differs from the structured signature."""
        return call_differences(flat, self._wanted, self.function_spec)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        try:
            flat = flatten_call(self.function_spec.bind(args, kwargs))
        except SignatureMismatchError as error:
            problems = [str(error)]
        else:
            problems = self.differences(flat)
            if not problems:
                return tensors_of(flat, self._wanted)
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
        call, result = describe_call(self._signature()), describe_specs(self.structured_outputs)
        return f"<ConcreteFunction {self.name}{call} -> {result}>"
