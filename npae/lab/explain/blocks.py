"""What sections of an explanation are made of: prose, formulas, worked numbers, arrays, code and pictures, each with
its lines for a terminal.
"""
from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.lab.explain.wrap import WIDTH, wrapped
from npae.lab.explain.writing import Number, shown
from npae.trace.source import shown as shown_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sheet = tuple[str, list[list[tuple[int, ...]]]]


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str

    def lines(self, width: int = WIDTH) -> list[str]:
        """Filled to the width of a terminal."""
        return textwrap.wrap(self.text, width - 2, break_on_hyphens=False, break_long_words=False)


@dataclass(frozen=True)
class Formula:
    """Lines of an equation in letters."""

    texts: tuple[str, ...]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Indented."""
        return [line for text in self.texts for line in wrapped(text, width - 4)]


@dataclass(frozen=True)
class Worked:
    """An equation in which numbers were filled in: `numbers` are those of `texts`, in their order."""

    texts: tuple[str, ...]
    numbers: tuple[Number, ...]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Indented; a long sum goes on under its first term."""
        return [line for text in self.texts for line in wrapped(text, width - 4)]


@dataclass(frozen=True)
class Table:
    """An array of the example, each number in its place; `marked` are the places that are meant."""

    name: str
    array: np.ndarray
    marked: frozenset[tuple[int, ...]] = frozenset()
    """Where there are any, only sheets that have one are shown."""

    @property
    def numbers(self) -> tuple[Number, ...]:
        """All entries, picture by picture and row by row."""
        return tuple(Number(self.name, place, shown(self.array[place]))
                     for _, places in self.sheets() for row in places for place in row)

    def sheets(self) -> list[Sheet]:
        """What can be laid flat, with its name: rows of places."""
        return [(name, places) for name, places in self._all_sheets()
                if not self.marked or any(place in self.marked for row in places for place in row)]

    def _at(self, places: str) -> str:
        """W[:, :, 0, 1], ∂y[0, :, :, 1]/∂b[0]"""
        name, slash, by = self.name.partition("/")
        return f"{name}[{places}]{slash}{by}"

    def _all_sheets(self) -> list[Sheet]:
        """Rows and columns are the middle two of four axes in a picture (n, h, w, c), the first two in weights
        (u, v, c, o)."""
        shape = self.array.shape
        if len(shape) < 3:
            rows = shape[0] if len(shape) == 2 else 1
            columns = shape[-1] if shape else 1
            return [(self.name, [[(r, k)[2 - len(shape):] for k in range(columns)] for r in range(rows)])]
        if len(shape) == 3:
            return [(self._at(f"{n}, :, :"), [[(n, r, k) for k in range(shape[2])] for r in range(shape[1])])
                    for n in range(shape[0])]
        if len(shape) == 6:
            rows, columns = (list(np.ndindex(*sizes)) for sizes in (shape[1:3], shape[3:]))
            return [(f"{self.name} of picture {n}: rows i, j, columns u, v, c",
                     [[(n, *row, *column) for column in columns] for row in rows]) for n in range(shape[0])]
        if self.name.lstrip("d∂")[0] in "WV":
            return [(self._at(f":, :, {c}, {o}"),
                     [[(u, v, c, o) for v in range(shape[1])] for u in range(shape[0])])
                    for c in range(shape[2]) for o in range(shape[3])]
        return [(self._at(f"{n}, :, :, {c}"), [[(n, r, k, c) for k in range(shape[2])] for r in range(shape[1])])
                for n in range(shape[0]) for c in range(shape[3])]

    def blocks(self) -> list[list[str]]:
        """The lines of each sheet, its name above; a marked number has brackets."""
        texts = {n.place: f"[{n.text}]" if n.place in self.marked else f" {n.text} " for n in self.numbers}
        wide = max(map(len, texts.values()))
        return [[name, *("  " + " ".join(texts[p].rjust(wide) for p in row) for row in places)]
                for name, places in self.sheets()]


@dataclass(frozen=True)
class Tables:
    """Arrays of the example beside each other."""

    tables: tuple[Table, ...]

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Those of each in turn."""
        return tuple(number for table in self.tables for number in table.numbers)

    def lines(self, width: int = WIDTH) -> list[str]:
        """Blocks side by side as far as they fit."""
        lines = _side_by_side([block for table in self.tables for block in table.blocks()], width - 6)
        return [f"    {line}".rstrip() for line in lines]


@dataclass(frozen=True)
class Rows:
    """A table of words and figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Columns flush left, as wide as they need to be."""
        wide = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        return ["    " + "  ".join(cell.ljust(room) for cell, room in zip(row, wide, strict=True)).rstrip()
                for row in (self.head, *self.rows)]


@dataclass(frozen=True)
class Code:
    """A function's own lines."""

    of: Callable[..., Any]

    @property
    def where(self) -> str:
        """npae/layers/dense.py:49, Dense._apply"""
        told = shown_source(self.of)
        return f"{told['place']}, {told['name']}"

    @property
    def source(self) -> str:
        """As they are written."""
        return shown_source(self.of)["text"]

    def lines(self, width: int = WIDTH) -> list[str]:
        """With the file above."""
        return [self.where, *("    " + line if line else "" for line in self.source.splitlines())]


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows; `text` is what a terminal shows of it."""

    caption: str
    draw: Callable[[], Figure]
    text: str = ""

    def lines(self, width: int = WIDTH) -> list[str]:
        """The caption, and the picture in letters, or where it can be seen."""
        elsewhere = "" if self.text else " (The picture is on the page: --html FILE.)"
        return [*Prose(self.caption + elsewhere).lines(width), *("    " + line for line in self.text.splitlines())]


def _side_by_side(blocks: Sequence[Sequence[str]], width: int) -> list[str]:
    """Blocks of lines in rows of blocks, no row wider than `width`."""
    rows: list[list[Sequence[str]]] = [[]]
    used = 0
    for block in blocks:
        wide = max(map(len, block)) + 4
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0
        rows[-1].append(block)
        used += wide
    lines = []
    for place, row in enumerate(rows):
        lines += [""] * bool(place)
        for i in range(max(map(len, row))):
            cells = [(block[i] if i < len(block) else "").ljust(max(map(len, block)) + 4) for block in row]
            lines.append("".join(cells).rstrip())
    return lines


Block = Prose | Formula | Worked | Tables | Rows | Code | Picture
