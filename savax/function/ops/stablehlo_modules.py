"""XlaCallModule: a compiled function as one node, which JAX's own exporters write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from savax.errors import CorruptSavedModelError, UnsupportedError
from savax.function.ops._registry import evaluates
from savax.function.stablehlo._programs import ModuleProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.protos import FunctionRef

# Versions of the calling convention: before 4 modules weren't portable artifacts. 9 gave effects
# tokens of their own kind, 10 allows Shardy.
_OLDEST, _NEWEST = 4, 10
_PLATFORM_CHECK = "platform"


@evaluates("XlaCallModule", with_context=True, ignores=("Sout", "Tout", "use_shardy_partitioner"))
def _xla_call_module(
    ctx: NodeContext,
    args: tuple[Any, ...],
    *,
    version: int,
    module: str,
    dim_args_spec: Sequence[str],
    platforms: Sequence[str],
    function_list: Sequence[FunctionRef],
    has_token_input_output: bool,
    disabled_checks: Sequence[str],
) -> list[Any]:
    where = f"the XlaCallModule node {ctx.node.name!r}"
    if version < _OLDEST:
        raise UnsupportedError(
            f"The module of {where} is of version {version}; savax runs versions {_OLDEST} to "
            f"{_NEWEST}, which are portable."
        )
    if version > _NEWEST:
        raise UnsupportedError(
            f"The module of {where} is of version {version}; savax knows versions up to {_NEWEST}."
        )
    if function_list:
        names = ", ".join(repr(function.name) for function in function_list)
        raise UnsupportedError(
            f"The module of {where} calls TensorFlow functions ({names}) by call_tf, which only "
            "TensorFlow can run."
        )
    if has_token_input_output:
        raise UnsupportedError(
            f"The module of {where} orders effects on the host by tokens, which a loaded model "
            "doesn't have."
        )
    if dim_args_spec:
        raise CorruptSavedModelError(
            f"The module of {where} of version {version} has dim_args_spec, which only versions "
            "before 4 have."
        )
    # Attributes that are bytes come as text with surrogate escapes.
    artifact = module.encode("utf-8", "surrogateescape")
    made_for = [name.lower() for name in platforms]
    any_platform = _PLATFORM_CHECK in disabled_checks
    key = (ModuleProgram, artifact, tuple(made_for), any_platform)
    fresh = ModuleProgram(artifact, made_for, any_platform=any_platform)
    program = ctx.walk.library.shared_object(key, fresh)
    return program([jnp.asarray(arg) for arg in args], where)  # type: ignore[no-any-return]
