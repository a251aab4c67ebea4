"""Can an autoencoder invent digits, and what does it take?

Promise: 60 % of a VAE's samples are as near to a training picture as 90 % of real test pictures are, and it beats a
plain autoencoder, whose codes get a fair chance, by 15 points (3 in the short form). One minute on two cores.
"""
# %%
from collections.abc import Callable

import lesson
import numpy as np

from npae import figures, models, nets, optim, train
from npae.data.batches import binarize_threshold, to_float
from npae.losses import Bernoulli

digits, short, pictures = lesson.begin("07_sampling_from_a_vae.py", __doc__)
digits = digits.first(1000 if short else 12_000)
widths, epochs, lr = ([128], 20, 2e-3) if short else ([256, 128], 12, 1e-3)
seed = 0

# %% [markdown]
# An autoencoder learns a code for each picture that it is shown, and nothing about the places in between. A
# **variational** autoencoder (VAE) makes each code a small cloud, q(z|x) = N(mu, sigma²), paints from a point of the
# cloud, and pays for what q says beyond a standard normal:
#
#     loss = E_q[-log p(x|z)] + KL(q(z|x) || N(0, I))
#
# So neighbours must paint similar digits, and all clouds together must look like N(0, I): a place to draw new codes
# from.

# %%
# The same nets for all, but that a VAE's encoder gives mu and logvar: twice as many numbers. The third has a code of
# two numbers, to be looked at.


def pair(latent: int, numbers: int) -> tuple:
    rng = np.random.default_rng(seed)
    return (nets.mlp_encoder(digits.shape, [*widths, numbers], rng=rng),
            nets.mlp_decoder(digits.shape, [latent, *widths[::-1]], rng=rng))


plain = models.Autoencoder(*pair(32, 32), likelihood=Bernoulli())
vae = models.VAE(*pair(32, 2 * 32))
plane = models.VAE(*pair(2, 2 * 2))
for model in (plain, vae, plane):
    train.fit(model, digits, optimizer=optim.Adam(lr), epochs=epochs, seed=seed)

# %%
# The VAE says where codes live. The plain autoencoder does not: the fairest guess is a Gaussian with the mean and the
# covariance of its own codes.
rng = np.random.default_rng(seed)
h = plain.encode(to_float(digits.train_x))
guessed = rng.multivariate_normal(h.mean(axis=0), np.cov(h.T), 1000).astype(np.float32)
drawn = {"plain": plain.decode(guessed), "VAE": vae.sample(1000, rng=rng)}

# %% [markdown]
# How real is a sample? Find the training picture at the smallest angle to it (the angle, because a faint picture is
# near to everything), and do the same for real test pictures. Nine in ten of these find one within a `limit`: the
# **realism** of a painter is the share of its samples that do. Real pictures score 90 %.
#
# No such score is beyond doubt. Blur is near to everything, which is why a VAE, which blurs, can score above real
# pictures. So look once more with every pixel made black or white: the VAE is ahead there too, by less, and only after
# a full training (`--short` prints the opposite).

# %%


def nearest(x: np.ndarray, train_x: np.ndarray) -> np.ndarray:
    """1 - cos of the angle between each picture and its nearest training picture."""
    a, b = (p.reshape(len(p), -1) / np.sqrt(np.square(p).sum(axis=(1, 2, 3)) + 1e-9)[:, None] for p in (x, train_x))
    return 1 - (a @ b.T).max(axis=1)


def realism(x: np.ndarray, look: Callable[[np.ndarray], np.ndarray]) -> float:
    """The share of pictures that are as near to a training picture as nine in ten of the real ones."""
    train_x, test_x = look(to_float(digits.train_x)), look(to_float(digits.test_x[:1000]))
    return float(np.mean(nearest(look(x), train_x) <= np.quantile(nearest(test_x, train_x), 0.9)))


score = {name: realism(x, lambda x: x) for name, x in drawn.items()}
sharp = {name: realism(x, binarize_threshold) for name, x in drawn.items()}
print(f"realism: VAE {score['VAE']:.0%}, plain autoencoder {score['plain']:.0%}, real pictures 90 %")
print(f"realism in black and white, where blur does not help: VAE {sharp['VAE']:.0%}, plain {sharp['plain']:.0%}")

# %%
# Look at them: most of the plain autoencoder's are strokes that belong to no digit.
sheets = {"real test pictures": digits.test_x, **{f"{name}: {score[name]:.0%}": x for name, x in drawn.items()}}
figures.save(lesson.blocks(sheets, 8, 8, title="Digits that nobody wrote",
                           note="Right: decoded from drawn codes, with the share that is as near to a training picture "
                                "as 90 % of the real ones"), pictures / "samples.png")

# %%
# Walk from one test picture to another: half-way, the VAE is still in a place where codes live.
x = to_float(digits.test_x)
a, b = x[:6], x[40:46]
for name, model in (("plain autoencoder", plain), ("VAE", vae)):
    walks = np.stack([model.interpolate(*ends, 9) for ends in zip(a, b, strict=True)])
    figures.save(figures.interpolations(a, b, walks, title=f"From digit to digit: {name}"),
                 pictures / f"walk-{name.split()[0]}.png")

# %%
# And the whole plane of a code of two numbers: every place of the prior paints something, and neighbours look alike.
figures.save(figures.manifold(plane.decode), pictures / "manifold.png")
codes = plane.encode(x)
figures.save(figures.latent_scatter(codes, digits.test_y, title="Where the test pictures are"), pictures / "plane.png")

# %%
lesson.promised("realism of the VAE's samples", score["VAE"], above=0.6)
lesson.promised("and how far that is above the plain autoencoder's", score["VAE"] - score["plain"],
                above=0.03 if short else 0.15)
if not short:
    lesson.promised("the same in black and white", sharp["VAE"] - sharp["plain"], above=0.05)

# %% [markdown]
# Try this: 2 or 8 numbers a code instead of 32. With few numbers a Gaussian fits the plain autoencoder's codes so well
# that it samples about as realistically as the VAE; the prior is needed where there is room to get lost.
