"""What is wrong with a traced step, in sentences: dead and saturated units, gradients that vanish or explode, updates
that are too large, layers that do not learn, and what is no number any more.
Each threshold lies outside of what the recipes do when they are well; why it lies there stands beside it.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from npae.trace.rows import owned
from npae.trace.statistics import FLAT, Stats

if TYPE_CHECKING:
    from npae.trace.record import Trace
    from npae.trace.rows import LayerTrace

FEWEST = 16  # pictures: a unit that is on for every fifth one is off in 3 % of such batches, and in 80 % of single ones
DEAD = 0.75  # share of units: conv-pool-ae has 0.02 in a layer at first, 0.65 after 60 steps and a quarter after 900,
# since a unit comes back where what it is given changes; it learns well
SATURATED = 0.5  # share of numbers, and of the gradient that meets them: mlp-vae paints its black margins with 0.51 of
# its sigmoids at their end, rightly; what tells it from a fault is that 0.05 of the gradient wants to move these
HUNDREDFOLD = 100.0  # mlp-vae loses a factor 65 over its six layers before the first step, and is the recipes' extreme
LARGE = 1.0  # times the weight's own length, in a step; the usual ratio is 1e-3, in the recipes' first steps up to 5e-2
USUAL = 1e-3


def flags(trace: Trace) -> list[str]:
    """A sentence for each thing that is wrong, in the order of the walk; none for a healthy step."""
    found = [sentence for i in range(len(trace.rows)) for sentence in _of_layer(trace.rows, i)]
    return [*_not_finite(trace), *found, *_over_the_depth(trace.rows), *_frozen(trace), *_too_far(trace)]


def _not_finite(trace: Trace) -> Iterator[str]:
    """Where it begins: in the first layer that gave no numbers, or else in the loss, or else on the way back, or else
    in the optimizer's step."""
    for row in trace.rows:
        if row.activation is not None and not row.activation.finite:
            yield (f"{_called(row)}: inf or not-a-number comes in; look at the pictures, and at the layers before"
                   if row.bad_input else
                   f"{_called(row)}: its output holds inf or not-a-number, of which no gradient can be made")
            return
    if not math.isfinite(loss := trace.terms.get("loss", 0.0)):
        yield (f"{_called(trace.rows[-1])}: all layers give numbers, and the loss of them is {loss:g}; look into the "
               "likelihood and the penalties")
        return
    behind = "the gradient of the loss"
    for row in reversed(trace.rows):
        if row.gradient is not None and not row.gradient.finite:
            yield f"{_called(row)}: the gradient that arrives holds inf or not-a-number; look into {behind}"
            return
        behind = f"the dx of {row.name}, and the gradient of the loss"
    for row, own in owned(trace.rows):
        for p in own:
            if p.grad_norm is not None and not math.isfinite(p.grad_norm):
                yield (f"{_called(row)}: the gradient of {p.name} holds inf or not-a-number, and the one that arrives "
                       "does not; look into its backward, and whether zero_grad() was called")
                return
            if p.update_ratio is not None and math.isnan(p.update_ratio) and math.isfinite(p.norm):
                yield (f"{_called(row)}: the step of the optimizer has made inf or not-a-number of {p.name}; lower the "
                       "learning rate")
                return


def _of_layer(walk: list[LayerTrace], i: int) -> Iterator[str]:
    row, y = walk[i], walk[i].activation
    rows = 0 if row.output_shape is None else row.output_shape[0]
    if row.dead is not None and row.dead >= DEAD and rows >= FEWEST and y is not None and y.finite:
        units = row.output_shape[-1] if row.output_shape else 0
        if not _starved(walk, i):
            yield (f"{_called(row)}: dead units, {round(row.dead * units):,} of {units:,} are 0 for each of the "
                   f"{rows:,} rows: no gradient passes them, and they stay as they are unless what comes in changes; "
                   "lower the learning rate, or look at their weights and biases")
        elif not any(_shut(walk, k) for k in range(i)) and not any(_starved(walk, k) for k in range(i)):
            yield (f"{_called(row)}: nothing but zeros comes in, of which its weights cannot learn; look at the "
                   "pictures, and at the layers before")
    if _is_saturated(row):
        yield (f"{_called(row)}: saturated units, {row.saturated:.0%} of the numbers lie where the slope is below "
               f"{FLAT:.0%} of its largest, and {row.blocked:.0%} of the gradient's square arrives there and is lost; "
               "make the weights or the inputs smaller")


def _is_saturated(row: LayerTrace) -> bool:
    return (row.saturated or 0.0) >= SATURATED and (row.blocked or 0.0) >= SATURATED


def _shut(walk: list[LayerTrace], i: int) -> bool:
    """Whether a layer is off in the whole batch, and by itself."""
    return walk[i].dead == 1 and not _starved(walk, i)


def _starved(walk: list[LayerTrace], i: int) -> bool:
    """Whether a layer is off because the one before it gives nothing but zeros: its biases are then 0, and no fault."""
    before = walk[i - 1].activation if i else None
    return walk[i].dead == 1 and before is not None and before.norm == 0


