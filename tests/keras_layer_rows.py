"""Rows for the tests of Keras layers: how a layer is made, and what it is called with.

Both Keras 3 and Keras 2 (``tf_keras``) have most of them: a row of a layer that isn't there is left
out.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

SEQUENCE, IMAGE, VOLUME, VECTOR = (None, 7, 4), (None, 8, 8, 3), (None, 4, 4, 4, 2), (None, 6)
IMAGES_BY_RANK = {1: SEQUENCE, 2: IMAGE, 3: VOLUME}

TEXTS = ("a b c", "b c d e", "c d")
WORDS = np.array([b"a", b"b", b"b c", b"zz", b"A, c d e!", b"", "\u00fcber".encode()], object)


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer and the specs of its arguments.

    Attributes:
      make: makes the layer.
      specs: what its call takes; several are given as a list, as merging layers want it.
      options: further arguments of the call.
      calls: how often it is called; layers with a state answer differently each time.
      names: names of the arguments behind the first, if they are given one by one instead.
      is_slow: whether it takes seconds.
    """

    make: Callable[[], Any]
    specs: tuple[Any, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    calls: int = 1
    names: tuple[str, ...] = ()
    is_slow: bool = False


def floats(shape: tuple[int | None, ...] = VECTOR) -> Any:
    return tf.TensorSpec(shape, tf.float32)


def integers(*shape: int | None, dtype: str = "int64") -> Any:
    return tf.TensorSpec(shape, dtype)


def strings(*shape: int | None) -> Any:
    return tf.TensorSpec(shape, tf.string)


def draw(spec: Any, rng: np.random.Generator, batch: int) -> np.ndarray:
    """Returns values for an argument; sizes that aren't fixed are the batch or 5."""
    shape = [batch if n is None and i == 0 else n or 5 for i, n in enumerate(spec.shape)]
    if spec.dtype == tf.string:
        return rng.choice(WORDS, size=shape)
    if spec.dtype == tf.bool:
        return np.arange(int(np.prod(shape))).reshape(shape) % 3 != 1
    if spec.dtype.is_integer:
        return rng.integers(0, 5, size=shape).astype(spec.dtype.as_numpy_dtype)
    return rng.normal(size=shape).astype(spec.dtype.as_numpy_dtype)


def rows(keras: Any) -> dict[str, Row]:
    """Returns the rows of a Keras, by name."""
    found: dict[str, Row] = {}
    families = (
        *(_core, _activations, _convolutions, _normalization, _pooling, _recurrent, _wrappers),
        *(_regularization, _shaping, _categories, _lookups, _texts, _images, _augmentation),
        *(_audio, _merging, _attention),
    )
    for family in families:
        found.update(family(_Layers(keras.layers)))
    # Layers that this Keras lacks are None in place of what makes them.
    return {name: row for name, row in found.items() if row.make is not None}


class _Layers:
    """Makers of layers: ``k.Dense(3)`` isn't made until it is called."""

    def __init__(self, layers: Any) -> None:
        self.layers = layers

    def __getattr__(self, name: str) -> Any:
        layer = getattr(self.layers, name, None)
        if layer is None:
            return lambda *args, **kwargs: None
        return lambda *args, **kwargs: lambda: layer(*args, **kwargs)


def _core(k: Any) -> dict[str, Row]:
    layers = k.layers
    return {
        "Dense": Row(k.Dense(3, activation="relu"), (floats(),)),
        "EinsumDense": Row(
            k.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), (floats(SEQUENCE),)
        ),
        "Embedding": Row(k.Embedding(10, 4), (integers(None, 5, dtype="int32"),)),
        "Embedding masked": Row(k.Embedding(10, 4, mask_zero=True), (integers(None, 5),)),
        "ReversibleEmbedding": Row(k.ReversibleEmbedding(10, 4), (integers(None, 5),)),
        "Masking": Row(
            lambda: (
                layers.Pipeline([layers.Masking(), layers.LSTM(2)])
                if hasattr(layers, "Pipeline")
                else layers.Masking()
            ),
            (floats(SEQUENCE),),
        ),
        "Lambda": Row(k.Lambda(lambda x: x * 2), (floats(),)),
        "Identity": Row(k.Identity(), (floats(),)),
    }


