"""What a learner's layer stands in while it is graded: a guard around it, a net around two of it, errors in words.
"""
from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np


def said(error: BaseException, file: str) -> str:
    """An exception as a few words, with the line of the submission that it comes from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == Path(file).name]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    words = "".join(c for c in " ".join(str(error).split()) if c.isprintable())[:200]
    text = type(error).__name__ + (f": {words}" if words else "") + (f" (line {line})" if line else "")
    return f"{text}: take the call that ends Python out" if isinstance(error, SystemExit) else text


class Guarded:
    """A learner's layer whose backward may raise: what it has added by then counts, and dx is None."""

    def __init__(self, layer: Any):
        self.layer, self.params = layer, layer.params
        self.raised: list[BaseException] = []

    def forward(self, x: np.ndarray) -> Any:
        return self.layer.forward(x)

    def backward(self, dy: np.ndarray) -> Any:
        try:
            return self.layer.backward(dy)
        except BaseException as error:
            self.raised.append(error)
            return None

    def give_rng(self, rng: np.random.Generator | None) -> None:
        if hasattr(self.layer, "give_rng"):
            self.layer.give_rng(rng)


class Net:
    """before -> first(x) + second(-x / 2) -> after: two of a learner's layers side by side, between layers of npae.

    They see other inputs and are handed the same dy: what they keep in common shows, and what is written to.
    (Not -x itself: sigmoid(x) + sigmoid(-x) is 1.)
    """

    def __init__(self, before: list[Any], first: Any, second: Any, after: list[Any]):
        self.before, self.pair, self.after = before, (first, second), after
        layers = {"before": before, "first": [first], "second": [second], "after": after}
        named = [(name, param) for name, row in layers.items() for layer in row for param in layer.params]
        for name, param in named:
            param.name = f"{name}.{param.name.rsplit('.', 1)[-1]}"
        self.params = tuple(param for _, param in named)

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.before:
            x = layer.forward(x)
        first, second = self.pair
        x = first.forward(x) + second.forward(-x / 2)
        for layer in self.after:
            x = layer.forward(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        for layer in reversed(self.after):
            dy = layer.backward(dy)
        first, second = self.pair
        dx = second.backward(dy)
        dy = first.backward(dy) - dx / 2
        for layer in reversed(self.before):
            dy = layer.backward(dy)
        return dy

    def give_rng(self, rng: np.random.Generator | None) -> None:
        for layer in self.pair:
            if hasattr(layer, "give_rng"):
                layer.give_rng(rng)
