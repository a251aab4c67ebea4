"""Which mistakes in well-known VAE code does a gradient check see, and what does see them?

Promise: of five mistakes that tutorials make, a gradient check sees 0, and the five facts below see 5, with the right
code passing each. One minute on two cores.
"""
# %%
import lesson
import numpy as np
from scipy.spatial.distance import pdist

from npae import canvas, evaluate, figures, gradcheck, losses, models, nets, optim, penalties, train
from npae.data.batches import to_float
from npae.layers import Reparameterize

digits, short, pictures = lesson.begin("11_five_mistakes_of_tutorials.py", __doc__)
digits = digits.first(1000 if short else 6000)
width, epochs = (64, 10) if short else (256, 20)
latent = 2
seed = 0
x, y = to_float(digits.test_x), digits.test_y
green: dict[str, bool] = {}  # mistake -> does the model pass a gradient check with it?
seen: dict[str, bool] = {}  # mistake -> does the right code agree with the fact, and the wrong code not?


def small(kind=models.VAE, label=0, **settings):
    """A small VAE that has learned nothing yet; label: how many numbers its label takes."""
    rng = np.random.default_rng(seed)
    return kind(nets.mlp_encoder(digits.shape, [width, 2 * latent], classes=label, rng=rng),
                nets.mlp_decoder(digits.shape, [latent + label, width], mean=digits.mean, rng=rng), **settings)


def trained(model):
    train.fit(model, digits, optimizer=optim.Adam(2e-3), epochs=epochs, batch_size=50, seed=seed)
    return model


def passes(model) -> bool:
    return gradcheck.check(model, x[:8], y=y[:8], rng=np.random.default_rng(seed), entries=12).ok


right = trained(small())
told = trained(small(models.ConditionalVAE, label=10, classes=10))

# %% [markdown]
# A gradient check asks whether backward is the derivative of forward. Each mistake below is a wrong **forward** with
# the backward that belongs to it. What sees it is a fact that does not come from the code itself.
#
# **1. z = mu + exp(logvar) eps.** The KL takes the second head as log sigma², the sampling as log sigma.
# *The fact:* at logvar = -2 many z must scatter by sigma = exp(-1).

# %%


