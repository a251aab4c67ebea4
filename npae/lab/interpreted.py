"""The fast kernels without Numba: the same functions, read by Python, in arrays that notice what compiled loops do not.

Compiled code does not follow a function that has been changed, and looks neither at bounds nor at what other tasks do.
Here every function of the fast_*.py files runs as it now stands, on globals of its own in which `launch` is a plain
loop, `np.empty` gives NaNs, and every array that a task gets checks its indices and notes who wrote where.
"""
from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from npae.lab.planting import file_source

FILES = ("fast_activation", "fast_conv", "fast_dense", "fast_picture", "fast_pool", "fast_training")


@dataclass
class Watch:
    """What has been noticed in the tasks of the kernels that ran."""

    below: int = 0  # indices below 0, which wrap round to the other end
    beyond: int = 0  # indices past the end, which compiled code follows into other memory
    met: int = 0  # places that two tasks of one launch have written to
    backwards: bool = False  # run the tasks from the last to the first
    task: int = -1
    writers: dict[int, int] = field(default_factory=dict)


WATCH = [Watch()]


@contextmanager
def watched(backwards: bool = False) -> Iterator[Watch]:
    """Inside, what interpreted kernels do is noted in the Watch that is given."""
    WATCH.append(Watch(backwards=backwards))
    try:
        yield WATCH[-1]
    finally:
        WATCH.pop()


