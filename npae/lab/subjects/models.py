"""The models, each as a small net under the whole protocol: differences of the whole loss, the definition of each term
by NumPy and SciPy, batches, statistics, state. `contractive` and `variational` have the others.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special

from npae import losses, models
from npae.gradcheck import Report
from npae.gradcheck.report import attempt
from npae.lab.subjects import contractive, latent, variational
from npae.lab.subjects.parts import differs, moments, off_the_mean, reference
from npae.lab.subjects.problem import (
    SHAPE,
    UNITS,
    D,
    N,
    Problem,
    Terms,
    Values,
    code,
    nets,
    painted,
    plain,
    squared,
    stir,
)
from npae.lab.subjects.whole import limit, model_report
from npae.layers import Dense, Dropout, Flatten, Reshape, Sequential, TiedDense

RHO, BETA, LAM = 0.15, 0.7, 0.3
DRAWN = 40_000  # numbers that corruption is counted on


def _tied_nets(kernels: ModuleType) -> tuple[Sequential, Sequential]:
    first = Dense(D, UNITS, activation="sigmoid", rng=np.random.default_rng(1), dtype=np.float64, kernels=kernels)
    return Sequential([Flatten(), first]), Sequential([TiedDense(first), Reshape(SHAPE)])


def _recon(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
    return {"recon": squared(painted(v, code(v, x)), x)}


def autoencoder(kernels: ModuleType) -> Report:
    """Squared error behind one layer down and one up; beside it a net with dropout, which is quiet when asked."""
    def quiet() -> str:
        encoder, decoder = nets(kernels, UNITS, before=[Dropout(0.5)])
        model = models.Autoencoder(encoder, decoder, likelihood=losses.SquaredError(kernels=kernels))
        x = problem.x
        before = model.encode(x)
        model.loss(x, rng=np.random.default_rng(0))
        return "" if np.array_equal(model.encode(x), before) else "dropout is still noisy after a loss"

    problem = Problem(lambda: plain(kernels), {"recon": 1}, _recon, noise=False)
    return model_report("Check of Autoencoder", problem, [attempt("noise layers are quiet when encoding", quiet)])


def autoencoder_tied(kernels: ModuleType) -> Report:
    """W and its transpose; the gradient is the sum of the two that an untied net has."""
    def make() -> Any:
        return stir(models.Autoencoder(*_tied_nets(kernels), likelihood=losses.SquaredError(kernels=kernels)))

    def sum_of_two() -> str:
        tied, untied = make(), plain(kernels)
        W, b = (p.value for p in tied.encoder.params)
        for p, value in zip(untied.params, (W, b, W.T, tied.decoder.params[1].value), strict=True):
            p.value[...] = value
        for model in (tied, untied):
            problem.terms(range(N), model=model)
        one, two = (p.grad for p in untied.weights)
        return differs("the gradient of encoder.1.W", tied.weights[0].grad, one + two.T)

    problem = Problem(make, {"recon": 1}, _recon, noise=False)
    return model_report("Check of Autoencoder, tied", problem, [
        reference("its gradient is the sum of the untied net's two", sum_of_two)])


def _decay(v: Values) -> float:
    return math.fsum(float(w) ** 2 for name, value in v.items() if name.endswith("W") for w in value.ravel())


def _decaying(kernels: ModuleType, tied: bool, title: str) -> Report:
    def make() -> Any:
        pair = _tied_nets(kernels) if tied else nets(kernels, UNITS)
        return stir(models.WeightDecayAutoencoder(*pair, likelihood=losses.SquaredError(kernels=kernels), lam=LAM))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        return {"recon": squared(painted(v, code(v, x)), x), "decay": _decay(v)}

    problem = Problem(make, {"recon": 1, "decay": LAM}, define, {"lam": LAM}, noise=False)
    lines = [] if tied else [limit("lam = 0 gives the plain autoencoder", problem, lambda: plain(kernels), lam=0.0)]
    return model_report(title, problem, lines)


def weight_decay(kernels: ModuleType) -> Report:
    """lam Σ W² beside the pixels, biases left out."""
    return _decaying(kernels, False, "Check of WeightDecayAutoencoder")


def weight_decay_tied(kernels: ModuleType) -> Report:
    """A W that two layers hold counts once."""
    return _decaying(kernels, True, "Check of WeightDecayAutoencoder, tied")


def denoising(kernels: ModuleType) -> Report:
    """Masked pictures in, clean ones asked for; the statistics of all three corruptions."""
    p = 0.3

    def make(corruption: str = "masking") -> Any:
        pair, likelihood = nets(kernels, UNITS), losses.SquaredError(kernels=kernels)
        return stir(models.DenoisingAutoencoder(*pair, likelihood=likelihood, corruption=corruption, amount=p))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        return {"recon": squared(painted(v, code(v, np.where(rng.random(x.shape) < p, 0, x))), x)}

    def corrupted(corruption: str) -> np.ndarray:
        return make(corruption).corrupt(np.full((DRAWN // D, *SHAPE), 0.8), np.random.default_rng(2))

    def masked() -> str:
        got = make().corrupt(problem.x, np.random.default_rng(3))
        want = np.where(np.random.default_rng(3).random(problem.x.shape) < p, 0, problem.x)
        return differs("x_noisy", got, want, problem.facts)

    def share(corruption: str, value: float, expected: float) -> str:
        """Over pictures too: a mask that they share has all of its numbers wrong together."""
        each = np.mean(corrupted(corruption) == value, axis=(1, 2, 3))
        wrong = off_the_mean(f"the share of {value:g}", float(each.mean()), expected,
                             math.sqrt(expected * (1 - expected) / DRAWN))
        spread = float(each.var(ddof=1)) * D / (expected * (1 - expected))
        return wrong or off_the_mean("its spread from picture to picture", spread, 1, math.sqrt(2 * D / DRAWN))

    def average(corruption: str, expected: float) -> str:
        found = corrupted(corruption)
        return off_the_mean("x_noisy", float(found.mean()), expected, float(found.std()) / math.sqrt(found.size))

    def normal() -> str:
        eps = (corrupted("gaussian") - 0.8) / p
        return (off_the_mean("the noise", float(eps.mean()), 0, 1 / math.sqrt(eps.size))
                or off_the_mean("its square", float(np.square(eps).mean()), 1, math.sqrt(2 / eps.size)))

    def anew() -> str:
        model, rng = make(), np.random.default_rng(0)
        a, b = (model.loss(problem.x, rng=rng)["loss"] for _ in range(2))
        return "two losses draw the same noise" if a == b else ""

    problem = Problem(make, {"recon": 1}, define, {"p": p, "1 - p": 1 - p})
    return model_report("Check of DenoisingAutoencoder", problem, [
        limit("nothing masked gives the plain autoencoder", problem, lambda: plain(kernels), amount=0.0),
        reference("x_noisy is x with the masked numbers set to 0", masked),
        moments("a share p of the numbers is masked", lambda: share("masking", 0, p)),
        moments("the mean of masked pictures is 1 - p of theirs", lambda: average("masking", (1 - p) * 0.8)),
        moments("salt and pepper are half a share each", lambda: (share("salt_and_pepper", 0, p / 2)
                                                                  or share("salt_and_pepper", 1, p / 2))),
        moments("Gaussian noise has the mean 0 and the amount as its sigma", normal),
        moments("noise is drawn anew for each loss", anew)])


def sparse(kernels: ModuleType) -> Report:
    """The mean of a unit is over the batch: so are all its checks, on two pictures and on all."""
    def make() -> Any:
        pair, likelihood = nets(kernels, UNITS), losses.SquaredError(kernels=kernels)
        return stir(models.SparseAutoencoder(*pair, likelihood=likelihood, rho=RHO, beta=BETA, lam=LAM))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        h = code(v, x)
        coins = special.rel_entr(RHO, h.mean(0)) + special.rel_entr(1 - RHO, 1 - h.mean(0))
        return {"recon": squared(painted(v, h), x), "sparsity": float(coins.sum()), "decay": _decay(v)}

    problem = Problem(make, {"recon": 1, "sparsity": BETA, "decay": LAM}, define,
                      {"rho": RHO, "beta": BETA, "lam": LAM}, noise=False, mean=False)
    return model_report("Check of SparseAutoencoder", problem, [
        limit("beta = lam = 0 gives the plain autoencoder", problem, lambda: plain(kernels), beta=0.0, lam=0.0)])


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "Autoencoder": autoencoder, "Autoencoder, tied": autoencoder_tied,
    "WeightDecayAutoencoder": weight_decay, "WeightDecayAutoencoder, tied": weight_decay_tied,
    "DenoisingAutoencoder": denoising, "SparseAutoencoder": sparse,
    **contractive.SUBJECTS, **latent.SUBJECTS, **variational.SUBJECTS,
}
