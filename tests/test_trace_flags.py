"""What a trace says in words: each fault that is planted, by its name and at its place, and nothing of healthy runs."""
import itertools
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from explorables import pictures, tied

from npae import data, optim
from npae.layers import Dense, Flatten, ReLU, Reshape, Sequential, Sigmoid, Softplus, Tanh
from npae.losses import Bernoulli, SquaredError
from npae.models import Autoencoder
from npae.trace import Trace, session
from npae.trace import flags as words
from npae.trace.rows import LayerTrace, ParamTrace
from npae.trace.statistics import Stats

HEALTHY = ("conv-ae", "tied-ae", "bernoulli-vae", "mlp-vae", "ae")
SHAPE = (8, 8, 1)
X = pictures(SHAPE, 40).train_x / np.float32(255)


def net(hidden=("relu",), widths=(32,), pixels=None, kind=Dense, up="relu"):
    """A dense autoencoder 64 -> widths -> 6 -> 32 -> 64."""
    rng = np.random.default_rng(0)
    ends = (64, *widths, 6)
    down = [(kind if i == 0 else Dense)(a, b, activation=hidden[i] if i < len(hidden) else None, rng=rng)
            for i, (a, b) in enumerate(itertools.pairwise(ends))]
    back = [Dense(6, 32, activation=up, rng=rng), Dense(32, 64, activation=pixels, rng=rng), Reshape(SHAPE)]
    likelihood = SquaredError() if pixels else Bernoulli()
    return Autoencoder(Sequential([Flatten(), *down]), Sequential(back), likelihood=likelihood)


def traced(model, optimizer=None, x=X, between=lambda model: None):
    """One step: loss, backward, what comes between, and the optimizer."""
    with Trace(model) as t:
        model.zero_grad()
        model.loss(x, rng=np.random.default_rng(0))
        model.backward()
        between(model)
        (optimizer or optim.Adam(1e-3)).step(model.theta, model.grad)
    return t


def told(t, *expected):
    """The flags are these: (layer, words that stand in the sentence), in this order, and no others."""
    assert len(t.flags) == len(expected), t.flags
    for flag, (layer, *parts) in zip(t.flags, expected, strict=True):
        assert flag.startswith(f"{layer} (") and all(part in flag for part in parts), flag
    assert all(flag in str(t) for flag in t.flags)


def test_the_net_that_is_harmed_below_is_well():
    for model in (net(), net(("tanh",)), net(("sigmoid",), pixels="sigmoid")):
        told(traced(model))


# -- the six --


@pytest.mark.parametrize("dead", [32, 24])
def test_dead_units(dead):
    model = net()
    for p in model.params[3:]:
        p.value[...] += 0.1 * (p.value.ndim == 1)  # so that what comes after is not all 0
    model.encoder.layers[1].b.value[:dead] = -100
    t = traced(model)
    flag = t.flags[0]
    assert flag.startswith("encoder.1 (Dense): dead units, ") and f"{round(t.rows[1].dead * 32)} of 32 are 0" in flag
    assert dead <= t.rows[1].dead * 32 < dead + 8 and "40 rows" in flag
    if dead == 32:  # no gradient passes them at all
        told(t, ("encoder.1", "dead units"),
             ("encoder.1", "is frozen", "the gradients of encoder.1.W, encoder.1.b and encoder.2.W are exactly 0",
              "as encoder.1 lets nothing pass"))
    else:
        told(t, ("encoder.1", "dead units"))


def test_one_dead_layer_in_a_deep_net_is_one_dead_layer_and_one_sentence_on_what_it_stops():
    model = net(("relu",) * 4, (32,) * 4)
    for p in model.params:
        p.value[...] += 0.1 * (p.value.ndim == 1)
    model.encoder.layers[4].b.value[...] = -100
    told(traced(model), ("encoder.4", "dead units, 32 of 32"),
         ("encoder.1", "is frozen", "gradients of encoder.1.W and 8 more parameters, up to encoder.5.W, are exactly 0",
          "as encoder.4 lets nothing pass"))


