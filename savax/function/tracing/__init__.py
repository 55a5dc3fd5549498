"""Tracing: a Python function becomes a jaxpr with the Variables that it reads and assigns."""
