"""Models made to hurt: each is refused with an error of savax, or loads without harm."""

from __future__ import annotations

import os
import shutil
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv
from savax.errors import (
    CorruptBundleError,
    CorruptSavedModelError,
    NotFoundError,
    ResourceLimitError,
    SavaxError,
    UnsafePathError,
)
from savax.protos import SavedModel, parse, serialize
from savax.saved_model import LoadOptions, load, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HUGE = 2**31 - 1


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    (root / "words.txt").write_text("a b c")
    m = sv.Module()
    m.w = sv.Variable(np.arange(3, dtype=np.float32), name="w")
    m.list = [sv.Variable(1.0), sv.Variable(2.0)]
    m.dict = {"k": sv.Variable(3.0)}
    m.words = sv.saved_model.Asset(root / "words.txt")
    big = np.arange(20_000, dtype=np.float32)
    m.f = sv.function(
        lambda x: x * m.w.value + jnp.sum(jnp.asarray(big) * x[0]),
        input_signature=[sv.TensorSpec([3], sv.float32)],
    )
    save(m, root / "model")
    return root / "model"


def graph_of(model: Any) -> Any:
    return model.meta_graphs[0].object_graph_def


def node(model: Any, kind: str, identifier: str | None = None) -> Any:
    for saved in graph_of(model).nodes:
        wanted = identifier is None or saved.user_object.identifier == identifier
        if wanted and saved.WhichOneof("kind") == kind:
            return saved
    raise AssertionError(kind)


def child(model: Any, name: str) -> Any:
    return next(c for c in graph_of(model).nodes[0].children if c.local_name == name)


def the_function(model: Any) -> Any:
    return next(iter(graph_of(model).concrete_functions.values()))


