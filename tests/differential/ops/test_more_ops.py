"""Special functions, quantized integers, segments, TensorArrays and parts of Variables agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

POINTS = np.array([1e-6, 0.1, 0.5, 1.0, 1.9, 2.1, 3.7, 8.0, 24.0, 26.0, 60.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bessel_functions_agree(dtype: str) -> None:
    close: dict[str, Any] = {"rtol": 3e-6, "atol": 2e-6}
    if dtype == "float64":
        close = {"rtol": 1e-12, "atol": 1e-13}
    x = POINTS.astype(dtype)
    signed = ["BesselJ0", "BesselJ1", "Dawsn", "FresnelCos", "FresnelSin"]
    positive = ["BesselY0", "BesselK0", "BesselK0e", "BesselK1", "BesselK1e"]
    if dtype == "float32":  # the same formulas
        signed, positive = signed[1:4], positive[1:4:2]
    for op in signed:
        check_evaluation(op, np.concatenate([-x, [0], x]).astype(dtype), **close)
    for op in positive:
        check_evaluation(op, np.concatenate([x, [0]]).astype(dtype), **close)
    check_evaluation("BesselY1", x, **close)  # TensorFlow's has NaN at zero for float32


def test_gradients_of_bessel_functions_agree() -> None:
    x = np.array([0.3, 1.7, 5.0], np.float32)
    for op in ("BesselJ1", "BesselK0e"):
        check_evaluation(op, x, grad=True, rtol=1e-4, atol=1e-5)


# For 8 bits, other modes have kernels of oneDNN in TensorFlow, which give levels of their own.
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("MIN_COMBINED", "qint8"),
        ("MIN_COMBINED", "quint8"),
        ("MIN_COMBINED", "quint16"),
        ("MIN_FIRST", "qint8"),
        ("SCALED", "qint16"),
    ],
)
def test_quantized_integers_agree(mode: str, dtype: str) -> None:
    kind = tf.as_dtype(dtype)
    x = np.array([-3.0, -1.2, -0.1, 0.0, 0.33, 0.7, 2.0, 9.0], np.float32)
    rounding = "HALF_TO_EVEN" if mode == "SCALED" else "HALF_AWAY_FROM_ZERO"

    def there_and_back(x: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> Any:
        levels, bottom, top = tf.raw_ops.QuantizeV2(
            input=x, min_range=low, max_range=high, T=kind, mode=mode, round_mode=rounding
        )
        value = tf.raw_ops.Dequantize(input=levels, min_range=bottom, max_range=top, mode=mode)
        return value, bottom, top

    check_function(tf.function(there_and_back), x, np.float32(-2.5), np.float32(2.1))
    check_function(tf.function(there_and_back), x, np.float32(0.5), np.float32(0.5005))


def test_segments_of_chosen_rows_agree() -> None:
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    indices, ids = np.array([0, 3, 3, 1], np.int32), np.array([0, 0, 2, 2], np.int32)
    for kind in ("Sum", "Mean", "SqrtN"):
        check_evaluation(f"SparseSegment{kind}", data, indices, ids)
        with_number = data, indices, ids, np.int32(5)
        check_evaluation(f"SparseSegment{kind}WithNumSegments", *with_number)
        grad = np.ones((3, 3), np.float32)
        check_evaluation(f"SparseSegment{kind}Grad", grad, indices, ids, np.int32(4))


def test_arrays_of_version_1_agree() -> None:
    def rows(x: tf.Tensor) -> Any:
        raw = tf.raw_ops
        handle, flow = raw.TensorArrayV3(
            size=3, dtype=tf.float32, element_shape=[2], clear_after_read=False
        )
        flow = raw.TensorArrayScatterV3(handle=handle, indices=[0, 1], value=x, flow_in=flow)
        flow = raw.TensorArrayWriteV3(handle=handle, index=2, value=x[1] * 2, flow_in=flow)
        read = {"handle": handle, "flow_in": flow, "dtype": tf.float32}
        joined, _ = raw.TensorArrayConcatV3(**read)
        size = raw.TensorArraySizeV3(handle=handle, flow_in=flow)
        picked = raw.TensorArrayGatherV3(indices=[2, 0], **read)
        return raw.TensorArrayReadV3(index=1, **read), picked, joined, size

    check_function(tf.function(rows), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))


def checked_after(function: Any, variable: Any, *args: Any) -> None:
    """Compares results, and the Variable after two calls."""
    concrete = function.get_concrete_function(*[tf.constant(a) for a in args])
    loaded = load_function(concrete)
    for _ in range(2):
        expected = concrete(*[tf.constant(a) for a in args])
        found = loaded.body.run([np.asarray(a) for a in args])
        for a, b in zip(found, tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(np.asarray(a), b.numpy(), rtol=1e-5)
    (own,) = loaded.variables.values()
    np.testing.assert_allclose(np.asarray(own.value), variable.numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["Update", "Add", "Sub", "Max", "Min"])
def test_parts_of_variables_are_written_alike(kind: str) -> None:
    variable = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3), name="v")

    @tf.function
    def write(indices: tf.Tensor, updates: tf.Tensor) -> Any:
        op = getattr(tf.raw_ops, f"ResourceScatterNd{kind}")
        op(ref=variable.handle, indices=indices, updates=updates)
        variable[1:, 0].assign(updates + 1)
        return variable.read_value()

    indices = np.array([[0, 1], [3, 2], [2, 0]], np.int32)
    checked_after(write, variable, indices, np.array([5.0, -1.0, 7.5], np.float32))


# Random numbers of nodes and generators: the same as TensorFlow's, call after call.


def test_random_ops_with_seeds_agree() -> None:
    raw = tf.raw_ops

    def draw(logits: tf.Tensor) -> Any:
        seeds = {"seed": 7, "seed2": -3}
        shape = [2, 3]
        bounds = {"minval": -5, "maxval": 9}
        return (
            raw.RandomUniform(shape=shape, dtype=tf.float32, **seeds),
            raw.RandomStandardNormal(shape=shape, dtype=tf.float32, **seeds),
            raw.TruncatedNormal(shape=shape, dtype=tf.float32, **seeds),
            raw.RandomUniformInt(shape=shape, **bounds, **seeds),
            raw.RandomShuffle(value=tf.range(7), **seeds),
            raw.Multinomial(logits=logits, num_samples=5, **seeds),
            raw.RandomGamma(shape=[2], alpha=logits[0], **seeds),
            raw.RandomPoissonV2(shape=[2], rate=[3.0, 20.0], **seeds),
        )

    logits = np.array([[0.5, 1.0, 2.0]], np.float32)
    concrete = tf.function(draw).get_concrete_function(tf.constant(logits))
    loaded = load_function(concrete)
    for _ in range(3):
        expected = concrete(tf.constant(logits))
        for a, b in zip(loaded.body.run([logits]), expected, strict=True):
            np.testing.assert_allclose(np.asarray(a), b.numpy(), rtol=1e-5, atol=1e-6)


def test_random_state_moves_in_loops_and_branches() -> None:
    @tf.function
    def draw(n: tf.Tensor) -> Any:
        total = tf.TensorArray(tf.float32, 4)
        for i in tf.range(4):
            if tf.equal(i % 2, n):
                total = total.write(i, tf.random.uniform([], seed=1))
            else:
                total = total.write(i, -tf.random.uniform([], seed=2))
        return total.stack()

    loaded = load_function(draw.get_concrete_function(tf.constant(0)))
    (first,), (second,) = (loaded.body.run([np.int32(0)]) for _ in range(2))
    numbers = [abs(float(x)) for x in (*first, *second)]
    assert len(set(numbers)) == len(numbers)
    assert [float(x) > 0 for x in first] == [True, False, True, False]


def test_without_seeds_each_model_draws_its_own() -> None:
    @tf.function
    def draw() -> Any:
        return tf.raw_ops.RandomUniform(shape=[8], dtype=tf.float32)

    concrete = draw.get_concrete_function()
    runs = [np.asarray(load_function(concrete).body.run([])[0]) for _ in range(2)]
    assert not np.array_equal(*runs)
    assert all((run >= 0).all() and (run < 1).all() for run in runs)


@pytest.mark.parametrize("algorithm", ["philox", "auto_select"])
def test_generators_agree(algorithm: str) -> None:
    generator = tf.random.Generator.from_seed(5, alg=algorithm)

    @tf.function
    def draw() -> Any:
        drawn = (
            generator.uniform([3]),
            generator.normal([2, 2]),
            generator.uniform([4], -3, 9, tf.int32),
            generator.truncated_normal([3]),
            generator.uniform_full_int([2], tf.uint32),
        )
        if algorithm == "auto_select":  # TensorFlow refuses the one below with it
            return drawn
        return *drawn, generator.binomial([2, 1], [10.0], [0.3])

    checked_after(draw, generator.state)


def test_states_of_generators_are_skipped_alike() -> None:
    generator = tf.random.Generator.from_seed(5, alg="philox")

    @tf.function
    def skip() -> Any:
        generator.skip(3)
        old = tf.raw_ops.RngReadAndSkip(
            resource=generator.state.handle, alg=1, delta=tf.constant(2, tf.uint64)
        )
        return old, tf.random.stateless_uniform([2], generator.make_seeds(1)[:, 0])

    checked_after(skip, generator.state)


def test_spectra_of_sound_agree(rng: np.random.Generator) -> None:
    sound = rng.normal(size=(700, 2)).astype(np.float32)
    for squared in (False, True):
        attrs = {"window_size": 200, "stride": 150, "magnitude_squared": squared}
        (spectrum,) = check_evaluation("AudioSpectrogram", sound, rtol=1e-4, atol=1e-3, **attrs)
    close: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
    check_evaluation("Mfcc", spectrum, np.int32(16000), **close)
    limits = {"upper_frequency_limit": 7000.0, "lower_frequency_limit": 100.0}
    counts = {"filterbank_channel_count": 20, "dct_coefficient_count": 7}
    check_evaluation("Mfcc", spectrum[:1], np.int32(16000), **limits, **counts, **close)


def test_optional_values_agree() -> None:
    def either(x: tf.Tensor) -> Any:
        some = tf.experimental.Optional.from_value((x, x + 1))
        none = tf.experimental.Optional.empty(tf.TensorSpec([2], tf.float32))
        return (*some.get_value(), some.has_value(), none.has_value())

    check_function(tf.function(either), np.array([1.0, 2.0], np.float32))
