"""The bug zoo as a picture: a column a bug, a row a part of the protocol, rooms side by side.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npae.canvas import GREY, HEAD, MARGIN, box, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, HIGH = 7, 18  # pixels of a cell, with the white line beside it
LEFT, RIGHT, ABOVE, BELOW = 100, 56, 28, 112  # pixels around a band: names of parts, totals, its kind, names of rooms
LEGEND = 30  # pixels under the note
GAP = 1  # columns between two rooms
MOST = 200  # columns in a band
LETTER = 8.6  # pixels of a letter of a room's name, as a mean
EMPTY = "#e8e8e8"
# Okabe and Ito's palette, told apart with every kind of colour blindness
SEEN, ONLY_OTHERS = "#0072b2", "#d55e00"
WORDS = {"named": "#009e73", "unnamed": "#a8a8a8", "wordless": EMPTY, "misnamed": "#000000"}


@dataclass(frozen=True)
class Column:
    """A bug: which parts see it, in the order of the rows; whether a gradient check is among them; its word."""

    seen: tuple[bool, ...]
    gradient: bool
    word: str
    """"named", "unnamed", "misnamed", or "wordless" where there are no words to name it with."""


Room = tuple[str, str, list[Column]]
"""Its kind, its name, its bugs."""


@styled
def zoo_matrix(kinds: Mapping[str, Mapping[str, Sequence[Column]]], parts: Sequence[str], *,
               title: str = "Which check sees which bug?") -> Figure:
    """Bugs in columns, parts of the protocol in rows, in bands of rooms; in a room, similar bugs stand together.

    `kinds`: kind -> room -> its bugs. The numbers on the right count all bugs.
    Raises ValueError: no bugs.
    """
    bands = list(_bands(kinds))
    bugs = [column for band in bands for *_, columns in band for column in columns]
    if not bugs:
        raise ValueError("there is nothing to draw: the zoo has 0 bugs")
    others, pitch = sum(not column.gradient for column in bugs), ABOVE + (len(parts) + 1) * HIGH + BELOW
    note = (f"{len(bugs)} bugs, a column each. {others} of them ({others / len(bugs):.0%}) no gradient check sees: "
            "other parts of the protocol do")
    width = WIDE * max(map(_used, bands))
    figure = page(LEFT + width + RIGHT, LEGEND + len(bands) * pitch, title, note)
    _legend(figure)
    numbers = [sum(column.seen[i] for column in bugs) for i in range(len(parts))]
    numbers.append(sum(column.word == "named" for column in bugs))
    for place, band in enumerate(bands):
        ax = box(figure, MARGIN + LEFT, HEAD + LEGEND + place * pitch + ABOVE, width, HIGH * (len(parts) + 1))
        ax.set(xlim=(0, width), ylim=(HIGH * (len(parts) + 1), 0))
        ax.set_axis_off()
        _cells(ax, band)
        _write(ax, band, [*parts, "named"], numbers if place == 0 else [])
    return figure


def _bands(kinds: Mapping[str, Mapping[str, Sequence[Column]]]) -> Iterator[list[Room]]:
    """Rooms that stand side by side, in bands of about the same length."""
    rooms = [(kind, name, sorted(room, key=_order)) for kind, there in kinds.items() for name, room in there.items()]
    lines = max(1, math.ceil(_used(rooms) / MOST))
    for k in range(lines):
        middles = (_used(rooms[:n]) + _used(rooms[n:n + 1]) / 2 for n in range(len(rooms)))
        band = [room for room, middle in zip(rooms, middles, strict=True) if int(lines * middle / _used(rooms)) == k]
        if band:
            yield band


def _used(band: Sequence[Room]) -> int:
    """Its columns, with the gaps."""
    return sum(len(columns) + GAP for *_, columns in band)


def _order(column: Column) -> tuple[bool, tuple[bool, ...]]:
    return not column.gradient, tuple(not seen for seen in column.seen)


def _cells(ax: Axes, band: Sequence[Room]) -> None:
    """A cell for each bug and part, and one for its word."""
    from matplotlib.collections import PolyCollection

    corners, colours, left = [], [], 0
    for *_, columns in band:
        for j, column in enumerate(columns):
            colour = SEEN if column.gradient else ONLY_OTHERS
            for i, cell in enumerate([*(colour if seen else EMPTY for seen in column.seen), WORDS[column.word]]):
                x, y = left + j * WIDE, i * HIGH
                corners.append([(x, y), (x + WIDE - 1, y), (x + WIDE - 1, y + HIGH - 1), (x, y + HIGH - 1)])
                colours.append(cell)
        left += WIDE * (len(columns) + GAP)
    ax.add_collection(PolyCollection(corners, facecolors=colours, edgecolors="none", antialiaseds=False))


def _write(ax: Axes, band: Sequence[Room], parts: Sequence[str], numbers: Sequence[int]) -> None:
    """Names of the parts on the left, numbers on the right, the kind above, rooms below."""
    end = WIDE * (_used(band) - GAP)
    for i, part in enumerate(parts):
        ax.text(-8, (i + 0.45) * HIGH, part, ha="right", va="center", fontsize=10, color=GREY)
    for i, number in enumerate(numbers):
        ax.text(end + 8, (i + 0.45) * HIGH, f"{number}", ha="left", va="center", fontsize=11, weight="bold", color=GREY)
    left, before, below = 0, "", HIGH * len(parts) + 4
    for kind, name, columns in band:
        wide = WIDE * len(columns) - 1
        if kind != before:
            ax.text(left, -6, kind, ha="left", va="bottom", fontsize=12, weight="bold")
        if LETTER * len(name) <= wide:
            ax.text(left + wide / 2, below, name, ha="center", va="top", fontsize=9)
        else:
            ax.text(left + wide / 2 + 4, below, name, ha="right", va="top", fontsize=9, rotation=38,
                    rotation_mode="anchor")
        left, before = left + WIDE * (len(columns) + GAP), kind


def _legend(figure: Figure) -> None:
    """What the colours mean, under the note."""
    W, H = figure.bbox.width, figure.bbox.height
    x, y = float(MARGIN), H - HEAD - 4
    for colour, text in ((SEEN, "seen, by a gradient check too"), (ONLY_OTHERS, "seen, by no gradient check"),
                         (WORDS["named"], "named"), (WORDS["unnamed"], "seen, but not named"),
                         (WORDS["misnamed"], "called something else"),
                         (EMPTY, "not seen; or no words to be named with")):
        figure.text(x / W, y / H, "■", ha="left", va="center", fontsize=14, color=colour)
        shown = figure.text((x + 24) / W, y / H, text, ha="left", va="center", fontsize=10, color=GREY)
        x += 24 + shown.get_window_extent().width + 16
