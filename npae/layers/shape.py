"""Layers that only change the shape: between pictures (N, H, W, C) and rows of numbers (N, features).
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from npae.checks import sizes
from npae.layers.base import Layer, Shape


class Reshape(Layer):
    """y = the numbers of x in another shape, in C order.

    Shapes: x (N, ...) -> y (N, *shape)
    Backward: dx = dy in the shape of x
    Raises ValueError: another number of numbers a picture (both shown).
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = sizes(shape, "Reshape")

    def _forward(self, x: np.ndarray) -> np.ndarray:
        self.saved = x.shape
        return self._own(x.reshape(x.shape[0], *self.output_shape(x.shape[1:])))

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        return self._own(dy.reshape(self.saved)) if need_dx else None

    def _own(self, view: np.ndarray) -> np.ndarray:
        """In a training loop a view is enough; otherwise the result is the caller's own array."""
        return view if self.work.keep else view.copy()

    def output_shape(self, input_shape: Shape) -> Shape:
        """shape"""
        if math.prod(input_shape) != math.prod(self.shape):
            raise ValueError(f"{self} makes {self.shape}, {math.prod(self.shape)} numbers a picture, but got x of "
                             f"shape (N, {', '.join(map(str, input_shape))}), {math.prod(input_shape)} numbers")
        return self.shape

    def config(self) -> dict[str, Any]:
        """The constructor's argument."""
        return {"layer": type(self).__name__, "shape": list(self.shape)}


class Flatten(Reshape):
    """y = each picture as one row of numbers, in C order: (h W + w) C + c.

    Shapes: x (N, H, W, C) -> y (N, H W C)
    Backward: dx = dy in the shape of x
    """

    def __init__(self) -> None:
        super().__init__(())

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H W C,)"""
        return (math.prod(input_shape),)

    def config(self) -> dict[str, Any]:
        """No arguments."""
        return {"layer": type(self).__name__}
