"""What a wrong array looks like beside the right one, in words. Every candidate is tested against the numbers, and only
one that explains all entries to rounding is told, with its figure: a guess that fits half of them is no explanation.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npae.gradcheck.diagnosis.arrangements import rearranged
from npae.gradcheck.diagnosis.pair import FEW, NEAR, RTOL, SINGLE, Pair, called, scaled, show
from npae.gradcheck.diagnosis.regions import in_part
from npae.gradcheck.facts import Facts

Array = np.ndarray


def explain(name: str, got: Array, want: Array, facts: Facts | None = None, right: str = "the numeric gradient",
            tol: Array | None = None, axes: tuple[str, ...] = ()) -> str:
    """One sentence, such as "dW has the wrong sign in all 12 entries"; empty where nothing explains `got`.

    `name` is what got is called, `right` what want is called ("the reference", say); `tol` is how well want is known,
    entry by entry (None: to rounding); `axes` are the names of its axes.

    >>> explain("dW", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 3.0], [2.0, 4.0]]))
    'dW is the transpose of the numeric gradient'
    >>> explain("db", np.array([3.0, 6.0]), np.array([1.0, 2.0]), Facts({"the batch size": 3}))
    'db is 3 × the numeric gradient in all 2 entries: 3 is the batch size, as if a division by it had been left out'
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
    candidates: tuple[Callable[[], str], ...] = (
        lambda: scaled(pair, facts), lambda: rearranged(pair, facts), lambda: in_part(pair, facts),
        lambda: multiplied(pair, facts), lambda: offset(pair, facts), lambda: rounded(pair), lambda: clipped(pair))
    with np.errstate(all="ignore"):  # a wrong array may hold anything
        return next((sentence for candidate in candidates if (sentence := candidate())), "")


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
    if c and (gap.got.size >= FEW or _named(c, facts)) and gap.fits(c * gap.want):
        return f"{pair.name} is off by a constant: {show(c)}{_named(c, facts)} is added to {pair.right}"
    for what, array in facts.arrays.items():
        q = _broadcast(array, pair.want)
        if q is None or not np.any(q) or q.size < 3:
            continue
        c = float(np.sum(gap.got * q) / np.sum(q * q))
        if np.any(np.abs(gap.got) > 100 * gap.tol) and gap.fits(c * q):
            verb = "has an extra" if c > 0 else "lacks"
            return f"{pair.name} {verb} {show(abs(c))} × {what}{called(abs(c), facts)}"
    return ""


def clipped(pair: Pair) -> str:
    """Cut off at some size, which several entries then have."""
    size = float(np.max(np.abs(pair.got), initial=0))
    several = int(np.sum(np.abs(np.abs(pair.got) - size) <= RTOL * size))
    if size and 1 < several < pair.got.size and pair.fits(np.clip(pair.want, -size, size)):
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
        if np.array_equal(pair.got, pair.got.astype(np.float32).astype(np.float64)):
            return f"{pair.name} is right to {worst:.0e} only: it was computed in float32"
        if worst < 1e-6:
            return f"{pair.name} is right to {worst:.0e} only, as if something had been computed in float32"
    return ""


def _broadcast(array: Array, want: Array) -> Array | None:
    try:
        return np.broadcast_to(np.asarray(array, np.float64), want.shape)
    except ValueError:
        return None
