"""The codes of the test pictures: how far sliders reach, and what a drawing needs to look like one of the pictures.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae.data import Dataset
from npae.data.batches import batches, binarizer
from npae.models import Model

POINTS = 2000  # codes on the plane: more of them hide each other
Range = tuple[float, float, float]


def test_codes(model: Model, dataset: Dataset, binarize: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The first test pictures as the model sees them, their labels and their codes.

    Shapes: x (N, H, W, C) float32, y (N,) or None, z (N, d);   N at most POINTS
    Raises ValueError: codes that are pictures; a conditional model whose labels the data set does not have.
    """
    y = None if dataset.test_y is None else dataset.test_y[:POINTS]
    if model.classes is not None and (y is None or y.max() >= model.classes):
        raise ValueError(f"this model needs labels 0 to {model.classes - 1}, and the test pictures of {dataset.name} "
                         f"have {'none' if y is None else f'labels up to {y.max()}'}")
    pictures, codes = [], []
    noise = np.random.default_rng(0)  # of binarize="sample": the same page for the same run
    for x, labels in batches(dataset.test_x[:POINTS], y, 256, noise=noise, transform=binarizer(binarize),
                             dtype=model.theta.dtype):
        pictures.append(x.astype(np.float32))
        codes.append(model.encode(x, labels if model.classes is not None else None))
    z = np.concatenate(codes)
    if z.ndim != 2:
        raise ValueError(f"the explorer turns the numbers of a code, and the codes of this model are pictures of shape "
                         f"{z.shape[1:]}: let the encoder end in a Dense layer")
    if not np.isfinite(z).all():
        raise ValueError("some codes of the test pictures are inf or not-a-number: the training has diverged")
    return np.concatenate(pictures), y, z


def ranges(z: np.ndarray, prior: bool) -> list[Range]:
    """(low, high, step) of each number's slider.

    -5 to 5 in steps of 0.1, wider where codes leave it. A code of another nature (without a prior, and on one side of 0
    as behind a sigmoid or a ReLU, or never as large as 1) has the range of the test codes, in 50 to 500 steps.
    Shapes: z (N, d)
    """
    found: list[Range] = []
    for low, high in zip(z.min(axis=0).astype(float), z.max(axis=0).astype(float), strict=True):
        if prior or (low < 0 < high and max(-low, high) >= 1):
            found.append((min(-5.0, math.floor(low)), max(5.0, math.ceil(high)), 0.1))
        else:
            tenth = 10.0 ** math.floor(math.log10(((high - low) or 1.0) / 5))
            low, high = math.floor(low / tenth), math.ceil(high / tenth)
            found.append((round(low * tenth, 12), round(max(high, low + 1) * tenth, 12), round(tenth / 10, 12)))
    return found


def home(z: np.ndarray, prior: bool) -> np.ndarray:
    """Where to begin and to return to: the prior's mean, which is 0; without a prior, that of the test codes.   (d,)"""
    return np.zeros_like(z[0]) if prior else z.mean(axis=0)


def some_of_each(y: np.ndarray | None, n: int, most: int) -> np.ndarray:
    """Which test pictures stand in the page: of each label in turn, as many as there is room for."""
    if y is None:
        return np.arange(min(n, most))
    turn = np.empty(len(y), np.int64)
    for label in np.unique(y):
        turn[y == label] = np.arange((y == label).sum())
    return np.lexsort((y, turn))[:most]


def drawing(x: np.ndarray) -> dict[str, Any]:
    """How a drawing is made like the data set's pictures: where their centre of mass lies, and how large their ink is.

    MNIST's digits are 20 pixels long with their centre of mass at (14, 14). Where the centres are spread by more than a
    twentieth of the size, pictures are not like that: `centre` is None, and drawings stay as they are. `paper` is what
    most pixels are, 0 (black) or 1 (white).
    Shapes: x (N, H, W, 1)
    """
    h, w = x.shape[1:3]
    ink = x[..., 0].astype(np.float64)
    paper = float(np.median(ink))
    ink = np.abs(ink - round(paper))
    ink = ink[ink.max(axis=(1, 2)) > 0.5]  # an empty picture has no centre
    told = {"paper": round(paper), "centre": None, "extent": 0.0}
    if len(ink) == 0:
        return told
    rows, cols = ink.sum(axis=2), ink.sum(axis=1)
    centre = np.stack([rows @ np.arange(h), cols @ np.arange(w)], axis=1) / ink.sum(axis=(1, 2))[:, None]
    if (centre.std(axis=0) <= np.array([h, w]) / 20).all():
        longest = [max(np.ptp(np.nonzero((a > 0.3).any(axis=i))[0]) + 1 for i in (0, 1)) for a in ink]
        told.update(centre=centre.mean(axis=0).tolist(), extent=float(np.median(longest)))
    return told
