"""Why does a VAE's code die, can it be brought back, and could you have known which numbers die?

Promise: with the mean over pixels, and with beta = 20, 0 numbers of the code are active; mended, at least 10 of 16 come
back to life. In a linear VAE the nats of the code at five prices are as PCA says, to 0.5 nats. Half a minute.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, losses, models, nets, optim, train
from npae.data.batches import to_float

digits, short, pictures = lesson.begin("16_posterior_collapse.py", __doc__)
digits = digits.first(1500 if short else 6000)
width, latent = 128, 16
dead, alive = (3, 4) if short else (4, 8)  # epochs
seed = 0
x = to_float(digits.test_x)

# %% [markdown]
# The KL asks for q(z|x) = N(0, 1), a code that says nothing of x; the pixels ask for one that does. A number of the
# code lives if the nats that it saves on the pixels are more than beta times the nats that it costs. Where none of them
# does, the encoder says mu = 0, sigma = 1 of every picture and the decoder paints the mean: **posterior collapse**. Two
# ways to make it, which are one and the same:
#
# 1. The pixels are averaged, the KL is not (`reduction="mean"` elsewhere): beta = 784, and nobody has written it down.
# 2. beta = 20: written down, and too much.

# %%


class PixelMean(losses.Bernoulli):
    """The cross-entropy as a mean over the pixels."""

    def nll_each(self, output, x):
        values, doutput = super().nll_each(output, x)
        return values / x[0].size, doutput / x[0].size


def vae(**settings):
    rng = np.random.default_rng(seed)
    return models.VAE(nets.mlp_encoder(digits.shape, [width, 2 * latent], rng=rng),
                      nets.mlp_decoder(digits.shape, [latent, width], mean=digits.mean, rng=rng), **settings)


def active_by_epoch(model, epochs):
    """Train on, and count after each epoch the numbers of the code that change from picture to picture."""
    counts, optimizer = [], optim.Adam(2e-3)
    for epoch in range(epochs):
        train.fit(model, digits, optimizer=optimizer, epochs=1, batch_size=50, seed=seed + epoch)
        counts.append(evaluate.active_units(model.encode(x)))
    return counts


# %% [markdown]
# Made, and cured: after some epochs the mistake is mended, and nothing else. No new weights, no warm-up: a collapsed
# code is no trap, it was the best answer to another question. (The optimizer begins afresh, because Adam's v remembers
# the size of the other loss's gradients: with the old one it takes three epochs longer after beta = 20.)

# %%
collapsed = {"mean over pixels": vae(likelihood=PixelMean()), "beta = 20": vae(beta=20)}
counts, worth = {}, {}
for name, model in collapsed.items():
    counts[name] = active_by_epoch(model, dead)
    worth[name] = [evaluate.reconstruction_mse(model, digits.test_x)]
    model.likelihood, model.beta = losses.Bernoulli(), 1.0
    counts[name] += active_by_epoch(model, alive)
    worth[name].append(evaluate.reconstruction_mse(model, digits.test_x))
    print(f"{name}: {counts[name][dead - 1]} of {latent} numbers active, and {counts[name][-1]} when mended; squared "
          f"error per pixel {worth[name][0]:.4f} and {worth[name][1]:.4f} (of the mean picture "
          f"{np.mean((x - digits.mean) ** 2):.4f})")
healthy = active_by_epoch(vae(), dead + alive)

# %% [markdown]
# **Which numbers die?** In a linear VAE (one matrix each way, Gaussian pixels of variance s²) the answer is a formula.
# Along principal component k the pictures have the variance lambda_k, and at the optimum a number of the code speaks
# for that component alone:
#
#     its mu has the variance   1 - beta s² / lambda_k,      it costs   log(lambda_k / (beta s²)) / 2   nats
#
# where lambda_k > beta s², and it is dead where not. beta s² is the price, and PCA's spectrum the list of who can pay:
# the same threshold as in probabilistic PCA (Lucas et al. 2019, 'Don't blame the ELBO!', section 4).

# %%
small = to_float(digits.train_x)
small = small.reshape(len(small), small.shape[1] // 2, 2, small.shape[2] // 2, 2, 1).mean(axis=(2, 4))  # 14 x 14
spectrum = np.linalg.eigvalsh(np.cov(small.reshape(len(small), -1).T))[::-1][:latent]
variance = float(spectrum[0]) / 10
betas = (1, 2, 4, 8, 16)


def nats(price):
    """What PCA says that the code costs."""
    return float(np.log(np.maximum(spectrum / price, 1)).sum() / 2)


def linear(beta):
    """A linear VAE, trained; its decoder begins at the mean picture."""
    rng = np.random.default_rng(seed)
    model = models.VAE(nets.mlp_encoder(small.shape[1:], [2 * latent], rng=rng),
                       nets.mlp_decoder(small.shape[1:], [latent], rng=rng),
                       likelihood=losses.Gaussian(variance), beta=beta)
    model.decoder.params[1].value[...] = small.mean(axis=0).ravel()
    epochs = 90_000 // len(small)  # as many steps for few pictures as for many
    rate = optim.CosineDecay(2e-2, epochs * -(-len(small) // 125))
    train.fit(model, small, optimizer=optim.Adam(rate), epochs=epochs, batch_size=125, seed=seed)
    return model


rates = [evaluate.elbo(linear(beta), small, rng=np.random.default_rng(seed))["kl"] for beta in betas]
for beta, rate in zip(betas, rates, strict=True):
    print(f"linear, beta {beta:2d}: {rate:5.2f} nats in the code, PCA says {nats(beta * variance):5.2f}, in "
          f"{int(np.sum(spectrum > beta * variance))} numbers")

# %%


@canvas.styled
def collapse():
    figure = canvas.page(1000, 380, "A collapsed code is not lost, and PCA knows when it dies",
                         "Left: numbers of the code that are active. Right: what the code of a linear VAE holds")
    left = canvas.box(figure, left=80, top=canvas.HEAD + 36, width=370, height=280)
    right = canvas.box(figure, left=580, top=canvas.HEAD + 36, width=400, height=280)
    epochs = np.arange(1, dead + alive + 1)
    for name, colour, style in (("mean over pixels", canvas.ORANGE, "-"), ("beta = 20", canvas.BLUE, "--")):
        left.plot(epochs, counts[name], style, color=colour, linewidth=3)
        left.annotate(name, (dead + 1, 0.4 if style == "-" else 1.8), color=colour, weight="bold")
    left.plot(epochs, healthy, color=canvas.GREY, linewidth=1.5)
    left.annotate("never wrong", (dead + 1, latent), (0, 5), textcoords="offset points", color=canvas.GREY)
    left.axvline(dead + 0.5, color="black", linewidth=1, linestyle=":")
    left.annotate("mended", (dead + 0.5, 8), (-6, 0), textcoords="offset points", ha="right")
    left.set(xlabel="epoch", ylabel=f"active numbers, of {latent}", ylim=(-0.5, latent + 2))
    canvas.epoch_axis(left, epochs)
    prices = np.geomspace(0.6 * variance, 20 * variance, 200)
    right.plot(prices, [nats(price) for price in prices], color=canvas.GREY)
    right.plot(np.array(betas) * variance, rates, "o", color=canvas.BLUE, markersize=9)
    for beta, rate in zip(betas, rates, strict=True):
        right.annotate(f"{beta}" if beta > 1 else "beta = 1", (beta * variance, rate), (6, 6),
                       textcoords="offset points", color=canvas.BLUE, weight="bold")
    right.plot(spectrum, np.full(latent, -0.6), "|", color=canvas.ORANGE, markersize=12, markeredgewidth=2)
    right.annotate("PCA's variances: who can pay", (spectrum[-1], -0.6), (0, -10), textcoords="offset points",
                   color=canvas.ORANGE, va="top")
    right.annotate("line: PCA's forecast,\ndots: trained", (0.55, 0.75), xycoords="axes fraction", color=canvas.GREY)
    right.set(xscale="log", xlabel="price beta s² of a nat", ylabel="nats per image in the code", ylim=(-2.8, None))
    return figure


figures.save(collapse(), pictures / "collapse.png")

# %%
off = [abs(rate - nats(beta * variance)) for beta, rate in zip(betas, rates, strict=True)]
lesson.promised("active numbers, collapsed", max(n[dead - 1] for n in counts.values()), below=0)
lesson.promised("active numbers, mended", min(n[-1] for n in counts.values()), above=10)
lesson.promised("nats between a linear VAE's code and PCA's forecast", max(off), below=0.5)

# %% [markdown]
# Try next: beta = 5 in place of 20: how many numbers die, and how many nats do the others hold? Or mend nothing, but
# let beta grow from 0 to 20 over the epochs (KL warm-up): which collapse can a warm-up prevent, and why not this one?
