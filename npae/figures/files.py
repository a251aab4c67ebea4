"""Figures as files: a PNG with equal bytes for equal figures, and the animation of a training.
"""
from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import enlargement, page, render, show, styled, tile
from npae.store import atomic, check_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIF_BYTES = 1_000_000


def check_png(path: str | Path) -> Path:
    """The path of a picture, looked at before hours of work go into it.

    Raises ValueError: it does not end in .png. OSError: it is a folder, or its folder is not there.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG, and {path} does not end in .png: choose another name")
    check_target(path)
    return Path(path)


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
