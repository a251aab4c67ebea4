"""What `npae gradcheck` walks: every layer of the catalogue, every loss and penalty, every recipe as a whole model.
Whatever has kernels is walked twice, on the textbook and on the fast ones. Each walk gives a report of
`npae.gradcheck`; a backward pass that raises is a report too, and the walk goes on.
"""
from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from npae import gradcheck, losses, models, penalties, recipes
from npae.data import Dataset
from npae.data.batches import binarizer
from npae.gradcheck import Line, Report
from npae.kernels import fast, reference
from npae.lab import catalogue
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential, Sigmoid

HOUSE = Path(__file__).parent.parent  # not Numba's or NumPy's files: where to look is the last line of npae
KERNELS: dict[str, ModuleType] = {"reference": reference, "fast": fast}

GAIN = 2  # fresh weights pass so little on through a deep ReLU net that rounding hides its first gradients
MODEL_ENTRIES = 4  # of each parameter of a recipe's net: 14 nets, some 12 parameters each, 6 losses an entry


def reports(target: str = "all") -> Iterator[tuple[str, Report]]:
    """(name, report) of a layer, a loss, a penalty, a recipe, or of all; made one after the other.

    Raises ValueError: a name that is none of them (they are listed).
    """
    walks = list(_walks())
    known = dict.fromkeys(("all", *(kind for kind, _, _ in walks)))
    if target not in known:
        raise ValueError(f"nothing to check is called {target!r}: use one of {', '.join(known)}")
    for kind, name, check in walks:
        if target in ("all", kind):
            yield name, _attempt(name, check)


def _walks() -> Iterator[tuple[str, str, Callable[[], Report]]]:
    """(what it is called on the command line, its name, its check) of everything that there is to walk."""
    both: list[tuple[str, str, Callable[[ModuleType], Report]]] = [
        *((case.kind, case.name, partial(_layer, case)) for case in catalogue.cases()),
        *((name, name, check) for name, check in OBJECTIVES.items()),
        *((name, name, partial(_recipe, name)) for name in recipes.RECIPES)]
    for kind, name, check in both:
        for label, kernels in KERNELS.items():
            yield kind, f"{name}, {label} kernels", partial(check, kernels)
    for name, penalty in PENALTIES.items():
        yield name, name, penalty


def _attempt(name: str, check: Callable[[], Report]) -> Report:
    """The report of a check; of one that raises, where in npae, and why."""
    try:
        return check()
    except Exception as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(HOUSE)]
        why = " ".join(str(error).split())[:300]
        raised = f"raised {type(error).__name__} at {ours[-1].filename}:{ours[-1].lineno}: {why}"
        return Report(f"Gradient check of {name}", lines=(Line("FAIL", "forward and backward run", raised),))


def line(report: Report) -> str:
    """The report of a right gradient in one line."""
    verified = sum(row.count(gradcheck.Verdict.PASS) for row in report.rows)
    unverified = sum(row.unverified for row in report.rows)
    worst = max((entry.ratio for row in report.rows for entry in row.entries), default=0.0)
    return (f"{verified} derivatives verified, {unverified} KINK or UNRESOLVED, worst error {worst:.2g} of its limit")


def _layer(case: catalogue.Case, kernels: ModuleType) -> Report:
    shape = case.input_shapes[0]
    x = np.random.default_rng(1).standard_normal(shape)
    rng = np.random.default_rng(2) if case.random else None
    return gradcheck.check(case.make(np.random.default_rng(0), np.float64, kernels), x, rng=rng, entries=200)


def _recipe(name: str, kernels: ModuleType) -> Report:
    """The recipe's own model with larger weights, untrained, on two pictures of noise."""
    recipe = recipes.get(name)
    settings, _ = recipe.resolve({})
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (10, 28, 28, 1), np.uint8)
    noise = Dataset(grey, np.arange(10), grey, np.arange(10), "noise")
    model = recipe.build(settings, noise, rng).to(kernels=kernels)
    for p in model.weights:
        p.value *= GAIN
    x, y = rng.random((2, *noise.shape)), np.array([3, 7])
    transform = binarizer(settings["binarize"])
    return gradcheck.check(model, transform(x, rng) if transform else x, y=y, rng=rng, entries=MODEL_ENTRIES)


