"""The door: the commands from end to end on small pictures, and one sentence with status 2 for whatever is wrong."""
import hashlib
import importlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from npae import data, evaluate, figures, measures, models, penalties, recipes, runs, store, train
from npae.callbacks import History
from npae.cli import main
from npae.data.batches import binarize_threshold
from npae.lab import gradients


@pytest.fixture(scope="module")
def vae_run(pictures, tmp_path_factory):
    """A trained bernoulli-vae."""
    out = tmp_path_factory.mktemp("vae")
    assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "2", "--out", str(out),
                 "--set", "lr=0.001", "batch_size=16"]) == 0
    return out


def test_a_vae_run_leaves_all_its_files(vae_run, pictures):
    metrics = json.loads((vae_run / "metrics.json").read_text())
    assert {key: metrics[key] for key in ("recipe", "data", "epochs", "seed")} == {
        "recipe": "bernoulli-vae", "data": "bars", "epochs": 2, "seed": 0}
    with np.load(pictures) as file:
        assert metrics["test_sha256"] == hashlib.sha256(file["x_test"].tobytes()).hexdigest()[:16]
    assert (metrics["noise"], metrics["conditional"]) == ([None, None], False)
    test = metrics["test"]
    assert test["elbo"] == pytest.approx(-(test["recon"] + test["kl"]))
    assert test["elbo"] < 0 < test["kl"]
    assert 0 < test["mse"] < 1
    config = json.loads((vae_run / "config.json").read_text())
    assert config["settings"]["lr"] == 0.001
    assert config["settings"]["validation"] == 5
    rows = (vae_run / "history.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("epoch,loss,recon,kl,val_loss")
    figures = {path.name for path in (vae_run / "figures").iterdir()}
    assert figures == {f"{name}.png" for name in ("reconstructions", "learning_curves", "samples", "filters", "latent",
                                                  "manifold", "traversals", "interpolations")}
    with Image.open(vae_run / "training.gif") as gif:
        assert gif.n_frames == 3  # epoch 0 included


def test_a_conditional_run_is_drawn_with_a_plain_one_beside_it(pictures, vae_run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "told"
    assert main(["train", "mlp-cvae", "--data", str(pictures), "--epochs", "1", "--out", str(out), "--set", "latent=2",
                 "batch_size=20"]) == 0
    assert json.loads((out / "metrics.json").read_text())["conditional"] is True
    names = {path.name for path in (out / "figures").iterdir()}
    assert names == {f"{name}.png" for name in ("reconstructions", "learning_curves", "class_sheet", "filters",
                                                "latent", "manifold", "traversals", "interpolations")}
    laid = []
    monkeypatch.setattr(figures, "write_all", lambda *args, beside=None, **more: laid.append(beside) or [])
    assert main(["figures", str(out)]) == main(["figures", str(out), "--beside", str(vae_run)]) == 0
    (name, x), = laid[1].items()
    assert laid[0] is None and name == "bernoulli-vae, which cannot be asked" and x.shape == (100, 8, 8, 1)
    capsys.readouterr()
    assert main(["figures", str(vae_run), "--beside", str(out)]) == 2
    assert "not mlp-cvae's beside bernoulli-vae's: leave --beside out" in capsys.readouterr().err
    assert main(["figures", str(out), "--beside", str(out)]) == 2


def test_the_last_sentence_says_what_was_learned_in_which_units_and_where(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "conv-ae", "--data", str(pictures), "--epochs", "1", "--out", str(out), "--seed", "3",
                 "--set", "latent=2", "batch_size=16"]) == 0
    printed = capsys.readouterr()
    last = printed.out.splitlines()[-1]
    assert "conv-ae learned to squeeze bars through 2 numbers (1 epoch in" in last
    assert "squared grey levels per pixel" in last
    assert str(out / "figures") in last
    assert "learning rate is 0.001" in printed.out
    assert "epoch 1/1: loss" in printed.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["test"]) == {"mse", "compression"}
    assert f"{metrics['test']['mse']:.5f} squared grey levels per pixel ({metrics['test']['mse'] * 64:.2f} per" in last
    assert not (out / "training.gif").exists()
    assert (out / "figures" / "manifold.png").exists()


