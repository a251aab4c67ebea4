"""The page of a trace: what stands in it, and in a headless Chromium what a visitor sees and does with it.
The tests with a browser are skipped where no chromium is installed."""
import base64
import inspect
import json
import math
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from browser import MISSING, Browser
from explorables import dense, labelled, picture_codes, pictures, tied

from npae import gradcheck, optim, recipes
from npae.kernels import reference
from npae.lab.catalogue import cases
from npae.layers import Conv2d, Dense, Flatten, Layer, Reshape, Sequential, Tanh, TiedDense
from npae.models import Autoencoder
from npae.trace import Trace, differences, maps, page, session, source

needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)
QUICK = ("bernoulli-vae", "tied-ae")


def traced(model, x, y=None, seed=0):
    with Trace(model) as t:
        model.zero_grad()
        model.loss(x, y, rng=np.random.default_rng(seed))
        model.backward()
        optim.Adam(1e-3).step(model.theta, model.grad)
    return t


def of_recipe(name, n=12, shape=(28, 28, 1)):
    dataset = pictures(shape, 30)
    recipe = recipes.get(name)
    settings, _ = recipe.resolve({"latent": "6"} if name in ("weight-decay-ae", "overcomplete-ae") else {})
    model = recipe.build(settings, dataset, np.random.default_rng(1))
    x = dataset.train_x[:n] / np.float32(255)
    if settings["binarize"] != "none":
        x = np.ceil(x - np.float32(0.5))
    return traced(model, x, dataset.train_y[:n] if model.classes else None)


