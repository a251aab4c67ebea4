"""Where a derivative could not be had: which unit or window changes its branch there, and how far away that is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npae.gradcheck.report import Line
from npae.gradcheck.scalar import Scalar
from npae.gradcheck.specimen import Specimen, same_branch
from npae.gradcheck.verdicts import Entry, Row, Verdict

TOLD = 3
"""Kinks that are told of each row; the counts are in the table."""
HALVINGS = 40


def kink_lines(specimen: Specimen, scalar: Scalar, rows: Sequence[Row]) -> list[Line]:
    """A NOTE for each of the first kinks: "KINK at x[0, 1]: unit [0, 1] changes its branch 3.0e-08 from 3e-08"."""
    scalar.evaluate()
    centre = specimen.branch()
    lines = []
    for row in rows:
        kinks = [entry for entry in row.entries if entry.verdict is Verdict.KINK and not row.directions]
        for entry in kinks[:TOLD]:
            lines.append(Line("NOTE", f"KINK at {_place(row.name, entry.index)}",
                              _told(specimen, scalar, row, entry, centre), "gradient"))
    return lines


def _told(specimen: Specimen, scalar: Scalar, row: Row, entry: Entry, centre: Any) -> str:
    array, t = scalar.arrays[row.name], float(scalar.arrays[row.name][entry.index])

    def branch(step: float) -> Any:
        array[entry.index] = t + step
        scalar.evaluate()
        return specimen.branch()

    try:
        if centre is None:
            return (f"two branches meet within {entry.h:.1e} of {t:.6g}; the layer does not tell which "
                    "(branch_signature)")
        sides = [found for h in (entry.h, -entry.h) if (found := _nearest(branch, centre, h))]
        if not sides:
            return f"the levels of the differences disagree within {entry.h:.1e} of {t:.6g}, on one branch"
        distance, unit = min(sides)
        return f"{unit} changes its branch {distance:.1e} from {t:.6g}"
    finally:
        array[entry.index] = t


def _nearest(branch: Callable[[float], Any], centre: Any, h: float) -> tuple[float, str] | None:
    """(how far it is to another branch, which unit has it) on one side, where there is one within the step h."""
    if same_branch(branch(h), centre):
        return None
    near, far = 0.0, h
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if same_branch(branch(middle), centre) else (near, middle)
    return abs(far), _unit(branch(far), centre)


def _unit(found: Any, centre: Any, path: str = "") -> str:
    """The first place where two signatures differ: a unit of a mask, a window of winners, a part of a net."""
    if isinstance(centre, tuple | list):
        for place, (a, b) in enumerate(zip(found, centre, strict=True)):
            if not same_branch(a, b):
                return _unit(a, b, f"{path}.{place}" if path else str(place))
    where = np.argwhere(np.asarray(found) != np.asarray(centre))
    what = "unit" if np.asarray(centre).dtype == bool else "window"
    inside = f" of layer {path}" if path else ""
    return f"{what} [{', '.join(map(str, where[0]))}]{inside}" if len(where) else f"a unit{inside}"


def _place(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name
