"""The trace: its numbers against NumPy's for every recipe, the bits of what is traced, and nothing left behind."""
import copy
import math
import re
import subprocess
import sys
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
from explorables import dense, pictures, tied
from traces import Residual, told_by

from npae import optim, recipes, train
from npae.callbacks import Callback
from npae.kernels import reference
from npae.layers import Conv2d, Dense, Flatten, LeakyReLU, ReLU, Reparameterize, Reshape, Sequential, Sigmoid, Tanh
from npae.losses import Bernoulli
from npae.models import VAE, Autoencoder, ContractiveAutoencoder
from npae.trace import Trace, maps, page, record, statistics, table, watched
from npae.trace.rows import owned
from npae.trace.statistics import Stats, stats

SMALL = (8, 8, 1)
README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def of_recipe(name, n=3, **changes):
    """A small model of a recipe, and a batch for it: (model, x, y)."""
    dataset = pictures(SMALL, 30)
    recipe = recipes.get(name)
    changes = {"latent": "3", **changes, **({"samples": "2"} if name == "iwae" else {})}
    settings, _ = recipe.resolve({key: str(value) for key, value in changes.items()})
    model = recipe.build(settings, dataset, np.random.default_rng(1))
    x = dataset.train_x[:n] / np.float32(255)
    return model, x, dataset.train_y[:n]


def step(model, x, y, seed=5):
    """Loss and backward; (terms, grad)."""
    model.zero_grad()
    terms = model.loss(x, y if model.classes else None, rng=np.random.default_rng(seed))
    model.backward()
    return terms, model.grad.copy()


def places(model):
    """What has attributes: the model and its layers."""
    middle = [model.reparameterize] if isinstance(model, VAE) else []
    return [model, *model.encoder.walk(), *middle, *model.decoder.walk()]


def attributes(model):
    return [set(vars(place)) for place in places(model)]


# -- numbers --


def same(found, a):
    a = np.float64(a)
    expected = [a.mean(), a.std(), np.mean(a == 0), np.linalg.norm(a)]
    np.testing.assert_allclose([found.mean, found.std, found.zeros, found.norm], expected, rtol=1e-6, atol=1e-9)
    assert found.size == a.size and found.rms == pytest.approx(math.sqrt(np.mean(a * a)), abs=1e-12)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_is_traced_layer_by_layer(name):
    """Each layer's y is what its copy makes of the y before it, and each gradient what the copy behind it hands down:
    written down from outside, it is what passes inside. The batch is small enough to be kept whole."""
    model, x, y = of_recipe(name)
    with Trace(model) as t:
        terms, _ = step(model, x, y)
    assert t.terms == terms and t.steps == 1 and t.seconds > 0
    encoder, decoder = ([layer for layer in net.walk() if not isinstance(layer, Sequential)]
                        for net in (model.encoder, model.decoder))
    middle = [model.reparameterize] if isinstance(model, VAE) else []
    assert [row.layer for row in t.rows] == [*encoder, *middle, *decoder]
    assert [row.name for row in t.rows] == [*(layer.name for layer in encoder), *["reparameterize"] * len(middle),
                                            *(layer.name for layer in decoder)]
    for i, row in enumerate(t.rows):
        same(row.activation, row.y)
        assert row.output_shape == row.y.shape and row.dtype == np.float32 and row.forward_seconds > 0
        assert row.multiply_adds == row.layer.multiply_adds(row.input_shape[1:])
        twin = row.layer.to()
        if isinstance(twin, Reparameterize):
            twin.eps = row.layer.used_eps
        before = t.rows[i - 1].y if i else None
        if before is not None and before.shape == row.input_shape:  # not where labels are joined
            np.testing.assert_allclose(twin.forward(before), row.y, rtol=1e-5, atol=1e-6)
            # the code's own gradient has more in it: a KL, a penalty; in IWAE also that of log p(z)
            more = t.rows[i - 1].layer is model.encoder.layers[-1] or (name == "iwae" and row.name == "decoder.0")
            if row.dy is not None and t.rows[i - 1].dy is not None and not more:
                np.testing.assert_allclose(twin.backward(row.dy), t.rows[i - 1].dy, rtol=1e-4, atol=1e-6)
    for row in t.rows:
        if row.gradient is not None:
            same(row.gradient, row.dy)
            assert row.dy.shape == row.output_shape and row.backward_seconds > 0
    # need_dx=False: backward stops at the first layer that learns
    without = [i for i, row in enumerate(t.rows) if row.gradient is None]
    assert without == list(range(len(without))) and all(not t.rows[i].layer.params for i in without)
    np.testing.assert_array_equal(t.pictures, x)


