"""Pooling: each window of a picture becomes one number, its largest or its mean.
"""
from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from npae.kernels.geometry import Geometry, Padding, Pair, check_padding, pair, window_geometry
from npae.kernels.reference import im2col
from npae.layers.base import Layer, Shape


class _Pool2d(Layer):
    input_ndim = 4

    def __init__(self, pool_size: Pair, *, stride: Pair | None = None, padding: Padding = 0,
                 kernels: ModuleType | None = None):
        super().__init__(kernels)
        what = type(self).__name__
        self.pool_size = pair(pool_size, f"{what}: pool_size")
        self.stride = self.pool_size if stride is None else pair(stride, f"{what}: stride")
        check_padding(padding, what)
        if not isinstance(padding, str) and padding >= min(self.pool_size):
            raise ValueError(f"{what}: padding {padding} with windows of {self.pool_size} makes windows without "
                             f"a pixel: use a padding of at most {min(self.pool_size) - 1}")
        self.padding = padding

    def geometry(self, size: Shape) -> Geometry:
        """Where the windows lie on pictures of this (H, W)."""
        return window_geometry(size, self.pool_size, self.stride, self.padding, str(self))

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', C)"""
        return (*self.geometry(input_shape[:2]).output_size, input_shape[2])

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"layer": type(self).__name__, "pool_size": list(self.pool_size), "stride": list(self.stride),
                "padding": self.padding}


class MaxPool2d(_Pool2d):
    """y = the largest number of each window; of several equal ones the first (row by row) wins.

    Shapes: x (N, H, W, C) -> y (N, H', W', C), sizes as Conv2d; stride is pool_size where it is not given
    Backward: dx = dy at each window's winner, added up where windows overlap, 0 elsewhere
    Raises ValueError: a padding that makes windows without a pixel. Padding never wins.
    """

    def _forward(self, x: np.ndarray) -> np.ndarray:
        g = self.geometry(x.shape[1:3])
        shape = (x.shape[0], *g.output_size, x.shape[3])
        y = self.work.empty("y", shape, x.dtype)
        if self.held is None:
            y, winner = self.kernels.max_pool2d(x, g, y, self.work.empty("winner", shape, np.int32))
        else:
            winner = self.held
            cols = im2col(x, g).reshape(*shape[:3], -1, shape[3])
            y[...] = np.take_along_axis(cols, winner[:, :, :, None], 3)[:, :, :, 0]
        self.saved = x.shape, g, winner
        return y

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        x_shape, g, winner = self.saved
        if not need_dx:
            return None
        return self.kernels.max_pool2d_input_grad(dy, winner, g, self.work.empty("dx", x_shape, dy.dtype))

    def branch_signature(self) -> np.ndarray | None:
        """The winners of the latest forward."""
        return None if self.saved is None else self.saved[2].copy()


class AvgPool2d(_Pool2d):
    """y = the sum of each window / (number of its places); zeros of the padding count, so that the map is linear.

    Shapes: x (N, H, W, C) -> y (N, H', W', C), sizes as Conv2d; stride is pool_size where it is not given
    Backward: each pixel of a window gets dy / (number of places), added up where windows overlap
    """

    def _forward(self, x: np.ndarray) -> np.ndarray:
        g = self.geometry(x.shape[1:3])
        y_shape = (x.shape[0], *g.output_size, x.shape[3])
        self.saved = x.shape, g
        return self.kernels.avg_pool2d(x, g, self.work.empty("y", y_shape, x.dtype))

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        x_shape, g = self.saved
        return self.kernels.avg_pool2d_input_grad(dy, g, self.work.empty("dx", x_shape, dy.dtype)) if need_dx else None
