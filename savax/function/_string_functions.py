"""savax.strings: TensorFlow's functions of strings, inside savax functions and outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function._arrays import is_tracer
from savax.function._host_ops import STRING, Operand, Result, run_op
from savax.trackable import Variable, host_array
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOL, _INT32, _INT64 = as_dtype("bool"), as_dtype("int32"), as_dtype("int64")


def lower(input: Any, encoding: str = "", name: str | None = None) -> Any:
    """Returns strings in lower case.

    Args:
      input: strings of any shape.
      encoding: "" changes ASCII letters only, "utf-8" all letters.
      name: accepted as in TensorFlow.
    """
    return _same_shape("StringLower", input, encoding=encoding)


def upper(input: Any, encoding: str = "", name: str | None = None) -> Any:
    """Returns strings in upper case; arguments as of ``lower``."""
    return _same_shape("StringUpper", input, encoding=encoding)


def strip(input: Any, name: str | None = None) -> Any:
    """Returns strings without white space at their ends."""
    return _same_shape("StringStrip", input)


def length(input: Any, unit: str = "BYTE", name: str | None = None) -> Any:
    """Returns the lengths of strings, int32.

    Args:
      input: strings of any shape.
      unit: "BYTE" or "UTF8_CHAR".
      name: accepted as in TensorFlow.
    """
    _check_unit(unit)
    return _same_shape("StringLength", input, _INT32, unit=unit)


def substr(input: Any, pos: Any, len: Any, unit: str = "BYTE", name: str | None = None) -> Any:
    """Returns parts of strings.

    Args:
      input: strings.
      pos: where parts begin, int32; negative positions count from the end.
      len: how long they are, of the shape of ``pos``; all three broadcast.
      unit: "BYTE" or "UTF8_CHAR".
      name: accepted as in TensorFlow.

    Raises:
      InvalidArgumentError: when it runs, a position outside of its string.
    """
    _check_unit(unit)
    operands = [text(input), Operand(_array(pos), _INT32), Operand(_array(len), _INT32)]
    shape = _broadcast([operand.value for operand in operands])
    return run_op("Substr", operands, [Result(shape, STRING)], unit=unit)[0]


def join(inputs: Sequence[Any], separator: str = "", name: str | None = None) -> Any:
    """Returns strings joined element by element.

    Args:
      inputs: arrays of one shape, and scalars.
      separator: what comes between.
      name: accepted as in TensorFlow.
    """
    operands = [text(item) for item in inputs]
    shape = _broadcast([operand.value for operand in operands])
    return run_op("StringJoin", [operands], [Result(shape, STRING)], separator=separator)[0]


def reduce_join(
    inputs: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    separator: str = "",
    name: str | None = None,
) -> Any:
    """Returns strings joined along axes, the first of them first.

    Args:
      inputs: strings.
      axis: one axis or several; None for all, from the last to the first.
      keepdims: whether the axes stay, with size 1.
      separator: what comes between.
      name: accepted as in TensorFlow.
    """
    operand = text(inputs)
    shape = tuple(operand.value.shape)
    rank = len(shape)
    axes = range(rank - 1, -1, -1) if axis is None else np.atleast_1d(axis).tolist()
    if any(not -rank <= a < rank for a in axes):
        raise InvalidArgumentError(f"reduce_join: the axes {axis} of an array of rank {rank}.")
    axes = [a % rank for a in axes]
    kept = [1 if i in axes else size for i, size in enumerate(shape)]
    result = tuple(size for i, size in enumerate(kept) if keepdims or i not in axes)
    return run_op(
        "ReduceJoin",
        [operand, Operand(np.array(axes, np.int32), _INT32)],
        [Result(result, STRING)],
        keep_dims=keepdims,
        separator=separator,
    )[0]


def regex_replace(
    input: Any, pattern: str, rewrite: str, replace_global: bool = True, name: str | None = None
) -> Any:
    r"""Returns strings with the matches of a regular expression replaced.

    Args:
      input: strings of any shape.
      pattern: in RE2's syntax.
      rewrite: what matches become; ``\\1`` is the first group, ``\\0`` the match.
      replace_global: whether all matches are replaced, or the first only.
      name: accepted as in TensorFlow.

    Raises:
      InvalidArgumentError: RE2 wouldn't take the pattern.
    """
    return _same_shape(
        "StaticRegexReplace",
        input,
        pattern=_text(pattern),
        rewrite=_text(rewrite),
        replace_global=replace_global,
    )


def regex_full_match(input: Any, pattern: str, name: str | None = None) -> Any:
    """Returns whether strings match a regular expression as a whole; see ``regex_replace``."""
    return _same_shape("StaticRegexFullMatch", input, _BOOL, pattern=_text(pattern))


def to_number(input: Any, out_type: Any = "float32", name: str | None = None) -> Any:
    """Returns the numbers that strings are written as.

    Args:
      input: strings of any shape.
      out_type: float32, float64, int32 or int64.
      name: accepted as in TensorFlow.

    Raises:
      InvalidArgumentError: when it runs, a string that is no such number.
    """
    dtype = as_dtype(out_type)
    return _same_shape("StringToNumber", input, dtype, out_type=dtype)


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Any:
    """Returns numbers written as strings, as C's printf writes them.

    Args:
      input: numbers or booleans of any shape.
      precision: digits behind the point, -1 for 6.
      scientific: whether with an exponent.
      shortest: whether in the shorter of the two forms.
      width: the least number of characters, -1 for none.
      fill: what comes in front: "", " ", "0", "+", or "-" for spaces behind.
      name: accepted as in TensorFlow.
    """
    value = _array(input)
    return run_op(
        "AsString",
        [Operand(value, as_dtype(value.dtype))],
        [Result(tuple(value.shape), STRING)],
        precision=precision,
        scientific=scientific,
        shortest=shortest,
        width=width,
        fill=fill,
    )[0]


def to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Any:
    """Returns the hash bucket of each string, int64, by FarmHash; hashes never change."""
    return _same_shape("StringToHashBucketFast", input, _INT64, num_buckets=int(num_buckets))


def to_hash_bucket_strong(
    input: Any, num_buckets: int, key: Sequence[int], name: str | None = None
) -> Any:
    """Returns the hash bucket of each string, int64, by SipHash with a key of two numbers."""
    key = [int(number) for number in key]
    return _same_shape(
        "StringToHashBucketStrong", input, _INT64, num_buckets=int(num_buckets), key=key
    )


def to_hash_bucket(input: Any, num_buckets: int, name: str | None = None) -> Any:
    """Returns the hash bucket of each string, int64, by TensorFlow's older hash."""
    operand = text(input)
    result = Result(tuple(operand.value.shape), _INT64)
    return run_op("StringToHashBucket", [operand], [result], num_buckets=int(num_buckets))[0]


