"""Runs a SavedModel by TensorFlow's C API: the loader of TF Serving and of the Go, Java, Rust APIs.

Loads the wheel's shared libraries by ctypes; TensorFlow's Python is not imported. As a command it
runs one signature: ``python tensorflow_c_api.py MODEL INPUTS.npz OUTPUTS.npz [SIGNATURE]``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.protos import MetaGraphDef, parse
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


# Result and argument types of the functions used, from tensorflow/c/c_api.h.
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "TF_NewStatus": (c_void_p,),
    "TF_GetCode": (c_int, c_void_p),
    "TF_Message": (c_char_p, c_void_p),
    "TF_NewGraph": (c_void_p,),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_NewBuffer": (POINTER(_Buffer),),
    "TF_LoadSessionFromSavedModel": (
        c_void_p, c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p,
        POINTER(_Buffer), c_void_p,
    ),
    "TF_GraphOperationByName": (c_void_p, c_void_p, c_char_p),
    "TF_AllocateTensor": (c_void_p, c_int, POINTER(c_int64), c_int, c_size_t),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_TensorByteSize": (c_size_t, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_TensorType": (c_int, c_void_p),
    "TF_SessionRun": (
        None, c_void_p, c_void_p, POINTER(_Output), POINTER(c_void_p), c_int, POINTER(_Output),
        POINTER(c_void_p), c_int, POINTER(c_void_p), c_int, c_void_p, c_void_p,
    ),
}  # fmt: skip


def _library() -> Any:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("TensorFlow isn't installed.")
    folder = next(iter(spec.submodule_search_locations))
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        library = ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class CApiModel:
    """A session on a SavedModel.

    Args:
      directory: of the model.
      tags: of its graph.
    """

    def __init__(self, directory: str, tags: tuple[str, ...] = ("serve",)) -> None:
        self._tf = _library()
        self._status = self._tf.TF_NewStatus()
        self._graph = self._tf.TF_NewGraph()
        meta_graph = self._tf.TF_NewBuffer()
        names = (c_char_p * len(tags))(*(tag.encode() for tag in tags))
        options = self._tf.TF_NewSessionOptions()
        self._session = self._tf.TF_LoadSessionFromSavedModel(
            options, None, directory.encode(), names, len(tags), self._graph, meta_graph,
            self._status,
        )  # fmt: skip
        self._check("TF_LoadSessionFromSavedModel")
        data = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        self.meta_graph = parse(MetaGraphDef, data, "what TensorFlow returned")

    def _check(self, what: str) -> None:
        if self._tf.TF_GetCode(self._status):
            raise RuntimeError(f"{what}: {self._tf.TF_Message(self._status).decode()}")

    def run(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, Any]:
        """Returns the outputs of a signature by name."""
        definition = self.meta_graph.signature_def[signature]
        feeds = sorted(definition.inputs)
        fetches = sorted(definition.outputs)
        feed_ops = (_Output * len(feeds))(*(self._output(definition.inputs[k]) for k in feeds))
        values = (c_void_p * len(feeds))(
            *(self._tensor(inputs[k], definition.inputs[k].dtype) for k in feeds)
        )
        fetch_ops = (_Output * len(fetches))(
            *(self._output(definition.outputs[k]) for k in fetches)
        )
        results = (c_void_p * len(fetches))()
        self._tf.TF_SessionRun(
            self._session, None, feed_ops, values, len(feeds), fetch_ops, results, len(fetches),
            None, 0, None, self._status,
        )  # fmt: skip
        self._check("TF_SessionRun")
        return {key: self._array(result) for key, result in zip(fetches, results, strict=True)}

    def _output(self, info: Any) -> _Output:
        node, _, index = info.name.rpartition(":")
        operation = self._tf.TF_GraphOperationByName(self._graph, node.encode())
        if not operation:
            raise RuntimeError(f"The graph has no operation {node!r}.")
        return _Output(operation, int(index))

    def _tensor(self, value: Any, dtype: int) -> int:
        array = np.asarray(value, as_dtype(int(dtype)).numpy_dtype, order="C")
        dims = (c_int64 * max(1, array.ndim))(*array.shape)
        tensor = self._tf.TF_AllocateTensor(int(dtype), dims, array.ndim, array.nbytes)
        if array.nbytes:
            ctypes.memmove(self._tf.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return int(tensor)

    def _array(self, tensor: int) -> np.ndarray:
        size = self._tf.TF_TensorByteSize(tensor)
        shape = [self._tf.TF_Dim(tensor, i) for i in range(self._tf.TF_NumDims(tensor))]
        data = ctypes.string_at(self._tf.TF_TensorData(tensor), size) if size else b""
        dtype = as_dtype(self._tf.TF_TensorType(tensor)).numpy_dtype
        return np.frombuffer(data, dtype).reshape(shape)


def main() -> None:
    model, inputs, outputs, *signature = sys.argv[1:]
    results = CApiModel(model).run(np.load(inputs), *signature)
    np.savez(outputs, **results)
    sys.stdout.flush()
    os._exit(0)  # past the runtime's teardown, which two TensorFlows in a process would contend for


if __name__ == "__main__":
    main()
