"""Saves one model with several signatures: ``python 03_signatures.py [DIRECTORY]``."""

import sys

import jax.numpy as jnp
import numpy as np

import savax as sx


class TextEncoder(sx.Module):
    """Embeds token ids; also finds the most similar of two texts."""

    def __init__(self, vocabulary, width):
        super().__init__()
        table = np.random.default_rng(0).normal(size=(vocabulary, width))
        self.table = sx.Variable(table.astype(np.float32), name="table")

    # Two unknown sizes, and a name for each input and output: clients use these names.
    @sx.function(input_signature=[sx.TensorSpec([None, None], sx.int32, name="tokens")])
    def encode(self, tokens):
        embedded = jnp.mean(self.table.value[tokens], axis=1)
        return {"embedding": embedded / jnp.linalg.norm(embedded, axis=-1, keepdims=True)}

    # Without an input_signature: the signature is chosen when the model is saved.
    @sx.function
    def similarity(self, first, second):
        return {"cosine": jnp.sum(first * second, axis=-1)}


directory = sys.argv[1] if len(sys.argv) > 1 else "build/encoder"
encoder = TextEncoder(vocabulary=100, width=16)
# Equal names are equal sizes: both batches of embeddings have as many rows.
embeddings = [sx.TensorSpec(["batch", 16], sx.float32, name=name) for name in ("first", "second")]
signatures = {
    "serving_default": encoder.encode,
    "similarity": encoder.similarity.get_concrete_function(*embeddings),
}
sx.saved_model.save(encoder, directory, signatures=signatures)

loaded = sx.saved_model.load(directory)
for key, signature in loaded.signatures.items():
    print(key, signature.inputs, "->", signature.outputs)
tokens = np.array([[1, 2, 3], [1, 2, 4]], np.int32)
embedding = loaded.signatures["serving_default"](tokens=tokens)["embedding"]
same = loaded.signatures["similarity"](first=embedding, second=embedding)["cosine"]
np.testing.assert_allclose(same, [1, 1], rtol=1e-5)
print("A text is as similar to itself as can be:", same)
