"""Reading the image form: its records joined into one SavedModel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from savax.errors import CorruptSavedModelError, ResourceLimitError
from savax.protos import ChunkMetadata, SavedModel, decode_shape, decode_tensor, parse
from savax.saved_model.image._paths import (
    GROWING_FIELDS,
    LEAST_APART,
    TENSOR_CONTENT,
    Step,
    constant_index,
)
from savax.saved_model.image._riegeli_reader import RecordFile
from savax.trackable.bundle._varint import decode_varint
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.protos import ChunkedField, ChunkedMessage

# Records may be named more than once, but not so often that little becomes much.
_MOST_READ = 4
_READ_FLOOR = 64 << 20
_MOST_GAPS = 1 << 16  # elements that may be missing before those that have records, in all
_MOST_DEPTH = 100


class ImageReader:
    """Joins the records of one file.

    Attributes:
      constants: content of large constants of the first graph, by the index of their nodes.

    Args:
      fd: the open file.
      what: names it in errors.
    """

    def __init__(self, fd: int, what: str) -> None:
        self.constants: dict[int, np.ndarray[Any, Any]] = {}
        self._what = what
        self._file = RecordFile(fd, what)
        self._metadata = parse(ChunkMetadata, self._file.last(), f"the last record of {what}")
        self._file.expect(info.offset for info in self._metadata.chunks)
        self._left = max(_READ_FLOOR, _MOST_READ * self._file.decoded_size)
        self._left_gaps = _MOST_GAPS

    def read(self) -> SavedModel:
        """Returns the model.

        Raises:
          CorruptSavedModelError: the records don't fit together.
          ResourceLimitError: they ask for far more than the file has.
        """
        model = SavedModel()
        try:
            self._join(model, self._metadata.message, ())
        except (DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise CorruptSavedModelError(f"{self._what} can't be joined: {error}") from error
        return model

    def _records(self, indices: Sequence[int]) -> Iterator[bytes]:
        infos = []
        for index in indices:
            if index >= len(self._metadata.chunks):
                raise self._corrupt(f"has no record {index}")
            infos.append(self._metadata.chunks[index])
        self._left -= sum(info.size for info in infos)
        if self._left < 0:
            raise ResourceLimitError(f"{self._what} uses the same records again and again.")
        for info in infos:
            record = self._file.read(info.offset)
            if len(record) != info.size:
                raise self._corrupt(f"has {len(record)} bytes at {info.offset}, not {info.size}")
            yield record

    def _join(self, message: Any, chunked: ChunkedMessage, path: tuple[Step, ...]) -> None:
        if len(path) > _MOST_DEPTH:
            raise self._corrupt("has fields nested too deep")
        if chunked.HasField("chunk_index"):
            (record,) = self._records([chunked.chunk_index])
            message.MergeFromString(record)
        fields = sorted(chunked.chunked_fields, key=_order)
        if fields and _all_parts(fields):
            self._join_parts(message, [field.message.chunk_index for field in fields], path)
            return
        for field in fields:
            self._join_field(message, field, path)

    def _join_parts(self, message: Any, indices: list[int], path: tuple[Step, ...]) -> None:
        """Merges records that are parts of the message itself."""
        index = constant_index(path)
        if index is not None:
            array = self._array_of_parts(message, indices)
            if array is not None:
                self.constants[index] = array
                return
        for record in self._records(indices):
            message.MergeFromString(record)

    def _array_of_parts(self, tensor: Any, indices: list[int]) -> np.ndarray[Any, Any] | None:
        """Returns an array whose elements fill the records; None if there is anything else."""
        shape = decode_shape(tensor.tensor_shape)
        dtype = as_dtype(int(tensor.dtype)) if tensor.dtype else None
        number = GROWING_FIELDS.get(dtype.name) if dtype is not None else None
        if dtype is None or number is None or shape is None or None in shape:
            return None
        sizes = tuple(int(size or 0) for size in shape)
        wanted = math.prod(sizes) * dtype.size
        found = sum(
            self._metadata.chunks[i].size for i in indices if i < len(self._metadata.chunks)
        )
        # Without the few bytes around each part, they must be the elements and nothing else.
        if wanted < LEAST_APART or not 0 <= found - wanted <= 12 * len(indices):
            return None
        array = np.empty(wanted, np.uint8)
        position = 0
        for record in self._records(indices):
            part = _content_of_part(record, number)
            if part is None or position + len(part) > wanted:
                raise self._corrupt("has a constant whose parts aren't all of one kind")
            array[position : position + len(part)] = np.frombuffer(part, np.uint8)
            position += len(part)
        if position != wanted:
            raise self._corrupt(f"has a constant of {wanted} bytes with {position}")
        array.flags.writeable = False
        return array.view(dtype.numpy_dtype).reshape(sizes)

    def _join_field(self, message: Any, field: ChunkedField, path: tuple[Step, ...]) -> None:
        steps = list(field.field_tag)
        position = 0
        while position < len(steps):
            number = steps[position].field
            descriptor = message.DESCRIPTOR.fields_by_number.get(number)
            if descriptor is None or steps[position].WhichOneof("kind") != "field":
                raise self._corrupt(f"has no field {number} in {message.DESCRIPTOR.full_name}")
            path = (*path, number)
            if len(path) > _MOST_DEPTH:
                raise self._corrupt("has fields nested too deep")
            position += 1
            if descriptor.message_type is None:
                self._set_scalar(message, descriptor, field, steps[position:], path)
                return
            if descriptor.message_type.GetOptions().map_entry:
                message, step = self._map_value(message, descriptor, steps[position : position + 1])
            elif hasattr(getattr(message, descriptor.name), "add"):  # repeated
                message, step = self._element(message, descriptor, steps[position : position + 1])
            else:
                message, step = getattr(message, descriptor.name), None
                message.SetInParent()
            if step is not None:
                path = (*path, step)
                position += 1
        self._join(message, field.message, path)

    def _map_value(self, message: Any, descriptor: Any, steps: list[Any]) -> tuple[Any, Step]:
        key = steps[0].map_key if steps else None
        kind = key.WhichOneof("type") if key is not None else None
        value_type = descriptor.message_type.fields_by_name["value"].message_type
        if key is None or kind is None or value_type is None:
            raise self._corrupt(f"has a record for the map {descriptor.full_name} as a whole")
        try:
            return getattr(message, descriptor.name)[getattr(key, kind)], str(getattr(key, kind))
        except (TypeError, ValueError) as error:
            raise self._corrupt(f"has no such key in {descriptor.full_name}: {error}") from error

    def _element(self, message: Any, descriptor: Any, steps: list[Any]) -> tuple[Any, Step]:
        if not steps or steps[0].WhichOneof("kind") != "index":
            raise self._corrupt(f"has a record for all of {descriptor.full_name}")
        index = int(steps[0].index)
        elements = getattr(message, descriptor.name)
        self._grow(elements, index, descriptor)
        return elements[index], index

    def _grow(self, elements: Any, index: int, descriptor: Any) -> None:
        """Adds elements to a repeated field, until it has one at an index."""
        missing = index - len(elements)
        if missing > self._left_gaps:
            raise self._corrupt(f"has no element {index - 1} in {descriptor.full_name}")
        self._left_gaps -= max(0, missing)
        if descriptor.message_type is None:
            empty = b"" if descriptor.type == descriptor.TYPE_BYTES else ""
            elements.extend([empty] * (missing + 1))
            return
        for _ in range(missing + 1):
            elements.add()

    def _set_scalar(
        self, message: Any, descriptor: Any, field: ChunkedField, rest: list[Any], path: Any
    ) -> None:
        """Sets a field of bytes or text to a record."""
        is_bytes = descriptor.type == descriptor.TYPE_BYTES
        if not (is_bytes or descriptor.type == descriptor.TYPE_STRING):
            raise self._corrupt(f"has a record for the number {descriptor.full_name}")
        (record,) = self._records([field.message.chunk_index])
        index = constant_index(path[:-1]) if path[-1] == TENSOR_CONTENT else None
        if index is not None and len(record) >= LEAST_APART:
            self.constants[index] = self._array_of_content(message, record)
            return
        value = record if is_bytes else record.decode("utf-8")
        elements = getattr(message, descriptor.name)
        if hasattr(elements, "append") != bool(rest):
            raise self._corrupt(f"has an index in the wrong place for {descriptor.full_name}")
        if not rest:
            setattr(message, descriptor.name, value)
            return
        index = int(rest[0].index)
        self._grow(elements, index, descriptor)
        elements[index] = value

    def _array_of_content(self, tensor: Any, record: bytes) -> np.ndarray[Any, Any]:
        tensor.tensor_content = record
        try:
            return decode_tensor(tensor)
        finally:
            tensor.ClearField("tensor_content")

    def _corrupt(self, problem: str) -> CorruptSavedModelError:
        return CorruptSavedModelError(f"{self._what} {problem}.")


def _order(field: ChunkedField) -> tuple[tuple[int, ...], int]:
    """Parents before their parts, elements by index, parts of one field by record."""
    return tuple(int(tag.field or tag.index) for tag in field.field_tag), field.message.chunk_index


def _all_parts(fields: Sequence[ChunkedField]) -> bool:
    return all(not field.field_tag and not field.message.chunked_fields for field in fields)


def _content_of_part(record: bytes, number: int) -> memoryview | None:
    """Returns the content of a message's only field, packed numbers; None if it is another one."""
    try:
        tag, position = decode_varint(record, 0, len(record))
        size, position = decode_varint(record, position, len(record))
    except ValueError:
        return None
    if tag != number << 3 | 2 or position + size != len(record):
        return None
    return memoryview(record)[position:]
