"""The arithmetic of npae: arrays in, arrays out, nothing remembered.
Two modules hold the same names: `reference` is the textbook in plain NumPy, `fast` the same sums compiled by Numba.
"""
from __future__ import annotations

import os
import sys
from types import ModuleType

from npae.kernels.workspace import Workspace

__all__ = ["Workspace", "resolve", "set_threads"]


def resolve(kernels: ModuleType | None = None) -> ModuleType:
    """The module to compute with: the one that is given, else `fast`, which is imported (with Numba) on first use."""
    if kernels is not None:
        return kernels
    from npae.kernels import fast

    return fast


def set_threads(n: int) -> None:
    """Let the fast kernels use n threads; the numbers that come out are the same bits for any n.

    Raises ValueError: n below 1, or above the size of the pool with which Numba has already started.
    """
    if n < 1:
        raise ValueError(f"set_threads needs at least 1 thread, got {n}")
    if "numba" not in sys.modules:  # the pool has not started: it may become as large as it is asked to be
        os.environ["NUMBA_NUM_THREADS"] = str(max(n, int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))))
    import numba

    if n > numba.config.NUMBA_NUM_THREADS:
        raise ValueError(f"set_threads({n}), but Numba has started with {numba.config.NUMBA_NUM_THREADS} threads: "
                         f"set NUMBA_NUM_THREADS={n} before Python starts")
    numba.set_num_threads(n)
