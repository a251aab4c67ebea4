"""What a step does, layer by layer: shapes, times, activations, and the gradients on their way back.
A trace is put around a model from outside. The layers know nothing of it, and a model without one runs as ever.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from npae.layers import Layer, Sequential
from npae.models import Model
from npae.params import Param
from npae.trace import compiling, statistics
from npae.trace.rows import PICTURES, LayerTrace, ParamTrace
from npae.trace.watched import Watched, timed


class Trace:
    """Records, for every layer, what passes through it inside a `with` block.

        with Trace(model) as t:
            model.loss(x, rng=rng)
            model.backward()
        print(t)

    A step of an optimizer inside the block is seen too. Of several steps, each a forward with its backward, the latest
    counts; what comes after it in the block (a validation, a picture that is reconstructed) is left out, unless it
    gives inf or not-a-number. `rows` has the layers in the order in which they have computed: encoder, what stands
    between (Reparameterize), decoder; a layer that holds others comes after them; no Sequential. `flags` says in
    sentences what is wrong. `terms` is what loss gave, `seconds` what it and backward took, `steps` how often backward
    ran, `pictures` and `labels` the first of the batch. `compiled`: kernels were made ready inside the block, and the
    seconds contain that.
    Raises ValueError: no model; a complex one; a Trace that is open already.

    >>> from npae.layers import Dense, Sequential
    >>> from npae.models import Autoencoder
    >>> rng = np.random.default_rng(0)
    >>> ae = Autoencoder(Sequential([Dense(6, 2, activation="tanh", rng=rng)]), Sequential([Dense(2, 6, rng=rng)]))
    >>> with Trace(ae) as t:
    ...     terms = ae.loss(np.ones((5, 6), np.float32))
    ...     ae.backward()
    >>> [(row.name, row.output_shape, row.gradient.size) for row in t.rows], t.flags
    ([('encoder.0', (5, 2), 10), ('decoder.0', (5, 6), 30)], [])
    """

    def __init__(self, model: Model):
        if not isinstance(model, Model):
            raise ValueError(f"Trace takes a model such as models.VAE(encoder, decoder), got {model!r}: put layers of "
                             "your own into one")
        if model.theta.dtype.kind == "c":
            raise ValueError(f"Trace takes a model of float32 or float64, got {model.theta.dtype}: trace the one that "
                             "it was made of")
        self.model = model
        self.rows: list[LayerTrace] = []
        self.steps = 0
        self.terms: dict[str, float] = {}
        self.seconds: float = 0.0
        self.compiled = False
        self.pictures: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self._spent = 0.0  # by the statistics, which is no time of the model's
        self._whole: dict[str, Any] = {}  # what is known of the latest step that had its backward
        self._watched: list[Watched] = []
        self._params: list[tuple[Param, ParamTrace, np.ndarray]] = []  # with its value where the block began

    def __enter__(self) -> Self:
        if self._watched:
            raise ValueError("this Trace is open already: make another one for a block inside it")
        told = {id(p): ParamTrace(p.name, p.value.shape) for p in self.model.params}
        self._params = [(p, told[id(p)], p.value.copy()) for p in self.model.params]
        self.rows = [LayerTrace(name, type(layer).__name__, layer, params=[told[id(p)] for p in layer.params
                                                                           if id(p) in told])
                     for name, layer in places(self.model)]
        self.steps, self.terms, self._whole = 0, {}, {}
        statistics.stats(self.model.theta[:1])  # its kernel is no concern of the block's
        try:
            for row in self.rows:
                self._watch(row)
            self._put_on(self.model, loss=self._loss, backward=self._backward)
            self._compiled = compiling.watch()
        except BaseException:
            self._take_off()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if not self._watched:
            return
        self._take_off()
        self.compiled = self._compiled()
        with np.errstate(all="ignore"):  # what has become inf is told by a flag
            for p, told, before in self._params:
                told.norm = statistics.length(before)
                if moved := statistics.distance(p.value, before):
                    far = moved / told.norm if told.norm else math.inf
                    told.update_ratio = far if math.isfinite(moved) else math.nan
        outputs = all(row.activation is None or row.activation.finite for row in self.rows)
        if outputs and math.isfinite(self.terms.get("loss", 0.0)):  # a later NaN is not left out
            vars(self).update(self._whole)
        self._params = []

    def _put_on(self, owner: Any, **watches: Callable[..., Any]) -> None:
        for name, watch in watches.items():
            self._watched.append(Watched(owner, name, watch))

    def _take_off(self) -> None:
        while self._watched:
            self._watched.pop().take_off()

    @property
    def flags(self) -> list[str]:
        """What is wrong, in sentences that begin with a layer's name; none for a healthy step."""
        from npae.trace.flags import flags

        return flags(self)

    def __repr__(self) -> str:
        """In one line, as a debugger shows it."""
        counts = (("layer", len(self.rows)), ("step", self.steps), ("flag", len(self.flags)))
        said = ", ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in counts)
        return f"<Trace of {type(self.model).__name__}: {said}>"

    def __str__(self) -> str:
        from npae.trace.table import table

        return table(self)

    def to_html(self, path: str | Path) -> Path:
        """Write the trace as one page for a browser, which needs no network.

        The finite differences in it are those of the weights as they are now.
        Raises ValueError: a block without a loss; a path that cannot be written.
        """
        from npae.trace.page import write

        return write(path, self)

    def _watch(self, row: LayerTrace) -> None:
        ends: np.ndarray | None = None  # of the latest y: where it is flat

        def forward(call: Callable[..., Any], x: np.ndarray, *args: Any, **settings: Any) -> np.ndarray:
            nonlocal ends
            y, seconds = timed(call, x, *args, **settings)
            start = time.perf_counter()
            ends = statistics.at_the_ends(row.layer, y)
            row.saw_forward(x, y, seconds, ends)
            self._spent += time.perf_counter() - start
            return y

        def backward(call: Callable[..., Any], dy: np.ndarray, *args: Any, **settings: Any) -> Any:
            dx, seconds = timed(call, dy, *args, **settings)
            start = time.perf_counter()
            row.saw_backward(dy, seconds, ends)
            self._spent += time.perf_counter() - start
            return dx

        self._put_on(row.layer, forward=forward, backward=backward)

    def _loss(self, call: Callable[..., Any], x: np.ndarray, y: Any = None, *args: Any, **settings: Any) -> Any:
        self._spent = 0.0
        self.terms, seconds = timed(call, x, y, *args, **settings)
        self.seconds = seconds - self._spent
        self.pictures, self.labels = x[:PICTURES].copy(), None if y is None else np.array(y[:PICTURES])
        return self.terms

    def _backward(self, call: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        self._spent = 0.0
        result, seconds = timed(call, *args, **settings)
        self.seconds += seconds - self._spent
        self.steps += 1
        with np.errstate(all="ignore"):
            for p, told, _ in self._params:
                told.grad_norm = statistics.length(p.grad)
        self._whole = {"rows": [replace(row) for row in self.rows], "terms": self.terms, "seconds": self.seconds,
                       "pictures": self.pictures, "labels": self.labels}
        return result


def places(model: Model) -> list[tuple[str, Layer]]:
    """Every layer of a model with its name, in the order in which they have computed their outputs; no Sequential.

    What the model itself holds between its nets (a VAE's Reparameterize, a net of a user's own) goes by the attribute's
    name; of two attributes that hold the same layer by the first one's.
    """
    encoder, decoder = _leaves(model.encoder), _leaves(model.decoder)
    known = {id(layer) for layer in (*encoder, *decoder)}
    between = []
    for name, held in vars(model).items():
        for place, layer in enumerate(_leaves(held) if isinstance(held, Layer) else []):
            if id(layer) not in known:
                between.append((name if layer is held else f"{name}.{place}", layer))
            known.add(id(layer))
    return [*((layer.name, layer) for layer in encoder), *between, *((layer.name, layer) for layer in decoder)]


def _leaves(net: Layer) -> list[Layer]:
    """Its layers but for Sequentials; a layer that holds others stands behind them, as what it gives comes after."""
    walk = list(net.walk())
    place = {id(layer): k for k, layer in enumerate(walk)}
    walk.sort(key=lambda layer: (max(place[id(inner)] for inner in layer.walk()), -place[id(layer)]))
    return [layer for layer in walk if not isinstance(layer, Sequential)]
