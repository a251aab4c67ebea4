"""What is wrong with a traced step, in sentences: dead and saturated units, gradients that vanish or explode, updates
that are too large, layers that do not learn, and what is no number any more.
Each threshold lies outside of what the recipes do when they are well; why it lies there stands beside it.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from npae.trace.statistics import FLAT, Stats

if TYPE_CHECKING:
    from npae.trace.record import LayerTrace, Trace

FEWEST = 16  # pictures: a unit that is on for every fifth one is off in 3 % of such batches, and in 80 % of single ones
DEAD = 0.5  # share of units: after 100 steps conv-ae has 0.28 in a layer that began with 0.09, and learns well
SATURATED = 0.5  # share of numbers, and of the gradient that meets them: mlp-vae paints its black margins with 0.51 of
# its sigmoids at their end, rightly; what tells it from a fault is that 0.05 of the gradient wants to move these
HUNDREDFOLD = 100.0  # mlp-vae loses a factor 65 over its six layers before the first step, and is the recipes' extreme
LARGE = 1.0  # times the weight's own length, in a step; the usual ratio is 1e-3, in the recipes' first steps up to 5e-2
USUAL = 1e-3


def flags(trace: Trace) -> list[str]:
    """A sentence for each thing that is wrong, in the order of the walk; none for a healthy step."""
    found = [sentence for row in trace.rows for sentence in _of_layer(row)]
    return [*found, *_over_the_depth(trace.rows), *_of_params(trace)]


def _of_layer(row: LayerTrace) -> Iterator[str]:
    y, dy = row.activation, row.gradient
    if y is not None and not y.finite:
        yield f"{_called(row)}: its output holds inf or not-a-number, of which no gradient can be made"
    elif dy is not None and not dy.finite:
        yield f"{_called(row)}: the gradient that arrives holds inf or not-a-number"
    rows = 0 if row.output_shape is None else row.output_shape[0]
    if row.dead is not None and row.dead >= DEAD and rows >= FEWEST and y is not None and y.finite:
        units = row.output_shape[-1] if row.output_shape else 0
        yield (f"{_called(row)}: dead units, {round(row.dead * units):,} of {units:,} are 0 for each of the {rows:,} "
               "rows: no gradient passes them, and they stay as they are; lower the learning rate, or look at their "
               "biases")
    if row.saturated is not None and row.saturated >= SATURATED and (row.blocked or 0.0) >= SATURATED:
        yield (f"{_called(row)}: saturated units, {row.saturated:.0%} of the numbers lie where the slope is below "
               f"{FLAT:.0%} of its largest, and {row.blocked:.0%} of the gradient's square arrives there and is lost; "
               "make the weights or the inputs smaller")


def _over_the_depth(rows: list[LayerTrace]) -> Iterator[str]:
    """The gradient's way from the last layer to the first: where it has shrunk or grown a hundredfold.

    Widths change a norm without any fault: a code of 10 numbers takes the part of the gradient that lies in 10
    directions, and 3,136 units behind it share one of 10. Norm and root mean square change by the root of the widths'
    ratio against each other, so of each step only that counts which both agree on.
    """
    way = [(row, row.gradient) for row in reversed(rows) if row.gradient is not None]
    factor, least, most = 1.0, (1.0, way[:1]), (1.0, way[:1])
    for i, ((_, above), (_, below)) in enumerate(pairwise(way), start=1):
        if not (above.norm and below.norm and above.finite and below.finite):
            break  # exact zeros and overflows have sentences of their own
        factor *= _change(above, below)
        least, most = min(least, (factor, way[i:i + 1]), key=_first), max(most, (factor, way[i:i + 1]), key=_first)
    for (size, end), verb, word, cure in ((least, "shrinks", "vanishing", "use larger initial weights or fewer flat "
                                           "activations"), (most, "grows", "exploding", "use smaller initial weights, "
                                           "or clip the gradient (clip_norm)")):
        if max(size, 1 / size) >= HUNDREDFOLD:
            (top, dy), (row, there) = way[0], end[0]
            yield (f"{_called(row)}: a {word} gradient, which {verb} {_times(max(size, 1 / size))} on its way back from "
                   f"{top.name} (norm {dy.norm:.1e}) to here ({there.norm:.1e}), the layers' widths allowed for; {cure}")


def _first(found: tuple[float, object]) -> float:
    return found[0]


def _change(above: Stats, below: Stats) -> float:
    """How a gradient changed from a layer to the one before it, as far as norm and root mean square say the same."""
    a, b = sorted((below.norm / above.norm, below.rms / above.rms))
    return b if b < 1 else a if a > 1 else 1.0


def _of_params(trace: Trace) -> Iterator[str]:
    told = {p.name: (row, p) for row in reversed(trace.rows) for p in row.params}  # a tied one where it stands first
    moved = any(p.update_ratio is not None for _, p in told.values())
    for row, p in reversed(told.values()):
        ratio = (p.update_ratio or 0.0) / max(trace.steps, 1)
        if p.grad_norm == 0:
            yield f"{_called(row)} is frozen: the gradient of {p.name} is exactly 0"
        elif p.update_ratio is None and moved and p.grad_norm is not None:
            yield (f"{_called(row)} is frozen: {p.name} has a gradient of norm {p.grad_norm:.1e} and has not moved, "
                   "where others have")
        if ratio > LARGE and math.isfinite(ratio) and _is_weight(p.name):  # biases begin at 0: any step is large there
            yield (f"{_called(row)}: the update is larger than the weight, {p.name} has moved by {ratio:.3g} times its "
                   f"own length in a step, where about {USUAL:g} is usual: lower the learning rate")


def _is_weight(name: str) -> bool:
    return name.endswith("W")


def _called(row: LayerTrace) -> str:
    return f"{row.name} ({row.kind})"


def _times(size: float) -> str:
    return f"{size:,.0f}-fold" if size < 1e6 else f"{size:.0e}-fold"
