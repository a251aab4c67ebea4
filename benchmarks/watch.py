"""Stopwatches on a training step, from outside: while `watching` is open, the methods of one step's own layers, the
kernels and the functions that Numba has compiled stand behind them. Nothing in npae knows of it, and nothing stays.
"""
from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from steps import Step

from npae import kernels
from npae.kernels import reference
from npae.layers import Layer, Sequential

WHOSE = LOOPS, DOOR, PYTHON = "loops", "door", "python"
"""Whose seconds they are: compiled loops; the lines of a kernel before and after them; those of layers and models."""
Key = tuple[str, str, str]
"""part, phase ("forward", "backward" or ""), and one of the three."""


class Watch:
    """Stopwatches that know of each other: the time of a call within a call belongs to the inner one alone.

    So `seconds` add up to the time of the outermost call.
    """

    def __init__(self) -> None:
        self.seconds: dict[Key, float] = defaultdict(float)
        self.facts: dict[tuple[str, str], Any] = {}  # of a layer: x.shape of its forward, need_dx of its backward
        self.kernels: list[tuple[Any, ...]] = []  # part, phase, name, function, args, kwargs of each kernel's call
        self._open: list[tuple[Key, list[float]]] = []  # and under it, the seconds of the calls within it

    def now(self) -> tuple[str, str]:
        """Part and phase of the call that is open."""
        return self._open[-1][0][:2] if self._open else ("", "")

    def timed(self, function: Callable[..., Any], part: str | None, phase: str | None, whose: str) -> Any:
        """The function behind a stopwatch; None: the part, or the phase, of the call that is open."""
        def call(*args: Any, **kwargs: Any) -> Any:
            here = self.now()
            key = here[0] if part is None else part, here[1] if phase is None else phase, whose
            outer = self._open[-1][1] if self._open else [0.0]
            inner = [0.0]
            self._open.append((key, inner))
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - start
                self._open.pop()
                self.seconds[key] += seconds - inner[0]
                outer[0] += seconds

        return call


def leaves(model: Any) -> list[Layer]:
    """The layers that compute: the encoder's, what stands between the nets, the decoder's."""
    between = [part for part in vars(model).values() if isinstance(part, Layer) and not isinstance(part, Sequential)]
    nets = ([layer for layer in net.walk() if not isinstance(layer, Sequential)]
            for net in (model.encoder, model.decoder))
    encoder, decoder = nets
    return [*encoder, *between, *decoder]


@contextmanager
def watching(step: Step) -> Iterator[Watch]:
    """Inside, calls of this step are timed. It must have run before, so that all it needs is compiled."""
    watch, model, fast = Watch(), step.model, kernels.resolve()
    with ExitStack() as undo:
        def put(owner: Any, name: str, part: str | None, phase: str | None, whose: str = PYTHON,
                noted: Callable[..., Any] | None = None) -> None:
            stopwatch = watch.timed(noted or getattr(owner, name), part, phase, whose)
            undo.enter_context(mock.patch.object(owner, name, stopwatch))

        for layer in leaves(model):
            forward, backward = _noted(layer, watch)
            put(layer, "forward", layer.name, "forward", noted=forward)
            put(layer, "backward", layer.name, "backward", noted=backward)
        put(model, "loss", "objective", "forward")
        put(model, "backward", "objective", "backward")
        put(model, "zero_grad", "zero_grad", "")
        put(model.likelihood, "nll", "likelihood", "forward")
        put(step.optimizer, "step", "optimizer", "")
        for name in reference.__all__:
            put(fast, name, None, None, DOOR, noted=_noted_kernel(name, getattr(fast, name), watch))
        for module, name in _compiled():
            put(module, name, None, None, LOOPS)
        yield watch


def _noted(layer: Layer, watch: Watch) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """forward and backward of a layer that tell the watch what they are called with."""
    forward, backward = layer.forward, layer.backward

    def noted_forward(x: Any) -> Any:
        watch.facts[layer.name, "forward"] = x.shape
        return forward(x)

    def noted_backward(dy: Any, need_dx: bool = True) -> Any:
        watch.facts[layer.name, "backward"] = need_dx
        return backward(dy, need_dx)

    return noted_forward, noted_backward


def _noted_kernel(name: str, kernel: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """The same of a kernel."""
    def noted(*args: Any, **kwargs: Any) -> Any:
        watch.kernels.append((*watch.now(), name, kernel, args, kwargs))
        return kernel(*args, **kwargs)

    return noted


def _compiled() -> list[tuple[Any, str]]:
    """Where the functions stand that Numba has compiled for Python to call."""
    from numba.core.dispatcher import Dispatcher

    rooms = [module for name, module in sys.modules.items() if name.startswith("npae.kernels.")]
    return [(room, name) for room in rooms for name, value in vars(room).items()
            if isinstance(value, Dispatcher) and not value.targetoptions.get("no_cpython_wrapper")]
