"""Loads a model of images and asks it once: ``python first_answer.py MODEL [CACHE]``."""

from __future__ import annotations

import json
import sys
import time

import jax
import numpy as np

import savax as sx
from benchmarks.programs.tensorflow_model_inputs import make_input

directory, *cache = sys.argv[1:]
if cache:
    jax.config.update("jax_compilation_cache_dir", cache[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
image = make_input("efficientnetb0", 1)
jax.numpy.zeros(1).block_until_ready()  # JAX has started
load = sx.saved_model.load

start = time.perf_counter()
signature = load(directory).signatures["serving_default"]
(key,) = [spec.name for spec in signature.inputs]
for value in signature(**{key: image}).values():
    np.asarray(value)
print(json.dumps({"seconds": time.perf_counter() - start}))
