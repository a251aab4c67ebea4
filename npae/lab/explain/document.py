"""An explanation as a document: its sections, as text for a terminal here, and as a page for a browser in `page`.
"""
from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from npae.lab.explain.blocks import Block, Formula, Tables, Worked
from npae.lab.explain.wrap import WIDTH
from npae.lab.explain.writing import Number


@dataclass(frozen=True)
class Section:
    """One step of an explanation. `kind` is loss, forward, derivation, matrix, entry, code, check or picture."""

    kind: str
    title: str
    blocks: tuple[Block, ...] = field(repr=False)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every number that was filled in."""
        return tuple(n for block in self.blocks if isinstance(block, Worked | Tables) for n in block.numbers)

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """The title, and the blocks with an empty line between."""
        yield from (self.title, "-" * len(self.title))
        for place, block in enumerate(self.blocks):
            if place and not (isinstance(block, Worked) and isinstance(self.blocks[place - 1], Formula)):
                yield ""
            yield from (f"  {line}" if line else "" for line in block.lines(width))


@dataclass(frozen=True)
class Explanation:
    """The derivation of one layer, loss or penalty, with the numbers of a small example. print() shows its text."""

    name: str
    idea: str
    sections: tuple[Section, ...]
    ok: bool
    example: Any = field(repr=False)
    """The arrays behind the numbers, and L as a function of each (see `example.Example`)."""

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every number that is printed, with the entry of the array that it is."""
        return tuple(number for section in self.sections for number in section.numbers)

    def section(self, kind: str) -> tuple[Section, ...]:
        """Those of one kind."""
        return tuple(section for section in self.sections if section.kind == kind)

    def to_text(self, width: int = WIDTH) -> str:
        """For a terminal of so many columns; lines of code stay as long as they are."""
        title = textwrap.wrap(f"{self.name}: {self.idea}", width)
        blocks = ["\n".join([*title, "=" * max(map(len, title))])]
        return "\n\n".join([*blocks, *("\n".join(section.lines(width)) for section in self.sections)])

    def __str__(self) -> str:
        return self.to_text()

    def to_html(self) -> str:
        """One page that needs no network and prints well."""
        from npae.lab.explain.page import page

        return page(self)
