"""From a recipe to a run folder: built, trained, measured, drawn."""
from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from npae import checkpoint, recipes, store, train
from npae import data as _data
from npae._version import __version__
from npae.callbacks import Animation, Callback, EarlyStopping, History, ModelCheckpoint, ProgressBar
from npae.checkpoint import Checkpoint
from npae.data.batches import batches, binarizer
from npae.models import Model
from npae.runs.folder import (
    CHECKPOINT,
    CONFIG,
    GIF,
    HISTORY,
    METRICS,
    MODEL,
    Config,
    load_data,
    new_folder,
    read_config,
    resuming,
    written,
)
from npae.runs.results import draw, measure

SAVE_EVERY = 30.0  # seconds: an fsync of some megabytes, a few hundredths of one, is a thousandth of that


def run(recipe_name: str, *, data: str = "strokes", data_dir: str | None = None, seed: int = 0,
        out: str | Path | None = None, given: Mapping[str, str] | None = None, save_every: float = SAVE_EVERY) -> str:
    """Train a recipe from end to end and return the sentence that says what was learned.

    `given` are settings as text (`--set`); `out` is the run folder, by default a new one under runs/; a checkpoint is
    written there every so many seconds, and removed when the run is whole.
    Raises ValueError: a setting, data set or folder that will not do, before anything is trained.
    """
    model, dataset, config, remark = prepared(recipe_name, data=data, data_dir=data_dir, seed=seed, given=given)
    recipe, settings = recipes.get(recipe_name), config["settings"]
    folder, made = new_folder(out, f"{recipe_name}-{dataset.name}-seed{seed}")
    with written(folder, made):
        print(f"{recipe_name}: {recipe.summary}\n{len(dataset.train_x):,} training, {settings['validation']:,} "
              f"validation and {len(dataset.test_x):,} test pictures of {dataset.name} (seed {seed})")
        if remark:
            print(remark)
        store.write_json(folder / CONFIG, config)
        return _carry_out(model, dataset, config, folder, save_every)


def prepared(recipe_name: str, *, data: str = "strokes", data_dir: str | None = None, seed: int = 0,
             given: Mapping[str, str] | None = None) -> tuple[Model, _data.Dataset, Config, str]:
    """The model, the data set and the config with which a run begins, and a remark on what follows from its settings.

    Raises ValueError: a recipe, setting or data set that will not do.
    """
    recipe, given = recipes.get(recipe_name), given or {}
    settings = recipe.parse(given)
    dataset = _data.load(data, data_dir).with_validation(settings["validation"])
    remarks = [recipe.adapt(settings, dataset)]
    dataset = dataset.first(settings["pictures"])
    settings["validation"] = 0 if dataset.valid_x is None else len(dataset.valid_x)
    if "batch_size" not in given and settings["batch_size"] > len(dataset.train_x):
        settings["batch_size"] = len(dataset.train_x)
        remarks.append(f"batch_size is {len(dataset.train_x)}, all training pictures")
    config = {"npae": __version__, "recipe": recipe_name,
              "data": data if data in ("strokes", "mnist") else str(Path(data).resolve()),
              "data_dir": None if data_dir is None else str(Path(data_dir).resolve()), "seed": seed,
              "settings": settings}
    model = recipe.build(settings, dataset, train.streams(seed).init)
    _refuse_what_does_not_fit(recipe, settings, given, dataset)
    return model, dataset, config, " ".join(filter(None, remarks))


def fit(model: Model, dataset: _data.Dataset, config: Config, callbacks: Sequence[Callback],
        resumed: Path | None = None) -> History:
    """Train a prepared model as its config says."""
    settings, recipe = config["settings"], recipes.get(config["recipe"])
    return train.fit(model, dataset, optimizer=recipe.optimizer(settings), epochs=settings["epochs"],
                     batch_size=settings["batch_size"], seed=config["seed"], drop_last=recipe.drop_last,
                     transform=binarizer(settings["binarize"]), resume=resumed, callbacks=callbacks)


def resume(folder: str | Path, *, data_dir: str | None = None, save_every: float = SAVE_EVERY) -> str:
    """Go on with a run that was interrupted, to the same bits as if it had not been; the sentence that `run` gives.

    It goes on from the last checkpoint; where there is none yet, or none can be (L-BFGS), from the beginning.
    `data_dir`: where MNIST's files are, if they have been moved.
    Raises ValueError: no run, one that is finished, or a checkpoint or data that are not those of the run.
    """
    folder = Path(folder)
    config = read_config(folder)
    if data_dir is not None:
        config["data_dir"] = str(Path(data_dir).resolve())
    with written(folder):
        store.remove_orphans(folder)
        there = (folder / CHECKPOINT).exists()
        name = shlex.quote(str(folder))
        if not there and (folder / MODEL).exists() and (folder / HISTORY).exists():
            raise ValueError(f"{folder} is finished, there is nothing to go on with: `npae eval {name}` measures it, "
                             f"`npae figures {name}` draws it")
        print(f"{config['recipe']}: going on after {checkpoint.place(folder / CHECKPOINT)}" if there else
              f"{config['recipe']}: there is no checkpoint in {folder}, so it begins anew")
        dataset = load_data(config, folder)
        model = recipes.get(config["recipe"]).build(config["settings"], dataset, train.streams(config["seed"]).init)
        return _carry_out(model, dataset, config, folder, save_every, folder / CHECKPOINT if there else None)


