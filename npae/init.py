"""First values of weights: random numbers whose spread depends on the number of inputs and outputs of a unit.
All draw in float64 and cast at the end, so that a float32 net and a float64 net from one seed agree.
"""

import math

import numpy as np
import numpy.typing as npt


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
                   dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W ~ U(-a, a),  a = sqrt(6 / (fan_in + fan_out)); the variance is 2 / (fan_in + fan_out).

    Source: Glorot and Bengio 2010, equation 16.

    >>> glorot_uniform(np.random.default_rng(0), (2, 2), fan_in=2, fan_out=2).dtype
    dtype('float32')
    """
    return _uniform(rng, shape, math.sqrt(6 / _fan(fan_in=fan_in, fan_out=fan_out)), dtype)


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
                  dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W ~ N(0, s²),  s = sqrt(2 / (fan_in + fan_out)); not truncated.

    Source: Glorot and Bengio 2010, equation 12.
    """
    return _normal(rng, shape, math.sqrt(2 / _fan(fan_in=fan_in, fan_out=fan_out)), dtype)


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
               dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W ~ U(-a, a),  a = sqrt(6 / fan_in); the variance is 2 / fan_in, which keeps the signal's size behind a ReLU.

    Source: He et al. 2015, equation 10.
    """
    return _uniform(rng, shape, math.sqrt(6 / _fan(fan_in=fan_in)), dtype)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
              dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W ~ N(0, s²),  s = sqrt(2 / fan_in); not truncated.

    Source: He et al. 2015, equation 10.
    """
    return _normal(rng, shape, math.sqrt(2 / _fan(fan_in=fan_in)), dtype)


def fan_in_uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
                   dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W ~ U(-a, a),  a = 1 / sqrt(fan_in); the variance is 1 / (3 fan_in), and biases may be drawn so too.

    Source: LeCun et al. 1998, "Efficient BackProp", section 4.6 (the scaling with fan_in).
    """
    return _uniform(rng, shape, 1 / math.sqrt(_fan(fan_in=fan_in)), dtype)


def zeros(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int,
          dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """W = 0, as usual for biases; nothing is drawn from rng."""
    return np.zeros(shape, dtype)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float, dtype: npt.DTypeLike) -> np.ndarray:
    return rng.uniform(-limit, limit, shape).astype(dtype)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], sd: float, dtype: npt.DTypeLike) -> np.ndarray:
    return (sd * rng.standard_normal(shape)).astype(dtype)


def _fan(**fans: int) -> int:
    """The sum of the fans that a rule uses, each of which must be at least 1."""
    for name, fan in fans.items():
        if fan < 1:
            raise ValueError(f"{name} must be at least 1, got {fan}: it is the number of weights of one unit")
    return sum(fans.values())
