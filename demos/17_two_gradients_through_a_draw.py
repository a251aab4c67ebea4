"""A gradient has to pass through a random draw: two estimators have the same mean, so why does everybody take one?

Promise: on a VAE's encoder the two means differ by at most twice what chance makes of it; the score function's variance
is at least 1000 times the reparameterisation's, and with the usual cure still 4 times; after the same training its
pixels cost at least 15 nats more. Half a minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, losses, models, nets, optim, train
from npae.data.batches import to_float
from npae.models.vae import halves

digits, short, pictures = lesson.begin("17_two_gradients_through_a_draw.py", __doc__)
digits = digits.first(1500 if short else 6000)
draws, epochs = (1000, 6) if short else (4000, 12)
width, latent = 64, 8
seed = 0

# %% [markdown]
# f(z) = -log p(x|z) is what a picture costs, z ~ q = N(mu, sigma²) is drawn, and what is wanted is the derivative of a
# mean, E_q[f(z)], with respect to mu and logvar. There are two ways to bring it inside, to where one can draw:
#
#     score function       E[f(z) dlog q(z)]      dlog q/dmu = eps / sigma,   dlog q/dlogvar = (eps² - 1) / 2
#     reparameterisation   E[df/dz dz]            dz/dmu = 1,                 dz/dlogvar = eps sigma / 2
#
# The first (also called REINFORCE) differentiates the *distribution*: it moves mu towards draws that came cheap, and
# asks nothing of f but its value. The second writes z = mu + sigma eps and differentiates the *draw*: df/dz tells it
# which way is downhill. Anything that does not depend on this eps, a **baseline** c, may be taken off f without a
# change of the score function's mean, because E[dlog q] = 0.

# %%


def score_function(f, eps, sigma, c=0):
    """d[mu | logvar] of the batch's mean cost, from what each draw cost."""
    cost = ((f - c) / len(f)).astype(eps.dtype)[:, None]
    return np.concatenate([cost * eps / sigma, cost * (eps**2 - 1) / 2], axis=1)


def reparameterisation(dz, eps, sigma):
    """The same, from the gradient that arrives at z."""
    return np.concatenate([dz, dz * eps * sigma / 2], axis=1)


# %% [markdown]
# One model, the same pictures, the same draws for all three. The model has been trained for 240 steps, so that its
# code means something. The baseline of a picture is the mean of what its earlier draws have cost.

# %%


def vae(kind=models.VAE, **settings):
    rng = np.random.default_rng(seed)
    return kind(nets.mlp_encoder(digits.shape, [width, 2 * latent], rng=rng),
                nets.mlp_decoder(digits.shape, [latent, width], mean=digits.mean, rng=rng), **settings)


def trained(model, epochs):
    return train.fit(model, digits, optimizer=optim.Adam(2e-3), epochs=epochs, batch_size=50, seed=seed)


model = vae()
trained(model, 8 if short else 2)
x = to_float(digits.test_x[:16])
mu, logvar = halves(model.encoder.forward(x))
sigma = np.exp(logvar / 2)
rng = np.random.default_rng(seed)


def draw():
    """What each picture's z costs, the eps that made it, and the gradient that arrives at z."""
    eps = rng.standard_normal(mu.shape).astype(np.float32)
    f, dlogits = model.likelihood.nll_each(model.decoder.forward(mu + sigma * eps), x)
    return f, eps, model.decoder.backward(dlogits)


# %%
# Each estimate goes down through the encoder to its first matrix, the last gradient of a backward pass.
W = model.encoder.params[0]
NAMES = "score function", "with a baseline", "reparameterisation"
dW = {name: np.zeros((2, W.grad.size)) for name in NAMES}  # sums of dW and dW² over the draws
apart = {name: np.zeros((2, W.grad.size)) for name in NAMES[:2]}  # the same of its distance to the last one's
of_mu = {name: [] for name in NAMES}  # the first picture's dmu[0], draw by draw
c = np.mean([draw()[0] for _ in range(10)], axis=0)
for k in range(draws):
    f, eps, dz = draw()
    found = {}
    for name, dq in zip(NAMES, (score_function(f, eps, sigma), score_function(f, eps, sigma, c),
                                reparameterisation(dz, eps, sigma)), strict=True):
        model.zero_grad()
        model.encoder.backward(dq, need_dx=False)
        found[name] = W.grad.ravel().astype(np.float64)
        dW[name] += found[name], found[name]**2
        of_mu[name].append(dq[0, 0])
    for name in apart:
        distance = found[name] - found["reparameterisation"]
        apart[name] += distance, distance**2
    c += (f - c) / (11 + k)


def mean_and_variance(sums):
    mean, square = sums / draws
    return mean, float((square - mean**2).sum())


# %% [markdown]
# Same mean? The squared distance between the two means is, on average, the variance of the difference over the number
# of draws, if chance is all there is. The baseline makes this a sharp question; without it the answer drowns in noise.

