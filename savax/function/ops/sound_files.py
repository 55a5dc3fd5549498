"""Sound files as arrays and back: WAV with 16-bit samples."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from savax.errors import InvalidArgumentError, ResourceLimitError
from savax.function.ops._host_strings import MAX_RESULT_ELEMENTS, scalar_string, string_array
from savax.function.ops._registry import evaluates

# Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (1991): chunks
# of a name, a size and so many bytes; "fmt " says what "data" is.
_HEAD = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")

_PCM = 1
_BITS = 16

# Chunks that TensorFlow passes over in front of the format.
_IN_FRONT = frozenset({b"JUNK", b"bext", b"iXML", b"qlty", b"mext", b"levl", b"link", b"axml"})


def _bad(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The WAV file can't be decoded: {why}.")


def _unpacked(layout: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    if offset + layout.size > len(data):
        raise _bad(f"it ends after {len(data)} bytes, inside of a header")
    return layout.unpack_from(data, offset)


def _format(data: bytes) -> tuple[int, int, int]:
    """Returns the number of channels, the samples per second and where the format ends."""
    name, _, kind = _unpacked(_HEAD, data, 0)
    if (name, kind) != (b"RIFF", b"WAVE"):
        raise _bad(f"it starts with {data[:4]!r} and {data[8:12]!r}, not b'RIFF' and b'WAVE'")
    offset = _HEAD.size
    name, size = _unpacked(_CHUNK, data, offset)
    while name != b"fmt ":
        if name not in _IN_FRONT:
            raise _bad(f"its chunk {name!r} is in front of the format")
        offset += _CHUNK.size + size
        name, size = _unpacked(_CHUNK, data, offset)
    if size not in (16, 18):
        raise _bad(f"its format has {size} bytes, not 16 or 18")
    offset += _CHUNK.size
    code, channels, rate, per_second, per_frame, bits = _unpacked(_FORMAT, data, offset)
    if code != _PCM or bits != _BITS:
        raise _bad(f"it has format {code} and {bits} bits, not {_PCM} (PCM) and {_BITS}")
    if not channels or per_frame != 2 * channels or per_second != per_frame * rate % 2**32:
        raise _bad(
            f"{channels} channels at {rate} Hz don't go with {per_frame} bytes for each frame and "
            f"{per_second} for each second"
        )
    return channels, rate, offset + size


def _samples(data: bytes, offset: int, per_frame: int) -> bytes:
    """Returns the whole frames of the only data chunk behind an offset."""
    found = None
    while offset < len(data):
        name, size = _unpacked(_CHUNK, data, offset)
        offset += _CHUNK.size
        if name == b"data":
            if found is not None:
                raise _bad("it has two chunks of data")
            size -= size % per_frame
            if offset + size > len(data):
                raise _bad(f"it has {len(data) - offset} bytes of data, not {size}")
            found = data[offset : offset + size]
        offset += size
    if found is None:
        raise _bad("it has no data")
    return found


@evaluates("DecodeWav")
def _decode_wav(contents: Any, *, desired_channels: int, desired_samples: int) -> tuple[Any, Any]:
    """Returns samples [frames, channels] in [-1, 1), and how many make a second."""
    data = scalar_string(contents, "The file of a sound")
    channels, rate, offset = _format(data)
    frames = np.frombuffer(_samples(data, offset, 2 * channels), "<i2").reshape(-1, channels)
    wanted = channels if desired_channels < 0 else desired_channels
    length = len(frames) if desired_samples < 0 else desired_samples
    if wanted * length > max(MAX_RESULT_ELEMENTS, frames.size):
        raise ResourceLimitError(f"DecodeWav would make {length} frames of {wanted} channels.")
    # A channel too many is dropped, and one that lacks repeats the last.
    chosen = np.minimum(np.arange(wanted), channels - 1)
    result = np.zeros((length, wanted), np.float32)
    used = frames[:length]
    result[: len(used)] = used[:, chosen] * np.float32(2.0**-15)
    return result, np.array(rate, np.uint32).astype(np.int32)


@evaluates("EncodeWav")
def _encode_wav(audio: Any, sample_rate: Any) -> Any:
    if audio.ndim != 2 or not 0 < audio.shape[1] < 2**16:
        raise InvalidArgumentError(
            f"EncodeWav takes samples [frames, 1 to 65535 channels], found {audio.shape}."
        )
    rate, channels = int(np.asarray(sample_rate).reshape(())), audio.shape[1]
    if rate <= 0:
        raise InvalidArgumentError(f"EncodeWav: {rate} samples for each second.")
    scaled = np.clip(np.nan_to_num(audio.astype(np.float64)), -2, 2) * 2.0**15
    away = np.trunc(scaled + np.copysign(0.5, scaled))
    data = np.clip(away, -(2**15), 2**15 - 1).astype("<i2").tobytes()
    frame = 2 * channels
    layout = _FORMAT.pack(_PCM, channels, rate, rate * frame % 2**32, frame, _BITS)
    size = _HEAD.size + _CHUNK.size + len(layout) + _CHUNK.size + len(data)
    if size >= 2**32:
        raise InvalidArgumentError(f"A WAV file can't have {size} bytes.")
    parts = (
        _HEAD.pack(b"RIFF", size - _CHUNK.size, b"WAVE"),
        _CHUNK.pack(b"fmt ", len(layout)) + layout,
        _CHUNK.pack(b"data", len(data)) + data,
    )
    return string_array([b"".join(parts)], ())
