"""Calls of a loaded model's signatures, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import savax as sx

if TYPE_CHECKING:
    from pathlib import Path


class Model(sx.Module):
    @sx.function(input_signature=[sx.TensorSpec([None, 3], name="x")])
    def double(self, x: sx.Variable) -> object:
        return 2.0 * x

    @sx.function(input_signature=[sx.TensorSpec([], name="b"), sx.TensorSpec([], name="a")])
    def subtract(self, b: sx.Variable, a: sx.Variable) -> object:
        return b - a


@pytest.fixture
def signatures(tmp_path: Path) -> object:
    model = Model()
    path = tmp_path / "model"
    sx.saved_model.save(model, path, {"double": model.double, "subtract": model.subtract})
    return sx.saved_model.load(path).signatures


@pytest.mark.parametrize("value", [[[1.0, 2.0, 3.0]], np.array([[1, 2, 3]], np.float32)])
def test_signature_takes_lists_and_arrays(signatures: dict, value: object) -> None:
    result = signatures["double"](x=value)["output_0"]
    np.testing.assert_array_equal(result, [[2.0, 4.0, 6.0]])


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_order_of_keywords_does_not_matter(signatures: dict, order: tuple[str, str]) -> None:
    values = {"a": 1.0, "b": 5.0}
    result = signatures["subtract"](**{name: values[name] for name in order})
    assert float(result["output_0"]) == 4.0
