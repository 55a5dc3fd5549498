"""Trees of arrays as Variables."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from savax import Module, TrackedState, Variable
from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.trackable import freeze_object_graph


class Empty(NamedTuple):
    pass


class Moments(NamedTuple):
    count: Any
    mu: Any


@dataclasses.dataclass(frozen=True)
class Config:
    rate: Any
    name: str = "sgd"


def cyclic_list() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


TREE = (
    Moments(jnp.int32(3), {"w": jnp.ones((2, 2)), "b": [np.zeros(2, ml_dtypes.bfloat16)]}),
    Empty(),
    None,
    Config(np.float64(0.1)),
    {1: 7, "flag": True, "z": 1j, "f": 0.1},
)


def test_the_value_is_the_tree() -> None:
    value = TrackedState(TREE).value
    assert type(value[0]) is Moments
    assert value[1:3] == (Empty(), None)
    assert value[3] == Config(np.float64(0.1))
    assert value[4] == {1: 7, "flag": True, "z": 1j, "f": 0.1}
    assert [type(x) for x in value[4].values()] == [int, bool, complex, float]
    assert value[0].mu["b"][0].dtype == ml_dtypes.bfloat16
    assert value[0].count.dtype == np.int32


def test_children_are_named_by_fields_keys_and_positions() -> None:
    graph = freeze_object_graph(TrackedState(TREE))
    variables = {graph.path_of(n.id) for n in graph.nodes if isinstance(n.obj, Variable)}
    assert variables == {
        "root.0.count",
        "root.0.mu.w",
        "root.0.mu.b.0",
        "root.3.rate",
        "root.4.1",
        "root.4.flag",
        "root.4.z",
        "root.4.f",
    }
    assert not any(v.trainable for v in TrackedState(TREE).variables)


def test_floating_and_complex_arrays_are_trainable_if_asked_for() -> None:
    shape = jax.ShapeDtypeStruct((2,), jnp.bfloat16)
    tree = {
        "a": jnp.ones(2),
        "b": np.ones(2, np.complex64),
        "c": jnp.arange(2),
        "d": 1.0,
        "e": jax.random.key(0),
        "f": shape,
    }
    trainable = [v.trainable for v in TrackedState(tree, trainable=True).variables]
    assert trainable == [True, True, False, False, False, True]


def test_assign_replaces_leaves() -> None:
    state = TrackedState(TREE)
    new = (TREE[0]._replace(count=jnp.int32(4)), *TREE[1:4], {**TREE[4], 1: 8})
    assert state.assign(new) is state
    assert state.value[0].count == 4
    assert state.value[4][1] == 8
    assert isinstance(state.value[4][1], int)


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        (TREE[:4], "value"),
        ((*TREE[:4], {"flag": True}), r"value\.4"),
        ((*TREE[:2], jnp.ones(2), *TREE[3:]), r"value\.2"),
        ((Moments(None, TREE[0].mu), *TREE[1:]), r"value\.0\.count"),
        ((Moments({}, TREE[0].mu), *TREE[1:]), r"value\.0\.count"),
    ],
)
def test_another_structure_is_refused_by_path(tree: Any, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=path):
        TrackedState(TREE).assign(tree)


def test_nothing_is_assigned_if_anything_does_not_fit() -> None:
    state = TrackedState({"a": 1.0, "b": np.zeros(2)})
    with pytest.raises(ShapeMismatchError, match=r"value\.b"):
        state.assign({"a": 2.0, "b": np.zeros(3)})
    assert state.value["a"] == 1.0


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"a": {1, 2}}, r"value\.a is a set"),
        ({"a": ["text"]}, r"value\.a\.0 is the text 'text'"),
        ({"a": b"text"}, r"value\.a is the text b'text'"),
        ({"a": np.array("2020", "datetime64[s]")}, r"value\.a.*datetime64"),
        ({1: 1.0, "1": 2.0}, "value.*two keys that are '1'"),
        ({object(): 1.0}, "value has a key of class object"),
        ({"\ud800": 1.0}, "value has the key.*Unicode"),
        ({"a": [cyclic_list()]}, "200 deep, or holds itself"),
    ],
    ids=["set", "str", "bytes", "datetime", "equal keys", "object key", "surrogate", "cycle"],
)
def test_what_cannot_be_saved_is_refused_by_path(tree: Any, text: str) -> None:
    for trainable in (False, True):
        with pytest.raises(InvalidArgumentError, match=text):
            TrackedState(tree, trainable=trainable)


def test_other_mappings_keep_their_type() -> None:
    value = TrackedState(MappingProxyType({"a": np.ones(1)})).value
    assert type(value) is MappingProxyType


def test_a_single_array_is_a_tree() -> None:
    state = TrackedState(jnp.ones(2))
    assert [n.name for n in freeze_object_graph(state).nodes] == ["root", "value"]
    assert state.assign(jnp.zeros(2)).value.tolist() == [0, 0]


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.adamw(optax.cosine_decay_schedule(0.1, 10)),
        optax.chain(
            optax.clip_by_global_norm(1.0), optax.masked(optax.adam(0.1), {"w": True, "b": False})
        ),
        optax.MultiSteps(optax.adam(0.1), every_k_schedule=2).gradient_transformation(),
        optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    ],
)
def test_optax_states_come_back_exactly(optimizer: Any) -> None:
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    state = optimizer.init(params)
    tracked = TrackedState(state)
    for _ in range(3):
        _, state = optimizer.update(params, state, params)
        tracked.assign(state)
    found = tracked.value
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(state)
    for a, b in zip(
        jax.tree_util.tree_leaves(found), jax.tree_util.tree_leaves(state), strict=True
    ):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def test_copies_and_pickles_are_states_of_their_own() -> None:
    tree = {"opt": optax.adam(0.1).init({"w": jnp.ones(2)}), "key": jax.random.split(KEY, 2)}
    state = TrackedState(tree)
    for other in (copy.deepcopy(state), pickle.loads(pickle.dumps(TrackedState(tree["opt"])))):
        doubled = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim else leaf + 1, other.value)
        other.assign(doubled)
    assert (state.value["key"] == tree["key"]).all()
    assert state.value["opt"][0].count == 0
    assert other.value[0].count == 1


KEY = jax.random.key(0)


def test_arrays_in_tracked_containers_are_leaves() -> None:
    """What optax makes of a Module's dict of Variables holds that kind of dict."""
    module = Module()
    module.params = {"w": Variable([1.0, 2.0]), "l": [Variable(3.0)]}
    state = TrackedState(optax.trace(0.9).init(module.params))
    assert len(state.variables) == 2
    state.assign(jax.tree.map(lambda leaf: leaf + 1, state.value))
    assert state.value.trace["w"].tolist() == [1, 1]
    assert type(state.value.trace) is type(module.params)
