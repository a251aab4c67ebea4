"""The last step of an explanation: its formulas against backward, and backward against finite differences.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from npae.gradcheck import Report, Row, check_function
from npae.lab.explain.algebra import Array as Name
from npae.lab.explain.algebra import Entry, Expr, Letter
from npae.lab.explain.blocks import Block, Prose, Rows
from npae.lab.explain.document import Section
from npae.lab.explain.example import Example, short
from npae.lab.explain.lesson import Equation, Gradient, Lesson
from npae.lab.explain.sums import total

ROUNDING = 1e-12
"""Of the largest entry: two ways of summing the same few terms in float64."""


def check(lesson: Lesson, number: int) -> tuple[Section, bool]:
    """The section, and whether all is right."""
    e = lesson.example
    claims = [(equation, "step 2", equation.right) for equation in lesson.forward]
    claims += [(g.equation, what, right) for g in lesson.gradients for what, right in _ways(g)]
    compared = [_compared(e, *claim) for claim in claims]
    reports = [e.report, *(_differences(e, g) for g in lesson.gradients if not of_backward(e, g.name))]
    words = ("The formulas above, summed entry by entry in plain Python, against the example's arrays (those that "
             "forward and backward hand out are theirs):")
    again = "Every gradient against finite differences of L, which know no formula (`npae.gradcheck`):"
    formulas = Rows(("array", "by", "entries", "verdict"), tuple(row for row, _ in compared))
    differences = Rows(("gradient", "verified", "largest error", "of what is allowed", "verdict"),
                       tuple(_row(e, row) for report in reports for row in report.rows))
    wrong = dict.fromkeys([*(row[0] for row, same in compared if not same),
                           *(_row(e, row)[0] for report in reports for row in report.rows if not row.ok)])
    failed = [line for report in reports for line in report.lines if line.status == "FAIL"]
    verdict = [f"NOT every gradient is right: look at {', '.join(wrong)} above."] if wrong else []
    verdict += [f"This does NOT hold: {line.claim} ({line.figure})." for line in failed]
    blocks: list[Block] = [Prose(words), formulas, Prose(again), differences]
    blocks += map(Prose, verdict or ["Every gradient is right."])
    return Section("check", f"{number}  The check", tuple(blocks)), not verdict


def _compared(e: Example, equation: Equation, what: str, right: Expr) -> tuple[tuple[str, ...], bool]:
    """A row on one formula for one array, and whether they are the same."""
    array, gap = e.arrays[equation.left.name], largest_gap(e, Equation(equation.left, right))
    same = gap <= ROUNDING * max(1.0, float(np.max(np.abs(array), initial=0)))
    verdict = "the same, to rounding" if same else f"NOT the same, off by {gap:.2g}"
    return (equation.left.name, what, str(array.size), verdict), same


def of_backward(e: Example, name: str) -> bool:
    """Whether it is a gradient that backward itself hands out; others belong to an array on the way."""
    return name in {short(row.name, e.aliases) for row in e.report.rows} | set(e.aliases.values())


def _differences(e: Example, g: Gradient) -> Report:
    """The gradient check of an array on the way."""
    return check_function(lambda array: (e.losses[g.name](array), e.arrays[f"d{g.name}"]), e.arrays[g.name],
                          name=g.name)


def _row(e: Example, row: Row) -> tuple[str, ...]:
    verified = sum(entry.verdict == "PASS" for entry in row.entries)
    worst = max((abs(entry.analytic - entry.numeric) for entry in row.entries), default=math.nan)
    return (f"d{short(row.name, e.aliases)}", f"{verified} of {len(row.entries)}", f"{worst:.1e}",
            f"{row.worst_ratio:.2g}", str(row.verdict))


def _ways(g: Gradient) -> Iterator[tuple[str, Expr]]:
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
    """The letters of an entry's indices, each with its number at this place."""
    return {letter.name: p for letter, p in zip(left.index, place, strict=True) if isinstance(letter, Letter)}
