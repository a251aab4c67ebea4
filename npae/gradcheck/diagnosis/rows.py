"""A wrong row by its entries alone, and what things are called."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npae.gradcheck.explain import AXES, Pair, explain, scaled
from npae.gradcheck.facts import Facts
from npae.gradcheck.verdicts import Row, Verdict

Array = np.ndarray
NOTHING = "nothing that is known explains {}: its worst entries are above"


def call(name: str) -> str:
    """dW for W, "the gradient of encoder.0.W" for a path."""
    return f"the gradient of {name}" if "." in name else f"d{name}"


def wrong_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows with a FAIL in them, those that can be explained."""
    return [row for row in rows if row.refused is None and row.count(Verdict.FAIL)]


def explain_row(row: Row, claimed: Array, facts: Facts, axes: tuple[str, ...] = ()) -> str:
    """By the entries alone; in their places where all were looked at."""
    got, want, tol = (np.array([getattr(e, field) for e in row.entries]) for field in ("analytic", "numeric", "tol"))
    if len(row.entries) == row.size and not row.directions:
        return explain(call(row.name), got.reshape(row.shape), want.reshape(row.shape), facts,
                       tol=tol.reshape(row.shape), axes=axes)
    what = "directions" if row.directions else "checked entries"
    pair = Pair(call(row.name), got, want, tol)
    return scaled(pair, facts).replace("entries", what) if np.any(pair.wrong) else ""


def axes_of(name: str, array: Array) -> tuple[str, ...]:
    """What the axes of x, of a weight, or of a bias are called."""
    kinds = {4: "picture", 2: "features"} if name == "x" else {4: "kernel", 2: "matrix", 1: "vector"}
    return AXES.get(kinds.get(array.ndim, ""), ())
