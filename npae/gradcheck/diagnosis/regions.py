"""Right but for a part: the last column is missing, one image is twice as large."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npae.gradcheck.diagnosis.pair import AXES, Pair, ordinal, scaled
from npae.gradcheck.facts import Facts

Array = np.ndarray


def in_part(pair: Pair, facts: Facts) -> str:
    """Wrong in the last column only, say: what is it there?"""
    wrong = pair.wrong
    if np.all(wrong) or pair.want.ndim == 0:
        return ""
    for where, words in _regions(wrong, pair.axes):
        there = pair.part(where)
        if there.fits(np.zeros_like(there.want)):
            return (f"{words} of {pair.name} {_is(words)} missing, that is zero: it counts only the other "
                    f"{pair.want.size - there.want.size} of {pair.want.size} entries, and they are right")
        sentence = scaled(there, facts)
        if sentence:
            return f"in {words}, {sentence}; elsewhere it is right"
    if np.all(pair.got[wrong] == 0):
        if _is_border(wrong, pair):
            return f"the border of {pair.name} is missing: it is zero there, and right inside"
        return f"of the {wrong.size} entries of {pair.name}, {int(wrong.sum())} are zero and the others are right"
    return ""


def _plural(what: str) -> str:
    return what.replace("index", "indices") if what.startswith("index of") else f"{what}s"


def _is(words: str) -> str:
    return "are" if words.endswith("s") or "indices" in words else "is"


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
        if len(touched) == 1:
            yield tuple(where), f"the {ordinal(int(touched[0]), size)} {what}"
        elif touched[-1] == size - 1 and len(touched) == size - touched[0]:
            last = f"the last {len(touched)} {_plural(what)}"
            yield tuple(where), f"every {what} but the first" if touched[0] == 1 else last
        elif touched[0] == 0 and len(touched) == touched[-1] + 1:
            first = f"the first {len(touched)} {_plural(what)}"
            yield tuple(where), f"every {what} but the last" if len(touched) == size - 1 else first


def _touched(wrong: Array, axis: int) -> Array:
    """Which indices of an axis have a wrong entry."""
    return np.any(wrong, axis=tuple(k for k in range(wrong.ndim) if k != axis))
