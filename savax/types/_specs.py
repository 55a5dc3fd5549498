"""TensorSpec, and arithmetic on shapes with unknown dims and unknown rank.

A shape is a tuple of sizes in which ``None`` is an unknown dim; ``None`` instead of a tuple is an
unknown rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.types._dtypes import DType, DTypeLike, as_dtype

Shape: TypeAlias = "tuple[int | None, ...] | None"


class TensorShape:
    """A shape as a value of its own, where a signature holds one as a literal."""

    __slots__ = ("dims",)

    def __init__(self, dims: Iterable[int | None] | None = None) -> None:
        self.dims: Shape = None if dims is None else tuple(dims)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorShape) and self.dims == other.dims

    def __hash__(self) -> int:
        return hash(self.dims)

    def __repr__(self) -> str:
        return f"TensorShape({None if self.dims is None else list(self.dims)})"


class TensorSpec:
    """The dtype, shape and name of a tensor that isn't there yet.

    Args:
      shape: a sequence of sizes; ``None`` is an unknown dim, a string names one (equal names are
        equal sizes, and a name may be an expression of others, ``"2*b"``). ``None`` instead of a
        sequence is an unknown rank.
      dtype: anything that names a dtype.
      name: how callers of a signature name the tensor.
    """

    __slots__ = ("dim_names", "dtype", "name", "shape")

    def __init__(
        self,
        shape: Sequence[int | str | None] | int | None = None,
        dtype: DTypeLike = "float32",
        name: str | None = None,
    ) -> None:
        dims = as_dims(shape)
        self.shape: Shape = (
            None if dims is None else tuple(d if isinstance(d, int) else None for d in dims)
        )
        self.dim_names: tuple[str | None, ...] = (
            () if dims is None else tuple(d if isinstance(d, str) else None for d in dims)
        )
        self.dtype: DType = as_dtype(dtype)
        self.name = name

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """Returns the spec of an array-like with ``shape`` and ``dtype``."""
        return cls(tensor.shape, tensor.dtype, name)

    @classmethod
    def from_spec(cls, spec: Any, name: str | None = None) -> TensorSpec:
        """Returns a copy of a spec, renamed if a name is given."""
        dims = spec.dims if isinstance(spec, TensorSpec) else spec.shape
        return cls(dims, spec.dtype, name or getattr(spec, "name", None))

    @property
    def rank(self) -> int | None:
        """Number of axes; ``None`` if unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def dims(self) -> tuple[int | str | None, ...] | None:
        """The shape with the names of its named dims."""
        if self.shape is None:
            return None
        return tuple(
            size if size is not None else name
            for size, name in zip(self.shape, self.dim_names, strict=True)
        )

    def is_compatible_with(self, other: Any) -> bool:
        """Whether an array or spec has this dtype and a shape that may be this one."""
        return as_dtype(other.dtype) is self.dtype and shapes_compatible(
            self.shape, as_shape(other.shape)
        )

    def is_subtype_of(self, other: TensorSpec) -> bool:
        """Whether every tensor that fits this spec fits the other one."""
        return self.dtype is other.dtype and shape_is_subtype(self.shape, other.shape)

    def most_specific_common_supertype(self, others: Sequence[TensorSpec]) -> TensorSpec | None:
        """Returns the narrowest spec that all fit, or None if the dtypes differ."""
        shape = self.shape
        for other in others:
            if other.dtype is not self.dtype:
                return None
            shape = generalize_shapes(shape, other.shape)
        name = self.name if all(other.name == self.name for other in others) else None
        return TensorSpec(shape, self.dtype, name)

    def __repr__(self) -> str:
        dims = None if self.dims is None else list(self.dims)
        name = "" if self.name is None else f", name={self.name!r}"
        return f"TensorSpec({dims}, {self.dtype.name}{name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return (TensorSpec, (self.dims, self.dtype.name, self.name))

    def _key(self) -> tuple[Any, ...]:
        return (self.shape, self.dim_names, self.dtype, self.name)


def as_dims(shape: Any) -> tuple[int | str | None, ...] | None:
    """Returns a user's shape as a tuple of sizes, names and None; None for an unknown rank.

    Raises:
      InvalidArgumentError: a dim is neither a size >= 0, nor None, nor a name.
    """
    if shape is None:
        return None
    if isinstance(shape, TensorShape):
        return shape.dims
    if hasattr(shape, "as_list"):  # TensorFlow's own TensorShape
        return None if shape.rank is None else tuple(shape.as_list())
    if isinstance(shape, str):
        raise InvalidArgumentError(f"A shape is a sequence of dims, got the string {shape!r}.")
    dims = (shape,) if not isinstance(shape, Iterable) else tuple(shape)
    return tuple(_as_dim(dim, dims) for dim in dims)


def _as_dim(dim: Any, dims: tuple[Any, ...]) -> int | str | None:
    if dim is None or (isinstance(dim, str) and dim.strip()):
        return dim
    try:
        size = dim.__index__()
    except (AttributeError, TypeError) as error:
        raise InvalidArgumentError(
            f"In the shape {dims}, {dim!r} is neither a size, nor None, nor the name of a dim."
        ) from error
    if size < 0:
        raise InvalidArgumentError(
            f"In the shape {dims}, {size} is negative; an unknown dim is written None."
        )
    return int(size)


def as_shape(shape: Any) -> Shape:
    """Returns a user's shape with named dims as unknown ones."""
    dims = as_dims(shape)
    return None if dims is None else tuple(d if isinstance(d, int) else None for d in dims)


def shapes_compatible(a: Shape, b: Shape) -> bool:
    """Whether one tensor can have both shapes."""
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(
        x is None or y is None or x == y for x, y in zip(a, b, strict=True)
    )


def shape_is_subtype(a: Shape, b: Shape) -> bool:
    """Whether every tensor of shape ``a`` has shape ``b``."""
    if b is None:
        return True
    if a is None or len(a) != len(b):
        return False
    return all(y is None or x == y for x, y in zip(a, b, strict=True))


def generalize_shapes(a: Shape, b: Shape) -> Shape:
    """Returns the narrowest shape that both are instances of."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else None for x, y in zip(a, b, strict=True))


def merge_shapes(a: Shape, b: Shape) -> Shape:
    """Returns the shape that combines what two compatible shapes know.

    Raises:
      ShapeMismatchError: no tensor can have both shapes.
    """
    if not shapes_compatible(a, b):
        raise ShapeMismatchError(f"The shapes {a} and {b} can't belong to one tensor.")
    if a is None or b is None:
        return b if a is None else a
    return tuple(y if x is None else x for x, y in zip(a, b, strict=True))
