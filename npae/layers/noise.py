"""Noise on the way: noisy with a generator, the identity without one.
There is no train/test flag: who hands over a generator (the training loss does) asks for noise. The constructor's `rng`
is for a layer on its own; in a model it is the model that hands one over, or none.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae.checks import real
from npae.layers.base import Layer


class _Noise(Layer):
    def __init__(self, amount: float, *, rng: np.random.Generator | None = None):
        super().__init__()
        self.given, self.amount = amount, real(amount)
        self.give_rng(rng)

    def give_rng(self, rng: np.random.Generator | None) -> None:
        """Noisy from now on; None makes the layer the identity."""
        self.rng: Any = rng

    def _forward(self, x: np.ndarray) -> np.ndarray:
        scale, shift = (None, None) if self.rng is None or self.amount == 0 else self._draw(x, self.rng)
        self.saved = (scale,)  # a pair of brackets, since None means that there was no forward
        y = x.copy() if scale is None else x * scale
        return y if shift is None else y + shift

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        if not need_dx:
            return None
        scale = self.saved[0]
        return dy.copy() if scale is None else dy * scale

    def _draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(scale, shift) of y = scale x + shift; None stands for 1 and 0."""
        raise NotImplementedError

    def _fraction(self) -> None:
        if not 0 <= self.amount < 1:
            raise ValueError(f"{type(self).__name__} needs a fraction of at least 0 and below 1, got {self.given}")

    def config(self) -> dict[str, Any]:
        """The amount."""
        return {"layer": type(self).__name__, "amount": self.amount}


class GaussianNoise(_Noise):
    """y = x + amount eps,   eps ~ N(0, 1) for each number.

    Backward: dx = dy
    Raises ValueError: a negative amount.
    """

    def __init__(self, amount: float, *, rng: np.random.Generator | None = None):
        super().__init__(amount, rng=rng)
        if not 0 <= self.amount < math.inf:
            raise ValueError(f"GaussianNoise needs a standard deviation of at least 0, got {amount}")

    def _draw(self, x, rng):
        return None, self.amount * rng.standard_normal(x.shape, np.float64).astype(x.dtype)


class MaskingNoise(_Noise):
    """y = m x,   m = 0 with probability amount, else 1, for each number.

    Backward: dx = m dy
    Raises ValueError: an amount outside [0, 1).
    Source: Vincent et al. 2008
    """

    def __init__(self, amount: float, *, rng: np.random.Generator | None = None):
        super().__init__(amount, rng=rng)
        self._fraction()

    def _draw(self, x, rng):
        return (rng.random(x.shape) >= self.amount).astype(x.dtype), None


class Dropout(_Noise):
    """y = m x / (1 - amount),   m = 0 with probability amount, else 1: the mean of y is x.

    Backward: dx = m dy / (1 - amount)
    Raises ValueError: an amount outside [0, 1).
    Source: Srivastava et al. 2014 (in the form that scales in training)
    """

    def __init__(self, amount: float, *, rng: np.random.Generator | None = None):
        super().__init__(amount, rng=rng)
        self._fraction()

    def _draw(self, x, rng):
        kept = rng.random(x.shape) >= self.amount
        return kept.astype(x.dtype) / x.dtype.type(1 - self.amount), None
