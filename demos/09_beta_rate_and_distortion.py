"""What does a VAE's code cost, what does it buy, who sets the price, and is the sum an honest one?

Promise: from each beta to the next larger one the code gets cheaper and the pixels dearer: 0 steps of the curve go the
other way. And with more samples a picture the sum falls, at 0 steps not. One minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import evaluate, figures, models, nets, optim, train
from npae.data import strokes
from npae.data.batches import to_float

digits, short, pictures = lesson.begin("09_beta_rate_and_distortion.py", __doc__)
digits = digits.first(1500 if short else 6000)
width, epochs = (128, 8) if short else (256, 15)
betas = (0.25, 1, 4) if short else (0.1, 0.5, 1, 2, 4, 8)
latent = 10
seed = 0

# %% [markdown]
# A VAE describes a picture in two parts: the code z, which costs the KL (the **rate**), and the pixels given z, which
# cost the reconstruction error (the **distortion**), both in nats. beta is the price of a nat of code in nats of
# pixels:
#
#     loss = distortion + beta rate,    and with beta = 1:  -loss = ELBO = -(distortion + rate)
#
# At the optimum a nat of code is worth exactly beta nats of pixels: -d distortion / d rate = beta. So each beta stops
# at another point of one falling curve, where its slope is -beta, and beta = 1 is the one with the best ELBO.

# %%
# The same net, the same seed, another price.
def trained(kind, **settings):
    rng = np.random.default_rng(seed)
    model = kind(nets.mlp_encoder(digits.shape, [width, 2 * latent], rng=rng),
                 nets.mlp_decoder(digits.shape, [latent, width], mean=digits.mean, rng=rng), **settings)
    train.fit(model, digits, optimizer=optim.Adam(2e-3), epochs=epochs, batch_size=64, seed=seed)
    return model


vaes = {beta: trained(models.VAE, beta=beta) for beta in betas}

# %%
# Both parts on test pictures. `elbo` leaves beta out: a price in training, and no part of what is measured. An active
# number of the code is one that changes from picture to picture.
print(" beta  distortion    rate     sum  active numbers (the first three in nats per image)")
rate, distortion, codes = [], [], {}
for beta, vae in vaes.items():
    cost = evaluate.elbo(vae, digits.test_x, rng=np.random.default_rng(seed))
    codes[beta], _ = evaluate.code_statistics(vae, digits.test_x)
    rate.append(cost["kl"])
    distortion.append(cost["recon"])
    print(f"{beta:5g}  {cost['recon']:10.2f}  {cost['kl']:6.2f}  {cost['recon'] + cost['kl']:6.2f}  "
          f"{evaluate.active_units(codes[beta]):6d} of {latent}")
figures.save(figures.rate_distortion(rate, distortion, betas), pictures / "rate-distortion.png")

# %%
# What the price does to the pictures: a dear code tells the rough shape only, and in the end nothing.
x = to_float(digits.test_x[:20])
sheets = {"test pictures": x, **{f"beta = {beta:g}": vae.reconstruct(x) for beta, vae in vaes.items()}}
figures.save(lesson.blocks(sheets, 4, 5, across=4, title="The same pictures, at a rising price of the code",
                           note="Reconstructed from mu"), pictures / "reconstructions.png")

# %% [markdown]
# A dear code is often said to be **disentangled**: one number for the slant, one for the width ... The strokes come
# with the factors that they were drawn from, so it can be measured: the mutual information gap (MIG) is 1 where each
# factor has a number of its own, and 0 where the factors are mixed.

# %%
if digits.name == "strokes":
    labels, factors = strokes.factors(len(digits.test_x), 0, stream=1)
    known = {"label": labels, **{name: factors[name] for name in ("slant", "width", "shift_x", "aspect")}}
    mig = {beta: evaluate.mig(h, known) for beta, h in codes.items()}
    for beta, found in mig.items():
        each = ", ".join(f"{name} {gap:.2f}" for name, gap in found["factors"].items())
        print(f"beta {beta:4g}: MIG {found['mig']:.3f} ({each})")
    best = max(mig, key=lambda beta: mig[beta]["mig"])
    print(f"the best, {mig[best]['mig']:.3f} at beta = {best:g}, beside 1 for disentangled factors")

# %% [markdown]
# **Is the sum honest?** It is more than the picture costs: distortion + rate = -log p(x) + KL(q(z|x) || p(z|x)), and
# the second part is paid for a q that is not the true posterior. The importance-weighted autoencoder asks k samples a
# picture, each with the weight w = p(x, z) / q(z|x), and charges -log of their mean: the VAE's sum at k = 1, and less
# with each k, never less than the true price on average. `models/iwae.py` trains on it: a model that is trained to be
# asked 5 times is worse when it is asked once, and better when it is asked more often.

# %%
samples = (1, 5, 50)
nats = {"VAE, beta = 1": vaes[1], "IWAE, k = 5": trained(models.IWAE, samples=5)}
for name, model in nats.items():
    asked = [models.IWAE(model.encoder.to(), model.decoder.to(), samples=k) for k in samples]
    nats[name] = [evaluate.loss_terms(one, digits.test_x, rng=np.random.default_rng(seed))["loss"] for one in asked]
    print(f"trained as {name}: " + ", ".join(f"{n:.2f} with {k}" for n, k in zip(nats[name], samples, strict=True))
          + " samples a picture")

# %%
wrong = int(np.sum(np.diff(rate) >= 0) + np.sum(np.diff(distortion) <= 0))
lesson.promised("steps of the curve that go the other way", wrong, below=0)
lesson.promised("steps to more samples that do not lower the sum", int(np.sum(np.diff([*nats.values()]) >= 0)), below=0)

# %% [markdown]
# Try this: another `seed`, which changes the MIG more than beta does; or `latent = 3`, where few numbers can be
# dropped.
