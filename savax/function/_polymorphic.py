"""Function: a Python function that is traced once per signature, and its decorator."""

from __future__ import annotations

import copy
import dataclasses
import threading
from typing import TYPE_CHECKING, Any, overload

import jax

from savax.errors import SignatureMismatchError, TracingError, UnsupportedOptionError
from savax.function._arguments import (
    FlatArguments,
    argument_names,
    cache_key,
    convert_argument,
    flatten_call,
    flatten_results,
    result_specs,
    structured_names,
    tensor_spec_of,
)
from savax.function._call_matching import describe_call
from savax.function._call_memo import CallMemo
from savax.function._composites import traced_spec, with_wide_parts
from savax.function._concrete import ConcreteFunction
from savax.function._execution import TracedExecution
from savax.function._function_spec import Canonical, FunctionSpec
from savax.function._jax_names import is_under_trace
from savax.function._reachable import reachable_variables
from savax.function.stablehlo._options import checked_fallback, checked_lowering
from savax.portability import checked_target
from savax.trackable import FunctionLike, Trackable, Variable, current_frame, host_array
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from savax.function.stablehlo._options import StableHLO
    from savax.trackable import SaveType

# As many signatures are shown to a call that fits none.
_SHOWN_SIGNATURES = 8


class Function(FunctionLike):
    """A function with any number of signatures, each traced when it is first needed.

    Made by ``savax.function``, or by loading a model; a loaded one has no Python function, and so
    only the signatures that it was saved with.

    Attributes:
      function_spec: the parameters that calls bind to.
      python_function: the Python function, or None.
      reduce_retracing: whether a second shape is generalised to unknown dims.
      constraints: what is known of named dims, e.g. ``"b >= 2"``.
    """

    def __init__(
        self,
        python_function: Callable[..., Any] | None,
        function_spec: FunctionSpec,
        *,
        reduce_retracing: bool = False,
        constraints: Sequence[str] = (),
        concrete_functions: Sequence[ConcreteFunction] = (),
    ) -> None:
        self.python_function = python_function
        self.function_spec = function_spec
        self.reduce_retracing = reduce_retracing
        self.constraints = tuple(constraints)
        self._concrete_functions = list(concrete_functions)
        self._cache: dict[Hashable, ConcreteFunction] = {}
        self._memo: CallMemo[ConcreteFunction] = CallMemo()
        self._inlined: dict[Hashable, FlatArguments] = {}
        # Re-entrant: a function may call itself while it is traced.
        self._lock = threading.RLock()
        self.__name__ = function_spec.name
        self.__doc__ = getattr(python_function, "__doc__", None)
        self.__wrapped__ = python_function

    @property
    def name(self) -> str:
        """The Python function's name."""
        return self.function_spec.name

    @property
    def input_signature(self) -> tuple[Any, ...] | None:
        """The only signature that the function takes, or None for any."""
        return self.function_spec.input_signature

    @property
    def concrete_functions(self) -> tuple[ConcreteFunction, ...]:
        """The signatures that the function was called with, in order.

        Those of calls from within other functions, of whose traces they became a part, are traced
        on their own when they are asked for here.
        """
        with self._lock:
            while self._inlined and current_frame() is None:
                # The first ones come from the trace with unknown dims, and serve the others too.
                self._concrete_for(self._inlined.pop(next(iter(self._inlined))))
        return tuple(self._concrete_functions)

    def experimental_get_tracing_count(self) -> int:
        """Returns how many signatures exist."""
        return len(self.concrete_functions)

    def pretty_printed_concrete_signatures(self) -> str:
        """Returns the signatures that exist, a line each."""
        return "\n".join(map(repr, self.concrete_functions))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the function, after tracing it if the arguments ask for a new signature.

        While another function is traced, the Python function becomes part of that trace.
        """
        if self.python_function is not None and current_frame() is not None:
            return self._call_inline(args, kwargs)
        known = self._memo.find(args, kwargs)
        if known is not None:
            concrete, tensors = known
            return concrete.run_flat(tensors)
        flat = flatten_call(self._canonical(args, kwargs))
        concrete = self._concrete_for(flat)
        tensors = concrete.tensors_of(flat)
        if not is_under_trace():
            self._memo.remember(args, kwargs, tensors, concrete)
        return concrete.run_flat(tensors)

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """Returns the concrete function for arguments, of which tensors may be TensorSpecs.

        Without arguments it is the one of the input signature, or the only one that exists.

        Raises:
          SignatureMismatchError: arguments are missing or don't fit the input signature.
        """
        if self.input_signature is not None and not args and not kwargs:
            return self._concrete_for(flatten_call(self.function_spec.signature_call()))
        if self.python_function is None and not args and not kwargs:
            if len(self._concrete_functions) == 1:
                return self._concrete_functions[0]
            raise SignatureMismatchError(
                f"{self.name} has {len(self._concrete_functions)} signatures; name one by giving "
                f"TensorSpecs for its arguments:\n{self.pretty_printed_concrete_signatures()}"
            )
        return self._concrete_for(flatten_call(self._canonical(args, kwargs)))

    def __get__(self, instance: Any, owner: type | None = None) -> Function:
        """Returns the method of an instance, with traces and Variables of its own."""
        if instance is None or self.python_function is None:
            return self
        if not hasattr(instance, "__dict__"):
            return self._bound_to(instance)
        methods = instance.__dict__.setdefault("_savax_methods", {})
        method = methods.get(id(self))
        if method is None:
            method = methods.setdefault(id(self), self._bound_to(instance))
        bound: Function = method
        return bound

    def _bound_to(self, instance: Any) -> Function:
        assert self.python_function is not None
        bound = self.python_function.__get__(instance)
        old = self.function_spec
        spec = FunctionSpec.from_callable(bound, self._raw_signature, old.jit_compile)
        spec = dataclasses.replace(
            spec, lowering=old.lowering, fallback=old.fallback, target=old.target
        )
        return type(self)(
            bound, spec, reduce_retracing=self.reduce_retracing, constraints=self.constraints
        )

    # The signature as the decorator got it: whether its first spec belongs to ``self`` or to the
    # next parameter is only known once the function is bound.
    _raw_signature: Sequence[Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        """Returns a function for the copied instance, without traces."""
        copied = type(self)(
            copy.deepcopy(self.python_function, memo),
            self.function_spec,
            reduce_retracing=self.reduce_retracing,
            constraints=self.constraints,
            concrete_functions=self._concrete_functions if self.python_function is None else (),
        )
        memo[id(self)] = copied
        return copied

    def _canonical(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Canonical:
        call = self.function_spec.bind(args, kwargs)
        return (
            call if self.input_signature is None else _fitted_to_signature(call, self.function_spec)
        )

    def _call_inline(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        assert self.python_function is not None
        args, kwargs = self._canonical(args, kwargs)
        self._note_inlined(flatten_call((args, kwargs)))
        with jax.named_scope(self.name):
            result = self.python_function(*args, **kwargs)
        leaves, treedef = flatten_results(result, self.name)
        return jax.tree.unflatten(treedef, [_inline_result(leaf) for leaf in leaves])

    def _note_inlined(self, flat: FlatArguments) -> None:
        """Keeps the signature of a call that another function's trace swallows."""
        specs = [
            leaf if isinstance(leaf, Variable) else _named_spec(leaf) for leaf in flat.tensor_leaves
        ]
        call = flatten_call(flat.with_tensors(specs))
        with self._lock:
            self._inlined.setdefault(cache_key(call, self.function_spec), call)

    def _concrete_for(self, flat: FlatArguments) -> ConcreteFunction:
        if self.input_signature is not None:
            key: Hashable = self._signature_key(flat)
        else:
            key = cache_key(flat, self.function_spec)
        found = self._cache.get(key)
        if found is None:
            with self._lock:
                found = self._cache.get(key) or self._existing(flat)
                if found is None:
                    assert self.python_function is not None
                    execution, found = _traced(
                        self.python_function,
                        self.function_spec,
                        self._generalised(flat),
                        constraints=self.constraints,
                        may_create=not self._concrete_functions,
                    )
                    if execution.traced.closes_over_tracers:
                        return found  # good for the JAX transformation around this call only
                    self._concrete_functions.append(found)
                self._cache[key] = found
        return found

    def _signature_key(self, flat: FlatArguments) -> Hashable:
        """Returns a key in which tensors don't count: the signature fixes them."""
        tensors = set(flat.tensors)
        others = [leaf for i, leaf in enumerate(flat.leaves) if i not in tensors]
        return (flat.treedef, tuple((type(leaf), leaf) for leaf in others))

    def _existing(self, flat: FlatArguments) -> ConcreteFunction | None:
        """Returns the most general concrete function that takes a call, if there is one."""
        fitting = [c for c in self._concrete_functions if c.accepts(flat, convert=False)]
        if not fitting and self.python_function is None:
            fitting = [c for c in self._concrete_functions if c.accepts(flat, convert=True)]
            if not fitting:
                raise _no_match(self.name, self._concrete_functions, flat)
            return fitting[0]
        return max(fitting, key=_generality, default=None)

    def _generalised(self, flat: FlatArguments) -> FlatArguments:
        if self.input_signature is not None:
            call = self.function_spec.signature_call()
            args = flatten_call(call)
            # Arguments beyond the signature are Python values of this call.
            return args if args.treedef == flat.treedef else flat
        if not self.reduce_retracing:
            return flat
        leaves = list(flat.leaves)
        for other in self._concrete_functions:
            if flatten_call(other.structured_input_signature).treedef != flat.treedef:
                continue
            theirs = flatten_call(other.structured_input_signature).leaves
            for i in flat.tensors:
                mine = tensor_spec_of(leaves[i])
                common = mine.most_specific_common_supertype([tensor_spec_of(theirs[i])])
                leaves[i] = mine if common is None else common
        return FlatArguments(flat.treedef, leaves, flat.tensors)

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        if save_type != "savedmodel":
            return {}
        return {f"trace_{i}": c for i, c in enumerate(self.concrete_functions)}

    def __repr__(self) -> str:
        return f"<savax.function {self.name}{self.function_spec.describe()}>"


