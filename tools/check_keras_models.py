"""Writes docs/keras.md: whether the models of keras.applications load and give the same numbers.

    python tools/check_keras_models.py            # all architectures
    python tools/check_keras_models.py NAME...    # some of them; other rows of the page stay

It needs TensorFlow and Keras, and downloads nothing: weights are random. The largest architectures
take 8 GiB of memory, and minutes to compile; with
``XLA_FLAGS=--xla_backend_optimization_level=0`` they take half the time.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf

from savax.function import value_and_grad
from savax.saved_model import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAGE = Path(__file__).resolve().parent.parent / "docs" / "keras.md"

# The smallest images that an architecture takes; the others take those of 32 pixels.
_SIZES = {"Inception": 75, "Xception": 71}
# Factors of the batch norms' scales. With scales around 1 the values grow from block to block, and
# small changes with them: TensorFlow's own result in float64 changes by 1e-5 when the images change
# by 1e-15.
_GAINS = {"EfficientNetV2L": 0.875}
_BATCH = 2
_TOLERANCE = 1e-5
_TOLERANCE_OF_FLOAT64 = 1e-10

_HEAD = """# Keras models

<!-- Written by tools/check_keras_models.py; change that instead. -->

{checked} of the {all} architectures of `keras.applications` (Keras {keras}), with random weights
and inputs in batches of {batch}, exported by TensorFlow {tensorflow} with `model.export` and loaded
by savax. `tools/check_keras_models.py` checks more of them. Columns:

- *Result*: largest difference from TensorFlow's result, relative to the largest number in it.
- *Gradients*: largest difference of the gradients by all trainable weights, relative to the largest
  number in all of them. They are of the sum of squares of the result; TensorFlow's are by
  `GradientTape`.
- *In float64*: the larger of both for a model whose weights and images are float64, where one of
  them is above {tolerance:.0e} in float32. Deep nets make rounding larger; gradients with ReLU or
  max-pooling jump where rounding decides on which side of a kink a number is: TensorFlow's own
  change by 1e-02 in ResNet50V2, and by 2e-03 in VGG16, when the images are changed by 3e-7 of their
  values. In float64 rounding is too small for that.

Random weights around 1 make EfficientNetV2L chaotic (TensorFlow's own float64 result changes by
1e-5 when the images change by 1e-15), so the scales of its batch norms are 0.875 times as large.

Some rows are of programs that XLA compiled with `--xla_backend_optimization_level=0`, which takes
half the time.

Layers are tested one by one, with their gradients, in
`tests/differential/saved_model/test_every_keras_layer.py`, those that augment images while they
train included. `test_keras_strings.py` beside it has models that begin with strings, and
`test_keras2_models.py` models in the format of Keras 2 (`tf_keras`): `model.save(directory)` writes
functions of every layer, losses, and the slots of the optimizer, and all of it loads.

