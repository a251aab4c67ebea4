"""How weights move: each optimizer is a step on two flat vectors, theta and its gradient, written in place.
A learning rate is a number or a schedule, any callable from the step (counted from 0) to a number.
"""

import dataclasses
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

import numpy as np

from npae import kernels as _kernels
from npae.copying import deep_copy
from npae.kernels.workspace import aligned

Schedule = Callable[[int], float]


def clip_global_norm(grad: np.ndarray, max_norm: float, kernels: ModuleType | None = None) -> float:
    """Shorten a gradient in place to at most max_norm, and give its norm as it was.

    norm = sqrt(Σ grad²);   grad = grad min(1, max_norm / norm)

    Raises: ValueError for a norm that is not finite (grad stays as it is), or a max_norm that is not above 0.
    Source: Pascanu et al. 2013, Algorithm 1.

    >>> grad = np.array([3.0, 4.0])
    >>> clip_global_norm(grad, 1.0), grad
    (5.0, array([0.6, 0.8]))
    """
    if not max_norm > 0:
        raise ValueError(f"the gradient's norm can be clipped to a length above 0, got {max_norm}")
    norm = math.sqrt(_kernels.resolve(kernels).sum_of_squares(grad))
    if not math.isfinite(norm):
        raise ValueError(f"the gradient's norm is {norm} where at most {max_norm} is wanted: "
                         f"a loss or layer has overflowed; lower the learning rate or check the data")
    if norm > max_norm:
        grad *= grad.dtype.type(max_norm / norm)
    return norm


class Optimizer:
    """What all optimizers share: the learning rate, clipping, the count of steps, and moments that outlive a step.

    lr: a float or a schedule; clip_norm: the longest gradient allowed (None: any); kernels: None is `fast`.
    """

    moment_names: tuple[str, ...] = ()

    def __init__(self, lr: float | Schedule, *, clip_norm: float | None = None,
                 kernels: ModuleType | None = None) -> None:
        self.lr = lr
        self.clip_norm = None if clip_norm is None else _in_range("clip_norm", clip_norm, clip_norm > 0, "above 0")
        self.kernels = kernels
        self.steps = 0
        self.moments: dict[str, np.ndarray] = {}
        if not callable(lr):
            _in_range("lr", lr, lr >= 0, "at least 0")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """On the same kernels."""
        return deep_copy(self, memo, kernels=self.kernels)

    def learning_rate(self) -> float:
        """The rate of the coming step."""
        return float(self.lr(self.steps) if callable(self.lr) else self.lr)

    def step(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """Move theta along grad, both flat; with clip_norm, grad is shortened in place first.

        Raises: ValueError for vectors that differ in size or dtype, also from those of the first step; a clipped
        gradient whose norm is not finite; a rate that is negative or not finite. Nothing has been changed then.
        """
        self._check(theta, grad)
        lr = self.learning_rate()
        _in_range("lr", lr, lr >= 0, "at least 0")
        K = _kernels.resolve(self.kernels)
        if self.clip_norm is not None:
            clip_global_norm(grad, self.clip_norm, K)
        if not self.moments:
            self.moments = {name: aligned(theta.size, theta.dtype, fill=0) for name in self.moment_names}
        self.steps += 1
        self._update(K, theta, grad, lr)

    def state(self) -> dict:
        """The number of steps and copies of the moments: all that a bit-exact continuation needs beside `config`."""
        return {"steps": self.steps, **{name: moment.copy() for name, moment in self.moments.items()}}

    def restore(self, state: dict) -> None:
        """Take over what `state` gave.

        Raises: ValueError for another optimizer's state: the names must match exactly.
        """
        wanted = {"steps", *self.moment_names} if state.get("steps") else {"steps"}
        if set(state) != wanted:
            raise ValueError(f"{type(self).__name__} at step {state.get('steps')} restores {sorted(wanted)}, "
                             f"got {sorted(state)}: this is another optimizer's state")
        self.steps = int(state["steps"])
        self.moments = {name: np.array(state[name]) for name in self.moment_names if name in state}

    def config(self) -> dict:
        """Name and settings as JSON can hold them; a schedule shows as its own config."""
        settings = {key: value for key, value in vars(self).items() if key not in ("lr", "kernels", "steps", "moments")}
        return {"optimizer": type(self).__name__, "lr": _rate_config(self.lr), **settings}

    def _check(self, theta: np.ndarray, grad: np.ndarray) -> None:
        name = type(self).__name__
        if theta.shape != grad.shape or theta.dtype != grad.dtype:
            raise ValueError(f"{name}: theta is {_kind(theta)} but grad {_kind(grad)}: they must be alike")
        if theta.ndim != 1 or theta.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} moves flat float32 or float64 vectors, got theta {_kind(theta)}")
        if not (theta.flags.c_contiguous and grad.flags.c_contiguous):
            raise ValueError(f"{name} wants theta and grad contiguous, got strides {theta.strides}, {grad.strides}")
        for key, moment in self.moments.items():
            if moment.shape != theta.shape or moment.dtype != theta.dtype:
                raise ValueError(f"{name} remembers {key} of {_kind(moment)} but theta is {_kind(theta)}: "
                                 f"make a new optimizer for another model")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
        raise NotImplementedError


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
        self.momentum = _in_range("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")

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
        self.rho = _in_range("rho", rho, 0 <= rho < 1, "in [0, 1)")
        self.eps = _in_range("eps", eps, eps > 0, "above 0")

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
        self.beta1 = _in_range("beta1", beta1, 0 <= beta1 < 1, "in [0, 1)")
        self.beta2 = _in_range("beta2", beta2, 0 <= beta2 < 1, "in [0, 1)")
        self.eps = _in_range("eps", eps, eps > 0, "above 0")

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
        self.decay = _in_range("decay", decay, decay >= 0, "at least 0")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float, decay: float = 0.0) -> None:
        super()._update(K, theta, grad, lr, self.decay)


