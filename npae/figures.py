"""Draws what a model has learned: each picture has a title, says its units and can go on a slide as it is.

Every function takes arrays and returns a matplotlib Figure; the caller's backend and settings are left alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import (
    BLUE,
    HEAD,
    MARGIN,
    ORANGE,
    box,
    class_colours,
    enlargement,
    epoch_axis,
    grey_levels,
    number,
    page,
    render,
    show,
    styled,
    tile,
    write_beside,
    write_under,
)
from npae.data.batches import Transform, batches
from npae.store import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR_WIDTH = 64  # screen pixels that a number under a picture needs
MOST_NAMES = 30  # labels that can be written onto one plane
GIF_BYTES = 1_000_000
NOT_TERMS = {"epoch", "step", "loss", "seconds", "lr"}


# -- the figures --


@styled
def reconstructions(x: np.ndarray, x_hat: np.ndarray, *, title: str = "Pictures and their reconstructions") -> Figure:
    """Up to ten originals, their reconstructions below them, and below each pair its error.

    Shapes: x, x_hat (N, H, W, C), uint8 or float in [0, 1]
    Units: mean squared error per pixel, grey levels in [0, 1]
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"originals have shape {x.shape}, reconstructions {x_hat.shape}: they must be equal")
    n = min(10, len(x))
    scale = enlargement(x, 104)
    room = ERROR_WIDTH / scale / x.shape[2] - 1
    image, corners = tile(np.concatenate([x[:n], x_hat[:n]]), 2, n, col_gap=max(room, 0.08))
    figure = page(scale * image.shape[1] + 140, scale * image.shape[0] + 14, title,
                  "Below each pair: mean squared error per pixel (grey levels from 0 to 1)")
    ax = show(figure, image, scale, left=140)
    mse = np.square(grey_levels(x[:n]) - grey_levels(x_hat[:n])).mean(axis=(1, 2, 3))
    write_under(ax, corners[n:], x.shape, [f"{e:.4f}" for e in mse], scale)
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
def learning_curves(
    history: Sequence[Mapping[str, float]], unit: str = "nats per image", *, title: str = "Learning curves"
) -> Figure:
    """The loss after each epoch and, where it has more than one, each of its terms on a panel of its own.

    `history` is one row an epoch: "epoch", "loss", terms such as "recon" and "kl", and the same with "val_" in front.
    """
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise ValueError("learning curves need at least one epoch, got 0 rows")
    keys = dict.fromkeys(key for row in history for key in row)
    terms = [key for key in keys if key not in NOT_TERMS and not key.startswith("val_")]
    panels = ["loss", *terms] if len(terms) > 1 else ["loss"]
    note = f"In {unit}, a mean over the pictures; coloured numbers: the last epoch"
    figure = page(max(840, 420 * len(panels)), 390, title, note)
    width = (figure.bbox.width - 2 * MARGIN) / len(panels)
    for i, key in enumerate(panels):
        ax = box(figure, left=MARGIN + i * width + 90, top=HEAD + 36, width=width - 100, height=300)
        ax.set_title(key, loc="left", weight="bold")
        ax.set(xlabel="epoch", ylabel=unit if i == 0 else "")
        right = 0  # where the next last number ends
        for name, label, colour, line in (("val_" + key, "validation", ORANGE, "--"), (key, "training", BLUE, "-")):
            rows = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
            if rows:
                ax.plot(*zip(*rows, strict=True), color=colour, linestyle=line, label=label, marker="o",
                        markersize=5 if len(rows) <= 30 else 0)
                ax.annotate(number(rows[-1][1], "#.4g"), (1, 1), xytext=(right, 6), xycoords="axes fraction",
                            textcoords="offset points", ha="right", color=colour)
                right -= 62  # points: a number of four digits
        ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_label_coords(-84 / (width - 100), 0.5)
        epoch_axis(ax, [row["epoch"] for row in history])
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="upper right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.6)
    return figure


