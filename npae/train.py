"""The training loop: forward, backward, step, batch after batch.
Everything else (bars, best weights, stopping early, pictures) hangs on callbacks.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npae import checkpoint
from npae.callbacks import Callback, History, State
from npae.checkpoint import Checkpoint
from npae.checks import whole
from npae.data import Dataset
from npae.data.batches import Transform, batches, count, permutation
from npae.evaluate import loss_terms
from npae.models.base import Model
from npae.nonfinite import check_loss, check_moments
from npae.optim import LBFGS, Adam, Optimizer

BATCH_SIZE = 64


class Streams(NamedTuple):
    """The generators of one run, each for one purpose, so that more noise never changes the order of the pictures."""

    init: np.random.Generator
    order: np.random.Generator
    noise: np.random.Generator
    validation: np.random.Generator
    test: np.random.Generator
    figures: np.random.Generator


def streams(seed: int) -> Streams:
    """Independent generators for initialisation, shuffling, noise, validation, test and figures, all from one seed."""
    seeds = np.random.SeedSequence(whole(seed, "seed", least=0)).spawn(len(Streams._fields))
    return Streams(*map(np.random.default_rng, seeds))


def fit(model: Model, x: np.ndarray | Dataset, y: np.ndarray | None = None, *, optimizer: Optimizer | None = None,
        epochs: int = 10, batch_size: int = BATCH_SIZE, validation: Any = None, seed: int = 0,
        callbacks: Iterable[Callback] = (), drop_last: bool = False, transform: Transform | None = None,
        resume: str | Path | None = None) -> History:
    """Train a model on pictures, in place, and return its history: one row an epoch.

        for each batch:  grad = 0;  loss(x);  backward();  theta = step(theta, grad)      (L-BFGS: all pictures at once)

    x: uint8 pictures or floats in [0, 1] (N, H, W, C), or a Dataset; batch_size: pictures a step (the default: at
    most all); validation: pictures, or (pictures, labels), for the val_... columns; transform(x, rng): what is done to
    each batch (binarisation); drop_last: leave the last, short batch out.
    Terms are means over the epoch's pictures, in the model's units.
    resume: what a `checkpoint.Checkpoint` among the callbacks of an interrupted fit has written; with the arguments of
    that fit (more epochs may be asked for) this one ends in the same bits as if it had never been interrupted.
    Raises ValueError: a loss that is not finite, of a batch (theta is left as it was before that step) or of the
    validation; data of a wrong shape; a batch larger than the data; pictures above 1 for a sigmoid to paint; another
    argument that will not do; a checkpoint that is damaged, or of another fit (CheckpointError).
    """
    if not isinstance(model, Model):
        raise ValueError(f"fit trains a model such as models.VAE(encoder, decoder), got {model!r}")
    x, y, valid_x, valid_y = _parts(x, y, validation)
    if transform is None:
        _check_range(model, x)
    callbacks, history = _hooks(callbacks)
    optimizer = Adam(1e-3) if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"fit needs an optimizer such as optim.Adam(1e-3), got {optimizer!r}")
    epochs, rng = whole(epochs, "fit: epochs", least=0), streams(seed)
    if batch_size == BATCH_SIZE:
        batch_size = min(BATCH_SIZE, max(len(x), 1))
    steps = count(len(x), batch_size, drop_last)
    if batch_size > len(x):
        raise ValueError(f"batch_size {batch_size} is larger than the {len(x)} training pictures: take at most "
                         f"{len(x)}")
    state = State(model, optimizer, epochs, steps, math.prod(x.shape[1:]),
                  generators=rng._asdict(), callbacks=callbacks)
    if resume is not None or isinstance(callbacks[-1], Checkpoint):
        state.config = checkpoint.configuration(model, optimizer, (x, y), (valid_x, valid_y), transform,
                                                batch_size=int(batch_size), seed=int(seed), drop_last=bool(drop_last))
    if resume is not None:
        checkpoint.restore(state, resume)

    def epoch_end() -> None:
        if not np.isfinite(model.theta).all():  # by the epoch's last step, which no loss has looked at
            check_loss(math.nan, f"after epoch {state.epoch + 1}", model, x[:1])
        check_moments(state.optimizer, f"after epoch {state.epoch + 1}")
        if valid_x is not None:
            _validate(state, valid_x, valid_y, seed, transform)
        state.epoch, state.order = state.epoch + 1, None
        for c in callbacks:
            c.on_epoch_end(state)

    model.keep_buffers(True)
    try:
        for c in callbacks:
            c.on_fit_begin(state)
        if isinstance(optimizer, LBFGS) and epochs:
            _whole_batch(state, *next(batches(x, y, len(x), noise=rng.noise, transform=transform,
                                              dtype=model.theta.dtype)), optimizer, callbacks, epoch_end)
        while not isinstance(optimizer, LBFGS) and state.epoch < epochs and state.stop is None:
            if state.order is None:
                state.begin_epoch(permutation(len(x), rng.order))
            _epoch(state, batches(x, y, batch_size, order=state.order, first=state.step, noise=rng.noise,
                                  drop_last=drop_last, transform=transform,
                                  dtype=model.theta.dtype), rng.noise, callbacks)
            epoch_end()
        for c in callbacks:
            c.on_fit_end(state)
    except BaseException:
        for c in callbacks:
            with suppress(Exception):  # the one that ended the fit is the one to tell
                c.on_fit_broken(state)
        raise
    finally:
        model.keep_buffers(False)
    return history


def _parts(x: Any, y: Any, validation: Any) -> tuple[np.ndarray, Any, Any, Any]:
    """Pictures and labels to train on, then those of the validation or None, in whatever form they were given."""
    if isinstance(x, Dataset):
        if y is not None:
            raise ValueError(f"{x.name} has labels of its own: leave y out, or pass the pictures as an array")
        if validation is None:
            validation = x.valid_x, x.valid_y
        x, y = x.train_x, x.train_y
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        raise ValueError(f"fit: x must be pictures as an array, or a Dataset, got {type(x).__name__}")
    y = None if y is None else np.asarray(y)
    pair = isinstance(validation, tuple | list) and len(validation) == 2
    valid_x, valid_y = validation if pair else (validation, None)
    if valid_x is not None and not isinstance(valid_x, np.ndarray):
        raise ValueError("fit: validation must be pictures, or (pictures, labels), as arrays, got "
                         f"{type(valid_x).__name__}: of a Dataset take dataset.test_x, or dataset.with_validation()")
    return x, y, valid_x, None if valid_y is None else np.asarray(valid_y)


def _check_range(model: Model, x: np.ndarray) -> None:
    if model.ends_in_sigmoid and x.dtype.kind == "f" and x.max(initial=0) > 1:
        raise ValueError(f"the decoder ends in a sigmoid and paints pixels up to 1, and the pictures, {x.dtype}, go up "
                         f"to {x.max():g}: divide them by 255, or pass grey levels as uint8")


def _hooks(callbacks: Iterable[Callback]) -> tuple[list[Callback], History]:
    """The callbacks as a list, and the History among them, which is put in front where there is none; a Checkpoint is
    told last, since it saves what the others remember.

    Raises ValueError: something that is no callback, or two Checkpoints.
    """
    given = isinstance(callbacks, Iterable)
    hooks = list(callbacks) if given else []
    strangers = [c for c in hooks if isinstance(c, type) or not hasattr(c, "on_fit_begin")]
    if not given or strangers:
        raise ValueError("fit: callbacks is a list of objects whose classes inherit from npae.callbacks.Callback, got "
                         f"{strangers[0] if strangers else callbacks!r}")
    history = next((c for c in hooks if isinstance(c, History)), None)
    if history is None:
        hooks.insert(0, history := History())
    if sum(isinstance(c, Checkpoint) for c in hooks) > 1:
        raise ValueError("fit: callbacks has 2 Checkpoints or more, and one training is saved in one place: leave one")
    hooks.sort(key=lambda c: isinstance(c, Checkpoint))
    return hooks, history


def _epoch(state: State, epoch: Any, noise: np.random.Generator, callbacks: Iterable[Callback]) -> None:
    model = state.model
    for x, y in epoch:
        start = time.perf_counter()
        model.zero_grad()
        terms = model.loss(x, y, rng=noise)
        check_loss(terms["loss"], f"in epoch {state.epoch + 1}, batch {state.step + 1} of {state.steps}", model, x, y,
                   terms)
        model.backward()
        with _telling_where(state):
            state.optimizer.step(model.theta, model.grad)
        for name, value in terms.items():
            state.sums[name] = state.sums.get(name, 0.0) + value * len(x)
        state.step += 1
        state.images += len(x)
        state.seconds += time.perf_counter() - start
        state.terms = {name: value / state.images for name, value in state.sums.items()}
        for c in callbacks:
            c.on_batch_end(state)


@contextmanager
def _telling_where(state: State) -> Iterator[None]:
    """Add to what an optimizer refuses in which batch that was, and which gradient is not finite."""
    try:
        yield
    except ValueError as error:
        bad = [p.name for p in state.model.params if not np.isfinite(p.grad).all()]
        error.add_note(f"in epoch {state.epoch + 1}, batch {state.step + 1} of {state.steps}"
                       + (f", where the gradient of {bad[-1]} is not finite" if bad else ""))
        raise


def _validate(state: State, x: np.ndarray, y: np.ndarray | None, seed: int, transform: Transform | None) -> None:
    """Add the val_... columns to the epoch's row; each validation of a run draws the same noise."""
    state.at_rest = True
    terms = loss_terms(state.model, x, y, rng=streams(seed).validation, transform=transform)
    state.at_rest = False
    check_loss(terms["loss"], f"of the validation pictures after epoch {state.epoch + 1}", state.model, x, y)
    state.terms.update({f"val_{name}": value for name, value in terms.items()})


def _whole_batch(state: State, x: np.ndarray, y: np.ndarray | None, optimizer: LBFGS, callbacks: Iterable[Callback],
                 epoch_end: Callable[[], None]) -> None:
    """L-BFGS on all pictures at once; each of its iterations is an epoch of one batch."""
    model = state.model
    state.steps, start, terms = 1, time.perf_counter(), {}

    def f(theta: np.ndarray) -> tuple[float, np.ndarray]:
        model.theta[...] = theta
        model.zero_grad()
        terms.update(model.loss(x, y))  # no generator: what changes from call to call cannot be searched along a line
        check_loss(terms["loss"], f"in iteration {state.epoch + 1}", model, x, y, terms)
        model.backward()
        return terms["loss"], model.grad

    def after(theta: np.ndarray) -> bool:
        nonlocal start  # theta is the point that f was asked about last, so model and terms are its own
        state.step, state.images, state.terms = 1, len(x), dict(terms)
        state.seconds, start = time.perf_counter() - start, time.perf_counter()
        for c in callbacks:
            c.on_batch_end(state)
        epoch_end()
        return state.stop is not None

    optimizer.minimize(f, model.theta, state.epochs, after)
