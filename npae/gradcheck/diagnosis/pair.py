"""Two arrays side by side, one as somebody has it and one as it should be; and one number between them."""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from npae.gradcheck.facts import Facts

RTOL = 1e-9
"""Of the largest entry: what two ways to compute one number may differ by, where nobody says more."""
SINGLE = 1e-5
"""Of the largest entry: what is left over of seven digits after a few sums in float32."""
NEAR = 1e-6
"""Of a factor: how well it has to agree with the number that it is named after."""
FEW = 3
"""Entries below which a factor has to be a round number, or one that has a name, to be an explanation."""

AXES: dict[str, tuple[str, ...]] = {
    "picture": ("image", "row", "column", "channel"),
    "features": ("image", "feature"),
    "kernel": ("kernel row", "kernel column", "in-channel", "out-channel"),
    "matrix": ("input", "unit"),
    "vector": ("unit",),
}
"""What the axes of an array are called, by the kind of array."""

Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """An array as somebody has it (got) beside the right one (want), which is known to `tol`, entry by entry."""

    name: str
    got: Array
    want: Array
    tol: Array
    right: str = "the numeric gradient"
    axes: tuple[str, ...] = ()

    def fits(self, candidate: Array, tol: Array | float | None = None) -> bool:
        """Is got the candidate, in every entry?"""
        if candidate.shape != self.got.shape or not np.all(np.isfinite(candidate)):
            return False
        slack = (self.tol if tol is None else tol) + RTOL * float(np.max(np.abs(candidate), initial=0))
        return bool(np.all(np.abs(self.got - candidate) <= slack))

    @property
    def wrong(self) -> Array:
        """Where got is not want."""
        return ~(np.abs(self.got - self.want) <= self.tol + RTOL * float(np.max(np.abs(self.want), initial=0)))

    def part(self, where: tuple) -> Pair:
        """The pair at some of the entries."""
        return Pair(self.name, self.got[where], self.want[where], self.tol[where], self.right)


def scaled(pair: Pair, facts: Facts) -> str:
    """Zero, the wrong sign, or a factor, which is named where the facts have a name for it."""
    name, n = pair.name, pair.got.size
    if pair.fits(np.zeros_like(pair.want)):
        return f"{name} is zero in all {n} entries, {pair.right} is not"
    c = factor(pair)
    if c is None:
        return ""
    if abs(c + 1) < NEAR:
        return f"{name} has the wrong sign in all {n} entries"
    meant = called(c, facts)
    if n < FEW and not meant and not simple(c):
        return ""  # one number is always some multiple of another
    sign = ", and the sign is wrong" if c < 0 else ""
    return f"{name} is {show(c)} × {pair.right} in all {n} entries{meant}{sign}"


def factor(pair: Pair) -> float | None:
    """The c in got = c want, by least squares; None where one number does not explain all entries."""
    square = float(np.sum(pair.want * pair.want))
    if square == 0 or not np.any(np.abs(pair.want) > 100 * pair.tol):
        return None
    c = float(np.sum(pair.got * pair.want)) / square
    return c if c and pair.fits(c * pair.want, abs(c) * pair.tol) else None


def show(c: float) -> str:
    """A factor as people write it: 3, 1/3, -½, 0.3, 2/3, 0.731059."""
    near = Fraction(c).limit_denominator(10_000)
    if near == 1 and c != 1:
        return f"{c:.9g}"
    if near and abs(c - near) <= NEAR * abs(c):
        if abs(near) == Fraction(1, 2):
            return "½" if near > 0 else "-½"
        tens = set(str(near.denominator)) <= {"1", "0"}
        round_ = near.denominator > 9 and (tens or abs(c - round(c, 2)) <= NEAR * abs(c))  # 0.01 is no hundredth
        if 1 in (abs(near.numerator), near.denominator) and not round_:
            return str(near)
        if tens:
            return f"{float(near):g}"
        if abs(c - round(c, 3)) <= NEAR * abs(c):
            return f"{round(c, 3):g}"
        if max(abs(near.numerator), near.denominator) <= 12:
            return str(near)
    return f"{c:.6g}"


def ordinal(k: int, n: int) -> str:
    """The k-th of n, counted from 0, in words."""
    if k in (0, n - 1):
        return "last" if k else "first"
    words = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    return words[k - 1] if k <= len(words) else f"{k + 1}th"


def simple(c: float) -> bool:
    """Is it a number that people write, and no accident?"""
    return "." not in show(c) or abs(c - round(c, 3)) <= NEAR * abs(c)


def called(c: float, facts: Facts) -> str:
    """": 3 is the batch size, as if ..." for a factor of 3, or of 1/3; empty where nothing has that size.

    All names that fit are told, since numbers do not say which one it was.
    """
    size, told = abs(c), []
    if abs(size - 2) < NEAR:
        told.append("a factor ½ is missing, or it is counted twice")
    if abs(size - 0.5) < NEAR:
        told.append("a factor 2 is missing, or half of it")
    for value, words in ((size, "as if a division by it had been left out"),
                         (1 / size, "as if it had been divided by it once too often")):
        names = [what for what, v in _sizes(facts).items() if abs(v - value) <= NEAR * value]
        if names:
            told.append(f"{show(value)} is {' or '.join(names)}, {words}")
    return f": {'; or '.join(told)}" if told else ""


def _sizes(facts: Facts) -> dict[str, float]:
    """The size of each number that has a name, and of the batch times what a picture or a code has."""
    sizes = {what: abs(float(v)) for what, v in facts.numbers.items() if v and np.isfinite(v)}
    batch = sizes.get("the batch size")
    if batch:
        sizes |= {f"the batch size times {what}": batch * v for what, v in list(sizes.items())
                  if what.startswith("the number of") and "channels" not in what}
    return {what: v for what, v in sizes.items() if abs(v - 1) > NEAR}
