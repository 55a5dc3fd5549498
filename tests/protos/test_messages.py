"""The message classes: their schema, their pool and their neighbours in the process."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

import savax.protos
from savax.protos import (
    AssetFileDef,
    ChunkedMessage,
    CollectionDef,
    DataType,
    FunctionDef,
    GraphDebugInfo,
    NodeDef,
    SaverDef,
    StructuredValue,
    TrackableObjectGraph,
    TypeSpecProto,
)

ROOT = Path(savax.protos.__file__).parent


def _run(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent.parent,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
    )


def _build_tool():
    pytest.importorskip("grpc_tools")
    return importlib.import_module("tools.build_descriptors")


def test_descriptors_are_those_of_the_schema():
    compiled = _build_tool().compile_schema(ROOT / "schema")
    shipped = FileDescriptorSet.FromString((ROOT / "descriptors.binpb").read_bytes())
    assert compiled == shipped, "run tools/build_descriptors.py"


def test_stub_is_that_of_the_schema():
    tool = _build_tool()
    shipped = FileDescriptorSet.FromString((ROOT / "descriptors.binpb").read_bytes())
    stub = (ROOT / "_messages.pyi").read_text(encoding="utf-8")
    assert tool.stub_text(shipped) == stub, "run tools/build_descriptors.py"


def test_every_message_of_the_pool_is_exported():
    shipped = FileDescriptorSet.FromString((ROOT / "descriptors.binpb").read_bytes())
    names = {m.name for f in shipped.file for m in f.message_type}
    names |= {e.name for f in shipped.file for e in f.enum_type}
    assert names <= set(savax.protos.__all__)
    assert all(hasattr(savax.protos, name) for name in savax.protos.__all__)


def test_messages_keep_their_full_names():
    assert NodeDef.DESCRIPTOR.full_name == "tensorflow.NodeDef"
    assert NodeDef.DESCRIPTOR.file.name == "tensorflow/core/framework/node_def.proto"
    collection = CollectionDef()
    collection.any_list.value.add().Pack(AssetFileDef(filename="vocab.txt"))
    packed = collection.any_list.value[0]
    assert packed.type_url == "type.googleapis.com/tensorflow.AssetFileDef"
    unpacked = AssetFileDef()
    assert packed.Unpack(unpacked)
    assert unpacked.filename == "vocab.txt"


def test_enums_are_wrapped():
    assert DataType.Value("DT_BFLOAT16") == 14
    assert DataType.Name(20) == "DT_RESOURCE"
    assert SaverDef.V2 == 2
    assert TypeSpecProto.TypeSpecClass.Value("EXTENSION_TYPE_SPEC") == 13


def test_presence_is_that_of_the_format():
    assert not ChunkedMessage().HasField("chunk_index")
    assert ChunkedMessage(chunk_index=0).HasField("chunk_index")
    assert GraphDebugInfo.FileLineCol(line=0).HasField("line")  # proto2
    assert StructuredValue(bool_value=False).WhichOneof("kind") == "bool_value"
    has_values = TrackableObjectGraph.TrackableObject().has_checkpoint_values
    has_values.value = True
    assert has_values.SerializeToString() == b"\x08\x01"


def test_wire_examples():
    """Bytes observed in files that TensorFlow wrote."""
    assert StructuredValue(int64_value=-1).SerializeToString().hex() == "6001"
    assert StructuredValue(float64_value=1.5).SerializeToString().hex() == "59000000000000f83f"
    function = FunctionDef()
    function.arg_attr[1].attr["a"].i = 2
    assert function.SerializeToString().hex() == "3a0d080112090a070a016112021802"


def test_import_loads_no_jax_and_no_tensorflow():
    done = _run(
        "import savax.protos, sys;"
        "print([m for m in ('jax', 'tensorflow', 'grpc_tools') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.tf
@pytest.mark.parametrize("order", ["savax.protos, tensorflow", "tensorflow, savax.protos"])
def test_shares_a_process_with_tensorflow(order):
    pytest.importorskip("tensorflow")
    done = _run(
        f"import {order}\n"
        "from tensorflow.core.framework.node_def_pb2 import NodeDef as Theirs\n"
        "ours = savax.protos.NodeDef(name='n', op='MatMul')\n"
        "ours.attr['T'].type = 1\n"
        "theirs = Theirs.FromString(ours.SerializeToString())\n"
        "assert type(theirs) is not type(ours)\n"
        "assert theirs.attr['T'].type == 1\n"
        "print(theirs.op)\n"
    )
    assert done.stdout.strip() == "MatMul", done.stderr
