"""The picture of scaling.py: what a picture costs in batches of any size, and in epochs of any length.
"""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from steps import MODELS

from npae.canvas import HEAD, MARGIN, box, class_colours, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def draw(result: dict[str, Any]) -> Figure:
    """What a picture costs: left by batch, right by the length of an epoch. A part that was not measured has no panel.

    Raises ValueError: neither part was measured.
    """
    panels = [part for part in ("batch", "pictures") if part in result["parts"]]
    if not panels:
        raise ValueError(f"there is nothing to draw in {', '.join(result['parts']) or 'no parts'}: measure batch or "
                         "pictures")
    threads = result["threads"]
    note = f"{result['machine']['cpu']}, {threads} thread{'s' * (threads > 1)}, float32, the fastest of the rounds"
    figure = page(630 * len(panels), 460, "How training time grows", note)
    for i, part in enumerate(panels):
        ax = box(figure, MARGIN + 70 + 630 * i, HEAD + 44, 420, 350)
        (_batch if part == "batch" else _pictures)(ax, result["parts"][part])
    return figure


def _batch(ax: Axes, found: dict[str, Any]) -> None:
    """Level or falling: in a larger batch no picture costs more."""
    _lines(ax, {name: {int(n): us for n, us in one["us"].items()} for name, one in found.items()}, 2)
    ax.set_title("Microseconds a picture, by batch", loc="left", weight="bold", pad=14)
    ax.set_xlabel("pictures in a batch")


def _pictures(ax: Axes, found: dict[str, Any]) -> None:
    """Level: an epoch of twice the pictures takes twice the time."""
    _lines(ax, {name: {int(n): 1e6 * s / int(n) for n, s in one["seconds"].items()} for name, one in found.items()}, 10)
    ax.set_title("Microseconds a picture, by epoch", loc="left", weight="bold", pad=14)
    ax.set_xlabel("pictures in an epoch")


def _lines(ax: Axes, curves: dict[str, dict[int, float]], base: int) -> None:
    """A line a model on logarithmic axes, with its name behind the last point."""
    from matplotlib.ticker import NullFormatter

    cmap, _ = class_colours(10)
    ax.set_xscale("log", base=base)
    ax.set_yscale("log")
    for name, points in curves.items():
        ax.plot(list(points), list(points.values()), "o-", color=cmap(MODELS.index(name)), markersize=5)
    low, high = (10 ** math.floor(math.log10(f(us for points in curves.values() for us in points.values())) + up)
                 for f, up in ((min, 0), (max, 1)))
    ax.set_ylim(low, high)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_minor_formatter(NullFormatter())
    ends = {name: math.log(points[max(points)] / low) / math.log(high / low) for name, points in curves.items()}
    for name, height in spread(ends).items():
        ax.annotate(name, (1.0, height), xycoords="axes fraction", va="center", fontsize=12,
                    color=cmap(MODELS.index(name)))


def spread(heights: dict[str, float], gap: float = 0.06) -> dict[str, float]:
    """The heights of texts, moved up as far as they need to be at least `gap` above the one below."""
    moved: dict[str, float] = {}
    below = -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        below = moved[name] = max(height, below + gap)
    return moved
