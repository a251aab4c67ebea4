"""What wrong values of a forward look like beside an independent definition of them."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.diagnosis.formulas import OF_ONE, formula
from npae.gradcheck.diagnosis.jacobian import alike
from npae.gradcheck.diagnosis.pair import AXES, Pair, factor, show
from npae.gradcheck.diagnosis.substitutes import stand_ins
from npae.gradcheck.facts import Facts

Array = np.ndarray
RTOL = 1e-9


def explain_values(y: Array, expected: Array, arrays: dict[str, Array], reference: Callable[..., Array],
                   facts: Facts) -> str:
    """y beside the reference's; then the reference once more, for another x or W than the one that was handed in."""
    axes = AXES["picture"] if y.ndim == 4 else AXES["features"] if y.ndim == 2 else ()
    facts = Facts(arrays=arrays).with_(facts)
    said = explain("y", y, expected, facts, right="the reference", axes=axes)
    return said or _with_another(y, arrays, reference) or _as_formula(y, expected, arrays["x"])


def _with_another(y: Array, arrays: dict[str, Array], reference: Callable[..., Array]) -> str:
    for name, value in arrays.items():
        for words, other in stand_ins(name, value, y):
            if other.shape != value.shape or np.array_equal(other, value):
                continue
            try:
                found = np.asarray(reference(*{**arrays, name: other}.values()))
            except Exception:  # a reference need not take every x
                continue
            if found.shape == y.shape and np.max(np.abs(found - y)) <= RTOL * np.max(np.abs(y)):
                return f"y is the reference for {words}: forward uses another {name}"
    return ""


def _as_formula(y: Array, expected: Array, x: Array) -> str:
    twice = next((f"y is {text.format(t='y')} where y belongs" for text, f in OF_ONE.items()
                  if alike(y, f(expected)) and not alike(expected, f(expected))), "")
    if twice or x.shape != y.shape:
        return twice
    for side, words in ((x < 0, "x < 0"), (x > 0, "x > 0")):
        c = factor(Pair("y", y[side], expected[side], np.zeros(int(side.sum()))))
        if c is not None and alike(y[~side], expected[~side]):
            return f"for {words}, y is {show(c)} × the reference; elsewhere it is right"
    stands, _ = formula(np.ravel(y), {"x": np.ravel(x)})
    belongs, _ = formula(np.ravel(expected), {"x": np.ravel(x)})
    return f"y is {stands.format(t='x')} where {belongs.format(t='x')} belongs" if stands and belongs else ""
