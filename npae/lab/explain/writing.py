"""How formulas are written: what their letters stand for, and the numbers that were filled in.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 4  # how tightly a text holds together: brackets go where it is too loose


class Outside(Exception):
    """An entry beyond the edge of its array: it counts as 0, and its term is left out."""


class Text(NamedTuple):
    """A written formula and how tightly it holds together."""

    text: str
    rank: int

    def within(self, rank: int) -> str:
        """With brackets where something tighter stands around it."""
        return self.text if self.rank >= rank else f"({self.text})"


class Number(NamedTuple):
    """A printed number and where it comes from: an entry of an array, or (name "") a constant of the formula."""

    name: str
    place: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Env:
    """What the letters of a formula stand for: arrays by name, sizes of indices, constants, and places."""

    arrays: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]
    letters: Mapping[str, float] = field(default_factory=dict)
    at: Mapping[str, int] = field(default_factory=dict)

    def place(self, at: Mapping[str, int]) -> Env:
        """With these indices at these places."""
        return Env(self.arrays, self.sizes, self.letters, {**self.at, **at})


class Writer:
    """How a formula is written: with letters (no env), with places, or (figures) with numbers, which are noted down."""

    def __init__(self, env: Env | None = None, figures: bool = False):
        self.env, self.figures = env, figures
        self.numbers: list[Number] = []

    def at(self, env: Env) -> Writer:
        """The same elsewhere; what it notes down goes into the same list."""
        other = Writer(env, self.figures)
        other.numbers = self.numbers
        return other

    def constant(self, value: float) -> Text:
        """A number of the formula itself."""
        if self.env is not None:
            self.numbers.append(Number("", (), shown(value)))
        return Text(shown(value), SUM if value < 0 else ATOM)


def shown(value: float) -> str:
    """A number to six digits, with a proper minus sign."""
    text = f"{value:.6g}"
    return ("0" if text == "-0" else text).replace("-", "\N{MINUS SIGN}")


def starts_with_minus(written: Text) -> bool:
    """After another sign it needs brackets."""
    return written.text.startswith("\N{MINUS SIGN}")


def called(name: str, index: Any) -> str:
    """x[0, 1]; x where it has no indices."""
    return f"{name}[{', '.join(map(str, index))}]" if len(index) else name