def _activations(k: Any) -> dict[str, Row]:
    names = (
        *("relu", "relu6", "sigmoid", "tanh", "softmax", "softplus", "softsign", "selu", "elu"),
        *("exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu", "linear", "mish"),
        *("silu", "log_softmax", "celu", "glu", "hard_shrink", "hard_tanh", "log_sigmoid"),
        *("soft_shrink", "sparse_plus", "squareplus", "tanh_shrink", "sparsemax"),
        "sparse_sigmoid",
    )
    is_new = hasattr(k.layers, "Pipeline")
    old = ("relu", "sigmoid", "softplus", "selu", "gelu", "mish", "hard_sigmoid", "swish")
    return {
        **{
            f"Activation {name}": Row(k.Activation(name), (floats(),))
            for name in (names if is_new else old)
        },
        "ReLU": Row(k.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.1), (floats(),)),
        "LeakyReLU": Row(k.LeakyReLU(0.2), (floats(),)),
        "PReLU": Row(k.PReLU(alpha_initializer="ones"), (floats(),)),
        "PReLU shared": Row(
            k.PReLU(alpha_initializer="ones", shared_axes=(1, 2)), (floats(IMAGE),)
        ),
        "ThresholdedReLU": Row(k.ThresholdedReLU(0.5), (floats(),)),
        "ELU": Row(k.ELU(0.5), (floats(),)),
        "Softmax": Row(k.Softmax(), (floats(),)),
        "Softmax masked": Row(
            k.Softmax(axis=-1), (floats(), tf.TensorSpec(VECTOR, tf.bool)), names=("mask",)
        ),
    }


def _convolutions(k: Any) -> dict[str, Row]:
    sequence, image, volume = (floats(SEQUENCE),), (floats(IMAGE),), (floats(VOLUME),)
    return {
        "Conv1D": Row(k.Conv1D(3, 3, padding="causal", dilation_rate=2), sequence),
        "Conv2D": Row(k.Conv2D(4, 3, strides=2, padding="same"), image),
        "Conv2D groups": Row(k.Conv2D(6, 3, groups=3), image),
        "Conv3D": Row(k.Conv3D(2, 2, activation="relu"), volume),
        "Conv1DTranspose": Row(k.Conv1DTranspose(3, 3, strides=2), sequence),
        "Conv2DTranspose": Row(
            k.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1), image
        ),
        "Conv3DTranspose": Row(k.Conv3DTranspose(2, 2), volume),
        "DepthwiseConv1D": Row(k.DepthwiseConv1D(3), sequence),
        "DepthwiseConv2D": Row(k.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2), image),
        "SeparableConv1D": Row(k.SeparableConv1D(4, 3), sequence),
        "LocallyConnected1D": Row(k.LocallyConnected1D(4, 3), sequence),
        "LocallyConnected2D": Row(k.LocallyConnected2D(4, 3), image),
        "SeparableConv2D": Row(k.SeparableConv2D(4, 3), image),
    }


def _normalization(k: Any) -> dict[str, Row]:
    dense = k.layers.Dense
    is_new = hasattr(k.layers, "Pipeline")
    return {
        "BatchNormalization": Row(k.BatchNormalization(), (floats(IMAGE),)),
        "BatchNormalization training": Row(
            k.BatchNormalization(), (floats(IMAGE),), {"training": True}, calls=2
        ),
        "LayerNormalization": Row(k.LayerNormalization(), (floats(SEQUENCE),)),
        # Keras 2 makes a graph of it that TensorFlow refuses to run.
        "LayerNormalization of two axes": Row(
            k.LayerNormalization(axis=[1, 2]) if is_new else None, (floats(SEQUENCE),)
        ),
        "GroupNormalization": Row(k.GroupNormalization(3), (floats(IMAGE),)),
        "UnitNormalization": Row(k.UnitNormalization(), (floats(),)),
        "RMSNormalization": Row(k.RMSNormalization(), (floats(),)),
        "SpectralNormalization": Row(lambda: k.layers.SpectralNormalization(dense(3)), (floats(),)),
    }


def _pooling(k: Any) -> dict[str, Row]:
    found = {}
    for rank, shape in IMAGES_BY_RANK.items():
        for kind in ("Max", "Average"):
            for padding, strides in (("same", 2), ("valid", 1)):
                layer = getattr(k, f"{kind}Pooling{rank}D")(2, strides=strides, padding=padding)
                found[f"{kind}Pooling{rank}D {padding}"] = Row(layer, (floats(shape),))
            layer = getattr(k, f"Global{kind}Pooling{rank}D")(keepdims=rank == 2)
            found[f"Global{kind}Pooling{rank}D"] = Row(layer, (floats(shape),))
            layer = getattr(k, f"Adaptive{kind}Pooling{rank}D")(3)
            found[f"Adaptive{kind}Pooling{rank}D"] = Row(layer, (floats(shape),))
    return found


