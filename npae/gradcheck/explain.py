"""What a wrong array looks like beside the right one, in words. Every candidate is tested against the numbers, and only
one that explains all entries to rounding is told, with its figure: a guess that fits half of them is no explanation.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations, permutations

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


def explain(name: str, got: Array, want: Array, facts: Facts | None = None, right: str = "the numeric gradient",
            tol: Array | None = None, axes: tuple[str, ...] = ()) -> str:
    """One sentence, such as "dW has the wrong sign in all 12 entries"; empty where nothing explains `got`.

    `name` is what got is called, `right` what want is called ("the reference", say); `tol` is how well want is known,
    entry by entry (None: to rounding); `axes` are the names of its axes.

    >>> explain("dW", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 3.0], [2.0, 4.0]]))
    'dW is the transpose of the numeric gradient'
    >>> explain("db", np.array([3.0, 6.0]), np.array([1.0, 2.0]), Facts({"the batch size": 3}))
    'db is 3 × the numeric gradient in all 2 entries: 3 is the batch size, so a division by it was left out'
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return f"{name} has the shape {got.shape}, {right} {want.shape}"
    pair = Pair(name, got, want, np.zeros(want.shape) if tol is None else tol, right, axes)
    if not np.all(np.isfinite(got)):
        return f"{name} is not finite in {int(np.sum(~np.isfinite(got)))} of {got.size} entries"
    if not np.any(pair.wrong):
        return ""
    facts = facts or Facts()
    if not np.any(np.abs(want) > pair.tol) and right == "the numeric gradient":
        return (f"{right} is zero where {name} is not: forward does not depend on {name.removeprefix('d')} "
                "(it may use a copy)")
    candidates: tuple[Callable[[], str], ...] = (
        lambda: scaled(pair, facts), lambda: rearranged(pair, facts), lambda: in_part(pair, facts),
        lambda: multiplied(pair, facts), lambda: rounded(pair), lambda: offset(pair, facts), lambda: clipped(pair))
    return next((sentence for candidate in candidates if (sentence := candidate())), "")


# ---- one number explains all

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
    return f"{name} is {show(c)} × {pair.right} in all {n} entries{meant}"


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
    if near and abs(c - near) <= NEAR * abs(c):
        if abs(near) == Fraction(1, 2):
            return "½" if near > 0 else "-½"
        round_ = near.denominator > 9 and abs(c - round(c, 2)) <= NEAR * abs(c)  # 0.01 is no hundredth
        if 1 in (abs(near.numerator), near.denominator) and not round_:
            return str(near)
        if abs(c - round(c, 3)) <= NEAR * abs(c):
            return f"{round(c, 3):g}"
        if max(abs(near.numerator), near.denominator) <= 12:
            return str(near)
    return f"{c:.6g}"


def simple(c: float) -> bool:
    """Is it a number that people write, and no accident?"""
    return "." not in show(c) or abs(c - round(c, 3)) <= NEAR * abs(c)


def called(c: float, facts: Facts) -> str:
    """": 3 is the batch size" for a factor of 3, or of 1/3; two facts may be multiplied; empty without a name."""
    sign = " and the sign is wrong" if c < 0 else ""
    size = abs(c)
    if abs(size - 2) < NEAR:
        return f": a factor ½ is missing{sign}"
    if abs(size - 0.5) < NEAR:
        return f": a factor 2 is missing{sign}"
    numbers = {what: float(v) for what, v in facts.numbers.items() if v and np.isfinite(v) and abs(abs(v) - 1) > NEAR}
    singles = {what: abs(v) for what, v in numbers.items()}
    pairs = {f"{a} times {b}": singles[a] * singles[b] for a, b in combinations(numbers, 2)}
    for values in (singles, pairs):
        for value, words in ((size, "so a division by it was left out"),
                             (1 / size, "by which it is divided once too often")):
            names = [what for what, v in values.items() if abs(v - value) <= NEAR * value]
            if names:
                return f": {show(value)} is {' or '.join(names)}, {words}{sign}"
    return sign


# ---- the right numbers in wrong places

