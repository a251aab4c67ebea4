"""Five optimizers set out from the same place: which of them sees what of the landscape, and who gets there first?

Promise: in a valley 100 times as steep across as along, gradient descent and momentum take the steps that theory says
(to 2 %), momentum at least 5 times fewer; turned by 45 degrees, Adam takes at least 2.5 times as many, those two the
same. Momentum and Adam bring an autoencoder to gradient descent's least loss in 0.75 of its steps. Half a minute.
"""
# %%
import lesson
import numpy as np

from npae import canvas, figures, models, nets, optim, train
from npae.data.batches import to_float

digits, short, pictures = lesson.begin("19_five_optimizers.py", __doc__)
digits = digits.first(1500 if short else 6000)
epochs, grid = 5, 11 if short else 41
seed = 0
COLOURS = dict(zip(("SGD", "Momentum", "RMSprop", "Adam", "AdamW"),
                   ("#333333", "#0072b2", "#009e73", "#d55e00", "#cc79a7"), strict=True))
STYLES = dict.fromkeys(COLOURS, "-") | {"AdamW": "--"}  # it hides Adam where the two go the same way

# %% [markdown]
# **The valley.** f(theta) = (theta - best)ᵀ A (theta - best) / 2, where A has the eigenvalues 1 (along) and k = 100
# (across). What is left of the distance after a step is known (Polyak 1964), at each rule's best settings:
#
#     gradient descent   q = (k - 1) / (k + 1) = 0.980       rate 2 / (1 + k): a larger one climbs the walls
#     momentum           r = (√k - 1) / (√k + 1) = 0.818     rate 4 / (1 + √k)², momentum r²
#
# After n steps q^n is left, or r^n (1 + n (1 - r)) along and r^n (1 + n (1 + r)) across: the best momentum is the one
# at which the two roots of its recursion meet, hence the n in front, which costs it a dozen steps.
#
# RMSprop and Adam divide each coordinate's gradient by its own size. If the valley runs along an axis, that makes it
# round; if it runs between the axes, both coordinates see the same size, and nothing is gained.

# %%
k, most = 100.0, 1500  # steps
q, r = (k - 1) / (k + 1), (k**0.5 - 1) / (k**0.5 + 1)
best, first = np.array([3.0, 1.0]), np.array([-3.0, 0.5])  # the way to go, along and across
RULES = {"SGD": lambda: optim.SGD(2 / (1 + k)), "Momentum": lambda: optim.Momentum(4 / (1 + k**0.5) ** 2, r**2),
         "RMSprop": lambda: optim.RMSprop(0.1), "Adam": lambda: optim.Adam(0.1),
         "AdamW": lambda: optim.AdamW(0.1, decay=0.1)}


def walk(rule, degrees, steps=most):
    """Every theta on the way through the valley, turned by so many degrees."""
    turn = np.array([[np.cos(np.radians(degrees)), -np.sin(np.radians(degrees))],
                     [np.sin(np.radians(degrees)), np.cos(np.radians(degrees))]])
    A = turn @ np.diag([1, k]) @ turn.T
    theta, optimizer = best + turn @ first, rule()
    thetas = [theta.copy()]
    for _ in range(steps):
        optimizer.step(theta, A @ (theta - best))
        thetas.append(theta.copy())
    return np.array(thetas), A


def steps_to(thetas, share=0.01):
    """Steps until the distance stays below this share of the first; None: it does not."""
    far = np.linalg.norm(thetas - best, axis=1)
    last = int(np.flatnonzero(far >= share * far[0])[-1])
    return last + 1 if last + 1 < len(far) else None


walks = {(name, degrees): walk(rule, degrees)[0] for name, rule in RULES.items() for degrees in (0, 45)}
needed = {key: steps_to(thetas) for key, thetas in walks.items()}
many = f"> {most}"
rest = {key: float(np.linalg.norm(thetas[-1] - best)) for key, thetas in walks.items()}
for name in RULES:
    print(f"{name:>8}: steps until 1 % of the way is left {needed[name, 0] or many}, turned by 45 degrees "
          f"{needed[name, 45] or many}; after {most} {rest[name, 0]:.1e} and {rest[name, 45]:.1e} from the best point")
