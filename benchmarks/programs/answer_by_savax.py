"""Loads the transformer and asks it once: ``python answer_by_savax.py DIRECTORY``."""

from __future__ import annotations

import sys

import numpy as np

import savax as sx

signature = sx.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(np.asarray(signature(tokens=np.ones((1, 64), np.int32))["logits"]))