def rearranged(pair: Pair, facts: Facts) -> str:
    """Transposed, turned, swapped, shifted: the same numbers elsewhere."""
    for words, candidate, known in chain(_arrangements(pair), _sums(pair), _by_sample(pair, facts)):
        moved = Pair(pair.name, pair.got[known], candidate[known], np.full(pair.got[known].shape, _coarse(pair)),
                     pair.right)
        if not np.any(np.abs(moved.want) > 100 * moved.tol) or not _says_something(pair):
            continue
        if moved.fits(moved.want):
            return f"{pair.name} {words.format(right=pair.right)}"
        c = factor(moved)
        if c is not None and (simple(c) or called(c, facts)):
            return f"{pair.name} {words.format(right=pair.right)}, times {show(c)}{called(c, facts)}"
    return ""


def _coarse(pair: Pair) -> float:
    return float(np.max(pair.tol, initial=0))


def _says_something(pair: Pair) -> bool:
    """Two numbers fit together by chance; a dozen different ones do not."""
    return len(np.unique(np.round(pair.want / np.max(np.abs(pair.want)), 9))) > 2


def _arrangements(pair: Pair) -> Iterator[tuple[str, Array, tuple]]:
    """(words, the right numbers so arranged, the entries that are known after it)."""
    want, everywhere = pair.want, (slice(None),) * pair.want.ndim
    if want.ndim == 2 and want.shape[0] == want.shape[1]:
        yield "is the transpose of {right}", want.T, everywhere
    if want.ndim == 4:
        a, b = (0, 1) if "kernel row" in pair.axes else (1, 2)
        if a == 0:
            yield "is {right} with its kernel turned by 180°", want[::-1, ::-1], everywhere
            if want.shape[2] == want.shape[3]:
                yield "is {right} with in- and out-channels swapped", want.swapaxes(2, 3), everywhere
            elif want.shape[2] != want.shape[3]:
                mixed = want.swapaxes(2, 3).reshape(want.shape)
                yield "is {right} with in- and out-channels swapped (by a reshape)", mixed, everywhere
            both = want[::-1, ::-1].swapaxes(2, 3).reshape(want.shape)
            yield "is {right} with its kernel turned by 180° and in- and out-channels swapped", both, everywhere
        if want.shape[a] == want.shape[b]:
            yield "is {right} with rows and columns swapped", want.swapaxes(a, b), everywhere
        yield ("is {right} with rows and columns swapped (by a reshape)", want.swapaxes(a, b).reshape(want.shape),
               everywhere)
        for axis, words in ((a, "turned upside down"), (b, "turned left to right")):
            yield f"is {{right}} {words}", np.flip(want, axis), everywhere
        yield from _shifts(want, a, b)
        yield "is {right} with its kernel's places in the opposite order" if a == 0 else "is {right} turned by 180°", \
            np.flip(want, (a, b)), everywhere
    if want.ndim > 1:
        yield from ((words, moved, everywhere) for words, moved in _reshaped(want))
        for axis in range(want.ndim):
            what = pair.axes[axis] if axis < len(pair.axes) else f"axis {axis}"
            if want.shape[axis] > 1:
                yield f"is {{right}} with the {what}s in reverse order", np.flip(want, axis), everywhere
                yield f"is {{right}} with each {what} in the place of its neighbour", np.roll(want, 1, axis), everywhere
                first = np.broadcast_to(np.take(want, [0], axis), want.shape)
                yield f"has the first {what} of {{right}} in all places", first, everywhere


def _reshaped(want: Array) -> Iterator[tuple[str, Array]]:
    """Axes in another order, poured back into the same shape; with the first axis (the images) in its place, or not."""
    yield "is {right} in Fortran order", want.ravel("F").reshape(want.shape)
    yield "is {right} read in Fortran order", want.ravel().reshape(want.shape, order="F")
    for order in permutations(range(want.ndim)):
        if order == tuple(range(want.ndim)):
            continue
        words = f"is {{right}} with its axes in the order {order}, reshaped where a transpose belongs"
        yield words, want.transpose(order).reshape(want.shape)
        back = want.reshape([want.shape[k] for k in order]).transpose(np.argsort(order))
        yield words, back
        if want.ndim == 4 and order[0] == 0:
            inner = want.reshape(want.shape[0], *[want.shape[k] for k in order[1:]])
            yield ("is {right} read in Fortran order, image by image",
                   inner.transpose(0, 3, 2, 1).reshape(want.shape))


