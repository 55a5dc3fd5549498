"""Large batches of images in pieces, on CPUs.

The intermediate results of a convolutional net take many times the memory of its images. XLA asks
the system for that memory at each call, and the system clears it page by page; it is far from the
processor, too. With a few images at a time it is small enough to stay in the process and in the
caches, so that the steps in which images don't meet run in a loop over pieces of the batch.

The pieces take the values and constants that the whole batch has: a division by the number of
examples stays one. The last piece starts earlier where the batch is no multiple; what it computes
a second time is the same.
"""

from __future__ import annotations

import math
import os
from collections import ChainMap
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.evaluation._example_axes import follow, is_cheap, num_positions
from savax.function.evaluation._flat_programs import FlatProgram, Known
from savax.function.evaluation._matrix_steps import as_array, run_step
from savax.function.ops._cpu_windows import on_cpus
from savax.function.ops._sizes import all_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from savax.function.evaluation._example_axes import Followed
    from savax.function.evaluation._flat_programs import Ref, Step

# How large the largest result of a whole batch may be, and that of a piece. Several such results
# stay below the 32 MiB up to which the C library keeps memory that was freed.
_MAX_BYTES = 10 << 20
_PIECE_BYTES = 4 << 20
# From how many positions of an image products with weights need no other images to be fast. Those
# with fewer come in larger pieces, as long as there is more than one.
_MANY_POSITIONS = 128
# Smaller values that depend on no example are computed for each piece, as part of what takes them;
# each would be a program of its own otherwise.
_MAX_REPEATED = 1 << 14


