"""A wrong derivative of an activation: which slope stands there, and which one belongs there."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npae.gradcheck.diagnosis.formulas import OF_ONE, formula
from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.diagnosis.pair import show
from npae.gradcheck.diagnosis.rows import call

Array = np.ndarray
MISSING, TWICE = "the derivative of the activation is missing", "the derivative of the activation is applied twice"


def of_slope(pull: Pullback, names: Sequence[str], claimed: dict[str, Array]) -> dict[str, str]:
    """A sentence for each of the wrong gradients that a wrong slope explains."""
    if not all(pull.linear(name, claimed[name]) for name in names):
        return {}
    if pull.x.shape == pull.y.shape and not pull.specimen.params:
        return _entry_by_entry(pull)
    return _behind_weights(pull, names, claimed)


def _entry_by_entry(pull: Pullback) -> dict[str, str]:
    """y = f(x) number by number: J and B are diagonals."""
    J, B = pull.numeric("x"), pull.claimed("x")
    size = float(np.max(np.abs(J), initial=1))
    right, stands = np.diag(J), np.diag(B)
    if not alike(J, np.diag(right)) or not alike(B, np.diag(stands), size) or alike(stands, right):
        return {}
    x, y = np.ravel(pull.x), np.ravel(pull.y)
    said = _masked(right, stands) if pull.specimen.rng is not None else _one_sided(right, stands, x)
    said = said or in_words(right, stands, {"x": x, "y": y}, "dx / dy")
    return {"x": said} if said else {}


def _behind_weights(pull: Pullback, names: Sequence[str], claimed: dict[str, Array]) -> dict[str, str]:
    """y = f(z), z = x W + b: is a gradient right for another slope between dy and dz?"""
    if pull.z is None or pull.right_slope is None:
        return {}
    z, y, s, g = np.ravel(pull.z), np.ravel(pull.y), pull.right_slope, np.ravel(pull.g)

    def fits(name: str, slope: Array) -> bool:
        return alike(np.ravel(claimed[name]), pull.plain(name).T @ (slope * g))

    bias = pull.bias
    if bias in names:
        at = np.tile(np.eye(pull.y.shape[-1], dtype=bool), (len(y) // pull.y.shape[-1], 1))
        stands = pull.claimed(bias)[at]
        said = in_words(s, stands, {"z": z, "y": y}, "dz / dy")
        if said and not alike(stands, np.zeros_like(stands)) and all(fits(name, stands) for name in names):
            return dict.fromkeys(names, said if len(names) == len(pull.arrays) else f"{_listed(names)}: {said}")
    told: dict[str, str] = {}
    for name in names:
        for slope, words in ((np.ones_like(s), MISSING), (s * s, TWICE)):
            if not alike(slope, s) and fits(name, slope):
                told[name] = f"{call(name)}: {words}"
    return told


def _listed(names: Sequence[str]) -> str:
    return ", ".join(call(name) for name in names)


def in_words(right: Array, stands: Array, variables: dict[str, Array], ratio: str) -> str:
    """"dx / dy is 1 - x² where 1 - y² belongs", and what that means."""
    belongs, at = formula(right, variables)
    said, there = formula(stands, variables)
    moved = [name for name, t in variables.items() if name != at and belongs in OF_ONE
             and alike(stands, OF_ONE[belongs](t))]
    remark = ""
    if alike(stands, np.ones_like(stands)):
        remark = f": {MISSING}"
    elif alike(stands, right * right):
        remark = f": {TWICE}"
    elif moved and at:
        place = "input" if moved[0] in "xz" else "output"
        remark = f": the derivative of the activation is taken at the {place} {moved[0]} instead of {at}"
        said, there = belongs, moved[0]
    if belongs and said:
        return f"{ratio} is {said.format(t=there)} where {belongs.format(t=at)} belongs{remark}"
    if remark:
        return f"{ratio} is {said.format(t=there) or 'the right one squared'}{remark}"
    return ""


def _masked(right: Array, stands: Array) -> str:
    """Noise that lets some numbers through, times a constant: where is the mask?"""
    through = np.abs(right) > 1e-9
    c = right[through][0] if through.any() else 0.0
    if through.all() or not through.any() or not alike(right, c * through):
        return ""
    if np.ptp(stands) <= 1e-9 and abs(stands[0]) > 1e-9:
        return (f"dx / dy is {show(float(stands[0]))} everywhere where {show(float(c))} × the mask belongs: "
                "the factor the mask is missing")
    if alike(stands, c * ~through):
        return "dx / dy is upside down: it lets through what forward has masked"
    return ""


def _one_sided(right: Array, stands: Array, x: Array) -> str:
    """Two straight pieces with the corner at 0: which side has the wrong slope?"""
    said: list[str] = []
    if np.ptp(right) <= 1e-9:
        return ""
    for side, words in ((x > 0, "x > 0"), (x < 0, "x < 0")):
        if side.sum() < 2 or np.ptp(right[side]) > 1e-9 or np.ptp(stands[side]) > 1e-9:
            return ""
        a, b = float(stands[side][0]), float(right[side][0])
        if abs(a - b) > 1e-9:
            said.append(f"for {words}, dx / dy is {show(a) if a else 0} where {show(b) if b else 0} belongs")
    return "; ".join(said)
