"""TensorInfos of composite values: sparse tensors by their three tensors, others by a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.errors import CorruptSavedModelError
from savax.function import SparseTensor, import_composites
from savax.function._composites import composite_spec, export_composites, is_composite
from savax.function.graph._handles import Tensor
from savax.protos import (
    StructuredValue,
    TensorInfo,
    decode_structure,
    decode_tensor,
    encode_shape,
    encode_structure,
)
from savax.saved_model.v1._errors import NoGraphTensorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.types import Shape


def composite_info(value: Any) -> TensorInfo:
    """Returns the TensorInfo of a composite of graph tensors.

    Raises:
      NoGraphTensorError: a part is no tensor of a graph.
    """
    parts = jax.tree.leaves(value)
    wrong = [part for part in parts if not isinstance(part, Tensor)]
    if wrong:
        raise NoGraphTensorError(
            f"A {type(value).__name__} of a signature consists of tensors of a graph; one part is "
            f"a {type(wrong[0]).__name__}."
        )
    info = TensorInfo()
    if isinstance(value, SparseTensor):
        info.dtype = value.dtype.number
        info.coo_sparse.indices_tensor_name = value.indices.name
        info.coo_sparse.values_tensor_name = value.values.name
        info.coo_sparse.dense_shape_tensor_name = value.dense_shape.name
        info.tensor_shape.CopyFrom(encode_shape(_dense_shape(value.dense_shape)))
        return info
    encoded = encode_structure(export_composites(composite_spec(value)))
    info.composite_tensor.type_spec.CopyFrom(encoded.type_spec_value)
    for part in parts:
        component = info.composite_tensor.components.add(name=part.name, dtype=part.dtype.number)
        component.tensor_shape.CopyFrom(encode_shape(part.shape))
    return info


def composite_of(info: TensorInfo, tensor: Callable[[TensorInfo], Any]) -> Any:
    """Returns the composite that a TensorInfo describes.

    Args:
      info: of a sparse or another composite value.
      tensor: gives each part for its TensorInfo.

    Raises:
      CorruptSavedModelError: savax doesn't know the composite, or its parts are of another number.
    """
    if info.WhichOneof("encoding") == "coo_sparse":
        sparse = info.coo_sparse
        names = (
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        )
        return SparseTensor(*(tensor(TensorInfo(name=name)) for name in names))
    composite = info.composite_tensor
    spec = StructuredValue(type_spec_value=composite.type_spec)
    known = import_composites(decode_structure(spec))
    specs, tree = jax.tree.flatten(known)
    if not is_composite(known) or len(specs) != len(composite.components):
        raise CorruptSavedModelError(
            f"A signature has a composite {composite.type_spec.type_spec_class_name!r} of "
            f"{len(composite.components)} tensors, which savax doesn't know."
        )
    return jax.tree.unflatten(tree, [tensor(part) for part in composite.components])


def part_names(name: str, value: Any) -> list[str]:
    """Returns the names that the parts of an input have as arguments; TensorFlow's are these."""
    if isinstance(value, SparseTensor):
        return [f"{name}_{part}" for part in ("indices", "values", "dense_shape")]
    if is_composite(value):
        return [f"{name}_component_{i}" for i in range(len(jax.tree.leaves(value)))]
    return [name]


def _dense_shape(tensor: Tensor) -> Shape:
    """Returns what is known of the shape that a tensor has as its value."""
    op = tensor.op
    if op.type == "PlaceholderWithDefault":
        op = op.inputs[0].op
    if op.type == "Const":
        sizes = decode_tensor(op.node_def.attr["value"].tensor).tolist()
        return tuple(None if size < 0 else size for size in sizes)
    rank = tensor.shape[0] if tensor.shape else None
    return None if rank is None else (None,) * rank
