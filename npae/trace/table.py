"""A trace as text: a line for each layer, a line for each parameter, and what is wrong below."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from npae.layers.summary import described

if TYPE_CHECKING:
    from npae.trace.record import LayerTrace, Trace
    from npae.trace.statistics import Stats

DASH = "–"
HEAD = ("layer", "", "output shape", "multiply-adds", "ms forward", "ms back", "y: mean", "dev.", "zeros", "dy: norm",
        "mean", "dev.", "zeros")
PARAMS = ("parameter", "shape", "norm", "gradient's norm", "update / norm")


def table(trace: Trace) -> str:
    """The lines, with columns as wide as their widest entry."""
    lines = [_head(trace), "", *columns([HEAD, *map(_cells, trace.rows)], left=3), "",
             *columns([PARAMS, *_params(trace.rows)], left=2), ""]
    return "\n".join([*lines, *(trace.flags or [well(trace)])])


def well(trace: Trace) -> str:
    """What is said where no flag is."""
    return "nothing wrong is found" if trace.steps else "no backward ran in this block: its gradients are not judged"


def _head(trace: Trace) -> str:
    kind = type(trace.model).__name__
    if not trace.terms:
        return f"{kind}: no loss was computed in this block"
    terms = ", ".join(f"{name} {value:.4g}" for name, value in trace.terms.items())
    ready = " (kernels were made ready on the way: trace once more for the times)" * trace.compiled
    return (f"{kind}: {terms} ({trace.model.likelihood.unit}); {_ms(trace.seconds)} ms forward and back{ready}, "
            f"{trace.rows[0].dtype}")


def _cells(row: LayerTrace) -> tuple[str, ...]:
    shape = DASH if row.output_shape is None else str(row.output_shape)
    y = stat(row.activation)
    dy = stat(row.gradient)
    return (row.name, described(row.layer), shape, f"{row.multiply_adds:,}", _ms(row.forward_seconds),
            _ms(row.backward_seconds), *y[1:], *dy)


def stat(found: Stats | None) -> tuple[str, str, str, str]:
    """Norm, mean, deviation and share of zeros, as text."""
    if found is None:
        return DASH, DASH, DASH, DASH
    return number(found.norm), number(found.mean), number(found.std), f"{found.zeros:.0%}"


def _params(rows: list[LayerTrace]) -> Iterator[tuple[str, ...]]:
    seen: set[str] = set()
    for row in rows:
        for p, told in zip(row.layer.params, row.params, strict=True):
            if told.name not in seen:  # a tied one stands where it is met first
                yield told.name, str(p.value.shape), number(told.norm), number(told.grad_norm), ratio(told.update_ratio)
            seen.add(told.name)


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
