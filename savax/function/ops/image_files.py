"""Image files as arrays, by Pillow, an optional dependency: JPEG, PNG, BMP, GIF and WebP."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, ResourceLimitError, UnsupportedError
from savax.function.ops._host_strings import scalar_string
from savax.function.ops._registry import evaluates

try:
    from PIL import Image, UnidentifiedImageError
except ImportError:  # what needs it says so when it runs
    Image = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from savax.types import DType

# As many as Pillow warns of; a file of some kilobytes can ask for them.
_MAX_PIXELS = 1 << 27
_MAX_FRAMES = 10_000

_ANY = ("JPEG", "PNG", "BMP", "GIF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


# Pillow has the accurate DCT only. TensorFlow's default is the fast one, some levels off it.
@evaluates("DecodeJpeg", ignores=("try_recover_truncated", "acceptable_fraction", "dct_method"))
def _decode_jpeg(contents: Any, *, channels: int, ratio: int, fancy_upscaling: bool) -> Any:
    if ratio != 1 or not fancy_upscaling:
        raise UnsupportedError("DecodeJpeg: savax decodes at full size, with smooth colors.")
    return _decoded(contents, channels, ("JPEG", "PNG", "GIF"), False)


@evaluates(
    "DecodeAndCropJpeg", ignores=("try_recover_truncated", "acceptable_fraction", "dct_method")
)
def _decode_and_crop_jpeg(
    contents: Any, crop_window: Any, *, channels: int, ratio: int, fancy_upscaling: bool
) -> Any:
    if np.shape(crop_window) != (4,):
        raise InvalidArgumentError(f"A crop has 4 numbers, found {np.shape(crop_window)}.")
    image = _decode_jpeg(contents, channels=channels, ratio=ratio, fancy_upscaling=fancy_upscaling)
    top, left, height, width = (int(number) for number in crop_window)
    rows, columns = image.shape[:2]
    inside = 0 <= top < top + height <= rows and 0 <= left < left + width <= columns
    if not inside:
        raise InvalidArgumentError(
            f"The crop {[top, left, height, width]} isn't inside of {rows} x {columns} pixels."
        )
    return image[top : top + height, left : left + width]


@evaluates("ExtractJpegShape")
def _extract_jpeg_shape(contents: Any, *, output_type: DType) -> Any:
    image = _opened(contents, ("JPEG",))
    shape = (image.height, image.width, len(image.getbands()))
    return np.array(shape, output_type.numpy_dtype)


@evaluates("DecodeWebP")
def _decode_webp(contents: Any, *, channels: int, dtype: DType) -> Any:
    """Returns the pixels as the only frame, [1, height, width, channels]."""
    image = _opened(contents, ("WEBP",))
    if getattr(image, "n_frames", 1) != 1:
        raise UnsupportedError("DecodeWebP: savax decodes still images, not animations.")
    found = _own_channels(image)
    if channels not in (0, found):
        raise InvalidArgumentError(f"A WebP image has {found} channels, not {channels}.")
    return _pixels(image, found, False)[None].astype(dtype.numpy_dtype)


@evaluates("DecodePng")
def _decode_png(contents: Any, *, channels: int, dtype: DType) -> Any:
    return _as_dtype(_decoded(contents, channels, ("PNG", "JPEG"), dtype.name == "uint16"), dtype)


@evaluates("DecodeBmp")
def _decode_bmp(contents: Any, *, channels: int) -> Any:
    return _decoded(contents, channels, ("BMP",), False)


@evaluates("DecodeGif")
def _decode_gif(contents: Any) -> Any:
    return _frames(_opened(contents, ("GIF",)))


@evaluates("DecodeImage")
def _decode_image(contents: Any, *, channels: int, dtype: DType, expand_animations: bool) -> Any:
    image = _opened(contents, _ANY)
    if image.format == "GIF":
        frames = _frames(image) if expand_animations else _frames(image)[0]
        return _as_dtype(frames, dtype)
    wide = dtype.name in ("uint16", "float32")
    return _as_dtype(_pixels(image, channels, wide), dtype)


def _decoded(contents: Any, channels: int, formats: tuple[str, ...], wide: bool) -> Any:
    image = _opened(contents, formats)
    return _frames(image)[0] if image.format == "GIF" else _pixels(image, channels, wide)


def _opened(contents: Any, formats: tuple[str, ...]) -> Any:
    data = scalar_string(contents, "The file of an image")
    if Image is None:
        raise UnsupportedError(
            "Images are decoded by Pillow, which isn't installed: pip install 'savax[images]'."
        )
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InvalidArgumentError(
            f"{data[:8]!r}... is no image of {', '.join(formats)}: {error}."
        ) from error
    except Image.DecompressionBombError as error:
        raise ResourceLimitError(str(error)) from error
    width, height = image.size
    if width * height > _MAX_PIXELS:
        raise ResourceLimitError(f"An image has {width} x {height} pixels.")
    return image


def _pixels(image: Any, channels: int, wide: bool) -> np.ndarray[Any, Any]:
    """Returns an image as [height, width, channels], of uint8 or, if it has them, uint16."""
    if channels not in (0, 1, 3, 4):
        raise InvalidArgumentError(f"An image has 1, 3 or 4 channels, not {channels}.")
    found = _own_channels(image)
    wanted = channels or found
    if image.format == "JPEG" and wanted == 4:
        raise InvalidArgumentError("A JPEG image has no fourth channel.")
    if wanted == 1 and found != 1:
        if image.format != "JPEG":
            raise UnsupportedError(
                f"A {image.format} image in colors as gray; decode its colors, and convert them."
            )
        image.draft("L", image.size)  # the brightness that the file has
    try:
        if image.mode.startswith("I"):
            return _wide_gray(np.asarray(image), wanted, wide)
        if wanted == 2:
            array = np.asarray(image.convert("LA"))
        else:
            array = np.asarray(image.convert(_MODES[wanted]))
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidArgumentError(f"The image can't be decoded: {error}.") from error
    array = array[..., None] if array.ndim == 2 else array
    if wide and image.format == "PNG":
        return array.astype(np.uint16) * np.uint16(257)
    return array


def _own_channels(image: Any) -> int:
    if image.mode == "P":
        return 4 if "transparency" in image.info else 3
    bands = len(image.getbands())
    return 3 if image.mode in ("CMYK", "YCbCr") else bands


def _wide_gray(array: np.ndarray[Any, Any], channels: int, wide: bool) -> np.ndarray[Any, Any]:
    values = array.astype(np.uint16)[..., None]
    if not wide:
        values = (values >> 8).astype(np.uint8)
    if channels == 1:
        return values
    opaque = np.full_like(values, np.iinfo(values.dtype).max)
    return np.concatenate([values] * 3 + [opaque] * (channels - 3), -1)


def _frames(image: Any) -> np.ndarray[Any, Any]:
    """Returns the frames of a GIF as RGB, each as large as the whole."""
    count = getattr(image, "n_frames", 1)
    width, height = image.size
    if count > _MAX_FRAMES or count * width * height > _MAX_PIXELS:
        raise ResourceLimitError(f"A GIF has {count} frames of {width} x {height} pixels.")
    frames = []
    for index in range(count):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def _as_dtype(array: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    if dtype.name == "float32":
        return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    if dtype.name == "uint16" and array.dtype == np.uint8:
        return array.astype(np.uint16) * np.uint16(257)
    return array.astype(dtype.numpy_dtype)