def _over_the_depth(rows: list[LayerTrace]) -> Iterator[str]:
    """The gradient's way from the last layer to the first: where it has shrunk or grown a hundredfold."""
    way = _way(rows)
    if not way:
        return
    (_, top), least, most = way[0], min(way, key=_factor), max(way, key=_factor)
    came = f"on its way back from {top.name} (norm {_norm(top)}) to here"
    if least[0] <= 1 / HUNDREDFOLD:
        flat = [row.name for row in rows[rows.index(least[1]) + 1:] if _is_saturated(row)]
        cure = (f"because of what is saturated at {' and '.join(flat)}" if flat else
                "use larger weights, or fewer flat activations")
        yield (f"{_called(least[1])}: a vanishing gradient, which shrinks {_times(1 / least[0])} {came} "
               f"({_norm(least[1])}), the layers' widths allowed for; {cure}")
    if most[0] >= HUNDREDFOLD:
        yield (f"{_called(most[1])}: an exploding gradient, which grows {_times(most[0])} {came} ({_norm(most[1])}), "
               "the layers' widths allowed for; use smaller weights, or clip the gradient (clip_norm)")


def _way(rows: list[LayerTrace]) -> list[tuple[float, LayerTrace]]:
    """By what factor the gradient has changed from the last layer to each that it reaches.

    Widths change a norm without any fault: a code of 10 numbers takes the part of the gradient that lies in 10
    directions, and 3,136 units behind it share one of 10. Norm and root mean square change by the root of the widths'
    ratio against each other, so of each step only that counts which both agree on.
    """
    back = [(row, row.gradient) for row in reversed(rows) if row.gradient is not None]
    way = [(1.0, row) for row, _ in back[:1]]
    for (_, above), (row, below) in pairwise(back):
        if not (above.norm and below.norm and above.finite and below.finite):
            break  # exact zeros and overflows have sentences of their own
        way.append((way[-1][0] * _change(above, below), row))
    return way


def _factor(place: tuple[float, LayerTrace]) -> float:
    return place[0]


def _norm(row: LayerTrace) -> str:
    return "" if row.gradient is None else f"{row.gradient.norm:.1e}"


def _change(above: Stats, below: Stats) -> float:
    """How a gradient changed from a layer to the one before it, as far as norm and root mean square say the same."""
    a, b = sorted((below.norm / above.norm, below.rms / above.rms))
    return b if b < 1 else a if a > 1 else 1.0


def _frozen(trace: Trace) -> Iterator[str]:
    """Parameters whose gradient is exactly 0, in one sentence: one layer that lets nothing pass stops all before it.
    And those that stayed where others moved."""
    dead = [i for i, row in enumerate(trace.rows) if row.dead == 1]
    # a whole layer is easily off for a few pictures, and then exact zeros are no fault
    by_chance = any((trace.rows[i].output_shape or (0,))[0] < FEWEST for i in dead)
    zero = [] if by_chance else [(row, p.name) for row, own in owned(trace.rows) for p in own if p.grad_norm == 0]
    if zero:
        first = zero[0][0]
        why = "".join(f", as {why}" for why in list(_stops(trace, trace.rows.index(first)))[-1:])
        yield f"{_called(first)} is frozen: {_gradients([name for _, name in zero])} exactly 0{why}"
    moved = any(p.update_ratio is not None for row in trace.rows for p in row.params)
    for row, own in owned(trace.rows):
        if still := [f"{p.name} ({p.grad_norm:.1e})" for p in own if moved and p.grad_norm and p.update_ratio is None]:
            yield (f"{_called(row)} is frozen: {' and '.join(still)} stayed where others moved, in spite of a gradient "
                   "(its norm in brackets)")


def _stops(trace: Trace, first: int) -> Iterator[str]:
    """What lets nothing pass on its way back to the first layer whose gradient is 0."""
    for i, row in enumerate(trace.rows[first:], first):
        if _shut(trace.rows, i):
            yield f"{row.name} lets nothing pass"
        for p in row.params if i > first else ():
            if _is_weight(p.name) and p.norm == 0 and (trace.steps < 2 or p.update_ratio is None):  # in the latest step
                yield f"{p.name} is 0 itself"


def _too_far(trace: Trace) -> Iterator[str]:
    for row, own in owned(trace.rows):
        for p in own:
            ratio = (p.update_ratio or 0.0) / max(trace.steps, 1)
            if ratio > LARGE and math.isfinite(ratio) and _is_weight(p.name):  # biases begin at 0: any step is large
                yield (f"{_called(row)}: the update is larger than the weight, {p.name} has moved by {ratio:.3g} times "
                       f"its own length in a step, where about {USUAL:g} is usual: lower the learning rate")


def _gradients(names: list[str]) -> str:
    """The names with their verb; of many the first and how many there are."""
    if len(names) == 1:
        return f"the gradient of {names[0]} is"
    if len(names) < 4:
        return f"the gradients of {', '.join(names[:-1])} and {names[-1]} are"
    return f"the gradients of {names[0]} and {len(names) - 1} more parameters, up to {names[-1]}, are"


def _is_weight(name: str) -> bool:
    return name.endswith("W")


def _called(row: LayerTrace) -> str:
    return f"{row.name} ({row.kind})"


def _times(size: float) -> str:
    return f"{size:,.0f}-fold" if size < 1e6 else f"{size:.0e}-fold"
