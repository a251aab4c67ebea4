"""Saving while a fit runs, and when somebody asks it to stop."""
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from npae import store
from npae.callbacks import Callback, State
from npae.checkpoint.file import check_memories, place, save
from npae.checks import real
from npae.optim import LBFGS


class Interrupted(KeyboardInterrupt):
    """A fit that was asked to stop, and has saved what it had; `status` is the exit status that a shell expects."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Checkpoint(Callback):
    """Writes what `train.fit(..., resume=path)` needs to go on to the same bits: every so many seconds between two
    batches, after the last epoch, and where Ctrl-C or SIGTERM asks the fit to stop.

    The first of these signals lets the batch end, saves and raises Interrupted; a second one stops at once. Where no
    step is done yet there is nothing to save, and the first one stops at once too. Fits that run in another thread than
    the main one are told of no signal.
    `again`: how to go on, for the message. Raises ValueError: seconds below 0; no folder for the path; L-BFGS; a
    callback whose memory no file can hold.
    """

    fit: State
    pid: int  # of the process that trains

    def __init__(self, path: str | Path, *, seconds: float = 30.0, again: str | None = None):
        if not real(seconds) >= 0:
            raise ValueError(f"Checkpoint: seconds must be at least 0, got {seconds}")
        self.path, self.seconds = Path(path), seconds
        self.again = again or f"train.fit(..., resume={str(path)!r})"
        self.asked: int | None = None  # the signal that asks the fit to stop
        self.handlers: dict[int, Any] = {}  # those that stood before
        self.saved = 0.0  # when, on the clock that never goes back
        self.kept = False  # the file is of this training
        self.over = False  # nothing of the training is left to be saved

    def on_fit_begin(self, state: State) -> None:
        """Remove what dead processes left half-written, and listen to signals from here on."""
        if isinstance(state.optimizer, LBFGS):
            raise ValueError("L-BFGS keeps its memory inside SciPy, where no checkpoint reaches: leave Checkpoint out")
        if not self.path.parent.is_dir():
            raise ValueError(f"there is no folder {self.path.parent} for {self.path.name}: make it, or choose another")
        check_memories(state.callbacks)
        store.remove_orphans(self.path.parent)
        self.fit, self.pid, self.asked, self.saved = state, os.getpid(), None, time.monotonic()
        self.kept = not state.fresh and self.path.exists()
        self.over = state.epoch >= state.epochs or state.stop is not None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # who ignores one has been asked to
                    self.handlers[number] = signal.signal(number, self._told)

    def on_batch_end(self, state: State) -> None:
        """Save where it is time to; stop where that was asked."""
        if self.asked is not None:
            self._stop(state)
        if time.monotonic() - self.saved >= self.seconds:
            self._save(state)

    def on_epoch_end(self, state: State) -> None:
        """The same; and after the last epoch in any case."""
        if state.epoch == state.epochs or state.stop is not None:
            self._save(state)
            self.over = True  # from here on, and not while it is being saved
        self.on_batch_end(state)

    def on_fit_end(self, state: State) -> None:
        """Give the signals back."""
        self._let_go()

    def on_fit_broken(self, state: State) -> None:
        """Give the signals back, and say with the exception what is kept."""
        self._let_go()
        error = sys.exception()
        if self.kept and error is not None:
            say_what_is_kept(error, self.path, self.again)

    def _told(self, number: int, frame: FrameType | None) -> None:
        """A signal has come: the next one finds the handlers that stood before."""
        self._let_go()
        if os.getpid() != self.pid:  # a child of a fork, such as a worker of a pool: it does not train, and is to end
            signal.raise_signal(number)
            return
        self.asked = number
        if self.fit.fresh or self.fit.at_rest or self.over:
            self._stop(self.fit)

    def _let_go(self) -> None:
        while self.handlers:
            signal.signal(*self.handlers.popitem())

    def _stop(self, state: State) -> None:
        by, status = signal.Signals(self.asked or 0).name, 128 + (self.asked or 0)
        if state.fresh:
            raise Interrupted(f"stopped by {by} before the first step was done: there was nothing to save", status)
        if not self.over:
            self._save(state)
        where = f"in epoch {state.epoch + 1}, after batch {state.step} of {state.steps}"
        if state.order is None:
            where = f"after epoch {state.epoch} of {state.epochs}"
        raise Interrupted(f"stopped by {by} {where}, and saved: go on by {self.again}", status)

    def _save(self, state: State) -> None:
        save(self.path, state)
        self.saved, self.kept = time.monotonic(), True


def say_what_is_kept(error: BaseException, path: Path, again: str) -> None:
    """Add to an exception where its training can go on; Interrupted says that itself."""
    with suppress(OSError, ValueError):  # no checkpoint there, or one that is damaged
        note = f"the last good checkpoint, of {place(path)}, is kept: go on from there by {again}"
        if not isinstance(error, Interrupted) and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