@styled
def latent_scatter(z: np.ndarray, labels: np.ndarray | None = None, *, title: str = "The latent plane") -> Figure:
    """Each picture's code as a point, coloured by label.   z (N, 2); labels (N,) integers or None"""
    from matplotlib.cm import ScalarMappable
    from matplotlib.patheffects import withStroke

    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"a latent plane has 2 coordinates: z must be (N, 2), got {z.shape}")
    shown, place = (np.empty(0), None) if labels is None else np.unique(labels, return_inverse=True)
    named = len(shown) <= MOST_NAMES
    hint = "" if labels is None else "; colour: the label" + ", which also stands near its median" * named
    figure = page(904 if labels is not None else 780, 636, title, f"Encoder's code of {len(z):,} pictures{hint}")
    ax = box(figure, left=MARGIN + 100, top=HEAD, width=680, height=600)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    dots: dict[str, Any] = {"s": 5, "alpha": 0.7, "linewidths": 0}
    if labels is None:
        ax.scatter(z[:, 0], z[:, 1], color=BLUE, **dots)
        return figure
    cmap, norm = class_colours(len(shown))
    ax.scatter(z[:, 0], z[:, 1], c=place, cmap=cmap, norm=norm, **dots)
    beside = box(figure, left=MARGIN + 804, top=HEAD, width=22, height=600)
    ticks = np.arange(len(shown))[:: -(-len(shown) // 20)]
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=beside, ticks=ticks)
    bar.ax.set_yticklabels([str(label) for label in shown[ticks]])
    bar.set_label("label")
    bar.ax.tick_params(length=0)
    if not named:
        return figure
    medians = np.array([np.median(z[labels == label], axis=0) for label in shown])
    for label, (z1, z2) in zip(shown, _apart(medians, 0.06 * np.ptp(z, axis=0).max()), strict=True):
        ax.text(z1, z2, str(label), fontsize=17, weight="bold", ha="center", va="center",
                path_effects=[withStroke(linewidth=4, foreground="white")])
    return figure


@styled
def manifold(
    decode: Callable[[np.ndarray], np.ndarray],
    span: str | tuple[float, float] = "gaussian",
    n: int = 20,
    *,
    title: str = "What the decoder draws across the latent plane",
) -> Figure:
    """The plane of codes as n x n decoded pictures: z1 grows to the right, z2 upwards.

        "gaussian":    z1, z2 in Phi^-1(linspace(0.05, 0.95, n)), equal steps of the prior's probability
        (low, high):   z1, z2 in linspace(low, high, n)

    Shapes: decode: z (n^2, 2) float32 -> pictures (n^2, H, W, C) in [0, 1]
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix A
    """
    if span == "gaussian":
        z = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.05, 0.95, n)])
        note = "Steps of equal probability under N(0, 1), from 5 % to 95 %"
    else:
        z = np.linspace(float(span[0]), float(span[1]), n)
        note = f"Equal steps from {number(z[0], 'g')} to {number(z[-1], 'g')}"
    z1, z2 = np.meshgrid(z, z[::-1])  # the first row of pictures is the top one, so z2 is highest there
    x = decode(np.stack([z1.ravel(), z2.ravel()], axis=1).astype(np.float32))
    x = np.round(63 * x) / 63  # the eye sees no steps in 64 grey levels, and the file has two thirds of the bytes
    image, _ = tile(x, n, n, row_gap=0, col_gap=0)
    scale = max(1, round(900 / max(image.shape[:2]))) if max(image.shape[:2]) < 1400 else 1400 / max(image.shape[:2])
    figure = page(scale * image.shape[1] + 90, scale * image.shape[0] + 50, title, note)
    ax = show(figure, image, scale, left=90)
    ax.set_axis_on()
    ticks = np.unique(np.linspace(0, n - 1, 6).round().astype(int))
    values = [number(z[i], ".2f") for i in ticks]
    ax.set_xticks((ticks + 0.5) * x.shape[2] - 0.5, values)
    ax.set_yticks((n - 1 - ticks + 0.5) * x.shape[1] - 0.5, values)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    ax.grid(False)
    return figure


# -- files --


