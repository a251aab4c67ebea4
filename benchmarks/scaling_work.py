"""How the time grows with threads, batch, pictures and width: the parts of scaling.py that run in its own process.

What is compared is run in turn, round by round, so that a machine that is busy for a while disturbs all of it alike.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from steps import BATCHES, Step

from npae import data, kernels, losses, models, nets, optim, recipes, train
from npae.data.batches import binarizer
from npae.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Reshape, Sequential

Run = Callable[[int], object]
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PICTURES = (1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)  # of the dense net's hidden layers
CHANNELS = (4, 8, 16, 32, 64, 128)  # of the convolutions'
LATENT = 32


def in_rounds(runs: Mapping[str, Run], rounds: int, seconds: float = 0.2,
              before: Callable[[str], None] = lambda name: None) -> dict[str, list[float]]:
    """Seconds of one call of each run, the median of its turn, for each round; `before(name)` stands before each turn.

    A turn is as many calls as fit into `seconds`, at least 3; a first turn, which compiles, does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(rounds + 1):
        for name, run in runs.items():
            before(name)
            run(0)  # brings back what the others drove from the caches
            taken: list[float] = []
            end = time.perf_counter() + (seconds if k else 0)
            while len(taken) < 3 or time.perf_counter() < end:
                taken.append(_seconds(run, len(taken)))
            if k:
                times[name].append(median(taken))
    return times


def _seconds(run: Run, i: int) -> float:
    start = time.perf_counter()
    run(i)
    return time.perf_counter() - start


def threads(names: Sequence[str], rounds: int) -> dict[str, Any]:
    """model -> seconds a step with 1 and with 2 threads, and the speed-up: the median over the rounds."""
    found = {}
    for name in names:
        step = Step(name)
        times = in_rounds({"1": step, "2": step}, rounds, before=lambda n: kernels.set_threads(int(n)))
        ratios = [one / two for one, two in zip(times["1"], times["2"], strict=True)]
        found[name] = {"batch": step.batch_size, "seconds": {n: median(t) for n, t in times.items()},
                       "speed_up": median(ratios), "range": [min(ratios), max(ratios)]}
    return found


def batch(names: Sequence[str], rounds: int, sizes: Sequence[int] = BATCH_SIZES) -> dict[str, Any]:
    """model -> microseconds a picture by batch size, and `rise`: the most that a picture ever costs above the least
    that it costs in a smaller batch (1: it falls or is level all the way).
    """
    found = {}
    for name in names:
        runs: dict[str, Run] = {str(n): Step(name, n) for n in sizes}
        times = {n: min(t) / int(n) for n, t in in_rounds(runs, rounds).items()}
        found[name] = {"us": {n: 1e6 * t for n, t in times.items()}, "rise": rise(list(times.values()))}
    return found


def rise(values: Sequence[float]) -> float:
    """The largest ratio of a value to the smallest one before it; at least 1."""
    least, worst = math.inf, 1.0
    for value in values:
        worst, least = max(worst, value / least), min(least, value)
    return worst


def pictures(names: Sequence[str], rounds: int, numbers: Sequence[int] = PICTURES) -> dict[str, Any]:
    """model -> seconds of an epoch through train.fit by the number of pictures, and the exponent p of seconds ~ n^p.

    The pictures are strokes, again and again; shuffling, conversion to floats and bookkeeping are in the time.
    """
    found = {}
    for name in names:
        runs = {str(n): epoch(name, n) for n in numbers}
        runs[str(min(numbers))](0)
        rows = [{n: _seconds(run, k) for n, run in runs.items()} for k in range(rounds)]
        times = {n: min(row[n] for row in rows) for n in runs}
        found[name] = {"seconds": times, "exponent": exponent(list(map(int, times)), list(times.values()))}
    return found


def epoch(name: str, n: int) -> Run:
    """One epoch of a recipe on n pictures, as `npae train` trains it."""
    recipe, strokes = recipes.get(name), data.load("strokes")
    settings = recipe.parse({})
    recipe.adapt(settings, strokes)
    model = recipe.build(settings, strokes, np.random.default_rng(0))
    optimizer = recipe.optimizer(settings)
    x = np.resize(strokes.train_x, (n, *strokes.shape))

    def run(i: int) -> object:
        return train.fit(model, x, optimizer=optimizer, epochs=1, batch_size=settings["batch_size"], seed=i,
                         drop_last=recipe.drop_last, transform=binarizer(settings["binarize"]))

    return run


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """p of seconds ~ size^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def width(rounds: int, widths: Sequence[int] = WIDTHS, channels: Sequence[int] = CHANNELS,
          batch_size: int = 64) -> dict[str, Any]:
    """net -> by width: seconds a step and GF/s. dense: 784-w-w-32-w-w-784; conv: four convolutions of c channels."""
    found = {}
    for kind, build, sizes in (("dense", dense_net, widths), ("conv", conv_net, channels)):
        models_ = {str(w): build(w) for w in sizes}
        times = {w: min(t) for w, t in in_rounds({w: stepping(m, batch_size) for w, m in models_.items()},
                                                 rounds).items()}
        work = {w: flops(m, batch_size) for w, m in models_.items()}
        found[kind] = {w: {"seconds": times[w], "gflops": work[w] / times[w] / 1e9} for w in times}
    return found


def dense_net(w: int) -> models.Autoencoder:
    """Two hidden layers of width w down, two up."""
    rng = np.random.default_rng(0)
    return models.Autoencoder(nets.mlp_encoder((28, 28, 1), [w, w, LATENT], rng=rng),
                              nets.mlp_decoder((28, 28, 1), [LATENT, w, w], rng=rng), likelihood=losses.Bernoulli())


def conv_net(c: int) -> models.Autoencoder:
    """Two 3 x 3 convolutions of c channels down (the first of stride 2), two up."""
    rng = np.random.default_rng(0)
    return models.Autoencoder(
        Sequential([Conv2d(1, c, 3, stride=2, activation="relu", rng=rng), Conv2d(c, c, 3, activation="relu", rng=rng),
                    Flatten(), Dense(14 * 14 * c, LATENT, rng=rng)], input_shape=(28, 28, 1)),
        Sequential([Dense(LATENT, 14 * 14 * c, activation="relu", rng=rng), Reshape((14, 14, c)),
                    ConvTranspose2d(c, c, 3, stride=2, activation="relu", rng=rng), Conv2d(c, 1, 3, rng=rng)],
                   input_shape=(LATENT,)), likelihood=losses.Bernoulli())


def stepping(model: models.Autoencoder, batch_size: int) -> Run:
    """One step of Adam on one of the batches."""
    x = np.random.default_rng(0).random((BATCHES, batch_size, 28, 28, 1), np.float32)
    optimizer = optim.Adam(1e-4)
    model.keep_buffers(True)

    def run(i: int) -> None:
        model.zero_grad()
        model.loss(x[i % BATCHES])
        model.backward()
        optimizer.step(model.theta, model.grad)

    return run


def flops(model: models.Autoencoder, batch_size: int) -> int:
    """Of forward, dW and dx of every layer; the first one that learns has no dx."""
    both = model.encoder.multiply_adds((28, 28, 1)) + model.decoder.multiply_adds((LATENT,))
    shape: tuple[int, ...] = (28, 28, 1)
    for layer in model.encoder.layers:
        if layer.params:
            return 2 * batch_size * (3 * both - layer.multiply_adds(shape))
        shape = layer.output_shape(shape)
    raise ValueError("an encoder without parameters has nothing to train")
