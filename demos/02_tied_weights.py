"""A decoder that is its encoder turned round has half the weights: is it faster, as a tutorial says, and beats it PCA?

Promise: half the parameters and not one multiplication less. The same widths, trained better for as many epochs, have
at most 0.85 times the error of the tutorial's settings; in full at most 9.5 an image on strokes and 9.0 on MNIST, well
below PCA, which the tutorial's do not reach. Two minutes, on MNIST ten.
"""
# %% [markdown]
# A deep autoencoder 784-256-256-64-32 and back has eight matrices. *Tied*, it has four: the decoder uses the same ones
# the other way round, layer by layer,
#
#     h = tanh(x W + b),   x_hat = tanh(h W^T + c),   dLoss/dW = x^T dz + dz'^T h
#
# and W's slope is the sum of what the encoder and the decoder each ask of it. A well-known tutorial on deep
# autoencoders says that this makes training faster. Let us count, and then look at the clock.

# %%
from itertools import pairwise

import lesson
import numpy as np

from npae import canvas, evaluate, figures, init, losses, models, optim, train
from npae.layers import Dense, Flatten, Reshape, Sequential, Shift, TiedDense

digits, short, pictures = lesson.begin("02_tied_weights", __doc__)
digits = digits.first(1000 if short else 0)
D, epochs = digits.mean.size, 5 if short else 20
widths = [D, 256, 256, 64, 32]


def autoencoder(*, tied, init, ends):
    """tanh inside; `ends` bends the code and the pixels (None: they are linear)."""
    rng = np.random.default_rng(0)
    bends = ["tanh", "tanh", "tanh", ends]
    down = [Dense(i, o, activation=bend, init=init, rng=rng)
            for (i, o), bend in zip(pairwise(widths), bends, strict=True)]
    back = [ends, "tanh", "tanh", "tanh"]
    up = [TiedDense(layer, bend) if tied else
          Dense(layer.out_features, layer.in_features, activation=bend, init=init, rng=rng)
          for layer, bend in zip(down, back, strict=True)][::-1]
    return models.Autoencoder(
        Sequential([Shift(-digits.mean), Flatten(), *down], input_shape=digits.shape),
        Sequential([*up, Reshape(digits.shape), Shift(digits.mean)], input_shape=(widths[-1],)),
        likelihood=losses.SquaredError())


# %% [markdown]
# Three trainings of the same widths and as many epochs. The tutorial's: weights drawn within 1 / sqrt(inputs), a tanh
# at both ends, 20 pictures a step at a rate that stays. And better ones: Glorot's wider draw (the narrow one shrinks
# the signal by the root of three at each of the eight layers), linear ends, larger batches, a rate that falls to zero.

# %%
n = len(digits.train_x)
tutorial = {"init": init.fan_in_uniform, "ends": "tanh"}, 20, 1e-3
better = {"init": init.glorot_uniform, "ends": None}, 50, optim.CosineDecay(3e-3, epochs * -(-n // 50))
rows, sizes = {}, {}
for name, tied, (net, batch_size, lr) in (("tied, as the tutorial", True, tutorial), ("tied, better", True, better),
                                          ("untied, better", False, better)):
    model = autoencoder(tied=tied, **net)
    rows[name] = train.fit(model, digits.train_x, optimizer=optim.Adam(lr), epochs=epochs, batch_size=batch_size,
                           validation=digits.test_x).rows
    work = model.encoder.multiply_adds(digits.shape) + model.decoder.multiply_adds((widths[-1],))
    sizes[name] = sum(p.value.size for p in model.params), work
    print(f"{name}: {sizes[name][0]:,} parameters, {work:,} multiplications a picture, "
          f"{min(row['seconds'] for row in rows[name]):.2f} s an epoch; "
          f"test error {rows[name][-1]['val_recon']:.2f} an image")

# %% [markdown]
# Tying halves what is stored and what the optimizer moves. It saves not one multiplication: forward and backward meet
# the same matrices, only twice each, and at these sizes that is where the time goes. If it saves time, then by needing
# fewer epochs. How long does each take to the same error, the higher of the two that they end with?

# %%
curves = {name: [row["val_recon"] for row in found] for name, found in rows.items()}
tied, untied = curves["tied, better"], curves["untied, better"]
goal = max(tied[-1], untied[-1])
for name in ("tied, better", "untied, better"):
    reached = next(i for i, error in enumerate(curves[name]) if error <= goal)
    seconds = sum(row["seconds"] for row in rows[name][:reached + 1])
    print(f"{name}: {goal:.2f} an image after {reached + 1} epochs, {seconds:.1f} s")

# %% [markdown]
# And PCA, 32 numbers in closed form, which a deep network has to beat to be worth the trouble.

# %%
pca = D * evaluate.pca_mse(digits.train_x, digits.test_x, widths[-1])
print(f"PCA: {pca:.2f} an image")


@canvas.styled
def course():
    """The error on test pictures epoch by epoch."""
    figure = canvas.page(860, 450, "The same widths, trained in three ways", "Test pictures: squared error an image")
    ax = canvas.box(figure, canvas.MARGIN + 90, canvas.HEAD + 10, 740, 370)
    for (name, errors), colour in zip(curves.items(), (canvas.ORANGE, canvas.BLUE, "#8fbbd9"), strict=True):
        ax.plot(range(1, epochs + 1), errors, color=colour, marker="o", label=name)
    ax.axhline(pca, color=canvas.GREY, linestyle=":", label=f"PCA, {widths[-1]} numbers")
    ax.set(xlabel="epoch", ylabel="squared error an image", ylim=(0, 4 * pca))
    canvas.epoch_axis(ax, range(1, epochs + 1))
    ax.legend(loc="upper right")
    return figure


figures.save(course(), pictures / "course.png")

# %% [markdown]
# Kept?

# %%
(few, work), (many, same) = (sizes[name] for name in ("tied, better", "untied, better"))
lesson.promised("parameters, tied over untied", few / many, below=0.51)
lesson.promised("multiplications, tied over untied", work / same, above=1.0)
lesson.promised("error, better over the tutorial's", tied[-1] / curves["tied, as the tutorial"][-1], below=0.85)
if not short:
    lesson.promised("squared error an image, tied", tied[-1], below=9.0 if digits.name == "mnist" else 9.5)
    lesson.promised("the same over PCA's", tied[-1] / pca, below=0.9)

# %% [markdown]
# Try this:
#
# 1. Take the four differences between `tutorial` and `better` one at a time. Which one is worth most? (Before you look:
#    how large is the signal behind eight layers that each shrink it?)
# 2. Train both with 1,000 pictures, and with all of them: when is the tied one ahead? Is it a better start? (Begin the
#    untied one with the same weights, `layer.W.value[...] = partner.W.value.T`, and let go.)
