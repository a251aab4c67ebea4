"""The autoencoder with weight decay: the shortest weights that still paint the picture.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.layers.base import Sequential
from npae.losses import Likelihood
from npae.models.autoencoder import Autoencoder
from npae.models.base import Terms, non_negative
from npae.penalties import weight_decay


class WeightDecayAutoencoder(Autoencoder):
    """loss = -log p(x | decoder(h)) + lam Σ ‖W‖²,   h = encoder(x)

    Backward: that of the plain autoencoder;   dW += 2 lam W      (weights only, never biases; a tied W counts once)
    Units: those of the likelihood
    Raises ValueError: a negative lam.
    Source: Krogh & Hertz 1991
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 lam: float = 1e-4):
        super().__init__(encoder, decoder, likelihood=likelihood)
        self.lam = non_negative(self, "lam", lam)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon", "decay"}; decay is the squared length of the weights."""
        recon = super().loss(x, y, rng)["recon"]
        decay, self.dWs = weight_decay([p.value for p in self.weights], self.likelihood.kernels)
        return {"loss": recon + self.lam * decay, "recon": recon, "decay": decay}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        super().backward()
        for p, dW in zip(self.weights, self.dWs, strict=True):
            p.grad += self.lam * dW

    def config(self) -> dict[str, Any]:
        """With lam."""
        return {**super().config(), "lam": self.lam}
