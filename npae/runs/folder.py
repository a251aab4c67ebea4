"""What a run folder holds, and how it is made and read."""
from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from npae import data as _data
from npae import models, recipes, store
from npae.models import Model

Config = dict[str, Any]


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


def history(folder: str | Path) -> list[dict[str, float]]:
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


def new_folder(out: str | Path | None, name: str) -> Path:
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


@contextmanager
def removed_if_broken(folder: Path, ours: bool) -> Iterator[None]:
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
