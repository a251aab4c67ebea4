"""What a callback is told, and when."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npae.models.base import Model, Terms
from npae.optim import Optimizer


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
    # what a checkpoint needs beside them
    sums: Terms = field(default_factory=dict)  # of this epoch so far: each term times its pictures
    order: np.ndarray | None = None  # in which this epoch walks through the pictures; None between two epochs
    generators: dict[str, np.random.Generator] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    config: dict[str, Any] = field(default_factory=dict)  # what a fit that goes on must share with this one
    at_rest: bool = False  # nothing of the training moves at the moment: it may be saved, and left, at once

    @property
    def fresh(self) -> bool:
        """Whether this training is at its very beginning."""
        return self.epoch == self.step == 0

    def begin_epoch(self, order: np.ndarray) -> None:
        """Nothing is done yet of an epoch that will walk through the pictures in this order."""
        self.order, self.sums, self.terms = order, {}, {}
        self.step = self.images = 0
        self.seconds = 0.0


class Callback:
    """The moments of a training; a subclass takes those that it needs.

    One with memory has `state()`, which gives it as arrays and numbers, and `restore(state)`. A fit that begins anew
    (`state.fresh`) starts the memory anew; one that goes on keeps it.
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
