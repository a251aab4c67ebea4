"""A line an epoch, and a bar while it runs."""
from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from npae.callbacks.base import Callback, State
from npae.losses import SquaredError

MOST_LINES = 100  # of a training of many short epochs, such as L-BFGS's iterations


class ProgressBar(Callback):
    """A line an epoch with the terms of the loss in their units; on a terminal also a bar while the epoch runs, and
    under it the terms so far. Two lines, since one of 80 columns has no room for all of it.

    The first run on a machine says that kernels are being compiled.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.bars: Any = ()  # the bar, and the line under it

    def on_fit_begin(self, state: State) -> None:
        """Say once what the first seconds go into."""
        if not compiled_before(convolutions=any(p.value.ndim == 4 for p in state.model.params)):
            self._say("compiling the kernels for this machine (once; they are kept for the next run) ...")

    def on_batch_end(self, state: State) -> None:
        """Move the bar."""
        if not self.stream.isatty():
            return
        if not self.bars:
            self.bars = self._open(state)
        bar, terms = self.bars
        left = state.seconds * ((state.epochs - state.epoch) * state.steps / state.step - 1)  # all epochs' batches
        bar.set_postfix_str(f"{_speed(state)}, {_left(left)}", refresh=False)
        terms.set_description_str(_terms(state), refresh=False)
        if bar.update():  # it was drawn: ten times a second, not at every batch
            terms.refresh()

    def on_epoch_end(self, state: State) -> None:
        """The epoch's line in place of its bar; of more than MOST_LINES epochs, not each one."""
        self._close()
        every = -(-state.epochs // MOST_LINES)
        if state.epoch % every and state.epoch > 1 and state.epoch < state.epochs and state.stop is None:
            return
        left = state.seconds * (state.epochs - state.epoch)
        self._say(f"epoch {state.epoch}/{state.epochs}: {_terms(state)}, {_speed(state)}, {state.seconds:.1f} s, "
                  f"{_left(left)}")

    def on_fit_end(self, state: State) -> None:
        """Say why the training ended early; here, since the callback that stops it may come after the bar."""
        if state.stop:
            self._say(f"stopped after epoch {state.epoch}: {state.stop}")

    def on_fit_broken(self, state: State) -> None:
        """Leave the line to the message of the exception."""
        self._close()

    def _open(self, state: State) -> tuple[Any, Any]:
        from tqdm import tqdm

        looks: dict[str, Any] = {"file": self.stream, "dynamic_ncols": True, "leave": False}
        bar = tqdm(total=state.steps, initial=state.step - 1,  # a resumed epoch does not begin at its beginning
                   desc=f"epoch {state.epoch + 1}/{state.epochs}", position=0,
                   bar_format="{desc} {percentage:3.0f}%{postfix} |{bar}|", **looks)
        return bar, tqdm(total=0, position=1, bar_format="{desc}", **looks)

    def _close(self) -> None:
        for line in reversed(self.bars):
            line.close()
        self.bars = ()

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


def _terms(state: State) -> str:
    """'loss 160.12 (recon 155.00, kl 5.12, val_loss 161.30) nats per image'"""
    terms = dict(state.terms)
    parts = [f"{name} {value:.2f}" for name, value in terms.items()
             if name in ("kl", "val_loss") or (name == "recon" and "kl" in terms)]
    inner = f" ({', '.join(parts)})" if parts else ""
    unit = state.model.likelihood.unit
    if unit == SquaredError.unit:
        unit += f" ({terms['loss'] / state.pixels:.5f} per pixel)"
    return f"loss {terms['loss']:.2f}{inner} {unit}"


def _speed(state: State) -> str:
    return f"{state.images / state.seconds:,.0f} pictures/s"


def _left(seconds: float) -> str:
    """'1:12 left'"""
    return f"{timedelta(seconds=round(seconds))} left".removeprefix("0:").removeprefix("0")


def compiled_before(convolutions: bool = True) -> bool:
    """Whether Numba's cache holds kernels of npae already, those of convolutions or only those of dense layers; or
    nothing is to be compiled here at all.
    """
    from npae.kernels import reference, resolve

    if resolve() is reference:
        return True
    from npae.kernels import fast_conv

    folder = Path(fast_conv._conv_forward.stats.cache_path or "")
    return any(folder.glob("fast_conv*.nbi" if convolutions else "fast_dense*.nbi"))
