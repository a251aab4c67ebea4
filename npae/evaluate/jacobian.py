"""How strongly a code answers to its picture, and along how many directions.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.data.batches import Transform, batches


def singular_values(
    model: Any,
    x: np.ndarray,
    *,
    y: np.ndarray | None = None,
    batch_size: int = 32,
    transform: Transform | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """The singular values of the encoder's Jacobian J = dh/dx at each picture; of a VAE h = mu.

        row j of J = J^T e_j, one backward pass through the encoder with the unit vector e_j as dh

    A contractive model has few large ones: the directions in which the code follows the picture. sum of their squares
    is the contractive penalty ||J||_F^2. `model.grad` comes out as it went in.

    Shapes: x (N, H, W, C), uint8 or float in [0, 1] -> (N, min(d, H W C)) float64, the largest first
    Units: of the code, per grey level
    Raises ValueError: no pictures
    Source: Rifai et al. 2011, Contractive auto-encoders, section 5.3

    Memory is batch_size d H W C doubles, of a batch's Jacobians.
    """
    grad = model.grad.copy()
    try:
        return np.concatenate([
            np.linalg.svd(_jacobians(model, x_batch, y_batch), compute_uv=False) for x_batch, y_batch in
            batches(x, y, batch_size, noise=rng, transform=transform, dtype=model.theta.dtype)])
    finally:
        model.grad[...] = grad  # backward has added to it


def _jacobians(model: Any, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """(N, d, D) of a batch: D pixels, of which a conditional model's labels, behind them, are none."""
    h = model.encode(x, y)  # without noise; and a backward of the model's own is off until a new loss
    d = h[0].size
    out = model.encoder.forward(model._encoder_input(x, y))  # [mu | logvar] of a VAE: mu stands first
    J = np.empty((len(x), d, x[0].size))
    for j in range(d):
        dh = np.zeros_like(out)
        dh.reshape(len(x), -1)[:, j] = 1
        J[:, j] = model.encoder.backward(dh).reshape(len(x), -1)[:, :x[0].size]
    return J
