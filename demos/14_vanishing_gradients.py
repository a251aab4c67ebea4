"""A deep autoencoder that does not learn: where does the gradient go, and which number decides it?

Promise: with a usual initialisation a layer leaves of the gradient what theory says, 0.577 in the decoder and 0.67 in
the encoder, to 5 %, a thousandth over the depth, and momentum learns nothing; with weights 1.7 times as large all of it
arrives (to a factor 4) and the same momentum brings the error below half. Half a minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, models, nets, optim, train
from npae.data.batches import to_float
from npae.trace import Trace

digits, short, pictures = lesson.begin("14_vanishing_gradients.py", __doc__)
digits = digits.first(1500 if short else 6000)
widths = [128] * 8
epochs = 6 if short else 4
seed = 0
x = to_float(digits.train_x[:64])

# %% [markdown]
# Eight dense layers down, and their transposes back up, with tanh between: sixteen layers, eight matrices. A layer does
# y = tanh(x W), and its gradient comes back as dx = (dy tanh') Wᵀ. Say the weights are independent with variance
# g² / fan-in. Then of n numbers, each a sum of n products,
#
#     forward     |y|  is about  g |x|         as long as tanh is nearly a line
#     backward    |dx| is about  g |dy|        times tanh' <= 1
#
# so over L layers both are multiplied by g^L. The rule "uniform within 1 / sqrt(fan-in)" of many a tutorial has the
# variance 1 / (3 fan-in): g = 1 / sqrt(3) = 0.577. Four tenths are lost at each layer, on the way in and on the way
# back.
#
# One thing is not quite so here: the matrices are tied. On its way back the gradient meets the decoder's seven square
# matrices, dy M, and then the same seven in the encoder, dy M Mᵀ. M and Mᵀ are not independent, and that leaves more:
# after j layers of the encoder |dx|² is on average j + 1 times as large as with matrices of its own. Over all seven,
#
#     decoder    g = 0.577 a layer          encoder    g 8^(1/14) = 1.16 g = 0.670 a layer

# %%


def uniform(g):
    """W ~ U(-a, a) with the variance a² / 3 = g² / fan_in."""
    def init(rng, shape, fan_in, fan_out, dtype):
        a = g * np.sqrt(3 / fan_in)
        return rng.uniform(-a, a, shape).astype(dtype)

    return init


def deep(g):
    return models.Autoencoder(*nets.tied_pair(digits.shape, widths, activation="tanh", pixels=None, init=uniform(g),
                                              mean=digits.mean, rng=np.random.default_rng(seed)))


# %% [markdown]
# One loss and one backward, with a trace around them. `gradient` is what arrives at a layer, dLoss/dy; the factor of a
# layer is taken over the square matrices: the decoder's from the last layer but one to the code, the encoder's from
# there to the first.

# %%
gains = {"g = 0.58": 3**-0.5, "g = 1": 1.0, "g = 2.5": 2.5}
norms, factor, flags = {}, {}, {}
half = len(widths) - 1  # square matrices in each half
for name, g in gains.items():
    model = deep(g)
    with Trace(model) as trace:
        model.loss(x)
        model.backward()
    rows = [row for row in trace.rows if row.params]
    norms[name] = [row.gradient.norm for row in rows]
    first, code, last = norms[name][0], norms[name][half], norms[name][-2]
    factor[name] = np.array([code / last, first / code]) ** (1 / half)
    flags[name] = trace.flags
    print(f"{name}: a layer of the decoder leaves {factor[name][0]:.3f} of the gradient, of the encoder "
          f"{factor[name][1]:.3f}; {first:.1e} arrives of {norms[name][-1]:.1e}; the code has a deviation of "
          f"{rows[half].activation.std:.1g}")
    for sentence in flags[name]:
        print("    " + sentence)

# %% [markdown]
# What does it do to learning? Momentum takes steps as long as the gradient is, so the deep end does not move. A rate
# ten times as large moves it (thirty times as large, the shallow end diverges), and so does Adam, which divides each
# entry by its own size. Both help, and are no cure: what no rate brings back is the signal that was lost on the way
# *in*, where the code of every picture is as good as zero.

# %%
trained = {}
for name in ("g = 0.58", "g = 1"):
    for rule, optimizer in (("momentum", optim.Momentum(1e-3)), ("rate × 10", optim.Momentum(1e-2)),
                            ("Adam", optim.Adam(1e-3))):
        model = deep(gains[name])
        train.fit(model, digits, optimizer=optimizer, epochs=epochs, batch_size=50, seed=seed)
        trained[name, rule] = evaluate.reconstruction_mse(model, digits.test_x)
        print(f"{name}, {rule}: squared error per pixel {trained[name, rule]:.4f}")
mean = float(np.mean((to_float(digits.test_x) - digits.mean) ** 2))
pca = evaluate.pca_mse(digits.train_x, digits.test_x, widths[-1])
print(f"beside it: the mean picture {mean:.4f}, PCA with {widths[-1]} numbers {pca:.4f}")

# %%


@canvas.styled
def way_back():
    figure = canvas.page(1020, 400, "Sixteen layers: 0.6 of the gradient at each, or all of it",
                         "Left: what arrives at each layer, a deep tied autoencoder before its first step. "
                         "Right: after its last")
    left = canvas.box(figure, left=90, top=canvas.HEAD + 30, width=480, height=300)
    layers = np.arange(1, len(norms["g = 1"]) + 1)
    for (name, g), colour in zip(gains.items(), (canvas.ORANGE, canvas.BLUE, canvas.GREY), strict=True):
        left.plot(layers, norms[name], "o-", color=colour, markersize=5)
        through = np.arange(2 * half, -1, -1)  # the square matrices between a layer and the last but one
        tied = np.sqrt(1 + np.maximum(0, through - half))
        left.plot(layers[:-1], norms[name][-2] * g**through * tied, ":", color="black", linewidth=1.5, zorder=3)
        left.annotate(name, (1, norms[name][0]), (2, 12 if g > 0.6 else 26), textcoords="offset points", color=colour,
                      weight="bold")
    left.annotate("dotted: if tanh' = 1", (0.98, 0.05), xycoords="axes fraction", ha="right")
    left.axvline(len(widths) + 0.5, color="black", linewidth=1, linestyle="--")
    left.annotate("code", (len(widths) + 0.5, 1), (4, -2), xycoords=("data", "axes fraction"), va="top",
                  textcoords="offset points")
    left.set(yscale="log", xlabel="layer, from the pixels in to the pixels out", ylabel="norm of dLoss/dy",
             ylim=(1e-4, 3e6), xlim=(0, len(layers) + 1), xticks=layers[::3])
    right = canvas.box(figure, left=715, top=canvas.HEAD + 30, width=320, height=300)
    right.barh(range(len(trained)), [*trained.values()], 0.7, color=[canvas.ORANGE] * 3 + [canvas.BLUE] * 3)
    right.axvline(mean, color="black", linewidth=1, linestyle="--")
    for text, row, colour in (("g = 0.58", 1, canvas.ORANGE), ("g = 1", 4, canvas.BLUE)):
        right.annotate(text, (mean, row), (8, 0), textcoords="offset points", va="center", color=colour, weight="bold")
    right.annotate("the mean\npicture", (mean, 2.5), (8, 0), textcoords="offset points", va="center")
    right.set(xlabel="squared error per pixel", xlim=(0, 1.45 * mean), ylim=(len(trained) - 0.4, -0.6))
    right.set_yticks(range(len(trained)), [rule for _, rule in trained])
    right.grid(visible=False, axis="y")
    return figure


figures.save(way_back(), pictures / "way-back.png")

# %%
theory = gains["g = 0.58"] * np.array([1, (half + 1) ** (1 / (2 * half))])  # 0.577 and 0.670
for name, off in zip(("decoder", "encoder"), abs(factor["g = 0.58"] / theory - 1), strict=True):
    lesson.promised(f"factor of a layer of the {name} over the predicted one, off by", off, below=0.05)
lesson.promised("gradient out over gradient in, g = 0.58", norms["g = 0.58"][-1] / norms["g = 0.58"][0], above=1000)
lesson.promised("largest over smallest gradient, g = 1", max(norms["g = 1"]) / min(norms["g = 1"]), below=4)
lesson.promised("vanishing gradients that the trace names, of 1", sum("vanishing" in s for s in flags["g = 0.58"]),
                above=1)
lesson.promised("what the trace finds at g = 1", len(flags["g = 1"]), below=0)
lesson.promised("error by momentum, of the mean picture's, g = 0.58", trained["g = 0.58", "momentum"] / mean, above=0.9)
lesson.promised("error by momentum, of the mean picture's, g = 1", trained["g = 1", "momentum"] / mean, below=0.5)

# %% [markdown]
# Try next: g = 1.4. Theory says that the gradient grows, and it grows less: which factor did the theory leave out? Then
# untie the decoder (`nets.mlp_decoder(digits.shape, widths, activation="tanh", init=uniform(g))`): how near to 0.577
# are both halves now? And the cure of 2006, when nobody set g: train one pair of layers after the other, each on the
# codes of the one before, put their matrices into the deep net, and trace it.
