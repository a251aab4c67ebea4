"""The plain autoencoder: a picture squeezed through a code and painted again.
"""
from __future__ import annotations

import numpy as np

from npae.layers.base import Sequential
from npae.losses import Likelihood, SquaredError
from npae.models.base import Model, Terms


class Autoencoder(Model):
    """loss = -log p(x | decoder(h)),   h = encoder(x)

    Backward: dh = decoder^T dy;   encoder^T dh
    Units: those of the likelihood
    Source: Hinton & Salakhutdinov 2006
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None):
        super().__init__(encoder, decoder, likelihood or SquaredError())

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon"}, which are the same."""
        self._begin(x, rng)
        h = self.encoder.forward(x)
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        return {"loss": recon, "recon": recon}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        dh = self.decoder.backward(self.dy)
        self.encoder.backward(dh, need_dx=False)
