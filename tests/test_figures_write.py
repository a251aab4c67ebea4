"""Every figure that a trained model can have: which ones, and of which codes, labels and pictures."""
import numpy as np
import pytest
from PIL import Image
from test_figures import GREY, ROWS

from npae import data, figures, losses, models, runs
from npae.data.batches import binarize_threshold
from npae.figures.write import one_of_each
from npae.layers import Dense, Flatten, Reshape, Sequential

LABELS = np.arange(20) % 10


class Model:
    """As much of an autoencoder as the figures look at; codes are the first `latent` pixels."""

    classes = None
    theta = np.zeros(1, np.float32)
    encoder = Sequential([Flatten()])

    def __init__(self, latent):
        self.latent = latent

    def encode(self, x, y=None):
        return x.reshape(len(x), -1)[:, : self.latent]

    def decode(self, z, y=None):
        return np.broadcast_to(z[:, :1, None, None], (len(z), 6, 5, 1)).clip(0, 1)

    def reconstruct(self, x, y=None):
        return self.decode(self.encode(x, y), y)

    interpolate = models.Model.interpolate


class Variational(Model):
    """The same with a prior."""

    def encode_stats(self, x, y=None):
        return self.encode(x, y), np.zeros((len(x), self.latent), np.float32)

    def sample(self, n, *, rng, y=None):
        return self.decode(rng.standard_normal((n, self.latent), dtype=np.float32))


class Conditional(Variational):
    """A model that must be told the labels, and paints them: the label k in every pixel, as k / 10."""

    classes = 10

    def encode(self, x, y=None):
        assert len(y) == len(x)
        return super().encode(x)

    def decode(self, z, y=None):
        assert len(y) == len(z)
        return np.full((len(z), 6, 5, 1), 0.1) * np.asarray(y).reshape(-1, 1, 1, 1)


class Denoising(Model):
    """With a noise of its own."""

    def corrupt(self, x, rng):
        return x + rng.random(x.shape, dtype=np.float32)


def linear(out, kind=models.Autoencoder, rng=np.random.default_rng(3), **more):  # noqa: B008
    """A linear model of GREY's pictures."""
    code = out // 2 if kind is models.VAE else out
    return kind(Sequential([Flatten(), Dense(30, out, rng=rng)]),
                Sequential([Dense(code, 30, rng=rng), Reshape((6, 5, 1))]), **more)


def write(model, folder, y=LABELS, history=ROWS, x=GREY, **more):
    return figures.write_all(model, x, y, history, folder, unit="nats per image", rng=np.random.default_rng(0), **more)


@pytest.fixture
def drawn(monkeypatch):
    """What each figure is drawn from: name -> (arguments, keywords). Nothing is written."""
    seen = {}
    for name in ("reconstructions", "learning_curves", "samples", "class_sheet", "triples", "filters", "latent_scatter",
                 "manifold", "traversals", "interpolations", "jacobian_spectrum"):
        monkeypatch.setattr(figures.write, name, lambda *args, figure=name, **more: seen.update({figure: (args, more)}))
    monkeypatch.setattr(figures.write, "save", lambda figure, path: path)
    return seen


def test_every_figure_of_a_variational_model_is_written(tmp_path):
    paths = write(Variational(2), tmp_path / "run" / "figures", x=(255 * GREY).astype(np.uint8),
                  transform=binarize_threshold)
    assert paths == [tmp_path / "run" / "figures" / f"{name}.png" for name in
                     ("reconstructions", "learning_curves", "samples", "latent", "manifold", "traversals",
                      "interpolations")]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.width > 600


@pytest.mark.parametrize(("model", "names"), [
    (Model(None), []),
    (Model(65), []),
    (Model(64), ["traversals", "interpolations"]),
    (Model(2), ["latent_scatter", "manifold", "traversals", "interpolations"]),
    (Variational(30), ["samples", "traversals", "interpolations"]),
    (Conditional(3), ["class_sheet", "traversals", "interpolations"]),
    (Denoising(65), ["triples"]),
    (linear(100), ["filters"]),
], ids=["no code", "a large code", "a small code", "a plane", "vae", "conditional", "denoising", "dense"])
def test_a_model_gets_the_figures_that_belong_to_it(model, names, tmp_path, drawn):
    if model.latent == 65:
        model.reconstruct = lambda x, y=None: x
    if model.latent is None:
        model.reconstruct = lambda x, y=None: x
    paths = write(model, tmp_path)
    assert list(drawn) == ["reconstructions", "learning_curves", *names] and len(paths) == len(drawn)


