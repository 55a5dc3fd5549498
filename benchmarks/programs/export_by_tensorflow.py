"""Exports Keras models with their values: ``... DIRECTORY IMAGE_SIZE NAME...``.

Each model is written to ``DIRECTORY/NAME``, its weights in Keras' order to ``DIRECTORY/NAME.npz``.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.programs.keras_models import build

directory, image_size, *names = sys.argv[1:]
for name in names:
    model = build(name, int(image_size))
    model.export(f"{directory}/{name}", verbose=False)
    np.savez(f"{directory}/{name}.npz", *model.get_weights())
