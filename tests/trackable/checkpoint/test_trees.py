"""Pytrees in checkpoints: what comes back, and what is said about the rest."""

from __future__ import annotations

import collections
import dataclasses
import enum
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import savax as sx
from savax.errors import (
    CorruptBundleError,
    DTypeMismatchError,
    EscapedTracerError,
    IncompleteRestoreError,
    InvalidArgumentError,
    NotFoundError,
    ShapeMismatchError,
    UnsupportedOptionError,
)
from savax.trackable import AutoTrackable, Variable
from savax.train import Checkpoint, compare_tree, list_variables, restore_tree, save_tree
from tests.work_counter import calls_during

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


class Moments(NamedTuple):
    count: Any
    mu: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any = None
    units: int = dataclasses.field(default=2, metadata={"static": True})


@jax.tree_util.register_pytree_node_class
class Numbered:
    """A pytree that was registered without names."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return self.parts, None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Any) -> Numbered:
        return cls(*parts)


class Color(enum.Enum):
    RED = 1


def tree(fill: float = 1.0) -> dict[str, Any]:
    return {
        "layers": [Layer(jnp.full((2, 3), fill)), Layer(jnp.full(2, fill), jnp.ones(2))],
        "moments": Moments(jnp.int32(3 + fill), {"w": np.full(2, fill, ml_dtypes.bfloat16)}),
        "numbers": (7 + int(fill), True, 0.1 * fill, 1j * fill),
        "numbered": Numbered(jnp.full(2, fill), None, np.float64(fill)),
        "partial": jax.tree_util.Partial(jnp.add, jnp.full((), fill), y=np.int64(2**40)),
        "factory": collections.defaultdict(list, {"z": jnp.full((), fill), "a": jnp.zeros(0)}),
        "ordered": collections.OrderedDict(z=jnp.full((), fill), a=jnp.zeros(1)),
        "empty": {"list": [], "dict": {}, "tuple": (), "none": None},
        "functions": (jnp.tanh, jax.nn.relu, len, np.float32, Color.RED),
        "keys": {1: np.ones(1), ("a", 2): np.ones(2), Color.RED: np.ones(3), None: np.ones(4)},
    }


def assert_same(found: Any, expected: Any) -> None:
    """Checks structure, types, dtypes and bits."""
    found_leaves, found_structure = jax.tree.flatten(found)
    expected_leaves, expected_structure = jax.tree.flatten(expected)
    assert found_structure == expected_structure
    for a, b in zip(found_leaves, expected_leaves, strict=True):
        assert type(a) is type(b)
        if hasattr(b, "dtype"):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        else:
            assert a == b


def without_odd_keys(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "keys"}  # jax can't sort them


def test_a_tree_comes_back_as_the_target_has_it(tmp_path: Path) -> None:
    prefix = save_tree(tmp_path / "new" / "c", tree())
    assert prefix == str(tmp_path / "new" / "c")
    target = tree(0.0)
    found = restore_tree(prefix, target)
    assert_same(without_odd_keys(found), without_odd_keys(tree()))
    assert found["keys"].keys() == target["keys"].keys()
    assert found["factory"].default_factory is list
    assert_same(without_odd_keys(target), without_odd_keys(tree(0.0)))  # the target is as it was


def test_keys_are_names_that_can_be_read(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", tree())
    keys = [key.removesuffix(VALUE) for key, _ in list_variables(tmp_path / "c")[1:]]
    assert keys == sorted(
        [
            *("layers/0/kernel", "layers/1/kernel", "layers/1/bias", "moments/count"),
            *("moments/mu/w", "numbers/0", "numbers/1", "numbers/2", "numbers/3", "numbered/0"),
            *("numbered/2", "partial/args/0", "partial/keywords/y", "factory/z", "factory/a"),
            *("ordered/z", "ordered/a", "keys/1", "keys/('a', 2)", "keys/Color..RED", "keys/None"),
        ]
    )


NAMES = ["a/b", ".", "..", "", "ä 火", "a.b", "a\n", "0", "save_counter", "root", "_edges"]


def test_odd_names_are_escaped(tmp_path: Path) -> None:
    values = {name: np.array(index) for index, name in enumerate(NAMES)}
    found = restore_tree(save_tree(tmp_path / "c", {"d": values, **values}))
    assert found == {"d": values, **values}


def test_without_a_target_there_are_dicts_and_lists_of_numpy_arrays(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", {**tree(), "text": np.array([b"a", "ä"], object)})
    found = restore_tree(tmp_path / "c")
    assert found["layers"][1]["kernel"].tolist() == [1, 1]
    assert list(found["numbered"]) == ["0", "2"]  # position 1 was None
    assert found["numbers"][0] == 8
    assert found["partial"]["keywords"]["y"] == 2**40
    assert found["empty"] == {"list": {}, "dict": {}, "tuple": {}}
    assert found["text"].tolist() == [b"a", "ä".encode()]
    found["layers"][0]["kernel"] += 1  # nobody else's


def test_a_leaf_alone_is_a_tree(tmp_path: Path) -> None:
    prefix = save_tree(tmp_path / "c", jnp.ones(2))
    assert restore_tree(prefix, np.zeros(2, np.float32)).tolist() == [1, 1]
    assert restore_tree(prefix)["value"].tolist() == [1, 1]
    assert restore_tree(prefix, np.zeros(2, np.float64), cast=True).dtype == np.float64


@pytest.mark.parametrize("empty", [(), {}, [], {"a": {}}])
def test_trees_without_leaves(tmp_path: Path, empty: Any) -> None:
    prefix = save_tree(tmp_path / "c", empty)
    assert restore_tree(prefix, empty) == empty
    assert restore_tree(prefix, empty, strict=False) == empty


def test_targets_say_what_comes_back(tmp_path: Path) -> None:
    stored = {name: jnp.arange(4.0) for name in ("jax", "struct", "numpy", "variable")}
    save_tree(tmp_path / "c", {**stored, "scalar": 1.5, "text": np.array("a", object)})
    device = jax.devices("cpu")[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    found = restore_tree(
        tmp_path / "c",
        {
            "jax": jax.device_put(jnp.zeros(4), sharding),
            "struct": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding),
            "numpy": np.zeros(4, np.float32),
            "variable": Variable(jnp.zeros(4)),
            "scalar": np.float64(0),
            "text": np.array("", object),
        },
    )
    for name in ("jax", "struct"):
        assert found[name].sharding == sharding
        assert found[name].committed
    assert isinstance(found["variable"], jax.Array)
    assert type(found["numpy"]) is np.ndarray
    assert type(found["scalar"]) is np.float64
    assert found["text"].item() == b"a"
    found["numpy"][0] = 9  # it is the caller's
    assert found["jax"][0] == 0


def test_leaves_that_get_the_same_value_share_no_memory(tmp_path: Path) -> None:
    shared = Variable(np.zeros(3))
    Checkpoint(a=shared, b=shared).write(tmp_path / "c")
    found = restore_tree(tmp_path / "c", {"a": np.ones(3), "b": np.ones(3)})
    found["a"][0] = 5
    assert found["b"][0] == 0


def test_python_numbers_take_any_width_of_their_kind(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", {"i": np.int8(3), "f": np.float32(0.5), "b": np.True_})
    assert restore_tree(tmp_path / "c", {"i": 0, "f": 0.0, "b": False}) == {
        "i": 3,
        "f": 0.5,
        "b": True,
    }
    for wrong in ({"i": 0.0}, {"f": 0}, {"b": 0}, {"i": False}):
        with pytest.raises(DTypeMismatchError):
            restore_tree(tmp_path / "c", wrong, strict=False)
    with pytest.raises(InvalidArgumentError, match=r"root\.i"):
        save_tree(tmp_path / "d", {"i": 2**64})


def test_all_differences_are_in_one_error(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", {"w": jnp.ones(2), "kernel": jnp.ones(3), "n": jnp.int32(1)})
    target = {"w": jnp.ones(3), "kernels": jnp.ones(3), "n": jnp.float32(1)}
    with pytest.raises(IncompleteRestoreError) as caught:
        restore_tree(tmp_path / "c", target)
    text = str(caught.value)
    assert "root.w: expected shape (3,), found (2,)" in text
    assert "root.n: expected dtype float32, found int32" in text
    assert "root.kernels (Leaf) isn't in the checkpoint; near: root.kernel" in text
    assert "root.kernel in the checkpoint" in text
    report = compare_tree(tmp_path / "c", target)
    assert [len(kind) for kind in (report.mismatched, report.missing, report.unused)] == [2, 1, 1]


def test_not_strict_keeps_what_the_checkpoint_lacks(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", {"params": {"w": jnp.ones(2)}, "step": 5})
    struct = jax.ShapeDtypeStruct((1,), jnp.float32)
    found = restore_tree(
        tmp_path / "c",
        {"params": {"w": jnp.zeros(2), "new": 3.0, "abstract": struct}},
        strict=False,
    )
    assert found["params"]["w"].tolist() == [1, 1]
    assert found["params"]["new"] == 3.0
    assert found["params"]["abstract"] is struct
    with pytest.raises(ShapeMismatchError, match=r"root\.params\.w"):
        restore_tree(tmp_path / "c", {"params": {"w": jnp.zeros(3), "new": 1}}, strict=False)
    with pytest.raises(IncompleteRestoreError, match=r"root\.param\.w"):
        restore_tree(tmp_path / "c", {"param": {"w": jnp.zeros(2)}}, strict=False)


def test_dtypes_are_cast_when_asked(tmp_path: Path) -> None:
    save_tree(
        tmp_path / "c", {"f": np.float64([1 / 3, 2]), "i": np.int64([1, 2**24 + 1]), "n": 2**40}
    )
    target = {"f": jnp.zeros(2, jnp.bfloat16), "i": np.zeros(2, np.int32), "n": 0}
    with pytest.raises(DTypeMismatchError) as caught:
        restore_tree(tmp_path / "c", target)
    assert "root.f: expected dtype bfloat16, found float64" in str(caught.value)
    assert "root.i: expected dtype int32, found int64" in str(caught.value)
    found = restore_tree(tmp_path / "c", target, cast=True)
    assert found["f"].tolist() == [float(jnp.bfloat16(1 / 3)), 2]
    assert found["i"].dtype == np.int32
    assert found["n"] == 2**40
    with pytest.raises(DTypeMismatchError, match=r"root\.i: expected dtype float32.*hold"):
        restore_tree(tmp_path / "c", {**target, "i": np.zeros(2, np.float32)}, cast=True)
    with pytest.raises(DTypeMismatchError, match=r"root\.f: expected dtype int32"):
        restore_tree(tmp_path / "c", {**target, "f": np.zeros(2, np.int32)}, cast=True)


def deleted() -> jax.Array:
    array = jnp.ones(3)
    array.delete()
    return array


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"a": deleted()}, InvalidArgumentError, r"root\.a is an array that was deleted"),
        ({"a": [object()]}, InvalidArgumentError, r"root\.a\.0 is a object"),
        ({"a": "text"}, InvalidArgumentError, r"root\.a is the text"),
        ({"a": jax.ShapeDtypeStruct((), "float32")}, InvalidArgumentError, r"root\.a.*no value"),
        ({"a": np.array(1, "datetime64[s]")}, InvalidArgumentError, r"root\.a.*datetime64"),
        ({"a": sx.Module()}, InvalidArgumentError, r"root\.a is a Module.*Checkpoint"),
        ({1: 1.0, "1": 2.0}, InvalidArgumentError, "root is a dict with two keys"),
    ],
    ids=["deleted", "object", "text", "abstract", "datetime", "module", "equal keys"],
)
def test_what_can_not_be_saved_is_refused_by_path(
    tmp_path: Path, value: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        save_tree(tmp_path / "c", value)
    assert not list(tmp_path.iterdir())


def test_traced_values_are_refused(tmp_path: Path) -> None:
    @jax.jit
    def function(x: Any) -> Any:
        save_tree(tmp_path / "c", {"a": x})
        return x

    with pytest.raises(EscapedTracerError, match=r"root\.a"):
        function(jnp.ones(2))


def test_options(tmp_path: Path) -> None:
    seen: list[str] = []
    options = sx.train.CheckpointOptions(experimental_write_callbacks=[seen.append])
    prefix = save_tree(tmp_path / "c", {"a": 1}, options=options)
    assert seen == [prefix]
    with pytest.raises(UnsupportedOptionError, match="TrackedState"):
        save_tree(tmp_path / "c", {}, options=sx.train.CheckpointOptions(enable_async=True))


def test_what_has_no_tree(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        restore_tree(tmp_path / "c", {})
    root = AutoTrackable()
    root.a, root.v = AutoTrackable(), Variable(1.0)
    root.a.up = root
    Checkpoint(root).write(tmp_path / "c")
    with pytest.raises(InvalidArgumentError, match=r"root\.a leads back to root"):
        restore_tree(tmp_path / "c")
    assert restore_tree(tmp_path / "c", {"v": 0.0}) == {"v": 1.0}


def test_trees_and_checkpoints_of_objects_read_each_other(tmp_path: Path) -> None:
    optimizer = optax.adam(0.1)
    params = {"w": jnp.ones(2)}
    state = optimizer.init(params)
    Checkpoint(params=sx.TrackedState(params), state=sx.TrackedState(state)).save(tmp_path / "c")
    found = restore_tree(tmp_path, {"params": params, "state": state, "save_counter": 0})
    assert_same(found, {"params": params, "state": state, "save_counter": 1})
    found = restore_tree(tmp_path, {"params": params, "state": state})  # the counter may be there
    save_tree(tmp_path / "d", found)
    tracked = sx.TrackedState({"w": jnp.zeros(2)})
    Checkpoint(params=tracked, state=sx.TrackedState(state)).read(tmp_path / "d").assert_consumed()
    assert_same(tracked.value, params)


KEYS = [
    jax.random.key(1),
    jax.random.split(jax.random.key(2), (2, 3)),
    jax.random.key(3, impl="rbg"),
    jax.random.split(jax.random.key(4, impl="unsafe_rbg"), 2),
    jax.random.key(5)[None][:0],
]


@pytest.mark.parametrize("key", KEYS, ids=[f"{key.dtype}{key.shape}" for key in KEYS])
def test_random_keys_are_restored_exactly(tmp_path: Path, key: Any) -> None:
    save_tree(tmp_path / "c", {"rng": key, "old": jax.random.PRNGKey(7)})
    names = [name for name, _ in list_variables(tmp_path / "c")]
    assert f"rng/key_data{VALUE}" in names
    assert f"rng/key_impl{VALUE}" in names
    plain = restore_tree(tmp_path / "c")["rng"]
    assert plain["key_impl"].item().decode() == str(jax.random.key_impl(key))
    for target in (jnp.zeros_like(key), jax.ShapeDtypeStruct(key.shape, key.dtype)):
        found = restore_tree(tmp_path / "c", {"rng": target, "old": jnp.zeros(2, jnp.uint32)})
        assert found["rng"].dtype == key.dtype
        assert (jax.random.key_data(found["rng"]) == jax.random.key_data(key)).all()
    tracked = sx.TrackedState({"rng": jnp.zeros_like(key)})
    Checkpoint(root=tracked).read(tmp_path / "c").assert_existing_objects_matched()
    assert (tracked.value["rng"] == key).all()


def test_random_keys_of_another_implementation_are_refused(tmp_path: Path) -> None:
    first = jax.random.split(jax.random.key(1, impl="rbg"), 2)
    save_tree(tmp_path / "c", {"a": jnp.ones(1), "rng": first})
    other = jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 2)
    text = r"root\.rng\.key_impl: expected implementation 'unsafe_rbg', found 'rbg'"
    with pytest.raises(InvalidArgumentError, match=text) as caught:
        restore_tree(tmp_path / "c", {"a": jnp.ones(1), "rng": other})
    assert type(caught.value) is InvalidArgumentError
    with pytest.raises(IncompleteRestoreError, match=text):
        restore_tree(tmp_path / "c", {"a": jnp.ones(1), "rng": other, "b": 1})
    tracked = sx.TrackedState({"a": jnp.zeros(1), "rng": other})
    with pytest.raises(InvalidArgumentError, match=text):
        Checkpoint(root=tracked).read(tmp_path / "c")
    assert tracked.value["a"] == 0  # nothing was assigned
    with pytest.raises(InvalidArgumentError, match=r"value\.rng.*'unsafe_rbg'.*'rbg'"):
        tracked.assign({"a": jnp.ones(1), "rng": first})
    with pytest.raises(InvalidArgumentError, match=r"value\.rng was a random key"):
        tracked.assign({"a": jnp.ones(1), "rng": jnp.ones(2)})


def test_random_keys_in_functions() -> None:
    state = sx.TrackedState({"rng": jax.random.key(0)})

    @sx.function
    def draw() -> Any:
        key, use = jax.random.split(state.value["rng"])
        state.assign({"rng": key})
        return jax.random.normal(use)

    key, use = jax.random.split(jax.random.key(0))
    assert draw() == jax.random.normal(use)
    assert state.value["rng"] == key
    assert draw() == jax.random.normal(jax.random.split(key)[1])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"w": np.ones(2)}, r"state\.w is an array"),
        ({"v": Variable(1.0), "l": [{"a": (jnp.ones(1),)}]}, r"state\.l\.0\.a\.0 is an array"),
        (Moments(Variable(1.0), np.ones(1)), r"state\.1 is an array"),
        ((np.ones(1),), "TrackedState"),
        (Layer(jnp.ones(1)), "TrackedState"),
    ],
    ids=["dict", "nested", "named tuple", "tuple", "dataclass"],
)
def test_a_checkpoint_of_objects_loses_no_array(value: Any, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=path):
        Checkpoint(state=value)


def test_settings_may_be_beside_variables() -> None:
    Checkpoint(state={"v": Variable(1.0), "rate": np.float32(1), "n": [1, "a", None, np.float32]})
    Checkpoint(state={"v": Variable(1.0), "fixed": sx.NoDependency(np.ones(2))})


def test_an_abstract_state_has_no_value_until_it_is_restored(tmp_path: Path) -> None:
    source = {"w": jnp.ones((2, 3), jnp.bfloat16), "rng": jax.random.key(1), "step": 3}
    Checkpoint(state=sx.TrackedState(source)).write(tmp_path / "c")
    state = sx.TrackedState(jax.eval_shape(lambda: source))
    with pytest.raises(InvalidArgumentError, match=r"value\.rng.*no value yet"):
        state.value  # noqa: B018 - the access is the test
    with pytest.raises(InvalidArgumentError, match=r"root\.state\.step: expected dtype int32"):
        Checkpoint(state=state).read(tmp_path / "c")
    target = {**jax.eval_shape(lambda: {k: source[k] for k in ("w", "rng")}), "step": 0}
    state = sx.TrackedState(target)
    Checkpoint(state=state).read(tmp_path / "c").assert_consumed()
    found = state.value
    assert found.pop("rng") == source.pop("rng")
    assert_same(found, source)


def test_the_work_is_linear_in_the_leaves(tmp_path: Path) -> None:
    def work(count: int) -> tuple[int, int, int]:
        tree = {f"a{i}": {f"b{j}": np.zeros(1) for j in range(10)} for i in range(count // 10)}
        prefix = tmp_path / f"c{count}"
        return (
            calls_during(lambda: save_tree(prefix, tree)),
            calls_during(lambda: restore_tree(prefix, tree)),
            calls_during(lambda: restore_tree(prefix)),
        )

    for few, many in zip(work(200), work(2000), strict=True):
        assert many < 11 * few


def test_variables_hold_no_random_keys_and_say_what_does() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'rng'.*random key.*TrackedState"):
        Variable(jax.random.key(0), name="rng")
    with pytest.raises(InvalidArgumentError, match=r"random key.*TrackedState"):
        Variable(jax.random.PRNGKey(0)).assign(jax.random.key(0))


def test_weak_types_are_the_targets(tmp_path: Path) -> None:
    tree = {"weak": jnp.asarray(0.1), "n": jnp.asarray(3), "strong": jnp.float32(0.1)}
    prefix = save_tree(tmp_path / "c", tree)
    for target in (tree, jax.eval_shape(lambda: tree)):
        found = restore_tree(prefix, target)
        assert [leaf.weak_type for leaf in found.values()] == [
            leaf.weak_type for leaf in target.values()
        ]
        assert found == tree
    assert found["weak"].weak_type


def test_the_data_is_verified_unless_asked_not_to(tmp_path: Path) -> None:
    prefix = save_tree(tmp_path / "c", {"w": np.arange(100.0)})
    data = tmp_path / "c.data-00000-of-00001"
    damaged = bytearray(data.read_bytes())
    damaged[8] ^= 1
    data.write_bytes(damaged)
    careless = sx.train.CheckpointOptions(verify=False)
    for target in (None, {"w": np.zeros(100)}):
        with pytest.raises(CorruptBundleError):
            restore_tree(prefix, target)
        assert restore_tree(prefix, target, options=careless)["w"][2] == 2
