"""Decoding of image files against TensorFlow's kernels."""

from __future__ import annotations

import io

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from evaluation_check import check_evaluation, load_function  # noqa: E402

import savax as sx  # noqa: E402
from savax.errors import InvalidArgumentError, ResourceLimitError, UnsupportedError  # noqa: E402

pytestmark = pytest.mark.tf

RNG = np.random.default_rng(0)


def _smooth(height, width, channels):
    y, x = np.mgrid[:height, :width]
    planes = [(np.sin(x / (5 + c)) + np.cos(y / (7 + c)) + 2) * 60 for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def _file(encoded):
    return np.array(encoded.numpy(), object)


JPEGS = {
    "color": _file(tf.io.encode_jpeg(_smooth(37, 29, 3))),
    "fine": _file(tf.io.encode_jpeg(_smooth(16, 16, 3), quality=98, chroma_downsampling=False)),
    "gray": _file(tf.io.encode_jpeg(_smooth(21, 40, 1))),
    "progressive": _file(tf.io.encode_jpeg(_smooth(33, 31, 3), progressive=True)),
}
PNGS = {
    f"{np.dtype(dtype).name}_{channels}": _file(
        tf.io.encode_png(RNG.integers(0, np.iinfo(dtype).max, (9, 7, channels), dtype))
    )
    for dtype, channels in (
        *((np.uint8, c) for c in (1, 2, 3, 4)),
        (np.uint16, 1),
    )
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_jpeg(name, channels):
    check_evaluation("DecodeJpeg", JPEGS[name], channels=channels, dct_method="INTEGER_ACCURATE")
    # TensorFlow's default is a faster method, which is less accurate.
    found = sx.io.decode_jpeg(JPEGS[name], channels)
    expected = tf.io.decode_jpeg(JPEGS[name].item(), channels).numpy()
    assert np.abs(np.asarray(found, np.int32) - expected).max() <= 8


@pytest.mark.parametrize("name", PNGS)
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_png(name, channels):
    if name.endswith("_2") and channels == 0:
        check_evaluation("DecodePng", PNGS[name])
        return
    check_evaluation("DecodePng", PNGS[name], channels=channels)
    check_evaluation("DecodePng", PNGS[name], channels=channels, dtype=tf.uint16)


def test_gray_png():
    check_evaluation("DecodePng", PNGS["uint8_1"], channels=1)
    with pytest.raises(UnsupportedError, match="gray"):
        sx.io.decode_png(PNGS["uint8_3"].item(), channels=1)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.uint16, tf.float32])
def test_any_image(dtype):
    for file in (PNGS["uint8_4"], PNGS["uint8_3"], PNGS["uint16_1"]):
        check_evaluation("DecodeImage", file, dtype=dtype, channels=3)


def test_functions_of_images(tmp_path):
    file = PNGS["uint8_3"].item()
    expected = tf.io.decode_image(file).numpy()
    np.testing.assert_array_equal(sx.io.decode_image(file), expected)
    np.testing.assert_array_equal(sx.io.decode_png(file, 3, shape=[9, 7, 3]), expected)
    module = sx.Module()
    module.f = sx.function(
        lambda s: sx.io.decode_jpeg(s, 3, shape=[37, 29, 3]).astype("float32") / 255,
        input_signature=[sx.TensorSpec([], sx.string)],
    )
    found = module.f(JPEGS["color"])
    sx.saved_model.save(module, str(tmp_path / "m"))
    theirs = tf.saved_model.load(str(tmp_path / "m")).f(tf.constant(JPEGS["color"].item()))
    np.testing.assert_allclose(found, theirs.numpy(), atol=8 / 255)
    with pytest.raises(InvalidArgumentError):
        module.f(JPEGS["gray"])


def test_what_is_no_image():
    for wrong in (b"", b"junk" * 10, JPEGS["color"].item()[:200], PNGS["uint8_3"].item()[:60]):
        with pytest.raises(InvalidArgumentError):
            sx.io.decode_image(wrong)
    huge = bytearray(PNGS["uint8_3"].item())
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises((ResourceLimitError, InvalidArgumentError)):
        sx.io.decode_png(bytes(huge))
    concrete = tf.function(lambda s: tf.io.decode_jpeg(s)).get_concrete_function(
        tf.TensorSpec([], tf.string)
    )
    with pytest.raises(InvalidArgumentError):
        load_function(concrete).body.run([np.array(b"no", object)])


def test_crops_of_jpeg_files():
    attrs = {"constant": ["crop_window"], "dct_method": "INTEGER_ACCURATE"}
    for window in ([0, 0, 5, 7], [3, 5, 7, 9], [20, 39, 1, 1]):
        check_evaluation("DecodeAndCropJpeg", JPEGS["gray"], np.array(window, np.int32), **attrs)

    @tf.function
    def crop(contents, window):
        return tf.raw_ops.DecodeAndCropJpeg(contents=contents, crop_window=window)

    specs = tf.TensorSpec([], tf.string), tf.TensorSpec([None], tf.int32)
    body = load_function(crop.get_concrete_function(*specs)).body
    for name in ("color", "fine", "progressive"):
        window = np.array([3, 5, 7, 9], np.int32)
        found = np.asarray(body.run([JPEGS[name], window])[0], np.int32)
        wanted = tf.io.decode_and_crop_jpeg(JPEGS[name].item(), window).numpy()
        # TensorFlow doesn't decode what is beside the crop, and smooths its edge colors otherwise.
        assert np.abs(found - wanted).max() <= 8
    for window in ([0, 0, 38, 5], [-1, 0, 2, 2], [0, 0, 0, 5], [0, 25, 5, 5], [0, 0, 5]):
        with pytest.raises(InvalidArgumentError, match="crop"):
            body.run([JPEGS["color"], np.array(window, np.int32)])


@pytest.mark.parametrize("name", JPEGS)
def test_shapes_of_jpeg_files(name):
    check_evaluation("ExtractJpegShape", JPEGS[name])
    check_evaluation("ExtractJpegShape", JPEGS[name], output_type=tf.int64)


def _webp(*frames, **options):
    images = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    if images[1:]:
        options |= {"save_all": True, "append_images": images[1:]}
    images[0].save(buffer, "WEBP", **options)
    return np.array(buffer.getvalue(), object)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp(channels, lossless):
    data = _webp(_smooth(13, 17, channels), lossless=lossless)
    for wanted in (0, channels):
        check_evaluation("DecodeWebP", data, channels=wanted)


def test_other_webp_files_are_refused():
    def body(channels):
        fn = tf.function(lambda data: tf.raw_ops.DecodeWebP(contents=data, channels=channels))
        return load_function(fn.get_concrete_function(tf.TensorSpec([], tf.string))).body

    still = _smooth(8, 9, 3)
    with pytest.raises(InvalidArgumentError, match="has 3 channels, not 4"):
        body(4).run([_webp(still)])
    with pytest.raises(UnsupportedError, match="not animations"):
        body(0).run([_webp(still, still // 2)])
    with pytest.raises(InvalidArgumentError, match="no image of WEBP"):
        body(0).run([JPEGS["color"]])
    with pytest.raises(InvalidArgumentError, match="no image of WEBP"):
        body(0).run([np.array(_webp(still).item()[:40], object)])


def test_other_formats_agree() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
    for name, op in (("BMP", "DecodeBmp"), ("GIF", "DecodeGif")):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, name)
        check_evaluation(op, np.array(data.getvalue(), object))
