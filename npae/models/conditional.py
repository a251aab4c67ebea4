"""The conditional variational autoencoder: told the label, the code is left to say how the digit is written.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.checks import whole
from npae.layers.base import Sequential
from npae.losses import Likelihood
from npae.models.vae import VAE


class ConditionalVAE(VAE):
    """loss = E_q[-log p(x|z, y)] + beta KL(q(z|x, y) || N(0, I)),   [mu | logvar] = encoder([x | 1_y])

    A label is a place in a list and no amount, so it goes in as one-hot 1_y: behind the pixels of the picture, laid
    out as a row, and behind z, as [z | 1_y], into the decoder. Everything else is the VAE's.
    Shapes: encoder (N, H W C + classes) -> (N, 2 d);   decoder (N, d + classes) -> (N, H, W, C);   y (N,) integers
    Units: nats per image
    Raises ValueError: no labels, or labels outside 0 ... classes - 1.
    Source: Sohn, Lee & Yan 2015 (with a prior that does not depend on y, as in Kingma et al. 2014, model M2)
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, *, classes: int, likelihood: Likelihood | None = None,
                 beta: float = 1.0, kl: str = "analytic"):
        super().__init__(encoder, decoder, likelihood=likelihood, beta=beta, kl=kl)
        self.classes: int = whole(classes, f"{type(self).__name__}: classes")

    def _taken(self) -> int | None:
        """How many numbers of z the decoder takes: all, less the labels."""
        both = super()._taken()
        return None if both is None else both - self.classes

    def _encoder_input(self, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        return np.hstack([x.reshape(len(x), -1), self.one_hot(y, len(x), x.dtype)])

    def _decoder_input(self, z: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        return np.hstack([z, self.one_hot(y, len(z), z.dtype)])

    def one_hot(self, y: np.ndarray | None, n: int, dtype: Any = np.float32) -> np.ndarray:
        """Row i is 1 at column y_i, and 0 elsewhere.

        Shapes: y (n,) -> (n, classes)
        Raises ValueError: labels that are missing, not whole numbers, or outside 0 ... classes - 1.
        """
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} needs the labels y of its {n} pictures: pass integers 0 to {self.classes - 1}")
        y = np.asarray(y)
        if y.shape != (n,) or y.dtype.kind not in "iu":
            raise ValueError(f"{name} needs {n} labels as integers of shape ({n},), got {y.dtype} of shape {y.shape}")
        if y.min() < 0 or y.max() >= self.classes:
            raise ValueError(f"{name} knows the labels 0 to {self.classes - 1}, got {y.min()} to {y.max()}")
        return np.eye(self.classes, dtype=dtype)[y]

    def sample(self, n: int, *, rng: np.random.Generator, y: np.ndarray | None = None) -> np.ndarray:
        """n pictures (pixel means) decoded from z ~ N(0, I) and labels y; without labels, each class in turn."""
        return super().sample(n, rng=rng, y=np.arange(n) % self.classes if y is None else y)

    def config(self) -> dict[str, Any]:
        """With the number of classes."""
        return {**super().config(), "classes": self.classes}
