"""Plans: order, checks of hostile graphs, unsupported ops, effects."""

from __future__ import annotations

import numpy as np
import pytest

from savax.errors import (
    CorruptSavedModelError,
    ResourceLimitError,
    UnsupportedError,
    UnsupportedOpError,
)
from savax.function.evaluation._evaluation import LoadedBody
from savax.function.evaluation._plan import PlanLibrary
from savax.protos import FunctionDef, FunctionRef, NodeDef, encode_attr
from savax.trackable import Variable
from savax.types import as_dtype

FLOAT = as_dtype("float32")


def _node(name, op, inputs=(), **attrs):
    node = NodeDef(name=name, op=op, input=inputs)
    for key, value in attrs.items():
        kind = "list(type)" if key in ("Tin", "Tout") else None
        node.attr[key].CopyFrom(encode_attr(value, kind))
    return node


def _function(name, args, nodes, ret, control_ret=()):
    function = FunctionDef(node_def=nodes)
    function.signature.name = name
    for arg, dtype in args.items():
        function.signature.input_arg.add(name=arg, type=as_dtype(dtype).number)
    for index, tensor in enumerate(ret):
        function.signature.output_arg.add(name=f"y{index}", type=1)
        function.ret[f"y{index}"] = tensor
    for target in control_ret:
        function.control_ret[target] = target
    return function


def _add(name, a, b):
    return _node(name, "AddV2", [a, b], T=FLOAT)


def _call(name, callee, inputs, outputs=1):
    return _node(
        name,
        "PartitionedCall",
        inputs,
        f=FunctionRef(callee),
        Tin=[FLOAT] * len(inputs),
        Tout=[FLOAT] * outputs,
    )


def _body(*functions):
    library = {function.signature.name: function for function in functions}
    return LoadedBody(functions[0].signature.name, library, ())


def test_nodes_run_in_topological_order_and_unneeded_ones_not_at_all():
    function = _function(
        "f",
        {"x": "float32"},
        [
            _add("c", "b:z:0", "a:z:0"),
            _add("b", "a:z:0", "x"),
            _node("unneeded", "NoSuchOp"),
            _add("a", "x", "x"),
        ],
        ["c:z:0"],
    )
    plan = PlanLibrary({"f": function}).plan("f")
    assert [node.name for node in plan.nodes] == ["a", "b", "c"]
    assert float(_body(function).run([np.float32(1)])[0]) == 5.0


def test_both_styles_of_tensor_names_are_read():
    function = _function(
        "f",
        {"x": "float32"},
        [_add("a", "x:0", "x"), _add("b", "a", "a:0"), _add("c", "b:z", "b:z:0")],
        ["c:0"],
    )
    assert float(_body(function).run([np.float32(1)])[0]) == 8.0


def test_deep_chain():
    names = ["x", *(f"n{i}:z:0" for i in range(5000))]
    nodes = [_add(f"n{i}", names[i], "x") for i in range(5000)]
    plan = PlanLibrary({"f": _function("f", {"x": "float32"}, nodes[::-1], names[-1:])}).plan("f")
    assert len(plan.nodes) == 5000


@pytest.mark.parametrize(
    ("nodes", "ret", "message"),
    [
        ([_add("a", "b:z:0", "x"), _add("b", "a:z:0", "x")], "a:z:0", "cycle that holds up"),
        ([_add("a", "x", "ghost:z:0")], "a:z:0", "reads 'ghost:z:0', which nothing produces"),
        ([_add("a", "x", "x")], "a:q:0", "returns 'a:q:0', which nothing produces"),
        ([_add("a", "x", "x")], "a:z:1", "returns 'a:z:1', which nothing produces"),
        ([_add("a", "x", "x")], "a:z:0:0", "nothing produces"),
        ([_add("a", "x", "x"), _add("a", "x", "x")], "a:z:0", "two nodes named 'a'"),
        ([_node("a", "AddV2", ["x"], T=FLOAT)], "a:z:0", "with 1 inputs, where .* make it 2"),
        ([_node("a", "AddV2", ["x", "x"])], "a:z:0", "lacks its attribute 'T'"),
        ([_node("a", "AddV2", ["x", "x"], T=3)], "a:z:0", "is of kind type, but holds i"),
        ([_node("a", "Neg", ["x"], T=as_dtype("int32"))], "a:y:0", "is float32, where .* int32"),
        ([_node("a", "Split", ["x", "x"], T=FLOAT, num_split=2**40)], "a:output:0", "number of"),
        ([_call("a", "ghost", ["x"])], "a:output:0", "no function 'ghost', which 'f' calls"),
        ([_call("a", "f", ["x"])], "a:output:0", "calls itself: f -> f"),
    ],
)
def test_hostile_graphs_are_refused(nodes, ret, message):
    with pytest.raises(CorruptSavedModelError, match=message):
        _body(_function("f", {"x": "float32"}, nodes, [ret])).run([np.float32(1)])