def _recurrent(k: Any) -> dict[str, Row]:
    layers = k.layers
    sequence = (floats(SEQUENCE),)
    masked = (floats(SEQUENCE), tf.TensorSpec((None, 7), tf.bool))
    fixed = (floats((2, 7, 4)),)
    return {
        "SimpleRNN": Row(k.SimpleRNN(3), sequence),
        "LSTM": Row(k.LSTM(3, return_sequences=True, return_state=True), sequence),
        "LSTM any length": Row(k.LSTM(3), (floats((None, None, 4)),)),
        "LSTM unrolled": Row(k.LSTM(3, unroll=True), (floats((None, 3, 4)),)),
        "LSTM masked": Row(k.LSTM(3), masked, names=("mask",)),
        "LSTM stateful": Row(k.LSTM(3, stateful=True), fixed, calls=2),
        "GRU": Row(k.GRU(3), sequence),
        "GRU backwards": Row(k.GRU(3, go_backwards=True, return_sequences=True), sequence),
        "GRU masked": Row(k.GRU(3, return_sequences=True), masked, names=("mask",)),
        "GRU stateful": Row(k.GRU(3, stateful=True), fixed, calls=2),
        "RNN": Row(lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]), sequence),
        "StackedRNNCells": Row(
            lambda: layers.RNN(
                layers.StackedRNNCells(
                    [layers.SimpleRNNCell(3), layers.GRUCell(2, reset_after=False)]
                )
            ),
            sequence,
        ),
        "ConvLSTM1D": Row(k.ConvLSTM1D(2, 2), (floats((None, 3, 6, 2)),)),
        "ConvLSTM2D": Row(k.ConvLSTM2D(2, 2), (floats((None, 3, 5, 5, 2)),)),
        "ConvLSTM3D": Row(k.ConvLSTM3D(2, 2), (floats((None, 2, 3, 3, 3, 2)),)),
    }


def _wrappers(k: Any) -> dict[str, Row]:
    layers = k.layers
    sequence = (floats(SEQUENCE),)
    masked = (floats(SEQUENCE), tf.TensorSpec((None, 7), tf.bool))
    lstm, gru, dense = layers.LSTM, layers.GRU, layers.Dense
    return {
        "Bidirectional": Row(
            lambda: layers.Bidirectional(lstm(3, return_sequences=True)), sequence
        ),
        "Bidirectional sum": Row(lambda: layers.Bidirectional(gru(3), merge_mode="sum"), sequence),
        "Bidirectional masked": Row(
            lambda: layers.Bidirectional(lstm(3, return_sequences=True), merge_mode=None),
            masked,
            names=("mask",),
        ),
        "TimeDistributed": Row(lambda: layers.TimeDistributed(dense(3)), sequence),
    }


def _regularization(k: Any) -> dict[str, Row]:
    image = (floats(IMAGE),)
    return {
        "Dropout": Row(k.Dropout(0.5), (floats(),)),
        "Dropout training": Row(k.Dropout(0.5, seed=3), (floats(),), {"training": True}, calls=2),
        "SpatialDropout1D": Row(k.SpatialDropout1D(0.5), (floats(SEQUENCE),)),
        "SpatialDropout2D": Row(k.SpatialDropout2D(0.5, seed=3), image, {"training": True}),
        "SpatialDropout3D": Row(k.SpatialDropout3D(0.5), (floats(VOLUME),)),
        "AlphaDropout": Row(k.AlphaDropout(0.5, seed=3), image, {"training": True}),
        "GaussianDropout": Row(k.GaussianDropout(0.5, seed=3), image, {"training": True}),
        "GaussianNoise": Row(k.GaussianNoise(0.5, seed=3), image, {"training": True}, calls=2),
        "ActivityRegularization": Row(k.ActivityRegularization(l2=0.1), (floats(),)),
    }


def _shaping(k: Any) -> dict[str, Row]:
    sequence, image, volume = (floats(SEQUENCE),), (floats(IMAGE),), (floats(VOLUME),)
    return {
        "Flatten": Row(k.Flatten(), image),
        "Reshape": Row(k.Reshape((2, -1)), (floats(),)),
        "Permute": Row(k.Permute((2, 1)), sequence),
        "RepeatVector": Row(k.RepeatVector(3), (floats(),)),
        "Cropping1D": Row(k.Cropping1D(1), sequence),
        "Cropping2D": Row(k.Cropping2D(((1, 2), (0, 1))), image),
        "Cropping3D": Row(k.Cropping3D(1), volume),
        "UpSampling1D": Row(k.UpSampling1D(2), sequence),
        "UpSampling2D": Row(k.UpSampling2D(2), image),
        **{
            f"UpSampling2D {method}": Row(k.UpSampling2D(2, interpolation=method), image)
            for method in ("bilinear", "bicubic", "lanczos5")
        },
        "UpSampling3D": Row(k.UpSampling3D(2), volume),
        "ZeroPadding1D": Row(k.ZeroPadding1D(1), sequence),
        "ZeroPadding2D": Row(k.ZeroPadding2D(((1, 2), (0, 1))), image),
        "ZeroPadding3D": Row(k.ZeroPadding3D(1), volume),
    }


