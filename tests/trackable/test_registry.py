"""Names of custom classes."""

from __future__ import annotations

from typing import Any

import pytest

from savax.errors import InvalidArgumentError
from savax.trackable import ClassRegistry, Module


class Layer(Module):
    pass


class Special(Layer):
    pass


def test_the_nearest_registered_base_names_an_object() -> None:
    registry = ClassRegistry()
    registry.register(Layer, "pkg")
    assert registry.class_of("pkg.Layer") is Layer
    assert registry.name_of(Special()) == "pkg.Layer"
    registry.register(Special, "pkg", "other-name")
    assert registry.name_of(Special()) == "pkg.other-name"
    assert registry.name_of(Module()) is None
    assert registry.class_of("pkg.Nothing") is None


@pytest.mark.parametrize(
    ("cls", "package", "name"),
    [(Layer, "other", None), (Special, "pkg", "Layer"), (int, "pkg", None), (Special, "a b", None)],
)
def test_registration_is_explicit_and_once(cls: Any, package: str, name: str | None) -> None:
    registry = ClassRegistry()
    registry.register(Layer, "pkg")
    with pytest.raises(InvalidArgumentError):
        registry.register(cls, package, name)
    assert registry.class_of("pkg.Layer") is Layer
