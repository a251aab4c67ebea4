"""Three weights of a layer beside their finite differences, for steps h from large to small.
The page divides anew while a slider moves h, so that the V shows: truncation on the left, rounding on the right.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.models import Model
from npae.params import Param
from npae.trace.rows import owned

if TYPE_CHECKING:
    from npae.trace.rows import LayerTrace, ParamTrace

STEPS = tuple(10.0 ** -k for k in range(13))
PICTURES = 2  # that the loss is taken of: a difference costs two losses
SMALL = 1e-3  # steps h within which a curve is straight enough
ROUNDING = 16 * 2.0**-52  # of a loss, which is a sum of many terms in float64
CLOSE = 1e-2  # of the gradient: a wrong factor is further off, and rounding may have a tenth of it


def checks(model: Model, x: np.ndarray, y: np.ndarray | None, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """For each parameter, by name, one or two of its entries, in float64:

        quotient(h) = (phi(w + h) - phi(w - h)) / 2 h,   phi the loss of a few pictures with the same noise each time

    {"entry": "W[2, 0]", "value": w, "analytic": dphi/dw by backward, "phi": phi(w), "plus": [phi(w + h) ...],
    "minus": [...], "wrong": None}, one of plus and minus for each h of STEPS. Of a weight the entries with the largest
    and with the middle |dphi/dw|, of a bias the largest. "wrong": what the differences give where backward gives
    something else, also with every ReLU and max held on its side: in a deep net all steps may lie beyond the kinks.
    """
    twin = model.to(np.float64)
    x, y = np.asarray(x[:PICTURES], np.float64), None if y is None else y[:PICTURES]

    def phi() -> float:
        return float(twin.loss(x, y, rng=np.random.default_rng(seed))["loss"])

    middle = phi()
    twin.zero_grad()
    twin.backward()
    branch = twin.branch_signature()
    found = {p.name: [_entry(p, index, phi, middle) for index in _places(p.grad)] for p in twin.params}
    twin.hold(branch)
    for p in twin.params:
        for index, entry in zip(_places(p.grad), found[p.name], strict=True):
            if disagree(entry) is not None:
                entry["wrong"] = disagree(_entry(p, index, phi, middle))
    return found


def disagree(entry: Mapping[str, Any]) -> float | None:
    """What the differences give where backward gives something else; None where they agree or cannot tell.

    A step h can tell where it is SMALL and the rounding of phi, divided by it, is below CLOSE / 10 of the gradient. On
    a kink backward takes the slope of one side, so the quotient of either side will do.
    """
    best, found = CLOSE, None
    for h, plus, minus in zip(STEPS, entry["plus"], entry["minus"], strict=True):
        quotients = [(plus - minus) / (2 * h), (plus - entry["phi"]) / h, (entry["phi"] - minus) / h]
        scale = max(abs(entry["analytic"]), abs(quotients[0]))
        if h > SMALL or not ROUNDING * abs(entry["phi"]) / h < CLOSE / 10 * scale:  # not-a-number cannot tell
            continue
        error = min(abs(quotient - entry["analytic"]) for quotient in quotients) / scale
        if error <= CLOSE:
            return None
        if found is None or error < best:
            best, found = error, quotients[0]
    return found


def disagreements(rows: list[LayerTrace], found: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    """A sentence for the layer nearest to the loss that has a weight whose gradient is not what the differences say.

    Those before it are handed what comes through it, and may be right themselves.
    """
    own = list(owned(rows))
    wrong = [(i, p, entry) for i, (_, params) in enumerate(own) for p in params for entry in found[p.name]
             if entry["wrong"] is not None]
    if not wrong:
        return
    last = max(one[0] for one in wrong)
    row, (_, p, entry) = rows[last], next(one for one in wrong if one[0] == last)
    before = len({one[0] for one in wrong}) - 1
    suspects = _suspects(own, last, p.name)
    inherit = f"; {before} more before it may have inherited theirs" if before else ""
    yield (f"{row.name} ({row.kind}): a wrong gradient, backward gives {entry['analytic']:.6g} for {entry['entry']} "
           f"where finite differences give {entry['wrong']:.6g}; look into its backward, {suspects}{inherit}")


def _suspects(own: list[tuple[LayerTrace, list[ParamTrace]]], k: int, name: str) -> str:
    """What else a wrong gradient of layer k may come from: layers that share the weight, the dx of those behind it, up
    to the first with parameters, whose right gradients say that what arrives there is right, and who holds any of them.
    """
    behind = [row for row, _ in own[k + 1:]]
    first = next((n for n, (_, params) in enumerate(own[k + 1:], 1) if params), len(behind))
    shared = [row.name for row in behind if any(p.name == name for p in row.params) and not _holds(row, [own[k][0]])]
    holders = [row for row in behind[first:] if _holds(row, [own[k][0], *behind[:first]])]
    parts = [f"that of {' and '.join(shared)}, which shares it"] * bool(shared)
    parts += [f"the dx of {' and '.join(row.name for row in (*behind[:first], *holders))}"] * bool(behind)
    return ", ".join([*parts, "and the gradient of the loss"])


def _holds(row: LayerTrace, others: Sequence[LayerTrace]) -> bool:
    layers = [other.layer for other in others]
    return any(layer in layers for layer in row.layer.walk())


def _places(grad: np.ndarray) -> list[tuple[int, ...]]:
    """The largest entry of a gradient; of one with two axes or more also the middle one of those that are not 0."""
    order = np.argsort(np.abs(grad), axis=None, kind="stable")
    order = order[np.count_nonzero(grad == 0):] if grad.any() else order
    chosen = [order[-1], order[len(order) // 2]] if grad.ndim > 1 else [order[-1]]
    return [tuple(map(int, np.unravel_index(k, grad.shape))) for k in chosen]


def _entry(p: Param, index: tuple[int, ...], phi: Any, middle: float) -> dict[str, Any]:
    kept, analytic = p.value[index], float(p.grad[index])
    sides: dict[str, list[float]] = {"plus": [], "minus": []}
    for h in STEPS:
        for side, sign in (("plus", 1), ("minus", -1)):
            p.value[index] = kept + sign * h
            sides[side].append(phi())
    p.value[index] = kept
    return {"entry": f"{p.name.rsplit('.', 1)[-1]}[{', '.join(map(str, index))}]", "value": float(kept),
            "analytic": analytic, "phi": middle, "wrong": None, **sides}
