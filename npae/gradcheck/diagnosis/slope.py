"""A wrong derivative of an activation: which slope stands there, and which one belongs there."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npae.gradcheck.diagnosis.formulas import OF_ONE, formula
from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.specimen import Specimen

Array = np.ndarray


def of_slope(pull: Pullback) -> tuple[str, ...]:
    """Layers that work entry by entry, and the activations at the end of others: which slope, and which belongs?"""
    for right, claimed, variables, words in _slopes(pull):
        if alike(right, claimed):
            continue
        said = _slope_in_words(right, claimed, variables, words)
        if said:
            return (said,)
    return ()


def _slopes(pull: Pullback) -> Iterator[tuple[Array, Array, dict[str, Array], str]]:
    """(right slopes, claimed slopes, what they may be functions of, what the ratio is called)."""
    if pull.x.shape == pull.y.shape and not pull.specimen.params:
        J, B = pull.numeric("x"), pull.claimed("x")
        if alike(J, np.diag(np.diag(J))) and alike(B, np.diag(np.diag(B)), float(np.max(np.abs(J), initial=1))):
            yield np.diag(J), np.diag(B), {"x": np.ravel(pull.x), "y": np.ravel(pull.y)}, "dx / dy"
    for name, param in pull.specimen.params.items():
        units = pull.y.shape[-1]
        if np.shape(param.value) == (units,):
            J, B = pull.numeric(name), pull.claimed(name)
            at = np.tile(np.eye(units, dtype=bool), (pull.y.size // units, 1))
            if not np.any(J[~at]) and not np.any(B[~at]):
                variables = {"y": np.ravel(pull.y)}
                z = before_activation(pull.specimen, pull.x)
                if z is not None:
                    variables = {"z": np.ravel(z), **variables}
                yield J[at], B[at], variables, "dz / dy"


class _Plain:
    """The activation of a layer without one."""

    def f(self, z: Array) -> Array:
        return z

    def slope(self, y: Array) -> Array:
        return np.ones_like(y)

    def branch(self, y: Array) -> None:
        return None


def before_activation(specimen: Specimen, x: Array) -> Array | None:
    """z = x W + b of a layer y = f(z) that keeps its f in `activation`; None of others."""
    layer = getattr(specimen.target, "layers", [specimen.target])[-1]
    if getattr(layer, "activation", None) is None:
        return None
    kept = layer.activation
    try:
        layer.activation = _Plain()
        return np.array(specimen.forward(x))
    except Exception:
        return None  # compiled kernels know their own activations only
    finally:
        layer.activation = kept


def _slope_in_words(right: Array, claimed: Array, variables: dict[str, Array], ratio: str) -> str:
    """"dx / dy is 1 - x² where 1 - y² belongs", and what that means."""
    belongs, at = formula(right, variables)
    stands, there = formula(claimed, variables)
    remark = ""
    moved = [name for name, t in variables.items() if name != at and belongs in OF_ONE
             and alike(claimed, OF_ONE[belongs](t))]
    if alike(claimed, np.ones_like(claimed)):
        remark = ": the derivative of the activation is missing"
    elif alike(claimed, right * right):
        remark = ": the derivative of the activation is applied twice"
    elif moved and at:
        place = "input" if moved[0] in "xz" else "output"
        remark = f": the derivative of the activation is taken at the {place} {moved[0]} instead of {at}"
        stands, there = belongs, moved[0]
    if belongs and stands:
        return f"{ratio} is {stands.format(t=there)} where {belongs.format(t=at)} belongs{remark}"
    return f"{ratio}{remark}" if remark else ""
