"""What finite differences say about one derivative, and how far they can be trusted.
The tolerance is made from what was seen while differencing; there is no magic number to tune per layer."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

EPS = float(np.finfo(np.float64).eps)
STEP = 2e-3
"""First step, times max(1, |t|). After two Richardson steps the error is about h^6 + eps/h, least near
h = eps^(1/7) = 6e-3; a little below that as many digits are left, and fewer kinks are crossed.
(The usual h = 1e-5 with one central difference has three digits less.)"""
HALVINGS = 10
"""How often the step may be halved: 2e-3 / 2^10 = 2e-6, below which rounding takes more than the halving gives."""
TO_DOMAIN = 40
"""How often it may be halved where phi is not finite: log(t) at t = 1e-9 has no sample at a step of 1e-6."""
DOUBLINGS = 5
"""How often the step may be doubled where rounding hides a small derivative: 2e-3 * 2^5 = 0.06."""
SAFETY_TRUNCATION = 16.0
"""The last correction, r - r2 = (r2 - r1) / 15, is larger than the error left in r; it is allowed 16 times over."""
SAFETY_ROUNDING = 64.0
"""Units of rounding that a value of size S may carry; correct layers were seen to use a tenth of it at most."""
RESOLUTION = 1e-5
"""An entry counts as verified only where its tolerance is below this part of the gradient's size."""
SHRINK_MEAN = 0.4
"""Central differences of a smooth function come four times closer to their limit with each halving: 1/4, with room."""
SHRINK_CORNER = 0.25
"""The extrapolated corner of a smooth function is eight times smaller after each halving: 1/8, with room."""

Sample = Callable[[float], tuple[float, bool]]
"""t -> (phi(t), is t on the same branch as the centre?)"""


class Slopes(NamedTuple):
    """The slopes of phi from the centre to the right and to the left, each over a step of length h."""

    h: float
    right: float
    left: float
    same_branch: bool

    @property
    def mean(self) -> float:
        """The central difference: phi' + c h^2 + ... where phi is smooth."""
        return (self.right + self.left) / 2

    @property
    def corner(self) -> float:
        """Half the bend between the two sides: a h + b h^3 + ... where phi is smooth, a constant at a kink."""
        return (self.right - self.left) / 2


class Estimate(NamedTuple):
    """The derivative found with steps h, h/2, h/4, and the two parts of its tolerance."""

    value: float
    truncation: float
    rounding: float
    h: float
    smooth: bool
    low: float = -math.inf
    high: float = math.inf
    """Between these lie the slopes to both sides: at a kink, all that a gradient may be there."""

    @property
    def tol(self) -> float:
        """How far a right gradient may be from `value`."""
        return self.truncation + self.rounding

    @property
    def finite(self) -> bool:
        """False where a sample was nan or infinite."""
        return math.isfinite(self.value)

    def settled(self, size: float, resolution: float = RESOLUTION) -> bool:
        """Would a smaller step tell nothing more?"""
        goal = resolution * max(abs(self.value), size)
        return self.finite and self.smooth and self.truncation <= max(self.rounding, goal)

    def hidden(self, size: float, resolution: float = RESOLUTION) -> bool:
        """Is it rounding that hides what is to be seen? A larger step has less of it."""
        return self.settled(size, resolution) and self.tol > resolution * abs(self.value)


