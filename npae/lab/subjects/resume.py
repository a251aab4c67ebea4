"""A training that is killed in the middle of an epoch and goes on from its checkpoint, beside the one that was not.
A mistake is named where the pictures, or the rates, that came are exactly those that the mistake lets come.
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from npae import optim, train
from npae.callbacks import Callback, State
from npae.checkpoint import Checkpoint, CheckpointError
from npae.gradcheck import Report
from npae.lab.findings import Findings
from npae.lab.subjects.training import BATCH, EPOCHS, PICTURES, RATE, Sampled, make, pictures, weights

LEFT = 1  # batches of the second epoch that are in the checkpoint


class _Killed(Exception):
    """Where a process would have been."""


class _Kill(Callback):
    """Ends the fit in the batch after the one that is saved."""

    def on_batch_end(self, state: State) -> None:
        """In the middle of the second epoch."""
        if (state.epoch, state.step) == (1, LEFT + 1):
            raise _Killed


class _Halve(Callback):
    """Halves the rate after each epoch."""

    def on_epoch_end(self, state: State) -> None:
        """After the history has written it down."""
        state.optimizer.lr = state.optimizer.learning_rate() / 2


def _fit(kernels: ModuleType, path: Path, kill: bool, **more: Any) -> tuple[Any, Any]:
    """A fit of a VAE in which row i has the label i; it saves after each batch, and may be killed."""
    model = make(Sampled, kernels, 0.2)
    hooks = [_Halve(), *([_Kill()] if kill else []), Checkpoint(path, seconds=0)]
    try:
        history = train.fit(model, pictures(), np.arange(PICTURES), optimizer=optim.Adam(RATE, kernels=kernels),
                            epochs=EPOCHS, batch_size=BATCH, **{"seed": 3, "callbacks": hooks, **more})
    except _Killed:
        return model, None
    return model, history


def _labels(model: Any) -> list[int]:
    """Of the pictures in the order in which the losses of a model met them."""
    return [int(label) for _, y, _ in model.seen for label in y]


def _resume(kernels: ModuleType) -> Report:
    """Three epochs of three batches, killed in the second epoch."""
    found = Findings()
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "killed.npz", Path(folder) / "whole.npz"
        whole, history = _fit(kernels, other, kill=False)
        _fit(kernels, path, kill=True)
        again, resumed = _fit(kernels, path, kill=False, resume=path)
        taken = _is_taken(kernels, path)
    first, second, third = np.array(_labels(whole)).reshape(EPOCHS, PICTURES).tolist()
    rest = second[LEFT * BATCH:]
    found.same("it meets the pictures that were left, and then those of the next epoch", lambda: _labels(again),
               lambda: rest + third,
               {"the epoch begins anew": lambda: second + third, "the generators begin anew": lambda: rest + first,
                "the epoch is left out": lambda: third}, "state")
    found.same("the rate goes on where it was", lambda: resumed["lr"], lambda: history["lr"],
               {"the rate is that of the beginning": lambda: [RATE, RATE, RATE / 2]}, "state")
    found.test("it ends in the same bits", lambda: _ends_alike(weights(again), weights(whole)))
    found.test("the checkpoint of another training is refused",
               lambda: found.say("another training's checkpoint is taken") if taken else "")
    return found.report("Resume: three epochs of three batches, killed in the second")


def _ends_alike(got: np.ndarray, want: np.ndarray) -> str:
    return "" if np.array_equal(got, want) else f"the weights differ by up to {np.abs(got - want).max():.3g}"


def _is_taken(kernels: ModuleType, path: Path) -> bool:
    """Whether a fit with another seed goes on from it."""
    try:
        _fit(kernels, path, kill=False, resume=path, seed=4, callbacks=[_Halve()])
    except CheckpointError:
        return False
    return True


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {"resume": _resume}
