"""SparseTensor, RaggedTensor and IndexedSlices: TensorFlow's composite values, as pytrees.

A composite whose parts are TensorSpecs stands for its kind in the signatures of functions, which so
take and return composites like any other structure of arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from savax.errors import InvalidArgumentError, NotEncodableError
from savax.function.evaluation._x64 import x64_enabled
from savax.protos import TypeSpecValue
from savax.types import DTypeLike, TensorShape, TensorSpec, as_dtype, as_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# Numbers of TypeSpecProto.TypeSpecClass.
_SPARSE, _SLICES, _RAGGED = 1, 2, 3

# No tensor of TensorFlow has more axes.
_MOST_AXES = 254


class _Part(TensorSpec):
    """The spec of a composite's part, with what is said of the whole.

    Attributes:
      whole: the spec of the composite as a file states it.
    """

    __slots__ = ("whole",)

    def __init__(
        self, shape: Any, dtype: DTypeLike, whole: TypeSpecValue, name: str | None = None
    ) -> None:
        super().__init__(shape, dtype, name)
        self.whole = whole

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Part, (self.dims, self.dtype.name, self.whole, self.name))


def traced_spec(given: Any, found: TensorSpec, name: str) -> TensorSpec:
    """Returns the spec of a traced argument; a composite's part keeps what is said of the whole.

    Args:
      given: the array or spec that the trace began with.
      found: what the trace made of it.
      name: of the argument.
    """
    if isinstance(given, _Part):
        return _Part(found.dims, found.dtype, given.whole, name)
    return TensorSpec(found.dims, found.dtype, name)


def _as_part(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple | int | float) else value


class SparseTensor:
    """An array that is zero but for some elements.

    Attributes:
      indices: int64 array of shape ``[n, rank]``, in the order of rows.
      values: array of shape ``[n]``.
      dense_shape: int64 array of shape ``[rank]``.
    """

    __slots__ = ("dense_shape", "indices", "values")

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        self.indices = _as_part(indices)
        self.values = _as_part(values)
        self.dense_shape = _as_part(dense_shape)

    @property
    def dtype(self) -> Any:
        """The values' dtype."""
        return self.values.dtype

    def __repr__(self) -> str:
        return f"SparseTensor({self.indices!r}, {self.values!r}, {self.dense_shape!r})"


class RaggedTensor:
    """Rows of unequal lengths, nested to some depth.

    Attributes:
      flat_values: the elements of all rows; its first axis goes along them.
      nested_row_splits: for each ragged axis, the outermost first, an array in which row ``i`` is
        the range from element ``i`` to element ``i + 1``.
    """

    __slots__ = ("flat_values", "nested_row_splits")

    def __init__(self, flat_values: Any, nested_row_splits: Sequence[Any]) -> None:
        self.flat_values = _as_part(flat_values)
        self.nested_row_splits = tuple(_as_part(splits) for splits in nested_row_splits)

    @property
    def dtype(self) -> Any:
        """The elements' dtype."""
        return self.flat_values.dtype

    @property
    def ragged_rank(self) -> int:
        """How many axes are ragged."""
        return len(self.nested_row_splits)

    def __repr__(self) -> str:
        return f"RaggedTensor({self.flat_values!r}, {self.nested_row_splits!r})"


class IndexedSlices:
    """Some rows of a larger array; rows that are there twice count twice.

    Attributes:
      values: the rows, of shape ``[n, ...]``.
      indices: their places in the larger array, of shape ``[n]``.
      dense_shape: shape of the larger array, or None.
    """

    __slots__ = ("dense_shape", "indices", "values")

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None) -> None:
        self.values = _as_part(values)
        self.indices = _as_part(indices)
        self.dense_shape = _as_part(dense_shape)

    @property
    def dtype(self) -> Any:
        """The rows' dtype."""
        return self.values.dtype

    def __repr__(self) -> str:
        return f"IndexedSlices({self.values!r}, {self.indices!r}, {self.dense_shape!r})"


COMPOSITES = (SparseTensor, RaggedTensor, IndexedSlices)


def _register(cls: type, fields: tuple[str, ...]) -> None:
    """Makes a class a pytree whose parts are named."""

    def flatten(value: Any) -> tuple[Any, None]:
        return [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in fields], None

    def unflatten(_: None, parts: Any) -> Any:
        made: Any = object.__new__(cls)
        for name, part in zip(fields, parts, strict=True):
            setattr(made, name, part)
        return made

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)


_register(SparseTensor, ("indices", "values", "dense_shape"))
_register(RaggedTensor, ("flat_values", "nested_row_splits"))
_register(IndexedSlices, ("values", "indices", "dense_shape"))