def test_the_sentence_of_a_vae_names_each_part_by_its_figure(pictures, tmp_path, capsys):
    assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "batch_size=30"]) == 0
    test = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert (f"the ELBO is {test['elbo']:.2f} nats per image ({test['recon']:.2f} to describe the pixels, "
            f"{test['kl']:.2f} for the code)") in capsys.readouterr().out.splitlines()[-1]


def test_the_figures_are_those_of_the_test_pictures(vae_run, pictures):
    metrics = json.loads((vae_run / "metrics.json").read_text())["test"]
    model = models.load(vae_run / "model.npz")
    x = (np.load(pictures)["x_test"][..., None] > 127).astype(np.float32)
    assert metrics["mse"] == pytest.approx(np.square(model.reconstruct(x) - x).mean(), rel=1e-6)
    terms = model.loss(x, rng=np.random.default_rng(0))  # another noise, so about
    assert metrics["recon"] == pytest.approx(terms["recon"], rel=0.1)
    assert abs(metrics["kl"]) + abs(terms["kl"]) < 1


@pytest.mark.parametrize(("recipe", "drop_last", "binarized", "hooks"), [
    ("conv-ae", True, False, {"ProgressBar", "ModelCheckpoint", "EarlyStopping", "Checkpoint"}),
    ("bernoulli-vae", False, True, {"ProgressBar", "Animation", "Checkpoint"})])
def test_a_recipe_is_trained_as_it_says(recipe, drop_last, binarized, hooks, pictures, tmp_path, monkeypatch):
    told = {}

    def fit(model, data, **settings):
        told.update(settings)
        return History()

    monkeypatch.setattr(train, "fit", fit)
    assert main(["train", recipe, "--data", str(pictures), "--out", str(tmp_path / "run"), "--seed", "3",
                 "--set", "batch_size=16"]) == 0
    assert told["drop_last"] == drop_last and told["seed"] == 3 and told["batch_size"] == 16
    assert (told["transform"] is binarize_threshold) == binarized
    assert {type(hook).__name__ for hook in told["callbacks"]} == hooks


