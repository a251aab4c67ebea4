"""Pictures of a gradient through a sample, and of the divergence that a code costs.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, number, page, styled
from npae.figures.backprop import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK = {BLUE: BLUE, ORANGE: "#b35900"}  # for letters, which on white need 4.5 times its darkness


@styled
def estimators(samples: Mapping[str, np.ndarray], truth: float, variances: Mapping[str, tuple[np.ndarray, np.ndarray]],
               *, title: str = "Two gradients through a sample: one mean, two variances", note: str = "") -> Figure:
    """Single-sample estimates of one derivative by two estimators, and their variance by the number of latents.

    Shapes: samples: name -> (draws,); variances: name -> (numbers of latents, variances), both (k,)
    """
    figure = page(950, 420, title, note)
    colours = dict(zip(samples, (BLUE, ORANGE), strict=True))
    marks = dict(zip(samples, "os", strict=True))
    left = box(figure, MARGIN, HEAD + 40, 470, 320)
    reach = np.quantile(np.abs(np.concatenate(list(samples.values())) - truth), 0.97)
    bins = np.linspace(truth - reach, truth + reach, 81).tolist()
    for name, draws in samples.items():
        left.hist(draws, bins, density=True, histtype="stepfilled", edgecolor=DARK[colours[name]], linewidth=1.2,
                  facecolor=(colours[name], 0.5))
    left.axvline(truth, color=INK, linewidth=1.5, linestyle=(0, (4, 3)))
    left.annotate(f"the derivative, {number(truth, '.3g')}", (truth, 0.97), xycoords=("data", "axes fraction"),
                  xytext=(8, 0), textcoords="offset points", va="top", fontsize=10, color=GREY)
    for (name, draws), (across, up) in zip(samples.items(), ((0.04, 0.8), (0.6, 0.46)), strict=True):
        spread = f"{draws.var():,.0f}" if draws.var() > 10 else f"{draws.var():.2g}"
        error = draws.std() / np.sqrt(len(draws))
        left.text(across, up, f"{name}\nmean {number(draws.mean(), '.2f')} ± {error:.2f}\nvariance {spread}",
                  color=DARK[colours[name]], transform=left.transAxes, fontsize=11, weight="bold", va="top",
                  linespacing=1.4)
    left.set(yticks=[], xlabel="estimate from one sample", ylim=(0, 1.15 * left.get_ylim()[1]))
    left.set_title("What single samples say", loc="left", weight="bold", pad=10)
    right = box(figure, MARGIN + 580, HEAD + 40, 360, 320)
    for name, (latents, variance) in variances.items():
        right.plot(latents, variance, marks[name] + "-", color=colours[name])
        middle = len(latents) // 2
        right.annotate(name, (latents[middle], variance[middle]), xytext=(-8, 12), textcoords="offset points",
                       ha="right" if np.ptp(np.log(variance)) > 1 else "center", color=DARK[colours[name]],
                       weight="bold")
    right.set(xscale="log", yscale="log", xlabel="number of latents")
    right.set_xticks(latents, [str(k) for k in latents])
    right.minorticks_off()
    right.margins(y=0.15)
    right.set_title("Their variance, measured", loc="left", weight="bold", pad=10)
    return figure


@styled
def kl_area(z: np.ndarray, q: np.ndarray, p: np.ndarray, closed: float, *,
            title: str = "The KL divergence is the area above 0 less the area below", note: str = "") -> Figure:
    """Two densities, and under them the integrand q log(q / p), whose areas are taken by the trapezoid rule.

    Shapes: z, q and p (k,); closed: the divergence in closed form
    """
    figure = page(860, 500, title, note)
    above = box(figure, MARGIN + 60, HEAD + 10, 780, 180)
    for density, name, colour, side in ((q, "q: the code of a picture", BLUE, 1), (p, "p: the prior", GREY, -1)):
        above.plot(z, density, color=colour, linestyle="-" if side > 0 else "--")
        top = int(np.argmax(density))
        above.annotate(name, (z[top], density[top]), xytext=(22 * side, 2), textcoords="offset points", color=colour,
                       weight="bold", ha="left" if side > 0 else "right")
    above.set(yticks=[], ylim=(0, 1.2 * max(q.max(), p.max())), xlim=(z[0], z[-1]))
    above.tick_params(labelbottom=False)
    below = box(figure, MARGIN + 60, HEAD + 250, 780, 190)
    integrand = q * np.log(q / p)
    below.plot(z, integrand, color=INK, linewidth=1.5)
    areas = []
    for sign, colour in ((1, BLUE), (-1, ORANGE)):
        part = (sign * integrand).clip(0)
        below.fill_between(z, sign * part, color=colour, alpha=0.4, linewidth=0)
        areas.append(float(np.trapezoid(part, z)))
        top = int(np.argmax(part))
        below.annotate(number(sign * areas[-1], "+.2f"), (z[top], sign * part[top]), color=DARK[colour], weight="bold",
                       xytext=(26 * sign, 0), textcoords="offset points", ha="left" if sign > 0 else "right",
                       va="center")
    below.axhline(0, color=INK, linewidth=0.8)
    below.set(xlim=(z[0], z[-1]), xlabel="z")
    below.set_title("q log(q / p)", loc="left", fontsize=12)
    sums = f"{areas[0]:.4f} \N{MINUS SIGN} {areas[1]:.4f} = {areas[0] - areas[1]:.4f} nats"
    below.text(0.03, 0.95, f"{sums}\nclosed form = {closed:.4f} nats", transform=below.transAxes, va="top", fontsize=12,
               linespacing=1.5)
    return figure
