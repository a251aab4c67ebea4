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
from npae.lab.explain.example import Example, short
from npae.lab.explain.lesson import Equation, Gradient, Lesson

ROUNDING = 1e-12
"""Of the largest entry: two ways of summing the same few terms in float64."""


def check(lesson: Lesson, number: int) -> tuple[Section, bool]:
    """The section, and whether all is right."""
    e = lesson.example
    forward = [(equation, "step 2", equation.right) for equation in lesson.forward]
    backward = [(g.equation, what, right) for g in lesson.gradients for what, right in _ways(g)]
    gaps = [_compared(e, *claim) for claim in (*forward, *backward)]
    same = all(not wrong for _, wrong in gaps)
    reports = [e.report, *(_differences(e, g) for g in lesson.gradients if not of_backward(e, g.name))]
    ok = same and all(report.ok for report in reports)
    words = ("The formulas above, summed entry by entry in plain Python, against what forward and backward gave. "
             f"{'To rounding they are the same' if same else 'They are NOT all the same'}:")
    again = "Every gradient against finite differences of L, which know no formula (`npae.gradcheck`):"
    verdict = "Every gradient is right." if ok else "NOT every gradient is right: see above."
    rows = tuple(_row(e, row) for report in reports for row in report.rows)
    blocks = (Prose(words), Formula(tuple(text for text, _ in gaps)), Prose(again), Formula(rows), Prose(verdict))
    return Section("check", f"{number}  The check", blocks), ok


def _compared(e: Example, equation: Equation, what: str, right: Expr) -> tuple[str, bool]:
    """A line on one formula for one array, and whether it is wrong."""
    array, gap = e.arrays[equation.left.name], largest_gap(e, Equation(equation.left, right))
    wrong = not gap <= ROUNDING * max(1.0, float(np.max(np.abs(array), initial=0)))
    count = f"all {array.size} entries" if array.size > 1 else "the number"
    return f"{equation.left.name} by {what}: {f'NOT the same, off by {gap:.2g}' if wrong else count}", wrong


def of_backward(e: Example, name: str) -> bool:
    """Whether it is a gradient that backward itself hands out; others belong to an array on the way."""
    return name in {short(row.name, e.aliases) for row in e.report.rows} | set(e.aliases.values())


def _differences(e: Example, g: Gradient) -> Report:
    """The gradient check of an array on the way."""
    return check_function(lambda array: (e.losses[g.name](array), e.arrays[f"d{g.name}"]), e.arrays[g.name],
                          name=g.name)


def _row(e: Example, row: Row) -> str:
    name = short(row.name, e.aliases)
    verified = sum(entry.verdict == "PASS" for entry in row.entries)
    worst = max((abs(entry.analytic - entry.numeric) for entry in row.entries), default=math.nan)
    return (f"d{name}: {verified} of {len(row.entries)} entries verified, the largest error is {worst:.1e} "
            f"({row.worst_ratio:.2g} of what is allowed)")


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
    return {letter.name: p for letter, p in zip(left.index, place, strict=True) if isinstance(letter, Letter)}
