"""The sample of a code as a smooth function of mu and logvar: differences, quantiles, statistics.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
from scipy import stats

from npae.gradcheck import Report
from npae.gradcheck.facts import Facts
from npae.gradcheck.report import attempt
from npae.lab.subjects.parts import (
    Arrays,
    Outcome,
    copies,
    differs,
    gradient_report,
    moments,
    off_the_mean,
    reference,
    report,
)
from npae.lab.subjects.problem import UNITS, N
from npae.layers import Reparameterize

DRAWS = 5000


def reparameterize(kernels: ModuleType, samples: int = 1) -> Report:
    """phi = <g, z> as a function of mu and logvar, the noise being drawn anew from equal generators."""
    rng, k = np.random.default_rng(0), samples
    arrays = {"mu": rng.standard_normal((N, UNITS)), "logvar": rng.standard_normal((N, UNITS))}
    g, eps = rng.standard_normal((k * N, UNITS)), np.random.default_rng(7).standard_normal((k * N, UNITS))
    sigma = np.sqrt(np.exp(arrays["logvar"]))
    numbers = {"the batch size": N, "the number of units": UNITS, "the number of samples": k}
    facts = Facts(numbers, {"sigma": sigma, "sigma / 2": sigma / 2, **({"eps": eps} if k == 1 else {})})

    def drawn(mu: np.ndarray, logvar: np.ndarray) -> tuple[Reparameterize, np.ndarray]:
        layer = Reparameterize(k, rng=np.random.default_rng(7))
        return layer, layer.forward(np.hstack([mu, logvar]))

    def phi(arrays: Arrays) -> Outcome:
        layer, z = drawn(**arrays)
        dmu, dlogvar = np.split(layer.backward(g), 2, axis=1)
        return float(np.sum(g * z)), {"mu": dmu, "logvar": dlogvar}

    def centred() -> str:
        want = (sigma * eps.reshape(k, N, UNITS)).reshape(-1, UNITS)
        return differs("y", drawn(0 * arrays["mu"], arrays["logvar"])[1], want, facts)

    def shifted() -> str:
        want = [stats.norm.ppf(stats.norm.cdf(e), m, s) for row in eps.reshape(k, N, UNITS)
                for m, s, e in zip(arrays["mu"], sigma, row, strict=True)]
        return differs("y", drawn(**arrays)[1], want, facts)

    def state() -> str:
        layer, z = drawn(**copies(arrays))
        before = layer.rng.bit_generator.state  # type: ignore[union-attr]
        layer.backward(g)
        if layer.rng.bit_generator.state != before:  # type: ignore[union-attr]
            return "backward draws noise again"
        return "" if np.array_equal(z, drawn(**arrays)[1]) else "equal generators give another z"

    return report("Check of Reparameterize", lambda: gradient_report(phi, arrays, facts, ""), [
        reference("around mu = 0, z is sigma eps", centred),
        reference("z is the place in N(mu, sigma²) that eps has in N(0, 1)", shifted),
        moments("z has the mean mu, the variance exp(logvar), and no two pictures or samples alike",
                lambda: _statistics(k)),
        attempt("the noise is drawn once, and equal generators give the same", state)])


def _statistics(k: int) -> str:
    """Of (z - mu) / sigma over pictures, samples and draws: mean, square, and products of neighbours."""
    n, mu, logvar = DRAWS, 0.3, -0.8
    x = np.tile([mu, logvar], (n, 1))
    e = (Reparameterize(k, rng=np.random.default_rng(4)).forward(x).reshape(k, n) - mu) / math.sqrt(math.exp(logvar))
    found = {"z - mu": (e, 0, 1), "its square": (e**2, 1, 2), "its product with the next picture's":
             (e[:, 1:] * e[:, :-1], 0, 1), "its product with the next sample's": (e[1:] * e[:-1], 0, 1)}
    wrong = (off_the_mean(name, float(np.mean(a)), mean, math.sqrt(variance / a.size))
             for name, (a, mean, variance) in found.items() if a.size)
    return "; ".join(filter(None, wrong))


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "reparameterize": reparameterize, "reparameterize, 3 samples": lambda kernels: reparameterize(kernels, 3),
}
