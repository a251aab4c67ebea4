"""Where derivatives are taken when a method is compared, or a curve is drawn: every layer, loss, penalty, model and
recipe at one point, as `gradcheck` takes it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from npae import gradcheck, losses, models, penalties, recipes
from npae.data import Dataset
from npae.data.batches import binarizer
from npae.gradcheck import Report
from npae.gradcheck.curves import VCurve, v_curve, v_curve_of
from npae.gradcheck.taylor import TaylorReport, taylor
from npae.lab import catalogue
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential, Sigmoid

GAIN = 2  # fresh weights pass so little on through a deep ReLU net that rounding hides its first gradients
MODEL_ENTRIES = 4  # of each parameter of a recipe's net: 14 nets, some 12 parameters each, 6 losses an entry
LAYER_ENTRIES = 200


@dataclass(frozen=True)
class Target:
    """A layer or a model, with a batch, labels and noise."""

    thing: Any
    x: np.ndarray
    y: np.ndarray | None = None
    rng: np.random.Generator | None = None
    entries: int | None = None

    def check(self, method: str = "richardson", fast: bool = False) -> Report:
        """Its gradient, by a method, or along directions."""
        return gradcheck.check(self.thing, self.x, y=self.y, rng=self.rng, entries=self.entries, method=method,
                               fast=fast)

    def v_curve(self) -> VCurve:
        """How wrong each estimate is, step by step."""
        return v_curve_of(self.thing, self.x, y=self.y, rng=self.rng)

    def taylor(self) -> TaylorReport:
        """What the gradient leaves of phi."""
        return taylor(self.thing, self.x, self.y, self.rng)


@dataclass(frozen=True)
class Function:
    """f(theta) -> (value, gradient), with theta."""

    f: Callable[[np.ndarray], tuple[float, np.ndarray]]
    theta: np.ndarray

    def check(self, method: str = "richardson", fast: bool = False) -> Report:
        """Its gradient, by a method, or along directions."""
        return gradcheck.check_function(self.f, self.theta, method=method, fast=fast)

    def v_curve(self) -> VCurve:
        """How wrong each estimate is, step by step."""
        return v_curve(self.f, self.theta)

    def taylor(self) -> TaylorReport:
        """Not made of a function.

        Raises ValueError: always.
        """
        raise ValueError("the Taylor plot is drawn of layers and models: a loss or a penalty has the V-curve alone")


Point = Target | Function


def points(kind: str, kernels: ModuleType) -> Iterator[tuple[str, Point]]:
    """(name, point) of all that has this name: every case of a layer, or one loss, penalty, model or recipe."""
    if kind in catalogue.KINDS:
        yield from ((case.name, layer(case, kernels)) for case in catalogue.cases(kind))
    elif kind in recipes.RECIPES:
        yield kind, recipe(kind, kernels)
    elif kind in OTHERS:
        yield kind, OTHERS[kind](kernels)


def layer(case: catalogue.Case, kernels: ModuleType) -> Target:
    """One case of the catalogue on its first shape."""
    x = np.random.default_rng(1).standard_normal(case.input_shapes[0])
    rng = np.random.default_rng(2) if case.random else None
    return Target(case.make(np.random.default_rng(0), np.float64, kernels), x, None, rng, LAYER_ENTRIES)


def recipe(name: str, kernels: ModuleType) -> Target:
    """The recipe's own model with larger weights, untrained, on two pictures of noise."""
    chosen = recipes.get(name)
    settings, _ = chosen.resolve({})
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (10, 28, 28, 1), np.uint8)
    noise = Dataset(grey, np.arange(10), grey, np.arange(10), "noise")
    model = chosen.build(settings, noise, rng).to(kernels=kernels)
    for p in model.weights:
        p.value *= GAIN
    x, y = rng.random((2, *noise.shape)), np.array([3, 7])
    transform = binarizer(settings["binarize"])
    return Target(model, transform(x, rng) if transform else x, y, rng, MODEL_ENTRIES)


