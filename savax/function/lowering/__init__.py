"""Lowering: a jaxpr becomes a TensorFlow FunctionDef, by the rules in ``savax.function.ops``."""
