"""Processes that are killed while they save or train: run as a program, for tests/test_checkpoint_kills.py.

    python victims.py saving N FOLDER                 forks N children that save one checkpoint after the other
    python victims.py training RECIPE N FOLDER DATA   forks children that train, N of which are killed and gone on with

Prints a line of JSON for each child that was killed. What is imported here once, the children need not import.
"""
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from npae import checkpoint, models, optim, runs, store
from npae.callbacks import Callback, History, State
from npae.kernels import reference
from npae.layers import Dense, Flatten, Reshape, Sequential
from npae.store import files

PHASES = ("before the write", "in the write", "between fsync and replace", "between replace and fsync of the folder",
          "after the save", "at any time")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def forked(work, *arguments):
    """The pid of a child that does the work and leaves."""
    if pid := os.fork():
        return pid
    try:
        work(*arguments)
    except BaseException as error:
        print(f"a victim raised {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


# -- while saving --


class DyingFile:
    """A file that kills its process in one of its writes, half of which is done."""

    def __init__(self, file, left):
        self.file, self.left = file, left

    def write(self, data):
        self.left -= 1
        if self.left < 0:
            self.file.write(memoryview(data).cast("B")[:len(memoryview(data).cast("B")) // 2])
            self.file.flush()
            kill()
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)


def fill(state, k):
    """Let everything that is saved say k."""
    state.model.theta[...], state.optimizer.steps, state.epoch = k, k, k
    for moment in state.optimizer.moments.values():
        moment[...] = k
    state.callbacks[0].rows = [{"epoch": k}]


def training():
    rng = np.random.default_rng(0)
    model = models.Autoencoder(Sequential([Flatten(), Dense(784, 32, rng=rng, kernels=reference)]),
                               Sequential([Dense(32, 784, rng=rng, kernels=reference), Reshape((28, 28, 1))]))
    optimizer = optim.Adam(kernels=reference)
    optimizer.step(model.theta, model.grad)
    rng = {"noise": np.random.default_rng(0)}
    return State(model, optimizer, 10 ** 9, 1, 784, generators=rng, callbacks=[History()])


def save_and_die(path, state, first, phase, after, part, pipe):
    """Save states first, first + 1, ... and acknowledge each; die in a phase of save number `after`."""
    right = {"open": open, "replace": os.replace, "fsync": os.fsync}

    def dying_open(*arguments):
        if phase == "before the write":
            kill()
        return DyingFile(right["open"](*arguments), part)

    def fsync(number):
        if os.path.isdir(f"/proc/self/fd/{number}"):
            kill()
        right["fsync"](number)

    for k in range(first, first + 10 ** 6):
        if k == first + after:
            if phase in ("before the write", "in the write"):
                files.open = dying_open
            elif phase == "between fsync and replace":
                os.replace = lambda *paths: kill()
            elif phase == "between replace and fsync of the folder":
                os.fsync = fsync
            elif phase == "after the save":
                kill()
        fill(state, k)
        checkpoint.save(path, state)
        os.write(pipe, b"%d\n" % k)


def whose(path, state):
    """The k of a checkpoint, all of which has to say it."""
    arrays, meta = store.read(path)
    k = meta["training"]["epoch"]
    assert meta["training"]["optimizer"]["steps"] == k and meta["training"]["callbacks"][0][1]["rows"] == [{"epoch": k}]
    for name in ("theta", "optimizer.m", "optimizer.v"):
        assert (arrays[name] == k).all() and arrays[name].shape == state.model.theta.shape
    return k


def saving(n, folder):
    path, state, draw = Path(folder) / "c.npz", training(), random.Random(0)
    fill(state, 1)
    checkpoint.save(path, state)
    last = 1
    for i in range(n):
        phase, after, part = PHASES[i % len(PHASES)], draw.randrange(1, 4), draw.randrange(1, 30)
        reading, writing = os.pipe()
        pid = forked(save_and_die, path, state, last + 1, phase, after, part, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as acknowledged:
            if phase == "at any time":
                acknowledged.readline()
                signal.setitimer(signal.ITIMER_REAL, 0.001 + draw.random() * 0.02)
                signal.sigwait([signal.SIGALRM])
                os.kill(pid, signal.SIGKILL)
            said = acknowledged.read().split()
        status = os.waitpid(pid, 0)[1]
        told = int(said[-1]) if said else last + (phase == "at any time")
        found = whose(path, state)
        orphans = len(store.remove_orphans(folder))
        print(json.dumps({"phase": phase, "signal": os.waitstatus_to_exitcode(status), "acknowledged": told,
                          "found": found, "orphans": orphans, "left": sorted(os.listdir(folder))}), flush=True)
        last = found


# -- while training --


def train(recipe, folder, data, resumed, steps, place):
    """`npae train`, or --resume; dies at a place of step number `steps` of this process (None: not)."""
    right = optim.Optimizer.step, checkpoint.callback.save, os.replace
    left = [steps]

    def step(self, theta, grad):
        if left[0] is not None:
            left[0] -= 1
        if left[0] == 0 and place == "before the step":
            kill()
        right[0](self, theta, grad)
        if left[0] == 0 and place == "after the step":
            kill()

    def save(path, state):
        if left[0] == 0:
            if place == "while saving":
                os.replace = lambda *paths: kill()
            right[1](path, state)
            kill()
        right[1](path, state)

    def draw(*arguments):  # in place of the figures: the last checkpoint, which is about to be removed
        shutil.copy(Path(folder) / "checkpoint.npz", Path(folder) / "last.npz")

    optim.Optimizer.step, checkpoint.callback.save, runs.start.draw = step, save, draw
    runs.start.ProgressBar, runs.start.print = Callback, lambda *words: None
    if resumed:
        runs.resume(folder, save_every=0)
    else:
        runs.run(recipe, data=data, out=folder, save_every=0, seed=1,
                 given={"epochs": "3", "validation": "40", "batch_size": "20", "patience": "2"})


def trained(recipe, folder, data, resumed, steps=None, place=""):
    return os.waitstatus_to_exitcode(os.waitpid(forked(train, recipe, folder, data, resumed, steps, place), 0)[1])


def outcome(folder):
    """All that a finished run has, but for the seconds."""
    found = {name: (folder / name).read_bytes().hex() for name in ("model.npz", "metrics.json")}
    found["history"] = [line.rpartition(",")[0] for line in (folder / "history.csv").read_text().splitlines()]
    arrays, meta = store.read(folder / "last.npz")
    state = meta["training"]
    state.pop("seconds")
    for name, memory in state["callbacks"]:
        for row in memory["rows"] if name == "History" else ():
            row.pop("seconds")
    return found, state, {name: array.tobytes().hex() for name, array in arrays.items()}


def training_of(recipe, n, folder, data):
    folder, draw = Path(folder), random.Random(recipe)
    assert trained(recipe, folder / "whole", data, False) == 0
    whole, an_epoch = outcome(folder / "whole"), 20
    for i in range(1, n + 1):
        run, places = folder / f"run{i}", ("before the step", "after the step", "while saving", "after saving")
        steps = draw.randrange(2, 3 * an_epoch) if i % 2 else 1 + an_epoch * draw.randrange(1, 3)  # of an epoch's first
        ended = [trained(recipe, run, data, False, steps, places[i // 2 % 4])]
        stood = [checkpoint.place(run / "checkpoint.npz")]
        if i % 5 == 4:  # and once more, soon
            ended.append(trained(recipe, run, data, True, 2, "after the step"))
            stood.append(checkpoint.place(run / "checkpoint.npz"))
        last = trained(recipe, run, data, True)
        print(json.dumps({"ended": ended, "last": last, "stood": stood, "equal": outcome(run) == whole,
                          "left": sorted(os.listdir(run))}), flush=True)
        shutil.rmtree(run)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    if sys.argv[1] == "saving":
        saving(int(sys.argv[2]), sys.argv[3])
    else:
        training_of(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
