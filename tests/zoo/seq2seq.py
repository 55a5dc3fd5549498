"""Sequence to sequence: LSTM by flax linen's RNN, GRU by equinox cells in ``lax.scan``."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, integers

VOCABULARY, WIDTH, START, STEPS = 20, 16, 1, 5


class LstmTranslator(nn.Module):
    """Reads sequences of given lengths and writes ``STEPS`` tokens, the likeliest each time."""

    def setup(self) -> None:
        self.embedding = nn.Embed(VOCABULARY, WIDTH)
        self.encoder = nn.RNN(nn.OptimizedLSTMCell(WIDTH), return_carry=True)
        self.decoder = nn.OptimizedLSTMCell(WIDTH)
        self.out = nn.Dense(VOCABULARY)

    def __call__(self, tokens, lengths):
        carry, _ = self.encoder(self.embedding(tokens), seq_lengths=lengths)

        def step(module, state, _):
            carry, token = state
            carry, hidden = module.decoder(carry, module.embedding(token))
            logits = module.out(hidden)
            token = jnp.argmax(logits, -1).astype(jnp.int32)
            return (carry, token), (logits, token)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, out_axes=1)
        start = jnp.full(tokens.shape[:1], START, jnp.int32)
        _, (logits, written) = scan(self, (carry, start), jnp.arange(STEPS))
        return {"logits": logits, "written": written}


class ServedLstm(Module):
    def __init__(self, network: nn.Module, params: Any) -> None:
        super().__init__()
        self.network = network
        self.params = TrackedState(params, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["batch", 6], "int32", name="tokens"),
            TensorSpec(["batch"], "int32", name="lengths"),
        ]
    )
    def __call__(self, tokens, lengths):
        return self.network.apply({"params": self.params.value}, tokens, lengths)


class GruTranslator(eqx.Module):
    """One sequence: reads it backwards, writes with attention over what the encoder saw."""

    embedding: eqx.nn.Embedding
    encoder: eqx.nn.GRUCell
    decoder: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 4)
        self.embedding = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
        self.encoder = eqx.nn.GRUCell(WIDTH, WIDTH, key=keys[1])
        self.decoder = eqx.nn.GRUCell(2 * WIDTH, WIDTH, key=keys[2])
        self.out = eqx.nn.Linear(WIDTH, VOCABULARY, key=keys[3])

    def __call__(self, tokens):
        def read(hidden, token):
            hidden = self.encoder(self.embedding(token), hidden)
            return hidden, hidden

        def write(state, _):
            hidden, token = state
            context = jax.nn.softmax(memory @ hidden) @ memory
            hidden = self.decoder(jnp.concatenate([self.embedding(token), context]), hidden)
            logits = self.out(hidden)
            token = jnp.argmax(logits).astype(jnp.int32)
            return (hidden, token), (logits, token)

        hidden, memory = lax.scan(read, jnp.zeros(WIDTH), tokens, reverse=True)
        _, (logits, written) = lax.scan(write, (hidden, jnp.int32(START)), length=STEPS)
        return {"logits": logits, "written": written}


class ServedGru(Module):
    def __init__(self, model: GruTranslator) -> None:
        super().__init__()
        self.model = TrackedState(model, trainable=True)

    @function(input_signature=[TensorSpec([None, 6], "int32", name="tokens")])
    def __call__(self, tokens):
        return jax.vmap(self.model.value)(tokens)


def lstm_seq2seq() -> ZooModel:
    network = LstmTranslator()
    example = jnp.zeros((1, 6), jnp.int32), jnp.array([6])
    params = filled(jax.eval_shape(network.init, jax.random.key(0), *example))["params"]
    runs = [
        {"tokens": integers(b, VOCABULARY, b, 6), "lengths": np.arange(6 - b, 6, dtype=np.int32)}
        for b in (1, 3)
    ]

    @jax.jit
    def reference(tokens, lengths):
        return network.apply({"params": params}, tokens, lengths)

    served = ServedLstm(network, params)
    return ZooModel("LSTM seq2seq", "flax linen", served, reference, runs)


def gru_seq2seq() -> ZooModel:
    model = filled(eqx.filter_eval_shape(GruTranslator, jax.random.key(0)))
    runs = [{"tokens": integers(b, VOCABULARY, b, 6)} for b in (1, 3)]

    @jax.jit
    def reference(tokens):
        return jax.vmap(model)(tokens)

    return ZooModel("GRU seq2seq", "equinox", ServedGru(model), reference, runs)
