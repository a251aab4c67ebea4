"""Sizes of sliding windows: how large an output is, and how many zeros stand around the input.
Convolutions, transposed convolutions and pooling all ask here, so that the rule for 'same' padding is written once.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Pair = int | Sequence[int]
Padding = str | int


class Geometry(NamedTuple):
    """A window of kernel_size that walks over input_size in steps of stride; each field is (along H, along W).

    Window (i, j) covers the rows stride[0] i - padding[0] + u and the columns stride[1] j - padding[1] + v.
    `padding` counts the zeros in front (top, left); those behind (bottom, right) are as many as the last window needs.
    """

    input_size: tuple[int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output_size: tuple[int, int]

    @property
    def padded_size(self) -> tuple[int, int]:
        """Rows and columns of the smallest zero-padded picture that holds the input and every window."""
        rows, cols = (max((o - 1) * s + k, p + n) for n, k, s, p, o in zip(*self, strict=True))
        return rows, cols


def pair(value: Pair, what: str, least: int = 1) -> tuple[int, int]:
    """(value, value) of an integer, or a pair as it is.

    Raises ValueError: not integers, or one below `least`.
    """
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int and min(value) >= least:
        return value  # what layers ask several times a step
    both = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < least for v in both):
        raise ValueError(f"{what} must be an integer of at least {least}, or a pair of them, got {value!r}")
    return int(both[0]), int(both[1])


def window_geometry(input_size: Pair, kernel_size: Pair, stride: Pair = 1, padding: Padding = "same",
                    what: str = "window") -> Geometry:
    """Where the windows of a convolution or of pooling lie.

        'same':  output = ceil(input / stride); an odd zero goes to the bottom right (TensorFlow's rule)
        integer: output = floor((input + 2 padding - kernel) / stride) + 1;   'valid' is padding 0

    Raises ValueError: a kernel larger than the padded input (both sizes shown); an unknown padding.

    >>> window_geometry(28, 3, 2, "same").output_size, window_geometry(28, 3, 2, "same").padding
    ((14, 14), (0, 0))
    """
    size, kernel, step = pair(input_size, f"{what}: the input size"), pair(kernel_size, f"{what}: kernel_size"), pair(
        stride, f"{what}: stride")
    check_padding(padding, what)
    if padding == "same":
        out = tuple(-(-n // s) for n, s in zip(size, step, strict=True))
        front = tuple(max((o - 1) * s + k - n, 0) // 2 for n, k, s, o in zip(size, kernel, step, out, strict=True))
    else:
        p = 0 if padding == "valid" else int(padding)
        if any(k > n + 2 * p for n, k in zip(size, kernel, strict=True)):
            raise ValueError(f"{what}: a kernel of {kernel} does not fit into an input of {size} with padding {p}: "
                             "use a smaller kernel, or padding='same'")
        out = tuple((n + 2 * p - k) // s + 1 for n, k, s in zip(size, kernel, step, strict=True))
        front = (p, p)
    return Geometry(size, kernel, step, (front[0], front[1]), (out[0], out[1]))


def transposed_geometry(input_size: Pair, kernel_size: Pair, stride: Pair = 1, padding: Padding = "same",
                        what: str = "window") -> Geometry:
    """The convolution whose adjoint is the transposed convolution with these arguments.

        'same':  output = stride * input
        integer: output = (input - 1) stride + kernel - 2 padding;   'valid' is padding 0

    The Geometry is that of the convolution: its output_size is the transposed convolution's input.
    Raises ValueError: a padding that leaves no output pixel; an unknown padding.

    >>> transposed_geometry(7, 3, 2, "same").input_size
    (14, 14)
    """
    size, kernel, step = pair(input_size, f"{what}: the input size"), pair(kernel_size, f"{what}: kernel_size"), pair(
        stride, f"{what}: stride")
    check_padding(padding, what)
    if padding == "same":
        large = [n * s for n, s in zip(size, step, strict=True)]
    else:
        p = 0 if padding == "valid" else int(padding)
        large = [(n - 1) * s + k - 2 * p for n, k, s in zip(size, kernel, step, strict=True)]
        if min(large) < 1:
            raise ValueError(f"{what}: padding {p} takes all of the {(size[0] - 1) * step[0] + kernel[0]} rows or "
                             f"{(size[1] - 1) * step[1] + kernel[1]} columns away: use a smaller padding")
    return window_geometry(large, kernel, step, padding, what)


def check_padding(padding: Padding, what: str) -> None:
    """Raises ValueError unless padding is 'same', 'valid' or an integer of at least 0."""
    number = isinstance(padding, (int, np.integer)) and not isinstance(padding, bool) and padding >= 0
    if not number and padding not in ("same", "valid"):
        raise ValueError(f"{what}: padding must be 'same', 'valid' or an integer of at least 0, got {padding!r}")


def bilinear_taps(size: int, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two input pixels that an upsampled row is mixed from, and the share of the second.

        position of output i in the input: t = (i + 1/2) / factor - 1/2, held within [0, size - 1]
        y[i] = (1 - share[i]) x[low[i]] + share[i] x[high[i]],   low = floor(t), share = t - low

    Pixels are areas with a centre (half-pixel centres), edges are repeated: the rule of image libraries.
    """
    t = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    low = np.floor(t).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), t - low
