"""MNIST: find the four files, or download them, and verify every one. What is verified is the SHA-256 of the
uncompressed content, because each source has compressed the files in its own way.
"""
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import IO

import numpy as np

from npae import store
from npae.cache import cache_dir
from npae.data import idx

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SHA256 = {  # of the uncompressed files, in the order in which `load` returns them
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
BY_HAND = "name a folder that has the four files with --data-dir or $NPAE_DATA"
TIMEOUT = 30  # seconds without an answer
PATIENCE = 1800  # seconds that one file may take
MOST_BYTES = 64 << 20  # that one file may have, gzipped or not; MNIST's largest has 47 million


def load(dir: str | Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST as (train pictures, train labels, test pictures, test labels), all uint8, verified.

    Looked for in `dir`, else in the folder that `$NPAE_DATA` names, else in the cache. Only what the cache lacks, or
    has damaged, is downloaded: a folder that was named and lacks a file is an error.

    Shapes: (60000, 28, 28), (60000,), (10000, 28, 28), (10000,).
    Raises: ValueError that says what was looked for, where, and what to do by hand.
    """
    folder, named_by = place(dir)
    found = find(folder)
    if named_by is None:
        train_x, train_y, test_x, test_y = (_cached(stem, folder, found.get(stem)) for stem in SHA256)
    elif missing := [stem for stem in SHA256 if stem not in found]:
        raise ValueError(f"MNIST was looked for in {folder} ({named_by}), which lacks {' and '.join(missing)}, "
                         f"with or without .gz: {BY_HAND}")
    else:
        train_x, train_y, test_x, test_y = (read_verified(found[stem], stem) for stem in SHA256)
    return train_x, train_y, test_x, test_y


def place(dir: str | Path | None = None) -> tuple[Path, str | None]:
    """The folder where MNIST is looked for, and how it was named: "dir", "$NPAE_DATA", or None for the cache."""
    if dir is not None:
        return Path(dir), "dir"
    if given := os.environ.get("NPAE_DATA"):
        return Path(os.path.expanduser(given)), "$NPAE_DATA"
    return cache_dir() / "mnist", None


def find(folder: Path) -> dict[str, Path]:
    """Those of the four files that a folder has, gzipped or not, written `-idx3-` or `.idx3-`; none is opened."""
    found = {}
    for stem in SHA256:
        dotted = stem.replace("-idx", ".idx")
        # .gz first: what is downloaded must win over a damaged file beside it
        for name in (stem + ".gz", stem, dotted + ".gz", dotted):
            if os.path.isfile(folder / name):  # Path's own raises where a name is too long
                found[stem] = folder / name
                break
    return found


def read_verified(path: Path, stem: str) -> np.ndarray:
    """The array of one of the four files; ValueError where its content is any other."""
    with open(path, "rb") as file:
        array, digest = idx.parse(file, str(path))
    if digest != SHA256[stem]:
        raise ValueError(f"{path} is not MNIST's {stem}: its content has SHA-256 {digest}, expected {SHA256[stem]}")
    return array


def _cached(stem: str, folder: Path, path: Path | None) -> np.ndarray:
    """The array from the cache; a file that is missing or damaged there is fetched."""
    if path is not None:
        try:
            return read_verified(path, stem)
        except ValueError:
            pass
    return _download(stem, folder)


def _download(stem: str, folder: Path) -> np.ndarray:
    """Fetch a file from the first mirror that has the right one; only that one ever gets its final name."""
    import pooch

    # short pieces, so that an answer which drips is looked at between them
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 12, timeout=TIMEOUT)
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store.remove_orphans(folder)
    except OSError as error:
        raise ValueError(f"MNIST's {stem} is not in {folder}, and nothing can be kept there ({error.strerror}): "
                         f"{BY_HAND}") from None
    for mirror in MIRRORS:
        try:
            with store.atomic(folder / f"{stem}.gz") as file:
                fetch(f"{mirror}{stem}.gz", _Bounded(file), None)
                array, digest = idx.parse(file, "the answer")
                if digest != SHA256[stem]:
                    raise ValueError(f"its content has SHA-256 {digest}, expected {SHA256[stem]}")
            return array
        except (OSError, ValueError) as error:  # the errors of requests are OSErrors
            reasons.append(f"{mirror} ({textwrap.shorten(str(error), 200)})")
    raise ValueError(f"MNIST's {stem} is not in {folder} and could not be downloaded from "
                     f"{' nor from '.join(reasons)}: {BY_HAND}")


class _Bounded:
    """A file to download into. OSError for an answer that is longer, or takes longer, than any of the four files."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.until = file, 0, time.monotonic() + PATIENCE

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > MOST_BYTES:
            raise OSError(f"its answer goes on after {MOST_BYTES} bytes, and no file of MNIST is as long")
        if time.monotonic() > self.until:
            raise OSError(f"its answer takes longer than {PATIENCE} s")
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
