"""What does a loss of a hundred thousand weights look like, and which two directions show where training went?

Promise: two PCA directions of the path hold at least 85 % of its motion, two random ones at most 0.1 %, and no point of
the surface is more than 2 % below the trained one. But a random walk puts 85 % into two directions too, and at most two
thirds of the loss's fall can be seen in the plane. Half a minute on two cores.
"""
# %%
import lesson
import numpy as np
from scipy.interpolate import interpn

from npae import canvas, figures, models, nets, optim, train
from npae.data.batches import to_float

digits, short, pictures = lesson.begin("18_loss_surface.py", __doc__)
digits = digits.first(1500 if short else 6000)
width, latent = 64, 8
epochs, grid = (12, 11) if short else (15, 41)
seed = 0
x = to_float(digits.train_x[:200 if short else 500])

# %% [markdown]
# theta has one number for each weight, and the loss is a surface over that many axes. One can look at planes of it:
# loss(theta_end + a u + b v), for two directions u and v. Which two? First the path: theta after every few steps.

# %%
rng = np.random.default_rng(seed)
model = models.Autoencoder(nets.mlp_encoder(digits.shape, [width, latent], activation="tanh", rng=rng),
                           nets.mlp_decoder(digits.shape, [latent, width], activation="tanh", rng=rng))
