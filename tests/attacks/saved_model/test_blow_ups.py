"""Small models that ask for much time or memory: quadratic names, gaps, repeated values."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sv
from savax.errors import CorruptSavedModelError, ResourceLimitError, SavaxError
from savax.protos import SavedModel, TrackableObjectGraph, parse, serialize
from savax.saved_model import load, save
from savax.saved_model.cli import main
from savax.trackable import OBJECT_GRAPH_KEY
from savax.trackable.bundle import BundleReader, write_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
SECONDS = 15


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    m = sv.Module()
    m.w = sv.Variable(np.arange(3, dtype=np.float32), name="w")
    m.f = sv.function(lambda x: x * m.w.value, input_signature=[sv.TensorSpec([3])])
    root = tmp_path_factory.mktemp("blow_ups") / "model"
    save(m, root, {"serving_default": m.f})
    (root / "fingerprint.pb").unlink()
    return root


def edited(directory: Path, tmp_path: Path, edit: Callable[[Any], object]) -> Path:
    model = parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "")
    edit(model)
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(serialize(model))
    return copy


@contextlib.contextmanager
def bounded(most_bytes: int = 200 * MIB):
    """Checks that a block takes seconds, and little memory."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < SECONDS


def add_object(model: Any, identifier: str, **children: int) -> None:
    nodes = model.meta_graphs[0].object_graph_def.nodes
    nodes[0].children.add(local_name=f"x{len(nodes)}", node_id=len(nodes))
    nodes.add().user_object.identifier = identifier
    for name, node_id in children.items():
        nodes[-1].children.add(local_name=name, node_id=node_id)


def many_lists_of_gaps(model: Any) -> None:
    for _ in range(200):
        add_object(model, "trackable_list_wrapper", **{"29999": 0})


def any_signature(model: Any) -> Any:
    signatures = model.meta_graphs[0].object_graph_def.concrete_functions
    return signatures[sorted(signatures)[0]].output_signature


def names_that_python_takes_for_one(model: Any) -> None:
    value = any_signature(model)
    value.Clear()
    value.named_tuple_value.name = "T"
    for name in ("fi", "\ufb01"):  # the ligature, which Python's parser spells out
        value.named_tuple_value.values.add(key=name).value.none_value.SetInParent()


@pytest.mark.parametrize(
    "edit", [many_lists_of_gaps, names_that_python_takes_for_one], ids=["gaps", "names"]
)
def test_is_refused(edit, directory, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("savax.saved_model._edges_import._MOST_GAPS", 50_000)
    copy = edited(directory, tmp_path, edit)
    with bounded(), pytest.raises(CorruptSavedModelError):
        load(copy)


def test_paths_in_a_signature_take_linear_time(directory, tmp_path) -> None:
    def edit(model: Any) -> None:
        value = any_signature(model)
        value.Clear()
        values = value.dict_value.fields["k" * 2_000_000].list_value.values
        for _ in range(50_000):
            values.add().none_value.SetInParent()

    with bounded(), pytest.raises(CorruptSavedModelError):
        load(edited(directory, tmp_path, edit))


def constants(model: Any, count: int, values: list[float], size: int, one_node: bool) -> None:
    graph = model.meta_graphs[0]
    for i in range(count):
        if not (i and one_node):
            node = graph.graph_def.node.add(name=f"big{i}", op="Const")
            node.attr["value"].tensor.dtype = 1
            node.attr["value"].tensor.float_val.extend(values)
            node.attr["value"].tensor.tensor_shape.dim.add(size=size)
        add_object(model, "")
        added = graph.object_graph_def.nodes[-1]
        added.Clear()
        added.constant.operation = "big0" if one_node else f"big{i}"


def test_repeated_values_take_no_memory(directory, tmp_path) -> None:
    copy = edited(directory, tmp_path, lambda m: constants(m, 20, [2.5], 1 << 28, False))
    with bounded():
        loaded = load(copy)
    found = [value for value in vars(loaded).values() if hasattr(value, "array")]
    assert len(found) == 20
    assert found[0].array.shape == (1 << 28,)
    assert found[0].array[-1] == 2.5
    assert not found[0].array.flags.writeable


def test_many_names_of_one_constant_are_one_array(directory, tmp_path) -> None:
    copy = edited(directory, tmp_path, lambda m: constants(m, 50, [1.0, 2.0], 4 * MIB, True))
    with bounded(60 * MIB):
        loaded = load(copy)
    arrays = {id(value.array) for value in vars(loaded).values() if hasattr(value, "array")}
    assert len(arrays) == 1


def test_constants_that_grow_share_one_limit(directory, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("savax.saved_model._objects_import.DEFAULT_LIMIT_BYTES", 40 * MIB)
    copy = edited(directory, tmp_path, lambda m: constants(m, 3, [1.0, 2.0], 4 * MIB, False))
    with bounded(), pytest.raises(ResourceLimitError, match="limit"):
        load(copy)


def test_captures_are_looked_up_once(directory, tmp_path) -> None:
    def edit(model: Any) -> None:
        graph = model.meta_graphs[0]
        nodes = graph.object_graph_def.nodes
        original = next(node for node in nodes if node.HasField("function"))
        name = original.function.concrete_functions[0]
        library = graph.graph_def.library.function
        definition = library.add()
        definition.CopyFrom(next(f for f in library if f.signature.name == name))
        definition.signature.name = "many"
        signature = graph.object_graph_def.concrete_functions["many"]
        signature.CopyFrom(graph.object_graph_def.concrete_functions[name])
        more = 50_000
        for _ in range(more):
            definition.signature.input_arg.add(type=20)
        signature.bound_inputs.extend([signature.bound_inputs[0]] * more)
        for _ in range(2_000):
            add_object(model, "")
            nodes[-1].CopyFrom(original)
            nodes[-1].function.concrete_functions[:] = ["many"]

    with bounded():
        load(edited(directory, tmp_path, edit))


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "debug/saved_model_debug_info.pb"],
)
def test_sparse_file_of_a_tebibyte(name, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "debug").mkdir()
    if name.endswith("txt"):
        (copy / "saved_model.pb").unlink()
    with open(copy / name, "ab") as file:
        file.truncate(1 << 40)
    with bounded(), pytest.raises(ResourceLimitError, match="can't have more than"):
        load(copy)