def told_by(text):
    """What stands in a page: its JSON and its bytes."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]
    blob = re.search(r'<script type="text/plain" id="maps-data">(.*?)</script>', text, re.DOTALL)[1]
    return json.loads(found), np.frombuffer(zlib.decompress(base64.b64decode(blob)), np.uint8)


# -- what stands in a page --


def test_the_maps_are_the_traces_own_numbers_within_half_a_level():
    t = of_recipe("conv-pool-ae")
    told, blob = told_by(page.page("one", [page.Single(t)], t.model).text)
    assert told["pictures"]["shape"] == [8, 28, 28, 1]
    at = t.pictures.size
    np.testing.assert_allclose(blob[:at] / 255, t.pictures.ravel(), atol=0.5 / 255 + 1e-6)
    for row, said in zip(t.rows, told["frames"][0]["maps"], strict=True):
        for name in ("y", "dy"):
            a = getattr(row, name)
            if a is None:
                assert said[name] is None
                continue
            (c, h, w), scale, total = said[name]
            codes = blob[at:at + 8 * c * h * w].reshape(8, c, h, w).astype(int)
            at += codes.size
            assert total == a.shape[-1] and (c <= 16)
            shown = maps.laid_out(a, (28, 28, 1), 16)
            here = codes != maps.BLANK
            assert (here == np.isfinite(shown)).all() and here.any()
            assert scale == pytest.approx(np.quantile(np.abs(shown[here]), maps.QUANTILE) or np.abs(shown[here]).max())
            expected = np.clip(shown[here] / scale, -1, 1)
            np.testing.assert_allclose((codes[here] - maps.LEVELS) / maps.LEVELS, expected, atol=0.51 / maps.LEVELS)
    painted = t.model.likelihood.mean(t.rows[-1].y)
    np.testing.assert_allclose(blob[at:] / 255, painted.ravel(), atol=0.5 / 255 + 1e-6)


def test_rows_of_numbers_are_laid_out_as_pictures_or_as_squares():
    a = np.arange(24.0).reshape(2, 12)
    np.testing.assert_array_equal(maps.laid_out(a, (3, 4, 1), 16), a.reshape(2, 1, 3, 4))
    square = maps.laid_out(a[:, :10], (3, 4, 1), 16)
    assert square.shape == (2, 1, 3, 4) and np.isnan(square[:, 0, 2, 2:]).all() and square[1, 0, 1, 0] == 16
    assert maps.laid_out(np.zeros((2, 5, 7, 40)), (3, 4, 1), 16).shape == (2, 16, 5, 7)
    assert maps.laid_out(np.zeros((2, 5000)), (3, 4, 1), 16).shape == (2, 1, 32, 32)
    bad = maps.made(np.array([[1.0, np.nan, np.inf]]), (1, 1, 1), 1, 1)
    assert bad.codes.ravel().tolist() == [2 * maps.LEVELS, maps.BAD, maps.BAD, maps.BLANK] and bad.scale == 1
    assert maps.made(np.zeros((1, 4)), (1, 1, 1), 1, 1).scale == 0
    rare = np.zeros((1, 1000))
    rare[0, 3] = 5
    assert maps.made(rare, (1, 1, 1), 1, 1).scale == 5  # one number in a thousand is shown all the same


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


def test_where_compiled_twins_ran_in_place_of_the_shown_lines_it_is_said():
    for kernels, expected in ((None, [False, True, True, False]), (reference, [False] * 4)):
        rng = np.random.default_rng(0)
        encoder = Sequential([Flatten(), Dense(64, 4, activation="tanh", rng=rng)])
        model = Autoencoder(encoder, Sequential([Dense(4, 64, rng=rng), Reshape((8, 8, 1))])).to(kernels=kernels)
        t = traced(model, pictures((8, 8, 1), 30).train_x[:3] / np.float32(255))
        told, _ = told_by(page.page("one", [page.Single(t)], model).text)
        assert [layer["twins"] for layer in told["layers"]] == expected


def test_without_the_compiler_the_shown_lines_run():
    """As the page promises: a slope that is broken there is seen."""
    code = ("import numpy as np\nfrom npae.layers import Dense, Sequential, Tanh\nfrom npae.models import Autoencoder\n"
            "from npae.trace import Trace, page\nTanh.slope = lambda self, y: 1 - y\n"
            "ae = Autoencoder(Sequential([Dense(6, 3, activation='tanh', rng=0)]), Sequential([Dense(3, 6, rng=0)]))\n"
            "with Trace(ae) as t:\n    ae.loss(np.ones((3, 6), np.float32)), ae.backward()\n"
            "print(page.page('one', [page.Single(t)], ae).wrong)\n")
    said = [subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "NUMBA_DISABLE_JIT": off}, timeout=600).stdout for off in ("0", "1")]
    assert said[0] == "[]\n" and "encoder.0 (Dense): a wrong gradient" in said[1]


def test_a_page_without_a_backward_does_not_call_its_gradients_well():
    model, x = dense(), pictures(n=12).train_x / np.float32(255)
    with Trace(model) as t:
        model.loss(x)
    said, = told_by(page.page("one", [page.Single(t)], model).text)[0]["frames"]
    assert said["well"].startswith("no backward ran") and not said["flags"]


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


def test_a_parameter_that_did_not_move_has_no_ratio_and_one_that_left_zero_has_words():
    model, x = dense(), pictures(n=12).train_x / np.float32(255)
    model.encoder.layers[1].b.value[...] = 0
    with Trace(model) as u:
        model.loss(x)
        model.backward()
    t = traced(model, x)
    for trace, said in ((t, "from 0"), (u, None)):
        told, _ = told_by(page.page("one", [page.Single(trace)], trace.model).text)
        bias = next(p for row in told["frames"][0]["rows"] for p in row["params"] if p[0] == "encoder.1.b")
        assert bias[1] == 0 and bias[2] > 0 and bias[3] == said


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


def test_of_the_layers_equation_only_mathematics_is_shown():
    for case in cases():
        said = source.equation(case.make(np.random.default_rng(0)))
        assert said and not re.search(r"Raises|Source|>>>", said), case.name
    said = source.equation(Conv2d(1, 2, 3, rng=0))
    assert "y[n,i,j,o] = f(b[o] +" in said and "Backward: dz = f'(y) dy" in said and "Shapes: x (N, H, W, in)" in said


def test_the_lines_are_the_real_ones_of_the_class_that_defines_them():
    layer = Conv2d(1, 2, 3, activation="tanh", rng=0)
    found = source.code(layer)
    assert [part["name"] for part in found["forward"]] == ["Affine._forward", "Conv2d._apply", "Tanh.f"]
    assert [part["name"] for part in found["backward"]] == ["Affine._backward", "Conv2d._gradients", "Tanh.slope"]
    assert [part["name"] for part in found["textbook"]][:2] == ["conv2d_forward", "conv2d_backward"]
    assert {"im2col", "col2im"} <= {part["name"] for part in found["textbook"]}
    lines = inspect.getsource(Conv2d._gradients).splitlines()
    assert [line.strip() for line in found["backward"][1]["text"].splitlines()] == [line.strip() for line in lines]
    assert found["backward"][1]["text"].startswith("def _gradients(")
    first = inspect.getsourcelines(Conv2d._gradients)[1]
    assert found["backward"][1]["place"] == f"npae/layers/conv.py, line {first}"
    for case in cases():
        parts = source.code(case.make(np.random.default_rng(0)))
        assert parts["forward"] and parts["backward"], case.name


def test_a_layer_of_ones_own_is_shown_with_its_lines_and_one_from_a_prompt_without():
    class Mine(Layer):
        """y = 3 x <&>"""

        def _forward(self, x):
            self.saved = True
            return 3 * x

        def _backward(self, dy, need_dx):
            return 3 * dy

    typed = {"Layer": Layer}
    exec("class Typed(Layer):\n    def _forward(self, x):\n        self.saved = 1\n        return x.copy()\n"
         "    def _backward(self, dy, need_dx):\n        return dy.copy()\n", typed)
    assert source.code(Mine())["forward"][0]["text"].endswith("return 3 * x")
    assert source.code(Mine())["forward"][0]["place"].startswith("tests/test_trace_page.py, line ")
    assert source.code(typed["Typed"]())["backward"][0]["text"] == "(its source lies in no file)"
    model = Autoencoder(Sequential([Mine(), Dense(6, 2, rng=0), typed["Typed"]()]), Sequential([Dense(2, 6, rng=0)]))
    t = traced(model, np.ones((3, 6), np.float32))
    text = page.page("<b>mine</b> & yours", [page.Single(t)], model).text
    assert "<b>mine" not in text and told_by(text)[0]["layers"][0]["equation"] == "y = 3 x <&>"


def test_pages_of_other_kinds_of_models_are_written_too():
    for make, shape in ((dense, (28, 28, 1)), (tied, (6, 9, 3)), (labelled, (28, 28, 1)), (picture_codes, (28, 28, 1))):
        model, dataset = make(), pictures(shape, 20)
        t = traced(model, dataset.train_x[:5] / np.float32(255), dataset.train_y[:5])
        told, _ = told_by(page.page("one", [page.Single(t)], model).text)
        assert [layer["name"] for layer in told["layers"]] == [row.name for row in t.rows]
        assert all(len(layer["check"]) == sum(1 + (p.value.ndim > 1) for p in row.layer.params)
                   for layer, row in zip(told["layers"], t.rows, strict=True))


def test_what_cannot_be_shown_is_told_in_a_sentence(tmp_path, monkeypatch):
    model = dense()
    with Trace(model) as t:
        pass
    with pytest.raises(ValueError, match="has seen no loss"):
        t.to_html(tmp_path / "a.html")
    with pytest.raises(ValueError, match=r"does not end in \.html"):
        t.to_html(tmp_path / "a.txt")
    t = traced(model, pictures(n=5).train_x / np.float32(255))
    assert t.to_html(tmp_path / "a.html") == tmp_path / "a.html" and (tmp_path / "a.html").stat().st_size > 50_000
    monkeypatch.setattr(page, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"the page would have 0\.\d MB with one picture and one channel a layer"):
        t.to_html(tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_a_trace_that_holds_no_numbers_has_a_page_all_the_same():
    model = dense()
    model.encoder.layers[1].W.value[0] = np.nan
    x = pictures(n=5).train_x / np.float32(255)
    x[:, 0] = 1
    with np.errstate(all="ignore"):
        t = traced(model, x)
        told, blob = told_by(page.page("one", [page.Single(t)], model).text)
    assert told["frames"][0]["terms"]["loss"] is None and told["frames"][0]["rows"][1]["y"][0] is None
    assert (blob == maps.BAD).any() and told["layers"][1]["check"][0]["plus"][0] is None


def test_what_is_told_of_a_batch_and_its_layers():
    t = of_recipe("conv-ae", 5, (8, 8, 1))
    told, _ = told_by(page.page("one", [page.Single(t)], t.model).text)
    assert told["batch"] == 5 and not told["series"] and [frame["step"] for frame in told["frames"]] == [1]
    assert told["layers"][told["code"] + 1]["name"] == "decoder.0"
    for layer, row, said in zip(told["layers"], t.rows, told["frames"][0]["rows"], strict=True):
        assert layer["size"] == "×".join(map(str, row.output_shape[1:]))
        assert [name for name, _ in layer["shapes"]] == ["x", "y", *(p.name[-1] for p in row.params)]
        assert said["ms"] == [1e3 * row.forward_seconds, 1e3 * row.backward_seconds]
        parts = [told["sources"][n]["name"] for half in ("forward", "backward", "textbook")
                 for n in layer["code"][half]]
        assert parts == [part["name"] for half in source.code(row.layer).values() for part in half]
    names = [told["sources"][n]["name"] for n in told["objective"]["code"]]
    assert names[:3] == [part["name"] for part in source.objective(t.model)["code"]][:3] and len(names) > 3
    told, _ = told_by(page.page("two", [session.Frame(k, t, t) for k in (3, 7)], t.model).text)
    assert told["series"] and [frame["step"] for frame in told["frames"]] == [3, 7]
    with Trace(t.model) as empty:
        pass
    for trace, shown in ((empty, t), (t, empty)):
        with pytest.raises(ValueError, match="has seen no loss"):
            page.page("one", [session.Frame(1, t, t), session.Frame(2, trace, shown)], t.model)


def test_grey_levels_are_rounded_and_kept_within_0_and_255():
    found = maps.grey(np.array([-0.5, 0, 0.2, 0.5, 0.999, 1, 2, np.nan]).reshape(1, 2, 4, 1))
    assert found.ravel().tolist() == [0, 0, 51, 128, 255, 255, 255, 0] and found.dtype == np.uint8


def test_of_a_long_series_fewer_pictures_are_shown_so_that_it_fits(monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 500_000)  # bars are flatter than digits, which do not fit into 3 MB
    model = of_recipe("conv-ae").model
    dataset = pictures(n=30)
    found = []
    for step in range(5):
        t = traced(model, dataset.train_x[:8] / np.float32(255))
        found.append(session.Frame(step + 1, t, t))
    text = page.page("series", found, model).text
    told, _ = told_by(text)
    assert len(text.encode()) <= 500_000 and 2 <= told["pictures"]["shape"][0] < 8
    assert max(m["y"][0][0] for m in told["frames"][0]["maps"]) == 16


# -- in the browser --


@pytest.fixture(scope="module")
def browser():
    with Browser() as window:
        yield window


@pytest.fixture(scope="module")
def pages(tmp_path_factory, browser):
    """open(name) shows the page of a recipe's trace, written once, or "series"; returns the traces."""
    folder, known = tmp_path_factory.mktemp("pages"), {}

    def show(name, width=1280, dark=False):
        path = folder / f"{name}.html"
        if name not in known:
            if name == "series":
                model, x = of_recipe("tied-ae").model, pictures(n=30).train_x[:12] / np.float32(255)
                known[name] = [traced(model, x) for _ in range(6)]
                found = [session.Frame(10 * i + 1, t, t) for i, t in enumerate(known[name])]
            else:
                known[name] = [of_recipe(name)]
                found = [page.Single(known[name][0])]
            path.write_text(page.page(f"{name} on bars", found, known[name][0].model).text)
        assert path.stat().st_size <= 3_000_000
        browser.look(width, dark=dark)
        for kind in ("performance", "browser"):
            browser.log(kind)
        browser.open(path)
        ready(browser)
        return known[name]

    return show


