"""Noise on the pictures that a denoising autoencoder is given, while it is asked for the clean ones.
Each function takes float pictures, an amount and a generator, and returns new pictures; x is never written to.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npae.checks import real

Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def masking(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """x_noisy = m x,   m = 0 with probability amount, else 1, for each number.

    Shapes: x (N, ...) -> x_noisy likewise, in x's dtype
    Raises ValueError: an amount outside [0, 1].
    Source: Vincent et al. 2008, section 3.1
    """
    _check("masking", amount, rng, most=1)
    return x * (rng.random(x.shape) >= amount)


def gaussian(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """x_noisy = x + amount eps,   eps ~ N(0, 1) for each number; not cut off at 0 and 1, so that the mean stays x.

    Shapes: x (N, ...) -> x_noisy likewise, in x's dtype
    Raises ValueError: a negative amount.
    Source: Vincent et al. 2010, section 3.3
    """
    _check("gaussian", amount, rng)
    return x + (amount * rng.standard_normal(x.shape)).astype(x.dtype)


def salt_and_pepper(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """x_noisy = 0 with probability amount / 2, 1 with probability amount / 2, else x, for each number.

    Shapes: x (N, ...) -> x_noisy likewise, in x's dtype
    Raises ValueError: an amount outside [0, 1].
    Source: Vincent et al. 2010, section 3.3
    """
    _check("salt_and_pepper", amount, rng, most=1)
    u = rng.random(x.shape)
    return np.where(u < amount, u < amount / 2, x).astype(x.dtype)


CORRUPTIONS: dict[str, Corruption] = {"masking": masking, "gaussian": gaussian, "salt_and_pepper": salt_and_pepper}


def _check(name: str, amount: float, rng: Any, most: float = np.inf) -> None:
    if not hasattr(rng, "standard_normal"):
        raise ValueError(f"{name} noise is drawn from a generator, got {rng!r}: pass numpy.random.default_rng(0)")
    if not (0 <= real(amount) <= most and np.isfinite(amount)):
        wanted = "of at least 0" if most == np.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name} noise needs an amount {wanted}, got {amount}")
