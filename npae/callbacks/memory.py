"""Callbacks that remember: the history, the best weights, how long nothing has become better."""
from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from npae import store
from npae.callbacks.base import Callback, State
from npae.checks import whole


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
        if state.fresh:
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
    """Keeps the best weights by a column of the history, and puts them back into the model at the end, whatever ends
    the training.

    `path`: also written there each time they are better. Without the column (no validation) the last weights stay.
    A value, or weights, that are not finite are never the best.
    """

    def __init__(self, path: str | Path | None = None, *, monitor: str = "val_loss"):
        self.path, self.monitor = path, monitor
        self.best, self.epoch = math.inf, 0
        self.theta: np.ndarray | None = None

    def on_fit_begin(self, state: State) -> None:
        """A new training has no best weights yet."""
        if state.fresh:
            self.best, self.epoch, self.theta = math.inf, 0, None

    def on_epoch_end(self, state: State) -> None:
        """Keep theta if the column is lower than ever before."""
        value = state.terms.get(self.monitor, math.nan)
        if -math.inf < value < self.best and np.isfinite(state.model.theta).all():
            self.best, self.epoch, self.theta = value, state.epoch, state.model.theta.copy()
            if self.path is not None:
                state.model.save(self.path)

    def on_fit_end(self, state: State) -> None:
        """The best weights go back into the model, in place."""
        if self.theta is not None:
            state.model.theta[...] = self.theta

    def on_fit_broken(self, state: State) -> None:
        """The same: what a user who pressed Ctrl-C, or a training that diverged, is left with."""
        self.on_fit_end(state)

    def state(self) -> dict[str, Any]:
        """The best value, its epoch and its weights."""
        return {"best": self.best, "epoch": self.epoch, "theta": None if self.theta is None else self.theta.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.best, self.epoch, self.theta = state["best"], state["epoch"], state["theta"]


class EarlyStopping(Callback):
    """Ends the training when a column has not become lower for `patience` epochs.

    Raises ValueError: a patience that is no whole number of at least 1.
    Without the column (no validation) it does nothing.
    """

    def __init__(self, patience: int, *, monitor: str = "val_loss"):
        self.patience, self.monitor = whole(patience, "EarlyStopping: patience"), monitor
        self.best, self.waited = math.inf, 0

    def on_fit_begin(self, state: State) -> None:
        """A new training has not waited yet."""
        if state.fresh:
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