def _clamped_vae(kernels: ModuleType) -> Target:
    """One logvar below its range, one inside, one above: those outside pass on no gradient."""
    rng = np.random.default_rng(0)
    head = Dense(12, 6, rng=rng, kernels=kernels)
    head.b.value[3:] = -40, 0.5, 25
    decoder = Sequential([Dense(3, 12, rng=rng, kernels=kernels), Reshape((2, 3, 2))])
    model = models.VAE(Sequential([Flatten(), head]), decoder, likelihood=losses.SquaredError(kernels=kernels))
    return Target(model, rng.random((3, 2, 3, 2)), rng=rng)


def _deep_contractive(kernels: ModuleType) -> Target:
    """The gradient of a tangent through two layers: their slopes and their bends."""
    rng = np.random.default_rng(0)
    encoder = Sequential([Conv2d(1, 2, 3, stride=2, activation="tanh", rng=rng, kernels=kernels), Flatten(),
                          Dense(12, 4, activation="sigmoid", rng=rng, kernels=kernels)])
    decoder = Sequential([Dense(4, 20, rng=rng, kernels=kernels), Reshape((4, 5, 1))])
    model = models.ContractiveAutoencoder(encoder, decoder, likelihood=losses.SquaredError(kernels=kernels), lam=0.7)
    return Target(model, rng.random((3, 4, 5, 1)), rng=rng)


def _loss(make: Callable[..., losses.Likelihood], kernels: ModuleType) -> Function:
    likelihood = make(kernels=kernels)
    rng = np.random.default_rng(0)
    x = rng.random((3, 4, 5))
    return Function(lambda output: likelihood.nll(output, x), 2 * rng.standard_normal(x.shape))


def _kl(sampled: bool, kernels: ModuleType) -> Function:
    """theta = [mu | logvar], as an encoder gives them."""
    rng = np.random.default_rng(0)
    eps = rng.standard_normal((3, 4))

    def kl(theta: np.ndarray) -> tuple[float, np.ndarray]:
        mu, logvar = theta[:, :4], theta[:, 4:]
        value, dmu, dlogvar = (penalties.gaussian_kl_sampled(mu, logvar, eps) if sampled
                               else penalties.gaussian_kl(mu, logvar))
        return value, np.hstack([dmu, dlogvar])

    return Function(kl, rng.standard_normal((3, 8)))


def _sparsity(kernels: ModuleType) -> Function:
    rng = np.random.default_rng(0)
    return Function(lambda h: penalties.sparsity_kl(h, 0.2), rng.uniform(0.05, 0.6, (3, 4)))


def _contractive(kernels: ModuleType) -> Function:
    """theta = [W; b] of a sigmoid layer: h depends on W, and the penalty on both."""
    rng = np.random.default_rng(0)
    x, bend = rng.standard_normal((3, 5)), Sigmoid()

    def jac(theta: np.ndarray) -> tuple[float, np.ndarray]:
        W, b = theta[:5], theta[5]
        h = bend.f(x @ W + b)
        value, dh, dW = penalties.contractive(h, W, bend)
        dz = bend.slope(h) * dh
        return value, np.vstack([dW + x.T @ dz, dz.sum(0)])

    return Function(jac, rng.standard_normal((6, 4)))


def _weight_decay(kernels: ModuleType) -> Function:
    def decay(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, dWs = penalties.weight_decay(np.split(theta, [2], axis=1), kernels)
        return value, np.hstack(dWs)

    return Function(decay, np.random.default_rng(0).standard_normal((3, 5)))


OTHERS: dict[str, Callable[[ModuleType], Point]] = {
    "Bernoulli": partial(_loss, losses.Bernoulli),
    "Gaussian": partial(_loss, partial(losses.Gaussian, 0.5)),
    "SquaredError": partial(_loss, partial(losses.SquaredError, 0.5)),
    "gaussian_kl": partial(_kl, False),
    "gaussian_kl_sampled": partial(_kl, True),
    "sparsity_kl": _sparsity,
    "contractive": _contractive,
    "weight_decay": _weight_decay,
    "VAE": _clamped_vae,
    "ContractiveAutoencoder": _deep_contractive,
}
