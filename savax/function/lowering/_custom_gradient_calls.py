"""Calls with derivatives of their own as nodes that name a custom gradient.

They are calls of ``jax.custom_vjp`` and ``jax.custom_jvp`` functions, of compiled modules, and of
solvers that ``jax.lax.custom_linear_solve`` differentiates without looking into them. The results
and operands of such a call pass through an IdentityN. Its gradient becomes a function of the
library when all functions that call are lowered, see ``_gradient_functions``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from savax.function._jax_names import bind_params
from savax.function.lowering._graph_nodes import Symbol, known_shape
from savax.function.stablehlo._options import MAX_ORDER
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    import numpy as np

    from savax.function.lowering._graph_builder import GraphBuilder
    from savax.function.stablehlo._options import StableHLO

# Larger constants are captured rather than repeated in the gradient function.
_MAX_REPEATED_SIZE = 16

_REFUSAL = f"The model holds {MAX_ORDER} derivatives of functions with a derivative of their own."

# In the paths of the files of JAX.
JAX_FOLDER = "/jax/_src/"

# What gradient functions are called, by the primitive that they belong to.
_NAMES = {
    "custom_jvp_call": "custom_jvp",
    "custom_linear_solve": "linear_solve",
    "custom_vjp_call": "custom_vjp",
}


class JaxCall(NamedTuple):
    """A call that JAX differentiates, and TensorFlow couldn't.

    Attributes:
      name: what its gradient is called.
      function: what is called, a function of arrays that returns a list of them.
      operand_types: abstract values of its operands.
      result_types: abstract values of its results.
      module: how its gradient is written as a module; None for operations.
      wide: whether 64-bit types are needed within.
      place: where the function is written, as ``f at file:line``; empty if unknown.
    """

    name: str
    function: Callable[..., Sequence[Any]]
    operand_types: Sequence[Any]
    result_types: Sequence[Any]
    module: StableHLO | None = None
    wide: bool = False
    place: str = ""


def equation_call(
    primitive: Any, params: Mapping[str, Any], operand_types: Sequence[Any], jaxpr: Any
) -> JaxCall:
    """Returns the call that an equation is, which JAX differentiates by a rule of its own.

    Args:
      primitive: the equation's.
      params: the equation's.
      operand_types: abstract values of its operands.
      jaxpr: what it computes.
    """

    def run(*operands: Any) -> Sequence[Any]:
        results: Sequence[Any] = bind_params(primitive, dict(params), *operands)
        return results

    name = _NAMES[primitive.name]
    return JaxCall(name, run, operand_types, jaxpr.out_avals, place=source_of(jaxpr))


def source_of(jaxpr: Any) -> str:
    """Returns name and file of the function that a closed jaxpr was traced from, "" if unknown."""
    return str(getattr(jaxpr.jaxpr.debug_info, "func_src_info", "") or "").replace("\\", "/")


def is_of_jax(jaxpr: Any) -> bool:
    """Whether a closed jaxpr was traced from a function of JAX itself."""
    return JAX_FOLDER in source_of(jaxpr)


@dataclass(frozen=True, eq=False)
class CustomGradientCall:
    """A call whose gradient isn't a function yet.

    Attributes:
      name: of the gradient function, and the type that the IdentityN names.
      order: how many derivatives were taken where the call stands, this one included.
      call: the call itself.
      known: values of small constants among the operands, by position.
      moving: positions of the operands that have a gradient.
      fixed: positions of the others that the gradient may need.
      wrapped: positions of the results that have a gradient.
      specs: of the IdentityN's inputs: the wrapped results, the moving and the fixed operands.
    """

    name: str
    order: int
    call: JaxCall
    known: Mapping[int, np.ndarray[Any, Any]]
    moving: tuple[int, ...]
    fixed: tuple[int, ...]
    wrapped: tuple[int, ...]
    specs: tuple[TensorSpec, ...]


def attach_gradient(
    g: GraphBuilder,
    call: JaxCall,
    operands: Sequence[Any],
    results: Sequence[Any],
    *,
    constant: Container[int] = (),
) -> list[Any]:
    """Returns the results of a call, from a node that names the call's gradient.

    Args:
      g: builder of the graph.
      call: the call.
      operands: symbols of the call's operands.
      results: symbols of its results; anything for those that aren't read.
      constant: positions of operands that have no gradient, whatever their dtype.
    """
    library = g.lowerer.library
    calls = library.custom_gradient_calls
    if calls is None or not all(isinstance(operand, Symbol) for operand in operands):
        return list(results)
    known = {
        i: x.constant
        for i, x in enumerate(operands)
        if x.constant is not None and x.constant.size <= _MAX_REPEATED_SIZE
    }
    moving = [
        i for i, x in enumerate(operands) if i not in known and i not in constant and _is_smooth(x)
    ]
    fixed = [i for i in range(len(operands)) if i not in known and i not in moving]
    wrapped = [
        i
        for i, (x, read) in enumerate(zip(results, g.is_read, strict=True))
        if read and _is_smooth(x)
    ]
    if not moving or not wrapped:
        return list(results)
    if library.gradient_order > MAX_ORDER:
        return _without_gradient(g, results, wrapped)
    inputs = [*(results[i] for i in wrapped), *(operands[i] for i in (*moving, *fixed))]
    name = library.unique_name(f"__inference_{call.name}_gradient")
    outputs = g.op("IdentityN", inputs, shapes=[x.shape for x in inputs], _gradient_op_type=name)
    calls.append(
        CustomGradientCall(
            name,
            library.gradient_order,
            call,
            known,
            tuple(moving),
            tuple(fixed),
            tuple(wrapped),
            tuple(TensorSpec(known_shape(x.shape), x.dtype) for x in inputs),
        )
    )
    found = list(results)
    for i, output in zip(wrapped, outputs, strict=False):
        found[i] = output
    return found


def _without_gradient(g: GraphBuilder, results: Sequence[Any], wrapped: Sequence[int]) -> list[Any]:
    """Returns the results of a call, so that TensorFlow refuses to differentiate them."""
    found = list(results)
    for i in wrapped:
        found[i] = g.op("PreventGradient", results[i], shape=results[i].shape, message=_REFUSAL)
    return found


def _is_smooth(symbol: Symbol) -> bool:
    return symbol.dtype.is_floating or symbol.dtype.is_complex
