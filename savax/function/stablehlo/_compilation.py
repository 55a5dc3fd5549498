"""JAX functions as StableHLO modules that TensorFlow reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core
from jax import export
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import func, stablehlo

from savax.errors import SavaxError, UnsupportedError
from savax.function._jax_names import jaxprs_in_params
from savax.function.stablehlo._modules import (
    describe,
    read_module,
    strip_locations,
    write_module,
)
from savax.function.stablehlo._targets import TARGETS_OF_XLA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from savax.function.stablehlo._options import StableHLO

# The calling convention, an attribute of the node. Modules for one device and without effects are
# alike since 8; TensorFlow up to 2.15 reads no other, and StableHLO up to 0.14 only.
_CONVENTION, _OLD_CONVENTION = 9, 8
_LAST_OLD = (0, 14)

# Attributes of operations that tell where they come from, and how to share them among devices.
_NOTES = ("mhlo.frontend_attributes", "sdy.")
_ASSERTION = "shape_assertion"
# How JAX begins the check of an unknown size that it takes to be at least 1.
_POSITIVE = "Expected value >= 1 for dimension variable"

_64_BIT = frozenset({"int64", "uint64", "float64", "complex128"})


@dataclass(frozen=True)
class CompiledModule:
    """A module, and how it is called.

    Attributes:
      artifact: its bytes.
      version: of the calling convention.
      kept: positions of the operands that it takes.
    """

    artifact: bytes
    version: int
    kept: tuple[int, ...]


def compile_function(
    function: Callable[..., Any],
    avals: Sequence[Any],
    name: str,
    options: StableHLO,
    *,
    wide: bool,
) -> CompiledModule:
    """Returns the module of a JAX function of arrays.

    Args:
      function: the function; returns a list of arrays.
      avals: abstract values of its arguments, of one symbolic scope.
      name: what it is called, for messages and in the module.
      options: platforms and version.
      wide: whether it computes with 64-bit types, also where they are off.

    Raises:
      UnsupportedError: JAX can't export it, it needs what only JAX has, or the version of StableHLO
        lacks its operations.
    """

    def run(*args: Any) -> Any:
        return function(*args)

    run.__name__ = name if name.isidentifier() else "function"
    specs: list[Any] = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype)  # type: ignore[no-untyped-call]
        for aval in avals
    ]
    try:
        with jax.enable_x64(wide or bool(jax.config.jax_enable_x64)):  # type: ignore[attr-defined]
            exported = export.export(jax.jit(run), platforms=options.platforms)(*specs)
    except SavaxError:
        raise
    except Exception as error:  # JAX has many, of which most are no classes of their own
        reason = str(error).partition("\n")[0]
        raise UnsupportedError(f"{name} can't be exported as StableHLO: {reason}") from error
    if exported.nr_devices != 1:
        raise UnsupportedError(
            f"{name} is a program for {exported.nr_devices} devices; a SavedModel's is for one."
        )
    module = read_module(exported.mlir_module_serialized)
    strip_locations(module)
    _simplify(module)
    _check_targets(module, name)
    artifact, version = _written(module, name, options)
    convention = _OLD_CONVENTION if _numbers(version)[:2] <= _LAST_OLD else _CONVENTION
    return CompiledModule(artifact, convention, tuple(exported.module_kept_var_idx))


def uses_64_bits(jaxpr: Any) -> bool:
    """Whether a jaxpr, or one within, has values of 64 bits."""
    return any(map(is_64_bit, _avals(jaxpr)))


def is_64_bit(aval: Any) -> bool:
    """Whether an abstract value has numbers of 64 bits (each part of a complex one)."""
    return str(getattr(aval, "dtype", "")) in _64_BIT


def _avals(jaxpr: Any) -> Iterator[Any]:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    yield from (var.aval for var in (*jaxpr.invars, *jaxpr.constvars))
    for equation in jaxpr.eqns:
        yield from (var.aval for var in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from _avals(inner)


def _simplify(module: Any) -> None:
    """Removes what TensorFlow doesn't understand, and the check that no size is 0.

    An empty batch is computed as by operations of TensorFlow; JAX's check would refuse it.
    Composites are operations with an equivalent function; TensorFlow doesn't find the sizes in such
    functions, but does in those that are called.
    """
    unwanted, composites = [], []

    def visit(operation: Any) -> Any:
        attributes = operation.attributes
        # Attributes come as pairs in JAX 0.9, and as names in JAX 0.10.
        names = [getattr(attribute, "name", attribute) for attribute in attributes]
        for attribute in names:
            if attribute.startswith(_NOTES):
                del attributes[attribute]
        if operation.name == "stablehlo.custom_call" and _is_positive_check(attributes):
            unwanted.append(operation)
        if operation.name == "stablehlo.composite":
            composites.append(operation)
        return ir.WalkResult.ADVANCE

    with module.context:
        module.operation.walk(visit)
        for operation in composites:
            _call_decomposition(operation)
        for operation in unwanted:
            operation.erase()


def _call_decomposition(composite: Any) -> None:
    """Puts a call of its equivalent function into the place of a composite."""
    types = [result.type for result in composite.results]
    with ir.InsertionPoint(composite), composite.location:
        call = func.CallOp(types, composite.attributes["decomposition"], list(composite.operands))
    for result, called in zip(composite.results, call.results, strict=True):
        result.replace_all_uses_with(called)
    composite.erase()


def _is_positive_check(attributes: Any) -> bool:
    return (
        attributes["call_target_name"].value == _ASSERTION
        and "error_message" in attributes
        and _POSITIVE in attributes["error_message"].value
    )


def _check_targets(module: Any, name: str) -> None:
    targets = sorted(set(describe(module)["custom_calls"]) - TARGETS_OF_XLA)
    if targets:
        raise UnsupportedError(
            f"{name} calls functions of JAX's own libraries, which TensorFlow doesn't have: "
            f"{', '.join(targets)}. Write it as TensorFlow's operations (lowering='ops')."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _written(module: Any, name: str, options: StableHLO) -> tuple[bytes, str]:
    """Returns a module's bytes in the version that is wished for, or the oldest that has it."""
    oldest, newest = stablehlo.get_minimum_version(), stablehlo.get_current_version()
    if options.version is not None:
        if not _numbers(oldest) <= _numbers(options.version) <= _numbers(newest):
            raise UnsupportedError(
                f"{name} can't be written in StableHLO {options.version}: this JAX writes versions "
                f"{oldest} to {newest}."
            )
        try:
            return write_module(module, options.version), options.version
        except ValueError as error:
            raise UnsupportedError(
                f"{name} can't be written in StableHLO {options.version}, which lacks some of its "
                "operations. Choose a newer version."
            ) from error
    major, minor, _ = _numbers(newest)
    for version in [*(f"{major}.{older}.0" for older in range(minor + 1)), newest]:
        try:
            return write_module(module, version), version
        except ValueError:
            continue
    raise UnsupportedError(f"{name} has operations that no version of StableHLO holds.")
