"""What arguments of the wrong type are told: a sentence in place of the error that Python or NumPy would raise later.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np


def real(value: Any) -> float:
    """A number as a float, and not-a-number for what is none: it fails every comparison of a range check.

    >>> real(np.float32(0.5)), real("0.5"), real(None), real(True)
    (0.5, nan, nan, nan)
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return float(value) if number else math.nan


def whole(value: int, what: str, least: int = 1) -> int:
    """A Python integer of any kind of integer.

    Raises ValueError: not an integer, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{what} must be an integer of at least {least}, got {value!r}")
    return int(value)


def generator(rng: Any, what: str) -> np.random.Generator:
    """A generator as it is, a fresh one for None, or one begun with a seed.

    Raises ValueError: what is neither, or a seed below 0.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: rng must be a numpy.random.Generator, such as numpy.random.default_rng(0), or a "
                         f"seed of at least 0, got {rng!r}") from None


def sizes(shape: Any, what: str) -> tuple[int, ...]:
    """A shape as a tuple of Python integers.

    Raises ValueError: no sequence, or one of other things than integers of at least 1.
    """
    if not isinstance(shape, Iterable) or isinstance(shape, str):
        raise ValueError(f"{what} must be a shape such as (28, 28, 1), got {shape!r}")
    return tuple(whole(n, f"{what}: each size") for n in shape)


def as_numbers(numbers: Any) -> np.ndarray:
    """What is no array yet, as one.

    Raises ValueError: rows of different lengths, or of other things than numbers.
    """
    try:
        array = np.asarray(numbers)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"layers take arrays of numbers, got {type(numbers).__name__} that is none: make one by "
                         "np.asarray(x, np.float32)")
    return array


def float_type(dtype: Any, what: str) -> np.dtype:
    """A dtype that layers compute in.

    Raises ValueError: another one, or the name of none.
    """
    try:
        found: Any = np.dtype(dtype)
    except TypeError:
        found = repr(dtype)
    if found not in (np.float32, np.float64, np.complex128):
        raise ValueError(f"{what} in float32 or float64 (in complex128 on the reference kernels), got {found}: choose "
                         "one of these")
    return found


def kernel_module(kernels: Any, what: str) -> Any:
    """A module of kernels, or what stands in for one, or None.

    Raises ValueError: anything else, a name such as "fast" above all.
    """
    if not (kernels is None or isinstance(kernels, ModuleType) or hasattr(kernels, "dense_forward")):
        raise ValueError(f"{what}: kernels is a module, npae.kernels.fast or npae.kernels.reference, got {kernels!r}")
    return kernels


def first_values(init: Any, rng: Any, shape: tuple[int, ...], fans: tuple[int, int], dtype: Any,
                 what: str) -> np.ndarray:
    """What an init function draws for weights of a shape.

    Raises ValueError: a dtype, a generator or a function that will not do; an array of another shape.
    """
    dtype, rng = float_type(dtype, f"{what} computes"), generator(rng, what)
    if not callable(init):
        raise ValueError(f"{what}: init is a function such as npae.init.he_normal, got {init!r}")
    if math.prod(shape) * dtype.itemsize > sys.maxsize:  # Python integers: no product wraps
        raise ValueError(f"{what}: weights of shape {shape} are more than any memory holds: use smaller sizes")
    W = np.asarray(init(rng, shape, *fans, dtype))
    if W.shape != shape or W.dtype != dtype:
        raise ValueError(f"{what}: init must give {dtype} weights of shape {shape}, got {W.dtype} of shape {W.shape}")
    return W
