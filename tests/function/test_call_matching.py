"""Calls that fit no signature: the error shows where each signature differs, the nearest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax
from savax import TensorSpec
from savax.errors import SignatureMismatchError

if TYPE_CHECKING:
    from pathlib import Path


class Model(savax.Module):
    """A function of nested arguments with three signatures."""

    @savax.function
    def scale(self, x: Any, double: bool = True, *, mode: Any = None) -> Any:
        return x["a"] * 2 if double else x["a"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = Model()
    ids = TensorSpec([2], "int64")
    model.scale.get_concrete_function({"a": TensorSpec([None, 3]), "ids": ids})
    model.scale.get_concrete_function({"a": TensorSpec([None, 3, 4]), "ids": [ids, ids]}, False)
    model.scale.get_concrete_function({"a": TensorSpec([2, 3]), "ids": ids}, mode="fast")
    path: Path = tmp_path_factory.mktemp("model")
    savax.saved_model.save(model, path)
    return savax.saved_model.load(path)


def call(**changes: Any) -> dict[str, Any]:
    return {"a": np.ones([2, 3], np.float32), "ids": np.zeros(2, np.int64)} | changes


def nearest(error: pytest.ExceptionInfo[SignatureMismatchError]) -> list[str]:
    """Returns the lines that follow the first signature of an error's text."""
    lines = str(error.value).partition("the nearest first:\n")[2].splitlines()
    assert lines[0].startswith("    <ConcreteFunction ")
    ends = [i for i, line in enumerate(lines) if i and not line.startswith("      ")]
    return [line.strip() for line in lines[1 : ends[0] if ends else None]]


CASES = {
    "dtype": (
        [call(a=np.ones([5, 3], np.float64))],
        {},
        [
            "x['a']: wanted float32[None, 3], got float64[5, 3]; "
            "convert it, for example by `x.astype('float32')`"
        ],
    ),
    "axis": (
        [call(a=np.ones([5, 4], np.float32))],
        {},
        ["x['a']: wanted float32[None, 3], got float32[5, 4]; axis 1 is 4 instead of 3"],
    ),
    "rank": (
        [call(a=np.ones(3, np.float32))],
        {},
        ["x['a']: wanted float32[None, 3], got float32[3]; the rank is 1 instead of 2"],
    ),
    "value": (
        [call(a=np.ones([5, 3], np.float32)), False],
        {},
        ["double: the Python value True is part of the signature, got False"],
    ),
    "value for another": (
        [call()],
        {"mode": "slow"},
        ["mode: the Python value 'fast' is part of the signature, got 'slow'"],
    ),
    "tensor for a value": (
        [call(), np.bool_(True)],
        {},
        ["double: the Python value True is part of the signature, got bool[]"],
    ),
    "missing key": ([{"a": np.ones([2, 3], np.float32)}], {}, ["x['ids']: is missing"]),
    "other key": ([call(b=1.0)], {}, ["x['b']: is not in the signature"]),
    "no dict": ([np.ones(3, np.float32)], {}, ["x: wanted a dict, got a single value"]),
}


@pytest.mark.parametrize("name", CASES)
def test_difference_of_the_nearest_signature(loaded: Any, name: str) -> None:
    args, kwargs, expected = CASES[name]
    with pytest.raises(SignatureMismatchError) as error:
        loaded.scale(*args, **kwargs)
    assert set(expected) <= set(nearest(error))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ((1.0, 2.0), "x['ids']: wanted a list, got a tuple"),
        ([np.zeros(2, np.int64)], "x['ids']: wanted 2 items, got 1"),
        ({"b": 1}, "x['ids']: wanted a list, got a dict"),
    ],
    ids=["tuple", "too few", "dict"],
)
def test_difference_of_a_container(loaded: Any, ids: Any, expected: str) -> None:
    with pytest.raises(SignatureMismatchError) as error:
        loaded.scale(call(ids=ids), False)
    assert f"      {expected}" in str(error.value).splitlines()


def test_all_signatures_are_shown(loaded: Any) -> None:
    with pytest.raises(SignatureMismatchError) as error:
        loaded.scale(call(a=np.ones([2, 3], np.int32)))
    text = str(error.value)
    assert "given: ({'a': int32[2, 3], 'ids': int64[2]}, True, mode=None)" in text
    assert text.count("<ConcreteFunction") == 3


def test_a_concrete_function_shows_its_difference(loaded: Any) -> None:
    concrete = loaded.scale.concrete_functions[0]
    with pytest.raises(SignatureMismatchError, match=r"axis 1 is 4 instead of 3"):
        concrete(call(a=np.ones([5, 4], np.float32)), True, mode=None)


def test_lists_stand_for_tensors_beside_defaults(loaded: Any) -> None:
    found = loaded.scale({"a": [[1, 2, 3]], "ids": [1, 2]})
    np.testing.assert_array_equal(found, [[2, 4, 6]])


def test_a_list_stands_for_a_tensor_beside_a_list_of_arrays(loaded: Any) -> None:
    ids = [np.zeros(2, np.int64), [1, 2]]
    found = loaded.scale({"a": np.ones([1, 3, 4], np.float32), "ids": ids}, False)
    assert found.shape == (1, 3, 4)