n = np.arange(most)[:, None]
left = {"SGD": q**n * first, "Momentum": r**n * (1 + n * np.array([1 - r, 1 + r])) * first}
theory = {name: int(np.argmax(np.linalg.norm(d, axis=1) < 0.01 * np.linalg.norm(first))) for name, d in left.items()}
print(f"theory says {theory['SGD']} and {theory['Momentum']} steps")

# %% [markdown]
# Two have not arrived, and both are right. RMSprop's step gets no shorter: a gradient divided by its own size is ±1,
# however small it is, so at the bottom it hops by its rate, half of it to either side of the best point: in the turned
# valley in both coordinates, at rate / √2 from it; in the straight one in one of them, at rate / 2, for the other has
# met the best point to the last digit, and its gradient of 0 moves nothing. (Adam's m, the mean of some ten gradients,
# fades while it hops, and it comes to rest.) AdamW shrinks theta in each step, whatever the gradient says, and hangs
# short of the best point, towards zero, where the gradient holds it against that pull. It creeps on, for the gradient
# is divided by √v, and v forgets the large ones of the way, a thousandth a step: a smaller one will do.

# %%
# **A real landscape.** One autoencoder, five copies of its first weights, the same batches in the same order. Of each
# rule it is the best of the rates 0.001, 0.003, 0.01 ...; gradient descent diverges at 0.03.
RATES = {"SGD": optim.SGD(1e-2), "Momentum": optim.Momentum(3e-3), "RMSprop": optim.RMSprop(3e-3),
         "Adam": optim.Adam(3e-3), "AdamW": optim.AdamW(3e-3, decay=0.1)}
x = to_float(digits.train_x[:200 if short else 500])


def net():
    rng = np.random.default_rng(seed)
    return models.Autoencoder(nets.mlp_encoder(digits.shape, [64, 8], activation="tanh", rng=rng),
                              nets.mlp_decoder(digits.shape, [8, 64], activation="tanh", rng=rng))


