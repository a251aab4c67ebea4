"""The training loop and its evaluation, each held against a plain account of what it has to do.
A mistake is named where what came out is exactly what that mistake gives.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from npae import evaluate, models, optim, train
from npae.callbacks import Callback, History, State
from npae.gradcheck import Report
from npae.lab.findings import Findings, alike
from npae.layers import Dense, Dropout, Flatten, GaussianNoise, Reshape, Sequential
from npae.losses import Bernoulli, SquaredError

SHAPE = (2, 3, 1)
BATCH, PICTURES = 8, 20  # batches of 8, 8 and 4
EPOCHS, RATE = 3, 0.05


# ---- a fit that is watched


class Watched:
    """What a model saw and said, loss after loss: pictures, labels, the loss; mixed into a model."""

    def loss(self, x: np.ndarray, y: Any = None, rng: Any = None) -> dict[str, float]:
        terms = super().loss(x, y, rng)  # type: ignore[misc]
        vars(self).setdefault("seen", []).append((x.copy(), None if y is None else y.copy(), terms["loss"]))
        return terms


class Plain(Watched, models.Autoencoder):
    """Without chance."""


class Sampled(Watched, models.VAE):
    """Draws its codes."""


class Greedy(Sampled):
    """Draws more than it needs."""

    def loss(self, x: np.ndarray, y: Any = None, rng: Any = None) -> dict[str, float]:
        if rng is not None:
            rng.random(5)
        return super().loss(x, y, rng)


class Weights(Callback):
    """The parameters before the fit and after each batch, and what callbacks are told of the place."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []
        self.places: list[tuple[int, ...]] = []

    def on_fit_begin(self, state: State) -> None:
        """Before the first step."""
        self.kept.append(weights(state.model))

    def on_batch_end(self, state: State) -> None:
        """After each one."""
        self.kept.append(weights(state.model))
        self.places.append((state.epoch, state.step, state.images, state.steps))


def weights(model: Any) -> np.ndarray:
    """The values of all parameters: what the layers compute with, whatever has become of theta."""
    return np.concatenate([p.value.ravel() for p in model.params])


def make(kind: Any, kernels: ModuleType, noise: float = 0.0) -> Any:
    """A small model in float64; equal calls give equal models."""
    rng, codes = np.random.default_rng(1), 4 if issubclass(kind, models.VAE) else 2
    encoder = Sequential([Flatten(), GaussianNoise(noise), Dropout(noise),
                          Dense(6, codes, rng=rng, kernels=kernels)])
    decoder = Sequential([Dense(2, 6, rng=rng, kernels=kernels), Reshape(SHAPE)])
    likelihood: Any = Bernoulli if codes == 4 else SquaredError
    return kind(encoder, decoder, likelihood=likelihood(kernels=kernels)).to(np.float64)


def pictures(n: int = PICTURES) -> np.ndarray:
    """Grey levels that grow, so that batches differ."""
    levels = np.random.default_rng(0).integers(0, 60, (n, *SHAPE))
    return (levels + np.linspace(0, 190, n).astype(int)[:, None, None, None]).astype(np.uint8)


def fit(kind: Any, kernels: ModuleType, **settings: Any) -> tuple[Any, History]:
    """The model and the history of a fit in which row i has the label i."""
    model = make(kind, kernels)
    settings = {"y": np.arange(PICTURES), "epochs": EPOCHS, "batch_size": BATCH, **settings,
                "optimizer": optim.SGD(settings.get("lr", RATE), kernels=kernels)}
    settings.pop("lr", None)
    return model, train.fit(model, settings.pop("x", pictures()), **settings)


def orders(model: Any) -> np.ndarray:
    """The labels of each epoch, (EPOCHS, PICTURES), as the losses of training met them."""
    return np.concatenate([y for _, y, _ in model.seen]).reshape(-1, PICTURES)


def _by_hand(seen: list[Any], kernels: ModuleType, cleared: Callable[[int], bool]) -> np.ndarray:
    """theta after steps of plain SGD on the very batches that a fit has met; cleared(step): set the gradient to 0."""
    model = make(Plain, kernels)
    for step, (x, _, _) in enumerate(seen):
        if cleared(step):
            model.grad[...] = 0
        model.loss(x)
        model.backward()
        model.theta -= RATE * model.grad
    return weights(model)


