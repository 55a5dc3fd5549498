"""The walk over the equations of a jaxpr, each lowered by the rule of its primitive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.sharding import NamedSharding

from savax.errors import InvalidArgumentError, SavaxError, UnsupportedError, UnsupportedParamError
from savax.function._dims import are_equal_dims, deciding_constraints
from savax.function._jax_names import InconclusiveDimensionOperation
from savax.function._source_lines import user_frame
from savax.function.lowering._folding import fold
from savax.function.lowering._function_bodies import FunctionBody, Operands, RefCell, like, named
from savax.function.lowering._graph_builder import GraphBuilder, ResultType
from savax.function.lowering._graph_nodes import Symbol, known_shape, same_shape
from savax.function.lowering._graph_writer import legal_node_name
from savax.function.lowering._module_calls import call_equation
from savax.function.lowering._narrow_types import narrowed, widened
from savax.function.lowering._primitive_scan import PrimitiveScan, live_equations, nearest_line
from savax.function.ops._params import IGNORABLE
from savax.function.ops._registry import LOWERINGS, Lowering
from savax.protos import FunctionRef
from savax.types import TensorShape, as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._function_library import FunctionLibrary
    from savax.function.stablehlo._options import StableHLO

# A jaxpr with fewer equations is repeated rather than called.
_MIN_SHARED_EQUATIONS = 20

# Words of a PRNG key, by the name of its implementation in the key's dtype.
_KEY_WORDS = {"key<fry>": 2, "key<rbg>": 4, "key<urbg>": 4}


class LoweringRuleError(SavaxError, AssertionError):
    """A lowering rule made something other than the equation's result: a bug in savax."""


def result_type(aval: Any) -> ResultType:
    """Returns shape and dtype of an abstract value; PRNG keys are their uint32 words.

    Raises:
      UnsupportedError: TensorFlow has no such dtype.
    """
    aval = getattr(aval, "inner_aval", aval)  # what a Ref holds
    dtype = aval.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        words = _KEY_WORDS.get(str(dtype))
        if words is None:
            raise UnsupportedError(f"Keys of the PRNG implementation {dtype} can't be saved.")
        return ResultType((*aval.shape, words), as_dtype("uint32"))
    if dtype == jax.dtypes.float0:
        return ResultType(tuple(aval.shape), as_dtype("bool"))
    return ResultType(tuple(aval.shape), as_dtype(dtype))


