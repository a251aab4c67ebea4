"""What a step does, layer by layer: shapes, times, activations, and the gradients on their way back.
A trace is put around a model from outside. The layers know nothing of it, and a model without one runs as ever.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable
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

    A step of an optimizer inside the block is seen too. Of several losses the latest counts. `rows` has the layers in
    the order of the walk: encoder, what stands between (Reparameterize), decoder; no Sequential. `flags` says in
    sentences what is wrong. `terms` is what loss gave, `seconds` what it and backward took, `steps` how often backward
    ran, `pictures` and `labels` the first of the batch. `compiled`: kernels were made ready inside the block, and the
    seconds contain that.
    Raises ValueError: no model; a Trace that is open already.

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
        self.model = model
        self.rows: list[LayerTrace] = []
        self.steps = 0
        self.terms: dict[str, float] = {}
        self.seconds: float = 0.0
        self.compiled = False
        self.pictures: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self._spent = 0.0  # by the statistics, which is no time of the model's
        self._watched: list[Watched] = []

    def __enter__(self) -> Self:
        if self._watched:
            raise ValueError("this Trace is open already: make another one for a block inside it")
        self.rows = [LayerTrace(name, type(layer).__name__, layer) for name, layer in places(self.model)]
        self.steps, self.terms = 0, {}
        self._before = {id(p): p.value.copy() for p in self.model.params}
        told = {id(p): ParamTrace(p.name, p.value.shape) for p in self.model.params}
        for row in self.rows:
            row.params = [told[id(p)] for p in row.layer.params]
            self._watch(row)
        statistics.stats(self.model.theta[:1])  # its kernel is no concern of the block's
        self._compiled = compiling.watch()
        self._watched += [Watched(self.model, "loss", self._loss), Watched(self.model, "backward", self._backward)]
        return self

    def __exit__(self, *error: object) -> None:
        self.compiled = self._compiled()
        while self._watched:
            self._watched.pop().take_off()
        with np.errstate(all="ignore"):  # what has become inf is told by a flag
            for p, told in self._params():
                before = self._before[id(p)]
                told.norm = statistics.length(before)
                if moved := statistics.distance(p.value, before):
                    told.update_ratio = moved / told.norm if told.norm else math.inf
        self._before = {}

    @property
    def flags(self) -> list[str]:
        """What is wrong, in sentences that begin with a layer's name; none for a healthy step."""
        from npae.trace.flags import flags

        return flags(self)

    def __repr__(self) -> str:
        """In one line, as a debugger shows it."""
        return (f"<Trace of {type(self.model).__name__}: {len(self.rows)} layers, {self.steps} steps, "
                f"{len(self.flags)} flags>")

    def __str__(self) -> str:
        from npae.trace.table import table

        return table(self)

    def to_html(self, path: str | Path) -> Path:
        """Write the trace as one page for a browser, which needs no network.

        Raises ValueError: a block without a loss; a path that cannot be written.
        """
        from npae.trace.page import write

        return write(path, self)

    def _params(self) -> list[tuple[Param, ParamTrace]]:
        """Each parameter once: tied layers hold the same one."""
        pairs = (pair for row in self.rows for pair in zip(row.layer.params, row.params, strict=True))
        return list({id(p): (p, told) for p, told in pairs}.values())

    def _watch(self, row: LayerTrace) -> None:
        ends: np.ndarray | None = None  # of the latest y: where it is flat

        def forward(call: Callable[..., Any], x: np.ndarray) -> np.ndarray:
            nonlocal ends
            y, seconds = timed(call, x)
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

        self._watched += [Watched(row.layer, "forward", forward), Watched(row.layer, "backward", backward)]

    def _loss(self, call: Callable[..., Any], x: np.ndarray, y: Any = None, *args: Any, **settings: Any) -> Any:
        self._spent = 0.0
        self.terms, seconds = timed(call, x, y, *args, **settings)
        self.seconds = seconds - self._spent
        self.pictures, self.labels = x[:PICTURES].copy(), None if y is None else np.array(y[:PICTURES])
        return self.terms

    def _backward(self, call: Callable[..., Any]) -> None:
        self._spent = 0.0
        _, seconds = timed(call)
        self.seconds += seconds - self._spent
        self.steps += 1
        with np.errstate(all="ignore"):
            for p, told in self._params():
                told.grad_norm = statistics.length(p.grad)


def places(model: Model) -> list[tuple[str, Layer]]:
    """Every layer of a model with its name, in the order in which a batch walks through them; no Sequential.

    What the model itself holds between its nets (a VAE's Reparameterize) goes by the attribute's name.
    """
    nets = [[layer for layer in net.walk() if not isinstance(layer, Sequential)]
            for net in (model.encoder, model.decoder)]
    known = {id(layer) for net in nets for layer in net}
    between = [(name, layer) for name, layer in vars(model).items()
               if isinstance(layer, Layer) and not isinstance(layer, Sequential) and id(layer) not in known]
    encoder, decoder = ([(layer.name, layer) for layer in net] for net in nets)
    return [*encoder, *between, *decoder]
