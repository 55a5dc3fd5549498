"""The graphs of branches and loops; their values are checked against TensorFlow elsewhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lowering_check import lower

X = np.ones((3, 4), np.float32)


def functions_of(lowered, op):
    """FunctionDefs that the first node with an op refers to, by attribute."""
    (node, *_) = (n for n in lowered.function.node_def if n.op == op)
    return {
        name: lowered.library.functions[attr.func.name]
        for name, attr in node.attr.items()
        if attr.HasField("func")
    }


def argument_names(function):
    return [arg.name for arg in function.signature.input_arg]


def returned(function, name):
    """What the Identity of a result reads."""
    identity = function.ret[name].split(":")[0]
    (node,) = (n for n in function.node_def if n.name == identity)
    return node.input[0]


def declared_shapes(function):
    return [
        [[dim.size for dim in shape.dim] for shape in attrs.attr["_output_shapes"].list.shape]
        for _, attrs in sorted(function.arg_attr.items())
    ]


def running_sum(x):
    w = jnp.arange(100.0) + x[0, 0]
    return jax.lax.scan(lambda c, r: (c + r * w.sum() * x.shape[0], c), x[0], x)


def test_loop_variables_are_in_order_and_invariants_come_back():
    lowered = lower(running_sum, X, specs=[(None, 4)])
    body = functions_of(lowered, "StatelessWhile")["body"]
    names = ["i", "n", "size_d0_0", "const_0", "const_1", "state_0", "state_1"]
    assert argument_names(body) == names
    assert [arg.name for arg in body.signature.output_arg] == [f"{name}_next" for name in names]
    for name in names[1:5]:
        assert returned(body, f"{name}_next") == name
    condition = functions_of(lowered, "StatelessWhile")["cond"]
    assert argument_names(condition) == names
    assert [node.op for node in condition.node_def] == ["Less", "Identity"]
    assert list(condition.node_def[0].input) == ["i", "n"]


def test_shapes_are_declared_everywhere():
    lowered = lower(running_sum, X, specs=[(None, 4)])
    body = functions_of(lowered, "StatelessWhile")["body"]
    assert declared_shapes(body) == [[[]], [[]], [[]], [[100]], [[-1, 4]], [[4]], [[]]]
    (node,) = (n for n in lowered.function.node_def if n.op == "StatelessWhile")
    shapes = [[dim.size for dim in shape.dim] for shape in node.attr["output_shapes"].list.shape]
    assert shapes == [shape for (shape,) in declared_shapes(body)]
    for function in lowered.library.functions.values():
        assert len(function.arg_attr) == len(function.signature.input_arg)


def test_a_known_length_is_a_constant_of_the_condition():
    lowered = lower(running_sum, X)
    condition = functions_of(lowered, "StatelessWhile")["cond"]
    assert [node.op for node in condition.node_def] == ["Const", "Less", "Identity"]
    assert condition.node_def[0].attr["value"].tensor.int_val == [3]


def test_stacked_results_that_nobody_reads_are_not_collected():
    def fn(x):
        carry, (kept, _) = jax.lax.scan(lambda c, r: (c + r, (c, c * 2)), x[0], x)
        return carry, kept

    lowered = lower(fn, X)
    body = functions_of(lowered, "StatelessWhile")["body"]
    ops = [node.op for node in body.node_def]
    assert ops.count("TensorListSetItem") == 1
    assert "Mul" not in ops
    assert lowered.ops().count("TensorListReserve") == 1


def test_stacked_results_dropped_behind_a_call_are_not_collected():
    scan = jax.jit(lambda x: jax.lax.scan(lambda c, r: (c + r, c), x[0], x))
    assert "TensorListReserve" not in lower(lambda x: scan(x)[0], X).all_ops()


def test_elements_that_a_step_computes_are_results_of_its_function():
    def fn(x):
        return jax.lax.scan(lambda c, r: ((d := c + r), (c, d, c * 2)), x[0], x)

    body = functions_of(lower(fn, X), "StatelessWhile")["body"]
    written = [node.input[2] for node in body.node_def if node.op == "TensorListSetItem"]
    results = {returned(body, name) for name in body.ret}
    (doubled,) = (name for name in written if name.startswith("Mul"))
    assert len(written) == 3
    assert doubled in results
    names = argument_names(body)
    assert names[-5:] == ["state_0", "state_1", "state_2", "state_3", "state_4"]


@pytest.mark.parametrize(("rows", "stacked"), [(3, "Const"), (None, "Pack")])
def test_element_shapes_of_lists_are_constants_unless_the_list_may_be_empty(rows, stacked):
    lowered = lower(lambda x: jax.lax.map(jnp.sin, x), X, specs=[(rows, None)])
    nodes = {node.name: node for node in lowered.function.node_def}
    for op, wanted in (("TensorListReserve", "Const"), ("TensorListStack", stacked)):
        (node,) = (n for n in nodes.values() if n.op == op)
        source = node.input[0 if op == "TensorListReserve" else 1].split(":")[0]
        assert nodes[source].op == wanted
        if wanted == "Const":
            assert nodes[source].attr["value"].tensor.int_val == [-1]


@pytest.mark.parametrize("length", [0, 1])
def test_short_scans_are_no_loops(length):
    fn = lambda x: jax.lax.scan(lambda c, r: (c + r, c), x[0], x[:length])  # noqa: E731
    assert "StatelessWhile" not in lower(fn, X).all_ops()


def test_a_scan_that_is_unrolled_is_no_loop():
    def fn(x):
        return jax.lax.scan(lambda c, r: (c + r, c), x[0], x, unroll=True)

    assert lower(fn, X).ops().count("AddV2") == 3


def test_branches_by_a_bool_use_it_as_it_is():
    lowered = lower(lambda p, x: jax.lax.cond(p, jnp.sin, jnp.cos, x), np.bool_(True), X)
    assert lowered.ops() == ["StatelessIf"]
    found = functions_of(lowered, "StatelessIf")
    assert [node.op for node in found["then_branch"].node_def] == ["Sin", "Identity"]
    assert [node.op for node in found["else_branch"].node_def] == ["Cos", "Identity"]


def test_a_known_branch_is_written_in_place():
    lowered = lower(lambda x: jax.lax.switch(5, [jnp.sin, jnp.cos, jnp.tanh], x), X)
    assert lowered.ops() == ["Tanh"]


def test_switch_chooses_by_halves():
    branches = [jnp.sin, jnp.cos, jnp.tanh, jnp.exp, jnp.square]
    lowered = lower(lambda i, x: jax.lax.switch(i, branches, x), np.int32(0), X)
    assert lowered.ops().count("StatelessIf") == 1
    all_ops = [n.op for f in lowered.library.functions.values() for n in f.node_def]
    assert all_ops.count("StatelessIf") == 4
    assert not {"Case", "StatelessCase", "If"} & set(all_ops)


def test_small_constants_and_dims_are_not_passed():
    def fn(x):
        n = jnp.int32(x.shape[0])
        return jax.lax.fori_loop(0, 4, lambda i, c: c * 2.0 + n + jnp.ones(3).sum(), x.sum())

    body = functions_of(lower(fn, X, specs=[(None, 4)]), "StatelessWhile")["body"]
    assert "size_d0_0" in argument_names(body)
    assert not any(name.startswith("const") for name in argument_names(body))


def test_an_operand_that_is_used_twice_is_passed_once():
    def fn(x):
        return jax.lax.cond(x[0, 0] > 0, lambda a, b: a + b, lambda a, b: a - b, x, x)

    found = functions_of(lower(fn, X), "StatelessIf")["then_branch"]
    assert argument_names(found) == ["operand_0"]


def test_only_refs_that_change_come_out_of_branches():
    def fn(x):
        read, written = jax.new_ref(x.sum()), jax.new_ref(x.max())

        def change(a):
            written[...] = read[...] * 2
            return a

        y = jax.lax.cond(x[0, 0] > 0, change, lambda a: a + 1, x)
        return y, jax.ref.freeze(read), jax.ref.freeze(written)

    found = functions_of(lower(fn, X), "StatelessIf")["else_branch"]
    assert argument_names(found) == ["operand_0", "ref_0", "ref_1"]
    assert len(found.signature.output_arg) == 2


def test_loops_are_pure():
    lowered = lower(running_sum, X)
    assert not any(f.signature.is_stateful for f in lowered.library.functions.values())
