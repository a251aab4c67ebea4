"""From what a family's file says of a layer (a `Lesson`) to the document: the same steps in the same order for all.
Each equation is written and computed from one object, and held against what backward gave.
"""
from __future__ import annotations

import itertools
from string import ascii_lowercase

import numpy as np

from npae.lab.explain.algebra import Entry, Expr
from npae.lab.explain.blocks import Block, Code, Formula, Prose, Table, Tables, Worked
from npae.lab.explain.check import bound, check, of_backward
from npae.lab.explain.document import Explanation, Section
from npae.lab.explain.example import Example
from npae.lab.explain.lesson import Equation, Gradient, Lesson
from npae.lab.explain.sums import Conditions, sigma, total
from npae.lab.explain.writing import Number, Writer, called, shown

SIGNS = ("Signs: a d before the name of an array is the gradient of L by it, an array of the same shape. ⊙ multiplies "
         "entry by entry. A prime, as in n′, marks an index that the chain rule sums over. Marked in an array, in a "
         "terminal by [ ], is what has a part in the number that is worked out.")


def explained(name: str, lesson: Lesson) -> Explanation:
    """The document of a lesson."""
    sections = [_loss(lesson), _forward(lesson)]
    marks = ascii_lowercase if len(lesson.gradients) > 1 else " "
    sections += [_derivation(lesson, g, f"3{mark}") for g, mark in zip(lesson.gradients, marks, strict=False)]
    sections += [_matrix(lesson), _entries(lesson)]
    if lesson.pictures:
        sections.append(Section("picture", "6  Pictures", lesson.pictures))
    after = 6 + bool(lesson.pictures)
    sections.append(Section("code", f"{after}  The code", tuple(map(Code, lesson.code))))
    last, ok = check(lesson, after + 1)
    return Explanation(name, lesson.idea, (*sections, last), ok, lesson.example)


# ---- 1 and 2: the loss, and forward

def _loss(lesson: Lesson) -> Section:
    e = lesson.example
    tables = Tables(tuple(Table(name, e.arrays[name]) for name in e.given))
    if lesson.scalar:
        words = f"The example is {e.title}. It gives a scalar already, L, so no upstream gradient is needed: dL is 1."
        return Section("loss", "1  The scalar loss", (Prose(words), Prose(lesson.indices), Prose(SIGNS), tables))
    words = (f"The example is {e.title}. Only a number has a gradient, so y is made into one: L is the sum of the "
             "entries of y, each weighed by an entry of dy, which is held fixed. Then the derivative of L by y is dy. "
             "In a net dy is the upstream gradient, which comes from the layers after this one.")
    shapes = f"y and dy have the shape {e.arrays['y'].shape}. {lesson.indices}"
    L = Worked((f"L = Σ dy ⊙ y = {shown(float(e.arrays['L']))}",), (Number("L", (), shown(float(e.arrays["L"]))),))
    return Section("loss", "1  The scalar loss", (Prose(words), L, Prose(shapes), Prose(SIGNS), tables))


def _forward(lesson: Lesson) -> Section:
    blocks: list[Block] = [Prose(lesson.forward_words), Formula(tuple(map(_letters, lesson.forward)))]
    blocks.append(Prose("One entry, with its numbers:"))
    blocks += [_worked(lesson.example, equation, _busiest(lesson.example, equation)) for equation in lesson.forward]
    lefts = (e.left.name for e in lesson.forward if lesson.example.arrays[e.left.name].ndim)
    if results := dict.fromkeys((*lesson.besides, *lefts)):
        blocks.append(Tables(tuple(Table(name, lesson.example.arrays[name]) for name in results)))
    return Section("forward", "2  Forward", tuple(blocks))


# ---- 3: the chain rule with indices

def _derivation(lesson: Lesson, g: Gradient, number: str) -> Section:
    e, left = lesson.example, g.equation.left
    target = _text(Entry(g.name, left.index))
    lines, partials = [], []
    for place, path in enumerate(g.paths):
        through = _text(path.through)
        over = f"{sigma(path.through.index)} " if path.through.index else ""
        head = f"{_text(left)} = " if place == 0 else f"{' ' * len(_text(left))} + "
        product = f"{called('d' + path.through.name, [_text(i) for i in path.through.index])} ∂{through}/∂{target}"
        lines.append(f"{head}{over}{product}")
        partials.append(f"∂{through}/∂{target} = {_text(path.partial)}{_unless(path.where)}")
    blocks: list[Block] = [Prose(g.reaches), Formula((*lines, *partials)), Prose(g.why)]
    blocks.append(Formula((_letters(g.equation),)))
    if g.note:
        blocks.append(Prose(g.note))
    if g.also:
        blocks.append(Formula(tuple(map(_letters, g.also))))
    at = _busiest(e, g.equation)
    add = ": multiply what stands at the same place, and add." if any(path.through.index for path in g.paths) else ":"
    blocks += [Prose(f"With numbers, for {called(g.name, at)}{add}"), *_chain(e, g, at)]
    return Section("derivation", f"{number} {left.name}, by its indices", tuple(blocks))


