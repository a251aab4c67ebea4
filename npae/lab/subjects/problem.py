"""A small model at one point, with what is known of its objective from elsewhere; noise that stays with its picture.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special

from npae import losses, models
from npae.gradcheck.facts import Facts
from npae.layers import Dense, Flatten, Layer, Reshape, Sequential

N, SHAPE, D, UNITS = 5, (2, 3, 2), 12, 4
NUMBERS = {"the batch size": N, "the number of pixels": 6, "the number of numbers a picture": D,
           "the number of units": UNITS}

Terms = dict[str, float]
Values = Mapping[str, np.ndarray]


class NoiseOf:
    """A generator that draws the noise of all n pictures of a batch, and hands out that of some, in some order.

    k samples a picture stand sample by sample, as everywhere: rows 0 ... n - 1 are those of the first sample.
    """

    def __init__(self, n: int, places: Sequence[int], seed: int = 0) -> None:
        self.rng, self.n, self.places = np.random.default_rng(seed), n, list(places)

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """As of a Generator."""
        return self._handed(self.rng.standard_normal, shape)

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """As of a Generator."""
        return self._handed(self.rng.random, shape)

    def _handed(self, draw: Callable[..., np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        drawn = draw((shape[0] // len(self.places), self.n, *shape[1:]))
        return drawn[:, self.places].reshape(shape)


@dataclass(frozen=True)
class Problem:
    """A model at one point, and what is known of its objective from elsewhere."""

    make: Callable[[], Any]
    """A fresh model in float64, with equal values each time."""
    weights: Mapping[str, float]
    """loss = the sum of the terms with these weights; none: the definition has a "loss" of its own."""
    define: Callable[[Values, np.ndarray, Any, Any], Terms]
    """(values of the parameters, x, y, rng) -> the terms, written independently."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    y: np.ndarray | None = None
    noise: bool = True
    mean: bool = True
    """Whether the loss of a batch is the mean of those of its pictures."""

    @property
    def x(self) -> np.ndarray:
        """Pictures of grey levels, none of them near 0 or 1."""
        return np.random.default_rng(5).uniform(0.1, 0.9, (N, *SHAPE))

    @property
    def facts(self) -> Facts:
        """Names of the numbers of the problem."""
        return Facts({**NUMBERS, **self.numbers})

    def terms(self, places: Sequence[int], seed: int = 0, model: Any = None, n: int = N) -> tuple[Terms, np.ndarray]:
        """The terms and the gradient of these pictures, each with its own noise whatever stands beside it."""
        model = model or self.make()
        model.zero_grad()
        y = None if self.y is None else self.y[list(places)]
        terms = model.loss(self.x[list(places)], y, **self.chance(NoiseOf(n, places, seed)))
        model.backward()
        return terms, model.grad.copy()

    def chance(self, rng: Any) -> dict[str, Any]:
        """What loss takes beside x and y."""
        return {"rng": rng} if self.noise else {}


def stir(model: Any, gain: float = 1.0) -> Any:
    """Other values than those at birth: weights off their start, biases off zero."""
    rng = np.random.default_rng(3)
    for p in model.params:
        p.value[...] = gain * p.value + 0.3 * rng.standard_normal(p.value.shape)
    return model


def nets(kernels: ModuleType, code: int, *, activation: str | None = "sigmoid", more: tuple[int, int] = (0, 0),
         before: Sequence[Layer] = ()) -> tuple[Sequential, Sequential]:
    """One dense layer down to a code and one up again; `more` inputs of both for labels."""
    rng = np.random.default_rng(1)
    on: dict[str, Any] = {"dtype": np.float64, "kernels": kernels}
    encoder = Dense(D + more[0], code, activation=activation, rng=rng, **on)
    decoder = Dense(UNITS + more[1], D, rng=rng, **on)
    return Sequential([*before, Flatten(), encoder]), Sequential([decoder, Reshape(SHAPE)])


def values(model: Any) -> dict[str, np.ndarray]:
    """Copies of the parameters by name."""
    return {p.name: p.value.copy() for p in model.params}


def squared(y: np.ndarray, x: np.ndarray) -> float:
    """The squared distance of rows from pictures, mean over pictures."""
    return float(np.linalg.norm(y.reshape(x.shape) - x) ** 2 / len(x))


def code(v: Values, x: np.ndarray) -> np.ndarray:
    """expit(x W + b), by einsum."""
    return special.expit(np.einsum("ni,ij->nj", x.reshape(len(x), -1), v["encoder.1.W"]) + v["encoder.1.b"])


def painted(v: Values, h: np.ndarray) -> np.ndarray:
    """h W + b of the decoder; W is the encoder's transposed where it is tied."""
    W = v["decoder.0.W"] if "decoder.0.W" in v else v["encoder.1.W"].T
    return np.einsum("ni,ij->nj", h, W) + v["decoder.0.b"]


def plain(kernels: ModuleType) -> models.Autoencoder:
    """The autoencoder that others are equal to in a limit."""
    return stir(models.Autoencoder(*nets(kernels, UNITS), likelihood=losses.SquaredError(kernels=kernels)))
