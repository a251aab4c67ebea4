"""Upsampling without weights: each pixel is repeated, or mixed from its neighbours.
"""
from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from npae.kernels.geometry import Pair, pair
from npae.layers.base import Layer, Shape


class Upsample2d(Layer):
    """Pictures `factor` times as large.

        nearest:  y[n,i,j,c] = x[n, i // f, j // f, c]
        bilinear: y[n,:,:,c] = A x[n,:,:,c] B^T, mixing rows and columns (half-pixel centres, edges repeated)

    Shapes: x (N, H, W, C) -> y (N, f H, f W, C)
    Backward: nearest: dx = the sum of dy over each f x f block;   bilinear: dx = A^T dy B
    Raises ValueError: another mode.
    """

    input_ndim = 4

    def __init__(self, factor: Pair, *, mode: str = "nearest", kernels: ModuleType | None = None):
        super().__init__(kernels)
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"Upsample2d: mode must be 'nearest' or 'bilinear', got {mode!r}")
        self.factor, self.mode = pair(factor, "Upsample2d: factor"), mode

    def _forward(self, x: np.ndarray) -> np.ndarray:
        y_shape = (x.shape[0], *self.output_shape(x.shape[1:]))
        self.saved = x.shape
        upsample = self.kernels.upsample2d_nearest if self.mode == "nearest" else self.kernels.upsample2d_bilinear
        return upsample(x, self.factor, self.work.empty("y", y_shape, x.dtype))

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        if not need_dx:
            return None
        K = self.kernels
        gather = K.upsample2d_nearest_input_grad if self.mode == "nearest" else K.upsample2d_bilinear_input_grad
        return gather(dy, self.factor, self.work.empty("dx", self.saved, dy.dtype))

    def output_shape(self, input_shape: Shape) -> Shape:
        """(f H, f W, C)"""
        return input_shape[0] * self.factor[0], input_shape[1] * self.factor[1], input_shape[2]

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"layer": type(self).__name__, "factor": list(self.factor), "mode": self.mode}
