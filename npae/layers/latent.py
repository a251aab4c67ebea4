"""The stochastic middle of a variational autoencoder: a sample that a gradient can pass through.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.checks import whole
from npae.layers.base import Layer, Shape


class Reparameterize(Layer):
    """A sample of N(mu, exp(logvar)) as a smooth function of mu and logvar.

        z = mu + sigma eps,   sigma = exp(logvar / 2),   eps ~ N(0, 1) for each number

    Shapes: x = [mu | logvar] (N, 2 d) -> z (N, d), or (k N, d) for k samples a picture, sample by sample
    Backward: dmu = sum_k dz;   dlogvar = sum_k dz eps sigma / 2;   dx = [dmu | dlogvar]
    The noise comes from `eps` (k N, d) where it is set, else from a generator (`rng`, `give_rng`).
    Raises ValueError: neither eps nor a generator; an odd number of columns.
    Source: Kingma & Welling 2014, arXiv:1312.6114, section 2.4
    """

    input_ndim = 2
    input_parts = ("mu", "logvar")  # what the columns of x are, in equal parts: a check names them

    def __init__(self, samples: int = 1, *, rng: np.random.Generator | None = None):
        super().__init__()
        self.samples = whole(samples, "Reparameterize: samples")
        self.rng = rng
        self.eps: Any = None
        self.used_eps: Any = None  # the noise of the latest forward

    def give_rng(self, rng: np.random.Generator | None) -> None:
        """Draw from this generator from now on."""
        self.rng = rng

    def _forward(self, x: np.ndarray) -> np.ndarray:
        k, n, d = self.samples, x.shape[0], self.output_shape(x.shape[1:])[0]
        mu, logvar = x[:, :d], x[:, d:]
        self.used_eps = self._noise((k * n, d), x.dtype)
        eps = self.used_eps.reshape(k, n, d)
        sigma = np.divide(logvar, 2, out=self.work.empty("sigma", (n, d), x.dtype))
        np.exp(sigma, out=sigma)
        self.saved = eps, sigma
        z = np.multiply(sigma, eps, out=self.work.empty("z", (k, n, d), x.dtype))
        z += mu
        return z.reshape(k * n, d)

    def _backward(self, dz: np.ndarray, need_dx: bool) -> np.ndarray | None:
        if not need_dx:
            return None
        eps, sigma = self.saved
        dz = dz.reshape(eps.shape)
        n, d = sigma.shape
        dmu = dz.sum(0, out=self.work.empty("dmu", (n, d), dz.dtype))
        dsigma = np.multiply(dz, eps, out=self.work.empty("dsigma", eps.shape, dz.dtype))
        dlogvar = dsigma.sum(0, out=self.work.empty("dlogvar", (n, d), dz.dtype))
        dlogvar *= sigma
        dlogvar /= 2
        return np.concatenate([dmu, dlogvar], axis=1, out=self.work.empty("dx", (n, 2 * d), dz.dtype))

    def _noise(self, shape: Shape, dtype: np.dtype) -> np.ndarray:
        eps = self.work.empty("eps", shape, dtype)
        if self.eps is not None:
            if self.eps.shape != shape:
                raise ValueError(f"{self} needs eps of shape {shape}, got {self.eps.shape}")
            eps[...] = self.eps
            return eps
        if self.rng is None or not hasattr(self.rng, "standard_normal"):
            got = "" if self.rng is None else f", got {self.rng!r}"
            raise ValueError(f"{self} has neither eps nor a generator{got}: pass rng to model.loss, or set eps")
        if not self.work.keep:
            return self.rng.standard_normal(shape).astype(dtype)
        eps[...] = self.rng.standard_normal(out=self.work.empty("draws", shape, np.float64))
        return eps

    def output_shape(self, input_shape: Shape) -> Shape:
        """(d,)"""
        if input_shape[0] % 2:
            raise ValueError(f"{self} splits x into [mu | logvar] and needs an even number of columns, "
                             f"got {input_shape[0]}")
        return (input_shape[0] // 2,)

    def config(self) -> dict[str, Any]:
        """The number of samples."""
        return {"layer": type(self).__name__, "samples": self.samples}
