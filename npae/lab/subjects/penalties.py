"""The penalties, each under the whole protocol: differences, quadrature, SciPy's entropies, complex steps, statistics.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special, stats

from npae import penalties
from npae.gradcheck import Report
from npae.gradcheck.facts import Facts
from npae.gradcheck.report import attempt
from npae.lab.subjects.parts import (
    Arrays,
    Function,
    Outcome,
    differs,
    function_report,
    gradient_report,
    moments,
    off_the_mean,
    reference,
)
from npae.layers import Activation, Identity, Sigmoid, Softplus, Tanh

N, D, SAMPLES, RHO = 5, 4, 3, 0.15
NUMBERS = {"the batch size": N, "the number of units": D}
STEP = 1e-20  # a complex step subtracts nothing: it may be as small as it likes


def _codes(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"mu": rng.standard_normal((N, D)), "logvar": rng.standard_normal((N, D))}


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(100)


def quadrature(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """The integral of q log(q / p) over 12 sigma to both sides, by Gauss and Legendre, for each picture."""
    nodes, weights = _legendre()
    sigma = np.sqrt(np.exp(logvar))[..., None]
    z = mu[..., None] + 12 * sigma * nodes
    log_q = stats.norm.logpdf(z, mu[..., None], sigma)
    return np.sum(12 * sigma * weights * np.exp(log_q) * (log_q - stats.norm.logpdf(z)), axis=(1, 2))


def gaussian_kl(kernels: ModuleType) -> Report:
    """The closed form beside an integral, near the prior, and at the ends of logvar."""
    codes, facts = _codes(), Facts(NUMBERS)

    def f(arrays: Arrays, given: Arrays) -> Outcome:
        value, dmu, dlogvar = penalties.gaussian_kl(arrays["mu"], arrays["logvar"])
        return value, {"mu": dmu, "logvar": dlogvar}

    def singles(mu: np.ndarray, logvar: np.ndarray) -> list[float]:
        return [penalties.gaussian_kl(m[None], lv[None])[0] for m, lv in zip(mu, logvar, strict=True)]

    def near_the_prior() -> str:
        logvar = np.array([[1e-4], [-1e-6], [1e-8]])
        want = [sum(float(lv[0]) ** m / math.factorial(m) for m in (4, 3, 2)) / 2 for lv in logvar]
        return differs("the value", singles(0 * logvar, logvar), want, rtol=1e-7, each=True)

    def ends() -> str:
        logvar = np.array([[-200.0], [-30.0], [20.0], [700.0], [800.0]])
        got, gradient = singles(0 * logvar, logvar), penalties.gaussian_kl(0 * logvar[:4], logvar[:4])[2]
        want = [(math.exp(lv) - 1 - lv) / 2 for lv in logvar[:4, 0].tolist()]
        finite = differs("the value", got[:4], want, each=True)
        return finite or ("" if got[4] == math.inf and np.isfinite(gradient).all() else "inf is in the wrong place")

    return function_report("Check of gaussian_kl", Function(f, codes, {}, facts), [
        reference("pictures cost the integral of q log(q / p)", lambda: differs(
            "the value", singles(**codes), quadrature(**codes), facts)),
        reference("the mean over pictures is that of the integrals", lambda: differs(
            "the value", penalties.gaussian_kl(**codes)[0], quadrature(**codes).mean())),
        reference("near the prior no digit is lost", near_the_prior),
        reference("far from it the value is finite up to exp's own end, and inf beyond", ends)])


def gaussian_kl_sampled(kernels: ModuleType) -> Report:
    """log q(z|x) - log p(z) by SciPy's densities at the z that was drawn; its mean is the closed form."""
    codes, rng = _codes(), np.random.default_rng(1)
    given = {"eps": rng.standard_normal((N, SAMPLES, D))}
    facts = Facts({**NUMBERS, "the number of samples": SAMPLES})

    def rows(eps: np.ndarray) -> np.ndarray:
        return eps.transpose(1, 0, 2).reshape(-1, D)  # all pictures of the first sample, then of the second

    def f(arrays: Arrays, given: Arrays) -> Outcome:
        value, dmu, dlogvar = penalties.gaussian_kl_sampled(arrays["mu"], arrays["logvar"], rows(given["eps"]))
        return value, {"mu": dmu, "logvar": dlogvar}

    function = Function(f, codes, given, facts)
    sigma = np.exp(codes["logvar"] / 2)[:, None]
    z = codes["mu"][:, None] + sigma * given["eps"]
    want = (stats.norm.logpdf(z, codes["mu"][:, None], sigma) - stats.norm.logpdf(z)).sum(2).mean(1)

    def average() -> str:
        drawn = [penalties.gaussian_kl_sampled(**codes, eps=rng.standard_normal((8 * N, D)))[0] for _ in range(400)]
        error = float(np.std(drawn)) / math.sqrt(len(drawn))
        return off_the_mean("the estimate", float(np.mean(drawn)), float(quadrature(**codes).mean()), error)

    return function_report("Check of gaussian_kl_sampled", function, [
        reference("pictures cost log q - log p at their z", lambda: differs(
            "the value", [function.at([i])[0] for i in range(N)], want, facts)),
        reference("so does the batch, sample by sample", lambda: differs(
            "the value", function.at(range(N))[0], want.mean())),
        moments("the estimate's mean is the closed form's value", average)])


