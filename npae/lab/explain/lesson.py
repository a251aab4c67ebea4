"""From what a family's file says of a layer (a `Lesson`) to the document: the same steps in the same order for all.
Each equation is written and computed from one object, and held against what backward gave.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae.gradcheck import Report, Row, check_function
from npae.lab.explain.algebra import Array as Name
from npae.lab.explain.algebra import Conditions, Entry, Expr, Letter, Number, Writer, called, shown, sigma, total
from npae.lab.explain.document import (
    Block,
    Code,
    Explanation,
    Formula,
    Picture,
    Prose,
    Section,
    Table,
    Tables,
    Worked,
)
from npae.lab.explain.example import Example

ROUNDING = 1e-12
"""Of the largest entry: two ways of summing the same few terms in float64."""


@dataclass(frozen=True)
class Equation:
    """left = right, for every place of left's indices."""

    left: Entry
    right: Expr


@dataclass(frozen=True)
class Path:
    """One way on which an array reaches the loss: through another whose gradient is known.

    partial: ∂through/∂target, in the primed indices of `through` and those of the target, 0 unless `where` holds.
    """

    through: Entry
    partial: Expr
    where: Conditions = ()


@dataclass(frozen=True)
class Gradient:
    """The derivation of one gradient.

    reaches: where the entry stands in the forward pass; paths: the chain rule's terms; why: which index is summed and
    what for; matrix: the same as a whole, with the reason of its form.
    """

    equation: Equation
    reaches: str
    paths: tuple[Path, ...]
    why: str
    matrix: tuple[str, ...]
    also: tuple[Equation, ...] = ()
    """Other forms of the same, after the words of `note`."""
    note: str = ""

    @property
    def name(self) -> str:
        """W for dW."""
        return self.equation.left.name[1:]


@dataclass(frozen=True)
class Lesson:
    """What is said of one layer, loss or penalty."""

    example: Example
    idea: str
    indices: str
    forward: tuple[Equation, ...]
    forward_words: str
    gradients: tuple[Gradient, ...]
    code: tuple[Callable[..., Any], ...]
    scalar: bool = False
    """The forward pass gives L itself, as a loss or penalty does."""
    pictures: tuple[Picture, ...] = ()


def explained(name: str, lesson: Lesson) -> Explanation:
    """The document of a lesson."""
    sections = [_loss(lesson), _forward(lesson)]
    sections += [_derivation(lesson, g, f"3{'abcdef'[i]}") for i, g in enumerate(lesson.gradients)]
    sections += [_matrix(lesson), _entries(lesson)]
    if lesson.pictures:
        sections.append(Section("picture", "6  Pictures", lesson.pictures))
    after = 6 + bool(lesson.pictures)
    sections.append(Section("code", f"{after}  The code", tuple(map(Code, lesson.code))))
    check, ok = _check(lesson, after + 1)
    return Explanation(name, f"{name}: {lesson.idea}", (*sections, check), ok, lesson.example)


# ---- 1 and 2: the loss, and forward

def _loss(lesson: Lesson) -> Section:
    e = lesson.example
    tables = Tables(tuple(Table(name, e.arrays[name]) for name in e.given))
    if lesson.scalar:
        words = (f"The example is {e.title}. It gives a scalar already, L, so no upstream gradient is needed: each "
                 "gradient is dL by an array.")
        return Section("loss", "1  The scalar loss", (Prose(words), Prose(lesson.indices), tables))
    words = (f"The example is {e.title}. A gradient is that of a number, so the output is made one: each entry of y "
             "is weighed by an upstream gradient dy, which in a net comes from the layers behind. Then dL/dy is dy.")
    y = e.arrays["y"]
    shapes = f"y has the shape {y.shape}, as dy. {lesson.indices}"
    L = Worked((f"L = Σ dy y = {shown(float(e.arrays['L']))}",), (Number("L", (), shown(float(e.arrays["L"]))),))
    return Section("loss", "1  The scalar loss", (Prose(words), Prose(shapes), L, tables))


def _forward(lesson: Lesson) -> Section:
    blocks: list[Block] = [Prose(lesson.forward_words), Formula(tuple(map(_letters, lesson.forward)))]
    blocks.append(Prose("One entry, with its numbers:"))
    blocks += [_worked(lesson.example, equation, _busiest(lesson.example, equation)) for equation in lesson.forward]
    results = dict.fromkeys(e.left.name for e in lesson.forward if lesson.example.arrays[e.left.name].ndim)
    if results:
        blocks.append(Tables(tuple(Table(name, lesson.example.arrays[name]) for name in results)))
    return Section("forward", "2  Forward", tuple(blocks))


# ---- 3: the chain rule with indices

def _derivation(lesson: Lesson, g: Gradient, number: str) -> Section:
    left = g.equation.left
    target = _text(Entry(g.name, left.index))
    lines, partials = [], []
    for place, path in enumerate(g.paths):
        through = _text(path.through)
        over = f"{sigma(path.through.index)} " if path.through.index else ""
        head = f"{_text(left)} = " if place == 0 else f"{' ' * len(_text(left))} + "
        product = f"{called('d' + path.through.name, [_text(i) for i in path.through.index])} ∂{through}/∂{target}"
        lines.append(f"{head}{over}{product}")
        partials.append(f"∂{through}/∂{target} = {_text(path.partial)}{_unless(path.where)}")
    if lesson.scalar and not g.paths:
        lines = [f"{_text(left)} = ∂L/∂{target}"]
    blocks: list[Block] = [Prose(g.reaches), Formula((*lines, *partials)), Prose(g.why)]
    blocks.append(Formula((_letters(g.equation),)))
    if g.note:
        blocks.append(Prose(g.note))
    if g.also:
        blocks.append(Formula(tuple(map(_letters, g.also))))
    return Section("derivation", f"{number} {left.name}, by its indices", tuple(blocks))