def test_figures_without_history_labels_or_a_known_code(tmp_path):
    model = Model(None)
    model.reconstruct = lambda x, y=None: x
    assert [path.name for path in write(model, tmp_path, None, [], GREY[:3])] == ["reconstructions.png"]


def test_one_picture_has_nothing_to_lead_to(tmp_path, drawn):
    write(Model(3), tmp_path, None, [], GREY[:1])
    assert list(drawn) == ["reconstructions", "traversals"]


def test_what_is_drawn_are_the_pictures_as_the_model_is_trained_on_them(tmp_path, drawn):
    model = Variational(2)
    write(model, tmp_path, None, [], transform=binarize_threshold)
    assert set(np.unique(drawn["reconstructions"][0][0])) == {0, 1}
    assert set(np.unique(drawn["latent_scatter"][0][0])) == {0, 1}
    np.testing.assert_array_equal(drawn["samples"][0][0], model.sample(64, rng=np.random.default_rng(0)))


def test_the_window_of_the_plane_is_the_manifolds_span(tmp_path, drawn):
    write(Variational(2), tmp_path)
    assert drawn["manifold"][0][1] == "gaussian"
    np.testing.assert_allclose(drawn["latent_scatter"][1]["window"], [[-1.6448536, 1.6448536]] * 2)
    write(Model(2), tmp_path)
    expected = np.quantile(GREY.reshape(20, -1)[:, :2].astype(np.float64), (0.01, 0.99), axis=0).T
    np.testing.assert_allclose(drawn["manifold"][0][1], expected)
    np.testing.assert_allclose(drawn["latent_scatter"][1]["window"], expected)


def test_a_class_sheet_has_one_z_a_row_and_raw_pictures_of_each_class_beside(tmp_path, drawn):
    codes = []

    class Painter(Conditional):
        def decode(self, z, y=None):
            codes.append(z)
            return super().decode(z, y)

    plain = np.zeros((20, 6, 5, 1))
    x = LABELS.reshape(20, 1, 1, 1) * np.full((1, 6, 5, 1), 10, np.uint8)
    write(Painter(3), tmp_path, history=[], x=x.astype(np.uint8), beside={"plain VAE": plain})
    (painted, K), more = drawn["class_sheet"]
    assert K == 10 and painted.shape == (100, 6, 5, 1)
    np.testing.assert_allclose(painted[:, 0, 0, 0], np.tile(np.arange(10) / 10, 10))
    z = next(z for z in codes if len(z) == 100).reshape(10, 10, 3)
    assert (z == z[:, :1]).all() and len(np.unique(z[:, 0, 0])) == 10
    np.testing.assert_allclose(more["beside"]["test pictures"][:, 0, 0, 0], np.tile(np.arange(10), 10) * 10 / 255)
    assert more["unsorted"]["plain VAE"] is plain


def test_a_class_without_test_pictures_has_no_raw_column(tmp_path, drawn):
    write(Conditional(3), tmp_path, LABELS % 9, [])
    assert drawn["class_sheet"][1]["beside"] == {}
    with pytest.raises(ValueError, match="Conditional takes labels 0 to 9, and the test pictures have none"):
        write(Conditional(3), tmp_path, None, [])


def test_a_conditional_plane_is_painted_for_one_label_and_says_so(tmp_path, drawn):
    write(Conditional(2), tmp_path, LABELS, [])
    decode = drawn["manifold"][0][0]
    assert (decode(np.zeros((4, 2))) == 0).all() and "for the label 0" in drawn["manifold"][1]["title"]


@pytest.mark.parametrize("kind", [Variational, Conditional])
def test_the_plane_of_a_model_in_double_precision_is_painted_by_codes_of_its_own(kind, tmp_path, drawn):
    model, seen = kind(2), []
    model.theta = np.zeros(1)
    write(model, tmp_path)
    model.decode = lambda z, y=None: seen.append(z.dtype)
    drawn["manifold"][0][0](np.zeros((4, 2), np.float32))
    assert seen == [np.float64]


