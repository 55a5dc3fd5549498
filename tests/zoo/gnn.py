"""Graph network in plain JAX: messages along edges, ``segment_sum``, a readout for each graph."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, integers, normal

FEATURES, WIDTH, GRAPHS = 5, 16, 4


def init() -> dict:
    def dense(seed, m, n):
        return {"w": jnp.asarray(normal(seed, m, n) / np.sqrt(m)), "b": jnp.zeros(n)}

    rounds = [
        {"message": dense(3 * i, 2 * WIDTH, WIDTH), "update": dense(3 * i + 1, 2 * WIDTH, WIDTH)}
        for i in range(2)
    ]
    return {"enter": dense(7, FEATURES, WIDTH), "rounds": rounds, "readout": dense(8, WIDTH, 3)}


def _dense(p, x):
    return x @ p["w"] + p["b"]


def forward(params, nodes, senders, receivers, graph_of_node):
    """Nodes [n, features]; edges go from senders [e] to receivers [e]; graph_of_node [n]."""
    x = jax.nn.relu(_dense(params["enter"], nodes))
    count = nodes.shape[0]
    degree = jax.ops.segment_sum(jnp.ones_like(receivers, x.dtype), receivers, count)
    for p in params["rounds"]:
        message = _dense(p["message"], jnp.concatenate([x[senders], x[receivers]], axis=-1))
        gathered = jax.ops.segment_sum(jax.nn.relu(message), receivers, count)
        gathered = gathered / jnp.maximum(degree, 1)[:, None]
        x = x + jax.nn.relu(_dense(p["update"], jnp.concatenate([x, gathered], axis=-1)))
    pooled = jax.ops.segment_sum(x, graph_of_node, GRAPHS)
    return {"states": x, "graphs": _dense(params["readout"], pooled)}


class Served(Module):
    def __init__(self, params: dict) -> None:
        super().__init__()
        self.params = TrackedState(params, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["nodes", FEATURES], name="nodes"),
            TensorSpec(["edges"], "int32", name="senders"),
            TensorSpec(["edges"], "int32", name="receivers"),
            TensorSpec(["nodes"], "int32", name="graph_of_node"),
        ]
    )
    def __call__(self, nodes, senders, receivers, graph_of_node):
        return forward(self.params.value, nodes, senders, receivers, graph_of_node)


def _inputs(nodes: int, edges: int) -> dict[str, np.ndarray]:
    return {
        "nodes": normal(nodes, nodes, FEATURES),
        "senders": integers(1, nodes, edges),
        "receivers": integers(2, nodes, edges),
        "graph_of_node": np.sort(integers(3, GRAPHS, nodes)),
    }


def gnn() -> ZooModel:
    params = init()

    @jax.jit
    def reference(nodes, senders, receivers, graph_of_node):
        return forward(params, nodes, senders, receivers, graph_of_node)

    return ZooModel("GNN", "JAX", Served(params), reference, [_inputs(4, 6), _inputs(9, 20)])
