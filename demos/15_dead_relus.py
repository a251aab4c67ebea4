"""How does a ReLU die, why does it never come back by itself, and what brings it back?

Promise: a bad bias kills 100 % of a layer's units, a large rate at least 90 %. Training on at a smaller rate brings at
most 5 % of them back; of the dead drawn anew at least half live, and paint as a healthy net does. Half a minute.
"""
# %%
import lesson
import numpy as np

from npae import canvas, evaluate, figures, models, nets, optim, train
from npae.data.batches import to_float
from npae.layers import LeakyReLU
from npae.trace import Trace

digits, short, pictures = lesson.begin("15_dead_relus.py", __doc__)
digits = digits.first(1500 if short else 6000)
units, epochs = 128, 6 if short else 5
seed = 0
x = to_float(digits.test_x[:256])

# %% [markdown]
# A ReLU unit h = max(0, x W + b) that is below zero for a picture has the slope 0 there: the picture pulls at none of
# its weights. Below zero for *every* picture it is **dead**: its gradient is 0, exactly and in every step, so W and b
# stay (once a momentum has run out), so it stays below zero. No optimizer can help, for 0 divided by anything is 0.
# A few dead units are nothing to fear: look how many the healthy net has.

# %%


def net(activation="relu", seed=seed):
    """784 - 128 - 784, with one layer of ReLUs, whose inputs, the pixels, never move."""
    rng = np.random.default_rng(seed)
    return models.Autoencoder(nets.mlp_encoder(digits.shape, [units], code=activation, rng=rng),
                              nets.mlp_decoder(digits.shape, [units], rng=rng))


def traced(model):
    """(the share of dead units in the first layer, what the trace says) of one loss and its backward."""
    with Trace(model) as trace:
        model.loss(x)
        model.backward()
    return next(row.dead for row in trace.rows if row.params), trace.flags


def trained(model, rate):
    train.fit(model, digits, optimizer=optim.Adam(rate), epochs=epochs, batch_size=50, seed=seed)
    return model


def on(model):
    """Which units are on for which pictures, (units, pictures)."""
    layer = model.encoder.layers[1]
    return (x.reshape(len(x), -1) @ layer.W.value + layer.b.value > 0).T


dead, seen, error = {}, {}, {}


def keep(name, model):
    """Note how many units are dead, which are on, and how well it paints."""
    dead[name], flags = traced(model)
    seen[name], error[name] = on(model), evaluate.reconstruction_mse(model, digits.test_x)
    print(f"{name}: {dead[name]:.0%} dead, squared error per pixel {error[name]:.4f}")
    for sentence in flags[:1]:
        print("    " + sentence)
    return model


# %% [markdown]
# **Made by a bias.** b = -10, where x W has a deviation of less than 1. Training changes no weight of the layer.

# %%
biased = net()
biased.encoder.layers[1].b.value[...] = -10
before = biased.encoder.layers[1].W.value.copy()
keep("healthy", trained(net(), 1e-3))
keep("bias -10", trained(biased, 1e-3))
moved = float(np.abs(biased.encoder.layers[1].W.value - before).max())

# %% [markdown]
# **Made by a rate.** Adam's first steps move every weight by the rate, and where a unit's output should shrink, the
# weights of all the lit pixels move in the same direction. One step shifts x W by up to rate times the sum of the
# pixels; once that is as large as the deviation of x W, a few steps push a unit over the edge.

# %%
lit, spread = float(x.sum(axis=(1, 2, 3)).mean()), float(np.std(x.reshape(len(x), -1) @ before))
rates, killed = np.array([1e-3, 3e-3, 1e-2, 3e-2, 1e-1]), []
for rate in rates:
    model = net()
    train.fit(model, digits.train_x[:1500], optimizer=optim.Adam(rate), epochs=1, batch_size=50, seed=seed)
    killed.append(traced(model)[0])
    print(f"rate {rate:g}: one step shifts x W by {rate * lit:.2f} (its deviation is {spread:.2f}); after 30 steps "
          f"{killed[-1]:.0%} are dead")
large = keep("rate 0.03", trained(net(), 3e-2))

