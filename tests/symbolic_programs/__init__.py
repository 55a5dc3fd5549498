"""JAX functions with unknown dims in their signatures, and the sizes at which they are run.

Each module has rows by name; ``check.py`` runs one in JAX and, lowered once, in TensorFlow.
"""
