"""The arithmetic of npae: arrays in, arrays out, nothing remembered.
Two modules hold the same names: `reference` is the textbook in plain NumPy, `fast` the same sums compiled by Numba.
"""
from __future__ import annotations

import functools
import os
import sys
import warnings
from types import ModuleType

import numpy as np

from npae.kernels.workspace import Workspace

__all__ = ["Workspace", "resolve", "set_threads"]


def resolve(kernels: ModuleType | None = None) -> ModuleType:
    """The module to compute with: the one that is given, else `fast`, which is imported (with Numba) on first use.

    Where `fast` cannot run (no compiler, no threads) it is `reference`, and the first call says so in a RuntimeWarning.
    """
    return _best() if kernels is None else kernels


@functools.cache
def _best() -> ModuleType:
    """`fast` if all that depends on the machine compiles: the loop that starts the threads, and the tile."""
    try:
        import numba

        if numba.config.DISABLE_JIT:
            return _textbook("NUMBA_DISABLE_JIT is set: unset it")
        from npae.kernels import fast, fast_link

        fast_link.ready(np.float32)
    except Exception as error:  # of Numba, LLVM or the loader of libraries: whatever it is, the textbook still works
        first, *_ = str(error).strip().splitlines() or [""]
        return _textbook(f"they raise {type(error).__name__} ({first}): see what `numba -s` says of this machine")
    return fast


def _textbook(why: str) -> ModuleType:
    from npae.kernels import reference

    warnings.warn(f"npae computes with its textbook kernels, many times slower than the fast ones, since {why}",
                  RuntimeWarning, stacklevel=4)  # where resolve is called
    return reference


def set_threads(n: int) -> None:
    """Let the fast kernels use n threads; the numbers that come out are the same bits for any n.

    Where the fast kernels cannot run there are no threads to set, and nothing happens.
    Raises ValueError: n below 1, or above the size of the pool with which Numba has already started.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"set_threads needs at least 1 thread, got {n}")
    if "numba" not in sys.modules:  # the pool has not started: it may become as large as it is asked to be
        os.environ["NUMBA_NUM_THREADS"] = str(max(n, int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))))
    if resolve().__name__.endswith("reference"):
        return
    import numba

    if n > numba.config.NUMBA_NUM_THREADS:
        raise ValueError(f"set_threads({n}), but Numba has started with {numba.config.NUMBA_NUM_THREADS} threads: "
                         f"set NUMBA_NUM_THREADS={n} before Python starts")
    numba.set_num_threads(n)
