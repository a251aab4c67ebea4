"""Sums over an array that a trace looks at, in Numba, each in one walk through memory: the names and signatures of
`reference_training`. One thread takes them: to wake the others would last longer than the sums.
"""

import numpy as np

from npae.kernels.fast_parallel import door, inner
from npae.kernels.fast_training import same_shapes

LANES = 32  # sums side by side, so that a vector of them moves on at once


@inner
def _count(value, total, squares, zeros, j):
    total[j] += value
    squares[j] += value * value
    zeros[j] += 1.0 if value == 0.0 else 0.0


@door
def _moments(a):
    total, squares, zeros = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    whole = a.size - a.size % LANES
    for start in range(0, whole, LANES):
        for j in range(LANES):
            _count(np.float64(a[start + j]), total, squares, zeros, j)
    for j in range(a.size - whole):
        _count(np.float64(a[whole + j]), total, squares, zeros, j)
    return total.sum(), squares.sum(), zeros.sum()


@door
def _squared_distance(a, b):
    squares = np.zeros(LANES)
    whole = a.size - a.size % LANES
    for start in range(0, whole, LANES):
        for j in range(LANES):
            step = np.float64(a[start + j]) - np.float64(b[start + j])
            squares[j] += step * step
    for j in range(a.size - whole):
        step = np.float64(a[whole + j]) - np.float64(b[whole + j])
        squares[j] += step * step
    return squares.sum()


def moments(a: np.ndarray) -> tuple[float, float, int]:
    """Σ a and Σ a² in float64, and how many zeros."""
    total, squares, zeros = _moments(a)
    return total, squares, int(zeros)


def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Σ (a - b)² in float64."""
    same_shapes(a=a.shape, b=b.shape)
    return _squared_distance(a, b)
