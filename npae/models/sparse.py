"""The sparse autoencoder: more units than it needs, of which only a few may speak for any one picture.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.checks import real
from npae.layers.base import Sequential
from npae.losses import Likelihood, SquaredError
from npae.models.base import Model, Terms, non_negative
from npae.penalties import sparsity_kl, weight_decay


class SparseAutoencoder(Model):
    """loss = -log p(x | decoder(h)) + beta Σ_j KL(rho ‖ rho_hat_j) + lam Σ ‖W‖²,   h = encoder(x) in (0, 1)

    rho_hat_j is the mean of unit j over the batch: the loss of a batch is no mean of losses of pictures.
    Backward: dh = decoder^T dy + beta dKL/dh;   encoder^T dh;   dW += 2 lam W (weights only, never biases)
    Units: those of the likelihood
    Raises ValueError: rho outside (0, 1); a negative beta or lam.
    Source: Ng, lecture notes CS294A "Sparse autoencoder" (his lambda is 2 lam, his cost half a squared error)
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 rho: float = 0.1, beta: float = 3.0, lam: float = 0.0):
        super().__init__(encoder, decoder, likelihood or SquaredError())
        if not 0 < real(rho) < 1:
            raise ValueError(f"{type(self).__name__} needs a target rho between 0 and 1, got {rho}")
        self.rho, self.beta = float(rho), non_negative(self, "beta", beta)
        self.lam = non_negative(self, "lam", lam)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon", "sparsity", "decay"}"""
        self._begin(x, rng)
        h = self.encoder.forward(x)
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        sparsity, self.dh = sparsity_kl(h, self.rho)
        decay, self.dWs = weight_decay([p.value for p in self.weights], self.likelihood.kernels)
        loss = recon + self.beta * sparsity + self.lam * decay
        return {"loss": loss, "recon": recon, "sparsity": sparsity, "decay": decay}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        for p, dW in zip(self.weights, self.dWs, strict=True):
            p.grad += self.lam * dW
        dh = self.decoder.backward(self.dy) + self.beta * self.dh
        self.encoder.backward(dh, need_dx=False)

    def config(self) -> dict[str, Any]:
        """With rho, beta and lam."""
        return {**super().config(), "rho": self.rho, "beta": self.beta, "lam": self.lam}