def check_page(browser, width, dark=False):
    """It fits, its console is empty, it has asked no network, and its theme is the asked one."""
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert len(asked) >= 1 and all(url.startswith(("file:", "data:")) for url in asked)
    body = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, body[4:-1].split(", "))) < 200) == dark


def ready(browser):
    """The maps are inflated after the page has loaded."""
    browser.run("""return new Promise((done) => {
        const wait = () => window.npae ? done(true) : setTimeout(wait, 10); wait(); })""")


def drawn(browser):
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def slide(browser, element, value):
    """As a hand does: the slider is there, has the focus, and says that it has moved."""
    browser.run("""const slider = document.getElementById(arguments[0]);
        slider.focus();
        slider.value = arguments[1];
        slider.dispatchEvent(new Event("input"));""", element, value)


def text(browser, element):
    return browser.run("return document.getElementById(arguments[0]).textContent", element)


def plain(number):
    """A number of the page, such as −1.23·10⁻⁷, as a float."""
    powers = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    front, _, power = number.replace("\N{MINUS SIGN}", "-").partition("·10")
    return float(front) * 10.0 ** int(power.translate(powers) or 0)


def cells(browser, table):
    return browser.run("""return [...document.querySelectorAll(`#${arguments[0]} tr`)].slice(1)
        .map((row) => [...row.children].map((cell) => cell.textContent))""", table)


