"""Branches and loops: cond and switch, while, scan and fori.

They become StatelessIf and StatelessWhile. A Ref that a branch or loop body uses is one more value
that goes in and comes out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.lowering._function_bodies import FunctionBody, Operands, RefCell, like, named
from savax.function.lowering._graph_builder import GraphBuilder, Symbol, is_static, known_shape
from savax.function.lowering._narrow_types import wide_type
from savax.function.ops._loops import Loop, LoopPart
from savax.function.ops._registry import lowers
from savax.function.ops._scan_results import ScanResult, scan_result
from savax.protos import FunctionRef
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT32 = as_dtype("int32")

# A scan that is asked to unroll completely is written step by step up to this length.
_MAX_UNROLLED = 64


# Branches


@dataclass(frozen=True)
class _Branch:
    """A lowered branch.

    Attributes:
      body: its function.
      index: argument for the branch index; only choices among three and more take it.
      passed: arguments for the operands.
      contents: arguments for the contents of Refs.
      results: results that are read.
      written: contents of the Refs as the branch ends.
    """

    body: FunctionBody
    index: Symbol
    passed: list[Symbol]
    contents: list[Symbol]
    results: list[Symbol]
    written: list[Symbol]

    def finish(self, sizes: Sequence[str], changed: Sequence[int], *, indexed: bool) -> str:
        """Writes the function; returns its name."""
        arguments = [
            *([("index", self.index)] if indexed else []),
            *self.body.size_arguments(sizes),
            *named("operand", self.passed),
            *named("ref", self.contents),
        ]
        outputs = [*self.results, *(self.written[number] for number in changed)]
        return self.body.finish("cond_branch", arguments, outputs)


@lowers("cond")
def _cond(
    g: GraphBuilder, index: Symbol, *operands: Any, branches: Any, branches_platforms: Any = None
) -> list[Any]:
    read = g.is_read
    if index.constant is not None or len(branches) == 1:
        chosen = 0 if index.constant is None else int(index.constant)
        return g.inline(branches[min(max(chosen, 0), len(branches) - 1)], (), operands, read)
    values = Operands(operands)
    lowered = [_lower_branch(g, index, branch, values) for branch in branches]
    changed = [
        number
        for number in range(len(values.cells))
        if any(branch.written[number] is not branch.contents[number] for branch in lowered)
    ]
    kinds = [*lowered[0].results, *(lowered[0].written[number] for number in changed)]
    if not kinds:
        return _with_unread(g, [])
    sizes = sorted(set().union(*(branch.body.size_names() for branch in lowered)))
    indexed = len(branches) > 2
    functions = [branch.finish(sizes, changed, indexed=indexed) for branch in lowered]
    inputs = [*map(g.size, sizes), *values.passed, *(cell.value for cell in values.cells)]
    if indexed:
        results = _choose(g, 0, functions, [index, *inputs], kinds)
    else:
        results = _write_if(g, _as_predicate(g, index), functions[::-1], inputs, kinds)
    count = len(kinds) - len(changed)
    for number, content in zip(changed, results[count:], strict=True):
        values.cells[number].value = content
    return _with_unread(g, results[:count])


def _lower_branch(g: GraphBuilder, index: Symbol, branch: Any, values: Operands) -> _Branch:
    body = FunctionBody(g)
    passed = [like(symbol) for symbol in values.passed]
    contents = [like(cell.value) for cell in values.cells]
    cells = [RefCell(symbol) for symbol in contents]
    results = body.g.inline(branch, (), values.inside(body.g, passed, cells), g.is_read)
    kept = [result for result, read in zip(results, g.is_read, strict=True) if read]
    return _Branch(body, like(index), passed, contents, kept, [cell.value for cell in cells])


def _choose(
    g: GraphBuilder,
    first: int,
    functions: Sequence[str],
    inputs: Sequence[Symbol],
    kinds: Sequence[Symbol],
) -> list[Symbol]:
    """Writes the choice among functions for the indices ``first`` and up, by halves.

    TensorFlow's own op for it isn't understood by any converter.
    """
    middle = len(functions) // 2
    halves = [
        _half(g, first, functions[:middle], inputs, kinds),
        _half(g, first + middle, functions[middle:], inputs, kinds),
    ]
    is_low = g.op("Less", inputs[0], g.scalar(first + middle, inputs[0]), shape=())
    return _write_if(g, is_low, halves, inputs, kinds)


def _half(
    g: GraphBuilder,
    first: int,
    functions: Sequence[str],
    inputs: Sequence[Symbol],
    kinds: Sequence[Symbol],
) -> str:
    """Returns a function that chooses among functions; if there is one, itself."""
    if len(functions) == 1:
        return functions[0]
    body = FunctionBody(g)
    arguments = [like(symbol) for symbol in inputs]
    results = _choose(body.g, first, functions, arguments, kinds)
    names = [("index", arguments[0]), *named("operand", arguments[1:])]
    return body.finish("cond_branches", names, results)


def _write_if(
    g: GraphBuilder,
    predicate: Symbol,
    branches: Sequence[str],
    inputs: Sequence[Symbol],
    kinds: Sequence[Symbol],
) -> list[Symbol]:
    """Writes the choice between two functions, the one for true first."""
    results = g.op(
        "StatelessIf",
        predicate,
        list(inputs),
        shapes=[kind.shape for kind in kinds],
        name="cond",
        Tout=[kind.dtype for kind in kinds],
        then_branch=FunctionRef(branches[0]),
        else_branch=FunctionRef(branches[1]),
        output_shapes=[known_shape(kind.shape) for kind in kinds],
    )
    return list(results)


def _as_predicate(g: GraphBuilder, index: Symbol) -> Symbol:
    """Returns whether the second of two branches is chosen."""
    if index.dtype.is_bool:
        return index
    node = index.node
    if node is not None and node.op == "Cast" and node.inputs[0].dtype.is_bool:
        return node.inputs[0]
    result: Symbol = g.op("Greater", index, g.scalar(0, index), shape=())
    return result


def _with_unread(g: GraphBuilder, results: Sequence[Any]) -> list[Any]:
    """Returns one value per result of the equation, of which ``results`` are those read."""
    values = iter(results)
    return [
        next(values) if is_read else Symbol(type_.dtype, type_.shape)
        for type_, is_read in zip(g.out, g.is_read, strict=True)
    ]


# Loops


@lowers("while")
def _while(
    g: GraphBuilder,
    *operands: Any,
    cond_nconsts: int,
    cond_jaxpr: Any,
    body_nconsts: int,
    body_jaxpr: Any,
) -> list[Any]:
    split = cond_nconsts + body_nconsts
    values = Operands(operands[:split])
    loop = Loop(g, values, operands[split:], limit=None, name="while")
    condition = loop.part()
    (go_on,) = condition.body.g.inline(
        cond_jaxpr, (), [*condition.values(values)[:cond_nconsts], *condition.state]
    )
    step = loop.part()
    known = step.values(values)
    state = step.body.g.inline(body_jaxpr, (), [*known[cond_nconsts:], *step.state])
    if go_on.shape:  # a batch of loops: each keeps its state when it is done
        axes = condition.body.g.const(list(range(go_on.ndim)), _INT32)
        going = step.body.g.inline(cond_jaxpr, (), [*known[:cond_nconsts], *step.state])[0]
        go_on = condition.body.g.op("Any", go_on, axes, shape=())
        state = [
            _kept_where_done(step.body.g, going, new, old)
            for new, old in zip(state, step.state, strict=True)
        ]
    return loop.write(condition, go_on, step, state)


def _kept_where_done(g: GraphBuilder, going: Symbol, new: Symbol, old: Symbol) -> Symbol:
    """Returns the new state of those loops of a batch that go on, the old one of the others."""
    if new is old:
        return old
    going = g.reshape(going, (*going.shape, *[1] * (new.ndim - going.ndim)))
    result: Symbol = g.op("SelectV2", going, new, old, shape=new.shape)
    return result


@lowers("scan")
def _scan(
    g: GraphBuilder,
    *operands: Any,
    jaxpr: Any,
    length: Any,
    num_consts: int,
    num_carry: int,
    reverse: bool,
    unroll: int,
    linear: Any = None,
    _split_transpose: bool = False,
) -> list[Any]:
    scan = _Scan(
        jaxpr,
        length,
        reverse,
        operands[:num_consts],
        operands[num_consts : num_consts + num_carry],
        operands[num_consts + num_carry :],
    )
    if is_static(length) and (length <= 1 or (unroll >= length and length <= _MAX_UNROLLED)):
        return _unrolled(g, scan)
    if scan.reverse and _counts_wrongly(g):
        return _looped_on_flipped(g, scan)
    return _looped(g, scan)


@dataclass(frozen=True)
class _Scan:
    """Parameters and operands of a scan."""

    jaxpr: Any
    length: Any
    reverse: bool
    consts: Sequence[Any]
    carry: Sequence[Symbol]
    xs: Sequence[Symbol]


def _unrolled(g: GraphBuilder, scan: _Scan) -> list[Any]:
    """Writes the steps one after the other; with none, the stacked results are empty."""
    carry = list(scan.carry)
    count = len(carry)
    ys_read = g.is_read[count:]
    read = [True] * count + list(ys_read)
    order = range(int(scan.length))
    rows: dict[int, list[Any]] = {}
    for index in reversed(order) if scan.reverse else order:
        elements = [_row(g, x, g.const(index)) for x in scan.xs]
        results = g.inline(scan.jaxpr, (), [*scan.consts, *carry, *elements], read)
        carry, rows[index] = results[:count], results[count:]
    stacked = []
    for number, (type_, is_read) in enumerate(zip(g.out[count:], ys_read, strict=True)):
        if not is_read:
            stacked.append(Symbol(type_.dtype, type_.shape))
        elif not order:
            stacked.append(g.full(0, type_.shape, type_.dtype))
        else:
            parts = [rows[index][number] for index in order]
            stacked.append(g.op("Pack", parts, shape=type_.shape, axis=0))
    return [*carry, *stacked]


def _looped(g: GraphBuilder, scan: _Scan) -> list[Any]:
    count = len(scan.carry)
    ys_read = g.is_read[count:]
    kinds = [type_ for type_, read in zip(g.out[count:], ys_read, strict=True) if read]
    for dtype in [value.dtype for value in kinds] + [value.dtype for value in scan.xs]:
        if wide_type(dtype) is not dtype:
            g.unsupported(f"a scan over elements of type {dtype.name}; convert them first")
    stacks = [scan_result(g, type_, reverse=scan.reverse) for type_ in kinds]
    initial = [stack.initial(g) for stack in stacks]
    values = Operands([*scan.consts, *scan.xs])
    loop = Loop(g, values, [*scan.carry, *initial], limit=g.dim(scan.length), name="scan")

    step = loop.part()
    carry, filled, ys = _scan_step(step, scan, values, ys_read, stacks)
    items = []
    for type_, stack, y in zip(kinds, stacks, ys, strict=True):
        if stack.keeps_elements and _is_lost(y, carry):
            loop.add_state(step, g.full(0, type_.shape[1:], type_.dtype))
            items.append(y)

    condition = loop.part()
    limit = condition.body.g.const(scan.length) if is_static(scan.length) else condition.limit
    go_on = condition.body.g.op("Less", condition.counter, limit, shape=())
    results = loop.write(condition, go_on, step, [*carry, *filled, *items])
    states = results[count : count + len(kinds)]
    stacked = [stack.final(g, state) for stack, state in zip(stacks, states, strict=True)]
    return [*results[:count], *_with_unread_stacks(g, count, stacked)]


def _counts_wrongly(g: GraphBuilder) -> bool:
    """Whether a reader makes the counter of a loop int64, and so breaks arithmetic with it."""
    forms = g.lowerer.library.portable_forms
    return forms is not None and "onnx" in forms.consumers


def _looped_on_flipped(g: GraphBuilder, scan: _Scan) -> list[Any]:
    """Writes a scan from the end by one from the start."""
    xs = [_flipped(g, x) for x in scan.xs]
    results = _looped(g, dataclasses.replace(scan, reverse=False, xs=xs))
    count = len(scan.carry)
    for place in range(count, len(results)):
        if g.is_read[place]:
            results[place] = _flipped(g, results[place])
    return results


def _flipped(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("ReverseV2", x, np.array([0], np.int32), shape=x.shape)


def _is_lost(y: Symbol, carry: Sequence[Symbol]) -> bool:
    """Whether an element of a stacked result must be a result of the step on its own.

    TensorFlow.js frees what a function has computed and doesn't return, also if it has put it into
    a list; loops then fail, or give wrong numbers.
    """
    return y.node is not None and y.constant is None and not any(y is value for value in carry)


def _scan_step(
    step: LoopPart,
    scan: _Scan,
    values: Operands,
    ys_read: Sequence[bool],
    stacks: Sequence[ScanResult],
) -> tuple[list[Symbol], list[Symbol], list[Symbol]]:
    """Writes the step of a scan; returns carry and stacks after it, and their new elements."""
    g = step.body.g
    index = step.counter
    if scan.reverse:
        last = g.const(scan.length - 1) if is_static(scan.length) else g.op("Sub", step.limit, 1)
        index = g.op("Sub", last, index, shape=())
    known = step.values(values)
    consts, xs = known[: len(scan.consts)], known[len(scan.consts) :]
    elements = [_row(g, x, index) for x in xs]
    count = len(scan.carry)
    carry, states = step.state[:count], step.state[count:]
    read = [True] * count + list(ys_read)
    results = g.inline(scan.jaxpr, (), [*consts, *carry, *elements], read)
    ys = [y for y, is_read in zip(results[count:], ys_read, strict=True) if is_read]
    filled = [
        stack.following(g, state, index, y)
        for stack, state, y in zip(stacks, states, ys, strict=True)
    ]
    return results[:count], filled, ys


def _row(g: GraphBuilder, x: Symbol, index: Symbol) -> Symbol:
    """Returns ``x[index]``."""
    if index.constant is not None:
        first = int(index.constant)
        rest = x.shape[1:]
        part = g.slice(x, [first, *[0] * len(rest)], [first + 1, *rest])
        return g.squeeze(part, [0])
    result: Symbol = g.op("GatherV2", x, index, g.const(0), shape=x.shape[1:])
    return result


def _with_unread_stacks(g: GraphBuilder, count: int, stacks: Sequence[Symbol]) -> list[Symbol]:
    values = iter(stacks)
    return [
        next(values) if is_read else Symbol(type_.dtype, type_.shape)
        for type_, is_read in zip(g.out[count:], g.is_read[count:], strict=True)
    ]
