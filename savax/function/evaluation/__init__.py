"""Evaluation: a TensorFlow FunctionDef becomes a JAX callable.

Its rules are in ``savax.function.ops``.
"""
