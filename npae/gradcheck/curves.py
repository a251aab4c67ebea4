"""The V-curve: how wrong each estimate of a derivative is, step by step, and where theory says that it is least wrong.
Large steps are wrong by what the formula leaves out, small ones by the rounding of phi: two slopes that make a V."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from npae.gradcheck.methods import COMPLEX_STEP, FORMULAS
from npae.gradcheck.paths import Path, claim, complex_function, complex_scalar, function_path, target_path

STEPS = np.exp2(-np.arange(101) / 2)
"""1 ... 9e-16, half an octave apart, so that h/2, h/4 and 2h are steps of the grid too."""
ENTRIES = 12
FIT_RADIUS, FIT_DEGREE = 0.5, 14
"""phi's derivatives up to the seventh are read off a Chebyshev polynomial through 15 points of [t - 1/2, t + 1/2]."""
NOISE_SAMPLES, NOISE_ORDER = 15, 6
"""phi's rounding is read off its sixth differences at 15 points sqrt(eps) apart: what is smooth is gone from them."""
NEIGHBOURS = 3
"""The measured best step is that of the smallest geometric mean over 3 steps: one error may be small by luck."""


@dataclass(frozen=True)
class Curve:
    """One estimate in one dtype: its relative error at each step, the middle one (median) of several entries.

    `predicted` is the best step by theory, `best` the measured one; None for the complex step, which has no best.
    An error is nan where t + h = t.
    """

    method: str
    dtype: str
    steps: np.ndarray
    errors: np.ndarray
    predicted: float | None
    predicted_error: float | None
    best: float
    least: float


@dataclass(frozen=True)
class VCurve:
    """The curves of one function, and what they were measured against: "the complex step", or "backward"."""

    name: str
    truth: str
    entries: int
    curves: tuple[Curve, ...]

    def curve(self, method: str, dtype: str = "float64") -> Curve:
        """One of them.

        Raises: KeyError if it was not measured.
        """
        for curve in self.curves:
            if (curve.method, curve.dtype) == (method, dtype):
                return curve
        raise KeyError(f"no curve {method!r} in {dtype}; there are {[(c.method, c.dtype) for c in self.curves]}")

    def __str__(self) -> str:
        head = f"{self.name}: {self.entries} entries, relative error against {self.truth}"
        rows = [f"  {'estimate':<14} {'dtype':<8} {'best step':>10} {'predicted':>10} {'error there':>12}"]
        rows += [f"  {c.method:<14} {c.dtype:<8} {c.best:>10.1e} "
                 f"{'any' if c.predicted is None else format(c.predicted, '.1e'):>10} {c.least:>12.1e}"
                 for c in self.curves]
        return "\n".join([head, *rows])


def v_curve(f: Callable[[np.ndarray], tuple[Any, np.ndarray]], theta: np.ndarray, *, terms: float | None = None,
            entries: int = ENTRIES, seed: int = 0) -> VCurve:
    """Measure every estimate on f(theta) -> (value, gradient), in float64 and, if f computes in it, in float32.

    relative error at h = |d(h) - dphi| / |dphi|,   dphi by a complex step where f is analytic, else f's own gradient

    `terms` is the sum of the absolute terms of the value (None: |value|).
    Raises: ValueError for a gradient that is zero or not finite: nothing is relative to it.
    """
    theta = np.array(theta, np.float64)
    value, gradient = f(theta.copy())
    scale = abs(float(value)) if terms is None else terms
    single = function_path(f, theta, np.float32)
    paths = {"float64": function_path(f, theta, np.float64)}
    if getattr(single.evaluate(), "dtype", None) == np.float32:
        paths["float32"] = single
    with suppress(ValueError):  # not analytic: one curve less
        paths["complex"] = complex_function(f, theta, scale=scale, seed=seed)
    return _measure(getattr(f, "__name__", "f"), paths, {"theta": np.asarray(gradient)}, scale, entries, seed)


def v_curve_of(target: Any, x: np.ndarray, *, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
               entries: int = ENTRIES, seed: int = 0) -> VCurve:
    """The same of a layer, phi = <g, f(x)> with a random g, or of a model, phi = loss.

    A model's branches are held, as `check` holds them: one weight moves many units, and some cross their kinks.

    Raises: ValueError, as `v_curve`.
    """
    found = claim(target, x, y, rng, seed)
    g, scale = found.upstream, found.scale
    branch = found.branch if hasattr(target, "loss") and hasattr(target, "hold") else None
    if branch is not None:
        found.specimen.hold(branch)
    single = target_path(target, x, np.float32, y=y, rng=rng, upstream=None if g is None else g.astype(np.float32),
                         branch=branch)
    paths = {"float64": found.path, "float32": single}
    with suppress(ValueError):
        paths["complex"] = complex_scalar(target, x, y=y, rng=rng, upstream=g, scale=scale, seed=seed, branch=branch)
    return _measure(type(target).__name__, paths, found.claimed, scale, entries, seed)


def _measure(name: str, paths: dict[str, Path], claimed: dict[str, np.ndarray], scale: float, entries: int,
             seed: int) -> VCurve:
    places = _choose(claimed, entries, seed)
    exact = paths.get("complex")
    truth = {place: exact.complex_step(*place, scale).value if exact else float(claimed[place[0]][place[1]])
             for place in places}
    curves, bends = [], [_bends(paths["float64"], *place) for place in places]
    for dtype in ("float64", "float32"):
        if dtype not in paths:
            continue
        tables = [_difference_errors(paths[dtype], *place, truth[place], np.dtype(dtype)) for place in places]
        noise = np.median([_noise(paths[dtype], *place, np.dtype(dtype)) for place in places])
        for method in FORMULAS:
            errors = np.array([table[method] for table in tables])
            wants = [(bend[method], abs(truth[place])) for bend, place in zip(bends, places, strict=True)]
            curves.append(_curve(method, dtype, errors, noise, wants))
    if exact:
        errors = np.array([_complex_errors(exact, *place, truth[place]) for place in places])
        middle = np.median(errors, axis=0)
        curves.append(Curve("complex", "float64", STEPS, middle, None, None, COMPLEX_STEP, float(middle[-1])))
    return VCurve(name, "the complex step" if exact else "backward", len(places), tuple(curves))


