"""Small trainings with everything that has a memory, for the tests that interrupt them."""
import numpy as np
import pytest

from npae import losses, models, optim, store, train
from npae.callbacks import Animation, Callback, EarlyStopping, History, ModelCheckpoint
from npae.checkpoint import Checkpoint
from npae.data.batches import binarize_sample
from npae.kernels import reference
from npae.layers import Dense, Dropout, Flatten, GaussianNoise, Reshape, Sequential

SHAPE = (4, 4, 1)


class Killed(BaseException):
    """Stands for the end of a process."""


class Kill(Callback):
    """Ends the fit at a place: after so many batches of all epochs."""

    def __init__(self, batches):
        self.left = batches

    def on_batch_end(self, state):
        self.left -= 1
        if self.left == 0:
            raise Killed


def vae(noise=0.1):
    rng = np.random.default_rng(1)
    encoder = [Flatten(), GaussianNoise(noise), Dense(16, 8, activation="tanh", rng=rng, kernels=reference),
               Dropout(noise), Dense(8, 4, rng=rng, kernels=reference)]
    decoder = [Dense(2, 16, rng=rng, kernels=reference), Reshape(SHAPE)]
    return models.VAE(Sequential(encoder), Sequential(decoder), likelihood=losses.Bernoulli(kernels=reference))


def pictures(n=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def adam(lr=1e-2):
    return optim.Adam(lr, kernels=reference)


class Fit:
    """A fit with everything that has a memory: model, optimizer, callbacks; once it may be killed."""

    epochs = 5

    def __init__(self, make=adam, folder=None, seconds=0.0):
        self.model, self.optimizer, self.history = vae(), make(), History()
        self.best, self.patience = ModelCheckpoint(), EarlyStopping(4)
        codes = np.zeros((2, 2), np.float32)
        self.animation = Animation("unused.gif", codes, pictures(2) / np.float32(255))
        self.memories = [self.history, self.best, self.patience, self.animation]
        self.saver = [] if folder is None else [Checkpoint(folder / "c.npz", seconds=seconds)]

    def run(self, *more, **settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("npae.figures.training_gif", lambda frames, path: None)
            train.fit(self.model, pictures(), **{"optimizer": self.optimizer, "epochs": self.epochs, "batch_size": 8,
                                                 "validation": pictures(6, 1), "seed": 3, "transform": binarize_sample,
                                                 "callbacks": [*more, *self.memories, *self.saver], **settings})
        return self

    def killed_after(self, batches, **settings):
        with pytest.raises(Killed):
            self.run(Kill(batches), **settings)
        return self

    def all(self):
        """All that a training leaves behind, but for the seconds."""
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in self.history.rows]
        frames = [(epoch, a.tobytes(), x.tobytes(), b.tobytes()) for epoch, a, x, b in self.animation.frames]
        moments = {name: part if isinstance(part, int | float | None) else part.tobytes()
                   for name, part in self.optimizer.state().items()}
        return (self.model.theta.tobytes(), moments, rows, frames, self.best.best, self.best.epoch,
                self.best.theta.tobytes(), self.patience.state())


def draw_one(model, dataset, history, config, folder):
    """For `npae.runs.start.draw`: one figure in place of all, in the way in which they are written."""
    (folder / "figures").mkdir(exist_ok=True)
    store.write_text(folder / "figures" / "one.png", "picture")
