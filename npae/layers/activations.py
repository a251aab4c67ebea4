"""Activations: bends between linear maps. One may be a layer of its own, or an argument of Dense and the convolutions.
slope (the derivative) and bend (the slope's derivative with respect to y) are functions of the output y: what forward
gave is all that backward needs.
"""
from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from npae.checks import real
from npae.layers.base import Layer


class Activation(Layer):
    """y = f(x), number by number.

        Backward: dx = f'(x) dy, with f'(x) = slope(y) and dslope/dy = bend(y)

    A user's own activation overrides f, slope and bend; `code` names a loop of the fast kernels to those that have one.
    """

    code: int = -1
    label = ""

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls) and {"f", "slope", "on_branch"} & set(vars(cls)):
            cls.code, cls.label = -1, ""  # a parent's compiled loop does not know what was overridden

    def f(self, x: np.ndarray) -> np.ndarray:
        """The function itself."""
        raise NotImplementedError

    def slope(self, y: np.ndarray) -> np.ndarray:
        """f'(x), written in y = f(x)."""
        raise NotImplementedError

    def bend(self, y: np.ndarray) -> np.ndarray:
        """dslope/dy."""
        raise NotImplementedError

    def branch(self, y: np.ndarray) -> np.ndarray | None:
        """Which side of the kink each number is on; None for a smooth activation."""
        return None

    def on_branch(self, x: np.ndarray, branch: np.ndarray) -> np.ndarray:
        """f continued beyond its kink from the side that `branch` names."""
        raise ValueError(f"{type(self).__name__} is smooth and has no branch to hold")

    def _forward(self, x: np.ndarray) -> np.ndarray:
        if self.held is not None:
            y = self.on_branch(x, self.held)
        else:
            y = self.kernels.activate(x, self, self.work.empty("y", x.shape, x.dtype))
        self.saved = self._kept(y)
        return y

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        y = self.saved
        if not need_dx:
            return None
        return self.kernels.activate_input_grad(y, dy, self, self.work.empty("dx", y.shape, y.dtype))

    def branch_signature(self) -> np.ndarray | None:
        """branch(y) of the latest forward; the held one while a branch is held."""
        if self.held is not None:
            return self.held
        return None if self.saved is None else self.branch(self.saved)


class Identity(Activation):
    """y = x;   slope 1, bend 0"""

    code, label = 0, "identity"

    def f(self, x):
        return x

    def slope(self, y):
        return np.ones_like(y)

    def bend(self, y):
        return np.zeros_like(y)


class ReLU(Activation):
    """y = max(x, 0);   slope 1 where y > 0, else 0 (at x = 0 too);   bend 0

    Source: Nair & Hinton 2010
    """

    code, label = 1, "relu"
    alpha = 0.0  # the slope to the left of 0

    def f(self, x):
        _refuse_complex(self, x)
        return np.where(x <= 0, np.zeros((), x.dtype), x)  # not np.maximum(x, 0): -0.0 becomes 0, a NaN stays

    def slope(self, y):
        return np.heaviside(y, np.zeros((), y.dtype))  # 0 at 0, NaN at NaN

    def bend(self, y):
        return np.zeros_like(y)

    def branch(self, y):
        return y > 0

    def on_branch(self, x, branch):
        return x * np.where(branch, 1, self.alpha).astype(x.dtype)


class LeakyReLU(ReLU):
    """y = x where x > 0, else alpha x;   slope 1 where y > 0, else alpha;   bend 0

    Raises ValueError: alpha below 0 (the side could not be read off y) or not finite.
    Source: Maas, Hannun & Ng 2013
    """

    code, label = 2, "leaky_relu"

    def __init__(self, alpha: float = 0.01, *, kernels: ModuleType | None = None):
        super().__init__(kernels)
        if not 0 <= real(alpha) < math.inf:
            raise ValueError(f"LeakyReLU needs a finite alpha of at least 0, got {alpha}")
        self.alpha = float(alpha)

    def f(self, x):
        _refuse_complex(self, x)
        return np.where(x <= 0, x.dtype.type(self.alpha) * x, x)

    def slope(self, y):
        step = np.heaviside(y, np.zeros((), y.dtype))
        return step + (1 - step) * y.dtype.type(self.alpha)

    def config(self):
        return {"layer": type(self).__name__, "alpha": self.alpha}


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x));   slope y (1 - y), bend 1 - 2 y"""

    code, label = 3, "sigmoid"

    @np.errstate(under="ignore")  # exp(-|x|) is meant to fade to zero
    def f(self, x):
        e = np.exp(np.where(x.real < 0, x, -x))  # |e| <= 1: nothing overflows; the branch is on the real part
        return np.where(x.real < 0, e, np.ones((), x.dtype)) / (1 + e)

    def slope(self, y):
        return y * (1 - y)

    def bend(self, y):
        return 1 - 2 * y


class Tanh(Activation):
    """y = tanh(x);   slope 1 - y^2, bend -2 y"""

    code, label = 4, "tanh"

    def f(self, x):
        return np.tanh(x)

    def slope(self, y):
        return 1 - y * y

    def bend(self, y):
        return -2 * y


class Softplus(Activation):
    """y = log(1 + exp(x));   slope 1 - exp(-y), bend exp(-y)"""

    code, label = 5, "softplus"

    @np.errstate(under="ignore")
    def f(self, x):
        zero = np.zeros((), x.dtype)
        return np.where(x.real < 0, zero, x) + np.log1p(np.exp(np.where(x.real < 0, x, -x)))

    @np.errstate(under="ignore")
    def slope(self, y):
        return -np.expm1(-y)

    @np.errstate(under="ignore")
    def bend(self, y):
        return np.exp(-y)


def _refuse_complex(activation: Activation, x: np.ndarray) -> None:
    if x.dtype.kind == "c":
        raise ValueError(f"{type(activation).__name__} is not analytic: use real numbers instead of {x.dtype}")


ACTIVATIONS = {kind.label: kind for kind in (Identity, ReLU, LeakyReLU, Sigmoid, Tanh, Softplus)}


def activation(choice: str | Activation | None) -> Activation:
    """The activation of a name such as 'relu', an object as it is, Identity for None.

    Raises ValueError: an unknown name (the known ones are listed); something that is no Activation, such as a class.
    """
    if choice is None:
        return Identity()
    if isinstance(choice, str):
        if choice not in ACTIVATIONS:
            raise ValueError(f"unknown activation {choice!r}: use one of {', '.join(ACTIVATIONS)}, or an Activation")
        return ACTIVATIONS[choice]()
    if not isinstance(choice, Activation):
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, or an Activation such as "
                         f"LeakyReLU(0.1), got {choice!r}")
    return choice


def activation_config(choice: Activation) -> Any:
    """What stands in a layer's config for its activation: the name where that says all, else its own config."""
    return choice.label if choice.config() == ACTIVATIONS.get(choice.label, Layer)().config() else choice.config()