def _clamped_vae(kernels: ModuleType) -> Report:
    """One logvar below its range, one inside, one above: those outside pass on no gradient."""
    rng = np.random.default_rng(0)
    head = Dense(12, 6, rng=rng, kernels=kernels)
    head.b.value[3:] = -40, 0.5, 25
    decoder = Sequential([Dense(3, 12, rng=rng, kernels=kernels), Reshape((2, 3, 2))])
    model = models.VAE(Sequential([Flatten(), head]), decoder, likelihood=losses.SquaredError(kernels=kernels))
    return gradcheck.check(model, rng.random((3, 2, 3, 2)), rng=rng)


def _loss(make: Callable[..., losses.Likelihood], kernels: ModuleType) -> Report:
    likelihood = make(kernels=kernels)
    rng = np.random.default_rng(0)
    x = rng.random((3, 4, 5))
    return gradcheck.check_function(lambda output: likelihood.nll(output, x), 2 * rng.standard_normal(x.shape))


def _kl(sampled: bool) -> Report:
    """theta = [mu | logvar], as an encoder gives them."""
    rng = np.random.default_rng(0)
    eps = rng.standard_normal((3, 4))

    def kl(theta: np.ndarray) -> tuple[float, np.ndarray]:
        mu, logvar = theta[:, :4], theta[:, 4:]
        value, dmu, dlogvar = (penalties.gaussian_kl_sampled(mu, logvar, eps) if sampled
                               else penalties.gaussian_kl(mu, logvar))
        return value, np.hstack([dmu, dlogvar])

    return gradcheck.check_function(kl, rng.standard_normal((3, 8)))


def _deep_contractive(kernels: ModuleType) -> Report:
    """The gradient of a tangent through two layers: their slopes and their bends."""
    rng = np.random.default_rng(0)
    encoder = Sequential([Conv2d(1, 2, 3, stride=2, activation="tanh", rng=rng, kernels=kernels), Flatten(),
                          Dense(12, 4, activation="sigmoid", rng=rng, kernels=kernels)])
    decoder = Sequential([Dense(4, 20, rng=rng, kernels=kernels), Reshape((4, 5, 1))])
    model = models.ContractiveAutoencoder(encoder, decoder, likelihood=losses.SquaredError(kernels=kernels), lam=0.7)
    return gradcheck.check(model, rng.random((3, 4, 5, 1)), rng=rng)


def _sparsity() -> Report:
    rng = np.random.default_rng(0)
    return gradcheck.check_function(lambda h: penalties.sparsity_kl(h, 0.2), rng.uniform(0.05, 0.6, (3, 4)))


def _contractive() -> Report:
    """theta = [W; b] of a sigmoid layer: h depends on W, and the penalty on both."""
    rng = np.random.default_rng(0)
    x, bend = rng.standard_normal((3, 5)), Sigmoid()

    def jac(theta: np.ndarray) -> tuple[float, np.ndarray]:
        W, b = theta[:5], theta[5]
        h = bend.f(x @ W + b)
        value, dh, dW = penalties.contractive(h, W, bend)
        dz = bend.slope(h) * dh
        return value, np.vstack([dW + x.T @ dz, dz.sum(0)])

    return gradcheck.check_function(jac, rng.standard_normal((6, 4)))


def _weight_decay() -> Report:
    def decay(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, dWs = penalties.weight_decay(np.split(theta, [2], axis=1))
        return value, np.hstack(dWs)

    return gradcheck.check_function(decay, np.random.default_rng(0).standard_normal((3, 5)))


OBJECTIVES: dict[str, Callable[[ModuleType], Report]] = {
    "Bernoulli": partial(_loss, losses.Bernoulli),
    "Gaussian": partial(_loss, partial(losses.Gaussian, 0.5)),
    "SquaredError": partial(_loss, partial(losses.SquaredError, 0.5)),
    "VAE": _clamped_vae,
    "ContractiveAutoencoder": _deep_contractive,
}
PENALTIES: dict[str, Callable[[], Report]] = {
    "gaussian_kl": partial(_kl, False),
    "gaussian_kl_sampled": partial(_kl, True),
    "sparsity_kl": _sparsity,
    "contractive": _contractive,
    "weight_decay": _weight_decay,
}
