"""canonical_bytes against the order of TensorFlow's C++ runtime, which fingerprints hash."""

import numpy as np
import pytest

from savax.protos import FingerprintDef, SavedModel, canonical_bytes, parse

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

BUCKETS = 1 << 62


def _model():
    root = tf.Module()
    root.w = tf.Variable(np.ones((2, 2), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def f(x):
        branch = tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x)
        return {"y": x @ root.w, "yy": x, "z": branch}

    root.f = f
    return root


def test_fingerprint_of_canonical_bytes_is_the_stored_checksum(tmp_path):
    root = _model()
    tf.saved_model.save(root, tmp_path, signatures={"serving_default": root.f, "other": root.f})
    model = parse(SavedModel, (tmp_path / "saved_model.pb").read_bytes(), "model")
    stored = parse(FingerprintDef, (tmp_path / "fingerprint.pb").read_bytes(), "fingerprint")
    # to_hash_bucket_fast is the hash that fingerprints use, modulo the number of buckets.
    hashed = tf.strings.to_hash_bucket_fast([canonical_bytes(model)], BUCKETS).numpy()[0]
    assert hashed == stored.saved_model_checksum % BUCKETS