def _by_sample(pair: Pair, facts: Facts) -> Iterator[tuple[str, Array, tuple]]:
    """Rows of several samples an image: sample by sample, or image by image?"""
    k = int(facts.numbers.get("the number of samples", 0))
    n, odd = divmod(len(pair.want), k) if k > 1 and pair.want.ndim else (0, 1)
    if odd or n < 2:
        return
    for words, shape in (("image by image instead of sample by sample", (k, n)), ("sample by sample", (n, k))):
        moved = pair.want.reshape(*shape, -1).swapaxes(0, 1).reshape(pair.want.shape)
        yield f"is {{right}} {words}, reshaped where a transpose belongs", moved, (slice(None),) * pair.want.ndim


def _sums(pair: Pair) -> Iterator[tuple[str, Array, tuple]]:
    """Summed over one axis too many, and spread out over it again."""
    want = pair.want
    for axis in range(want.ndim):
        if want.shape[axis] < 2:
            continue
        what = pair.axes[axis] if axis < len(pair.axes) else f"index of axis {axis}"
        total = want.sum(axis=axis, keepdims=True)
        for words, value in (("sum", total), ("mean", total / want.shape[axis])):
            yield f"is the {words} of {{right}} over every {what}, the same for each", \
                np.broadcast_to(value, want.shape), (slice(None),) * want.ndim


def _shifts(want: Array, a: int, b: int) -> Iterator[tuple[str, Array, tuple]]:
    """One pixel in one of eight directions; what was beyond the edge is not known."""
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    for i, j in sorted(steps, key=lambda step: abs(step[0]) + abs(step[1])):
        known: list = [slice(None)] * want.ndim
        for axis, step in ((a, i), (b, j)):
            known[axis] = slice(max(step, 0), want.shape[axis] + min(step, 0))
        if all(want.shape[axis] > abs(step) for axis, step in ((a, i), (b, j))):
            yield f"is {{right}}, but is shifted by ({i}, {j}) pixels", np.roll(want, (i, j), (a, b)), tuple(known)


# ---- right but for a part

def in_part(pair: Pair, facts: Facts) -> str:
    """Wrong in the last column only, say: what is it there?"""
    wrong = pair.wrong
    if np.all(wrong) or pair.want.ndim == 0:
        return ""
    for where, words in _regions(wrong, pair.axes):
        there = pair.part(where)
        if there.fits(np.zeros_like(there.want)):
            return (f"{words} of {pair.name} {_is(words)} missing: {there.want.size} entries are zero, "
                    f"it counts only the other {pair.want.size - there.want.size}, and they are right")
        sentence = scaled(there, facts)
        if sentence:
            return f"in {words}, {sentence}; elsewhere it is right"
    if np.all(pair.got[wrong] == 0):
        if _is_border(wrong, pair):
            return f"the border of {pair.name} is missing: it is zero there, and right inside"
        return f"of the {wrong.size} entries of {pair.name}, {int(wrong.sum())} are zero and the others are right"
    return ""


def _is(words: str) -> str:
    return "are" if words.endswith("s") else "is"


def _is_border(wrong: Array, pair: Pair) -> bool:
    """Is it the first and last rows and columns of a picture that are wrong?"""
    if pair.axes != AXES["picture"] or wrong.ndim != 4:
        return False
    border = np.ones(wrong.shape, bool)
    border[:, 1:-1, 1:-1] = False
    return bool(np.array_equal(wrong, border))