def _unless(where: Conditions) -> str:
    if not where:
        return ""
    return " where " + ", ".join(f"{_text(a)} = {_text(b)}" for a, b in where) + ", else 0"


# ---- 4 and 5: as a whole, and one entry

def _matrix(lesson: Lesson) -> Section:
    blocks: list[Block] = []
    for g in lesson.gradients:
        formula, *words = g.matrix
        blocks += [Formula((formula,)), *map(Prose, words)]
    return Section("matrix", "4  The matrix form", tuple(blocks))


def _entries(lesson: Lesson) -> Section:
    e = lesson.example
    blocks: list[Block] = []
    for g in lesson.gradients:
        place = _busiest(e, g.equation)
        worked = _worked(e, g.equation, place, says_backward=_of_backward(e, g.name))
        used: dict[str, set[tuple[int, ...]]] = {}
        for n in worked.numbers:
            used.setdefault(n.name, set()).add(n.place)
        del used[g.equation.left.name]
        tables = [Table(name, e.arrays[name], frozenset(places)) for name, places in used.items()
                  if name and e.arrays[name].ndim]
        target = Table(g.equation.left.name, e.arrays[g.equation.left.name], frozenset([place]))
        blocks += [worked, Tables((*tables, target))]
    return Section("entry", "5  One entry of each, term by term", tuple(blocks))


def _worked(e: Example, equation: Equation, place: tuple[int, ...], says_backward: bool = False) -> Worked:
    """The equation at one place: with places, with numbers, and its value."""
    env = e.env.place(_bound(equation.left, place))
    where, figures = Writer(env), Writer(env, figures=True)
    name = called(equation.left.name, place)
    numbers = equation.right.write(figures).text
    value, claimed = shown(equation.right.value(env)), shown(float(e.arrays[equation.left.name][place]))
    lines = [f"{name} = {equation.right.write(where).text}", f"{' ' * len(name)} = {numbers}"]
    printed = list(figures.numbers)
    if numbers != value:
        lines.append(f"{' ' * len(name)} = {value}")
        printed.append(Number(equation.left.name, place, value))
    if says_backward:
        lines[-1] += f"        backward gives {claimed}"
        printed.append(Number(equation.left.name, place, claimed))
    return Worked(tuple(lines), tuple(printed))


# ---- 7: the check

def _check(lesson: Lesson, number: int) -> tuple[Section, bool]:
    e, lines, ok = lesson.example, [], True
    for g in lesson.gradients:
        array, ways = e.arrays[g.equation.left.name], dict(_ways(e, g))
        gaps = {what: largest_gap(e, Equation(g.equation.left, right)) for what, right in ways.items()}
        wrong = [f"{what} is off by {gap:.2g}" for what, gap in gaps.items()
                 if not gap <= ROUNDING * max(1.0, float(np.max(np.abs(array), initial=0)))]
        ok &= not wrong
        lines.append(f"{g.equation.left.name}: " + ("; ".join(wrong) if wrong else f"{' and '.join(ways)} give all "
                                                    f"{array.size} entries to rounding"))
    reports = [e.report, *(_differences(e, g) for g in lesson.gradients if not _of_backward(e, g.name))]
    ok &= all(report.ok for report in reports)
    rows = tuple(_row(row) for report in reports for row in report.rows)
    words = ("The formulas above, summed entry by entry in plain Python, against what backward gave (of an array "
             "between, against what follows from it):")
    again = "Every gradient against finite differences of L, which know no formula (`npae.gradcheck`):"
    verdict = "Every gradient is right." if ok else "NOT every gradient is right: see above."
    blocks = (Prose(words), Formula(tuple(lines)), Prose(again), Formula(rows), Prose(verdict))
    return Section("check", f"{number}  The check", blocks), ok


def _of_backward(e: Example, name: str) -> bool:
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
    return max(abs(equation.right.value(e.env.place(_bound(equation.left, place))) - float(array[place]))
               for place in itertools.product(*map(range, array.shape)))


def _busiest(e: Example, equation: Equation) -> tuple[int, ...]:
    """The place with the most terms; of several the first with the fewest zeros."""
    def zeros(place: tuple[int, ...]) -> int:
        figures = Writer(e.env.place(_bound(equation.left, place)), figures=True)
        equation.right.write(figures)
        value = e.arrays[equation.left.name][place]
        return sum(n.name != "" and n.text == "0" for n in figures.numbers) + int(value == 0)

    places = list(itertools.product(*map(range, e.arrays[equation.left.name].shape)))
    return max(places, key=lambda p: (equation.right.terms(e.env.place(_bound(equation.left, p))), -zeros(p)))


def _bound(left: Entry, place: tuple[int, ...]) -> dict[str, int]:
    return {letter.name: p for letter, p in zip(left.index, place, strict=True) if isinstance(letter, Letter)}


def _text(expr: Expr) -> str:
    return expr.write(Writer()).text


def _letters(equation: Equation) -> str:
    return f"{_text(equation.left)} = {_text(equation.right)}"
