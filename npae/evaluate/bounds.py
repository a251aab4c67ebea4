"""Bounds on log p(x) of a model with a prior, and what its code pays for in them: in nats, with sampled z.
A number that is no bound on a log-likelihood (grey pixels under Bernoulli, squared error) is never called one.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from npae.data.batches import Transform, batches
from npae.evaluate.reconstruction import loss_terms
from npae.kernels.geometry import whole
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
    _check_nats(model, "an ELBO")
    seen = _Grey(transform)
    terms = loss_terms(model, x, y, rng=rng, batch_size=batch_size, transform=seen)
    if "kl" not in terms:
        raise ValueError(
            f"an ELBO needs the terms 'recon' and 'kl', and {type(model).__name__}.loss gives {sorted(terms)}: "
            "use reconstruction_mse for a model without a prior"
        )
    name = "cross_entropy_bound" if seen.grey and isinstance(model.likelihood, Bernoulli) else "elbo"
    return {name: -(terms["recon"] + terms["kl"]), "recon": terms["recon"], "kl": terms["kl"]}


def log_likelihood(
    model: Any,
    x: np.ndarray,
    *,
    samples: int = 1000,
    rng: np.random.Generator,
    y: np.ndarray | None = None,
    batch_size: int = 256,
    transform: Transform | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """log p(x) of a model with a prior, estimated by importance sampling from q.

        log p(x) ~= log 1/k sum_k w_k,   w_k = p(x|z_k) p(z_k) / q(z_k|x),   z_k ~ q(z|x)

    In expectation it is a lower bound that rises with k towards log p(x); k = 1 is the ELBO. Sample by sample each
    picture keeps three numbers (the largest log w, and the sums of w and w^2 relative to it, float64), so memory
    does not grow with k, and the noise of the first samples is the same whatever comes after, and whatever batch_size.

    "log_likelihood" is called "cross_entropy_estimate" where pixels other than 0 and 1 meet Bernoulli() (see `elbo`).
    "se" (of 2 pictures or more) is the standard error of the mean, were the pictures drawn anew; "se_samples" that of
    the same pictures under other noise, by the delta method: sqrt(sum_n (1/ess_n - 1/k)) / N. "effective_samples" is
    the mean of ess = (sum w)^2 / sum w^2: where it is near 1 the estimate still lies well below log p(x), and
    se_samples is too small.

    Shapes: x (N, H, W, C), uint8 or float in [0, 1]; y (N,) labels of a conditional model
    Units: nats per image, a mean over N; pictures and samples beside it
    Raises ValueError: the likelihood is not one; a model without a prior; no pictures; samples below 1
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8; Rezende et al. 2014, appendix E
    """
    _check_nats(model, "a log-likelihood")
    _check_prior(model, "a log-likelihood")
    samples = whole(samples, "log_likelihood: samples")
    seen = _Grey(transform)
    x = np.concatenate([b for b, _ in batches(x, None, batch_size, noise=rng, transform=seen, dtype=model.theta.dtype)])
    y = None if y is None else np.asarray(y)
    mu, logvar = (a.astype(np.float64) for a in model.encode_stats(x, y))
    total = _LogSum(len(x))
    with _kept_buffers(model):
        for _ in _steps(samples, progress):
            eps = rng.standard_normal(mu.shape).astype(model.theta.dtype).astype(np.float64)
            z = mu + np.exp(logvar / 2) * eps
            log_w = 0.5 * np.sum(eps * eps + logvar - z * z, axis=1)  # log p(z) - log q(z|x)
            for part in (slice(i, i + batch_size) for i in range(0, len(x), batch_size)):
                output = model.decoder_output(z[part].astype(model.theta.dtype), None if y is None else y[part])
                log_w[part] -= model.likelihood.per_image(output, x[part])
            total.add(log_w)
    log_p, ess = total.log_mean(), total.effective_samples()
    name = "cross_entropy_estimate" if seen.grey and isinstance(model.likelihood, Bernoulli) else "log_likelihood"
    n = len(x)
    with np.errstate(invalid="ignore"):  # of a picture without any probability there is no error to tell
        error = {"se": float(log_p.std(ddof=1) / math.sqrt(n))} if n > 1 else {}
    return {name: float(log_p.mean()), **error, "se_samples": math.sqrt(np.maximum(1 / ess - 1 / samples, 0).sum()) / n,
            "effective_samples": float(ess.mean()), "pictures": n, "samples": samples}


class _LogSum:
    """log of a sum of weights that arrive as logarithms, one a picture at a time; -inf and extreme ones are welcome."""

    def __init__(self, n: int) -> None:
        self.count, self.top = 0, np.full(n, -np.inf)
        self.sum, self.square = np.zeros(n), np.zeros(n)  # of exp(log_w - top) and of its square

    def add(self, log_w: np.ndarray) -> None:
        """One more weight for each picture."""
        top = np.maximum(self.top, log_w)
        shift = np.where(np.isneginf(top), 0.0, top)  # -inf - -inf would be NaN; shifted by 0 it is exp(-inf) = 0
        with np.errstate(under="ignore"):
            old, new = np.exp(self.top - shift), np.exp(log_w - shift)
            self.sum = self.sum * old + new
            self.square = self.square * old * old + new * new
        self.top, self.count = top, self.count + 1

    def log_mean(self) -> np.ndarray:
        """log 1/k sum_k w_k, -inf where every weight was 0."""
        with np.errstate(divide="ignore"):
            return self.top + np.log(self.sum) - math.log(self.count)

    def effective_samples(self) -> np.ndarray:
        """(sum w)^2 / sum w^2, between 1 and k; 1 where every weight was 0."""
        return np.where(self.square > 0, self.sum * self.sum / np.where(self.square > 0, self.square, 1), 1.0)


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
    _check_prior(model, "mu and logvar")
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
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, section 5.2 (threshold 0.01)
    """
    return int((np.var(np.asarray(mu, np.float64), axis=0) > threshold).sum())


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
    Raises ValueError: no pictures

    >>> grey_floor(np.full((3, 2, 2, 1), 0.5)) / math.log(2)
    4.0
    """
    total = 0.0
    for batch, _ in batches(x, None, 4096, noise=rng, transform=transform, dtype=np.float64):
        p = batch[(batch > 0) & (batch < 1)].astype(np.float64)
        total -= float(np.sum(p * np.log(p) + (1 - p) * np.log1p(-p)))
    return total / len(x)


def has_nats(model: Any) -> bool:
    """Whether the model's likelihood is one, with its constant; squared error is not."""
    return model.likelihood.unit.startswith("nats")


