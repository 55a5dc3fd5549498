"""Message classes and enums, built from descriptors.binpb in a pool of their own.

The pool is private, so that TensorFlow, or anything else that registers ``tensorflow.*`` messages
in protobuf's default pool, can live in the same process. Their types are in ``_messages.pyi``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from google.protobuf.message import Message

# Two packages have a VersionDef; the one of saved_model.cpb is reached through ChunkMetadata.
_UNNAMED = frozenset({"tensorflow.proto_splitter.VersionDef"})


def _build_pool(files: FileDescriptorSet) -> DescriptorPool:
    pool = DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _message_class(descriptor: Any) -> type[Message]:
    """Returns a class whose attributes are the classes of the messages nested in it.

    protobuf's C runtime sees to that by itself, the one in Python doesn't.
    """
    message_class = GetMessageClass(descriptor)
    for nested in descriptor.nested_types:
        if not hasattr(message_class, nested.name):
            setattr(message_class, nested.name, _message_class(nested))
    return message_class


def _exported(pool: DescriptorPool, files: FileDescriptorSet) -> dict[str, Any]:
    """Returns the top-level message classes and enums by plain name."""
    found: dict[str, Any] = {}
    for file in files.file:
        descriptor = pool.FindFileByName(file.name)
        for name, message in descriptor.message_types_by_name.items():
            if message.full_name not in _UNNAMED:
                found[name] = _message_class(message)
        for name, enum in descriptor.enum_types_by_name.items():
            found[name] = EnumTypeWrapper(enum)
    return found


_FILES = FileDescriptorSet.FromString(Path(__file__).with_name("descriptors.binpb").read_bytes())
POOL = _build_pool(_FILES)
globals().update(_exported(POOL, _FILES))
