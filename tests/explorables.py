"""Models and pictures that the explorer's tests share: every recipe untrained, and kinds that no recipe has."""
import numpy as np

from npae import recipes
from npae.data import Dataset
from npae.layers import Conv2d, Dense, Flatten, MaxPool2d, Reshape, Sequential, TiedConvTranspose2d, TiedDense
from npae.losses import Bernoulli, SquaredError
from npae.models import VAE, Autoencoder


def bars(n, shape=(28, 28, 1), seed=0):
    """n uint8 pictures of a bright tilted bar, 20 of 28 pixels long, with its centre of mass in the middle."""
    rng = np.random.default_rng(seed)
    i, j = (np.indices(shape[:2]) - (np.array(shape[:2])[:, None, None] - 1) / 2) * 28 / max(shape[:2])
    labels = np.arange(n) % 10
    angle = (labels + rng.uniform(-0.3, 0.3, n))[:, None, None] * np.pi / 10
    along, across = i * np.cos(angle) + j * np.sin(angle), j * np.cos(angle) - i * np.sin(angle)
    bar = np.clip(11 - np.abs(along), 0, 1) * np.clip(2 - np.abs(across), 0, 1)
    return np.round(255 * bar[..., None] * np.linspace(1, 0.4, shape[2])).astype(np.uint8), labels


def pictures(shape=(28, 28, 1), n=90, labelled=True, name="bars"):
    """A data set of bars."""
    x, y = bars(2 * n, shape)
    half = (lambda part: y[part]) if labelled else (lambda part: None)
    return Dataset(x[:n], half(slice(n)), x[n:], half(slice(n, None)), name)


def stirred(model, seed=0):
    """The model with biases that are not zero, and outputs that are not all nearly equal."""
    rng = np.random.default_rng(seed)
    for p in model.params:
        if p.value.ndim == 1:
            p.value[...] = 0.3 * rng.standard_normal(p.value.shape)
        else:
            p.value[...] *= 1.5
    return model


def of_recipe(name, dataset):
    """A recipe's model, untrained, and its settings."""
    recipe = recipes.get(name)
    settings, _ = recipe.resolve({})
    return stirred(recipe.build(settings, dataset, np.random.default_rng(1))), settings


class LabelledVAE(VAE):
    """A conditional model as small as can be: [pixels | one-hot label] and [z | one-hot label] go in as rows."""

    classes = 10

    @property
    def latent(self):
        return super().latent - self.classes

    def _encoder_input(self, x, y):
        return np.hstack([x.reshape(len(x), -1), np.eye(self.classes, dtype=x.dtype)[y]])

    def _decoder_input(self, z, y):
        return np.hstack([z, np.eye(self.classes, dtype=z.dtype)[y]])


def labelled(latent=2, shape=(28, 28, 1)):
    """A conditional VAE that paints the ten labels in ten brightnesses."""
    rng, pixels = np.random.default_rng(2), int(np.prod(shape))
    encoder = Sequential([Dense(pixels + 10, 30, activation="tanh", rng=rng), Dense(30, 2 * latent, rng=rng)])
    decoder = Sequential([Dense(latent + 10, 30, activation="softplus", rng=rng), Dense(30, pixels, rng=rng),
                          Reshape(shape)])
    model = stirred(LabelledVAE(encoder, decoder, likelihood=Bernoulli()))
    decoder.layers[0].W.value[latent:] += np.linspace(-1, 1, 10, dtype=np.float32)[:, None]
    decoder.layers[1].W.value[...] += 0.03
    return model


def dense(latent=5, shape=(28, 28, 1), hidden=40, activation=None):
    """An autoencoder of dense layers; `activation` is the code's."""
    rng, pixels = np.random.default_rng(3), int(np.prod(shape))
    encoder = Sequential([Flatten(), Dense(pixels, hidden, activation="relu", rng=rng),
                          Dense(hidden, latent, activation=activation, rng=rng)])
    decoder = Sequential([Dense(latent, hidden, activation="relu", rng=rng),
                          Dense(hidden, pixels, activation="sigmoid", rng=rng), Reshape(shape)])
    return stirred(Autoencoder(encoder, decoder, likelihood=SquaredError()))


def tied():
    """An autoencoder whose decoder is the encoder's transpose, for pictures of 6 x 9 x 3."""
    rng = np.random.default_rng(4)
    conv, code = Conv2d(3, 4, (3, 2), stride=(2, 3), rng=rng), Dense(3 * 3 * 4, 3, rng=rng)
    encoder = Sequential([conv, Flatten(), code])
    decoder = Sequential([TiedDense(code, "relu"), Reshape((3, 3, 4)), TiedConvTranspose2d(conv, "sigmoid")])
    return stirred(Autoencoder(encoder, decoder))


def picture_codes():
    """An autoencoder whose codes are pictures."""
    rng = np.random.default_rng(5)
    encoder = Sequential([Conv2d(1, 2, 3, stride=2, rng=rng), MaxPool2d(2)])
    return Autoencoder(encoder, Sequential([Flatten(), Dense(98, 784, rng=rng), Reshape((28, 28, 1))]))


def some_codes(model, n, seed=0):
    """n random codes of a model, and labels where it needs them."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, model.latent)).astype(np.float32)
    return z, None if model.classes is None else rng.integers(0, model.classes, n)
