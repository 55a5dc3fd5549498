"""Graphs of earlier TensorFlow releases, run in a session of TensorFlow and in one of savax.

TensorFlow refuses ops that it has deprecated, unless the graph says that it was written before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from savax.compat import v1
from savax.function._op_schemas import op_schema
from savax.protos import encode_attr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

tf1 = tf.compat.v1

# Before any of the deprecations that the tests are about.
OLD_PRODUCER = 2


def check_old_op(
    op: str,
    *inputs: Any,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    producer: int = OLD_PRODUCER,
    outputs: int | None = None,
    signed: bool = True,
    **attrs: Any,
) -> list[np.ndarray]:
    """Compares an op that newer graphs can't have with TensorFlow's kernel; returns its results.

    Args:
      op: its name; its inputs are no lists.
      inputs: arrays in the order of its schema.
      rtol: relative tolerance.
      atol: absolute tolerance.
      producer: the version of the graph.
      outputs: how many of its results to compare, all by default.
      signed: whether the signs of results count.
      **attrs: its attributes, but for those that the inputs determine.
    """
    graph, feed = graph_of_op(op, *inputs, producer=producer, **attrs)
    fetches = [f"y:{i}" for i in range(outputs or len(op_schema(op).outputs))]
    return check_graph(graph, fetches, feed, rtol=rtol, atol=atol, signed=signed)


def graph_of_op(
    op: str, *inputs: Any, producer: int = OLD_PRODUCER, **attrs: Any
) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns a GraphDef with one op named ``y``, and what its Placeholders are fed."""
    graph = graph_pb2.GraphDef()
    graph.versions.producer = producer
    schema = op_schema(op)
    node = graph_pb2.GraphDef().node.add(name="y", op=op)
    feed = {}
    for i, (array, arg) in enumerate(zip(inputs, schema.inputs, strict=True)):
        array = np.asarray(array)
        kind = tf.as_dtype(array.dtype).as_datatype_enum
        given = graph.node.add(name=f"x{i}", op="Placeholder")
        given.attr["dtype"].type = kind
        if arg.type_attr is not None:
            node.attr[arg.type_attr].type = kind
        node.input.append(f"x{i}")
        feed[f"x{i}:0"] = array
    for name, value in attrs.items():
        message = encode_attr(value, schema.attrs[name].kind)
        node.attr[name].ParseFromString(message.SerializeToString())
    graph.node.append(node)
    return graph, feed


def check_graph(
    graph: Any,
    fetches: Sequence[str],
    *feeds: Mapping[str, Any],
    targets: Sequence[str] = (),
    rtol: float = 1e-5,
    atol: float = 1e-6,
    signed: bool = True,
) -> list[np.ndarray]:
    """Compares what a GraphDef gives in TensorFlow and in savax; returns the last results.

    Args:
      graph: the GraphDef.
      fetches: names of the tensors to compare.
      feeds: what is fed, run after run.
      targets: operations to run once before.
      rtol: relative tolerance.
      atol: absolute tolerance.
      signed: whether the signs of results count.
    """
    with tf.Graph().as_default(), tf1.Session() as session:
        tf.import_graph_def(graph, name="")
        session.run(list(targets))
        expected = [session.run(list(fetches), feed) for feed in feeds]
    with v1.Session(graph=v1.Graph()) as session:
        v1.import_graph_def(graph, name="")
        for target in targets:
            session.run(target)
        for feed, values in zip(feeds, expected, strict=True):
            got = session.run(list(fetches), dict(feed))
            for name, value, wanted in zip(fetches, got, values, strict=True):
                found, wanted = np.asarray(value), np.asarray(wanted)
                if not signed:
                    found, wanted = np.abs(found), np.abs(wanted)
                _compare(name, found, wanted, rtol, atol)
    return expected[-1]


def _compare(name: str, found: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> None:
    assert found.shape == wanted.shape, f"{name}: shape {found.shape}, not {wanted.shape}"
    if wanted.dtype.kind not in "SUO":
        assert found.dtype == wanted.dtype, f"{name}: dtype {found.dtype}, not {wanted.dtype}"
    if wanted.dtype.kind in "fcV":
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol, err_msg=name)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=name)
