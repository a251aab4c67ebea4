"""A code with more units than pixels, of which few may speak at once: what does it gain, and what does it pay?

Promise: the units' mean activations come within 0.01 of the 0.2 asked for (the mean distance of all units); a linear
classifier with 100 labels reads digits off this code better than off a code of the same size that nothing holds back,
though the picture is repainted worse. One minute.
"""
# %% [markdown]
# With 256 units for 196 pixels an autoencoder may as well copy: nothing makes it find out what pictures are made of.
# Ng's sparse autoencoder lets each unit j speak for few pictures only. Its mean activation rho_hat_j over the batch is
# held near rho, by the divergence of one coin from another:
#
#     loss = -log p(x | decoder(h)) + beta sum_j KL(rho || rho_hat_j),   h = sigmoid(x W + b)
#     KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))

# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, losses, models, nets, optim, train

digits, short, pictures = lesson.begin("04_sparse_filters", __doc__)
digits = digits.first(3000 if short else 12_000)
units, rho, epochs, batch_size = 256, 0.2, 15, 64 if short else 128
lr = 0.01 if short else 0.005

# %% [markdown]
# Pictures of half the size, each pixel the mean of four: 196 pixels train in a quarter of the time.


# %%
def halved(x):
    """(N, H, W, C) uint8 -> (N, H/2, W/2, C) float32 in [0, 1]."""
    N, H, W, C = x.shape
    return (x.reshape(N, H // 2, 2, W // 2, 2, C).mean(axis=(2, 4)) / 255).astype(np.float32)


train_x, test_x = halved(digits.train_x), halved(digits.test_x)
shape = train_x.shape[1:]

# %% [markdown]
# Three autoencoders: one that nothing holds back, one that keeps its weights small (so that those of pixels that are
# always dark fade, and the filters can be looked at), and one whose units must be silent most of the time as well.

# %%
lam = 5e-4
objectives = {
    "held back by nothing": lambda *nets: models.Autoencoder(*nets, likelihood=losses.Bernoulli()),
    "small weights": lambda *nets: models.WeightDecayAutoencoder(*nets, likelihood=losses.Bernoulli(), lam=lam),
    "sparse": lambda *nets: models.SparseAutoencoder(*nets, likelihood=losses.Bernoulli(), rho=rho, beta=2.0, lam=lam),
}
trained = {}
for name, objective in objectives.items():
    rng = np.random.default_rng(0)
    model = objective(nets.mlp_encoder(shape, [units], code="sigmoid", rng=rng),
                      nets.mlp_decoder(shape, [units], rng=rng))
    rate = optim.CosineDecay(lr, epochs * -(-len(train_x) // batch_size))
    train.fit(model, train_x, optimizer=optim.Adam(rate), epochs=epochs, batch_size=batch_size)
    trained[name] = model
    figures.save(figures.filters(model.encoder.layers[-1].W.value, shape, title=f"What units look for: {name}"),
                 pictures / f"{name.replace(' ', '-')}.png")

# %% [markdown]
# What does each code know of its digit? The linear probe (multinomial logistic regression) learns from 100 labels and
# is asked about all test pictures. Which 100 makes a difference, so it is the mean over many hundreds. Few labels are
# the point: with thousands of them a linear classifier finds its way through nearly any code.

# %%
table = {}
for name, model in trained.items():
    h, test_h = model.encode(train_x), model.encode(test_x)
    hundreds = [slice(i, i + 100) for i in range(0, 2000, 100)]
    table[name] = {
        "probe": np.mean([evaluate.linear_probe(h[part], digits.train_y[part], test_h, digits.test_y)
                          for part in hundreds]),
        "mse": evaluate.reconstruction_mse(model, test_x),
        "rho_hat": h.mean(axis=0, dtype=np.float64),
    }
    print(f"{name}: read correctly {table[name]['probe']:.1%}, mse {table[name]['mse']:.5f}, "
          f"mean activation {table[name]['rho_hat'].min():.3f} to {table[name]['rho_hat'].max():.3f}")
free, small, sparse = table.values()


# %%
@canvas.styled
def activations():
    """How often the units of each code speak."""
    figure = canvas.page(860, 400, "How active is each unit?", f"{units} units; mean activation over training pictures")
    ax = canvas.box(figure, canvas.MARGIN + 90, canvas.HEAD + 10, 740, 310)
    for (name, found), colour in zip(table.items(), (canvas.ORANGE, canvas.GREY, canvas.BLUE), strict=True):
        ax.plot(np.sort(found["rho_hat"])[::-1], color=colour, label=name)
    ax.axhline(rho, color="black", linestyle=":", label="asked for")
    ax.set(xlabel="unit, the most active first", ylabel="mean activation", ylim=(0, 1))
    ax.legend(loc="upper right")
    return figure


figures.save(activations(), pictures / "activations.png")

# %% [markdown]
# Kept?

# %%
distance = np.abs(sparse["rho_hat"] - rho)
print(f"the unit farthest from rho: {distance.max():.4f}")
lesson.promised("distance of the units' mean activations from rho", distance.mean(), below=0.01)
lesson.promised("read off 100 labels, points above the free code", 100 * (sparse["probe"] - free["probe"]), above=0.3)
lesson.promised("its mse over that of the free one", sparse["mse"] / free["mse"], above=1)

# %% [markdown]
# Try this:
#
# 1. rho = 0.05, and beta = 1 or 10: what do the filters look like now? Where does the probe turn down again?
# 2. A classifier with 3,000 labels in place of 100. What is left of the difference?
