"""Why do the pictures of some decoders look woven, like a chessboard, and which way up and down is the best?

Promise: an untrained decoder of transposed convolutions has at least 10 % of its spectrum in the chessboard, one that
upsamples and convolves at most 1 %; after training at least ten times as much as the other. One minute.
"""
# %% [markdown]
# A convolutional encoder makes its picture smaller by a stride (each filter looks at every second place) or by pooling
# (it looks everywhere, and the largest of four answers stays). The decoder has to make it larger again:
#
# - a *transposed convolution* of stride 2: each pixel paints its kernel, two pixels apart. Even and odd places of the
#   result are painted by different weights, and nothing says that they should agree;
# - *upsampling*, then a convolution: each pixel is repeated first, so that all places meet the same weights.
#
# Where even and odd places disagree, every second row or column is lighter: a wave of two pixels, the highest frequency
# that a picture has. We measure its share of the spectrum (Odena, Dumoulin and Olah 2016 looked at it by eye).

# %%
import lesson
import numpy as np

from npae import canvas, figures, losses, models, optim, train
from npae.evaluate import reconstruction_mse
from npae.layers import Conv2d, ConvTranspose2d, Dense, Flatten, MaxPool2d, Reshape, Sequential, UpsampleConv2d

digits, short, pictures = lesson.begin("06_stride_pooling_upsampling", __doc__)
digits = digits.first(1000 if short else 6000)
epochs, latent = 3 if short else 8, 32
x = digits.test_x[:500].astype(np.float32) / 255


def chessboard(x):
    """The share of the spectrum, its mean left out, in waves of two pixels along rows or columns; (N, H, W, C)."""
    power = np.abs(np.fft.fft2(x - x.mean(axis=(1, 2), keepdims=True), axes=(1, 2))) ** 2
    H, W = x.shape[1] // 2, x.shape[2] // 2
    waves = power[:, H].sum(axis=(1, 2)) + power[:, :, W].sum(axis=(1, 2)) - power[:, H, W].sum(axis=1)
    return float((waves / power.sum(axis=(1, 2, 3))).mean())


# %% [markdown]
# Two encoders and two decoders, of equally many weights. The last layer of each decoder has no bend, so that what is
# seen is the work of the convolution itself.

# %%
h, w = digits.shape[0] // 4, digits.shape[1] // 4


def encoder(down, rng):
    """Twice half the size, by a stride or by max-pooling, then 32 numbers."""
    def half(i, o):
        if down == "stride":
            return [Conv2d(i, o, 3, stride=2, activation="relu", rng=rng)]
        return [Conv2d(i, o, 3, activation="relu", rng=rng), MaxPool2d(2)]

    layers = [*half(1, 8), *half(8, 16), Flatten(), Dense(h * w * 16, latent, rng=rng)]
    return Sequential(layers, input_shape=digits.shape)


def decoder(up, rng):
    """From 32 numbers twice to double the size."""
    def double(i, o, activation):
        if up == "transposed":
            return ConvTranspose2d(i, o, 3, stride=2, activation=activation, rng=rng)
        return UpsampleConv2d(i, o, 3, activation=activation, rng=rng)

    layers = [Dense(latent, h * w * 16, activation="relu", rng=rng), Reshape((h, w, 16)),
              double(16, 8, "relu"), double(8, 1, None)]
    return Sequential(layers, input_shape=(latent,))


# %% [markdown]
# Each pair is looked at before its training, when its weights are chance, and after each epoch.