class _Grey:
    """A transform that does what it is given, and remembers whether any pixel came out neither 0 nor 1."""

    def __init__(self, transform: Transform | None) -> None:
        self.transform, self.grey = transform, False

    def __call__(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        x = x if self.transform is None else self.transform(x, rng)
        self.grey = self.grey or bool(((x != 0) & (x != 1)).any())
        return x


@contextmanager
def _kept_buffers(model: Any) -> Iterator[None]:
    """Inside, the layers write into the same arrays again and again: decoding is half as quick again."""
    before = any(layer.work.keep for layer in model.walk())
    model.keep_buffers(True)
    try:
        yield
    finally:
        model.keep_buffers(before)


def _steps(samples: int, progress: bool) -> Any:
    if not progress:
        return range(samples)
    from tqdm import tqdm

    return tqdm(range(samples), desc="log-likelihood", unit=" samples a picture", leave=False)


def _check_nats(model: Any, what: str) -> None:
    if not has_nats(model):
        raise ValueError(
            f"{what} is in nats, and this model's likelihood {type(model.likelihood).__name__} is in "
            f"{model.likelihood.unit}: use reconstruction_mse, or train with Bernoulli() or Gaussian(variance)"
        )


def _check_prior(model: Any, what: str) -> None:
    if not hasattr(model, "encode_stats"):
        raise ValueError(f"{what} needs a model with a prior and q(z|x), such as VAE, and {type(model).__name__} has "
                         "none: use reconstruction_mse")
