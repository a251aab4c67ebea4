"""A wrong row by its entries alone, and what things are called."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.diagnosis.pair import AXES, Pair, scaled
from npae.gradcheck.facts import Facts
from npae.gradcheck.verdicts import Row, Verdict

Array = np.ndarray
NOTHING = "nothing that is known explains {}: its worst entries are above"
CLOSE = 1e-7
"""Of the largest entry: how well differences without a tolerance of their own are trusted in an explanation."""


def call(name: str) -> str:
    """dW for W, "the gradient of encoder.0.W" for a path."""
    return f"the gradient of {name}" if "." in name else f"d{name}"


def wrong_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows with a FAIL in them, those that can be explained."""
    return [row for row in rows if row.refused is None and row.count(Verdict.FAIL)]


@dataclass(frozen=True)
class Wrong:
    """A gradient as claimed (got) beside the right one (want): whole arrays, or the entries that were looked at."""

    row: Row
    got: Array
    want: Array
    tol: Array
    whole: bool
    known: bool = True
    """Whether its axes are those of npae's layout; a stranger's pictures may have their channels first."""

    @property
    def name(self) -> str:
        """dW, say."""
        return call(self.row.name)

    def explain(self, facts: Facts) -> str:
        """By the numbers alone."""
        if self.whole:
            axes = axes_of(self.row.name, self.got, self.known)
            return explain(self.name, self.got, self.want, facts, tol=self.tol, axes=axes)
        pair = Pair(self.name, self.got, self.want, self.tol)
        what = "directions" if self.row.directions else "checked entries"
        said = scaled(pair, facts).replace("entries", what) if np.any(pair.wrong) else ""
        return said or self._single()

    def _single(self) -> str:
        """What the wrong entries have in common that the fast mode has found."""
        found = self.row.wrong_entries
        if not found or any(entry.analytic for entry in found):
            return ""
        return f"the wrong entries of {self.name} that were found are zero, and belong not to be"

    def part(self, where: tuple) -> Wrong:
        """Some of the columns, say."""
        return Wrong(self.row, self.got[where], self.want[where], self.tol[where], self.whole, self.known)


def wrong_of(row: Row, claimed: Array, want: Array | None = None, known: bool = True) -> Wrong:
    """The whole arrays where all entries were looked at, or where somebody has the right gradient as a whole."""
    got, right, tol = (np.array([getattr(e, field) for e in row.entries]) for field in ("analytic", "numeric", "tol"))
    if len(row.entries) == row.size and not row.directions:
        return Wrong(row, got.reshape(row.shape), right.reshape(row.shape), tol.reshape(row.shape), True, known)
    if want is not None:
        tol = np.full(row.shape, CLOSE * float(np.max(np.abs(want), initial=0)))
        return Wrong(row, claimed, want, tol, True, known)
    return Wrong(row, got, right, tol, False)


def axes_of(name: str, array: Array, known: bool = True) -> tuple[str, ...]:
    """What the axes of x, of a weight, or of a bias are called."""
    if not known and array.ndim == 2:
        return AXES["features"] if name == "x" else ("row", "column")
    if not known and array.ndim > 2:
        return ("image",) if name == "x" else ()
    kinds = {4: "picture", 2: "features"} if name == "x" else {4: "kernel", 2: "matrix", 1: "vector"}
    return AXES.get(kinds.get(array.ndim, ""), ())