thetas, losses = {}, {}
for name, optimizer in RATES.items():
    path, model = lesson.Way(every=len(digits.train_x) * epochs // 50 // 50), net()
    train.fit(model, digits, optimizer=optimizer, epochs=epochs, batch_size=50, seed=seed, callbacks=[path])
    thetas[name], losses[name] = np.array(path.thetas, np.float64), lesson.losses_at(path.thetas, model, x)
target = losses["SGD"].min()
early = {name: np.argmax(np.append(values, target) <= target) / np.argmin(losses["SGD"])  # appended: who never is there
         for name, values in losses.items()}
for name, values in losses.items():
    print(f"{name:>8}: {values[0]:.1f} to {values[-1]:.1f}; at SGD's least loss, {target:.1f}, after {early[name]:.0%} "
          "of SGD's steps")

# %%
# All five on one plane: through the start, along the two directions in which the five paths differ most (demo 18 says
# how much such a plane hides).
start = thetas["SGD"][0]
ways = {name: path - start for name, path in thetas.items()}
plane = np.linalg.svd(np.concatenate([way[::5] for way in ways.values()]), full_matrices=False)[2][:2]
shadows = {name: way @ plane.T for name, way in ways.items()}
held = {name: np.sum(shadow**2) / np.sum(ways[name] ** 2) for name, shadow in shadows.items()}
print("the plane holds of their motion: " + ", ".join(f"{name} {share:.0%}" for name, share in held.items()))
everywhere = np.concatenate(list(shadows.values()))
low, high = everywhere.min(axis=0), everywhere.max(axis=0)
a, b = (np.linspace(*ends, grid) for ends in zip(low - 0.15 * (high - low), high + 0.15 * (high - low), strict=True))
surface = lesson.losses_at((start + u * plane[0] + v * plane[1] for v in b for u in a), net(), x).reshape(grid, grid)

# %%


@canvas.styled
def valleys():
    figure = canvas.page(1180, 400, "Turn the valley, and Adam's advantage is gone; momentum's stays",
                         f"{k:.0f} times as steep across as along; numbers: steps until 1 % of the way is left")
    u, v = np.meshgrid(np.linspace(-1, 5, 200), np.linspace(-2, 3.5, 200))
    for place, degrees in enumerate((0, 45)):
        ax = canvas.box(figure, left=75 + 590 * place, top=canvas.HEAD + 36, width=350, height=321)
        A = walk(RULES["SGD"], degrees, steps=0)[1]
        d = np.stack([u - best[0], v - best[1]])
        ax.contour(u, v, np.einsum("iab,ij,jab->ab", d, A, d) / 2, np.geomspace(0.05, 400, 12), colors="#c8c8c8",
                   linewidths=0.8)
        order = sorted(RULES, key=lambda name: needed[name, degrees] or 9999)
        for line, name in enumerate(order):
            ax.plot(*walks[name, degrees][:400].T, STYLES[name], color=COLOURS[name],
                    linewidth=1.2 if name == "SGD" else 1.7)
            ax.text(1.03, 0.9 - 0.11 * line, f"{name} {needed[name, degrees] or many}", color=COLOURS[name],
                    weight="bold", transform=ax.transAxes)
        ax.plot(*best, "*", color=canvas.ORANGE, markersize=16, markeredgecolor="black", zorder=5)
        ax.plot(*walks["SGD", degrees][0], "o", color="black", zorder=5)
        ax.set(xlim=(-1, 5), ylim=(-2, 3.5), title="along an axis" if not degrees else "turned by 45 degrees",
               xlabel="first coordinate of theta", ylabel="second coordinate" if not degrees else None)
        ax.grid(visible=False)
    return figure


@canvas.styled
def autoencoder():
    figure = canvas.page(1090, 420, f"Of gradient descent's steps momentum needs {early['Momentum']:.0%}, Adam "
                         f"{early['Adam']:.0%}",
                         "An autoencoder. Left: five ways from one start, in the plane that holds most of them; dark: "
                         "low loss. Dotted: SGD's least")
    ax = canvas.box(figure, left=110, top=canvas.HEAD + 20, width=440, height=340)
    levels = np.geomspace(surface.min(), surface.max(), 20)
    ax.contourf(a, b, surface, levels=levels, cmap="Greys_r", norm="log", alpha=0.6)
    for name, shadow in shadows.items():
        ax.plot(*shadow.T, STYLES[name], color=COLOURS[name])
        ax.plot(*shadow[-1], "o", color=COLOURS[name], markersize=8, markeredgecolor="white")
    ax.annotate("start", shadows["SGD"][0], (-6, 8), textcoords="offset points", weight="bold", ha="center")
    ax.set(xlabel="first direction, units of theta", ylabel="second direction, units of theta")
    ax.grid(visible=False)
    right = canvas.box(figure, left=670, top=canvas.HEAD + 20, width=320, height=340)
    for place, (name, values) in enumerate(sorted(losses.items(), key=lambda item: -item[1][-1])):
        right.plot(np.linspace(0, epochs, len(values)), values, STYLES[name], color=COLOURS[name])
        right.text(1.02, 0.5 - 0.1 * place, name, color=COLOURS[name], weight="bold", transform=right.transAxes)
    right.axhline(target, color=COLOURS["SGD"], linewidth=0.8, linestyle=":")
    right.set(xlabel="epoch", ylabel="squared error per image", yscale="log")
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("{x:g}")
    return figure


figures.save(valleys(), pictures / "valley.png")
figures.save(autoencoder(), pictures / "autoencoder.png")

# %%
lesson.promised("steps over the theory's, of SGD and momentum, off by",
                max(abs(needed[name, 0] / theory[name] - 1) for name in theory), below=0.02)
lesson.promised("SGD's steps over momentum's", needed["SGD", 0] / needed["Momentum", 0], above=5)
lesson.promised("steps that SGD and momentum gain or lose by a turn",
                sum(abs(needed[name, 45] - needed[name, 0]) for name in ("SGD", "Momentum")), below=0)
lesson.promised("Adam's steps, turned over straight", needed["Adam", 45] / needed["Adam", 0], above=2.5)
lesson.promised("where RMSprop hops over rate / √2, off by", abs(rest["RMSprop", 45] / (0.1 / 2**0.5) - 1), below=0.05)
lesson.promised("how far AdamW hangs short of the best point, along", best[0] - walks["AdamW", 0][-1, 0], above=0.03)
lesson.promised("share of SGD's steps that momentum and Adam need", max(early["Momentum"], early["Adam"]), below=0.75)

# %% [markdown]
# Try next: `k, most = 1e4, 50_000`: whose steps grow a hundredfold, whose some tenfold, whose not at all? Then a rate
# for RMSprop that gets shorter (`optim.CosineDecay(0.1, most)`): where does it come to rest now?
