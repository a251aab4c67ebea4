"""How far reconstructions are from their pictures, beside the best linear code of as many numbers (PCA).
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npae.checks import whole
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
    """The terms of `model.loss` on pictures that are not trained on: z is sampled and a denoising model spoils them, as
    its objective says, but noise and dropout layers are off.

    Shapes: x (N, H, W, C), uint8 or float in [0, 1]; y (N,) labels of a conditional model
    Units: the model's, a mean over N
    """
    sums: Terms = {}
    with model.without_noise():
        for x_batch, y_batch in batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype):
            for name, value in model.loss(x_batch, y_batch, rng=rng).items():
                sums[name] = sums.get(name, 0.0) + len(x_batch) * float(value)
    return {name: value / len(x) for name, value in sums.items()}


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
    total, pixels = 0.0, 0
    for x_batch, y_batch in batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype):
        x_hat = model.reconstruct(x_batch, y_batch)
        if x_hat.shape != x_batch.shape:  # NumPy would stretch the one to the other
            raise ValueError(f"pictures of shape {x_batch.shape[1:]} come back as {x_hat.shape[1:]}: pass them as "
                             "(N, H, W, C), with the size that the model was built for")
        total += float(np.square(np.subtract(x_batch, x_hat, dtype=np.float64)).sum())
        pixels += x_batch.size  # a transform may have cropped
    return total / pixels


class PCA(NamedTuple):
    """The principal components of a training set: the best linear codes of every length at once (see `pca`).

    Shapes: shape (H, W, C), D = H W C; mean (D,); components (D, D), orthonormal columns, the strongest first;
    variances (D,), of the pixels along each component
    """

    shape: tuple[int, ...]
    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray

    def codes(self, x: np.ndarray, k: int, *, transform: Transform | None = None,
              rng: np.random.Generator | None = None) -> np.ndarray:
        """h = V^T (x - m), V the k leading components.

        Shapes: x (N, H, W, C) -> (N, k) float64
        Raises ValueError: k out of range; pictures of another size
        """
        V = self._leading(x, k)
        return np.concatenate([d @ V for d in _rows(x, self.mean, transform, rng)])

    def mse(self, x: np.ndarray, k: int, *, transform: Transform | None = None,
            rng: np.random.Generator | None = None) -> float:
        """1/(N D) sum_n ||(x_n - m) - V V^T (x_n - m)||^2, V the k leading components.

        Units: squared grey level per pixel, grey levels in [0, 1]
        Raises ValueError: as `codes`
        """
        V = self._leading(x, k)
        rows = _rows(x, self.mean, transform, rng)
        return sum(float(np.square(d - (d @ V) @ V.T).sum()) for d in rows) / x.size

    def _leading(self, x: np.ndarray, k: int) -> np.ndarray:
        _check_fit(self.shape, x, k)
        return self.components[:, :k]


def pca(x: np.ndarray, *, transform: Transform | None = None, rng: np.random.Generator | None = None) -> PCA:
    """The principal components of pictures.

        m = mean(x);  cov = 1/M sum (x - m)(x - m)^T = V diag(variances) V^T

    Exact, in float64: the covariance (D, D) and all its eigenvectors, so D is better below a few thousand.
    It is summed around the mean c of the first pictures and then moved, cov = E[(x - c)(x - c)^T] - (m - c)(m - c)^T:
    one pass, so that a random `transform` draws each picture once, and no digits lost, because c is close to m.

    Shapes: x (M, H, W, C), uint8 or float in [0, 1]
    Raises ValueError: no pictures
    Source: Pearson 1901
    """
    D = math.prod(x.shape[1:])
    total, square, c = np.zeros(D), np.zeros((D, D)), np.zeros(D)
    for i, rows in enumerate(_rows(x, 0.0, transform, rng)):
        if i == 0:
            c = rows.mean(axis=0)
        d = rows - c
        total += d.sum(axis=0)
        square += d.T @ d
    shift = total / len(x)
    values, vectors = np.linalg.eigh(square / len(x) - np.outer(shift, shift))
    return PCA(x.shape[1:], c + shift, vectors[:, ::-1], np.maximum(values[::-1], 0))  # eigh sorts upwards


def pca_mse(x_train: np.ndarray, x_test: np.ndarray, k: int) -> float:
    """Mean squared error a pixel of the best linear code of k numbers: what an autoencoder has to beat.

        m = mean(x_train);  V = the k leading eigenvectors of cov(x_train)
        mse = 1/(N D) sum_n ||(x_n - m) - V V^T (x_n - m)||^2     over the N pictures of x_test, D = H W C

    `pca(x_train)` gives the same for every k, and the codes, for the price of one.

    Shapes: x_train (M, H, W, C), x_test (N, H, W, C), uint8 or float in [0, 1]; 0 <= k <= D
    Units: squared grey level per pixel, grey levels in [0, 1]
    Raises ValueError: k out of range; pictures of two sizes; no pictures
    Source: Pearson 1901; Baldi & Hornik 1989 (a linear autoencoder reaches this and no less)

    >>> line = np.outer(np.arange(5.0), [0.1, 0.2]).reshape(5, 1, 2, 1)
    >>> round(pca_mse(line, line, 1), 12), round(pca_mse(line, line, 0), 12)
    (0.0, 0.05)
    """
    _check_fit(x_train.shape[1:], x_test, k)  # before the long work
    return pca(x_train).mse(x_test, k)


def _check_fit(shape: tuple[int, ...], x: np.ndarray, k: int) -> None:
    if x.shape[1:] != shape:
        raise ValueError(f"pca was given training pictures of shape {shape} and test pictures of shape {x.shape[1:]}: "
                         "resize the one or the other")
    k = whole(k, "pca: k", least=0)
    if k > math.prod(shape):
        raise ValueError(f"pca needs 0 <= k <= {math.prod(shape)} (the pixels of a picture), got k = {k}")


def _rows(x: np.ndarray, m: np.ndarray | float = 0.0, transform: Transform | None = None,
          rng: np.random.Generator | None = None) -> Iterator[np.ndarray]:
    """Pictures minus m as rows of float64 grey levels, ROWS at a time."""
    for block, _ in batches(x, None, ROWS, noise=rng, transform=transform):
        yield block.reshape(len(block), -1).astype(np.float64) - m
