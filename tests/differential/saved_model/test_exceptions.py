"""What TensorFlow doesn't save and load as objects, savax refuses with the same built-in type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import savax
from savax.protos import SavedModel
from tests.exception_rows import Rows, built

pytestmark = pytest.mark.tf

ROWS = Rows()
row, differs = ROWS.row, ROWS.differs
_FLOAT = np.float32


# Saving and loading objects.


def module(side: Any, **attributes: Any) -> Any:
    made = side.tf.Module()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def adder(side: Any, signature: bool = True, result: Any = None) -> Any:
    specs = [side.tf.TensorSpec([None], side.tf.float32, name="x")] if signature else None
    return side.tf.function(lambda x: x + 1 if result is None else result(x), input_signature=specs)


def saved(side: Any, folder: Path, **attributes: Any) -> str:
    """Writes a model with one Variable and a signature; returns its directory."""
    directory = str(folder / "model")
    made = module(side, v=side.tf.Variable(_FLOAT(1)), f=adder(side), **attributes)
    side.tf.saved_model.save(made, directory, signatures=made.f)
    return directory


@row
def save_a_number(side, folder) -> None:
    side.tf.saved_model.save(5, str(folder / "m"))


@row
def save_a_dict(side, folder) -> None:
    side.tf.saved_model.save({}, str(folder / "m"))


@row
def save_inside_a_function(side, folder) -> None:
    made = module(side)

    def traced(x):
        side.tf.saved_model.save(made, str(folder / "m"))
        return x

    adder(side, result=traced)(np.ones(1, _FLOAT))


@row
def save_where_a_file_is(side, folder) -> None:
    (folder / "file").write_text("")
    side.tf.saved_model.save(module(side), str(folder / "file" / "m"))


@row
def signature_that_is_no_function(side, folder) -> None:
    side.tf.saved_model.save(module(side), str(folder / "m"), signatures=5)


@row
def signature_without_input_signature(side, folder) -> None:
    made = module(side, f=adder(side, signature=False))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


@row
def signature_with_an_output_key_that_is_no_string(side, folder) -> None:
    made = module(side, f=adder(side, result=lambda x: {1: x}))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


@row
def signature_with_a_nested_list(side, folder) -> None:
    made = module(side, f=adder(side, result=lambda x: [[x]]))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


@row
def signature_of_an_untracked_variable(side, folder) -> None:
    v = side.tf.Variable(_FLOAT(1))
    made = module(side, f=adder(side, result=lambda x: x + v))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


@row
def signatures_that_are_no_functions(side, folder) -> None:
    side.tf.saved_model.save(module(side), str(folder / "m"), signatures={"a": 5})


@row
def signatures_without_input_signature(side, folder) -> None:
    made = module(side, f=adder(side, signature=False))
    side.tf.saved_model.save(made, str(folder / "m"), signatures={"a": made.f})


@row
def signature_with_none_among_its_outputs(side, folder) -> None:
    made = module(side, f=adder(side, result=lambda x: {"y": x, "z": None}))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


@differs(tensorflow=ValueError, savax=None)
def signature_that_takes_a_variable(side, folder) -> None:
    v = side.tf.Variable(_FLOAT(1), name="v")
    made = module(side, f=adder(side, signature=False), v=v)
    concrete = made.f.get_concrete_function(v)
    side.tf.saved_model.save(made, str(folder / "m"), signatures=concrete)


@row
def attribute_that_is_called_signatures(side, folder) -> None:
    made = module(side, signatures=module(side))
    side.tf.saved_model.save(made, str(folder / "m"))


@differs(tensorflow=KeyError, savax=savax.errors.UntrackedDependencyError)
def function_of_an_untracked_variable(side, folder) -> None:
    v = side.tf.Variable(_FLOAT(1))
    made = module(side, f=adder(side, result=lambda x: x + v))
    side.tf.saved_model.save(made, str(folder / "m"), signatures={})


@differs(tensorflow=None, savax=FileNotFoundError)
def save_an_asset_that_is_not_there(side, folder) -> None:
    asset = side.tf.saved_model.Asset(str(folder / "nothing"))
    side.tf.saved_model.save(module(side, asset=asset), str(folder / "m"))


@differs(tensorflow=ValueError, savax=RuntimeError)
def gradient_that_can_not_be_traced(side, folder) -> None:
    def backward(*arguments):
        raise RuntimeError

    def forward(x):
        return (x, backward) if side.is_tensorflow else (x, None)

    if side.is_tensorflow:
        result = side.tf.custom_gradient(forward)
    else:
        result = jax.custom_vjp(lambda x: x)
        result.defvjp(forward, backward)
    made = module(side, f=adder(side, result=result))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)


# Options.


@row
def whitelist_that_is_no_list(side, folder) -> None:
    side.tf.saved_model.SaveOptions(namespace_whitelist="a")


@row
def whitelist_of_numbers(side, folder) -> None:
    side.tf.saved_model.SaveOptions(namespace_whitelist=[1])


@row
def alias_of_a_number(side, folder) -> None:
    options = side.tf.saved_model.SaveOptions(function_aliases={"a": 5})
    side.tf.saved_model.save(module(side, f=adder(side)), str(folder / "m"), options=options)


@row
def variable_policy_for_saving_that_is_none(side, folder) -> None:
    side.tf.saved_model.SaveOptions(experimental_variable_policy="nothing")


@row
def variable_policy_for_loading_that_is_none(side, folder) -> None:
    side.tf.saved_model.LoadOptions(experimental_variable_policy="nothing")


@row
def sharding_callback_that_is_none(side, folder) -> None:
    options = side.tf.saved_model.SaveOptions(experimental_sharding_callback=5)
    made = module(side, v=side.tf.Variable(_FLOAT(1)))
    side.tf.saved_model.save(made, str(folder / "m"), options=options)


@differs(tensorflow=ValueError, savax=None)
def save_as_an_image(side, folder) -> None:
    options = side.tf.saved_model.SaveOptions(experimental_image_format=True)
    side.tf.saved_model.save(module(side), str(folder / "m"), options=options)


@row
def load_aliases_where_there_is_such_an_attribute(side, folder) -> None:
    directory = saved(side, folder, function_aliases=module(side))
    options = side.tf.saved_model.LoadOptions(experimental_load_function_aliases=True)
    side.tf.saved_model.load(directory, options=options)


# Loading objects.


@row
def load_what_is_not_there(side, folder) -> None:
    side.tf.saved_model.load(str(folder / "m"))


@row
def load_an_empty_directory(side, folder) -> None:
    side.tf.saved_model.load(str(folder))


@row
def load_what_can_not_be_parsed(side, folder) -> None:
    (folder / "saved_model.pb").write_bytes(b"\xff" * 9)
    side.tf.saved_model.load(str(folder))


@row
def load_a_graph_of_version_1_without_checkpoint(side, folder) -> None:
    directory = built(side, folder)
    os.remove(f"{directory}/variables/variables.index")
    side.tf.saved_model.load(directory, tags=["serve"])


@row
def load_by_wrong_tags(side, folder) -> None:
    side.tf.saved_model.load(saved(side, folder), tags="other")


@row
def load_without_checkpoint(side, folder) -> None:
    directory = saved(side, folder)
    os.remove(f"{directory}/variables/variables.index")
    side.tf.saved_model.load(directory)


@row
def load_a_damaged_checkpoint(side, folder) -> None:
    directory = saved(side, folder)
    with open(f"{directory}/variables/variables.data-00000-of-00001", "r+b") as file:
        file.write(b"\xff")
    side.tf.saved_model.load(directory)


@row
def load_without_data(side, folder) -> None:
    directory = saved(side, folder)
    os.remove(f"{directory}/variables/variables.data-00000-of-00001")
    side.tf.saved_model.load(directory)


@row
def load_a_variable_of_an_unknown_kind(side, folder) -> None:
    directory = saved(side, folder)
    model = SavedModel.FromString(Path(directory, "saved_model.pb").read_bytes())
    for node in model.meta_graphs[0].object_graph_def.nodes:
        if node.HasField("variable"):
            node.variable.synchronization = 99
    Path(directory, "saved_model.pb").write_bytes(model.SerializeToString())
    side.tf.saved_model.load(directory)


@row
def call_what_fits_no_trace(side, folder) -> None:
    made = module(side, f=adder(side, signature=False))
    made.f(np.ones(2, _FLOAT))
    side.tf.saved_model.save(made, str(folder / "m"))
    side.tf.saved_model.load(str(folder / "m")).f(np.ones((2, 2), _FLOAT))


@row
def call_a_signature_without_its_input(side, folder) -> None:
    side.tf.saved_model.load(saved(side, folder)).signatures["serving_default"]()


@row
def call_a_signature_with_another_name(side, folder) -> None:
    loaded = side.tf.saved_model.load(saved(side, folder))
    loaded.signatures["serving_default"](z=side.tf.constant([1.0]) if side.is_tensorflow else [1.0])


@row
def call_a_signature_by_two_positions(side, folder) -> None:
    specs = [side.tf.TensorSpec([], side.tf.float32, name=name) for name in "xy"]
    made = module(side, f=side.tf.function(lambda x, y: x + y, input_signature=specs))
    side.tf.saved_model.save(made, str(folder / "m"), signatures=made.f)
    x = side.tf.constant(1.0) if side.is_tensorflow else _FLOAT(1)
    side.tf.saved_model.load(str(folder / "m")).signatures["serving_default"](x, x)


@row
def find_a_signature_that_is_not_there(side, folder) -> None:
    side.tf.saved_model.load(saved(side, folder)).signatures["nothing"]


@row
def read_a_fingerprint_that_can_not_be_parsed(side, folder) -> None:
    directory = saved(side, folder)
    Path(directory, "fingerprint.pb").write_bytes(b"\xff" * 9)
    side.tf.saved_model.experimental.read_fingerprint(directory)


@row
def call_with_a_wrong_dtype(side, folder) -> None:
    side.tf.saved_model.load(saved(side, folder)).f(np.array(["a"]))


@row
def call_a_function_that_was_never_traced(side, folder) -> None:
    directory = str(folder / "m")
    side.tf.saved_model.save(module(side, f=adder(side, signature=False)), directory)
    side.tf.saved_model.load(directory).f(np.ones(1, _FLOAT))


@row
def change_signatures(side, folder) -> None:
    side.tf.saved_model.load(saved(side, folder)).signatures["x"] = None


@row
def read_a_fingerprint_that_is_not_there(side, folder) -> None:
    side.tf.saved_model.experimental.read_fingerprint(str(folder))


@row
def load_without_tags_where_there_are_two_graphs(side, folder) -> None:
    side.tf.saved_model.load(built(side, folder))


@row
def load_a_graph_of_version_1_by_wrong_tags(side, folder) -> None:
    side.tf.saved_model.load(built(side, folder), tags="other")


@pytest.mark.parametrize("name", ROWS.names)
def test_both_raise_the_same(name, tmp_path) -> None:
    ROWS.check(name, tmp_path)