def test_eval_measures_the_same_figures_again_and_all_others(vae_run, capsys, monkeypatch):
    monkeypatch.setattr(measures, "SAMPLES", 5)
    cheap = json.loads((vae_run / "metrics.json").read_text())
    assert main(["eval", str(vae_run), "--json"]) == 0
    before = (vae_run / "metrics.json").read_bytes()
    whole = json.loads(capsys.readouterr().out)
    assert whole == json.loads(before)
    assert cheap["test"].items() < whole["test"].items()
    assert whole["test"]["log_likelihood"]["samples"] == 5 and whole["binarize"] == "threshold"
    assert {**whole, "test": {}, "units": {}, "notes": []} == {**cheap, "test": {}, "units": {}, "notes": []}
    assert main(["eval", str(vae_run)]) == 0
    table = capsys.readouterr().out
    assert (vae_run / "metrics.json").read_bytes() == before
    assert f"{whole['test']['elbo']:.2f}  nats per image" in table and "linear probe on codes" in table
    monkeypatch.setattr(measures, "FULL_SAMPLES", 7)
    assert main(["eval", str(vae_run), "--full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["log_likelihood"]["samples"] == 7


def test_figures_draws_the_same_pictures_again(vae_run, capsys):
    before = {path.name: path.read_bytes() for path in (vae_run / "figures").iterdir()}
    for path in (vae_run / "figures").iterdir():
        path.unlink()
    assert main(["figures", str(vae_run)]) == 0
    assert {path.name: path.read_bytes() for path in (vae_run / "figures").iterdir()} == before
    assert str(vae_run / "figures" / "samples.png") in capsys.readouterr().out


def test_the_saved_model_is_a_model(vae_run):
    model = models.load(vae_run / "model.npz")
    assert model.sample(3, rng=np.random.default_rng(0)).shape == (3, 8, 8, 1)


def test_equal_seeds_give_equal_models_and_other_seeds_do_not(pictures, tmp_path):
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--seed", seed,
                     "--out", str(tmp_path / out)]) == 0
    a, b, c = (models.load(tmp_path / out / "model.npz").theta for out in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_colour_pictures_of_another_size_train_too(tmp_path):
    path = tmp_path / "colour.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (36, 12, 8, 3), np.uint8))
    assert main(["train", "conv-ae", "--data", str(path), "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "batch_size=8"]) == 0
    assert models.load(tmp_path / "run" / "model.npz").reconstruct(np.zeros((1, 12, 8, 3), np.float32)).shape == (
        1, 12, 8, 3)


@pytest.mark.parametrize(("recipe", "settings"), [
    ("mlp-cvae", ["batch_size=20"]), ("sparse-ae", ["optimizer=lbfgs", "latent=2"])])
def test_few_pictures_train_too(recipe, settings, pictures, tmp_path, capsys):
    """Fewer test pictures than the animation shows; all training pictures for L-BFGS, and its plane in float64."""
    with np.load(pictures) as file:
        np.savez(tmp_path / "few.npz", **{**file, "x_test": file["x_test"][:10], "y_test": file["y_test"][:10]})
    assert main(["train", recipe, "--data", str(tmp_path / "few.npz"), "--epochs", "2", "--out", str(tmp_path / "run"),
                 "--set", *settings]) == 0, capsys.readouterr().err
    assert ((tmp_path / "run" / "training.gif") if recipe == "mlp-cvae" else
            (tmp_path / "run" / "figures" / "manifold.png")).exists()


def test_pictures_that_cannot_be_drawn_are_refused_before_the_training(tmp_path, capsys):
    np.save(tmp_path / "rgba.npy", np.zeros((36, 8, 8, 4), np.uint8))
    assert main(["train", "conv-ae", "--data", str(tmp_path / "rgba.npy"), "--out", str(tmp_path / "run")]) == 2
    assert "the pictures of rgba have 4 channels, and a run draws grey (1) or colour (3)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_is_read_from_any_folder(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(pictures.parent)
    assert main(["train", "conv-ae", "--data", pictures.name, "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "batch_size=16"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "run"]) == 0


@pytest.mark.parametrize(("key", "value", "words"), [
    (None, 5, "has no proper recipe, data, data_dir, seed, settings: it is not a config of npae"),
    ("data", 5, "has no proper data"),
    ("seed", "a", "has no proper seed"),
    ("recipe", "vae", "no recipe 'vae'"),
    ("settings", None, "has no proper settings"),
    ("settings", {}, "bernoulli-vae has the settings latent, epochs"),
    ("validation", "x", "validation must be a whole number of at least 0, got 'x'"),
    ("lr", math.pi * 1j, "is refused: its JSON is not readable"),
])
def test_a_damaged_config_is_told_in_a_sentence(key, value, words, vae_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    config = json.loads((run / "config.json").read_text())
    if key is None:
        config = value
    elif key in config:
        config[key] = value
    else:
        config["settings"][key] = value
    (run / "config.json").write_text(json.dumps(config, default=str) if key != "lr" else "{")
    assert main(["eval", str(run)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_training_that_diverged_is_no_result(pictures, tmp_path, capsys):
    assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "lr=1e30", "validation=0", "batch_size=60"]) == 2
    assert "the training has diverged; train again with a smaller --set lr=" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_data_mnist_downloads_nothing(cache, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("NPAE_DATA", raising=False)
    monkeypatch.setattr(data.mnist, "_download", None)  # to call it would be an error
    monkeypatch.chdir(tmp_path)
    assert main(["data", "mnist"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(": missing") == 4 and "nothing was downloaded" in printed
    assert not list(tmp_path.glob("*.png"))


def test_without_out_each_run_gets_a_folder_of_its_own(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", "conv-ae", "--data", str(pictures), "--epochs", "1", "--set", "batch_size=16"]) == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"conv-ae-bars-seed0", "conv-ae-bars-seed0-2"}


def test_validation_0_trains_on_everything_without_early_stopping(pictures, tmp_path):
    out = tmp_path / "run"
    assert main(["train", "conv-ae", "--data", str(pictures), "--epochs", "2", "--out", str(out),
                 "--set", "batch_size=16", "--set", "validation=0"]) == 0
    assert "val_loss" not in (out / "history.csv").read_text()


def test_patience_needs_a_validation_loss_to_wait_for(pictures, tmp_path, capsys):
    assert main(["train", "ae", "--data", str(pictures), "--out", str(tmp_path / "run"), "--set", "patience=2",
                 "validation=0"]) == 2
    assert "patience=2 waits for a better validation loss, and validation=0 sets no" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_may_see_the_first_pictures_alone(pictures, tmp_path, capsys):
    assert main(["train", "ae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"), "--set",
                 "pictures=20", "batch_size=5"]) == 0
    assert "20 training, 5 validation and 30 test pictures" in capsys.readouterr().out
    assert main(["train", "ae", "--data", str(pictures), "--set", "pictures=56"]) == 2
    assert "bars has 55 training pictures: cannot take the first 56" in capsys.readouterr().err


def test_list_names_every_recipe_and_the_settings_of_one(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(recipes.RECIPES) and "npae list RECIPE" in lines[-1]
    assert all(recipe.equation in line for recipe, line in zip(recipes.RECIPES.values(), lines, strict=False))
    assert main(["list", "vae"]) == 2
    assert "no recipe 'vae': use one of conv-ae" in capsys.readouterr().err
    assert main(["list", "bernoulli-vae"]) == 0
    printed = capsys.readouterr().out
    assert "bernoulli-vae:" in printed and "conv-ae" not in printed
    assert "kl=sampled" in printed
    assert "drawn with z, or its closed form (sampled, analytic)\n" in printed
    assert "dimensions of the code\n" in printed


def test_data_says_what_is_there_and_draws_a_sheet(pictures, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["data", str(pictures), "--out", str(sheet)]) == 0
    assert "60 training and 30 test pictures of 8 x 8 x 1" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.width > 300
    assert main(["data", str(pictures), "--out", str(tmp_path / "sheet.jpg")]) == 2
    assert "does not end in .png: choose another name" in capsys.readouterr().err
    assert main(["data", str(pictures), "--out", str(tmp_path / "no" / "sheet.png")]) == 2
    error = capsys.readouterr().err
    assert f"no folder {tmp_path / 'no'} for sheet.png: make it" in error
    assert not (tmp_path / "sheet.jpg").exists()


def test_data_strokes_draws_a_sheet_though_nothing_is_verified(tmp_path, monkeypatch, capsys):
    small = data.load("strokes", train=20, test=10)
    monkeypatch.setattr(data, "load", lambda name, dir=None: small)
    assert main(["data", "strokes", "--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").exists() and "nothing to download or to verify" in capsys.readouterr().out


def test_a_sheet_says_of_how_many_pictures_it_shows_the_first(pictures, tmp_path, monkeypatch):
    told = []
    right = figures.sheet
    monkeypatch.setattr(figures, "sheet", lambda *args, **settings: told.append(args) or right(*args, **settings))
    runs.sheet(str(pictures), None, tmp_path / "sheet.png")
    ((x, labels),) = told
    assert len(x) == len(labels) == 60


def test_gradcheck_of_a_layer_prints_its_reports(capsys):
    assert main(["gradcheck", "Dense"]) == 0
    printed = capsys.readouterr().out
    assert "Layer check of Dense, x (2, 5)" in printed
    assert "every gradient is right" in printed


def test_gradcheck_of_a_wrong_backward_has_status_1(monkeypatch, capsys):
    from npae.layers import Sigmoid

    monkeypatch.setattr(Sigmoid, "_backward", lambda self, dy, need_dx: dy * self.saved)
    assert main(["gradcheck", "Sigmoid"]) == 1
    assert "wrong: Sigmoid" in capsys.readouterr().out


@pytest.mark.parametrize("kernels", ["reference", "fast"])
def test_gradcheck_walks_the_textbook_and_the_fast_kernels(kernels, monkeypatch, capsys):
    module = importlib.import_module(f"npae.kernels.{kernels}")
    right = module.activate_input_grad
    monkeypatch.setattr(module, "activate_input_grad", lambda *args: -right(*args))
    assert main(["gradcheck", "Tanh"]) == 1
    assert f"wrong: Tanh(), {kernels} kernels" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("target", ["Dense", "VAE"])
def test_gradcheck_sees_a_gradient_that_is_overwritten(target, monkeypatch, capsys):
    from npae.kernels import reference

    right = reference.dense_backward

    def overwrites(x, W, y, dy, activation, dW, db, dx, work):
        dW[...] = 0
        right(x, W, y, dy, activation, dW, db, dx, work)

    monkeypatch.setattr(reference, "dense_backward", overwrites)
    assert main(["gradcheck", target]) == 1
    printed = capsys.readouterr().out
    assert "FAIL a second backward adds the same gradients again: " in " ".join(printed.split())
    assert re.search(rf"wrong: {target}.*, reference kernels$", printed.splitlines()[-1])


def test_gradcheck_of_a_vae_sees_a_gradient_that_goes_through_the_clamp(monkeypatch, capsys):
    from npae.models import VAE

    right = VAE._q

    def q(self, x):
        mu, logvar = right(self, x)
        self.clamped = np.zeros_like(self.clamped)
        return mu, logvar

    monkeypatch.setattr(VAE, "_q", q)
    assert main(["gradcheck", "VAE"]) == 1


def test_gradcheck_names_what_raises_and_goes_on(monkeypatch, capsys):
    from npae.kernels import reference

    def dense_backward(x, W, y, dy, activation, dW, db, dx, work):
        dW += x @ dy  # x^T is meant

    monkeypatch.setattr(reference, "dense_backward", dense_backward)
    assert main(["gradcheck", "Dense"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"forward and backward run: raised ValueError at \S*npae/layers/dense.py:\d+: matmul", printed)
    assert "Dense(5, 3), fast kernels Layer check of Dense" in printed  # the walk goes on


def test_gradcheck_goes_on_where_a_penalty_raises(monkeypatch, capsys):
    def gaussian_kl(mu, logvar):
        raise TypeError("no")

    monkeypatch.setattr(penalties, "gaussian_kl", gaussian_kl)
    reports = dict(gradients.reports("gaussian_kl")) | dict(gradients.reports("gaussian_kl_sampled"))
    assert [report.ok for report in reports.values()] == [False, False, True, True]
    assert "raised TypeError at" in str(reports["gaussian_kl, reference kernels"])


def test_a_reader_that_has_seen_enough_is_no_error():
    """npae list | head -1, with the head gone before the first line."""
    command = [sys.executable, "-m", "npae", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as npae:
        npae.stdout.close()
        assert npae.stderr.read() == b""
    assert npae.returncode == 141


@pytest.mark.parametrize(("argv", "words"), [
    ([], "COMMAND"),
    (["dance"], "invalid choice: 'dance'"),
    (["train"], "RECIPE"),
    (["train", "vae"], "no recipe 'vae': use one of conv-ae, conv-vae, bernoulli-vae"),
    (["train", "conv-ae", "--epochs", "many"], "invalid int value: 'many'"),
    (["train", "conv-ae", "--epochs", "0"], "epochs must be a whole number of at least 1, got '0'"),
    (["train", "conv-ae", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["train", "conv-ae", "--threads", "0"], "at least 1 thread, got 0"),
    (["train", "conv-ae", "--save-every", "-1"], "--save-every must be at least 0 seconds, got -1"),
    (["train", "--resume", "nowhere"], "nowhere is no run: it should hold config.json"),
    (["train", "conv-ae", "--resume", "nowhere", "--seed", "0", "--set", "latent=2"],
     "--resume goes on with what nowhere was given: leave RECIPE, --seed, --set out"),
    (["train", "conv-ae", "--set", "latent"], "--set takes key=value, got 'latent'"),
    (["train", "conv-ae", "--set", "depth=3"], "no setting 'depth'"),
    (["train", "conv-ae", "--set", "latent=x"], "latent must be a whole number"),
    (["train", "conv-ae", "--data", "nowhere.npz"], "no data set 'nowhere.npz'"),
    (["train", "conv-ae", "--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    (["train", "conv-ae", "--set", "validation=20000"], "cannot set 20000 aside"),
    (["eval", "nowhere"], "nowhere is no finished run"),
    (["figures", "nowhere"], "nowhere is no finished run"),
    (["gradcheck", "Magic"], "nothing to check is called 'Magic'"),
    (["data", "nowhere"], "no data set 'nowhere'"),
])
def test_whatever_is_wrong_is_one_sentence_and_status_2(argv, words, capsys, cache):
    try:
        status = main(argv)
    except SystemExit as leaving:
        status = leaving.code
    printed = capsys.readouterr()
    assert status == 2
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "Traceback" not in printed.err


def test_a_folder_with_files_is_not_written_over(pictures, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("my only copy")
    assert main(["train", "conv-ae", "--data", str(pictures), "--out", str(tmp_path), "--set", "batch_size=16"]) == 2
    assert "is not empty: choose another --out" in capsys.readouterr().err


def test_pictures_of_a_size_that_the_net_cannot_take_are_refused(tmp_path, capsys):
    np.save(tmp_path / "odd.npy", np.zeros((30, 9, 10), np.uint8))
    assert main(["train", "conv-ae", "--data", str(tmp_path / "odd.npy"), "--out", str(tmp_path / "run")]) == 2
    assert "multiples of 4, got 9 x 10" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_of_more_pictures_than_there_are_is_refused_where_it_was_asked_for(pictures, tmp_path, capsys):
    line = ["train", "conv-ae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*line, "--set", "batch_size=56"]) == 2
    words = "batch_size=56 is more than the 55 training pictures: add --set batch_size=55, or less"
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(line) == 0
    assert "batch_size is 55, all training pictures" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["batch_size"] == 55


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (MemoryError, 2), (ValueError("nan"), 2)])
def test_a_training_that_ends_too_early_leaves_nothing_in_the_way(error, status, pictures, tmp_path, monkeypatch,
                                                                  capsys):
    def fit(*args, **settings):
        assert (tmp_path / "run" / "config.json").exists()
        raise error

    monkeypatch.setattr(train, "fit", fit)
    command = ["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"),
               "--set", "batch_size=30"]
    assert main(command) == status
    said = f"npae: interrupted; nothing was saved yet, and nothing of it is left in {tmp_path / 'run'}\n"
    assert (said in capsys.readouterr().err) == (status == 130)
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    assert main(command) == 0


def test_a_disk_that_is_full_in_the_end_costs_nothing_of_the_training(pictures, tmp_path, monkeypatch, capsys):
    """The last checkpoint has all of it: when there is room again, the run is finished, to the same bits."""
    right, run, whole = models.Model.save, tmp_path / "run", tmp_path / "whole"
    command = ["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--set", "batch_size=30", "--out"]

    def save(self, path):
        assert path.with_name("training.gif").exists()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(models.Model, "save", save)
    assert main([*command, str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in error
    assert f"the last good checkpoint, of epoch 1, is kept: go on from there by `npae train --resume {run}`" in error
    monkeypatch.setattr(models.Model, "save", right)
    assert main(["train", "--resume", str(run)]) == main([*command, str(whole)]) == 0
    for name in ("model.npz", "metrics.json", "training.gif", "figures/manifold.png"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()} == {
        "config.json", "model.npz", "history.csv", "metrics.json", "training.gif", "figures"}


def test_an_empty_folder_of_the_users_own_stays_where_a_training_fails(pictures, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(train, "fit", None)
    with pytest.raises(TypeError):
        runs.run("bernoulli-vae", data=str(pictures), out=tmp_path / "mine")
    assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())


def test_a_training_whose_figures_cannot_be_made_keeps_its_model(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "elbo", lambda *args, **settings: dict.fromkeys(("elbo", "recon", "kl"), math.nan))
    assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "batch_size=30"]) == 2
    monkeypatch.undo()
    assert main(["eval", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("text", [
    "", "epoch\n", "loss\n1.5\n2.5\n", "epoch,loss\n1,many\n", "epoch,loss\n1,2.5,7\n", "epoch,loss\n2,2.5\n",
    "epoch,loss\n1,2.5\n3,2.5\n", "epoch,loss\n1,\n", "epoch,loss\n1,2.5\n\0"])
def test_a_damaged_history_is_told_in_a_sentence(text, vae_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    (run / "history.csv").write_text(text)
    for command in ("eval", "figures"):
        assert main([command, str(run)]) == 2
        error = capsys.readouterr().err
        assert "history.csv is no history of epochs 1, 2, ..." in error and error.count("\n") == 1


def test_grey_pixels_under_bernoulli_have_no_elbo(pictures, tmp_path, capsys):
    assert main(["train", "bernoulli-vae", "--data", str(pictures), "--epochs", "1", "--out", str(tmp_path / "run"),
                 "--set", "binarize=none", "batch_size=30"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "the cross-entropy of grey pixels, no ELBO, with the code's KL is -" in last
    assert "the ELBO" not in last


def test_settings_may_stand_before_the_recipe(monkeypatch, capsys):
    told = {}
    monkeypatch.setattr(runs, "run", lambda recipe, **given: told.update(given, recipe=recipe))
    for words in (["--set", "latent=2", "lr=0.1", "conv-ae"], ["--set", "latent=2", "conv-ae", "--set", "lr=0.1"],
                  ["--set=latent=2", "--set", "lr=0.1", "conv-ae"], ["conv-ae", "--set", "latent=2", "lr=0.1"]):
        told.clear()
        assert main(["train", *words]) == 0
        assert told["recipe"] == "conv-ae" and told["given"] == {"latent": "2", "lr": "0.1"}
    assert main(["train", "--epochs", "2", "conv-ae", "--set", "epochs=2"]) == 0
    assert main(["train", "--epochs", "1", "conv-ae", "--set", "epochs=2"]) == 2
    assert "epochs is given as 1 and as 2: give it once" in capsys.readouterr().err


def test_the_seed_of_a_run_reaches_the_first_weights_and_the_training(pictures, tmp_path):
    told = []

    class Stop(Exception):
        pass

    def fit(model, data, *, seed, **settings):
        told.append((model.theta.copy(), seed))
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", fit)
        for seed in (3, 4):
            with pytest.raises(Stop):
                runs.run("bernoulli-vae", data=str(pictures), seed=seed, out=tmp_path / "run")
    (theta, seed), (other, another) = told
    assert (seed, another) == (3, 4) and not np.array_equal(theta, other)


def test_python_m_npae_is_the_same_door():
    result = subprocess.run([sys.executable, "-m", "npae", "train", "vae"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    version = subprocess.run([sys.executable, "-m", "npae", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("npae ")


def test_sigterm_outside_of_a_training_ends_in_a_sentence_too_and_takes_away_what_was_begun(pictures, tmp_path,
                                                                                            monkeypatch, capsys):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(train, "fit", lambda *args, **settings: signal.raise_signal(signal.SIGTERM))
    assert main(["train", "ae", "--data", str(pictures), "--out", str(tmp_path / "run")]) == 143
    assert capsys.readouterr().err.startswith("npae: terminated; nothing was saved yet")
    assert not (tmp_path / "run").exists() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, before)


def test_a_run_that_is_being_written_is_neither_measured_nor_drawn_meanwhile(vae_run, capsys):
    with store.one_writer(vae_run):
        for command in ("eval", "figures"):
            assert main([command, str(vae_run)]) == 2
            assert "is being written by process" in capsys.readouterr().err


def test_settings_that_were_changed_in_a_run_folder_name_the_file(vae_run, tmp_path, capsys):
    shutil.copytree(vae_run, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "seed": -1}))
    assert main(["eval", str(tmp_path / "run")]) == 2
    assert f"{path} is not as npae wrote it: seed must be an integer of at least 0" in capsys.readouterr().err
