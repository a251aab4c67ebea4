"""A run: a recipe trained on data, measured on the test pictures, and laid down in a folder.
The folder holds config.json, model.npz, history.csv, metrics.json and figures; eval and figures read it again.
"""
from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from npae import data as _data
from npae import figures, measures, models, recipes, store, tables, train
from npae._version import __version__
from npae.callbacks import Animation, Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from npae.data.batches import batches, binarizer
from npae.models import Model

Config = dict[str, Any]


def run(recipe_name: str, *, data: str = "strokes", data_dir: str | None = None, seed: int = 0,
        out: str | Path | None = None, given: Mapping[str, str] | None = None) -> str:
    """Train a recipe from end to end and return the sentence that says what was learned.

    `given` are settings as text (`--set`); `out` is the run folder, by default a new one under runs/.
    Raises ValueError: a setting, data set or folder that will not do, before anything is trained.
    """
    recipe, given = recipes.get(recipe_name), given or {}
    settings = recipe.parse(given)
    dataset = _data.load(data, data_dir).with_validation(settings["validation"])
    remark = recipe.adapt(settings, dataset)
    dataset = dataset.first(settings["pictures"])
    settings["validation"] = 0 if dataset.valid_x is None else len(dataset.valid_x)
    model = recipe.build(settings, dataset, train.streams(seed).init)
    _refuse_what_does_not_fit(recipe, settings, given, dataset)
    n, batch_size = len(dataset.train_x), settings["batch_size"]
    ours = out is None or not Path(out).exists()
    folder = _new_folder(out, f"{recipe_name}-{dataset.name}-seed{seed}")
    config = {"npae": __version__, "recipe": recipe_name,
              "data": data if data in ("strokes", "mnist") else str(Path(data).resolve()),
              "data_dir": None if data_dir is None else str(Path(data_dir).resolve()), "seed": seed,
              "settings": settings}
    print(f"{recipe_name}: {recipe.summary}\n{n:,} training, {settings['validation']:,} validation "
          f"and {len(dataset.test_x):,} test pictures of {dataset.name} (seed {seed})")
    if remark:
        print(remark)
    start = time.perf_counter()
    with _removed_if_broken(folder, ours):
        store.write_json(folder / "config.json", config)
        history = train.fit(model, dataset, optimizer=recipe.optimizer(settings), epochs=settings["epochs"],
                            batch_size=batch_size, seed=seed, drop_last=recipe.drop_last,
                            transform=binarizer(settings["binarize"]),
                            callbacks=_callbacks(model, dataset, settings, seed, folder))
        seconds = time.perf_counter() - start
        model.save(folder / "model.npz")
    history.write_csv(folder / "history.csv")
    metrics = measure(model, dataset, config, len(history))
    store.write_json(folder / "metrics.json", metrics)
    _draw(model, dataset, history.rows, config, folder)
    return f"{_sentence(model, metrics, dataset, settings, seconds)} The pictures are in {folder / 'figures'}."


def _refuse_what_does_not_fit(recipe: recipes.Recipe, settings: Config, given: Mapping[str, str],
                              dataset: _data.Dataset) -> None:
    """Raises ValueError: pictures that cannot be drawn, a patience without a validation loss, too few pictures."""
    n, batch_size = len(dataset.train_x), settings["batch_size"]
    if dataset.shape[2] not in (1, 3):
        raise ValueError(f"the pictures of {dataset.name} have {dataset.shape[2]} channels, and a run draws grey (1) "
                         "or colour (3): leave the others out, for example by x[..., :3]")
    if "patience" in given and settings["patience"] and not settings["validation"]:
        raise ValueError(f"patience={settings['patience']} waits for a better validation loss, and validation=0 sets "
                         "no pictures aside: leave one of the two out")
    if recipe.drop_last and n < batch_size:
        raise ValueError(f"{recipe.name} trains on whole batches of {batch_size}, and there are {n} training pictures: "
                         f"add --set batch_size={n}, or less")