@styled
def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG: equal figures give equal bytes (no date, no program's name), and never half a file."""
    picture = render(figure)
    if not any(ax.images for ax in figure.axes):
        picture = picture.quantize(256, dither=0)  # curves and dots: a third of the bytes
    with atomic(path) as file:
        picture.save(file, format="PNG", optimize=True)
    return Path(path)


@styled
def training_gif(
    frames: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]],
    path: str | Path,
    *,
    title: str = "How the model learns",
) -> Path:
    """An animation of the training, one frame an epoch; it loops and rests on its last frame.

    `frames`: (epoch, sampled, originals, reencoded), the last three (16, H, W, C): pictures decoded from fixed codes,
    16 test pictures, and what the model makes of them. Above a megabyte every second frame is left out, until it fits.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame, got 0")
    stills = list(_stills(frames, title))
    while len(gif := _gif(stills)) > GIF_BYTES and len(stills) > 2:
        stills = stills[:-1:2] + stills[-1:]
    with atomic(path) as file:
        file.write(gif)
    return Path(path)


def write_all(
    model: Any,
    test_x: np.ndarray,
    test_y: np.ndarray | None,
    history: Sequence[Mapping[str, float]],
    folder: str | Path,
    *,
    unit: str,
    rng: np.random.Generator,
    transform: Transform | None = None,
) -> list[Path]:
    """Write the figures that a trained model can have into a folder, and return their paths.

    reconstructions.png and learning_curves.png always (the second where there is a history); samples.png for a model
    with a prior; latent.png and manifold.png where the code has two numbers.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def keep(name: str, figure: Figure) -> None:
        paths.append(save(figure, folder / name))

    chosen = _one_of_each(test_y, len(test_x))
    x, _ = next(batches(test_x[chosen], None, len(chosen), noise=rng, transform=transform))
    by = "" if model.latent is None else f" from {model.latent} numbers"
    keep("reconstructions.png", reconstructions(x, model.reconstruct(x), title=f"Test pictures, reconstructed{by}"))
    if history:
        keep("learning_curves.png", learning_curves(history, unit))
    if hasattr(model, "sample"):
        keep("samples.png", samples(model.sample(64, rng=rng), title="Samples from the prior"))
    if model.latent == 2:
        z = np.concatenate([model.encode(x) for x, _ in batches(test_x, None, 256, noise=rng, transform=transform)])
        keep("latent.png", latent_scatter(z, test_y, title="Test pictures in the latent plane"))
        keep("manifold.png", manifold(model.decode, "gaussian" if hasattr(model, "encode_stats") else (-5.0, 5.0)))
    return paths


def _apart(centres: np.ndarray, least: float) -> np.ndarray:
    """Points pushed away from each other, in a few small steps, until about `least` lies between any two."""
    for _ in range(50):
        away = centres[:, None] - centres
        distance = np.hypot(*np.moveaxis(away, 2, 0)) + 1e-12
        push = np.where(distance < least, (least - distance) / distance, 0)
        centres = centres + 0.25 * (push[..., None] * away).sum(axis=1)
    return centres


def _stills(frames: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]], title: str) -> Iterator[Any]:
    """The frames of the animation as Pillow pictures, three blocks of 4 x 4 each, on one figure that is redrawn."""
    first = frames[0][1]
    scale = enlargement(first, 64)
    height, width = (round(scale * size) for size in _block(first).shape[:2])
    figure = page(3 * width + 2 * 20, height + 20, title, "")
    shown = []
    for i, name in enumerate(("16 fixed codes, decoded", "16 test pictures", "the same, reconstructed")):
        ax = show(figure, _block(first), scale, left=i * (width + 20), top=12)
        ax.set_title(name, fontsize=11, loc="left")
        shown.append(ax.images[0])
    for epoch, *blocks in frames:
        figure.texts[0].set_text(f"{title}: epoch {epoch} of {frames[-1][0]}")  # `suptitle` would also move it
        for image, block in zip(shown, blocks, strict=True):
            image.set_data(_block(block))
        picture = render(figure)
        yield picture.quantize(64 if picture.mode == "L" else 256, dither=0)


def _block(x: np.ndarray) -> np.ndarray:
    return tile(x, 4, 4, 0.05, 0.05)[0]


def _gif(stills: Sequence[Any]) -> bytes:
    buffer = io.BytesIO()
    stills[0].save(buffer, format="GIF", save_all=True, append_images=stills[1:], loop=0, optimize=True,
                   duration=[500] * (len(stills) - 1) + [2500])  # milliseconds
    return buffer.getvalue()


def _one_of_each(labels: np.ndarray | None, n: int) -> np.ndarray:
    """Ten pictures to show: the first of each of ten classes where there are labels, else the first ten."""
    if labels is not None and len(first := np.unique(labels, return_index=True)[1]) >= 10:
        return first[:10]
    return np.arange(min(10, n))
