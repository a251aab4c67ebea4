"""What all optimizers share: a step on two flat vectors, a rate, clipping, and a memory that a file can keep."""
import math
from types import ModuleType
from typing import Any, Self

import numpy as np

from npae import kernels as _kernels
from npae.checks import real
from npae.copying import deep_copy
from npae.kernels.workspace import aligned
from npae.optim.schedules import Schedule, rate_config


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
        self.clip_norm = None if clip_norm is None else in_range("clip_norm", clip_norm, real(clip_norm) > 0, "above 0")
        self.kernels = kernels
        self.steps = 0
        self.moments: dict[str, np.ndarray] = {}
        if not callable(lr):
            in_range("lr", lr, real(lr) >= 0, "at least 0")

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
        in_range("lr", lr, real(lr) >= 0, "at least 0")
        K = _kernels.resolve(self.kernels)
        if self.clip_norm is not None:
            clip_global_norm(grad, self.clip_norm, K)
        if not self.moments:
            self.moments = {name: aligned(theta.size, theta.dtype, fill=0) for name in self.moment_names}
        self.steps += 1
        self._update(K, theta, grad, lr)

    def state(self) -> dict:
        """The number of steps, the rate where it is a number, and copies of the moments: all that a bit-exact
        continuation needs beside `config`."""
        return {"steps": self.steps, "lr": None if callable(self.lr) else float(self.lr),
                **{name: moment.copy() for name, moment in self.moments.items()}}

    def restore(self, state: dict) -> None:
        """Take over what `state` gave, the rate too, where it is no schedule.

        Raises: ValueError for another optimizer's state: the names must match exactly.
        """
        wanted = {"steps", "lr", *self.moment_names} if state.get("steps") else {"steps", "lr"}
        if set(state) != wanted:
            raise ValueError(f"{type(self).__name__} at step {state.get('steps')} restores {sorted(wanted)}, "
                             f"got {sorted(state)}: this is another optimizer's state")
        if callable(self.lr) != (state["lr"] is None):
            raise ValueError(f"{type(self).__name__} has the rate {self.lr!r}, and the state {state['lr']!r}: "
                             "restore into an optimizer with a schedule where there was one")
        if not callable(self.lr):
            self.lr = in_range("lr", state["lr"], real(state["lr"]) >= 0, "at least 0")
        self.steps = int(state["steps"])
        self.moments = {name: _aligned_copy(state[name]) for name in self.moment_names if name in state}

    def config(self) -> dict:
        """Name and settings as JSON can hold them; a schedule shows as its own config."""
        settings = {key: value for key, value in vars(self).items() if key not in ("lr", "kernels", "steps", "moments")}
        return {"optimizer": type(self).__name__, "lr": rate_config(self.lr), **settings}

    def _check(self, theta: np.ndarray, grad: np.ndarray) -> None:
        name = type(self).__name__
        if theta.shape != grad.shape or theta.dtype != grad.dtype:
            raise ValueError(f"{name}: theta is {kind(theta)} but grad {kind(grad)}: they must be alike")
        if theta.ndim != 1 or theta.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} moves flat float32 or float64 vectors, got theta {kind(theta)}")
        if not (theta.flags.c_contiguous and grad.flags.c_contiguous):
            raise ValueError(f"{name} wants theta and grad contiguous, got strides {theta.strides}, {grad.strides}")
        for key, moment in self.moments.items():
            if moment.shape != theta.shape or moment.dtype != theta.dtype:
                raise ValueError(f"{name} remembers {key} of {kind(moment)} but theta is {kind(theta)}: "
                                 f"make a new optimizer for another model")

    def _update(self, K: ModuleType, theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
        raise NotImplementedError


def in_range(name: str, value: Any, ok: bool, range_: str) -> float:
    """The number itself, if `ok` and finite; ValueError with the range in words otherwise."""
    if not ok or not math.isfinite(value):
        raise ValueError(f"{name} must be finite and {range_}, got {value}")
    return float(value)


def kind(vector: np.ndarray) -> str:
    """'float32 (10,)', for messages."""
    return f"{vector.dtype} {vector.shape}"


def _aligned_copy(moment: np.ndarray) -> np.ndarray:
    twin = aligned(moment.shape, moment.dtype)
    twin[...] = moment
    return twin
