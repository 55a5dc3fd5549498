"""Pictures of models that TensorFlow wrote: every operation that it runs is in them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.saved_model._reader import choose_meta_graph, open_model, read_saved_model
from savax.saved_model.cli import main
from savax.saved_model.cli.drawing import signature_body
from savax.saved_model.cli.drawing._bodies import drawn_bodies

tf = pytest.importorskip("tensorflow")

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tf

# They are lines of other boxes, or nothing.
FOLDED = {"Const", "ReadVariableOp", "VarHandleOp", "VariableV2", "Identity", "NoOp", "Placeholder"}


class Classifier(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filters = tf.Variable(tf.ones((3, 3, 1, 4)), name="filters")
        self.kernel = tf.Variable(tf.ones((4, 2)), name="kernel")
        self.steps = tf.Variable(0, name="steps", trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], name="images")])
    def __call__(self, images):
        with tf.name_scope("features"):
            x = tf.nn.relu(tf.nn.conv2d(images, self.filters, 1, "SAME"))
            x = tf.reduce_mean(x, (1, 2))
        with tf.name_scope("head"):
            x = tf.nn.softmax(x @ self.kernel)
        self.steps.assign_add(1)
        return {"scores": tf.while_loop(lambda a: tf.reduce_max(a) < 9, lambda a: (a * 2,), [x])[0]}


def titles(svg: str) -> Counter[str]:
    return Counter(re.findall(r'<text class="middle title"[^>]*>([^<]*)<', svg))


def test_a_model_of_version_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Classifier()
    directory, file = str(tmp_path / "model"), tmp_path / "model.svg"
    tf.saved_model.save(model, directory)
    assert main(["draw", directory, "-o", str(file)]) == 0
    drawn = titles(file.read_text("utf-8"))
    ran = Counter(op.type for op in model.__call__.get_concrete_function().graph.get_operations())
    for op, count in ran.items():
        if op not in FOLDED and op not in ("StatelessWhile", "While"):
            assert drawn[op] >= count, op
    assert {"images", "scores"} <= set(drawn)
    text = file.read_text("utf-8")
    for variable in (model.filters, model.kernel):
        name = variable.name.partition(":")[0]
        sizes = "\u00d7".join(map(str, variable.shape))
        assert f"{name} float32[{sizes}]" in text
    assert main(["draw", directory, "--objects", "-o", str(tmp_path / "objects.svg")]) == 0
    objects = (tmp_path / "objects.svg").read_text("utf-8")
    for label in ("filters", "kernel", "steps", "__call__", "signatures"):
        assert f">{label}</text>" in objects


def test_lines_of_the_source_are_shown(tmp_path: Path) -> None:
    directory, file = str(tmp_path / "model"), tmp_path / "model.svg"
    options = tf.saved_model.SaveOptions(save_debug_info=True)
    tf.saved_model.save(Classifier(), directory, options=options)
    assert main(["draw", directory, "-o", str(file)]) == 0
    assert re.search(
        r"op: Conv2D\n.*\nsource: [^\n]*test_draw.py:\d+ \(__call__\)", file.read_text()
    )


def test_a_model_of_version_1(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    directory, file = str(tmp_path / "model"), tmp_path / "model.svg"
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        for use_resource in (True, False):
            with v1.variable_scope(f"layer_{int(use_resource)}"):
                w = v1.get_variable("w", [4, 4], use_resource=use_resource)
                b = v1.get_variable("b", [4], use_resource=use_resource)
                x = tf.nn.relu(tf.matmul(x, w) + b)
        tf.reduce_sum(x, name="beside")  # no part of the signature
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            inputs = {"x": graph.get_tensor_by_name("x:0")}
            v1.saved_model.simple_save(session, directory, inputs, {"y": x})
    assert main(["draw", directory, "-o", str(file)]) == 0
    text = file.read_text("utf-8")
    assert titles(text) == {"x": 1, "y": 1, "MatMul": 2, "AddV2": 2, "Relu": 2}
    assert text.count(">w float32[4\u00d74]<") == 2
    assert text.count(">b float32[4]<") == 2


def test_variables_of_a_function_are_those_that_tensorflow_captured(tmp_path: Path) -> None:
    model = Classifier()
    directory = str(tmp_path / "model")
    tf.saved_model.save(model, directory)
    with open_model(directory) as opened:
        meta_graph = choose_meta_graph(read_saved_model(opened), None, directory)
    root = drawn_bodies(meta_graph, signature_body(meta_graph, None)[1]).root
    found = {a.weight.name: a.weight.elements for a in root.arguments if a.weight is not None}
    assert found == {v.name.partition(":")[0]: int(np.prod(v.shape)) for v in model.variables}
