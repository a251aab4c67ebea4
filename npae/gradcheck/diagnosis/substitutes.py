"""The gradient would be right for another x or another W: then backward uses that one."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.diagnosis.rows import call
from npae.gradcheck.verdicts import Row

Array = np.ndarray
ONE_LAYER = 3
"""x, W and b: in a net too many arrays could be exchanged, and each trial costs a Jacobian."""


def substituted(pull: Pullback, row: Row, claimed: Array) -> str:
    """Which x (for a parameter) or which W (for x) would make it right?"""
    if len(pull.arrays) > ONE_LAYER:
        return ""
    for name in [name for name in pull.arrays if name != row.name]:
        value = pull.arrays[name].copy()
        for words, other in stand_ins(name, value, pull.y):
            if other.shape == value.shape and not np.array_equal(other, value):
                right = pull.gradient_at(row.name, {name: other})
                if alike(claimed, right):
                    return f"{call(row.name)} is right for {words}: it uses another {name} than the forward"
                if alike(claimed, -right):
                    return f"{call(row.name)} is right for {words}, but for the sign"
    return ""


def stand_ins(name: str, value: Array, y: Array) -> Iterator[tuple[str, Array]]:
    """Other arrays that people take for x or for W, in words."""
    if name == "x":
        yield "|x|", np.abs(value)
        yield "y in the place of x", y
        yield "the first image in the place of all", np.broadcast_to(value[:1], value.shape)
        yield "the last image in the place of all", np.broadcast_to(value[-1:], value.shape)
        yield "x averaged over the batch", np.broadcast_to(value.mean(0), value.shape)
        yield "max(x, 0)", np.maximum(value, 0)
        yield "x²", value * value
        if value.ndim == 4:
            yield "x with rows and columns swapped", value.swapaxes(1, 2).reshape(value.shape)
            yield "x as (N, C, H, W)", value.transpose(0, 3, 1, 2).reshape(value.shape)
            for axis, what in ((1, "row"), (2, "column")):
                for at, place in ((0, "first"), (-1, "last")):
                    without = value.copy()
                    without[(slice(None),) * axis + (at,)] = 0
                    yield f"x without its {place} {what}", without
    elif value.ndim == 4:
        yield "a W with its kernel turned by 180°", value[::-1, ::-1]
        yield "a W with in- and out-channels swapped", value.swapaxes(2, 3).reshape(value.shape)
        yield "a W with rows and columns swapped", value.swapaxes(0, 1).reshape(value.shape)
        for corner, place in (((-1, -1), "last"), ((0, 0), "first")):
            without = value.copy()
            without[corner] = 0
            yield f"a W whose {place} kernel place is missing", without
        yield "a W turned upside down", value[::-1]
        yield "a W turned left to right", value[:, ::-1]
        for axis, what in ((0, "row"), (1, "column")):
            for at, place in ((0, "first"), (-1, "last")):
                without = value.copy()
                without[(slice(None),) * axis + (at,)] = 0
                yield f"a W whose {place} kernel {what} is missing", without
    elif value.ndim == 2:
        yield "W where W^T belongs", value.T
        yield "|W|", np.abs(value)
        yield "a W read in Fortran order", value.ravel("F").reshape(value.shape)
