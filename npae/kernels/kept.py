"""Compiled kernels kept on disk: Numba's cache, in files that are exactly what was written, or are compiled anew.

Numba trusts its files. One that is cut, or has a bit changed, ends the next run with an UnpicklingError, or the process
without a word; two processes that compile a function for two types at once give both the same file name.
"""
from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from numba.core import ccallback, dispatcher
from numba.core.caching import FunctionCache, IndexDataCacheFile

SEAL = hashlib.sha256().digest_size
ONCE = "compiled kernels cannot be kept in {} ({}), and are compiled anew in each run, which takes some seconds: set " \
       "$NUMBA_CACHE_DIR to a folder that can be written"


class KernelCache(FunctionCache):
    """Numba's cache of one function, in sealed files. A file that will not do is one that is not there; a folder that
    cannot be written is told once, in a RuntimeWarning, and the kernel runs all the same.
    """

    told: ClassVar[set[str]] = set()  # folders, in this process

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = SealedFile(self._cache_path, self._impl.filename_base,
                                      self._impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # of whatever Numba makes of a file that another version of it has sealed
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where it can be kept."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            if self._cache_path not in self.told:
                self.told.add(self._cache_path)
                warnings.warn(ONCE.format(self._cache_path, error.strerror or error), RuntimeWarning, stacklevel=2)


class SealedFile(IndexDataCacheFile):
    """Numba's index and data files, each behind the SHA-256 of its content, and named by what they are for."""

    def save(self, key: Any, data: Any) -> None:
        """The data first, so that the index never names a file that is not there. Two processes that save at once write
        different files, or equal ones; an entry of the index that the other one has not seen is compiled again.
        """
        overloads = self._load_index()
        digest = hashlib.sha256(repr((self._source_stamp, key)).encode()).hexdigest()
        overloads[key] = name = self._data_name(digest[:16])
        self._write(self._data_path(name), data)
        self._save_index(overloads)

    def _load_index(self) -> dict:
        found = self._read(self._index_path)
        if isinstance(found, tuple) and found[:2] == (self._version, self._source_stamp):
            return found[2]
        return {}

    def _save_index(self, overloads: dict) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _data_name(self, number: Any) -> str:
        return f"{self._index_name.removesuffix('.nbi')}.{number}.nbc"

    def _write(self, path: str, content: Any) -> None:
        data = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(data).digest() + data)

    def _read(self, path: str) -> Any:
        """What `_write` wrote, or None; nothing is unpickled that the seal does not fit."""
        try:
            data = Path(path).read_bytes()
        except OSError:
            return None
        return pickle.loads(data[SEAL:]) if hashlib.sha256(data[SEAL:]).digest() == data[:SEAL] else None


@contextmanager
def sealed() -> Iterator[None]:
    """Functions that are decorated inside with cache=True have a KernelCache."""
    modules: tuple[Any, ...] = (dispatcher, ccallback)  # both look the name up when a function is decorated
    for module in modules:
        module.FunctionCache = KernelCache
    try:
        yield
    finally:
        for module in modules:
            module.FunctionCache = FunctionCache


def writable(places: Iterable[Path], name: str) -> Path:
    """The folder of this name in the first place where a file can be written; else, with a RuntimeWarning, one that is
    this process's own and is removed when it ends. It is not one that others share: they could put code into it.

    Raises OSError: no place at all, not even for that.
    """
    reasons: list[tuple[Path, str | None]] = []
    for place in places:
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place / name).close()
            return place / name
        except OSError as error:
            reasons.append((place, error.strerror))
    own = Path(tempfile.mkdtemp(prefix="npae-kernels-"))
    ours = os.getpid()
    atexit.register(lambda: shutil.rmtree(own, ignore_errors=True) if os.getpid() == ours else None)
    warnings.warn(ONCE.format(" nor in ".join(str(place) for place, _ in reasons), reasons[-1][1]), RuntimeWarning,
                  stacklevel=2)
    return own
