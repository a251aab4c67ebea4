"""The explorer without a browser: what stands in the page decodes back, fits, and is refused where it cannot run."""
import base64
import json
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from explorables import (
    dense,
    labelled,
    of_recipe,
    picture_codes,
    pictures,
    some_codes,
    stirred,
    tied,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from npae import explore, layers, losses, store
from npae.cli import main
from npae.data import Dataset
from npae.explore import codes, web, window
from npae.layers import Activation, Dense, Flatten, Layer, Reparameterize, Reshape, Sequential
from npae.models import Autoencoder
from npae.recipes import RECIPES


def data_of(text):
    """The JSON that stands in a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def unpacked(stored):
    """What the page's engine makes of packed numbers."""
    values = np.frombuffer(base64.b64decode(stored["data"]), stored["dtype"]).astype(np.float32)
    return (values * np.float32(stored["scale"])).reshape(stored["shape"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of bernoulli-vae, untrained."""
    folder = tmp_path_factory.mktemp("run")
    dataset = pictures((8, 8, 1))
    model, settings = of_recipe("bernoulli-vae", dataset)
    np.savez(folder / "bars.npz", x_train=dataset.train_x, y_train=dataset.train_y, x_test=dataset.test_x,
             y_test=dataset.test_y)
    store.write_json(folder / "config.json", {
        "npae": "0", "recipe": "bernoulli-vae", "data": str(folder / "bars.npz"), "data_dir": None, "seed": 0,
        "settings": {**settings, "validation": 5}})
    model.save(folder / "model.npz")
    store.write_json(folder / "metrics.json", {"data": "bars", "test": {
        "elbo": -12.345, "recon": 12.0, "kl": 0.345, "mse": 0.01234}})
    return folder


# -- weights --


@pytest.mark.parametrize(("dtype", "steps"), [("<f4", None), ("<i2", 32767), ("|i1", 127)])
def test_weights_come_back_within_half_a_step(dtype, steps):
    W = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    stored = web.packed(W, dtype)
    assert stored["shape"] == [7, 5] and stored["dtype"] == dtype
    error = np.abs(unpacked(stored) - W).max()
    assert error == 0 if steps is None else 0 < error <= 0.5001 * np.abs(W).max() / steps


def test_weights_that_are_all_zero_come_back_and_those_that_are_not_numbers_are_refused():
    assert (unpacked(web.packed(np.zeros((2, 3), np.float32), "<i2")) == 0).all()
    for wrong in (np.inf, np.nan):
        with pytest.raises(ValueError, match=r"shape \(2,\) holds inf or not-a-number"):
            web.packed(np.array([1.0, wrong], np.float32), "<f4")


@pytest.mark.parametrize("name", RECIPES)
def test_a_page_holds_every_weight_and_every_layer(name):
    dataset = pictures()
    model, settings = of_recipe(name, dataset)
    text = explore.page(model, dataset, recipe=name, binarize=settings["binarize"])
    assert len(text.encode()) <= web.MOST_BYTES == 8_000_000
    told = data_of(text)
    for p in model.params:
        stored = told["params"][p.name]
        steps = {"<f4": np.inf, "<i2": 32767, "|i1": 127}[stored["dtype"]]
        largest = np.abs(p.value).max()  # half a step of the grid, and the rounding of what the engine multiplies
        assert np.abs(unpacked(stored) - p.value).max() <= largest * (0.5 / steps + np.finfo(np.float32).eps)
    assert set(told["params"]) == {p.name for p in model.params}
    for net, role in ((model.encoder, "encoder"), (model.decoder, "decoder")):
        kinds = re.findall(r'"layer": "(\w+)"', json.dumps(told[role]["layers"]))
        inner = [type(layer).__name__ for layer in list(net.walk())[1:]]
        fused = [type(layer.activation).__name__ for layer in net.walk() if hasattr(layer, "activation")]
        assert sorted(kinds) == sorted(inner + fused)


@pytest.mark.parametrize("name", RECIPES)
def test_sixteen_bits_a_weight_change_no_picture_by_a_grey_level(name):
    """Why the page may store whole numbers: see web.PRECISIONS."""
    dataset = pictures()
    model, _ = of_recipe(name, dataset)
    z, y = some_codes(model, 100)
    exact = model.decode(z, y)
    for p in model.params:
        p.value[...] = unpacked(web.packed(p.value, "<i2"))
    assert 0 < np.abs(model.decode(z, y) - exact).max() < 0.25 / 255


def test_a_page_that_would_be_too_large_makes_the_encoder_coarse_first_and_leaves_it_out_last(monkeypatch):
    model, dataset = dense(), pictures()
    sizes, found = [], []
    for _ in range(5):
        text = explore.page(model, dataset)
        told = data_of(text)
        sizes.append(len(text.encode()))
        found.append([told["params"].get(f"{role}.W", {"dtype": None})["dtype"] for role in ("decoder.0", "encoder.1")])
        assert told["params"]["decoder.0.b"]["dtype"] == "<f4"
        assert (told["encoder"] is None) == (found[-1][1] is None)
        monkeypatch.setattr(web, "MOST_BYTES", sizes[-1] - 1)
    assert found == [["<f4", "<f4"], ["<f4", "<i2"], ["<i2", "<i2"], ["<i2", "|i1"], ["<i2", None]]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(ValueError, match=r"the page would have 0\.\d MB with 16 bits.* and 0 MB is the most"):
        explore.page(model, dataset)


def test_weights_that_both_nets_share_stand_in_the_page_once_and_as_fine_as_the_decoder_needs():
    model = tied()
    stored = web.weights(model, "<f4", "|i1")
    assert set(stored) == {"encoder.0.W", "encoder.0.b", "encoder.2.W", "encoder.2.b", "decoder.0.b", "decoder.2.b"}
    assert stored["encoder.0.W"]["dtype"] == stored["encoder.2.W"]["dtype"] == "<f4"
    decoder = web.description(model.decoder)["layers"]
    assert decoder[0]["W"] == "encoder.2.W" and decoder[0]["b"] == "decoder.0.b"
    assert decoder[0]["activation"] == {"layer": "ReLU"}
    assert (decoder[2]["W"], decoder[2]["stride"], decoder[2]["padding"]) == ("encoder.0.W", [2, 3], "same")
    assert "encoder.0.W" in web.weights(model, "<i2", None)  # the decoder needs it, encoder or not


# -- what the page says, and that it loads nothing --


def test_a_page_loads_nothing_and_forbids_itself_to():
    text = explore.page(dense(), pictures())
    program = text.replace(re.search(r'id="data">(.*?)</script>', text)[1], "")
    assert "default-src 'none'" in program
    for word in ("http:", "https:", "url(", " src=", "@import", "fetch(", "XMLHttpRequest", "import(", "WebSocket",
                 "sendBeacon", "%DATA%", "%ENGINE%", "%PLANE%"):
        assert word not in program, word
    assert program.count("<script") == program.count("</script>") == 3
    assert re.findall(r'href="(.*?)"', program) == ["data:,"]


def test_no_name_can_break_out_of_its_place():
    evil = '</script><img src=x> %DATA% & "quotes"'
    text = explore.page(dense(), pictures(name=evil), recipe="<b>", figure="</title>")
    assert "<img" not in text and "<b>" not in text
    assert data_of(text)["dataset"] == evil
    assert "<title>&lt;b&gt;, &lt;/script&gt;" in text


def test_a_page_tells_what_the_model_is():
    told = data_of(explore.page(labelled(), pictures(), recipe="mlp-cvae", figure="ELBO 3 nats", binarize="threshold"))
    assert (told["recipe"], told["dataset"], told["figure"], told["tests"]) == ("mlp-cvae", "bars", "ELBO 3 nats", 90)
    assert (told["latent"], told["classes"], told["shape"]) == (2, 10, [28, 28, 1])
    assert told["prior"] and told["binarized"] and told["mean"] == "sigmoid"
    assert told["home"] == [0, 0]
    model, dataset = dense(), pictures(labelled=False)
    told = data_of(explore.page(model, dataset))
    assert told["home"] == pytest.approx(model.encode(dataset.test_x / np.float32(255)).mean(axis=0), abs=1e-5)
    assert told["recipe"] == "Autoencoder" and told["mean"] == "identity" and told["points"] is None
    assert not told["prior"] and not told["binarized"] and told["pictures"]["labels"] is None


def test_the_test_pictures_stand_in_the_page_as_the_model_sees_them_each_with_its_code():
    model, dataset = labelled(), pictures()
    order = np.argsort(dataset.test_y, kind="stable")  # as a data set may come, all of one label first
    dataset = replace(dataset, test_x=dataset.test_x[order], test_y=dataset.test_y[order])
    told = data_of(explore.page(model, dataset, binarize="threshold"))
    x, y = unpacked(told["pictures"]["x"]) / 255, np.array(told["pictures"]["labels"])
    assert x.shape == (60, 28, 28, 1) and set(np.unique(x)) == {0, 1}
    assert (np.bincount(y) == 6).all() and len(set(y[:10])) == 10  # each label in turn
    np.testing.assert_allclose(unpacked(told["pictures"]["z"]), model.encode(x.astype(np.float32), y), atol=1e-5)
    z, all_y = unpacked(told["points"]["z"]), np.array(told["points"]["labels"])
    seen = (dataset.test_x > 127).astype(np.float32)
    np.testing.assert_allclose(z, model.encode(seen, dataset.test_y), atol=1e-5)
    assert (all_y == dataset.test_y).all()


def test_of_many_or_large_test_pictures_some_are_kept(monkeypatch):
    monkeypatch.setattr(codes, "POINTS", 70)
    monkeypatch.setattr(web, "PICTURE_BYTES", 10 * 784)
    told = data_of(explore.page(labelled(), pictures()))
    assert told["points"]["z"]["shape"] == [70, 2] and told["pictures"]["x"]["shape"][0] == 10 and told["tests"] == 90


def test_the_liveliest_numbers_stand_first():
    model, dataset = dense(), pictures()
    z = model.encode(dataset.test_x / np.float32(255))
    order = data_of(explore.page(model, dataset))["order"]
    assert sorted(order) == list(range(5))
    assert (np.diff(z.std(axis=0)[order]) <= 0).all()


@pytest.mark.parametrize(("low", "high", "prior", "expected"), [
    (-3.2, 2.9, False, (-5, 5, 0.1)),
    (-0.2, 0.3, True, (-5, 5, 0.1)),
    (-7.3, 2.9, True, (-8, 5, 0.1)),
    (-3.0, 31.2, False, (-5, 32, 0.1)),
    (0.02, 0.97, False, (0, 1, 0.01)),  # behind a sigmoid
    (0.0, 1.0, False, (0, 1, 0.01)),
    (0.0, 12.4, False, (0, 13, 0.1)),  # behind a ReLU
    (0.0, 4.35, False, (0, 4.4, 0.01)),
    (-300.0, -40.0, False, (-300, -40, 1)),
    (0.0, 0.0, False, (0, 0.1, 0.01)),  # a dead one
    (-0.03, 0.02, False, (-0.03, 0.02, 0.001)),
    (3.0, 3.0, False, (3, 3.1, 0.01)),
])
def test_sliders_reach_from_minus_5_to_5_or_as_far_as_the_codes_do(low, high, prior, expected):
    z = np.array([[low, 0.5 * (low + high)], [high, low]])
    assert codes.ranges(z, prior)[0] == pytest.approx(expected)


def test_a_drawing_is_made_like_the_pictures_of_the_data_set():
    x = pictures().test_x / np.float32(255)
    told = codes.drawing(x)
    assert told["centre"] == pytest.approx([13.5, 13.5], abs=0.1) and told["paper"] == 0
    assert 19 <= told["extent"] <= 22
    inverted = codes.drawing(1 - x)
    assert inverted["paper"] == 1 and inverted["extent"] == told["extent"]
    assert inverted["centre"] == pytest.approx(told["centre"], abs=1e-3)
    shifts = np.random.default_rng(0).integers(0, 28, len(x))
    rolled = np.stack([np.roll(picture, by, axis=0) for picture, by in zip(x, shifts, strict=True)])
    assert codes.drawing(rolled)["centre"] is None
    assert codes.drawing(np.zeros_like(x))["centre"] is None


def test_colour_pictures_have_no_pad():
    assert data_of(explore.page(tied(), pictures((6, 9, 3))))["drawing"] is None
    assert data_of(explore.page(dense(), pictures()))["drawing"]["extent"] > 0


# -- what is refused --


class Swish(Activation):
    def f(self, x):
        return x / (1 + np.exp(-x))


class Doubled(Layer):
    def _forward(self, x):
        return 2 * x


class Odd(losses.SquaredError):
    pass


def small(extra=(), likelihood=None, activation=None):
    decoder = Sequential([Dense(2, 784, activation=activation), *extra, Reshape((28, 28, 1))])
    return Autoencoder(Sequential([Flatten(), Dense(784, 2)]), decoder, likelihood=likelihood)


@pytest.mark.parametrize(("model", "words"), [
    (lambda: small([Doubled()]), "cannot run Doubled 'decoder.1'"),
    (lambda: small(activation=Swish()), "cannot run Swish of Dense 'decoder.0'"),
    (lambda: small(likelihood=Odd()), "mean of the likelihood Odd: use Bernoulli"),
    (picture_codes, r"codes of this model are pictures of shape \(7, 7, 2\)"),
])
def test_what_the_page_cannot_run_is_named(model, words):
    with pytest.raises(ValueError, match=words):
        explore.page(model(), pictures())


def test_a_layer_of_ones_own_is_refused_even_under_a_name_of_ours():
    with pytest.raises(ValueError, match=r"cannot run Dense 'decoder\.1'"):
        explore.page(small([type("Dense", (Doubled,), {})()]), pictures())


def test_pictures_of_other_channels_and_labels_that_are_missing_are_refused():
    shape = (8, 8, 2)
    with pytest.raises(ValueError, match=r"grey \(1 channel\) or colour \(3\) pictures.*\(8, 8, 2\)"):
        explore.page(dense(shape=shape), pictures(shape))
    with pytest.raises(ValueError, match="needs labels 0 to 9, and the test pictures of bars have none"):
        explore.page(labelled(), pictures(labelled=False))
    x, y = pictures().test_x, np.arange(90)
    with pytest.raises(ValueError, match="have labels up to 89"):
        explore.page(labelled(), Dataset(x, y, x, y, "many"))


def test_a_model_that_has_diverged_is_refused():
    model = dense()
    model.encoder.params[0].value[...] = np.nan
    with pytest.raises(ValueError, match="codes of the test pictures are inf or not-a-number"):
        explore.page(model, pictures())


def test_every_layer_of_npae_is_one_that_the_page_knows():
    kinds = {kind.__name__ for kind in layers.KINDS if kind is not Reparameterize}  # a sample, in training alone
    assert kinds <= set(web.LAYERS)


# -- the window --


def test_each_number_has_a_slider_and_the_picture_follows_it():
    model, dataset = dense(), pictures()
    z = model.encode(dataset.test_x / np.float32(255))
    figure = Figure()
    FigureCanvasAgg(figure)
    made = window.sliders(model, z, figure)
    assert [slider.label.get_text() for slider in made] == [f"$z_{{{i}}}$" for i in range(1, 6)]
    assert [(s.valmin, s.valmax, s.valstep) for s in made] == codes.ranges(z, False)
    code = z.mean(axis=0)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), model.decode(code[None])[0, ..., 0], atol=1e-6)
    for i, value in ((0, 1.5), (3, -2.0)):
        made[i].set_val(value)
        code[i] = value
        np.testing.assert_allclose(figure.axes[0].images[0].get_array(), model.decode(code[None])[0, ..., 0], atol=1e-6)


def test_a_conditional_model_has_its_labels_in_the_window():
    model, dataset = labelled(), pictures()
    figure = Figure()
    FigureCanvasAgg(figure)
    z = model.encode(dataset.test_x / np.float32(255), dataset.test_y)
    *_, labels = window.sliders(model, z, figure)
    before = np.array(figure.axes[0].images[0].get_array())
    labels.set_active(7)
    after = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(after, model.decode(np.zeros((1, 2), np.float32), np.array([7]))[0, ..., 0], atol=1e-6)
    assert np.abs(after - before).max() > 0.01


def test_of_very_many_numbers_the_window_shows_those_that_vary_most(monkeypatch):
    monkeypatch.setattr(window, "MOST_SLIDERS", 18)
    model = stirred(small_of(70))
    z = np.random.default_rng(0).standard_normal((20, 70)).astype(np.float32) * np.arange(1, 71, dtype=np.float32)
    figure = Figure()
    FigureCanvasAgg(figure)
    made = window.sliders(model, z, figure)
    assert [slider.label.get_text() for slider in made] == [
        f"$z_{{{i + 1}}}$" for i in sorted(np.argsort(-z.std(axis=0))[:18])]
    assert "18 of 70" in figure.axes[0].get_title(loc="left")
    page = figure.bbox
    assert all(page.x0 <= s.ax.bbox.x0 and s.ax.bbox.x1 <= page.x1 and page.y0 <= s.ax.bbox.y0 for s in made)


def small_of(latent):
    return Autoencoder(Sequential([Flatten(), Dense(12, latent)]), Sequential([Dense(latent, 12), Reshape((2, 2, 3))]))


# -- the command --


def test_the_command_writes_a_page_that_says_what_was_reached(run, tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["explore", str(run), "--html", str(path)]) == 0
    text = path.read_text()
    assert capsys.readouterr().out == (
        f"the explorer is in {path} ({len(text.encode()) / 1e6:.1f} MB): open it in a browser\n")
    told = data_of(text)
    assert told["recipe"] == "bernoulli-vae" and told["dataset"] == "bars" and told["binarized"]
    assert told["figure"] == "ELBO −12.35 nats per image; reconstruction error 0.01234 squared grey levels per pixel"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_figure_of_grey_pixels_is_not_called_an_elbo(run, tmp_path, monkeypatch):
    monkeypatch.setattr(explore.store, "read_json", lambda path, read=store.read_json: (
        {"data": "bars", "test": {"cross_entropy_bound": -70.5}} if path.name == "metrics.json" else read(path)))
    explore.write_run(run, tmp_path / "grey.html")
    assert data_of((tmp_path / "grey.html").read_text())["figure"] == (
        "minus cross-entropy of grey pixels and KL −70.50 nats per image")


@pytest.mark.parametrize("text", ["[]", '{"test": {"mse": null}}', '{"data": "bars", "test": {"mse": "x"}}'])
def test_damaged_figures_are_told_in_a_sentence(text, run, tmp_path, capsys):
    whole = (run / "metrics.json").read_bytes()
    (run / "metrics.json").write_text(text)
    try:
        assert main(["explore", str(run), "--html", str(tmp_path / "page.html")]) == 2
    finally:
        (run / "metrics.json").write_bytes(whole)
    assert "metrics.json does not hold figures of npae: write them anew by `npae eval" in capsys.readouterr().err


def test_a_run_without_figures_of_its_own_is_explored_all_the_same(run, tmp_path):
    (run / "metrics.json").rename(tmp_path / "metrics.json")
    try:
        assert main(["explore", str(run), "--html", str(tmp_path / "page.html")]) == 0
    finally:
        (tmp_path / "metrics.json").rename(run / "metrics.json")
    assert data_of((tmp_path / "page.html").read_text())["figure"] == ""


@pytest.mark.parametrize(("words", "message"), [
    (["--html", "page.png"], "page.png does not end in .html: choose another --html"),
    (["--html", "nowhere/page.html"], "there is no folder"),
    ([], "no window can be opened here (Matplotlib's backend is agg): write a page instead, with `npae explore"),
])
def test_what_cannot_be_explored_is_one_sentence(words, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context():
        matplotlib.use("agg")
        assert main(["explore", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_display_that_matplotlib_does_not_find_is_told_too(run, monkeypatch, capsys):
    def figure(*args):
        raise ImportError("Cannot load backend 'TkAgg' ..., as 'headless' is currently running")

    monkeypatch.setattr("matplotlib.pyplot.figure", figure)
    assert main(["explore", str(run)]) == 2
    assert "no window can be opened here" in capsys.readouterr().err


def test_with_a_display_a_window_is_opened_with_the_sliders_in_it(run, monkeypatch):
    opened = []
    monkeypatch.setattr("matplotlib.pyplot.figure", lambda title: opened.append(Figure()) or opened[-1])
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "QtAgg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: opened.append("shown"))
    assert main(["explore", str(run)]) == 0
    assert opened[1:] == ["shown"] and len(opened[0].axes) == 3  # the picture and two sliders