def test_layers_that_are_given_zeros_are_not_called_dead_themselves():
    """Biases begin at 0, so that a dead layer makes all that follow it 0."""
    model = net(("relu",) * 3, (32,) * 3)
    model.encoder.layers[2].b.value[...] = -100
    told(traced(model), ("encoder.2", "dead units, 32 of 32"),
         ("encoder.1", "is frozen", "up to decoder.1.W, are exactly 0", "as encoder.2 lets nothing pass"))


def test_black_pictures_are_no_fault_of_a_layer():
    t = traced(net(), x=0 * X)
    told(t, ("encoder.1", "nothing but zeros comes in"), ("encoder.1", "is frozen"))


def test_a_gradient_that_vanishes_in_saturated_units_is_not_cured_by_larger_weights():
    model = net(pixels="sigmoid")
    model.decoder.layers[1].b.value[...] = 12
    t = traced(model, x=0 * X + np.float32(0.1))
    told(t, ("decoder.1", "saturated units"), ("encoder.2", "a vanishing gradient", "what is saturated at decoder.1"))
    assert "use larger weights" not in str(t)


def test_dead_units_behind_a_relu_of_its_own():
    rng = np.random.default_rng(0)
    encoder = Sequential([Flatten(), Dense(64, 32, rng=rng), ReLU(), Dense(32, 6, rng=rng)])
    model = Autoencoder(encoder, Sequential([Dense(6, 64, rng=rng), Reshape(SHAPE)]), likelihood=Bernoulli())
    encoder.layers[1].b.value[:24] = -100
    told(traced(model), ("encoder.2", "dead units"))


@pytest.mark.parametrize("bend", ["tanh", "sigmoid"])
def test_saturated_units(bend):
    model = net((bend,))
    model.encoder.layers[1].W.value[...] *= 200
    t = traced(model)
    told(t, ("encoder.1", "saturated units", "slope is below 1%"))
    assert t.rows[1].saturated > 0.8 and t.rows[1].blocked > 0.5


def test_pixels_that_are_saturated_on_the_wrong_side_and_not_those_that_are_right():
    x = X.copy()
    x[:, :, :5] = 0  # five columns of eight are black in every picture
    model = net(pixels="sigmoid")
    bias = model.decoder.layers[1].b.value.reshape(8, 8)
    bias[:, :5] = -12
    t = traced(model, x=x)
    assert t.rows[-2].saturated > 0.6 and t.rows[-2].blocked < 0.01 and not t.flags
    bias[:, :5] = 12
    told(traced(model, x=x), ("decoder.1", "saturated units"))


def test_a_vanishing_gradient():
    t = traced(net(("sigmoid",) * 8, (32,) * 8, up="tanh"))
    told(t, ("encoder.1", "a vanishing gradient, which shrinks", "-fold on its way back from decoder.2"))
    assert t.rows[1].gradient.norm < t.rows[-1].gradient.norm / 100


def test_an_exploding_gradient():
    model = net((), (32,) * 5, pixels="identity", up=None)
    for layer in model.encoder.layers[1:]:
        layer.W.value[...] *= 6
    t = traced(model, optim.Adam(1e-6), x=X * np.float32(1e-5))  # so that what is painted does not explode too
    told(t, ("encoder.1", "an exploding gradient, which grows", "clip_norm"))
    assert t.rows[1].gradient.norm > 100 * t.rows[-1].gradient.norm


def test_an_update_that_is_larger_than_the_weight():
    model = net()
    norm = np.linalg.norm(model.encoder.layers[2].W.value)
    t = traced(model, optim.Adam(3.0))
    expected = [(f"{name}", "the update is larger than the weight", f"{name}.W has moved by", "0.001 is usual")
                for name in ("encoder.1", "encoder.2", "decoder.0", "decoder.1")]
    told(t, *expected)
    moved = 3.0 * np.sqrt(32 * 6) / norm  # Adam's first step is lr in every entry whose gradient is not 0
    assert float(t.flags[1].split("moved by ")[1].split(" times")[0]) == pytest.approx(moved, rel=0.02)


