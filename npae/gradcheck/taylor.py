"""The Taylor test: take away from phi what a gradient says of it, and see how fast the rest goes to zero.
One direction through all parameters at once, a few dozen losses in all: a check for whole models, and a picture."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae.gradcheck.estimate import EPS
from npae.gradcheck.paths import Claim, claim
from npae.gradcheck.report import Line

FIRST_STEP, HALVINGS = 0.25, 40
"""h0, for directions whose part in each parameter is a vector of length 1; halving ends at the floor."""
FLOOR = 1e3
"""A remainder below so many units of rounding, eps S, is not looked at."""
RATE, ODD_RATE = 1.9, 2.9
"""The last rate that a right gradient has to reach: 2 for the remainder, 3 for its odd part, with room for h."""
RESOLVED = 3
"""Fewer rates than these say nothing against a gradient: a remainder may start anywhere."""
SETTLING = 0.5
"""A rate so little below its limit that still rises to it is on its way: two terms had cancelled at a larger step."""


@dataclass(frozen=True)
class Remainder:
    """What is left of phi along one direction d, at h = h0 / 2^i.

    R(h) = |phi(t + h d) - phi(t) - h <G, d>|            ~ h² if G is the gradient, ~ h if it is not
    odd(h) = |phi(t + h d) - phi(t - h d) - 2 h <G, d>|  ~ h³ or ~ h
    """

    steps: np.ndarray
    remainder: np.ndarray
    odd: np.ndarray
    slope: float
    """<G, d>"""
    floor: float

    @property
    def rates(self) -> np.ndarray:
        """log2(R(h) / R(h/2)) as far as R is above the floor: 2, 2, 2 ... where the gradient is right."""
        return _rates(self.remainder, self.floor, RATE)

    @property
    def odd_rates(self) -> np.ndarray:
        """The same of the odd part: 3, 3, 3 ..."""
        return _rates(self.odd, 2 * self.floor, ODD_RATE)

    @property
    def linear(self) -> bool:
        """Nothing but rounding is left at any step, of a phi that does change: a straight line, and G is its slope."""
        return bool(np.all(self.remainder <= self.floor)) and FIRST_STEP * abs(self.slope) > FLOOR * self.floor

    @property
    def status(self) -> str:
        """PASS, FAIL or UNRESOLVED, by the odd part where that is resolved, else by the whole.

        R = (odd + even) / 2 with signs, and G stands in the odd part alone: where the bend along d happens to be
        near zero, R may cross zero at some small h and have any rate there, and odd has not.
        """
        if not np.all(np.isfinite(self.remainder)) or not math.isfinite(self.slope):
            return "FAIL"
        if self.linear:
            return "PASS"
        rates, least = (self.odd_rates, ODD_RATE) if len(self.odd_rates) >= RESOLVED else (self.rates, RATE)
        if len(rates) and rates[-1] >= least:
            return "PASS"
        settling = len(rates) > 1 and rates[-1] > max(rates[-2], least - SETTLING)
        return "FAIL" if len(rates) >= RESOLVED and not settling else "UNRESOLVED"

    @property
    def figure(self) -> str:
        """The last rates, in words."""
        if not np.all(np.isfinite(self.remainder)) or not math.isfinite(self.slope):
            return "phi or its gradient is not finite"
        if self.linear:
            return f"linear, exact to {self.floor / (FIRST_STEP * abs(self.slope)):.0e}"
        if not len(self.rates):
            return "nothing above rounding"
        odd = f", odd {self.odd_rates[-1]:.2f}" if len(self.odd_rates) else ""
        return f"rate {self.rates[-1]:.2f}{odd}"


@dataclass(frozen=True)
class TaylorReport:
    """The remainders along a few random directions: `ok`, `status`, and print(report)."""

    title: str
    remainders: tuple[Remainder, ...]

    @property
    def status(self) -> str:
        """FAIL if a direction fails; PASS if none does and one passes; else UNRESOLVED."""
        found = {remainder.status for remainder in self.remainders}
        return next(status for status in ("FAIL", "PASS", "UNRESOLVED") if status in found)

    @property
    def ok(self) -> bool:
        """True if the remainder goes to zero as that of a right gradient does."""
        return self.status == "PASS"

    @property
    def figure(self) -> str:
        """All directions in one line."""
        return "; ".join(remainder.figure for remainder in self.remainders)

    def __str__(self) -> str:
        """A table of the first direction, and the last rates of all."""
        first = self.remainders[0]
        rows = [f"  {'h':>8} {'R(h)':>9} {'rate':>6} {'odd(h)':>9} {'rate':>6}"]
        for i, h in enumerate(first.steps):
            cells = (_cell(first.rates, i - 1), _cell(first.odd_rates, i - 1))
            rows.append(f"  {h:>8.1e} {first.remainder[i]:>9.2e} {cells[0]:>6} {first.odd[i]:>9.2e} {cells[1]:>6}")
        told = [f"  {r.status}  direction {i}: {r.figure}" for i, r in enumerate(self.remainders, 1)]
        return "\n".join([self.title, *rows, *told])


def taylor(target: Any, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
           seed: int = 0, directions: int = 3) -> TaylorReport:
    """The Taylor test of a layer, phi = <g, f(x)> with a random g, or of a model, phi = loss.

    R(h) = |phi(t + h d) - phi(t) - h <G, d>|,   h = h0 / 2^i;   rate = log2(R(h) / R(h/2)) -> 2, or 1 if G is wrong

    The last rate that stands above rounding (1e3 eps S) decides: 2.9 is wanted of the odd part, 1.9 of a phi that has
    none; a linear phi has no remainder and is told to be exact. It works on a float64 copy, with the same noise each
    time; where the target can hold its branches they are held, which leaves G as it is and makes phi smooth.
    Raises: ValueError for fewer than 1 direction, or a target whose gradients have other shapes than its parameters.
    Source: Farrell et al. 2013, SIAM J. Sci. Comput. 35, section 4 (there for adjoints of models)
    """
    if directions < 1:
        raise ValueError(f"a Taylor test needs at least 1 direction, got {directions}")
    found = claim(target, x, y, rng, seed)
    if hasattr(found.specimen.target, "hold") and found.branch is not None:
        found.specimen.hold(found.branch)
    draw = np.random.default_rng([seed, 10])
    with np.errstate(all="ignore"):
        remainders = tuple(_along(found, draw) for _ in range(directions))
    return TaylorReport(f"Taylor test of {type(target).__name__}, x {np.shape(x)}", remainders)


def taylor_line(target: Any, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
                seed: int = 0, directions: int = 3) -> Line:
    """The same as one line of a report: PASS, FAIL, or a NOTE where nothing was resolved."""
    report = taylor(target, x, y, rng, seed, directions)
    status = "NOTE" if report.status == "UNRESOLVED" else report.status
    return Line(status, "the Taylor remainder goes to zero as h²", report.figure, "taylor")


def _along(found: Claim, draw: np.random.Generator) -> Remainder:
    """Walk along one direction, halving the step until the remainder has gone below the floor."""
    arrays, G, floor = found.path.arrays, found.claimed, FLOOR * EPS * found.scale
    start = {name: array.copy() for name, array in arrays.items()}
    d = {name: _unit(draw.normal(size=array.shape)) for name, array in arrays.items()}
    slope = sum(float(np.sum(G[name] * d[name])) for name in arrays)

    def phi(h: float) -> float:
        for name, array in arrays.items():
            array[...] = start[name] + h * d[name]
        return found.path.evaluate()

    steps, remainder, odd = [], [], []
    try:
        centre, h = phi(0.0), FIRST_STEP
        for _ in range(HALVINGS):
            up, down = phi(h), phi(-h)
            steps.append(h)
            remainder.append(abs(up - centre - h * slope))
            odd.append(abs(up - down - 2 * h * slope))
            nothing_left = max(remainder[-2:]) <= floor and max(odd[-2:]) <= 2 * floor
            if not math.isfinite(remainder[-1]) or (len(steps) > RESOLVED and nothing_left):
                break
            h /= 2
    finally:
        for name, array in arrays.items():
            array[...] = start[name]
    return Remainder(np.array(steps), np.array(remainder), np.array(odd), slope, floor)


def _unit(direction: np.ndarray) -> np.ndarray:
    """Of length 1, each parameter for itself: in one long vector the few biases would drown."""
    return direction / float(np.linalg.norm(direction))


def _rates(remainder: np.ndarray, floor: float, least: float) -> np.ndarray:
    """Up to the first value that is not above the floor.

    A fall below the floor for good is a rate too where no power of h is so steep: past the last kink of a layer that
    cannot hold its branches nothing may be left at once.
    """
    under = np.flatnonzero(~(remainder > floor))
    resolved = remainder[:under[0] if len(under) else len(remainder)]
    rates = np.log2(resolved[:-1] / resolved[1:])
    fall = np.log2(resolved[-1] / floor) if len(resolved) and 1 < len(under) == len(remainder) - len(resolved) else 0.0
    return np.append(rates, fall) if fall >= least + 1 else rates


def _cell(rates: np.ndarray, i: int) -> str:
    return f"{rates[i]:.2f}" if 0 <= i < len(rates) else ""
