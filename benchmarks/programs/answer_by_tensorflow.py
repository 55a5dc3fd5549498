"""Loads the transformer and asks it once: ``python answer_by_tensorflow.py DIRECTORY``."""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(signature(tokens=tf.constant(np.ones((1, 64), np.int32)))["logits"].numpy())
