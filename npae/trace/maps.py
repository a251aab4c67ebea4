"""The pictures of a page: activations and gradients of a few images, as small whole numbers with one scale a layer.

    shown = round(LEVELS clip(a / scale, -1, 1)),   scale = the QUANTILE of |a| over a layer's shown numbers
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LEVELS = 31  # each side of zero: finer than an eye tells colours apart, and half of the bytes that 127 take
QUANTILE = 0.99  # the largest number of all would leave the others pale
BLANK, BAD = 254, 255  # no number there; inf or not-a-number
MOST_NUMBERS = 1024  # of a row of numbers


class Map(NamedTuple):
    """codes (P, C, h, w) uint8, LEVELS standing for 0; total: how many channels (or numbers) the layer has."""

    codes: np.ndarray
    scale: float
    total: int


def laid_out(a: np.ndarray, picture: tuple[int, ...], channels: int) -> np.ndarray:
    """A layer's numbers as pictures: its first channels; a row of numbers as a picture where it is as long as one, and
    else as a square, filled row by row, with NaN where nothing is left.

    Shapes: a (P, H, W, C) or (P, d) -> (P, c, h, w)
    """
    if a.ndim == 2 and a.shape[1] == math.prod(picture):
        a = a.reshape(len(a), *picture)
    if a.ndim == 4:
        return a[..., :channels].transpose(0, 3, 1, 2)
    return _square(a.reshape(len(a), -1)[:, :MOST_NUMBERS])[:, None]


def made(a: np.ndarray, picture: tuple[int, ...], pictures: int, channels: int) -> Map:
    """The Map of the first pictures and channels of a layer's numbers."""
    shown = laid_out(a[:pictures], picture, channels).astype(np.float64)
    missing = laid_out(np.zeros_like(a[:pictures]), picture, channels)
    finite = np.isfinite(shown)
    sizes = np.abs(shown[finite])
    scale = float(np.quantile(sizes, QUANTILE)) if sizes.size else 0.0
    if scale == 0 and sizes.size:
        scale = float(sizes.max())
    unit = np.where(finite, shown, 0) / (scale or 1.0)
    codes = (np.rint(LEVELS * np.clip(unit, -1, 1)) + LEVELS).astype(np.uint8)
    codes[~finite] = BAD
    codes[np.isnan(missing)] = BLANK
    return Map(codes, scale, a.shape[-1] if a.ndim == 4 else math.prod(a.shape[1:]))


def grey(x: np.ndarray) -> np.ndarray:
    """Pictures in [0, 1] as bytes; NaN is black. Rows of numbers become squares, black where nothing is left.

    Shapes: x (P, H, W, C), (P, H, W) or (P, d) -> (P, h, w, c)
    """
    if x.ndim != 4:
        x = x[..., None] if x.ndim == 3 else _square(x.reshape(len(x), -1))[..., None]
    return np.rint(255 * np.clip(np.nan_to_num(x), 0, 1)).astype(np.uint8)


def _square(rows: np.ndarray) -> np.ndarray:
    """Rows as squares or nearly so, filled line by line, with NaN where nothing is left: (P, d) -> (P, h, w)."""
    w = math.ceil(math.sqrt(rows.shape[1]))
    h = math.ceil(rows.shape[1] / w)
    square = np.full((len(rows), h * w), np.nan, rows.dtype)
    square[:, :rows.shape[1]] = rows
    return square.reshape(len(rows), h, w)
