"""The table that `Sequential.summary()` gives: one line a layer, sums below.
It reads only what every layer says of itself: output_shape, params, multiply_adds.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from npae.params import unique

if TYPE_CHECKING:
    from npae.layers.base import Layer, Sequential, Shape

HEAD = ("layer", "output shape", "parameters", "multiply-adds")


def table(net: Sequential, input_shape: Shape) -> str:
    """The lines, with columns as wide as their widest entry."""
    rows = [HEAD, ("input", str(input_shape), "", ""), *_rows(net.layers, input_shape, 0, set())]
    total = sum(p.value.size for p in unique(net.params))
    rows.append(("total", str(net.output_shape(input_shape)), f"{total:,}", f"{net.multiply_adds(input_shape):,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    rule = "-" * len(lines[0])
    return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _rows(layers: Sequence[Layer], shape: Shape, depth: int, seen: set[int]) -> Iterator[tuple[str, str, str, str]]:
    for i, layer in enumerate(layers):
        out = layer.output_shape(shape)
        label = "  " * depth + f"{i} {described(layer)}"
        if children := getattr(layer, "layers", None):
            yield label, str(out), "", ""
            yield from _rows(children, shape, depth + 1, seen)
        else:
            fresh = [p for p in layer.params if id(p) not in seen]  # a tied matrix is counted where it stands first
            seen.update(id(p) for p in layer.params)
            yield label, str(out), f"{sum(p.value.size for p in fresh):,}", f"{layer.multiply_adds(shape):,}"
        shape = out


def described(layer: Layer) -> str:
    """The layer's kind with its activation, as 'Conv2d + relu'."""
    activation = getattr(layer, "activation", None)
    label = getattr(activation, "label", "identity")  # what a user's own layer calls so may be something else
    kind = type(layer).__name__
    return kind if label == "identity" else f"{kind} + {label or type(activation).__name__}"
