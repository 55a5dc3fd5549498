"""SavedModel and TensorFlow checkpoints for JAX, without TensorFlow."""