def _regions(wrong: Array, axes: tuple[str, ...]) -> Iterator[tuple[tuple, str]]:
    """The smallest slab of indices along one axis that holds all wrong entries, at an end of the axis."""
    for axis in sorted(range(wrong.ndim), key=lambda k: float(np.mean(_touched(wrong, k)))):
        touched = np.flatnonzero(_touched(wrong, axis))
        size, what = wrong.shape[axis], axes[axis] if axis < len(axes) else f"index of axis {axis}"
        if len(touched) == size or len(touched) == 0:
            continue
        where: list = [slice(None)] * wrong.ndim
        where[axis] = touched
        if len(touched) == 1 and touched[0] in (0, size - 1):
            yield tuple(where), f"the {'first' if touched[0] == 0 else 'last'} {what}"
        elif len(touched) == 1:
            yield tuple(where), f"{what} {touched[0]}"
        elif touched[-1] == size - 1 and len(touched) == size - touched[0]:
            only = "every" if touched[0] == 1 else f"the last {len(touched)}"
            yield tuple(where), f"every {what} but the first" if only == "every" else f"the last {len(touched)} {what}s"
        elif touched[0] == 0 and len(touched) == touched[-1] + 1:
            last = len(touched) == size - 1
            yield tuple(where), f"every {what} but the last" if last else f"the first {len(touched)} {what}s"


def _touched(wrong: Array, axis: int) -> Array:
    """Which indices of an axis have a wrong entry."""
    return np.any(wrong, axis=tuple(k for k in range(wrong.ndim) if k != axis))


# ---- other numbers that are known

def multiplied(pair: Pair, facts: Facts) -> str:
    """got = want × q or want / q, with an array that is known, such as the noise eps."""
    for what, array in facts.arrays.items():
        q = _broadcast(array, pair.want)
        if q is None or np.ptp(np.abs(q)) <= NEAR * np.max(np.abs(q)):
            continue
        if pair.fits(pair.want * q, pair.tol * np.abs(q)):
            return f"{pair.name} is {pair.right} × {what}: the factor {what} stands twice, or does not belong there"
        if np.all(q) and pair.fits(pair.want / q, pair.tol / np.abs(q)):
            return f"{pair.name} is {pair.right} divided by {what}: the factor {what} is missing"
    return ""


def offset(pair: Pair, facts: Facts) -> str:
    """got = want + c q, with a constant, or with an array that is known."""
    gap = Pair(pair.name, pair.got - pair.want, np.ones_like(pair.want), pair.tol)
    c = float(np.mean(gap.got))
    if (gap.got.size >= FEW or _named(c, facts)) and gap.fits(c * gap.want):
        if c:
            return f"{pair.name} is off by a constant: {show(c)}{_named(c, facts)} is added to {pair.right}"
    for what, array in facts.arrays.items():
        q = _broadcast(array, pair.want)
        if q is None or not np.any(q) or q.size < 3:
            continue
        c = factor(Pair(pair.name, gap.got, np.array(q), gap.tol)) or 0.0
        if c:
            verb = "has an extra" if c > 0 else "lacks"
            return f"{pair.name} {verb} {show(abs(c))} × {what}{called(abs(c), facts)}"
    return ""


def clipped(pair: Pair) -> str:
    """Cut off at some size, which several entries then have."""
    size = float(np.max(np.abs(pair.got), initial=0))
    several = int(np.sum(np.abs(np.abs(pair.got) - size) <= RTOL * size))
    if size and several > 1 and pair.fits(np.clip(pair.want, -size, size)):
        return f"{pair.name} is clipped at {show(size)}: {several} of {pair.got.size} entries have that size"
    return ""


def _named(c: float, facts: Facts) -> str:
    name = next((what for what, v in facts.numbers.items() if abs(abs(v) - abs(c)) <= NEAR * abs(c)), "")
    return f" ({name})" if name else ""


def rounded(pair: Pair) -> str:
    """Right to seven digits: that is what is left when numbers pass through float32."""
    size = float(np.max(np.abs(pair.want), initial=0))
    if float(np.max(np.abs(pair.got - pair.want))) <= SINGLE * size and size:
        worst = float(np.max(np.abs(pair.got - pair.want))) / size
        through = np.array_equal(pair.got, pair.got.astype(np.float32).astype(np.float64))
        if through or worst < 1e-6:
            return f"{pair.name} is right to {worst:.0e} only: it was computed in float32"
    return ""


def _broadcast(array: Array, want: Array) -> Array | None:
    try:
        return np.broadcast_to(np.asarray(array, np.float64), want.shape)
    except ValueError:
        return None
