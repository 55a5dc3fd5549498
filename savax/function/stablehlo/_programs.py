"""Running a StableHLO module as part of a JAX program."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import export
from jax.custom_derivatives import SymbolicZero

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    ShapeMismatchError,
    UnsupportedError,
)
from savax.function.stablehlo._checking import (
    CheckedModule,
    checked_module,
    fixed_module,
    shape_error,
)
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.stablehlo._modules import Tensor

_MAX_PROGRAMS = 64

_DTYPES = {
    "i1": "bool",
    **{f"i{bits}": f"int{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{f"ui{bits}": f"uint{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "bf16": "bfloat16",
    "complex<f32>": "complex64",
    "complex<f64>": "complex128",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
    "f8E4M3FNUZ": "float8_e4m3fnuz",
    "f8E5M2FNUZ": "float8_e5m2fnuz",
    "f8E4M3B11FNUZ": "float8_e4m3b11fnuz",
    "f4E2M1FN": "float4_e2m1fn",
}


class ModuleProgram:
    """A module, and the programs that were made of it for shapes of its arguments.

    Args:
      artifact: the module's bytes, of which nothing is known.
      platforms: those that it was made for, in JAX's words; none for any.
      any_platform: whether it may run on others as well.
    """

    def __init__(self, artifact: bytes, platforms: Sequence[str], *, any_platform: bool) -> None:
        self._artifact = artifact
        self._platforms = tuple(platforms) or (export.default_export_platform(),)
        self._any_platform = any_platform or not platforms
        self._module: CheckedModule | None = None
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, args: Sequence[Any], where: str) -> list[Any]:
        """Returns the results of the module's main function.

        Args:
          args: its arguments, without that which says the platform.
          where: the node that has the module, for messages.

        Raises:
          CorruptSavedModelError: the module is damaged, or isn't one for these arguments.
          UnsupportedError: it is for another platform, or does what a loaded model may not do.
          InvalidArgumentError: it doesn't take these shapes.
        """
        self._check_platform(where)
        key = tuple((tuple(arg.shape), str(arg.dtype)) for arg in args)
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = self._program(args, where)
                if len(self._programs) >= _MAX_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                self._programs[key] = program
        return list(program(*args))

    def _check_platform(self, where: str) -> None:
        if not self._any_platform and not any(map(_has_devices, self._platforms)):
            raise UnsupportedError(
                f"The module of {where} is compiled for {', '.join(self._platforms)} only, and JAX "
                f"has devices of {export.default_export_platform()} here. Export the model for "
                "this platform as well."
            )

    def _program(self, args: Sequence[Any], where: str) -> Callable[..., Any]:
        shapes = [tuple(arg.shape) for arg in args]
        if self._module is None:
            module = checked_module(self._artifact, shapes, where)
            self._check_arguments(module, args, where)
            if module.shape_error is not None:
                raise shape_error(module.shape_error, where)
            self._module = module
            fixed, results = module.fixed, module.fixed_results
        else:
            self._check_arguments(self._module, args, where)
            fixed, results = fixed_module(self._module, shapes, where)
        return _transformable(self._exported(fixed, args, results, where).call, len(args), where)

    def _check_arguments(self, module: CheckedModule, args: Sequence[Any], where: str) -> None:
        wanted = list(module.arguments)
        if len(self._platforms) > 1 and wanted and not wanted[0][0]:
            del wanted[0]  # the number of the platform
        if len(wanted) != len(args):
            raise CorruptSavedModelError(
                f"The module of {where} takes {len(wanted)} arguments, the node has {len(args)}."
            )
        for position, ((sizes, kind), arg) in enumerate(zip(wanted, args, strict=True)):
            if _dtype(kind, where) is not as_dtype(arg.dtype):
                raise DTypeMismatchError(
                    f"Argument {position} of the module of {where}: expected dtype {kind}, found "
                    f"{arg.dtype}."
                )
            fits = len(sizes) == arg.ndim and all(
                size in (None, given) for size, given in zip(sizes, arg.shape, strict=True)
            )
            if not fits:
                raise ShapeMismatchError(
                    f"Argument {position} of the module of {where}: expected shape {sizes}, found "
                    f"{list(arg.shape)}."
                )

    def _exported(
        self, module: bytes, args: Sequence[Any], results: Sequence[Tensor], where: str
    ) -> export.Exported:
        """Returns a module of known shapes as JAX's own exported functions are.

        JAX makes such objects by exporting a function; the module takes the place of that of a
        function with the same arguments and results.
        """
        shapes = [([size or 0 for size in sizes], _dtype(kind, where)) for sizes, kind in results]

        def stand_in(*_: Any) -> list[Any]:
            return [jnp.zeros(sizes, dtype.numpy_dtype) for sizes, dtype in shapes]

        checks = [export.DisabledSafetyCheck.platform()] if self._any_platform else []
        exporter = export.export(
            jax.jit(stand_in), platforms=self._platforms, disabled_checks=checks
        )
        template = exporter(*(_spec(arg) for arg in args))
        return dataclasses.replace(
            template,
            mlir_module_serialized=module,
            module_kept_var_idx=tuple(range(len(args))),
            uses_global_constants=False,
        )


def _transformable(call: Callable[..., Any], num_args: int, where: str) -> Callable[..., Any]:
    """Returns a call that ``vmap`` runs in a loop, and whose derivative is refused.

    It is refused when it is needed only: the model may have a gradient of what is around the node.
    """
    looped = jax.custom_batching.sequential_vmap(call)  # type: ignore[no-untyped-call]
    run = jax.custom_vjp(looped)

    def forward(*args: Any) -> tuple[Any, None]:
        return run(*(arg.value for arg in args)), None

    def backward(_: None, cotangents: Sequence[Any]) -> Any:
        if all(isinstance(cotangent, SymbolicZero) for cotangent in cotangents):
            return (None,) * num_args
        raise UnsupportedError(
            f"{where} has no derivative: a compiled module can't be differentiated, and the model "
            "holds no gradient function for it. Save the model with gradients, or as TensorFlow's "
            "operations."
        )

    run.defvjp(forward, backward, symbolic_zeros=True)
    return run


def _dtype(kind: str, where: str) -> DType:
    name = _DTYPES.get(kind)
    if name is None:
        raise UnsupportedError(f"The module of {where} has elements of type {kind}.")
    return as_dtype(name)


def _spec(arg: Any) -> Any:
    return jax.ShapeDtypeStruct(arg.shape, arg.dtype)  # type: ignore[no-untyped-call]


def _has_devices(platform: str) -> bool:
    try:
        return bool(jax.devices(platform))
    except RuntimeError:
        return False
