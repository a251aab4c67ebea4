"""A constant that is added: how a net subtracts the mean picture at its door and adds it back at the end.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npae.layers.base import Layer, Shape


class Shift(Layer):
    """y = x + offset, with an offset that is not trained.

    Shapes: x (N, *offset.shape) -> y likewise
    Backward: dx = dy
    Raises ValueError: an offset that is not finite; x of another shape than the offset's (both shown).
    """

    def __init__(self, offset: np.ndarray | Sequence[Any]):
        super().__init__()
        try:
            self.offset = np.array(offset, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"Shift needs an offset of numbers, got {offset!r}") from None
        if not np.isfinite(self.offset).all():
            raise ValueError("Shift needs an offset of finite numbers, got one that holds inf or not-a-number")

    def _forward(self, x: np.ndarray) -> np.ndarray:
        self.output_shape(x.shape[1:])
        self.saved = True
        y = self.work.empty("y", x.shape, x.dtype)
        return np.add(x, self.offset.astype(x.dtype), out=y)

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        if not need_dx:
            return None
        dx = self.work.empty("dx", dy.shape, dy.dtype)
        dx[...] = dy
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        """The same."""
        if tuple(input_shape) != self.offset.shape:
            raise ValueError(f"{self} adds an offset of shape {self.offset.shape}, got x of shape "
                             f"(N, {', '.join(map(str, input_shape))})")
        return self.offset.shape

    def config(self) -> dict[str, Any]:
        """The offset, as nested lists."""
        return {"layer": type(self).__name__, "offset": self.offset.tolist()}

    def __repr__(self) -> str:
        return f"Shift(an offset of shape {self.offset.shape}, mean {self.offset.mean():.3g})"