@contextmanager
def _removed_if_broken(folder: Path, ours: bool) -> Iterator[None]:
    """Without a model a folder is no run, and in the way of the next one; one that is not ours stays, empty."""
    try:
        yield
    except BaseException:
        for path in (folder / "config.json", folder / "training.gif"):
            path.unlink(missing_ok=True)
        if ours:
            with suppress(OSError):
                folder.rmdir()
        raise


def _callbacks(model: Model, dataset: _data.Dataset, settings: Config, seed: int, folder: Path) -> list[Callback]:
    callbacks: list[Callback] = [ProgressBar()]
    if settings["patience"]:
        callbacks += [ModelCheckpoint(), EarlyStopping(settings["patience"])]
    if hasattr(model, "sample"):
        rng = train.streams(seed).figures
        n = min(16, len(dataset.test_x))
        codes = rng.standard_normal((n, model.latent or 0)).astype(model.theta.dtype)
        y = dataset.test_y[:n] if model.classes and dataset.test_y is not None else None
        x, _ = next(batches(dataset.test_x[:16], None, 16, noise=rng, transform=binarizer(settings["binarize"])))
        callbacks.append(Animation(folder / "training.gif", codes, x, y))
    return callbacks


def measure(model: Model, dataset: _data.Dataset, config: Config, epochs: int, *, whole: bool = False,
            full: bool = False, progress: bool = False) -> dict[str, Any]:
    """Test figures of a run of so many epochs: {"recipe", "data", "epochs", "seed", "test": {...}, "units", "notes"},
    and what a figure must share with another to be compared (see `tables.side_by_side`): "test_sha256", the
    beginning of that of the test pictures, "binarize", "noise" of a denoising model, "likelihood", and "conditional".

    The cheap ones (`measures.cheap`), or with `whole` all that apply (`measures.measure`; `full` is handed on).
    Units: beside the figures, in "units"
    """
    settings, rng = config["settings"], train.streams(config["seed"]).test
    transform = binarizer(settings["binarize"])
    found = (measures.measure(model, dataset, transform=transform, rng=rng, full=full, progress=progress) if whole else
             measures.cheap(model, dataset, transform=transform, rng=rng))
    return {"recipe": config["recipe"], "data": dataset.name, "epochs": epochs, "seed": config["seed"],
            "test_sha256": hashlib.sha256(dataset.test_x.tobytes()).hexdigest()[:16], "binarize": settings["binarize"],
            "noise": [settings.get("corruption"), settings.get("amount")], "likelihood": repr(model.likelihood),
            "conditional": model.classes is not None, **found}


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


def load(folder: str | Path) -> tuple[Model, _data.Dataset, Config]:
    """The model, the data set and the config of a run folder.

    Raises ValueError: no run folder, or one whose files are not whole.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not (folder / "model.npz").is_file():
        raise ValueError(f"{folder} is no finished run: it should hold config.json and model.npz; "
                         "make one with `npae train RECIPE --out DIR`")
    config = store.read_json(folder / "config.json")
    kinds: dict[str, Any] = {"recipe": str, "data": str, "data_dir": str | None, "seed": int, "settings": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(config, dict) or key not in config
             or not isinstance(config[key], kind)]
    if wrong:
        raise ValueError(f"{folder / 'config.json'} has no proper {', '.join(wrong)}: it is not a config of npae")
    recipes.get(config["recipe"]).check(config["settings"])
    dataset = _load_data(config["data"], config["data_dir"], config["settings"])
    return models.load(folder / "model.npz"), dataset, config


def _load_data(name: str, folder: str | None, settings: Mapping[str, Any]) -> _data.Dataset:
    """The data set as a run uses it: validation split off, then the first pictures of the rest."""
    return _data.load(name, folder).with_validation(settings["validation"]).first(settings["pictures"])


def evaluate_run(folder: str | Path, *, full: bool = False, progress: bool = False) -> dict[str, Any]:
    """Measure everything that applies to a run (see `measures.measure`) and write its metrics.json anew."""
    model, dataset, config = load(folder)
    metrics = measure(model, dataset, config, len(_history(folder)), whole=True, full=full, progress=progress)
    store.write_json(Path(folder) / "metrics.json", metrics)
    return metrics


def compare(folders: Sequence[str | Path], *, markdown: bool = False) -> str:
    """The metrics.json of runs side by side, as text.

    Raises ValueError: a folder without one, or with one that is not of npae.
    """
    found = [metrics_of(Path(folder)) for folder in folders]
    names = [Path(folder).resolve().name for folder in folders]
    names = [str(folder) if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)]
    return tables.side_by_side(names, found, markdown=markdown)


def metrics_of(folder: Path) -> dict[str, Any]:
    """What stands in a run folder's metrics.json.

    Raises ValueError: no such file, or one without figures of npae.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no metrics.json: name the folder of a run, and measure it by `npae eval`")
    metrics = store.read_json(path)
    fine = isinstance(metrics, dict) and isinstance(metrics.get("data"), str) and isinstance(metrics.get("test"), dict)
    if not fine or not tables.readable(metrics):
        raise ValueError(f"{path} does not hold figures of npae: write them anew by `npae eval {folder}`")
    return metrics


