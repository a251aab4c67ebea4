"""The page that figures are drawn on: its style, its title and note, pictures laid side by side, small texts.
All layout is in pixels, from the top left corner.
"""
from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from npae.data.batches import to_float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120  # a 10-inch figure is 1200 pixels, the width of a slide
MARGIN = 24  # pixels around everything
HEAD = 76  # pixels for the title and the note under it
GREY = "#555555"
BLUE, ORANGE = "#1f77b4", "#ff7f0e"  # these two are told apart with every kind of colour blindness
NAN_COLOUR = (255, 0, 255)  # a pixel that is not a number must be seen, not look like black
P = ParamSpec("P")
R = TypeVar("R")
STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """matplotlib's own defaults and STYLE for a moment; the caller's rcParams come back afterwards."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """The function, with the page's style while it runs."""
    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def page(width: float, height: float, title: str, note: str) -> Figure:
    """An empty figure with room for a drawing of width x height pixels under its title and note."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = round(max(width, 680)) + 2 * MARGIN, round(height) + HEAD + MARGIN
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=MARGIN / width, y=1 - 18 / height, ha="left", va="top", fontsize=15, weight="bold",
                    parse_math=False)  # titles name files of the user's own, and $ is only a letter there
    figure.text(MARGIN / width, 1 - 48 / height, note, ha="left", va="top", fontsize=11, color=GREY)
    return figure


def box(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a rectangle in pixels."""
    W, H = figure.bbox.width, figure.bbox.height
    return figure.add_axes((left / W, 1 - (top + height) / H, width / W, height / H))


def show(figure: Figure, image: np.ndarray, scale: float, left: float = 0, top: float = 0) -> Axes:
    """Show an image under the head, `scale` screen pixels a pixel."""
    ax = box(figure, MARGIN + left, HEAD + top, round(scale * image.shape[1]), round(scale * image.shape[0]))
    ax.imshow(image, aspect="auto", interpolation="nearest" if scale >= 1 else "antialiased")
    ax.set_axis_off()
    return ax


def enlargement(x: np.ndarray, cell: int) -> float:
    """Screen pixels a pixel so that a picture of x fills a cell: whole where pictures are enlarged."""
    size = max(x.shape[1:3])
    return cell // size if size <= cell else cell / size


def tile(
    x: np.ndarray, rows: int, cols: int, row_gap: float = 0.08, col_gap: float = 0.08
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pictures (N, H, W, C) row by row on white as one (H', W', 3) uint8 image, and each one's top left corner.

    The gaps are parts of a picture's size.
    """
    N, H, W, C = x.shape
    if N == 0:
        raise ValueError(f"there is nothing to draw: the pictures have shape {x.shape}")
    if C not in (1, 3):
        raise ValueError(f"a picture to draw has 1 channel (grey) or 3 (colour), got {C}")
    grey = grey_levels(x)
    rgb = np.where(np.isnan(grey), NAN_COLOUR, np.nan_to_num(255 * grey.clip(0, 1)).round()).astype(np.uint8)
    down, right = H + (round(row_gap * H + 0.5) if row_gap else 0), W + (round(col_gap * W + 0.5) if col_gap else 0)
    image = np.full((rows * down - (down - H), cols * right - (right - W), 3), 255, np.uint8)
    corners = [(n // cols * down, n % cols * right) for n in range(N)]
    for picture, (i, j) in zip(rgb, corners, strict=True):
        image[i : i + H, j : j + W] = picture
    return image, corners


def grey_levels(x: np.ndarray) -> np.ndarray:
    """Pictures as float64 in [0, 1].

    Raises ValueError: integers other than uint8, whose white nobody knows.
    """
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        raise ValueError(f"pictures to draw are uint8, or floats in [0, 1], got {x.dtype} from {x.min()} to {x.max()}: "
                         "convert them")
    return to_float(x).astype(np.float64)


def write_under(
    ax: Axes, corners: Sequence[tuple[int, int]], shape: tuple[int, ...], texts: Sequence[str], scale: float
) -> None:
    """A small text centred under each picture."""
    for (i, j), text in zip(corners, texts, strict=True):
        ax.text(j + shape[2] / 2 - 0.5, i + shape[1] - 0.5 + 4 / scale, text, ha="center", va="top", fontsize=10,
                color=GREY)


def write_above(
    ax: Axes, corners: Sequence[tuple[int, int]], shape: tuple[int, ...], texts: Sequence[str], scale: float
) -> None:
    """A small text centred above each picture."""
    for (i, j), text in zip(corners, texts, strict=True):
        ax.text(j + shape[2] / 2 - 0.5, i - 0.5 - 4 / scale, text, ha="center", va="bottom", fontsize=10, color=GREY)


def write_beside(ax: Axes, row: float, text: str) -> None:
    """The name of a row of pictures, left of it."""
    ax.annotate(text, (0, row), xytext=(-10, 0), xycoords="data", textcoords="offset points", ha="right", va="center",
                fontsize=12)


def epoch_axis(ax: Axes, epochs: Sequence[float]) -> None:
    """Whole numbers only, and room at both ends, so that one epoch is a point in the middle."""
    from matplotlib.ticker import MaxNLocator

    room = max(0.5, 0.03 * (max(epochs) - min(epochs)))
    ax.set_xlim(min(epochs) - room, max(epochs) + room)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def class_colours(K: int) -> tuple[Any, Any]:
    """A colour for each of the classes 0, 1, ... K - 1 and none between: tab10 up to ten, viridis beyond."""
    import matplotlib
    from matplotlib.colors import BoundaryNorm, ListedColormap

    tab10 = matplotlib.colormaps["tab10"]
    cmap = ListedColormap([tab10(k) for k in range(K)]) if K <= 10 else matplotlib.colormaps["viridis"].resampled(K)
    return cmap, BoundaryNorm(np.arange(K + 1) - 0.5, K)


def number(value: float, form: str) -> str:
    """A formatted number with a proper minus sign."""
    return format(value, form).replace("-", "\N{MINUS SIGN}")


def render(figure: Figure) -> Any:
    """The figure as a Pillow picture, in grey where it has no colour (a third of the bytes)."""
    from PIL import Image

    figure.canvas.draw()
    rgb = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    grey = (rgb == rgb[..., :1]).all()
    return Image.fromarray(np.ascontiguousarray(rgb[..., 0] if grey else rgb))
