"""StableHLO modules: read from XlaCallModule nodes and run on JAX, or written into such nodes."""