# %%
_, best = mean_and_variance(dW["reparameterisation"])
size = np.linalg.norm(mean_and_variance(dW["reparameterisation"])[0])
ratio, chance = {}, {}
for name in NAMES[:2]:
    mean, variance = mean_and_variance(apart[name])
    chance[name] = np.linalg.norm(mean) / np.sqrt(variance / draws)
    ratio[name] = mean_and_variance(dW[name])[1] / best
    print(f"{name}: {ratio[name]:,.1f} times the variance; its mean is {np.linalg.norm(mean) / size:.1%} of the "
          f"gradient away, {chance[name]:.2f} times what chance makes of {draws} draws")

# %% [markdown]
# What does it cost to learn so? Three VAEs from the same weights, with the same pictures in the same order. Only what
# arrives at the encoder differs; the decoders learn from their own exact gradient. The baseline of a picture is what
# the others of its batch have cost.

# %%


class Costs(losses.Bernoulli):
    """Bernoulli, and it remembers what each picture cost."""

    def nll_each(self, output, x):
        self.f, doutput = super().nll_each(output, x)
        return self.f, doutput


class ScoreVAE(models.VAE):
    """A VAE whose encoder is told what z cost, and never which way is downhill."""

    baseline = False

    def backward(self):
        self.decoder.backward(self.dy, need_dx=False)  # there would be a dz, and nobody asks for it
        (eps,), sigma = self.reparameterize.saved
        f = self.likelihood.f
        c = (f.sum() - f) / (len(f) - 1) if self.baseline else 0
        dq = score_function(f, eps, sigma, c) + np.concatenate([self.dmu, self.dlogvar], axis=1)
        self.encoder.backward(dq, need_dx=False)


class BaselineVAE(ScoreVAE):
    """The same with a baseline."""

    baseline = True


vaes = {"score function": vae(ScoreVAE, likelihood=Costs()), "with a baseline": vae(BaselineVAE, likelihood=Costs()),
        "reparameterisation": vae()}
curves = {name: trained(one, epochs)["recon"] for name, one in vaes.items()}
recon = {name: evaluate.elbo(one, digits.test_x, rng=np.random.default_rng(seed)) for name, one in vaes.items()}
for name, cost in recon.items():
    print(f"{name}: {cost['recon']:.1f} nats for the pixels and {cost['kl']:.1f} for the code after {epochs} epochs")

# %%


@canvas.styled
def both():
    figure = canvas.page(1040, 400, f"Right on average, at {ratio['score function']:,.0f} times the variance",
                         "Left: one entry of the gradient, every draw. Right: what learning makes of it")
    colours = dict(zip(NAMES, (canvas.ORANGE, "#7d4a8d", canvas.BLUE), strict=True))
    left = canvas.box(figure, left=40, top=canvas.HEAD + 40, width=440, height=290)
    right = canvas.box(figure, left=590, top=canvas.HEAD + 40, width=260, height=290)
    for row, name in enumerate(NAMES):
        values = np.array(of_mu[name])
        up = row + np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
        left.plot(values, up, ".", color=colours[name], markersize=3, alpha=0.4)
        told = f"{name}: {canvas.number(values.mean(), '.2f')} ± {values.std():.2f}"
        left.text(0.01, row + 0.28, told, color=colours[name], weight="bold", transform=left.get_yaxis_transform())
        right.plot(np.arange(1, epochs + 1), curves[name], color=colours[name])
        right.annotate(name.replace(" ", "\n", 1), (epochs, curves[name][-1]), (10, 0), textcoords="offset points",
                       color=colours[name], weight="bold", va=("bottom", "top", "center")[row])
    left.set(xlabel="d cost / d mu, nats", ylim=(-0.4, 2.7), yticks=[], title="the gradient (mean ± deviation)")
    right.set(xlabel="epoch", ylabel="nats per image, for the pixels", title="the learning")
    canvas.epoch_axis(right, np.arange(1, epochs + 1))
    return figure


figures.save(both(), pictures / "draws.png")

# %%
lesson.promised("distance of the means, of what chance makes of it, the larger", max(chance.values()), below=2)
lesson.promised("the smaller", min(chance.values()), above=0.4)
lesson.promised("variance of the score function, of reparameterisation's", ratio["score function"], above=1000)
lesson.promised("the same with a baseline", ratio["with a baseline"], above=4)
lesson.promised("nats for the pixels that it is behind after training, with a baseline",
                recon["with a baseline"]["recon"] - recon["reparameterisation"]["recon"], above=15)
lesson.promised("nats for the pixels that the baseline saves",
                recon["score function"]["recon"] - recon["with a baseline"]["recon"], above=2)

# %% [markdown]
# Try next: `latent = 2`, then 32. How does the variance with a baseline grow with the numbers that are drawn at once,
# and why does reparameterisation's not? Then a mistake: let the baseline be the cost of this very draw, and read the
# first promise.
