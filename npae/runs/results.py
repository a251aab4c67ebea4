"""What comes after a training: figures and pictures of a run, measured and drawn anew, and runs side by side."""
from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npae import data as _data
from npae import figures, measures, store, tables, train
from npae.data.batches import binarizer
from npae.models import Model
from npae.runs.folder import METRICS, Config, history, load


def evaluate_run(folder: str | Path, *, full: bool = False, progress: bool = False) -> dict[str, Any]:
    """Measure everything that applies to a run (see `measures.measure`) and write its metrics.json anew."""
    model, dataset, config = load(folder)
    with store.one_writer(folder):
        metrics = measure(model, dataset, config, len(history(folder)), whole=True, full=full, progress=progress)
        store.write_json(Path(folder) / METRICS, metrics)
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
    path = folder / METRICS
    if not path.is_file():
        raise ValueError(f"{folder} has no metrics.json: name the folder of a run, and measure it by `npae eval`")
    metrics = store.read_json(path)
    fine = isinstance(metrics, dict) and isinstance(metrics.get("data"), str) and isinstance(metrics.get("test"), dict)
    if not fine or not tables.readable(metrics):
        raise ValueError(f"{path} does not hold figures of npae: write them anew by `npae eval "
                         f"{shlex.quote(str(folder))}`")
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
    with store.one_writer(folder):
        return draw(model, dataset, history(folder), config, Path(folder), samples)


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


def draw(model: Model, dataset: _data.Dataset, rows: list[dict[str, float]], config: Config,
          folder: Path, beside: Mapping[str, np.ndarray] | None = None) -> list[Path]:
    settings = config["settings"]
    return figures.write_all(model, dataset.test_x, dataset.test_y, rows, folder / "figures",
                             unit=model.likelihood.unit, rng=train.streams(config["seed"]).figures,
                             per="iteration" if settings["optimizer"] == "lbfgs" else "epoch",
                             transform=binarizer(settings["binarize"]), beside=beside)


def sheet(name: str, data_dir: str | None, path: str | Path) -> Path:
    """A picture of the first 100 training pictures of a data set.

    Raises ValueError: a path that does not end in .png.
    """
    figures.check_png(path)
    dataset = _data.load(name, data_dir)
    title = f"Training pictures of {dataset.name}"
    return figures.save(figures.sheet(dataset.train_x, dataset.train_y, title=title), path)
