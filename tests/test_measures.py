"""What a run is measured by, and how it is laid out: which figures apply to which model, under which names."""

import json

import numpy as np
import pytest

from npae import evaluate, losses, measures, recipes, store, tables
from npae.cli import main
from npae.data import Dataset, strokes
from npae.data.batches import binarize_threshold, binarizer
from npae.kernels import reference
from npae.layers import Dense, Flatten, Reshape, Sequential
from npae.models import VAE, Autoencoder

pytestmark = pytest.mark.usefixtures("own_core")
BERNOULLI = losses.Bernoulli(kernels=reference)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(measures, "PICTURES", 50)
    monkeypatch.setattr(measures, "SAMPLES", 4)
    monkeypatch.setattr(measures, "FULL_SAMPLES", 6)


@pytest.fixture(scope="module")
def digits():
    """Every fourth pixel of generated digits: factors and labels are those of the whole pictures."""
    x, y, _ = strokes.generate(120, 0, stream=1)
    train_x, train_y, _ = strokes.generate(100, 0)
    return Dataset(train_x[:, 2::4, 2::4, None], train_y, x[:, 2::4, 2::4, None], y, "strokes")


def nets(out, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return (Sequential([Flatten(), Dense(49, out, rng=rng, kernels=reference)]),
            Sequential([Dense(d, 49, rng=rng, kernels=reference), Reshape((7, 7, 1))]))


def vae(likelihood=BERNOULLI, **settings):
    return VAE(*nets(6), likelihood=likelihood, **settings)


def plain(likelihood=None):
    return Autoencoder(*nets(3), likelihood=likelihood or losses.SquaredError(kernels=reference))


def rng():
    return np.random.default_rng(4)


def keys(found):
    """Every key, however deep."""
    return {key for k, value in found.items() for key in ({k} | (keys(value) if isinstance(value, dict) else set()))}


def test_a_vae_on_black_and_white_digits_gets_every_figure(digits):
    model = vae()
    found = measures.measure(model, digits, transform=binarize_threshold, rng=rng())
    test, x = found["test"], digits.test_x
    store.check_json(found, "the figures")
    assert {**evaluate.elbo(model, x, rng=rng(), transform=binarize_threshold)}.items() <= test.items()
    assert test["bits_per_pixel"] == pytest.approx(-test["elbo"] / 49 / np.log(2), rel=1e-12)
    assert test["recon_bits_per_pixel"] + test["kl_bits_per_pixel"] == pytest.approx(test["bits_per_pixel"], rel=1e-12)
    black_and_white = [binarize_threshold(part / np.float32(255)) for part in (digits.train_x, x)]
    assert test["mse"] == pytest.approx(evaluate.reconstruction_mse(model, black_and_white[1]), rel=1e-12)
    assert test["mse_pca"] == pytest.approx(evaluate.pca_mse(*black_and_white, 3), rel=1e-9)
    assert test["compression"] == 49 / 3
    mu, logvar = evaluate.code_statistics(model, black_and_white[1])
    assert test["kl_per_dimension"] == evaluate.kl_per_dimension(mu, logvar).tolist()
    assert test["active_units"] == 3 == evaluate.active_units(mu)
    assert (test["log_likelihood"]["pictures"], test["log_likelihood"]["samples"]) == (50, 4)
    pca, codes = evaluate.pca(black_and_white[0]), {"codes": [model.encode(part) for part in black_and_white]}
    codes |= {"pca": [pca.codes(part, 3) for part in black_and_white], "pixels": black_and_white}
    for judge in (evaluate.linear_probe, evaluate.knn):
        for what, (a, b) in codes.items():
            share = test["knn" if judge is evaluate.knn else "probe"][what]
            assert share == judge(a, digits.train_y, b, digits.test_y)
    assert 0 <= test["mig"]["mig"] <= 1 and {"label", "slant", "width"} < set(test["mig"]["factors"])
    assert test["mig"]["factors"]["slant"] == evaluate.mig(
        mu, {"slant": strokes.factors(120, 0, stream=1)[1]["slant"]})["mig"]
    assert set(found["units"]) == set(dict(measures.numbers(test)))
    assert keys(test) - keys(test["mig"]) <= {key for path in measures.FIGURES for key in path.split(".")} | {"mig"}
    assert found["notes"] == ["probe and nearest neighbours learn from the first 100 training pictures"]


def test_the_cheap_figures_are_the_first_of_them_and_the_same(digits):
    few = measures.cheap(vae(), digits, transform=binarize_threshold, rng=rng())["test"]
    assert set(few) == {"elbo", "recon", "kl", "mse", "compression", "bits_per_pixel", "recon_bits_per_pixel",
                        "kl_bits_per_pixel"}
    assert few.items() <= measures.measure(vae(), digits, transform=binarize_threshold, rng=rng())["test"].items()


def test_full_is_all_pictures_with_more_samples(digits):
    found = measures.measure(vae(), digits, transform=binarize_threshold, rng=rng(), full=True)["test"]
    assert (found["log_likelihood"]["pictures"], found["log_likelihood"]["samples"]) == (120, 6)


def test_grey_pixels_carry_the_note_of_their_floor_and_no_name_of_a_likelihood(digits):
    found = measures.measure(vae(), digits, transform=None, rng=rng())
    assert not {"elbo", "log_likelihood", "bits_per_pixel"} & (keys(found["test"]) | set(found["units"]))
    floor = evaluate.grey_floor(digits.test_x)
    assert found["test"]["floor"] == floor > 1
    assert f"its floor is {floor:.2f} nats" in found["notes"][0]
    sampled = found["test"]["cross_entropy_estimate"]
    assert sampled["cross_entropy_bound"] < sampled["cross_entropy_estimate"] < -floor
    assert "ELBO" not in tables.report({**found, "recipe": "r", "data": "d", "epochs": 1, "seed": 0})


def test_squared_error_has_no_elbo_and_a_density_is_noted(digits):
    squares = measures.measure(vae(losses.SquaredError(kernels=reference)), digits, transform=None, rng=rng())
    assert not {"elbo", "log_likelihood", "bits_per_pixel", "cross_entropy_bound"} & keys(squares["test"])
    assert squares["units"]["recon"] == "squared grey level per image" and squares["units"]["kl"] == "nats per image"
    assert "is no ELBO" in squares["notes"][0] and squares["test"]["active_units"] >= 0
    density = measures.cheap(vae(losses.Gaussian(0.5, kernels=reference)), digits, transform=None, rng=rng())
    assert "elbo" in density["test"] and "density" in density["notes"][0]


def test_beta_and_penalties_stay_out_of_the_figures(digits):
    one, four = (measures.cheap(vae(beta=beta), digits, transform=binarize_threshold, rng=rng()) for beta in (1.0, 4.0))
    assert one == four

    class Decayed(Autoencoder):
        """A loss with a penalty in it."""

        def loss(self, x, y=None, rng=None):
            terms = super().loss(x)
            return {"loss": terms["loss"] + 100, "recon": terms["recon"], "decay": 100.0}

    model = Decayed(*nets(3), likelihood=BERNOULLI)
    found = measures.cheap(model, digits, transform=binarize_threshold, rng=rng())
    assert set(found["test"]) == {"recon", "mse", "compression"}
    x = binarize_threshold(digits.test_x / np.float32(255))
    assert found["test"]["recon"] == pytest.approx(model.loss(x)["recon"], rel=1e-6)
    assert found["units"]["recon"] == "nats per image"


def test_a_plain_autoencoder_has_errors_and_codes_alone(digits):
    assert set(measures.cheap(plain(), digits, transform=None, rng=rng())["test"]) == {"mse", "compression"}
    assert set(measures.measure(plain(), digits, transform=None, rng=rng())["test"]) == {
        "mse", "mse_pca", "compression", "probe", "knn", "mig"}


def test_a_denoising_model_is_also_measured_from_noisy_pictures(digits):
    class Denoising(Autoencoder):
        """Noise that is known."""

        def corrupt(self, x, rng):
            return x + np.float32(0.5)

    model = Denoising(*nets(3))
    found = measures.measure(model, digits, transform=None, rng=rng())["test"]
    x = digits.test_x / np.float32(255)
    assert found["mse_noisy"] == pytest.approx(0.25, rel=1e-6)
    after = np.square(x - model.reconstruct(x + np.float32(0.5))).mean()
    assert found["mse_from_noisy"] == pytest.approx(after, rel=1e-5)
    assert found["mse"] == pytest.approx(np.square(x - model.reconstruct(x)).mean(), rel=1e-5)


def test_a_conditional_model_is_told_the_labels_and_others_are_not(digits):
    known = {}
    for x, y in ((digits.train_x, digits.train_y), (digits.test_x, digits.test_y)):
        for picture, label in zip(binarize_threshold(x / np.float32(255)), y, strict=True):
            known.setdefault(picture.tobytes(), set()).add(label)

    class Told(VAE):
        """Wants labels everywhere, each with its own picture."""

        classes, seen = 10, 0

        def _encoder_input(self, x, y):
            assert all(label in known[picture.tobytes()] for picture, label in zip(x, y, strict=True))
            self.seen += len(y)
            return x

        def _decoder_input(self, z, y):
            return z + (0 * y[:, None]).astype(z.dtype)

    model = Told(*nets(6), likelihood=BERNOULLI)
    found = measures.measure(model, digits, transform=binarize_threshold, rng=rng())
    assert model.seen > 120 and any("given the label" in note for note in found["notes"])

    class Blind(VAE):
        """Is not asked about labels."""

        def _encoder_input(self, x, y):
            assert y is None
            return x

    blind = Blind(*nets(6), likelihood=BERNOULLI)
    blind = measures.measure(blind, digits, transform=binarize_threshold, rng=rng())
    assert blind["test"]["elbo"] == pytest.approx(found["test"]["elbo"], rel=1e-6)


def test_other_data_have_other_figures(digits, monkeypatch):
    x, y = digits.test_x, digits.test_y
    bare = measures.measure(plain(), Dataset(digits.train_x, None, x, None, "mine"), transform=None, rng=rng())
    assert set(bare["test"]) == {"mse", "mse_pca", "compression"} and "have no labels" in bare["notes"][0]
    for other in (Dataset(digits.train_x, digits.train_y, x, y, "mine"),
                  Dataset(digits.train_x, digits.train_y, x[::-1], y[::-1], "strokes")):
        assert "mig" not in measures.measure(plain(), other, transform=None, rng=rng())["test"]
    monkeypatch.setattr(measures, "PIXELS", 48)
    large = measures.measure(plain(), digits, transform=None, rng=rng())
    assert set(large["test"]["probe"]) == {"codes"} and "mse_pca" not in large["test"]
    assert "49 pixels, more than 48" in large["notes"][0]
    monkeypatch.setattr(measures, "TRAIN", 10)
    assert "first 10 training" in measures.measure(plain(), digits, transform=None, rng=rng())["notes"][-1]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_can_be_measured(name, digits):
    """Pictures of 8 x 8 in place of 7 x 7, because some nets halve them twice; codes longer than the picture."""
    settings, _ = recipes.get(name).resolve({"latent": "70"})
    small = Dataset(np.pad(digits.train_x, ((0, 0), (0, 1), (0, 1), (0, 0))), digits.train_y.astype(np.int64),
                    np.pad(digits.test_x, ((0, 0), (0, 1), (0, 1), (0, 0))), digits.test_y.astype(np.int64), "strokes")
    model = recipes.get(name).build(settings, small, rng())
    found = measures.measure(model, small, transform=binarizer(settings["binarize"]), rng=rng())
    store.check_json(found, name)
    assert {"mse", "mse_pca", "compression", "probe", "knn", "mig"} <= set(found["test"])
    assert ("kl" in found["test"]) == hasattr(model, "sample") == ("active_units" in found["test"])
    assert ("mse_noisy" in found["test"]) == hasattr(model, "corrupt")
    grey = isinstance(model.likelihood, losses.Bernoulli) and settings["binarize"] == "none"
    assert ("floor" in found["test"]) == grey and not (grey and "elbo" in keys(found["test"]))


def test_figures_that_are_not_finite_are_refused(digits):
    model = vae()
    model.theta[:] = np.nan
    with pytest.raises(ValueError, match="the training has diverged"):
        measures.cheap(model, digits, transform=binarize_threshold, rng=rng())


def run(mse, data="mnist", **more):
    return {"recipe": "conv-ae", "data": data, "epochs": 3, "seed": 1, "binarize": "none", "likelihood": "L()",
            "test": {"mse": mse, **more}}


def test_a_report_says_every_unit_and_note():
    metrics = run(0.5, elbo=-99.125, active_units=2, kl_per_dimension=[0.5] * 12,
                  mig={"mig": 0.25, "factors": {"slant": 0.5}})
    metrics["notes"], metrics["units"] = ["mind the gap"], {"elbo": "bananas"}
    head, *lines = tables.report(metrics).splitlines()
    assert head == "conv-ae on mnist, 3 epochs, seed 1: figures of the test pictures"
    text = " ".join(" ".join(lines).split())
    assert "squared error 0.50000 squared grey level per pixel" in text
    assert "ELBO -99.12 bananas" in text and "active units 2 numbers of the code" in text
    assert "slant 0.50" in text
    assert "KL of each number of the code, nats per image: 0.50 0.50" in text and "0.50 and 2 more" in text
    assert lines[-1] == "note: mind the gap"


def row(table, label):
    return next(line for line in table.splitlines() if label in line)


def test_the_best_of_each_row_is_marked_where_one_way_is_better():
    table = tables.side_by_side(["a", "b", "c"], [run(0.5, elbo=-90.0, compression=10.0), run(0.25, elbo=-95.0),
                                                  run(0.75, compression=20.0)])
    assert row(table, "squared error").split()[-3:] == ["0.50000", "0.25000*", "0.75000"]
    assert row(table, "ELBO").split()[-3:] == ["-90.00*", "-95.00", "–"]
    assert row(table, "compression").split()[-3:] == ["10.0", "–", "20.0"]
    assert table.splitlines()[0].split() == ["a", "b", "c"] and table.endswith("* the best of its row")
    twins = tables.side_by_side(["a", "b"], [run(0.5), run(0.5 + 1e-9)])
    assert "*" not in twins
    lines = tables.side_by_side(["a", "b"], [run(0.5), run(10.25)]).splitlines()
    assert lines[1].endswith("0.50000*  10.25000") and len(lines[0]) == len(lines[1])  # a star moves no column


def test_what_does_not_compare_is_not_marked():
    for other in ({"data": "strokes"}, {"binarize": "threshold"}, {"test_sha256": "0f"}, {"conditional": True}):
        assert "*" not in tables.side_by_side(["a", "b"], [run(0.5), {**run(0.25), **other}])
    noisy = [{**run(0.5, mse_from_noisy=0.6), "noise": ["masking", 0.3]},
             {**run(0.4, mse_from_noisy=0.5), "noise": ["gaussian", 0.3]}]
    table = tables.side_by_side(["a", "b"], noisy)
    assert "0.40000*" in table and "0.50000*" not in table
    two = [run(0.5, elbo=-90.0), {**run(0.25, elbo=-80.0), "likelihood": "Gaussian(variance=0.5)"}]
    table = tables.side_by_side(["a", "b"], two)
    assert "*" in row(table, "squared error") and "*" not in row(table, "ELBO")
    sampled = [run(0.5, log_likelihood={"log_likelihood": -90.0 - k, "pictures": 1000, "samples": k}) for k in (5, 9)]
    assert "*" not in row(tables.side_by_side(["a", "b"], sampled), "log-likelihood")
    sampled[1]["test"]["log_likelihood"]["samples"] = 5
    assert "*" in row(tables.side_by_side(["a", "b"], sampled), "log-likelihood")


def test_markdown_is_a_table_with_the_best_in_bold():
    lines = tables.side_by_side(["a|b", "c"], [run(0.5), run(0.25)], markdown=True).splitlines()
    assert lines == ["|  | a\\|b | c |", "|---|---:|---:|",
                     "| squared error, squared grey level per pixel | 0.50000 | **0.25000** |"]


def test_compare_reads_the_figures_of_run_folders(tmp_path, capsys):
    for name, mse in (("one", 0.5), ("two", 0.25)):
        (tmp_path / name).mkdir()
        store.write_json(tmp_path / name / "metrics.json", run(mse))
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["one", "two"] and "0.25000*" in printed
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--markdown"]) == 0
    assert "| **0.25000** |" in capsys.readouterr().out
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "two").mkdir()
    store.write_json(tmp_path / "x" / "two" / "metrics.json", run(0.1))
    assert main(["compare", str(tmp_path / "two"), str(tmp_path / "x" / "two")]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [str(tmp_path / "two"), str(tmp_path / "x" / "two")]


@pytest.mark.parametrize("text", ["[]", "{}", '{"data": "d", "test": [1]}', '{"data": "d", "test": {"mse": "low"}}',
                                  '{"data": "d", "test": {"kl_per_dimension": ["a"]}}', "{",
                                  '{"data": "d", "test": {}}', '{"data": "d", "test": {"active_units": 1.5}}'])
def test_compare_refuses_what_are_no_figures_in_a_sentence(text, tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 2
    assert "has no metrics.json" in capsys.readouterr().err
    (tmp_path / "metrics.json").write_text(text)
    assert main(["compare", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "metrics.json" in error


def test_every_figure_can_be_printed():
    values = {"d": 3, ",d": 3}
    test = {}
    for path, figure in measures.FIGURES.items():
        place = test
        *groups, last = path.split(".")
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = [0.5, 1.5] if path == "kl_per_dimension" else values.get(figure.digits, 0.5)
    metrics = json.loads(json.dumps(run(0.5) | {"test": test}))
    assert len(tables.report(metrics).splitlines()) == 1 + len(measures.FIGURES)
    assert len(tables.side_by_side(["a", "b"], [metrics, metrics]).splitlines()) == len(measures.FIGURES)  # no lists