def test_what_arrives_first_is_the_likelihoods_gradient():
    model, x, _ = of_recipe("ae", 5)
    with Trace(model) as t:
        step(model, x, None)
    y = model.decoder.forward(model.encoder.forward(x))
    _, dy = model.likelihood.nll(y, x)
    np.testing.assert_array_equal(t.rows[-1].y, y)
    np.testing.assert_array_equal(t.rows[-1].dy, dy)


def test_only_the_first_pictures_are_copied_and_the_figures_are_those_of_the_whole_batch():
    model, x, _ = of_recipe("conv-ae", 30)
    with Trace(model) as t:
        step(model, x, None)
    whole = model.encoder.layers[0].to().forward(x)
    same(t.rows[0].activation, whole)
    np.testing.assert_array_equal(t.rows[0].y, whole[:8])
    assert t.rows[0].output_shape[0] == 30 and len(t.pictures) == 8


@pytest.mark.parametrize("n", [1, 8191, 8192, 8193, 20000])
def test_statistics_are_numpys_over_the_seams_of_the_chunks(n):
    a = np.float32(0.5) + np.float32(1e-3) * np.random.default_rng(n).standard_normal(n).astype(np.float32)
    a[::7] = 0
    same(stats(a), a)
    same(stats(np.asfortranarray(np.resize(a, (n, 2)))[:, 1:]), np.resize(a, (n, 2))[:, 1:])  # in no order of memory
    flat = np.full(n, 1e3, np.float32)  # mean / deviation: no digits may cancel
    flat[0] += 0.5
    assert stats(flat).std == pytest.approx(np.float64(flat).std(), rel=1e-3, abs=1e-12)


def test_statistics_of_what_is_no_number_do_not_warn():
    for bad in (np.nan, np.inf, -np.inf):
        found = stats(np.array([1, bad, -np.inf], np.float32))
        assert not found.finite
    assert stats(np.full(5, 1e30, np.float32)).norm == pytest.approx(1e30 * 5**0.5, rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e3, -7e-5, 1 / 3])
def test_the_deviation_of_one_number_many_times_is_no_nan(value):
    """Σ a² / n - mean² is a rounding error then, below 0 or above."""
    for n in (1, 3, 1000, 4097):
        found = stats(np.full(n, value))
        assert 0 <= found.std <= 1e-7 * abs(value) and found.mean == pytest.approx(value, rel=1e-12)
        assert found.zeros == 0 and found.rms == pytest.approx(abs(value), rel=1e-12)
    assert stats(np.zeros((3, 4), np.float32)) == Stats(0.0, 0.0, 1.0, 0.0, 12)


def test_numbers_are_told_from_what_is_none_also_where_their_squares_are_too_large():
    assert stats(np.array([1e200, -1e200])).finite and math.isnan(stats(np.array([1e200, -1e200])).std)
    assert stats(np.array([1e200, -1e200, 0.0])).mean == 0
    for bad in (np.nan, np.inf, -np.inf):
        assert not stats(np.array([bad, 1.0])).finite
    assert not stats(np.array([np.inf, -np.inf])).finite


def test_of_whole_numbers_and_half_precision_the_statistics_are_those_of_float64():
    for a in (np.array([1, 0, -3]), np.array([1, 0, 5], np.uint8), np.array([300, 0, 0.5], np.float16)):
        same(stats(a), a)
    assert stats(np.array([2**24 + 1])).mean == 2**24 + 1


@pytest.mark.parametrize(("bend", "edge"), [("tanh", math.sqrt(0.99)), ("sigmoid", 0.5 + math.sqrt(0.25 - 0.0025))])
def test_an_end_is_where_the_slope_is_below_a_hundredth_of_its_largest(bend, edge):
    """tanh: 1 - y² = 0.01; sigmoid: y (1 - y) = 0.0025; at both ends, in a layer of its own or inside another."""
    centre, reach = (0.0, edge) if bend == "tanh" else (0.5, edge - 0.5)
    y = centre + reach * np.array([1 + 1e-6, 1 - 1e-6, 0, -1 + 1e-6, -1 - 1e-6])
    for layer in (Dense(1, 1, activation=bend, rng=0), {"tanh": Tanh, "sigmoid": Sigmoid}[bend]()):
        assert statistics.at_the_ends(layer, y).tolist() == [True, False, False, False, True]
    for layer in (Dense(1, 1, activation="relu", rng=0), Dense(1, 1, rng=0), Flatten()):
        assert statistics.at_the_ends(layer, y) is None


