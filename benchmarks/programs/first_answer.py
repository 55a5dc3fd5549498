"""Loads models and asks each once: ``python first_answer.py DIRECTORY IMAGE_SIZE NAMES [CACHE]``.

The names are separated by commas; the seconds of each are printed.
"""

from __future__ import annotations

import json
import sys
import time

import jax
import numpy as np

import savax as sx
from benchmarks.programs.tensorflow_model_inputs import make_inputs

directory, image_size, names, *cache = sys.argv[1:]
if cache:
    jax.config.update("jax_compilation_cache_dir", cache[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.numpy.zeros(1).block_until_ready()  # JAX has started
load = sx.saved_model.load
seconds = {}
for name in names.split(","):
    inputs = make_inputs(name, 1, int(image_size))
    start = time.perf_counter()
    signature = load(f"{directory}/{name}").signatures["serving_default"]
    for value in signature(**inputs).values():
        np.asarray(value)
    seconds[name] = time.perf_counter() - start
print(json.dumps(seconds))
