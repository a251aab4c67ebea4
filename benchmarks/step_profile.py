"""Where the time of a training step goes: each layer's forward and backward, the loss, the optimizer, Python's share.
"""
from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from steps import BATCHES, Step
from watch import DOOR, LOOPS, PYTHON, WHOSE, Watch, leaves, watching

from npae.layers import Layer


@dataclass
class Row:
    """A part of a step: one phase of a layer, or a line of the objective.

    Attributes: seconds by whose they are; flops that the part's equation asks for (0: nothing to multiply).
    """

    part: str
    what: str
    phase: str
    flops: int = 0
    two_layer_flops: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def profile(step: Step, steps: int = 40) -> dict[str, Any]:
    """{"step": seconds unwatched, "watched": seconds watched, "rows": [...]}, means over the quickest quarter of steps.

    The rows' seconds add up to "watched"; watched and unwatched steps are taken in turn.
    """
    for i in range(BATCHES):
        step(i)
    plain, seen = [], []
    for i in range(0, steps, 4):
        for k in range(4):
            start = time.perf_counter()
            step(i + k)
            plain.append(time.perf_counter() - start)
        with watching(step) as watch:
            for k in range(4):
                watch.seconds, watch.kernels = defaultdict(float), []
                watch.timed(step, "step", "", PYTHON)(i + k)
                seen.append(watch.seconds)
    quick = sorted(seen, key=lambda seconds: sum(seconds.values()))[:max(1, len(seen) // 4)]
    rows = rows_of(step, watch)
    for row in rows:
        for whose in WHOSE:
            row.seconds[whose] = sum(one.get((row.part, row.phase, whose), 0.0) for one in quick) / len(quick)
    plain = sorted(plain)[:max(1, len(plain) // 4)]
    return {"step": sum(plain) / len(plain), "watched": sum(sum(one.values()) for one in quick) / len(quick),
            "rows": [{**vars(row), "total": row.total} for row in rows]}


def rows_of(step: Step, watch: Watch) -> list[Row]:
    """All parts of a step in the order in which it walks them, with their flops and without their seconds."""
    facts = watch.facts
    layers = [layer for layer in leaves(step.model) if (layer.name, "forward") in facts]
    rows = [Row("zero_grad", "grad = 0", "")]
    for layer in layers:
        n, *shape = facts[layer.name, "forward"]
        rows.append(Row(layer.name, title(layer), "forward", *flops(layer, n, shape)))
    rows += [Row("likelihood", repr(step.model.likelihood), "forward"), Row("objective", "KL and the like", "forward")]
    for layer in reversed(layers):
        if (layer.name, "backward") in facts:
            times = 1 + facts[layer.name, "backward"]  # dW, and dx where somebody wants it
            n, *shape = facts[layer.name, "forward"]
            rows.append(Row(layer.name, title(layer), "backward", *(times * f for f in flops(layer, n, shape))))
    return [*rows, Row("objective", "KL and the like", "backward"),
            Row("optimizer", type(step.optimizer).__name__, ""), Row("step", "the loop itself", "")]


def flops(layer: Layer, n: int, shape: Any) -> tuple[int, int]:
    """2 N multiply_adds: of the operations that the layer really does, and of the two layers that it stands for.

    They differ for UpsampleConv2d alone: 16 and not 36 taps a pixel of x for a 3 x 3 kernel.
    """
    done = 2 * n * layer.multiply_adds(tuple(shape))
    if type(layer).__name__ != "UpsampleConv2d":
        return done, done
    h, w, _ = layer.output_shape(tuple(shape))
    return done, 2 * n * h * w * layer.params[0].value.size


def title(layer: Layer) -> str:
    """Its kind and sizes, briefly: Conv2d 8 -> 8, 3 x 3 / 2."""
    sizes: dict[str, Any] = {**vars(layer), **vars(getattr(layer, "partner", layer))}
    ends = [sizes[end] for end in ("in_features", "out_features", "in_channels", "out_channels") if end in sizes]
    if type(layer).__name__.startswith("Tied"):
        ends.reverse()
    text = f"{type(layer).__name__} {' -> '.join(map(str, ends))}".rstrip()
    if "kernel_size" in sizes:
        text += ", {} x {}".format(*sizes["kernel_size"])
        text += f" / {sizes['stride'][0]}" * (sizes["stride"] != (1, 1))
    return text


def table(found: dict[str, Any], peak: float | None = None) -> str:
    """The rows as text: milliseconds, share of the step, GF/s and, where the peak (GF/s) is known, the share of it."""
    head = f"{'part':<15}{'what':<36}{'':<9}{'ms':>8}{'step':>7}" + "".join(f"{whose:>8}" for whose in WHOSE)
    whole = total(found)
    lines = [f"{head}{'GF/s':>8}" + f"{'peak':>6}" * bool(peak)]
    lines += [_line(row, found["watched"], peak) for row in [*found["rows"], whole]]
    rate = whole["flops"] / found["step"] / 1e9
    share = f", {rate / peak:.1%} of the sgemm peak of {peak:.0f}" if peak else ""
    lines.append(f"without stopwatches {1e3 * found['step']:.3f} ms a step: {rate:.1f} GF/s{share}")
    if whole["two_layer_flops"] != whole["flops"]:
        rate = whole["two_layer_flops"] / found["step"] / 1e9
        share = f", {rate / peak:.1%} of it" if peak else ""
        lines.append(f"with UpsampleConv2d counted as the two layers that it stands for: {rate:.1f} GF/s{share}")
    return "\n".join(lines)


def total(found: dict[str, Any]) -> dict[str, Any]:
    """All rows as one."""
    rows = found["rows"]
    return {"part": "sum", "what": "", "phase": "", "total": found["watched"],
            **{key: sum(row[key] for row in rows) for key in ("flops", "two_layer_flops")},
            "seconds": {whose: sum(row["seconds"][whose] for row in rows) for whose in WHOSE}}


def _line(row: dict[str, Any], step: float, peak: float | None) -> str:
    seconds = "".join(f"{1e3 * row['seconds'][whose]:8.3f}" for whose in WHOSE)
    line = f"{row['part']:<15}{row['what'][:35]:<36}{row['phase']:<9}{1e3 * row['total']:8.3f}"
    line += f"{row['total'] / step:7.1%}{seconds}"
    if row["flops"] and row["total"]:
        rate = row["flops"] / row["total"] / 1e9
        line += f"{rate:8.1f}" + (f"{rate / peak:6.0%}" if peak else "")
    return line


def reached(found: dict[str, Any], peak: float) -> dict[str, Any]:
    """{"gflops", "fraction", "two_layer_fraction"} of the step without stopwatches, and its "shares":

    "at the peak": what the products would take at the sgemm peak;   "products beyond": what they take more
    "other loops": loss and optimizer;   "NumPy and Python": all that is not compiled; the four add up to 1
    """
    whole = total(found)
    products = sum(row["seconds"][LOOPS] for row in found["rows"] if row["flops"])
    ideal = min(whole["flops"] / peak / 1e9, products)
    parts = {"at the peak": ideal, "products beyond": products - ideal,
             "other loops": whole["seconds"][LOOPS] - products,
             "NumPy and Python": whole["seconds"][DOOR] + whole["seconds"][PYTHON]}
    rate = whole["flops"] / found["step"] / 1e9
    return {"gflops": rate, "fraction": rate / peak,
            "two_layer_fraction": whole["two_layer_flops"] / found["step"] / 1e9 / peak,
            "shares": {name: seconds / found["watched"] for name, seconds in parts.items()}}