def with_stored(copy: Path, edit: Callable[[TrackableObjectGraph], object]) -> Path:
    """Changes the object graph of a model's checkpoint."""
    prefix = copy / "variables" / "variables"
    with BundleReader(prefix) as reader:
        tensors = {key: reader.read(key) for key in reader}
    graph = parse(TrackableObjectGraph, tensors[OBJECT_GRAPH_KEY].item(), "")
    edit(graph)
    tensors[OBJECT_GRAPH_KEY] = np.array(serialize(graph), object)
    write_bundle(prefix, tensors.items())
    return copy


def test_objects_that_share_a_stored_node_of_many_edges(directory, tmp_path) -> None:
    count = 5_000

    def edit(model: Any) -> None:
        nodes = model.meta_graphs[0].object_graph_def.nodes
        first = next(node for node in nodes if node.HasField("variable"))
        for i in range(count):
            nodes[0].children.add(local_name=f"v{i}", node_id=len(nodes))
            nodes.add().CopyFrom(first)

    def edit_stored(graph: TrackableObjectGraph) -> None:
        node_id = next(i for i, node in enumerate(graph.nodes) if node.attributes)
        stored = graph.nodes[node_id]
        value = stored.attributes[0]
        for i in range(2 * count):
            stored.attributes.add(name=f"a{i}", checkpoint_key=value.checkpoint_key)
            stored.children.add(local_name=f"c{i}", node_id=0)
        stored.attributes.add().CopyFrom(value)
        del stored.attributes[0]
        for i in range(count):
            graph.nodes[0].children.add(local_name=f"v{i}", node_id=node_id)

    copy = with_stored(edited(directory, tmp_path, edit), edit_stored)
    with bounded():
        loaded = load(copy)
    np.testing.assert_array_equal(getattr(loaded, f"v{count - 1}").numpy(), [0, 1, 2])


def lines_of(*arguments: str) -> list[str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(list(arguments)) == 0
    return output.getvalue().splitlines()


def test_a_long_chain_is_shown_in_linear_space(directory, tmp_path) -> None:
    length = 20_000

    def edit(model: Any) -> None:
        nodes = model.meta_graphs[0].object_graph_def.nodes
        nodes[0].children.add(local_name="chain", node_id=len(nodes))
        for i in range(length):
            nodes.add().user_object.identifier = "_generic_user_object"
            if i + 1 < length:
                nodes[-1].children.add(local_name="next", node_id=len(nodes))

    copy = edited(directory, tmp_path, edit)
    with bounded():
        lines = lines_of("show", os.fspath(copy), "--all")
    shown = [line for line in lines if line.endswith(": object") and "─ next" in line]
    ways = [line for line in lines if "─ next -> " in line]
    assert max(map(len, lines)) < 1000
    # Each object once; where lines begin anew, it is at the left.
    begun = [line for line in lines if line.startswith(("  root.chain.next", "  node "))]
    assert len(shown) + len(begun) == length - 1
    assert [w.partition(" -> ")[2] for w in ways] == [b.strip().partition(":")[0] for b in begun]


def test_slots_of_slots_have_names_of_bounded_length(directory, tmp_path) -> None:
    def edit(graph: TrackableObjectGraph) -> None:
        for i in range(64):
            graph.nodes.add()
            graph.nodes[i].slot_variables.add(
                original_variable_node_id=i, slot_name="m", slot_variable_node_id=i + 1
            )

    copy = with_stored(shutil.copytree(directory, tmp_path / "copy"), edit)
    with bounded():
        lines = lines_of("checkpoint", "show", os.fspath(copy))
        w = sv.Variable(np.zeros(3, np.float32))
        with pytest.raises(SavaxError):
            sv.train.Checkpoint(v=w).read(copy / "variables" / "variables").assert_consumed()
    assert max(map(len, lines)) < 500
