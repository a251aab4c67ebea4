"""Encoder and decoder architectures for pictures of any (H, W, C), each a function that returns a Sequential.
An encoder ends in a code, a decoder in a picture; how the two are trained is the models' affair.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npae import init as _init
from npae.checks import generator, sizes
from npae.layers import (
    Activation,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Reshape,
    Sequential,
    Shift,
    TiedDense,
    UpsampleConv2d,
)

Rng = np.random.Generator | None
Init = Callable[..., np.ndarray]
Choice = str | Activation | None


def conv_ae_encoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Four 3 x 3 convolutions of 8 filters (strides 2, 1, 2, 1), ReLU, then a dense code.

    Shapes: (N, H, W, C) -> (N, latent)
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    convs: list[Layer] = []
    for channels, stride in ((shape[2], 2), (8, 1), (8, 2), (8, 1)):
        convs.append(Conv2d(channels, 8, 3, stride=stride, activation="relu", rng=rng, dtype=dtype))
    return _with_dense_head(convs, shape, latent, rng, dtype)


def conv_ae_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to a quarter of the picture's size, then convolutions with two upsamplings; ends in sigmoid pixels.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W not a multiple of 4.
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    h, w = _part(shape, 4)
    return Sequential([
        Dense(latent, h * w * 64, activation="relu", rng=rng, dtype=dtype),
        Reshape((h, w, 64)),
        Conv2d(64, 64, 3, activation="relu", rng=rng, dtype=dtype),
        UpsampleConv2d(64, 32, 3, activation="relu", rng=rng, dtype=dtype),
        UpsampleConv2d(32, 32, 3, activation="relu", rng=rng, dtype=dtype),
        Conv2d(32, shape[2], 3, activation="sigmoid", rng=rng, dtype=dtype),
    ], input_shape=(latent,))


def bernoulli_vae_encoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Two 3 x 3 'valid' convolutions of stride 2 (32 and 64 filters), ReLU, then [mu | logvar] from one dense layer.

    Shapes: (N, H, W, C) -> (N, 2 latent)
    Source: the architecture of TensorFlow's tutorial 'Convolutional Variational Autoencoder'
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    convs: list[Layer] = []
    for channels, filters in ((shape[2], 32), (32, 64)):
        convs.append(Conv2d(channels, filters, 3, stride=2, padding="valid", activation="relu", rng=rng, dtype=dtype))
    return _with_dense_head(convs, shape, 2 * latent, rng, dtype)


def bernoulli_vae_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to a quarter of the picture's size, two transposed convolutions of stride 2, and one that ends in logits.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W not a multiple of 4.
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    h, w = _part(shape, 4)
    return Sequential([
        Dense(latent, h * w * 32, activation="relu", rng=rng, dtype=dtype),
        Reshape((h, w, 32)),
        ConvTranspose2d(32, 64, 3, stride=2, activation="relu", rng=rng, dtype=dtype),
        ConvTranspose2d(64, 32, 3, stride=2, activation="relu", rng=rng, dtype=dtype),
        ConvTranspose2d(32, shape[2], 3, rng=rng, dtype=dtype),
    ], input_shape=(latent,))


def mlp_encoder(shape: Sequence[int], widths: Sequence[int], *, activation: Choice = "relu", code: Choice = None,
                init: Init = _init.glorot_uniform, draw_bias: bool = False, classes: int = 0, rng: Rng = None,
                dtype: Any = np.float32) -> Sequential:
    """Dense layers of these widths, the last one the code (for a VAE [mu | logvar], 2 latent wide).

    `activation` follows all but the last, `code` the last; `draw_bias` draws biases as wide as `init`'s fan-in rule
    (as PyTorch does); `classes` makes room for a one-hot label behind the pixels.
    Shapes: (N, H, W, C) -> (N, widths[-1]);   with classes (N, H W C + classes) -> (N, widths[-1])
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    pixels = math.prod(shape)
    layers = _dense_chain(pixels + classes, widths, activation, code, init, draw_bias, rng, dtype)
    return Sequential(layers, input_shape=(pixels + classes,)) if classes else Sequential([Flatten(), *layers],
                                                                                         input_shape=shape)