def test_a_frozen_layer():
    def forgotten(model):
        for p in model.encoder.layers[2].params:
            p.grad[...] = 0

    told(traced(net(), between=forgotten), ("encoder.2", "is frozen", "encoder.2.W (", "encoder.2.b (", "stayed where"))


@pytest.mark.parametrize("bend", ["relu", "tanh"])
@pytest.mark.parametrize(("zero", "said"), [
    (["decoder.0"], "up to decoder.1.W, are exactly 0, as decoder.0.W is 0 itself"),
    (["encoder.1", "encoder.2", "decoder.0", "decoder.1"], "up to decoder.1.W, are exactly 0, as decoder.1.W is 0 it")])
def test_weights_that_are_0_are_the_reason_for_what_is_frozen_before_them(bend, zero, said):
    model = net((bend,), up="tanh")
    for p in model.params:
        if p.name.rsplit(".", 1)[0] in zero:
            p.value[...] = 0
    *_, frozen = traced(model).flags
    assert frozen.startswith("encoder.1 (Dense) is frozen: ") and said in frozen


def test_a_tied_weight_that_is_frozen_is_told_once():
    model = tied()
    x = pictures((6, 9, 3), 20).train_x / np.float32(255)
    t = traced(model, x=x, between=lambda model: model.params[0].grad.fill(0))
    told(t, ("encoder.0", "is frozen", "encoder.0.W ("))


def test_a_layer_whose_backward_forgets_its_weights_is_frozen():
    class Forgetful(Dense):
        def _gradients(self, x, y, dy, dx):
            super()._gradients(x, y, dy, dx)
            self.W.grad[...] = 0

    told(traced(net(kind=Forgetful)), ("encoder.1", "is frozen: the gradient of encoder.1.W is exactly 0"))


# -- beyond the six --


def test_what_is_no_number_is_said_where_it_begins():
    model = net()
    model.encoder.layers[1].W.value[0, 0] = np.nan
    x = X.copy()
    x[:, 0, 0] = 1
    with Trace(model) as t:
        model.loss(x)
    told(t, ("encoder.1", "its output holds inf or not-a-number"))


def test_a_gradient_that_is_no_number_is_said():
    model = net()
    with Trace(model) as t:
        model.loss(X)
        model.dy = model.dy.copy()
        model.dy[0, 0, 0] = np.inf
        with np.errstate(all="ignore"):
            model.backward()
    told(t, ("decoder.2", "the gradient that arrives holds inf", "; look into the gradient of the loss"))


def test_pictures_that_are_no_numbers_are_no_fault_of_the_first_layer():
    x = X.copy()
    x[-1, 0, 0] = np.nan  # none of those that the trace keeps
    with np.errstate(all="ignore"):
        told(traced(net(), x=x), ("encoder.0", "inf or not-a-number comes in; look at the pictures"))


@pytest.mark.parametrize("place", [0, 1])
def test_a_weights_gradient_that_is_no_number_is_said_where_all_that_passes_is_one(place):
    class Broken(Dense):
        def _gradients(self, x, y, dy, dx):
            super()._gradients(x, y, dy, dx)
            self.params[place].grad[..., 0] = np.inf

    name = "Wb"[place]
    told(traced(net(kind=Broken)), ("encoder.1", f"the gradient of encoder.1.{name} holds inf or not-a-number",
                                    "look into its backward"))


def test_a_dx_that_is_no_number_is_looked_for_in_the_layer_that_gave_it():
    class Broken(Dense):
        def _gradients(self, x, y, dy, dx):
            super()._gradients(x, y, dy, dx)
            dx[0] = np.nan

    model = net()
    model.decoder.layers[0].__class__ = Broken
    told(traced(model), ("encoder.2", "the gradient that arrives holds", "look into the dx of decoder.0, and the grad"))


