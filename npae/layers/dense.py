"""Fully connected layers: a matrix product with a bias, and the transpose of another layer's matrix.
"""
from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from npae import init as _init
from npae.checks import first_values, whole
from npae.layers.activations import Activation
from npae.layers.affine import Affine, Tied
from npae.layers.base import Shape
from npae.params import Param

Init = Callable[..., np.ndarray]


class Dense(Affine):
    """y = f(x W + b).

    Shapes: x (N, in) -> y (N, out);  W (in, out), b (out,)
    Backward: dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T
    Raises ValueError: x with another number of features (both numbers shown).

    >>> layer = Dense(4, 3, activation="relu", rng=np.random.default_rng(0))
    >>> layer.forward(np.ones((2, 4), np.float32)).shape
    (2, 3)
    """

    input_ndim = 2

    def __init__(self, in_features: int, out_features: int, *, activation: str | Activation | None = None,
                 init: Init = _init.glorot_uniform, rng: np.random.Generator | None = None,
                 dtype: Any = np.float32, kernels: ModuleType | None = None):
        self.in_features = fan_in = whole(in_features, "Dense: in_features")
        self.out_features = fan_out = whole(out_features, "Dense: out_features")
        W = first_values(init, rng, (fan_in, fan_out), (fan_in, fan_out), dtype, "Dense")
        super().__init__(Param("W", W), Param("b", np.zeros(fan_out, dtype)), activation, kernels)

    def _expects(self):
        return self.in_features, "features"

    def _apply(self, x, activation, y):
        self.kernels.dense_forward(x, self.W.value, self.b.value, activation, y, self.work)

    def _gradients(self, x, y, dy, dx):
        self.kernels.dense_backward(x, self.W.value, y, dy, self.activation, self.W.grad, self.b.grad, dx, self.work)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(out,)"""
        self._check_channels(input_shape)
        return (self.out_features,)

    def multiply_adds(self, input_shape: Shape) -> int:
        """in * out"""
        return self.in_features * self.out_features

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return self._config(in_features=self.in_features, out_features=self.out_features)


class TiedDense(Tied, Affine):
    """y = f(x W^T + b) with the W of a Dense partner, transposed, and a bias of its own.

    Shapes: x (N, out) -> y (N, in) for a partner with W (in, out);  b (in,)
    Backward: dz = f'(y) dy;   dW += dz^T x;   db += sum_n dz;   dx = dz W
    """

    input_ndim = 2

    def __init__(self, partner: Dense, activation: str | Activation | None = None):
        if not isinstance(partner, Dense):
            raise ValueError(f"TiedDense needs a Dense partner, got {partner!r}")
        b = Param("b", np.zeros(partner.in_features, partner.W.value.dtype))
        super().__init__(partner.W, b, activation, partner._kernels)
        self.partner = partner

    def _expects(self):
        return self.partner.out_features, "features"

    def _apply(self, x, activation, y):
        self.kernels.dense_forward(x, self.W.value.T, self.b.value, activation, y, self.work)

    def _gradients(self, x, y, dy, dx):
        # the kernel's dW is that of W^T, so it adds into the transposed view of the shared gradient
        self.kernels.dense_backward(x, self.W.value.T, y, dy, self.activation, self.W.grad.T, self.b.grad,
                                    dx, self.work)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(in,) of the partner"""
        self._check_channels(input_shape)
        return (self.partner.in_features,)

    def multiply_adds(self, input_shape: Shape) -> int:
        """in * out"""
        return self.W.value.size
