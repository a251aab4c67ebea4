"""What a trace keeps of an array that only passes by: a few numbers, taken at once.
A training loop writes the next batch into the same array, so nothing here holds on to it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae.layers import Activation, Layer, ReLU, Sigmoid, Tanh

CHUNK = 1 << 13  # numbers at a time: in float64 64 KB, which stay in a core's own cache between the passes; BLAS takes
# one thread for fewer than 10,000, and more of its threads would fight with those of the kernels
ONES = np.ones(CHUNK)
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
    flat = array.reshape(-1)
    total = squares = 0.0
    zeros = 0
    for start in range(0, flat.size, CHUNK):
        part = flat[start:start + CHUNK]
        wide = part.astype(np.float64)
        total += float(np.dot(wide, ONES[:part.size]))  # in half the time of a sum
        squares += float(np.dot(wide, wide))
        zeros += part.size - int(np.count_nonzero(part != 0))
    mean = total / flat.size
    variance = squares / flat.size - mean * mean
    std = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
    return Stats(mean, std, zeros / flat.size, math.sqrt(squares), flat.size)


def length(array: np.ndarray) -> float:
    """sqrt(Σ a²)"""
    return lengths(array, None)[0]


def lengths(a: np.ndarray, b: np.ndarray | None) -> tuple[float, float]:
    """sqrt(Σ a²) and, where there is a b, sqrt(Σ (b - a)²), which is 0 only where they are the same numbers.

    Squares in the arrays' own dtype, a chunk at a time, and in float64 where these leave its range: an overflow may
    warn, which the caller has to want.
    """
    flat, other = a.reshape(-1), None if b is None else b.reshape(-1)
    squares = moved = 0.0
    for start in range(0, flat.size, CHUNK):
        part = flat[start:start + CHUNK]
        squares += float(np.dot(part, part))
        if other is not None:
            step = other[start:start + CHUNK] - part
            moved += float(np.dot(step, step))
    return (_root(squares, a, None), 0.0 if b is None else _root(moved, b, a))


def _root(squares: float, a: np.ndarray, b: np.ndarray | None) -> float:
    """The root of Σ (a - b)², or of what it is in float64 where it has overflowed or nearly vanished."""
    if 1e-24 < squares < 1e34:
        return math.sqrt(squares)
    if squares == 0 and (not a.any() if b is None else np.array_equal(a, b)):
        return 0.0
    return stats(a if b is None else a.astype(np.float64) - b).norm


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
