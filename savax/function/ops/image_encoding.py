"""Arrays as image files, by Pillow: PNG and JPEG.

The files aren't TensorFlow's in every byte: a PNG file gives the same pixels, a JPEG file nearly
the same.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.function.ops._host_strings import string_array
from savax.function.ops._registry import evaluates

try:
    from PIL import Image
except ImportError:  # what needs it says so when it runs
    Image = None  # type: ignore[assignment]

_JPEG_CHANNELS = {"": (1, 3), "grayscale": (1,), "rgb": (3,)}


@evaluates("EncodePng")
def _encode_png(image: Any, *, compression: int) -> Any:
    if image.ndim < 3 or not 1 <= image.shape[-1] <= 4 or not image.size:
        raise InvalidArgumentError(
            f"EncodePng takes images [..., height, width, 1 to 4 channels], found {image.shape}."
        )
    if not -1 <= compression <= 9:
        raise InvalidArgumentError(f"The compression of PNG is 0 to 9, or -1; not {compression}.")
    if image.dtype == np.uint16 and image.shape[-1] != 1:
        raise UnsupportedError("EncodePng: savax writes 16-bit images in gray only.")
    level = {} if compression < 0 else {"compress_level": compression}
    images = image.reshape(-1, *image.shape[-3:])
    return string_array((_file(each, "PNG", **level) for each in images), image.shape[:-3])


# Other fields of the file's head don't change its pixels.
@evaluates("EncodeJpeg", ignores=("density_unit", "x_density", "y_density", "xmp_metadata"))
def _encode_jpeg(
    image: Any,
    *,
    format: str,
    quality: int,
    progressive: bool,
    optimize_size: bool,
    chroma_downsampling: bool,
) -> Any:
    return _jpeg(image, format, quality, progressive, optimize_size, chroma_downsampling)


@evaluates("EncodeJpegVariableQuality")
def _encode_jpeg_variable_quality(images: Any, quality: Any) -> Any:
    if np.shape(quality) != ():
        raise InvalidArgumentError(f"The quality of JPEG is one number, found {np.shape(quality)}.")
    return _jpeg(images, "", int(quality), False, False, True)


def _jpeg(
    image: Any, format: str, quality: int, progressive: bool, optimize: bool, downsample: bool
) -> Any:
    if format not in _JPEG_CHANNELS:
        raise InvalidArgumentError(f"EncodeJpeg knows no format {format!r}.")
    if image.ndim != 3 or image.shape[-1] not in _JPEG_CHANNELS[format] or not image.size:
        raise InvalidArgumentError(
            f"EncodeJpeg takes [height, width, channels] with {_JPEG_CHANNELS[format]} channels, "
            f"found {image.shape}."
        )
    if not 0 <= quality <= 100:
        raise InvalidArgumentError(f"The quality of JPEG is 0 to 100, not {quality}.")
    data = _file(
        image,
        "JPEG",
        quality=quality,
        progressive=progressive,
        optimize=optimize,
        subsampling="4:2:0" if downsample else "4:4:4",
    )
    return string_array([data], ())


def _file(array: np.ndarray[Any, Any], kind: str, **options: Any) -> bytes:
    if Image is None:
        raise UnsupportedError(
            "Images are encoded by Pillow, which isn't installed: pip install 'savax[images]'."
        )
    buffer = io.BytesIO()
    pixels = array[..., 0] if array.shape[-1] == 1 else array
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()