@pytest.mark.parametrize("size", [np.inf, np.nan])
def test_a_step_that_leaves_no_numbers_is_said_and_does_not_count_as_one_from_zero(size):
    def step(theta, grad):
        theta[...] += np.float32(size) * (grad != 0)

    with np.errstate(all="ignore"):
        t = traced(net(), SimpleNamespace(step=step))
    told(t, ("encoder.1", "the step of the optimizer has made inf or not-a-number of encoder.1.W"))
    assert all(math.isnan(p.update_ratio) for row in t.rows for p in row.params) and "from 0" not in str(t)


def test_a_loss_that_is_no_number_though_all_outputs_are_is_said():
    class Log(SquaredError):
        def nll(self, output, x):
            return -math.inf, super().nll(output, x)[1]

    model = net()
    model.likelihood = Log()
    told(traced(model), ("decoder.2", "all layers give numbers, and the loss of them is -inf; look into"))


def test_few_pictures_and_half_zeros_are_no_fault():
    assert not traced(net(), x=X[:1]).flags  # of one picture half of the units are off
    t = traced(net())
    assert 0.2 < t.rows[1].activation.zeros < 0.8 and not t.flags
    for bend in (Sigmoid(), Tanh(), Softplus()):
        assert traced(net((bend,))).rows[1].dead is None


def test_a_small_layer_that_is_off_for_two_pictures_is_not_called_frozen():
    model = net(widths=(2,))
    model.encoder.layers[1].b.value[...] = -100
    told(traced(model, x=X[:2]))
    assert "frozen" in " ".join(traced(model).flags)


def test_nothing_moved_is_no_fault_and_a_bias_that_leaves_zero_is_none():
    model = net()
    with Trace(model) as t:
        model.loss(X)
        model.backward()
    assert not t.flags
    t = traced(net(), optim.Adam(1e-3))
    assert t.rows[1].params[1].update_ratio == math.inf and not t.flags


def test_several_steps_in_a_block_are_not_one_large_update():
    model, optimizer = net(), optim.Adam(3e-2)
    with Trace(model) as t:
        for _ in range(60):
            model.zero_grad()
            model.loss(X)
            model.backward()
            optimizer.step(model.theta, model.grad)
    assert t.steps == 60 and max(p.update_ratio for row in t.rows for p in row.params if p.name.endswith("W")) > 1
    assert not any("update" in flag for flag in t.flags)


def test_widths_alone_change_no_gradient():
    """Norm and root mean square of the same numbers, told of a wider or a narrower layer: neither counts alone."""
    def of(norm, size):
        return Stats(0.0, 1.0, 0.0, norm, size)

    assert words._change(of(1, 100), of(0.1, 1)) == 1  # a tenth of the length, in a hundredth of the numbers
    assert words._change(of(1, 1), of(10, 100)) == 1
    assert words._change(of(1, 100), of(0.1, 100)) == pytest.approx(0.1)
    assert words._change(of(1, 100), of(0.1, 25)) == pytest.approx(0.2)
    assert words._change(of(1, 100), of(10, 25)) == pytest.approx(10)
    assert words._change(of(1, 25), of(10, 100)) == pytest.approx(5)


# -- both sides of each threshold: rows that are made up, so that a number lies exactly on it --


def row(name="encoder.1", rows=16, norm=1.0, size=128, *params, **known):
    gradient = Stats(0.0, 1.0, 0.0, norm, size)
    return LayerTrace(name, "Dense", None, output_shape=(rows, 8), activation=known.pop("y", Stats(0, 1, 0, 1, 128)),
                      gradient=gradient, params=list(params), **known)


def said_of(*rows, steps=1):
    return words.flags(SimpleNamespace(rows=list(rows), steps=steps, terms={}))