class LBFGS(Optimizer):
    """Whole-batch minimisation by limited-memory BFGS, through SciPy: for objectives without chance, in float64.

    It moves along a direction that the last `memory` gradients suggest, as far as a line search finds good: there is no
    rate to choose. `fit` hands it all pictures at once, and calls each iteration an epoch.
    Source: Liu and Nocedal 1989; SciPy's L-BFGS-B without bounds.
    """

    def __init__(self, memory: int = 10) -> None:
        super().__init__(1.0)
        self.memory = int(_in_range("memory", memory, memory >= 1, "at least 1"))

    def step(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """There is no step on one gradient.

        Raises: ValueError always: it says what to call.
        """
        raise ValueError("L-BFGS asks for the loss at points of its own choice: use train.fit, or minimize(f, theta)")

    def minimize(self, f: Callable[[np.ndarray], tuple[float, np.ndarray]], theta: np.ndarray, iterations: int,
                 after: Callable[[np.ndarray], bool] = lambda theta: False) -> None:
        """Move theta, in place, to where f(theta) -> (value, gradient) is least, in at most so many iterations.

        `after(theta)` is called after each; True ends it. It also ends where no step makes f less.
        Raises: ValueError for a theta that is not float64: the line search lives on the last digits.
        """
        from scipy.optimize import minimize

        if theta.dtype != np.float64:
            raise ValueError(f"L-BFGS needs float64, got theta {_kind(theta)}: build the model in float64, or use "
                             "model.to(np.float64)")

        def callback(intermediate_result: Any) -> None:
            self.steps += 1
            if after(intermediate_result.x):
                raise StopIteration

        found = minimize(f, theta.copy(), jac=True, method="L-BFGS-B", callback=callback,
                         options={"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": self.memory,
                                  "ftol": 0.0, "gtol": 0.0})
        theta[...] = found.x


# -- schedules: the rate of step 0, 1, 2, ... --


@dataclasses.dataclass(frozen=True)
class ExponentialDecay:
    """lr(step) = lr rate^(step / steps): `rate` times as much every `steps` steps, smoothly."""

    lr: float
    rate: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.lr * self.rate ** (step / self.steps)


@dataclasses.dataclass(frozen=True)
class StepDecay:
    """lr(step) = lr factor^floor(step / every): `factor` times as much every `every` steps, at once.

    >>> [StepDecay(1.0, 0.5, every=2)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    factor: float
    every: int

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """lr(step) = end + (lr - end) (1 + cos(π min(step / steps, 1))) / 2: from lr to end, then constant.

    Source: Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    lr: float
    steps: int
    end: float = 0.0

    def __call__(self, step: int) -> float:
        return self.end + (self.lr - self.end) * (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2


@dataclasses.dataclass(frozen=True)
class LinearWarmup:
    """lr(step) = then(0) (step + 1) / steps for the first `steps` steps, and then(step - steps) after them.

    `then` is a rate or a schedule, which counts from the end of the warm-up.

    >>> [LinearWarmup(2, then=0.5)(step) for step in range(4)]
    [0.25, 0.5, 0.5, 0.5]
    """

    steps: int
    then: float | Schedule

    def __call__(self, step: int) -> float:
        after = max(step - self.steps, 0)
        rate = self.then(after) if callable(self.then) else self.then
        return rate * min((step + 1) / self.steps, 1)


def _rate_config(lr: float | Schedule) -> float | dict:
    if not callable(lr):
        return float(lr)
    if dataclasses.is_dataclass(lr) and not isinstance(lr, type):
        settings = {field.name: getattr(lr, field.name) for field in dataclasses.fields(lr)}
        return {"schedule": type(lr).__name__,
                **{key: _rate_config(value) if callable(value) else value for key, value in settings.items()}}
    return {"schedule": getattr(lr, "__qualname__", type(lr).__name__)}


def _in_range(name: str, value: float, ok: bool, range_: str) -> float:
    if not ok or not math.isfinite(value):
        raise ValueError(f"{name} must be finite and {range_}, got {value}")
    return float(value)


def _kind(vector: np.ndarray) -> str:
    return f"{vector.dtype} {vector.shape}"
