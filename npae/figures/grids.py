"""Pictures side by side: originals and what a model makes of them, samples, and sheets by class.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npae.canvas import (
    enlargement,
    grey_levels,
    page,
    show,
    styled,
    tile,
    write_above,
    write_beside,
    write_under,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR_WIDTH = 64  # screen pixels that a number under a picture needs
ERROR_NOTE = "mean squared error per pixel (grey levels from 0 to 1)"


@styled
def reconstructions(x: np.ndarray, x_hat: np.ndarray, *, title: str = "Pictures and their reconstructions") -> Figure:
    """Up to ten originals, their reconstructions below them, and below each pair its error.

    Shapes: x, x_hat (N, H, W, C), uint8 or float in [0, 1]
    Units: mean squared error per pixel, grey levels in [0, 1]
    """
    _check_equal(x, reconstructions=x_hat)
    n = min(10, len(x))
    scale = enlargement(x, 104)
    image, corners = tile(np.concatenate([x[:n], x_hat[:n]]), 2, n, col_gap=_room_for_errors(x, scale))
    figure = page(scale * image.shape[1] + 156, scale * image.shape[0] + 14, title, f"Below each pair: {ERROR_NOTE}")
    ax = show(figure, image, scale, left=156)
    write_under(ax, corners[n:], x.shape, _errors(x[:n], x_hat[:n]), scale)
    for name, (top, _) in zip(("original", "reconstructed"), corners[::n], strict=True):
        write_beside(ax, top + x.shape[1] / 2 - 0.5, name)
    return figure


@styled
def samples(
    x: np.ndarray, rows: int = 8, cols: int = 8, *, title: str = "Samples", note: str = "Decoded from z ~ N(0, I)"
) -> Figure:
    """A grid of pictures that the decoder makes of codes drawn from the prior.   x (rows * cols, H, W, C)"""
    if len(x) != rows * cols:
        raise ValueError(f"a grid of {rows} x {cols} shows {rows * cols} samples, got {len(x)}")
    image, _ = tile(x, rows, cols)
    scale = enlargement(x, 96)
    figure = page(scale * image.shape[1], scale * image.shape[0], title, note)
    show(figure, image, scale)
    return figure


@styled
def sheet(x: np.ndarray, labels: np.ndarray | None = None, *, title: str = "A sheet of pictures") -> Figure:
    """The first 100 pictures of a data set, each with its label.

    Shapes: x (N, H, W, C), uint8 or floats in [0, 1]; labels (N,) or None
    """
    n = min(100, len(x))
    image, corners = tile(x[:n], -(-n // 10), min(10, n), row_gap=0.08 if labels is None else 0.24)
    scale = enlargement(x, 96)
    size = " x ".join(map(str, x.shape[1:3])) + (" pixels, grey" if x.shape[3] == 1 else " pixels, colour")
    note = f"The first {n} of {len(x):,}; {size}" + ("" if labels is None else "; below each its label")
    figure = page(scale * image.shape[1], scale * image.shape[0] + 20, title, note)
    ax = show(figure, image, scale)
    if labels is not None:
        write_under(ax, corners, x.shape, [str(label) for label in labels[:n]], scale)
    return figure


@styled
def pair(
    x: np.ndarray, x_hat: np.ndarray, *, title: str = "A picture and its reconstruction", note: str = ""
) -> Figure:
    """One picture and its reconstruction, large, with the error below.   x, x_hat (H, W, C)"""
    _check_equal(x, reconstructions=x_hat)
    image, corners = tile(np.stack([x, x_hat]), 1, 2, col_gap=0.12)
    scale = enlargement(x[None], 330)
    figure = page(scale * image.shape[1], scale * image.shape[0] + 44, title, note)
    ax = show(figure, image, scale, top=20)
    write_above(ax, corners, x[None].shape, ["original", "reconstructed"], scale)
    [error] = _errors(x[None], x_hat[None])
    write_under(ax, corners[1:], x[None].shape, [f"mean squared error {error} per pixel"], scale)
    return figure


@styled
def triples(
    x: np.ndarray, x_noisy: np.ndarray, x_hat: np.ndarray, *, title: str = "Noise, and what is left of it"
) -> Figure:
    """Up to ten clean pictures, the same with noise, and denoised; below each its distance from the clean one.

    Shapes: x, x_noisy, x_hat (N, H, W, C), uint8 or float; what noise drives out of [0, 1] is shown black or white
    Units: mean squared error per pixel, grey levels in [0, 1]
    """
    _check_equal(x, noisy=x_noisy, denoised=x_hat)
    n = min(10, len(x))
    rows = [part[:n] for part in (x, x_noisy, x_hat)]
    scale = enlargement(x, 104)
    image, corners = tile(np.concatenate(rows), 3, n, row_gap=22 / scale / x.shape[1],
                          col_gap=_room_for_errors(x, scale))
    figure = page(scale * image.shape[1] + 110, scale * image.shape[0] + 14, title,
                  f"Below each: {ERROR_NOTE} from the clean picture")
    ax = show(figure, image, scale, left=110)
    for i, name in enumerate(("clean", "noisy", "denoised")):
        write_beside(ax, corners[i * n][0] + x.shape[1] / 2 - 0.5, name)
        if i:
            write_under(ax, corners[i * n : (i + 1) * n], x.shape, _errors(rows[0], rows[i]), scale)
    return figure


@styled
def class_sheet(
    x: np.ndarray,
    classes: int,
    *,
    name: str = "samples",
    beside: Mapping[str, np.ndarray] | None = None,
    unsorted: Mapping[str, np.ndarray] | None = None,
    title: str = "One class a column",
    note: str = "Above each column: its label",
) -> Figure:
    """A sheet of rows x classes pictures, the label at each column's head, and other sheets to compare it with.

    `beside` are more of the kind, by their names (raw pictures, another conditional model's samples); `unsorted` are
    pictures without a class, such as a plain VAE's samples, in as many columns without labels.

    Shapes: all of them (rows * classes, H, W, C), row after row: picture r * classes + k is of class k
    Raises ValueError: a number of pictures that does not fill whole rows; pictures of two sizes; a name twice.
    """
    headed = {name: x, **(beside or {})}
    blocks = {**headed, **(unsorted or {})}
    if len(blocks) < 1 + len(beside or {}) + len(unsorted or {}):
        raise ValueError(f"sheets are told apart by their names, and one name stands twice among {name!r}, "
                         f"{', '.join(map(repr, [*(beside or {}), *(unsorted or {})]))}: rename one")
    for key, block in blocks.items():
        if len(block) % classes or block.shape[1:] != x.shape[1:]:
            raise ValueError(f"a sheet of {classes} columns and {x.shape[1]} x {x.shape[2]} x {x.shape[3]} pixels "
                             f"cannot show {len(block)} pictures of {block.shape[1:]} ({key!r}): fill whole rows")
    scale = enlargement(x, min(64, 2000 // (classes * len(blocks))))
    tiled = [tile(block, len(block) // classes, classes) for block in blocks.values()]
    width, height = (scale * max(image.shape[axis] for image, _ in tiled) for axis in (1, 0))
    top = 28 * (len(blocks) > 1)
    figure = page(len(blocks) * (width + 44) - 44, height + top + 18, title, note)
    for i, (key, (image, corners)) in enumerate(zip(blocks, tiled, strict=True)):
        ax = show(figure, image, scale, left=i * (width + 44), top=top + 18)
        if key in headed:
            write_above(ax, corners[:classes], x.shape, [str(k) for k in range(classes)], scale)
        if len(blocks) > 1:
            ax.annotate(key, (0, 1), xytext=(0, 17), xycoords="axes fraction", textcoords="offset points", fontsize=12,
                        weight="bold")
    return figure


def _check_equal(x: np.ndarray, **others: np.ndarray) -> None:
    for what, other in others.items():
        if x.shape != other.shape:
            raise ValueError(f"originals have shape {x.shape}, {what} {other.shape}: they must be equal")


def _errors(x: np.ndarray, x_hat: np.ndarray) -> list[str]:
    """The mean squared error of each picture, as text."""
    return [f"{e:.4f}" for e in np.square(grey_levels(x) - grey_levels(x_hat)).mean(axis=(1, 2, 3))]


def _room_for_errors(x: np.ndarray, scale: float) -> float:
    """The gap between columns, as a part of a picture's width, that keeps the numbers below apart."""
    return max(ERROR_WIDTH / scale / x.shape[2] - 1, 0.08)
