"""The fast mode: all entries of an array at once, along random directions. Six values of phi a direction instead of six
an entry, and the same derived tolerance, so that one zeroed weight of a hundred thousand still shows.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from npae.gradcheck.estimate import RESOLUTION, Estimate, derivative
from npae.gradcheck.scalar import Scalar
from npae.gradcheck.verdicts import Entry, Row, Verdict, judge

DIRECTIONS = 3
"""A random sign for each entry, so that every entry counts about as much as every other; one array at a time, since
beside a large matrix the error of a small bias would drown."""
UNEVEN = 0.5
"""Lengths of 1/2 to 3/2 beside the signs: two errors of equal size would cancel every other time under signs alone."""
FEW = 2 * DIRECTIONS
"""An array of so few entries is looked at entry by entry."""
NAMED = 5
"""Wrong entries that are searched for: enough for a report, and thirty-odd directions each."""

SEEN = 1e-3
"""Of an entry's usual size: a direction counts as verified only where an error of this size in one entry would show."""

Array = np.ndarray


def along_directions(name: str, scalar: Scalar, centre: float, rng: np.random.Generator, expect_zero: bool) -> Row:
    """Judge <G, d> for three random d; where one fails, search for entries that are wrong.

    phi(theta + t d) at t = 0 has the derivative <G, d> = Σ d_i G_i
    """
    array, everything = scalar.arrays[name], np.arange(scalar.arrays[name].size)
    found = []
    for k in range(DIRECTIONS):
        claimed, estimate = _along(name, scalar, centre, everything, _signs(rng, everything))
        found.append(((k,), claimed, estimate))
    row = judge(name, array.shape, found, expect_zero, _resolution(array.size))
    wrong: tuple[Entry, ...] = ()
    if row.count(Verdict.FAIL) and not expect_zero:
        wrong = tuple(_entry(name, scalar, centre, place) for place in _bisect(name, scalar, centre, rng, everything))
    return Row(name, array.shape, row.entries, expect_zero, directions=len(row.entries), wrong_entries=wrong)


def _resolution(size: int) -> float:
    """Of <G, d>, which is as large as an entry times the root of their number."""
    return min(RESOLUTION, SEEN / math.sqrt(size))


def _signs(rng: np.random.Generator, block: Array) -> Array:
    return rng.choice([-1.0, 1.0], len(block)) * rng.uniform(1 - UNEVEN, 1 + UNEVEN, len(block))


def _along(name: str, scalar: Scalar, centre: float, block: Array, d: Array) -> tuple[float, Estimate]:
    """(claimed, estimated) derivative along the numbers d on the entries of a block, zero elsewhere."""
    array, claimed = scalar.arrays[name], scalar.claimed[name]
    places = np.unravel_index(block, array.shape)
    kept = array[places]

    def sample(t: float) -> tuple[float, bool]:
        array[places] = kept + t * d
        return scalar.evaluate()

    with np.errstate(all="ignore"):
        size = float(np.sqrt(np.sum(np.square(claimed[places]))))
        try:
            estimate = derivative(sample, 0.0, centre, scalar.scale, size, _resolution(len(block)) / 2)
        finally:
            array[places] = kept
    return float(np.sum(claimed[places] * d)), estimate


def _bisect(name: str, scalar: Scalar, centre: float, rng: np.random.Generator, block: Array) -> list[int]:
    """Places of wrong entries, in order, at most NAMED: whatever half a direction fails in is halved again."""
    found: list[int] = []
    waiting = [block]
    while waiting and len(found) < NAMED:
        block = waiting.pop()
        if not any(_disagree(name, scalar, centre, rng, block)):
            continue
        if len(block) == 1:
            found.append(int(block[0]))
        else:
            middle = len(block) // 2
            waiting += [block[middle:], block[:middle]]
    return found


def _disagree(name: str, scalar: Scalar, centre: float, rng: np.random.Generator, block: Array) -> Iterator[bool]:
    """For one random direction after the other; on a single entry they are all the same."""
    for _ in range(DIRECTIONS if len(block) > 1 else 1):
        claimed, estimate = _along(name, scalar, centre, block, _signs(rng, block))
        yield not abs(claimed - estimate.value) <= estimate.tol


def _entry(name: str, scalar: Scalar, centre: float, place: int) -> Entry:
    array = scalar.arrays[name]
    index = tuple(int(i) for i in np.unravel_index(place, array.shape))
    _, estimate = _along(name, scalar, centre, np.array([place]), np.ones(1))
    return Entry(index, float(scalar.claimed[name][index]), estimate.value, estimate.tol, estimate.h, Verdict.FAIL)