def compute_batch(
    compute: Callable[[Sequence[Any], Sequence[Any]], Any],
    arguments: Sequence[Any],
    fixed: Sequence[Any],
) -> Any:
    """Returns ``compute(arguments, fixed)``, inside a trace; in pieces where that is faster.

    Args:
      compute: a function of two lists of arrays or of trees of them.
      arguments: what may have examples along its first axis.
      fixed: what has none: weights.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(arguments)]
    batch = _batch_size(shapes)
    if batch < 2 or jax.default_backend() != "cpu" or len(jax.local_devices()) > 1:
        return compute(arguments, fixed)
    closed, results = jax.make_jaxpr(compute, return_shape=True)(arguments, fixed)
    plain = jax.extend.core.jaxpr_as_fun(closed)
    inputs = [i for i, shape in enumerate(shapes) if shape[:1] == (batch,)]
    division = None if closed.effects else _Division(FlatProgram(closed), inputs, batch)
    operands = jax.tree.leaves((arguments, fixed))
    if division and division.is_useful:
        leaves = on_cpus(_Pieces(division), plain, *operands)
    else:
        leaves = plain(*operands)
    return jax.tree.unflatten(jax.tree.structure(results), leaves)


def _batch_size(shapes: Sequence[Sequence[Any]]) -> int:
    """Returns the first size of the largest argument; 0 if there is none or sizes are unknown."""
    if not all(all_known(shape) for shape in shapes):
        return 0
    largest = max(shapes, key=math.prod, default=())
    return largest[0] if largest else 0


class _Section(NamedTuple):
    """Steps of a program in which examples don't meet.

    Attributes:
      steps: and what is known of them, in running order.
      size: how many examples a piece has; None if the steps run for the whole batch.
    """

    steps: list[tuple[Step, Followed]]
    size: int | None

    @property
    def made(self) -> list[int]:
        """What the steps compute."""
        return [i for step, _ in self.steps for i in step.outputs]

    @property
    def used(self) -> set[Ref]:
        """What the steps take."""
        return {ref for step, _ in self.steps for ref in step.inputs}


class _Division:
    """The steps of a program: those without examples, those in which examples don't meet, others.

    Args:
      program: the whole.
      inputs: which of its inputs have examples along their first axis.
      batch: how many examples.

    Attributes:
      program: the whole.
      batch: how many examples.
      axes: along which axis the examples lie, by value.
      before: steps that depend on no example.
      repeated: those of them that each piece has again.
      sections: steps in which examples don't meet, in running order.
      behind: all others.
    """

    def __init__(self, program: FlatProgram, inputs: Sequence[int], batch: int) -> None:
        self.program = program
        self.batch = batch
        self.axes: dict[Ref, int] = dict.fromkeys(inputs, 0)
        self.before: list[Step] = []
        self.behind: list[Step] = []
        found: list[tuple[Step, Followed]] = []
        late: set[Ref] = set()
        for step in program.steps:
            is_late = not late.isdisjoint(step.inputs)
            if not is_late and not any(ref in self.axes for ref in step.inputs):
                self.before.append(step)
                continue
            known = None if is_late else follow(program, step, self.axes, batch)
            if known is None:
                self.behind.append(step)
                late.update(step.outputs)
            else:
                found.append((step, known))
                self.axes.update(zip(step.outputs, known.outputs, strict=True))
        self.repeated = [step for step in self.before if is_cheap(step) and self._is_small(step)]
        self.sections = self._sections(found)

    @property
    def is_useful(self) -> bool:
        """Whether any steps run in pieces."""
        return any(section.size is not None for section in self.sections)

    def _is_small(self, step: Step) -> bool:
        return all(self.program.avals[i].size <= _MAX_REPEATED for i in step.outputs)

    def _sections(self, found: Sequence[tuple[Step, Followed]]) -> list[_Section]:
        """Divides steps by how many positions of an image their products have."""
        sections: list[_Section] = []
        rest = list(found)
        for least in (_MANY_POSITIONS, 1):
            taken, rest = self._split(rest, least * self.batch)
            made = [self.program.avals[i] for step, _ in taken for i in step.outputs]
            sections.append(_Section(taken, self._piece_size(made)))
        return [*sections, _Section(rest, None)]

    def _split(
        self, found: Sequence[tuple[Step, Followed]], least: int
    ) -> tuple[list[tuple[Step, Followed]], list[tuple[Step, Followed]]]:
        """Returns the steps up to the last product of so many positions, and those behind it.

        What makes smaller values from those of the former is one of them.
        """
        positions = [num_positions(self.program, step) for step, _ in found]
        products = [i for i, count in enumerate(positions) if count]
        end = 0
        for i, following in zip(products, [*products, len(found)][1:], strict=True):
            if positions[i] > least:
                end = following
        taken, rest = list(found[:end]), []
        made: set[Ref] = {i for step, _ in taken for i in step.outputs}
        for i in range(end, len(found)):
            step, _ = found[i]
            if not positions[i] and self._shrinks(step, made):
                taken.append(found[i])
                made.update(step.outputs)
            else:
                rest.append(found[i])
        return taken, rest

    def _shrinks(self, step: Step, made: set[Ref]) -> bool:
        """Whether a step makes a smaller value of some of the given."""
        values = [ref for ref in step.inputs if ref in self.axes]
        if not made.issuperset(values):
            return False
        given = sum(_num_bytes(self.program.aval(ref)) for ref in values)
        return sum(_num_bytes(self.program.avals[i]) for i in step.outputs) < given

    def _piece_size(self, results: Sequence[Any]) -> int | None:
        """Returns how many examples a piece has; None if the whole is better."""
        whole = max(map(_num_bytes, results), default=0)
        # Each processor needs work.
        wanted = max(_PIECE_BYTES * self.batch // max(whole, 1), _num_processors())
        if whole <= _MAX_BYTES or wanted >= self.batch:
            return None
        # The largest one that computes the fewest examples twice.
        sizes = range(wanted, wanted // 2, -1)
        return min(sizes, key=lambda size: math.ceil(self.batch / size) * size)


class _Pieces:
    """A divided program as a function of all inputs.

    Args:
      division: its steps.
    """

    def __init__(self, division: _Division) -> None:
        self._division = division
        self._makers: dict[Ref, Step] = {i: step for step in division.before for i in step.outputs}

    def __call__(self, *inputs: Any) -> list[Any]:
        division = self._division
        values: dict[Ref, Any] = dict(enumerate(inputs))
        for step in division.before:
            _run_step(step, values)
        for i, section in enumerate(division.sections):
            if section.size is None:
                for step, _ in section.steps:
                    _run_step(step, values)
            else:
                wanted = {ref for later in division.sections[i + 1 :] for ref in later.used}
                wanted.update(ref for step in division.behind for ref in step.inputs)
                wanted.update(division.program.outputs)
                given = [made for made in section.made if made in wanted]
                values.update(self._run_pieces(section, section.size, given, values))
        for step in division.behind:
            _run_step(step, values)
        return _read(values, division.program.outputs)

    def _run_pieces(
        self, section: _Section, size: int, given: Sequence[int], values: dict[Ref, Any]
    ) -> dict[Ref, Any]:
        """Returns the given values of a section for the whole batch."""
        axes, batch, avals = self._division.axes, self._division.batch, self._division.program.avals
        taken = (section.used & axes.keys()).difference(section.made)

        def run_piece(i: Any, buffers: Sequence[Any]) -> list[Any]:
            piece = _Piece(jnp.minimum(i * size, batch - size), size, batch)
            found: dict[Ref, Any] = {ref: piece.cut(values[ref], axes[ref]) for ref in taken}
            both = ChainMap(found, values)
            for step in self._division.repeated:
                _run_step(step, both)
            for step, known in section.steps:
                operands = [
                    value if cut is None else self._part(piece, ref, cut, both)
                    for value, ref, cut in zip(
                        _read(both, step.inputs), step.inputs, known.cuts, strict=True
                    )
                ]
                results = run_step(step, operands, piece.resized(step.params, known.resized))
                found.update(zip(step.outputs, results, strict=True))
            return [
                piece.written(as_array(found[made]), buffer, axes[made])
                for made, buffer in zip(given, buffers, strict=True)
            ]

        empty = [jnp.empty(avals[made].shape, avals[made].dtype) for made in given]
        results = lax.fori_loop(0, math.ceil(batch / size), run_piece, empty)
        return dict(zip(given, results, strict=True))

    def _part(self, piece: _Piece, ref: Ref, axis: int, values: Mapping[Ref, Any]) -> Any:
        """Returns the part for a piece of a value that depends on no example."""
        maker = self._makers.get(ref)
        is_spread = maker is not None and maker.name == "broadcast_in_dim"
        if maker and is_spread and axis not in maker.params["broadcast_dimensions"]:
            params = piece.resized(maker.params, ("shape", axis))
            return maker.bind(_read(values, maker.inputs), params)[0]
        return piece.cut(_read(values, [ref])[0], axis)


class _Piece(NamedTuple):
    """Some examples of a batch.

    Attributes:
      start: the first of them, a traced number.
      size: how many they are.
      batch: how many the batch has.
    """

    start: Any
    size: int
    batch: int

    def cut(self, value: Any, axis: int) -> Any:
        """Returns the part of a value of the whole batch."""
        each = jnp.shape(value)[axis] // self.batch
        value = jnp.asarray(value)
        return lax.dynamic_slice_in_dim(value, self.start * each, self.size * each, axis)

    def written(self, value: Any, whole: Any, axis: int) -> Any:
        """Returns the value of the whole batch with this part replaced."""
        each = whole.shape[axis] // self.batch
        return lax.dynamic_update_slice_in_dim(whole, value, self.start * each, axis)

    def resized(self, params: dict[str, Any], resized: tuple[str, int] | None) -> dict[str, Any]:
        """Returns a step's parameters, with a shape as it is for the piece."""
        if resized is None:
            return params
        name, axis = resized
        shape = list(params[name])
        shape[axis] = shape[axis] // self.batch * self.size
        return {**params, name: tuple(shape)}


def _run_step(step: Step, values: MutableMapping[Ref, Any]) -> None:
    values.update(zip(step.outputs, step.bind(_read(values, step.inputs)), strict=True))


def _read(values: Mapping[Ref, Any], refs: Sequence[Ref]) -> list[Any]:
    return [ref.value if isinstance(ref, Known) else values[ref] for ref in refs]


def _num_bytes(aval: Any) -> int:
    return int(aval.size * aval.dtype.itemsize)


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
