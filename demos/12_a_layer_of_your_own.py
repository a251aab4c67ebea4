"""How do you know that a layer that you wrote yourself is right, before you train with it?

Promise: the checks find something wrong with each of three unfinished versions and 0 faults in the fourth, and a model
trained with that one paints better than PCA with as many numbers. One minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, gradcheck, models, optim, train
from npae.data.batches import to_float
from npae.layers import Dense, Flatten, Layer, ReLU, Reshape, Sequential
from npae.params import Param

digits, short, pictures = lesson.begin("12_a_layer_of_your_own.py", __doc__)
digits = digits.first(1500 if short else 6000)
width, epochs = (128, 25) if short else (256, 20)
latent = 8
seed = 0

# %% [markdown]
# The layer: an activation that learns its own shape, one number b for each feature.
#
#     y = x s,   s = sigmoid(b x)          (b = 0: the line x / 2;  b = 1: SiLU;  b large: ReLU)
#
# On paper, with dL/dy = dy given, by the product rule and s' = s (1 - s):
#
#     dx = dy (s + b x s (1 - s)),    db = sum over the batch of  dy x² s (1 - s)
#
# A layer needs `_forward(x)`, which keeps in `self.saved` what backward wants, and `_backward(dy, need_dx)`, which
# returns dx and adds to each `grad`. Before any of it is written, the definition goes into a function that shares no
# line with the layer: a gradient check cannot see a wrong forward.

# %%


def definition(x: np.ndarray, b: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-b * x))


class Blank(Layer):
    """The forward, and a backward that is still to be written."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features
        self.b = Param("b", np.zeros(features, np.float32))  # a straight line to begin with
        self.params = (self.b,)

    def _forward(self, x):
        s = 1 / (1 + np.exp(-self.b.value * x))
        self.saved = x, s
        return x * s

    def _backward(self, dy, need_dx):
        return np.zeros_like(dy)

    def config(self):
        return {"layer": type(self).__name__, "features": self.features}


class Forgetful(Blank):
    """The product rule forgotten: s is taken for a constant in dx."""

    def _backward(self, dy, need_dx):
        x, s = self.saved
        self.b.grad += (dy * x * x * s * (1 - s)).sum(axis=0)
        return dy * s


class Overwriting(Blank):
    """Right numbers, written over what other batches have added."""

    def _backward(self, dy, need_dx):
        x, s = self.saved
        self.b.grad[...] = (dy * x * x * s * (1 - s)).sum(axis=0)
        return dy * (s + self.b.value * x * s * (1 - s))


class LearnedSiLU(Blank):
    """y = x sigmoid(b x)."""

    def _backward(self, dy, need_dx):
        x, s = self.saved
        self.b.grad += (dy * x * x * s * (1 - s)).sum(axis=0)
        return dy * (s + self.b.value * x * s * (1 - s))


# %% [markdown]
# `check_layer` walks through the protocol: every entry of x and b against differences, backward as a linear map, the
# state (nothing of the caller's is written to, gradients add up, no stale cache, any batch size and memory order),
# the values against the definition. Read what it says of each version.

# %%
faults = {}
for version in (Blank, Forgetful, Overwriting, LearnedSiLU):
    report = gradcheck.check_layer(lambda version=version: version(5), (4, 5), reference=definition)
    faults[version.__name__] = len(report.wrong)
    print(f"{version.__name__}: {'OK' if report.ok else report.wrong[0]}")
print(report)

# %% [markdown]
# Green. Now it may be trained: in an autoencoder, and beside it the same one with ReLU in its place.

# %%


def net(make) -> models.Autoencoder:
    """An autoencoder with one hidden layer on each side, whose activation `make(width)` makes."""
    rng = np.random.default_rng(seed)
    pixels = int(np.prod(digits.shape))
    return models.Autoencoder(
        Sequential([Flatten(), Dense(pixels, width, rng=rng), make(width), Dense(width, latent, rng=rng)]),
        Sequential([Dense(latent, width, rng=rng), make(width), Dense(width, pixels, rng=rng), Reshape(digits.shape)]))


trained = {}
for name, make in (("LearnedSiLU", LearnedSiLU), ("ReLU", lambda features: ReLU())):
    trained[name] = net(make)
    train.fit(trained[name], digits, optimizer=optim.Adam(2e-3), epochs=epochs, seed=seed)
error = {name: evaluate.reconstruction_mse(model, digits.test_x) for name, model in trained.items()}
error["PCA"] = evaluate.pca_mse(digits.train_x, digits.test_x, latent)
print(f"squared error per pixel, {latent} numbers a picture: "
      + ", ".join(f"{name} {mse:.4f}" for name, mse in error.items()))

# %%
# What the layer has learned: the shapes that its features have chosen; all began as the straight line x / 2.


@canvas.styled
def shapes():
    figure = canvas.page(840, 400, "Every feature has chosen its own bend",
                         "y = x sigmoid(b x); dashed: b = 0, where all began")
    x = np.linspace(-5, 5, 201)[:, None]
    for i, (place, layer) in enumerate((("encoder", trained["LearnedSiLU"].encoder.layers[2]),
                                        ("decoder", trained["LearnedSiLU"].decoder.layers[1]))):
        b = layer.b.value[np.argsort(layer.b.value)][:: max(1, width // 16)]
        ax = canvas.box(figure, left=70 + 430 * i, top=canvas.HEAD + 40, width=350, height=290)
        ax.plot(x, definition(x, b), color=canvas.BLUE, linewidth=1)
        ax.plot(x, definition(x, np.zeros(1)), color=canvas.ORANGE, linestyle="--")
        ax.set(title=f"{place}: b from {layer.b.value.min():.2f} to {layer.b.value.max():.2f}", xlabel="x", ylabel="y")
    return figure


figures.save(shapes(), pictures / "shapes.png")
x = to_float(digits.test_x[:10])
figures.save(figures.reconstructions(x, trained["LearnedSiLU"].reconstruct(x), title="Painted with your own layer"),
             pictures / "reconstructions.png")

# %%
# A model with the layer is saved and loaded like any other, if the loader is told the class.
trained["LearnedSiLU"].save(pictures / "own.npz")
again = models.load(pictures / "own.npz", custom=[LearnedSiLU])
assert np.array_equal(again.reconstruct(x), trained["LearnedSiLU"].reconstruct(x))

# %%
lesson.promised("unfinished versions that were found out", sum(n > 0 for n in list(faults.values())[:3]), above=3)
lesson.promised("faults in the finished layer", faults["LearnedSiLU"], below=0)
lesson.promised("its squared error, of PCA's", error["LearnedSiLU"] / error["PCA"], below=0.95)

# %% [markdown]
# Try this: break the layer in a way of your own (keep `self.saved` from the first call only; write into dy) and see
# which line of the report tells. Then `npae.lab`: how npae's own layers are walked through the same protocol.
