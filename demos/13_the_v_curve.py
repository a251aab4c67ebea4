"""A gradient check wants a step h: which one is best, and could you have known it before you measured?

Promise: for four difference formulas, in float64 and in float32, the best step is within a factor of 3 of the one that
theory predicts. The h = 1e-5 of many a tutorial is at least 50 times worse in float32. Half a minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import canvas, figures, gradcheck, losses, models, nets
from npae.data.batches import to_float
from npae.gradcheck.methods import FORMULAS

digits, short, pictures = lesson.begin("13_the_v_curve.py", __doc__)
entries, several = (24, 8) if short else (36, 12)
seed = 0

# %% [markdown]
# phi(t) is the loss of a small autoencoder while one of its weights, t, is moved. Whoever writes a backward pass wants
# to know phi'(t) in another way, and takes the central difference:
#
#     d(h) = (phi(t + h) - phi(t - h)) / (2 h)
#
# It is wrong in two ways. **Truncation**: Taylor's series goes on, d(h) = phi' + h²/6 phi''' + ..., so a large h is
# bad. **Rounding**: each phi carries an error of some size e, which is divided by h, so a small h is bad:
#
#     error(h) = |phi'''| h²/6 + e / (sqrt(2) h)          two slopes on logarithmic axes, 2 and -1: a V
#     least where its derivative is zero:                 h* = (3 e / (sqrt(2) |phi'''|))^(1/3)
#
# (1/sqrt(2): the errors of two samples add up like two random steps, e sqrt(2), and are divided by 2 h.)

# %%
x = to_float(digits.test_x[:8])
rng = np.random.default_rng(seed)
model = models.Autoencoder(nets.mlp_encoder(digits.shape, [16, 8], activation="tanh", rng=rng),
                           nets.mlp_decoder(digits.shape, [8, 16], activation="tanh", pixels="sigmoid", rng=rng),
                           likelihood=losses.SquaredError())
exact = model.to(np.float64)  # the same weights; its own rounding is half a billion times smaller
exact.loss(x.astype(np.float64))
exact.backward()
weights = np.argsort(-np.abs(exact.grad))[:several]


def phi(model, i, t):
    """The loss with weight i at t."""
    before = model.theta[i]
    model.theta[i] = t
    value = model.loss(x.astype(model.theta.dtype))["loss"]
    model.theta[i] = before
    return value


# %% [markdown]
# The V, taken apart. In float64 there is as good as no rounding at these steps, so what is wrong there is truncation;
# and what float32 says differently is rounding. Both are asked at the same two points, t + h as float32 has it.

# %%
steps = 2.0 ** -np.arange(0, 21, 0.5)
truncation, rounding, total = np.zeros((3, len(weights), len(steps)))
for row, i in enumerate(weights):
    dphi = exact.grad[i]
    for column, h in enumerate(steps):
        above, below = (float(np.float32(model.theta[i] + s)) for s in (h, -h))
        single, double = ((phi(m, i, above) - phi(m, i, below)) / (above - below) for m in (model, exact))
        truncation[row, column] = abs(double - dphi) / abs(dphi)
        rounding[row, column] = abs(single - double) / abs(dphi)
        total[row, column] = abs(single - dphi) / abs(dphi)

# %% [markdown]
# The prediction needs two numbers of phi. e: how far float32's phi scatters about the true one, at points near t.
# phi''': a difference of differences, at a step so large that rounding does not matter.

# %%


def predicted(i):
    t, near, h = float(model.theta[i]), np.random.default_rng(seed).uniform(-1e-3, 1e-3, 15), 1 / 16
    points = (model.theta[i] + near).astype(np.float32)
    e = np.std([phi(model, i, point) - phi(exact, i, point) for point in points])
    third = (phi(exact, i, t + 2 * h) - 2 * phi(exact, i, t + h) + 2 * phi(exact, i, t - h)
             - phi(exact, i, t - 2 * h)) / (2 * h**3)
    return (3 * e / (2**0.5 * abs(third))) ** (1 / 3)


def slope(errors, low, high):
    """Of the median error between two steps, on logarithmic axes."""
    arm = (steps >= low) & (steps <= high)
    return np.polyfit(np.log(steps[arm]), np.log(np.median(errors[:, arm], axis=0)), 1)[0]


by_hand = float(np.median([predicted(i) for i in weights]))
found = steps[np.argmin(np.median(total, axis=0))]
slopes = slope(rounding, 0, 1), slope(truncation, by_hand, 1 / 4)
print(f"central difference in float32, by hand: the best step is predicted at {by_hand:.1e} and found at {found:.1e}; "
      f"the arms have slopes of {slopes[0]:.2f} and {slopes[1]:.2f}")

# %%


@canvas.styled
def apart():
    figure = canvas.page(900, 430, "Why a V: truncation grows with the step, rounding shrinks",
                         f"Central difference of a loss in float32: median relative error over {len(weights)} weights")
    ax = canvas.box(figure, left=110, top=canvas.HEAD + 10, width=640, height=350)
    ax.plot(steps, np.median(total, axis=0), color="#bbbbbb", linewidth=7)
    ax.plot(steps, np.median(rounding, axis=0), color=canvas.BLUE)
    seen = steps > 2e-4  # below, truncation is less than the rounding of float64
    ax.plot(steps[seen], np.median(truncation, axis=0)[seen], color=canvas.ORANGE)
    ax.axvline(by_hand, color="black", linewidth=1, linestyle="--")
    ax.set(xscale="log", yscale="log", ylim=(1e-7, 1), xlabel="step h", ylabel="relative error of the derivative")
    for text, place, colour in (("rounding: slope −1", (2.5e-5, 2.5e-2), canvas.BLUE),
                                ("truncation:\nslope 2", (1.3, np.median(truncation[:, 0])), canvas.ORANGE),
                                ("grey: both, which is\nwhat you get", (1e-6, 2e-6), canvas.GREY),
                                (f"best step as predicted\nby hand: {by_hand:.1g}", (0.85 * by_hand, 0.3), "black")):
        ax.text(*place, text, color=colour, weight="bold", va="center", ha="right" if colour == "black" else "left")
    return figure


figures.save(apart(), pictures / "apart.png")

# %% [markdown]
# A formula that cancels more of the series has a steeper right arm, so its best step is larger and its floor lower:
# h* is about eps^(1/(p+1)) for one of order p. `gradcheck.v_curve_of` measures four of them in both precisions, with
# e and the derivatives of phi found without any second copy. The complex step, Im phi(t + ih) / h, subtracts nothing:
# it has no left arm, and no best step.

# %%


def factor(a, b):
    """The factor between two numbers, at least 1."""
    return max(a / b, b / a)


curves = gradcheck.v_curve_of(model, x, entries=entries, seed=seed)
print(curves)
figures.save(figures.v_curves(curves, title="Where is a difference least wrong? Where theory says"), pictures / "v.png")
vs = [curves.curve(method, dtype) for method in FORMULAS for dtype in ("float64", "float32")]
off = [factor(v.best, v.predicted) for v in vs]
usual = curves.curve("central", "float32")
at_usual = usual.errors[np.argmin(abs(np.log(usual.steps / 1e-5)))]
print(f"central, float32: {100 * at_usual:.2g} % wrong at h = 1e-5, {100 * usual.least:.2g} % at h = {usual.best:.0e}")

# %%
lesson.promised("factor between the best step and the predicted one, the worst of 8", max(off), below=3)
lesson.promised("the same by hand", factor(by_hand, found), below=3)
lesson.promised("factor between the two predictions", factor(by_hand, usual.predicted), below=1.2)
lesson.promised("slopes of the arms by hand, off by", max(abs(slopes[0] + 1), abs(slopes[1] - 2)), below=0.15)
lesson.promised("error at h = 1e-5 over the least, float32", at_usual / usual.least, above=50)
lesson.promised("error of the complex step", curves.curve("complex").least, below=1e-13)

# %% [markdown]
# Try next: let `phi` return `model.theta.dtype.type(value + 1000)`, a loss with a large constant, which changes no
# derivative: which arm of the V moves, how far, and does the prediction by hand go with it? Then `activation="relu"`:
# how far apart are the two predictions now, and what has a kink between t - h and t + h to do with it? (Each of the two
# breaks a promise, at which the run stops, with the number.)