@needs_browser
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_page_fits_asks_the_network_for_nothing_and_has_nothing_to_complain_of(name, width, dark, pages, browser):
    t, = pages(name, width, dark)
    check_page(browser, width, dark)
    for k in range(len(t.rows)):  # every layer can be opened
        browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
        assert text(browser, "layer-title") == t.rows[k].name
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run("const box = document.querySelector('#entries').parentElement;"
                           "return box.scrollWidth - box.clientWidth") <= 0  # the check is seen whole
    assert browser.log("browser") == []


@needs_browser
@pytest.mark.parametrize(("shape", "seen"), [((7,), (3, 3)), ((2304,), (48, 48)), ((5, 6), (5, 6)),
                                             ((4, 4, 2), (4, 4))])
def test_a_model_of_rows_or_of_pictures_without_a_channel_has_its_page(shape, seen, browser, tmp_path):
    d = math.prod(shape)
    flat = [Flatten()] * (len(shape) > 1)
    back = [Reshape(shape)] * (len(shape) > 1)
    model = Autoencoder(Sequential([*flat, Dense(d, 4, rng=0)]), Sequential([Dense(4, d, rng=0), *back]))
    x = np.random.default_rng(0).random((5, *shape)).astype(np.float32)
    path = traced(model, x).to_html(tmp_path / "rows.html")
    told, blob = told_by(path.read_text())
    assert told["pictures"]["shape"] == [5, *seen, shape[2] if len(shape) == 3 else 1]
    first = blob[:math.prod(told["pictures"]["shape"][1:])]
    np.testing.assert_allclose(first[:d] / 255, x[0].ravel(), atol=0.5 / 255 + 1e-6)
    assert not first[d:].any()
    total = [m["y"][2] for m in told["frames"][0]["maps"]]
    assert total[-1] == (shape[-1] if len(shape) == 3 else d)
    browser.look(1280)
    browser.log("browser")
    browser.open(path)
    ready(browser)
    assert browser.log("browser") == []
    sizes = browser.run("return [...document.querySelectorAll('#strip .size')].map(e => e.textContent)")
    assert sizes[0] == sizes[-1] == "×".join(map(str, shape))
    assert browser.run("const c = document.querySelector('#strip canvas'); return [c.height, c.width]") == list(seen)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_its_page(name, pages, browser, tmp_path):
    """Written by the command, on strokes; opened layer by layer in both widths."""
    from npae.cli import main

    path = tmp_path / "trace.html"
    assert main(["trace", name, "--html", str(path)]) == 0
    assert path.stat().st_size <= 3_000_000
    for width in (1280, 390):
        browser.look(width)
        for kind in ("performance", "browser"):
            browser.log(kind)
        browser.open(path)
        ready(browser)
        check_page(browser, width)
        for k in range(browser.run("return npae.told.layers.length")):
            took = browser.run("return npae.show({ layer: arguments[0] })", k)
            assert took < 1000 and browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.log("browser") == []
    print(f"\n{name}: {path.stat().st_size / 1e6:.2f} MB", end="")


