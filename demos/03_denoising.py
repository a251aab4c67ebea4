"""Can a network take the noise out of a picture that it has never seen, and better than blurring can?

Promise: of Gaussian noise of deviation 0.5 it leaves less than half of the squared error (in truth about a twentieth),
and less than the Gaussian filter that suits these very pictures best. Two minutes.
"""
# %% [markdown]
# A denoising autoencoder (Vincent et al. 2008) is shown a spoilt picture and asked for the clean one:
#
#     x_noisy = x + 0.5 eps,   eps ~ N(0, 1),   loss = -log p(x | decoder(encoder(x_noisy)))
#
# The noise is drawn anew in each batch, so there is nothing to learn by heart. A filter knows that neighbouring pixels
# are alike; the network has to know more: what digits look like.

# %%
import lesson
import numpy as np
from scipy.ndimage import gaussian_filter

from npae import canvas, figures, losses, models, nets, optim, train
from npae.corruption import gaussian

digits, short, pictures = lesson.begin("03_denoising", __doc__)
digits = digits.first(1500 if short else 12_000)
units, epochs, batch_size = (128, 10, 64) if short else (512, 15, 128)
amounts = (0.2, 0.5) if short else (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
clean = digits.test_x[:300 if short else 1000].astype(np.float32) / 255


def mse(x_hat):
    """Mean squared error a pixel."""
    return float(np.square(x_hat - clean).mean())


# %% [markdown]
# One hidden layer, trained with noise of one amount. The rate falls to zero along a cosine.

# %%
def denoiser(amount):
    """A network that has learned to take away Gaussian noise of this deviation."""
    rng = np.random.default_rng(0)
    model = models.DenoisingAutoencoder(
        nets.mlp_encoder(digits.shape, [units], code="relu", rng=rng), nets.mlp_decoder(digits.shape, [units], rng=rng),
        likelihood=losses.Bernoulli(), corruption="gaussian", amount=amount)
    steps = epochs * -(-len(digits.train_x) // batch_size)
    train.fit(model, digits.train_x, optimizer=optim.Adam(optim.CosineDecay(3e-3, steps)), epochs=epochs,
              batch_size=batch_size)
    return model


# %% [markdown]
# Its opponent: blurring. Each picture is convolved with a bell of width sigma; we are generous and take the sigma that
# comes nearest to the clean test pictures, which in earnest nobody has.

# %%
def best_filter(x_noisy):
    """(its error, its sigma, what it makes of the pictures)."""
    filtered = {sigma: gaussian_filter(x_noisy, (0, sigma, sigma, 0)) for sigma in np.arange(0.2, 2.6, 0.1)}
    sigma = min(filtered, key=lambda s: mse(filtered[s]))
    return mse(filtered[sigma]), sigma, filtered[sigma]


noisy = {amount: gaussian(clean, amount, np.random.default_rng(1)) for amount in amounts}
trained = {amount: denoiser(amount) for amount in amounts}
own = [mse(trained[amount].reconstruct(noisy[amount])) for amount in amounts]
fixed = [mse(trained[0.5].reconstruct(noisy[amount])) for amount in amounts]
blurred = {amount: best_filter(noisy[amount]) for amount in amounts}
for amount, a, b, (c, sigma, _) in zip(amounts, own, fixed, blurred.values(), strict=True):
    print(f"noise {amount:4.2f}: mse {mse(noisy[amount]):.4f}; its own network {a:.4f}, the network for 0.5 {b:.4f}, "
          f"filter {c:.4f} (sigma {sigma:.1f})")

# %% [markdown]
# The same pictures through both. The filter cannot tell a grain of noise from a piece of a thin stroke: it takes from
# both. The network paints strokes, sometimes the wrong ones.

# %%
x_noisy, shown = noisy[0.5], slice(0, 10)
x_hat = trained[0.5].reconstruct(x_noisy)
figures.save(figures.triples(clean[shown], x_noisy[shown], x_hat[shown], title="Denoised by the autoencoder"),
             pictures / "network.png")
error, sigma, x_blur = blurred[0.5]
figures.save(figures.triples(clean[shown], x_noisy[shown], x_blur[shown],
                             title=f"Denoised by a Gaussian filter, sigma {sigma:.1f}"), pictures / "filter.png")


# %% [markdown]
# And over all amounts. The network for 0.5 paints its own idea of a digit however clean the picture is, so its line
# stays flat on the left. Trained at the noise that it meets it is ahead, and the more so the more noise there is: the
# less the pixels say, the more it pays to know digits. (After the short training it knows too little of them to be
# ahead where there is little noise.)

# %%
@canvas.styled
def sweep():
    """Error left over against the noise that was there."""
    figure = canvas.page(860, 490, "How much noise, how much is left",
                         "Test pictures: mean squared error per pixel (grey levels from 0 to 1)")
    ax = canvas.box(figure, canvas.MARGIN + 90, canvas.HEAD + 10, 740, 410)
    for name, y, colour, line in (("noisy", [mse(noisy[a]) for a in amounts], canvas.GREY, ":"),
                                  ("best Gaussian filter", [b[0] for b in blurred.values()], canvas.ORANGE, "--"),
                                  ("network trained at 0.5", fixed, "#8fbbd9", "-"),
                                  ("network trained at this noise", own, canvas.BLUE, "-")):
        ax.loglog(amounts, y, color=colour, linestyle=line, marker="o", label=name)
    ax.set(xlabel="deviation of the noise", ylabel="mean squared error per pixel")
    ax.set_xticks(amounts, [f"{a:g}" for a in amounts])
    ax.set_yticks([0.003, 0.01, 0.03, 0.1, 0.3, 1], ["0.003", "0.01", "0.03", "0.1", "0.3", "1"])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return figure


figures.save(sweep(), pictures / "sweep.png")

# %% [markdown]
# Kept?

# %%
lesson.promised("error left of the noise's, a share", mse(x_hat) / mse(x_noisy), below=0.5)
lesson.promised("error of the network over that of the best filter", mse(x_hat) / error, below=1.0)

# %% [markdown]
# Try this:
#
# 1. `corruption="salt_and_pepper"` with 0.3, and `scipy.ndimage.median_filter` as the opponent. Who wins now?
# 2. `corruption="masking"`: which pixels does the network paint, and what can a blur do about them?
# 3. Ask `denoiser(0.0)`, a plain autoencoder, to clean the pictures: is it the squeezing or the noise that teaches it?
