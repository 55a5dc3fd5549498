"""Models that nobody holds any more are gone: no cache keeps them, or their values."""

from __future__ import annotations

import gc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv

X = np.ones((2, 4), np.float32)


class Model(sv.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sv.Variable(np.ones((4, 4), np.float32))

    @sv.function(input_signature=[sv.TensorSpec([None, 4], name="x")])
    def __call__(self, x):
        return jnp.tanh(x @ self.w.value)

    @sv.function
    def scaled(self, x):
        return x * self.w.value[0, 0]


def built(directory) -> Model:
    model = Model()
    for size in (1, 2, 3):
        model.scaled(np.ones(size, np.float32))
    return model


def saved(directory) -> Model:
    model = Model()
    sv.saved_model.save(model, directory / "again")
    return model


def loaded(directory):
    model = sv.saved_model.load(directory / "model")
    model(X)
    model.signatures["serving_default"](x=X)
    return model


def restored(directory) -> Model:
    path = sv.train.Checkpoint(model=Model()).save(directory / "checkpoint")
    model = Model()
    sv.train.Checkpoint(model=model).restore(path)
    model(X)
    return model


@pytest.mark.parametrize("make", [built, saved, loaded, restored])
def test_a_model_ends_with_its_last_reference(make, tmp_path) -> None:
    sv.saved_model.save(Model(), tmp_path / "model")
    model = make(tmp_path)
    ends = [weakref.ref(model), weakref.ref(model.w)]
    del model
    gc.collect()
    assert [end() for end in ends] == [None, None]
