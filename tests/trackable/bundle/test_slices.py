"""Keys and specs of slices."""

from __future__ import annotations

import itertools

import pytest

from savax.errors import InvalidArgumentError
from savax.trackable.bundle import parse_slice_spec
from savax.trackable.bundle._slices import (
    _encode_number,
    _encode_signed,
    as_slice_spec,
    encode_slice_key,
    slice_shape,
    slice_starts,
)

FULL = (0, -1)


@pytest.mark.parametrize(
    ("name", "spec", "encoded"),
    [  # from index files that TensorFlow 2.21 wrote
        (b"a", ((0, 2), FULL), "0061000101028082807f"),
        (b"a", ((2, 2), FULL), "0061000101028282807f"),
        (b"z", ((0, 200),), "007a0001010180c0c8"),
        (b"a\x00b\xffc", (FULL,), "006100ff62ff00630001" + "0101807f"),
        (b"s", (), "0073000100"),
    ],
)
def test_known_keys(name: bytes, spec: tuple[tuple[int, int], ...], encoded: str) -> None:
    assert encode_slice_key(name, spec).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "80"),
        (1, "81"),
        (63, "bf"),
        (64, "c040"),
        (8191, "dfff"),
        (8192, "e02000"),
        (-1, "7f"),
        (-64, "40"),
        (-65, "3fbf"),
    ],
)
def test_signed_code(value: int, encoded: str) -> None:
    assert _encode_signed(value).hex() == encoded


def test_byte_order_is_numeric_order() -> None:
    edges = [s * (1 << b) + d for b in range(62) for s in (1, -1) for d in (-1, 0, 1)]
    values = sorted(set(edges))
    codes = [_encode_signed(value) for value in values]
    assert codes == sorted(codes)
    numbers = [value for value in values if value >= 0]
    codes = [_encode_number(value) for value in numbers]
    assert codes == sorted(codes)


def test_names_stay_in_order_and_apart() -> None:
    names = [bytes(name) for n in range(4) for name in itertools.product((0, 1, 255), repeat=n)]
    keys = [encode_slice_key(name, (FULL,)) for name in names]
    assert len(set(keys)) == len(names)
    assert [name for _, name in sorted(zip(keys, names, strict=True))] == sorted(names)


def test_spec_forms() -> None:
    spec = as_slice_spec([(1, 2), None, (0, -1), (0, 5)], (4, 3, 2, 5), "x")
    assert spec == ((1, 2), FULL, FULL, (0, 5))
    assert slice_shape(spec, (4, 3, 2, 5)) == (2, 3, 2, 5)
    assert slice_starts(spec) == (1, 0, 0, 0)


def test_text_form() -> None:
    assert parse_slice_spec("4 3 0,2:-") == ((4, 3), ((0, 2), FULL))
    assert parse_slice_spec("100 20,30") == ((100,), ((20, 30),))


@pytest.mark.parametrize(
    "text", ["4 3 0,2", "4 -,-", "4 0,9", "x 0,1", "4 0;1", "4 -1,2", "4 0,1,2"]
)
def test_impossible_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_slice_spec(text)


@pytest.mark.parametrize("spec", [[(0, 5)], [(-1, 2)], [(2, -1)], [(0, 1), None], []])
def test_spec_that_leaves_the_shape_is_refused(spec: list[tuple[int, int] | None]) -> None:
    with pytest.raises(InvalidArgumentError, match="'x'"):
        as_slice_spec(spec, (4,), "'x'")