def test_mutual_recursion_is_refused():
    f = _function("f", {"x": "float32"}, [_call("c", "g", ["x"])], ["c:output:0"])
    g = _function("g", {"x": "float32"}, [_call("c", "f", ["x"])], ["c:output:0"])
    with pytest.raises(CorruptSavedModelError, match="'f' calls itself: f -> g -> f"):
        _body(f, g).run([np.float32(1)])


def _nested(depth, calls=1):
    functions = []
    for level in range(depth):
        nodes = [
            _call(f"c{i}", f"f{level + 1}", ["x" if i == 0 else f"c{i - 1}:output:0"])
            for i in range(calls)
        ]
        last = f"c{calls - 1}:output:0"
        functions.append(_function(f"f{level}", {"x": "float32"}, nodes, [last]))
    last_node = [_add("a", "x", "x")]
    return [*functions, _function(f"f{depth}", {"x": "float32"}, last_node, ["a:z:0"])]


def test_nesting_has_a_limit():
    assert float(_body(*_nested(90)).run([np.float32(1)])[0]) == 2.0
    with pytest.raises(ResourceLimitError, match="nests calls more than 100 deep"):
        _body(*_nested(150)).run([np.float32(1)])


def test_calls_that_multiply_have_a_limit():
    with pytest.raises(ResourceLimitError, match="nodes, with those of the functions it calls"):
        _body(*_nested(60, calls=2)).run([np.float32(1)])


def test_all_unsupported_ops_are_in_one_error():
    f = _function(
        "f",
        {"x": "float32"},
        [_node("n1", "NoSuchOp"), _node("n2", "NoSuchOp"), _call("c", "g", ["x"])],
        ["c:output:0"],
        ["n1", "n2"],
    )
    g = _function("g", {"x": "float32"}, [_node("m", "OtherOp", ["x"])], ["m:y:0"])
    body = _body(f, g)
    with pytest.raises(UnsupportedOpError) as found:
        body.run([np.float32(1)])
    assert str(found.value).splitlines() == [
        "2 TensorFlow ops in function 'f' have no evaluation rule:",
        "  NoSuchOp  (2 nodes, first 'n1')",
        "  OtherOp  (1 node, 'm' in 'g')",
        "savax.register_op registers a function that computes an op.",
    ]


def test_unknown_attributes_are_refused_unless_private():
    node = _node("a", "Neg", ["x"], T=FLOAT, _private=1)
    function = _function("f", {"x": "float32"}, [node], ["a:y:0"])
    assert float(_body(function).run([np.float32(1)])[0]) == -1.0
    node = _node("a", "Neg", ["x"], T=FLOAT, invented=1)
    with pytest.raises(UnsupportedError, match=r"'a' has the attributes \['invented'\]"):
        _body(_function("f", {"x": "float32"}, [node], ["a:y:0"])).run([np.float32(1)])


def test_function_called_by_its_name():
    f = _function("f", {"x": "float32"}, [_node("c", "g", ["x", "x"])], ["c:y0:0"])
    g = _function("g", {"a": "float32", "b": "float32"}, [_add("s", "a", "b")], ["s:z:0"])
    assert float(_body(f, g).run([np.float32(2)])[0]) == 4.0


def test_effects_pass_through_calls_and_identities():
    resource = as_dtype("resource")
    g = _function(
        "g",
        {"x": "float32", "unused": "resource", "v": "resource"},
        [
            _node("same", "Identity", ["v"], T=resource),
            _node("write", "AssignVariableOp", ["same:output:0", "x"], dtype=FLOAT),
        ],
        ["x"],
        ["write"],
    )
    call = _node(
        "c",
        "StatefulPartitionedCall",
        ["x", "v", "w"],
        f=FunctionRef("g"),
        Tin=[FLOAT, resource, resource],
        Tout=[FLOAT],
    )
    args = {"v": "resource", "x": "float32", "w": "resource"}
    f = _function("f", args, [call], ["c:output:0"], ["c"])
    effects = PlanLibrary({"f": f, "g": g}).plan("f").effects
    assert effects.writes == {2}
    assert effects.origins == (1,)
    assert effects.used == {1, 2}


def test_unused_captures_are_never_read():
    class Unreadable(Variable):
        @property
        def value(self):
            raise AssertionError("read")

    f = _function("f", {"x": "float32", "v": "resource"}, [_add("a", "x", "x")], ["a:z:0"])
    body = LoadedBody("f", {"f": f}, (Unreadable(1.0),))
    assert float(body.run([np.float32(1)])[0]) == 2.0
