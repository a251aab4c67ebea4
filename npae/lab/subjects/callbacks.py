"""Callbacks, told of epochs that never were: what they keep, when they stop, and what they remember afterwards.
After each such epoch theta is full of the epoch's number, so that weights tell where they come from.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from npae import optim
from npae.callbacks import Callback, EarlyStopping, History, ModelCheckpoint, State
from npae.gradcheck import Report
from npae.lab.findings import Findings
from npae.lab.subjects.training import Plain, make, weights


def _told(callback: Callback, losses: list[float], model: Any, first: int = 0) -> int:
    """Go through epochs with these validation losses; the epoch after which the callback ends the training."""
    state = State(model, optim.SGD(0.1), len(losses), 1, 6, epoch=first)
    callback.on_fit_begin(state)
    for loss in losses:
        state.epoch += 1
        model.theta[...] = state.epoch
        state.terms = {"loss": loss, "val_loss": loss}
        callback.on_epoch_end(state)
        if state.stop is not None:
            break
    callback.on_fit_end(state)
    return state.epoch


def _best_of(losses: list[float], kernels: ModuleType, pause: int = 0) -> int:
    """The epoch whose weights a ModelCheckpoint gives back; after `pause` epochs it is put away and restored."""
    model, keep = make(Plain, kernels), ModelCheckpoint()
    if pause:
        _told(keep, losses[:pause], model)
        keep, old = ModelCheckpoint(), keep
        keep.restore(old.state())
    _told(keep, losses[pause:], model, pause)
    return int(weights(model)[0])


def _stop(losses: list[float], kernels: ModuleType, pause: int = 0) -> int:
    """The epoch after which EarlyStopping(2) ends the training."""
    model, wait = make(Plain, kernels), EarlyStopping(2)
    if pause:
        stopped = _told(wait, losses[:pause], model)
        if stopped < pause:
            return stopped
        wait, old = EarlyStopping(2), wait
        wait.restore(old.state())
    return _told(wait, losses[pause:], model, pause)


def patience(losses: list[float], *, longer: int = 0, in_a_row: bool = True, before: bool = False, pause: int = 0,
             forget: str = "") -> int:
    """The textbook of stopping early, and what is made of it: see the names of the variants below."""
    best, waited = math.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        if epoch == pause + 1 and forget:
            best, waited = (math.inf, waited) if forget == "best" else (best, 0)
        better = loss < best
        waited = waited + (not better) if not in_a_row else 0 if better else waited + 1
        best = loss if before else min(best, loss)
        if waited >= 2 + longer:
            return epoch
    return len(losses)


def _callbacks(kernels: ModuleType) -> Report:
    """Best weights, patience and rows of a history."""
    found, losses = Findings(), [5.0, 3.0, 4.0, 2.0, 2.0, 2.2]  # of two alike the first is the best
    ends = {"the first weights come back": lambda: 1, "the last weights come back": lambda: len(losses)}
    found.same("ModelCheckpoint gives back the best weights", lambda: _best_of(losses, kernels), lambda: 4, ends,
               "state")
    nan = {} if found.explanations else {"a NaN counts as better": lambda: 2}  # else it is the end's weights again
    found.same("a loss that is no number is not the best", lambda: _best_of([3.0, math.nan], kernels), lambda: 1, nan,
               "state")
    found.same("a restored ModelCheckpoint knows what was best", lambda: _best_of([2.0, 3.0, 2.5, 4.0], kernels, 2),
               lambda: 1, {"the best value is lost": lambda: 3}, "state")
    rng = np.random.default_rng(6)
    runs = [(np.linspace(2, 1, 9) + 0.2 * rng.standard_normal(9)).tolist() for _ in range(12)]  # down, with setbacks
    runs.append([3.0, 2.0, 2.0, 2.0, 1.0])

    def ways(**mistake: Any) -> Callable[[], list[int]]:
        return lambda: [patience(run, **mistake) for run in runs]

    found.same("EarlyStopping stops after two epochs that were not the best", lambda: [_stop(r, kernels) for r in runs],
               ways(), {"the count is never set back": ways(in_a_row=False),
                        "compares with the epoch before": ways(before=True),
                        "waits one epoch too long": ways(longer=1), "waits one epoch too little": ways(longer=-1)},
               "state")
    found.same("a restored EarlyStopping goes on waiting", lambda: [_stop(r, kernels, 2) for r in runs],
               lambda: [_stop(r, kernels) for r in runs],
               {"the count is lost": ways(pause=2, forget="count"),
                "the best value is lost": ways(pause=2, forget="best")}, "state")
    found.same("in a second fit nothing of the first is remembered", lambda: _second_fit(kernels), lambda: [2, 2, 4, 4],
               {}, "state")
    found.same("a new fit begins a new history", lambda: _history_rows(kernels, [3, 2]), lambda: 2,
               {"rows of the fit before stay": lambda: 5}, "state")
    found.same("a history takes over the rows of another", lambda: _restored_rows(kernels), lambda: 3,
               {"rows stand twice": lambda: 6}, "state")
    return found.report("Callbacks: epochs with losses of one's own")


def _second_fit(kernels: ModuleType) -> list[int]:
    """Where a second, worse fit ends, and the epoch of the weights that it gives back; again with one more epoch."""
    ends: list[int] = []
    for losses in ([9.0, 8.0], [9.0, 8.0, 7.0, 6.0]):
        model, keep, wait = make(Plain, kernels), ModelCheckpoint(), EarlyStopping(2)
        for callback in (wait, keep):
            _told(callback, [3.0, 2.0, 2.5], model)
            ends.append(_told(callback, losses, model))
        ends[-1] = int(weights(model)[0])
    return ends


def _history_rows(kernels: ModuleType, fits: list[int]) -> int:
    history = History()
    for epochs in fits:
        _told(history, [1.0] * epochs, make(Plain, kernels))
    return len(history)


def _restored_rows(kernels: ModuleType) -> int:
    history, other = History(), History()
    _told(history, [1.0] * 3, make(Plain, kernels))
    other.restore(history.state())
    other.restore(history.state())
    return len(other)


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {"callbacks": _callbacks}