@needs_browser
def test_a_page_says_the_traces_numbers(pages, browser):
    t, = pages("bernoulli-vae")
    assert text(browser, "title") == "bernoulli-vae on bars" and "one step of a training" in text(browser, "lead")
    assert "nats per image" in text(browser, "facts") and "batch of 12" in text(browser, "facts")
    assert "those of the mean loss of 12 pictures." in text(browser, "legend")
    assert "Nothing wrong is found" in text(browser, "flags")
    k = next(i for i, row in enumerate(t.rows) if row.name == "decoder.2")
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    row = t.rows[k]
    for said, found in zip(cells(browser, "numbers"), (row.activation, row.gradient), strict=True):
        assert [plain(v) for v in said[1:4]] == pytest.approx([found.norm, found.mean, found.std], rel=6e-3)
        assert float(said[4].split()[0]) / 100 == pytest.approx(found.zeros, rel=6e-3)
    for said, p in zip(cells(browser, "params"), row.params, strict=True):
        assert said[0] == p.name and plain(said[2]) == pytest.approx(p.grad_norm, rel=6e-3)
        assert (said[3] == "from 0") if p.norm == 0 else (plain(said[3]) == pytest.approx(p.update_ratio, rel=6e-2))
    x, y = row.input_shape, row.output_shape
    assert text(browser, "shapes") == (f"x {x} · W (3, 3, 64, 32) · b (64,) → y {y}"
                                       f"dy {y} → dx {x} · dW (3, 3, 64, 32) · db (64,)")
    for line in ("ConvTranspose2d._gradients", "conv2d_transpose_backward"):
        assert line in text(browser, "code")
    assert "each pixel of x paints its kernel" in text(browser, "equation")
    for line in ("beta KL(q(z|x)", "dz = decoder^T dy", "VAE.loss", "def backward(self)", "Bernoulli._compute",
                 "dlogits[...] ="):
        assert line in text(browser, "objective")
    assert browser.run("return document.querySelector('.tile .mark').parentElement.querySelector('.name').textContent"
                       ) == "reparameterize"


def pixels(browser, canvas):
    """The rgba of a canvas, (h, w, 4): `canvas` is an expression that names it."""
    size, values = browser.run(f"""
        const c = {canvas};
        return [[c.height, c.width], Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)]""")
    return np.array(values).reshape(*size, 4)


def colours(browser, codes):
    """Codes (..., ) -> rgba by the page's own style: from white to its two ends, ink for what is no number."""
    style = {name: np.array(browser.run("""const v = getComputedStyle(document.documentElement).getPropertyValue(
        arguments[0]).trim(); return [1, 3, 5].map((i) => parseInt(v.slice(i, i + 2), 16))""", f"--{name}"))
             for name in ("zero", "minus", "plus", "ink")}
    share = (codes.astype(float) - maps.LEVELS)[..., None] / maps.LEVELS
    ends = np.where(share < 0, style["minus"], style["plus"])
    rgb = np.floor(style["zero"] + np.abs(share) * (ends - style["zero"]) + 0.5)
    rgb[codes == maps.BAD] = style["ink"]
    rgba = np.concatenate([rgb, np.full((*codes.shape, 1), 255.0)], -1)
    rgba[codes == maps.BLANK] = 0
    return rgba


@needs_browser
def test_each_pixel_of_a_map_has_the_colour_of_its_number(pages, browser):
    t, = pages("bernoulli-vae")
    for k, row in enumerate(t.rows):
        for n in (k % 8,):
            browser.run("npae.show({ layer: arguments[0], picture: arguments[1] })", k, n)
            for side in ("y", "dy"):
                a = getattr(row, side)
                assert browser.run("return document.getElementById(arguments[0]).hidden", f"big-{side}") == (a is None)
                if a is None:
                    continue
                codes = maps.made(a, (28, 28, 1), 8, 16).codes[n]
                c, h, w = codes.shape
                across = math.ceil(math.sqrt(c))
                shown, tile = (pixels(browser, canvas) for canvas in (
                    f'document.getElementById("big-{side}")',
                    f"document.querySelectorAll('button.tile')[{k}].querySelectorAll('canvas')[{int(side == 'dy')}]"))
                np.testing.assert_array_equal(shown, tile)
                for place in range(c):
                    i, j = place // across * (h + 1), place % across * (w + 1)
                    np.testing.assert_array_equal(shown[i:i + h, j:j + w], colours(browser, codes[place]))
    ramp = pixels(browser, 'document.getElementById("ramp")')
    np.testing.assert_array_equal(ramp[0], colours(browser, np.arange(2 * maps.LEVELS + 1)))


