"""What a call costs beside its computation, which is a product of two 4x4 matrices."""

from __future__ import annotations

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import alternating

try:
    import tensorflow as tf
except ImportError:
    tf = None


class Product(sx.Module):
    """A product with a matrix, under signatures of all kinds."""

    def __init__(self):
        super().__init__()
        self.w = sx.Variable(jnp.ones((4, 4)))

    @sx.function(input_signature=[sx.TensorSpec([4, 4], name="x")])
    def of_fixed_batch(self, x):
        return {"y": x @ self.w}

    @sx.function(input_signature=[sx.TensorSpec([None, 4], name="x")])
    def of_any_batch(self, x):
        return {"y": x @ self.w}

    @sx.function
    def without_signature(self, x):
        return {"y": x @ self.w}


class Lookup(sx.Module):
    """Rows of a matrix by 64-bit numbers, which JAX has switched off by default."""

    def __init__(self):
        super().__init__()
        self.w = sx.Variable(jnp.ones((4, 4)))

    @sx.function(input_signature=[sx.TensorSpec([None], sx.int64, name="ids")])
    def __call__(self, ids):
        return {"y": self.w.value[ids]}


class ManyWeights(sx.Module):
    """A sum that reads 100 Variables."""

    def __init__(self):
        super().__init__()
        self.weights = [sx.Variable(jnp.full((), float(i))) for i in range(100)]

    @sx.function(input_signature=[sx.TensorSpec([4], name="x")])
    def __call__(self, x):
        return {"y": sum((weight.value for weight in self.weights), x)}


def measure(options: Options) -> list[Row]:
    model, many = Product(), ManyWeights()
    x, w = jnp.ones((4, 4)), jnp.ones((4, 4))
    ids = np.arange(4)
    x1, x_host = jnp.ones(4), np.ones((4, 4), np.float32)
    model.without_signature(x)
    with tempfile.TemporaryDirectory() as directory:
        sx.saved_model.save(model, f"{directory}/product", signatures=model.of_any_batch)
        sx.saved_model.save(Lookup(), f"{directory}/lookup")
        sx.saved_model.save(many, f"{directory}/many")
        loaded = sx.saved_model.load(f"{directory}/product")
        loaded_lookup = sx.saved_model.load(f"{directory}/lookup")
        loaded_many = sx.saved_model.load(f"{directory}/many")
        if tf is not None:
            # Kept: its resources live as long as it does.
            loaded_tf = tf.saved_model.load(f"{directory}/product")
    signature = loaded.signatures["serving_default"]
    signature_lookup = loaded_lookup.signatures["serving_default"]
    signature_many = loaded_many.signatures["serving_default"]
    frozen_many = sx.freeze(signature_many)
    bare = jax.jit(lambda w, x: {"y": x @ w})
    values = [weight.value for weight in many.weights]
    bare_lookup = jax.jit(lambda w, ids: {"y": w[ids]})
    bare_many = jax.jit(lambda values, x: {"y": sum(values, x)})
    cases = {
        "bare": lambda: bare(w, x),
        "bare, numpy": lambda: bare(w, x_host),
        "bare, lookup": lambda: bare_lookup(w, ids),
        "bare, many": lambda: bare_many(values, x1),
        "loaded signature": lambda: signature(x=x),
        "loaded signature, numpy input": lambda: signature(x=x_host),
        "loaded signature, 100 Variables": lambda: signature_many(x=x1),
        "the same, frozen": lambda: frozen_many(x=x1),
        "loaded signature, int64 input": lambda: signature_lookup(ids=ids),
        "loaded method": lambda: loaded.of_any_batch(x),
        "function, fixed signature": lambda: model.of_fixed_batch(x),
        "function, batch None": lambda: model.of_any_batch(x),
        "function, no signature": lambda: model.without_signature(x),
    }
    peers = {
        "loaded signature, int64 input": "bare, lookup",
        "loaded signature, numpy input": "bare, numpy",
        "loaded signature, 100 Variables": "bare, many",
        "the same, frozen": "bare, many",
    }
    if tf is not None:
        signature_tf, x_tf = loaded_tf.signatures["serving_default"], tf.ones((4, 4))
        cases["TF"] = lambda: signature_tf(x=x_tf)
    # Short turns, most of which the system doesn't interrupt.
    times = alternating(cases, repeats=options.repeats(201), number=50, warm_up=50)
    rows = [
        Row(name, "bare jax.jit", times[name], times[peers.get(name, "bare")], 2.0, "µs")
        for name in cases
        if not name.startswith("bare") and name != "TF"
    ]
    theirs = times.get("TF")
    ours = times["loaded signature"]
    rows.insert(1, Row("loaded signature", "TensorFlow", ours, theirs, 0.1, "µs"))
    return rows


if __name__ == "__main__":
    run_alone("calls", measure)
