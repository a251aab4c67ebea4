"""Does an autoencoder without any bend in it find the principal components, though nobody tells it of them?

Promise: after half a minute of training by hand its decoder spans the plane of the 8 strongest principal components to
less than 1 degree, and its error is at most 0.1 % above that of PCA.
"""
# %% [markdown]
# Squeeze a picture x through k numbers h and paint it again, both steps linear:
#
#     h = (x - m) V,   x_hat = h W + m,   loss = mean of |x - x_hat|^2
#
# Baldi and Hornik (1989): no choice of V and W does better than the k leading principal components, and where the loss
# is least, the rows of W span the same plane as these. PCA finds it with an eigenvalue problem, we with slope alone.

# %%
import lesson
import numpy as np
from scipy.linalg import subspace_angles

from npae import canvas, evaluate, figures, losses, models, optim
from npae.data.batches import batches
from npae.layers import Dense, Flatten, Reshape, Sequential, Shift

digits, short, pictures = lesson.begin("01_linear_autoencoder_is_pca", __doc__)
digits = digits.first(3000 if short else 0)
k, epochs, batch_size, lr = 8, 25 if short else 20, 100, 0.02 if short else 0.01

# %% [markdown]
# The answer to compare with: mean and principal components of the training pictures, exactly.

# %%
pca = evaluate.pca(digits.train_x)
directions = pca.components[:, :k]  # (784, k), orthonormal columns

# %% [markdown]
# The autoencoder: one matrix down to k numbers, one matrix back. The mean picture goes out at the door and comes in
# again at the end, as in PCA.

# %%
rng = np.random.default_rng(0)
D, m = digits.mean.size, digits.mean
encoder = Sequential([Shift(-m), Flatten(), Dense(D, k, rng=rng)], input_shape=digits.shape)
decoder = Sequential([Dense(k, D, rng=rng), Reshape(digits.shape), Shift(m)], input_shape=(k,))
model = models.Autoencoder(encoder, decoder, likelihood=losses.SquaredError())
print(model.summary())

# %% [markdown]
# The whole training, with nothing hidden. Backward walks the stairs of forward down again: dy is the slope of the loss
# at the output, `decoder.backward` turns it into the slope at the code, and each layer on the way adds the slope of its
# own weights to `model.grad`. The rate falls to zero, so that the last batches do not shake what was found.

# %%
optimizer = optim.Adam(optim.CosineDecay(lr, steps=epochs * -(-len(digits.train_x) // batch_size)))
angles = []
for epoch in range(epochs):
    total = 0.0
    for x, _ in batches(digits.train_x, batch_size=batch_size, order=rng):
        h = encoder.forward(x)                           # forward
        x_hat = decoder.forward(h)
        loss = float(np.square(x_hat - x).sum()) / len(x)
        dy = 2 * (x_hat - x) / len(x)                    # backward
        model.zero_grad()
        dh = decoder.backward(dy)
        encoder.backward(dh, need_dx=False)
        optimizer.step(model.theta, model.grad)          # step
        total += loss * len(x)
    W = decoder.layers[0].W.value                        # (k, 784): one picture for each number of the code
    angles.append(np.degrees(subspace_angles(W.T, directions).max()))
    print(f"epoch {epoch + 1:2d}: squared error {total / len(digits.train_x):.3f} an image, "
          f"the planes differ by {angles[-1]:.2f} degrees")

# %% [markdown]
# The same plane, but not the same axes: any k pictures that span it will do, and nothing in the loss asks for
# orthogonal ones. (With the axes PCA finds them in the order of their strength; the autoencoder does not.) The third
# row looks for each principal component in the plane of the second: it is there.

# %%
found = np.linalg.qr(W.T)[0]
rows = {"PCA": directions.T, "decoder": W, "PCA, by the\ndecoder": (found @ (found.T @ directions)).T}
faces = np.concatenate([0.5 + r / (2 * np.abs(r).max(axis=1, keepdims=True)) for r in rows.values()])


@canvas.styled
def planes():
    """The components of both, and how their planes came together."""
    x = faces.reshape(-1, *digits.shape)
    image, corners = canvas.tile(x, 3, k, row_gap=0.1)
    figure = canvas.page(3 * image.shape[1] + 150, 3 * image.shape[0] + 330, "One plane, two sets of axes",
                         "Grey: 0; white and black: ± the largest pixel of each")
    ax = canvas.show(figure, image, 3, left=150)
    for name, (top, _) in zip(rows, corners[::k], strict=True):
        canvas.write_beside(ax, top + x.shape[1] / 2 - 0.5, name)
    ax = canvas.box(figure, 174, canvas.HEAD + 3 * image.shape[0] + 40, 3 * image.shape[1], 230)
    ax.semilogy(range(1, epochs + 1), angles, color=canvas.BLUE, marker="o", markersize=4)
    ax.axhline(1, color=canvas.ORANGE, linestyle="--")
    ax.set(xlabel="epoch", ylabel="angle in degrees", yticks=[0.1, 1, 10, 90], yticklabels=["0.1", "1", "10", "90"])
    ax.annotate("promised", (1, 1), xytext=(0, -14), textcoords="offset points", color=canvas.ORANGE)
    canvas.epoch_axis(ax, range(1, epochs + 1))
    return figure


figures.save(planes(), pictures / "planes.png")

# %% [markdown]
# Kept? The error of both is that of the training pictures, for which the theorem holds; on the test pictures, which
# neither has seen, the two are as close.

# %%
ratio = evaluate.reconstruction_mse(model, digits.train_x) / pca.mse(digits.train_x, k)
print(f"test pictures: {evaluate.reconstruction_mse(model, digits.test_x):.5f} squared grey levels a pixel, "
      f"PCA {pca.mse(digits.test_x, k):.5f}")
lesson.promised("largest angle between the planes, degrees", angles[-1], below=1.0)
lesson.promised("error above that of PCA, %", 100 * (ratio - 1), below=0.1)

# %% [markdown]
# Try this:
#
# 1. Print `pca.variances[k - 1] / pca.variances[k]` for k = 6, 8, 16. The nearer it is to 1, the less the loss cares
#    which of the two directions is taken, and the longer the last degree takes. Which k is the slowest?
# 2. Measure the plane of the encoder's weights, `encoder.layers[-1].W.value`. It is far off, and the error does not
#    mind: why? (How much do the pictures vary along what is left over? Try to start it at `init.zeros`.)
