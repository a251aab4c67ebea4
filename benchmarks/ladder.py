"""One convolution climbed rung by rung, from seven loops in Python to the kernel that npae trains with: what does each
idea buy?

    python benchmarks/ladder.py [--json FILE] [--picture FILE.png] [--batch 16] [--rounds 15]

It is the middle layer of conv-vae: pictures of 14 x 14 pixels and 64 channels, 3 x 3 taps, 64 channels out, float32.
Every rung (`ladder_rungs.py`) is verified before it is timed, and timed with one thread and with two; half a minute.
The machine's peak is the best that np.dot reaches on large square matrices, in the same run.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding
import numba
import numpy as np
from ladder_rungs import RUNGS, Rung, Work, make_work, verify
from threadpoolctl import ThreadpoolController

from npae import kernels
from npae.canvas import BLUE, GREY, HEAD, MARGIN, ORANGE, box, page, styled
from npae.figures.files import save
from npae.kernels.geometry import window_geometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, CHANNELS, KERNEL = 14, 64, 3  # conv-vae's third convolution
THREADS = 2  # one, and then as many as this
SIDES = 1024, 1536, 2048  # of the square matrices that the peak is measured with
TURN = 0.01  # seconds of calls in a turn, at least
NAP = 0.05  # seconds: BLAS's threads wait awake for a while after their work, and would be in the way of the next rung


def seconds(call: Callable[[], object], turn: float = TURN) -> float:
    """Seconds a call, the mean of a turn."""
    calls, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < turn or not calls:
        call()
        calls += 1
    return spent / calls


def peak(sides: tuple[int, ...] = SIDES, turn: float = TURN) -> float:
    """The most floating-point operations a second that np.dot reaches on square float32 matrices."""
    best = 0.0
    for side in sides:
        A = np.random.default_rng(0).standard_normal((side, side), np.float32)
        best = max(best, 2 * side**3 / seconds(partial(np.dot, A, A, np.empty_like(A)), turn))
    return best


def measure(batch: int = 16, rounds: int = 15, size: int = SIZE, channels: int = CHANNELS,
            sides: tuple[int, ...] = SIDES, turn: float = TURN) -> dict[str, Any]:
    """Verify every rung, then time all of them in turn, round after round; of each the best turn counts.

    Units: seconds of the whole work (of a slow rung scaled to it); flops a second (peak).
    """
    work = make_work(batch, channels, channels, window_geometry(size, KERNEL))
    rows = [{"name": rung.name, "buys": rung.buys, "layer": rung.layer, "error": verify(rung, work.for_rung(rung)),
             "scaled": work.flops / work.for_rung(rung).flops, "seconds": {}} for rung in RUNGS]
    peaks, blas, before = {}, ThreadpoolController(), numba.get_num_threads()
    for _ in range(rounds):
        for t in range(1, min(THREADS, numba.config.NUMBA_NUM_THREADS) + 1):
            kernels.set_threads(t)
            with blas.limit(limits=t, user_api="blas"):
                peaks[str(t)] = max(peak(sides, turn), peaks.get(str(t), 0))
            for rung, row in zip(RUNGS, rows, strict=True):
                if t == 1 or not rung.slow:
                    spent = row["scaled"] * _turn(rung, work.for_rung(rung), t, turn, blas)
                    row["seconds"][str(t)] = min(spent, row["seconds"].get(str(t), math.inf))
    kernels.set_threads(before)
    return {"benchmark": "ladder", "machine": _machine(), "versions": _versions(), "rounds": rounds,
            "flops": work.flops, "batch": batch, "size": size, "channels": channels, "kernel": KERNEL, "peak": peaks,
            "rungs": rows}


def _turn(rung: Rung, work: Work, threads: int, turn: float, blas: ThreadpoolController) -> float:
    """Seconds a call; the threads are Numba's, or for a rung of NumPy's those of its BLAS."""
    with blas.limit(limits=threads if rung.numpy_blas else 1, user_api="blas"):
        time.sleep(NAP)
        return seconds(lambda: work.run(rung), turn)


def _machine() -> dict[str, Any]:
    """The processor as LLVM knows it, and how many of its cores there are for us."""
    return {"cpu": llvmlite.binding.get_host_cpu_name(), "cores": os.cpu_count(), "system": platform.platform()}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}


# ---- what is told of it

def rate(result: dict[str, Any], rung: dict[str, Any], threads: int) -> float:
    """Floating-point operations a second; NaN where the rung was not timed with so many threads."""
    return result["flops"] / rung["seconds"].get(str(threads), math.nan)


def gains(result: dict[str, Any]) -> list[float]:
    """Times the rung before, with one thread; NaN for the first one and where the work is another (bias and ReLU)."""
    pairs = zip(result["rungs"], result["rungs"][1:], strict=False)
    return [math.nan, *(low["seconds"]["1"] / high["seconds"]["1"] if low["layer"] == high["layer"] else math.nan
                        for low, high in pairs)]


def markdown(result: dict[str, Any]) -> str:
    """The table of the README, and under it what its figures are."""
    lines = ["| rung | what it buys | time | GF/s | × the rung before | of the peak | GF/s, 2 threads | of the peak |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for rung, gain in zip(result["rungs"], gains(result), strict=True):
        cells = [rung["name"], rung["buys"], _time(rung["seconds"]["1"])]
        for threads in (1, 2):
            speed = rate(result, rung, threads)
            share = speed / result["peak"].get(str(threads), math.nan)
            cells += [_number(speed / 1e9), *([_number(gain)] if threads == 1 else []), _percent(share)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _note(result), ""])


def _note(r: dict[str, Any]) -> str:
    """What the table's figures are."""
    slow = "".join(f"Of {rung['name']} 1/{rung['scaled']:,.0f} of the work is timed, and scaled. "
                   for rung in r["rungs"] if rung["scaled"] > 1)
    peaks = " and ".join(f"{_number(speed / 1e9)} GF/s with {_threads(t)}" for t, speed in r["peak"].items())
    return (f"{r['size']} x {r['size']} pixels, {r['channels']} channels to {r['channels']}, {r['kernel']} x "
            f"{r['kernel']} taps, a batch of {r['batch']}, float32: {r['flops'] / 1e6:,.0f} million floating-point "
            f"operations (bias and ReLU not counted). {slow}The peak is what np.dot reaches on large "
            f"square matrices in the same run: {peaks}. Of each the best of {r['rounds']} turns; one run on "
            f"{r['machine']['cpu']}, {r['machine']['cores']} cores, Numba {r['versions']['numba']}.")


