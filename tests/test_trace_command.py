"""`npae trace`: of a recipe, of a run, and of a run step by step, to the bits of the training itself."""
import hashlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from trainings import draw_one

from npae import models, recipes, runs, train
from npae.callbacks import Callback
from npae.cli import main
from npae.data.batches import binarizer
from npae.trace import Trace, command, session

TEN_STEPS = ("latent=4", "epochs=2", "batch_size=11")  # of 55 training pictures


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A bernoulli-vae of two epochs of five steps: with noise, labels, a validation and black-and-white pixels."""
    out = tmp_path_factory.mktemp("vae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npae.runs.start.draw", draw_one)
        assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "2", "--out", str(out),
                     "--set", "lr=0.01", "batch_size=11"]) == 0
    return out


def state(folder):
    return {path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


class Losses(Callback):
    """What each step of a fit ends with."""

    def __init__(self):
        self.sums, self.thetas = [], []

    def on_batch_end(self, now):
        self.sums.append(dict(now.sums))
        self.thetas.append(now.model.theta.copy())


def trained(run):
    """The run trained once more, without any trace: the loss of each step, theta after it."""
    model, dataset, config = runs.load(run)
    settings, recipe = config["settings"], recipes.get(config["recipe"])
    fresh = recipe.build(settings, dataset, train.streams(config["seed"]).init)
    seen = Losses()
    train.fit(fresh, dataset, optimizer=recipe.optimizer(settings), epochs=settings["epochs"],
              batch_size=settings["batch_size"], seed=config["seed"], transform=binarizer(settings["binarize"]),
              callbacks=[seen])
    assert fresh.theta.tobytes() == model.theta.tobytes()
    return seen


def test_every_nth_step_of_a_run_is_the_runs_own_to_the_bit(run):
    found, seen = session.of_run(run, every=4), trained(run)
    assert [frame.step for frame in found.frames] == [1, 5, 9]
    for frame in found.frames:
        k = frame.step - 1  # in its epoch of five steps it is the k mod 5th
        before = seen.sums[k - 1]["loss"] if k % 5 else 0.0
        rows = frame.trace.rows[0].input_shape[0]
        assert frame.trace.terms["loss"] == pytest.approx((seen.sums[k]["loss"] - before) / rows, rel=1e-12)
        moved = {p.name: p.update_ratio for row in frame.trace.rows for p in row.params}
        start = seen.thetas[k - 1] if k else None
        if start is not None:
            model = models.load(run / "model.npz")
            lengths = {}
            for theta in (start, seen.thetas[k]):
                model.theta[...] = theta
                lengths[len(lengths)] = {p.name: p.value.astype(np.float64) for p in model.params}
            for name, ratio in moved.items():
                expected = np.linalg.norm(lengths[1][name] - lengths[0][name]) / np.linalg.norm(lengths[0][name])
                assert ratio == pytest.approx(expected, rel=1e-4), name
    assert found.model.theta.tobytes() == models.load(run / "model.npz").theta.tobytes()


def test_the_maps_of_all_frames_are_of_the_same_pictures_with_the_weights_of_the_step(run):
    found = session.of_run(run, every=4)
    first, *others = found.frames
    assert len(first.maps.pictures) == 8 and set(np.unique(first.maps.pictures)) == {0, 1}
    for frame in others:
        assert frame.maps.pictures.tobytes() == first.maps.pictures.tobytes()
        assert (frame.maps.rows[0].y != first.maps.rows[0].y).any()
        assert not np.shares_memory(frame.maps.model.theta, found.model.theta)
    seen = trained(run)
    assert first.maps.model.theta.tobytes() != others[0].maps.model.theta.tobytes()
    assert others[0].maps.model.theta.tobytes() == seen.thetas[others[0].step - 2].tobytes()


def test_a_run_is_traced_where_it_stands_and_stays_as_it_is(run, capsys):
    before = state(run)
    model, _, _ = runs.load(run)
    found = session.of_run(run)
    assert [frame.step for frame in found.frames] == [1] and "its optimizer begun anew" in found.title
    assert found.frames[0].maps.model.theta.tobytes() == model.theta.tobytes()
    assert main(["trace", str(run)]) == main(["trace", str(run), "--every", "3"]) == 0
    assert state(run) == before
    once, series = capsys.readouterr().out.split("trained once more: 4 steps", 1)
    assert "reparameterize" in once and "after its training, its optimizer begun anew: step 1" in once
    assert re.findall(r"^ *(\d+) +[\d.]+", series, re.MULTILINE) == ["1", "4", "7", "10"]


def test_a_recipe_is_built_as_train_builds_it(pictures, run, capsys):
    """The first step of the recipe with the run's settings is the run's first step."""
    words = ["bernoulli-vae", "--data", str(pictures), "--set", "lr=0.01", "batch_size=11"]
    assert main(["trace", *words, "--steps", "0"]) == 0
    said = capsys.readouterr().out
    loss = session.of_run(run, every=100).frames[0].trace.terms["loss"]
    assert f"VAE: loss {loss:.4g}, recon" in said and "bernoulli-vae on bars, seed 0: step 1" in said
    assert main(["trace", *words, "--steps", "3"]) == 0
    assert "seed 0: step 4" in capsys.readouterr().out


def test_a_series_says_the_way_of_the_gradients(pictures, capsys):
    assert main(["trace", "tied-ae", "--data", str(pictures), "--every", "2", "--seed", "1", "--set", "latent=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tied-ae on bars, seed 1: 20 steps; the loss, and the norm of the gradient")
    assert lines[1].split()[:3] == ["step", "loss", "encoder.2"]
    assert [int(line.split()[0]) for line in lines[3:23]] == list(range(1, 40, 2))
    losses = [float(line.split()[1]) for line in lines[3:23]]
    assert losses[-1] < losses[0]


def test_a_series_of_two_steps_has_its_way_and_its_flags_and_its_page_and_one_of_one_step_has_none(
        pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trace, "flags", property(lambda t: ["a (Dense): dead units"]))
    path = tmp_path / "series.html"
    words = ["trace", "tied-ae", "--data", str(pictures), "--html", str(path), "--set", *TEN_STEPS, "--every"]
    assert main([*words, "9"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("tied-ae on bars, seed 0: 2 steps; ")
    head, first, last = out[1], out[3], out[4]
    names, loss = head.split()[2:], first.split()[1]
    assert first.startswith(f"   1  {loss:>{head.index('loss') - 2}}"[:5]) and last.startswith("  10  ")
    assert len(names) == len(first.split()) - 2 == len(last.split()) - 2 and names[-1].startswith("decoder.")
    assert out[5:8] == ["step 1: a (Dense): dead units", "", "tied-ae on bars, seed 0: step 10"]
    size = path.stat().st_size
    assert out[-3:] == ["a (Dense): dead units", "the finite differences on the page agree with backward",
                        f"the page is in {path} ({size / 1e6:.1f} MB): open it in a browser"]
    said = path.read_text("utf-8")
    assert [int(step) for step in re.findall(r'{"step": (\d+)', said)] == [1, 10]
    assert main([*words, "1000"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "tied-ae on bars, seed 0: step 1"
    assert re.findall(r'{"step": (\d+)', path.read_text("utf-8")) == ["1"]


def test_a_series_ends_with_the_last_wanted_step_that_the_training_has(pictures):
    """Ten steps: of every 9th the first and the last one, of every 10th the first alone."""
    given = dict(word.split("=") for word in TEN_STEPS)
    for every, steps in ((9, [1, 10]), (10, [1]), (5, [1, 6])):
        found = session.of_recipe("tied-ae", data=str(pictures), given=given, every=every)
        assert [frame.step for frame in found.frames] == steps
    found = session.of_recipe("tied-ae", data=str(pictures), given=given, steps=9)
    assert [frame.step for frame in found.frames] == [10]
    with pytest.raises(ValueError, match="has 10 steps, and step 11 was to be traced"):
        session.of_recipe("tied-ae", data=str(pictures), given=given, steps=10)


@pytest.mark.parametrize(("n", "labels", "expected"), [
    (30, [0, 0, 0, 1, 1, 2], [0, 3, 5, 1, 2, 4, 6, 7]), (30, [0] * 12 + [1] * 6, [0, 12, 1, 2, 3, 4, 5, 6]),
    (30, None, list(range(8))), (5, None, list(range(5))), (5, [4, 4, 3, 4, 4], [0, 2, 1, 3, 4]),
    (30, list(range(30)), list(range(8)))])
def test_the_pictures_of_the_maps_have_different_labels_as_far_as_there_are_any(n, labels, expected):
    x = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1)
    y = None if labels is None else np.resize(np.array(labels), n)
    dataset, model = SimpleNamespace(test_x=x, test_y=y), SimpleNamespace(theta=np.zeros(1, np.float32), classes=None)
    shown, said = session.some_pictures(dataset, 0, None, model)
    np.testing.assert_allclose(shown, x[expected] / 255, rtol=1e-6)
    assert shown.dtype == np.float32 and said is None
    model.classes = 3
    _, said = session.some_pictures(dataset, 0, None, model)
    assert said is None if y is None else said.tolist() == y[expected].tolist()


def test_the_page_of_one_step_says_which_one_as_the_terminal_does(pictures, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["trace", "bernoulli-vae", "--data", str(pictures), "--steps", "2", "--html", str(page)]) == 0
    title = re.search("<title>(.*)</title>", page.read_text("utf-8"))[1]
    assert title.endswith(": step 3") and title in capsys.readouterr().out.splitlines()
    told = json.loads(re.search('id="data">(.*?)</script>', page.read_text("utf-8"))[1])
    assert told["title"] == title and (told["shown"], told["batch"]) == (8, 32)


def test_a_recipe_that_leaves_the_last_batch_out_does_so_here(pictures):
    rows = {name: [frame.trace.rows[0].input_shape[0] for frame in session.of_recipe(
        name, data=str(pictures), given={"batch_size": "20"}, every=1).frames[:3]] for name in ("conv-ae", "ae")}
    assert rows == {"conv-ae": [20, 20, 20], "ae": [20, 20, 15]}


@pytest.mark.parametrize("name", ["sparse-ae", "mlp-cvae", "iwae"])
def test_lbfgs_labels_and_samples_are_traced_too(name, pictures, capsys):
    more = ["--set", "latent=4", *(["optimizer=lbfgs"] if name == "sparse-ae" else [])]
    assert main(["trace", name, "--data", str(pictures), "--steps", "1", *more]) == 0
    said = capsys.readouterr().out
    assert "step 2" in said and ("float64" in said) == (name == "sparse-ae")


@pytest.mark.parametrize(("words", "sentence"), [
    (["nothing"], "nothing is neither a recipe (`npae list` shows them) nor the folder of a run"),
    (["{run}", "--seed", "1", "--set", "lr=1"], "has its own settings: leave --seed, --set out"),
    (["{run}", "--data", "strokes"], "has its own settings: leave --data out"),
    (["{empty}"], "is no finished run: it should hold config.json"),
    (["ae", "--every", "0"], "--every must be at least 1, got 0"),
    (["ae", "--steps", "-1"], "--steps must be at least 0, got -1"),
    (["ae", "--every", "5", "--steps", "5"], "--every 5 traces from the first step on, and --steps 5 waits"),
    (["ae", "--html", "{empty}/trace.txt"], "does not end in .html: choose another file"),
    (["ae", "--html", "{empty}/nowhere/trace.html"], "there is no folder"),
    (["ae", "--set", "lr"], "--set takes key=value, got 'lr'"),
    (["ae", "--set", "rate=1"], "ae has no setting 'rate'"),
    (["ae", "--data", "{pictures}", "--steps", "1000000"], "the training has 20 steps, and step 1,000,001 was to be"),
    (["ae", "--data", "{pictures}", "--set", "batch_size=100"], "batch_size=100 is more than the 55 training"),
    (["sparse-ae", "--data", "{pictures}", "--set", "optimizer=lbfgs", "lr=1"], "lr=1 does not go with optimizer"),
    (["ae", "--data", "{pictures}", "--set", "patience=2", "validation=0"], "patience=2 waits for a better validation"),
])
def test_what_will_not_do_is_told_in_a_sentence(words, sentence, run, pictures, tmp_path, capsys):
    places = {"run": run, "empty": tmp_path, "pictures": pictures}
    assert main(["trace", *(word.format(**places) for word in words)]) == 2
    out, error = capsys.readouterr()
    assert sentence in error and error.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_ends_in_a_sentence_and_the_model_is_left_alone(pictures, monkeypatch, capsys):
    models_seen = []
    watch = session.Watch.__init__
    monkeypatch.setattr(session.Watch, "__init__",
                        lambda self, model, *more: (models_seen.append(model), watch(self, model, *more))[1])
    with np.errstate(all="ignore"):
        assert main(["trace", "tied-ae", "--data", str(pictures), "--every", "1", "--set", "lr=1e38", "latent=4"]) == 2
    assert re.search(r"the loss is (nan|inf)|not-a-number", capsys.readouterr().err)
    model, = models_seen
    assert not {"loss", "backward"} & set(vars(model)) and "forward" not in vars(model.encoder.layers[2])


def test_a_flag_that_comes_again_stands_once_with_its_steps():
    class Told:
        def __init__(self, *flags):
            self.flags = list(flags)

    frames = [session.Frame(step, Told(*flags), None) for step, flags in
              ((1, ()), (1001, ("a (Dense): dead units", "b (Dense) is frozen")), (2001, ("a (Dense): dead units",)))]
    assert list(command._flags(frames)) == ["2 steps from 1,001 to 2,001: a (Dense): dead units",
                                            "step 1,001: b (Dense) is frozen"]
