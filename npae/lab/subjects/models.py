"""The models, each as a small net under the whole protocol: differences of the whole loss, the definition of each term
by NumPy, SciPy or complex steps, batches, statistics, state. Those with a prior are in `variational`.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special

from npae import gradcheck, losses, models
from npae.gradcheck import Line, Report
from npae.gradcheck.report import attempt
from npae.kernels import reference as textbook
from npae.lab.subjects import variational
from npae.lab.subjects.parts import differs, moments, off_the_mean, reference
from npae.lab.subjects.whole import SHAPE, UNITS, D, N, Problem, Terms, Values, limit, model_report, nets, stir
from npae.layers import Conv2d, Dense, Dropout, Flatten, Reshape, Sequential, TiedDense

RHO, BETA, LAM = 0.15, 0.7, 0.3
STEP = 1e-20
DIRECTIONS = 4000  # pictures of a batch that estimate ‖J‖² together
DRAWN = 40_000  # numbers that corruption is counted on


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


def jacobians(encoder: Sequential, x: np.ndarray) -> np.ndarray:
    """dh/dx of each picture by complex steps through the encoder itself: (N, numbers of x, units)."""
    twin = encoder.to(np.complex128, textbook)
    size = math.prod(x.shape[1:])
    steps = 1j * STEP * np.eye(size).reshape(size, *x.shape[1:])
    return np.stack([twin.forward(picture + steps).imag / STEP for picture in x])


def contractive(kernels: ModuleType) -> Report:
    """One dense layer, in closed form."""
    def make(lam: float = LAM, factor: float = 1.0) -> Any:
        likelihood = losses.SquaredError(factor, kernels=kernels)
        return stir(models.ContractiveAutoencoder(*nets(kernels, UNITS), likelihood=likelihood, lam=lam))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        jac = np.square(jacobians(make().encoder, x)).sum() / len(x)
        return {"recon": squared(painted(v, code(v, x)), x), "jac": float(jac)}

    problem = Problem(make, {"recon": 1, "jac": LAM}, define, {"lam": LAM}, noise=False)
    return model_report("Check of ContractiveAutoencoder", problem, [
        limit("lam = 0 gives the plain autoencoder", problem, lambda: plain(kernels), lam=0.0),
        *_penalty_alone(problem, lambda: make(1.0, 1e-30))])


def contractive_deep(kernels: ModuleType) -> Report:
    """Two smooth layers, by one random direction a picture; second derivatives are symmetric."""
    def make(lam: float = LAM, factor: float = 1.0) -> Any:
        rng = np.random.default_rng(1)
        on: dict[str, Any] = {"dtype": np.float64, "kernels": kernels}
        encoder = Sequential([Conv2d(2, 3, 2, stride=2, activation="tanh", rng=rng, **on), Flatten(),
                              Dense(6, UNITS, activation="sigmoid", rng=rng, **on)])
        decoder = Sequential([Dense(UNITS, D, rng=rng, **on), Reshape(SHAPE)])
        likelihood = losses.SquaredError(factor, kernels=kernels)
        return stir(models.ContractiveAutoencoder(encoder, decoder, likelihood=likelihood, lam=lam))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        model, t = make(), rng.standard_normal(x.shape).reshape(len(x), 1, -1) @ jacobians(make().encoder, x)
        return {"recon": squared(painted(v, model.encode(x)), x), "jac": float(np.square(t).sum() / len(x))}

    def average() -> str:
        model, x = make(), problem.x[:1]
        squares = np.linalg.svd(jacobians(model.encoder, x)[0], compute_uv=False) ** 2
        got = model.loss(np.repeat(x, DIRECTIONS, 0), rng=np.random.default_rng(0))["jac"]
        return off_the_mean("‖J v‖²", got, float(squares.sum()), math.sqrt(2 * float(squares @ squares) / DIRECTIONS))

    problem = Problem(make, {"recon": 1, "jac": LAM}, define, {"lam": LAM})
    return model_report("Check of ContractiveAutoencoder, deep", problem, [
        moments("the mean of ‖J v‖² is ‖J‖², J by complex steps", average),
        *_penalty_alone(problem, lambda: make(1.0, 1e-30))])


def _penalty_alone(problem: Problem, make: Callable[[], Any]) -> list[Line]:
    """Without pixels that could overwhelm it: its gradient, and the symmetry <u, H v> = <v, H u> of its Hessian."""
    def alone() -> str:
        decoder = [p.name for p in make().decoder.params]
        rng = np.random.default_rng(7) if problem.noise else None
        return "; ".join(gradcheck.check(make(), problem.x, rng=rng, expect_zero=decoder).wrong)

    def along(model: Any, v: np.ndarray) -> np.ndarray:
        """H v by four gradients: (8 (g(h) - g(-h)) - (g(2h) - g(-2h))) / 12 h."""
        theta, h = model.theta.copy(), 1e-3
        slopes = []
        for step in (h, -h, 2 * h, -2 * h):
            model.theta[...] = theta + step * v
            slopes.append(problem.terms(range(N), model=model)[1])
        model.theta[...] = theta
        return (8 * (slopes[0] - slopes[1]) - (slopes[2] - slopes[3])) / (12 * h)

    def symmetric() -> str:
        model, rng = make(), np.random.default_rng(8)
        u, v = rng.standard_normal((2, model.theta.size))
        Hu, Hv = along(model, u), along(model, v)
        size = np.linalg.norm(u) * np.linalg.norm(Hv) + np.linalg.norm(v) * np.linalg.norm(Hu)
        gap = abs(u @ Hv - v @ Hu) / size
        return "" if gap <= 1e-8 else f"<u, Hv> - <v, Hu> is {gap:.1e} of |u||Hv| + |v||Hu|, 1e-8 allowed"

    return [attempt("the gradient of the penalty alone", alone, "gradient"),
            attempt("its second derivatives are symmetric", symmetric, "gradient")]


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "Autoencoder": autoencoder, "Autoencoder, tied": autoencoder_tied,
    "WeightDecayAutoencoder": weight_decay, "WeightDecayAutoencoder, tied": weight_decay_tied,
    "DenoisingAutoencoder": denoising, "SparseAutoencoder": sparse,
    "ContractiveAutoencoder": contractive, "ContractiveAutoencoder, deep": contractive_deep,
    **variational.SUBJECTS,
}
