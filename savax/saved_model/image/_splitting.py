"""Writing the image form: a model as records, large constants spread over many."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from savax.errors import InvalidArgumentError
from savax.protos import ChunkedMessage, ChunkInfo, ChunkMetadata, SavedModel, canonical_bytes
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
    from collections.abc import Iterator, Mapping
    from typing import Any

    from savax.protos import ChunkedField

# Parts of an array are hashed side by side, so a batch has many; each has some 60 bytes around it.
_BATCH_RECORDS = 512
_MOST_PART_BYTES = 128 << 10
_LEAST_PART_BYTES = 4 << 10
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
        self._add(metadata, writer, [self.base, *self.graphs], ChunkInfo.MESSAGE)
        metadata.message.chunk_index = 0
        for number in range(len(self.graphs)):
            graph = _add_field(metadata.message, graph_def_path(number)).message
            graph.chunk_index = 1 + number
        for index, array in self._nodes:
            first = metadata.message.chunked_fields[0].message
            self._write_constant(metadata, first, writer, index, array)
        writer.write([metadata.SerializeToString(deterministic=True)])

    def _write_constant(
        self,
        metadata: ChunkMetadata,
        graph: ChunkedMessage,
        writer: RecordWriter,
        index: int,
        array: np.ndarray[Any, Any],
    ) -> None:
        number = GROWING_FIELDS.get(as_dtype(array.dtype).name)
        if number is None:
            field = _add_field(graph, (*constant_path(index), TENSOR_CONTENT))
            field.message.chunk_index = len(metadata.chunks)
            content = np.ascontiguousarray(array).tobytes()
            self._add(metadata, writer, [content], ChunkInfo.BYTES)
            return
        # Parts inside one message have an order; TensorFlow's reader may mix up fields whose path
        # has a key of a map.
        message = _add_field(graph, constant_path(index)).message
        parts = _tensor_parts(array, number)
        while batch := list(itertools.islice(parts, _BATCH_RECORDS)):
            for offset in range(len(batch)):
                _add_field(message, ()).message.chunk_index = len(metadata.chunks) + offset
            self._add(metadata, writer, batch, ChunkInfo.MESSAGE)

    def _add(
        self,
        metadata: ChunkMetadata,
        writer: RecordWriter,
        records: list[bytes],
        kind: int,
    ) -> None:
        for record, position in zip(records, writer.write(records), strict=True):
            metadata.chunks.add(type=kind, size=len(record), offset=position)


def _tensor_parts(array: np.ndarray[Any, Any], number: int) -> Iterator[bytes]:
    """Yields TensorProtos that together have an array's elements in one of their fields."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    tag = encode_varint(number << 3 | _LENGTH_DELIMITED)
    pages = -(-len(content) // (_BATCH_RECORDS * _LEAST_PART_BYTES))
    size = min(pages * _LEAST_PART_BYTES, _MOST_PART_BYTES)
    for start in range(0, len(content), size):
        part = content[start : start + size]
        yield tag + encode_varint(len(part)) + part


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
