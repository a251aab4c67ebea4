"""Learning rates that change: the rate of step 0, 1, 2, ..."""
import dataclasses
import math
from collections.abc import Callable

import numpy as np

from npae.checks import whole

Schedule = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class ExponentialDecay:
    """lr(step) = lr rate^(step / steps): `rate` times as much every `steps` steps, smoothly."""

    lr: float
    rate: float
    steps: int

    def __post_init__(self) -> None:
        whole(self.steps, "ExponentialDecay: steps")

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

    def __post_init__(self) -> None:
        whole(self.every, "StepDecay: every")

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

    def __post_init__(self) -> None:
        whole(self.steps, "CosineDecay: steps")

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

    def __post_init__(self) -> None:
        whole(self.steps, "LinearWarmup: steps")

    def __call__(self, step: int) -> float:
        after = max(step - self.steps, 0)
        rate = self.then(after) if callable(self.then) else self.then
        return rate * min((step + 1) / self.steps, 1)


def rate_config(lr: float | Schedule) -> float | dict:
    """A rate or a schedule as JSON can hold it."""
    if not callable(lr):
        return float(lr)
    if dataclasses.is_dataclass(lr) and not isinstance(lr, type):
        settings = {field.name: getattr(lr, field.name) for field in dataclasses.fields(lr)}
        return {"schedule": type(lr).__name__,
                **{key: rate_config(value) if callable(value) else np.asarray(value).item()
                   for key, value in settings.items()}}
    return {"schedule": getattr(lr, "__qualname__", type(lr).__name__)}
