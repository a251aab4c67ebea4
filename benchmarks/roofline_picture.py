"""The picture of roofline.py: where the time of each model's step goes, and how near its products come to the peak.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE, GREEN, PURPLE, BROWN = "#a6cbe8", "#2ca02c", "#9467bd", "#8c564b"
PARTS = {"at the peak": (BLUE, "products, at the machine's peak"), "products beyond": (PALE, "products, beyond it"),
         "other loops": (ORANGE, "loss and optimizer"), "NumPy and Python": ("#c4c4c4", "NumPy and Python")}
KINDS = {"conv2d": (PURPLE, "convolution"), "conv2d_transpose": (GREEN, "transposed convolution"),
         "dense": (BROWN, "dense")}


@styled
def draw(result: dict[str, Any]) -> Figure:
    """Above, a bar a model, its step cut into four parts; below, the kernels that multiply, under the two roofs."""
    t = str(result["threads"])
    peak = result["peaks"][t]["sgemm"]
    note = (f"{result['machine']['cpu']}, {t} threads, float32; the peak is {peak['gflops']:.0f} GF/s, "
            f"{peak['library']}'s own product of {peak['size']} x {peak['size']} matrices")
    figure = page(1180, 960, "Where the time of a training step goes", note)
    bars = box(figure, MARGIN + 130, HEAD + 40, 920, 300)
    _bars(bars, {name: (one["batch"], one["profiles"][t]) for name, one in result["models"].items()})
    _roofs(box(figure, MARGIN + 130, HEAD + 450, 640, 440), result, t)
    return figure


def _bars(ax: Axes, models: dict[str, Any]) -> None:
    """One bar a model, 100 % long; beside it the milliseconds and the part of the peak."""
    for y, (name, (batch, found)) in enumerate(models.items()):
        left = 0.0
        for part, share in found["reached"]["shares"].items():
            colour, label = PARTS[part]
            ax.barh(y, 100 * share, left=left, color=colour, height=0.66, label=label if y == 0 else None)
            if share > 0.045:
                ax.text(left + 50 * share, y, f"{share:.0%}", ha="center", va="center", fontsize=11,
                        color="white" if colour == BLUE else "black")
            left += 100 * share
        ax.text(101.5, y, f"{1e3 * found['step']:.1f} ms", va="center", fontsize=12)
        ax.text(-1.2, y - 0.02, f"{name}\n", ha="right", va="center", fontsize=12, linespacing=0.9)
        ax.text(-1.2, y + 0.06, f"\nbatch {batch}", ha="right", va="center", fontsize=10, color=GREY, linespacing=0.9)
    ax.set(xlim=(0, 100), ylim=(len(models) - 0.5, -0.5), yticks=[])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.153, 1.0), ncols=4, fontsize=12, handlelength=1.1,
              columnspacing=1.6)


def _roofs(ax: Axes, result: dict[str, Any], t: str) -> None:
    """GF/s of the kernels that multiply, over the flops that they do for each byte that they must touch."""
    peak, copies = result["peaks"][t]["sgemm"]["gflops"], list(result["peaks"][t]["copy"].values())
    calls = [call for one in result["models"].values() for call in one["kernels"] if call["flops"]]
    x = [call["flops"] / call["bytes"] for call in calls]
    ends = min(x) / 1.5, max(x) * 1.5
    floor = min(call["gflops"] for call in calls) / 2
    for rate, style, name in ((copies[-1], ":", "copies in memory"), (copies[0], "--", "copies in the cores' caches")):
        corner = peak / rate
        ax.plot([ends[0], min(corner, ends[1])], [ends[0] * rate, min(peak, ends[1] * rate)], style, color=GREY,
                linewidth=1.4, label=f"{name}, {rate:.0f} GB/s")
    ax.plot(ends, [peak, peak], "-", color=GREY, linewidth=1.4, label=f"the peak, {peak:.0f} GF/s")
    for kind, (colour, name) in KINDS.items():
        for phase, face in (("forward", colour), ("backward", "none")):
            some = [i for i, call in enumerate(calls) if call["kernel"] == f"{kind}_{phase}"]
            ax.plot([x[i] for i in some], [calls[i]["gflops"] for i in some], "o" if phase == "forward" else "s",
                    color=colour, markerfacecolor=face, markersize=7, label=f"{name}, {phase}")
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=(floor, 1.6 * peak), ylabel="GF/s",
           xlabel="flops for each byte that must be read or written")
    ax.set_title("Each kernel alone, under the machine's two roofs", loc="left", weight="bold", pad=14)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=11)
