"""A picture file of the user's own, put through a trained run: what the code is, and what the model paints of it.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from npae import figures, runs, train
from npae.data import photo
from npae.data.batches import batches, binarizer, to_float
from npae.models import Model


def picture(folder: str | Path, file: str | Path, *, out: str | Path | None = None, invert: bool = False,
            label: int | None = None) -> list[str]:
    """Encode and decode a picture file of the user's own, draw it beside what the model paints, and say the code and
    the error; a line before says how the picture was made fit, and one after gives a hint where it looks inverted.

    Raises ValueError: no run, no picture, no such label, or a path that does not end in .png.
    """
    out = Path(out) if out is not None else Path(f"{Path(file).stem}-reconstructed.png")
    if out.suffix.lower() != ".png" or (out.exists() and Path(file).exists() and out.samefile(file)):
        raise ValueError(f"the reconstruction is a new PNG, and {out} is not: choose another --out")
    model, dataset, config = runs.load(folder)
    y = _one_label(model, label)
    pixels, done = photo.read(file, dataset.shape, invert=invert)
    binarize = config["settings"]["binarize"]
    [(x, _)] = batches(pixels[None], None, 1, noise=train.streams(config["seed"]).figures,
                       transform=binarizer(binarize), dtype=model.theta.dtype)
    h = model.encode(x, y)
    x_hat = model.decode(h, y)
    if binarize != "none":
        done += ", pixels made 0 or 1"
    code = _in_words(h)
    figures.save(figures.pair(x[0], x_hat[0], title=f"{Path(file).name}, painted by {config['recipe']}",
                              note=f"Through {code.partition(' (')[0]}; grey levels from 0 to 1"), out)
    error = float(np.square(np.subtract(x, x_hat, dtype=np.float64)).mean())
    lines = [done, f"{config['recipe']} makes of it {code} and paints it again with an error of {error:.5f} squared "
                   f"grey levels per pixel ({error * x.size:.2f} per image): {out}"]
    bright, usual = float(to_float(pixels).mean()), float(to_float(dataset.train_x[:1000]).mean())
    if (bright > 0.5) != (usual > 0.5):
        lines.append(f"the picture is mostly {'bright' if bright > 0.5 else 'dark'} (mean {bright:.2f}), the training "
                     f"pictures mostly {'bright' if usual > 0.5 else 'dark'} (mean {usual:.2f}): try it "
                     f"{'without' if invert else 'with'} --invert")
    return lines


def _one_label(model: Model, label: int | None) -> np.ndarray | None:
    """The label that a conditional model has to be told, as an array of one."""
    if model.classes is None and label is not None:
        raise ValueError(f"this model takes no labels, got --label {label}: leave it out")
    if model.classes is not None and (label is None or not 0 <= label < model.classes):
        raise ValueError(f"this model is told what it sees: add --label K, from 0 to {model.classes - 1}"
                         + ("" if label is None else f", got {label}"))
    return None if label is None else np.array([label])


def _in_words(h: np.ndarray) -> str:
    """A code of shape (1, ...): how many numbers, and the first eight of them."""
    numbers = ", ".join(f"{value:.3g}" for value in h.ravel()[:8])
    return f"{h.size:,} number{'s' * (h.size != 1)} ({numbers}{', ...' * (h.size > 8)})"