steps = epochs * -(-len(digits.train_x) // 50)
path = lesson.Way(every=steps // 60)
train.fit(model, digits, optimizer=optim.Adam(optim.CosineDecay(3e-3, steps)), epochs=epochs, batch_size=50, seed=seed,
          callbacks=[path])
thetas = np.array(path.thetas, np.float64)
end = model.theta.astype(np.float64)
motion = thetas - end

# %% [markdown]
# **Random directions** are the usual choice, drawn from N(0, 1) and scaled so that the weights of each unit are as long
# as the trained ones: without that, a unit of large weights would look flat, and one of small weights steep (Li et al.
# 2018, section 4). **PCA of the path** takes the two along which the thetas differ most from theta_end (section 7
# there). The share of the motion that a plane holds is the sum of the squares of the path's coordinates in it, over
# that of the whole path.

# %%


def random_direction():
    """A random direction, as long as the trained weights, unit by unit."""
    model.theta[...] = end
    parts = []
    for p in model.params:
        d = rng.standard_normal(p.value.shape)
        parts.append((d * np.linalg.norm(p.value, axis=0) / np.linalg.norm(d, axis=0), p))
    for d, p in parts:
        p.value[...] = d  # each p is a view into theta
    return model.theta.astype(np.float64)


def pca(motion):
    """The directions of a path, strongest first, and the share of the motion that each holds."""
    _, s, directions = np.linalg.svd(motion, full_matrices=False)
    return directions, s**2 / np.sum(s**2)


def held(plane):
    """The share of the path's motion that lies in a plane of two directions."""
    q, _ = np.linalg.qr(plane.T)
    return float(np.sum((motion @ q) ** 2) / np.sum(motion**2))


planes = {"PCA": pca(motion)[0][:2], "random": np.array([random_direction(), random_direction()])}
share = {name: held(plane) for name, plane in planes.items()}
for name, part in share.items():
    print(f"two directions by {name}: {100 * part:.2g} % of the motion")

# %% [markdown]
# **Is that a finding?** Be careful with numbers that sound good. A random walk of as many steps, which goes nowhere and
# knows of no loss, has two directions of its own that hold nine tenths of it: the PCA of a walk in many dimensions is
# known in advance, smooth waves in time, the slowest ones the largest (Antognini and Sohl-Dickstein 2018). What tells
# training from a walk is the loss. So ask the plane for it: does the loss fall along the path's shadow in the plane as
# it falls along the path? The first steps are short and steep, and a plane that is chosen for long ones misses them.

# %%
walk = np.cumsum(rng.standard_normal((len(thetas), 5000)), axis=0)
of_walk = float(pca(walk - walk[-1])[1][:2].sum())
coordinates = motion @ planes["PCA"].T
real = lesson.losses_at(thetas, model, x)
in_plane = lesson.losses_at(end + coordinates @ planes["PCA"], model, x)
fall = (in_plane[0] - in_plane[-1]) / (real[0] - real[-1])
straight = np.linalg.norm(motion[0]) / np.linalg.norm(np.diff(thetas, axis=0), axis=1).sum()
straight_walk = np.linalg.norm(walk[-1] - walk[0]) / np.linalg.norm(np.diff(walk, axis=0), axis=1).sum()
print(f"two directions of a random walk: {of_walk:.2%} of its motion")
print(f"the loss falls from {real[0]:.1f} to {real[-1]:.1f} along the path, from {in_plane[0]:.1f} in its shadow; "
      f"the straight line is {straight:.0%} as long as the path, the walk's {straight_walk:.0%}")

# %%
# The two surfaces: both go through the trained point, and reach as far as the path does.
low, high = coordinates.min(axis=0), coordinates.max(axis=0)
room = 0.25 * (high - low)
axes = {"PCA": [np.linspace(a, b, grid) for a, b in zip(low - room, high + room, strict=True)],
        "random": [np.linspace(-1, 1, grid)] * 2}
surface = {}
for name, (u, v) in planes.items():
    points = (end + a * u + b * v for b in axes[name][1] for a in axes[name][0])  # one at a time: each is long
    surface[name] = lesson.losses_at(points, model, x).reshape(grid, grid)
met = interpn(axes["PCA"][::-1], surface["PCA"], coordinates[:, ::-1])  # rows of a surface are its second direction
least = min(float(values.min()) for values in surface.values())


@canvas.styled
def surfaces():
    figure = canvas.page(1040, 460, "One loss, two planes: only one of them shows where training went",
                         "Numbers: squared error per image. Star: the trained point, in both planes. White: the path")
    for place, (name, text) in enumerate((("PCA", f"PCA of the path: {share['PCA']:.0%} of its motion"),
                                          ("random", f"at random: {100 * share['random']:.1g}% of it"))):
        ax = canvas.box(figure, left=80 + 530 * place, top=canvas.HEAD + 36, width=420, height=360)
        levels = np.geomspace(0.99 * least, surface[name].max(), 22)
        ax.contourf(*axes[name], surface[name], levels=levels, cmap="viridis", norm="log", extend="both")
        lines = ax.contour(*axes[name], surface[name], levels=levels[::3], colors="white", linewidths=0.6, alpha=0.6)
        ax.clabel(lines, fmt="%.0f", fontsize=9)
        seen = motion @ np.linalg.pinv(planes[name])
        ax.plot(*seen.T, "o-", color="white", markersize=3, linewidth=1.5)
        ax.plot(0, 0, "*", color=canvas.ORANGE, markersize=18, markeredgecolor="white")
        ax.set(xlabel="first direction" + (", units of theta" if place == 0 else ", lengths of the weights"),
               ylabel="second direction")
        ax.set_title(text, loc="left")
        ax.grid(visible=False)
        if place == 0:
            ax.annotate("start", seen[0], (8, -4), textcoords="offset points", color="white", weight="bold")
    return figure


figures.save(surfaces(), pictures / "surfaces.png")

# %%
lesson.promised("motion in two PCA directions", share["PCA"], above=0.85)
lesson.promised("motion in two random directions", share["random"], below=0.001)
lesson.promised("a random walk's motion in its own two", of_walk, above=0.85)
lesson.promised("fall of the loss that the plane shows, of the whole", fall, below=2 / 3)
lesson.promised("loss of the path's shadow, read off the surface, off by", abs(met / in_plane - 1).max(), below=0.05)
lesson.promised("loss at the rim of the random plane, of the trained one", surface["random"].max() / real[-1], above=3)
lesson.promised("trained loss over the least of both surfaces", float(real[-1]) / least, below=1.02)

# %% [markdown]
# Try next: make the origin the path's mean in place of its end (`thetas - thetas.mean(axis=0)`): which of the shares
# falls more, training's or the walk's? Then `optim.Adam(2e-2)` without a decay: where does the path end, and is the
# star still the least?