def _adapted(layer: Any, *args: Any, data: Any, **kwargs: Any) -> Callable[[], Any]:
    def make() -> Any:
        made = layer(*args, **kwargs)
        made.adapt(data)
        return made

    return make


def _categories(k: Any) -> dict[str, Row]:
    layers = k.layers
    rng = np.random.default_rng(0)
    few = integers(None, 3)
    return {
        "Normalization": Row(
            _adapted(layers.Normalization, data=rng.normal(size=(20, 6)).astype(np.float32)),
            (floats(),),
        ),
        "Normalization inverse": Row(
            k.Normalization(mean=3.0, variance=2.0, invert=True),
            (floats(),),
        ),
        "Discretization": Row(
            _adapted(layers.Discretization, num_bins=4, data=rng.normal(size=(50, 1))),
            (floats((None, 1)),),
        ),
        "Discretization one_hot": Row(
            k.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot"),
            (floats((None, 1)),),
        ),
        "CategoryEncoding": Row(k.CategoryEncoding(5, output_mode="multi_hot"), (few,)),
        "CategoryEncoding count": Row(k.CategoryEncoding(5, output_mode="count"), (few,)),
        "CategoryEncoding one_hot": Row(
            k.CategoryEncoding(5, output_mode="one_hot"), (integers(None, 1, dtype="int32"),)
        ),
        "Hashing": Row(k.Hashing(7), (strings(None, 1),)),
        "Hashing salt": Row(k.Hashing(7, salt=[3, 9]), (strings(None, 2),)),
        "Hashing integers": Row(k.Hashing(7), (few,)),
        "Hashing mask": Row(k.Hashing(7, mask_value=""), (strings(None, 2),)),
        "Hashing multi_hot": Row(k.Hashing(7, output_mode="multi_hot"), (few,)),
        "HashedCrossing": Row(k.HashedCrossing(5), (strings(None), integers(None))),
        "HashedCrossing one_hot": Row(
            k.HashedCrossing(5, output_mode="one_hot"), (strings(None, 1), strings(None, 1))
        ),
    }


def _lookups(k: Any) -> dict[str, Row]:
    letters, numbers = ["a", "b", "c"], [12, 36, 1138, 4]
    some = strings(None, 3)
    return {
        "StringLookup": Row(k.StringLookup(vocabulary=letters), (some,)),
        "StringLookup multi_hot": Row(
            k.StringLookup(vocabulary=letters, num_oov_indices=3, output_mode="multi_hot"), (some,)
        ),
        "StringLookup inverse": Row(
            k.StringLookup(vocabulary=letters, invert=True), (integers(None),)
        ),
        "StringLookup one_hot": Row(
            k.StringLookup(vocabulary=letters, mask_token="", output_mode="one_hot"),
            (strings(None, 1),),
        ),
        "StringLookup count": Row(k.StringLookup(vocabulary=letters, output_mode="count"), (some,)),
        "StringLookup tf_idf": Row(
            k.StringLookup(vocabulary=letters, idf_weights=[0.5, 1.5, 2.5], output_mode="tf_idf"),
            (some,),
        ),
        "IntegerLookup": Row(k.IntegerLookup(vocabulary=numbers), (integers(None, 3),)),
        "IntegerLookup multi_hot": Row(
            k.IntegerLookup(vocabulary=numbers, output_mode="multi_hot", num_oov_indices=2),
            (integers(None, 3),),
        ),
        "IntegerLookup inverse": Row(
            k.IntegerLookup(vocabulary=numbers, invert=True), (integers(None),)
        ),
    }


def _texts(k: Any) -> dict[str, Row]:
    layer = k.layers.TextVectorization
    texts = (strings(None),)
    return {
        "TextVectorization": Row(
            _adapted(layer, max_tokens=20, output_sequence_length=5, data=TEXTS), texts
        ),
        "TextVectorization tf_idf": Row(
            _adapted(layer, max_tokens=20, output_mode="tf_idf", ngrams=2, data=TEXTS), texts
        ),
        "TextVectorization characters": Row(_adapted(layer, split="character", data=TEXTS), texts),
        "TextVectorization multi_hot": Row(
            _adapted(
                layer, max_tokens=20, output_mode="multi_hot", standardize="lower", data=TEXTS
            ),
            texts,
        ),
    }


