"""Data sets: generated digits, MNIST, or pictures of one's own, all as uint8 arrays of shape (N, H, W, C).
`load` is the one way in; `npae.data.batches` turns what it gives into float32 batches.
"""
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from npae.cache import cache_dir
from npae.checks import whole
from npae.data import mnist, pictures, strokes

MOST_CLASSES = 1 << 16

__all__ = ["Dataset", "cache_dir", "default_validation", "describe", "load", "short_name"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test pictures with their labels, and validation pictures once `with_validation` has split them off.

    Shapes: ..._x (N, H, W, C) uint8; ..._y (N,) integers, or None where there are no labels.
    Raises: ValueError where the parts do not fit each other.
    """

    train_x: np.ndarray
    train_y: np.ndarray | None
    test_x: np.ndarray
    test_y: np.ndarray | None
    name: str
    valid_x: np.ndarray | None = None
    valid_y: np.ndarray | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test", "valid"):
            x, y = getattr(self, part + "_x"), getattr(self, part + "_y")
            if x is None and part == "valid":
                continue
            if not all(isinstance(a, np.ndarray) for a in ((x,) if y is None else (x, y))):
                raise ValueError(f"{self.name}: {part} pictures and labels must be arrays, got {type(x).__name__} and "
                                 f"{type(y).__name__}")
            if x.ndim != 4 or x.dtype != np.uint8 or 0 in x.shape:
                raise ValueError(f"{self.name}: {part} pictures must be uint8 of shape (N, H, W, C), "
                                 f"got {x.dtype} of shape {x.shape}")
            if x.shape[1:] != self.shape:
                raise ValueError(f"{self.name}: {part} pictures are {x.shape[1:]}, training pictures {self.shape}")
            if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0):
                raise ValueError(f"{self.name}: {len(x)} {part} pictures need {len(x)} labels 0, 1, 2, ..., "
                                 f"got {y.dtype} of shape {y.shape}, least {y.min() if y.size else 'of none'}")
            if y is not None and y.max() >= MOST_CLASSES:
                raise ValueError(f"{self.name}: a {part} label is {y.max()}, and labels are 0 to {MOST_CLASSES - 1} at "
                                 "most, since each is a place in a list: number the classes 0, 1, 2, ...")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one picture."""
        return self.train_x.shape[1:]

    @property
    def mean(self) -> np.ndarray:
        """The mean of the training pictures in [0, 1], (H, W, C) float32."""
        return (self.train_x.mean(axis=0, dtype=np.float64) / 255).astype(np.float32)

    @property
    def classes(self) -> int | None:
        """How many labels there are, 0 to the largest of any picture; None where training pictures have no labels."""
        there = [y for y in (self.train_y, self.valid_y, self.test_y) if y is not None]
        return None if self.train_y is None else max(int(y.max()) for y in there) + 1

    def first(self, n: int) -> "Dataset":
        """The same data with the first n training pictures alone; 0 takes all.

        Raises: ValueError where there are fewer.
        """
        if whole(n, f"{self.name}: the number of pictures to take", least=0) > len(self.train_x):
            raise ValueError(f"{self.name} has {len(self.train_x)} training pictures: cannot take the first {n}")
        return self if n == 0 else replace(self, train_x=self.train_x[:n],
                                           train_y=None if self.train_y is None else self.train_y[:n])

    def with_validation(self, n: int | None = None) -> "Dataset":
        """The same data with the last n training pictures split off as valid_x, valid_y; None takes the default share.

        Raises: ValueError where nothing would be left to train on, or where it has been done before.
        """
        n = default_validation(len(self.train_x)) if n is None else n
        if self.valid_x is not None:
            raise ValueError(f"{self.name} has {len(self.valid_x)} validation pictures already")
        if whole(n, f"{self.name}: the number of pictures to set aside", least=0) >= len(self.train_x):
            raise ValueError(f"{self.name} has {len(self.train_x)} training pictures: cannot set {n} aside")
        if n == 0:
            return self
        train_y, valid_y = (None, None) if self.train_y is None else (self.train_y[:-n], self.train_y[-n:])
        return replace(self, train_x=self.train_x[:-n], train_y=train_y, valid_x=self.train_x[-n:], valid_y=valid_y)


def default_validation(n_train: int) -> int:
    """How many training pictures are set aside for validation where nobody says: a twelfth, 5,000 of MNIST's 60,000.

    >>> default_validation(60_000), default_validation(12_000)
    (5000, 1000)
    """
    return n_train // 12


def load(name: str | Path, dir: str | Path | None = None, *, train: int | None = None, test: int | None = None,
         seed: int | None = None) -> Dataset:
    """A data set by name or path.

    "strokes": generated digits, 12,000 to train and 2,000 to test unless `train`, `test` and `seed` say otherwise.
    "mnist": from the folder `dir`, else `$NPAE_DATA`, else the cache, else downloaded (see `npae.data.mnist.load`).
    A path: a folder of IDX files, a .npy or a .npz (see `npae.data.pictures.load`, which also says how floats become
    uint8 and that the last sixth is the test part where there is none).

    Raises: ValueError for a name that is neither, an argument that does not go with it, or data that are not whole.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"a data set is 'strokes', 'mnist', or the path of a folder or file, got {name!r}")
    given = {"train": train, "test": test, "seed": seed}
    sizes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if name != "mnist" and dir is not None:
        raise ValueError(f"a folder of data, {dir}, is for 'mnist': it does not go with {str(name)!r}")
    if name != "strokes" and sizes:
        raise ValueError(f"{', '.join(sizes)} are for the generated 'strokes': they do not go with {str(name)!r}")
    parts: tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]
    if name == "strokes":
        parts = strokes.load(**sizes)
    elif name == "mnist":
        parts = mnist.load(dir)
    elif os.path.exists(name):  # Path's own raises where a name is too long
        parts = pictures.load(name)
    else:
        raise ValueError(f"no data set {str(name)!r}: expected 'strokes', 'mnist', or the path of a folder of IDX "
                         "files, a .npy or a .npz")
    train_x, train_y, test_x, test_y = parts
    return Dataset(_nhwc(train_x), _labels(train_y, name), _nhwc(test_x), _labels(test_y, name), short_name(name))


def short_name(name: str | Path) -> str:
    """What a data set is called in sentences and in the names of files: 'mnist', or a path's last part.

    >>> short_name("pictures/digits.v2.npz"), short_name("strokes")
    ('digits.v2', 'strokes')
    """
    path = Path(name).resolve()
    return path.stem if path.suffix in (".npy", ".npz") else path.name


def describe(name: str | Path, dir: str | Path | None = None) -> list[str]:
    """What there is of a data set, where, and whether it is verified, as lines of text; nothing is downloaded."""
    if name == "mnist":
        folder, named_by = mnist.place(dir)
        found = mnist.find(folder)
        lines = [f"mnist: in {folder} ({named_by or 'the cache; what is missing is downloaded on first use'})"]
        for stem in mnist.SHA256:
            lines.append(f"  {stem}: {_verdict(found[stem], stem) if stem in found else 'missing'}")
        return lines
    if name == "strokes":
        file = strokes.cache_file()
        return [f"strokes: {strokes.TRAIN:,} training and {strokes.TEST:,} test pictures of 28 x 28 x 1 in 10 classes, "
                "generated from a seed: nothing to download or to verify",
                f"  {file}: {'kept from the first use' if file.is_file() else 'drawn and kept on first use'}"]
    data = load(name, dir)
    height, width, channels = data.shape
    labels = "without labels" if data.train_y is None else f"in {len(np.unique(data.train_y))} classes"
    return [f"{name}: {len(data.train_x)} training and {len(data.test_x)} test pictures of "
            f"{height} x {width} x {channels}, {labels}; read whole, with no digest to compare"]


def _verdict(path: Path, stem: str) -> str:
    try:
        mnist.read_verified(path, stem)
    except ValueError as error:
        return str(error)
    return f"verified ({path.name})"


def _nhwc(x: np.ndarray) -> np.ndarray:
    return x[..., None] if x.ndim == 3 else x


def _labels(y: np.ndarray | None, name: str | Path) -> np.ndarray | None:
    """Labels as int64, so that no sum or difference of uint8 labels wraps."""
    if y is not None and y.dtype.kind not in "iu":
        raise ValueError(f"{name}: labels must be integers, got {y.dtype}")
    return None if y is None else y.astype(np.int64)
