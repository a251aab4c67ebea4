"""What happens beside the arithmetic of a training: records, best weights, stopping, a bar, an animation.
A callback is told when the fit begins, after each batch, after each epoch and at the end; it reads (and may set) State.
"""
from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from npae import store
from npae.losses import SquaredError
from npae.models.base import Model, Terms
from npae.optim import Optimizer

MOST_LINES = 100  # of a training of many short epochs, such as L-BFGS's iterations


@dataclass
class State:
    """What callbacks see: the model and its optimizer, and how far the training has come."""

    model: Model
    optimizer: Optimizer
    epochs: int
    steps: int  # batches an epoch
    pixels: int  # numbers in a picture
    epoch: int = 0  # epochs done
    step: int = 0  # batches done in this epoch
    terms: Terms = field(default_factory=dict)  # this epoch's row: means so far; with val_... when the epoch is done
    images: int = 0  # pictures seen in this epoch
    seconds: float = 0.0  # spent on this epoch's training so far
    stop: str | None = None  # a reason to end the training after this epoch


class Callback:
    """The moments of a training; a subclass takes those that it needs.

    One with memory has `state()`, which gives it as arrays and numbers, and `restore(state)`. A fit that begins at
    epoch 0 starts the memory anew; one that goes on at a later epoch keeps it.
    """

    def on_fit_begin(self, state: State) -> None:
        """Before the first batch."""

    def on_batch_end(self, state: State) -> None:
        """After each step; state.terms are the epoch's means so far."""

    def on_epoch_end(self, state: State) -> None:
        """After each epoch and its validation; setting state.stop to a reason ends the training."""

    def on_fit_end(self, state: State) -> None:
        """After the last epoch."""

    def on_fit_broken(self, state: State) -> None:
        """In place of on_fit_end where an exception ends the training, Ctrl-C too; the exception goes on."""

    def state(self) -> dict[str, Any]:
        """What a resumed training must not forget."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""


class History(Callback):
    """One row an epoch: epoch, the means of the terms, val_... of the same, the learning rate, seconds.

    >>> history = History()
    >>> history.rows.append({"epoch": 1, "loss": 2.5})
    >>> history["loss"]
    [2.5]
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_fit_begin(self, state: State) -> None:
        """A new training has no rows yet."""
        if state.epoch == 0:
            self.rows = []

    def on_epoch_end(self, state: State) -> None:
        """Add the epoch's row."""
        self.rows.append({"epoch": state.epoch, **state.terms, "lr": state.optimizer.learning_rate(),
                          "seconds": round(state.seconds, 3)})

    def __getitem__(self, column: str) -> list[float]:
        return [row[column] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def write_csv(self, path: str | Path) -> None:
        """One line an epoch under a line of names."""
        text = io.StringIO()
        columns = dict.fromkeys(name for row in self.rows for name in row) or {"epoch": None}
        table = csv.DictWriter(text, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        store.write_text(path, text.getvalue())

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the rows."""
        self.rows = [dict(row) for row in state["rows"]]


class ModelCheckpoint(Callback):
    """Keeps the best weights by a column of the history, and puts them back into the model at the end.

    `path`: also written there each time they are better. Without the column (no validation) the last weights stay.
    """

    def __init__(self, path: str | Path | None = None, *, monitor: str = "val_loss"):
        self.path, self.monitor = path, monitor
        self.best, self.epoch = math.inf, 0
        self.theta: np.ndarray | None = None

    def on_fit_begin(self, state: State) -> None:
        """A new training has no best weights yet."""
        if state.epoch == 0:
            self.best, self.epoch, self.theta = math.inf, 0, None

    def on_epoch_end(self, state: State) -> None:
        """Keep theta if the column is lower than ever before."""
        value = state.terms.get(self.monitor, math.nan)
        if value < self.best:
            self.best, self.epoch, self.theta = value, state.epoch, state.model.theta.copy()
            if self.path is not None:
                state.model.save(self.path)

    def on_fit_end(self, state: State) -> None:
        """The best weights go back into the model, in place."""
        if self.theta is not None:
            state.model.theta[...] = self.theta

    def state(self) -> dict[str, Any]:
        """The best value, its epoch and its weights."""
        return {"best": self.best, "epoch": self.epoch, "theta": None if self.theta is None else self.theta.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.best, self.epoch, self.theta = state["best"], state["epoch"], state["theta"]


class EarlyStopping(Callback):
    """Ends the training when a column has not become lower for `patience` epochs.

    Raises ValueError: patience below 1. Without the column (no validation) it does nothing.
    """

    def __init__(self, patience: int, *, monitor: str = "val_loss"):
        if patience < 1:
            raise ValueError(f"EarlyStopping needs a patience of at least 1 epoch, got {patience}")
        self.patience, self.monitor = patience, monitor
        self.best, self.waited = math.inf, 0

    def on_fit_begin(self, state: State) -> None:
        """A new training has not waited yet."""
        if state.epoch == 0:
            self.best, self.waited = math.inf, 0

    def on_epoch_end(self, state: State) -> None:
        """Count the epochs since the best one."""
        if self.monitor not in state.terms:
            return
        value = state.terms[self.monitor]
        self.waited = 0 if value < self.best else self.waited + 1
        self.best = min(self.best, value)
        if self.waited >= self.patience:
            state.stop = f"{self.monitor} has not become lower for {self.patience} epochs"

    def state(self) -> dict[str, Any]:
        """The best value and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.best, self.waited = state["best"], state["waited"]


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
        if not compiled_before():
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
        bar = tqdm(total=state.steps, desc=f"epoch {state.epoch + 1}/{state.epochs}", position=0,
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


def compiled_before() -> bool:
    """Whether Numba's cache holds kernels of npae already, or nothing is to be compiled here at all."""
    from npae.kernels import reference, resolve

    if resolve() is reference:
        return True
    from npae.kernels import fast_conv

    folder = Path(fast_conv._conv_forward.stats.cache_path or "")
    return any(folder.glob("fast_conv*.nbi"))


class Animation(Callback):
    """After every epoch, the untrained model included: pictures of 16 fixed codes, and 16 test pictures re-encoded.

    Shapes: codes (16, d), x (16, H, W, C) floats in [0, 1]; written to `path` as an animated GIF at the end
    A conditional model takes the labels y (16,) of x, and decodes the codes as these too.
    """

    def __init__(self, path: str | Path, codes: np.ndarray, x: np.ndarray, y: np.ndarray | None = None):
        self.path, self.codes, self.x, self.y = path, codes, x, y
        self.frames: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def on_fit_begin(self, state: State) -> None:
        """The untrained model."""
        if state.epoch == 0:
            self.frames = []
            self._shoot(state)

    def on_epoch_end(self, state: State) -> None:
        """One more frame."""
        self._shoot(state)

    def on_fit_end(self, state: State) -> None:
        """Write the GIF."""
        from npae import figures

        figures.training_gif(self.frames, self.path)

    def _shoot(self, state: State) -> None:
        model = state.model
        self.frames.append((state.epoch, model.decode(self.codes, self.y), self.x, model.reconstruct(self.x, self.y)))

    def state(self) -> dict[str, Any]:
        """The frames so far."""
        return {"epochs": [frame[0] for frame in self.frames], "decoded": np.array([f[1] for f in self.frames]),
                "reencoded": np.array([f[3] for f in self.frames])}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        columns: Sequence[Any] = (state["epochs"], state["decoded"], state["reencoded"])
        self.frames = [(epoch, a, self.x, b) for epoch, a, b in zip(*columns, strict=True)]
