"""Other ways to a derivative than Richardson's, each with its best step and what it can know of its own error.
Differences sample phi beside t; the complex step samples it above t, subtracts nothing, and needs an analytic path."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npae.gradcheck.estimate import (
    DOUBLINGS,
    EPS,
    HALVINGS,
    SAFETY_ROUNDING,
    SAFETY_TRUNCATION,
    STEP,
    Estimate,
    Sample,
    derivative,
    levels_agree,
    slopes,
)

OBSERVED = 4.0
"""How many times over the difference between two complex steps is allowed: rounding, seen once."""
WIDEST = STEP * 2**DOUBLINGS
"""No step is wider than Richardson's widest, in units of max(1, |t|)."""
BEND = 0.25
"""What is left of a smooth function's corner is far smaller than the change of its slope; a kink's is a third of it."""
COMPLEX_STEP = 1e-20
"""Its square, the truncation, is 1e-40: any step below 1e-8 gives the same digits. Not so small that it underflows."""


class Formula(NamedTuple):
    """The two errors of a difference with step h, truncation and rounding.

    error(h) = a |phi^(p+1)| h^p + b noise / h,   least at   h* = (b noise / (p a |phi^(p+1)|))^(1/(p+1))

    b = bound where `noise` is the largest error that phi may carry (eps S), b = rms where it is its root mean square:
    errors of samples then add up like random steps. h* is about eps^(1/(p+1)), and eps^(p/(p+1)) is lost there.
    Source: Gill, Murray and Wright 1981, 'Practical Optimization', section 8.6; Press et al. 2007, section 5.7
    """

    p: int
    a: float
    bound: float
    rms: float

    def step(self, rounding: float, bend: float) -> float:
        """h*; `rounding` is b noise, `bend` is |phi^(p+1)|."""
        return (rounding / (self.p * self.a * bend)) ** (1 / (self.p + 1))

    def error(self, h: float, rounding: float, bend: float) -> float:
        """Truncation and rounding together."""
        return self.a * bend * h**self.p + rounding / h


FORMULAS = {
    "forward": Formula(1, 1 / 2, bound=2, rms=2**0.5),
    "central": Formula(2, 1 / 6, bound=1, rms=0.5**0.5),
    "five-point": Formula(4, 1 / 30, bound=18 / 12, rms=130**0.5 / 12),
    "richardson": Formula(6, 1 / (64 * 5040), bound=297 / 45, rms=(67137 / 2) ** 0.5 / 45),
}


def forward(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The forward difference: one sample beside the centre, half of the digits lost.

    (phi(t + h) - phi(t)) / h = phi' + h/2 phi'' + ...;   h ~ eps^(1/2), error ~ eps^(1/2)

    Truncation is seen from a second step: d(2h) - d(h) = h/2 phi''. A kink at t itself, or to its left, is not seen:
    only a sample that says that it left the branch tells of one.
    """
    def at(h: float) -> Estimate:
        d, wide = (_right(sample, t, centre, step) for step in (h, 2 * h))
        return _estimate(d[0], wide[0], 1, h, scale, smooth=d[1] and wide[1])

    return _smaller_until_smooth(at, _step("forward", t, scale, size))


def central(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The central difference: what most people write.

    (phi(t + h) - phi(t - h)) / (2h) = phi' + h²/6 phi''' + ...;   h ~ eps^(1/3), error ~ eps^(2/3)

    Truncation: d(2h) - d(h) = 3 h²/6 phi'''. A kink leaves a corner: (right slope - left slope) / 2 goes to zero with
    h where phi is smooth, 2 corner(h) - corner(2h) faster still.
    """
    def at(h: float) -> Estimate:
        near, wide = (slopes(sample, t, centre, step) for step in (h, 2 * h))
        found = _estimate(near.mean, wide.mean, 2, h, scale, smooth=near.same_branch and wide.same_branch)
        vanishes = abs(2 * near.corner - wide.corner) <= BEND * abs(wide.mean - near.mean) + found.rounding
        return found._replace(smooth=found.smooth and vanishes)

    return _smaller_until_smooth(at, _step("central", t, scale, size))


def five_point(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0) -> Estimate:
    """The five-point formula: a central difference and a wider one, extrapolated once; Richardson does it twice.

    (8 (phi(t + h) - phi(t - h)) - (phi(t + 2h) - phi(t - 2h))) / (12h) = phi' - h⁴/30 phi⁽⁵⁾ + ...
    h ~ eps^(1/5), error ~ eps^(4/5)

    Truncation: d(2h) - d(h) = -15 h⁴/30 phi⁽⁵⁾. The steps h, 2h and 4h see a kink as Richardson's do.
    """
    def at(h: float) -> Estimate:
        levels = [slopes(sample, t, centre, step) for step in (4 * h, 2 * h, h)]
        d4, d2, d1 = (level.mean for level in levels)
        found = _estimate((4 * d1 - d2) / 3, (4 * d2 - d4) / 3, 4, h, scale, all(level.same_branch for level in levels))
        return found._replace(smooth=found.smooth and levels_agree(levels, found.rounding))

    return _smaller_until_smooth(at, _step("five-point", t, scale, size))


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
    phi, more = (complex(evaluate_at(complex(t, step))) for step in (h, 3 * h))
    if not np.isfinite(phi):
        return Estimate(np.nan, np.inf, np.inf, h, smooth=True)
    r, other = phi.imag / h, more.imag / (3 * h)
    rounding = SAFETY_ROUNDING * EPS * (scale / unit + abs(r)) + OBSERVED * abs(r - other)
    return Estimate(r, 0.0, rounding, h, smooth=True)


def _step(method: str, t: float, scale: float, size: float) -> float:
    """h* of a phi that bends as strongly over a length max(1, |t|) as it slopes: phi^(p+1) = size."""
    bend = size if size > 0 else scale
    formula = FORMULAS[method]
    best = formula.step(formula.bound * EPS * scale, bend) if bend > 0 else STEP
    return min(best, WIDEST) * max(1.0, abs(t))


def _smaller_until_smooth(at: Callable[[float], Estimate], h: float) -> Estimate:
    """Halve a step that leaves the branch of the centre or the domain of phi, as often as Richardson's may be."""
    found = at(h)
    for _ in range(HALVINGS):
        if found.finite and found.smooth:
            break
        h /= 2
        found = at(h)
    return found


def _right(sample: Sample, t: float, centre: float, h: float) -> tuple[float, bool]:
    above = t + h
    up, same = sample(above)
    return (up - centre) / (above - t), same


def _estimate(d: float, wide: float, p: int, h: float, scale: float, smooth: bool) -> Estimate:
    """d(h) and d(2h) of a formula of order p: |d(2h) - d(h)| / (2^p - 1) is left in d(h), and 16 times that allowed.

    So much, because a kink between h and 2h that passes for a curve leaves up to 9 times as much.
    """
    if not (np.isfinite(d) and np.isfinite(wide)):
        return Estimate(np.nan, np.inf, np.inf, h, smooth)
    rounding = SAFETY_ROUNDING * EPS * (scale / h + abs(d))
    return Estimate(float(d), SAFETY_TRUNCATION * abs(wide - d) / (2**p - 1), rounding, h, smooth)
