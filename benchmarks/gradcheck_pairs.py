"""Layers, losses and penalties of the lab as pairs of NumPy functions, forward and backward, which is what any gradient
checker can be handed.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from npae import gradcheck, losses, penalties
from npae.kernels import reference
from npae.lab.catalogue import Case
from npae.lab.promises import NOISE
from npae.lab.subjects.layers import CASES
from npae.layers import Reparameterize, Sigmoid

Arrays = dict[str, np.ndarray]
POINTS = 10  # inputs drawn at most until npae's check of the sound code has something to say of every entry


@dataclass(frozen=True)
class Pair:
    """forward(arrays) -> y and backward(arrays, dy) -> a gradient for each array: all that a tool is given.

    `report(arrays, fast)` is npae's gradient check of the two.
    """

    forward: Callable[[Arrays], Any]
    backward: Callable[[Arrays, Any], Arrays]
    report: Callable[[Arrays, bool], gradcheck.Report]


@dataclass(frozen=True)
class Subject:
    """Something that a bug is planted in; `build` makes the pair anew, so that a bug in a constructor is in it too."""

    build: Callable[[], Pair]
    candidates: Callable[[], Iterator[Iterator[Arrays]]]
    """For each point that is looked at, draws of it."""
    pictures: tuple[str, ...]
    """The arrays that have pictures along their first axis."""

    def points(self) -> list[Arrays]:
        """Of each point the first draw that is not vacuous or at a kink for the sound code: the same for all tools."""
        pair, found = self.build(), []
        for draws in self.candidates():
            drawn = [next(draws)]
            while not pair.report(copies(drawn[-1]), False).ok and len(drawn) < POINTS:
                drawn.append(next(draws))
            found.append(drawn[-1])
        return found


def copies(arrays: Arrays) -> Arrays:
    """Arrays that a buggy forward may write into."""
    return {name: a.copy() for name, a in arrays.items()}


def layer_pair(case: Case) -> Pair:
    """One layer that stays, as in a user's program; each forward gets the arrays and equal noise."""
    layer = case.make(np.random.default_rng(0), np.float64, reference)

    def forward(arrays: Arrays) -> np.ndarray:
        for p in layer.params:
            if p.name in arrays:  # a bug may have made one more
                p.value[...] = arrays[p.name]
        layer.give_rng(np.random.default_rng(NOISE) if case.random else None)
        return layer.forward(arrays["x"])

    def backward(arrays: Arrays, dy: np.ndarray) -> Arrays:
        forward(arrays)
        layer.zero_grad()
        dx = layer.backward(dy)
        return {"x": dx, **{p.name: p.grad.copy() for p in layer.params}}

    def report(arrays: Arrays, fast: bool) -> gradcheck.Report:
        fresh = case.make(np.random.default_rng(0), np.float64, reference)
        return gradcheck.check(fresh, arrays["x"], rng=np.random.default_rng(NOISE) if case.random else None, fast=fast)

    return Pair(forward, backward, report)


def layer_subject(case: Case) -> Subject:
    """Gaussian inputs of every shape of the case, the parameters as they are made."""
    def draws(shape: tuple[int, ...]) -> Iterator[Arrays]:
        rng, layer = np.random.default_rng([0, *shape]), case.make(np.random.default_rng(0), np.float64, reference)
        values = {p.name: p.value.copy() for p in layer.params}
        while True:
            yield {"x": rng.standard_normal(shape), **values}

    return Subject(partial(layer_pair, case), lambda: map(draws, case.input_shapes), ("x",))


def scalar_pair(f: Callable[[Arrays], tuple[float, Arrays]]) -> Pair:
    """A function that gives its value and its gradients together."""
    return Pair(lambda arrays: np.float64(f(arrays)[0]),
                lambda arrays, dy: {name: dy * g for name, g in f(arrays)[1].items()},
                lambda arrays, fast: gradcheck.check_function(f, arrays, fast=fast))


def scalar_subject(f: Callable[..., tuple[Any, ...]], draw: Callable[[np.random.Generator, int], Arrays],
                   pictures: tuple[str, ...]) -> Subject:
    """`f(**arrays)` gives a value and the gradients of the arrays in their order; N = 5, and N = 1."""
    def value(arrays: Arrays) -> tuple[float, Arrays]:
        total, *gradients = f(**arrays)
        return total, dict(zip(arrays, gradients, strict=True))

    def draws(n: int) -> Iterator[Arrays]:
        rng = np.random.default_rng([0, n])
        while True:
            yield draw(rng, n)

    return Subject(lambda: scalar_pair(value), lambda: map(draws, (5, 1)), pictures)


def _likelihood(likelihood: losses.Likelihood) -> Subject:
    def nll(output: np.ndarray) -> tuple[float, np.ndarray]:
        return likelihood.nll(output, np.random.default_rng(6).random(output.shape))

    return scalar_subject(nll, lambda rng, n: {"output": 2 * rng.standard_normal((n, 2, 3, 2))}, ("output",))


def _sampled(mu: np.ndarray, logvar: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    eps = np.random.default_rng(7).standard_normal((3 * len(mu), mu.shape[1]))
    return penalties.gaussian_kl_sampled(mu, logvar, eps)


def _decay(W: np.ndarray, V: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    value, (dW, dV) = penalties.weight_decay([W, V], reference)
    return value, dW, dV


def _codes(rng: np.random.Generator, n: int) -> Arrays:
    return {"mu": rng.standard_normal((n, 4)), "logvar": rng.standard_normal((n, 4))}


def _reparameterize(samples: int) -> Subject:
    def make(rng: np.random.Generator, dtype: Any = np.float32, kernels: Any = None) -> Reparameterize:
        return Reparameterize(samples).to(dtype, kernels)

    return layer_subject(Case("Reparameterize", f"{samples} samples", make, ((5, 8), (1, 8)), False, True))


@cache
def known() -> dict[str, Subject]:
    """Subjects of the lab that are a forward and a backward, by name: the same settings and sizes as there."""
    return {
        **{case.name: layer_subject(case) for case in CASES},
        "reparameterize": _reparameterize(1), "reparameterize, 3 samples": _reparameterize(3),
        "Bernoulli": _likelihood(losses.Bernoulli(kernels=reference)),
        "Gaussian": _likelihood(losses.Gaussian(0.6, kernels=reference)),
        "SquaredError": _likelihood(losses.SquaredError(0.7, kernels=reference)),
        "gaussian_kl": scalar_subject(lambda mu, logvar: penalties.gaussian_kl(mu, logvar), _codes, ("mu", "logvar")),
        "gaussian_kl_sampled": scalar_subject(_sampled, _codes, ("mu", "logvar")),
        "sparsity_kl": scalar_subject(lambda h: penalties.sparsity_kl(h, 0.15),
                                      lambda rng, n: {"h": rng.uniform(0.05, 0.6, (n, 4))}, ("h",)),
        "contractive": scalar_subject(lambda h, W: penalties.contractive(h, W, Sigmoid()), lambda rng, n: {
            "h": rng.uniform(0.1, 0.9, (n, 4)), "W": rng.standard_normal((4, 4))}, ("h",)),
        "weight_decay": scalar_subject(_decay, lambda rng, n: {
            "W": rng.standard_normal((3, 4)), "V": rng.standard_normal((4, 2))}, ()),
    }
