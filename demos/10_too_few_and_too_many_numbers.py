"""What does a code learn that has more numbers than the picture has pixels?

Promise: it keeps at least 75 % of noise that has no stroke in it (short form: 50 %), where a small code keeps at most
15 %, and its test error is at least 2 times its training error (short form: 1.1 times). One minute on two cores.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, models, nets, optim, train
from npae.losses import SquaredError

digits, short, pictures = lesson.begin("10_too_few_and_too_many_numbers.py", __doc__)
digits = digits.first(1000)
sizes, epochs = ((32, 800), 8) if short else ((16, 64, 256, 1024), 60)
seed = 0

# %% [markdown]
# An autoencoder is asked for its input. Nothing is easier if the code has room: with as many numbers as pixels,
#
#     h = relu(x W + b),    x_hat = h W^T + c
#
# can be the identity, which copies everything and knows nothing of digits. With fewer numbers it must choose, and
# what it chooses to keep is what its training pictures have in common. (The decoder is the encoder's transpose here:
# copying is then in easy reach of Adam. It is possible, and learned more slowly, with two matrices.)

# %%
# The same training for codes of every size, on 1,000 pictures.
models_of = {}
for k in sizes:
    encoder, decoder = nets.tied_pair(digits.shape, [k], activation="relu", pixels=None,
                                      rng=np.random.default_rng(seed))
    models_of[k] = models.Autoencoder(encoder, decoder, likelihood=SquaredError())
    train.fit(models_of[k], digits, optimizer=optim.Adam(1e-3), epochs=epochs, batch_size=64, seed=seed)

# %% [markdown]
# A fair noise: each pixel is taken from another test picture. So every pixel has the grey levels that it has in digits,
# and only the strokes are gone. What a model keeps of pictures is the share of their variance around the mean picture
# that is not lost:
#
#     kept = 1 - sum (x - x_hat)² / sum (x - mean)²

# %%
rng = np.random.default_rng(seed)
noise = rng.permuted(digits.test_x.reshape(len(digits.test_x), -1), axis=0).reshape(digits.test_x.shape)
shown = {"training digits": digits.train_x, "test digits": digits.test_x, "noise": noise}
kept: dict[str, list[float]] = {name: [] for name in shown}
gap, errors = [], {}
for k, model in models_of.items():
    error = {name: evaluate.reconstruction_mse(model, x) for name, x in shown.items()}
    for name, x in shown.items():
        kept[name].append(1 - error[name] / float(np.square(x / 255 - digits.mean).mean()))
    gap.append(error["test digits"] / error["training digits"])
    errors[k] = error["test digits"]
    print(f"{k:5d} numbers keep " + ", ".join(f"{share[-1]:.0%} of {name}" for name, share in kept.items())
          + f"; test error / training error {gap[-1]:.2f}")

# %%
# Beside the best straight code of as many numbers: one layer that bends does not beat it. What does: demo 02.
pca = evaluate.pca(digits.train_x)
fewer = [k for k in sizes if k < np.prod(digits.shape)]
figures.save(figures.against_pca(fewer, [errors[k] for k in fewer], [pca.mse(digits.test_x, k) for k in fewer],
                                 name="autoencoder, one layer"), pictures / "against-pca.png")

# %%
# The small code keeps digits and drops noise; the large one cannot tell them apart.


@canvas.styled
def curves():
    figure = canvas.page(800, 460, "What a code keeps of digits and of noise",
                         "1: everything, 0: no more than the mean picture does; grey: as many numbers as pixels")
    ax = canvas.box(figure, left=110, top=canvas.HEAD + 10, width=680, height=380)
    for (name, share), colour, line in zip(kept.items(), (canvas.BLUE, canvas.BLUE, canvas.ORANGE), ("--", "-", "-"),
                                           strict=True):
        ax.plot(sizes, share, color=colour, linestyle=line, marker="o", label=name)
    ax.axvline(np.prod(digits.shape), color=canvas.GREY, linestyle="--", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(k) for k in sizes])
    ax.set(xlabel="numbers in the code", ylabel="share kept", ylim=(-0.05, 1.05))
    ax.legend(loc="upper left")
    return figure


figures.save(curves(), pictures / "kept.png")
both = np.concatenate([digits.test_x[:11], noise[:11]])
sheets = {"pictures": both, **{f"{k} numbers": model.reconstruct(np.float32(both / 255))
                               for k, model in models_of.items()}}
figures.save(lesson.blocks(sheets, 2, 11, across=1, title="Digits and noise, through codes of several sizes",
                           note="Upper rows: test digits; lower rows: their pixels, mixed"),
             pictures / "reconstructions.png")

# %%
lesson.promised(f"noise kept by {sizes[-1]} numbers", kept["noise"][-1], above=0.5 if short else 0.75)
lesson.promised(f"noise kept by {sizes[0]} numbers", kept["noise"][0], below=0.15)
lesson.promised(f"test error over training error, {sizes[-1]} numbers", gap[-1], above=1.1 if short else 2)
lesson.promised(f"test error over training error, {sizes[0]} numbers", gap[0], below=1.3)

# %% [markdown]
# A large code is not bad as such: it needs something else than its size to hold it back. Try this: noise on the input
# (`models.DenoisingAutoencoder`), a price on active units (`SparseAutoencoder`) or on the code's slope
# (`ContractiveAutoencoder`): demos 03 to 05.