def renamed(name: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        child(model, "w").local_name = name

    return edit


def no_nodes(model: Any) -> None:
    del graph_of(model).nodes[:]


def no_graph(model: Any) -> None:
    del model.meta_graphs[:]


def child_id(node_id: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        child(model, "w").node_id = node_id

    return edit


def slot_ids(*ids: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        graph_of(model).nodes[0].slot_variables.add(
            original_variable_node_id=ids[0], slot_name="m", slot_variable_node_id=ids[1]
        )

    return edit


def root_is(kind: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        graph_of(model).nodes[0].CopyFrom(node(model, kind))

    return edit


def children_of(kind: str, identifier: str | None, name: str, number: int) -> Any:
    def edit(model: Any) -> None:
        node(model, kind, identifier).children.add(local_name=name, node_id=number)

    return edit


def bound(*ids: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        the_function(model).bound_inputs[:] = ids

    return edit


def without_library(model: Any) -> None:
    del model.meta_graphs[0].graph_def.library.function[:]


def without_signatures(model: Any) -> None:
    graph_of(model).concrete_functions.clear()


def unknown_trace(model: Any) -> None:
    node(model, "function").function.concrete_functions.append("nowhere_1")


def unknown_constant(model: Any) -> None:
    node(model, "constant").constant.operation = "nowhere"


def huge_constant(model: Any) -> None:
    for node_def in model.meta_graphs[0].graph_def.node:
        if node_def.name == node(model, "constant").constant.operation:
            tensor = node_def.attr["value"].tensor
            tensor.tensor_content = b""
            tensor.float_val.append(1.0)
            tensor.tensor_shape.dim[0].size = 2**60


def variable(**fields: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        saved = graph_of(model).nodes[child(model, "w").node_id].variable
        for name, value in fields.items():
            setattr(saved, name, value)

    return edit


def variable_shape(*sizes: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        shape = graph_of(model).nodes[child(model, "w").node_id].variable.shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(size=size)

    return edit


def asset_index(model: Any) -> None:
    node(model, "asset").asset.asset_file_def_index = HUGE


def asset_name(name: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        model.meta_graphs[0].asset_file_def[0].filename = name

    return edit


def deep_signature(model: Any) -> None:
    value = the_function(model).output_signature
    value.Clear()
    for _ in range(60):
        value = value.list_value.values.add()


def odd_signature(model: Any) -> None:
    the_function(model).canonicalized_input_signature.int64_value = 3


def odd_parameters(model: Any) -> None:
    node(model, "function").function.function_spec.fullargspec.int64_value = 3


def more_arguments(model: Any) -> None:
    signature = the_function(model).canonicalized_input_signature
    args = signature.tuple_value.values[0].tuple_value.values
    for _ in range(50):
        args.add().CopyFrom(args[0] if args else signature)


def long_chain(model: Any) -> None:
    nodes = graph_of(model).nodes
    first = len(nodes)
    nodes[0].children.add(local_name="chain", node_id=first)
    for i in range(20_000):
        nodes.add().user_object.identifier = "_generic_user_object"
        nodes[-1].children.add(local_name="next", node_id=first + (i + 1) % 20_000)


def calls_itself(model: Any) -> None:
    for function in model.meta_graphs[0].graph_def.library.function:
        call = function.node_def.add(name="again", op="PartitionedCall")
        call.attr["f"].func.name = function.signature.name
        for name in function.ret:
            function.ret[name] = "again:output:0"
        call.input.extend(arg.name for arg in function.signature.input_arg)
        for attr, args in (
            ("Tin", function.signature.input_arg),
            ("Tout", function.signature.output_arg),
        ):
            call.attr[attr].list.type.extend(arg.type for arg in args)


def cyclic_nodes(model: Any) -> None:
    for function in model.meta_graphs[0].graph_def.library.function:
        for name in ("one", "two"):
            cycle = function.node_def.add(name=name, op="AddV2")
            cycle.input.extend(["one:z:0", "two:z:0"])
            cycle.attr["T"].type = 1
        for name in function.ret:
            function.ret[name] = "one:z:0"


def duplicate_functions(model: Any) -> None:
    library = model.meta_graphs[0].graph_def.library.function
    library.add().CopyFrom(library[0])


def different_functions(model: Any) -> None:
    library = model.meta_graphs[0].graph_def.library.function
    library.add().CopyFrom(library[0])
    library[-1].node_def.add(name="another", op="NoOp")


def duplicate_constants(model: Any) -> None:
    nodes = model.meta_graphs[0].graph_def.node
    nodes.add().CopyFrom(next(node for node in nodes if node.op == "Const"))


def string_constant(model: Any) -> None:
    """Makes a constant one string that stands for 2**40 of them."""
    for node_def in model.meta_graphs[0].graph_def.node:
        if node_def.name == node(model, "constant").constant.operation:
            tensor = node_def.attr["value"].tensor
            tensor.Clear()
            tensor.dtype = 7
            tensor.string_val.append(b"x" * 1000)
            tensor.tensor_shape.dim.add(size=2**40)


def duplicate_nodes(model: Any) -> None:
    for function in model.meta_graphs[0].graph_def.library.function:
        function.node_def.add().CopyFrom(function.node_def[0])


def signature_is_a_variable(model: Any) -> None:
    signatures = node(model, "user_object", "signature_map")
    signatures.children[0].node_id = child(model, "w").node_id


EDITS = {
    "no_nodes": no_nodes,
    "no_graph": no_graph,
    "child_negative": child_id(-1),
    "child_huge": child_id(HUGE),
    "child_is_root": child_id(0),
    "slot_negative": slot_ids(-1, 1),
    "slot_huge": slot_ids(1, HUGE),
    "slot_of_itself": slot_ids(0, 0),
    **{f"root_{kind}": root_is(kind) for kind in ("variable", "function", "asset", "constant")},
    "root_bare": root_is("bare_concrete_function"),
    "two_names": children_of("user_object", None, "w", 0),
    "list_gap": children_of("user_object", "trackable_list_wrapper", "999999999", 0),
    "list_name": children_of("user_object", "trackable_list_wrapper", "length", 0),
    "list_in_itself": children_of("user_object", "trackable_list_wrapper", "2", 2),
    "list_sign": children_of("user_object", "trackable_list_wrapper", "²", 0),
    "dict_in_itself": children_of("user_object", "trackable_dict_wrapper", "self", 3),
    "variable_with_child": children_of("variable", None, "value", 0),
    "bound_negative": bound(-1),
    "bound_huge": bound(HUGE),
    "bound_root": bound(0),
    "bound_none": bound(),
    "bound_many": bound(*[1] * 1000),
    "without_library": without_library,
    "without_signatures": without_signatures,
    "unknown_trace": unknown_trace,
    "unknown_constant": unknown_constant,
    "huge_constant": huge_constant,
    "variable_dtype": variable(dtype=9999),
    "variable_other_dtype": variable(dtype=3),
    "variable_resource": variable(dtype=20),
    "variable_synchronization": variable(synchronization=77),
    "variable_aggregation": variable(aggregation=-5),
    "variable_name": variable(name="../../x\0\n" * 1000),
    "variable_huge": variable_shape(2**62, 2**62),
    "variable_negative": variable_shape(-7),
    "variable_rank": variable_shape(*[1] * 1000),
    "asset_index": asset_index,
    **{
        f"asset_{i}": asset_name(name)
        for i, name in enumerate(
            ["../saved_model.pb", "/etc/passwd", "", ".", "a/../../b", "x\0y", "..\\x"]
        )
    },
    "deep_signature": deep_signature,
    "odd_signature": odd_signature,
    "odd_parameters": odd_parameters,
    "more_arguments": more_arguments,
    "long_chain": long_chain,
    "calls_itself": calls_itself,
    "cyclic_nodes": cyclic_nodes,
    "different_functions": different_functions,
    "duplicate_constants": duplicate_constants,
    "duplicate_functions": duplicate_functions,
    "string_constant": string_constant,
    "duplicate_nodes": duplicate_nodes,
    "signature_is_a_variable": signature_is_a_variable,
    **{
        f"named_{name}": renamed(name)
        for name in (
            *("__class__", "__dict__", "__call__", "__init__", "__setattr__", "__del__", "__len__"),
            *("_edges", "_pending", "_trackable_children", "_track", "add_child", "set_untracked"),
            *("signatures", "tensorflow_version", "function_aliases", "", "a.b", "0", "x" * 10_000),
        )
    },
}


def edited(name: str, directory: Path, tmp_path: Path) -> Path:
    """Returns a copy of the model that was edited in one of the ways above."""
    model = parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "")
    EDITS[name](model)
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "fingerprint.pb").unlink()
    (copy / "saved_model.pb").write_bytes(serialize(model))
    return copy


# What must be refused, by which error, and whether that is when the function is called.
REFUSED: dict[str, tuple[type[SavaxError], bool]] = {
    **{f"asset_{i}": (UnsafePathError, False) for i in range(7)},
    "asset_index": (CorruptSavedModelError, False),
    "calls_itself": (CorruptSavedModelError, True),
    "child_huge": (CorruptSavedModelError, False),
    "child_negative": (CorruptSavedModelError, False),
    "cyclic_nodes": (CorruptSavedModelError, True),
    "deep_signature": (CorruptSavedModelError, False),
    "different_functions": (CorruptSavedModelError, False),
    "duplicate_constants": (CorruptSavedModelError, False),
    "duplicate_nodes": (CorruptSavedModelError, True),
    "huge_constant": (ResourceLimitError, False),
    "list_gap": (CorruptSavedModelError, False),
    "slot_huge": (CorruptSavedModelError, False),
    "string_constant": (ResourceLimitError, False),
    "two_names": (CorruptSavedModelError, False),
    "variable_huge": (CorruptSavedModelError, False),
    "variable_negative": (CorruptSavedModelError, False),
    "variable_rank": (CorruptSavedModelError, False),
}
MOST_BYTES = 200 << 20


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_hostile_is_refused(name, directory, tmp_path) -> None:
    error, when_called = REFUSED[name]
    copy = edited(name, directory, tmp_path)
    tracemalloc.start()
    start = time.process_time()
    try:
        if when_called:
            loaded = load(copy)
            with pytest.raises(error):
                loaded.f(np.ones(3, np.float32))
        else:
            with pytest.raises(error):
                load(copy)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 20


HALVES = {
    "nothing": (set(), NotFoundError),
    "no proto": ({"variables", "assets", "fingerprint.pb"}, NotFoundError),
    "no variables": ({"saved_model.pb", "assets", "fingerprint.pb"}, NotFoundError),
    "no index": ({"saved_model.pb", "variables/variables.data-00000-of-00001"}, NotFoundError),
    "no data": ({"saved_model.pb", "variables/variables.index"}, CorruptBundleError),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_written_directories(name, directory, tmp_path) -> None:
    kept, error = HALVES[name]
    half = tmp_path / "half"
    (half / "variables").mkdir(parents=True)
    for entry in kept:
        if (directory / entry).is_dir():
            shutil.copytree(directory / entry, half / entry, dirs_exist_ok=True)
        else:
            shutil.copy(directory / entry, half / entry)
    with pytest.raises(error):
        load(half)


@pytest.mark.parametrize("name", EDITS)
def test_edited_graphs(name, directory, tmp_path) -> None:
    copy = edited(name, directory, tmp_path)
    start = time.process_time()
    for skip in (False, True):
        try:
            loaded = load(copy, options=LoadOptions(experimental_skip_checkpoint=skip))
            asset = getattr(getattr(loaded, "words", None), "asset_path", None)
            assert asset is None or os.path.dirname(asset) == str(copy / "assets")
            if hasattr(loaded, "f"):
                loaded.f(np.ones(3, np.float32))
            save(loaded, tmp_path / "again")
            load(tmp_path / "again")
        except SavaxError:
            continue
    assert time.process_time() - start < 20


def outside(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "words.txt").write_text("secret")
    return secret


@pytest.mark.parametrize(
    "link",
    ["assets/words.txt", "assets", "saved_model.pb", "variables", "variables/variables.index"],
)
def test_links_that_leave_the_directory(link, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    elsewhere = tmp_path / "elsewhere"
    os.rename(copy / link, elsewhere)
    os.symlink(elsewhere, copy / link)
    with pytest.raises(UnsafePathError):
        load(copy)


@pytest.mark.parametrize("name", ["saved_model.pb", "fingerprint.pb"])
def test_what_is_no_file(name, directory, tmp_path) -> None:
    for make in (os.mkfifo, os.mkdir):
        copy = tmp_path / make.__name__
        shutil.copytree(directory, copy)
        (copy / name).unlink()
        make(copy / name)
        with pytest.raises(SavaxError):
            load(copy)
