"""Models of known architectures, written with the libraries that people use: flax, equinox, JAX.

Each is small, but has every layer that its architecture has. They are wrapped for saving as
docs/coming_from_jax.md says. ``reference`` computes the same without savax.
"""
