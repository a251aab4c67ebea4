"""The derivative of a net along one direction of its input, and the gradient of that: what a contractive penalty on a
deep encoder needs. A tangent t walks beside x through the same layers.
"""
from __future__ import annotations

import copy
from typing import Any

import numpy as np

from npae.kernels import Workspace
from npae.layers.activations import Activation, Identity
from npae.layers.affine import Affine
from npae.layers.base import Layer, Sequential, of_npae
from npae.layers.pool import AvgPool2d
from npae.layers.shape import Reshape
from npae.layers.shift import Shift
from npae.layers.upsample import Upsample2d
from npae.params import Param


class Tangent:
    """y = net(x) and t = J v beside it, J = dy/dx at this x, for nets of smooth layers.

        a layer y = f(A x + b) passes on   t_out = slope(y) a,   a = A t_in
        Backward, for dy and dt (= dLoss/dt_out) that arrive together:
            da = slope(y) dt;   dW += A_W^T(t_in, da);   dt_in = A^T da
            dy += bend(y) a dt   (the slope depends on y too);   then the layer's own backward

    Shapes: x, v (N, ...), equal -> y, t (N, ...), equal
    Raises ValueError: a layer that has no tangent here: one with a kink, with noise, or of a user's own (but for
    activations, which say their slope and bend).
    Source: Pearlmutter 1994 (the R operator)
    """

    def __init__(self, net: Sequential):
        self.net = net
        self.steps = [_Step(layer) for layer in net.walk() if not isinstance(layer, Sequential)]

    def forward(self, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """net(x) and J v.

        Raises ValueError: x and v of unequal shapes.
        """
        if x.shape != v.shape:
            raise ValueError(f"a tangent has one number for each of x: x is {x.shape}, v {v.shape}")
        t = v.astype(x.dtype)
        for step in self.steps:
            x, t = step.forward(x, t)
        return x, t

    def backward(self, dy: np.ndarray, dt: np.ndarray) -> None:
        """Add to the gradients what dLoss/dy and dLoss/dt ask of the net's parameters."""
        for step in reversed(self.steps):
            dy, dt = step.backward(dy, dt)


class _Step:
    """One layer, and its linear part: the same weights without bias and bend, for the tangent."""

    def __init__(self, layer: Layer):
        self.layer = layer
        self.curve = _curve(layer)
        self.linear: Any = None  # None: A is the identity (an activation, a shift)
        self.bias = Param("b", np.zeros(0))
        known = of_npae(layer)
        if known and isinstance(layer, Affine):
            self.linear = _twin(layer)
            self.linear.activation = Identity()
            self.linear.b = self.bias = Param("b", np.zeros_like(layer.b.value))
        elif known and isinstance(layer, Reshape | AvgPool2d | Upsample2d):
            self.linear = _twin(layer)
        elif not isinstance(layer, Activation) and not (known and isinstance(layer, Shift)):
            raise ValueError(f"{layer} has no tangent: a contractive penalty on a deep encoder takes npae's dense and "
                             "convolutional layers, smooth activations, average pooling, upsampling and new shapes")

    def forward(self, x: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.y = self.layer.forward(x)
        self.a = t if self.linear is None else self.linear.forward(t)
        return self.y, self.curve.slope(self.y) * self.a

    def backward(self, dy: np.ndarray, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        da = self.curve.slope(self.y) * dt
        dy = dy + self.curve.bend(self.y) * self.a * dt
        if self.linear is not None:
            da = self.linear.backward(da)
            self.bias.grad[...] = 0  # nobody's: it would only grow
        return self.layer.backward(dy), da


def _twin(layer: Any) -> Any:
    """The same layer with a memory of its own; the Params are shared, so that gradients add up in one place."""
    twin = copy.copy(layer)
    twin.saved, twin.work, twin.held = None, Workspace(), None
    return twin


def _curve(layer: Layer) -> Activation:
    """The layer's activation; Identity where it has none."""
    curve = layer if isinstance(layer, Activation) else getattr(layer, "activation", Identity())
    if curve.branch(np.zeros(1)) is not None:
        raise ValueError(f"{layer} has a kink, {type(curve).__name__}: a contractive penalty on a deep encoder needs "
                         "smooth activations such as sigmoid, tanh or softplus")
    return curve