@needs_browser
def test_the_pictures_are_those_of_the_batch_in_grey_and_in_colour(tmp_path, browser):
    for model, dataset in ((dense(), pictures(n=20)), (tied(), pictures((6, 9, 3), 20))):
        x = dataset.train_x[:5] / np.float32(255)
        t = traced(model, x)
        browser.look(1280)
        browser.open(t.to_html(tmp_path / "colour.html"))
        ready(browser)
        painted = model.likelihood.mean(t.rows[-1].y).reshape(x.shape)
        for n in (0, 3):
            browser.run("document.querySelectorAll('#pictures button')[arguments[0]].click()", n)
            for canvas, expected in (("document.querySelectorAll('.tile.picture canvas')[0]", x),
                                     (f"document.querySelectorAll('#pictures canvas')[{n}]", x),
                                     ("document.querySelectorAll('.tile.picture canvas')[1]", painted)):
                shown = pixels(browser, canvas)
                assert (shown[..., 3] == 255).all()
                np.testing.assert_array_equal(shown[..., :3], np.broadcast_to(maps.grey(expected)[n], (
                    *shown.shape[:2], 3)))
        assert browser.run("return document.querySelectorAll('#pictures button')[3].ariaLabel") == "picture 4"


@needs_browser
def test_what_is_no_number_is_inked_and_said(tmp_path, browser):
    model = dense()
    model.encoder.layers[1].W.value[0] = np.nan
    x = pictures(n=5).train_x / np.float32(255)
    x[:, 0] = 1
    with np.errstate(all="ignore"):
        t = traced(model, x)
        browser.open(t.to_html(tmp_path / "nan.html"))
    ready(browser)
    browser.run("npae.show({ layer: 1, picture: 0 })")
    codes = maps.made(t.rows[1].y, (28, 28, 1), 8, 16).codes[0, 0]
    assert {maps.BAD, maps.BLANK} <= set(codes.ravel().tolist())
    np.testing.assert_array_equal(pixels(browser, 'document.getElementById("big-y")'), colours(browser, codes))
    assert cells(browser, "numbers")[0][1] == "not a number" and "loss not a number" in text(browser, "step-name")


@needs_browser
def test_what_stands_around_a_layer_is_the_traces_too(pages, browser):
    t, = pages("bernoulli-vae")
    assert "99 % of a layer's shown numbers lie within" in text(browser, "legend")
    lengths = [np.log10(row.gradient.norm) for row in t.rows if row.gradient and row.gradient.norm]
    low, high = math.floor(min(lengths)), math.ceil(max(lengths))
    widths = browser.run("return [...document.querySelectorAll('.gauge i')].map((bar) => parseFloat(bar.style.width))")
    for k, row in enumerate(t.rows):
        browser.run("npae.show({ layer: arguments[0] })", k)
        hint = text(browser, "layer-hint")
        part = row.name.split(".")[0]
        where = f"in the {part}" if part in ("encoder", "decoder") else "between encoder and decoder"
        assert where in hint and f": {row.multiply_adds:,} multiply-adds a picture, float32" in hint
        assert ("units are off" in hint) == bool(row.dead) and ("flat end" in hint) == bool(row.saturated)
        for share, words in ((row.dead, "of its units are off in the whole batch"),
                             (row.saturated, "of its numbers lie at a flat end")):
            if share:
                assert float(re.search(rf"([\d.]+) % {words}", hint)[1]) == pytest.approx(100 * share, rel=6e-3)
        for side, a in (("y", row.y), ("dy", row.dy)):
            said = text(browser, f"caption-{side}")
            if a is None:
                assert said.endswith("none is asked for here")
                continue
            shown, kind = (min(16, a.shape[-1]), "channel") if a.ndim == 4 else (min(1024, a.shape[-1]), "number")
            if a.ndim == 2 and a.shape[1] == 784:
                shown = 784
            total = a.shape[-1]
            head = f"the first {shown:,} of {total:,}" if shown < total else f"{total:,}"
            assert f": {head} {kind}{'s' * (total != 1)}; scale ±" in said
            scale = maps.made(a, (28, 28, 1), 8, 16).scale
            assert plain(said.split("±")[1]) == pytest.approx(scale, rel=6e-3)
            small = browser.run("return document.querySelectorAll('button.tile')[arguments[0]].querySelectorAll("
                                "'.scale')[arguments[1]].textContent", k, int(side == "dy"))
            assert plain(small[1:]) == pytest.approx(scale, rel=6e-2)
        there, back = cells(browser, "numbers")
        for said in (*there[1:4], *(back[1:4] if row.gradient else ())):
            front, _, power = said.partition("·10")
            assert len(re.sub(r"\D", "", front).strip("0")) <= 3
            assert bool(power) == (plain(said) != 0 and not 1e-3 <= abs(plain(said)) < 1e5)
        assert float(there[5]) == pytest.approx(1e3 * row.forward_seconds, abs=0.0051)
        assert float(back[5]) == pytest.approx(1e3 * row.backward_seconds, abs=0.0051)
        for said, p in zip(cells(browser, "params"), row.params, strict=True):
            assert plain(said[1]) == pytest.approx(p.norm, rel=6e-3)
        if row.params:
            for said, entry in zip(cells(browser, "entries"),
                                   browser.run("return npae.told.layers[arguments[0]].check", k), strict=True):
                assert plain(said[1]) == pytest.approx(entry["value"], rel=6e-4)
        norm = row.gradient.norm if row.gradient else 0
        assert widths[k] == pytest.approx(max(2, 100 * (np.log10(norm) - low) / (high - low)) if norm else 0, abs=0.01)


