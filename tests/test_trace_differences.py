"""Finite differences beside backward: what the page of a trace finds out, and whom it accuses."""
import math
import re

import numpy as np
import pytest
from explorables import pictures
from traces import Residual, of_recipe, told_by

from npae import gradcheck
from npae.layers import Dense, Flatten, Reshape, Sequential, Tanh, TiedDense
from npae.models import Autoencoder
from npae.trace import Trace, differences, page


@pytest.mark.parametrize("name", ["mlp-vae", "tied-ae", "contractive-ae"])
def test_the_differences_meet_backward_and_gradcheck_agrees(name):
    t = of_recipe(name, shape=(8, 8, 1))
    found = differences.checks(t.model, t.pictures, t.labels)
    assert list(found) == [p.name for p in t.model.params]
    twin = t.model.to(np.float64)
    x = t.pictures[:differences.PICTURES].astype(np.float64)
    loss = twin.loss(x, rng=np.random.default_rng(0))["loss"]
    twin.zero_grad()
    twin.backward()
    assert len(x) == 2 and "φ is the loss of the first two pictures" in page.page("one", [page.Single(t)], t.model).text
    for p in twin.params:
        assert all(entry["phi"] == loss for entry in found[p.name])
        assert len(found[p.name]) == (2 if p.value.ndim > 1 else 1)
        for entry in found[p.name]:
            index = tuple(map(int, re.search(r"\[(.*)\]", entry["entry"])[1].split(",")))
            assert entry["value"] == p.value[index] and entry["analytic"] == p.grad[index]
            quotients = (np.array(entry["plus"]) - entry["minus"]) / (2 * np.array(differences.STEPS))
            assert np.abs(quotients - entry["analytic"]).min() < 1e-6 * max(abs(entry["analytic"]), 1e-3)
            assert len(set(entry["plus"])) > 6
        assert abs(found[p.name][0]["analytic"]) == np.abs(p.grad).max()
    report = gradcheck.check(t.model, x.astype(np.float32), rng=np.random.default_rng(0))
    assert report.ok
    assert t.model.theta.tobytes() == page_free(t).tobytes()


class Wrong(Dense):
    """A dense layer with one mistake."""

    mistake = "none"

    def _gradients(self, x, y, dy, dx):
        before = [p.grad.copy() for p in self.params]
        super()._gradients(x, y, dy, dx)
        for p, old in zip(self.params, before, strict=True):
            if self.mistake == p.name[-1]:
                p.grad[...] = old + 1.05 * (p.grad - old)
        if self.mistake == "dx" and dx is not None:
            dx *= 2


@pytest.mark.parametrize(("mistake", "where", "named"), [
    ("none", None, None), ("W", "encoder.1", "W["), ("b", "encoder.1", "b["), ("dx", "decoder.0", "W[")])
@pytest.mark.parametrize("bend", ["tanh", "relu"])
def test_a_wrong_gradient_is_said_on_the_page_at_the_first_layer_that_has_it(mistake, where, named, bend):
    """Biases of exactly 0 over black margins stand on a kink, which is no mistake."""
    kinds = {name: Wrong if name == where else Dense for name in ("encoder.1", "decoder.0")}
    model = Autoencoder(
        Sequential([Flatten(), kinds["encoder.1"](64, 6, activation=bend, rng=np.random.default_rng(0))]),
        Sequential([kinds["decoder.0"](6, 64, rng=np.random.default_rng(1)), Reshape((8, 8, 1))]))
    for layer in (model.encoder.layers[1], model.decoder.layers[0]):
        layer.mistake = mistake
    with Trace(model) as t:
        model.loss(pictures((8, 8, 1), 30).train_x[:12] / np.float32(255))
        model.backward()
    told, _ = told_by(page.page("one", [page.Single(t)], model).text)
    wrong = [flag for flag in told["frames"][0]["flags"] if "a wrong gradient" in flag]
    assert len(wrong) == (mistake != "none")
    if wrong:
        assert wrong[0].startswith("encoder.1 (") and f" for {named}" in wrong[0]
        found = differences.checks(model, t.pictures, None)
        assert all(differences.disagree(entry) is None for entry in found["decoder.0.W"])


