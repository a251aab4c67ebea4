"""What a trace keeps of an array that only passes by: a few numbers, taken at once.
A training loop writes the next batch into the same array, so nothing here holds on to it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae import kernels
from npae.layers import Activation, Layer, ReLU, Sigmoid, Tanh

STEEPEST: tuple[tuple[type[Activation], float], ...] = ((Tanh, 1.0), (Sigmoid, 0.25))
"""The activations that are flat at both ends, and their largest slope."""
FLAT = 0.01  # of the largest slope: what is below lets a hundredth of the gradient through at most


@dataclass(slots=True)
class Stats:
    """Mean, deviation, share of exact zeros and length of all numbers of an array.

        std = sqrt(Σ a² / n - mean²),   norm = sqrt(Σ a²)      (summed in float64)
    """

    mean: float
    std: float
    zeros: float
    norm: float
    size: int

    @property
    def rms(self) -> float:
        """norm / sqrt(n): the length that one number has on average."""
        return self.norm / math.sqrt(self.size)

    @property
    def finite(self) -> bool:
        """Whether all numbers were."""
        return math.isfinite(self.norm) or math.isfinite(self.mean)


@np.errstate(all="ignore")  # what overflows is told by a flag
def stats(array: np.ndarray) -> Stats:
    """The Stats of an array of any shape, in one walk through memory.

    >>> stats(np.array([[0.0, 3.0], [0.0, -4.0]], np.float32))
    Stats(mean=-0.25, std=2.48746859276655, zeros=0.5, norm=5.0, size=4)
    """
    total, squares, zeros = _moments(array)
    mean = total / array.size
    variance = squares / array.size - mean * mean
    std = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
    return Stats(mean, std, zeros / array.size, math.sqrt(squares), array.size)


def length(array: np.ndarray) -> float:
    """sqrt(Σ a²), summed in float64"""
    return math.sqrt(_moments(array)[1])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """sqrt(Σ (a - b)²), summed in float64"""
    return math.sqrt(kernels.resolve().squared_distance(a.reshape(-1), b.reshape(-1)))


def _moments(array: np.ndarray) -> tuple[float, float, int]:
    """Σ a, Σ a² and how many zeros, in the compiled kernel where it can run."""
    exact = array.dtype if array.dtype in (np.float32, np.float64) else np.float64
    return kernels.resolve().moments(np.ascontiguousarray(array, exact).reshape(-1))


def bend_of(layer: Layer) -> Any:
    """The activation that shapes a layer's output, as a layer of its own or inside; None for a layer without one."""
    return layer if isinstance(layer, Activation) else getattr(layer, "activation", None)


def never_active(layer: Layer, y: np.ndarray) -> float | None:
    """The share of a layer's units that no picture of the batch has switched on; None where no unit can be off.

        unit o is dead:   y[n, ..., o] <= 0 for all n and all places,   behind a bend whose slope there is 0

    A unit is a column of a dense layer, a channel of a picture.
    """
    bend = bend_of(layer)
    if not isinstance(bend, ReLU) or bend.alpha != 0:
        return None
    most = y.max(axis=0).reshape(-1, y.shape[-1]).max(axis=0)
    return float(np.mean(most <= 0))


def at_the_ends(layer: Layer, y: np.ndarray) -> np.ndarray | None:
    """Which numbers of y lie where their activation is flat, f'(x) < FLAT max f'; None for one that has no two ends."""
    bend = bend_of(layer)
    for kind, steepest in STEEPEST:
        if isinstance(bend, kind):
            return bend.slope(y) < FLAT * steepest
    return None


def share_of_squares(dy: np.ndarray, where: np.ndarray) -> float:
    """Σ dy² over some places, as a share of Σ dy² over all: 0 where dy is zero."""
    if not where.any():
        return 0.0
    squares = np.square(dy, dtype=np.float64)
    return float(squares[where].sum() / (squares.sum() or 1.0))
