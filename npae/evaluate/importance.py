"""The log-likelihood of a model with a prior, by importance sampling, in memory that does not grow with the samples.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from npae.checks import whole
from npae.data.batches import Transform, batches
from npae.evaluate.bounds import Grey, check_nats, check_prior


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
    picture keeps four numbers (the largest log w, the sums of w and w^2 relative to it, and that of log w), so memory
    does not grow with k, and the noise of the first samples is the same whatever comes after, and whatever batch_size.

    "elbo" is the mean of log w over the same pictures and samples: how far it lies below is what q costs.
    "se" (of 2 pictures or more) is the standard error of the mean, were the pictures drawn anew; "se_samples" that of
    the same pictures under other noise, by the delta method: sqrt(sum_n (1/ess_n - 1/k)) / N. "effective_samples" is
    the mean of ess = (sum w)^2 / sum w^2: where it is near 1 the estimate still lies well below log p(x), and
    se_samples is too small. Where pixels other than 0 and 1 meet Bernoulli() (see `elbo`), the first two figures are
    called "cross_entropy_estimate" and "cross_entropy_bound".

    Shapes: x (N, H, W, C), uint8 or float in [0, 1]; y (N,) labels of a conditional model
    Units: nats per image, a mean over N; pictures and samples beside it
    Raises ValueError: the likelihood is not one; a model without a prior; no pictures; samples below 1
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8; Rezende et al. 2014, appendix E
    """
    check_nats(model, "a log-likelihood")
    check_prior(model, "a log-likelihood")
    samples = whole(samples, "log_likelihood: samples")
    seen = Grey(transform)
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
    likelihood, n = seen.is_likelihood(model), len(x)
    found = {"log_likelihood" if likelihood else "cross_entropy_estimate": float(log_p.mean()),
             "elbo" if likelihood else "cross_entropy_bound": float(total.log_sum.mean() / samples)}
    if n > 1:
        with np.errstate(invalid="ignore"):  # of a picture without any probability there is no error to tell
            found["se"] = float(log_p.std(ddof=1) / math.sqrt(n))
    return {**found, "se_samples": math.sqrt(np.maximum(1 / ess - 1 / samples, 0).sum()) / n,
            "effective_samples": float(ess.mean()), "pictures": n, "samples": samples}


class _LogSum:
    """log of a sum of weights that arrive as logarithms, one a picture at a time; -inf and extreme ones are welcome."""

    def __init__(self, n: int) -> None:
        self.count, self.top = 0, np.full(n, -np.inf)
        self.sum, self.square = np.zeros(n), np.zeros(n)  # of exp(log_w - top) and of its square
        self.log_sum = np.zeros(n)  # of log_w itself

    def add(self, log_w: np.ndarray) -> None:
        """One more weight for each picture."""
        self.log_sum = self.log_sum + log_w
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
        none = self.square == 0  # a weight that is not a number is not 0
        return np.where(none, 1.0, self.sum * self.sum / np.where(none, 1.0, self.square))


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