@pytest.mark.parametrize("mistake", ["none", "b"])
def test_a_deep_net_whose_steps_all_lie_beyond_its_kinks_is_not_accused(mistake):
    """Biases of 0 and numbers of 1e-6: any h that can be told from rounding turns a ReLU over."""
    rng = np.random.default_rng(1)
    layers = [Wrong(32, 32, activation="relu", rng=rng) for _ in range(16)]
    for layer in layers:
        layer.W.value[...] *= 0.4
    layers[-1].mistake = mistake
    model = Autoencoder(Sequential(layers), Sequential([Dense(32, 32, rng=rng)]))
    found = differences.checks(model, rng.random((2, 32)).astype(np.float32), None)
    by_kinks = [name for name in found if any(differences.disagree(entry) is not None for entry in found[name])]
    wrong = [name for name in found if any(entry["wrong"] is not None for entry in found[name])]
    assert len(by_kinks) > 3 and wrong == ([] if mistake == "none" else ["encoder.15.b"])


def deep(kinds=()):
    kinds, rng = dict(kinds), np.random.default_rng(0)
    encoder = [kinds.get(k, Dense)(a, b, activation="tanh", rng=rng)
               for k, (a, b) in enumerate([(64, 8), (8, 8), (8, 4)])]
    decoder = [kinds.get(3, Dense)(4, 8, activation="tanh", rng=rng), Tanh(), Dense(8, 64, rng=rng)]
    return Autoencoder(Sequential([Flatten(), *encoder]), Sequential([*decoder, Reshape((8, 8, 1))]))


@pytest.mark.parametrize(("place", "mistake", "said"), [
    (1, "dx", "encoder.1 (Dense): .* its backward, the dx of encoder.2, and the gradient of the loss$"),
    (3, "dx", "encoder.3 (Dense): .* the dx of decoder.0, and the .*; 2 more before it may have inherited theirs$"),
    (3, "W", "decoder.0 (Wrong): .* the dx of decoder.1 and decoder.2, and the gradient of the loss$")])
def test_a_wrong_gradient_is_told_where_it_is_nearest_to_the_loss(place, mistake, said):
    model = deep({place: Wrong})
    next(layer for layer in model.walk() if isinstance(layer, Wrong)).mistake = mistake
    with Trace(model) as t:
        model.loss(pictures((8, 8, 1), 30).train_x[:12] / np.float32(255))
        model.backward()
    wrong = page.page("one", [page.Single(t)], model).wrong
    assert len(wrong) == 1 and re.match(said.replace("(", r"\(").replace(")", r"\)"), wrong[0]), wrong


def test_a_wrong_gradient_of_a_tied_weight_names_those_who_share_it(monkeypatch):
    first = Dense(64, 6, activation="tanh", rng=np.random.default_rng(0))
    model = Autoencoder(Sequential([Flatten(), first]), Sequential([TiedDense(first), Reshape((8, 8, 1))]))
    right = TiedDense._gradients

    def forgets_its_share(self, x, y, dy, dx):
        kept = self.W.grad.copy()
        right(self, x, y, dy, dx)
        self.W.grad[...] = kept

    monkeypatch.setattr(TiedDense, "_gradients", forgets_its_share)
    with Trace(model) as t:
        model.loss(pictures((8, 8, 1), 30).train_x[:12] / np.float32(255))
        model.backward()
    wrong = page.page("one", [page.Single(t)], model).wrong
    assert len(wrong) == 1 and "its backward, that of decoder.0, which shares it, the dx of" in wrong[0]


@pytest.mark.parametrize(("harm", "said"), [
    ("forgetful", "encoder.1 (Dense): .* its backward, the dx of encoder.2.a and encoder.2, and the gradient of the"),
    ("a", "encoder.2.a (Wrong): .* its backward, the dx of encoder.2.b and encoder.2, and the gradient of the"),
    ("b", "encoder.2.b (Wrong): .* its backward, the dx of encoder.2 and decoder.0, and the gradient of the")])
def test_a_wrong_gradient_around_a_layer_that_holds_others_names_it_too(harm, said):
    rng = np.random.default_rng(0)
    held = Residual(*(Wrong(4, 4, activation="tanh", rng=rng) for _ in range(2)))
    if harm == "forgetful":
        held.forgetful = True
    else:
        getattr(held, harm).mistake = "W"
    model = Autoencoder(Sequential([Flatten(), Dense(64, 4, rng=rng), held]),
                        Sequential([Dense(4, 64, rng=rng), Reshape((8, 8, 1))]))
    with Trace(model) as t:
        model.loss(pictures((8, 8, 1), 30).train_x[:12] / np.float32(255))
        model.backward()
    wrong = page.page("one", [page.Single(t)], model).wrong
    assert len(wrong) == 1 and re.match(said.replace("(", r"\(").replace(")", r"\)"), wrong[0]), wrong