def derivative(sample: Sample, t: float, centre: float, scale: float, size: float = 0.0,
               resolution: float = RESOLUTION) -> Estimate:
    """Estimate phi'(t) from six samples of phi, or from two more for each time the step has to be halved or doubled.

    The step is halved while a sample leaves the branch of the centre or the domain of phi, while the levels
    disagree with each other as they do at a kink, or while truncation hides what is to be seen. It is doubled where
    rounding hides it: a small derivative of a large phi.

    Shapes: everything is a number. `centre` is phi(t), `scale` the sum of the absolute terms phi is a sum of (its
    rounding error is a multiple of eps * scale), `size` the size of the gradient's other entries, and `resolution` the
    part of it below which the answer has to be known.

    >>> found = derivative(lambda t: (math.exp(t), True), t=0.5, centre=math.exp(0.5), scale=2.0)
    >>> abs(found.value - math.exp(0.5)) < found.tol < 1e-9
    True
    >>> derivative(lambda t: (abs(t), True), t=0.0, centre=0.0, scale=1.0).smooth
    False
    """
    h = STEP * max(1.0, abs(t))
    levels = [slopes(sample, t, centre, step) for step in (h, h / 2, h / 4)]
    tried = [richardson(levels, scale)]
    while not tried[-1].settled(size, resolution) and len(tried) <= TO_DOMAIN and \
            sum(estimate.finite for estimate in tried) <= HALVINGS:
        levels = [*levels[1:], slopes(sample, t, centre, levels[-1].h / 2)]
        tried.append(richardson(levels, scale))
    if len(tried) == 1 and tried[0].hidden(size, resolution):
        return _with_larger_steps(sample, t, centre, scale, size, levels, tried[0])
    if tried[-1].settled(size, resolution) or not any(estimate.smooth for estimate in tried):
        return tried[-1]
    return min((estimate for estimate in tried if estimate.smooth), key=lambda estimate: estimate.tol)


def _with_larger_steps(sample: Sample, t: float, centre: float, scale: float, size: float, levels: list[Slopes],
                       best: Estimate) -> Estimate:
    """Double the step while that makes the tolerance smaller and something is still hidden."""
    for _ in range(DOUBLINGS):
        levels = [slopes(sample, t, centre, 2 * levels[0].h), *levels[:2]]
        wider = richardson(levels, scale)
        if not (wider.finite and wider.smooth and wider.tol < best.tol):
            break
        best = wider
        if not best.hidden(size):
            break
    return best


def richardson(levels: Sequence[Slopes], scale: float) -> Estimate:
    """Extrapolate three levels of slopes, at h, h/2 and h/4, to step zero.

    d(h) = phi' + c h^2 + k h^4 + ...
    r1 = (4 d(h/2) - d(h)) / 3 and r2 = (4 d(h/4) - d(h/2)) / 3 are rid of c, r = (16 r2 - r1) / 15 of k too.
    tol = 16 |r - r2| + 64 eps (S / (h/4) + |r|)
    """
    d1, d2, d4 = (level.mean for level in levels)
    r1, r2 = (4 * d2 - d1) / 3, (4 * d4 - d2) / 3
    r = (16 * r2 - r1) / 15
    h = levels[0].h
    if not math.isfinite(r):
        return Estimate(math.nan, math.inf, math.inf, h, smooth=all(level.same_branch for level in levels))
    rounding = SAFETY_ROUNDING * EPS * (scale / levels[2].h + abs(r))
    smooth = all(level.same_branch for level in levels) and levels_agree(levels, rounding)
    sides = [slope for level in levels for slope in (level.right, level.left)]
    return Estimate(r, SAFETY_TRUNCATION * abs(r - r2), rounding, h, smooth, min(sides), max(sides))


def levels_agree(levels: Sequence[Slopes], noise: float) -> bool:
    """Do the three levels approach their limits as those of a smooth function?

    A kink at distance s < h bends the right slope only (or the left one), by J (1 - s/h). The central differences are
    deceived at s = 0, where they agree perfectly, and at s = 4h/9, where they mimic c h^2: so the corner is asked too.
    Two kinks at equal distances to both sides (a clip with t in its very middle) leave no corner: only the central
    differences see them, and not near s = 4h/9. A layer that knows its branches should tell them.
    """
    d1, d2, d4 = (level.mean for level in levels)
    c1, c2, c4 = (level.corner for level in levels)
    means_agree = abs(d2 - d4) <= SHRINK_MEAN * abs(d1 - d2) + noise
    corner_vanishes = abs(2 * c4 - c2) <= SHRINK_CORNER * abs(2 * c2 - c1) + noise
    return means_agree and corner_vanishes


def slopes(sample: Sample, t: float, centre: float, h: float) -> Slopes:
    """Sample phi on both sides; each slope divides by the step really taken, since t + h is rounded."""
    above, below = t + h, t - h
    (up, up_same), (down, down_same) = sample(above), sample(below)
    right, left = (up - centre) / (above - t), (centre - down) / (t - below)
    return Slopes(h, right, left, up_same and down_same)
