"""Signatures: what is found, named, ordered and refused is what TensorFlow finds and refuses."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

import savax as sv
from savax.errors import InvalidArgumentError
from savax.protos import SavedModel, decode_tensor, parse

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

Pair = collections.namedtuple("Pair", "b a")


def named(name: str) -> Any:
    return lambda t: [t.TensorSpec([], t.float32, name)]


def scalars(count: int) -> Any:
    return lambda t: [t.TensorSpec([], t.float32)] * count


def vector(t: Any) -> Any:
    return [t.TensorSpec([None], t.float32)]


def one(function: Any, signature: Any = vector) -> Any:
    return {"f": (function, signature)}


# Name of the case: functions of the root by attribute, as (Python function, input signature), and
# which attribute is passed as the signature; None passes no signatures at all.
SAVED = {
    "no_function": ({}, None),
    "one": (one(lambda x: x + 1), None),
    "two": ({**one(lambda x: x + 1), "g": (lambda x: x, vector)}, None),
    "without_input_signature": (one(lambda x: x, None), None),
    "one_of_two_has_one": ({**one(lambda x: x, None), "g": (lambda x: x, vector)}, None),
    "one_of_two_is_valid": ({**one(lambda x: x), "g": (lambda x: {"a": {"b": x}}, vector)}, None),
    "preferred": ({**one(lambda x: x), "_default_save_signature": (lambda x: [x], vector)}, None),
    "empty": (one(lambda x: x), {}),
    "tensor": (one(lambda x: x), "f"),
    "list": (one(lambda x: [x, x + 1]), "f"),
    "long_list": (one(lambda x: [x + i for i in range(12)]), "f"),
    "tuple": (one(lambda x: (x, x + 1)), "f"),
    "dict": (one(lambda x: {"z": x, "a": x + 1, "B": 2 * x}), "f"),
    "namedtuple": (one(lambda x: Pair(x, x + 1)), "f"),
    "odd_output_names": (one(lambda x: {"a b": x, "ü": x, "": x, "1": x, "a/b:0": x}), "f"),
    "no_outputs": (one(lambda x: {}), "f"),
    "python_number": (one(lambda x: 3), "f"),
    "no_inputs": (one(lambda: np.ones(2, np.float32), scalars(0)), "f"),
    "order": (one(lambda b, a: {"z": b - a, "y": a}, scalars(2)), "f"),
    "swapped": (one(lambda b, a: {"a": b, "b": a}, scalars(2)), "f"),
    "python_default": (one(lambda a, b=2.0: a * b, scalars(1)), "f"),
    "many_positional": (one(lambda *args: args[0] - args[1], scalars(2)), "f"),
    "upper_case": (one(lambda Xa: Xa, scalars(1)), "f"),
    "digit_first": (one(lambda x: x, named("1x")), "f"),
    "dot": (one(lambda x: x, named("a.b")), "f"),
    "nested": (
        one(lambda a: a["q"] - a["r"], lambda t: [dict.fromkeys("qr", scalars(1)(t)[0])]),
        "f",
    ),
    "nested_list": (one(lambda a: a[0] - a[1], lambda t: [scalars(2)(t)]), "f"),
    "nested_named": (one(lambda a: a[0] - a[1], lambda t: [named("n")(t) + named("m")(t)]), "f"),
    "equal_names": (one(lambda a, b: a - b, lambda t: named("m")(t) * 2), "f"),
    "two_keys": (one(lambda x: x), {"p": "f", "q": "f"}),
    "odd_key": (one(lambda x: x), {"a b/ü:0": "f"}),
    "empty_key": (one(lambda x: x), {"": "f"}),
}
REFUSED = {
    "none": (one(lambda x: None), "f"),
    "none_in_list": (one(lambda x: [x, None]), "f"),
    "nested": (one(lambda x: [x, [x]]), "f"),
    "number_as_name": (one(lambda x: {1: x}), "f"),
    "number": (one(lambda x: x), 3),
    "python_function": (one(lambda x: x), lambda x: x),
    "no_input_signature": (one(lambda x: x, None), "f"),
    "number_in_dict": (one(lambda x: x), {"a": 3}),
    "preferred": (
        {**one(lambda x: x), "_default_save_signature": (lambda x: x, None)},
        None,
    ),
}


def saved(t: Any, case: Any, directory: Any) -> Any:
    functions, chosen = case
    module = t.Module()
    options = {"autograph": False} if t is tf else {}
    for name, (python_function, signature) in functions.items():
        specs = None if signature is None else signature(t)
        setattr(module, name, t.function(python_function, input_signature=specs, **options))
    if isinstance(chosen, dict):
        chosen = {key: getattr(module, v) if v == "f" else v for key, v in chosen.items()}
    elif chosen == "f":
        chosen = module.f
    t.saved_model.save(module, str(directory), chosen)
    return parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "").meta_graphs[0]


def described(meta_graph: Any) -> Any:
    """Returns what callers of the main graph go by."""
    return {
        key: (
            {name: (i.name, i.dtype, str(i.tensor_shape)) for name, i in s.inputs.items()},
            {name: (o.name, o.dtype, str(o.tensor_shape)) for name, o in s.outputs.items()},
            s.method_name,
        )
        for key, s in meta_graph.signature_def.items()
    }


def answers(signature: Any, t: Any) -> Any:
    kwargs = signature.structured_input_signature[1]
    values = {
        name: np.full([d or 2 for d in spec.shape], i + 3, np.float32)
        for i, (name, spec) in enumerate(sorted(kwargs.items()))
    }
    inputs = {name: t.constant(v) if t is tf else v for name, v in values.items()}
    return {name: np.asarray(value).tolist() for name, value in signature(**inputs).items()}


@pytest.mark.parametrize("name", SAVED)
def test_signatures_are_tensorflows(name, tmp_path) -> None:
    theirs = saved(tf, SAVED[name], tmp_path / "tf")
    ours = saved(sv, SAVED[name], tmp_path / "sv")
    assert described(ours) == described(theirs)
    loaded = [
        tf.saved_model.load(str(tmp_path / "tf")),
        tf.saved_model.load(str(tmp_path / "sv")),
        sv.saved_model.load(tmp_path / "tf"),
        sv.saved_model.load(tmp_path / "sv"),
    ]
    for key, want in loaded[0].signatures.items():
        kwargs = want.structured_input_signature[1]
        for model, t in zip(loaded, (tf, tf, sv, sv), strict=True):
            got = model.signatures[key]
            assert got.structured_input_signature[0] == ()
            found = got.structured_input_signature[1]
            shapes = {n: tuple(s.shape) for n, s in kwargs.items()}
            assert {n: tuple(s.shape) for n, s in found.items()} == shapes
            assert answers(got, t) == answers(want, tf)


@pytest.mark.parametrize("name", REFUSED)
def test_what_tensorflow_refuses_is_refused(name, tmp_path) -> None:
    with pytest.raises(ValueError):
        saved(tf, REFUSED[name], tmp_path / "tf")
    with pytest.raises(InvalidArgumentError):
        saved(sv, REFUSED[name], tmp_path / "sv")
    assert not (tmp_path / "sv").exists()


@pytest.mark.parametrize("key", ["__saved_model_init_op", "__saved_model_train_op"])
def test_reserved_keys_are_refused(key, tmp_path) -> None:
    # TensorFlow overwrites such a signature without a word.
    with pytest.raises(InvalidArgumentError, match="reserved"):
        saved(sv, (one(lambda x: x), {key: "f"}), tmp_path / "sv")


@pytest.mark.parametrize(
    ("name", "legal", "parameter"),
    [
        ("my input/x", "my_input_x", "my_input_x"),
        ("x:0", "x_0", "x_0"),
        ("class", "class", "class_"),
    ],
)
def test_names_that_tensorflow_refuses_are_made_legal(name, legal, parameter, tmp_path) -> None:
    with pytest.raises(ValueError):
        saved(tf, (one(lambda x: x, named(name)), None), tmp_path / "tf")
    meta_graph = saved(sv, (one(lambda x: x + 1, named(name)), None), tmp_path / "sv")
    assert list(meta_graph.signature_def["serving_default"].inputs) == [legal]
    signature = tf.saved_model.load(str(tmp_path / "sv")).signatures["serving_default"]
    assert list(signature.structured_input_signature[1]) == [parameter]
    assert signature(tf.constant(1.0))["output_0"] == 2


def test_non_string_keys_are_refused(tmp_path) -> None:
    with pytest.raises(InvalidArgumentError, match="strings"):
        saved(sv, (one(lambda x: x), {1: "f"}), tmp_path / "sv")


THREE = np.full((), 3, np.float32)


class Defaults(sv.Module):
    @sv.function(input_signature=[sv.TensorSpec([], sv.float32)] * 2)
    def f(self, x, y=THREE):
        return {"product": x * y}


def test_arrays_as_default_values_are_defaults_of_the_signature(tmp_path) -> None:
    three = tf.constant(3.0)

    def f(x, y=three):
        return {"product": x * y}

    module = tf.Module()
    module.f = tf.function(f, input_signature=scalars(2)(tf), autograph=False)
    tf.saved_model.save(module, str(tmp_path / "tf"), module.f)
    model = Defaults()
    sv.saved_model.save(model, tmp_path / "sv", model.f)
    sv.saved_model.save(sv.saved_model.load(tmp_path / "sv"), tmp_path / "again")

    for directory in ("tf", "sv", "again"):
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            found = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / directory))
            signature = found.signature_def["serving_default"]
            assert list(signature.defaults) == ["y"]
            output = signature.outputs["product"].name
            feeds = {signature.inputs["x"].name: 2.0}
            assert session.run(output, feeds) == 6
            assert session.run(output, {**feeds, signature.inputs["y"].name: 5.0}) == 10
            node = session.graph.as_graph_def().node
            assert [n.op for n in node if n.name == "serving_default_y"] == [
                "PlaceholderWithDefault"
            ]
    data = (tmp_path / "sv" / "saved_model.pb").read_bytes()
    defaults = parse(SavedModel, data, "").meta_graphs[0].signature_def["serving_default"].defaults
    assert decode_tensor(defaults["y"]) == 3


def test_concrete_functions_with_python_values_and_keywords(tmp_path) -> None:
    module = sv.Module()
    module.f = sv.function(lambda a, b, *, k: a * b + k)
    spec = sv.TensorSpec([], sv.float32)
    concrete = module.f.get_concrete_function(spec, 3.0, k=spec)
    sv.saved_model.save(module, tmp_path / "m", {"go": concrete})
    for t in (tf, sv):
        signature = t.saved_model.load(str(tmp_path / "m")).signatures["go"]
        assert answers(signature, t) == {"output_0": 3 * 3 + 4}