def sparsity_kl(kernels: ModuleType) -> Report:
    """SciPy's relative entropy of two coins; at the ends the tangent that was promised."""
    rng = np.random.default_rng(0)
    draws = [rng.uniform(0.05, 0.6, (N, D)) for _ in range(3)]
    facts = Facts({**NUMBERS, "rho": RHO}, {"h": draws[0]})

    def f(arrays: Arrays, given: Arrays) -> Outcome:
        value, dh = penalties.sparsity_kl(arrays["h"], RHO)
        return value, {"h": dh}

    def coins(r: Any) -> Any:
        return special.rel_entr(RHO, r) + special.rel_entr(1 - RHO, 1 - r)

    def ends() -> str:
        """Value and gradient of one unit whose mean is at its end, or within 1e-6 of it."""
        for r in (0.0, 1e-8, 1 - 1e-8, 1.0):
            edge = 1e-6 if r < 0.5 else 1 - 1e-6
            slope = (1 - RHO) / (1 - edge) - RHO / edge
            value, dh = penalties.sparsity_kl(np.full((N, 1), r), RHO)
            wrong = differs(f"the value at rho_hat = {r:g}", value, coins(edge) + slope * (r - edge))
            if wrong or (wrong := differs("dh", dh, np.full((N, 1), slope / N))):
                return wrong
        return ""

    return function_report("Check of sparsity_kl", Function(f, {"h": draws[0]}, {}, facts, mean=False), [
        reference("units cost the relative entropy of two coins", lambda: differs(
            "the value", [penalties.sparsity_kl(h, RHO)[0] for h in draws],
            [coins(h.mean(0)).sum() for h in draws], facts)),
        reference("units at their mean rho cost nothing", lambda: differs(
            "the value", 1 + penalties.sparsity_kl(np.tile([[0.1], [0.2]], (1, 3)), 0.15)[0], 1)),
        reference("silent and saturated units cost what the tangent says", ends)])


def contractive(kernels: ModuleType) -> Report:
    """‖J‖² by complex steps through the layer; W square, where mixed-up axes run without an error, and not."""
    rng = np.random.default_rng(0)
    arrays = {"h": rng.uniform(0.1, 0.9, (N, D)), "W": rng.standard_normal((D, D))}
    x, W, b = rng.standard_normal((N, 6)), rng.standard_normal((6, D)), rng.standard_normal(D)
    bend = Sigmoid()
    facts = Facts({**NUMBERS, "the number of pixels": 6},
                  {"slope": bend.slope(arrays["h"]), "bend": bend.bend(arrays["h"]), "h": arrays["h"]})

    def f(arrays: Arrays, given: Arrays, activation: Activation = bend) -> Outcome:
        value, dh, dW = penalties.contractive(arrays["h"], arrays["W"], activation)
        return value, {"h": dh, "W": dW}

    def jacobians(x: np.ndarray) -> np.ndarray:
        steps = x[:, None] + 1j * STEP * np.eye(6)
        return (1 / (1 + np.exp(-(steps @ W + b)))).imag / STEP

    def singles() -> str:
        h = special.expit(x @ W + b)
        got = [penalties.contractive(row[None], W, bend)[0] for row in h]
        return differs("the value", got, np.square(jacobians(x)).sum((1, 2)), facts)

    def batch() -> str:
        sizes = 0.5, 1.0, 2.0
        got = [penalties.contractive(special.expit(s * x @ W + b), W, bend)[0] for s in sizes]
        return differs("the value", got, [np.square(jacobians(s * x)).sum((1, 2)).mean() for s in sizes], facts)

    def other(activation: Activation) -> str:
        found = gradient_report(lambda arrays: f(arrays, {}, activation), arrays, facts, "")
        return "; ".join(found.wrong)

    return function_report("Check of contractive", Function(f, arrays, {}, facts, shared=("W",)), [
        reference("pictures cost ‖J‖², J by complex steps", singles),
        reference("three batches cost the mean of ‖J‖²", batch),
        reference("a linear layer costs the squared length of its weights", lambda: differs(
            "the value", penalties.contractive(x @ W, W, Identity())[0], np.linalg.norm(W) ** 2)),
        attempt("the gradient of a tanh layer's", lambda: other(Tanh()), "gradient"),
        attempt("the gradient of a softplus layer's", lambda: other(Softplus()), "gradient")])


def weight_decay(kernels: ModuleType) -> Report:
    """The squared Frobenius norms, at three sizes; an array without entries costs nothing."""
    rng = np.random.default_rng(0)
    arrays = {"W": rng.standard_normal((3, 4)), "V": rng.standard_normal((4, 2))}

    def f(arrays: Arrays, given: Arrays) -> Outcome:
        value, (dW, dV) = penalties.weight_decay([arrays["W"], arrays["V"]], kernels)
        return value, {"W": dW, "V": dV}

    def lengths() -> str:
        sizes = 1.0, 2.0, 3.0
        got = [penalties.weight_decay([s * arrays["W"], arrays["V"]], kernels)[0] for s in sizes]
        want = [(s * np.linalg.norm(arrays["W"])) ** 2 + np.linalg.norm(arrays["V"]) ** 2 for s in sizes]
        return differs("the value", got, want)

    def single() -> str:
        weights = (1e20 * np.eye(2)).astype(np.float32)
        return differs("the value", penalties.weight_decay([weights], kernels)[0], 2 * float(weights[0, 0]) ** 2)

    return function_report("Check of weight_decay", Function(f, arrays, {}, shared=("W", "V"), mean=False), [
        reference("the value is the sum of the squared lengths", lengths),
        reference("weights whose squares leave float32 cost a finite number", single)])


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "gaussian_kl": gaussian_kl, "gaussian_kl_sampled": gaussian_kl_sampled, "sparsity_kl": sparsity_kl,
    "contractive": contractive, "weight_decay": weight_decay,
}