def unicode_transcode(
    input: Any,
    input_encoding: str,
    output_encoding: str,
    errors: str = "replace",
    replacement_char: int = 65533,
    replace_control_characters: bool = False,
    name: str | None = None,
) -> Any:
    """Returns strings in another encoding.

    Args:
      input: strings of any shape.
      input_encoding: theirs, e.g. "UTF-8".
      output_encoding: "UTF-8", "UTF-16-BE" or "UTF-32-BE".
      errors: what becomes of bytes that aren't text: "replace", "ignore" or "strict".
      replacement_char: code point in their place.
      replace_control_characters: whether that replaces control characters too.
      name: accepted as in TensorFlow.
    """
    return _same_shape(
        "UnicodeTranscode",
        input,
        input_encoding=input_encoding,
        output_encoding=output_encoding,
        errors=errors,
        replacement_char=replacement_char,
        replace_control_characters=replace_control_characters,
    )


def split(
    input: Any, sep: str | None = None, maxsplit: int = -1, *, num_parts: int, default: str = ""
) -> Any:
    """Returns the parts of strings in a new last axis of a fixed size.

    TensorFlow's function returns a ragged tensor; a function with unknown numbers of parts can't be
    traced by JAX.

    Args:
      input: strings of any shape.
      sep: between parts; None or "" for white space.
      maxsplit: the most splits, -1 for any number.
      num_parts: size of the last axis; further parts are left out.
      default: what stands for parts that a string hasn't got.
    """
    operand = text(input)
    shape = tuple(operand.value.shape)
    separator = Operand(host_array(sep or ""), STRING)
    if is_tracer(operand.value):
        result = Result((*shape, num_parts), STRING)
        attrs = {"maxsplit": maxsplit, "num_parts": num_parts, "default": default}
        return run_op("StringSplitV2", [operand, separator], [result], **attrs)[0]
    flat = Operand(operand.value.reshape(-1), STRING)
    indices, values, _ = run_op("StringSplitV2", [flat, separator], [], maxsplit=maxsplit)
    dense = np.full((flat.value.size, num_parts), default.encode(), object)
    for (row, column), value in zip(np.asarray(indices).tolist(), values.tolist(), strict=True):
        if column < num_parts:
            dense[row, column] = value
    return dense.reshape(*shape, num_parts)


