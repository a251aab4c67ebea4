"""One training step of a recipe, as the benchmarks time it: the recipe's own nets, loss and optimizer, on batches that
are ready and with noise that is given, so that nothing but the step is timed and a peer can do exactly the same.
"""
from __future__ import annotations

import numpy as np

from npae import data, recipes
from npae.models import VAE

MODELS = ("conv-ae", "conv-vae", "mlp-vae", "tied-ae", "bernoulli-vae")  # the five that are compared
BATCHES = 8  # different ones in turn, so that no branch predictor learns a batch by heart


class Step:
    """`step(i)` is one step on batch i mod 8: grad = 0, loss, backward, optimizer.

    Attributes: x (8, N, H, W, C) float32; eps (8, N, d), the noise of a VAE, else None; model, optimizer, settings.
    """

    def __init__(self, recipe: str, batch_size: int | None = None, seed: int = 0, **changes: object):
        r, strokes = recipes.get(recipe), data.load("strokes")
        self.recipe = recipe
        self.settings = r.parse({key: str(value) for key, value in changes.items()})
        r.adapt(self.settings, strokes)
        rng = np.random.default_rng(seed)
        self.model = r.build(self.settings, strokes, rng)
        self.optimizer = r.optimizer(self.settings)
        self.batch_size = batch_size or self.settings["batch_size"]
        pictures = strokes.train_x[rng.integers(len(strokes.train_x), size=(BATCHES, self.batch_size))]
        self.x = np.divide(pictures, 255, dtype=np.float32)
        if self.settings["binarize"] == "threshold":
            self.x = np.ceil(self.x - np.float32(0.5))
        self.eps = None
        if isinstance(self.model, VAE):
            self.eps = rng.standard_normal((BATCHES, self.batch_size, self.model.latent)).astype(np.float32)
        self.model.keep_buffers(True)

    def loss_and_grad(self, i: int) -> dict[str, float]:
        """The terms of batch i; model.grad holds the gradient."""
        if self.eps is not None:
            self.model.reparameterize.eps = self.eps[i % BATCHES]
        self.model.zero_grad()
        terms = self.model.loss(self.x[i % BATCHES])
        self.model.backward()
        return terms

    def __call__(self, i: int) -> dict[str, float]:
        terms = self.loss_and_grad(i)
        self.optimizer.step(self.model.theta, self.model.grad)
        return terms
