"""Which outputs a gradient counts, how often, and where it puts them: J as it is beside B as backward has it."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.diagnosis.pair import AXES, ordinal

Array = np.ndarray


def of_the_dead(name: str, J: Array, B: Array) -> str:
    """B is J where J is not zero, and something else for outputs that do not depend on the array: no mask."""
    size = float(np.max(np.abs(J), initial=0))
    dead = ~np.any(np.abs(J) > 1e-9 * size, axis=1)
    speaking = dead & np.any(np.abs(B) > 1e-6 * size, axis=1)
    if not size or not speaking.any() or not alike(B[~dead], J[~dead], size):
        return ""
    count = int(speaking.sum())
    return (f"{name} counts {count} entr{'y' if count == 1 else 'ies'} of dy whose y does not change with it (dead "
            "units): a mask is missing, the derivative of the activation")


def of_wrong_axes(name: str, claimed: Array, pull: Pullback) -> str:
    """A bias that fits, since two axes are equally long, but is summed over the others."""
    if claimed.ndim != 1 or pull.y.ndim < 2:
        return ""
    right = tuple(range(pull.y.ndim - 1))
    for axes in combinations(range(pull.y.ndim), pull.y.ndim - 1):
        found = pull.g.sum(axis=axes)
        if axes != right and found.shape == claimed.shape and alike(claimed, found):
            return f"{name} is summed over the wrong axes: over {axes} of dy, where {right} belongs"
    return ""


def counted(name: str, J: Array, B: Array, pull: Pullback) -> str:
    """B has some rows of J, and zeros for the other outputs: which?"""
    size = float(np.max(np.abs(J), initial=0))
    there = np.any(np.abs(J) > 1e-6 * size, axis=1)
    same = np.array([alike(b, j, size) for b, j in zip(B, J, strict=True)])
    none = ~np.any(np.abs(B) > 1e-12 * size, axis=1)
    if not np.all(same | none) or not np.any(same & there) or np.all(same[there]):
        return ""
    shape, axes = _output_axes(pull)
    words = _which((same & there).reshape(shape), (~same & there).reshape(shape), axes)
    if words:
        return f"{name} counts only {words} of dy"
    return f"{name} counts only {int((same & there).sum())} of the {int(there.sum())} entries of dy that it depends on"


def _output_axes(pull: Pullback) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shape of y, and what its axes are called; rows of several samples an image are (sample, image)."""
    y, n = pull.y, len(pull.x)
    words = AXES["picture"][1:] if y.ndim == 4 else ("unit",)
    axes = tuple(f"output {word}" if y.ndim == 4 else word for word in words)[:max(y.ndim - 1, 0)]
    if y.ndim and len(y) > n and len(y) % n == 0:
        return (len(y) // n, n, *y.shape[1:]), ("sample", "image", *axes)
    return y.shape, ("image", *axes)[:y.ndim]


def _which(counts: Array, left: Array, axes: Sequence[str]) -> str:
    """The counted outputs along the axes that tell them from those left out."""
    words, explained = [], np.ones_like(counts)
    for axis, what in enumerate(axes):
        others = tuple(k for k in range(counts.ndim) if k != axis)
        inside = np.flatnonzero(counts.any(axis=others))
        n = counts.shape[axis]
        if len(inside) == n:
            continue
        shape = [1] * counts.ndim
        shape[axis] = n
        explained &= np.isin(np.arange(n), inside).reshape(shape)
        words.append(_places(inside, n, what))
    if not words or np.any(explained & left):
        return ""
    if words[:2] == ["the first output row", "the first output column"]:
        words[:2] = ["the first output pixel"]
    return ", ".join(words)


def _places(inside: Array, n: int, what: str) -> str:
    """The first, the last, all but the last, every second one: indices 0 to n - 1 in words."""
    if len(inside) == 1:
        return f"the {ordinal(int(inside[0]), n)} {what}"
    if len(inside) == n - 1:
        missing = next(k for k in range(n) if k not in inside)
        return f"all {what}s but the {ordinal(missing, n)}"
    steps = np.diff(inside)
    if inside[0] == 0 and np.all(steps == steps[0]):
        return f"the first {len(inside)} {what}s" if steps[0] == 1 else f"the first of every {steps[0]} {what}s"
    return f"{len(inside)} of {n} {what}s"


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
    if alike(J, turned) or not alike(B, turned):
        return ""
    return "dx uses W where W^T belongs: its matrix is the transpose of the right one"


def kept_one(name: str, J: Array, claimed: Array, pull: Pullback) -> str:
    """Each entry has one of its contributions whole, and no other: = stands where += belongs.

    A contribution is what all units or channels of one place say together, or what one of them says alone.
    """
    right = J.T @ np.ravel(pull.g)
    for channels in (pull.y.shape[-1] if pull.y.ndim > 1 else 1, 1):
        shares = (J * np.ravel(pull.g)[:, None]).reshape(-1, channels, J.shape[1]).sum(1)
        size = float(np.max(np.abs(shares), initial=0))
        a = np.ravel(claimed)
        fits = np.abs(a - right) <= 1e-7 * size
        one = np.any((np.abs(shares - a) <= 1e-7 * size) & (np.abs(shares) > 1e-6 * size), axis=0)
        if np.all(fits | one) and not np.all(fits):
            return (f"= stands where += belongs, or the others are left out: {int(np.sum(~fits))} of {a.size} entries "
                    f"of {name} keep only one of their contributions")
    return ""


def of_first_image(name: str, J: Array, B: Array, pull: Pullback) -> str:
    """Each image is treated as the first one, or as the last."""
    n = len(pull.x)
    if name != "dx" or n < 2 or len(pull.y) != n:
        return ""
    J, B = (M.reshape(n, M.shape[0] // n, n, -1) for M in (J, B))
    if alike(J[1, :, 1], J[0, :, 0]):
        return ""
    for k, place in ((0, "first"), (n - 1, "last")):
        if all(alike(B[i, :, i], J[k, :, k]) for i in range(n)):
            said = f" (the winner of the {place} image is used for all)" if _picks(J[k, :, k]) else ""
            return f"{name} treats every image as the {place} one{said}"
    return ""


def _picks(J: Array) -> bool:
    """Does each output copy one entry?"""
    return bool(np.all(np.isclose(np.max(np.abs(J), axis=1), 1, atol=1e-6))
                and np.all(np.sum(np.abs(J) > 1e-6, axis=1) == 1))


def of_winners(name: str, J: Array, B: Array, pull: Pullback) -> str:
    """Layers that pick the largest of a window: does its gradient go to more entries, or to another one?"""
    if not _picks(J) or pull.y.size >= pull.x.size:
        return ""
    takers = np.abs(B) > 1e-9
    several = takers.sum(1)
    shares = [np.unique(np.round(b[t], 7)) for b, t in zip(B, takers, strict=True)]
    if np.any(several > 1) and all(len(share) == 1 for share in shares):
        whole = all(share[0] == 1 for share in shares)
        return ("each window's gradient is spread over the whole window, " +
                (f"every entry of {name} gets all of it" if whole else "shared out as an average has it") +
                "; it belongs to the winner alone")
    if np.all(several == 1) and np.all(np.isclose(B.sum(1), 1)):
        return f"{name} gives each window's gradient to another entry than the winner"
    return ""


def displaced(name: str, J: Array, B: Array, pull: Pullback) -> str:
    """Windows of a picture that are put in other places: all shifted alike, or side by side as if the stride were 1."""
    if name != "dx" or pull.x.ndim != 4 or pull.y.ndim != 4:
        return ""
    shifts: dict[tuple[int, int], tuple[int, int]] = {}
    shape = pull.x.shape
    for k, (n, i, j, _) in enumerate(np.ndindex(*pull.y.shape)):
        there, here = J[k].reshape(shape)[n], B[k].reshape(shape)[n]
        if n or not there.any() or not here.any():
            continue
        corners = [np.argwhere(np.any(np.abs(a) > 1e-9, axis=2)).min(0) for a in (there, here)]
        di, dj = (int(d) for d in corners[1] - corners[0])
        moved = np.roll(there, (di, dj), (0, 1))
        inside = np.s_[max(di, 0):shape[1] + min(di, 0), max(dj, 0):shape[2] + min(dj, 0)]
        if not alike(here[inside], moved[inside], float(np.max(np.abs(J)))):
            return ""
        shifts[i, j] = di, dj
    if len(set(shifts.values())) == 1:
        di, dj = next(iter(shifts.values()))
        return f"dx is shifted by ({di}, {dj}) pixels" if (di, dj) != (0, 0) else ""
    inner = {(i, j): shift for (i, j), shift in shifts.items() if i and j}
    steps = {(di / i, dj / j) for (i, j), (di, dj) in inner.items()}
    if len(steps) == 1 and min(next(iter(steps))) <= 0:
        return "dx puts the windows side by side: the stride is left out"
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
    k, odd = divmod(len(g), len(pull.x)) if g.ndim else (1, 1)
    if k > 1 and not odd:
        for shape in ((k, len(pull.x)), (len(pull.x), k)):
            moved = g.reshape(*shape, -1).swapaxes(0, 1).reshape(g.shape)
            orders.append(("image by image instead of sample by sample, reshaped where a transpose belongs", moved))
    for words, order in orders:
        if not np.array_equal(order, g) and alike(np.ravel(claimed), J.T @ np.ravel(order)):
            return f"{name} is right for dy {words}: dy is read in another order"
    return ""
