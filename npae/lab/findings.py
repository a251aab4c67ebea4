"""Lines of a report that name a mistake: what came out is held against what mistakes that people make give.
A mistake is named only if it gives the very same numbers, and no other one does.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npae.gradcheck import Line, Report
from npae.gradcheck.report import attempt

RTOL = 1e-12  # of a column's largest value: rounding in float64 with three digits to spare


def matching(got: Any, variants: Mapping[str, Any], rtol: float = RTOL) -> str:
    """The name of the one variant that is `got` to rounding; empty where there is none, or more than one.

    >>> matching([2.0, 4.0], {"twice": [2, 4], "squared": [1, 4]})
    'twice'
    """
    found = [name for name, variant in variants.items() if alike(got, variant, rtol)]
    return found[0] if len(found) == 1 else ""


def alike(got: Any, want: Any, rtol: float = RTOL) -> bool:
    """|got - want| <= rtol max |want|, column by column: they may differ by powers of ten. NaN is like NaN."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape or not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return False
    there = np.isfinite(got)
    got, want = (np.where(there, a, 0) for a in (got, want))
    return bool(np.all(np.abs(got - want) <= rtol * np.max(np.abs(want), axis=0, initial=0)))


class Findings:
    """The lines of a report as they come in, and what they explain."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.explanations: list[str] = []

    def say(self, words: str) -> str:
        """An explanation that has been tested, once."""
        if words and words not in self.explanations:
            self.explanations.append(words)
        return words

    def test(self, claim: str, test: Callable[[], str], part: str = "state") -> None:
        """A line whose test returns what is wrong in words, or nothing."""
        self.lines.append(attempt(claim, test, part))

    def same(self, claim: str, got: Callable[[], Any], want: Callable[[], Any],
             variants: Mapping[str, Callable[[], Any]], part: str = "reference", rtol: float = RTOL) -> None:
        """A line that is right where got is want; else it tells the first difference, and the variant that got is."""
        def test() -> str:
            found, right = np.asarray(got(), np.float64), np.asarray(want(), np.float64)
            if alike(found, right, rtol):
                return ""
            name = self.say(matching(found, {name: variant() for name, variant in variants.items()}, rtol))
            return _difference(found, right, rtol) + (f": {name}" if name else "")

        self.test(claim, test, part)

    def report(self, title: str) -> Report:
        """Everything so far."""
        return Report(title, lines=tuple(self.lines), explanations=tuple(self.explanations))


def _difference(got: np.ndarray, want: np.ndarray, rtol: float) -> str:
    if got.shape != want.shape:
        return f"its shape is {got.shape} instead of {want.shape}"
    wrong = np.argwhere(~(np.abs(got - want) <= rtol * np.max(np.abs(want), axis=0, initial=0)) & ~(got == want))
    first = tuple(int(i) for i in wrong[0])
    where = f" at [{', '.join(map(str, first))}]" if first else ""
    return f"{got[first]:.10g} instead of {want[first]:.10g}{where}"
