"""What Dense and the convolutions share: weights, a bias and an activation, computed together by one fused kernel.
A subclass says how x and W meet (`_apply`) and what their gradients are (`_gradients`).
"""
from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from npae.layers.activations import Activation, Identity, activation, activation_config
from npae.layers.base import Layer, Shape
from npae.params import Param

PLAIN = Identity()


class Affine(Layer):
    """y = f(A(x, W) + b), with A linear in x and in W.

        Backward: dz = f'(y) dy;   dW += A_W^T(x, dz);   db += sum dz;   dx = A_x^T(dz, W)
    """

    def __init__(self, W: Param, b: Param, choice: str | Activation | None, kernels: ModuleType | None):
        super().__init__(kernels)
        self.W, self.b, self.params = W, b, (W, b)
        self.activation = activation(choice)

    def _expects(self) -> tuple[int, str]:
        """How many channels (or features) x must have, and their name."""
        raise NotImplementedError

    def _check(self, x: np.ndarray) -> None:
        super()._check(x)
        self._check_channels(x.shape)

    def _check_channels(self, x_shape: Shape) -> None:
        channels, what = self._expects()
        if x_shape[-1] != channels:
            raise ValueError(f"{self} expects {channels} {what}, got x of shape {tuple(x_shape)}")

    def _apply(self, x: np.ndarray, activation: Activation, y: np.ndarray) -> None:
        raise NotImplementedError

    def _gradients(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray | None) -> None:
        raise NotImplementedError

    def _forward(self, x: np.ndarray) -> np.ndarray:
        y = self.work.empty("y", (x.shape[0], *self.output_shape(x.shape[1:])), x.dtype)
        if self.held is None:
            self._apply(x, self.activation, y)
        else:
            self._apply(x, PLAIN, y)
            y = self.activation.on_branch(y, self.held)
        self.saved = x, y if isinstance(self.activation, Identity) else self._kept(y)
        return y

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        x, y = self.saved
        dx = self.work.empty("dx", x.shape, x.dtype) if need_dx else None
        self._gradients(x, y, dy, dx)
        return dx

    def branch_signature(self) -> np.ndarray | None:
        """The activation's, for the latest y; the held one while a branch is held."""
        if self.held is not None:
            return self.held
        return None if self.saved is None else self.activation.branch(self.saved[1])

    def _config(self, **settings: Any) -> dict[str, Any]:
        return {"layer": type(self).__name__, **settings, "activation": activation_config(self.activation),
                "dtype": str(self.dtype)}


class Tied:
    """A layer that holds its partner's W: the same Param, so that both gradient contributions add up in one place."""

    b: Param
    name: str
    partner: Any
    activation: Activation

    def set_name(self, name: str) -> None:
        """Name the layer and its own bias; W keeps the partner's path."""
        self.name = name
        self.b.name = f"{name}.b"

    def config(self) -> dict[str, Any]:
        """The partner's path in the net, and the activation; the dtype is the partner's."""
        return {"layer": type(self).__name__, "partner": self.partner.name,
                "activation": activation_config(self.activation)}