def test_a_share_of_squares_is_one_of_squares():
    dy = np.array([[3.0, 0], [-4, 0]])
    assert statistics.share_of_squares(dy, np.array([[True, True], [False, False]])) == 9 / 25
    assert statistics.share_of_squares(dy, np.ones((2, 2), bool)) == 1
    assert statistics.share_of_squares(dy, np.zeros((2, 2), bool)) == 0
    assert statistics.share_of_squares(0 * dy, np.ones((2, 2), bool)) == 0
    assert statistics.share_of_squares(np.float32([1e30, 1e-30]), np.array([True, False])) == 1  # no overflow


def test_a_unit_is_dead_that_no_picture_and_no_place_has_switched_on():
    y = np.zeros((3, 2, 2, 4), np.float32)
    y[2, 1, 0, 1] = y[0, 0, 0, 3] = 1e-9
    assert statistics.never_active(ReLU(), y) == 0.5 and statistics.never_active(ReLU(), y[:2]) == 0.75
    assert statistics.never_active(Dense(3, 4, activation="relu", rng=0), y[:, 1, 0]) == 0.75
    assert statistics.never_active(LeakyReLU(0.1), y) is None and statistics.never_active(Tanh(), y) is None


def test_shares_at_the_ends_are_those_of_the_whole_batch():
    rng = np.random.default_rng(0)
    model = Autoencoder(Sequential([Flatten(), Dense(64, 6, activation="tanh", rng=rng)]),
                        Sequential([Dense(6, 64, rng=rng), Reshape(SMALL)]), likelihood=Bernoulli())
    model.encoder.layers[1].W.value[...] *= 5
    with Trace(model) as t:
        step(model, pictures(SMALL, 7).train_x[:7] / np.float32(255), None)
    row = t.rows[1]
    flat = 1 - np.float64(row.y) ** 2 < 0.01
    assert 0 < row.saturated < 1 and row.saturated == flat.mean()
    assert row.blocked == pytest.approx(np.sum(np.float64(row.dy)[flat] ** 2) / np.sum(np.float64(row.dy) ** 2))


def test_the_seconds_are_the_models_own_without_those_of_the_statistics(monkeypatch):
    """A clock that the layers and the statistics move on: 1 forward, 2 back, 100 for what is written down."""
    now = [0.0]

    class Slow(Dense):
        def _forward(self, x):
            now[0] += 1
            return super()._forward(x)

        def _backward(self, dy, need_dx):
            now[0] += 2
            return super()._backward(dy, need_dx)

    def counted(a):
        now[0] += 100
        return stats(a)

    for module in (record, watched):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    model = Autoencoder(Sequential([Slow(6, 3, rng=0), Slow(3, 2, rng=0)]), Sequential([Slow(2, 6, rng=0)]))
    with Trace(model) as t:
        monkeypatch.setattr(statistics, "stats", counted)
        for _ in range(2):  # of several steps the latest counts
            step(model, np.ones((4, 6), np.float32), None)
            assert t.seconds == 3 * 1 + 3 * 2
    assert [(row.forward_seconds, row.backward_seconds) for row in t.rows] == [(1, 2)] * 3


# -- parameters --


def test_a_step_inside_the_block_gives_the_update_ratios():
    model, x, _ = of_recipe("mlp-vae", latent=2)
    model.params[1].value[...] = 0  # a bias at zero
    before = [p.value.astype(np.float64) for p in model.params]
    with Trace(model) as t:
        _, grad = step(model, x, None)
        optim.Adam(1e-2).step(model.theta, model.grad)
        model.zero_grad()  # as others do after a step: what is told is the gradient that backward left
    told = {p.name: p for row in t.rows for p in row.params}
    assert list(told) == [p.name for p in model.params] and np.linalg.norm(grad) > 0
    for p, old in zip(model.params, before, strict=True):
        assert told[p.name].norm == pytest.approx(np.linalg.norm(old), rel=1e-5)
        moved = np.linalg.norm(p.value - old)
        expected = moved / np.linalg.norm(old) if old.any() else math.inf
        assert told[p.name].update_ratio == pytest.approx(expected, rel=1e-4)
    squares = sum(p.grad_norm**2 for p in told.values())
    assert squares == pytest.approx(np.sum(grad.astype(np.float64) ** 2), rel=1e-5)


