"""Random crops, pools with random windows, glimpses and clusters agree with TensorFlow."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf

# The last object has no area.
BOXES = np.array([[[0.1, 0.2, 0.6, 0.9], [0.5, 0.5, 0.52, 1.0], [0.3, 0.3, 0.3, 0.3]]], np.float32)


@pytest.mark.parametrize("size", [(37, 51), (40, 51), (500, 3), (0, 7)], ids=str)
def test_crops_of_seeds_agree(size: tuple[int, int]) -> None:
    image = np.array([*size, 3], np.int32)

    @tf.function
    def crop(seed: tf.Tensor, covered: tf.Tensor) -> Any:
        return tf.raw_ops.StatelessSampleDistortedBoundingBox(
            image_size=image,
            bounding_boxes=BOXES if size[0] else BOXES[:, :0],
            min_object_covered=covered,
            seed=seed,
            aspect_ratio_range=[0.5, 2.0],
            area_range=[0.3, 0.3 if size[0] == 40 else 1.0],
            use_image_if_no_bounding_boxes=True,
        )

    specs = tf.TensorSpec([2], tf.int32), tf.TensorSpec([])
    concrete = crop.get_concrete_function(*specs)
    for seed in range(12):
        covered = np.float32(0.1 + seed % 2 * 0.8)
        check_function(concrete, np.array([seed, 3], np.int32), covered)


@pytest.mark.parametrize("version", ["", "V2"])
def test_later_crops_agree(version: str, tmp_path: Any) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([3], tf.int64)])
        def crop(self, size: tf.Tensor) -> Any:
            op = getattr(tf.raw_ops, f"SampleDistortedBoundingBox{version}")
            attrs = {"min_object_covered": 0.3, "seed": 3, "seed2": 4, "max_attempts": 5}
            return op(image_size=size, bounding_boxes=BOXES, area_range=[0.1, 0.5], **attrs)

    tf.saved_model.save(Module(), str(tmp_path))
    theirs, ours = tf.saved_model.load(str(tmp_path)), savax.saved_model.load(tmp_path)
    for _ in range(3):
        size = np.array([300, 200, 3], np.int64)
        for a, b in zip(ours.crop(size), theirs.crop(size), strict=True):
            assert np.asarray(a).dtype == b.numpy().dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("attrs", "boxes", "text"),
    [
        ({}, BOXES[:, :0], "has no objects"),
        ({}, BOXES * 2, r"in \[0, 1\]"),
        ({"area_range": [0.0, 1.0]}, BOXES, "areas of crops"),
        ({"max_attempts": 0}, BOXES, "in 0 attempts"),
    ],
    ids=["none", "outside", "areas", "attempts"],
)
def test_impossible_crops_are_refused(attrs: dict[str, Any], boxes: np.ndarray, text: str) -> None:
    @tf.function
    def crop() -> Any:
        return tf.raw_ops.SampleDistortedBoundingBoxV2(
            image_size=[9, 9, 3], bounding_boxes=boxes, min_object_covered=0.1, seed=1, **attrs
        )

    body = load_function(crop.get_concrete_function()).body
    with pytest.raises(savax.errors.InvalidArgumentError, match=text):
        body.run([])


@pytest.mark.parametrize(
    ("kind", "pseudo_random", "overlapping"),
    [("Max", True, True), ("Max", False, False), ("Avg", True, False), ("Avg", False, True)],
)
def test_fractional_pools_agree(
    kind: str, pseudo_random: bool, overlapping: bool, rng: np.random.Generator
) -> None:
    attrs = {"pooling_ratio": [1.0, 1.44, 1.73, 1.0], "seed": 5, "seed2": 6}
    attrs |= {"pseudo_random": pseudo_random, "overlapping": overlapping, "deterministic": True}

    @tf.function
    def pool(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = getattr(tf.raw_ops, f"Fractional{kind}Pool")(value=x, **attrs)
            loss = tf.reduce_sum(tf.sin(found.output))
        return *found, tape.gradient(loss, x)

    x = rng.integers(0, 4, (2, 11, 13, 2)).astype(np.float32)
    check_function(pool, x)


@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_derivatives_of_fractional_pools_agree(kind: str, rng: np.random.Generator) -> None:
    attrs: dict[str, Any] = {"pooling_ratio": [1.0, 1.5, 1.7, 1.0], "seed": 5, "overlapping": True}
    attrs["deterministic"] = True
    x = rng.normal(size=(1, 6, 7, 1)).astype(np.float32)
    pool = tf.function(lambda x: getattr(tf.raw_ops, f"Fractional{kind}Pool")(value=x, **attrs))
    body = load_function(pool.get_concrete_function(tf.constant(x))).body
    image = savax.Variable(x)

    @savax.function
    def loss() -> Any:
        return jnp.sin(body.run([image.value])[0]).sum()

    _, (gradient,) = savax.value_and_grad(loss, [image])()
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        expected = tf.reduce_sum(tf.sin(pool(variable)[0]))
    np.testing.assert_allclose(gradient, tape.gradient(expected, variable), rtol=1e-5, atol=1e-6)
    integers = rng.integers(-9, 9, (1, 6, 7, 1))
    check_function(pool, integers)


def test_deterministic_pools_stay_the_same(rng: np.random.Generator, tmp_path: Any) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 20, 20, 1])])
        def pool(self, x: tf.Tensor) -> Any:
            attrs = {"value": x, "pooling_ratio": [1.0, 1.5, 1.5, 1.0]}
            fixed = tf.raw_ops.FractionalMaxPool(**attrs, seed=5, deterministic=True)
            other = tf.raw_ops.FractionalMaxPool(**attrs)  # TensorFlow has no seeds for it
            return *fixed, *other

    tf.saved_model.save(Module(), str(tmp_path))
    theirs, ours = tf.saved_model.load(str(tmp_path)), savax.saved_model.load(tmp_path)
    x = rng.normal(size=(1, 20, 20, 1)).astype(np.float32)
    runs = []
    for _ in range(3):
        runs.append([np.asarray(a) for a in ours.pool(x)])
        for a, b in zip(runs[-1][:3], theirs.pool(x)[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        assert runs[-1][4][[0, -1]].tolist() == [0, 20]
        assert set(np.diff(runs[-1][4])) == {1, 2}
    assert (runs[0][4] != runs[2][4]).any()


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("version", ["", "V2"])
def test_glimpses_agree(version: str, centered: bool, normalized: bool) -> None:
    images = np.arange(2 * 7 * 9 * 2, dtype=np.float32).reshape(2, 7, 9, 2)
    attrs = {"centered": centered, "normalized": normalized, "noise": "zero"}
    attrs["uniform_noise"] = False

    @tf.function
    def glimpses(images: tf.Tensor, *places: tf.Tensor) -> Any:
        op = getattr(tf.raw_ops, f"ExtractGlimpse{version}")
        sizes = ([3, 4], [10, 12])
        return [op(input=images, size=s, offsets=p, **attrs) for s in sizes for p in places]

    near, far = [[0.1, -0.2], [0.9, 0.6]], [[-3.7, 2.0], [4.2, 30.0]]
    check_function(glimpses, images, np.array(near, np.float32), np.array(far, np.float32))


@pytest.mark.parametrize("noise", ["uniform", "gaussian", ""])
def test_noise_is_beside_the_image(noise: str, rng: np.random.Generator) -> None:
    @tf.function
    def glimpse(images: tf.Tensor) -> tf.Tensor:
        attrs = {"centered": False, "normalized": False, "uniform_noise": noise == "uniform"}
        return tf.raw_ops.ExtractGlimpseV2(
            input=images, size=[9, 9], offsets=[[-2.0, 1.0]], noise=noise, **attrs
        )

    images = rng.normal(size=(1, 6, 6, 2)).astype(np.float32)
    concrete = glimpse.get_concrete_function(tf.constant(images))
    body = load_function(concrete).body
    found, again = (np.asarray(body.run([images])[0]) for _ in range(2))
    seen = np.zeros((9, 9), bool)
    seen[2:8, :5] = True
    np.testing.assert_array_equal(found[:, seen], concrete(tf.constant(images)).numpy()[:, seen])
    assert images.min() <= found.min() <= found.max() <= images.max()
    assert (found[:, ~seen] != again[:, ~seen]).mean() > 0.5


def test_nearest_centres_agree(rng: np.random.Generator) -> None:
    points, centers = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    for k in (0, 3, 9):
        inputs = points.astype(np.float32), centers.astype(np.float32), np.int64(k)
        check_evaluation("NearestNeighbors", *inputs, rtol=1e-4)


def test_first_centres_agree(rng: np.random.Generator) -> None:
    points = rng.normal(size=(40, 3)).astype(np.float32)
    for seed in (0, 5, -(2**40)):
        for retries in (-1, 0, 4):
            numbers = np.int64(7), np.int64(seed), np.int64(retries)
            check_evaluation("KmeansPlusPlusInitialization", points, *numbers)
        check_evaluation("KMC2ChainInitialization", np.abs(points[:, 0]), np.int64(seed))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64"])
def test_isotonic_regressions_agree(dtype: str, rng: np.random.Generator) -> None:
    values = rng.integers(0, 4, (2, 9, 8)).astype(dtype)
    kind = {"int8": "float32", "int64": "float64"}.get(dtype, dtype)
    attrs = {"output_dtype": tf.as_dtype(kind)}
    check_evaluation("IsotonicRegression", values, **attrs)
    check_evaluation("IsotonicRegression", values[:, :, :1], **attrs)
