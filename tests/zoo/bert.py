"""BERT-like encoder in flax nnx: three embeddings, masked self-attention, pooler."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, integers

VOCABULARY, WIDTH, HEADS, POSITIONS = 60, 32, 4, 16


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.attention_norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, x, mask):
        x = self.attention_norm(x + self.attention(x, mask=mask))
        return self.norm(x + self.down(nnx.gelu(self.up(x), approximate=False)))


class Bert(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(POSITIONS, WIDTH, rngs=rngs)
        self.segments = nnx.Embed(2, WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.layers = nnx.List([Layer(rngs) for _ in range(2)])
        self.pooler = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, input_ids, attention_mask, token_type_ids):
        places = jnp.arange(input_ids.shape[1])[None]
        x = self.words(input_ids) + self.positions(places) + self.segments(token_type_ids)
        x = self.norm(x)
        mask = nnx.make_attention_mask(jnp.ones_like(attention_mask), attention_mask)
        for layer in self.layers:
            x = layer(x, mask)
        return {"last_hidden_state": x, "pooled": jnp.tanh(self.pooler(x[:, 0]))}


class Served(Module):
    def __init__(self, model: nnx.Module) -> None:
        super().__init__()
        self.graphdef, state = nnx.split(model)
        self.state = TrackedState(state, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["batch", "length"], "int32", name="input_ids"),
            TensorSpec(["batch", "length"], "int32", name="attention_mask"),
            TensorSpec(["batch", "length"], "int32", name="token_type_ids"),
        ]
    )
    def __call__(self, input_ids, attention_mask, token_type_ids):
        model = nnx.merge(self.graphdef, self.state.value)
        return model(input_ids, attention_mask, token_type_ids)


def _inputs(batch: int, length: int) -> dict[str, np.ndarray]:
    used = integers(batch, length, batch) + 1
    places = np.arange(length, dtype=np.int32)
    return {
        "input_ids": integers(batch, VOCABULARY, batch, length),
        "attention_mask": (places < used[:, None]).astype(np.int32),
        "token_type_ids": np.tile((places > length // 2).astype(np.int32), (batch, 1)),
    }


def bert() -> ZooModel:
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Bert(nnx.Rngs(0))))
    model = nnx.merge(graphdef, filled(state))
    return ZooModel(
        "BERT", "flax nnx", Served(model), nnx.jit(model), [_inputs(1, 7), _inputs(3, 12)]
    )