def test_differences_that_are_all_rounding_accuse_nobody():
    steps = np.array(differences.STEPS)
    still = [500.0] * len(steps)
    flat = {"entry": "W[0]", "analytic": 1e-9, "phi": 500.0, "plus": still, "minus": still}
    assert differences.disagree(flat) is None
    assert differences.disagree({**flat, "phi": math.nan, "plus": [math.nan] * len(steps)}) is None
    assert differences.disagree({**flat, "phi": 1.0, "plus": list(1 + steps), "minus": list(1 - steps),
                                 "analytic": 0.0}) == pytest.approx(1)
    kink = {**flat, "analytic": 0.0, "phi": 1.0, "plus": list(1 + steps), "minus": [1.0] * len(steps)}
    assert differences.disagree(kink) is None and differences.disagree({**kink, "analytic": 0.25}) == pytest.approx(0.5)


def entry(quotient, phi=1.0, analytic=1.0, other=None):
    """A straight line's differences: its slope is `quotient`, and at some steps h that of `other`."""
    slopes = np.array([(other or {}).get(k, quotient) for k in range(len(differences.STEPS))])
    far = slopes * np.array(differences.STEPS)
    return {"entry": "W[0]", "analytic": analytic, "phi": phi, "plus": list(phi + far), "minus": list(phi - far)}


@pytest.mark.parametrize(("quotient", "agrees"), [(1, True), (1.01, True), (1.0102, False), (0.9901, True),
                                                  (0.9899, False), (-1, False), (0, False)])
def test_a_quotient_agrees_within_a_hundredth_of_the_larger_of_the_two(quotient, agrees):
    for scale in (1e-3, 1, -20):
        found = differences.disagree(entry(quotient * scale, analytic=scale))
        assert (found is None) if agrees else found == pytest.approx(quotient * scale, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(("right", "agrees"), [(0, False), (2, False), (3, True), (5, True), (8, True), (11, True),
                                               (12, False)])
def test_a_step_can_tell_that_is_small_and_above_the_rounding(right, agrees):
    """Backward is right at one h alone: 1e-3 is the largest that can tell, and 1e-11 the smallest, where the rounding
    16 · 2⁻⁵² · phi / h of a phi of 2 is still below a thousandth of the gradient."""
    assert (differences.disagree(entry(1.5, phi=2.0, other={right: 1.0})) is None) == agrees


def test_of_the_quotients_that_disagree_the_closest_is_told():
    found = differences.disagree(entry(1.5, other={4: 1.2, 6: 1.3, 7: -4.0}))
    assert found == pytest.approx(1.2, rel=1e-6)


def test_the_largest_and_the_middle_entry_are_divided():
    """The middle one of those that are not 0, and of a bias the largest alone."""
    grad = np.array([[0.0, 0, 3, 0], [-1, 2, 0, -5]])
    assert differences._places(grad) == [(1, 3), (0, 2)]
    assert differences._places(grad[1]) == [(3,)] and differences._places(-grad[:, :3]) == [(0, 2), (1, 1)]
    assert differences._places(np.zeros((2, 3))) == [(1, 2), (1, 0)]
    assert differences._places(np.array([[0.0], [2.0]])) == [(1, 0), (1, 0)]


def test_a_weight_that_was_moved_is_put_back_before_the_next(monkeypatch):
    monkeypatch.setattr(differences, "STEPS", (1e-5, 1.0))
    t = of_recipe("ae", shape=(8, 8, 1))
    for entries in differences.checks(t.model, t.pictures, None).values():
        for entry in entries:
            assert (entry["plus"][0] - entry["minus"][0]) / 2e-5 == pytest.approx(entry["analytic"], rel=1e-4, abs=1e-9)


def page_free(t):
    """theta after a page was made of it: nothing of the model has moved."""
    kept = t.model.theta.copy()
    page.page("one", [page.Single(t)], t.model)
    return kept
