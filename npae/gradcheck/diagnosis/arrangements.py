"""The right numbers in wrong places: transposed, turned, swapped, shifted, poured into another shape."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, permutations

import numpy as np

from npae.gradcheck.diagnosis.pair import Pair, called, factor, show, simple
from npae.gradcheck.facts import Facts

Array = np.ndarray


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