class Guarded(np.ndarray):
    """An array whose indices are looked at and whose writers are noted."""

    def __getitem__(self, index: Any) -> Any:
        self._look(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._look(index)
        super().__setitem__(index, np.asarray(value).astype(self.dtype))  # too large a number wraps, as if compiled
        watch = WATCH[-1]
        for place in self._places(index):
            watch.met += watch.writers.setdefault(place, watch.task) != watch.task

    def _look(self, index: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        for part, size in zip(parts, self.shape, strict=False):
            if isinstance(part, (int, np.integer)):
                WATCH[-1].below += bool(part < 0)
                WATCH[-1].beyond += bool(part >= size)
            elif isinstance(part, slice) and part.start is not None:
                WATCH[-1].below += bool(part.start < 0)

    def _places(self, index: Any) -> list[int]:
        """The addresses of the numbers that an index means."""
        parts = index if isinstance(index, tuple) else (index,)
        address = self.__array_interface__["data"][0]
        if len(parts) == self.ndim and all(isinstance(part, (int, np.integer)) for part in parts):
            return [address + sum(int(i) % n * s for i, n, s in zip(parts, self.shape, self.strides, strict=True))]
        part = np.asarray(super().__getitem__(index))
        steps = (np.arange(n) * s for n, s in zip(part.shape, part.strides, strict=True))
        offsets = sum(np.meshgrid(*steps, indexing="ij")) if part.ndim else np.zeros(1, int)
        return (part.__array_interface__["data"][0] + np.ravel(offsets)).tolist()


class _NumPy:
    """NumPy, but what is empty is full of NaNs (of the least integer), and a product tells where it is written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def empty(shape: Any, dtype: Any = float) -> np.ndarray:
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min, dtype)

    @staticmethod
    def empty_like(array: np.ndarray) -> np.ndarray:
        return _NumPy.empty(array.shape, array.dtype)

    @staticmethod
    def dot(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        out[...] = np.asarray(a) @ np.asarray(b)


class _Workspace:
    def empty(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return _NumPy.empty(shape, dtype)


def _launch(body: Callable[..., None], tasks: int, args: tuple[Any, ...]) -> None:
    """body(k, *args) for every k < tasks, one after the other."""
    watch = WATCH[-1]
    watch.writers.clear()
    guarded = [a.view(Guarded) if isinstance(a, np.ndarray) else a for a in args]
    for k in reversed(range(tasks)) if watch.backwards else range(tasks):
        watch.task = k
        body(k, *guarded)


def _product(M: int, N: int, a: Any, a0: int, sa: int, ra: int, ca: int, b: Any, b0: int, sb: int, ldb: int, c: Any,
             c0: int, ldc: int, S: int, K: int, d: Any, d0: int, ldd: int) -> None:
    """C[i, j] = D[i, j] + sum_{s<S} sum_{k<K} A[a0 + s sa + i ra + k ca] B[b0 + s sb + k ldb + j], as in fast_tile."""
    i, s, k, j = np.ix_(range(M), range(S), range(K), range(N))
    at_a, at_b = (a0 + s * sa + i * ra + k * ca)[..., 0], (b0 + s * sb + k * ldb + j)[0]
    for at, array in ((at_a, a), (at_b, b)):
        WATCH[-1].below += int((at < 0).sum())
        WATCH[-1].beyond += int((at >= array.size).sum())
    sums = np.einsum("isk,skj->ij", np.asarray(a).reshape(-1)[at_a], np.asarray(b).reshape(-1)[at_b])
    flat, begin = c.reshape(-1), np.asarray(d).reshape(-1)
    for row in range(M):
        flat[c0 + row * ldc:c0 + row * ldc + N] = sums[row] + begin[d0 + row * ldd:d0 + row * ldd + N]


def _turn(a: Any, a0: int, lda: int, rows: int, columns: int, b: Any, b0: int, ldb: int) -> None:
    """B[j, i] = A[i, j], with A[i, j] = a[a0 + i lda + j] and B[j, i] = b[b0 + j ldb + i], as in fast_tile."""
    for i in range(rows):
        for j in range(columns):
            b.reshape(-1)[b0 + j * ldb + i] = a.reshape(-1)[a0 + i * lda + j]


def interpreted() -> Any:
    """All kernels of `fast` by name, as Python reads them now."""
    rooms: dict[str, dict[str, Any]] = {}
    for file in FILES:
        _room(f"npae.kernels.{file}", rooms)
    doors = importlib.import_module("npae.kernels.fast")
    return SimpleNamespace(**{name: rooms[getattr(doors, name).__module__][name] for name in doors.__all__})


INSTEAD: dict[str, Any] = {"np": _NumPy(), "launch": _launch, "product": _product, "turn": _turn,
                           "prefetch": lambda a, i: None, "Workspace": _Workspace,
                           "ready": lambda dtype: None}


def _room(module: str, rooms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The globals of a file, with functions that live in them."""
    if module not in rooms:
        rooms[module] = names = dict(vars(importlib.import_module(module)))
        for name, thing in list(names.items()):
            function = getattr(thing, "py_func", thing)
            if name in INSTEAD:
                names[name] = INSTEAD[name]
            elif isinstance(function, FunctionType) and function.__module__.startswith("npae.kernels.fast_"):
                if function.__module__ == module:
                    names[name] = _moved(function, names)
                elif hasattr(thing, "py_func") or function.__module__.rpartition(".")[2] in FILES:
                    names[name] = _room(function.__module__, rooms)[name]
            elif isinstance(thing, type) and thing.__module__ == module:  # _Scratch, whose methods have globals too
                names[name] = type(name, (thing,), {key: _moved(f, names) for key, f in vars(thing).items()
                                                    if isinstance(f, FunctionType)})
    return rooms[module]


def _moved(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    """The function as it now is, on other globals."""
    twin = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__, twin.__module__ = function.__kwdefaults__, function.__module__
    return twin


# ---- and compiled anew


def changed(module: ModuleType) -> bool:
    """Whether a compiled function of this file, or how it is compiled, is not what the source says: a planted bug."""
    from npae.kernels import fast_parallel

    compiled = [thing.py_func for thing in vars(module).values() if hasattr(thing, "py_func")]
    own = [f for f in compiled if f.__module__ == module.__name__]
    return any(f.__code__.replace(co_flags=0) != _as_written(f).replace(co_flags=0)  # flags know of __future__
               for f in (*own, fast_parallel.inner, fast_parallel.door))


def _as_written(function: FunctionType) -> Any:
    source = compile(file_source(function), inspect.getsourcefile(function) or "", "exec", dont_inherit=True)
    return next(c for c in source.co_consts if inspect.iscode(c) and c.co_qualname == function.__qualname__)


def compiled_anew(module: ModuleType) -> Any:
    """The kernels of one file, compiled from what its functions are now; nothing of it is kept in a cache."""
    from numba import njit

    from npae.kernels import fast_parallel

    names = dict(vars(module))
    own = {name: thing for name, thing in names.items()
           if getattr(getattr(thing, "py_func", thing), "__module__", "") == module.__name__}
    compiled = {name for name, thing in own.items() if hasattr(thing, "py_func")}
    for name, thing in own.items():
        if name in compiled:
            twin = _moved(thing.py_func, names)
            called = "no_cpython_wrapper" not in thing.targetoptions
            names[name] = njit(**fast_parallel.OPTIONS)(twin) if called else fast_parallel.inner(twin)
        elif isinstance(thing, FunctionType) and compiled & set(thing.__code__.co_names):  # a door in Python
            names[name] = _moved(thing, names)
    return SimpleNamespace(**names)