@pytest.mark.parametrize(("rows", "dead", "flagged"), [(16, 0.75, True), (16, 0.74, False), (15, 0.75, False),
                                                       (15, 1.0, False), (400, 0.875, True), (16, None, False)])
def test_units_are_dead_from_three_quarters_of_them_on_and_in_sixteen_rows_at_least(rows, dead, flagged):
    said = said_of(row(rows=rows, dead=dead))
    assert len(said) == flagged
    if flagged:
        assert f"dead units, {int(8 * dead)} of 8 are 0 for each of the {rows} rows" in said[0]


@pytest.mark.parametrize(("saturated", "blocked", "flagged"), [
    (0.5, 0.5, True), (0.49, 0.9, False), (0.9, 0.49, False), (0.9, None, False), (None, None, False)])
def test_units_are_saturated_where_half_of_the_numbers_and_half_of_the_gradient_are_at_the_ends(saturated, blocked,
                                                                                              flagged):
    said = said_of(row(saturated=saturated, blocked=blocked))
    assert len(said) == flagged
    if flagged:
        assert "50% of the numbers" in said[0] and "50% of the gradient's square" in said[0]


@pytest.mark.parametrize(("norm", "flag"), [
    (0.01, "a vanishing gradient, which shrinks 100-fold on its way back from decoder.0 "
     "(norm 1.0e+00) to here (1.0e-02)"),
    (0.0101, ""), (99.0, ""), (1e-9, "which shrinks 1e+09-fold"), (1e6, "which grows 1e+06-fold"),
    (100.0, "an exploding gradient, which grows 100-fold on its way back from decoder.0 "
     "(norm 1.0e+00) to here (1.0e+02)"),
    (123456.0, "grows 123,456-fold"), (0.0, "")])
def test_a_gradient_vanishes_or_explodes_from_a_hundredfold_on(norm, flag):
    said = said_of(row("encoder.1", norm=norm), row("encoder.2", norm=(norm or 1) ** 0.5), row("decoder.0"))
    assert len(said) == bool(flag)
    assert all(one.startswith("encoder.1 (") and flag in one for one in said)


def test_of_a_gradient_that_shrinks_and_grows_the_places_where_it_is_least_and_most_are_named():
    said = said_of(row("a", norm=1.0), row("b", norm=0.005), row("c", norm=300.0), row("d"))
    assert [flag.split(" which")[0] for flag in said] == ["b (Dense): a vanishing gradient,",
                                                          "c (Dense): an exploding gradient,"]
    assert "shrinks 200-fold" in said[0] and "grows 300-fold" in said[1]


@pytest.mark.parametrize(("ratio", "steps", "told"), [
    (1.0, 1, ""), (1.01, 1, "1.01"), (1.01, 0, "1.01"), (6.0, 6, ""), (6.6, 6, "1.1"), (math.inf, 1, ""),
    (None, 1, "")])
@pytest.mark.parametrize("name", ["encoder.1.W", "encoder.1.b"])
def test_an_update_is_too_large_above_the_weights_own_length_in_a_step(ratio, steps, told, name):
    said = said_of(row("encoder.1", 16, 1.0, 128, ParamTrace(name, (8, 8), 1.0, 0.5, ratio)), steps=steps)
    assert len(said) == (bool(told) and name.endswith("W"))
    if said:
        assert f"{name} has moved by {told} times its own length in a step, where about 0.001 is usual" in said[0]


@pytest.mark.parametrize(("rows", "flagged"), [(15, False), (16, True)])
def test_what_stops_at_a_layer_that_is_off_is_frozen_in_sixteen_rows_at_least(rows, flagged):
    weights = [ParamTrace(f"encoder.1.{name}", (8,), 1.0, 0.0) for name in "Wb"]
    said = said_of(row("encoder.1", rows, 1.0, 128, *weights), row("encoder.2", rows, dead=1.0))
    frozen = [flag for flag in said if "is frozen" in flag]
    assert frozen == ["encoder.1 (Dense) is frozen: the gradients of encoder.1.W and encoder.1.b are exactly 0, as "
                      "encoder.2 lets nothing pass"] * flagged