| architecture | image | weights | result | gradients | in float64 |
|---|---|---|---|---|---|
"""


class Row(NamedTuple):
    """What was found of an architecture.

    Attributes:
      name: of the function of ``keras.applications``.
      size: of the images, in pixels.
      weights: how many numbers.
      result: relative difference of the results.
      gradients: relative difference of the gradients.
      in_float64: the larger of both of the same model in float64, if those in float32 differ.
    """

    name: str
    size: int
    weights: int
    result: float
    gradients: float
    in_float64: float | None = None

    def __str__(self) -> str:
        return (
            f"| {self.name} | {self.size} | {self.weights / 1e6:.1f} million "
            f"| {self.result:.0e} | {self.gradients:.0e} "
            f"| {'' if self.in_float64 is None else f'{self.in_float64:.0e}'} |"
        )

    def agrees(self) -> bool:
        """Returns whether savax and TensorFlow differ by rounding alone."""
        if self.in_float64 is None:
            return max(self.result, self.gradients) <= _TOLERANCE
        return self.in_float64 <= _TOLERANCE_OF_FLOAT64


def architectures() -> dict[str, Callable[..., Any]]:
    """Returns the functions of keras.applications that make a model, by name."""
    return {
        name: make
        for name, make in vars(keras.applications).items()
        if name[0].isupper() and inspect.isfunction(make)
    }


def make_model(name: str, **options: Any) -> tuple[Any, int]:
    """Returns a model with random weights, statistics and biases, and the size of its images."""
    keras.utils.set_random_seed(1)
    size = next((n for part, n in _SIZES.items() if part in name), 32)
    model = architectures()[name](
        weights=None, input_shape=(size, size, 3), include_top=False, pooling="avg", **options
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 1 and weight.dtype == keras.config.floatx():
            gain = _GAINS.get(name, 1.0) if weight.name == "gamma" else 1.0
            weight.assign(gain * weight * rng.uniform(0.8, 1.2, weight.shape) + 0.01)
    return model, size


def check(name: str, **options: Any) -> Row:
    """Exports an architecture, loads it, and compares results and gradients."""
    row = _check_of_dtype("float32", name, **options)
    if row.agrees():
        return row
    precise = _check_of_dtype("float64", name, **options)
    return row._replace(in_float64=max(precise.gradients, precise.result))


def _check_of_dtype(dtype: str, name: str, **options: Any) -> Row:
    with _floats(dtype):
        model, size = make_model(name, **options)
    x = np.random.default_rng(1).uniform(0, 1, (_BATCH, size, size, 3)).astype(dtype)
    weights = [weight.value for weight in model.trainable_weights]
    with tf.GradientTape() as tape:
        result = model(x, training=False)
        loss = tf.reduce_sum(result**2)
    if result.dtype != dtype:
        raise AssertionError(f"{name}: the model computes in {result.dtype.name}, not in {dtype}")
    wanted = [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, weights)]
    with tempfile.TemporaryDirectory() as directory:
        model.export(directory, verbose=False)
        loaded = load(directory)
    names = [variable.name for variable in loaded.trainable_variables]
    if names != [weight.path for weight in model.trainable_weights]:
        raise AssertionError(f"{name}: other trainable variables than those of the model")

    def loss_of_loaded() -> Any:
        found = loaded.serve(x)
        return jnp.sum(found**2), found

    differentiate = value_and_grad(
        loss_of_loaded, variables=[*loaded.trainable_variables], has_aux=True
    )
    with jax.enable_x64(dtype == "float64"):  # for the loss; the model is float64 anyway
        (_, found), gradients = differentiate()
    return Row(
        name,
        size,
        model.count_params(),
        _difference(found, result.numpy()),
        _largest_difference(gradients, wanted),
    )


@contextlib.contextmanager
def _floats(dtype: str) -> Iterator[None]:
    """Makes Keras models of a floating-point type."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def _largest_difference(found: Sequence[Any], wanted: Sequence[np.ndarray]) -> float:
    """Returns the largest difference of any gradient, relative to the largest number in all."""
    scale = max(float(np.abs(array).max()) for array in wanted)
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(np.asarray(ours) - theirs).max()) for ours, theirs in pairs) / scale


def _difference(found: Any, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - wanted).max() / max(np.abs(wanted).max(), 1e-6))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; all of them if none is named")
    names = parser.parse_args().names or sorted(architectures())
    disagree = []
    for name in names:
        start = time.monotonic()
        row = check(name)
        print(row, f"{time.monotonic() - start:.0f} s", flush=True)
        if not row.agrees():
            disagree.append(name)
        _write(row)
    if disagree:
        print(f"differ by more than rounding: {', '.join(disagree)}", file=sys.stderr)
    return int(bool(disagree))


def _write(row: Row) -> None:
    """Adds a row to the page, in the place of an older one of the same architecture."""
    text = PAGE.read_text() if PAGE.exists() else ""
    lines = {
        found[1]: found[0] for found in re.finditer(r"^\| (\w+) \| \d.*\n", text, re.MULTILINE)
    }
    lines[row.name] = f"{row}\n"
    head = _HEAD.format(
        keras=keras.__version__,
        tensorflow=tf.__version__,
        batch=_BATCH,
        tolerance=_TOLERANCE,
        checked=len(lines),
        all=len(architectures()),
    )
    PAGE.write_text(head + "".join(lines[name] for name in sorted(lines)))


if __name__ == "__main__":
    sys.exit(main())
