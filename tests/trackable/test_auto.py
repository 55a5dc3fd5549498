"""Attributes as children, and what Modules collect from them."""

from __future__ import annotations

from typing import Any

import pytest

from savax.errors import InvalidArgumentError, TrackingError
from savax.trackable import (
    AutoTrackable,
    FunctionLike,
    Module,
    NoDependency,
    Trackable,
    TrackedState,
    Variable,
    freeze_object_graph,
)


class Fn(FunctionLike):
    """A function that can be bound, as savax.function's are."""

    def __init__(self, owner: Any = None) -> None:
        self.owner = owner

    def __get__(self, instance: Any, _: Any = None) -> Fn:
        return self if instance is None else Fn(instance)


class Model(Module):
    zeta = Fn()
    alpha = Fn()

    @property
    def exploding(self) -> Any:
        raise RuntimeError("properties must not run")


def names(obj: Trackable, save_type: Any = "checkpoint") -> list[str]:
    return list(obj._trackable_children(save_type))


def test_children_are_in_the_order_of_assignment() -> None:
    obj = AutoTrackable()
    obj.z, obj.n, obj.a = Variable(1), 5, Module()
    assert names(obj) == ["z", "a"]


def test_assigning_again_replaces_in_place_and_deleting_removes() -> None:
    obj = AutoTrackable()
    obj.a, obj.b = Variable(1), Variable(2)
    obj.a = new = Variable(3)
    assert names(obj) == ["a", "b"]
    assert obj._trackable_children()["a"] is new
    del obj.a
    assert names(obj) == ["b"]
    obj.b = None
    assert names(obj) == []


def test_assigning_what_is_there_already_changes_nothing() -> None:
    obj = AutoTrackable()
    obj.l = [Variable(1)]
    before = obj.l
    obj.l = obj.l
    assert obj.l is before


def test_assigning_an_untracked_value_removes_the_child() -> None:
    obj = AutoTrackable()
    obj.v = Variable(1)
    obj.v = NoDependency(Variable(2))
    assert names(obj) == []
    assert obj.v == 2


def test_attributes_may_be_assigned_before_init() -> None:
    class Early(Module):
        def __init__(self) -> None:
            self.w = Variable(1)
            super().__init__()

    assert names(Early()) == ["w"]


def test_tracking_by_name_refuses_a_second_object() -> None:
    obj = Trackable()
    first = obj._track(Variable(1), "x")
    assert obj._track(first, "x") is first
    assert obj._lookup_dependency("x") is first
    assert obj._lookup_dependency("y") is None
    with pytest.raises(TrackingError, match="'x'"):
        obj._track(Variable(2), "x")
    obj._track_trackable(Variable(3), "x", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="int"):
        obj._track(3, "y")  # type: ignore[arg-type]


def test_saved_models_have_functions_last_and_in_alphabetical_order() -> None:
    model = Model()
    model.b, model.fn, model.a = Variable(1), Fn(), Variable(2)
    assert names(model) == ["b", "fn", "a"]
    assert names(model, "savedmodel") == ["b", "a", "alpha", "fn", "zeta"]
    bound = model._trackable_children("savedmodel")["alpha"]
    assert isinstance(bound, Fn)
    assert bound.owner is model


def test_a_child_may_not_share_its_name_with_a_function() -> None:
    model = Model()
    model._track(Variable(1), "alpha")
    with pytest.raises(TrackingError, match="'alpha'"):
        freeze_object_graph(model, save_type="savedmodel")


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("Dense", "dense"),
        ("MyDense", "my_dense"),
        ("MyDense2D", "my_dense2_d"),
        ("MLP", "mlp"),
        ("HTTPServer", "http_server"),
        ("A_Bc", "a__bc"),
    ],
)
def test_a_modules_name_is_its_class_in_snake_case(class_name: str, expected: str) -> None:
    assert type(class_name, (Module,), {})().name == expected


def test_a_modules_name_is_an_identifier_and_stays() -> None:
    with pytest.raises(InvalidArgumentError, match="1st"):
        Module("1st")
    module = Module("first")
    assert module.name == "first"
    with pytest.raises(AttributeError):
        module.name = "second"  # type: ignore[misc]


def test_variables_are_sorted_by_attribute_and_found_in_containers() -> None:
    module = Module()
    z, a, b, c, d = (Variable(i, trainable=i % 2 == 0) for i in range(5))
    module.z, module.a = z, [a, {"y": c, "x": (b,)}]
    module.child, module.again = Module(), z
    module.child.d, module.child.up = d, module
    assert [id(v) for v in module.variables] == [id(v) for v in (a, b, c, z, d)]
    assert [int(v) for v in module.trainable_variables] == [2, 0, 4]
    assert [int(v) for v in module.non_trainable_variables] == [1, 3]


def test_submodules_are_found_once_and_without_the_module_itself() -> None:
    module = Module("root")
    module.b, module.a = Module("b"), [Module("a"), {"x": Module("x")}]
    module.b.inner = Module("inner")
    module.b.inner.up = module
    module.a.append(module.b)
    assert [m.name for m in module.submodules] == ["a", "x", "b", "inner"]


def test_mixed_keys_and_optimizer_state_do_not_disturb_the_walk() -> None:
    module = Module()
    module.d = {1: NoDependency(Variable(1)), "a": Variable(2)}
    module.state = TrackedState({"m": 1.0})
    assert [int(v) for v in module.variables] == [1, 2]


def test_deep_modules_do_not_exhaust_the_stack() -> None:
    root = current = Module()
    for _ in range(20_000):
        current.next = Module()
        current = current.next
    current.v = Variable(1)
    assert len(root.variables) == 1
    assert len(freeze_object_graph(root)) == 20_002


def test_with_name_scope_enters_the_modules_scope() -> None:
    class Layer(Module):
        @Module.with_name_scope
        def build(self) -> str:
            """Builds."""
            return Variable(1, name="w").name

    assert Layer("layer").build() == "layer/w"
    assert Layer.build.__doc__ == "Builds."


def test_a_name_scope_can_be_entered_again_and_left_by_an_error() -> None:
    module = Module("m")
    with pytest.raises(RuntimeError), module.name_scope, module.name_scope:
        raise RuntimeError
    with module.name_scope:
        with module.name_scope:
            pass
        assert Variable(1, name="w").name == "m/w"
    assert Variable(1, name="w").name == "w"
