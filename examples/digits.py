"""Trains a digit classifier, checkpoints and resumes, exports it, and serves the export elsewhere.

    python examples/digits.py                # train, or resume where the last run was stopped
    python examples/digits.py --fresh        # start again
    python examples/digits.py --steps 1000   # train on

The data are scikit-learn's 1797 images of 8x8 pixels. Stop the training with Ctrl-C, or kill it,
whenever you like: the next run goes on from the latest checkpoint, and ends with the same weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import savax as sx

BATCH_SIZE = 64
STEPS_PER_CHECKPOINT = 50
SERVE = Path(__file__).with_name("serve_digits.py")


class DigitClassifier(sx.Module):
    """Two convolutions and a dense layer; images have pixels between 0 and 1."""

    def __init__(self, key):
        super().__init__()
        keys = jax.random.split(key, 3)
        he_normal = jax.nn.initializers.he_normal()
        self.conv1 = sx.Variable(he_normal(keys[0], (3, 3, 1, 16)), name="conv1")
        self.conv2 = sx.Variable(he_normal(keys[1], (3, 3, 16, 32)), name="conv2")
        self.bias1 = sx.Variable(jnp.zeros(16), name="bias1")
        self.bias2 = sx.Variable(jnp.zeros(32), name="bias2")
        self.dense = sx.Variable(he_normal(keys[2], (4 * 4 * 32, 10)), name="dense")
        self.bias = sx.Variable(jnp.zeros(10), name="bias")

    @sx.function(input_signature=[sx.TensorSpec([None, 8, 8], sx.float32, name="images")])
    def features(self, images):
        x = images[..., None]
        for kernel, bias in [(self.conv1, self.bias1), (self.conv2, self.bias2)]:
            x = jax.lax.conv_general_dilated(
                x, kernel.value, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + bias)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return {"features": x.reshape(x.shape[0], 4 * 4 * 32)}

    def logits(self, images):
        return self.features(images)["features"] @ self.dense + self.bias

    @sx.function(input_signature=[sx.TensorSpec([None, 8, 8], sx.float32, name="images")])
    def classify(self, images):
        logits = self.logits(images)
        return {"digit": jnp.argmax(logits, axis=-1), "probabilities": jax.nn.softmax(logits)}


class Trainer:
    """The model, the optimizer's state and the step count, which a checkpoint holds together."""

    def __init__(self, model):
        self.model = model
        self.variables = model.trainable_variables
        self.optimizer = optax.adamw(2e-3)
        self.state = sx.TrackedState(self.optimizer.init(self.variables))
        self.step = sx.Variable(0, dtype=sx.int32, trainable=False, name="step")
        self.checkpoint = sx.train.Checkpoint(model=model, optimizer=self.state, step=self.step)

    def loss(self, images, labels):
        logits = self.model.logits(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @sx.function
    def train_step(self, images, labels):
        loss, gradients = sx.value_and_grad(self.loss, variables=self.variables)(images, labels)
        updates, new_state = self.optimizer.update(gradients, self.state.value, self.variables)
        for variable, update in zip(self.variables, updates, strict=True):
            variable.assign_add(update)
        self.state.assign(new_state)
        self.step.assign_add(1)
        return loss

    def train(self, images, labels, steps, directory):
        latest = sx.train.latest_checkpoint(directory)
        if latest:
            self.checkpoint.restore(latest).assert_consumed()
            print(f"Resumed from {latest} at step {int(self.step)}.", flush=True)
        loss = float("nan")
        for step in range(int(self.step), steps):
            # Which images a step sees depends on its number alone, so a resumed run sees the same.
            chosen = np.random.default_rng(step).integers(0, len(images), BATCH_SIZE)
            loss = self.train_step(images[chosen], labels[chosen])
            done = step + 1
            if done % STEPS_PER_CHECKPOINT == 0 or done == steps:
                self.checkpoint.save(directory / "digits")
                show_progress(done, steps, f"loss {float(loss):.4f}, checkpoint saved")


def show_progress(done, total, text):
    filled = 30 * done // total
    end = "\n" if done == total or not sys.stdout.isatty() else "\r"
    print(f"[{'#' * filled}{'.' * (30 - filled)}] {done}/{total}  {text}", end=end, flush=True)


def accuracy(model, images, labels):
    return float(np.mean(np.asarray(model.classify(images)["digit"]) == labels))


def compare_elsewhere(model, directory, images):
    """Lets other processes answer from the exported files, and compares with this one."""
    inputs, outputs = directory / "images.npz", directory / "answers.npz"
    expected = {key: np.asarray(value) for key, value in model.classify(images).items()}
    np.savez(inputs, images=images)
    readers = ["savax"]
    if importlib.util.find_spec("tensorflow") is None:
        print("TensorFlow isn't installed, so only savax reads the model here.")
    else:
        readers += ["tensorflow", "session", "c_api"]
    for reader in readers:
        start = time.perf_counter()
        command = [sys.executable, SERVE, reader, directory / "model", inputs, outputs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{reader} can't serve the model:\n{done.stderr}")
        answers = np.load(outputs)
        assert set(answers) == set(expected)
        np.testing.assert_array_equal(answers["digit"], expected["digit"])
        difference = np.abs(answers["probabilities"] - expected["probabilities"]).max()
        assert difference < 1e-5, difference
        seconds = time.perf_counter() - start
        print(f"  {reader:12} same digits, probabilities within {difference:.0e} ({seconds:.1f} s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="of training in all")
    parser.add_argument("--directory", type=Path, default=Path("build/digits"))
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True, exist_ok=True)

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    labels = labels.astype(np.int32)
    train, test = slice(0, 1400), slice(1400, None)

    model = DigitClassifier(jax.random.key(0))
    start = time.perf_counter()
    trainer = Trainer(model)
    checkpoints = options.directory / "checkpoints"
    try:
        trainer.train(images[train], labels[train], options.steps, checkpoints)
    except KeyboardInterrupt:
        sys.exit("\nStopped. Run the same command again to go on from the latest checkpoint.")
    print(f"Trained in {time.perf_counter() - start:.1f} s.")
    trained_on = accuracy(model, images[train], labels[train])
    others = accuracy(model, images[test], labels[test])
    print(f"Accuracy: {trained_on:.1%} of the training images, {others:.1%} of the others.")

    start = time.perf_counter()
    signatures = {"serving_default": model.classify, "features": model.features}
    sx.saved_model.save(model, options.directory / "model", signatures=signatures)
    print(f"Exported to {options.directory / 'model'} in {time.perf_counter() - start:.1f} s.")
    print("In fresh processes:")
    compare_elsewhere(model, options.directory, images[test])


if __name__ == "__main__":
    main()
