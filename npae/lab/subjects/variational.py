"""The models whose code is a sample: VAE, conditional VAE and IWAE under the whole protocol.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy import special, stats

from npae import evaluate, losses, models
from npae.gradcheck import Report
from npae.gradcheck.report import attempt
from npae.lab.subjects.parts import (
    differs,
    moments,
    off_the_mean,
    reference,
)
from npae.lab.subjects.penalties import quadrature
from npae.lab.subjects.problem import UNITS, D, N, Problem, Terms, Values, nets, stir, values
from npae.lab.subjects.whole import model_report

BETA, SAMPLES, CLASSES = 0.7, 3, 6
DRAWS = 20_000


def heads(v: Values, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar: x W + b, by einsum, in two halves."""
    W, b = v["encoder.1.W"], v["encoder.1.b"]
    out = np.einsum("ni,ij->nj", x.reshape(len(x), -1), W) + b
    return out[:, :UNITS], out[:, UNITS:]


def cross_entropy(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """-x log p - (1 - x) log(1 - p) of each row, by SciPy's own logarithms."""
    x = x.reshape(len(x), -1)
    return -(x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits)).sum(1)


def _vae(kernels: ModuleType, kl: str = "analytic", beta: float = BETA) -> Any:
    pair = nets(kernels, 2 * UNITS, activation=None)
    return stir(models.VAE(*pair, likelihood=losses.Bernoulli(kernels=kernels), beta=beta, kl=kl))


