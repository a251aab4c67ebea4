"""What the demos share: their two flags, a folder for their pictures, and how a promise is kept or broken aloud."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from npae import canvas, data
from npae.callbacks import Callback, State
from npae.data import Dataset
from npae.models.base import Model


def begin(file: str, doc: str | None) -> tuple[Dataset, bool, Path]:
    """(the digits, whether the short form was asked for, the folder for pictures) of a demo; prints its question.

    --data NAME: strokes (the default, built in), or mnist ($NPAE_DATA names its folder); --short: the form that tests
    run. In a notebook there are no flags, the defaults hold, and the question is a cell of its own.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="strokes", help="strokes or mnist")
    parser.add_argument("--short", action="store_true", help="less data and less training")
    notebook = "ipykernel" in sys.modules
    flags = parser.parse_args([] if notebook else None)
    folder = Path("demo-pictures", Path(file).stem)
    folder.mkdir(parents=True, exist_ok=True)
    if doc and not notebook:
        print(doc.strip().splitlines()[0])
    return data.load(flags.data), flags.short, folder


def promised(what: str, measured: float, *, below: float | None = None, above: float | None = None) -> None:
    """Print a promise beside its measured number.

    Raises SystemExit: a broken promise.
    """
    limit, sign = (below, "<=") if below is not None else (above, ">=")
    assert limit is not None
    kept = measured <= limit if below is not None else measured >= limit
    line = f"{what}: {measured:.4g}, promised {sign} {limit:.4g}"
    if not kept:
        raise SystemExit(f"BROKEN PROMISE: {line}")
    print(line)


class Way(Callback):
    """The way of a training: theta before the first step, and after every few of them."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.thetas: list[np.ndarray] = []

    def on_fit_begin(self, state: State) -> None:
        self.thetas.append(state.model.theta.copy())

    def on_batch_end(self, state: State) -> None:
        if (state.epoch * state.steps + state.step) % self.every == 0:
            self.thetas.append(state.model.theta.copy())


def losses_at(thetas: Iterable[np.ndarray], model: Model, x: np.ndarray) -> np.ndarray:
    """The loss of the pictures x at each theta, which is left in the model."""
    found = []
    for theta in thetas:
        model.theta[...] = theta
        found.append(model.loss(x)["loss"])
    return np.array(found)


@canvas.styled
def blocks(x: Mapping[str, np.ndarray], rows: int, cols: int, *, title: str, note: str, across: int = 9) -> Figure:
    """Sheets of rows * cols pictures side by side, each under its name; after `across` of them a new row begins.

    Shapes: each (at least rows * cols, H, W, C), uint8 or float in [0, 1]; the first so many are shown
    """
    sheets = [canvas.tile(pictures[:rows * cols], rows, cols)[0] for pictures in x.values()]
    height, width = (2 * n for n in sheets[0].shape[:2])
    down = -(-len(sheets) // across)
    figure = canvas.page(min(len(sheets), across) * (width + 36) - 36, down * (height + 44) - 16, title, note)
    for i, (name, sheet) in enumerate(zip(x, sheets, strict=True)):
        ax = canvas.show(figure, sheet, 2, left=i % across * (width + 36), top=28 + i // across * (height + 44))
        ax.set_title(name, loc="left", fontsize=12)
    return figure