@needs_browser
def test_a_flag_marks_its_own_layer_and_none_whose_name_begins_alike(pages, browser):
    pages("bernoulli-vae")
    browser.run("npae.told.frames[0].flags = ['encoder.10 (Dense): dead', 'encoder.1 (Conv2d): dead']; npae.show({})")
    marked = "return [...document.querySelectorAll('.tile.wrong .name')].map((b) => b.textContent)"
    assert browser.run(marked) == ["encoder.1"]
    browser.run("npae.told.frames[0].flags.pop(); npae.show({})")
    assert browser.run(marked) == []


def points(browser, selector):
    """The places of a curve's points."""
    said = browser.run("return document.querySelector(arguments[0]).getAttribute('points')", selector)
    return np.array([list(map(float, point.split(","))) for point in said.split()])


@needs_browser
def test_the_curves_over_the_steps_and_over_h_lie_where_their_numbers_are(pages, browser):
    traces = pages("series")
    assert text(browser, "lead").startswith("Autoencoder: 6 steps of a training, from 1 to 51, each")
    assert text(browser, "when") == ", with the weights after step 51"
    assert browser.run("return document.getElementById('step').max") == "5"
    k = next(k for k, row in enumerate(traces[0].rows) if row.params)
    first = traces[0].rows[k].params[0].name
    values = {"loss": [t.terms["loss"] for t in traces], "‖y‖": [t.rows[k].activation.norm for t in traces],
              "‖dy‖": [t.rows[k].gradient.norm for t in traces],
              f"update / norm of {first}": [t.rows[k].params[0].update_ratio for t in traces]}
    for layer in (k, k + 1, k):  # each layer has its own
        browser.run("npae.show({ layer: arguments[0], frame: 4 })", layer)
    titles = browser.run("return [...document.querySelectorAll('#ways .title')].map((t) => t.textContent)")
    assert [title.split(": ")[0] for title in titles] == list(values)
    for n, (title, way) in enumerate(zip(titles, values.values(), strict=True)):
        ends = [plain(part) for part in title.split(": ")[1].split(" to ")]
        assert ends == pytest.approx([min(way), max(way)], rel=6e-3)
        logs = np.log10(way)
        down = 84 - 62 * (logs - logs.min()) / np.ptp(logs)
        found = points(browser, f"#ways svg:nth-child({n + 1}) .curve")
        np.testing.assert_allclose(found, np.stack([6 + 248 * np.arange(6) / 5, down], 1), atol=0.06)
        dot = browser.run("return document.querySelectorAll('#ways .now')[arguments[0]].getAttribute('transform')", n)
        assert [float(v) for v in dot[10:-1].split(",")] == found[4].tolist()
    entry = browser.run("return npae.told.layers[arguments[0]].check[0]", k)
    quotients = (np.array(entry["plus"]) - entry["minus"]) / (2 * np.array(differences.STEPS))
    errors = np.log10(np.clip(np.abs(quotients / entry["analytic"] - 1), 1e-13, 10))
    found = points(browser, "#curves .curve")
    np.testing.assert_allclose(found[:, 0], 34 + 220 * np.arange(13) / 12, atol=0.06)
    np.testing.assert_allclose(found[:, 1], 10 + 110 * (1 - errors) / 14, atol=0.3)
    facts = [text(browser, "facts")]
    browser.run("npae.show({ frame: 0 })")
    assert facts[0] != text(browser, "facts") and text(browser, "step-name").startswith("step 1, loss")


@needs_browser
def test_the_quotients_are_divided_anew_as_h_moves(pages, browser):
    pages("tied-ae")
    k = 2
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    entries = browser.run("return npae.told.layers[arguments[0]].check", k)
    assert [entry["entry"].split("[")[0] for entry in entries] == ["W", "W", "b"]
    seen = []
    for i, h in ((0, 1.0), (5, 1e-5), (12, 1e-12)):
        slide(browser, "h", i)
        assert plain(text(browser, "h-name").split(" = ")[1]) == pytest.approx(h)
        for said, entry in zip(cells(browser, "entries"), entries, strict=True):
            quotient = (entry["plus"][i] - entry["minus"][i]) / (2 * h)
            assert said[0] == entry["entry"] and plain(said[2]) == pytest.approx(entry["analytic"], rel=1e-7)
            assert plain(said[3]) == pytest.approx(quotient, rel=1e-7, abs=1e-300)
            seen.append(abs(quotient / entry["analytic"] - 1))
            assert plain(said[4]) == pytest.approx(seen[-1], rel=0.1, abs=1e-15)
    assert max(seen[3:6]) < 1e-4 < min(max(seen[:3]), max(seen[6:]))  # the foot of the V lies between
    assert browser.run("return document.querySelectorAll('#curves svg').length") == 3