def equal(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns whether strings are equal, element by element; traced strings have no ``==``."""
    left, right = text(x), text(y)
    shape = _broadcast([left.value, right.value])
    return run_op("Equal", [left, right], [Result(shape, _BOOL)])[0]


def where(condition: Any, x: Any, y: Any, name: str | None = None) -> Any:
    """Returns strings of ``x`` where a condition holds, else of ``y``; all three broadcast."""
    condition, left, right = _array(condition), text(x), text(y)
    shape = _broadcast([condition, left.value, right.value])
    inputs = [Operand(condition, _BOOL), left, right]
    return run_op("SelectV2", inputs, [Result(shape, STRING)])[0]


def gather(params: Any, indices: Any, name: str | None = None) -> Any:
    """Returns the strings at positions of the first axis.

    Args:
      params: strings, e.g. the labels of classes.
      indices: int32 or int64 positions of any shape.
      name: accepted as in TensorFlow.
    """
    source, positions = text(params), _array(indices)
    shape = tuple(positions.shape) + tuple(source.value.shape[1:])
    inputs = [
        source,
        Operand(positions, as_dtype(positions.dtype)),
        Operand(np.array(0, np.int32), _INT32),
    ]
    return run_op("GatherV2", inputs, [Result(shape, STRING)])[0]


def text(value: Any) -> Operand:
    """Returns strings as an operand.

    Raises:
      InvalidArgumentError: the value is no string array.
    """
    array = _array(value)
    if as_dtype(array.dtype) is not STRING:
        raise InvalidArgumentError(f"Strings are expected, found {array.dtype}.")
    return Operand(array, STRING)


def _array(value: Any) -> Any:
    if isinstance(value, Variable):
        value = value.value
    if is_tracer(value) or isinstance(value, np.ndarray):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return np.asarray(value)
    return host_array(value)


def _same_shape(op: str, input: Any, dtype: DType = STRING, **attrs: Any) -> Any:
    operand = text(input)
    return run_op(op, [operand], [Result(tuple(operand.value.shape), dtype)], **attrs)[0]


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _check_unit(unit: str) -> None:
    if unit not in ("BYTE", "UTF8_CHAR"):
        raise InvalidArgumentError(f"The unit is 'BYTE' or 'UTF8_CHAR', found {unit!r}.")


def _broadcast(values: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the shape that arrays broadcast to; equal unknown dims stay unknown."""
    rank = max((len(value.shape) for value in values), default=0)
    sizes: list[Any] = [1] * rank
    for value in values:
        for axis, size in enumerate(value.shape, rank - len(value.shape)):
            if isinstance(size, int) and size == 1:
                continue
            if not (isinstance(sizes[axis], int) and sizes[axis] == 1) and sizes[axis] != size:
                shapes = [tuple(v.shape) for v in values]
                raise ShapeMismatchError(f"The shapes {shapes} don't broadcast.")
            sizes[axis] = size
    return tuple(sizes)
