"""The adjoint test: for a linear map J and the map JT that claims to be its transpose, <J v, w> = <v, JT w>.
There is no step size and no kink in it, so it is exact to rounding."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from npae.gradcheck.estimate import EPS, SAFETY_ROUNDING
from npae.gradcheck.report import Line, Report
from npae.gradcheck.specimen import Specimen, copy_as

ADJOINT_RTOL = 1e-12
"""Of |Jv||w| + |v||JT w|: sums of a million float64 terms stay a hundred times below it."""
DRAWS = 3
"""Random pairs (v, w) per test: a wrong entry may meet a small v_i w_j once, hardly three times."""
SIZES = (1.0, 10.0, 100.0)
"""Sizes of the vectors that look for a bend, in units of the value's own if that is above 1: a kink may lie far out."""

Array = np.ndarray
Map = Callable[[Array], Array]


def adjoint(layer: Any, input_shape: tuple[int, ...], *, rng: np.random.Generator | None = None,
            seed: int = 0) -> Report:
    """Put an affine layer to the dot test, in its input and in each parameter that enters linearly.

    f(v) = J v + c:  |<J v, w> - <v, backward(w)>| <= 1e-12 (|J v| |w| + |v| |backward(w)|)

    Shapes: input_shape is that of a batch, (N, ...). The layer is copied to float64; rng is for its noise, if any.
    Raises: ValueError if the layer is not affine in its input (an activation, a max-pool): `check` is for those.
    """
    specimen = Specimen(copy_as(layer, np.float64), rng)
    x = np.random.default_rng(seed).normal(size=input_shape)
    specimen.forward(x)  # what it raises is not about being affine
    lines = adjoint_lines(specimen, x, seed)
    if lines[0].status == "NOTE":
        raise ValueError(f"{lines[0].claim} of {type(layer).__name__}: {lines[0].figure}; use check")
    return Report(f"Adjoint test of {type(layer).__name__}, x {tuple(input_shape)}", lines=tuple(lines))


def adjoint_pair(f: Map, ft: Map, x_shape: tuple[int, ...], y_shape: tuple[int, ...], *, seed: int = 0) -> Report:
    """Put two functions to the dot test: is ft the transpose of the linear map f?

    |<f(v), w> - <v, ft(w)>| <= 1e-12 (|f(v)| |w| + |v| |ft(w)|) for random v of x_shape, w of y_shape.

    >>> A = np.arange(6.0).reshape(2, 3)
    >>> adjoint_pair(lambda v: A @ v, lambda w: A.T @ w, (3,), (2,)).ok
    True
    """
    names = [getattr(function, "__name__", "?") for function in (f, ft)]
    line = _dot_line(f"{names[1]} is the transpose of {names[0]}", f, ft, x_shape, y_shape, 0.0, seed)
    return Report(f"Adjoint test of {names[0]} and {names[1]}", lines=(line,))


def adjoint_lines(specimen: Specimen, x: Array, seed: int) -> list[Line]:
    """One line for x, then one for each parameter; a NOTE where the layer is not affine in it."""
    arrays = {"x": x, **{name: param.value for name, param in specimen.params.items()}}
    return [_affine_line(name, partial(_forward_at, specimen, x, array), partial(_pull, specimen, x, name), array, seed)
            for name, array in arrays.items()]


def _forward_at(specimen: Specimen, x: Array, array: Array, v: Array) -> Array:
    """f with v in place of what `array` (x itself, or a parameter's value) holds."""
    kept = array.copy()
    array[...] = v
    try:
        return np.array(specimen.forward(x))
    finally:
        array[...] = kept


def _pull(specimen: Specimen, x: Array, name: str, w: Array) -> Array:
    return specimen.run(x, w)[name]


def _affine_line(name: str, f: Map, pull: Map, array: Array, seed: int) -> Line:
    """Take the constant off f, and put the rest to the dot test with pull."""
    rng, unit = np.random.default_rng([seed, 2]), max(1.0, float(np.sqrt(np.mean(np.square(array)))))
    try:
        with np.errstate(all="ignore"):  # zero and large values may be outside the domain of a layer that is not affine
            constant = f(np.zeros_like(array))
            bend = np.max([_bend(f, constant, size * unit * rng.normal(size=(2, *array.shape))) for size in SIZES])
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        return Line("NOTE", f"no adjoint test in {name}", f"forward does not take every {name}, it raised {raised}",
                    "adjoint")
    if not bend <= ADJOINT_RTOL:
        return Line("NOTE", f"no adjoint test in {name}", f"not affine, superposition is off by {bend:.1e}", "adjoint")

    def linear(v: Array) -> Array:
        return f(v) - constant

    offset = float(np.linalg.norm(constant))
    return _dot_line(f"adjoint test in {name}", linear, pull, array.shape, constant.shape, offset, seed)


def _bend(f: Map, constant: Array, vectors: Array) -> float:
    """How far f is from affine at two vectors u and v, relative to the terms; rounding if it is affine.

    f(2u - 3v) - c = 2 (f(u) - c) - 3 (f(v) - c)  finds curves, and kinks that not all three lie on one side of;
    f(u) + f(-u) = 2 c  finds every kink between u and -u.
    """
    u, v = vectors
    fu = f(u)
    sums = (f(2 * u - 3 * v), -2 * fu, 3 * f(v), -2 * constant), (fu, f(-u), -2 * constant)
    sizes = [sum(float(np.linalg.norm(term)) for term in terms) for terms in sums]
    return float(np.max([np.linalg.norm(sum(terms)) / size if size else 0.0
                         for terms, size in zip(sums, sizes, strict=True)]))


def _dot_line(claim: str, f: Map, ft: Map, x_shape: tuple[int, ...], y_shape: tuple[int, ...], offset: float,
              seed: int) -> Line:
    """The dot test itself. `offset` is the norm of a constant subtracted within f, whose rounding is allowed for."""
    rng = np.random.default_rng([seed, 3])
    worst = 0.0
    for _ in range(DRAWS):
        v, w = rng.normal(size=x_shape), rng.normal(size=y_shape)
        Jv, JTw = f(v.copy()), ft(w.copy())
        if Jv.shape != w.shape or JTw.shape != v.shape:
            found = f"{v.shape} -> {Jv.shape} and {w.shape} -> {JTw.shape}"
            return Line("FAIL", claim, f"shapes do not fit together, {found}", "adjoint")
        norm = np.linalg.norm
        size = ADJOINT_RTOL * (norm(Jv) * norm(w) + norm(v) * norm(JTw)) + SAFETY_ROUNDING * EPS * offset * norm(w)
        gap = abs(float(np.sum(Jv * w)) - float(np.sum(v * JTw)))
        worst = float(np.maximum(worst, gap / size)) if gap else worst  # np.maximum keeps a nan
    status = "PASS" if worst <= 1 else "FAIL"
    figure = f"|<Jv,w> - <v,JTw>| is {worst * ADJOINT_RTOL:.1e} of |Jv||w| + |v||JTw|, 1e-12 allowed"
    return Line(status, claim, figure, "adjoint")
