"""Bounds on log p(x) of a model with a prior, and what its code pays for in them: in nats, with sampled z.
A number that is no bound on a log-likelihood (grey pixels under Bernoulli, squared error) is never called one.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae.data.batches import Transform, batches
from npae.evaluate.reconstruction import loss_terms
from npae.losses import Bernoulli

ACTIVE = 0.01  # variance over pictures from which on a unit of the code counts as active (Burda et al.)


def elbo(
    model: Any,
    x: np.ndarray,
    *,
    rng: np.random.Generator,
    y: np.ndarray | None = None,
    batch_size: int = 256,
    transform: Transform | None = None,
) -> dict[str, float]:
    """The evidence lower bound of a test set, one z ~ q(z|x) drawn for each picture.

        elbo = E_q[log p(x|z)] - KL(q(z|x) || p(z)) = -(recon + kl) <= log p(x)

    recon and kl are the terms of `model.loss`, never its "loss": that one has the training weight beta on the KL,
    and only with beta = 1 is the sum a bound. recon has the likelihood's constant in it. Pixels other than 0 and 1
    under Bernoulli() give a cross-entropy in place of log p(x|z): the sum is then called "cross_entropy_bound", to be
    compared with figures for grey pixels alone; it cannot rise above -`grey_floor(x)`, -45.53 nats on MNIST's test set.

    Shapes: x (N, H, W, C), uint8 or float32 in [0, 1]; y (N,) labels of a conditional model
    Units: nats per image, a mean over N
    Raises ValueError: the likelihood is not one (squared error has no nats); the model has no KL; no pictures
    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 3

    `transform` is applied to each batch first (binarisation); rng gives its noise and the noise of z.
    """
    check_nats(model, "an ELBO")
    seen = Grey(transform)
    terms = loss_terms(model, x, y, rng=rng, batch_size=batch_size, transform=seen)
    if "kl" not in terms:
        raise ValueError(
            f"an ELBO needs the terms 'recon' and 'kl', and {type(model).__name__}.loss gives {sorted(terms)}: "
            "use reconstruction_mse for a model without a prior"
        )
    name = "elbo" if seen.is_likelihood(model) else "cross_entropy_bound"
    return {name: -(terms["recon"] + terms["kl"]), "recon": terms["recon"], "kl": terms["kl"]}


def code_statistics(
    model: Any,
    x: np.ndarray,
    *,
    y: np.ndarray | None = None,
    batch_size: int = 256,
    transform: Transform | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar of q(z|x) of a whole test set, in float64.

    Shapes: x (N, H, W, C), y (N,) -> (N, d), (N, d)
    Raises ValueError: a model without a prior; no pictures
    """
    check_prior(model, "mu and logvar")
    parts = [model.encode_stats(x_batch, y_batch) for x_batch, y_batch in
             batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype)]
    mu, logvar = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
    return mu, logvar


def kl_per_dimension(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """What each number of the code costs: the analytic KL of its q from N(0, 1), a mean over the pictures.

        kl_j = 1/N sum_n (mu^2 + exp(logvar) - 1 - logvar) / 2

    Shapes: mu, logvar (N, d), from `code_statistics` -> (d,) float64; its sum is `penalties.gaussian_kl`
    Units: nats per image
    """
    mu, logvar = np.asarray(mu, np.float64), np.asarray(logvar, np.float64)
    return 0.5 * np.mean(mu * mu + (np.expm1(logvar) - logvar), axis=0)


def active_units(mu: np.ndarray, threshold: float = ACTIVE) -> int:
    """How many numbers of the code say anything about the picture: those whose mu varies from picture to picture.

        #{j : Var_x(mu_j) > threshold}

    Shapes: mu (N, d), from `code_statistics`
    Raises ValueError: another shape; codes that are not finite
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, section 5.2 (threshold 0.01)
    """
    mu = np.asarray(mu, np.float64)
    if mu.ndim != 2 or len(mu) == 0 or not np.isfinite(mu).all():
        raise ValueError(f"active_units needs finite codes of shape (N, d), got shape {mu.shape}, of which "
                         f"{np.isfinite(mu).sum()} numbers are finite: look at the model")
    return int((np.var(mu, axis=0) > threshold).sum())


def bits_per_pixel(nats: float, pixels: int) -> float:
    """What a model with this log-likelihood (or bound) needs to store a pixel: -nats / (pixels ln 2).

    Units: nats per image -> bits a pixel, pixels = H W C; under a Gaussian, a density, it may be negative

    >>> bits_per_pixel(-784 * math.log(2), 784)
    1.0
    """
    return -nats / (pixels * math.log(2))


def grey_floor(x: np.ndarray, *, transform: Transform | None = None, rng: np.random.Generator | None = None) -> float:
    """The least cross-entropy that any Bernoulli means can reach on these pictures: the entropy of their pixels.

        floor = 1/N sum_n sum_pixels -x log x - (1 - x) log(1 - x)

    0 where every pixel is 0 or 1; 45.53 on MNIST's grey test set. It is reached by means equal to the picture, so a
    cross-entropy of grey pixels says how far it is above this, and is no description length.

    Shapes: x (N, H, W, C), uint8 or float in [0, 1]
    Units: nats per image
    Raises ValueError: no pictures; grey levels outside [0, 1], or not numbers

    >>> grey_floor(np.full((3, 2, 2, 1), 0.5)) / math.log(2)
    4.0
    """
    total = 0.0
    for batch, _ in batches(x, None, 4096, noise=rng, transform=transform, dtype=np.float64):
        if not (batch.min() >= 0 and batch.max() <= 1):  # NaN is neither
            raise ValueError(f"grey_floor needs grey levels in [0, 1], got {batch.min():g} to {batch.max():g}: divide "
                             "by the largest, or mend the pictures")
        p = batch[(batch > 0) & (batch < 1)].astype(np.float64)
        total -= float(np.sum(p * np.log(p) + (1 - p) * np.log1p(-p)))
    return total / len(x)


def has_nats(model: Any) -> bool:
    """Whether the model's likelihood is one, with its constant; squared error is not."""
    return model.likelihood.unit.startswith("nats")


class Grey:
    """A transform that does what it is given, and remembers whether any pixel came out neither 0 nor 1."""

    def __init__(self, transform: Transform | None) -> None:
        self.transform, self.grey = transform, False

    def __call__(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        x = x if self.transform is None else self.transform(x, rng)
        self.grey = self.grey or bool(((x != 0) & (x != 1)).any())
        return x

    def is_likelihood(self, model: Any) -> bool:
        """Whether the model's nll of these pictures is -log p(x|z): Bernoulli's of grey pixels is not."""
        return not (self.grey and isinstance(model.likelihood, Bernoulli))


def check_nats(model: Any, what: str) -> None:
    if not has_nats(model):
        raise ValueError(
            f"{what} is in nats, and this model's likelihood {type(model.likelihood).__name__} is in "
            f"{model.likelihood.unit}: use reconstruction_mse, or train with Bernoulli() or Gaussian(variance)"
        )


def check_prior(model: Any, what: str) -> None:
    if not hasattr(model, "encode_stats"):
        raise ValueError(f"{what} needs a model with a prior and q(z|x), such as VAE, and {type(model).__name__} has "
                         "none: use reconstruction_mse")
