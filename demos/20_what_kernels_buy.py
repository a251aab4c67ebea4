"""One convolution, from seven loops in Python to the kernel that npae trains with: what does each idea buy?

Promise: compiling the loops makes them at least 50 times as fast, and another order of the same loops 4 times more; the
kernel is at least 15 times as fast as the compiled loops, and a training step 2 times as fast as in NumPy; and all give
the same numbers to 1e-5. Half a minute on one core.
"""
# %%
import time
from functools import partial

import lesson
import numba
import numpy as np
from threadpoolctl import threadpool_limits

from npae import canvas, figures, kernels, models, nets, optim
from npae.data.batches import to_float
from npae.kernels import fast, reference
from npae.kernels.geometry import window_geometry
from npae.layers import ReLU

digits, short, pictures = lesson.begin("20_what_kernels_buy.py", __doc__)
rounds, turn = (3, 0.02) if short else (9, 0.1)
seed = 0
threads = numba.get_num_threads()
kernels.set_threads(1)

# %% [markdown]
# A layer of conv-vae: pictures of 14 x 14 pixels and 64 channels, given with their border of zeros, 3 x 3 taps, 64
# channels out, a batch of 16. Each output is a sum of 3 * 3 * 64 products:
#
#     y[n,i,j,o] = sum over u, v, c of  x[n, i + u, j + v, c] W[u, v, c, o]
#
# Seven indices, seven loops. Written down as they stand they are right, and hopeless: Python looks up what `*` means a
# hundred million times.

# %%
rng = np.random.default_rng(seed)
x, W, b = (rng.standard_normal(shape, np.float32) for shape in ((16, 16, 16, 64), (3, 3, 64, 64), (64,)))
g = window_geometry(16, 3, padding="valid")
flops = 2 * len(x) * 14 * 14 * W.size  # each product comes with an addition


def seven_loops(x, W, y):
    for n in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for o in range(y.shape[3]):
                    total = y.dtype.type(0)
                    for u in range(W.shape[0]):
                        for v in range(W.shape[1]):
                            for c in range(W.shape[2]):
                                total += x[n, i + u, j + v, c] * W[u, v, c, o]
                    y[n, i, j, o] = total
    return y


# %% [markdown]
# The same loops, o innermost. A sum with c innermost has to wait for its own last addition, and reads W in jumps of 64
# numbers. With o innermost sixty-four sums grow side by side, neighbours in memory: one instruction does eight of them,
# or sixteen.

# %%


def outputs_innermost(x, W, y):
    y[...] = 0
    for n in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for u in range(W.shape[0]):
                    for v in range(W.shape[1]):
                        for c in range(W.shape[2]):
                            for o in range(W.shape[3]):
                                y[n, i, j, o] += x[n, i + u, j + v, c] * W[u, v, c, o]
    return y


# %% [markdown]
# A number that has been fetched should be used often. **im2col** lays each window out as a row, and a single matrix
# product, for which BLAS keeps numbers in registers, is the whole layer: at the price of a copy nine times as large.
# **npae's kernel** reads the windows where they are and keeps a tile of outputs in registers until all taps are done
# (`npae/kernels/fast.py` explains how). **Fused**, it adds the bias and takes the ReLU while the tile is at hand.

# %%
y = np.empty((16, 14, 14, 64), np.float32)
compiled, ordered = numba.njit(seven_loops), numba.njit(outputs_innermost)
few = x[:1], np.ascontiguousarray(W[..., :1]), y[:1, ..., :1].copy()  # one picture, one channel: 1/1024 of the work


def three_passes():
    z = fast.conv2d(x, W, g)
    z += b
    return fast.activate(z, ReLU(), z)


RUNGS = {"loops in Python": partial(seven_loops, *few), "the same, compiled": partial(compiled, x[:2], W, y[:2]),
         "o innermost": partial(ordered, x, W, y), "im2col + BLAS": partial(reference.conv2d, x, W, g),
         "npae's kernel": partial(fast.conv2d, x, W, g), "layer, three passes": three_passes,
         "layer, fused": partial(fast.conv2d_forward, x, W, b, g, ReLU())}
