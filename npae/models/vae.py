"""The variational autoencoder: the code is a distribution, and a sample of it must be enough to paint the picture.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.checks import whole
from npae.layers.base import Sequential, Shape
from npae.layers.latent import Reparameterize
from npae.losses import Bernoulli, Likelihood
from npae.models.base import Model, Terms, non_negative
from npae.penalties import gaussian_kl, gaussian_kl_sampled

LOGVAR_RANGE = (-30.0, 20.0)  # exp(logvar) stays a number in float32; nothing that learns comes near


class VAE(Model):
    """loss = E_q[-log p(x|z)] + beta KL(q(z|x) || N(0, I)),   q = N(mu, exp(logvar)),   [mu | logvar] = encoder(x)

    With beta = 1 and sampled z, -loss is the ELBO. logvar is clamped to LOGVAR_RANGE here, before KL and z alike.
    Backward: dz = decoder^T dy;   dmu = dz + beta dKL/dmu;   dlogvar = dz eps sigma / 2 + beta dKL/dlogvar, 0 where
              clamped;   encoder^T [dmu | dlogvar]
    Units: nats per image
    Raises ValueError: kl neither "analytic" nor "sampled" (the single-sample estimate log q(z|x) - log p(z)); beta
    below 0 or not finite.
    Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 3 and 10; beta: Higgins et al. 2017
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, likelihood: Likelihood | None = None,
                 beta: float = 1.0, kl: str = "analytic"):
        if kl not in ("analytic", "sampled"):
            raise ValueError(f"VAE: kl must be 'analytic' or 'sampled', got {kl!r}")
        super().__init__(encoder, decoder, likelihood or Bernoulli())
        self.beta, self.kl = non_negative(self, "beta", beta), kl
        self.reparameterize = Reparameterize()
        self.held: np.ndarray | None = None

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """{"loss", "recon", "kl"} with one z ~ q(z|x) a picture, drawn with rng."""
        self._begin(x, rng)
        q = self._q(self._encoder_input(x, y))
        mu, logvar = halves(q)
        self.reparameterize.give_rng(rng)
        z = self.reparameterize.forward(q)
        recon, self.dy = self.likelihood.nll(self.decoder.forward(self._decoder_input(z, y)), x)
        if self.kl == "analytic":
            kl, self.dmu, self.dlogvar = gaussian_kl(mu, logvar, self.work)
        else:
            kl, self.dmu, self.dlogvar = gaussian_kl_sampled(mu, logvar, self.reparameterize.used_eps)
        return {"loss": recon + self.beta * kl, "recon": recon, "kl": kl}

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`."""
        self._check_ready()
        dz = self.decoder.backward(self.dy)[:, :self.dmu.shape[1]]  # labels that stood behind z need no gradient
        dq = self.reparameterize.backward(dz)
        dkl = np.concatenate([self.dmu, self.dlogvar], axis=1, out=self.work.empty("dkl", dq.shape, dq.dtype))
        dkl *= self.beta
        outside = np.not_equal(self.clamped, 0, out=self.work.empty("outside", self.clamped.shape, bool))
        dq += dkl
        np.copyto(halves(dq)[1], 0, where=outside)
        self.encoder.backward(dq, need_dx=False)

    def _q(self, x: np.ndarray) -> np.ndarray:
        """[mu | logvar] of q(z|x), clamped; `clamped` remembers where: -1 below the range, 0 inside, 1 above."""
        q = self.encoder.forward(x)
        d = self.latent
        if q.ndim != 2 or q.shape[1] % 2 or d not in (None, q.shape[1] // 2):
            raise ValueError(f"VAE: the decoder takes {d or 'd'} numbers, so the encoder must give "
                             f"[mu | logvar] of shape (N, {2 * d if d else '2 d'}), got {q.shape}")
        self.clamped = self._sides(halves(q)[1]) if self.held is None else self.held
        if np.count_nonzero(self.clamped):
            q = q.copy()  # the encoder's own stays as it is
            logvar = halves(q)[1]
            logvar[self.clamped < 0], logvar[self.clamped > 0] = LOGVAR_RANGE
        return q

    def _sides(self, logvar: np.ndarray) -> np.ndarray:
        low, high = LOGVAR_RANGE
        sides = np.greater(logvar, high, out=self.work.empty("sides", logvar.shape, np.int8))
        sides -= np.less(logvar, low, out=self.work.empty("below", logvar.shape, bool))
        return sides

    def encode_stats(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """mu and logvar of q(z|x).

        Shapes: x (N, H, W, C), y (N,) -> (N, d), (N, d)
        """
        return halves(self._quietly(lambda x, y: self._q(self._encoder_input(x, y)), x, y))

    def encode(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """mu of q(z|x): reconstructions and latent pictures use the centre."""
        return np.ascontiguousarray(self.encode_stats(x, y)[0])

    def sample(self, n: int, *, rng: np.random.Generator, y: np.ndarray | None = None) -> np.ndarray:
        """n pictures (pixel means) decoded from z ~ N(0, I).

        Shapes: (n, H, W, C)
        Raises ValueError: a code of unknown size (no Dense at either end of it, and no input_shape).
        """
        n = whole(n, f"{type(self).__name__}: n")
        if not hasattr(rng, "standard_normal"):
            raise ValueError(f"{type(self).__name__}.sample draws z from a generator: pass rng=numpy.random."
                             f"default_rng(0), got {rng!r}")
        if self.latent is None:
            raise ValueError("VAE: neither net says how many numbers a code has: build the encoder with "
                             "Sequential(layers, input_shape=(H, W, C))")
        return self.decode(rng.standard_normal((n, self.latent)).astype(self.theta.dtype), y)

    def keep_buffers(self, keep: bool) -> None:
        """With what draws z."""
        super().keep_buffers(keep)
        self.reparameterize.keep_buffers(keep)

    def _code_shape(self, shape: Shape) -> Shape:
        """[mu | logvar] is twice as long as z."""
        return (shape[0] // 2, *shape[1:])

    def branch_signature(self) -> Any:
        """Encoder, decoder, and where logvar was clamped."""
        return (*super().branch_signature(), self.clamped.copy())

    def hold(self, branch: Any) -> None:
        """Stay on this branch in every later loss; None lets go."""
        super().hold(branch and branch[:2])
        self.held = branch and branch[2]

    def config(self) -> dict[str, Any]:
        """With beta and kl."""
        return {**super().config(), "beta": self.beta, "kl": self.kl}


def halves(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The views mu and logvar of [mu | logvar]."""
    d = q.shape[1] // 2
    return q[:, :d], q[:, d:]
