"""A gradient as a sum of shares: of the terms of a loss, of the places where a tied weight stands, of the images.
Each share is measured by differences of its own; the claimed gradient tells how often it holds each of them.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npae.gradcheck.diagnosis.pair import NEAR, show
from npae.gradcheck.estimate import STEP

Array = np.ndarray
Index = tuple[int, ...]
FITS = 1e-7
"""Of the largest entry: what a sum of shares may miss the claimed gradient by."""


def differences(f: Callable[[], Array], array: Array, indices: Sequence[Index] | None = None) -> Array:
    """df / da for the entries a of an array, all numbers of f at once, by Richardson's differences.

    Shapes: f() (...) of m numbers -> (m, entries)
    """
    columns = []
    for p in np.ndindex(array.shape) if indices is None else indices:
        t = float(array[p])
        h = STEP * max(1.0, abs(t))
        slopes = []
        try:
            for step in (h, h / 2, h / 4):
                sides = []
                for value in (t + step, t - step):
                    array[p] = value
                    sides.append(np.array(f(), np.float64))
                slopes.append(np.ravel(sides[0] - sides[1]) / ((t + step) - (t - step)))
        finally:
            array[p] = t
        r1, r2 = (4 * slopes[1] - slopes[0]) / 3, (4 * slopes[2] - slopes[1]) / 3
        columns.append((16 * r2 - r1) / 15)
    return np.array(columns).T


def counts(claimed: Array, shares: Sequence[Array]) -> Array | None:
    """How often each share is in the claimed gradient; None where no sum of them is it, or several are."""
    A = np.stack([np.ravel(share) for share in shares], axis=1)
    sizes = np.linalg.norm(A, axis=0)
    if not np.all(sizes > 0) or len(A) < len(shares) or np.linalg.cond(A / sizes) > 1e6:
        return None
    c, *_ = np.linalg.lstsq(A, np.ravel(claimed), rcond=None)
    gap = np.max(np.abs(A @ c - np.ravel(claimed)))
    return c if gap <= FITS * np.max(np.abs(A) * np.maximum(np.abs(c), 1)) else None


def often(c: float, right: float = 1.0) -> str:
    """How a share that is there c times, and should be `right` times, is told; empty where it is as it should be."""
    ratio = c / right if right else c
    if abs(ratio - 1) < NEAR:
        return ""
    if abs(ratio) < NEAR:
        return "is missing"
    if abs(ratio - 2) < NEAR:
        return "is counted twice (2 × what it should be)"
    if abs(ratio + 1) < NEAR:
        return "has the wrong sign"
    return f"is {show(ratio)} × what it should be"


def uses(target: Any, param: Any) -> list[tuple[Any, str]]:
    """(layer, attribute) of every place where a target's layers hold a parameter."""
    if not hasattr(target, "walk"):
        return []
    return [(layer, name) for layer in target.walk() if not hasattr(layer, "layers")
            for name, value in vars(layer).items() if value is param]


def shares_of_uses(target: Any, param: Any, f: Callable[[], Array], g: Array, claimed: Array,
                   indices: Sequence[Index]) -> str:
    """A weight that stands in several layers: which of them is missing in its gradient, or there twice?

    f() is what the target gives, g the gradient that arrives there; claimed is taken at the indices.
    """
    places = uses(target, param)
    if len(places) < 2:
        return ""
    shares, turned = [], []
    for layer, attribute in places:
        alone = copy.copy(param)
        alone.value = param.value.copy()
        setattr(layer, attribute, alone)
        try:
            whole = (np.ravel(g) @ differences(f, alone.value)).reshape(alone.value.shape)
        finally:
            setattr(layer, attribute, param)
        at = tuple(np.array(indices).T)
        shares.append(whole[at])
        square = whole.ndim in (2, 4) and whole.shape[-2] == whole.shape[-1]
        turned.append(whole.swapaxes(-1, -2)[at] if square else None)
    called = [str(layer.name) for layer, _ in places]
    c = counts(claimed, shares)
    if c is not None:
        told = [f"the contribution of {layer} {words}" for layer, k in zip(called, c, strict=True)
                if (words := often(k))]
        return ", ".join(told)
    for k, other in enumerate(turned):
        if other is not None and counts(claimed, [*shares[:k], other, *shares[k + 1:]]) is not None:
            return f"the contribution of {called[k]} is not transposed"
    return ""


def shares_of_terms(names: Sequence[str], total: Array, terms: Array, claimed: Array) -> dict[str, str]:
    """What a gradient says of each term of a loss: {"kl": "is missing"}; empty where no sum of them explains it.

    Shapes: total (entries,) the right gradient, terms (number of terms, entries), claimed (entries,)
    """
    alive = [k for k in range(len(names)) if np.max(np.abs(terms[k])) > 1e-9 * np.max(np.abs(total), initial=0)]
    shares = [terms[k] for k in alive]
    right, found = (counts(array, shares) if shares else None for array in (total, claimed))
    if right is None or found is None:
        return {}
    told = {names[k]: often(c, w) for k, c, w in zip(alive, found, right, strict=True)}
    return {name: words for name, words in told.items() if words}