def _carry_out(model: Model, dataset: _data.Dataset, config: Config, folder: Path, save_every: float,
               resumed: Path | None = None) -> str:
    """Train, measure, draw; the checkpoint goes when all of it is on the disk."""
    settings = config["settings"]
    history = fit(model, dataset, config, _callbacks(model, dataset, settings, config["seed"], folder, save_every),
                  resumed)
    model.save(folder / MODEL)
    history.write_csv(folder / HISTORY)
    metrics = measure(model, dataset, config, len(history))
    store.write_json(folder / METRICS, metrics)
    draw(model, dataset, history.rows, config, folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    said = _sentence(model, metrics, dataset, settings, sum(history["seconds"]))
    return f"{said} The pictures are in {folder / 'figures'}."


def _refuse_what_does_not_fit(recipe: recipes.Recipe, settings: Config, given: Mapping[str, str],
                              dataset: _data.Dataset) -> None:
    """Raises ValueError: pictures that cannot be drawn, settings without a use beside the others, too few pictures."""
    n, batch_size = len(dataset.train_x), settings["batch_size"]
    if dataset.shape[2] not in (1, 3):
        raise ValueError(f"the pictures of {dataset.name} have {dataset.shape[2]} channels, and a run draws grey (1) "
                         "or colour (3): leave the others out, for example by x[..., :3]")
    if "patience" in given and settings["patience"] and not settings["validation"]:
        raise ValueError(f"patience={settings['patience']} waits for a better validation loss, and validation=0 sets "
                         "no pictures aside: leave one of the two out")
    if settings["optimizer"] == "lbfgs":
        for key, why in {"lr": "searches its own steps", "batch_size": "sees all pictures at once"}.items():
            if key in given:
                raise ValueError(f"{key}={given[key]} does not go with optimizer=lbfgs, which {why}: leave it out")
    elif n < batch_size:
        raise ValueError(f"batch_size={batch_size} is more than the {n} training pictures: add --set batch_size={n}, "
                         "or less")


def _callbacks(model: Model, dataset: _data.Dataset, settings: Config, seed: int, folder: Path,
               save_every: float) -> list[Callback]:
    callbacks: list[Callback] = [ProgressBar()]
    if settings["patience"]:
        callbacks += [ModelCheckpoint(), EarlyStopping(settings["patience"])]
    if hasattr(model, "sample"):
        rng = train.streams(seed).figures
        n = min(16, len(dataset.test_x))
        codes = rng.standard_normal((n, model.latent or 0)).astype(model.theta.dtype)
        y = dataset.test_y[:n] if model.classes and dataset.test_y is not None else None
        x, _ = next(batches(dataset.test_x[:16], None, 16, noise=rng, transform=binarizer(settings["binarize"])))
        callbacks.append(Animation(folder / GIF, codes, x, y))
    if settings["optimizer"] != "lbfgs":  # its memory lies inside SciPy
        callbacks.append(Checkpoint(folder / CHECKPOINT, seconds=save_every,
                                    again=resuming(folder)))
    return callbacks


def _sentence(model: Model, metrics: Mapping[str, Any], dataset: _data.Dataset, settings: Config,
              seconds: float) -> str:
    """What was learned, in which units."""
    test, n = metrics["test"], len(dataset.test_x)
    error = (f"{test['mse']:.5f} squared grey levels per pixel ({test['mse'] * dataset.test_x[0].size:.2f} per "
             "image)")
    pictures = f"{n:,} test picture{'s' * (n != 1)}"
    took = f"{metrics['epochs']} epoch{'s' * (metrics['epochs'] > 1)} in {seconds:.0f} s"
    bound = next((name for name in ("elbo", "cross_entropy_bound") if name in test), None)
    if bound is not None:
        what = "ELBO" if bound == "elbo" else "cross-entropy of grey pixels, no ELBO, with the code's KL"
        return (f"{metrics['recipe']} learned to paint {dataset.name} ({took}): on {pictures} the {what} is "
                f"{test[bound]:.2f} nats per image ({test['recon']:.2f} to describe the pixels, {test['kl']:.2f} for "
                f"the code), the reconstruction error {error}.")
    return (f"{metrics['recipe']} learned to squeeze {dataset.name} through {model.latent} "
            f"number{'s' * (model.latent != 1)} ({took}): on {pictures} the reconstruction error is {error}.")
