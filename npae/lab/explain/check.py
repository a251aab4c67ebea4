"""The last step of an explanation: its formulas against backward, and backward against finite differences.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from npae.gradcheck import Report, Row, check_function
from npae.lab.explain.algebra import Array as Name
from npae.lab.explain.algebra import Entry, Expr, Letter, total
from npae.lab.explain.blocks import Formula, Prose
from npae.lab.explain.document import Section
from npae.lab.explain.example import Example
from npae.lab.explain.lesson import Equation, Gradient, Lesson

ROUNDING = 1e-12
"""Of the largest entry: two ways of summing the same few terms in float64."""


def check(lesson: Lesson, number: int) -> tuple[Section, bool]:
    e, lines, ok = lesson.example, [], True
    for g in lesson.gradients:
        array, ways = e.arrays[g.equation.left.name], dict(_ways(e, g))
        gaps = {what: largest_gap(e, Equation(g.equation.left, right)) for what, right in ways.items()}
        wrong = [f"{what} is off by {gap:.2g}" for what, gap in gaps.items()
                 if not gap <= ROUNDING * max(1.0, float(np.max(np.abs(array), initial=0)))]
        ok &= not wrong
        lines.append(f"{g.equation.left.name}: " + ("; ".join(wrong) if wrong else f"{' and '.join(ways)} give all "
                                                    f"{array.size} entries to rounding"))
    reports = [e.report, *(_differences(e, g) for g in lesson.gradients if not of_backward(e, g.name))]
    ok &= all(report.ok for report in reports)
    rows = tuple(_row(row) for report in reports for row in report.rows)
    words = ("The formulas above, summed entry by entry in plain Python, against what backward gave (of an array "
             "between, against what follows from it):")
    again = "Every gradient against finite differences of L, which know no formula (`npae.gradcheck`):"
    verdict = "Every gradient is right." if ok else "NOT every gradient is right: see above."
    blocks = (Prose(words), Formula(tuple(lines)), Prose(again), Formula(rows), Prose(verdict))
    return Section("check", f"{number}  The check", blocks), ok


def of_backward(e: Example, name: str) -> bool:
    """Whether it is a gradient that backward itself hands out; others belong to an array on the way."""
    return name in {row.name.rsplit(".", 1)[-1] for row in e.report.rows} | set(e.aliases.values())


def _differences(e: Example, g: Gradient) -> Report:
    """The gradient check of an array on the way."""
    return check_function(lambda array: (e.losses[g.name](array), e.arrays[f"d{g.name}"]), e.arrays[g.name],
                          name=g.name)


def _row(row: Row) -> str:
    verified = sum(entry.verdict == "PASS" for entry in row.entries)
    worst = max((abs(entry.analytic - entry.numeric) for entry in row.entries), default=math.nan)
    return (f"d{row.name}: {verified} of {len(row.entries)} entries verified, the largest error is {worst:.1e} "
            f"({row.worst_ratio:.2g} of what is allowed)")


def _ways(e: Example, g: Gradient) -> Iterator[tuple[str, Expr]]:
    """The chain rule as it stands before anything was summed by hand; the formula; its other forms."""
    if g.paths:
        parts = [total(tuple(dict.fromkeys(_primed(path.through))),
                       Name(f"d{path.through.name}")[path.through.index] * path.partial, *path.where)
                 for path in g.paths]
        yield "the chain rule", sum(parts[1:], start=parts[0])
    yield "the index formula", g.equation.right
    for place, other in enumerate(g.also):
        yield f"its other form{f' ({place + 1})' if len(g.also) > 1 else ''}", other.right


def _primed(through: Entry) -> Iterator[Letter]:
    for part in through.index:
        if isinstance(part, Letter):
            yield part


def largest_gap(e: Example, equation: Equation) -> float:
    """How far the right side is from the left's array at most."""
    array = e.arrays[equation.left.name]
    return max(abs(equation.right.value(e.env.place(bound(equation.left, place))) - float(array[place]))
               for place in itertools.product(*map(range, array.shape)))


def bound(left: Entry, place: tuple[int, ...]) -> dict[str, int]:
    return {letter.name: p for letter, p in zip(left.index, place, strict=True) if isinstance(letter, Letter)}