def _fit(kernels: ModuleType) -> Report:
    """Three epochs of three batches."""
    found, watch = Findings(), Weights()
    model, history = fit(Plain, kernels, callbacks=[watch])
    a_epoch = -(-PICTURES // BATCH)
    found.same("theta has gone one step of its gradient for each batch", lambda: weights(model),
               lambda: _by_hand(model.seen, kernels, lambda step: True),
               {"gradients are never cleared": lambda: _by_hand(model.seen, kernels, lambda step: step == 0),
                "gradients are cleared once an epoch": lambda: _by_hand(model.seen, kernels,
                                                                        lambda step: step % a_epoch == 0)})
    found.test("the parameters are views of theta afterwards", lambda: _views(model, found))
    found.test("callbacks see the weights of after the step", lambda: _callbacks_in_time(watch.kept, model, found))
    found.same("callbacks are told how far the epoch has come", lambda: watch.places,
               lambda: [(epoch, step, min(step * BATCH, PICTURES), a_epoch)
                        for epoch in range(EPOCHS) for step in range(1, a_epoch + 1)], {}, "state")
    sizes = np.array([[len(x) for x, _, _ in model.seen[:a_epoch]]] * EPOCHS)
    losses = np.array([loss for _, _, loss in model.seen]).reshape(EPOCHS, -1)
    found.same("the reported loss is a mean over pictures", lambda: history["loss"],
               lambda: (sizes * losses).sum(1) / sizes.sum(1),
               {"every batch weighs the same": lambda: losses.mean(1), "the last batch alone": lambda: losses[:, -1],
                "a sum over batches": lambda: losses.sum(1), "a sum over pictures": lambda: (sizes * losses).sum(1)})
    found.test("every epoch has an order of its own", lambda: _orders_differ(orders(model), found))
    found.test("the same seed gives the same bits, and another one others", lambda: _seeds(kernels, found))
    found.test("more noise does not change the order", lambda: _apart(kernels, found))
    found.test("validation leaves the training as it is", lambda: _validation_apart(kernels, found))
    found.test("every validation draws the same noise", lambda: _validation_alike(kernels, found))
    found.test("a loss that is no number ends the fit", lambda: _broken(kernels, found))
    return found.report("train.fit: three epochs of three batches")


def _views(model: Any, found: Findings) -> str:
    strangers = [p.name for p in model.params if not np.shares_memory(p.value, model.theta)]
    return found.say("the parameters are no views of theta") if strangers else ""


def _callbacks_in_time(kept: list[np.ndarray], model: Any, found: Findings) -> str:
    if np.array_equal(kept[-1], weights(model)) and not np.array_equal(kept[1], kept[0]):
        return ""
    late = np.array_equal(kept[1], kept[0]) and not np.array_equal(kept[-1], weights(model))
    return found.say("callbacks see weights that are one step old") if late else "the weights of another moment"


def _orders_differ(epochs: np.ndarray, found: Findings) -> str:
    if any(sorted(epoch) != list(range(PICTURES)) for epoch in epochs):
        return "not every picture comes once"
    if all(np.array_equal(epoch, np.arange(PICTURES)) for epoch in epochs):
        return found.say("not shuffled")
    return found.say("the same order in every epoch") if (epochs == epochs[0]).all() else ""


def _seeds(kernels: ModuleType, found: Findings) -> str:
    one, two, other = (weights(fit(Sampled, kernels, seed=seed)[0]) for seed in (7, 7, 8))
    if not np.array_equal(one, two):
        return found.say("the same seed gives other bits")
    if np.array_equal(one, weights(make(Sampled, kernels))):
        return "the weights have not moved"
    return found.say("another seed gives the same bits") if np.array_equal(one, other) else ""


def _apart(kernels: ModuleType, found: Findings) -> str:
    """The order is that of the seed, in which a model that draws more finds its pictures too."""
    modest, greedy = (orders(fit(kind, kernels)[0]) for kind in (Sampled, Greedy))
    again = orders(fit(Sampled, kernels)[0])
    if np.array_equal(modest, greedy):
        return ""
    return found.say("noise changes the order") if np.array_equal(modest, again) else "the order changes by itself"


def _validation_apart(kernels: ModuleType, found: Findings) -> str:
    """The generator that a transform is given in training stands where it would stand without a validation."""
    def run(valid: Any) -> tuple[np.ndarray, list[Any]]:
        states: list[Any] = []

        def look(x: np.ndarray, rng: Any) -> np.ndarray:
            if len(x) != len(pictures(5)):
                states.append(rng.bit_generator.state["state"]["state"])
            return x

        model, _ = fit(Sampled, kernels, validation=valid, transform=look)
        return weights(model), states

    (alone, stood), (beside, stands) = run(None), run(pictures(5))
    if np.array_equal(alone, beside):
        return ""
    moved = stood[0] == stands[0] and stood != stands
    return found.say("validation moves the training's noise") if moved else "the training is another one"


def _validation_alike(kernels: ModuleType, found: Findings) -> str:
    _, history = fit(Sampled, kernels, validation=pictures(5), lr=0.0)
    return found.say("other noise in every validation") if len(set(history["val_loss"])) > 1 else ""


def _broken(kernels: ModuleType, found: Findings) -> str:
    x = pictures() / 255
    x[3] = math.nan
    try:
        fit(Plain, kernels, x=x)
    except ValueError:
        return ""
    return found.say("a NaN passes")


# ---- evaluation


def _evaluation(kernels: ModuleType) -> Report:
    """Ten pictures in batches of 4, 4 and 2."""
    found, x, calm, noisy = Findings(), pictures(10), make(Plain, kernels), make(Plain, kernels, noise=0.4)
    parts = [x[i:i + 4] / 255 for i in range(0, 10, 4)]
    losses, sizes = np.array([calm.loss(part)["loss"] for part in parts]), np.array([4, 4, 2])

    def terms(model: Any, seed: int = 0) -> float:
        return evaluate.loss_terms(model, x, rng=np.random.default_rng(seed), batch_size=4)["loss"]

    found.same("the loss is a mean over pictures", lambda: terms(calm), lambda: (sizes * losses).sum() / 10,
               {"every batch weighs the same": lambda: losses.mean(), "a sum over batches": lambda: losses.sum(),
                "a sum over pictures": lambda: (sizes * losses).sum(), "the last batch alone": lambda: losses[-1]})
    found.test("noise and dropout layers are off in an evaluation",
               lambda: _quiet(found, partial(terms, noisy), terms(calm)))

    def reconstructed(seed: int) -> np.ndarray:
        noisy.loss(x / 255, rng=np.random.default_rng(seed))
        return noisy.reconstruct(x / 255)

    still = calm.reconstruct(x / 255)
    found.test("noise and dropout layers are off in a reconstruction", lambda: _quiet(found, reconstructed, still))
    squares = np.square(still - x / 255)
    found.same("reconstruction_mse is a mean over pictures and pixels",
               lambda: evaluate.reconstruction_mse(calm, x, batch_size=4), lambda: squares.mean(),
               {"a sum over pixels": lambda: squares.sum() / 10, "the root of it": lambda: math.sqrt(squares.mean()),
                "a sum over pictures": lambda: squares.sum() / 6,
                "every batch weighs the same": lambda: np.mean([squares[i:i + 4].mean() for i in range(0, 10, 4)])})
    return found.report("Evaluation: ten pictures in batches of 4, 4 and 2")


def _quiet(found: Findings, f: Callable[[int], Any], still: Any) -> str:
    """f(seed) is what it is without noise; if it is not, whether the seed is what makes the difference."""
    one, again, other = f(0), f(0), f(1)
    if alike(one, still) and alike(other, still):
        return ""
    noise = np.array_equal(one, again) and not np.array_equal(one, other)
    return found.say("noise layers are on") if noise else "it is another one than without noise layers"


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "fit": _fit, "evaluation": _evaluation}
