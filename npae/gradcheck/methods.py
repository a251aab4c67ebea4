"""Other ways to a derivative than Richardson's, each with its best step and what it can know of its own error.
Differences sample phi beside t; the complex step samples it above t, subtracts nothing, and needs an analytic path."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from npae.gradcheck.estimate import (
    DOUBLINGS,
    EPS,
    SAFETY_ROUNDING,
    STEP,
    Estimate,
    Sample,
    derivative,
    levels_agree,
    slopes,
)
from npae.gradcheck.specimen import Specimen, copy_as
from npae.kernels import reference

OBSERVED = 4.0
"""Two steps h and 2h tell the truncation left at h to leading order; it is allowed so many times over."""
WIDEST = STEP * 2**DOUBLINGS
"""No step is wider than Richardson's widest, in units of max(1, |t|)."""
BEND = 0.25
"""What is left of a smooth function's corner is far smaller than the change of its slope; a kink's is a third of it."""
COMPLEX_STEP = 1e-20
"""Its square, the truncation, is 1e-40: any step below 1e-8 gives the same digits. Not so small that it underflows."""


class Formula(NamedTuple):
    """The two errors of a difference with step h, where phi carries an error of at most `noise`.

    error(h) = a |phi^(p+1)| h^p + b noise / h,   least at   h* = (b noise / (p a |phi^(p+1)|))^(1/(p+1))

    With noise = eps S, h* is about eps^(1/(p+1)), and eps^(p/(p+1)) is what is lost there.
    Source: Gill, Murray and Wright 1981, 'Practical Optimization', section 8.6; Press et al. 2007, section 5.7
    """

    p: int
    a: float
    b: float

    def step(self, noise: float, bend: float) -> float:
        """h*; `bend` is |phi^(p+1)|."""
        return (self.b * noise / (self.p * self.a * bend)) ** (1 / (self.p + 1))

    def error(self, h: float, noise: float, bend: float) -> float:
        """Truncation and rounding together."""
        return self.a * bend * h**self.p + self.b * noise / h


FORMULAS = {
    "forward": Formula(1, 1 / 2, 2),
    "central": Formula(2, 1 / 6, 1),
    "five-point": Formula(4, 1 / 30, 3 / 2),
    "richardson": Formula(6, 1 / (64 * 5040), 297 / 45),
}


