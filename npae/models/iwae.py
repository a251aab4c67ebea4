"""The importance-weighted autoencoder: k samples a picture, and a bound that comes closer to log p(x) as k grows.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae.checks import whole
from npae.layers.base import Sequential
from npae.layers.latent import Reparameterize
from npae.losses import Likelihood
from npae.models.base import Terms
from npae.models.vae import VAE, halves


class IWAE(VAE):
    """loss = -log 1/k Σ_k w_k,   w_k = p(x|z_k) p(z_k) / q(z_k|x),   z_k = mu + sigma eps_k

    With log q = -Σ (eps² + logvar) / 2 and log p(z) = -Σ z² / 2 (what both share is left out), k = 1 is the VAE's
    sampled bound.
    Backward: ŵ_k = w_k / Σ w, held constant;   dy_k = -ŵ_k dlog p(x|z_k);   dz_k = decoder^T dy_k + ŵ_k z_k
              dmu = Σ dz_k;   dlogvar = Σ dz_k eps_k sigma / 2 - 1/2 (that of log q);   encoder^T [dmu | dlogvar]
    Units: nats per image
    Raises ValueError: beta other than 1 or the closed KL, which this bound has no place for.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8 and 14
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 samples: int = 5, beta: float = 1.0, kl: str = "sampled"):
        if beta != 1 or kl != "sampled":
            raise ValueError(f"IWAE weighs each sample by p(x, z) / q(z|x) and has no KL to scale or to take in closed "
                             f"form, got beta={beta}, kl={kl!r}: leave both out, or take VAE")
        super().__init__(encoder, decoder, likelihood=likelihood, beta=beta, kl=kl)
        self.samples = whole(samples, "IWAE: samples")
        self.reparameterize = Reparameterize(self.samples)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon", "kl"}; recon and kl are means over the samples: -(recon + kl) is the ELBO."""
        self._begin(x, rng)
        k, n = self.samples, len(x)
        q = self._q(self._encoder_input(x, y))
        logvar = halves(q)[1]
        self.reparameterize.give_rng(rng)
        self.z = self.reparameterize.forward(q)
        output = self.decoder.forward(self._decoder_input(self.z, y))
        nll, self.dy = self.likelihood.nll_each(output, np.concatenate([x] * k))
        double = np.result_type(self.z, np.float64)
        z, eps = (a.reshape(k, n, -1).astype(double) for a in (self.z, self.reparameterize.used_eps))
        kl = np.sum(z * z - eps * eps - logvar, axis=2) / 2  # log q(z|x) - log p(z)
        log_w = -nll.reshape(k, n) - kl
        most = log_w.max(axis=0)
        with np.errstate(under="ignore"):  # a sample that is much less likely than the best weighs nothing
            w = np.exp(log_w - most)
        self.w = w / w.sum(axis=0)
        bound = most + np.log(w.sum(axis=0)) - math.log(k)
        return {"loss": -bound.mean().item(), "recon": nll.mean().item(), "kl": kl.mean().item()}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        k, n = self.w.shape
        w = self.w.reshape(-1, 1).astype(self.z.dtype)
        dy = self.dy * (k * w).reshape(-1, *[1] * (self.dy.ndim - 1))  # dy is that of a mean over k n rows
        dz = self.decoder.backward(dy)[:, :self.z.shape[1]] + w / n * self.z
        dq = self.reparameterize.backward(dz)
        dlogvar = halves(dq)[1]
        dlogvar -= 1 / (2 * n)
        dlogvar *= self.clamped == 0
        self.encoder.backward(dq, need_dx=False)

    def config(self) -> dict[str, Any]:
        """With the number of samples."""
        return {**super().config(), "samples": self.samples}
