"""What builder, loader, graphs and sessions of TensorFlow refuse, savax's refuse with its type."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.exception_rows import Graph1, Rows, built, tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.tf

ROWS = Rows()
row, differs = ROWS.row, ROWS.differs
_FLOAT = np.float32


@row
def build_into_a_directory_that_is_not_empty(side, folder) -> None:
    (folder / "file").write_text("")
    side.sm.Builder(str(folder))


@row
def add_variables_twice(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"])
        one.builder.add_meta_graph_and_variables(one.session, ["b"])


@row
def add_a_graph_before_the_variables(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph(["a"])


@row
def add_a_signature_without_dtype(side, folder) -> None:
    with Graph1(side, folder) as one:
        info = side.sm.build_tensor_info(one.x)
        info.dtype = 0
        signature = side.sm.build_signature_def({"x": info}, {}, "")
        one.builder.add_meta_graph_and_variables(one.session, ["a"], {"k": signature})


@row
def add_a_signature_without_tensor(side, folder) -> None:
    with Graph1(side, folder) as one:
        info = side.sm.build_tensor_info(one.x)
        info.ClearField("name")
        signature = side.sm.build_signature_def({}, {"y": info}, "")
        one.builder.add_meta_graph_and_variables(one.session, ["a"], {"k": signature})


@row
def add_a_composite_signature_without_tensor(side, folder) -> None:
    with Graph1(side, folder) as one:
        info = side.sm.build_tensor_info(one.x)
        info.composite_tensor.components.add()
        signature = side.sm.build_signature_def({}, {"y": info}, "")
        one.builder.add_meta_graph_and_variables(one.session, ["a"], {"k": signature})


@row
def add_a_signature_under_the_key_of_the_init_op(side, folder) -> None:
    with Graph1(side, folder) as one:
        signature = side.sm.build_signature_def({}, {}, "")
        key = "__saved_model_init_op"
        one.builder.add_meta_graph_and_variables(one.session, ["a"], {key: signature})


@row
def add_a_signature_under_the_key_of_the_train_op(side, folder) -> None:
    with Graph1(side, folder) as one:
        signature = side.sm.build_signature_def({}, {}, "")
        key = "__saved_model_train_op"
        one.builder.add_meta_graph_and_variables(one.session, ["a"], {key: signature})


@row
def add_a_main_op_that_is_a_tensor(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"], main_op=one.x)


@row
def add_two_main_ops(side, folder) -> None:
    with Graph1(side, folder) as one:
        for _ in range(2):
            operation = side.v1.no_op()
            one.builder.add_meta_graph_and_variables(one.session, ["a"], main_op=operation)
            one.builder.add_meta_graph(["b"], legacy_init_op=operation)


@row
def add_a_legacy_init_op_that_is_a_tensor(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"], legacy_init_op=one.x)


@row
def add_a_second_main_op(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.side.v1.add_to_collection("legacy_init_op", side.v1.no_op())
        one.builder.add_meta_graph_and_variables(one.session, ["a"], main_op=side.v1.no_op())


@differs(tensorflow=tensorflow.errors.FailedPreconditionError, savax=ValueError)
def add_a_variable_without_value(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.v1.Variable(_FLOAT(1), name="w")
        one.builder.add_meta_graph_and_variables(one.session, ["a"])


@row
def add_an_init_op(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"], init_op=one.x.op)


def _add_asset(side: Any, folder: Path, make: Callable[[Any], Any]) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(
            one.session, ["a"], assets_collection=[make(side.v1)]
        )


@row
def add_an_asset_that_is_a_path(side, folder) -> None:
    _add_asset(side, folder, lambda v1: "path")


@row
def add_an_asset_that_is_a_placeholder(side, folder) -> None:
    _add_asset(side, folder, lambda v1: v1.placeholder(side.tf.string, []))


@row
def add_an_asset_that_is_a_number(side, folder) -> None:
    _add_asset(side, folder, lambda v1: v1.constant(1.0))


@row
def add_an_asset_that_is_a_vector(side, folder) -> None:
    _add_asset(side, folder, lambda v1: v1.constant(["a", "b"]))


@row
def add_an_asset_without_path(side, folder) -> None:
    _add_asset(side, folder, lambda v1: v1.constant(""))


@differs(tensorflow=RuntimeError, savax=None)
def save_two_graphs_as_an_image(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"])
        one.builder.add_meta_graph(["b"])
        one.builder.save(experimental_image_format=True)


@differs(tensorflow=RuntimeError, savax=None)
def save_one_graph_as_an_image(side, folder) -> None:
    with Graph1(side, folder) as one:
        one.builder.add_meta_graph_and_variables(one.session, ["a"])
        one.builder.save(experimental_image_format=True)


@differs(tensorflow=None, savax=FileNotFoundError)
def add_an_asset_that_is_not_there(side, folder) -> None:
    _add_asset(side, folder, lambda v1: v1.constant(str(folder / "nothing")))


@row
def save_simply_where_something_is(side, folder) -> None:
    with Graph1(side, folder) as one:
        (folder / "model" / "file").write_text("")
        side.sm.simple_save(one.session, str(folder / "model"), {"x": one.x}, {"y": one.x + 1.0})


@row
def save_simply_without_inputs(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.simple_save(one.session, str(folder / "m"), {}, {"y": one.x})


@row
def load_into_a_session_by_wrong_tags(side, folder) -> None:
    directory = built(side, folder)
    with side.v1.Session(graph=side.tf.Graph()) as session:
        side.sm.load(session, ["a"], directory)


@row
def load_into_a_session_what_is_not_there(side, folder) -> None:
    with side.v1.Session(graph=side.tf.Graph()) as session:
        side.sm.loader.load(session, ["a"], str(folder / "nothing"))


@row
def load_into_a_session_without_checkpoint(side, folder) -> None:
    directory = built(side, folder)
    os.remove(f"{directory}/variables/variables.index")
    with side.v1.Session(graph=side.tf.Graph()) as session:
        side.sm.load(session, ["serve"], directory)


@row
def load_into_a_session_what_can_not_be_parsed(side, folder) -> None:
    (folder / "saved_model.pbtxt").write_text("what?")
    with side.v1.Session(graph=side.tf.Graph()) as session:
        side.sm.load(session, ["serve"], str(folder))


@row
def predict_without_inputs(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.predict_signature_def({}, {"y": one.x})


@row
def predict_without_outputs(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.predict_signature_def({"x": one.x}, None)


@row
def classify_nothing(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.classification_signature_def(None, None, one.x)


@row
def classify_numbers(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.classification_signature_def(one.x, None, one.x)


@row
def classify_without_result(side, folder) -> None:
    with Graph1(side, folder):
        text = side.v1.placeholder(side.tf.string)
        side.sm.classification_signature_def(text, None, None)


@row
def classify_into_numbers(side, folder) -> None:
    with Graph1(side, folder) as one:
        text = side.v1.placeholder(side.tf.string)
        side.sm.classification_signature_def(text, one.x, None)


@row
def classify_with_scores_that_are_strings(side, folder) -> None:
    with Graph1(side, folder):
        text = side.v1.placeholder(side.tf.string)
        side.sm.classification_signature_def(text, text, text)


@row
def predict_from_none(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.predict_signature_def(None, {"y": one.x})


@row
def predict_nothing(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.predict_signature_def({"x": one.x}, {})


@row
def regress_none(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.regression_signature_def(None, one.x)


@row
def regress_into_none(side, folder) -> None:
    with Graph1(side, folder):
        text = side.v1.placeholder(side.tf.string)
        side.sm.regression_signature_def(text, None)


@row
def regress_numbers(side, folder) -> None:
    with Graph1(side, folder) as one:
        side.sm.regression_signature_def(one.x, one.x)


@row
def regress_into_strings(side, folder) -> None:
    with Graph1(side, folder):
        text = side.v1.placeholder(side.tf.string)
        side.sm.regression_signature_def(text, text)


@row
def rename_a_method_of_no_signature(side, folder) -> None:
    updater = side.sm.signature_def_utils.MethodNameUpdater(built(side, folder))
    updater.replace_method_name("nothing", "method", tags="serve")


@row
def rename_a_method_of_no_graph(side, folder) -> None:
    updater = side.sm.signature_def_utils.MethodNameUpdater(built(side, folder))
    updater.replace_method_name("key", "method", tags=["other"])


@row
def rename_to_nothing(side, folder) -> None:
    updater = side.sm.signature_def_utils.MethodNameUpdater(built(side, folder))
    updater.replace_method_name("key", "", tags="serve")


@row
def rename_methods_of_what_is_not_there(side, folder) -> None:
    side.sm.signature_def_utils.MethodNameUpdater(str(folder))


@row
def describe_an_array_as_a_tensor(side, folder) -> None:
    array = side.tf.constant(1.0) if side.is_tensorflow else np.ones(1)
    side.sm.build_tensor_info(array)


@row
def find_a_tensor_that_is_not_named(side, folder) -> None:
    with Graph1(side, folder) as one:
        info = side.sm.build_tensor_info(one.x)
        info.ClearField("name")
        side.sm.get_tensor_from_tensor_info(info)


@row
def find_a_tensor_that_is_not_there(side, folder) -> None:
    with Graph1(side, folder) as one:
        info = side.sm.build_tensor_info(one.x)
        side.sm.get_tensor_from_tensor_info(info, import_scope="elsewhere")


# Sessions and graphs.


@row
def run_a_closed_session(side, folder) -> None:
    with Graph1(side, folder) as one:
        pass
    one.session.run(one.x)


@row
def run_an_empty_graph(side, folder) -> None:
    side.v1.Session(graph=side.tf.Graph()).run([])


def _run(name: str, fetch: Callable[[Any], Any], feeds: Callable[[Any], Any] | None = None) -> None:
    def code(side: Any, folder: Path) -> None:
        with Graph1(side, folder) as one:
            one.session.run(fetch(one), feeds(one) if feeds else None)

    ROWS.add(name, code)


_run("run_a_number", lambda one: 5)
_run("run_none", lambda one: None)
_run("run_an_unknown_operation", lambda one: "nothing")
_run("run_an_unknown_tensor", lambda one: "nothing:0")
_run("run_an_output_that_is_not_there", lambda one: "x:7")
_run("run_a_tensor_of_another_graph", lambda one: _elsewhere(one.side))
_run("run_without_feeding", lambda one: one.x)
_run("feed_none", lambda one: one.x, lambda one: {one.x: None})
_run("feed_an_unknown_tensor", lambda one: one.x, lambda one: {"nothing:0": 1})
_run("feed_a_number", lambda one: one.x, lambda one: {5: 1})
_run("feed_a_tensor", lambda one: one.x, lambda one: {one.x: one.x})
_run("feed_a_wrong_shape", lambda one: one.x, lambda one: {one.x: [[1.0]]})
_run("feed_text_for_numbers", lambda one: one.x, lambda one: {one.x: ["a"]})


def _elsewhere(side: Any) -> Any:
    with side.tf.Graph().as_default():
        return side.v1.constant(1.0)


def _look_up(name: str, code: Callable[[Any, Any], Any]) -> None:
    def looked_up(side: Any, folder: Path) -> None:
        with Graph1(side, folder) as one:
            code(one.session.graph, one)

    ROWS.add(name, looked_up)


_look_up("find_no_tensor", lambda graph, one: graph.get_tensor_by_name("nothing:0"))
_look_up("find_a_tensor_by_its_operation", lambda graph, one: graph.get_tensor_by_name("x"))
_look_up("find_no_operation", lambda graph, one: graph.get_operation_by_name("nothing"))
_look_up("find_an_operation_by_number", lambda graph, one: graph.get_operation_by_name(1))
_look_up("take_a_number_for_an_operation", lambda graph, one: graph.as_graph_element(5))
_look_up("add_numbers_of_two_kinds", lambda graph, one: one.x + one.side.v1.constant(1))
_look_up("name_a_node_badly", lambda graph, one: one.side.v1.no_op(name="a b"))
_look_up("ask_whether_a_tensor_is_true", lambda graph, one: bool(one.x))
_look_up("make_a_variable_of_nothing", lambda graph, one: one.side.v1.Variable(None))
_look_up(
    "make_a_variable_twice",
    lambda graph, one: [one.side.v1.get_variable("w", [1]) for _ in range(2)],
)
_look_up("save_no_variables", lambda graph, one: one.side.v1.train.Saver([]))
_look_up(
    "restore_what_is_not_there",
    lambda graph, one: one.side.v1.train.Saver().restore(one.session, "/nothing/there"),
)
_look_up("restore_none", lambda graph, one: one.side.v1.train.Saver().restore(one.session, None))


@row
def evaluate_without_session(side, folder) -> None:
    with side.tf.Graph().as_default():
        side.v1.constant(1.0).eval()


@row
def add_to_a_finalized_graph(side, folder) -> None:
    with side.tf.Graph().as_default() as graph:
        graph.finalize()
        side.v1.no_op()


@pytest.mark.parametrize("name", ROWS.names)
def test_both_raise_the_same(name, tmp_path) -> None:
    ROWS.check(name, tmp_path)
