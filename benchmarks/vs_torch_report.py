"""What vs_torch.py makes of its times: ratios, lines to print, the README's table, a picture.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from side_by_side import Times, geometric_mean, ratio

from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, page, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, JAX = "npae", "JAX jit"
RATIOS = {"ratio": "the median of each round's ratio", "best": "the fastest turn by the fastest", "jax": "of JAX"}
MEAN = "geometric mean"
BAR, GAP, LEFT, WIDE = 30, 22, 180, 640  # pixels: a bar's height, the room between models, names, the axis' width
LEGEND, RIGHT = 36, 200  # pixels above the bars, and for the longest mode's name
NARROW = 0.72  # of BAR: what is painted
Result = dict[str, Any]


# ---- numbers

def compared(steps: Times) -> Result:
    """npae beside PyTorch's fastest mode (by its median step), and beside JAX."""
    found: Result = {}
    modes = [name for name in steps if name not in (OURS, JAX)]
    if modes:
        peer = min(modes, key=lambda name: median(steps[name]))
        found = {"peer": peer, "ratio": ratio(steps, peer, OURS), "best": min(steps[peer]) / min(steps[OURS])}
    if JAX in steps:
        found["jax"] = ratio(steps, JAX, OURS)
    return found


def summary(runs: Sequence[Mapping[str, Result]]) -> Result:
    """For each model the medians over the repeats, and how far they spread; the geometric mean over the models."""
    models = {model: over_repeats([run[model] for run in runs]) for model in runs[0]}
    found: Result = {"models": models}
    for key in ("ratio", "best", "jax"):
        means = [geometric_mean([one[key] for one in run.values()]) for run in runs
                 if all(key in one for one in run.values())]
        if means:
            found[key], found[f"{key}_range"] = median(means), [min(means), max(means)]
    return found


def over_repeats(runs: Sequence[Result]) -> Result:
    """Medians over the repeats of one model's figures, in seconds and ratios."""
    names = [name for name in runs[0]["steps"] if all(name in run["steps"] for run in runs)]
    found: Result = {
        "batch": runs[0]["batch"],
        "median": {name: median(median(run["steps"][name]) for run in runs) for name in names},
        "fastest": {name: min(min(run["steps"][name]) for run in runs) for name in names}}
    found["images"] = {name: runs[0]["batch"] / found["median"][name] for name in names}
    for key in ("ratio", "best", "jax"):
        values = [run[key] for run in runs if key in run]
        if values:
            found[key], found[f"{key}_range"] = median(values), [min(values), max(values)]
    peers = [run["peer"] for run in runs if "peer" in run]
    if peers:
        found["peer"] = max(dict.fromkeys(peers), key=peers.count)
    return found


# ---- words

def line(model: str, one: Result) -> str:
    """What one run of one model found."""
    rows = [f"  {model}, batch {one['batch']}"]
    for name, times in one["steps"].items():
        text = (f"    {name:29s} best {1e3 * min(times):8.3f} ms   median {1e3 * median(times):8.3f} ms   "
                f"{one['batch'] / median(times):9.0f} images/s")
        if name != OURS:
            text += f"   ÷ npae {ratio(one['steps'], name, OURS):5.2f}"
        rows.append(text + "   <- the peer" * (name == one.get("peer")))
    return "\n".join(rows)


def conclusion(found: Result) -> str:
    """The ratios over all repeats."""
    rows = [f"    {model:14s} {spread(one, 'ratio')}   fastest turn by fastest {one['best']:.2f}   {one['peer']}"
            for model, one in found["models"].items() if "ratio" in one]
    if "ratio" in found:
        rows.append(f"    {MEAN} {spread(found, 'ratio')}   fastest turn by fastest {found['best']:.2f}")
    if "jax" in found:
        rows.append(f"    {MEAN} {spread(found, 'jax')}   {JAX}")
    return "\n".join(["  ÷ npae, median of the runs (least to most)", *rows, ""]) if rows else ""


def spread(found: Result, key: str) -> str:
    """2.31 (2.25 to 2.36); a dash where there is none."""
    if key not in found:
        return "–"
    low, high = found[f"{key}_range"]
    return f"{found[key]:.2f} ({low:.2f} to {high:.2f})"