def sparse_spec(shape: Any = None, dtype: DTypeLike = "float32") -> SparseTensor:
    """Returns what stands for a SparseTensor in a signature.

    Args:
      shape: of the dense array; None for unknown dims or an unknown rank.
      dtype: of the values.
    """
    dims, kind = as_shape(shape), as_dtype(dtype)
    rank = None if dims is None else len(dims)
    whole = TypeSpecValue(_SPARSE, "SparseTensorSpec", (TensorShape(dims), kind), 3)
    return SparseTensor(
        _Part([None, rank], "int64", whole),
        _Part([None], kind, whole),
        _Part([rank], "int64", whole),
    )


def ragged_spec(
    shape: Any = None,
    dtype: DTypeLike = "float32",
    ragged_rank: int | None = None,
    row_splits_dtype: DTypeLike = "int64",
) -> RaggedTensor:
    """Returns what stands for a RaggedTensor in a signature.

    Args:
      shape: with None for ragged and unknown dims.
      dtype: of the elements.
      ragged_rank: how many axes are ragged; all but one by default.
      row_splits_dtype: int32 or int64.

    Raises:
      InvalidArgumentError: neither a rank nor a ragged rank is given, or they don't fit.
    """
    dims, kind, splits = as_shape(shape), as_dtype(dtype), as_dtype(row_splits_dtype)
    if ragged_rank is None and dims is not None:
        ragged_rank = len(dims) - 1
    most = _MOST_AXES if dims is None else len(dims) - 1
    if ragged_rank is None or not 1 <= ragged_rank <= most:
        raise InvalidArgumentError(
            f"A RaggedTensorSpec of shape {shape} can't have the ragged rank {ragged_rank}."
        )
    state = (TensorShape(dims), kind, ragged_rank, splits)
    whole = TypeSpecValue(_RAGGED, "RaggedTensorSpec", state, ragged_rank + 1)
    rows = None if dims is None or dims[0] is None else dims[0] + 1
    inner = None if dims is None else [None, *dims[ragged_rank + 1 :]]
    lengths = [rows, *[None] * (ragged_rank - 1)]
    return RaggedTensor(
        _Part(inner, kind, whole), [_Part([length], splits, whole) for length in lengths]
    )


def slices_spec(
    shape: Any = None,
    dtype: DTypeLike = "float32",
    indices_dtype: DTypeLike = "int64",
    dense_shape_dtype: DTypeLike | None = None,
    indices_shape: Any = None,
) -> IndexedSlices:
    """Returns what stands for IndexedSlices in a signature.

    Args:
      shape: of the larger array.
      dtype: of the rows.
      indices_dtype: int32 or int64.
      dense_shape_dtype: of ``dense_shape``; None if there is none.
      indices_shape: ``[n]`` where the number of rows is known.
    """
    dims, kind, index = as_shape(shape), as_dtype(dtype), as_dtype(indices_dtype)
    count = as_shape(indices_shape) if indices_shape is not None else (None,)
    dense = None if dense_shape_dtype is None else as_dtype(dense_shape_dtype)
    state = (TensorShape(dims), kind, index, dense, TensorShape(count))
    whole = TypeSpecValue(_SLICES, "IndexedSlicesSpec", state, 2 if dense is None else 3)
    rows = None if dims is None else [*(count or (None,)), *dims[1:]]
    rank = None if dims is None else len(dims)
    return IndexedSlices(
        _Part(rows, kind, whole),
        _Part(count, index, whole),
        None if dense is None else _Part([rank], dense, whole),
    )


SparseTensorSpec = sparse_spec
RaggedTensorSpec = ragged_spec
IndexedSlicesSpec = slices_spec

_SPECS: dict[int, Callable[..., Any]] = {
    _SPARSE: sparse_spec,
    _RAGGED: ragged_spec,
    _SLICES: slices_spec,
}


def import_composites(structured: Any) -> Any:
    """Returns a signature with composites of specs for the specs of composites that a file has.

    Raises:
      InvalidArgumentError: the parts of a spec contradict each other.
    """
    if not any(isinstance(leaf, TypeSpecValue) for leaf in jax.tree.leaves(structured)):
        return structured
    return jax.tree.map(_import_composite, structured)


def _import_composite(leaf: Any) -> Any:
    if not isinstance(leaf, TypeSpecValue) or leaf.class_number not in _SPECS:
        return leaf
    try:
        return _SPECS[leaf.class_number](*leaf.type_state)
    except (TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"The {leaf.class_name} can't be read: {error}.") from error


