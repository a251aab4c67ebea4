"""Curves: how the losses fell, which directions a code feels, and errors and nats of several models in one plane.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, class_colours, epoch_axis, number, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_TERMS = {"epoch", "step", "loss", "seconds", "lr"}
UNITS = {"kl": "nats per image", "sparsity": "nats", "jac": "squared norm of dh/dx", "decay": "squared weights"}
PANELS = 3  # side by side; more go below
MANY = 30  # points on a curve from which on they are a line without dots
FALL = 10  # from this ratio of first to last on, a long curve's axis is logarithmic
CLIFF = 100  # and from this one on, any curve's: all but its first point would lie on the ground


@styled
def learning_curves(
    history: Sequence[Mapping[str, float]],
    unit: str = "nats per image",
    *,
    per: str = "epoch",
    title: str = "Learning curves",
) -> Figure:
    """The loss after each epoch and, where it has more than one, each of its terms on a panel of its own.

    `history` is one row an epoch: "epoch", "loss", terms such as "recon" and "kl", and the same with "val_" in front.
    `per` is what a row is called: "iteration" for L-BFGS. A curve that falls by far has a logarithmic axis.
    """
    if not history:
        raise ValueError("learning curves need at least one epoch, got 0 rows")
    keys = dict.fromkeys(key for row in history for key in row)
    terms = [key for key in keys if key not in NOT_TERMS and not key.startswith("val_")]
    panels = ["loss", *terms] if len(terms) > 1 else ["loss"]
    across = 2 if len(panels) == 4 else min(PANELS, len(panels))
    down = -(-len(panels) // across)
    units = {key: UNITS.get(key, unit) for key in panels}
    note = f"Means over the pictures{f', in {unit}' if set(units.values()) == {unit} else ''}; " \
           f"coloured numbers: the last {per}"
    figure = page(max(840, 440 * across), 420 * down - 30, title, note)
    width = (figure.bbox.width - 2 * MARGIN) / across
    for i, key in enumerate(panels):
        ax = box(figure, left=MARGIN + i % across * width + 104, top=HEAD + 36 + i // across * 420, width=width - 114,
                 height=300)
        ax.set_title(key, loc="left", weight="bold")
        told = i % across > 0 and units[key] == units[panels[i - 1]]
        ax.set(xlabel=per, ylabel="" if told else units[key])
        _training_and_validation(ax, history, key)
        ax.yaxis.set_label_coords(-84 / (width - 114), 0.5)
        epoch_axis(ax, [row["epoch"] for row in history])
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="upper right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.6)
    return figure


def _training_and_validation(ax: Axes, history: Sequence[Mapping[str, float]], key: str) -> None:
    """The two curves of one term, and their last numbers above the panel."""
    from matplotlib.ticker import MaxNLocator

    right = 0  # where the next last number ends
    far = False
    for name, label, colour, line in (("val_" + key, "validation", ORANGE, "--"), (key, "training", BLUE, "-")):
        rows = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
        if rows:
            ax.plot(*zip(*rows, strict=True), color=colour, linestyle=line, label=label, marker="o",
                    markersize=5 if len(rows) <= MANY else 0)
            ax.annotate(number(rows[-1][1], "#.4g").rstrip("."), (1, 1), xytext=(right, 6), xycoords="axes fraction",
                        textcoords="offset points", ha="right", color=colour)
            right -= 62  # points: a number of four digits
            least = min(value for _, value in rows)
            far = far or (least > 0 and rows[0][1] > (FALL if len(rows) > MANY else CLIFF) * rows[-1][1])
    if far:
        _plain_log(ax)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))


@styled
def jacobian_spectrum(
    values: np.ndarray | Mapping[str, np.ndarray], *, title: str = "Which directions the code feels"
) -> Figure:
    """The singular values of dh/dx, largest first: few large ones mean a code that moves in few directions.

    Shapes: values (N, r), those of N pictures; or one such array a model, by its name
    Units: code units per grey level
    Source: Rifai et al. 2011, 'Contractive auto-encoders', figure 3
    """
    spectra = values if isinstance(values, Mapping) else {"": values}
    for name, s in spectra.items():
        if s.ndim != 2 or s.size == 0:
            raise ValueError(f"a spectrum is an array (N, r) of singular values, got {s.shape} {name}".strip())
    shown = ", ".join(sorted({f"{len(s):,}" for s in spectra.values()}))
    figure = page(860, 490, title, f"Singular values of dh/dx at {shown} pictures; line: median, band: the middle half")
    ax = box(figure, left=MARGIN + 110, top=HEAD + 10, width=730, height=410)
    low_end, top = np.inf, 0.0
    colours, _ = class_colours(len(spectra))
    for i, (name, s) in enumerate(spectra.items()):
        low, median, high = np.quantile(-np.sort(-s, axis=1), (0.25, 0.5, 0.75), axis=0)
        low_end, top = min(low_end, low.min()), max(top, high.max())
        rank = np.arange(1, s.shape[1] + 1)
        ax.fill_between(rank, low, high, color=colours(i), alpha=0.25, linewidth=0)
        ax.plot(rank, median, color=colours(i), label=name, marker="o", markersize=4 if len(rank) <= MANY else 0)
    if np.isfinite(top) and top > 0:
        ax.set_ylim(max(low_end, 1e-6 * top) / 1.5, top * 1.5)
        _plain_log(ax)
    ax.set(xlabel="rank of the singular value", ylabel="code units per grey level")
    epoch_axis(ax, [1, max(s.shape[1] for s in spectra.values())])
    if len(spectra) > 1:
        ax.legend(loc="lower left")
    return figure


@styled
def against_pca(
    ks: Sequence[int],
    mse_ae: Sequence[float],
    mse_pca: Sequence[float],
    *,
    name: str = "autoencoder",
    title: str = "An autoencoder against PCA",
) -> Figure:
    """The error of k numbers a picture: bent by an autoencoder, and straight, the best that a linear code can do.

    Shapes: ks, mse_ae, mse_pca of one length
    Units: mean squared error per pixel, grey levels in [0, 1]
    Raises ValueError: other lengths, or a k below 1.
    """
    if not len(ks) == len(mse_ae) == len(mse_pca) or min(ks, default=0) < 1:
        raise ValueError(f"each k from 1 on needs an error of both, got {len(ks)} k, {len(mse_ae)} errors of the "
                         f"{name} and {len(mse_pca)} of PCA, the least k {min(ks, default=0)}")
    figure = page(860, 490, title, "Test pictures: mean squared error per pixel (grey levels from 0 to 1)")
    ax = box(figure, left=MARGIN + 90, top=HEAD + 10, width=740, height=410)
    order = np.argsort(ks)
    k = np.asarray(ks)[order]
    pca, ae = (np.asarray(errors, float)[order] for errors in (mse_pca, mse_ae))
    ends = ((0, "right", -9), (-1, "left", 9))[-len(k) :]  # a single point is not written twice
    for label, mse, other, colour, line in (("PCA", pca, ae, ORANGE, "--"), (name, ae, pca, BLUE, "-")):
        ax.plot(k, mse, color=colour, linestyle=line, marker="o", label=label)
        for i, ha, side in ends:
            up = mse[i] > other[i]  # the numbers of two near points part upwards and downwards
            ax.annotate(f"{mse[i]:.4f}", (k[i], mse[i]), xytext=(side, 2 if up else -2), textcoords="offset points",
                        ha=ha, va="bottom" if up else "top", color=colour)
    ax.set_xscale("log", base=2)
    _plain_log(ax)
    ax.set_xticks(k, [str(i) for i in k])
    ax.minorticks_off()
    ax.margins(x=0.16, y=0.1)
    ax.set(xlabel="k, numbers a picture", ylabel="mean squared error per pixel")
    ax.legend(loc="lower left")  # errors fall from the upper left to the lower right
    return figure


@styled
def rate_distortion(
    rate: Sequence[float], distortion: Sequence[float], beta: Sequence[float], *,
    title: str = "Nats for the code against nats for the pixels",
) -> Figure:
    """Models trained with different beta: what the code costs (KL), and what the pixels then cost, beta at each point.

    Thin lines join places of equal rate + distortion: one nearer to the corner has the better ELBO.

    Shapes: rate, distortion, beta of one length
    Units: nats per image
    Source: Alemi et al. 2018, 'Fixing a broken ELBO', arXiv:1711.00464
    Raises ValueError: other lengths, or nothing.
    """
    from matplotlib.ticker import MaxNLocator

    if not len(rate) == len(distortion) == len(beta) > 0:
        raise ValueError(f"each beta needs a rate and a distortion, got {len(beta)} beta, {len(rate)} rates and "
                         f"{len(distortion)} distortions")
    figure = page(860, 550, title, "Test pictures, nats per image; at each point its beta; thin lines: equal ELBO")
    ax = box(figure, left=MARGIN + 90, top=HEAD + 10, width=740, height=470)
    order = np.argsort(beta)
    r, d, b = (np.asarray(values, float)[order] for values in (rate, distortion, beta))
    ax.plot(r, d, color=BLUE, marker="o")
    for ri, di, bi in zip(r, d, b, strict=True):
        ax.annotate(f"β = {bi:g}", (ri, di), xytext=(8, 5), textcoords="offset points",
                    weight="bold" if bi == 1 else "normal")
    ax.margins(0.15)
    ax.grid(False)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    for total in MaxNLocator(8).tick_values(left + low, right + high):
        ax.plot([left, right], [total - left, total - right], color="#d0d0d0", linewidth=0.8, zorder=0)
        x = max(left, total - high)  # where the line comes in: through the left side, or from above
        if x < right and total - x > low:
            ax.annotate(number(-total, "g"), (x, total - x), xytext=(6, 0), textcoords="offset points", fontsize=9,
                        color=GREY, va="center" if x == left else "top",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=0)
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="rate: KL of the code, nats per image",
           ylabel="distortion: reconstruction, nats per image")
    return figure


def _plain_log(ax: Axes) -> None:
    """A logarithmic y axis whose ticks are plain numbers (0.02), not powers, as far as they are short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def plain(value: float, _: Any) -> str:
        if value >= 1e5:
            return f"$10^{{{np.log10(value):.0f}}}$"
        return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 1000 * low else (1, 2, 5), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="y", which="minor", color=GREY)