def _define_vae(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
    """recon at z = mu + sigma eps; the closed KL by quadrature."""
    mu, logvar = heads(v, x)
    z = mu + np.sqrt(np.exp(logvar)) * rng.standard_normal(mu.shape)
    recon = cross_entropy(_painted(v)(z), x)
    return {"recon": float(recon.mean()), "kl": float(quadrature(mu, logvar).mean())}


def vae(kernels: ModuleType) -> Report:
    """Cross-entropy and a closed KL with beta; sampling, codes, and the ELBO of a test set in batches."""
    problem = Problem(lambda: _vae(kernels), {"recon": 1, "kl": BETA}, _define_vae, {"beta": BETA})

    def codes() -> str:
        model = _vae(kernels)
        model.loss(problem.x, rng=np.random.default_rng(0))
        return differs("the code", model.encode(problem.x), heads(values(model), problem.x)[0])

    def elbo() -> str:
        """Batches of 2, 2 and 1 draw the same stream of noise as one of 5."""
        found, want = (evaluate.elbo(_vae(kernels), problem.x, rng=np.random.default_rng(0), batch_size=size)
                       for size in (2, 5))
        return differs("the bound", found["recon"] + found["kl"], want["recon"] + want["kl"])

    def decoded() -> str:
        model = _vae(kernels)
        v, z = values(model), np.random.default_rng(4).standard_normal((7, UNITS))
        want = special.expit(_painted(v)(z))
        return differs("y", model.sample(7, rng=np.random.default_rng(4)).reshape(7, D), want)

    def spread() -> str:
        """logit p = z W + b has the mean b and the variance Σ W² over z."""
        model = _vae(kernels)
        v, n = values(model), DRAWS
        logits = special.logit(model.sample(n, rng=np.random.default_rng(5)).reshape(n, D)[:, 0])
        variance = float(np.square(v["decoder.0.W"][:, 0]).sum())
        centred = (logits - v["decoder.0.b"][0]) / math.sqrt(variance)
        return (off_the_mean("a pixel's logit", float(centred.mean()), 0, 1 / math.sqrt(n))
                or off_the_mean("its square", float(np.square(centred).mean()), 1, math.sqrt(2 / n)))

    def without_beta() -> str:
        terms = _vae(kernels, beta=0.0).loss(problem.x, rng=np.random.default_rng(0))
        return differs("the value", terms["loss"], terms["recon"])

    return model_report("Check of VAE", problem, [
        reference("beta = 0 leaves the pixels alone", without_beta),
        reference("a picture's code is mu", codes),
        reference("samples are decoded from N(0, I)", decoded),
        moments("a pixel's logit has over samples the mean b and the variance of its weights", spread),
        attempt("the bound of a test set does not depend on the size of batches", elbo, "batch")])


def vae_clamped(kernels: ModuleType) -> Report:
    """Two units whose logvar lies beyond the range, one at each end; what they cost is the clamped one's."""
    def make() -> Any:
        pair, likelihood = nets(kernels, 2 * UNITS, activation=None), losses.SquaredError(kernels=kernels)
        model = stir(models.VAE(*pair, likelihood=likelihood, beta=BETA))
        model.encoder.params[1].value[UNITS:] += 0, -60, 40, 0
        return model

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        mu, logvar = heads(v, x)
        logvar = np.minimum(np.maximum(logvar, -30), 20)
        z = mu + np.sqrt(np.exp(logvar)) * rng.standard_normal(mu.shape)
        recon = np.square(_painted(v)(z) - x.reshape(len(x), -1)).sum(1)
        kl = (mu**2 + np.exp(logvar) - 1 - logvar).sum(1) / 2
        return {"recon": float(recon.mean()), "kl": float(kl.mean())}

    def stats_are_clamped() -> str:
        model, x = make(), problem.x
        want = np.minimum(np.maximum(heads(values(model), x)[1], -30), 20)
        return differs("logvar", model.encode_stats(x)[1], want)

    def no_gradient() -> str:
        clamped = [UNITS + 1, UNITS + 2]
        model = make()
        problem.terms(range(N), model=model)
        dW, db = (p.grad for p in model.encoder.params)
        return "a clamped logvar is given a gradient" if dW[:, clamped].any() or db[clamped].any() else ""

    problem = Problem(make, {"recon": 1, "kl": BETA}, define, {"beta": BETA})
    return model_report("Check of VAE, clamped", problem, [
        reference("encode_stats gives the clamped logvar", stats_are_clamped),
        attempt("a clamped logvar has no gradient, to the bit", no_gradient, "gradient")])


def log_weights(v: Values, x: np.ndarray, eps: np.ndarray, logits: Callable[[np.ndarray], np.ndarray]
                ) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample and picture: -log p(x|z), and log q(z|x) - log p(z) by SciPy's densities; eps (k, N, d)."""
    mu, logvar = heads(v, x)
    sigma = np.sqrt(np.exp(logvar))
    z = mu + sigma * eps
    kl = (stats.norm.logpdf(z, mu, sigma) - stats.norm.logpdf(z)).sum(2)
    return np.stack([cross_entropy(logits(row), x) for row in z]), kl


def _painted(v: Values) -> Callable[[np.ndarray], np.ndarray]:
    return lambda z: z @ v["decoder.0.W"] + v["decoder.0.b"]


def vae_sampled(kernels: ModuleType) -> Report:
    """The KL as log q - log p at the z that is decoded; its mean is the closed one."""
    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        nll, kl = log_weights(v, x, rng.standard_normal((1, len(x), UNITS)), _painted(v))
        return {"recon": float(nll.mean()), "kl": float(kl.mean())}

    def average() -> str:
        model, rng = _vae(kernels, "sampled"), np.random.default_rng(6)
        many = np.repeat(problem.x, 40, 0)
        found = [model.loss(many, rng=rng)["kl"] for _ in range(50)]
        want = quadrature(*heads(values(model), problem.x)).mean()
        return off_the_mean("the estimate", float(np.mean(found)), float(want), float(np.std(found)) / math.sqrt(50))

    problem = Problem(lambda: _vae(kernels, "sampled"), {"recon": 1, "kl": BETA}, define, {"beta": BETA})
    return model_report("Check of VAE, sampled KL", problem, [
        moments("the mean of the sampled KL is the closed one", average)])


def conditional(kernels: ModuleType) -> Report:
    """A label is a row of weights of its own, in the encoder and in the decoder."""
    def make() -> Any:
        pair = nets(kernels, 2 * UNITS, activation=None, more=(CLASSES, CLASSES))
        return stir(models.ConditionalVAE(*pair, classes=CLASSES, likelihood=losses.Bernoulli(kernels=kernels),
                                          beta=BETA))

    def rows(v: Values, y: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The weights that pixels and z meet, and what each picture's label adds."""
        W, V = v["encoder.1.W"], v["decoder.0.W"]
        return {**v, "encoder.1.W": W[:D], "decoder.0.W": V[:UNITS]}, W[D:].take(y, 0), V[UNITS:].take(y, 0)

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        bare, to_code, to_picture = rows(v, y)
        mu, logvar = (a + b for a, b in zip(heads(bare, x), np.split(to_code, 2, axis=1), strict=True))
        z = mu + np.sqrt(np.exp(logvar)) * rng.standard_normal(mu.shape)
        recon = cross_entropy(_painted(bare)(z) + to_picture, x)
        return {"recon": float(recon.mean()), "kl": float(quadrature(mu, logvar).mean())}

    def decoded() -> str:
        """Without labels, each class in turn."""
        model = make()
        bare, _, to_picture = rows(values(model), np.arange(8) % CLASSES)
        want = special.expit(_painted(bare)(np.random.default_rng(4).standard_normal((8, UNITS))) + to_picture)
        return differs("y", model.sample(8, rng=np.random.default_rng(4)).reshape(8, D), want)

    problem = Problem(make, {"recon": 1, "kl": BETA}, define, {"beta": BETA}, y=np.array([3, 0, 5, 1, 2]))
    return model_report("Check of ConditionalVAE", problem, [reference("samples have each label in turn", decoded)])


def iwae(kernels: ModuleType) -> Report:
    """log mean w by SciPy's logsumexp; one sample is the VAE's sampled bound; weights beyond the range of exp."""
    def make(samples: int = SAMPLES) -> Any:
        pair, likelihood = nets(kernels, 2 * UNITS, activation=None), losses.Bernoulli(kernels=kernels)
        return stir(models.IWAE(*pair, likelihood=likelihood, samples=samples))

    def define(v: Values, x: np.ndarray, y: Any, rng: Any) -> Terms:
        nll, kl = log_weights(v, x, rng.standard_normal((SAMPLES * len(x), UNITS)).reshape(SAMPLES, len(x), UNITS),
                              _painted(v))
        bound = special.logsumexp(-nll - kl, axis=0) - math.log(SAMPLES)
        return {"loss": -float(bound.mean()), "recon": float(nll.mean()), "kl": float(kl.mean())}

    def one_sample() -> str:
        """Loss and gradient; the VAE's are those of its sampled KL."""
        (one, grad), (other, want) = (problem.terms(range(N), model=model)
                                      for model in (make(1), _vae(kernels, "sampled", 1.0)))
        return differs("the value", one["loss"], other["loss"]) or differs("the gradient", grad, want)

    def faint() -> str:
        """One picture costs some 2,000 nats and one next to nothing: exp(-2000) is 0, and far below the other's."""
        model = make()
        model.decoder.params[1].value += 170
        x = np.stack([np.zeros_like(problem.x[0]), np.ones_like(problem.x[0])])
        terms = model.loss(x, rng=np.random.default_rng(0))
        model.backward()
        if not np.isfinite(model.grad).all():
            return "the gradient is not finite"
        return differs("the value", terms["loss"], define(values(model), x, None, np.random.default_rng(0))["loss"])

    problem = Problem(make, {}, define, {"the number of samples": SAMPLES})
    return model_report("Check of IWAE", problem, [
        reference("k = 1 gives the VAE's sampled bound", one_sample),
        reference("pictures of 2,000 nats have a bound too", faint)])


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "VAE": vae, "VAE, clamped": vae_clamped, "VAE, sampled KL": vae_sampled,
    "ConditionalVAE": conditional, "IWAE": iwae,
}