def host_array(value: Any) -> np.ndarray[Any, Any]:
    """Returns a jaxpr's constant as a numpy array; PRNG keys as their words."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)


class _SharedFunction(NamedTuple):
    """A function that several calls share.

    Attributes:
      name: its name in the library.
      sizes: names of the sizes that it takes first.
      jaxpr: what it was lowered from; kept alive, since its identity is a key.
    """

    name: str
    sizes: tuple[str, ...]
    jaxpr: Any


class JaxprLowering:
    """Walks the equations of one function.

    Attributes:
      library: where functions of loop bodies and calls go.
      name: the function's name, for error messages and names of inner functions.
      scan: what is known about all equations.
      fallback: how equations without a lowering become modules; None refuses them.
    """

    def __init__(
        self,
        library: FunctionLibrary,
        name: str,
        scan: PrimitiveScan,
        fallback: StableHLO | None = None,
    ) -> None:
        self.library = library
        self.name = name
        self.scan = scan
        self.fallback = fallback
        self._problems: list[str] = []
        self._around: list[Any] = []  # the equations that are being lowered, outermost first
        self._types: dict[int, tuple[Any, ResultType]] = {}

    def inline(
        self,
        builder: Any,
        jaxpr: Any,
        consts: Sequence[Any],
        operands: Sequence[Any],
        read: Sequence[bool] | None = None,
    ) -> list[Any]:
        """Lowers a jaxpr into the builder's graph; returns symbols (RefCells for Refs)."""
        g: GraphBuilder = builder
        if hasattr(jaxpr, "consts"):
            consts, jaxpr = jaxpr.consts, jaxpr.jaxpr
        env: dict[Any, Any] = dict(zip(jaxpr.invars, operands, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            env[var] = const if isinstance(const, Symbol | RefCell) else g.const(host_array(const))
        outer = g.out, g.is_read, g.scope
        outer_scope = g.scope
        for equation, g.is_read in live_equations(jaxpr, read):
            stack = str(equation.source_info.name_stack)
            g.scope = _joined_scope(outer_scope, stack) if stack else outer_scope
            self._lower_equation(g, equation, env)
        g.out, g.is_read, g.scope = outer
        if read is None:
            return [self._read(g, env, atom) for atom in jaxpr.outvars]
        return [
            self._read(g, env, atom) if is_read else None
            for atom, is_read in zip(jaxpr.outvars, read, strict=True)
        ]

    def call(self, builder: Any, jaxpr: Any, operands: Sequence[Any], name: str) -> list[Any]:
        """Lowers a call of a closed jaxpr: in place, or as a function if there are more calls."""
        g: GraphBuilder = builder
        values = Operands(operands)
        if (
            self.scan.calls[id(jaxpr)] < 2
            or self.scan.sizes[id(jaxpr.jaxpr)] < _MIN_SHARED_EQUATIONS
            or values.cells
        ):
            return self.inline(g, jaxpr, (), operands, g.is_read)
        key = ("call", id(jaxpr), g.in_loop, values.key(), self.library.portable_forms)
        shared: _SharedFunction | None = self.library.shared.get(key)
        if shared is None:
            shared = self.library.shared[key] = self._shared_function(g, jaxpr, values, name)
        results = g.op(
            "PartitionedCall",
            [*map(g.size, shared.sizes), *values.passed],
            shapes=[shape for shape, _ in g.out],
            name=name,
            Tout=[dtype for _, dtype in g.out],
            f=FunctionRef(shared.name),
            _output_shapes=[TensorShape(known_shape(shape)) for shape, _ in g.out],
        )
        return list(results)

    def _shared_function(
        self, g: GraphBuilder, jaxpr: Any, values: Operands, name: str
    ) -> _SharedFunction:
        body = FunctionBody(g)
        passed = [like(symbol) for symbol in values.passed]
        results = body.g.inline(jaxpr, (), values.inside(body.g, passed, ()))
        sizes = tuple(sorted(body.size_names()))
        arguments = [*body.size_arguments(sizes), *named("operand", passed)]
        return _SharedFunction(body.finish(name, arguments, results), sizes, jaxpr)

    def _read(self, g: GraphBuilder, env: dict[Any, Any], atom: Any) -> Any:
        if isinstance(atom, Literal):
            return g.const(host_array(atom.val), self._type(atom.aval).dtype)
        return env[atom]

    def _type(self, aval: Any) -> ResultType:
        """Returns the type of an aval; avals are shared by many variables."""
        found = self._types.get(id(aval))
        if found is None:
            found = self._types[id(aval)] = (aval, result_type(aval))
        return found[1]

    def _lower_equation(self, g: GraphBuilder, equation: Any, env: dict[Any, Any]) -> None:
        name = equation.primitive.name
        operands = [self._read(g, env, atom) for atom in equation.invars]
        self._around.append(equation)
        outer_source, g.graph.source = g.graph.source, tuple(self._around)
        try:
            expected = g.out = tuple([self._type(var.aval) for var in equation.outvars])
            wide = widened(g, name, operands)
            folded = fold(g, name, operands, equation.params) if wide is None else None
            if folded is not None:
                results: tuple[Any, ...] = (folded,)
            else:
                results = self._results(g, equation, wide or operands)
            if wide is not None:
                results = tuple(narrowed(g, results, expected))
            self._check(equation, expected, results)
        except UnsupportedError as error:
            self._problems.append(f"{name}, {nearest_line(reversed(self._around))}: {error}")
            results = tuple(Symbol(type_.dtype, type_.shape) for type_ in g.out)
        except InconclusiveDimensionOperation as error:
            line = nearest_line(reversed(self._around))
            self._problems.append(f"{name}, {line}: {_undecided(error)}")
            results = tuple(Symbol(type_.dtype, type_.shape) for type_ in g.out)
        except (InvalidArgumentError, KeyError, IndexError, AttributeError, TypeError) as error:
            error.add_note(
                f"While lowering {name}, written at {nearest_line(reversed(self._around))}."
            )
            raise
        finally:
            self._around.pop()
            g.graph.source = outer_source
        for var, result in zip(equation.outvars, results, strict=True):
            env[var] = result

    def _results(self, g: GraphBuilder, equation: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the results of an equation by its rule, or by a module if that is allowed."""
        row = LOWERINGS.get(equation.primitive.name)
        try:
            if row is not None:
                return _as_tuple(row.rule(g, *operands, **_passed_params(row, equation)))
        except UnsupportedError:
            if self.fallback is None:
                raise
        assert self.fallback is not None  # else the scan has refused the primitive
        return tuple(call_equation(g, equation, operands, self.fallback))

    def _check(self, equation: Any, expected: Sequence[ResultType], results: Sequence[Any]) -> None:
        name = equation.primitive.name
        if len(results) != len(expected):
            raise LoweringRuleError(
                f"The lowering of {name} gave {len(results)} results, not {len(expected)}."
            )
        for result, (shape, dtype) in zip(results, expected, strict=True):
            if isinstance(result, RefCell) or result is None:
                continue  # a Ref, or a result that nobody reads
            if isinstance(result, Symbol) and result.dtype.name == "resource":
                continue  # a table, for which a string stands in the jaxpr
            if not isinstance(result, Symbol):
                raise LoweringRuleError(f"The lowering of {name} gave {result!r}, no symbol.")
            if result.dtype is not dtype or not _takes_shape(result, shape):
                raise LoweringRuleError(
                    f"The lowering of {name} gave {result.dtype.name}{list(result.shape)}, "
                    f"its result is {dtype.name}{list(shape)} ({user_frame(equation)})."
                )

    def raise_problems(self) -> None:
        """Reports all equations that their rules refused.

        Raises:
          UnsupportedParamError: there are some.
        """
        if self._problems:
            unique = list(dict.fromkeys(self._problems))
            lines = "".join(f"\n  {problem}" for problem in unique)
            count = "1 operation" if len(unique) == 1 else f"{len(unique)} operations"
            verb = "has" if len(unique) == 1 else "have"
            raise UnsupportedParamError(
                f"{count} of the function {self.name!r} {verb} no form in TensorFlow:{lines}"
            )


def _takes_shape(result: Symbol, shape: Sequence[Any]) -> bool:
    """Whether a result has a shape; dims that only look different become those of the shape."""
    if same_shape(result.shape, shape):
        return True
    if len(result.shape) != len(shape) or not all(map(are_equal_dims, result.shape, shape)):
        return False
    result.shape = tuple(shape)
    return True


def _undecided(error: Exception) -> str:
    """Returns what to do where the form of an operation depends on the sizes."""
    reason = str(error).splitlines()[0].rstrip(".")
    constraints = " or ".join(f'"{c}"' for c in deciding_constraints(reason))
    what = f"say {constraints} in the function's constraints, or " if constraints else ""
    return f"its form depends on unknown sizes ({reason}); {what}give the sizes"


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _joined_scope(outer: str, stack: str) -> str:
    inner = legal_node_name(stack)
    return f"{outer}/{inner}" if outer else inner


def _passed_params(row: Lowering, equation: Any) -> dict[str, Any]:
    """Returns the parameters that a rule takes.

    Raises:
      UnsupportedParamError: a parameter is left that means something.
    """
    passed: dict[str, Any] = {}
    if "operand_types" in row.params:  # what a symbol doesn't say, as the kind of a PRNG key
        passed["operand_types"] = [atom.aval for atom in equation.invars]
    for key, value in equation.params.items():
        if key in row.params:
            passed[key] = value
        elif not _may_be_dropped(key, value):
            raise UnsupportedParamError(f"the parameter {key}={value!r} has no form in TensorFlow.")
    return passed


def _may_be_dropped(key: str, value: Any) -> bool:
    """Whether a parameter that a rule doesn't take means nothing at this value."""
    if key not in IGNORABLE:
        return False
    if isinstance(value, NamedSharding) and value.mesh.empty:
        return True  # JAX writes no sharding in this way too
    return any(value is allowed or value == allowed for allowed in IGNORABLE[key])
