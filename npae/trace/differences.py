"""Three weights of a layer beside their finite differences, for steps h from large to small.
The page divides anew while a slider moves h, so that the V shows: truncation on the left, rounding on the right.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.models import Model
from npae.params import Param

STEPS = tuple(10.0 ** -k for k in range(13))
PICTURES = 2  # that the loss is taken of: a difference costs two losses


def checks(model: Model, x: np.ndarray, y: np.ndarray | None, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """For each parameter, by name, one or two of its entries, in float64:

        quotient(h) = (phi(w + h) - phi(w - h)) / 2 h,   phi the loss of a few pictures with the same noise each time

    {"entry": "W[2, 0]", "value": w, "analytic": dphi/dw by backward, "plus": [phi(w + h) ...], "minus": [...]}, one phi
    for each h of STEPS. Of a weight the entries with the largest and with the middle |dphi/dw|, of a bias the largest.
    """
    twin = model.to(np.float64)
    x, y = np.asarray(x[:PICTURES], np.float64), None if y is None else y[:PICTURES]

    def phi() -> float:
        return float(twin.loss(x, y, rng=np.random.default_rng(seed))["loss"])

    phi()
    twin.zero_grad()
    twin.backward()
    return {p.name: [_entry(p, index, phi) for index in _places(p.grad)] for p in twin.params}


def _places(grad: np.ndarray) -> list[tuple[int, ...]]:
    """The largest entry of a gradient; of one with two axes or more also the middle one of those that are not 0."""
    order = np.argsort(np.abs(grad), axis=None, kind="stable")
    order = order[np.count_nonzero(grad == 0):] if grad.any() else order
    chosen = [order[-1], order[len(order) // 2]] if grad.ndim > 1 else [order[-1]]
    return [tuple(map(int, np.unravel_index(k, grad.shape))) for k in chosen]


def _entry(p: Param, index: tuple[int, ...], phi: Any) -> dict[str, Any]:
    kept, analytic = p.value[index], float(p.grad[index])
    sides: dict[str, list[float]] = {"plus": [], "minus": []}
    for h in STEPS:
        for side, sign in (("plus", 1), ("minus", -1)):
            p.value[index] = kept + sign * h
            sides[side].append(phi())
    p.value[index] = kept
    return {"entry": f"{p.name.rsplit('.', 1)[-1]}[{', '.join(map(str, index))}]", "value": float(kept),
            "analytic": analytic, **sides}