def test_denoised_are_the_noisy_pictures_reconstructed(tmp_path, drawn):
    model = Denoising(2)
    write(model, tmp_path, LABELS, [])
    x, noisy, x_hat = drawn["triples"][0]
    np.testing.assert_array_equal(x, GREY[:10])
    assert (noisy >= x).all() and (noisy > x).any()
    np.testing.assert_array_equal(x_hat, model.reconstruct(noisy))


def test_a_vaes_rows_are_ordered_by_kl_within_three_deviations(tmp_path, drawn):
    model = linear(8, models.VAE)
    mu, logvar = model.encode_stats(GREY)
    kl = 0.5 * (mu.astype(float) ** 2 + np.exp(logvar.astype(float)) - 1 - logvar).mean(axis=0)
    write(model, tmp_path, LABELS, [])
    (_, z, spans), more = drawn["traversals"]
    assert more["dims"] == list(np.argsort(-kl)) and (spans == [-3, 3]).all()
    np.testing.assert_array_equal(z, mu[5])
    assert [float(name.split()[1]) for name in more["names"]] == [float(f"{value:.2f}") for value in kl]


def test_a_plain_codes_rows_are_ordered_by_deviation_within_their_own_range(tmp_path, drawn):
    model = linear(12)
    h = model.encode(GREY).astype(np.float64)
    write(model, tmp_path, LABELS, [])
    (_, _, spans), more = drawn["traversals"]
    assert more["dims"] == list(np.argsort(-h.std(axis=0)))[:10]
    np.testing.assert_allclose(spans, np.quantile(h, (0.01, 0.99), axis=0).T, rtol=1e-6)


def test_interpolations_pair_the_shown_pictures_with_their_labels(tmp_path, drawn):
    write(Conditional(3), tmp_path, LABELS, [])
    (a, b, between), more = drawn["interpolations"]
    assert more["note"].endswith("the label changes in the middle")
    np.testing.assert_array_equal(a, GREY[0:10:2])
    np.testing.assert_array_equal(b, GREY[1:10:2])
    assert between.shape == (5, 11, 6, 5, 1)
    np.testing.assert_allclose(between[3, [0, -1], 0, 0, 0], [0.6, 0.7])


def test_the_singular_values_of_a_linear_code_are_those_of_its_weights(tmp_path, drawn):
    model = linear(7, models.ContractiveAutoencoder, likelihood=losses.SquaredError())
    model.loss(GREY)
    model.backward()
    grad = model.grad.copy()
    write(model, tmp_path, LABELS, [])
    [values] = drawn["jacobian_spectrum"][0]
    expected = np.linalg.svd(model.encoder.layers[1].W.value, compute_uv=False)
    np.testing.assert_allclose(values, np.tile(expected, (20, 1)), rtol=1e-4)
    np.testing.assert_array_equal(model.grad, grad)


def test_iterations_are_called_so(tmp_path, drawn):
    write(Model(2), tmp_path, per="iteration")
    assert drawn["learning_curves"] == ((ROWS, "nats per image"), {"per": "iteration"})


@pytest.mark.parametrize(("optimizer", "per"), [("lbfgs", "iteration"), ("adam", "epoch")])
def test_a_row_of_a_runs_history_is_called_by_its_optimizer(optimizer, per, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(figures, "write_all", lambda *args, **more: seen.update(more))
    x = (255 * GREY).astype(np.uint8)
    config = {"seed": 0, "settings": {"optimizer": optimizer, "binarize": "none"}}
    runs.draw(linear(3), data.Dataset(x, None, x, None, "grey"), ROWS, config, tmp_path)
    assert seen["per"] == per


def test_the_shown_reconstructions_are_one_of_each_class():
    labels = np.array([3, 3, 1, 0, 2, 4, 5, 6, 9, 9, 8, 7, 0])
    assert list(labels[one_of_each(labels, 13)]) == list(range(10))
    assert list(one_of_each(labels[:5], 5)) == [0, 1, 2, 3, 4]
    assert list(one_of_each(None, 30)) == list(range(10))