# %% [markdown]
# **What does not cure.** A smaller rate prevents, and comes too late here. A leaky ReLU, alpha x below zero, lets a
# gradient through from everywhere: with the bad bias it learns (as a nearly linear layer), since its units were never
# dead. **What cures**: draw the dead units anew, their weights in and out and their bias, and go on gently (Sokar et
# al. 2023, 'The dormant neuron phenomenon', where the weights out begin at zero).

# %%
keep("rate 0.03, then 0.001", trained(large.to(), 1e-3))
leaky = net(LeakyReLU(0.1))
leaky.encoder.layers[1].b.value[...] = -10
error["bias -10, leaky"] = evaluate.reconstruction_mse(trained(leaky, 1e-3), digits.test_x)
print(f"bias -10, leaky: squared error per pixel {error['bias -10, leaky']:.4f}")


def draw_dead_anew(model):
    """New weights, in and out, and a bias of 0 for each unit that no picture switches on."""
    fresh, off = net(seed=seed + 1), ~on(model).any(axis=1)
    layer, after = model.encoder.layers[1], model.decoder.layers[0]
    layer.W.value[:, off], layer.b.value[off] = fresh.encoder.layers[1].W.value[:, off], 0
    after.W.value[off] = fresh.decoder.layers[0].W.value[off]
    return model


keep("drawn anew", trained(draw_dead_anew(large.to()), 1e-3))

# %%


@canvas.styled
def lights():
    figure = canvas.page(1040, 430, "Who is on? A rate of 0.03 turns the lights out, and they stay out",
                         f"White: one of {units} units is on for one of 100 test pictures. Right: dead after 30 steps")
    shown = {"healthy": "rate 0.001", "rate 0.03": "rate 0.03",
             "rate 0.03, then 0.001": "... then 0.001", "drawn anew": "dead ones drawn\nanew, then 0.001"}
    for place, (name, text) in enumerate(shown.items()):
        ax = canvas.box(figure, left=canvas.MARGIN + 150 * place, top=canvas.HEAD + 60, width=130, height=300)
        ax.imshow(seen[name][:, :100], cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set(xticks=[], yticks=[], xlabel=f"{dead[name]:.0%} dead")
        ax.set_title(text, loc="left", fontsize=11)
        ax.grid(visible=False)
    right = canvas.box(figure, left=730, top=canvas.HEAD + 60, width=300, height=300)
    right.plot(rates, 100 * np.array(killed), "o-", color=canvas.ORANGE)
    edge = spread / lit
    right.axvline(edge, color=canvas.GREY, linestyle="--", linewidth=1.2)
    right.annotate("one step shifts\nx W by its own\ndeviation", (edge, 8), (7, 0), textcoords="offset points",
                   color=canvas.GREY)
    right.set(xscale="log", xlabel="Adam's rate", ylabel="dead units, %", ylim=(0, 104))
    return figure


figures.save(lights(), pictures / "lights.png")

# %%
halfway = np.exp(np.interp(0.5, killed, np.log(rates)))
off = max(halfway / (spread / lit), spread / lit / halfway)
back = {name: 1 - dead[name] / dead["rate 0.03"] for name in ("rate 0.03, then 0.001", "drawn anew")}
lesson.promised("share dead of a bias of -10", dead["bias -10"], above=1)
lesson.promised("how far training has moved a weight of these", moved, below=0)
lesson.promised("share dead of a rate of 0.03", dead["rate 0.03"], above=0.9)
lesson.promised("factor between the rate that kills half and the one whose step is the deviation", off, below=3)
lesson.promised("share of the dead that a smaller rate brings back", back["rate 0.03, then 0.001"], below=0.05)
lesson.promised("share of the dead that live when drawn anew", back["drawn anew"], above=0.5)
lesson.promised("error of the cured net over the healthy one's", error["drawn anew"] / error["healthy"], below=1.25)
lesson.promised("error with the bad bias, leaky over ReLU", error["bias -10, leaky"] / error["bias -10"], below=0.75)

# %% [markdown]
# Try next: b = -1 and b = -2 in place of -10: where is the edge, in deviations of x W? Then `optim.Momentum(1e-2)`,
# whose step is as long as the gradient: which units does it kill, the useful or the idle ones?
