"""Reparameterize: a sample that a gradient can pass through."""
from __future__ import annotations

import numpy as np

from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Constant, apply, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Reparameterize

n, j, k, n_, j_, k_ = letters("n j k n′ j′ k′")
mu, logvar, sigma, eps, z = arrays("mu logvar sigma eps z")
dmu, dlogvar, dsigma, dz = arrays("dmu dlogvar dsigma dz")
Shape = tuple[int, ...]
SAMPLES = 2


def reparameterize(shape: Shape | None) -> Lesson:
    """z = mu + sigma eps"""
    N, columns = example.checked_shape(shape, (2, 4), "Reparameterize", "(N, 2 d)")
    layer = Reparameterize(SAMPLES)
    d = layer.output_shape((columns,))[0]
    layer.eps = example.halves((SAMPLES * N, d), 5) * example.whole((SAMPLES * N, d), 6)
    x = np.concatenate([example.whole((N, d), 7), example.whole((N, d), 8) / 2], axis=1)
    e = example.of_layer(layer, x, {"n": N, "j": d, "k": SAMPLES}, given=("mu", "logvar", "eps", "dz"),
                         aliases={"x[:, :d]": "mu", "x[:, d:]": "logvar"})
    a = e.arrays
    dy = a["dy"].reshape(SAMPLES, N, d)
    noise = layer.eps.reshape(dy.shape)
    spread = np.exp(x[:, d:] / 2)
    a.update(mu=x[:, :d], logvar=x[:, d:], eps=noise, z=a["y"].reshape(dy.shape), dz=dy, sigma=spread,
             dmu=a["dx"][:, :d], dlogvar=a["dx"][:, d:], dsigma=(dy * noise).sum(0))
    e.losses.update(
        mu=lambda m: e.losses["x"](np.concatenate([m, x[:, d:]], axis=1)),
        logvar=lambda v: e.losses["x"](np.concatenate([x[:, :d], v], axis=1)),
        sigma=lambda s: float(np.sum(dy * (x[:, :d] + s * noise))))
    return Lesson(
        e, "a sample that a gradient can pass through",
        "Letters: n is the picture, j the latent, k the sample, N the number of pictures. x is [mu | logvar], so that "
        "two heads are one Dense; y has sample after sample as rows, and z[k, n, j] is its row k N + n.",
        (Equation(sigma[n, j], apply("exp", logvar[n, j] / 2)),
         Equation(z[k, n, j], mu[n, j] + sigma[n, j] * eps[k, n, j])),
        "A sample of N(mu, sigma²) by a draw that does not depend on mu and sigma: eps ~ N(0, 1) is drawn, then "
        "stretched by sigma and shifted by mu. For a given eps, z is a smooth function of mu and logvar.",
        (_dmu(), _dsigma(), _dlogvar()),
        (Reparameterize._forward, Reparameterize._backward), pictures=(pictures.estimators(),))


def _dmu() -> Gradient:
    return Gradient(
        Equation(dmu[n, j], total(k, dz[k, n, j])),
        "mu[n, j] stands in z[k, n, j] of every sample k, with the factor 1.",
        (Path(z[k_, n_, j_], Constant(1), ((n_, n), (j_, j))),),
        "k′ is free: all samples of a picture share its mu.",
        ("dmu = Σ_k dz[k, :, :]", "A step of mu moves every sample by that step."))


def _dsigma() -> Gradient:
    return Gradient(
        Equation(dsigma[n, j], total(k, dz[k, n, j] * eps[k, n, j])),
        "sigma[n, j] stands in z[k, n, j] of every sample, each time beside its eps.",
        (Path(z[k_, n_, j_], eps[k_, n, j], ((n_, n), (j_, j))),),
        "Again a sum over the samples. A sample above the mean (eps > 0) moves up as sigma grows, one below it moves "
        "down.",
        ("dsigma = Σ_k dz[k, :, :] ⊙ eps[k, :, :]", "Number by number, then summed over the samples."))


def _dlogvar() -> Gradient:
    return Gradient(
        Equation(dlogvar[n, j], dsigma[n, j] * sigma[n, j] / 2),
        "logvar[n, j] reaches the loss through sigma[n, j] alone.",
        (Path(sigma[n_, j_], sigma[n, j] / 2, ((n_, n), (j_, j))),),
        "The derivative of exp(t / 2) is exp(t / 2) / 2, which is sigma / 2: the half comes from sigma "
        "being the square root of exp(logvar).",
        ("dlogvar = dsigma ⊙ sigma / 2", "A net's output may have any sign, a sigma may not. So the net gives logvar, "
         "and exp makes sigma positive."))