def _threads(t: str) -> str:
    return f"{t} thread{'s' * (t != '1')}"


def _time(spent: float) -> str:
    """Three digits, in s, ms or µs."""
    unit, size = next((u, s) for u, s in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)) if spent >= s or s == 1e-6)
    return f"{_number(spent / size)} {unit}"


def _number(value: float) -> str:
    """Three digits and never an exponent; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value < 100 else f"{value:,.0f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %"


@styled
def picture(result: dict[str, Any]) -> Figure:
    """Bars of GF/s on a logarithmic axis, with one thread and with two; dashed lines are the machine's peaks."""
    rungs, peaks, colours = result["rungs"], result["peak"], (BLUE, ORANGE)
    left, wide, high = 390, 660, 64 * len(rungs)
    figure = page(left + wide + 110, high + 96, f"One convolution: from {_time(rungs[0]['seconds']['1'])} to "
                  f"{_time(rungs[-1]['seconds']['1'])} a batch, with one thread",
                  f"{result['size']} x {result['size']} pixels, {result['channels']} channels to {result['channels']}, "
                  f"{result['kernel']} x {result['kernel']} taps, a batch of {result['batch']}, float32")
    ax = box(figure, MARGIN + left, HEAD + 34, wide, high)
    ax.set(xscale="log", xlabel="billions of floating-point operations a second", ylim=(len(rungs) - 0.5, -0.5),
           xlim=(0.3 * rate(result, rungs[0], 1) / 1e9, 2.5 * max(peaks.values()) / 1e9), yticks=[])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    for i, (t, colour) in enumerate(zip(peaks, colours, strict=False)):
        speeds = [rate(result, rung, int(t)) / 1e9 for rung in rungs]
        bars = ax.barh(np.arange(len(rungs)) + 0.38 * i - 0.19, speeds, 0.36, color=colour, label=_threads(t))
        _write_on(ax, bars, speeds)
        ax.axvline(peaks[t] / 1e9, color=colour, linestyle="--", linewidth=1.2, zorder=0)
    ax.text(1, 1.01, "dashed: the machine's peak", transform=ax.transAxes, ha="right", va="bottom", fontsize=10,
            color=GREY)
    ax.legend(loc="upper left", bbox_to_anchor=(0.28, 1), ncols=2)
    _write_beside(ax, result)
    return figure


def _write_on(ax: Axes, bars: Any, speeds: list[float]) -> None:
    """The number of each bar, inside where it is long enough."""
    low, high = ax.get_xlim()
    for bar, speed in zip(bars, speeds, strict=True):
        if not math.isnan(speed):
            inside = math.log(speed / low) > 0.15 * math.log(high / low)
            ax.annotate(_number(speed), (speed, bar.get_y() + 0.18), (-5 if inside else 5, 0),
                        textcoords="offset points", ha="right" if inside else "left", va="center", fontsize=10,
                        color="white" if inside else "black")


def _write_beside(ax: Axes, result: dict[str, Any]) -> None:
    """Left of the bars what the rungs are, right of them what each gains on the one before."""
    across = ax.get_yaxis_transform()
    ax.text(1.02, -0.62, "× the rung\nbefore", transform=across, fontsize=10, color=GREY, va="bottom")
    for i, (rung, gain) in enumerate(zip(result["rungs"], gains(result), strict=True)):
        ax.text(-0.015, i - 0.17, rung["name"], transform=across, ha="right", va="center", weight="bold")
        ax.text(-0.015, i + 0.2, rung["buys"], transform=across, ha="right", va="center", fontsize=10, color=GREY)
        if not math.isnan(gain):
            ax.text(1.02, i - 0.19, f"× {_number(gain)}", transform=across, va="center", color=BLUE)


def main() -> None:
    """Climb, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--picture", type=Path, help="draw them there, as a PNG")
    parser.add_argument("--batch", type=int, default=16, help="pictures (16)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each rung, the best of which counts (15)")
    chosen = parser.parse_args()
    result = measure(chosen.batch, chosen.rounds)
    print(markdown(result))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.picture:
        save(picture(result), chosen.picture)


if __name__ == "__main__":
    main()
