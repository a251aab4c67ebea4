"""The Taylor test: rates of right gradients, of wrong ones, of straight lines, and of what nobody can tell."""
import math

import numpy as np
import pytest
from test_gradcheck_methods import tanh_net

from npae import models, recipes
from npae.data import Dataset
from npae.data.batches import binarizer
from npae.gradcheck.scalar import random_upstream
from npae.gradcheck.taylor import Remainder, taylor, taylor_line
from npae.kernels import reference
from npae.lab import catalogue
from npae.layers import Dense, Flatten


class WrongAutoencoder(models.Autoencoder):
    """Its backward spoils the gradient of the encoder's weights (20, 10)."""

    spoil = None

    def backward(self):
        super().backward()
        self.spoil(self.encoder.layers[1].W.grad)


def spoilt(spoil, seed=0):
    model, x = tanh_net(seed)
    model.__class__ = WrongAutoencoder
    model.spoil = spoil
    return model, x


def scale_by(factor):
    def spoil(G):
        G *= factor

    return spoil


def zero_one(G):
    G[3, 4] = 0


SPOILS = {"1 % wrong": scale_by(1.01), "one of 200 entries zeroed": zero_one, "1e-4 wrong": scale_by(1 + 1e-4),
          "a wrong sign": scale_by(-1)}


@pytest.mark.parametrize("name", SPOILS)
def test_a_wrong_gradient_is_caught_with_any_seed(name):
    for seed in range(4):
        report = taylor(*spoilt(SPOILS[name], seed), seed=seed)
        assert report.status == "FAIL" and not report.ok, f"seed {seed}\n{report}"
        assert all(r.odd_rates[-1] < 1.2 for r in report.remainders)
    assert taylor_line(*spoilt(SPOILS[name])).status == "FAIL"


def test_a_right_gradient_has_the_rates_two_and_three():
    for seed in range(10):
        model, x = tanh_net(seed)
        theta = model.theta.copy()
        report = taylor(model, x, seed=seed)
        assert report.ok and len(report.remainders) == 3
        for r in report.remainders:
            assert r.status == "PASS"
            assert r.rates[-1] == pytest.approx(2, abs=0.03) and len(r.rates) > 8
            assert r.odd_rates[-1] == pytest.approx(3, abs=0.05) and len(r.odd_rates) > 3
        assert np.array_equal(model.theta, theta) and not model.grad.any(), "it worked on a copy"


def test_the_remainder_is_that_of_its_definition():
    """phi = <g, x²> is a quadratic: its remainder is h² <g, d²> exactly, and its odd part is zero."""
    class Square:
        params = ()

        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            return 2 * self.x * dy

    x = np.random.default_rng(0).normal(size=(2, 3))
    [r] = taylor(Square(), x, seed=4, directions=1).remainders
    g = random_upstream(4, x.shape)
    d = np.random.default_rng([4, 10]).normal(size=x.shape)
    d /= np.linalg.norm(d)
    assert r.slope == pytest.approx(np.sum(g * 2 * x * d)) and r.steps[0] == 0.25
    assert np.allclose(r.remainder[:8], r.steps[:8] ** 2 * abs(np.sum(g * d * d)), rtol=1e-6)
    assert len(r.odd_rates) == 0 and r.status == "PASS" and r.figure == "rate 2.00"


def small(name):
    """A recipe's own model with larger weights, untrained, on two pictures of noise."""
    recipe, rng = recipes.get(name), np.random.default_rng(0)
    settings, _ = recipe.resolve({})
    grey = rng.integers(0, 256, (10, 28, 28, 1), np.uint8)
    model = recipe.build(settings, Dataset(grey, np.arange(10), grey, np.arange(10), "noise"), rng)
    for p in model.weights:
        p.value *= 2
    x, transform = rng.random((2, 28, 28, 1)), binarizer(settings["binarize"])
    return model, transform(x, rng) if transform else x, np.array([3, 7])


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_no_recipe_is_refused(name):
    model, x, y = small(name)
    line = taylor_line(model, x, y, np.random.default_rng(5), directions=1)
    assert line.status == "PASS" and line.part == "taylor" and "rate 2.0" in line.figure, line


def test_no_layer_of_the_catalogue_is_refused():
    for case in catalogue.cases():
        rng = np.random.default_rng(2) if case.random else None
        layer = case.make(np.random.default_rng(0), np.float64, reference)
        report = taylor(layer, np.random.default_rng(1).standard_normal(case.input_shapes[0]), rng=rng, directions=1)
        assert report.ok, f"{case.name}\n{report}"


@pytest.mark.slow
def test_no_layer_of_the_catalogue_is_refused_with_fifty_seeds():
    for case in catalogue.cases():
        for seed in range(50):
            rng = np.random.default_rng(2) if case.random else None
            layer = case.make(np.random.default_rng(seed), np.float64, reference)
            x = np.random.default_rng(seed + 1).standard_normal(case.input_shapes[0])
            report = taylor(layer, x, rng=rng, seed=seed, directions=3)
            assert report.status != "FAIL", f"{case.name}, seed {seed}\n{report}"