def test_without_a_step_nothing_has_moved_and_without_backward_there_is_no_gradient():
    model, x, _ = of_recipe("tied-ae")
    with Trace(model) as t:
        model.loss(x)
    told = [p for row in t.rows for p in row.params]
    assert {p.update_ratio for p in told} == {p.grad_norm for p in told} == {None}
    assert all(row.gradient is None and row.backward_seconds == 0 for row in t.rows) and t.steps == 0
    with t:
        step(model, x, None)
    assert {p.update_ratio for row in t.rows for p in row.params} == {None} and t.rows[-1].gradient is not None


def refused(model, x):
    with pytest.raises(ValueError, match="expects 64 features"):
        model.loss(x[:, :3])


@pytest.mark.parametrize("look", [
    lambda model, x: model.reconstruct(x[:2]), lambda model, x: model.encode(x[:2]),
    lambda model, x: model.loss(x[:2]), refused], ids=["reconstruct", "encode", "loss", "a loss that fails"])
def test_what_comes_after_the_latest_step_is_left_out(look):
    model, x, _ = of_recipe("ae")
    x = x / 2
    with Trace(model) as t:
        model.loss(x / 2)
        model.backward()
        terms, _ = step(model, x, None)
        assert t.rows[-1].gradient is not None
        look(model, x)
        assert t.rows[0].input_shape != x.shape
    with Trace(model) as only:
        step(model, x, None)
    assert t.terms == terms and t.steps == 2 and t.pictures.tobytes() == x.tobytes() and t.seconds > 0
    for row, one in zip(t.rows, only.rows, strict=True):
        assert (row.output_shape, row.activation, row.gradient) == (one.output_shape, one.activation, one.gradient)
        assert row.dy is one.dy is None or row.dy.tobytes() == one.dy.tobytes()
    assert str(t).splitlines()[-1].startswith("nothing wrong is found")


