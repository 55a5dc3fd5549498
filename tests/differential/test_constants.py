"""Constants have the values that they have in TensorFlow."""

from __future__ import annotations

import pytest

import savax

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


@pytest.mark.parametrize("name", [n for n in savax.saved_model.__all__ if n.isupper()])
def test_saved_model_constant(name: str) -> None:
    assert getattr(savax.saved_model, name) == getattr(tf.saved_model, name)


@pytest.mark.parametrize("module", ["constants", "signature_constants", "tag_constants"])
def test_every_name_of_a_module_of_constants(module: str) -> None:
    theirs = getattr(tf.compat.v1.saved_model, module)
    ours = getattr(savax.saved_model, module)
    for name in ours.__all__:
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("name", [n for n in savax.dtypes.__all__ if hasattr(tf.dtypes, n)])
def test_dtype(name: str) -> None:
    if name not in ("DType", "as_dtype"):
        assert getattr(savax, name).as_datatype_enum == getattr(tf.dtypes, name).as_datatype_enum
