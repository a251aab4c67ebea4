"""What the first layer looks for: its weights as pictures.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import enlargement, page, show, styled, tile
from npae.layers import Conv2d, Dense, Dropout, Flatten, GaussianNoise, MaskingNoise, Sequential, Shift

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 100
BEFORE = (Sequential, Flatten, Shift, GaussianNoise, MaskingNoise, Dropout)  # they leave the pixels where they are


@styled
def filters(
    W: np.ndarray, shape: tuple[int, ...] | None = None, *, title: str = "The first layer's weights"
) -> Figure:
    """The weights into each unit of a first layer as a picture, the largest norm first, at most 100 of them.

        picture = 1/2 + w / (2 max|w|)     a weight of 0 is mid-grey, white is positive, black negative

    Shapes: W (H W C, units) of a Dense with the pictures' `shape` (H, W, C); more rows than pixels, such as those of a
            one-hot label, are left out. Or W (kh, kw, C, units) of a convolution; where C is neither 1 nor 3 each of
            its C * units planes is a picture.
    Raises ValueError: fewer rows than the shape has pixels; a dense W without a shape.
    """
    if W.ndim == 4:
        pictures = _of_kernels(W)
    else:
        pixels = 0 if shape is None else int(np.prod(shape))
        if W.ndim != 2 or shape is None or not 0 < pixels <= len(W):
            raise ValueError(f"filters are columns of W (H W C, units) with their shape (H, W, C), or kernels (kh, kw, "
                             f"C, units): got W {W.shape} and shape {shape}")
        pictures = W[:pixels].T.reshape(-1, *shape)
    what = "kernels" if W.ndim == 4 else "units"
    norms = np.sqrt(np.square(pictures, dtype=np.float64).sum(axis=(1, 2, 3)))
    chosen = np.argsort(-norms, kind="stable")[:MOST]
    w = pictures[chosen].astype(np.float64)
    largest = np.abs(w).max(axis=(1, 2, 3), keepdims=True)
    image, _ = tile(0.5 + w / (2 * np.where(largest == 0, 1, largest)), -(-len(w) // 10), min(10, len(w)), 0.12, 0.12)
    scale = enlargement(w, 96)
    which = f"{len(w)} of {len(pictures):,} {what}" if len(w) < len(pictures) else f"All {len(w)} {what}"
    figure = page(max(900, scale * image.shape[1]), scale * image.shape[0], title,
                  f"{which}, largest norm first. Grey: 0; white and black: ± the largest weight of each")
    show(figure, image, scale)
    return figure


def _of_kernels(W: np.ndarray) -> np.ndarray:
    """(kh, kw, C, O) as pictures (O, kh, kw, C), or (C O, kh, kw, 1) where C channels are no picture."""
    kh, kw, C, _ = W.shape
    return W.transpose(3, 0, 1, 2) if C in (1, 3) else W.transpose(2, 3, 0, 1).reshape(-1, kh, kw, 1)


def first_weights(model: Any) -> np.ndarray | None:
    """The W of a Dense or Conv2d that meets the pixels: nothing but Flatten, noise or Shift before it. Else None."""
    for layer in model.encoder.walk():
        if type(layer) in (Dense, Conv2d):
            return layer.W.value
        if not isinstance(layer, BEFORE):
            return None
    return None
