"""Two ways to a code that noise cannot shake: what does each of them make robust, the features or the outputs?

Promise: the contractive penalty halves the largest singular value of the code's Jacobian for at most 10 % more squared
error; training with noise leaves the smallest error of all where the pictures are noisy. One minute.
"""
# %% [markdown]
# A code h = f(x W + b) should change from digit to digit and not with every grain of noise. Its Jacobian J = dh/dx says
# how far it moves when the picture does: the singular values of J are the lengths of the axes of the ellipsoid that a
# small ball of pictures becomes. The *contractive* autoencoder (Rifai et al. 2011) pays for them,
#
#     loss = -log p(x | decoder(h)) + lam |J|^2,   |J|^2 the sum of all squared singular values
#
# The *denoising* autoencoder is told nothing of codes: it is shown noisy pictures and asked for the clean ones. What it
# makes robust is the output, decoder(encoder(x)).

# %%
import lesson
import numpy as np

from npae import evaluate, figures, losses, models, nets, optim, train
from npae.corruption import gaussian

digits, short, pictures = lesson.begin("05_contraction_and_denoising", __doc__)
digits = digits.first(1500 if short else 6000)
units, epochs, batch_size, lam = (128, 10, 32, 0.25) if short else (128, 15, 64, 0.1)

# %% [markdown]
# Three autoencoders alike but for their objective. The decoder is the encoder's transpose: with a matrix of its own it
# could undo any contraction (half the code, twice the decoder's weights), and the penalty would mean nothing.

# %%
objectives = {
    "plain": lambda *nets: models.Autoencoder(*nets, likelihood=losses.Bernoulli()),
    "contractive": lambda *nets: models.ContractiveAutoencoder(*nets, likelihood=losses.Bernoulli(), lam=lam),
    "denoising": lambda *nets: models.DenoisingAutoencoder(*nets, likelihood=losses.Bernoulli(),
                                                           corruption="gaussian", amount=0.4),
}
trained = {}
for name, objective in objectives.items():
    rng = np.random.default_rng(0)
    model = objective(*nets.tied_pair(digits.shape, [units], activation="tanh", pixels=None, rng=rng))
    rate = optim.CosineDecay(3e-3, epochs * -(-len(digits.train_x) // batch_size))
    train.fit(model, digits.train_x, optimizer=optim.Adam(rate), epochs=epochs, batch_size=batch_size)
    trained[name] = model

# %% [markdown]
# The Jacobian of the code at test pictures. The plain code has one axis that is far longer than all others: it is the
# first to go, and little of the error goes with it. The size of the whole, |J|, falls less than this one.

# %%
x = digits.test_x[:200 if short else 1000].astype(np.float32) / 255
spectra = {name: evaluate.singular_values(model, x[:20 if short else 100]) for name, model in trained.items()}
figures.save(figures.jacobian_spectrum(spectra), pictures / "spectrum.png")

# %% [markdown]
# Now shake the pictures. Features: how far do codes move, as a share of how far apart the codes of different pictures
# are? Outputs: how far is the picture that is painted from the clean one?

# %%
x_noisy = gaussian(x, 0.4, np.random.default_rng(1))
table = {}
for name, model in trained.items():
    h, h_noisy = model.encode(x), model.encode(x_noisy)
    table[name] = {
        "top": float(spectra[name].max(axis=1).mean()),
        "whole": float(np.sqrt(np.square(spectra[name]).sum(axis=1)).mean()),
        "mse": evaluate.reconstruction_mse(model, digits.test_x),
        "moved": float(np.square(h_noisy - h).sum() / np.square(h - h.mean(axis=0)).sum()),
        "noisy": float(np.square(model.decode(h_noisy) - x).mean()),
    }
    print("{:12s} largest singular value {top:6.3f}, |J| {whole:6.3f}, mse {mse:.5f}; of noisy pictures: codes move "
          "{moved:.0%} of their spread, mse {noisy:.5f}".format(name, **table[name]))
    figures.save(figures.triples(x, x_noisy, model.decode(h_noisy), title=f"Noisy pictures through the {name} one"),
                 pictures / f"{name}.png")

# %% [markdown]
# Kept? Both make the code calmer than the plain one's. The penalty does it without having seen any noise, and for
# little error on clean pictures; where noisy pictures have to be painted clean, training with noise is ahead, since it
# is the one whose decoder was told what to do.

# %%
plain, contracted, denoised = table.values()
lesson.promised("largest singular value, contractive over plain", contracted["top"] / plain["top"], below=0.5)
lesson.promised("mse on clean pictures, contractive over plain", contracted["mse"] / plain["mse"], below=1.1)
lesson.promised("mse on noisy pictures, denoising over contractive", denoised["noisy"] / contracted["noisy"], below=1)

# %% [markdown]
# Try this:
#
# 1. lam = 0.1, 0.3, 1. What does the error cost that the last halving of the Jacobian brings?
# 2. `activation="sigmoid"` in place of tanh: has its plain code such an axis, too? Is the promise still kept?
# 3. Give the contractive one a decoder of its own (`nets.mlp_decoder`). How small does the Jacobian get at the same
#    error, and how far do the codes of noisy pictures then move, as a share of their spread? Which number was honest?
