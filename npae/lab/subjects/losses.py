"""The likelihoods, each under the whole protocol: differences, SciPy's densities, batches, extreme inputs.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special, stats

from npae import losses
from npae.gradcheck import Line, Report
from npae.gradcheck.facts import Facts
from npae.lab.subjects.parts import Arrays, Function, Outcome, differs, function_report, reference

PICTURES = 5, 2, 3, 2  # no two of N = 5, H W = 6 and D = 12 are equal, nor is any of them a factor of ½ or 2
VARIANCE, FACTOR = 0.6, 0.7
CONFIDENT = np.array([1e4, -1e4, 100.0, -100.0, 89.0, -89.0, 17.0, -17.0, 40.0, -40.0, 800.0, -800.0, 0.0, 1e-9])
"""Logits at which log(1 + exp(l)) as it is written overflows, or loses every digit, in float32 or in float64."""


def _report(likelihood: losses.Likelihood, numbers: dict[str, float], lines: Callable[[Arrays], list[Line]]) -> Report:
    rng = np.random.default_rng(0)
    arrays = {"output": 2 * rng.standard_normal(PICTURES)}
    given = {"x": rng.random(PICTURES)}
    y = special.expit(arrays["output"])
    facts = Facts({"the batch size": 5, "the number of pixels": 6, "the number of numbers a picture": 12, **numbers},
                  {"y": y, "y (1 - y)": y * (1 - y), "x": given["x"]})

    def nll(arrays: Arrays, given: Arrays) -> Outcome:
        value, doutput = likelihood.nll(arrays["output"], given["x"])
        return value, {"output": doutput}

    both = {**arrays, **given}
    return function_report(f"Check of {likelihood!r}", Function(nll, arrays, given, facts),
                           [*lines(both), _mean_is_mean(likelihood, both), _constant(likelihood)])


def _mean_is_mean(likelihood: losses.Likelihood, arrays: Arrays) -> Line:
    """nll and per_image are two doors to the same kernel."""
    def test() -> str:
        each = likelihood.per_image(arrays["output"], arrays["x"])
        return differs("the value", likelihood.nll(arrays["output"], arrays["x"])[0], math.fsum(each) / len(each))

    return reference("the value is the mean over pictures", test)


def _constant(likelihood: losses.Likelihood) -> Line:
    """A picture that is painted as it is costs the constant; what Bernoulli pixels cost then depends on them."""
    def test() -> str:
        x = np.arange(7.0).reshape(1, 7) / 7
        variance = getattr(likelihood, "variance", None)
        want = 0 if variance is None else -7 * stats.norm(0, math.sqrt(variance)).logpdf(0)
        got = likelihood.constant(7) if isinstance(likelihood, losses.Bernoulli) else likelihood.nll(x, x)[0]
        return differs("the constant", got, want)

    return reference("a perfect picture costs the constant", test)


def bernoulli(kernels: ModuleType) -> Report:
    """x log p + (1 - x) log(1 - p), p = expit(l), by SciPy's logpmf."""
    likelihood = losses.Bernoulli(kernels=kernels)
    return _report(likelihood, {}, lambda arrays: [
        reference("pictures cost what SciPy's logpmf says", lambda: _against_logpmf(likelihood, arrays)),
        reference("logits 0 cost ln 2 a pixel", lambda: differs(
            "the value", likelihood.per_image(np.zeros((3, 7)), arrays["x"].reshape(-1)[:21].reshape(3, 7)),
            np.full(3, 7 * math.log(2)))),
        reference("confident logits cost a finite number, to all digits", lambda: _confident(likelihood)),
        reference("... in float32 too", lambda: _confident(likelihood, np.float32)),
        reference("the mean is expit(l)", lambda: differs(
            "y", likelihood.mean(arrays["output"]), special.expit(arrays["output"]))),
        reference("the gradient at confident logits is expit(l) - x", lambda: _confident_gradient(likelihood))])


