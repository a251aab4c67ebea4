"""What noise has to be, told by its moments: many draws of a layer against mean and variance from the textbook.
A formula that is written twice may be wrong twice; a statistic repeats no formula.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npae.layers import Dropout, GaussianNoise, Layer, MaskingNoise, Reparameterize

DRAWS = 3000
SIGMAS = 5
SEED = 3

Array = np.ndarray


def _of_samples(layer: Any, x: Array) -> tuple[Array, Array]:
    """mu and exp(logvar), once for each sample."""
    mu, logvar = np.split(np.tile(x, (layer.samples, 1)), 2, axis=1)
    return mu, np.exp(logvar)


TEXTBOOK: dict[type[Layer], Callable[[Any, Array], tuple[Array, Array]]] = {
    Dropout: lambda layer, x: (x, x**2 * layer.amount / (1 - layer.amount)),
    MaskingNoise: lambda layer, x: ((1 - layer.amount) * x, x**2 * layer.amount * (1 - layer.amount)),
    GaussianNoise: lambda layer, x: (x, np.full(x.shape, layer.amount**2)),
    Reparameterize: _of_samples,
}
"""(layer, x) -> the mean and the variance of each number of y."""


def moments(layer: Layer, x: Array) -> str:
    """What is wrong with the noise of a layer, in words, or nothing.

        |mean of y - E y| <= 5 sd / sqrt(n),   likewise the mean of (y - E y)² and of the products of two numbers

    Each statistic is a mean over n = 3000 draws; 5 sigma are met by chance once in two million times.
    """
    layer.give_rng(np.random.default_rng(SEED))
    mean, variance = (part.ravel() for part in TEXTBOOK[type(layer)](layer, x))
    d = np.array([layer.forward(x).ravel() for _ in range(DRAWS)]) - mean
    limit = SIGMAS / np.sqrt(DRAWS)
    sigmas = {
        "the mean": d.mean(0) / np.sqrt(variance),
        "the variance": (np.square(d).mean(0) - variance) / np.maximum(np.square(d).std(0), 1e-9 * variance),
        "the product of two numbers": np.triu(d.T @ d / DRAWS / np.sqrt(np.outer(variance, variance)), 1)}
    for what, found in sigmas.items():
        worst = np.max(np.abs(found))
        if not worst <= limit:
            return f"{what} is {worst * np.sqrt(DRAWS):.0f} sigma off, {SIGMAS} allowed"
    return ""