def _chain(e: Example, g: Gradient, place: tuple[int, ...]) -> tuple[Worked, Tables]:
    """Each array on a path to the loss: its gradient, and its derivative by one entry (marked where that is not 0)."""
    tables, products = [], []
    for path in g.paths:
        through, one = path.through.name, total((), path.partial, *path.where)
        name, partial = f"∂{through}/∂{called(g.name, place)}", np.zeros(e.arrays[through].shape)
        for there in np.ndindex(partial.shape):
            partial[there] = one.value(e.env.place(bound(g.equation.left, place) | bound(path.through, there)))
        e.arrays[name] = partial
        meets = frozenset(there for there in np.ndindex(partial.shape) if there and partial[there])
        tables += [Table(f"d{through}", e.arrays[f"d{through}"], meets), Table(name, partial, meets)]
        products.append(f"Σ d{through} ⊙ {name}" if path.through.index else f"d{through} {name}")
    left = g.equation.left.name
    value = shown(float(e.arrays[left][place]))
    text = f"{called(left, place)} = {' + '.join(products)} = {value}"
    return Worked((text,), (Number(left, place, value),)), Tables(tuple(tables))


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
    names = (g.equation.left.name for g in lesson.gradients)
    whole = tuple(Table(name, lesson.example.arrays[name]) for name in names)
    blocks += [Prose("The gradients of the example as a whole:"), Tables(whole)]
    return Section("matrix", "4  The matrix form", tuple(blocks))


def _entries(lesson: Lesson) -> Section:
    e = lesson.example
    blocks: list[Block] = []
    for g in lesson.gradients:
        place = _busiest(e, g.equation)
        worked = _worked(e, g.equation, place, says_backward=of_backward(e, g.name))
        used: dict[str, set[tuple[int, ...]]] = {}
        for n in worked.numbers:
            used.setdefault(n.name, set()).add(n.place)
        used.pop(g.equation.left.name, None)
        tables = [Table(name, e.arrays[name], frozenset(places)) for name, places in used.items()
                  if name and e.arrays[name].ndim]
        target = Table(g.equation.left.name, e.arrays[g.equation.left.name], frozenset([place]))
        blocks += [worked, Tables((*tables, target))]
    return Section("entry", "5  One entry of each, term by term", tuple(blocks))


def _worked(e: Example, equation: Equation, place: tuple[int, ...], says_backward: bool = False) -> Worked:
    """The equation at one place: with places, with numbers, and its value."""
    env, name = e.env.place(bound(equation.left, place)), called(equation.left.name, place)
    texts: list[str] = []
    printed: list[Number] = []
    for how in (Writer(env), Writer(env, figures=True)):
        text = equation.right.write(how).text
        if not texts or texts[-1] != text:
            texts.append(text)
            printed += how.numbers
    value, claimed = shown(equation.right.value(env)), shown(float(e.arrays[equation.left.name][place]))
    if texts[-1] != value:
        texts.append(value)
        printed.append(Number(equation.left.name, place, value))
    if says_backward:
        texts[-1] += f"{8 * ' '}backward gives {claimed}"
        printed.append(Number(equation.left.name, place, claimed))
    heads = (name, *(" " * len(name) for _ in texts[1:]))
    return Worked(tuple(f"{head} = {text}" for head, text in zip(heads, texts, strict=True)), tuple(printed))


def _busiest(e: Example, equation: Equation) -> tuple[int, ...]:
    """The place with the most terms; of several one with few zeros, and with indices that can be told apart."""
    def zeros(place: tuple[int, ...]) -> int:
        figures = Writer(e.env.place(bound(equation.left, place)), figures=True)
        equation.right.write(figures)
        value = e.arrays[equation.left.name][place]
        return sum(n.name != "" and n.text == "0" for n in figures.numbers) + int(value == 0)

    places = list(itertools.product(*map(range, e.arrays[equation.left.name].shape)))
    return max(places, key=lambda p: (equation.right.terms(e.env.place(bound(equation.left, p))), -zeros(p),
                                      len(set(p))))


def _text(expr: Expr) -> str:
    return expr.write(Writer()).text


def _letters(equation: Equation) -> str:
    return f"{_text(equation.left)} = {_text(equation.right)}"