def test_a_whole_training_in_a_block_is_told_by_its_last_step_and_not_by_its_validation(tmp_path):
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        train.fit(model, x, optimizer=optim.SGD(0.01), validation=x[:2], batch_size=2, epochs=2)
    assert t.steps == 2 * -(-len(x) // 2) and t.rows[-1].gradient is not None and t.flags == []
    assert t.to_html(tmp_path / "fit.html").exists()


def test_a_later_forward_that_gives_no_numbers_is_not_left_out():
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
        model.theta[...] = np.nan
        model.reconstruct(x)
    assert t.rows[-1].gradient is None and "its output holds inf or not-a-number" in t.flags[0]


def test_a_later_loss_that_is_no_number_is_not_left_out():
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
        model.likelihood.nll = lambda output, x: (math.nan, output)
        model.loss(x)
    assert math.isnan(t.terms["loss"]) and "the loss of them is nan" in t.flags[0]


def test_while_the_block_is_open_a_forward_without_its_backward_is_not_called_well():
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
        assert str(t).splitlines()[-1].startswith("nothing wrong is found")
        model.loss(x)
        assert str(t).splitlines()[-1].startswith("a forward came after the last backward")


def test_a_block_without_a_loss_of_its_own_shows_nothing_of_the_block_before():
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
    with t:
        pass
    assert t.terms == {} and t.steps == 0 and all(row.activation is None for row in t.rows)


def test_of_tiny_and_huge_numbers_the_norms_are_right():
    """Squares of 1e-25 and 1e25 are no numbers of float32."""
    model = Autoencoder(Sequential([Dense(4, 3, rng=0)]), Sequential([Dense(3, 4, rng=0)]))
    for size in (1e-25, 1e25):
        model.params[0].value[...] = size
        with Trace(model) as t:
            model.params[0].value[...] *= 2
        assert t.rows[0].params[0].norm == pytest.approx(size * 12**0.5, rel=1e-6)
        assert t.rows[0].params[0].update_ratio == pytest.approx(1, rel=1e-6)


def test_a_tied_weight_has_one_story():
    model = tied()
    x = pictures((6, 9, 3), 5).train_x / np.float32(255)
    with Trace(model) as t:
        step(model, x, None)
        optim.SGD(0.1).step(model.theta, model.grad)
    down, up = t.rows[0].params[0], t.rows[-1].params[0]
    assert down is up and down.name == "encoder.0.W" and down.grad_norm == pytest.approx(
        np.linalg.norm(model.params[0].grad), rel=1e-5)


# -- nothing is changed --


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_traced_step_gives_the_same_bits_and_leaves_nothing_behind(name):
    model, x, y = of_recipe(name)
    other, _, _ = of_recipe(name)
    plain = step(other, x, y)
    with Trace(model):
        traced = step(model, x, y)
    assert attributes(model) == attributes(other)  # no forward, backward or loss of its own
    again = step(model, x, y)
    for terms, grad in (traced, again):
        assert terms == plain[0] and grad.tobytes() == plain[1].tobytes()


class Traced(Callback):
    """A trace around every step of a fit."""

    def __init__(self, model):
        self.model, self.traces = model, []

    def on_fit_begin(self, state):
        self.open()

    def on_batch_end(self, state):
        self.close()
        self.open()

    def on_fit_end(self, state):
        self.close()

    def open(self):
        self.traces.append(Trace(self.model).__enter__())

    def close(self):
        self.traces[-1].__exit__(None, None, None)


@pytest.mark.parametrize("name", ["conv-pool-ae", "mlp-cvae", "iwae", "contractive-ae"])
def test_a_fit_that_is_traced_ends_in_the_same_bits_and_kept_buffers_are_not_held(name):
    x, y = (part[:24] for part in (pictures(SMALL, 30).train_x, pictures(SMALL, 30).train_y))
    ends, traced = [], None
    for trace in (False, True):
        model, _, _ = of_recipe(name)
        traced = Traced(model)
        train.fit(model, x, y if model.classes else None, epochs=2, batch_size=8, seed=3,
                  callbacks=[traced] if trace else [])
        ends.append(model.theta.tobytes())
    assert ends[0] == ends[1]
    first, second = traced.traces[:2]
    for a, b in zip(first.rows, second.rows, strict=True):
        assert not np.shares_memory(a.y, b.y) and (a.y != b.y).any()  # the second batch has not written into the first
        if a.dy is not None:
            assert not np.shares_memory(a.dy, b.dy) and (a.dy != b.dy).any()


def test_also_after_an_exception_nothing_is_left():
    model, x, _ = of_recipe("mlp-vae")
    step(model, x, None)  # after a first step the model has all its attributes
    before = attributes(model)
    with pytest.raises(ValueError, match="neither eps nor a generator"), Trace(model) as t:
        model.loss(x)
    assert attributes(model) == before and t.rows[1].activation is not None and t.rows[-1].activation is None
    assert t.terms == {} and "no loss was computed" in str(t)
    assert str(t).endswith("no backward ran in this block: its gradients are not judged")
    with pytest.raises(KeyError), Trace(model):
        raise KeyError
    assert attributes(model) == before


def test_traces_nest_and_one_is_opened_once_at_a_time():
    model, x, _ = of_recipe("ae")
    before = attributes(model)
    with Trace(model) as outer:
        with Trace(model) as inner, pytest.raises(ValueError, match="open already"):
            step(model, x, None)
            inner.__enter__()
        assert inner.rows[-1].gradient is not None
        with pytest.raises(ValueError, match="open already"):
            outer.__enter__()
        step(model, x, None)
    assert [row.gradient.norm for row in outer.rows[1:]] == [row.gradient.norm for row in inner.rows[1:]]
    assert outer.steps == 2 and inner.steps == 1 and attributes(model)[1:] == before[1:]


def test_traces_may_be_closed_in_any_order():
    model, x, _ = of_recipe("ae")
    step(model, x, None)  # after a first step the model has all its attributes
    before = attributes(model)
    first, second, third = (Trace(model).__enter__() for _ in range(3))
    for trace in (second, first):
        trace.__exit__()
    step(model, x, None)
    assert [trace.steps for trace in (first, second, third)] == [0, 0, 1]
    third.__exit__()
    assert attributes(model) == before


def test_a_copy_made_inside_the_block_is_a_model_of_its_own():
    model, x, _ = of_recipe("bernoulli-vae")
    with Trace(model) as t:
        step(model, x, None)
        seen = [row.y.tobytes() for row in t.rows]
        for twin in (model.to(np.float64), copy.deepcopy(model)):
            twin.theta[...] = 0.01
            step(twin, x.astype(twin.theta.dtype), None)
            assert (twin.grad != 0).any() and twin.encoder.layers[0].saved is not None
        assert t.steps == 1 and [row.y.tobytes() for row in t.rows] == seen
    assert model.encoder.layers[0].W.value.std() > 0.01


def test_a_trace_that_cannot_open_leaves_nothing_behind_and_one_may_be_closed_twice():
    class Sealed(Reshape):
        def __setattr__(self, name, value):
            if name == "backward":
                raise AttributeError("sealed")
            super().__setattr__(name, value)

    model = Autoencoder(Sequential([Dense(4, 3, rng=0)]), Sequential([Dense(3, 4, rng=0), Sealed((4,))]))
    before, t = attributes(model), Trace(model)
    t.__exit__()  # was never open
    for _ in range(2):
        with pytest.raises(AttributeError, match="sealed"):
            t.__enter__()
        assert attributes(model) == before
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
        optim.SGD(0.1).step(model.theta, model.grad)
        t.__exit__()
        told = str(t)
        optim.SGD(0.1).step(model.theta, model.grad)
    assert str(t) == told


def test_what_was_fetched_inside_the_block_runs_on_unwatched():
    """A loop that keeps model.loss in a name, and a wrapper of a user's own around a watched call."""
    model, x, _ = of_recipe("ae")
    layer = model.encoder.layers[1]
    with Trace(model) as t:
        loss, watched = model.loss, layer.forward
        layer.forward = lambda x: 2 * watched(x)
        step(model, x, None)
    seen, norm = t.terms, t.rows[1].activation.norm
    assert loss(x / 2)["loss"] != seen["loss"]
    assert t.terms is seen and t.rows[1].activation.norm == norm
    assert layer.forward is not watched and (layer.forward(x.reshape(3, -1)) == 2 * watched(x.reshape(3, -1))).all()


def test_a_copy_made_inside_the_block_keeps_a_forward_of_ones_own():
    model, x, _ = of_recipe("ae")
    layer = model.encoder.layers[1]
    layer.forward = MethodType(lambda self, x: 2 * type(self).forward(self, x), layer)
    with Trace(model), Trace(model):
        twin = copy.deepcopy(model)
    assert twin.encoder.layers[1].forward.__self__ is twin.encoder.layers[1]
    assert twin.loss(x) == model.loss(x) != of_recipe("ae")[0].loss(x)


def test_nets_inside_nets_layers_of_ones_own_and_the_textbook_kernels_are_traced():
    class Twice(Dense):
        """y = 2 (x W + b)"""

        def forward(self, x):
            return 2 * super().forward(x)

        def backward(self, dy, need_dx=True):
            return super().backward(2 * dy, need_dx)

    rng = np.random.default_rng(0)
    encoder = Sequential([Sequential([Conv2d(1, 2, 3, stride=2, rng=rng, kernels=reference), Flatten()]),
                          Sequential([Sequential([Twice(32, 3, rng=rng)])])])
    model = Autoencoder(encoder, Sequential([Dense(3, 64, rng=rng), Reshape(SMALL)]), likelihood=Bernoulli())
    with Trace(model) as t:
        step(model, pictures(SMALL, 5).train_x / np.float32(255), None)
    assert [(row.name, row.kind) for row in t.rows] == [
        ("encoder.0.0", "Conv2d"), ("encoder.0.1", "Flatten"), ("encoder.1.0.0", "Twice"), ("decoder.0", "Dense"),
        ("decoder.1", "Reshape")]
    np.testing.assert_allclose(t.rows[2].y, 2 * (t.rows[1].y @ model.params[2].value), rtol=1e-5)


class Between(Autoencoder):
    """With a net of its own between the two, which nobody trains."""

    def __init__(self, encoder, decoder, middle, last):
        super().__init__(encoder, decoder)
        self.middle, self.last = middle, last

    def loss(self, x, y=None, rng=None):
        self._begin(x, rng)
        h = self.last.forward(self.middle.forward(x=self.encoder.forward(x)))
        recon, self.dy = self.likelihood.nll(self.decoder.forward(h), x)
        return {"loss": recon, "recon": recon}

    def backward(self, times=1):
        dh = self.middle.backward(self.last.backward(self.decoder.backward(np.float32(times) * self.dy)))
        self.encoder.backward(dh, need_dx=False)


def test_what_a_model_of_ones_own_holds_between_its_nets_is_traced(tmp_path):
    rng = np.random.default_rng(0)
    inner = Sequential([Dense(2, 3, rng=rng), Sequential([Dense(3, 2, rng=rng)])])
    model = Between(Sequential([Dense(6, 2, rng=rng)]), Sequential([Dense(2, 6, rng=rng)]), inner, Dense(2, 2, rng=rng))
    with Trace(model) as t:
        step(model, np.ones((20, 6), np.float32), None)
        model.backward(times=2)
    np.testing.assert_allclose(t.rows[-1].dy, 2 * model.dy[:8], rtol=1e-6)
    assert [row.name for row in t.rows] == ["encoder.0", "middle.0", "middle.1", "last", "decoder.0"]
    assert all(row.gradient is not None for row in t.rows)
    assert [p.name for row in t.rows for p in row.params] == [p.name for p in model.params]
    assert t.to_html(tmp_path / "own.html").exists() and "middle.1" in str(t)


def test_two_attributes_that_hold_one_layer_have_one_row():
    inner = Sequential([Dense(2, 3, rng=0), Dense(3, 2, rng=0)])
    model = Between(Sequential([Dense(6, 2, rng=0)]), Sequential([Dense(2, 6, rng=0)]), inner, inner.layers[1])
    model.again, model.first = inner, model.encoder.layers[0]
    before = attributes(model)
    with Trace(model) as t:
        model.encode(np.ones((20, 6), np.float32))
    assert [row.name for row in t.rows] == ["encoder.0", "middle.0", "middle.1", "decoder.0"]
    assert attributes(model) == before


def test_a_layer_that_holds_others_stands_behind_them_as_what_it_gives_comes_after():
    rng = np.random.default_rng(0)
    down, up = (Residual(Dense(6, 4, activation="relu", rng=rng), Dense(4, 6, rng=rng)) for _ in range(2))
    model = Autoencoder(Sequential([Sequential([down])]), Sequential([Dense(6, 6, rng=rng), up]))
    model.theta[...] += 0.1
    x = rng.random((5, 6)).astype(np.float32)
    with Trace(model) as t:
        step(model, x, None)
    assert [row.name for row in t.rows] == ["encoder.0.0.a", "encoder.0.0.b", "encoder.0.0", "decoder.0", "decoder.1.a",
                                            "decoder.1.b", "decoder.1"]
    np.testing.assert_allclose(t.rows[-1].y, model.reconstruct(x), rtol=1e-6)
    _, blob = told_by(page.page("one", [page.Single(t)], model).text)
    assert blob[-x.size:].tolist() == maps.grey(model.reconstruct(x)).ravel().tolist()  # what is painted
    assert page.code_of(t) == 2
    assert [[p.name for p in own] for _, own in owned(t.rows)][:3] == [
        ["encoder.0.0.a.W", "encoder.0.0.a.b"], ["encoder.0.0.b.W", "encoder.0.0.b.b"], []]


def test_a_complex_model_is_refused():
    with pytest.raises(ValueError, match="float32 or float64, got complex128: trace the one"):
        Trace(dense().to(np.complex128, kernels=reference))


def test_a_deep_contractive_encoder_walks_with_its_tangent_and_is_traced():
    rng = np.random.default_rng(0)
    encoder = Sequential([Flatten(), Dense(64, 9, activation="tanh", rng=rng), Dense(9, 4, activation="sigmoid",
                                                                                   rng=rng)])
    decoder = Sequential([Dense(4, 64, rng=rng), Reshape(SMALL)])
    x = pictures(SMALL, 5).train_x / np.float32(255)
    plain = ContractiveAutoencoder(encoder.to(), decoder.to(), likelihood=Bernoulli(), lam=0.5)
    model = ContractiveAutoencoder(encoder, decoder, likelihood=Bernoulli(), lam=0.5)
    with Trace(model) as t:
        traced = step(model, x, None)
    assert step(plain, x, None)[1].tobytes() == traced[1].tobytes()
    assert len(t.rows) == 5 and all(row.gradient is not None for row in t.rows)


# -- doors --


@pytest.mark.parametrize("thing", [None, Dense(2, 3, rng=0), Autoencoder])
def test_what_is_no_model_is_told_in_a_sentence(thing):
    with pytest.raises(ValueError, match="Trace takes a model such as"):
        Trace(thing)


def test_the_table_has_a_line_for_each_layer_and_parameter():
    model = dense()
    with Trace(model) as t:
        step(model, pictures(n=20).train_x / np.float32(255), None)
        optim.SGD(1e-3).step(model.theta, model.grad)
    head, times, *lines = str(t).splitlines()
    columns, rule, *lines = lines[2:] if t.compiled else lines[1:]
    assert head.startswith(f"Autoencoder: loss {t.terms['loss']:.4g}, recon") and "squared grey level per image" in head
    assert times.endswith("ms forward and back, float32")
    assert columns.split()[0] == "layer" and set(rule) == {"-"}
    assert [line.split()[0] for line in lines[:6]] == [line.split()[0] for line in lines[9:15]] == [
        row.name for row in t.rows]
    weight = t.rows[1].params[0]
    told = [line for line in lines if line.startswith("encoder.1")]
    expected = (("Dense + relu", "(20, 40)", "31,360"),
                (f"{t.rows[1].activation.std:.3g}", f"{t.rows[1].gradient.norm:.3g}"),
                ("(784, 40)", f"{weight.norm:.3g}", f"{weight.grad_norm:.3g}", f"{weight.update_ratio:.1e}"))
    assert len(told) == 4  # twice the layer, its W and its b
    for line, said in zip(told[:3], expected, strict=True):
        assert all(part in line for part in said)
    assert t.rows[0].gradient is None and "–: no gradient is asked for there" in str(t)
    assert str(t).splitlines()[-1].startswith("nothing wrong is found (its page also checks")
    assert max(map(len, str(t).splitlines())) <= 80  # a terminal's width


def test_a_row_shows_itself_without_its_pictures():
    model, x, _ = of_recipe("ae")
    with Trace(model) as t:
        step(model, x, None)
    assert repr(t.rows[1]).startswith("LayerTrace(name='encoder.1', kind='Dense', ") and "array" not in repr(t.rows[1])


def edges(line):
    """Where each cell begins and ends."""
    return [cell.span() for cell in re.finditer(r"\S+(?: \S+)*", line)]


def test_words_stand_on_their_left_edge_and_figures_on_their_right():
    assert table.columns([("a", "bb", "c"), ("long", "2", "333")], left=1) == [
        "a     bb    c", "-" * 13, "long   2  333"]
    model = dense()
    with Trace(model) as t:
        step(model, pictures(n=20).train_x / np.float32(255), None)
    lines = str(t).splitlines()
    heads = [i for i, line in enumerate(lines) if i + 1 < len(lines) and set(lines[i + 1]) == {"-"}]
    rules, left = [lines[i + 1] for i in heads], (2, 1, 2)  # the kind of a layer has no name above it
    assert [lines[i].split()[0] for i in heads] == ["layer", "layer", "parameter"]
    for i, rule, words in zip(heads, rules, left, strict=True):
        end = next(k for k in range(i + 2, len(lines)) if not lines[k])
        body = [line for line in lines[i + 2:end] if not line.startswith(f"{table.DASH}:")]
        assert len(rule) == max(map(len, [lines[i], *body])) and body
        for line in body:
            head, cells = edges(lines[i]), edges(line)
            figures = len(head) - words
            assert [right for _, right in cells[-figures:]] == [right for _, right in head[-figures:]]
            assert cells[0][0] == 0
            if len(head) == len(cells):
                assert [at for at, _ in cells[:words]] == [at for at, _ in head[:words]]


def test_nobody_listens_to_numba_after_the_block():
    from numba.core import event

    listening = event._registered["numba:compiler_lock"]
    model, x, _ = of_recipe("ae")
    before = len(listening)
    with Trace(model):
        step(model, x, None)
        assert len(listening) == before + 1
    assert len(listening) == before


def test_a_trace_that_was_never_open_says_so():
    t = Trace(dense())
    assert repr(t) == "<Trace of Autoencoder: 0 layers, 0 steps, 0 flags>"
    assert str(t) == "Autoencoder: nothing was traced yet, `with` opens the block in which calls are seen"


def test_times_that_contain_the_making_of_kernels_are_told(tmp_path):
    """A process of its own, whose first step loads or compiles its kernels, and whose second does not."""
    code = ("import numpy as np\nfrom npae.layers import Dense, Sequential\nfrom npae.models import Autoencoder\n"
            "from npae.trace import Trace\n"
            "ae = Autoencoder(Sequential([Dense(6, 2, rng=0)]), Sequential([Dense(2, 6, rng=0)]))\n"
            "for dtype in (np.float32, np.float32, np.float64, np.float64):\n"
            "    model = ae.to(dtype)\n"
            "    with Trace(model) as t:\n"
            "        model.loss(np.ones((3, 6), dtype)), model.backward()\n"
            "    print(t.compiled, 'made ready' in str(t))\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.split("\n")[:4] == ["True True", "False False"] * 2


def test_importing_it_loads_no_heavy_library():
    code = ("import sys, npae.trace; print([m for m in ('numba', 'scipy', 'matplotlib', 'tqdm', 'npae.recipes') "
            "if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "[]"


def test_the_readmes_lines_write_a_page(tmp_path):
    lines = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "trace.Trace(" in block)
    assert len(lines.splitlines()) < 10
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    assert "encoder.1" in done.stdout and "nothing wrong is found" in done.stdout
    assert (tmp_path / "trace.html").stat().st_size < 3_000_000
