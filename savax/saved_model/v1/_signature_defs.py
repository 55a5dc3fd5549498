"""SignatureDefs and TensorInfos of graph tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function._composites import is_composite
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._graph_variables import GraphVariable
from savax.function.graph._handles import Tensor
from savax.protos import SignatureDef, TensorInfo, TensorProto, encode_shape, encode_tensor
from savax.saved_model._constants import (
    CLASSIFY_INPUTS,
    CLASSIFY_METHOD_NAME,
    CLASSIFY_OUTPUT_CLASSES,
    CLASSIFY_OUTPUT_SCORES,
    PREDICT_METHOD_NAME,
    REGRESS_INPUTS,
    REGRESS_METHOD_NAME,
    REGRESS_OUTPUTS,
)
from savax.saved_model.v1._composite_infos import composite_info, composite_of
from savax.saved_model.v1._errors import NoGraphTensorError
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.function.graph._graph import Graph

_STRING = as_dtype("string")
_FLOAT = as_dtype("float32")


def build_tensor_info(tensor: Any) -> TensorInfo:
    """Returns name, dtype and shape of a tensor of a graph, or of the parts of a composite.

    Args:
      tensor: a tensor, a variable, or a SparseTensor, RaggedTensor or IndexedSlices of tensors.

    Raises:
      NoGraphTensorError: it is none of these.
    """
    if is_composite(tensor):
        return composite_info(tensor)
    if isinstance(tensor, GraphVariable):
        info = TensorInfo(name=tensor.name, dtype=tensor.dtype.number)
        info.tensor_shape.CopyFrom(encode_shape(tensor.shape))
        return info
    if not isinstance(tensor, Tensor):
        raise NoGraphTensorError(
            f"build_tensor_info takes a tensor of a graph, got a {type(tensor).__name__}."
        )
    info = TensorInfo(name=tensor.name, dtype=tensor.dtype.number)
    info.tensor_shape.CopyFrom(encode_shape(tensor.shape))
    return info


def get_tensor_from_tensor_info(
    tensor_info: TensorInfo, graph: Graph | None = None, import_scope: str | None = None
) -> Any:
    """Returns the tensor of a graph that a TensorInfo names.

    Args:
      tensor_info: the message.
      graph: by default the default graph.
      import_scope: prefix that the graph was imported under.

    Returns:
      The tensor, or a composite of several.

    Raises:
      InvalidArgumentError: the message names no tensor.
      KeyNotFoundError: the graph has no such tensor.
    """
    chosen = graph or get_default_graph()
    scope = f"{import_scope}/" if import_scope else ""
    encoding = tensor_info.WhichOneof("encoding")
    if encoding == "name":
        return chosen.get_tensor_by_name(scope + tensor_info.name)
    if encoding is not None:
        return composite_of(
            tensor_info, lambda part: get_tensor_from_tensor_info(part, chosen, import_scope)
        )
    raise InvalidArgumentError(f"The TensorInfo names no tensor: {tensor_info}")


def build_signature_def(
    inputs: Mapping[str, TensorInfo] | None = None,
    outputs: Mapping[str, TensorInfo] | None = None,
    method_name: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> SignatureDef:
    """Returns a SignatureDef.

    Args:
      inputs: TensorInfos by name.
      outputs: TensorInfos by name.
      method_name: what TF Serving is to do with it.
      defaults: values of inputs that callers may leave out: arrays, or constants of a graph.
    """
    signature = SignatureDef(method_name=method_name or "")
    for name, info in (inputs or {}).items():
        signature.inputs[name].CopyFrom(info)
    for name, info in (outputs or {}).items():
        signature.outputs[name].CopyFrom(info)
    for name, default in (defaults or {}).items():
        signature.defaults[name].CopyFrom(_default(default))
    return signature


def _default(value: Any) -> TensorProto:
    if not isinstance(value, Tensor):
        return encode_tensor(np.asarray(value))
    if value.op.type != "Const":
        raise InvalidArgumentError(f"The default {value.name!r} isn't a constant.")
    proto: TensorProto = value.op.node_def.attr["value"].tensor
    return proto


def predict_signature_def(
    inputs: Mapping[str, Any] | None, outputs: Mapping[str, Any] | None
) -> SignatureDef:
    """Returns a signature for TF Serving's predict calls.

    Args:
      inputs: tensors by name.
      outputs: tensors by name.

    Raises:
      InvalidArgumentError: there are no inputs or no outputs.
    """
    if not inputs or not outputs:
        raise InvalidArgumentError("A prediction needs inputs and outputs.")
    return build_signature_def(_infos(inputs), _infos(outputs), PREDICT_METHOD_NAME)


def _infos(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {name: build_tensor_info(tensor) for name, tensor in tensors.items()}


def _checked(tensor: Any, what: str, dtype: Any) -> TensorInfo:
    if not isinstance(tensor, Tensor) or tensor.dtype is not dtype:
        found = tensor.dtype.name if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InvalidArgumentError(f"The {what} are a tensor of {dtype.name}, got {found}.")
    return build_tensor_info(tensor)


def classification_signature_def(examples: Any, classes: Any, scores: Any) -> SignatureDef:
    """Returns a signature for TF Serving's classify calls.

    Args:
      examples: string tensor of serialized ``tf.Example`` messages.
      classes: string tensor, or None.
      scores: float32 tensor, or None.

    Raises:
      InvalidArgumentError: both results are missing, or a tensor is of another dtype.
    """
    inputs = {CLASSIFY_INPUTS: _checked(examples, "examples of a classification", _STRING)}
    if classes is None and scores is None:
        raise InvalidArgumentError("A classification gives classes or scores, or both.")
    outputs = {}
    if classes is not None:
        outputs[CLASSIFY_OUTPUT_CLASSES] = _checked(classes, "classes", _STRING)
    if scores is not None:
        outputs[CLASSIFY_OUTPUT_SCORES] = _checked(scores, "scores", _FLOAT)
    return build_signature_def(inputs, outputs, CLASSIFY_METHOD_NAME)


def regression_signature_def(examples: Any, predictions: Any) -> SignatureDef:
    """Returns a signature for TF Serving's regress calls.

    Args:
      examples: string tensor of serialized ``tf.Example`` messages.
      predictions: float32 tensor.

    Raises:
      InvalidArgumentError: a tensor is missing or of another dtype.
    """
    inputs = {REGRESS_INPUTS: _checked(examples, "examples of a regression", _STRING)}
    outputs = {REGRESS_OUTPUTS: _checked(predictions, "predictions", _FLOAT)}
    return build_signature_def(inputs, outputs, REGRESS_METHOD_NAME)


def is_valid_signature(signature_def: SignatureDef | None) -> bool:
    """Whether TF Serving can serve a signature by one of its three methods."""
    if signature_def is None:
        return False
    inputs = {name: info.dtype for name, info in signature_def.inputs.items()}
    outputs = {name: info.dtype for name, info in signature_def.outputs.items()}
    if signature_def.method_name == PREDICT_METHOD_NAME:
        return bool(inputs and outputs)
    if signature_def.method_name == REGRESS_METHOD_NAME:
        wanted = {REGRESS_INPUTS: _STRING.number}, {REGRESS_OUTPUTS: _FLOAT.number}
        return (inputs, outputs) == wanted
    allowed = {
        CLASSIFY_OUTPUT_CLASSES: _STRING.number,
        CLASSIFY_OUTPUT_SCORES: _FLOAT.number,
    }
    return (
        signature_def.method_name == CLASSIFY_METHOD_NAME
        and inputs == {CLASSIFY_INPUTS: _STRING.number}
        and bool(outputs)
        and outputs.items() <= allowed.items()
    )
