"""A trace as text: a line for each layer, a line for each parameter, and what is wrong below."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from npae.layers.summary import described
from npae.trace.rows import owned

if TYPE_CHECKING:
    from npae.trace.record import Trace
    from npae.trace.rows import LayerTrace
    from npae.trace.statistics import Stats

DASH = "–"
WALK = ("layer", "", "output shape", "multiply-adds", "ms forward", "ms back")
PASSES = ("layer", "y: mean", "dev.", "zeros", "dy: norm", "mean", "dev.", "zeros")
WELL = "nothing wrong is found"
UNCHECKED = " (its page also checks backward by finite differences)"
PARAMS = ("parameter", "shape", "norm", "gradient's norm", "update / norm")


def table(trace: Trace) -> str:
    """Who computes what, what passes there, and the parameters; columns are as wide as their widest entry."""
    if not trace.rows:
        return f"{type(trace.model).__name__}: nothing was traced yet, `with` opens the block in which calls are seen"
    lines = [*_head(trace), "", *columns([WALK, *map(_walk, trace.rows)], left=3), "",
             *columns([PASSES, *map(_passes, trace.rows)], left=1), *_unasked(trace.rows), "",
             *columns([PARAMS, *_params(trace.rows)], left=2), ""]
    said = well(trace)
    return "\n".join([*lines, *(trace.flags or [said + UNCHECKED * (said == WELL)])])


def well(trace: Trace) -> str:
    """What is said where no flag is."""
    if not trace.steps:
        return "no backward ran in this block: its gradients are not judged"
    if trace.rows[-1].gradient is None:
        return "a forward came after the last backward, and has no gradients that could be judged"
    return WELL


def _head(trace: Trace) -> list[str]:
    kind = type(trace.model).__name__
    if not trace.terms:
        return [f"{kind}: no loss was computed in this block"]
    terms = ", ".join(f"{name} {value:.4g}" for name, value in trace.terms.items())
    ready = ["Kernels were made ready on the way: trace once more for the times."] * trace.compiled
    return [f"{kind}: {terms} ({trace.model.likelihood.unit})",
            f"{_ms(trace.seconds)} ms forward and back, {trace.rows[0].dtype}", *ready]


def _walk(row: LayerTrace) -> tuple[str, ...]:
    shape = DASH if row.output_shape is None else str(row.output_shape)
    return (row.name, described(row.layer), shape, f"{row.multiply_adds:,}", _ms(row.forward_seconds),
            _ms(row.backward_seconds))


def _passes(row: LayerTrace) -> tuple[str, ...]:
    return (row.name, *stat(row.activation)[1:], *stat(row.gradient))


def stat(found: Stats | None) -> tuple[str, str, str, str]:
    """Norm, mean, deviation and share of zeros, as text."""
    if found is None:
        return DASH, DASH, DASH, DASH
    return number(found.norm), number(found.mean), number(found.std), f"{found.zeros:.0%}"


def _unasked(rows: list[LayerTrace]) -> list[str]:
    """Why the first layers have no gradient beside others that have one."""
    unasked = rows[0].gradient is None and rows[-1].gradient is not None
    return [f"{DASH}: no gradient is asked for there, nothing before has parameters"] * unasked


def _params(rows: list[LayerTrace]) -> Iterator[tuple[str, ...]]:
    for _, own in owned(rows):
        for p in own:
            yield p.name, str(p.shape), number(p.norm), number(p.grad_norm), ratio(p.update_ratio)


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return DASH if value is None else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """An update ratio as text."""
    return DASH if value is None else "from 0" if math.isinf(value) else f"{value:.1e}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def columns(rows: list[tuple[str, ...]], left: int) -> list[str]:
    """Lines with a rule under the head; so many columns stand on their left edge, the others on their right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