def _no_match(
    name: str, known: Sequence[ConcreteFunction], flat: FlatArguments
) -> SignatureMismatchError:
    """Returns the error of a call that fits none of a loaded function's signatures."""
    if not known:
        return SignatureMismatchError(
            f"{name} was never traced before it was saved, so it has no signature to "
            "call. Give it an input_signature, or call get_concrete_function before saving."
        )
    given = describe_call(flat.with_tensors(flat.tensor_leaves))
    found = [(concrete.differences(flat), concrete) for concrete in known]
    found.sort(key=lambda pair: (not pair[1].has_structure(flat), len(pair[0])))
    lines = [
        f"    {concrete!r}" + "".join(f"\n      {line}" for line in differences)
        for differences, concrete in found[:_SHOWN_SIGNATURES]
    ]
    if len(found) > _SHOWN_SIGNATURES:
        lines.append(f"    and {len(found) - _SHOWN_SIGNATURES} more")
    return SignatureMismatchError(
        f"{name} has no signature for these arguments.\n  given: {given}\n"
        "  signatures, the nearest first:\n" + "\n".join(lines)
    )


def _traced(
    function: Callable[..., Any],
    spec: FunctionSpec,
    flat: FlatArguments,
    *,
    constraints: Sequence[str],
    may_create: bool,
) -> tuple[TracedExecution, ConcreteFunction]:
    """Traces a Python function for a call, of which tensors may be specs."""

    def flat_function(*tensors: Any) -> tuple[list[Any], Any]:
        args, kwargs = flat.with_tensors(tensors)
        with jax.named_scope(spec.name):
            return flatten_results(function(*args, **kwargs), spec.name)

    specs = [tensor_spec_of(leaf) for leaf in flat.tensor_leaves]
    names = argument_names(flat, spec)
    execution = TracedExecution(
        flat_function,
        specs,
        names,
        constraints=constraints,
        candidates=reachable_variables(function),
        may_create=may_create,
    )
    signature = flat.with_tensors(
        [
            traced_spec(given, found, name)
            for given, found, name in zip(
                flat.tensor_leaves,
                execution.traced.arg_specs,
                structured_names(flat, spec),
                strict=True,
            )
        ]
    )
    results = with_wide_parts(execution.traced.out_specs, execution.out_tree, signature)
    execution.set_result_specs(results)
    outputs = result_specs(results, execution.out_tree)
    return execution, ConcreteFunction(execution, spec, signature, outputs, names)


