"""Functions with unknown dims, saved and loaded by TensorFlow: sizes that are known stay known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import savax as sx
from tests.lowering_check import assert_equal
from tests.symbolic_programs import algebra, control_flow, indexing, reductions, shapes
from tests.symbolic_programs.check import arguments, exported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.symbolic_programs.rows import Row

pytestmark = pytest.mark.tf
tf = pytest.importorskip("tensorflow")

# A fixed part of the rows, and those whose shapes take most to infer.
_ALL = {
    f"{module.__name__.rsplit('.', 1)[1]}_{name}": row
    for module in (algebra, control_flow, indexing, reductions, shapes)
    for name, row in module.ROWS.items()
}
_HARD = ("shapes_lax_split", "shapes_pad_to_a_dim", "control_flow_batch_inside_scan")
ROWS: dict[str, Row] = {
    name: row
    for number, (name, row) in enumerate(_ALL.items())
    if number % 16 == 0 or name in _HARD
}


def named(fn: Any) -> Any:
    """Returns a function with its results in a dict, as signatures have them."""

    def call(*xs: Any) -> dict[str, Any]:
        return {f"y{i}": y for i, y in enumerate(jax.tree.leaves(fn(*xs)))}

    return call


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = sx.Module()
    for name, row in ROWS.items():
        specs = [sx.TensorSpec(s.dims, s.dtype, f"x{i}") for i, s in enumerate(row.specs)]
        fn = sx.function(named(row.fn), input_signature=specs, constraints=row.constraints)
        setattr(model, name, fn)
    path: Path = tmp_path_factory.mktemp("models") / "model"
    sx.saved_model.save(model, path, signatures={name: getattr(model, name) for name in ROWS})
    return tf.saved_model.load(str(path))


@pytest.mark.parametrize("name", ROWS)
def test_tensorflow_knows_the_sizes_and_runs_each(name: str, loaded: Any) -> None:
    row = ROWS[name]
    signature = loaded.signatures[name]
    wanted = [
        [dim if isinstance(dim, int) else None for dim in aval.shape]
        for aval in exported(row).jaxpr.out_avals
    ]
    shapes = [signature.structured_outputs[f"y{i}"].shape.as_list() for i in range(len(wanted))]
    assert shapes == wanted
    sizes = row.sizes[-1]
    args = arguments(row, sizes)
    found = signature(**{f"x{i}": tf.constant(arg) for i, arg in enumerate(args)})
    expected = jax.tree.leaves(jax.jit(row.fn)(*args))
    called = getattr(loaded, name)(*args)
    for i, want in enumerate(expected):
        assert_equal(found[f"y{i}"].numpy(), np.asarray(want), row.rtol, row.atol, f"y{i}")
        assert_equal(called[f"y{i}"].numpy(), np.asarray(want), row.rtol, row.atol, f"y{i}")
