"""`npae trace`: a recipe or a run, trained for a few steps as `npae train` would, with a trace around some of them.
Nothing is written; a run's folder stays as it is.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npae import data as _data
from npae import recipes, runs, train
from npae.callbacks import Callback, EarlyStopping, State
from npae.data.batches import binarizer, to_float
from npae.models import Model
from npae.trace.record import Trace
from npae.trace.rows import PICTURES

WARM = 10  # steps of a recipe before the traced one: the very first step of an optimizer is not like the others
MOST = 20  # traced steps of a series: what a page of 3 MB can show


@dataclass(frozen=True)
class Frame:
    """One traced step, counted from 1, and beside it a trace of the same pictures as in all other frames.

    `maps` is a forward and a backward of a copy of the model with the weights that the step began with.
    """

    step: int
    trace: Trace
    maps: Trace


@dataclass(frozen=True)
class Session:
    """The frames of a training, the model as they left it, and what a page says about them."""

    title: str
    frames: list[Frame]
    model: Model


def of_recipe(name: str, *, data: str = "strokes", data_dir: str | None = None, seed: int = 0,
              given: Mapping[str, str] | None = None, steps: int = WARM, every: int | None = None) -> Session:
    """Build a recipe as `npae train` does, and trace the step after so many; or every so manieth from the first.

    Raises ValueError: a setting or data set that will not do; a training that ends before.
    """
    model, dataset, config, _ = runs.prepared(name, data=data, data_dir=data_dir, seed=seed, given=given)
    return _traced(f"{name} on {dataset.name}, seed {seed}", model, dataset, config, _wanted(steps, every))


def of_run(folder: str | Path, *, steps: int = 0, every: int | None = None) -> Session:
    """Trace the next step of a finished run, with its optimizer begun anew; with `every` train the run once more, to
    the same bits, and trace every so manieth of its steps, from the first on.

    Raises ValueError: no finished run.
    """
    model, dataset, config = runs.load(folder)
    if every is not None:
        recipe = recipes.get(config["recipe"])
        model = recipe.build(config["settings"], dataset, train.streams(config["seed"]).init)
    what = "trained once more" if every is not None else "after its training, its optimizer begun anew"
    title = f"{config['recipe']} on {dataset.name}, seed {config['seed']}, {what}"
    return _traced(title, model, dataset, config, _wanted(steps, every))


def _wanted(steps: int, every: int | None) -> list[int]:
    """The steps to trace, counted from 0."""
    if every is None:
        if steps < 0:
            raise ValueError(f"--steps must be at least 0, got {steps}")
        return [steps]
    if every < 1:
        raise ValueError(f"--every must be at least 1, got {every}")
    return [every * i for i in range(MOST)]


def _traced(title: str, model: Model, dataset: _data.Dataset, config: runs.Config,
            wanted: list[int]) -> Session:
    settings = config["settings"]
    x, y = some_pictures(dataset, config["seed"], binarizer(settings["binarize"]), model)
    watch = Watch(model, wanted, x, y, config["seed"])
    patience = [EarlyStopping(settings["patience"])] if settings["patience"] else []
    try:
        runs.fit(model, dataset, config, [watch, *patience])
    except Enough:
        pass
    finally:
        watch.close()
    if not watch.frames:
        raise ValueError(f"the training has {watch.step:,} steps, and step {wanted[0] + 1:,} was to be traced: use "
                         "fewer --steps")
    return Session(title, watch.frames, model)


def some_pictures(dataset: _data.Dataset, seed: int, transform: Any,
                  model: Model) -> tuple[np.ndarray, np.ndarray | None]:
    """The first test pictures, of different labels where there are labels, as the model is shown them."""
    y = dataset.test_y
    first = np.arange(len(dataset.test_x)) if y is None else np.sort(np.unique(y, return_index=True)[1])
    rest = np.setdiff1d(np.arange(min(len(dataset.test_x), 2 * PICTURES)), first)
    chosen = np.concatenate([first, rest])[:PICTURES]
    x = to_float(dataset.test_x[chosen], model.theta.dtype)
    if transform is not None:
        x = transform(x, train.streams(seed).figures)
    return x, None if y is None or model.classes is None else y[chosen]


class Enough(Exception):
    """Ends a fit whose wanted steps are traced."""


class Watch(Callback):
    """Opens a trace before each wanted step (counted from 0), closes it after, and ends the fit with the last one."""

    def __init__(self, model: Model, wanted: Collection[int], x: np.ndarray, y: np.ndarray | None, seed: int):
        self.model, self.wanted, self.x, self.y, self.seed = model, wanted, x, y, seed
        self.frames: list[Frame] = []
        self.step = 0
        self.trace: Trace | None = None
        self.maps: Trace | None = None

    def on_fit_begin(self, state: State) -> None:
        """The first step may be a wanted one."""
        self._open()

    def on_batch_end(self, state: State) -> None:
        """A wanted step is over; the next one may be wanted too."""
        self.step += 1
        if self.trace is not None and self.maps is not None:
            self.close()
            self.frames.append(Frame(self.step, self.trace, self.maps))
            self.trace = None
        if len(self.frames) == len(self.wanted):
            raise Enough
        self._open()

    def close(self) -> None:
        """Take the wrapping off, also after an exception."""
        if self.trace is not None:
            self.trace.__exit__(None, None, None)

    def _open(self) -> None:
        if self.step in self.wanted:
            self.maps = probe(self.model, self.x, self.y, self.seed)
            self.trace = Trace(self.model)
            self.trace.__enter__()


def probe(model: Model, x: np.ndarray, y: np.ndarray | None, seed: int) -> Trace:
    """A forward and a backward of a copy of the model, always with the same noise: the model itself notices nothing."""
    twin = model.to()
    with Trace(twin) as maps:
        twin.loss(x, y, rng=train.streams(seed).figures)
        twin.backward()
    return maps
