"""What a run folder holds, and how it is made and read."""
from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from npae import checkpoint, models, recipes, store, train
from npae import data as _data
from npae.checks import whole
from npae.models import Model
from npae.store import CheckpointError

Config = dict[str, Any]
CONFIG, MODEL, HISTORY, METRICS, GIF = "config.json", "model.npz", "history.csv", "metrics.json", "training.gif"
CHECKPOINT = "checkpoint.npz"  # as long as the run is not finished


def load(folder: str | Path) -> tuple[Model, _data.Dataset, Config]:
    """The model, the data set and the config of a run folder.

    Raises ValueError: no run folder, or one whose files are not whole.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / MODEL).is_file():
        unfinished = (folder / CONFIG).is_file()
        raise ValueError(f"{folder} is no finished run: it should hold {CONFIG} and {MODEL}; " +
                         (f"go on by {resuming(folder)}" if unfinished else
                          "make one with `npae train RECIPE --out DIR`"))
    config = read_config(folder)
    model, dataset = models.load(folder / MODEL), load_data(config, folder)
    _refuse_strangers(folder, model, dataset, config)
    return model, dataset, config


def resuming(folder: Path) -> str:
    """The command that goes on with a run, as a shell takes it, whatever the folder is called."""
    return f"`npae train --resume {shlex.quote(str(folder))}`"


def _refuse_strangers(folder: Path, model: Model, dataset: _data.Dataset, config: Config) -> None:
    """Raises ValueError: a model for pictures of another size, or one that the recipe does not make."""
    takes: tuple[int, ...] | None = model.encoder.input_shape
    has: tuple[int, ...] = dataset.shape
    if model.classes:  # the label stands behind the pixels
        has = (math.prod(has) + model.classes,)
    if takes not in (None, has):
        sizes = [" x ".join(map(str, shape)) for shape in (takes, has)]
        raise ValueError(f"{folder / MODEL} is for pictures of {sizes[0]}, and {dataset.name} has {sizes[1]}: the data "
                         "are not those of the run")
    made = recipes.get(config["recipe"]).build(config["settings"], dataset, train.streams(0).init)
    if type(model) is not type(made):
        raise ValueError(f"{folder / MODEL} holds a model of the kind {type(model).__name__}, and {config['recipe']} "
                         f"makes {type(made).__name__}: it belongs to another run")


def read_config(folder: Path) -> Config:
    """What a run was given.

    Raises ValueError: a config.json that is not there, or not as npae writes it.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no run: it should hold {CONFIG}; make one with `npae train RECIPE --out DIR`")
    config = store.read_json(path)
    kinds: dict[str, Any] = {"recipe": str, "data": str, "data_dir": str | None, "seed": int, "settings": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(config, dict) or key not in config
             or not isinstance(config[key], kind)]
    if wrong:
        raise ValueError(f"{path} has no proper {', '.join(wrong)}: it is not a config of npae")
    try:
        whole(config["seed"], "seed", least=0)
        recipes.get(config["recipe"]).check(config["settings"])
    except ValueError as error:
        raise ValueError(f"{path} is not as npae wrote it: {error}") from None
    return config


def load_data(config: Config, folder: Path) -> _data.Dataset:
    """The data set as a run uses it: validation split off, then the first pictures of the rest."""
    settings = config["settings"]
    try:
        dataset = _data.load(config["data"], config["data_dir"])
    except (ValueError, OSError) as error:
        error.add_note(f"if the data of the run have been moved, write their new place into {folder / CONFIG}")
        raise
    return dataset.with_validation(settings["validation"]).first(settings["pictures"])


def history(folder: str | Path) -> list[dict[str, float]]:
    """The rows of a run's history.csv.

    Raises ValueError: a file that is missing, cut off, or changed.
    """
    path = Path(folder) / HISTORY
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


def new_folder(out: str | Path | None, name: str) -> tuple[Path, list[Path]]:
    """The folder to write into, and those of it and its parents that were made for it, innermost first.

    Raises ValueError: one that cannot be made; a given one that is not empty, so that no earlier run is lost.
    """
    tries = [Path(out)] if out is not None else (
        Path("runs", name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))
    for folder in tries:
        try:
            if out is not None:
                refuse_what_is_there(folder)
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=out is not None)
        except OSError as error:
            if out is None and isinstance(error, FileExistsError):  # a run of before, or of another process just now
                continue
            raise ValueError(f"{folder} cannot be made ({error.strerror}): choose another --out") from None
        return folder, made
    raise ValueError(f"there are a million runs of the name {name} under runs: choose another --out")


def refuse_what_is_there(folder: Path) -> None:
    """Raises ValueError: a folder with files in it; what processes that were killed leave there is none."""
    if folder.is_dir():
        store.remove_orphans(folder)
    if (folder / CHECKPOINT).exists():
        raise ValueError(f"{folder} is a run that was interrupted: go on by {resuming(folder)}, or choose "
                         "another --out")
    if folder.is_file():
        raise ValueError(f"{folder} is a file: choose another --out")
    if folder.is_dir() and any(path.name != store.LOCK for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose another --out, or remove it")


@contextmanager
def written(folder: Path, made: Sequence[Path] | None = None) -> Iterator[None]:
    """Inside, the folder is this process's own to write. Where that ends in an exception, what was trained stays, and
    the exception says how to go on; where nothing was, and the run is a new one (`made`: the folders that were made for
    it), the folder is left as it was found.

    Raises BlockingIOError: another process is writing there. ValueError: another run is there.
    """
    try:
        for path in made or ():  # or a power cut could take the folder away with all that was saved in it
            store.sync_folder(path.parent)
        with store.one_writer(folder):
            if made is not None:
                refuse_what_is_there(folder)  # again: another process may have come and gone since
            try:
                yield
            except BaseException as error:
                _say_what_is_kept(folder, error)
                if made is not None and not (folder / CHECKPOINT).exists() and not (folder / MODEL).exists():
                    for name in (CONFIG, GIF):
                        (folder / name).unlink(missing_ok=True)
                    if isinstance(error, KeyboardInterrupt) and not isinstance(error, checkpoint.Interrupted):
                        error.add_note(f"nothing was saved yet, and nothing of it is left in {folder}")
                raise
    except BaseException:
        for path in made or ():
            with suppress(OSError):  # one that is not empty stays
                path.rmdir()
        raise


def _say_what_is_kept(folder: Path, error: BaseException) -> None:
    path = folder / CHECKPOINT
    if isinstance(error, CheckpointError) and path.exists():
        error.add_note(f"to begin this run anew, remove {path.name} and give the command again")
    elif path.exists():
        checkpoint.say_what_is_kept(error, path, resuming(folder))
