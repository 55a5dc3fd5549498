"""What is said of a trace that fails because sizes are unknown, and what the user can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import InconclusiveDimensionError, SavaxError, TracingError
from savax.function._dims import deciding_constraints
from savax.function._jax_names import InconclusiveDimensionOperation
from savax.function._source_lines import error_frame

if TYPE_CHECKING:
    from savax.function.tracing._dimensions import DimensionTable

_EQUAL_OR_KNOWN = (
    'Give dims that are equal one name, as in TensorSpec(["batch", None]); write what is known of '
    'a size, as in "2*n"; or give the size itself.'
)
_NUMBER_NEEDED = (
    "JAX's own function needs the number there: give the dim a size, or use another function, such "
    "as jax.lax.fori_loop or jax.lax.scan."
)
# What JAX says where it needs a size, and what can be done; the first that fits is told.
_ADVICE = (
    (
        "should be 0",
        'Write the dim as a multiple, as in TensorSpec(["8*n", 4]), or give the dim a size.',
    ),
    (
        "rest is mod",
        'Write the dim as a multiple, as in TensorSpec(["2*n", 4]), or give the dim a size.',
    ),
    (
        "are valid indices",
        "Make an array of the index, as in x[jnp.asarray(x.shape[0] // 2)].",
    ),
    (
        "cannot be interpreted as an integer",
        "Use jax.lax.fori_loop, jax.lax.scan or jnp.arange in place of range(), or give the dim a "
        "size.",
    ),
    ("requires a constant", _NUMBER_NEEDED),
    ("non-constant size", _NUMBER_NEEDED),
    ("dim_as_value", _NUMBER_NEEDED),
    (
        "axis=None",
        "Name the axes, as in jnp.squeeze(x, axis=1), or give the dim a size.",
    ),
)

# What JAX says where a function can't have unknown dims, without naming one.
_POLYMORPHISM = ("shape polymorphism", "dim_as_value")


def dims_error(error: Exception, table: DimensionTable, signature: str) -> Exception:
    """Returns the error to raise for a trace that failed with unknown dims.

    Args:
      error: what the first trace raised.
      table: the dims.
      signature: the arguments and their dims, as they were tried.

    Returns:
      The same error if it has nothing to do with unknown dims, else one that says what to do.
    """
    text = str(error)
    where = error_frame(error)
    end = f"{_shortened(text)}\nThe signature is {signature}. {_advice(text)}"
    if isinstance(error, InconclusiveDimensionOperation):
        return InconclusiveDimensionError(
            f"At {where}, what happens depends on the sizes of unknown dims:\n{end}"
        )
    if "DimExpr" in text:
        return TracingError(
            f"At {where}, the size of an unknown dim is used as a Python number:\n{end}"
        )
    of_jax = not isinstance(error, SavaxError)
    if of_jax and (table.mentions(text) or any(sign in text for sign in _POLYMORPHISM)):
        return TracingError(
            f"At {where}, the function doesn't work with the unknown dims of its signature:\n{end}"
        )
    return error


def _advice(text: str) -> str:
    constraints = deciding_constraints(text)
    if constraints:
        either = " or ".join(f'constraints=("{constraint}",)' for constraint in constraints)
        return (
            f"Say which holds, as in savax.function(..., {either}), where the TensorSpec gives "
            "the dim that name; or give the dim a size."
        )
    return next((advice for sign, advice in _ADVICE if sign in text), _EQUAL_OR_KNOWN)


def _shortened(text: str) -> str:
    """Returns the lines of an error up to where JAX explains what symbolic dims are."""
    lines = []
    for line in text.splitlines():
        if line.startswith("This error arises"):
            break
        if line.strip():
            lines.append("  " + line)
    return "\n".join(lines)
