"""XlaCallModule nodes: functions, or single equations, as compiled StableHLO modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.extend.core

from savax.errors import UnsupportedError
from savax.function._jax_names import bind_params
from savax.function.lowering._custom_gradient_calls import JaxCall, attach_gradient
from savax.function.lowering._graph_nodes import Symbol, known_shape
from savax.function.stablehlo._compilation import compile_function, is_64_bit, uses_64_bits
from savax.types import TensorShape

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder
    from savax.function.stablehlo._options import StableHLO


def call_jaxpr(
    g: GraphBuilder,
    jaxpr: Any,
    operands: Sequence[Any],
    name: str,
    options: StableHLO,
    constant: Container[int] = (),
) -> list[Symbol]:
    """Returns the results of a closed jaxpr, computed by one module.

    Args:
      g: the builder of the graph; ``g.out`` are the types of the results.
      jaxpr: the ClosedJaxpr.
      operands: symbols of its inputs.
      name: what it is called.
      options: how the module is written.
      constant: positions of operands that have no gradient.

    Raises:
      UnsupportedError: it has no module that TensorFlow could run.
    """
    run = jax.extend.core.jaxpr_as_fun(jaxpr)
    types = (jaxpr.in_avals, jaxpr.out_avals)
    wide = uses_64_bits(jaxpr)
    return _call(g, run, types, operands, name, options, wide=wide, constant=constant)


def call_equation(
    g: GraphBuilder, equation: Any, operands: Sequence[Any], options: StableHLO
) -> list[Symbol]:
    """Returns the results of one equation, computed by a module of its own."""
    primitive, params = equation.primitive, equation.params

    def run(*args: Any) -> list[Any]:
        results = bind_params(primitive, params, *args)
        return list(results) if primitive.multiple_results else [results]

    types = [atom.aval for atom in equation.invars], [var.aval for var in equation.outvars]
    wide = any(map(is_64_bit, [*types[0], *types[1]]))
    return _call(g, run, types, operands, primitive.name, options, wide=wide)


def _call(
    g: GraphBuilder,
    function: Callable[..., Any],
    types: tuple[Sequence[Any], Sequence[Any]],
    operands: Sequence[Any],
    name: str,
    options: StableHLO,
    *,
    wide: bool,
    constant: Container[int] = (),
) -> list[Symbol]:
    for operand in operands:
        if not isinstance(operand, Symbol) or operand.dtype.name in ("string", "resource"):
            raise UnsupportedError(
                f"{name} handles strings, tables or references, which StableHLO doesn't have."
            )
    module = compile_function(function, types[0], name, options, wide=wide)
    results = g.op(
        "XlaCallModule",
        [operands[position] for position in module.kept],
        shapes=[shape for shape, _ in g.out],
        name=name,
        version=module.version,
        module=module.artifact,
        Tout=[dtype for _, dtype in g.out],
        Sout=[TensorShape(known_shape(shape)) for shape, _ in g.out],
        platforms=[platform.upper() for platform in options.platforms],
    )
    if not options.gradients:
        return list(results)
    call = JaxCall("module", function, *types, module=options, wide=wide)
    return attach_gradient(g, call, operands, results, constant=constant)
