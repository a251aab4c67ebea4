"""The verdict on each entry of a gradient, and on a parameter as a whole.
An entry that could not be verified is never counted as right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from npae.gradcheck.estimate import RESOLUTION, Estimate

VACUOUS_BELOW = 1e3
"""A parameter none of whose derivatives is this many tolerances large has not been tested: zeros would pass as well."""
BETWEEN = 0.25
"""Of the gap between the slopes at a kink: how far beyond them a claim may lie before it is wrong there."""
UNVERIFIED_PART = 0.01
"""How many of a parameter's checked entries may be KINK or UNRESOLVED: one in a hundred, and never all of them."""


class Verdict(StrEnum):
    """PASS, FAIL, KINK and UNRESOLVED are said of an entry; VACUOUS and NONDETERMINISTIC of a whole parameter."""

    PASS = "PASS"
    FAIL = "FAIL"
    KINK = "KINK"
    UNRESOLVED = "UNRESOLVED"
    VACUOUS = "VACUOUS"
    NONDETERMINISTIC = "NONDETERMINISTIC"


@dataclass(frozen=True)
class Entry:
    """One derivative: as backward has it (analytic), as differences have it (numeric), and what was concluded.

    At a KINK the step h is also the distance: two branches meet within h of this entry's value.
    """

    index: tuple[int, ...]
    analytic: float
    numeric: float
    tol: float
    h: float
    verdict: Verdict

    @property
    def ratio(self) -> float:
        """|analytic - numeric| / tol; below 1 is agreement."""
        error = abs(self.analytic - self.numeric)
        if error == 0:
            return 0.0
        return error / self.tol if self.tol > 0 and math.isfinite(error) else math.inf


@dataclass(frozen=True)
class Row:
    """Everything the check has to say about one parameter (or about the input, whose row is called "x").

    `refused` is set where no entry could be looked at: a gradient of the wrong shape, a function that gives
    another result each time. `reason` then says so in words.
    """

    name: str
    shape: tuple[int, ...]
    entries: tuple[Entry, ...] = ()
    expect_zero: bool = False
    refused: Verdict | None = None
    reason: str = ""
    directions: int = 0
    """In the fast mode `entries` are derivatives along so many random directions, each of all entries together ..."""
    wrong_entries: tuple[Entry, ...] = ()
    """... and these are wrong entries, found by halving, the first few of them."""

    def count(self, *verdicts: Verdict) -> int:
        """How many entries got one of these verdicts."""
        return sum(entry.verdict in verdicts for entry in self.entries)

    @property
    def size(self) -> int:
        """Number of entries of the whole parameter, checked or not."""
        return math.prod(self.shape)

    @property
    def unverified(self) -> int:
        """KINK and UNRESOLVED together."""
        return self.count(Verdict.KINK, Verdict.UNRESOLVED)

    @property
    def rms(self) -> float:
        """Root mean square of the numeric gradient, kinks left out."""
        return _rms([entry.numeric for entry in self._measured])

    @property
    def worst_ratio(self) -> float:
        """Largest |analytic - numeric| / tol."""
        return max((entry.ratio for entry in self._measured), default=math.nan)

    @property
    def worst_relative(self) -> float:
        """Largest |analytic - numeric| / max(|numeric|, rms)."""
        rms = self.rms
        errors = ((abs(e.analytic - e.numeric), max(abs(e.numeric), rms)) for e in self._measured)
        return max((error / size if size > 0 else math.inf * error for error, size in errors if error), default=0.0)

    @property
    def vacuous(self) -> bool:
        """True if every derivative is zero as far as differences can see."""
        return bool(self._measured) and all(abs(e.numeric) <= VACUOUS_BELOW * e.tol for e in self._measured)

    @property
    def verdict(self) -> Verdict:
        """The row in one word."""
        if self.refused:
            return self.refused
        if self.count(Verdict.FAIL) or (self.expect_zero and not self.vacuous):
            return Verdict.FAIL
        if self.vacuous and not self.expect_zero:
            return Verdict.VACUOUS
        if self.unverified > UNVERIFIED_PART * len(self.entries) or not self.count(Verdict.PASS):
            return Verdict.KINK if self.count(Verdict.KINK) > self.count(Verdict.UNRESOLVED) else Verdict.UNRESOLVED
        return Verdict.PASS

    @property
    def ok(self) -> bool:
        """Green: no FAIL, at least one entry verified, at most one in a hundred left open."""
        return self.verdict is Verdict.PASS

    def explain(self) -> str:
        """What is wrong with this row, in words."""
        failed, checked = self.count(Verdict.FAIL), len(self.entries)
        if self.refused:
            return f"{self.name}: {self.reason}"
        if failed:
            what = "directions" if self.directions else "entries"
            return f"{self.name}: {failed} of {checked} {what} FAIL{self._named}"
        if self.expect_zero:
            return f"{self.name}: a zero gradient was expected, its rms is {self.rms:.1e}"
        if self.verdict is Verdict.VACUOUS:
            return f"{self.name}: VACUOUS, the gradient is zero to rounding here, so nothing was tested"
        return (f"{self.name}: {self.count(Verdict.KINK)} KINK and {self.count(Verdict.UNRESOLVED)} UNRESOLVED "
                f"of {checked} entries, {UNVERIFIED_PART:.0%} allowed")

    @property
    def _named(self) -> str:
        """The wrong entries that the fast mode has found."""
        if not self.wrong_entries:
            return ""
        return ", wrong are " + ", ".join(f"[{', '.join(map(str, entry.index))}]" for entry in self.wrong_entries)

    @property
    def _measured(self) -> list[Entry]:
        return [e for e in self.entries if e.verdict is not Verdict.KINK and math.isfinite(e.numeric)]


def judge(name: str, shape: tuple[int, ...], found: Sequence[tuple[tuple[int, ...], float, Estimate]],
          expect_zero: bool = False, resolution: float = RESOLUTION) -> Row:
    """Give each (index, analytic, estimate) its verdict; what resolves an entry depends on the rms of all of them."""
    rms = _rms([estimate.value for _, _, estimate in found if estimate.finite and estimate.smooth])
    entries = []
    for index, analytic, estimate in found:
        verdict = _verdict(analytic, estimate, math.inf if expect_zero else rms, resolution)
        entries.append(Entry(index, analytic, estimate.value, estimate.tol, estimate.h, verdict))
    return Row(name, shape, tuple(entries), expect_zero)


def _verdict(analytic: float, estimate: Estimate, rms: float, resolution: float) -> Verdict:
    """Smoothness first: where two branches meet, a gradient may be whatever lies between the slopes to both sides."""
    if not estimate.smooth:
        room = BETWEEN * (estimate.high - estimate.low) + estimate.rounding
        return Verdict.KINK if estimate.low - room <= analytic <= estimate.high + room else Verdict.FAIL
    if not estimate.finite:
        return Verdict.UNRESOLVED
    if not abs(analytic - estimate.value) <= estimate.tol:  # written so that a nan in the gradient is a FAIL
        return Verdict.FAIL
    if estimate.tol > resolution * max(abs(estimate.value), rms):
        return Verdict.UNRESOLVED
    return Verdict.PASS


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0