def _fitted_to_signature(call: Canonical, spec: FunctionSpec) -> Canonical:
    """Returns a call with Python numbers and lists converted as the input signature says."""
    args, kwargs = call
    signature = spec.input_signature or ()
    fitted = []
    for i, arg in enumerate(args):
        if i >= len(signature):
            fitted.append(arg)
            continue
        what = f"Argument {spec.parameter_of(i)!r} of {spec.name}"
        fitted.append(_fitted(arg, signature[i], what))
    if len(fitted) < len(signature):
        raise SignatureMismatchError(
            f"{spec.name} takes {len(signature)} arguments by its input_signature, "
            f"got {len(fitted)}."
        )
    return tuple(fitted), kwargs


def _inline_result(leaf: Any) -> Any:
    """Returns a result as an array; strings that aren't traced stay numpy's."""
    value = leaf if hasattr(leaf, "dtype") else host_array(leaf)
    return value if as_dtype(value.dtype).name == "string" else jax.numpy.asarray(leaf)


def _named_spec(value: Any) -> TensorSpec:
    """Returns the spec of a traced value; unknown dims keep the names that the trace gave them."""
    dims = [size if isinstance(size, int) else str(size) for size in value.shape]
    return TensorSpec(
        [d if isinstance(d, int) or d.isidentifier() else None for d in dims], value.dtype
    )