def markdown(result: Result) -> str:
    """The README's table: times with the first number of threads, ratios with each."""
    by_threads = {n: one["summary"] for n, one in result["threads"].items()}
    first = next(iter(by_threads.values()))
    ratios = {f"PyTorch ÷ npae, {threads(n)}": (found, "ratio") for n, found in by_threads.items() if "ratio" in found}
    ratios |= {f"JAX ÷ npae, {threads(n)}": (found, "jax") for n, found in by_threads.items() if "jax" in found}
    peers = any("peer" in one for one in first["models"].values())
    head = ["model", "batch", "npae, ms", *["PyTorch's best, ms", "mode"] * peers, "npae, images/s", *ratios]
    rows = []
    for model, one in first["models"].items():
        peer = one.get("peer")
        theirs = [f"{1e3 * one['median'][peer]:.2f}", peer.removeprefix("torch.")] if peer else ["–", "–"]
        rows.append([f"`{model}`", str(one["batch"]), f"{1e3 * one['median'][OURS]:.2f}", *theirs * peers,
                     f"{one['images'][OURS]:,.0f}",
                     *(spread(found["models"][model], key) for found, key in ratios.values())])
    if ratios:
        blanks = [""] * (len(head) - len(ratios) - 1)
        rows.append([f"**{MEAN}**", *blanks, *(f"**{spread(found, key)}**" for found, key in ratios.values())])
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n\n" + measured_on(result) + "\n"


def threads(n: str) -> str:
    """1 thread, 2 threads."""
    return f"{n} thread{'s' * (n != '1')}"


def measured_on(result: Result) -> str:
    """How many runs, on what, with which versions."""
    facts, made = result["machine"], result["versions"]
    runs = {len(one["repeats"]) for one in result["threads"].values()}
    shown = ", ".join(f"{name} {made[key]}" for key, name in (
        ("torch", "PyTorch"), ("jax", "JAX"), ("numba", "Numba"), ("numpy", "NumPy")) if key in made)
    missing = "" if "torch" in made else " PyTorch was not installed."
    return (f"*Median of {max(runs)} side-by-side run{'s' * (max(runs) > 1)} (least to most); {facts['cpu']}, "
            f"{facts['cores']} cores, {facts['vectors']}; {shown}.{missing}*")


# ---- the picture

@styled
def picture(result: Result) -> Figure:
    """A bar for each model and number of threads: how many times as long PyTorch's best mode takes.

    Raises ValueError: no ratios.
    """
    by_threads = {n: one["summary"] for n, one in result["threads"].items() if "ratio" in one["summary"]}
    if not by_threads:
        raise ValueError("there is nothing to draw: the result has 0 ratios to PyTorch; name a Python that has it with "
                         "--torch-python")
    models = [*next(iter(by_threads.values()))["models"], MEAN]
    pitch = len(by_threads) * BAR + GAP
    note = (f"PyTorch's time ÷ npae's, in turn on the same {result['machine']['cores']} cores: median of the runs, and "
            "their least and most")
    figure = page(LEFT + WIDE + RIGHT, LEGEND + len(models) * pitch + 56,
                  "A training step beside PyTorch's best CPU mode", note)
    ax = box(figure, MARGIN + LEFT, HEAD + LEGEND, WIDE, len(models) * pitch)
    colours = dict(zip(by_threads, (BLUE, ORANGE, GREY), strict=False))
    most = max(_of(found, model)["ratio_range"][1] for found in by_threads.values() for model in models)
    for i, model in enumerate(models):
        for j, (n, found) in enumerate(by_threads.items()):
            _bar(ax, _of(found, model), i * pitch + GAP / 2 + (j + 0.5) * BAR, colours[n], most)
        ax.text(-0.012 * 1.08 * most, (i + 0.5) * pitch, model, ha="right", va="center", fontsize=12,
                weight="bold" if model == MEAN else "normal")
    _axis(ax, len(models) * pitch, most)
    for k, n in enumerate(by_threads):
        ax.annotate(f"■ {threads(n)} each", (0, 1), (140 * k, 8), "axes fraction", textcoords="offset points",
                    fontsize=11, color=colours[n])
    return figure


def _of(found: Result, model: str) -> Result:
    """A model's figures, or those of the mean."""
    return found if model == MEAN else found["models"][model]


def _bar(ax: Axes, one: Result, y: float, colour: str, most: float) -> None:
    """The bar with its spread, its number, and the mode that was PyTorch's best."""
    low, high = one["ratio_range"]
    ax.barh(y, one["ratio"], NARROW * BAR, color=colour)
    ax.plot([low, high], [y, y], color="black", linewidth=1.5, solid_capstyle="butt")
    ax.plot([low, low, high, high], [y - 4, y + 4, y - 4, y + 4], "k|", markersize=7, linestyle="none")
    mode = one.get("peer", "")
    ax.text(high + 0.015 * most, y, f"{one['ratio']:.2f}", ha="left", va="center", fontsize=12, weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # over the line at 1
    ax.text(high + 0.115 * most, y, mode, ha="left", va="center", fontsize=10, color=GREY)


def _axis(ax: Axes, height: float, most: float) -> None:
    """From 0, with the line at 1 where both are equally fast."""
    ax.set(xlim=(0, 1.08 * most), ylim=(height, 0), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    ax.axvline(1, color="black", linewidth=1.5, linestyle=(0, (4, 3)))
    ax.set_xlabel("times as fast as PyTorch (1: as fast)")
