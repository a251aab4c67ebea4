"""The plain autoencoder: a picture squeezed through a code and painted again.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.layers.base import Sequential
from npae.losses import Likelihood, SquaredError
from npae.models.base import Model, Terms, non_negative
from npae.penalties import weight_decay


class Autoencoder(Model):
    """loss = -log p(x | decoder(h)) + lam Σ ‖W‖²,   h = encoder(x),   lam = weight_decay

    Backward: dh = decoder^T dy;   encoder^T dh;   dW += 2 lam W (weights only, never biases; a tied W counts once)
    Units: those of the likelihood
    Raises ValueError: a negative weight_decay.
    Source: Hinton & Salakhutdinov 2006
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 weight_decay: float = 0.0):
        super().__init__(encoder, decoder, likelihood or SquaredError())
        self.lam = non_negative(self, "weight_decay", weight_decay)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon"}, and with weight decay "decay", the squared length of the weights."""
        self._begin(x, rng)
        h = self.encoder.forward(x)
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        if not self.lam:
            return {"loss": recon, "recon": recon}
        decay, self.dWs = weight_decay([p.value for p in self.weights], self.likelihood.kernels)
        return {"loss": recon + self.lam * decay, "recon": recon, "decay": decay}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        if self.lam:
            for p, dW in zip(self.weights, self.dWs, strict=True):
                p.grad += self.lam * dW
        dh = self.decoder.backward(self.dy)
        self.encoder.backward(dh, need_dx=False)

    def config(self) -> dict[str, Any]:
        """With weight_decay."""
        return {**super().config(), "weight_decay": self.lam}