def draw_run(folder: str | Path, beside: str | Path | None = None) -> list[Path]:
    """Draw the figures of a run again; samples of a run `beside` are laid beside the class sheet of a conditional one.

    Raises ValueError: no finished run; `beside` a sheet that this model does not have, or a run without samples.
    """
    model, dataset, config = load(folder)
    samples = None
    if beside is not None:
        other, _, its = load(beside)
        if model.classes is None or not hasattr(other, "sample") or other.classes is not None:
            raise ValueError(f"samples of a plain VAE can be laid beside those of a conditional one, not "
                             f"{its['recipe']}'s beside {config['recipe']}'s: leave --beside out")
        samples = {f"{its['recipe']}, which cannot be asked": other.sample(100, rng=train.streams(its["seed"]).figures)}
    return _draw(model, dataset, _history(folder), config, Path(folder), samples)


def _draw(model: Model, dataset: _data.Dataset, history: list[dict[str, float]], config: Config,
          folder: Path, beside: Mapping[str, np.ndarray] | None = None) -> list[Path]:
    settings = config["settings"]
    return figures.write_all(model, dataset.test_x, dataset.test_y, history, folder / "figures",
                             unit=model.likelihood.unit, rng=train.streams(config["seed"]).figures,
                             per="iteration" if settings["optimizer"] == "lbfgs" else "epoch",
                             transform=binarizer(settings["binarize"]), beside=beside)


def _history(folder: str | Path) -> list[dict[str, float]]:
    path = Path(folder) / "history.csv"
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run has not finished; train again with `npae train`")
    try:
        with path.open(newline="") as lines:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
        whole = [row["epoch"] for row in rows] == list(range(1, len(rows) + 1)) and all("loss" in row for row in rows)
    except (ValueError, KeyError, TypeError, csv.Error):  # no number; no column of epochs; more cells than columns
        rows, whole = [], False
    if not rows or not whole:
        raise ValueError(f"{path} is no history of epochs 1, 2, ... with numbers: it has been changed or cut off; "
                         "train again with `npae train`")
    return rows


def _new_folder(out: str | Path | None, name: str) -> Path:
    """The folder to write into: a given one must be empty or new, so that no earlier run is lost."""
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not empty: choose another --out, or remove it")
    else:
        tries = (Path("runs", name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))
        folder = next(path for path in tries if not path.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made ({error.strerror}): choose another --out") from None
    return folder


def sheet(name: str, data_dir: str | None, path: str | Path) -> Path:
    """A picture of the first 100 training pictures of a data set.

    Raises ValueError: a path that does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"the sheet is a PNG, and {path} does not end in .png: choose another --out")
    dataset = _data.load(name, data_dir)
    title = f"Training pictures of {dataset.name}"
    return figures.save(figures.sheet(dataset.train_x, dataset.train_y, title=title), path)
