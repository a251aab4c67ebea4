"""Where inf or not-a-number came from, asked once a loss is not finite: the pictures, a parameter, a layer or a term.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npae.data.batches import to_float
from npae.layers.base import Layer, Sequential
from npae.optim import Optimizer


def check_loss(loss: float, where: str, model: Any, x: np.ndarray, y: np.ndarray | None = None,
               terms: Mapping[str, float] | None = None) -> None:
    """Raises ValueError: a loss that is not finite; it says where that was, and names the culprit."""
    if not math.isfinite(loss):
        found = culprit(model, to_float(x, model.theta.dtype), y, terms)
        raise ValueError(f"the loss is {loss} {where}: use a smaller learning rate, and look at the data"
                         + (f" ({found})" if found else ""))


def check_moments(optimizer: Optimizer, where: str) -> None:
    """Raises ValueError: a moment that has overflowed. It holds numbers of theta where they are, and no loss shows it.
    """
    for name, moment in optimizer.moments.items():
        if bad := int((~np.isfinite(moment)).sum()):
            raise ValueError(f"{type(optimizer).__name__}'s {name} is not finite in {bad} of {moment.size} numbers "
                             f"{where}: clip the gradient (clip_norm), or use a smaller learning rate")


def culprit(model: Any, x: np.ndarray, y: np.ndarray | None = None, terms: Mapping[str, float] | None = None) -> str:
    """A sentence without its end that names the first thing that is not finite on the way of this batch; "" for none.

    In the order of cause and effect: the pictures, the parameters, the layers (without their noise), the terms of the
    loss. Of several parameters the one nearest to the loss is named, since a gradient goes from there to the others.
    Shapes: x (N, H, W, C), the batch as `model.loss` was given it; terms: what the loss returned
    """
    try:
        with np.errstate(all="ignore"):
            return _in_pictures(x) or _in_parameters(model) or _in_layers(model, x, y) or _in_terms(terms or {})
    except Exception:  # a loss that is not finite is to be told, whatever else is wrong
        return ""


def _in_pictures(x: np.ndarray) -> str:
    bad = ~np.isfinite(x)
    if not bad.any():
        return ""
    pictures = np.flatnonzero(bad.reshape(len(x), -1).any(axis=1))
    return (f"the pictures of this batch are not finite in {bad.sum()} of {x.size} numbers, first in picture "
            f"{pictures[0]} of 0 to {len(x) - 1}")


def _in_parameters(model: Any) -> str:
    bad = [p for p in model.params if not np.isfinite(p.value).all()]
    if not bad:
        return ""
    p = bad[-1]
    others = f", as {len(bad) - 1} more before it" if len(bad) > 1 else ""
    return (f"the parameter {p.name} is not finite in {(~np.isfinite(p.value)).sum()} of {p.value.size} numbers"
            f"{others}, by the step before this one or from the beginning")


def _in_layers(model: Any, x: np.ndarray, y: np.ndarray | None) -> str:
    for net in (model.encoder, model.decoder):
        net.give_rng(None)
    h = model._encoder_input(x, y)
    for layer in _leaves(model.encoder):
        h = layer.forward(h)
        if found := _in_output(layer, h):
            return found
    z = model._decoder_input(model.encode(x, y), y)
    for layer in _leaves(model.decoder):
        z = layer.forward(z)
        if found := _in_output(layer, z):
            return found
    return ""


def _in_output(layer: Layer, y: np.ndarray) -> str:
    bad = int((~np.isfinite(y)).sum())
    return f"{layer} is the first layer whose output is not finite, in {bad} of {y.size} numbers" if bad else ""


def _in_terms(terms: Mapping[str, float]) -> str:
    bad = [name for name, value in terms.items() if name != "loss" and not np.isfinite(value)]
    return f"every layer's output is finite, and the loss's {' and '.join(bad)} not" if bad else ""


def _leaves(net: Sequential) -> Iterator[Layer]:
    """The layers one after another, those of inner Sequentials in their place."""
    return (layer for layer in net.walk() if not isinstance(layer, Sequential))
