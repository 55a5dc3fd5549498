"""Names of custom classes and of checkpoint savers."""

from __future__ import annotations

from typing import Any

import pytest

from savax.errors import InvalidArgumentError
from savax.trackable import (
    Module,
    Registry,
    register_checkpoint_saver,
    register_serializable,
)


class Layer(Module):
    pass


class Special(Layer):
    pass


def is_layer(obj: Any) -> bool:
    return isinstance(obj, Layer)


def test_the_last_registered_predicate_that_accepts_an_object_names_it() -> None:
    registry: Registry[str] = Registry("thing")
    assert registry.name_of(Layer()) is None
    registry.register("pkg", "a", is_layer, "first")
    registry.register("pkg", "b-2.c_d", lambda obj: isinstance(obj, Special), "second")
    assert registry.name_of(Layer()) == "pkg.a"
    assert registry.name_of(Special()) == "pkg.b-2.c_d"
    registry.register("other", "a", is_layer, "third")
    assert registry.name_of(Special()) == "other.a"
    assert registry.name_of(Module()) is None
    assert registry.get("pkg.a") == "first"
    assert registry.get("pkg.nothing") is None
    assert registry.accepts("pkg.a", Special())
    assert not registry.accepts("pkg.a", Module())
    assert not registry.accepts("pkg.nothing", Layer())


@pytest.mark.parametrize(
    ("package", "name", "predicate", "error"),
    [
        ("pkg", "Layer", is_layer, ValueError),
        ("tf", "StaticHashTable", is_layer, ValueError),
        ("a b", "Layer", is_layer, ValueError),
        ("pkg", "a\n", is_layer, ValueError),
        ("pkg", None, is_layer, TypeError),
        (1, "Layer", is_layer, TypeError),
        ("pkg", "Other", None, TypeError),
    ],
    ids=["taken", "tensorflow's", "space", "newline", "no name", "no package", "no predicate"],
)
def test_what_cannot_be_registered_is_refused(
    package: Any, name: Any, predicate: Any, error: type[Exception]
) -> None:
    registry: Registry[str] = Registry("thing")
    registry.register("pkg", "Layer", is_layer, "first")
    with pytest.raises(InvalidArgumentError) as caught:
        registry.register(package, name, predicate, "second")
    assert isinstance(caught.value, error)
    assert registry.get("pkg.Layer") == "first"


def test_only_classes_of_trackables_are_registered() -> None:
    for wrong in (int, Layer(), lambda: None):
        with pytest.raises(TypeError, match="subclasses of Trackable"):
            register_serializable("test_registry")(wrong)  # type: ignore[type-var]


def test_a_decorator_can_register_several_classes() -> None:
    register = register_serializable("test_registry_twice")

    @register
    class A(Module):
        pass

    @register
    class B(Module):
        pass

    assert (A.__name__, B.__name__) == ("A", "B")
    with pytest.raises(InvalidArgumentError, match="already"):
        register(A)


@pytest.mark.parametrize("missing", ["save_fn", "restore_fn", "predicate"])
def test_savers_need_functions(missing: str) -> None:
    arguments: dict[str, Any] = {
        "name": "Saver",
        "predicate": is_layer,
        "save_fn": print,
        "restore_fn": print,
    }
    with pytest.raises(TypeError, match=missing.replace("_", ".")):
        register_checkpoint_saver("test_registry", **{**arguments, missing: 3})