def export_composites(structured: Any) -> Any:
    """Returns a signature with specs of composites for composites of specs.

    Raises:
      NotEncodableError: the parts of a composite are no tensors.
      InvalidArgumentError: they don't make one.
    """
    leaves = jax.tree.leaves(structured, is_leaf=is_composite)
    if not any(is_composite(leaf) for leaf in leaves):
        return structured
    return jax.tree.map(
        lambda leaf: _export_composite(leaf) if is_composite(leaf) else leaf,
        structured,
        is_leaf=is_composite,
    )


def is_composite(value: Any) -> bool:
    """Whether a value is a composite: of tensors, or of specs."""
    return isinstance(value, COMPOSITES)


def _export_composite(value: Any) -> TypeSpecValue:
    parts = jax.tree.leaves(value)
    if isinstance(parts[0], _Part):
        return parts[0].whole
    if not all(isinstance(part, TensorSpec) for part in parts):
        raise NotEncodableError(
            f"A savax.function takes or returns a {type(value).__name__} whose parts aren't all "
            f"tensors: {value!r}."
        )
    whole: TypeSpecValue = jax.tree.leaves(composite_spec(value))[0].whole
    return whole


def composite_spec(value: Any) -> Any:
    """Returns what stands in a signature for a composite, by its parts' dtypes and shapes."""
    return _SPECS_OF[type(value)](value)


def _spec_of_sparse(value: SparseTensor) -> SparseTensor:
    known = [*(value.indices.shape or ())[1:], *(value.dense_shape.shape or ())]
    rank = next((size for size in known if size is not None), None)
    return sparse_spec(None if rank is None else [None] * rank, value.values.dtype)


def _spec_of_ragged(value: RaggedTensor) -> RaggedTensor:
    splits, flat = value.nested_row_splits, value.flat_values
    rank = len(splits)
    if flat.shape is None:
        return ragged_spec(None, flat.dtype, rank, splits[0].dtype)
    ends = splits[0].shape[0] if splits[0].shape else None
    rows = None if ends is None else ends - 1
    shape = [rows, *[None] * rank, *flat.shape[1:]]
    return ragged_spec(shape, flat.dtype, rank, splits[0].dtype)


def _spec_of_slices(value: IndexedSlices) -> IndexedSlices:
    rows, dense = value.values.shape, value.dense_shape
    return slices_spec(
        None if rows is None else [None, *rows[1:]],
        value.values.dtype,
        value.indices.dtype,
        None if dense is None else dense.dtype,
        value.indices.shape,
    )


_SPECS_OF: dict[type, Callable[[Any], Any]] = {
    SparseTensor: _spec_of_sparse,
    RaggedTensor: _spec_of_ragged,
    IndexedSlices: _spec_of_slices,
}


def with_wide_parts(
    specs: Sequence[TensorSpec], treedef: Any, arguments: Any
) -> tuple[TensorSpec, ...]:
    """Returns the specs of results, where indices and row splits are int64 as in TensorFlow.

    They are int32 in a trace while JAX has no 64-bit types. In TensorFlow, row splits and indices
    of slices may be int32 too: those of results are int64 if those of the arguments are, and row
    splits also if no argument has any.

    Args:
      specs: of the results in flattened order.
      treedef: structure of the results.
      arguments: structure of the arguments, with their specs.
    """
    given = jax.tree.leaves(arguments, is_leaf=is_composite)
    ragged = [x for x in given if isinstance(x, RaggedTensor)]
    slices = [x for x in given if isinstance(x, IndexedSlices)]
    narrow = not x64_enabled()
    wide_splits = narrow and all(_is_wide(s) for x in ragged for s in x.nested_row_splits)
    wide_slices = narrow and bool(slices) and all(_is_wide(x.indices) for x in slices)

    def widened(value: Any) -> Any:
        if isinstance(value, SparseTensor):
            return SparseTensor(_wide(value.indices), value.values, _wide(value.dense_shape))
        if isinstance(value, RaggedTensor) and wide_splits:
            return RaggedTensor(value.flat_values, [_wide(s) for s in value.nested_row_splits])
        if isinstance(value, IndexedSlices) and wide_slices:
            return IndexedSlices(value.values, _wide(value.indices), value.dense_shape)
        return value

    tree = jax.tree.unflatten(treedef, specs)
    return tuple(jax.tree.leaves(jax.tree.map(widened, tree, is_leaf=is_composite)))


def _is_wide(part: Any) -> bool:
    return isinstance(part, TensorSpec) and part.dtype == "int64"


def _wide(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.dims, "int64", spec.name) if spec.dtype == "int32" else spec
