"""The table of what consumers run, and the conditions beside it."""

from __future__ import annotations

import numpy as np
import pytest

from savax.errors import InvalidArgumentError
from savax.function._op_schemas import is_known_op
from savax.function.ops._registry import REPLACEMENTS
from savax.portability import (
    CONDITIONS,
    CONSUMERS,
    REPLACED_OPS,
    TARGETS,
    InputView,
    NodeView,
    TargetProblems,
    consumers_of,
    refusals,
    support_table,
    value_dtypes,
)
from savax.types import as_dtype


def refusing(op: str, *dtypes: str) -> list[str]:
    return [found.consumer for found in refusals(NodeView(op, frozenset(dtypes)), CONSUMERS)]


def test_targets() -> None:
    assert consumers_of("tensorflow") == ()
    assert consumers_of("onnx") == ("onnx",)
    assert consumers_of("portable") == tuple(CONSUMERS)
    with pytest.raises(InvalidArgumentError, match=r"litert.*got 'tflite'"):
        consumers_of("tflite")
    assert all(consumers_of(target) is not None for target in TARGETS)


def test_every_row_names_known_ops_dtypes_and_all_consumers() -> None:
    table = support_table()
    assert set(table.versions) == set(CONSUMERS)
    for op, row in table.ops.items():
        assert is_known_op(op)
        assert set(row) == set(CONSUMERS)
        for dtype in frozenset().union(*row.values()) - {"any"}:
            assert as_dtype(dtype).name == dtype


def test_replaced_ops_are_those_that_have_a_rule() -> None:
    assert set(REPLACEMENTS) == REPLACED_OPS


def test_what_was_measured() -> None:
    assert refusing("AddV2", "float32") == []
    assert refusing("Erf", "float32") == ["litert"]
    assert refusing("Cholesky", "float32") == list(CONSUMERS)
    assert "openvino" in refusing("ScatterNd", "float32")  # wrong for repeated indices
    assert refusing("StatelessIf", "bfloat16") == []  # a call of any type


def test_an_op_that_was_not_measured_is_refused() -> None:
    found = refusals(NodeView("ParseExampleV2", frozenset()), ["onnx"])
    assert [(refusal.consumer, refusal.op) for refusal in found] == [("onnx", "ParseExampleV2")]
    assert "strings" in found[0].advice


def test_advice_names_the_dtypes_that_run() -> None:
    (refusal,) = refusals(NodeView("AddV2", frozenset({"uint8"})), ["litert"])
    assert "float32, int16, int32, int64" in refusal.advice
    (refusal,) = refusals(NodeView("AddV2", frozenset({"float64"})), ["litert"])
    assert refusal.advice == "compute in float32"


def test_index_types_do_not_count() -> None:
    assert value_dtypes({"T": "float32", "Tidx": "int64"}) == {"float32"}


@pytest.mark.parametrize(
    ("consumer", "op", "dtype", "good", "bad"),
    [
        (
            "litert",
            "TensorListReserve",
            "float32",
            [InputView("Const", np.array([3, 4]))],
            [InputView("Const", np.array([-1, 4]))],
        ),
        (
            "litert",
            "Atan2",
            "float32",
            [InputView(shape=(2, 3)), InputView(shape=(2, 3))],
            [InputView(shape=(2, 3)), InputView(shape=())],
        ),
        (
            "tfjs",
            "Conv2D",
            "float32",
            [InputView(shape=(1, 4, 4, 2)), InputView(shape=(3, 3, 2, 8))],
            [InputView(shape=(1, 4, 4, 2)), InputView(shape=(3, 3, 1, 8))],
        ),
        ("tfjs", "Tanh", "float32", [InputView("Mul")], [InputView("AddV2")]),
        ("onnx", "StopGradient", "float32", [InputView("Exp")], [InputView("Mul")]),
        ("onnx", "FloorDiv", "int32", [InputView("Abs")] * 2, [InputView("Abs"), InputView()]),
    ],
    ids=["TensorListReserve", "Atan2", "Conv2D", "Tanh", "StopGradient", "FloorDiv"],
)
def test_conditions(
    consumer: str, op: str, dtype: str, good: list[InputView], bad: list[InputView]
) -> None:
    node = NodeView(op, frozenset({dtype}), tuple(good))
    assert refusals(node, [consumer]) == []
    (refusal,) = refusals(node._replace(inputs=tuple(bad)), [consumer])
    assert refusal.advice == CONDITIONS[consumer, op].advice


def test_equal_problems_of_consumers_are_one() -> None:
    problems = TargetProblems()
    for refusal in refusals(NodeView("Cholesky", frozenset({"float32"})), ["litert", "onnx"]):
        problems.add("cholesky, f.py:3", refusal)
        problems.add("cholesky, f.py:3", refusal)
    (line,) = problems
    assert line.startswith("cholesky, f.py:3: litert, onnx don't run Cholesky of float32; ")
