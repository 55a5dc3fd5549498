"""Image files that savax writes, read by TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

from evaluation_check import load_function  # noqa: E402

from savax.errors import InvalidArgumentError, UnsupportedError  # noqa: E402

pytestmark = pytest.mark.tf


def encoded(array: np.ndarray, op: str, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    """What savax and TensorFlow encode an image as."""
    fn = tf.function(lambda image: getattr(tf.raw_ops, op)(image=image, **attrs))
    concrete = fn.get_concrete_function(tf.TensorSpec(array.shape, array.dtype))
    (found,) = load_function(concrete).body.run([array])
    return np.asarray(found, object), concrete(tf.constant(array)).numpy()


def image(channels: int, dtype: Any = np.uint8) -> np.ndarray:
    rows, columns = np.indices((13, 17))
    planes = [rows * 9 + columns * (i + 3) for i in range(channels)]
    return (np.stack(planes, -1) * (1 if dtype == np.uint8 else 150)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_pixels(channels: int) -> None:
    array = image(channels)
    for compression in (-1, 0, 9):
        found, wanted = encoded(array, "EncodePng", compression=compression)
        assert found.shape == np.shape(wanted)
        np.testing.assert_array_equal(tf.io.decode_png(found.item()), array)


def test_png_of_16_bits_and_batches() -> None:
    wide = image(1, np.uint16)
    found, _ = encoded(wide, "EncodePng")
    np.testing.assert_array_equal(tf.io.decode_png(found.item(), dtype=tf.uint16), wide)
    batch = np.stack([image(3), image(3)[::-1]])[:, None]
    found, wanted = encoded(batch, "EncodePng")
    assert found.shape == wanted.shape == (2, 1)
    for data, pixels in zip(found.ravel(), batch[:, 0], strict=True):
        np.testing.assert_array_equal(tf.io.decode_png(data), pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("smooth", [False, True], ids=["444", "420"])
def test_jpeg_pixels(channels: int, quality: int, smooth: bool) -> None:
    attrs = {"quality": quality, "chroma_downsampling": smooth, "progressive": smooth}
    found, wanted = encoded(image(channels), "EncodeJpeg", **attrs)
    ours, theirs = (
        tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy().astype(int)
        for data in (found.item(), wanted)
    )
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 3


def test_what_cannot_be_written() -> None:
    with pytest.raises(UnsupportedError, match="16-bit"):
        encoded(image(3, np.uint16), "EncodePng")
    with pytest.raises(InvalidArgumentError, match="channels"):
        encoded(image(2)[None][:0], "EncodePng")


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_a_quality_that_is_computed(channels: int) -> None:
    @tf.function
    def encode(images: tf.Tensor, quality: tf.Tensor) -> Any:
        return tf.raw_ops.EncodeJpegVariableQuality(images=images, quality=quality)

    specs = tf.TensorSpec([None, None, None], tf.uint8), tf.TensorSpec(None, tf.int32)
    concrete = encode.get_concrete_function(*specs)
    body, array = load_function(concrete).body, image(channels)
    for quality in (30, 95):
        (found,) = body.run([array, np.array(quality, np.int32)])
        wanted = concrete(tf.constant(array), tf.constant(quality)).numpy()
        pixels = [tf.io.decode_jpeg(data).numpy().astype(int) for data in (found.item(), wanted)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 4
    for quality, text in ((101, "not 101"), ([50], "one number")):
        with pytest.raises(InvalidArgumentError, match=text):
            body.run([array, np.array(quality, np.int32)])
