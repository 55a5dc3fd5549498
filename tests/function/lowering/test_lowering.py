"""Functions as FunctionDefs: boundary, errors, folding, sharing."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import UnsupportedParamError, UnsupportedPrimitiveError
from savax.function.lowering._jaxpr_lowering import LoweringRuleError
from savax.function.lowering._lowering import CaptureSpec, FunctionLibrary, lower_jaxpr
from savax.function.ops._registry import LOWERINGS, Lowering
from savax.types import TensorSpec, as_dtype
from tests.lowering_check import lower

F32, F64, I32, I64 = (as_dtype(name) for name in ("float32", "float64", "int32", "int64"))
X = np.ones((3, 4), np.float32)


def node_names(function):
    return [node.name for node in function.node_def]


def declared_shapes(function):
    return [
        [[dim.size for dim in shape.dim] for shape in attrs.attr["_output_shapes"].list.shape]
        for _, attrs in sorted(function.arg_attr.items())
    ]


# Boundary


def with_state(w, n, x):
    return x @ w, n + 1


def lower_with_state():
    jaxpr = jax.make_jaxpr(with_state)(jnp.ones((4, 2)), jnp.int32(0), X)
    return lower_jaxpr(
        jaxpr,
        "__inference_f_0",
        FunctionLibrary(),
        arg_specs=[TensorSpec([3, 4], "float64", "Input X")],
        captures=[CaptureSpec("layer/w", F32, (4, 2)), CaptureSpec("n", I64, ())],
        written=[1],
        out_dtypes=[F64],
        output_names=["Result"],
    )


def test_arguments_come_before_captures():
    function = lower_with_state()
    signature = function.signature
    assert signature.name == "__inference_f_0"
    assert [(arg.name, arg.type) for arg in signature.input_arg] == [
        ("input_x", F64.number),
        ("layer_w_resource", as_dtype("resource").number),
        ("n_resource", as_dtype("resource").number),
    ]
    (handle,) = signature.input_arg[1].handle_data
    assert handle.dtype == F32.number
    assert [dim.size for dim in handle.shape.dim] == [4, 2]
    assert declared_shapes(function) == [[[3, 4]], [[]], [[]]]
    assert function.arg_attr[0].attr["_user_specified_name"].s == b"Input X"


def test_dtypes_are_cast_at_the_edges():
    function = lower_with_state()
    nodes = {node.name: node for node in function.node_def}
    casts = [
        (node.attr["SrcT"].type, node.attr["DstT"].type)
        for node in nodes.values()
        if node.op == "Cast"
    ]
    pairs = [(F64, F32), (I64, I32), (F32, F64), (I32, I64)]
    assert sorted(casts) == sorted((a.number, b.number) for a, b in pairs)
    assert function.signature.output_arg[0].type == F64.number


def test_effects_are_ordered_and_kept():
    function = lower_with_state()
    nodes = {node.name: node for node in function.node_def}
    assert function.signature.is_stateful
    assert "^n/ReadVariableOp" in nodes["n/AssignVariableOp"].input
    effects = ["layer/w/ReadVariableOp", "n/ReadVariableOp", "n/AssignVariableOp"]
    assert list(function.signature.control_output) == effects
    assert dict(function.control_ret) == {name: name for name in effects}
    assert list(nodes["NoOp"].input) == [f"^{name}" for name in effects]
    assert nodes["Identity"].input[1] == "^NoOp"
    assert dict(function.ret) == {"result": "Identity:output:0"}
    shapes = nodes["layer/w/ReadVariableOp"].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shapes[0].dim] == [4, 2]


def test_a_variable_that_is_only_written_is_not_read():
    jaxpr = jax.make_jaxpr(lambda n, x: (x, x.sum()))(jnp.float32(0), X)
    captures = [CaptureSpec("n", F32, ())]
    function = lower_jaxpr(jaxpr, "f_0", FunctionLibrary(), captures=captures, written=[0])
    assert "ReadVariableOp" not in [node.op for node in function.node_def]
    (assign,) = (node for node in function.node_def if node.op == "AssignVariableOp")
    assert len(assign.input) == 2


def test_constants_are_passed_as_values():
    jaxpr = jax.make_jaxpr(lambda c, x: x + c)(X, X)
    captures = [CaptureSpec("table", F32, (3, 4), is_variable=False)]
    function = lower_jaxpr(jaxpr, "f_0", FunctionLibrary(), captures=captures)
    assert [arg.name for arg in function.signature.input_arg] == ["arg_0", "table"]
    assert not function.signature.is_stateful
    assert not function.signature.control_output


def test_an_argument_that_is_returned():
    function = lower(lambda x: (x, x), X).function
    assert [list(node.input) for node in function.node_def] == [["arg_0"], ["arg_0"]]
    assert dict(function.ret) == {
        "output_0": "Identity:output:0",
        "output_1": "Identity_1:output:0",
    }


def test_result_names_that_are_taken_by_arguments():
    jaxpr = jax.make_jaxpr(lambda x: x * 2)(X)
    function = lower_jaxpr(
        jaxpr,
        "f_0",
        FunctionLibrary(),
        arg_specs=[TensorSpec([3, 4], "float32", "x")],
        output_names=["x"],
    )
    assert [arg.name for arg in function.signature.output_arg] == ["x_1"]


def test_unknown_sizes_are_declared():
    lowered = lower(lambda x: x * 2, X, specs=[(None, 4)])
    assert declared_shapes(lowered.function) == [[[-1, 4]]]


def test_the_same_program_gives_the_same_bytes():
    def fn(x):
        return jax.lax.scan(lambda c, r: (c + r, jax.nn.relu(c)), x[0], x), jnp.cumsum(x)[-1]

    texts = []
    for _ in range(2):
        functions = lower(fn, X, specs=[(None, 4)]).library.functions
        texts.append([f.SerializeToString(deterministic=True) for f in functions.values()])
    assert texts[0] == texts[1]


def test_names_come_from_named_scopes():
    def fn(x):
        with jax.named_scope("encoder"), jax.named_scope("dense"):
            y = x @ x.T
        return jnp.tanh(y)

    assert "encoder/dense/MatMul" in node_names(lower(fn, X).function)
    assert "Tanh" in node_names(lower(fn, X).function)


# Errors


def refused(x):
    y = jax.pure_callback(np.sin, x, x)
    return jax.lax.cond(y.sum() > 0, lambda a: jax.pure_callback(np.cos, a, a), jax.lax.cumsum, y)


def test_all_missing_primitives_are_reported_at_once(monkeypatch):
    monkeypatch.delitem(LOWERINGS, "reduce_sum")
    with pytest.raises(UnsupportedPrimitiveError) as caught:
        lower(refused, X)
    text = str(caught.value)
    assert "2 JAX primitives in the function 'f_0'" in text
    assert "pure_callback (2 uses, first at " in text
    assert "test_lowering.py" in text
    assert "(refused)" in text
    assert "compute it outside the function" in text
    assert "reduce_sum (1 use at " in text


CALLBACKS = {
    "pure_callback": lambda x: jax.pure_callback(np.sin, x, x, vmap_method="expand_dims"),
    "io_callback": lambda x: jax.experimental.io_callback(np.sin, x, x),
    "debug_callback": lambda x: [jax.debug.callback(print, x), x][1],
    "debug_print": lambda x: [jax.debug.print("{}", x), x][1],
}


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("around", [jax.jit, jax.vmap, jax.checkpoint, lambda f: lambda x: f(x)])
def test_python_on_the_host_is_refused_by_name(name, around):
    if name == "io_callback" and around is jax.checkpoint:
        pytest.skip("JAX refuses effects there itself")
    with pytest.raises(UnsupportedPrimitiveError, match=r"test_lowering\.py:\d+ ") as caught:
        lower(around(CALLBACKS[name]), X)
    text = str(caught.value)
    assert re.search(rf"({name}|debug_callback) \(\d uses?", text)
    assert "remove" in text or "compute it outside the function" in text


def test_the_line_is_that_of_the_call_where_jax_wrote_the_equations(monkeypatch):
    monkeypatch.delitem(LOWERINGS, "lu", raising=False)
    with pytest.raises(UnsupportedPrimitiveError, match=r"lu \(1 use at .*test_lowering\.py:\d+ "):
        lower(lambda x: jnp.linalg.solve(x @ x.T, x), X)


def test_primitives_of_results_that_nobody_reads_are_not_missing():
    def fn(x):
        jax.pure_callback(np.sin, x, x)
        return x + 1

    assert lower(fn, X).ops() == ["Const", "AddV2"]


def _refuse_sin(g, x):
    return g.unsupported("sin is refused here")


def _refuse_cos(g, x):
    return g.unsupported("cos is refused here")


def _wrong_shape(g, x):
    return g.op("Sin", x, shape=(1,))


def _wrong_dtype(g, x):
    return g.cast(x, "int32")


def test_all_refusals_are_reported_at_once(monkeypatch):
    monkeypatch.setitem(LOWERINGS, "sin", Lowering("sin", _refuse_sin, frozenset()))
    monkeypatch.setitem(LOWERINGS, "cos", Lowering("cos", _refuse_cos, frozenset()))
    with pytest.raises(UnsupportedParamError) as caught:
        lower(lambda x: jax.lax.scan(lambda c, r: (c + jnp.sin(r), jnp.cos(c)), x[0], x), X)
    text = str(caught.value)
    assert "2 operations of the function 'f_0'" in text
    assert text.count("test_lowering.py") == 2
    assert "sin is refused here" in text
    assert "cos is refused here" in text


def test_parameters_that_no_rule_takes_are_refused(monkeypatch):
    row = LOWERINGS["reduce_sum"]
    monkeypatch.setitem(LOWERINGS, "reduce_sum", Lowering(row.primitive, row.rule, frozenset()))
    with pytest.raises(UnsupportedParamError, match=r"parameter axes=\(.*\) has no form"):
        lower(lambda x: x.sum(), X)


@pytest.mark.parametrize("rule", [_wrong_shape, _wrong_dtype])
def test_results_are_checked(monkeypatch, rule):
    monkeypatch.setitem(LOWERINGS, "sin", Lowering("sin", rule, frozenset()))
    with pytest.raises(LoweringRuleError, match="The lowering of sin gave"):
        lower(jnp.sin, X)


def test_nothing_is_added_to_the_library_on_errors():
    library = FunctionLibrary()
    with pytest.raises(UnsupportedPrimitiveError):
        lower_jaxpr(jax.make_jaxpr(refused)(X), "f_0", library)
    assert library.functions == {}


# Folding


@pytest.mark.parametrize(
    ("fn", "gone"),
    [
        (lambda x: x[-1], {"SelectV2", "Less", "AddV2"}),
        (lambda x: x[1:], {"GatherV2", "GatherNd"}),
        (lambda x: x[: x.shape[0] // 2], {"GatherV2", "GatherNd"}),
        (lambda x: x[jnp.int32(1)], {"SelectV2", "Less"}),
        (lambda x: x * jnp.arange(4), {"Range"}),
        (lambda x: jnp.where(jnp.int32(1) < 2, x, x + 1), {"SelectV2", "Less"}),
    ],
)
def test_index_arithmetic_leaves_no_nodes(fn, gone):
    with jax.numpy_dtype_promotion("standard"):
        lowered = lower(fn, X, specs=[(None, 4)])
    assert not gone & set(lowered.ops())


def test_integers_wrap_as_on_the_device():
    def fn(x):
        return x + jnp.int32(2**31 - 1) * jnp.int32(2) + (-jnp.int32(-(2**31)))

    lowered = lower(fn, np.int32(0))
    constants = [node for node in lowered.function.node_def if node.op == "Const"]
    values = {value for node in constants for value in node.attr["value"].tensor.int_val}
    assert values == {-2, -(2**31)}


def test_divisions_are_not_folded_as_numpy_divides():
    lowered = lower(lambda x: x + jnp.int32(-7) // jnp.int32(2) + jax.lax.div(-7, 0), np.int32(0))
    assert "AddV2" in lowered.ops()


def test_scalar_broadcasts_and_kept_dims_in_a_softmax():
    lowered = lower(lambda x: jax.nn.softmax(x * 2 + 1), X, specs=[(None, 4)])
    assert not {"BroadcastTo", "Fill", "ExpandDims", "Shape"} & set(lowered.ops())


# Calls


@jax.jit
def small(x):
    return jnp.sin(x) + 1


@jax.jit
def large(x):
    for _ in range(20):
        x = jnp.sin(x)
    return x


def test_calls_of_small_functions_are_written_in_place():
    lowered = lower(lambda x: small(small(x)), X)
    assert lowered.ops() == ["Sin", "Const", "AddV2", "Sin", "AddV2"]


def test_one_call_of_a_large_function_is_written_in_place():
    assert "PartitionedCall" not in lower(large, X).ops()


def test_two_calls_of_a_large_function_share_it():
    lowered = lower(lambda x: large(large(x)), X)
    assert lowered.ops() == ["PartitionedCall"] * 2
    names = {node.attr["f"].func.name for node in lowered.function.node_def} - {""}
    assert names == {"large_0"}


def test_calls_with_other_shapes_are_other_functions():
    def fn(x):
        return large(large(x)), large(large(x[:1]))

    assert lower(fn, X).ops().count("PartitionedCall") == 4
    assert len(lower(fn, X).library.functions) == 3