PART = {"loops in Python": y.size // few[2].size, "the same, compiled": len(x) // 2}  # timed in part, and scaled

# %% [markdown]
# Verify before you time: against the textbook in float64. Then never time the call that compiles, take turns, and let
# the best turn of each count, since what else the machine does can only make it slower. One thread everywhere.

# %%
want = reference.conv2d(x.astype(float), W.astype(float), g)
layer = np.maximum(want + b, 0)
error = {}
for name, run in RUNGS.items():
    right = layer if name in ("layer, three passes", "layer, fused") else want
    y = run()  # of the slow ones the first picture, or its first channel
    error[name] = float(np.abs(y - right[:len(y), ..., :y.shape[3]]).max() / np.abs(want).max())


def seconds(run, turn):
    """Processor seconds a call, the mean of a turn."""
    calls, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < turn or not calls:
        run()
        calls += 1
    return spent / calls


def best(runs, turn=turn):
    """The best turn of each, the turns being taken round after round."""
    found = dict.fromkeys(runs, np.inf)
    with threadpool_limits(1, user_api="blas"):
        for _ in range(rounds):
            for name, run in runs.items():
                found[name] = min(found[name], seconds(run, turn))
    return found


spent = {name: value * PART.get(name, 1) for name, value in best(RUNGS).items()}
for name, value in spent.items():
    print(f"{name:>20}: {1e3 * value:12,.2f} ms, {flops / value / 1e9:8.3g} billion operations a second, "
          f"off by {error[name]:.0e}")

# %% [markdown]
# And what does a student feel of it? A step of training the convolutional autoencoder (forward, loss, backward, Adam),
# on either module: the same names, the same code above them, the same numbers.

# %%
pixels = to_float(digits.train_x[:32])


def step_on(module):
    rng = np.random.default_rng(seed)
    model = models.Autoencoder(nets.conv_ae_encoder(digits.shape, 32, rng=rng),
                               nets.conv_ae_decoder(digits.shape, 32, rng=rng)).to(kernels=module)
    optimizer = optim.Adam(1e-3, kernels=module)
    model.keep_buffers(True)

    def step():
        model.zero_grad()
        terms = model.loss(pixels)
        model.backward()
        optimizer.step(model.theta, model.grad)
        return terms["loss"]

    return step


STEPS = {"NumPy": step_on(reference), "Numba": step_on(fast)}
losses = {name: step() for name, step in STEPS.items()}  # compiles, too
step = best(STEPS)
print(f"a step of conv-ae, {len(pixels)} pictures: {1e3 * step['NumPy']:.0f} ms in NumPy, {1e3 * step['Numba']:.1f} ms "
      f"in Numba; the first losses are {losses['NumPy']:.4f} and {losses['Numba']:.4f}")
kernels.set_threads(threads)

# %%


@canvas.styled
def ladder():
    figure = canvas.page(1050, 460, f"One convolution: {spent['loops in Python']:.0f} s a batch in Python, "
                         f"{1e3 * spent['layer, fused']:.1f} ms at the top of the ladder",
                         "On one core; blue: times the rung before. Orange: with bias and ReLU. Right: conv-ae, "
                         f"{len(pixels)} pictures")
    ax = canvas.box(figure, left=220, top=canvas.HEAD + 10, width=495, height=390)
    speeds = np.array([flops / value / 1e9 for value in spent.values()])
    rows = np.arange(len(RUNGS))
    colours = [canvas.BLUE] * 5 + [canvas.ORANGE] * 2
    ax.barh(rows, speeds, 0.6, color=colours)
    ax.set(xscale="log", xlim=(speeds[0] / 3, 40 * speeds.max()), ylim=(rows[-1] + 0.5, -0.5),
           xlabel="billion operations a second")
    ax.set_yticks(rows, [*RUNGS])
    ax.grid(visible=False, axis="y")
    for row, speed in enumerate(speeds):
        gain = "" if row in (0, 5) else f"   × {speed / speeds[row - 1]:.3g}"
        ax.annotate(f"{speed:.2g}" if speed < 100 else f"{speed:.0f}", (speed, row), (6, 0),
                    textcoords="offset points", va="center")
        ax.annotate(gain, (speed, row), (36, 0), textcoords="offset points", va="center", color=canvas.BLUE,
                    weight="bold")
    right = canvas.box(figure, left=850, top=canvas.HEAD + 40, width=190, height=360)
    right.bar(["NumPy", "Numba"], [1e3 * step["NumPy"], 1e3 * step["Numba"]], 0.6, color=[canvas.GREY, canvas.BLUE])
    for place, value in enumerate((step["NumPy"], step["Numba"])):
        right.annotate(f"{1e3 * value:.3g} ms", (place, 1e3 * value), (0, 4), textcoords="offset points", ha="center")
    right.set(ylabel="ms", title="a training step", xlim=(-0.7, 1.7), ylim=(0, 1100 * max(step.values())))
    right.grid(visible=False, axis="x")
    return figure


figures.save(ladder(), pictures / "ladder.png")

# %%
lesson.promised("compiled over Python", spent["loops in Python"] / spent["the same, compiled"], above=50)
lesson.promised("the order of the loops", spent["the same, compiled"] / spent["o innermost"], above=4)
lesson.promised("npae's kernel over the compiled loops", spent["the same, compiled"] / spent["npae's kernel"], above=15)
lesson.promised("a training step, Numba over NumPy", step["NumPy"] / step["Numba"], above=2)
lesson.promised("largest difference of all of them, of the largest number", max(error.values()), below=1e-5)

# %% [markdown]
# Try next: `for c` and `for o` the other way round in `outputs_innermost`: between which rungs does it land, and how
# much of W does each of these read before it comes back to the same number? Then 3 channels in place of 64
# (`x[..., :3]`, `W[:, :, :3]`, as in a first layer): which rungs lose most, and why?
