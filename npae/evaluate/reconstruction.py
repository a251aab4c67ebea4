"""Measures a trained model in units that can be compared with published figures.

Every number is a mean over all the pictures given, each picture counted once, and says its unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npae.data.batches import Transform, batches
from npae.models.base import Terms

ROWS = 4096  # pictures turned to float64 at a time: 26 MB of MNIST


def loss_terms(
    model: Any,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    rng: np.random.Generator,
    batch_size: int = 256,
    transform: Transform | None = None,
) -> Terms:
    """The terms of `model.loss` on pictures that are not trained on, with z sampled but without noise or dropout.

    Shapes: x (N, H, W, C), uint8 or float in [0, 1]; y (N,) labels of a conditional model
    Units: the model's, a mean over N
    """
    sums: Terms = {}
    with model.without_noise():
        for x_batch, y_batch in batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype):
            for name, value in model.loss(x_batch, y_batch, rng=rng).items():
                sums[name] = sums.get(name, 0.0) + len(x_batch) * float(value)
    return {name: value / len(x) for name, value in sums.items()}


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
    and only with beta = 1 is the sum a bound. recon has the likelihood's constant in it. Grey pixels under Bernoulli()
    give a cross-entropy in place of log p(x|z): compare it with figures for grey pixels only.

    Shapes: x (N, H, W, C), uint8 or float32 in [0, 1]; y (N,) labels of a conditional model
    Units: nats per image, a mean over N
    Raises ValueError: the likelihood is not one (squared error has no nats); the model has no KL; no pictures
    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 3

    `transform` is applied to each batch first (binarisation); rng gives its noise and the noise of z.
    """
    unit = model.likelihood.unit
    if not unit.startswith("nats"):
        raise ValueError(
            f"an ELBO is in nats, and this model's likelihood {type(model.likelihood).__name__} is in {unit}: "
            "use reconstruction_mse, or train with Bernoulli() or Gaussian(variance)"
        )
    terms = loss_terms(model, x, y, rng=rng, batch_size=batch_size, transform=transform)
    if "kl" not in terms:
        raise ValueError(
            f"an ELBO needs the terms 'recon' and 'kl', and {type(model).__name__}.loss gives {sorted(terms)}: "
            "use reconstruction_mse for a model without a prior"
        )
    return {"elbo": -(terms["recon"] + terms["kl"]), "recon": terms["recon"], "kl": terms["kl"]}


def reconstruction_mse(
    model: Any,
    x: np.ndarray,
    *,
    y: np.ndarray | None = None,
    batch_size: int = 256,
    transform: Transform | None = None,
    rng: np.random.Generator | None = None,
) -> float:
    """Mean squared error a pixel between pictures and their reconstructions (a VAE's from z = mu).

        mse = 1/(N H W C) sum_n ||x_n - reconstruct(x_n)||^2

    Shapes: x (N, H, W, C), uint8 or float32 in [0, 1]
    Units: squared grey level per pixel, grey levels in [0, 1]; times H W C it is the squared error per image
    Raises ValueError: no pictures; reconstructions of another shape (both shown)

    `transform` is applied to each batch first; rng is its noise, where it has one.
    """
    total = 0.0
    for x_batch, y_batch in batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype):
        x_hat = model.reconstruct(x_batch, y_batch)
        if x_hat.shape != x_batch.shape:  # NumPy would stretch the one to the other
            raise ValueError(f"pictures of shape {x_batch.shape[1:]} come back as {x_hat.shape[1:]}: pass them as "
                             "(N, H, W, C), with the size that the model was built for")
        total += float(np.square(np.subtract(x_batch, x_hat, dtype=np.float64)).sum())
    return total / x.size


def pca_mse(x_train: np.ndarray, x_test: np.ndarray, k: int) -> float:
    """Mean squared error a pixel of the best linear code of k numbers: what an autoencoder has to beat.

        m = mean(x_train);  V = the k leading eigenvectors of cov(x_train)
        mse = 1/(N D) sum_n ||(x_n - m) - V V^T (x_n - m)||^2     over the N pictures of x_test, D = H W C

    Exact, in float64: the covariance (D, D) and all its eigenvectors, so D is better below a few thousand.

    Shapes: x_train (M, H, W, C), x_test (N, H, W, C), uint8 or float in [0, 1]; 0 <= k <= D
    Units: squared grey level per pixel, grey levels in [0, 1]
    Raises ValueError: k out of range; pictures of two sizes; no pictures
    Source: Pearson 1901; Baldi & Hornik 1989 (a linear autoencoder reaches this and no less)

    >>> line = np.outer(np.arange(5.0), [0.1, 0.2]).reshape(5, 1, 2, 1)
    >>> round(pca_mse(line, line, 1), 12), round(pca_mse(line, line, 0), 12)
    (0.0, 0.05)
    """
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"pca_mse was given training pictures of shape {x_train.shape[1:]} "
                         f"and test pictures of shape {x_test.shape[1:]}: resize the one or the other")
    D = math.prod(x_train.shape[1:])
    if not 0 <= k <= D:
        raise ValueError(f"pca_mse needs 0 <= k <= {D} (the pixels of a picture), got k = {k}")
    m = sum(rows.sum(axis=0) for rows in _rows(x_train)) / len(x_train)
    cov = sum(d.T @ d for d in _rows(x_train, m)) / len(x_train)
    V = np.linalg.eigh(cov).eigenvectors[:, D - k:]  # eigh sorts upwards
    return sum(float(np.square(d - (d @ V) @ V.T).sum()) for d in _rows(x_test, m)) / x_test.size


def _rows(x: np.ndarray, m: np.ndarray | float = 0.0) -> Iterator[np.ndarray]:
    """Pictures minus m as rows of float64 grey levels, ROWS at a time."""
    for block, _ in batches(x, None, ROWS):
        yield block.reshape(len(block), -1).astype(np.float64) - m