def mlp_decoder(shape: Sequence[int], widths: Sequence[int], *, activation: Choice = "relu", pixels: Choice = None,
                init: Init = _init.glorot_uniform, draw_bias: bool = False, mean: np.ndarray | None = None,
                rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense layers from a code of widths[0] numbers over the other widths to a picture.

    `activation` follows all but the last, `pixels` the last; without it they are logits. `mean` sets the last bias to
    the logits of a mean picture, so that training begins at the pixels' own frequencies.
    Shapes: (N, widths[0]) -> (N, H, W, C)
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    if not widths:
        raise ValueError("a decoder needs at least 1 width, that of the code, got none")
    layers = _dense_chain(widths[0], [*widths[1:], math.prod(shape)], activation, pixels, init, draw_bias, rng, dtype)
    if mean is not None:
        p = np.clip(mean.ravel(), 1e-3, 1 - 1e-3)  # a pixel that was never lit has no logit
        layers[-1].b.value[...] = np.log(p / (1 - p))
    return Sequential([*layers, Reshape(shape)], input_shape=(widths[0],))


def tied_pair(shape: Sequence[int], widths: Sequence[int], *, activation: Choice, pixels: Choice,
              init: Init = _init.glorot_uniform, mean: np.ndarray | None = None, rng: Rng = None,
              dtype: Any = np.float32) -> tuple[Sequential, Sequential]:
    """An encoder of dense layers, and the decoder that is its transpose: the same matrices the other way round, with
    biases of its own. `mean` is subtracted from every picture at the encoder's door, and added back at the end.

    Shapes: (N, H, W, C) -> (N, widths[-1]) and back
    Source: the widths and the tying of Hinton & Salakhutdinov 2006, who tie only before the fine-tuning
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    down = _dense_chain(math.prod(shape), widths, activation, activation, init, False, rng, dtype)
    up = [TiedDense(layer, activation if i else pixels) for i, layer in reversed(list(enumerate(down)))]
    door, end = ([], []) if mean is None else ([Shift(-mean)], [Shift(mean)])
    return (Sequential([*door, Flatten(), *down], input_shape=shape),
            Sequential([*up, Reshape(shape), *end], input_shape=(widths[-1],)))


def conv_pool_encoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Twice a 3 x 3 convolution (16, then 8 filters, ReLU) and a 2 x 2 max-pooling, then a dense code.

    Shapes: (N, H, W, C) -> (N, latent)
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    return _with_dense_head([
        Conv2d(shape[2], 16, 3, activation="relu", rng=rng, dtype=dtype), MaxPool2d(2),
        Conv2d(16, 8, 3, activation="relu", rng=rng, dtype=dtype), MaxPool2d(2),
    ], shape, latent, rng, dtype)


def conv_pool_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to a quarter of the picture's size, then twice an upsampling with a convolution; ends in logits.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W not a multiple of 4.
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    h, w = _part(shape, 4)
    return Sequential([
        Dense(latent, h * w * 8, activation="relu", rng=rng, dtype=dtype),
        Reshape((h, w, 8)),
        UpsampleConv2d(8, 8, 3, activation="relu", rng=rng, dtype=dtype),
        UpsampleConv2d(8, 16, 3, activation="relu", rng=rng, dtype=dtype),
        Conv2d(16, shape[2], 3, rng=rng, dtype=dtype),
    ], input_shape=(latent,))


def conv_vae_encoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Four 3 x 3 convolutions (32, 64 with stride 2, 64, 64), dense 32, all ReLU, then [mu | logvar].

    Shapes: (N, H, W, C) -> (N, 2 latent)
    Source: Chollet, Deep Learning with Python (2017), section 8.4
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    convs: list[Layer] = []
    for channels, filters, stride in ((shape[2], 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)):
        convs.append(Conv2d(channels, filters, 3, stride=stride, activation="relu", rng=rng, dtype=dtype))
    features = math.prod(Sequential(convs).output_shape(tuple(shape)))
    return Sequential([*convs, Flatten(), Dense(features, 32, activation="relu", rng=rng, dtype=dtype),
                       Dense(32, 2 * latent, rng=rng, dtype=dtype)], input_shape=shape)


def conv_vae_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to half of the picture's size, a transposed convolution of stride 2, and a convolution that ends in logits.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W odd.
    """
    shape, rng = _picture(shape), generator(rng, "a net")
    h, w = _part(shape, 2)
    return Sequential([
        Dense(latent, h * w * 64, activation="relu", rng=rng, dtype=dtype),
        Reshape((h, w, 64)),
        ConvTranspose2d(64, 32, 3, stride=2, activation="relu", rng=rng, dtype=dtype),
        Conv2d(32, shape[2], 3, rng=rng, dtype=dtype),
    ], input_shape=(latent,))


def _picture(shape: Sequence[int]) -> tuple[int, ...]:
    found = sizes(shape, "the shape of a picture")
    if len(found) != 3:
        raise ValueError(f"nets are made for pictures of a shape (H, W, C), got {found}: grey ones have C = 1")
    return found


def _dense_chain(features: int, widths: Sequence[int], activation: Choice, last: Choice, init: Init, draw_bias: bool,
                 rng: np.random.Generator, dtype: Any) -> list[Any]:
    """Dense layers of these widths; the activation follows all but the last, which has one of its own."""
    layers: list[Any] = []
    if not widths:
        raise ValueError("a chain of dense layers needs at least 1 width, got none")
    for i, width in enumerate(widths):
        bend = activation if i < len(widths) - 1 else last
        layers.append(Dense(features, width, activation=bend, init=init, rng=rng, dtype=dtype))
        if draw_bias:
            layers[-1].b.value[...] = init(rng, (width,), features, width, dtype)
        features = width
    return layers


def _with_dense_head(convs: list[Layer], shape: Sequence[int], out: int, rng: np.random.Generator,
                     dtype: Any) -> Sequential:
    """The convolutions, flattened, and a dense layer of as many numbers as they give."""
    features = math.prod(Sequential(convs).output_shape(tuple(shape)))
    return Sequential([*convs, Flatten(), Dense(features, out, rng=rng, dtype=dtype)], input_shape=shape)


def _part(shape: Sequence[int], times: int) -> tuple[int, int]:
    """Height and width of what becomes the picture when it grows so many times."""
    if shape[0] % times or shape[1] % times:
        raise ValueError(f"this decoder makes pictures {times} times as large as its first, and needs height and width "
                         f"in multiples of {times}, got {shape[0]} x {shape[1]}: pad or crop the pictures")
    return shape[0] // times, shape[1] // times
