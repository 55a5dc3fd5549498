"""Evaluation of calls, branches and loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from savax.function._walk import NodeContext
    from savax.protos import FunctionRef


@evaluates("PartitionedCall", "StatefulPartitionedCall", with_context=True, ignores=("Tout",))
def _call(ctx: NodeContext, args: tuple[Any, ...], *, f: FunctionRef) -> Any:
    return ctx.call(f, args)