def test_a_dead_layer_before_a_frozen_one_is_not_its_reason_and_the_last_one_behind_it_is():
    weights = [ParamTrace(f"encoder.{k}.W", (8,), 1.0, 0.0 if k else 0.5) for k in range(4)]
    rows = [row(f"encoder.{k}", 16, 1.0, 128, p, dead=1.0 if k != 1 else 0.0) for k, p in enumerate(weights)]
    *_, said = said_of(*rows)
    assert said == ("encoder.1 (Dense) is frozen: the gradients of encoder.1.W, encoder.2.W and encoder.3.W are "
                    "exactly 0, as encoder.3 lets nothing pass")
    rows[2].dead = rows[3].dead = 0.0
    assert said_of(*rows)[-1].endswith("are exactly 0")


@pytest.mark.parametrize(("steps", "moved", "why"), [(1, math.inf, ", as b.W is 0 itself"),
                                                     (2, None, ", as b.W is 0 itself"), (2, math.inf, "")])
def test_a_weight_that_was_0_before_the_latest_step_is_no_reason(steps, moved, why):
    before, after = ParamTrace("a.W", (8, 8), 1.0, 0.0), ParamTrace("b.W", (8, 8), 0.0, 0.5, moved)
    said = said_of(row("a", 16, 1.0, 128, before), row("b", 16, 1.0, 128, after), steps=steps)[0]
    assert said == f"a (Dense) is frozen: the gradient of a.W is exactly 0{why}"


def test_of_many_gradients_the_first_the_last_and_their_number_are_said():
    names = ["a.W", "a.b", "b.W", "b.b", "c.W"]
    assert [words._gradients(names[:n]) for n in (1, 2, 3, 4, 5)] == [
        "the gradient of a.W is", "the gradients of a.W and a.b are", "the gradients of a.W, a.b and b.W are",
        "the gradients of a.W and 3 more parameters, up to b.b, are",
        "the gradients of a.W and 4 more parameters, up to c.W, are"]


def test_what_is_no_number_is_said_once_where_it_begins_on_the_way_there_or_else_back():
    nan, inf = Stats(math.nan, math.nan, 0.0, math.nan, 8), Stats(math.nan, math.nan, 0.0, math.inf, 8)
    first, second = row("a", y=inf), row("b", y=nan)
    assert said_of(row("x"), first, second) == [
        "a (Dense): its output holds inf or not-a-number, of which no gradient can be made"]
    rows = [row("x"), row("y"), row("z")]
    rows[0].gradient = rows[1].gradient = nan
    assert said_of(*rows) == ["y (Dense): the gradient that arrives holds inf or not-a-number; look into the dx of z, "
                              "and the gradient of the loss"]
    assert said_of(row("x", y=Stats(1e200, 0.0, 0.0, math.inf, 8))) == []  # whose squares alone are too large
    assert len(said_of(row("x", y=nan, dead=1.0))) == 1


# -- healthy runs --


@pytest.fixture(scope="module")
def strokes():
    return data.load("strokes")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_recipe_gets_no_flag_at_its_first_step_and_after_ten(name, strokes, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args: strokes)
    given = {"batch_size": "128"} if name == "mlp-vae" else {}  # of 1,024 in the slow test below
    for steps in (0, 10):
        found = session.of_recipe(name, steps=steps, given=given)
        assert [frame.step for frame in found.frames] == [steps + 1] and found.frames[0].trace.flags == []


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_recipe_gets_no_flag_on_its_way(name, seed):
    found = session.of_recipe(name, seed=seed, every=10 if name == "mlp-vae" else 30)
    assert len(found.frames) == 20
    for frame in found.frames:
        print(f"\n{name}, step {frame.step}: {frame.trace.flags}", end="", file=sys.stderr)
        assert frame.trace.flags == []
