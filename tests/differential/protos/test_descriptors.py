"""The schema against the descriptors inside TensorFlow."""

import importlib

import pytest
from google.protobuf import descriptor_pb2

from savax.protos import SavedModel
from savax.protos._messages import POOL

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

FRAMEWORK = [
    "types",
    "tensor_shape",
    "tensor",
    "resource_handle",
    "attr_value",
    "node_def",
    "op_def",
    "full_type",
    "function",
    "graph",
    "versions",
    "variable",
    "tensor_slice",
    "graph_debug_info",
]
PROTOBUF = [
    "struct",
    "saver",
    "meta_graph",
    "saved_model",
    "saved_object_graph",
    "trackable_object_graph",
    "tensor_bundle",
    "fingerprint",
]
FILES = [
    *(f"tensorflow/core/framework/{name}.proto" for name in FRAMEWORK),
    *(f"tensorflow/core/protobuf/{name}.proto" for name in PROTOBUF),
    "tensorflow/python/training/checkpoint_state.proto",
]


def _facts(file):
    """What a file declares, without documentation, options of languages and derived values."""
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    facts = {"syntax": proto.syntax or "proto2", "package": proto.package}
    facts["dependency"] = sorted(proto.dependency)
    for message in proto.message_type:
        _add_message(facts, message, message.name)
    for enum in proto.enum_type:
        _add_enum(facts, enum, enum.name)
    return facts


def _add_message(facts, message, path):
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        facts[f"{path}.{field.name}"] = (
            field.number, field.label, field.type, field.type_name, oneof, field.proto3_optional,
            field.default_value, field.options.packed,
        )  # fmt: skip
    facts[path] = (
        message.options.map_entry,
        sorted((r.start, r.end) for r in message.reserved_range),
    )
    for nested in message.nested_type:
        _add_message(facts, nested, f"{path}.{nested.name}")
    for enum in message.enum_type:
        _add_enum(facts, enum, f"{path}.{enum.name}")


def _add_enum(facts, enum, path):
    facts[path] = {value.name: value.number for value in enum.value}


@pytest.mark.parametrize("name", FILES)
def test_files_declare_the_same(name):
    module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    ours, theirs = _facts(POOL.FindFileByName(name)), _facts(module.DESCRIPTOR)
    for facts in (ours, theirs):  # proto3 packs by itself; only some files say so
        if facts["syntax"] == "proto3":
            for key, value in facts.items():
                if isinstance(value, tuple) and len(value) == 8:
                    facts[key] = value[:-1]
    assert ours == theirs


def test_all_files_are_compared():
    reached, queue = set(), [SavedModel.DESCRIPTOR.file]
    while queue:
        file = queue.pop()
        if file.name not in reached and not file.name.startswith("google/"):
            reached.add(file.name)
            queue += file.dependencies
    assert reached <= set(FILES)