def forward(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The forward difference: one sample beside the centre, half of the digits lost.

    (phi(t + h) - phi(t)) / h = phi' + h/2 phi'' + ...;   h ~ eps^(1/2), error ~ eps^(1/2)

    Truncation is seen from a second step: d(2h) - d(h) = h/2 phi''. A kink at t itself, or to its left, is not seen:
    only a sample that says that it left the branch tells of one.
    """
    h = _step("forward", t, scale, size)
    d, wide = (_right(sample, t, centre, step) for step in (h, 2 * h))
    return _estimate(d[0], wide[0], 1, h, scale, smooth=d[1] and wide[1])


def central(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The central difference: what most people write.

    (phi(t + h) - phi(t - h)) / (2h) = phi' + h²/6 phi''' + ...;   h ~ eps^(1/3), error ~ eps^(2/3)

    Truncation: d(2h) - d(h) = 3 h²/6 phi'''. A kink leaves a corner: (right slope - left slope) / 2 goes to zero with
    h where phi is smooth, 2 corner(h) - corner(2h) faster still.
    """
    h = _step("central", t, scale, size)
    near, wide = (slopes(sample, t, centre, step) for step in (h, 2 * h))
    found = _estimate(near.mean, wide.mean, 2, h, scale, smooth=near.same_branch and wide.same_branch)
    vanishes = abs(2 * near.corner - wide.corner) <= BEND * abs(wide.mean - near.mean) + found.rounding
    return found._replace(smooth=found.smooth and vanishes)


def five_point(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The five-point formula: a central difference and a wider one, extrapolated once; Richardson does it twice.

    (8 (phi(t + h) - phi(t - h)) - (phi(t + 2h) - phi(t - 2h))) / (12h) = phi' - h⁴/30 phi⁽⁵⁾ + ...
    h ~ eps^(1/5), error ~ eps^(4/5)

    Truncation: d(2h) - d(h) = -15 h⁴/30 phi⁽⁵⁾. The steps h, 2h and 4h see a kink as Richardson's do.
    """
    h = _step("five-point", t, scale, size)
    levels = [slopes(sample, t, centre, step) for step in (4 * h, 2 * h, h)]
    d4, d2, d1 = (level.mean for level in levels)
    found = _estimate((4 * d1 - d2) / 3, (4 * d2 - d4) / 3, 4, h, scale, all(level.same_branch for level in levels))
    return found._replace(smooth=found.smooth and levels_agree(levels, found.rounding))


METHODS: dict[str, Callable[[Sample, float, float, float, float], Estimate]] = {
    "richardson": derivative, "five-point": five_point, "central": central, "forward": forward}
"""Those that take differences; `complex_step` is the fifth way, and has a door of its own."""


def estimate(method: str, sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """phi'(t) by one of METHODS; the arguments are those of `derivative`.

    Raises: ValueError for an unknown method (the known ones are listed).
    """
    if method not in METHODS:
        raise ValueError(f"no difference is called {method!r}: use one of {', '.join(METHODS)} (or complex, where the "
                         "path is analytic)")
    return METHODS[method](sample, t, centre, scale, size)


def complex_step(evaluate_at: Callable[[complex], complex], t: float, scale: float) -> Estimate:
    """A derivative without a difference: a step upwards, off the real line.

    Im phi(t + i h) / h = phi' - h²/6 phi''' + ...;   h = 1e-20, truncation 1e-40, error ~ eps

    Nothing is subtracted, so nothing cancels, and the step may be as small as it likes. Rounding is what is left, and
    two steps of which neither is a multiple of the other by a power of 2 round differently.
    tol = 64 eps (S / max(1, |t|) + |r|) + 4 |r - r'|
    Source: Squire and Trapp 1998, SIAM Review 40, pages 110-112

    >>> import cmath
    >>> found = complex_step(cmath.exp, t=0.5, scale=2.0)
    >>> abs(found.value - np.exp(0.5)) < found.tol < 1e-13
    True
    """
    unit = max(1.0, abs(t))
    h = COMPLEX_STEP * unit
    r, other = (complex(evaluate_at(complex(t, step))).imag / step for step in (h, 3 * h))
    if not np.isfinite(r):
        return Estimate(np.nan, np.inf, np.inf, h, smooth=True)
    rounding = SAFETY_ROUNDING * EPS * (scale / unit + abs(r)) + OBSERVED * abs(r - other)
    return Estimate(r, 0.0, rounding, h, smooth=True)


def _step(method: str, t: float, scale: float, size: float) -> float:
    """h* of a phi that bends as strongly over a length max(1, |t|) as it slopes: phi^(p+1) = size."""
    bend = size if size > 0 else scale
    best = FORMULAS[method].step(EPS * scale, bend) if bend > 0 else STEP
    return min(best, WIDEST) * max(1.0, abs(t))


def _right(sample: Sample, t: float, centre: float, h: float) -> tuple[float, bool]:
    above = t + h
    up, same = sample(above)
    return (up - centre) / (above - t), same


def _estimate(d: float, wide: float, p: int, h: float, scale: float, smooth: bool) -> Estimate:
    """d(h) and d(2h) of a formula of order p: what is left in d(h) is |d(2h) - d(h)| / (2^p - 1)."""
    if not (np.isfinite(d) and np.isfinite(wide)):
        return Estimate(np.nan, np.inf, np.inf, h, smooth)
    rounding = SAFETY_ROUNDING * EPS * (scale / h + abs(d))
    return Estimate(float(d), OBSERVED * abs(wide - d) / (2**p - 1), rounding, h, smooth)


@dataclass(frozen=True)
class Path:
    """phi of named arrays of one dtype, standing at a point; every sample moves an entry and puts it back."""

    arrays: dict[str, np.ndarray]
    evaluate: Callable[[], Any]
    """() -> phi at what the arrays hold now; a complex number where they are complex."""

    def at(self, name: str, index: tuple[int, ...], value: Any) -> Any:
        """phi with another value in one place."""
        array = self.arrays[name]
        kept = array[index]
        array[index] = value
        try:
            return self.evaluate()
        finally:
            array[index] = kept

    def complex_step(self, name: str, index: tuple[int, ...], scale: float) -> Estimate:
        """dphi of one entry, where the path is complex."""
        return complex_step(partial(self.at, name, index), float(self.arrays[name][index].real), scale)


def function_path(f: Callable[[np.ndarray], tuple[Any, np.ndarray]], theta: np.ndarray, dtype: Any,
                  name: str = "theta") -> Path:
    """phi = the value of f(theta) -> (value, gradient), theta in another dtype."""
    theta = np.array(theta, dtype)
    return Path({name: theta}, lambda: f(theta.copy())[0])


def target_path(target: Any, x: np.ndarray, dtype: Any, *, y: np.ndarray | None = None,
                rng: np.random.Generator | None = None, upstream: np.ndarray | None = None,
                branch: Any = None) -> Path:
    """phi = <upstream, f(x)> of a layer, or a model's loss, on a copy in another dtype, with the same noise each time.

    complex128 goes through the reference kernels. A `branch` (of the same target in float64) is held, where given.
    """
    complex_ = np.dtype(dtype).kind == "c"
    own = complex_ and hasattr(target, "walk")
    specimen = Specimen(target.to(np.complex128, kernels=reference) if own else copy_as(target, dtype), rng)
    if branch is not None:
        specimen.hold(branch)
    x = np.array(x, dtype, order="C")
    arrays = {name: param.value for name, param in specimen.params.items()}
    if hasattr(target, "loss"):
        return Path(arrays, lambda: specimen.loss(x, y)["loss"])
    return Path({"x": x, **arrays}, lambda: np.sum(upstream * specimen.forward(x)))


def complex_function(f: Callable[[np.ndarray], tuple[Any, np.ndarray]], theta: np.ndarray, *, name: str = "theta",
                     scale: float = 0.0, seed: int = 0) -> Path:
    """f(theta) -> (value, gradient) as a path for complex steps.

    `scale` is the sum of the absolute terms of the value (0: |value|).
    Raises: ValueError where f is not analytic on complex numbers: a result that is not complex, an imaginary part that
    is dropped (abs, astype(float)), an operation that takes no complex numbers, a step that differences refute.
    """
    return _proven(function_path(f, theta, np.complex128, name), getattr(f, "__name__", "the function"), scale, seed)


def complex_scalar(target: Any, x: np.ndarray, *, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
                   upstream: np.ndarray | None = None, branch: Any = None, scale: float = 0.0,
                   seed: int = 0) -> Path:
    """A layer (with `upstream`) or a model as a path for complex steps; `path.complex_step(name, index, scale)`.

    A layer with a kink is refused; on a `branch` that is held it is smooth, and taken.
    Raises: ValueError, as `complex_function`; for a layer that has branches, by its name, where none is held.
    """
    name = type(target).__name__
    with _sentences(name):
        path = target_path(target, x, np.complex128, y=y, rng=rng, upstream=upstream, branch=branch)
    if branch is None:
        _refuse_branches(target, x, y, rng)
    return _proven(path, name, scale, seed)


def _refuse_branches(target: Any, x: np.ndarray, y: np.ndarray | None, rng: np.random.Generator | None) -> None:
    """Ask a copy in float64, after one forward, which of its layers have a branch."""
    specimen = Specimen(copy_as(target, np.float64), rng)
    x = np.array(x, np.float64)
    if hasattr(target, "loss"):
        specimen.loss(x, y)
    else:
        specimen.forward(x)
    made = specimen.target
    for layer in made.walk() if hasattr(made, "walk") else (made,):
        if hasattr(layer, "branch_signature") and _has_branch(layer.branch_signature(), top=hasattr(made, "walk")):
            raise ValueError(f"the complex step needs an analytic path, and {layer} has branches: hold them, or use "
                             "differences")


def _has_branch(signature: Any, top: bool) -> bool:
    """Does a layer tell of a branch? A net of npae's (a tuple) is asked child by child."""
    if isinstance(signature, tuple | list):
        return not top and any(_has_branch(inner, top) for inner in signature)
    return signature is not None


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """What complex numbers break on the way, as a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            yield
    except (TypeError, np.exceptions.ComplexWarning) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"the complex step needs an analytic path in NumPy, and {name} raised {type(error).__name__} "
                         f"({why}): use differences") from error


def _proven(path: Path, name: str, scale: float, seed: int) -> Path:
    """The path with refusals in words, after one look at whether Im phi(θ + i h d) / h is dphi/dd.

    An abs, a maximum or an argmax on the way drops or bends imaginary parts silently; the values at real arguments
    are right all the same, so differences of them in one random direction tell.
    """
    def evaluate() -> complex:
        with _sentences(name):
            phi = path.evaluate()
        if not np.iscomplexobj(phi) or np.size(phi) != 1:
            raise ValueError(f"the complex step needs an analytic path, and {name} turned complex numbers into "
                             f"{np.asarray(phi).dtype}: use differences")
        return complex(phi)

    rng = np.random.default_rng([seed, 8])
    start = {key: array.copy() for key, array in path.arrays.items()}
    d = {key: rng.normal(size=array.shape) / np.sqrt(max(1, array.size)) for key, array in start.items()}

    def along(s: complex) -> complex:
        for key, array in path.arrays.items():
            array[...] = start[key] + s * d[key]
        return evaluate()

    try:
        with np.errstate(all="ignore"):
            centre = along(0).real
            size = max(scale, abs(centre))
            difference = derivative(lambda s: (along(s).real, True), 0.0, centre, size)
            step = complex_step(along, 0.0, size)
    finally:
        for key, array in path.arrays.items():
            array[...] = start[key]
    if difference.finite and difference.smooth and not abs(difference.value - step.value) <= difference.tol + step.tol:
        raise ValueError(f"the complex step needs an analytic path, and along one direction {name} has the derivative "
                         f"{difference.value:.6g} by differences but {step.value:.6g} by a complex step: use "
                         "differences")
    return Path(path.arrays, evaluate)
