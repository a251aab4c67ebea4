"""Where kernels and layers get the arrays that they write into.
Fresh ones by default, so that results belong to the caller; kept ones in a training loop, so that nothing is allocated.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

T = TypeVar("T")

CACHE_LINE = 64  # bytes; also the longest vector, which is loaded at full speed where it does not straddle two lines


def aligned(shape: tuple[int, ...] | int, dtype: np.dtype | type, fill: int | None = None) -> np.ndarray:
    """An array that begins at a cache line: uninitialised, or full of `fill`.

    >>> aligned((3, 5), np.float32).ctypes.data % 64
    0
    """
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    array = room[start:start + size].view(dtype).reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


class Workspace:
    """Hands out uninitialised arrays: fresh each time, or kept from call to call.

    A kept array is valid until the same key is asked for again. It grows when a larger batch comes and then stays.

    >>> kept = Workspace(keep=True)
    >>> a, b = kept.empty("y", (2, 3), np.float32), kept.empty("y", (1, 3), np.float32)
    >>> np.shares_memory(a, b)
    True
    """

    def __init__(self, keep: bool = False):
        self.keep = keep
        self._kept: dict[tuple[str, np.dtype], np.ndarray] = {}
        self._views: dict[tuple[str, tuple[int, ...], np.dtype | type], np.ndarray] = {}  # those handed out before
        self._plans: dict[Hashable, object] = {}

    def empty(self, key: str, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An uninitialised C-contiguous array of this shape; `key` names its purpose."""
        if not self.keep:
            return np.empty(shape, dtype)
        view = self._views.get((key, shape, dtype))
        if view is None:
            size, slot = math.prod(shape), (key, np.dtype(dtype))
            if slot not in self._kept or self._kept[slot].size < size:
                self._kept[slot] = aligned(size, dtype)
                self._views = {k: v for k, v in self._views.items() if (k[0], np.dtype(k[2])) != slot}
                self._plans.clear()  # they may hold views of what has just been replaced
            view = self._views[key, shape, dtype] = self._kept[slot][:size].reshape(shape)
        return view

    def once(self, key: Hashable, plan: Callable[[], T]) -> T:
        """What plan() gives; where arrays are kept, the first answer for this key stands for all later ones.

        For what hangs on shapes alone: how work is cut up, and the arrays that it needs. To ask for ten arrays one by
        one takes as long as a small layer's loops.
        """
        if not self.keep:
            return plan()
        if key not in self._plans:
            made = plan()  # may clear the plans
            self._plans[key] = made
        return self._plans[key]  # type: ignore[return-value]
