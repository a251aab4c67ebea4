"""Encoder and decoder architectures for pictures of any (H, W, C), each a function that returns a Sequential.
An encoder ends in a code, a decoder in a picture; how the two are trained is the models' affair.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npae.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Layer, Reshape, Sequential, UpsampleConv2d

Rng = np.random.Generator | None


def conv_ae_encoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Four 3 x 3 convolutions of 8 filters (strides 2, 1, 2, 1), ReLU, then a dense code.

    Shapes: (N, H, W, C) -> (N, latent)
    """
    rng = np.random.default_rng(rng)
    convs: list[Layer] = []
    for channels, stride in ((shape[2], 2), (8, 1), (8, 2), (8, 1)):
        convs.append(Conv2d(channels, 8, 3, stride=stride, activation="relu", rng=rng, dtype=dtype))
    return _with_dense_head(convs, shape, latent, rng, dtype)


def conv_ae_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to a quarter of the picture's size, then convolutions with two upsamplings; ends in sigmoid pixels.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W not a multiple of 4.
    """
    rng = np.random.default_rng(rng)
    h, w = _quarter(shape)
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
    rng = np.random.default_rng(rng)
    convs: list[Layer] = []
    for channels, filters in ((shape[2], 32), (32, 64)):
        convs.append(Conv2d(channels, filters, 3, stride=2, padding="valid", activation="relu", rng=rng, dtype=dtype))
    return _with_dense_head(convs, shape, 2 * latent, rng, dtype)


def bernoulli_vae_decoder(shape: Sequence[int], latent: int, *, rng: Rng = None, dtype: Any = np.float32) -> Sequential:
    """Dense to a quarter of the picture's size, two transposed convolutions of stride 2, and one that ends in logits.

    Shapes: (N, latent) -> (N, H, W, C)
    Raises ValueError: H or W not a multiple of 4.
    """
    rng = np.random.default_rng(rng)
    h, w = _quarter(shape)
    return Sequential([
        Dense(latent, h * w * 32, activation="relu", rng=rng, dtype=dtype),
        Reshape((h, w, 32)),
        ConvTranspose2d(32, 64, 3, stride=2, activation="relu", rng=rng, dtype=dtype),
        ConvTranspose2d(64, 32, 3, stride=2, activation="relu", rng=rng, dtype=dtype),
        ConvTranspose2d(32, shape[2], 3, rng=rng, dtype=dtype),
    ], input_shape=(latent,))


def _with_dense_head(convs: list[Layer], shape: Sequence[int], out: int, rng: np.random.Generator,
                     dtype: Any) -> Sequential:
    """The convolutions, flattened, and a dense layer of as many numbers as they give."""
    features = int(np.prod(Sequential(convs).output_shape(tuple(shape))))
    return Sequential([*convs, Flatten(), Dense(features, out, rng=rng, dtype=dtype)], input_shape=shape)


def _quarter(shape: Sequence[int]) -> tuple[int, int]:
    if shape[0] % 4 or shape[1] % 4:
        raise ValueError(f"this decoder doubles the picture twice and needs height and width in multiples of 4, got "
                         f"{shape[0]} x {shape[1]}: pad or crop the pictures")
    return shape[0] // 4, shape[1] // 4