def _against_logpmf(likelihood: losses.Likelihood, arrays: Arrays) -> str:
    x, coin = arrays["x"], stats.bernoulli(special.expit(arrays["output"]))
    want = -(x * coin.logpmf(1) + (1 - x) * coin.logpmf(0)).sum((1, 2, 3))
    numbers = {"the batch size": 5, "the number of pixels": 6, "the number of numbers a picture": 12}
    return differs("the value", likelihood.per_image(arrays["output"], x), want, Facts(numbers))


def _confident(likelihood: losses.Likelihood, dtype: Any = np.float64) -> str:
    """-log p of x = 0 is logaddexp(0, l), of x = 1 logaddexp(0, -l): one pixel a picture."""
    logits = CONFIDENT.astype(dtype)[:, None]
    smallest = float(np.finfo(dtype).tiny)  # what is less may fade to zero
    for x in (0, 1):
        got = likelihood.per_image(logits, np.full_like(logits, x))
        want = np.logaddexp(0, (1 - 2 * x) * logits[:, 0].astype(np.float64))
        seen = want > smallest
        wrong = differs(f"the cost of x = {x}", got[seen], want[seen], rtol=16 * float(np.finfo(dtype).eps), each=True)
        if wrong or not np.all(got[~seen] <= smallest):
            return wrong or "what fades to zero does not"
    return ""


def _confident_gradient(likelihood: losses.Likelihood) -> str:
    logits = CONFIDENT[:, None]
    got = likelihood.nll(logits, np.full_like(logits, 0.25))[1] * len(logits)
    return differs("doutput", got, special.expit(logits) - 0.25)


def gaussian(kernels: ModuleType) -> Report:
    """SciPy's normal density of the pixels, and its part above the constant."""
    likelihood = losses.Gaussian(VARIANCE, kernels=kernels)
    numbers = {"the variance": VARIANCE, "sigma": math.sqrt(VARIANCE)}
    density = stats.norm(0, math.sqrt(VARIANCE))
    facts = Facts({**numbers, "the number of numbers a picture": 12})

    def total(arrays: Arrays) -> str:
        want = -density.logpdf(arrays["output"] - arrays["x"]).sum((1, 2, 3))
        return differs("the value", likelihood.per_image(arrays["output"], arrays["x"]), want, facts)

    def above(arrays: Arrays) -> str:
        want = (density.logpdf(0) - density.logpdf(arrays["output"] - arrays["x"])).sum((1, 2, 3))
        got = [likelihood.per_image(y, arrays["x"]) for y in (arrays["output"], arrays["x"])]
        return differs("the value", got[0] - got[1], want, facts)

    return _report(likelihood, numbers, lambda arrays: [
        reference("pictures cost what SciPy's logpdf says", lambda: total(arrays)),
        reference("they cost that much more than perfect ones", lambda: above(arrays))])


def squared_error(kernels: ModuleType) -> Report:
    """factor times the squared distance, by the norm of the difference."""
    likelihood = losses.SquaredError(FACTOR, kernels=kernels)
    facts = Facts({"the factor": FACTOR, "the number of numbers a picture": 12, "the batch size": 5})

    def test(arrays: Arrays) -> str:
        want = [FACTOR * math.dist(y.ravel(), x.ravel()) ** 2
                for y, x in zip(arrays["output"], arrays["x"], strict=True)]
        return differs("the value", likelihood.per_image(arrays["output"], arrays["x"]), want, facts)

    def tiny() -> str:
        y, x = np.array([[1 + 2e-8]], np.float32), np.array([[1 - 1e-7]], np.float32)
        return differs("the value", likelihood.per_image(y, x), [FACTOR * float(y[0, 0] - x[0, 0]) ** 2], each=True)

    return _report(likelihood, {"the factor": FACTOR}, lambda arrays: [
        reference("pictures cost factor times their squared distance", lambda: test(arrays)),
        reference("a difference of one step of float32 is seen", tiny)])


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "Bernoulli": bernoulli, "Gaussian": gaussian, "SquaredError": squared_error,
}
