"""The denoising autoencoder: shown a spoilt picture, asked for the clean one, it has to learn what pictures look like.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.checks import real
from npae.corruption import CORRUPTIONS
from npae.layers.base import Sequential
from npae.losses import Likelihood
from npae.models.autoencoder import Autoencoder
from npae.models.base import Terms


class DenoisingAutoencoder(Autoencoder):
    """loss = -log p(x | decoder(h)),   h = encoder(x_noisy),   x_noisy = corruption(x, amount), drawn anew every time

    Backward: as of the plain autoencoder; x is the target, and no gradient goes into the noise
    Units: those of the likelihood
    Raises ValueError: an unknown corruption; an amount that it does not take.
    Source: Vincent et al. 2008; Vincent et al. 2010, JMLR 11, pages 3371-3408
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 corruption: str = "masking", amount: float = 0.3):
        super().__init__(encoder, decoder, likelihood=likelihood)
        if corruption not in CORRUPTIONS:
            raise ValueError(f"{type(self).__name__}: corruption must be one of {', '.join(CORRUPTIONS)}, "
                             f"got {corruption!r}")
        self.corruption, self.amount = corruption, real(amount)
        self.corrupt(np.zeros((1, 1)), np.random.default_rng(0))  # here, where a wrong amount is easy to find

    def corrupt(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """x_noisy of pictures x.

        Raises ValueError: without a generator: a loss on clean pictures would be another model's.
        """
        if rng is None:
            raise ValueError(f"{type(self).__name__} draws its noise from a generator: pass rng to model.loss")
        return CORRUPTIONS[self.corruption](x, self.amount, rng)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon"}, which are the same; the noise is drawn with rng."""
        self._begin(x, rng)
        h = self.encoder.forward(self.corrupt(x, rng))
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        return {"loss": recon, "recon": recon}

    def config(self) -> dict[str, Any]:
        """With the corruption and its amount."""
        return {**super().config(), "corruption": self.corruption, "amount": self.amount}
