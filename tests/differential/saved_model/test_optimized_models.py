"""SavedModels of graphs that TensorFlow's optimizer has rewritten compute what they did.

Tools for deployment freeze a graph, run the optimizer on it, and save the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from old_graphs import check_graph  # noqa: E402
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2  # noqa: E402
from tensorflow.python.grappler import tf_optimizer  # noqa: E402

import savax  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.tf

tf1 = tf.compat.v1


class Weights:
    """Random constants of a model."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)

    def __call__(self, *shape: int) -> Any:
        return tf.constant(self._rng.normal(size=shape).astype(np.float32) / 2)

    def normalized(self, x: Any, channels: int) -> Any:
        """Returns a batch normalized as at inference."""
        scale, offset, mean = (self(channels) for _ in range(3))
        variance = tf.abs(self(channels)) + 0.5
        return tf1.nn.fused_batch_norm(
            x, scale, offset, mean, variance, epsilon=1e-3, is_training=False
        )[0]


def conv_net(x: Any) -> Any:
    """Returns what two blocks, a depthwise layer and a dense one make of images."""
    weights = Weights()
    y = tf.nn.conv2d(x, weights(3, 3, 3, 8), 2, "SAME")
    y = tf.nn.relu6(weights.normalized(y, 8))
    y = tf.nn.depthwise_conv2d(y, weights(3, 3, 8, 1), [1, 1, 1, 1], "SAME")
    y = tf.nn.relu(tf.nn.bias_add(y, weights(8)))
    y = tf.nn.conv2d(y, weights(1, 1, 8, 8), 1, "VALID")
    y = tf.nn.relu(weights.normalized(tf.nn.bias_add(y, weights(8)), 8))
    y = tf.reduce_mean(y, (1, 2))
    return tf.nn.bias_add(tf.matmul(y, weights(8, 5)), weights(5))


def dense_net(x: Any) -> Any:
    """Returns what layers with several activations make of rows."""
    weights = Weights()
    for activation in (tf.nn.gelu, tf.nn.leaky_relu, tf.tanh, tf.nn.silu):
        x = activation(tf.nn.bias_add(tf.matmul(x, weights(6, 6)), weights(6)))
    mean, variance = tf.nn.moments(x, [1], keepdims=True)
    x = tf.nn.batch_normalization(x, mean, variance, weights(6), weights(6), 1e-3)
    return tf.sqrt(tf.exp(tf.sin(x)))


def volume_net(x: Any) -> Any:
    """Returns what padding, a convolution and a normalization of instances make of volumes."""
    weights = Weights()
    x = tf.pad(x, [[0, 0], [1, 1], [1, 2], [0, 1], [0, 0]])
    x = tf.nn.conv3d(x, weights(2, 3, 2, 2, 4), [1] * 5, "VALID")
    x = tf.nn.elu(tf.nn.bias_add(x, weights(4)))
    mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, weights(4), weights(4), 1e-3))


# Model, shape of its input with the batch, and the ops that the optimizer writes whatever the CPU.
MODELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], set[str]]] = {
    "conv": (conv_net, (2, 8, 8, 3), {"_FusedConv2D", "_FusedMatMul"}),
    "dense": (dense_net, (3, 6), {"_FusedMatMul", "_UnaryOpsComposition"}),
    "volume": (volume_net, (2, 3, 4, 5, 2), set()),
}


def optimized(model: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """Returns the GraphDef of a model, from ``x`` to ``y``, as TensorFlow's optimizer leaves it."""
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, (None, *shape[1:]), "x")
        tf.identity(model(x), "y")
        meta_graph = tf1.train.export_meta_graph(graph=graph)
    for node in meta_graph.graph_def.node:
        node.device = "/job:localhost/replica:0/task:0/device:CPU:0"
    meta_graph.collection_def["train_op"].node_list.value.append("y")
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.remapping = rewriter_config_pb2.RewriterConfig.ON
    options.min_graph_nodes = -1
    found = tf_optimizer.OptimizeGraph(config, meta_graph)
    for node in found.node:
        node.device = ""
    return found


@pytest.fixture(scope="module")
def graphs() -> dict[str, Any]:
    """The optimized graphs of MODELS."""
    return {name: optimized(model, shape) for name, (model, shape, _) in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_optimized_models_agree_with_their_gradients(
    name: str, graphs: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    model, shape, ops = MODELS[name]
    graph = graphs[name]
    assert ops <= {node.op for node in graph.node}
    function = tf.function(
        lambda x: tf.import_graph_def(graph, {"x": x}, ["y:0"])[0],
        input_signature=[tf.TensorSpec((None, *shape[1:]), name="x")],
    )
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), {"serving_default": function})
    serve = savax.saved_model.load(tmp_path / "model").signatures["serving_default"]
    x = rng.normal(size=shape).astype(np.float32)
    (found,) = serve(x=x).values()
    np.testing.assert_allclose(found, function(tf.constant(x)), rtol=1e-4, atol=1e-5)
    assert next(iter(serve(x=x[:0]).values())).shape == (0, *found.shape[1:])

    tensor = tf.constant(x)
    with tf.GradientTape() as tape:  # the optimizer's own ops have no gradients in TensorFlow
        tape.watch(tensor)
        loss = tf.reduce_sum(tf.sin(model(tensor)))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(next(iter(serve(x=x).values())))))(x)
    np.testing.assert_allclose(gradient, tape.gradient(loss, tensor), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_optimized_graphs_run_in_sessions(
    name: str, graphs: dict[str, Any], rng: np.random.Generator
) -> None:
    x = rng.normal(size=MODELS[name][1]).astype(np.float32)
    check_graph(graphs[name], ["y:0"], {"x:0": x}, rtol=1e-4)


def test_optimized_models_are_saved_again(
    graphs: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    x = rng.normal(size=MODELS["conv"][1]).astype(np.float32)
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        tf.import_graph_def(graphs["conv"], name="")
        ends = [graph.get_tensor_by_name(f"{name}:0") for name in "xy"]
        tf1.saved_model.simple_save(session, str(tmp_path / "old"), {"x": ends[0]}, {"y": ends[1]})
        wanted = session.run("y:0", {"x:0": x})
    loaded = savax.saved_model.load(tmp_path / "old")
    np.testing.assert_allclose(
        loaded.signatures["serving_default"](x=x)["y"], wanted, rtol=1e-4, atol=1e-5
    )
    savax.saved_model.save(loaded, tmp_path / "new", signatures=loaded.signatures)
    again = tf.saved_model.load(str(tmp_path / "new"))
    found = again.signatures["serving_default"](x=tf.constant(x))["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
