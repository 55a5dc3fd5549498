"""Writing the image form: a model as records, large constants spread over many."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from savax.errors import InvalidArgumentError
from savax.protos import ChunkedMessage, ChunkInfo, ChunkMetadata, SavedModel, canonical_bytes
from savax.saved_model.image._highway_hash import LANES
from savax.saved_model.image._paths import (
    GROWING_FIELDS,
    TENSOR_CONTENT,
    Step,
    constant_path,
    graph_def_path,
)
from savax.saved_model.image._riegeli_writer import RecordWriter
from savax.trackable.bundle._varint import encode_varint
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from savax.protos import ChunkedField

# Small parts are more that are hashed side by side, but each has some 60 bytes around it.
_PAGE = 4 << 10
_MOST_PART_BYTES = 32 << 10
_MOST_RECORD_BYTES = (1 << 31) - 1
_LENGTH_DELIMITED = 2  # wire type of protobuf
_SPLITTER_VERSION = 1


class ImageWriter:
    """Writes a model's records and what joins them.

    Attributes:
      base: bytes of the model without its graphs.
      graphs: bytes of each MetaGraphDef's graph, without the content of large constants.

    Args:
      model: a model.
      constants: the content of the first graph's large constants by their nodes' names; their
        nodes have dtype and shape.

    Raises:
      InvalidArgumentError: a part of the model is too large for a record.
    """

    def __init__(self, model: SavedModel, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.graphs = [canonical_bytes(meta_graph.graph_def) for meta_graph in model.meta_graphs]
        rest = SavedModel(saved_model_schema_version=model.saved_model_schema_version)
        for meta_graph in model.meta_graphs:
            other = rest.meta_graphs.add()
            for field, value in meta_graph.ListFields():
                if field.name != "graph_def":
                    _copy_field(other, field.name, value)
        self.base = canonical_bytes(rest)
        self._nodes = [
            (index, constants[node.name])
            for index, node in enumerate(model.meta_graphs[0].graph_def.node if constants else ())
            if node.name in constants
        ]
        sizes = [len(graph) for graph in (self.base, *self.graphs)]
        for size in (*sizes, *(array.nbytes for _, array in self._nodes)):
            if size > _MOST_RECORD_BYTES:
                raise InvalidArgumentError(
                    f"The graph or one of its constants has {size:,} bytes; no part of a model can "
                    f"have more than {_MOST_RECORD_BYTES:,}. Make large arrays Variables."
                )

    def write(self, file: BinaryIO) -> None:
        """Writes the image to an empty file."""
        writer = RecordWriter(file)
        metadata = ChunkMetadata()
        metadata.version.splitter_version = _SPLITTER_VERSION
        for number, record in enumerate((self.base, *self.graphs)):
            metadata.chunks.add(type=ChunkInfo.MESSAGE, size=len(record))
            writer.add(record)
            if number == 0:
                metadata.message.chunk_index = 0
            else:
                graph = _add_field(metadata.message, graph_def_path(number - 1)).message
                graph.chunk_index = number
        part_bytes = _part_bytes(sum(array.nbytes for _, array in self._nodes))
        for index, array in self._nodes:
            first = metadata.message.chunked_fields[0].message
            _write_constant(metadata, first, writer, index, array, part_bytes)
        writer.flush()
        for info, position in zip(metadata.chunks, writer.positions, strict=True):
            info.offset = position
        writer.add(metadata.SerializeToString(deterministic=True))
        writer.flush()


def _write_constant(
    metadata: ChunkMetadata,
    graph: ChunkedMessage,
    writer: RecordWriter,
    index: int,
    array: np.ndarray[Any, Any],
    part_bytes: int,
) -> None:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    number = GROWING_FIELDS.get(as_dtype(array.dtype).name)
    if number is None:
        field = _add_field(graph, (*constant_path(index), TENSOR_CONTENT))
        field.message.chunk_index = len(metadata.chunks)
        metadata.chunks.add(type=ChunkInfo.BYTES, size=len(content))
        writer.add(content)
        return
    # Parts inside one message have an order; TensorFlow's reader may mix up fields whose path
    # has a key of a map.
    message = _add_field(graph, constant_path(index)).message
    tag = encode_varint(number << 3 | _LENGTH_DELIMITED)
    # Each part is a TensorProto with some elements in one of its fields.
    for start in range(0, len(content), part_bytes):
        part = content[start : start + part_bytes]
        prefix = tag + encode_varint(len(part))
        _add_field(message, ()).message.chunk_index = len(metadata.chunks)
        metadata.chunks.add(type=ChunkInfo.MESSAGE, size=len(prefix) + len(part))
        writer.add(part, prefix)


def _part_bytes(total: int) -> int:
    """Returns how large parts of arrays are: each is a message that is hashed beside others."""
    pages = -(-total // (LANES * _PAGE))
    return min(pages * _PAGE, _MOST_PART_BYTES)


def _add_field(message: ChunkedMessage, path: tuple[Step, ...]) -> ChunkedField:
    """Adds a field by its path; the second step, if there is one, is an index."""
    field = message.chunked_fields.add()
    for position, step in enumerate(path):
        tag = field.field_tag.add()
        if isinstance(step, str):
            tag.map_key.s = step
        elif position == 1:
            tag.index = step
        else:
            tag.field = step
    return field


def _copy_field(message: Any, name: str, value: Any) -> None:
    target = getattr(message, name)
    if hasattr(value, "CopyFrom"):
        target.CopyFrom(value)
    else:
        target.MergeFrom(value)
