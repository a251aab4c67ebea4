"""Pictures of backward passes: where a pixel goes, how often it comes back, and which way a gradient takes.
All are drawn from arrays that a layer has computed.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, number, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 44  # pixels a number
TALL = 900  # of a picture with cells that are many, and so are smaller
READABLE = 14  # pixels of a cell from which on numbers are written into it
ROOM = 26  # above a grid, for a line of its name
BOLD, PLAIN, NAME = 13.5, 9.8, 11.0  # pixels of a letter of a title, a note, a grid's name, as a mean
GAP = 56  # between two grids
LETTERS = 11  # points; half of them in a cell of half the size
INK = "#22252a"
EDGE = "#b9b9b9"


class Grid(NamedTuple):
    """Numbers in cells: their texts, a colour each, the places with a frame, and the pixels of a cell."""

    name: str
    texts: Sequence[Sequence[str]]
    colours: np.ndarray
    framed: Sequence[tuple[int, int]] = ()
    cell: int = CELL

    @property
    def size(self) -> tuple[int, int]:
        """Pixels across and down: cells are as wide as their texts ask."""
        longest = max(len(text) for row in self.texts for text in row)
        wide = max(CELL, LETTERS * longest + 16) * self.cell // CELL
        return wide * len(self.texts[0]), self.cell * len(self.texts)


class Windows(NamedTuple):
    """A setting of stride and padding; `seen`: how many windows see each place of the padded picture."""

    name: str
    seen: np.ndarray
    padding: tuple[int, int]
    size: tuple[int, int]
    kernel: tuple[int, int]
    output: tuple[int, int]


@styled
def im2col_and_back(pixels: np.ndarray, counts: np.ndarray, *,
                    title: str = "im2col copies each pixel, col2im adds the copies up") -> Figure:
    """A picture whose pixels have numbers, the windows laid out as rows, and how often col2im brings a pixel back.

    Shapes: pixels (windows, taps), the number of the pixel that each tap meets, -1 in the padding; counts (H, W)
    """
    numbers = np.arange(counts.size).reshape(counts.shape)
    shades = _colours(np.arange(counts.size) / max(counts.size - 1, 1), "viridis", pale=0.5)
    one, cell = int(np.argmax(counts)), min(CELL, TALL // len(pixels))
    at, copies = _places(numbers == one), _places(pixels == one)
    inside = pixels >= 0
    texts = [[text if inside[i, j] else "" for j, text in enumerate(row)] for i, row in enumerate(_texts(pixels))]
    grids = [Grid("pixels, numbered", _texts(numbers), shades[numbers], at, cell),
             Grid("im2col: a row a window", texts, np.where(inside[..., None], shades[pixels], 1), copies, cell),
             Grid("col2im: copies added up", _texts(counts), _blues(counts), at, cell)]
    many = f"{len(copies)} windows see" if len(copies) > 1 else "1 window sees"
    note = f"{many} pixel {one} (framed): forward copies it {len(copies)} ×, backward adds what they say (+=)"
    note += "" if inside.all() else "; empty: the padding"
    return _row(grids, title, note, between=("→", "→"))


@styled
def windows(settings: Sequence[Windows], *,
            title: str = "Stride and padding decide how many windows see a pixel") -> Figure:
    """Pictures with the zeros around them, and in each pixel the number of windows that see it.

    The first window has a blue frame, the last a dashed orange one.
    """
    note = "In each pixel: how many windows see it. Hatched: the padding. Frames: the first window, the last (dashed)"
    across = sum(CELL * one.seen.shape[1] for one in settings) + GAP * (len(settings) - 1)
    down = max(CELL * one.seen.shape[0] for one in settings)
    figure = _page(across, down + 3 * ROOM, title, note)
    left = float(MARGIN)
    for one in settings:
        (rows, columns), (top, first), (H, W) = one.seen.shape, one.padding, one.size
        inside = np.zeros(one.seen.shape, bool)
        inside[top:top + H, first:first + W] = True
        texts = [[text if inside[i, j] else "" for j, text in enumerate(row)] for i, row in enumerate(_texts(one.seen))]
        shades = np.where(inside[..., None], _blues(one.seen), 1)
        ax = _grid(figure, Grid(one.name, texts, shades), left, HEAD + 2 * ROOM)
        for i, j in _places(~inside):
            _patch(ax, j, i, 1, 1, hatch="////", edgecolor=EDGE, fill=False, linewidth=0)
        (kh, kw), (down, right) = one.kernel, (rows - one.kernel[0], columns - one.kernel[1])
        for (i, j), colour, line in (((0, 0), BLUE, "-"), ((down, right), ORANGE, (0, (3, 1)))):
            _patch(ax, j, i, kw, kh, edgecolor=colour, fill=False, linewidth=3, linestyle=line)
        ax.text(0, rows + 0.15, f"y is {one.output[0]} × {one.output[1]}", va="top", color=GREY, fontsize=11)
        left += CELL * columns + GAP
    return figure


@styled
def adjoint(taps: np.ndarray, A: np.ndarray, *,
            title: str = "A convolution is a matrix, its backward the transpose") -> Figure:
    """A kernel whose taps are numbered, the matrix of its convolution, and the transpose.

    Shapes: taps (kh, kw), from 1; A (pixels of y, pixels of x), the tap that meets the pixel, 0 where none does
    """
    rows, columns = A.shape
    cell, window = min(28, TALL // (rows + columns)), rows // 2
    seen = [(window, pixel) for _, pixel in _places(A[window:window + 1] > 0)]
    grids = [Grid("kernel", _texts(taps), _taps(taps, taps.max()), cell=CELL)]
    for name, matrix, framed in (("A:  y = A x", A, seen), ("Aᵀ:  dx = Aᵀ dy", A.T, [(j, i) for i, j in seen])):
        texts = [["" if text == "0" else text for text in row] for row in _texts(matrix)]
        grids.append(Grid(name, texts, _taps(matrix, taps.max()), framed, cell))
    return _row(grids, title, "Framed: one window. What it sees is a row of A, what its gradient meets a column of Aᵀ")


@styled
def routing(x: np.ndarray, winners: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, *,
            title: str = "Max-pooling sends each gradient to the pixel that won") -> Figure:
    """One picture's way through max-pooling and back; windows have the colour of their winner.

    Shapes: x and dx (H, W), y and dy (H', W'), winners (H', W', 2) places in x
    """
    places = [(int(i), int(j)) for i, j in winners.reshape(-1, 2)]
    different = sorted(set(places))
    palette = _colours(np.linspace(0, 1, max(len(different), 2)), "viridis", pale=0.25)
    large, small = np.ones((*x.shape, 3)), np.ones((*y.shape, 3))
    for place, colour in zip(different, palette, strict=False):
        large[place] = colour
    for place, index in zip(places, np.ndindex(y.shape), strict=True):
        small[index] = large[place]
    grids = [Grid("x", _texts(x), large, different), Grid("y", _texts(y), small), Grid("dy", _texts(dy), small),
             Grid("dx", _texts(dx), large, different)]
    return _row(grids, title, "Windows of one colour have the same winner: there their gradients add up. Losers get 0",
                between=("→", "", "→"))


@styled
def contributions(shares: Mapping[str, np.ndarray], *,
                  title: str = "One weight, used twice: its gradient is a sum") -> Figure:
    """Two contributions to the gradient of a shared W, and their sum, as numbers on colours.

    Shapes: three arrays of one shape (rows, columns); the last is the sum of the others
    """
    most = max(float(np.abs(share).max()) for share in shares.values())
    grids = [Grid(name, _texts(share), _colours(0.5 + share / (2 * most), "RdBu_r", 0.25))
             for name, share in shares.items()]
    return _row(grids, title, "Each layer adds (+=) its own share to the same W.grad; red is above 0, blue below",
                between=("+", "="))


# ---- grids of numbers

def _page(width: float, height: float, title: str, note: str) -> Figure:
    """A page that is wide enough for its title and its note, too."""
    return page(max(width, BOLD * len(title), PLAIN * len(note)), height, title, note)


def _row(grids: Sequence[Grid], title: str, note: str, between: Sequence[str] = ()) -> Figure:
    """Grids beside each other, with signs between them."""
    sizes = [grid.size for grid in grids]
    wide = [max(width, NAME * len(grid.name)) for (width, _), grid in zip(sizes, grids, strict=True)]
    figure = _page(sum(wide) + GAP * (len(grids) - 1), max(height for _, height in sizes) + ROOM + 8, title, note)
    left = float(MARGIN)
    for place, (grid, width) in enumerate(zip(grids, wide, strict=True)):
        _grid(figure, grid, left, HEAD + ROOM)
        if place < len(between):
            across = left + (sizes[place][0] + width + GAP) / 2
            down = HEAD + ROOM + min(high for _, high in sizes[place:place + 2]) / 2
            figure.text(across / figure.bbox.width, 1 - down / figure.bbox.height, between[place], fontsize=20,
                        ha="center", va="center")
        left += width + GAP
    return figure


def _grid(figure: Figure, grid: Grid, left: float, top: float) -> Axes:
    """Cells with their numbers, the name above."""
    rows, columns = len(grid.texts), len(grid.texts[0])
    ax = box(figure, left, top, *grid.size)
    ax.imshow(grid.colours, aspect="auto", extent=(0, columns, rows, 0))
    ax.set_axis_off()
    ax.hlines(range(rows + 1), 0, columns, color=EDGE, linewidth=0.8, clip_on=False)
    ax.vlines(range(columns + 1), 0, rows, color=EDGE, linewidth=0.8, clip_on=False)
    ax.set(xlim=(0, columns), ylim=(rows, 0))
    for i, j in np.ndindex(rows, columns):
        if grid.texts[i][j] and grid.cell >= READABLE:
            light = float(np.dot(grid.colours[i, j] ** 2.2, (0.2126, 0.7152, 0.0722)))
            ax.text(j + 0.5, i + 0.53, grid.texts[i][j], ha="center", va="center",
                    color="black" if light > 0.18 else "white",  # either way a contrast of 4.5 at least
                    fontsize=LETTERS * min(1, 1.4 * grid.cell / CELL))
    for i, j in grid.framed:
        _patch(ax, j, i, 1, 1, edgecolor=INK, fill=False, linewidth=2.4)
    ax.set_title(grid.name, loc="left", fontsize=12)
    return ax


def _places(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where a mask holds."""
    return [(int(i), int(j)) for i, j in np.argwhere(mask)]


def _patch(ax: Axes, left: float, top: float, width: float, height: float, **how: Any) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((left, top), width, height, clip_on=False, zorder=5, **how))


def _texts(values: np.ndarray) -> list[list[str]]:
    return [[number(float(value), ".4g") for value in row] for row in values]


def _colours(shares: np.ndarray, name: str, pale: float) -> np.ndarray:
    """Colours of a map for shares in [0, 1], mixed with white so that dark text can be read on them."""
    import matplotlib

    rgb = np.asarray(matplotlib.colormaps[name](np.asarray(shares, np.float64)))[..., :3]
    return pale + (1 - pale) * rgb


def _blues(counts: np.ndarray) -> np.ndarray:
    """The more, the darker; light enough for a frame around a cell to be seen."""
    return _colours(0.65 * counts / max(counts.max(), 1), "Blues", 0.3)


def _taps(matrix: np.ndarray, most: int) -> np.ndarray:
    """A colour for each of the taps 1 ... most, white where there is none."""
    return np.where(matrix[..., None] > 0, _colours((matrix - 1) / max(most - 1, 1), "viridis", 0.25), 1)
