"""Composite tensors, such as ragged ones, as one variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from savax.errors import DTypeMismatchError, InvalidArgumentError
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from savax.types import DType


@dataclass(frozen=True, eq=False)
class _CompositeVariant:
    """The tensors that a composite tensor consists of."""

    components: tuple[Any, ...]


# The metadata says of what class the composite is, which its tensors don't depend on.


@evaluates("CompositeTensorVariantFromComponents", ignores=("metadata",))
def _from_components(components: tuple[Any, ...]) -> _CompositeVariant:
    return _CompositeVariant(components)


@evaluates("CompositeTensorVariantToComponents", ignores=("metadata",))
def _to_components(
    encoded: Any,
    *,
    Tcomponents: list[DType],  # noqa: N803
) -> tuple[Any, ...]:
    if not isinstance(encoded, _CompositeVariant):
        raise InvalidArgumentError("A variant holds no composite tensor, and one is asked for.")
    found = [str(getattr(item, "dtype", "variant")) for item in encoded.components]
    if len(found) != len(Tcomponents) or any(
        getattr(item, "dtype", kind.numpy_dtype) != kind.numpy_dtype
        for item, kind in zip(encoded.components, Tcomponents, strict=True)
    ):
        raise DTypeMismatchError(
            f"A composite tensor of components {', '.join(found)}: expected "
            f"{', '.join(kind.name for kind in Tcomponents)}."
        )
    return encoded.components
