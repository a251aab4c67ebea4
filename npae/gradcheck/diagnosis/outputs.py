"""Which outputs a gradient counts, how often, and where it puts them: J as it is beside B as backward has it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.explain import AXES
from npae.gradcheck.verdicts import Row

Array = np.ndarray


def counted(name: str, J: Array, B: Array, y_shape: tuple[int, ...]) -> str:
    """B has some rows of J, and zeros for the other outputs: which?"""
    size = float(np.max(np.abs(J), initial=0))
    there = np.any(np.abs(J) > 1e-6 * size, axis=1)
    same = np.array([alike(b, j, size) for b, j in zip(B, J, strict=True)])
    none = ~np.any(np.abs(B) > 1e-12 * size, axis=1)
    if not there.any() or not np.all(same | none) or not np.any(same & there):
        return ""
    counted, left = same & there, ~same & there
    what = AXES["picture"] if len(y_shape) == 4 else ("image", "unit")
    what = tuple(word if word == "image" else f"output {word}" for word in what)
    words = _which(counted.reshape(y_shape), left.reshape(y_shape), what)
    return f"{name} counts only {words} of dy" if words else \
        f"{name} counts only {int(counted.sum())} of the {int(there.sum())} entries of dy that it depends on"


def _which(counted: Array, left: Array, axes: Sequence[str]) -> str:
    """The counted outputs along the axes that tell them from those left out."""
    words, explained = [], np.ones_like(counted)
    for axis, what in enumerate(axes[:counted.ndim]):
        others = tuple(k for k in range(counted.ndim) if k != axis)
        inside = np.flatnonzero(counted.any(axis=others))
        n = counted.shape[axis]
        if len(inside) == n:
            continue
        shape = [1] * counted.ndim
        shape[axis] = n
        explained &= np.isin(np.arange(n), inside).reshape(shape)
        if len(inside) == 1:
            place = {0: "first", n - 1: "last"}.get(int(inside[0]), f"{inside[0]}th")
            words.append(f"the {place} {what}")
        elif len(inside) == n - 1:
            missing = next(iter(set(range(n)) - set(inside.tolist())))
            words.append(f"all {what}s but the {({0: 'first', n - 1: 'last'}).get(missing, f'{missing}th')}")
        else:
            words.append(f"{len(inside)} of {n} {what}s")
    if words and not np.any(explained & left):
        if words[:2] == ["the first output row", "the first output column"]:
            words[:2] = ["the first output pixel"]
        return ", ".join(words)
    return ""


def transposed(name: str, J: Array, B: Array, pull: Pullback) -> str:
    """dx of a layer whose matrix is square: B = J^T, image by image."""
    n = len(pull.x)
    if name != "dx" or J.shape[0] != J.shape[1] or len(pull.y) != n or J.shape[0] // n < 2:
        return ""
    block = J.shape[0] // n
    turned = np.zeros_like(J)
    for i in range(n):
        at = slice(i * block, (i + 1) * block)
        turned[at, at] = J[at, at].T
    return "dx uses W where W^T belongs: its matrix is the transpose of the right one" if alike(B, turned) else ""


def kept_one(name: str, J: Array, B: Array) -> str:
    """Each entry gets one of its contributions whole, and no other: = stands where += belongs."""
    size = float(np.max(np.abs(J), initial=0))
    there, kept = np.abs(J) > 1e-6 * size, np.abs(B) > 1e-6 * size
    equal = np.abs(B - J) <= 1e-7 * size
    lost = there & ~kept
    if lost.any() and np.all(equal | lost) and np.all(kept.sum(0)[there.any(0)] >= 1):
        several = lost.any(0)
        return (f"= stands where += belongs: of the contributions to {int(several.sum())} of {several.size} entries of "
                f"{name} only one is kept")
    return ""


def of_first_image(name: str, J: Array, B: Array, pull: Pullback, row: Row) -> str:
    """Each image is treated as the first one."""
    n = len(pull.x)
    if row.name != "x" or n < 2 or len(pull.y) != n:
        return ""
    J, B = (M.reshape(n, M.shape[0] // n, n, -1) for M in (J, B))
    if all(alike(B[i, :, i], J[0, :, 0]) for i in range(n)) and not alike(J[1, :, 1], J[0, :, 0]):
        said = " (the winner of the first image is used for all)" if _picks(J[0, :, 0]) else ""
        return f"{name} treats every image as the first one{said}"
    return ""


def _picks(J: Array) -> bool:
    """Does each output copy one entry?"""
    return bool(np.all(np.isclose(np.sort(np.abs(J), axis=1)[:, -1], 1, atol=1e-6))
                and np.all(np.sum(np.abs(J) > 1e-6, axis=1) == 1))


def spread(name: str, J: Array, B: Array) -> str:
    """The winner's gradient is shared out."""
    if not _picks(J):
        return ""
    takers = np.sum(np.abs(B) > 1e-9, axis=1)
    if np.all(takers > 1) and alike(B.sum(1), np.ones(len(B))) and np.all(np.ptp(takers) <= max(takers) - 1):
        return f"each window's gradient is spread over the whole window ({int(takers[0])} entries of {name}), as an " \
               "average has it; it belongs to the winner alone"
    if np.all(np.sum(np.abs(B) > 1e-9, axis=1) == 1):
        return f"{name} gives each window's gradient to another entry than the winner"
    return ""


def of_other_dy(pull: Pullback, name: str, J: Array, claimed: Array) -> str:
    """dy itself, read in another order."""
    g = pull.g
    orders: list[tuple[str, Array]] = []
    if g.ndim == 4:
        orders += [("with rows and columns swapped", g.swapaxes(1, 2).reshape(g.shape)),
                   ("with channels before pixels, as (N, C, H, W)", g.transpose(0, 3, 1, 2).reshape(g.shape)),
                   ("as (N, C, H, W)", g.reshape(g.shape[0], g.shape[3], *g.shape[1:3]).transpose(0, 2, 3, 1)),
                   ("upside down", g[:, ::-1]), ("left to right", g[:, :, ::-1]), ("turned by 180°", g[:, ::-1, ::-1])]
    if g.ndim >= 2:
        orders += [("in Fortran order", g.ravel("F").reshape(g.shape)),
                   ("with the images in reverse order", g[::-1]),
                   ("with each image in the place of its neighbour", np.roll(g, 1, 0)),
                   ("averaged over the batch", np.broadcast_to(g.mean(0), g.shape)),
                   ("of the first image for all images", np.broadcast_to(g[:1], g.shape))]
    for words, order in orders:
        if not np.array_equal(order, g) and alike(np.ravel(claimed), J.T @ np.ravel(order)):
            return f"{name} is right for dy {words}: dy is read in another order"
    return ""
