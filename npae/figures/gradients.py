"""Two pictures of a derivative: the V of error against step, and the remainder that tells right gradients from wrong.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import GREY, HEAD, MARGIN, box, number, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from npae.gradcheck.curves import Curve, VCurve
    from npae.gradcheck.taylor import TaylorReport

# Okabe and Ito's palette, told apart with every kind of colour blindness; yellow is left out, it is too pale for text
COLOURS = {"forward": "#d55e00", "central": "#b07800", "five-point": "#009e73", "richardson": "#0072b2",
           "complex": "#7d4a8d"}
SEQUENCE = ("#0072b2", "#d55e00", "#009e73", "#b07800", "#7d4a8d", "#333333")
NAMES = {"five-point": "five points", "richardson": "Richardson", "complex": "complex step"}
PANELS = {"float64": (-15.5, 2.3, 610), "float32": (-7.5, 1.8, 400)}  # log10 of the steps shown, width in pixels
LOWEST, HIGHEST = 1e-17, 1e2
LEAST_SHOWN = 3e-17  # an error of 0 is drawn here
LINE = 960  # pixels: the note in one line
STRAIGHT = 10  # times its least, the error at the widest step: less is no arm
LETTER = 13.5  # pixels of a bold letter, as a mean
LAST_STEP = 1e-6  # where a Taylor plot ends that has no right gradient to end at its floor
GUIDE: dict[str, Any] = {"color": "#9a9a9a", "linewidth": 1.0, "linestyle": (0, (4, 3)), "zorder": 1}


@styled
def v_curves(curves: VCurve, *, title: str = "How wrong is a difference?") -> Figure:
    """The error of each estimate against its step, float64 and float32 beside each other.

    The right arm is what a formula leaves out (slope p), the left one the rounding of phi (slope -1). A dot is the
    measured best step, a diamond the one that theory predicts. Made of `gradcheck.curves.v_curve`.

    Units: none; the error is relative to the derivative, a median over the entries
    """
    dtypes = [dtype for dtype in PANELS if any(c.dtype == dtype for c in curves.curves)]
    note = (f"{curves.name}: median relative error of {curves.entries} derivatives against {curves.truth};  "
            "● measured best step,  ◇ predicted")
    width = max(40 + sum(PANELS[dtype][2] + 80 for dtype in dtypes), LINE)
    figure = page(width, 560, title, note)
    left = MARGIN + 90
    for place, dtype in enumerate(dtypes):
        low, high, wide = PANELS[dtype]
        ax = box(figure, left=left, top=HEAD + 34, width=wide, height=460)
        left += wide + 80
        ax.set(xscale="log", yscale="log", xlim=(10**low, 10**high), ylim=(LOWEST, HIGHEST), xlabel="step h",
               ylabel="relative error" if place == 0 else "")
        ax.set_title(dtype, loc="left", weight="bold")
        _decades(ax, 2, 2)
        ax.set_xticks([10.0**k for k in range(-14, 1, 2) if k > low])
        shown = [curve for curve in curves.curves if curve.dtype == dtype]
        straight = [c for c in shown if c.predicted is not None and c.errors[0] < STRAIGHT * c.least]
        for curve in shown:
            _v(ax, curve, curve in straight)
        _names(ax, straight)
        _arms(ax, [curve for curve in shown if curve.predicted is not None and curve not in straight])
    return figure


def _names(ax: Axes, curves: list[Curve]) -> None:
    """Where a formula leaves nothing of φ out there is rounding alone, and names stand in a corner."""
    for line, curve in enumerate(curves):
        ax.annotate(NAMES.get(curve.method, curve.method), (0.03, 0.34), xytext=(0, -18 * line),
                    xycoords="axes fraction", textcoords="offset points", color=COLOURS[curve.method], weight="bold")
    if curves:
        ax.annotate("rounding alone:", (0.03, 0.34), xytext=(0, 18), xycoords="axes fraction",
                    textcoords="offset points", fontsize=10, color=GREY)


def _v(ax: Axes, curve: Curve, straight: bool) -> None:
    """A line, its two best steps, its name below the measured one; of a straight φ the line alone."""
    colour, name = COLOURS[curve.method], NAMES.get(curve.method, curve.method)
    errors = np.maximum(curve.errors, LEAST_SHOWN)
    if curve.predicted is None or curve.predicted_error is None:  # broad and pale: the central arm is the same h²/6
        ax.plot(curve.steps, errors, color=colour, linewidth=5, alpha=0.45, label=curve.method)
        ax.annotate(name, (curve.steps[-1], errors[-1]), xytext=(0, 9), color=colour,
                    textcoords="offset points", va="bottom", weight="bold")
        return
    ax.plot(curve.steps, errors, color=colour, linewidth=1.8, label=curve.method)
    if straight:
        return
    ax.plot(curve.best, curve.least, "o", color=colour, markersize=7, zorder=5)
    ax.plot(curve.predicted, curve.predicted_error, "D", markerfacecolor="white", markeredgecolor=colour,
            markersize=7, markeredgewidth=1.6, zorder=6)
    below = {"five-point": (-9, -16), "richardson": (0, -30)}.get(curve.method, (-9, -10))  # clear of its neighbour's
    ax.annotate(name, (curve.predicted, curve.predicted_error), xytext=below, textcoords="offset points", color=colour,
                ha="right" if below[0] else "center", va="center", weight="bold")


def _arms(ax: Axes, curves: list[Curve]) -> None:
    """The slope of each arm in words, and guide lines beside those of slope -1, 1 and 2."""
    from npae.gradcheck.methods import FORMULAS

    ends = [(curve.errors[0], f"slope {FORMULAS[curve.method].p}", COLOURS[curve.method]) for curve in curves]
    _write_right(ax, [(1.0, *end) for end in ends], 20, fontsize=10)
    for curve in curves[:2]:
        p = FORMULAS[curve.method].p
        h = np.array([10 * curve.best, 1])
        ax.plot(h, curve.errors[0] / 4 * h**p, **GUIDE)
    for curve in curves[:1]:
        h = np.array([curve.best / 1e3, curve.best])
        ax.plot(h, 40 * curve.least * curve.best / h, **GUIDE)
        ax.annotate("slope −1: rounding", (h[0], 4e4 * curve.least), xytext=(4, 4), textcoords="offset points",
                    fontsize=10, color=GREY, va="bottom")


@styled
def taylor_plot(reports: TaylorReport | Mapping[str, TaylorReport], *, title: str = "What a gradient leaves of φ"
                ) -> Figure:
    """The Taylor remainder against the step: it falls as h² where the gradient is right, as h where it is not.

    One line a report, of its first direction, with its last rate; of a single report the odd part too. The grey band
    is rounding; steps become smaller to the right. Made of `gradcheck.taylor.taylor`.

    Raises ValueError: no report.
    """
    named = dict(reports) if isinstance(reports, Mapping) else {"remainder": reports}
    if not named:
        raise ValueError("a Taylor plot needs at least 1 report, got 0")
    first = next(iter(named.values()))
    width = 580 + 110 + LETTER * max(len("rate 1.00"), *map(len, named))
    figure = page(width, 520, title, "R(h) = |φ(θ + h d) − φ(θ) − h ⟨G, d⟩| along a random direction d;  "
                  f"{first.title.removeprefix('Taylor test of ')}")
    ax = box(figure, left=MARGIN + 100, top=HEAD + 14, width=580, height=440)
    walks = {name: r.remainders[0] for name, r in named.items()}
    lines = {name: (walk.steps, walk.remainder, walk.rates) for name, walk in walks.items()}
    if not isinstance(reports, Mapping):
        walk = walks["remainder"]
        lines["odd part"] = (walk.steps, walk.odd, walk.odd_rates)
    floor = max(walk.floor for walk in walks.values())
    last = min((walk.steps[walk.remainder > walk.floor][-1] for walk in walks.values()
                if walk.status == "PASS" and not walk.linear), default=LAST_STEP)
    ax.set(xscale="log", yscale="log", xlabel="step h, halved from left to right", ylabel="remainder, in units of φ",
           xlim=(1.7 * first.remainders[0].steps[0], last / 1.7),
           ylim=(floor / 30, 6 * max(values[0] for _, values, _ in lines.values())))
    ax.axhspan(floor / 30, floor, color="#ececec", zorder=0)
    ax.text(0.01, floor / 1.5, "rounding: not looked at", transform=ax.get_yaxis_transform(), fontsize=10, color=GREY,
            va="top")
    ends = []
    for (name, (steps, values, rates)), colour in zip(lines.items(), SEQUENCE * len(lines), strict=False):
        seen = (steps >= last) & (np.arange(len(steps)) <= len(rates)) & (values > floor)
        ax.plot(steps[seen], values[seen], color=colour, marker="o", markersize=4, label=name)
        rate = f"rate {number(rates[-1], '.2f')}" if len(rates) else "nothing but rounding"
        end = np.flatnonzero(seen)[-1:]
        place = (steps[end[0]], values[end[0]]) if len(end) else (steps[0], floor)
        ends.append((*place, f"{name}\n{rate}", colour))
    _decades(ax, 1, 2)
    _write_right(ax, ends, 56)
    _fan(ax)
    return figure


def _write_right(ax: Axes, ends: list[tuple[float, float, str, str]], apart: float, **how: Any) -> None:
    """The text of each line right of the place (h, value) where it ends; texts at one h that would touch move apart."""
    low, high = np.log10(ax.get_ylim())
    gap = (high - low) * apart / ax.bbox.height
    for h in {end[0] for end in ends}:
        place = np.inf
        for _, value, text, colour in sorted((end for end in ends if end[0] == h), key=lambda end: -end[1]):
            place = min(np.log10(value), place - gap)
            ax.annotate(text, (h, 10**place), xytext=(9, 0), textcoords="offset points", color=colour, va="center",
                        weight="bold", linespacing=1.2, annotation_clip=False, **how)


def _fan(ax: Axes) -> None:
    """Guide lines of slope 1, 2 and 3 from one point in the corner that the lines leave empty."""
    h, value = ax.transData.inverted().transform(ax.transAxes.transform((0.62, 0.95)))
    for p in (1, 2, 3):
        ax.plot([h, h / 10], [value, value / 10**p], **GUIDE)
        ax.annotate(f"slope {p}", (h / 10, value / 10**p), xytext=(4, 0), textcoords="offset points", fontsize=10,
                    color=GREY, va="center")


def _decades(ax: Axes, across: int, up: int) -> None:
    """A tick at every power of ten, or at every second one, and no small ones between."""
    from matplotlib.ticker import LogLocator, NullLocator

    for axis, every in ((ax.xaxis, across), (ax.yaxis, up)):
        axis.set_major_locator(LogLocator(base=10.0**every, numticks=20))
        axis.set_minor_locator(NullLocator())
