"""What ``first_answer.py`` does, in TensorFlow: ``... DIRECTORY IMAGE_SIZE NAMES``."""

from __future__ import annotations

import json
import sys
import time

import tensorflow as tf

from benchmarks.programs.tensorflow_model_inputs import make_inputs

directory, image_size, names = sys.argv[1:]
tf.function(lambda x: x + 1)(tf.zeros(1)).numpy()  # TensorFlow has started
load = tf.saved_model.load
seconds = {}
for name in names.split(","):
    inputs = make_inputs(name, 1, int(image_size))
    start = time.perf_counter()
    model = load(f"{directory}/{name}")  # its Variables live as long as it does
    signature = model.signatures["serving_default"]
    for value in signature(**{key: tf.constant(x) for key, x in inputs.items()}).values():
        value.numpy()
    seconds[name] = time.perf_counter() - start
print(json.dumps(seconds))