def _generality(concrete: ConcreteFunction) -> int:
    unknown = 0
    for spec in concrete.inputs:
        unknown += 100 if spec.shape is None else spec.shape.count(None)
    return unknown


def _fitted(value: Any, signature: Any, what: str) -> Any:
    if isinstance(signature, TensorSpec):
        return convert_argument(value, signature, what)
    specs, structure = jax.tree.flatten(signature)
    treedef: Any = structure
    try:
        values = treedef.flatten_up_to(value)
    except (ValueError, TypeError) as error:
        raise SignatureMismatchError(f"{what} takes {signature}, got {value!r}.") from error
    fitted = [convert_argument(v, s, what) for v, s in zip(values, specs, strict=True)]
    return jax.tree.unflatten(structure, fitted)


@overload
def function(func: Callable[..., Any], /) -> Function: ...
@overload
def function(
    func: None = None,
    input_signature: Sequence[Any] | None = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    *,
    constraints: Sequence[str] = (),
    lowering: StableHLO | str | None = None,
    fallback: StableHLO | str | None = None,
    target: str | None = None,
    **unsupported: Any,
) -> Callable[[Callable[..., Any]], Function]: ...
def function(
    func: Callable[..., Any] | None = None,
    input_signature: Sequence[Any] | None = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    *,
    constraints: Sequence[str] = (),
    lowering: StableHLO | str | None = None,
    fallback: StableHLO | str | None = None,
    target: str | None = None,
    **unsupported: Any,
) -> Any:
    """Makes a Function of a Python function or method; a decorator with or without arguments.

    Args:
      func: the Python function; it is written in JAX, and reads and assigns Variables.
      input_signature: a sequence with a TensorSpec, or nested TensorSpecs, for each positional
        parameter; parameters with defaults may be left out. The function then has this one
        signature.
      autograph: accepted as in TensorFlow; Python control flow isn't rewritten, use
        ``jax.lax.cond`` and its kin.
      jit_compile: recorded in a saved model; in this process every function is compiled.
      reduce_retracing: whether dims that differ between calls become unknown ones.
      constraints: what is known of named or unknown dims, in JAX's notation: ``"b >= 2"``.
      lowering: what it is saved as; by default, and in what form, as in SaveOptions.
      fallback: what primitives without operations are saved as; as in SaveOptions.
      target: the program that has to run it when it is saved; as in SaveOptions.
      unsupported: options of TensorFlow that savax refuses.

    Returns:
      A Function, or a decorator that makes one.

    Raises:
      SignatureMismatchError: the input signature doesn't fit the function, which isn't callable.
      InvalidArgumentError: lowering, fallback or target has another value.
    """
    wishes: Any = {"lowering": checked_lowering(lowering), "fallback": checked_fallback(fallback)}
    wishes |= {"target": checked_target(target)}
    if unsupported:
        raise UnsupportedOptionError(
            f"savax.function doesn't have {', '.join(map(repr, sorted(unsupported)))}."
        )

    def decorate(inner: Callable[..., Any]) -> Function:
        if not callable(inner):
            raise TracingError(f"savax.function decorates functions, got {inner!r}.")
        if isinstance(inner, Function):
            inner = inner.python_function or inner
        spec = _unbound_spec(inner, input_signature, jit_compile)
        made = Function(
            inner,
            dataclasses.replace(spec, **wishes),
            reduce_retracing=reduce_retracing,
            constraints=constraints,
        )
        made._raw_signature = input_signature
        return made

    return decorate if func is None else decorate(func)


def _unbound_spec(
    inner: Callable[..., Any], input_signature: Sequence[Any] | None, jit_compile: bool | None
) -> FunctionSpec:
    """Returns the spec of a function that may turn out to be a method.

    A function in a class body has ``self`` as one parameter more than its signature has specs;
    it gets its real spec when it is bound.
    """
    if input_signature is None:
        return FunctionSpec.from_callable(inner, None, jit_compile)
    try:
        return FunctionSpec.from_callable(inner, input_signature, jit_compile)
    except SignatureMismatchError:
        qualified = getattr(inner, "__qualname__", "")
        in_class = "." in qualified and not qualified.rpartition(".")[0].endswith("<locals>")
        if not in_class:
            raise
        return FunctionSpec.from_callable(inner, None, jit_compile)
