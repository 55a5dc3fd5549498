"""Every op that real models hold is evaluated, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

import savax
import savax.function.ops
from savax.function._op_schemas import known_ops
from savax.function.evaluation._plan import PlanLibrary
from savax.function.ops._registry import EVALUATIONS, FOLDS, check_registrations
from savax.function.ops.internal_ops import INTERNAL_PATTERNS, TEST_OPS, internal_reason
from savax.function.ops.refused_ops import OP_REASONS, PATTERNS, op_reason
from savax.protos import FunctionDef

# What 469 models hold (Keras 2 and 3, tf.Module, version 1, serving samples), and how many do.
CENSUS = [
    line.split()[0] for line in Path(__file__).with_name("op_census.txt").read_text().splitlines()
]


def test_rules_fit_the_schemas() -> None:
    assert check_registrations() == []
    assert set(FOLDS) <= set(EVALUATIONS)


def test_ops_of_real_models_have_a_rule_or_a_reason() -> None:
    assert [op for op in CENSUS if op not in EVALUATIONS and op_reason(op) is None] == []


def test_every_op_has_a_rule_or_a_reason() -> None:
    assert [op for op in known_ops() if op not in EVALUATIONS and op_reason(op) is None] == []


@pytest.mark.tf
def test_the_schemas_have_every_op_of_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    public = {name for name in dir(tf.raw_ops) if callable(getattr(tf.raw_ops, name))}
    assert public <= set(known_ops())


# Ops that no test evaluates in a graph beside TensorFlow, and why. What shares the rule of an op
# that is compared isn't listed.
_NO_KERNEL = "TensorFlow's kernel is missing, or wants an attribute that the op doesn't have"
_RULE = "a test calls the rule itself"
_NEWER = "tests compare the newer form, which computes alike"
_ELSEWHERE = "tests of whole models have it"
_NOTHING = "it has no result that could be compared"
UNCOMPARED = {
    **dict.fromkeys(("MaxPoolGradGradWithArgmax", "TopK"), _NO_KERNEL),
    **dict.fromkeys(("QuantizedAvgPool", "QuantizedReluX"), _RULE),
    **dict.fromkeys(("SparseMatrixAdd", "SparseMatrixMul", "SparseMatrixZeros"), _RULE),
    **dict.fromkeys(("SparseMatrixSoftmax", "SparseMatrixSoftmaxGrad"), _RULE),
    **dict.fromkeys(("AnonymousHashTable", "InitializeTable", "InitializeTableV2"), _NEWER),
    **dict.fromkeys(("AnonymousMutableHashTable", "MutableHashTable"), _NEWER),
    **dict.fromkeys(("AnonymousMutableHashTableOfTensors", "MutableHashTableV2"), _NEWER),
    **dict.fromkeys(("StatefulStandardNormal", "XlaConv"), _NEWER),
    **dict.fromkeys(("PlaceholderWithDefault", "VarHandleOp", "XlaCallModule"), _ELSEWHERE),
    **dict.fromkeys(("Placeholder", "PlaceholderV2", "Print", "PrintV2"), _NOTHING),
    **dict.fromkeys(("StackCloseV2", "TensorArrayCloseV3"), _NOTHING),
    "NonDeterministicInts": "TensorFlow draws them without a seed",
}


def test_evaluated_ops_are_compared_with_tensorflow() -> None:
    tests = Path(__file__).parents[1]
    lines = (tests / "differential" / "op_rows.txt").read_text().splitlines()
    rows = dict(line.split() for line in lines if not line.startswith("#"))
    own = {op: row for op, row in EVALUATIONS.items() if not row.is_custom}
    assert set(rows) <= set(own)
    assert [path for path in set(rows.values()) if not (tests.parent / path).is_file()] == []
    compared = {id(own[op].rule) for op in rows}
    open_ops = {op for op, row in own.items() if op not in rows and id(row.rule) not in compared}
    assert open_ops == set(UNCOMPARED), "run tools/record_op_rows.py with the op's test"


def test_no_op_has_a_rule_and_a_reason() -> None:
    assert [op for op in EVALUATIONS if op_reason(op) is not None] == []


def test_reasons_are_of_ops_that_exist() -> None:
    known = set(known_ops())
    assert set(OP_REASONS) | TEST_OPS <= known
    patterns = (*PATTERNS, *INTERNAL_PATTERNS)
    assert [p.pattern for p, _ in patterns if not any(map(p.fullmatch, known))] == []


@pytest.mark.tf
def test_public_ops_are_not_taken_for_internal_ones() -> None:
    tf = pytest.importorskip("tensorflow")
    assert [op for op in known_ops() if internal_reason(op) and hasattr(tf.raw_ops, op)] == []


def test_errors_say_why_an_op_is_refused() -> None:
    function = FunctionDef()
    function.signature.name = "f"
    function.node_def.add(name="call", op="PyFunc")
    function.control_ret["call"] = "call"
    function.signature.control_output.append("call")
    node = function.node_def[0]
    node.attr["token"].s = b"t"
    node.attr["Tin"].list.SetInParent()
    node.attr["Tout"].list.SetInParent()
    with pytest.raises(savax.errors.UnsupportedOpError, match=r"PyFunc .*: it calls Python code"):
        PlanLibrary({"f": function}).runnable_plan("f")