class Twice:
    """y = 2 x; backward multiplies by `factor`."""

    params = ()

    def __init__(self, factor=2.0):
        self.factor = factor

    def forward(self, x):
        return 2.0 * x

    def backward(self, dy):
        return self.factor * dy


def test_a_straight_line_is_exact_or_wrong():
    x = np.random.default_rng(0).normal(size=(3, 4))
    for layer in (Twice(), Flatten()):
        report = taylor(layer, x)
        assert report.ok and all(r.linear for r in report.remainders)
        assert "linear, exact to" in report.figure and "linear, exact" in str(report)
    report = taylor(Twice(2.0001), x)
    assert report.status == "FAIL" and not any(r.linear for r in report.remainders)


def test_what_does_not_change_is_unresolved_and_what_is_not_finite_fails():
    class Constant(Twice):
        def forward(self, x):
            return np.ones_like(x)

    x = np.ones((2, 3))
    assert taylor(Constant(0.0), x).status == "UNRESOLVED"
    line = taylor_line(Constant(0.0), x)
    assert line.status == "NOTE" and "nothing above rounding" in line.figure
    assert taylor(Constant(1.0), x).status == "FAIL"
    assert taylor(Twice(math.nan), x).status == "FAIL" and "not finite" in taylor(Twice(math.nan), x).figure


def test_a_silent_relu_passes_and_a_branch_that_can_be_held_is_held():
    layer = Dense(6, 5, activation="relu", rng=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(40, 6))
    held = taylor(layer, x)
    assert all(np.all(np.abs(r.rates - 2) < 0.1) for r in held.remainders), "a kink would show at large steps"

    class Silent:
        params = ()

        def forward(self, x):
            self.mask = x > 0
            return x * self.mask

        def backward(self, dy):
            return dy * self.mask

    assert all(taylor(Silent(), x, seed=seed).ok for seed in range(10)), "past the last kink nothing is left"


def remainder(values, odd=(), floor=1e-12):
    steps = 0.25 / 2.0 ** np.arange(len(values))
    odd = np.array([*odd, *np.zeros(len(values) - len(odd))])
    return Remainder(steps, np.array(values, float), odd, 1.0, floor)


def test_the_verdict_goes_by_the_odd_part_where_that_is_resolved():
    h = 0.25 / 2.0 ** np.arange(25)
    crossing = np.abs(1e-4 * h**2 - 0.1 * h**3)  # the bend along d is nearly zero: R crosses zero at h = 1e-3
    r = remainder(crossing, 0.2 * h**3, floor=2e-12)
    assert r.rates[-1] < 1.9 and r.status == "PASS"
    assert remainder(crossing + 1e-7 * h, 0.2 * h**3 + 2e-7 * h, floor=2e-12).status == "FAIL"
    assert remainder(h**2).status == "PASS" and remainder(h**2 + 1e-3 * h).status == "FAIL"
    assert remainder([1e-2, 1e-3]).status == "PASS" and remainder([1e-2, 9e-3]).status == "UNRESOLVED"
    assert remainder([1e-2, 6e-3, 4e-3]).status == "UNRESOLVED", "two rates say nothing against it"
    assert remainder([1e-2, 6e-3, 4e-3, 3e-3]).status == "FAIL"
    rising = [1e-2, 9e-3, 4e-3, 1.2e-3]  # rates 0.15, 1.17, 1.74: on the way to 2
    assert remainder(rising).status == "UNRESOLVED" and remainder([*rising, 6e-4]).status == "FAIL"


def test_rates_end_at_the_first_value_below_the_floor():
    r = remainder([4e-3, 1e-3, 1e-13, 1e-3])
    assert np.allclose(r.rates, [2.0])
    assert np.allclose(remainder([4e-3, 3e-3, 1e-13, 0]).rates, [math.log2(4 / 3), math.log2(3e-3 / 1e-12)])
    assert np.allclose(remainder([4e-12, 3.9e-12, 1e-13, 0]).rates, [math.log2(4 / 3.9)]), "as an h² may fall"
    assert np.allclose(remainder([4e-12, 2e-12, 1e-12, 5e-13]).rates, [1]), "no more than the floor is known of it"
    assert remainder([1e-13] * 4).rates.size == 0


def test_a_report_is_a_table_with_a_line_for_each_direction():
    text = str(taylor(*tanh_net(), directions=2))
    assert text.startswith("Taylor test of Autoencoder, x (8, 4, 5, 1)") and "direction 2: rate 2.0" in text
    assert text.splitlines()[2].split() == ["2.5e-01", *text.splitlines()[2].split()[1:]]
    rows = [row.split() for row in text.splitlines()[2:-2]]
    assert float(rows[1][2]) == pytest.approx(math.log2(float(rows[0][1]) / float(rows[1][1])), abs=0.02)
    with pytest.raises(ValueError, match="at least 1 direction, got 0"):
        taylor(*tanh_net(), directions=0)

    class Short(Twice):
        def backward(self, dy):
            return dy[:1]

    with pytest.raises(ValueError, match=r"gradient of x has shape \(1, 3\), its value \(2, 3\)"):
        taylor(Short(), np.ones((2, 3)))
