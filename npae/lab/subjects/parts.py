"""What the subjects of losses, penalties and models share: values against a definition of their own, with what explains
a difference behind the figure, and what holds for every function of a batch.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from npae import gradcheck
from npae.gradcheck import Line, Report
from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.facts import Facts
from npae.gradcheck.report import attempt
from npae.gradcheck.specimen import REORDERED_RTOL
from npae.lab.subjects import raised

REFERENCE_RTOL = 1e-10
"""Of the largest value: two ways of computing agree far better in float64, two formulas far worse."""
SIGMAS = 5
"""Standard errors that a mean may be off: the seeds are fixed, so that a right mean is within them for good."""

Arrays = Mapping[str, np.ndarray]
Outcome = tuple[float, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Function:
    """value, gradients = f(arrays, given): a mean over pictures, by arrays that have them along their first axis.

    `arrays` are what the value is differentiated by, `given` what else it takes (pictures, noise). `shared` names the
    arrays that belong to no picture, such as weights.
    """

    f: Callable[[Arrays, Arrays], Outcome]
    arrays: Arrays
    given: Arrays = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    shared: tuple[str, ...] = ()
    mean: bool = True
    """Whether the value of a batch is the mean of those of its pictures."""

    def at(self, places: Sequence[int]) -> Outcome:
        """f of these pictures, in this order."""
        def some(arrays: Arrays) -> dict[str, np.ndarray]:
            return {name: a.copy() if name in self.shared else a[list(places)] for name, a in arrays.items()}

        return self.f(some(self.arrays), some(self.given))

    @property
    def pictures(self) -> int:
        """N; 0 where there are weights alone."""
        return next((len(a) for name, a in self.arrays.items() if name not in self.shared), 0)


def differs(name: str, got: object, want: object, facts: Facts | None = None, rtol: float = REFERENCE_RTOL,
            each: bool = False) -> str:
    """What is wrong with got, in words; nothing where it is want to rounding.

    rtol is of the largest value, or of each where values of very different size stand side by side.
    """
    found, right = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if found.shape != right.shape:
        return f"{name} has shape {found.shape}, the reference {right.shape}"
    with np.errstate(invalid="ignore"):  # inf - inf is a difference too
        gap = np.abs(found - right)
    if np.all(gap <= rtol * (np.abs(right) if each else np.max(np.abs(right), initial=0))):
        return ""
    told = explain(name, found, right, facts, right="the reference")
    return f"{name} is off by {np.max(gap):.1e}" + (f": {told}" if told else "")


def reference(claim: str, test: Callable[[], str]) -> Line:
    """A line of reference values."""
    return attempt(claim, test, "reference")


def moments(claim: str, test: Callable[[], str]) -> Line:
    """A line of statistics."""
    return attempt(claim, test, "moments")


def off_the_mean(name: str, mean: float, expected: float, error: float) -> str:
    """What is wrong with a mean over many draws whose standard error is known."""
    if abs(mean - expected) <= SIGMAS * error:
        return ""
    return f"{name} has the mean {mean:.4g}, {abs(mean - expected) / error:.0f} standard errors from {expected:.4g}"


def gradient_report(f: Callable[[Arrays], Outcome], arrays: Arrays, facts: Facts, title: str) -> Report:
    """f(arrays) -> (value, gradients) against differences, a row for each array: that of mu is told as dmu."""
    return replace(gradcheck.check_function(f, arrays, facts=facts), title=title)


def report(title: str, check: Callable[[], Report], lines: Sequence[Line]) -> Report:
    """The rows of a gradient check and other lines; where the check raises, a line says so in its place."""
    try:
        checked = check()
    except Exception as error:
        line = Line("FAIL", "forward and backward run", raised(error), "gradient")
        checked = Report(title, lines=(line,))
    return Report(title, checked.rows, (*checked.lines, *lines), checked.explanations)


def function_report(title: str, function: Function, lines: Sequence[Line]) -> Report:
    """The protocol of a function of a batch: gradient, batch and state, and lines of its own."""
    def check() -> Report:
        return gradient_report(lambda arrays: function.f(arrays, copies(function.given)), function.arrays,
                               function.facts, title)

    return report(title, check, [*lines, *(_batch(function) if function.pictures else []), *_state(function)])


def copies(arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays that a function may do with what it likes."""
    return {name: a.copy() for name, a in arrays.items()}


def _batch(function: Function) -> list[Line]:
    tests = {"a batch in another order has the same value, and gradients in that order": _permuted,
             "a batch twice over has the same value, and half the gradients a picture": _twice}
    if function.mean:
        tests["value and gradients are the means of those of single pictures"] = _mean_of_singles
    return [attempt(claim, partial(test, function), "batch") for claim, test in tests.items()]


def _alike(got: Outcome, value: float, gradients: Arrays) -> str:
    wrong = differs("the value", got[0], value, rtol=REORDERED_RTOL)
    return wrong or next((w for name, g in gradients.items()
                          if (w := differs(f"d{name}", got[1][name], g, rtol=REORDERED_RTOL))), "")


def _permuted(function: Function) -> str:
    n = function.pictures
    order = np.roll(np.arange(n), 2)[::-1]
    value, gradients = function.at(range(n))
    want = {name: g if name in function.shared else g[order] for name, g in gradients.items()}
    return _alike(function.at(list(order)), value, want)


def _twice(function: Function) -> str:
    n = function.pictures
    value, gradients = function.at(range(n))
    want = {name: g if name in function.shared else np.concatenate([g, g]) / 2 for name, g in gradients.items()}
    return _alike(function.at([*range(n), *range(n)]), value, want)


def _mean_of_singles(function: Function) -> str:
    n = function.pictures
    singles = [function.at([i]) for i in range(n)]
    each = {name: [g[name] for _, g in singles] for name in function.arrays}
    want = {name: np.mean(g, axis=0) if name in function.shared else np.concatenate(g) / n
            for name, g in each.items()}
    return _alike(function.at(range(n)), sum(value for value, _ in singles) / n, want)


def _state(function: Function) -> list[Line]:
    return [attempt("what it is given stays as it was", lambda: _leaves_arguments(function)),
            attempt("float32 in, float32 out", lambda: _keeps_float32(function)),
            attempt("a second call gives the same, to the bit", lambda: _repeats(function))]


def _leaves_arguments(function: Function) -> str:
    arrays, given = copies(function.arrays), copies(function.given)
    function.f(arrays, given)
    before, after = {**function.arrays, **function.given}, {**arrays, **given}
    return ", ".join(f"writes into {name}" for name in before if not np.array_equal(before[name], after[name]))


def _keeps_float32(function: Function) -> str:
    def single(arrays: Arrays) -> dict[str, np.ndarray]:
        return {name: a.astype(np.float32) for name, a in arrays.items()}

    _, gradients = function.f(single(function.arrays), single(function.given))
    wrong = [f"d{name}: {g.dtype} comes out of float32" for name, g in gradients.items() if g.dtype != np.float32]
    return ", ".join(wrong)


def _repeats(function: Function) -> str:
    once, again = (function.at(range(function.pictures)) for _ in range(2))
    same = once[0] == again[0] and all(np.array_equal(g, again[1][name]) for name, g in once[1].items())
    return "" if same else f"two equal calls gave {once[0]!r} and {again[0]!r}"
