"""Texts of a picture: how wide they are, and what of an attribute fits into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import CorruptSavedModelError, ResourceLimitError
from savax.protos import decode_shape, decode_tensor
from savax.saved_model.cli._tables import printable
from savax.saved_model.cli._values import dtype_name, tensor_text

if TYPE_CHECKING:
    from savax.protos import AttrValue, TensorProto, TensorShapeProto

MOST_LETTERS = 36  # of a line in a box
_MOST_FACT_LETTERS = 160
_MOST_ELEMENTS = 6  # of a list or constant that is written out

# Widths of letters for a font of size 1, those of wide sans serif fonts.
_NARROW, _COMMON, _CAPITAL, _WIDE, _SQUARE = 0.36, 0.62, 0.74, 0.98, 1.3
_FIRST_OF_EAST_ASIA = 0x1100


class _Widths(dict[str, float]):
    """Widths of letters; those that aren't ASCII are as wide as letters of their kind get."""

    def __missing__(self, letter: str) -> float:
        return _WIDE if ord(letter) < _FIRST_OF_EAST_ASIA else _SQUARE


_WIDTHS = _Widths({chr(i): _CAPITAL if chr(i).isupper() else _COMMON for i in range(128)})
_WIDTHS.update(dict.fromkeys("iljtfr.,:;'|!()[] I/\\", _NARROW))
_WIDTHS.update(dict.fromkeys("mwMW@%", _WIDE))


def text_width(text: str, size: float) -> float:
    """Returns the pixels that a text takes at most, in the fonts of the pictures."""
    return size * sum(map(_WIDTHS.__getitem__, text))


def shortened(text: str, most: int = MOST_LETTERS) -> str:
    """Returns a printable line of limited length; the middle is left out of longer ones."""
    if len(text) > most:
        head = (most - 1) * 2 // 3
        text = f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
    return printable(text)


def fact(text: str) -> str:
    """Returns a text for a table of what is known."""
    return shortened(text, _MOST_FACT_LETTERS)


def shape_text(dtype: str, shape: TensorShapeProto) -> str:
    """Returns e.g. ``float32[?, 4]``; ``float32`` for an unknown rank."""
    dims = decode_shape(shape)
    if dims is None:
        return dtype
    return tensor_text(dtype, dims).replace("None", "?")


def constant_text(tensor: TensorProto) -> str:
    """Returns the value of a small constant, and dtype and shape of others."""
    dtype = dtype_name(tensor.dtype)
    dims = decode_shape(tensor.tensor_shape)
    count = 1
    for size in dims or ():
        count *= size or 0
    if dims is not None and 0 < count <= _MOST_ELEMENTS and len(dims) <= 2:
        try:
            value = decode_tensor(tensor).tolist()
        except (CorruptSavedModelError, ResourceLimitError):
            return f"damaged {dtype}"
        return shortened(_number_text(value))
    return shape_text(dtype, tensor.tensor_shape)


def _number_text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_number_text, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        return repr(value[:_MOST_FACT_LETTERS].decode("utf-8", "backslashreplace"))
    return str(value)


def attr_text(attr: AttrValue) -> str:
    """Returns the value of an attribute as a short line."""
    kind = attr.WhichOneof("value")
    if kind != "list":
        return fact(_element_text(kind, getattr(attr, kind)) if kind else "")
    texts: list[str] = []
    count = 0
    for field, values in attr.list.ListFields():
        count += len(values)
        texts += [_element_text(field.name, value) for value in values[:_MOST_ELEMENTS]]
    more = f", … {count - len(texts)} more" if count > len(texts) else ""
    return fact(f"[{', '.join(texts)}{more}]")


def _element_text(kind: str, value: Any) -> str:
    if kind == "s":
        return str(value[:_MOST_FACT_LETTERS], "utf-8", "backslashreplace")
    if kind == "type":
        return dtype_name(value)
    if kind == "shape":
        return shape_text("", value)
    if kind == "tensor":
        return constant_text(value)
    if kind == "func":
        return str(value.name)
    return _number_text(value)