def _choose(claimed: dict[str, np.ndarray], entries: int, seed: int) -> list[tuple[str, tuple[int, ...]]]:
    """Random entries of all arrays, among those not smaller than the rms: what is nearly 0 has no relative error."""
    sizes = np.concatenate([np.abs(np.ravel(array)) for array in claimed.values()])
    rms = float(np.sqrt(np.mean(np.square(sizes))))
    if not 0 < rms < np.inf:
        raise ValueError(f"a V-curve shows errors relative to the gradient, whose rms is {rms:g} here: take another "
                         "point")
    places = [(name, tuple(int(i) for i in index)) for name, array in claimed.items()
              for index in np.argwhere(np.abs(array) >= rms)]
    picked = np.random.default_rng([seed, 9]).choice(len(places), min(entries, len(places)), replace=False)
    return [places[i] for i in np.sort(picked)]


def _difference_errors(path: Path, name: str, index: tuple[int, ...], truth: float, dtype: np.dtype
                       ) -> dict[str, np.ndarray]:
    """Relative errors of all four formulas at all STEPS, from one set of samples."""
    t = float(path.arrays[name][index])
    centre = float(path.evaluate())

    @cache
    def levels(h: float) -> Any:
        above, below = (float(dtype.type(t + s)) for s in (h, -h))  # slopes are over the step really taken
        if above == t or below == t:
            return None
        up, down = (float(path.at(name, index, value)) for value in (above, below))
        right, left = (up - centre) / (above - t), (centre - down) / (t - below)
        return right, (right + left) / 2

    def central(h: float, factor: int) -> float:
        found = levels(h / factor)
        return np.nan if found is None else found[1]

    def at(h: float) -> Iterable[float]:
        d1, d2, d4 = (central(h, factor) for factor in (1, 2, 4))
        wide = central(2 * h, 1)
        first = levels(h)
        yield np.nan if first is None else first[0]
        yield d1
        yield (4 * d1 - wide) / 3
        yield (16 * (4 * d4 - d2) - (4 * d2 - d1)) / 45

    with np.errstate(all="ignore"):
        table = np.array([list(at(float(h))) for h in STEPS])
        return dict(zip(FORMULAS, (np.abs(table - truth) / abs(truth)).T, strict=True))


def _complex_errors(path: Path, name: str, index: tuple[int, ...], truth: float) -> np.ndarray:
    t = float(path.arrays[name][index].real)
    with np.errstate(all="ignore"):
        found = np.array([path.at(name, index, complex(t, h)).imag / h for h in STEPS])
    return np.abs(found - truth) / abs(truth)


def _bends(path: Path, name: str, index: tuple[int, ...]) -> dict[str, float]:
    """|phi''|, |phi'''|, |phi⁽⁵⁾| and |phi⁽⁷⁾| by the formula that leaves them out."""
    t = float(path.arrays[name][index])

    def phi(values: np.ndarray) -> np.ndarray:
        return np.array([float(path.at(name, index, value)) for value in values])

    fit = np.polynomial.Chebyshev.interpolate(phi, FIT_DEGREE, domain=[t - FIT_RADIUS, t + FIT_RADIUS])
    return {method: abs(float(fit.deriv(formula.p + 1)(t))) for method, formula in FORMULAS.items()}


def _noise(path: Path, name: str, index: tuple[int, ...], dtype: np.dtype) -> float:
    """The rms of phi's rounding errors: sixth differences d of independent errors have 12! / 6!² times their variance.

    Source: Moré and Wild 2011, 'Estimating computational noise', SIAM J. Sci. Comput. 33, section 2
    """
    t, eps = float(path.arrays[name][index]), float(np.finfo(dtype).eps)
    apart = np.sqrt(eps) * max(1.0, abs(t))
    phi = [float(path.at(name, index, t + k * apart)) for k in range(NOISE_SAMPLES)]
    d = np.diff(phi, NOISE_ORDER)
    gain = math.factorial(2 * NOISE_ORDER) / math.factorial(NOISE_ORDER) ** 2
    return max(float(np.sqrt(np.mean(d * d) / gain)), eps * eps * abs(phi[0]))


def _curve(method: str, dtype: str, errors: np.ndarray, noise: float, wants: list[tuple[float, float]]) -> Curve:
    """The median over the entries, of the predictions too; each wants its bend and its derivative's size."""
    formula, middle = FORMULAS[method], np.median(errors, axis=0)
    rounding = formula.rms * noise
    steps = [formula.step(rounding, bend) for bend, _ in wants]
    least = [formula.error(h, rounding, bend) / size for h, (bend, size) in zip(steps, wants, strict=True)]
    place = _lowest(middle)
    return Curve(method, dtype, STEPS, middle, float(np.median(steps)), float(np.median(least)), float(STEPS[place]),
                 float(middle[place]))


def _lowest(errors: np.ndarray) -> int:
    """The middle of the lowest stretch of NEIGHBOURS steps."""
    logs = np.log(np.maximum(errors, 1e-18))
    means = np.convolve(logs, np.full(NEIGHBOURS, 1 / NEIGHBOURS), mode="valid")
    return int(np.nanargmin(means)) + NEIGHBOURS // 2