class ExpLogvar(Reparameterize):
    """sigma = exp(logvar), which is what exp(logvar / 2) makes of 2 logvar."""

    def _forward(self, x):
        return super()._forward(x * np.repeat([1, 2], x.shape[1] // 2).astype(x.dtype))

    def _backward(self, dz, need_dx):
        return super()._backward(dz, need_dx) * np.repeat([1, 2], dz.shape[1]).astype(dz.dtype)


def is_sigma(layer) -> bool:
    layer.give_rng(np.random.default_rng(seed))
    return abs(layer.forward(np.tile([0.0, -2.0], (100_000, 1))).std() - np.exp(-1)) < 0.01


narrow = small()
narrow.reparameterize = ExpLogvar()
green["exp(logvar)"], seen["exp(logvar)"] = passes(narrow), is_sigma(Reparameterize()) and not is_sigma(ExpLogvar())
told_kl = evaluate.elbo(trained(narrow), x, rng=np.random.default_rng(seed))["kl"]
mu, logvar = narrow.encode_stats(x)
true_kl, *_ = penalties.gaussian_kl(mu, 2 * logvar)
print(f"1. narrower clouds than it says: a KL of {told_kl:.1f} nats as reported, {true_kl:.1f} for the z that it draws")

# %% [markdown]
# **2. The label as one number**, not one-hot. Then 4 lies between 3 and 5, and 0 is far from 9, as amounts do.
# *The fact:* labels are only names, so any two of them are equally far apart.

# %%


class NumberVAE(models.ConditionalVAE):
    """Told y / 9 in one column."""

    def one_hot(self, y, n, dtype=np.float32):
        return (np.reshape(y, (n, 1)) / 9).astype(dtype)


def names_only(model) -> bool:
    return bool(np.ptp(pdist(model.one_hot(np.arange(10), 10))) < 1e-6)


number = small(NumberVAE, label=1, classes=1)
green["label as a number"], seen["label as a number"] = passes(number), names_only(told) and not names_only(number)
asked = np.arange(500) % 10
sheet = {name: model.sample(500, rng=np.random.default_rng(seed), y=asked)
         for name, model in (("one-hot", told), ("one number", trained(number)))}
read = {name: evaluate.knn(to_float(digits.train_x), digits.train_y, s, asked) for name, s in sheet.items()}
print("2. read as asked by 5 nearest neighbours: " + ", ".join(f"{name} {share:.0%}" for name, share in read.items()))
figures.save(figures.class_sheet(sheet["one-hot"][:60], 10, name=f"one-hot: {read['one-hot']:.0%} read so",
                                 beside={f"one number: {read['one number']:.0%}": sheet["one number"][:60]},
                                 title="Digits to order, by two ways to tell the label"), pictures / "label.png")

# %% [markdown]
# **3. The -1 is missing in KL = 1/2 sum (mu² + sigma² - 1 - log sigma²).** A constant: every gradient, and every
# picture, stays as it is. Only the number that is reported is wrong, by half a nat for each number of the code. *The
# fact:* N(0, 1) is no distance from itself.

# %%


class NoMinusOneVAE(models.VAE):
    """With the KL that many blogs print."""

    def loss(self, x, y=None, rng=None):
        terms = super().loss(x, y, rng)
        return {**terms, "kl": terms["kl"] + self.dmu.shape[1] / 2, "loss": terms["loss"] + self.dmu.shape[1] / 2}


def zero_at_the_prior(kind) -> bool:
    silent = kind(right.encoder.to(), right.decoder.to())
    silent.theta[...] = 0  # says mu = logvar = 0 of every picture
    return abs(silent.loss(x[:9], rng=np.random.default_rng(seed))["kl"]) < 1e-6


shifted = NoMinusOneVAE(right.encoder.to(), right.decoder.to())
green["no -1"] = passes(small(NoMinusOneVAE))
seen["no -1"] = zero_at_the_prior(models.VAE) and not zero_at_the_prior(NoMinusOneVAE)
kl = [evaluate.elbo(model, x, rng=np.random.default_rng(seed))["kl"] for model in (right, shifted)]
print(f"3. the same model reports a KL of {kl[0]:.2f} nats with the -1, and of {kl[1]:.2f} without")

# %% [markdown]
# **4. The mean over pixels in place of the sum.** It divides the reconstruction by 784 and leaves the KL: a beta of
# 784. *The fact:* a decoder that knows nothing (logits 0) needs ln 2 nats for each of the pixels.

# %%


class PixelMean(losses.Bernoulli):
    """What a framework's default reduction gives."""

    def nll_each(self, output, x):
        values, doutput = super().nll_each(output, x)
        return values / x[0].size, doutput / x[0].size


def costs_ln2_a_pixel(likelihood) -> bool:
    return abs(likelihood.nll(np.zeros_like(x[:1]), x[:1])[0] / (x[0].size * np.log(2)) - 1) < 1e-6


mean, heavy = small(likelihood=PixelMean()), small(beta=float(x[0].size))
green["mean over pixels"] = passes(mean)
seen["mean over pixels"] = costs_ln2_a_pixel(losses.Bernoulli()) and not costs_ln2_a_pixel(PixelMean())
loss = [model.loss(x[:9], rng=np.random.default_rng(seed))["loss"] for model in (mean, heavy)]
active = [evaluate.active_units(model.encode(x)) for model in (right, trained(mean))]
print(f"4. its loss is that of beta = {heavy.beta:.0f} divided by {loss[1] / loss[0]:.2f}; "
      f"active numbers of the code: {active[1]}, with the sum {active[0]}")
samples = {name: model.sample(36, rng=np.random.default_rng(seed)) for name, model in (
    ("right", right), ("exp(logvar)", narrow), ("no -1 (the same)", shifted), ("mean over pixels", mean))}
figures.save(lesson.blocks(samples, 6, 6, title="Samples, without a mistake and with three",
                           note="Decoded from the same z ~ N(0, I)"), pictures / "samples.png")

# %% [markdown]
# **5. A sigmoid, and a logarithm that is clipped**, in place of logits. Where the net is sure and wrong, the clip
# cuts off cost and gradient: just there nothing is learned any more. *The fact:* a black pixel at logit l costs log(1
# + exp(l)), which is l for large l, and the slope is 1.

# %%


class Clipped(losses.Bernoulli):
    """-x log p - (1 - x) log(1 - p) with p kept 1e-7 away from 0 and 1, and its exact derivative."""

    def nll_each(self, output, x):
        p = self.mean(output)
        q = p.clip(1e-7, 1 - 1e-7)
        cost = -x * np.log(q) - (1 - x) * np.log1p(-q)
        return cost.reshape(len(x), -1).sum(axis=1, dtype=float), np.where(p == q, p - x, 0).astype(p.dtype) / len(x)


def charges_for_being_wrong(likelihood) -> bool:
    cost, slope = likelihood.nll(np.full((1, 1), 30.0), np.zeros((1, 1)))
    return abs(cost - 30) < 1e-6 and abs(slope[0, 0] - 1) < 1e-6


green["clipped log"] = passes(small(likelihood=Clipped()))
seen["clipped log"] = charges_for_being_wrong(losses.Bernoulli()) and not charges_for_being_wrong(Clipped())
logits = np.linspace(-10, 30, 401)[:, None]


@canvas.styled
def draw():
    figure = canvas.page(900, 330, "A black pixel, and a net that says white", "To the right: surer, and more wrong")
    for i, (what, unit) in enumerate((("cost", "nats"), ("gradient", "nats per logit"))):
        ax = canvas.box(figure, left=80 + 470 * i, top=canvas.HEAD + 30, width=370, height=230)
        for name, line, colour, likelihood in (("logits", "-", canvas.BLUE, losses.Bernoulli()),
                                               ("sigmoid, clipped log", "--", canvas.ORANGE, Clipped())):
            cost, slope = likelihood.nll_each(logits, 0 * logits)
            ax.plot(logits[:, 0], (cost, len(logits) * slope[:, 0])[i], line, color=colour, label=name)
        ax.set(xlabel="logit", ylabel=unit, title=what)
    figure.axes[0].legend(loc="upper left")
    return figure


figures.save(draw(), pictures / "clipped.png")

# %%
for name in green:
    print(f"{name:>17}: {'not ' if green[name] else ''}seen by a gradient check, "
          f"{'' if seen[name] else 'not '}seen by its fact")
lesson.promised("mistakes that a gradient check sees", sum(not passed for passed in green.values()), below=0)
lesson.promised("mistakes that the five facts see", sum(seen.values()), above=5)

# %% [markdown]
# Try this: a mistake of your own. Which fact, from outside the code, would have told you?
