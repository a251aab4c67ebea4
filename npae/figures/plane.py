"""The latent plane: where a code of two numbers puts the pictures, and what is painted at each of its places.
"""
from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import BLUE, GREY, HEAD, MARGIN, box, class_colours, number, page, show, styled, tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 30  # labels that can be written onto one plane
PRIOR_SHARE = (0.05, 0.95)  # of the prior's probability along each axis: what the manifold shows
Window = tuple[tuple[float, float], tuple[float, float]]


@styled
def latent_scatter(
    z: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    window: Window | None = None,
    title: str = "The latent plane",
) -> Figure:
    """Each picture's code as a point, coloured by label; an outline around the window that the manifold shows.

    Shapes: z (N, 2); labels (N,) integers or None; window ((low, high), (low, high)) along z1 and z2
    """
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"a latent plane has 2 coordinates: z must be (N, 2), got {z.shape}")
    note = f"Encoder's code of {len(z):,} pictures"
    note += "" if labels is None else "; colour: the label"
    note += "" if window is None else "; outline: what the manifold shows"
    figure = page(904 if labels is not None else 780, 650, title, note)
    ax = box(figure, left=MARGIN + 100, top=HEAD, width=680, height=600)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    if window is not None:
        _outline(ax, window)
    dots: dict[str, Any] = {"s": 5, "alpha": 0.7, "linewidths": 0}
    if labels is None:
        ax.scatter(z[:, 0], z[:, 1], color=BLUE, **dots)
        return figure
    shown, place = np.unique(labels, return_inverse=True)
    cmap, norm = class_colours(len(shown))
    ax.scatter(z[:, 0], z[:, 1], c=place, cmap=cmap, norm=norm, **dots)
    _colour_bar(figure, shown, cmap, norm)
    if len(shown) <= MOST_NAMES:
        _names(ax, shown, np.array([np.median(z[labels == label], axis=0) for label in shown]),
               0.06 * np.ptp(z if window is None else np.vstack([z, np.transpose(window)]), axis=0).max())
    return figure


def _colour_bar(figure: Figure, shown: np.ndarray, cmap: Any, norm: Any) -> None:
    from matplotlib.cm import ScalarMappable

    beside = box(figure, left=MARGIN + 804, top=HEAD, width=22, height=600)
    ticks = np.arange(len(shown))[:: -(-len(shown) // 20)]
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=beside, ticks=ticks)
    bar.ax.set_yticklabels([str(label) for label in shown[ticks]])
    bar.set_label("label")
    bar.ax.tick_params(length=0)


def _names(ax: Axes, shown: np.ndarray, medians: np.ndarray, least: float) -> None:
    """Each label near the median of its codes."""
    from matplotlib.patheffects import withStroke

    for label, (z1, z2) in zip(shown, _apart(medians, least), strict=True):
        ax.text(z1, z2, str(label), fontsize=17, weight="bold", ha="center", va="center",
                path_effects=[withStroke(linewidth=4, foreground="white")])


@styled
def manifold(
    decode: Callable[[np.ndarray], np.ndarray],
    span: str | tuple[float, float] | Window = "gaussian",
    n: int = 20,
    *,
    title: str = "What the decoder draws across the latent plane",
) -> Figure:
    """The plane of codes as n x n decoded pictures: z1 grows to the right, z2 upwards.

        "gaussian":    z1, z2 in Phi^-1(linspace(0.05, 0.95, n)), equal steps of the prior's probability
        (low, high):   z1, z2 in linspace(low, high, n)
        ((low, high), (low, high)):   the same, z1 and z2 each in its own

    Shapes: decode: z (n^2, 2) float32 -> pictures (n^2, H, W, C) in [0, 1]
    Raises ValueError: another word than "gaussian".
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix A
    """
    if isinstance(span, str):
        if span != "gaussian":
            raise ValueError(f"the span of a manifold is 'gaussian', (low, high) or two such pairs, got {span!r}")
        z1 = z2 = np.array([NormalDist().inv_cdf(p) for p in np.linspace(*PRIOR_SHARE, n)])
        note = "Steps of equal probability under N(0, 1), from 5 % to 95 %"
    else:
        z1, z2 = (np.linspace(ends[0], ends[1], n) for ends in np.broadcast_to(np.asarray(span, float), (2, 2)))
        note = "Equal steps from " + ", ".join(
            f"{number(z[0], '.3g')} to {number(z[-1], '.3g')}{name}"
            for z, name in (((z1, ""),) if (z1 == z2).all() else ((z1, " along $z_1$"), (z2, " along $z_2$"))))
    grid = np.meshgrid(z1, z2[::-1])  # the first row of pictures is the top one, so z2 is highest there
    x = decode(np.stack([z.ravel() for z in grid], axis=1).astype(np.float32))
    x = np.round(63 * x) / 63  # the eye sees no steps in 64 grey levels, and the file has two thirds of the bytes
    image, _ = tile(x, n, n, row_gap=0, col_gap=0)
    scale = max(1, round(900 / max(image.shape[:2]))) if max(image.shape[:2]) < 1400 else 1400 / max(image.shape[:2])
    figure = page(scale * image.shape[1] + 104, scale * image.shape[0] + 50, title, note)
    ax = show(figure, image, scale, left=104)
    ax.set_axis_on()
    ticks = np.unique(np.linspace(0, n - 1, 6).round().astype(int))
    ax.set_xticks((ticks + 0.5) * x.shape[2] - 0.5, [number(z1[i], ".2f") for i in ticks])
    ax.set_yticks((n - 1 - ticks + 0.5) * x.shape[1] - 0.5, [number(z2[i], ".2f") for i in ticks])
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    ax.grid(False)
    return figure


def prior_window() -> Window:
    """The square of the plane that a "gaussian" manifold shows."""
    low, high = (NormalDist().inv_cdf(p) for p in PRIOR_SHARE)
    return (low, high), (low, high)


def codes_window(z: np.ndarray) -> Window:
    """The rectangle that holds all but the outermost hundredth of the codes at each side of each axis.   z (N, 2)"""
    (low1, low2), (high1, high2) = np.quantile(z.astype(np.float64), (0.01, 0.99), axis=0)
    return (float(low1), float(high1)), (float(low2), float(high2))


def _outline(ax: Axes, window: Window) -> None:
    from matplotlib.patches import Rectangle

    (low1, high1), (low2, high2) = window
    ax.add_patch(Rectangle((low1, low2), high1 - low1, high2 - low2, fill=False, edgecolor=GREY, linewidth=1.2))


def _apart(centres: np.ndarray, least: float) -> np.ndarray:
    """Points pushed away from each other, in a few small steps, until about `least` lies between any two."""
    for _ in range(50):
        away = centres[:, None] - centres
        distance = np.hypot(*np.moveaxis(away, 2, 0)) + 1e-12
        push = np.where(distance < least, (least - distance) / distance, 0)
        centres = centres + 0.25 * (push[..., None] * away).sum(axis=1)
    return centres
