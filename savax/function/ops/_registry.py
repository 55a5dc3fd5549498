"""The op table: which rule lowers a JAX primitive, and which evaluates a TensorFlow op.

A family file fills it when it is imported: first its ``PAIRS``, then the irregular lowerings, then
the irregular evaluations. Whatever can be wrong with a registration is found by
``check_registrations``, which the tests call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from savax.errors import InvalidArgumentError
from savax.function._op_schemas import OpSchema, op_schema

Rule = Callable[..., Any]
_R = TypeVar("_R", bound=Rule)

# Attributes that concern placement, tuning or names, never values.
IGNORABLE_ATTRS = frozenset(
    {
        "allowed_devices",
        "config",
        "config_proto",
        "container",
        "cudnn_frontend",
        "debug_name",
        "executor_type",
        "parallel_iterations",
        "shared_name",
        "use_cudnn_on_gpu",
        "validate_indices",
    }
)


class Pair(NamedTuple):
    """A primitive and an op that mean the same for every dtype that both accept.

    Attributes:
      primitive: name of the JAX primitive.
      op: the TensorFlow op that is written for it.
      fn: the JAX form, run when the op is met in a graph.
      np: the numpy form for values that are known while walking a graph, or None.
      also: other spellings of the op that graphs may hold.
    """

    primitive: str
    op: str
    fn: Callable[..., Any]
    np: Callable[..., Any] | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lowering:
    """How a JAX primitive is written as TensorFlow ops.

    Attributes:
      primitive: the primitive's name.
      rule: ``rule(g, *operands, **params)``; operands are symbols of the graph builder ``g``, the
        result is one symbol, or a tuple when the primitive has several results.
      params: names of the primitive's parameters that the rule takes.
    """

    primitive: str
    rule: Rule
    params: frozenset[str]


@dataclass(frozen=True)
class Evaluation:
    """How a TensorFlow op is computed on JAX.

    Attributes:
      op: the op's name.
      rule: ``rule(*inputs, **attrs)``; a list argument comes as one tuple; the result is one
        value, or a tuple in schema order when the op has several outputs.
      static: names of the inputs whose values must be known while walking the graph.
      with_context: whether the rule takes the evaluation context as its first argument.
      attrs: names of the attributes that the rule takes.
      ignores: names of the attributes that it leaves out.
      on_host: whether it runs on numpy arrays and objects of the host, never in compiled code.
      needs_64_bit: whether it computes with 64-bit types whatever its operands are.
      draws: whether it takes random numbers from a state of its node.
      is_custom: whether a user registered it.
    """

    op: str
    rule: Rule
    static: frozenset[str] = frozenset()
    with_context: bool = False
    attrs: frozenset[str] = frozenset()
    ignores: frozenset[str] = field(default_factory=frozenset)
    on_host: bool = False
    needs_64_bit: bool = False
    draws: bool = False
    is_custom: bool = False


@dataclass(frozen=True)
class Replacement:
    """How an op is written by others, for consumers that don't run it.

    Attributes:
      op: the op's name.
      rule: ``rule(g, *inputs, **attrs)``; inputs are the node's symbols, list inputs one after the
        other; the result is one symbol, a tuple when the op has several outputs, or None where
        there is no other form.
      attrs: names of the attributes that the rule takes; ``shape`` is that of the only output.
    """

    op: str
    rule: Rule
    attrs: frozenset[str]


LOWERINGS: dict[str, Lowering] = {}
REPLACEMENTS: dict[str, Replacement] = {}
EVALUATIONS: dict[str, Evaluation] = {}
FOLDS: dict[str, Rule] = {}


def lowers(*primitives: str) -> Callable[[_R], _R]:
    """Registers the decorated rule as the lowering of JAX primitives."""

    def register(rule: _R) -> _R:
        for primitive in primitives:
            _add(
                LOWERINGS,
                primitive,
                Lowering(primitive, rule, rule_keywords(rule)),
                "JAX primitive",
            )
        return rule

    return register


def evaluates(
    *ops: str,
    static: Iterable[str] = (),
    with_context: bool = False,
    ignores: Iterable[str] = (),
    on_host: bool = False,
    needs_64_bit: bool = False,
    draws: bool = False,
) -> Callable[[_R], _R]:
    """Registers the decorated rule as the evaluation of TensorFlow ops.

    Args:
      ops: the ops' names.
      static: inputs that must be numpy values, known while walking the graph.
      with_context: the rule takes the evaluation context as its first argument.
      ignores: attributes that don't change the op's value on JAX, beside ``IGNORABLE_ATTRS``.
      on_host: the rule takes numpy arrays and objects of the host, and what it does or returns may
        differ from one call to the next. Rules of ops with strings run so without saying it.
      needs_64_bit: the rule computes with 64-bit types, even if its operands have none.
      draws: the rule takes random numbers from a state that each node has and moves ahead.
    """

    def register(rule: _R) -> _R:
        for op in ops:
            row = Evaluation(
                op,
                rule,
                frozenset(static),
                with_context,
                rule_keywords(rule),
                frozenset(ignores),
                on_host,
                needs_64_bit,
                draws,
            )
            _add(EVALUATIONS, op, row, "TensorFlow op")
        return rule

    return register


def replaces(*ops: str) -> Callable[[_R], _R]:
    """Registers the decorated rule as the form of TensorFlow ops for consumers without them."""

    def register(rule: _R) -> _R:
        for op in ops:
            _add(REPLACEMENTS, op, Replacement(op, rule, rule_keywords(rule)), "replacement of")
        return rule

    return register


def folds(*ops: str) -> Callable[[_R], _R]:
    """Registers the decorated rule as the numpy form of TensorFlow ops.

    It has the signature of the op's evaluation, takes and returns numpy values, and must agree
    with it exactly: integer, boolean and shape arithmetic.
    """

    def register(rule: _R) -> _R:
        for op in ops:
            _add(FOLDS, op, rule, "numpy form of")
        return rule

    return register


def register_pairs(pairs: Iterable[Pair]) -> None:
    """Registers the regular ops of a family, both directions from one row."""
    for pair in pairs:
        _add(
            LOWERINGS,
            pair.primitive,
            Lowering(pair.primitive, _PairRule(pair.op), frozenset()),
            "JAX primitive",
        )
        for op in (pair.op, *pair.also):
            if op in EVALUATIONS and EVALUATIONS[op].rule is pair.fn:
                continue  # two primitives may be written as one op
            _add(EVALUATIONS, op, Evaluation(op, pair.fn), "TensorFlow op")
            if pair.np is not None:
                _add(FOLDS, op, pair.np, "numpy form of")


@dataclass(frozen=True)
class _PairRule:
    """Lowering of a pair: the operands become the inputs of one node."""

    op: str

    def __call__(self, g: Any, *operands: Any) -> Any:
        return g.op(self.op, *operands, shape=g.out[0].shape)


def rule_keywords(rule: Rule) -> frozenset[str]:
    """Returns the names of the attributes or parameters that a rule takes.

    Raises:
      InvalidArgumentError: it takes any.
    """
    parameters = inspect.signature(rule).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise InvalidArgumentError(f"{_place(rule)}: a rule names its parameters, no **kwargs.")
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _add(table: dict[str, Any], name: str, row: Any, kind: str) -> None:
    if name in table:
        first, second = (_place(getattr(r, "rule", r)) for r in (table[name], row))
        raise InvalidArgumentError(f"{kind} {name!r} has two rules: {first} and {second}.")
    table[name] = row


def _place(rule: Any) -> str:
    code = getattr(rule, "__code__", None)
    module = getattr(rule, "__module__", type(rule).__module__)
    return f"{module}:{code.co_firstlineno}" if code is not None else f"{module} ({rule!r})"


def passed_attrs(schema: OpSchema) -> frozenset[str]:
    """Returns the attributes of an op that its inputs don't determine."""
    determined = {
        attr
        for arg in schema.inputs
        for attr in (arg.type_attr, arg.number_attr, arg.type_list_attr)
        if attr
    }
    return frozenset(schema.attrs) - determined


def check_registrations(evaluations: Mapping[str, Evaluation] = EVALUATIONS) -> list[str]:
    """Returns what is wrong with the table: unknown ops, attributes and static inputs."""
    problems = []
    for name, row in sorted(evaluations.items()):
        schema = op_schema(name)
        wanted = passed_attrs(schema)
        missing = wanted - row.attrs - row.ignores - IGNORABLE_ATTRS
        if missing and not isinstance(row.rule, _PairRule):
            problems.append(f"{name}: {_place(row.rule)} ignores {sorted(missing)}.")
        if invented := row.attrs - frozenset(schema.attrs):
            problems.append(f"{name}: {_place(row.rule)} takes {sorted(invented)}, not in the op.")
        inputs = {arg.name for arg in schema.inputs}
        if unknown := row.static - inputs:
            problems.append(f"{name}: static {sorted(unknown)} are not among {sorted(inputs)}.")
    return problems
