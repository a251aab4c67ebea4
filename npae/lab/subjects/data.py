"""From data sets to batches: the order, the scale, bits and labels, each held against a plain account of it.
What is drawn is held against its moments; a mistake is named where these are its own, and no other one's.
"""
from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from npae import models
from npae.data.batches import batches, binarize_sample, binarize_threshold
from npae.gradcheck import Report
from npae.lab.findings import Findings
from npae.layers import Dense, Reshape, Sequential

SIGMAS = 5  # of a mean of draws; of a million right ones not one is further off


def _rows(x: np.ndarray) -> np.ndarray:
    """Which rows a batch of `numbered` holds, whatever it has been divided by."""
    return np.rint(x[:, 0] / x[:, 1])


def _batches(kernels: ModuleType) -> Report:
    """23 rows, two passes; row i is (i, 1), which no scaling hides."""
    n, found = 23, Findings()
    x, y = np.column_stack([np.arange(n), np.ones(n)]), np.arange(n)

    def passes(transform: Any = None, **more: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        order, noise, met = np.random.default_rng(3), np.random.default_rng(4), []
        for _ in range(2):
            one = list(batches(x, y, 5, order=order, noise=noise, transform=transform, **more))
            met.append((np.concatenate([_rows(b) for b, _ in one]), np.concatenate([labels for _, labels in one])))
        return met

    (first, labels), (second, _) = passes()

    def every_row() -> str:
        if np.array_equal(np.sort(first), y):
            return ""
        if len(first) == n - n % 5 and len(set(first)) == len(first):
            return found.say("the last rows never come")
        return found.say("some rows come twice, some never") if len(first) == n else f"{len(first)} of {n} rows come"

    def shuffled() -> str:
        if np.array_equal(first, np.sort(first)):
            return found.say("not shuffled")
        return found.say("the same order in every epoch") if np.array_equal(first, second) else ""

    def together() -> str:
        if np.array_equal(first, labels):
            return ""
        still = np.array_equal(labels, y)
        return found.say("x is shuffled and y stands as it was") if still else "rows have the labels of others"

    def dropped() -> str:
        left = len(passes(drop_last=True)[0][0])
        return "" if left == 20 else found.say("the short batch comes all the same") if left == n else f"{left} rows"

    def apart() -> str:
        drawing = passes(lambda b, rng: b + 0 * rng.random())
        same = all(np.array_equal(a[0], b[0]) for a, b in zip(passes(), drawing, strict=True))
        return "" if same else found.say("noise changes the order")

    for claim, test in (("every row comes once", every_row), ("passes are shuffled, each in its own way", shuffled),
                        ("labels stay with their rows", together), ("drop_last leaves the short batch out", dropped),
                        ("a transform that draws does not change the order", apart)):
        found.test(claim, test)
    grey = np.random.default_rng(5).integers(0, 240, (9, 4)).astype(np.uint8)
    _scales(found, "grey levels are divided by 255", grey, grey / 255)
    _scales(found, "numbers stay as they are", grey / 255, grey / 255)
    return found.report("Batches: two passes over 23 rows")


def _scales(found: Findings, claim: str, rows: np.ndarray, scaled: np.ndarray) -> None:
    """`rows` come out of two batches as `scaled`."""
    found.same(claim, lambda: np.concatenate([b for b, _ in batches(rows, None, 5, dtype=np.float64)]), lambda: scaled,
               {"divided by 255 twice": lambda: scaled / 255, "divided by 256": lambda: scaled * 255 / 256,
                "not divided by 255": lambda: scaled * 255,
                "divided by the batch's maximum": lambda: np.concatenate(
                    [part / part.max() for part in (rows[:5], rows[5:])])})


# ---- bits


def _binarisation(kernels: ModuleType) -> Report:
    """Every grey level, and 4000 draws of nine of them."""
    found = Findings()
    grey = np.arange(256)[:, None] / 255
    found.same("the threshold is 1/2", lambda: binarize_threshold(grey),
               lambda: [[1.0 if level > 127 else 0.0] for level in range(256)],
               {"the threshold is 0": lambda: grey > 0, "black and white swapped": lambda: grey < 0.5,
                "nothing is made a bit": lambda: grey})
    found.same("1/2 itself is black", lambda: binarize_threshold(np.array([0.5, 0.25])), lambda: [0, 0], {})
    x = np.tile(np.arange(1, 10) / 10, (4000, 1))
    found.test("black is 0, and not -0", lambda: "-0" if any(
        np.signbit(f(x, np.random.default_rng(0))).any() for f in (binarize_threshold, binarize_sample)) else "")

    def draw(seed: int = 0) -> np.ndarray:
        return binarize_sample(x, np.random.default_rng(seed))

    def share() -> str:
        if _drawn_with(draw(), x):
            return ""
        shares = {"black and white swapped": 1 - x, "1 with probability sqrt(x)": np.sqrt(x),
                  "1 with probability x^2": x**2, "the threshold is 1/2": x > 0.5}
        names = [name for name, p in shares.items() if _drawn_with(draw(), p)]
        said = found.say(names[0]) if len(names) == 1 else ""
        return f"1 comes with the shares {np.round(draw().mean(0), 3).tolist()}" + (f": {said}" if said else "")

    def independent() -> str:
        """Pixels with the same x differ half the time where x is 1/2."""
        columns = draw()[:, 4]
        if (columns == columns[0]).all():
            return found.say("one random number for all pixels")
        pairs = (columns[::2] != columns[1::2]).mean()
        return "" if abs(pairs - 0.5) <= SIGMAS * 0.5 / np.sqrt(2000) else f"two pixels differ {pairs:.3f} of the time"

    def afresh() -> str:
        rng = np.random.default_rng(0)
        first, second = binarize_sample(x, rng), binarize_sample(x, rng)
        if not np.array_equal(first, second) and not np.array_equal(draw(0), draw(1)):
            return ""
        return found.say("the same noise every time")

    found.test("a pixel is 1 with probability x", share, "moments")
    found.test("each pixel has a random number of its own", independent, "moments")
    found.test("every batch is drawn afresh", afresh, "moments")
    return found.report("Binarisation: all grey levels, and 4000 draws")


def _drawn_with(bits: np.ndarray, p: np.ndarray) -> bool:
    """Whether the mean of the bits of each column is p to SIGMAS standard deviations."""
    spread = np.sqrt(np.maximum(p * (1.0 - p), 0)[0] / len(bits))
    return bool(np.isin(bits, (0, 1)).all() and (np.abs(bits.mean(0) - p[0]) <= SIGMAS * spread).all())


# ---- labels


def _one_hot(kernels: ModuleType) -> Report:
    """Four labels of five, with a gap between them and one twice."""
    found, y = Findings(), [2, 0, 4, 2]
    model = models.ConditionalVAE(Sequential([Dense(6 + 5, 4, kernels=kernels)]),
                                  Sequential([Dense(2 + 5, 6, kernels=kernels), Reshape((2, 3, 1))]), classes=5)

    def rows(places: list[int]) -> np.ndarray:
        return np.array([[float(place == column) for column in range(5)] for place in places])

    found.same("row i is 1 at column y_i", lambda: model.one_hot(np.array(y), 4), lambda: rows(y),
               {"one column too far left": lambda: rows([(label - 1) % 5 for label in y]),
                "one column too far right": lambda: rows([(label + 1) % 5 for label in y]),
                "renumbered within the batch": lambda: rows([sorted(set(y)).index(label) for label in y]),
                "nothing but zeros": lambda: 0 * rows(y)})
    found.test("a label beyond the last class is refused", lambda: _refuses(model))
    return found.report("Labels: four of five classes")


def _refuses(model: Any) -> str:
    try:
        model.one_hot(np.array([5]), 1)
    except ValueError:
        return ""
    return "label 5 of 5 classes is taken"


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "batches": _batches, "binarisation": _binarisation, "one-hot": _one_hot}