def _images(k: Any) -> dict[str, Row]:
    image = (floats(IMAGE),)
    return {
        "Rescaling": Row(k.Rescaling(1 / 255.0, offset=-1.0), image),
        "Resizing": Row(k.Resizing(5, 6), image),
        "Resizing crop": Row(
            k.Resizing(4, 6, crop_to_aspect_ratio=True, interpolation="nearest"), image
        ),
        "Resizing pad": Row(k.Resizing(4, 6, pad_to_aspect_ratio=True), image)
        if hasattr(k.layers, "Pipeline")
        else Row(None, image),
        "Resizing bicubic": Row(k.Resizing(5, 6, interpolation="bicubic"), image),
        "Resizing area": Row(k.Resizing(4, 4, interpolation="area"), image),
        "CenterCrop": Row(k.CenterCrop(4, 4), image),
        "CenterCrop larger": Row(k.CenterCrop(9, 12), image),
        "Equalization": Row(k.Equalization(), image),
        "AutoContrast": Row(k.AutoContrast(), image),
        "Contrast of tiles": Row(k.ContrastLimitedAdaptiveHistogramEqualization(), image),
        "Solarization": Row(k.Solarization(addition_factor=0.1), image),
    }


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "RandomFlip": {},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomRotation": {"factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "RandomContrast": {"factor": 0.1},
    "RandomBrightness": {"factor": 0.1},
    "RandomCrop": {"height": 4, "width": 4},
    "RandomHeight": {"factor": 0.1},
    "RandomWidth": {"factor": 0.1},
    "RandomHue": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.1},
    "RandomColorJitter": {"brightness_factor": 0.2, "hue_factor": 0.1},
    "RandomGrayscale": {},
    "RandomShear": {"x_factor": 0.1},
    "RandomSharpness": {"factor": 0.1},
    "RandomPosterization": {"factor": 4},
    "RandomErasing": {},
    "RandomGaussianBlur": {},
    "RandomInvert": {},
    "RandomElasticTransform": {},
    "RandomPerspective": {},
    "RandomColorDegeneration": {"factor": 0.1},
    "AugMix": {},
    "RandAugment": {},
    "CutMix": {},
    "MixUp": {},
}


# Those that are tested always; between them they have most operations of the others.
QUICK_AUGMENTATIONS = (
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "RandomCrop"),
    *("RandomErasing", "MixUp"),
)


def _augmentation(k: Any) -> dict[str, Row]:
    image = (floats(IMAGE),)
    return {
        **{
            name: Row(getattr(k, name)(**options), image, {"training": False})
            for name, options in AUGMENTATIONS.items()
        },
        **{
            f"{name} training": Row(
                getattr(k, name)(**options, seed=3),
                image,
                {"training": True},
                calls=2,
                is_slow=name not in QUICK_AUGMENTATIONS,
            )
            for name, options in AUGMENTATIONS.items()
        },
    }


def _audio(k: Any) -> dict[str, Row]:
    return {
        "MelSpectrogram": Row(
            k.MelSpectrogram(
                fft_length=64,
                sequence_stride=16,
                sequence_length=32,
                num_mel_bins=8,
                sampling_rate=400,
                max_freq=200,
            ),
            (floats((None, 200)),),
        ),
        "STFTSpectrogram": Row(
            k.STFTSpectrogram(frame_length=32, frame_step=16, fft_length=32),
            (floats((None, 200, 1)),),
        ),
    }


def _merging(k: Any) -> dict[str, Row]:
    two = (floats(), floats())
    names = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    return {
        **{name: Row(getattr(k, name)(), two) for name in names},
        "Dot": Row(k.Dot(1), two),
        "Dot normalized": Row(k.Dot((2, 2), normalize=True), (floats(SEQUENCE), floats(SEQUENCE))),
    }


def _attention(k: Any) -> dict[str, Row]:
    two = (floats(SEQUENCE), floats(SEQUENCE))
    causal = {"use_causal_mask": True}
    return {
        "Attention": Row(k.Attention(use_scale=True), two),
        "Attention causal": Row(k.Attention(score_mode="concat"), two, causal),
        "AdditiveAttention": Row(k.AdditiveAttention(), two),
        "MultiHeadAttention": Row(k.MultiHeadAttention(2, 4), two, names=("value",)),
        "MultiHeadAttention causal": Row(
            k.MultiHeadAttention(2, 4, value_dim=3), two, causal, names=("value",)
        ),
        "GroupQueryAttention": Row(k.GroupQueryAttention(4, 4, 2), two, names=("value",)),
    }
