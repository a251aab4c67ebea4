"""The rules that move theta along its gradient: gradient descent, momentum, RMSprop, Adam, AdamW."""
from types import ModuleType

import numpy as np

from npae.checks import real
from npae.optim.base import Optimizer, in_range
from npae.optim.schedules import Schedule


class SGD(Optimizer):
    """theta = theta - lr grad.

    >>> theta = np.array([1.0, 2.0])
    >>> SGD(0.5).step(theta, np.array([2.0, 2.0]))
    >>> theta
    array([0., 1.])
    """

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
        K.sgd_step(theta, grad, lr)


class Momentum(Optimizer):
    """velocity = momentum velocity + grad;  theta = theta - lr velocity.

    The rate stands outside the velocity, so a schedule acts at once.
    Source: Polyak 1964 (the heavy ball), with the velocity as a variable of its own.
    """

    moment_names = ("velocity",)

    def __init__(self, lr: float | Schedule, momentum: float = 0.9, *, clip_norm: float | None = None,
                 kernels: ModuleType | None = None) -> None:
        super().__init__(lr, clip_norm=clip_norm, kernels=kernels)
        self.momentum = in_range("momentum", momentum, 0 <= real(momentum) < 1, "in [0, 1)")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
        K.momentum_step(theta, grad, self.moments["velocity"], lr, self.momentum)


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) grad²;  theta = theta - lr grad / (sqrt(v) + eps).

    Source: Tieleman and Hinton 2012, lecture 6.5 (without eps); eps outside the root.
    """

    moment_names = ("v",)

    def __init__(self, lr: float | Schedule = 1e-3, rho: float = 0.9, eps: float = 1e-7, *,
                 clip_norm: float | None = None, kernels: ModuleType | None = None) -> None:
        super().__init__(lr, clip_norm=clip_norm, kernels=kernels)
        self.rho = in_range("rho", rho, 0 <= real(rho) < 1, "in [0, 1)")
        self.eps = in_range("eps", eps, real(eps) > 0, "above 0")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
        K.rmsprop_step(theta, grad, self.moments["v"], lr, self.rho, self.eps)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad²;  m_hat = m / (1 - beta1^t);
    v_hat = v / (1 - beta2^t);  theta = theta - lr m_hat / (sqrt(v_hat) + eps);  t counts from 1.

    Source: Kingma and Ba 2015, Algorithm 1.
    """

    moment_names = ("m", "v")

    def __init__(self, lr: float | Schedule = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, *,
                 clip_norm: float | None = None, kernels: ModuleType | None = None) -> None:
        super().__init__(lr, clip_norm=clip_norm, kernels=kernels)
        self.beta1 = in_range("beta1", beta1, 0 <= real(beta1) < 1, "in [0, 1)")
        self.beta2 = in_range("beta2", beta2, 0 <= real(beta2) < 1, "in [0, 1)")
        self.eps = in_range("eps", eps, real(eps) > 0, "above 0")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float, decay: float = 0.0) -> None:
        K.adam_step(theta, grad, self.moments["m"], self.moments["v"], lr, self.beta1, self.beta2, self.eps,
                    self.steps, decay)


class AdamW(Adam):
    """theta = theta - lr decay theta;  then Adam's step.

    The decay shrinks every entry of theta, biases too, as in the paper, and is no part of the gradient or the loss.
    Source: Loshchilov and Hutter 2019, Algorithm 2, line 12; there a schedule multiplies the decay, here lr does.
    """

    def __init__(self, lr: float | Schedule = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
                 decay: float = 1e-2, *, clip_norm: float | None = None, kernels: ModuleType | None = None) -> None:
        super().__init__(lr, beta1, beta2, eps, clip_norm=clip_norm, kernels=kernels)
        self.decay = in_range("decay", decay, real(decay) >= 0, "at least 0")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float, decay: float = 0.0) -> None:
        super()._update(K, theta, grad, lr, self.decay)
