"""What single numbers of a code do, and what lies between two codes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npae.canvas import ORANGE, enlargement, number, page, show, styled, tile, write_above, write_beside, write_under

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 10


@styled
def traversals(
    decode: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    spans: Sequence[Sequence[float]] | np.ndarray,
    *,
    steps: int = 11,
    dims: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    title: str = "What each number of the code does",
    note: str = "",
) -> Figure:
    """One row a latent dimension: the code of one picture, with that number running through its span.

    `dims` are the dimensions to show, the most telling first (default: as they stand); at most 10 are. A triangle
    stands where the picture's own value lies; < or > where it lies beyond the span.

    Shapes: decode: z (N, d) -> pictures (N, H, W, C); z (d,); spans (d, 2), low and high of each dimension;
            names (d,), by default z1, z2, ...
    Raises ValueError: spans or names of another number than z.
    """
    z, spans = np.asarray(z), np.array(spans, float)
    if z.ndim != 1 or spans.shape != (len(z), 2) or (names is not None and len(names) != len(z)):
        raise ValueError(f"a traversal needs a code (d,), spans (d, 2) and d names, got z {z.shape}, spans "
                         f"{spans.shape} and {'no' if names is None else len(names)} names")
    rows = list(range(len(z)) if dims is None else dims)[:MOST_ROWS]
    codes = np.tile(z, (len(rows), steps, 1))
    for row, dim in enumerate(rows):
        codes[row, :, dim] = np.linspace(spans[dim, 0], spans[dim, 1], steps)
    x = decode(codes.reshape(-1, len(z)))
    scale = enlargement(x, 64)
    image, corners = tile(x, len(rows), steps, row_gap=34 / scale / x.shape[1], col_gap=0.04)
    left = 24 + 9 * max(len(f"$z_{{{dim + 1}}}$" if names is None else names[dim]) for dim in rows)
    note = note or "Triangle: the picture's own value; the other numbers stay as they are"
    figure = page(scale * image.shape[1] + left, scale * image.shape[0] + 30, title, note)
    ax = show(figure, image, scale, left=left, top=12)
    for row, dim in enumerate(rows):
        own = corners[row * steps : (row + 1) * steps]
        write_beside(ax, own[0][0] + x.shape[1] / 2 - 0.5, f"$z_{{{dim + 1}}}$" if names is None else names[dim])
        write_under(ax, [own[0], own[-1]], x.shape, [number(end, ".2g") for end in spans[dim]], scale)
        _mark(ax, float(z[dim]), spans[dim], own, x.shape, scale)
    return figure


def _mark(ax: Axes, value: float, span: np.ndarray, corners: Sequence[tuple[int, int]], shape: tuple[int, ...],
          scale: float) -> None:
    """A triangle above the row where the value lies between its columns."""
    (top, first), (_, last) = corners[0], corners[-1]
    low, high = span
    t = (value - low) / (high - low) if high != low else 0.5
    marker = "v" if 0 <= t <= 1 else "<" if t < 0 else ">"
    ax.plot(first + np.clip(t, 0, 1) * (last - first) + shape[2] / 2 - 0.5, top - 0.5 - 6 / scale, marker=marker,
            color=ORANGE, markersize=6, clip_on=False, scalex=False, scaley=False)


@styled
def interpolations(
    a: np.ndarray,
    b: np.ndarray,
    between: np.ndarray,
    *,
    title: str = "From one picture to another",
    note: str = "Decoded at equal steps between the codes of the two originals",
) -> Figure:
    """Rows that lead from a picture a to a picture b, with the two originals at the ends.

    Shapes: a, b (R, H, W, C); between (R, steps, H, W, C), such as `model.interpolate(a, b, steps)` of each pair
    Raises ValueError: other shapes (all shown).
    """
    if between.ndim != 5 or a.shape != b.shape or a.shape != (len(between), *between.shape[2:]):
        raise ValueError(f"interpolations need a and b (R, H, W, C) and what lies between as (R, steps, H, W, C), got "
                         f"{a.shape}, {b.shape} and {between.shape}")
    rows, steps = between.shape[:2]
    scale = enlargement(a, 72)
    blocks = [tile(x, rows, cols) for x, cols in ((a, 1), (between.reshape(-1, *a.shape[1:]), steps), (b, 1))]
    width = [scale * image.shape[1] for image, _ in blocks]
    figure = page(sum(width) + 2 * 36, scale * blocks[0][0].shape[0] + 22, title, note)
    left = 0.0
    for (image, corners), wide, cols in zip(blocks, width, (1, steps, 1), strict=True):
        ax = show(figure, image, scale, left=left, top=22)
        t = ["original"] if cols == 1 else [f"{t:.2g}" for t in np.linspace(0, 1, steps)]
        write_above(ax, corners[:cols], a.shape, t, scale)
        left += wide + 36
    return figure