# %%
print(f"the digits themselves: {chessboard(x):.5f} of their spectrum in waves of two pixels")
waves, shown = {}, {}
for down, up in (("stride", "transposed"), ("stride", "upsampling"), ("pooling", "upsampling")):
    rng = np.random.default_rng(0)
    model = models.Autoencoder(encoder(down, rng), decoder(up, rng), likelihood=losses.SquaredError())
    before = model.reconstruct(x)
    waves[down, up] = [chessboard(before)]
    optimizer = optim.Adam(optim.CosineDecay(3e-3, epochs * -(-len(digits.train_x) // 64)))
    seconds = []
    for epoch in range(epochs):
        history = train.fit(model, digits.train_x, optimizer=optimizer, epochs=1, batch_size=64, seed=epoch)
        seconds.append(history.rows[-1]["seconds"])
        waves[down, up].append(chessboard(model.reconstruct(x)))
    shown[down, up] = before, model.reconstruct(x)
    print(f"{down}, {up}: chessboard {waves[down, up][0]:.5f} untrained, {waves[down, up][-1]:.5f} trained; "
          f"test mse {reconstruction_mse(model, digits.test_x):.5f}, {min(seconds):.2f} s an epoch")

# %% [markdown]
# Chance weaves. Training pulls the threads out again, since the loss sees them, until no eye finds any on digits; but
# it has to learn what upsampling cannot do wrong. Repeating every pixel wipes out the wave of two pixels exactly,
# whatever the weights are; only the picture's border lets a little of it in. That has a price, too: the digits have
# some of that wave (the dotted line), and a decoder that ends in an upsampling cannot paint it.

# %%
both = [("stride", "transposed"), ("stride", "upsampling")]
rows = {"digits": x, **{f"{up},\nuntrained": shown[down, up][0] for down, up in both},
        **{f"{up},\ntrained": shown[down, up][1] for down, up in both}}


@canvas.styled
def weave():
    """Pictures of both decoders before and after, and the share of the wave epoch by epoch."""
    grey = [r[:8] if "un" not in name else 0.5 + r[:8] / (2 * np.abs(r[:8]).max(axis=(1, 2, 3), keepdims=True))
            for name, r in rows.items()]
    image, corners = canvas.tile(np.concatenate(grey), len(rows), 8, row_gap=0.1)
    wide, high = 3 * image.shape[1], 3 * image.shape[0]
    figure = canvas.page(wide + 130, high + 340, "Who weaves?",
                         "Reconstructions of test pictures; untrained ones: grey is 0, white and black ± the largest")
    ax = canvas.show(figure, image, 3, left=130)
    for name, (top, _) in zip(rows, corners[::8], strict=True):
        canvas.write_beside(ax, top + x.shape[1] / 2 - 0.5, name)
    ax = canvas.box(figure, canvas.MARGIN + 130, canvas.HEAD + high + 56, wide, 230)
    for (down, up), colour in zip(waves, (canvas.ORANGE, canvas.BLUE, "#8fbbd9"), strict=True):
        ax.semilogy(waves[down, up], color=colour, marker="o", label=f"{down}, {up}")
    ax.axhline(chessboard(x), color=canvas.GREY, linestyle=":", label="digits")
    ax.set(xlabel="epoch (0: untrained)", ylabel="share of the spectrum in\nwaves of two pixels")
    canvas.epoch_axis(ax, range(epochs + 1))
    ax.legend(loc="lower left", bbox_to_anchor=(-0.15, 0.98), ncols=4, fontsize=10, columnspacing=1.2)
    return figure


figures.save(weave(), pictures / "weave.png")

# %% [markdown]
# Kept? As to the way down: a stride computes a quarter of what the convolution before a pooling does. Compare the
# errors and the seconds above before you pay for the other three quarters.

# %%
transposed, upsampled = (waves[pair] for pair in both)
lesson.promised("chessboard of the untrained transposed convolutions", transposed[0], above=0.1)
lesson.promised("chessboard of the untrained upsampling", upsampled[0], below=0.01)
lesson.promised("trained: transposed over upsampling", transposed[-1] / upsampled[-1], above=10)

# %% [markdown]
# Try this:
#
# 1. A kernel of 4 instead of 3 in the transposed convolution: each place is now painted by equally many weights, as
#    Odena and others advise. Does the chessboard go before training? After it? Which half of their advice is it?
# 2. Decode codes that no digit has, `model.decode(z)` of z ten times as long as usual. Do the threads come back?
