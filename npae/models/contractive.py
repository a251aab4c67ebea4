"""The contractive autoencoder: a code that hardly moves when its picture does, except where it has to.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.layers import Dense, Flatten, Sequential, Shift
from npae.layers.tangent import Tangent
from npae.losses import Likelihood, SquaredError
from npae.models.base import Model, Terms, non_negative
from npae.penalties import contractive


class ContractiveAutoencoder(Model):
    """loss = -log p(x | decoder(h)) + lam ‖J‖²_F,   h = encoder(x),   J = dh/dx, a mean over pictures

    One dense layer: in closed form (`penalties.contractive`). A deep smooth encoder: ‖J v‖² for one v ~ N(0, I) a
    picture, drawn with rng, whose mean over v is ‖J‖²_F.
    Backward: dh = decoder^T dy + lam djac/dh;   encoder^T dh;   dW += lam djac/dW        (t = J v: `layers.tangent`)
    Units: those of the likelihood
    Raises ValueError: a negative lam; a deep encoder with a kink or a layer that has no tangent.
    Source: Rifai et al. 2011; the random direction: Hutchinson 1990
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 lam: float = 0.1):
        super().__init__(encoder, decoder, likelihood or SquaredError())
        self.lam = non_negative(self, "lam", lam)
        self.dense = _only_dense(encoder)
        self.tangent = Tangent(encoder) if self.dense is None else None

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon", "jac"}; a deep encoder draws its directions with rng."""
        self._begin(x, rng)
        if self.tangent is None:
            h = self.encoder.forward(x)
            jac, self.dh, self.dW = contractive(h, self.dense.W.value, self.dense.activation)
        else:
            h, t = self.tangent.forward(x, self._direction(x, rng))
            jac = np.square(t, dtype=np.result_type(t, np.float64)).sum().item() / len(x)
            self.dt = 2 / len(x) * t
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        return {"loss": recon + self.lam * jac, "recon": recon, "jac": jac}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        dh = self.decoder.backward(self.dy)
        if self.tangent is None:
            self.dense.W.grad += self.lam * self.dW
            self.encoder.backward(dh + self.lam * self.dh, need_dx=False)
        else:
            self.tangent.backward(dh, self.lam * self.dt)

    def _direction(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        if rng is None:
            raise ValueError(f"{type(self).__name__} with a deep encoder draws a direction: pass rng to model.loss")
        return rng.standard_normal(x.shape).astype(x.dtype)

    def config(self) -> dict[str, Any]:
        """With lam."""
        return {**super().config(), "lam": self.lam}


def _only_dense(encoder: Sequential) -> Any:
    """The dense layer of an encoder that is one and nothing else (but a new shape or a shift before it), or None."""
    *before, last = (layer for layer in encoder.walk() if not isinstance(layer, Sequential))
    return last if type(last) is Dense and all(isinstance(layer, Flatten | Shift) for layer in before) else None