@needs_browser
def test_a_picture_is_chosen_and_its_maps_are_drawn(pages, browser):
    t, = pages("bernoulli-vae")
    k, row = next((i, row) for i, row in enumerate(t.rows) if row.name == "encoder.1")
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    seen = []
    for n in (0, 5):
        browser.run("document.querySelectorAll('#pictures button')[arguments[0]].click()", n)
        assert browser.run("return [...document.querySelectorAll('#pictures button')].map((b) => b.ariaPressed)"
                           ).index("true") == n
        size, values = browser.run("""
            const c = document.getElementById("big-dy");
            return [[c.height, c.width], Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)]""")
        rgba = np.array(values).reshape(*size, 4)
        assert size == [4 * 7 - 1, 4 * 7 - 1]  # 16 channels of 6 x 6, with lines between
        assert (rgba[6, :, 3] == 0).all() and (rgba[:6, :6, 3] == 255).all()
        blue, red = rgba[..., 2].astype(int), rgba[..., 0].astype(int)
        _, scale, _ = browser.run("return [0, npae.told.frames[0].maps[arguments[0]].dy.scale, 0]", k)
        for c in (0, 5, 15):
            i, j = 7 * (c // 4), 7 * (c % 4)
            warm = red[i:i + 6, j:j + 6] - blue[i:i + 6, j:j + 6]
            dy = row.dy[n, :, :, c] / scale
            assert (np.sign(warm[np.abs(dy) > 0.1]) == np.sign(dy[np.abs(dy) > 0.1])).all()
        seen.append(values)
    assert seen[0] != seen[1]


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_slider_walks_through_the_steps_within_a_frame(width, pages, browser):
    traces = pages("series", width)
    check_page(browser, width)
    took = browser.run("return Array.from({ length: 100 }, (_, i) => npae.show({ frame: i % 6, picture: i % 3 }))")
    print(f"\nmedian {np.median(took):.1f} ms, 95 % {np.percentile(took, 95):.1f} ms", end="")
    assert np.median(took) <= 16
    slide(browser, "step", 0)
    for frame in (0, 1, 2):
        if frame:
            for kind in ("rawKeyDown", "keyUp"):  # the keyboard moves it too
                browser.chromium("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight",
                                 windowsVirtualKeyCode=39)
        drawn(browser)
        said, loss = text(browser, "step-name").split(", loss ")
        assert said == f"step {10 * frame + 1}" and plain(loss) == pytest.approx(traces[frame].terms["loss"], rel=1e-3)


@needs_browser
def test_the_arrow_keys_walk_along_the_strip(pages, browser):
    t, = pages("tied-ae")
    browser.run("const tile = document.querySelectorAll('button.tile')[0]; tile.focus(); tile.click()")
    for key, k in (("ArrowLeft", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        browser.chromium("Input.dispatchKeyEvent", type="keyDown", key=key)
        assert text(browser, "layer-title") == t.rows[k].name
        assert browser.run("return document.activeElement.querySelector('.name').textContent") == t.rows[k].name


@needs_browser
def test_what_is_wrong_stands_on_the_page_and_at_its_layer(tmp_path, browser):
    model = dense()
    model.encoder.layers[1].b.value[...] = -100
    t = traced(model, pictures(n=40).train_x / np.float32(255))
    assert any("dead units" in flag for flag in t.flags)
    browser.open(t.to_html(tmp_path / "wrong.html"))
    ready(browser)
    assert browser.run("return [...document.querySelectorAll('#flags li')].map((li) => li.textContent)") == t.flags
    marked = browser.run("return [...document.querySelectorAll('.tile.wrong .name')].map((b) => b.textContent)")
    assert marked == [row.name for row in t.rows if any(flag.startswith(f"{row.name} ") for flag in t.flags)]
    browser.run("npae.told.frames[0].rows[1].dead = 0.75; npae.told.frames[0].rows[1].saturated = 0.1234;"
                "npae.show({ layer: 1 })")
    assert text(browser, "layer-hint").endswith(
        "; 75 % of its units are off in the whole batch; 12.3 % of its numbers lie at a flat end")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv-ae", "conv-vae", "mlp-vae", "tied-ae"])
def test_a_scrubbed_training_fits_into_three_megabytes_and_redraws_within_a_frame(name, browser, tmp_path):
    from npae.cli import main

    path = tmp_path / "series.html"
    assert main(["trace", name, "--every", "2" if name == "mlp-vae" else "20", "--html", str(path)]) == 0
    assert path.stat().st_size <= 3_000_000
    for width in (1280, 390):
        browser.look(width)
        for kind in ("performance", "browser"):
            browser.log(kind)
        browser.open(path)
        ready(browser)
        check_page(browser, width)
        took = browser.run("""return Array.from({ length: 200 }, (_, i) => npae.show({
            frame: i % npae.told.frames.length, layer: i % npae.told.layers.length })).sort((a, b) => a - b)""")
        assert np.median(took) <= 16
    pictures_shown = browser.run("return npae.told.pictures.shape[0]")
    size = path.stat().st_size / 1e6
    print(f"\n{name}: {size:.2f} MB, {pictures_shown} pictures, a redraw in {np.median(took):.1f} ms", end="")
    assert browser.run("return npae.told.frames.length") == 20
