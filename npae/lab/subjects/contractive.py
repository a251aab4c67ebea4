"""The contractive models: one dense layer in closed form, a deep encoder by random directions; ‖J‖² by complex steps.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from npae import gradcheck, losses, models
from npae.gradcheck import Line, Report
from npae.gradcheck.report import attempt
from npae.kernels import reference as textbook
from npae.lab.subjects.parts import moments, off_the_mean
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
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential

LAM = 0.3
STEP = 1e-20  # a complex step subtracts nothing: it may be as small as it likes
DIRECTIONS = 4000  # pictures of a batch that estimate ‖J‖² together


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
    "ContractiveAutoencoder": contractive, "ContractiveAutoencoder, deep": contractive_deep,
}
