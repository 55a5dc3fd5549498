"""WAV files agree with TensorFlow, and hostile ones are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


def wav(
    *chunks: bytes, channels: int = 2, bits: int = 16, code: int = 1, front: bytes = b""
) -> bytes:
    frame = channels * bits // 8
    layout = struct.pack("<HHIIHH", code, channels, 8000, 8000 * frame, frame, bits)
    body = b"WAVE" + front + chunk(b"fmt ", layout) + b"".join(chunks)
    return chunk(b"RIFF", body)


SAMPLES = struct.pack("<6h", -32768, 32767, 0, 1, -1, 12345)
DATA = chunk(b"data", SAMPLES)
FILES = {
    "plain": wav(DATA),
    "mono": wav(DATA, channels=1),
    "chunks": wav(chunk(b"LIST", b"abcd"), DATA, chunk(b"id3 ", b"")),
    "in_front": wav(DATA, front=chunk(b"JUNK", b"1234567")),
    "no_samples": wav(chunk(b"data", b"")),
}


@pytest.mark.parametrize("name", FILES)
def test_files_agree(name: str) -> None:
    data = FILES[name]
    check_evaluation("DecodeWav", data)
    for channels, samples in ((1, 2), (3, 9), (0, 0)):
        check_evaluation("DecodeWav", data, desired_channels=channels, desired_samples=samples)


HOSTILE = {
    "empty": b"",
    "short": wav(DATA)[:30],
    "other": b"RIFX" + wav(DATA)[4:],
    "bits": wav(DATA, bits=8),
    "code": wav(DATA, code=3),
    "channels": wav(DATA, channels=0),
    "no_data": wav(),
    "two": wav(DATA, DATA),
    "part_of_a_frame": wav(chunk(b"data", SAMPLES[:6])),
    "long": wav(chunk(b"data", SAMPLES, 2**31 - 8)),
    "unknown": wav(DATA, front=chunk(b"abcd", b"")),
    "size": wav(DATA, front=chunk(b"JUNK", b"", 2**32 - 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    @tf.function
    def decode(data: tf.Tensor) -> Any:
        return tf.audio.decode_wav(data)

    concrete = decode.get_concrete_function(tf.TensorSpec([], tf.string))
    with pytest.raises(tf.errors.InvalidArgumentError):
        concrete(tf.constant(HOSTILE[name]))
    with pytest.raises(savax.errors.InvalidArgumentError, match="WAV file can't be decoded"):
        load_function(concrete).body.run([np.array(HOSTILE[name], object)])


def test_a_small_file_makes_no_huge_sound() -> None:
    @tf.function
    def decode(data: tf.Tensor) -> Any:
        return tf.audio.decode_wav(data, desired_samples=2**31 - 1)

    body = load_function(decode.get_concrete_function(tf.TensorSpec([], tf.string))).body
    with pytest.raises(savax.errors.ResourceLimitError, match="2147483647 frames"):
        body.run([np.array(FILES["plain"], object)])


@pytest.mark.parametrize("channels", [1, 3])
def test_written_files_are_the_same(channels: int, rng: np.random.Generator) -> None:
    audio = rng.uniform(-1.2, 1.2, (50, channels)).astype(np.float32)
    audio[:4] = np.array([[1.5 / 32768], [-1.5 / 32768], [0.49999997 / 32768], [np.inf]])
    check_evaluation("EncodeWav", audio, np.int32(16000))
    check_evaluation("EncodeWav", audio[:0], np.int32(2**31 - 1))


def test_a_sound_without_channels_is_refused() -> None:
    @tf.function
    def encode(audio: tf.Tensor, rate: tf.Tensor) -> Any:
        return tf.audio.encode_wav(audio, rate)

    specs = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([], tf.int32)
    body = load_function(encode.get_concrete_function(*specs)).body
    for shape, rate, text in (((3, 0), 8000, "65535 channels"), ((3, 1), 0, "0 samples")):
        with pytest.raises(savax.errors.InvalidArgumentError, match=text):
            body.run([np.zeros(shape, np.float32), np.array(rate, np.int32)])


def test_a_model_that_hears_files_agrees(rng: np.random.Generator, tmp_path: Any) -> None:
    weights = rng.normal(size=(65, 3)).astype(np.float32)

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def classify(self, contents: tf.Tensor) -> Any:
            sound, rate = tf.audio.decode_wav(contents, desired_channels=1, desired_samples=400)
            spectrum = tf.abs(tf.signal.stft(sound[tf.newaxis, :, 0], 128, 64))
            return {"scores": tf.reduce_mean(spectrum, 1) @ weights, "rate": rate}

    tf.saved_model.save(Module(), str(tmp_path))
    data = wav(chunk(b"data", rng.integers(-(2**15), 2**15, 700).astype("<i2").tobytes()))
    expected = tf.saved_model.load(str(tmp_path)).classify(tf.constant(data))
    found = savax.saved_model.load(tmp_path).classify(data)
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-4, atol=1e-4)
    assert int(found["rate"]) == 8000
