"""The fast kernels without Numba: the same functions, read by Python, in arrays that notice what compiled loops do not.

Compiled code does not follow a function that has been changed, and looks neither at bounds nor at what other tasks do.
Here every function of the fast_*.py files runs as it now stands, on globals of its own in which `launch` is a plain
loop, `np.empty` gives NaNs, and every array that a task gets checks its indices and notes who wrote where.
The figures by which work is cut up are small there, so that a few numbers are several chunks, panels and vectors.
"""
from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from npae.lab.planting import file_source

FILES = ("fast_activation", "fast_conv", "fast_conv_chunks", "fast_dense", "fast_math", "fast_moments", "fast_panel",
         "fast_picture", "fast_pool", "fast_tile", "fast_training")
CUTS = {"CHUNKS": 4, "PARTIALS": 8, "DEPTH": 4, "FEW": 3, "TALL": 8, "LONG": 16, "GRAIN": 1}
"""What stands for the figures of that name, as they are too large for awkward shapes to meet what they part."""
VECTOR_BYTES = 16  # the shortest there are, whatever this machine has


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

    def once(self, key: Any, plan: Callable[[], Any]) -> Any:
        return plan()


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
    if N * a.itemsize % VECTOR_BYTES:
        raise ValueError(f"a product of {N} columns of {a.itemsize} bytes must be widened to vectors of {VECTOR_BYTES}")
    i, s, k, j = np.ix_(range(M), range(S), range(K), range(N))
    at_a, at_b = (a0 + s * sa + i * ra + k * ca)[..., 0], (b0 + s * sb + k * ldb + j)[0]
    at_c, at_d = (c0 + i * ldc + j)[:, 0, 0], (d0 + i * ldd + j)[:, 0, 0]
    for at, array in ((at_a, a), (at_b, b), (at_c, c), (at_d, d)):
        WATCH[-1].below += int((at < 0).sum())
        WATCH[-1].beyond += int((at >= array.size).sum())
    sums = np.einsum("isk,skj->ij", np.asarray(a).reshape(-1)[at_a], np.asarray(b).reshape(-1)[at_b])
    sums += np.asarray(d).reshape(-1)[at_d]
    flat = c.reshape(-1)
    for row in range(M):
        flat[c0 + row * ldc:c0 + row * ldc + N] = sums[row]


def _turn_block(a: Any, a0: int, lda: int, rows: int, b: Any, b0: int, ldb: int) -> None:
    """B = A^T for a square as wide as a vector, as in fast_tile; the last of fewer rows stands for those missing."""
    side = VECTOR_BYTES // a.itemsize
    for i in range(side):
        for j in range(side):
            b[b0 + j * ldb + i] = a[a0 + min(i, rows - 1) * lda + j]


def interpreted() -> Any:
    """All kernels of `fast` by name, as Python reads them now."""
    rooms: dict[str, dict[str, Any]] = {}
    for file in FILES:
        _room(f"npae.kernels.{file}", rooms)
    doors = importlib.import_module("npae.kernels.fast")
    return SimpleNamespace(**{name: rooms[getattr(doors, name).__module__][name] for name in doors.__all__})


INSTEAD: dict[str, Any] = {"np": _NumPy(), "launch": _launch, "product": _product, "turn_block": _turn_block,
                           "prefetch": lambda a, i: None, "Workspace": _Workspace, "ready": lambda dtype: None,
                           "VECTOR_BYTES": VECTOR_BYTES, **CUTS}


def _room(module: str, rooms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The globals of a file, with functions that live in them."""
    if module not in rooms:
        rooms[module] = names = dict(vars(importlib.import_module(module)))
        for name, thing in list(names.items()):
            function = _plain(thing)
            if name in INSTEAD:
                names[name] = INSTEAD[name]
            elif isinstance(function, FunctionType) and function.__module__.startswith("npae.kernels.fast_"):
                if function.__module__ == module:
                    twin = _moved(function, names)
                    names[name] = _flat(twin) if hasattr(thing, "linked") else twin
                elif hasattr(thing, "py_func") or _file(function) in FILES:
                    names[name] = _room(function.__module__, rooms)[name]
            elif isinstance(thing, type) and thing.__module__ == module:  # _Scratch, whose methods have globals too
                names[name] = type(name, (thing,), {key: _moved(f, names) for key, f in vars(thing).items()
                                                    if isinstance(f, FunctionType)})
        for name in [name for name in names if f"_typed_{name}" in names]:
            names[name] = _overloaded(names[f"_typed_{name}"])
    return rooms[module]


def _plain(thing: Any) -> Any:
    """A function without what compiles it or keeps its results; anything else as it is."""
    return inspect.unwrap(thing) if callable(thing) else thing


def _file(function: FunctionType) -> str:
    return function.__module__.rpartition(".")[2]


def _flat(function: Callable[..., None]) -> Callable[..., None]:
    """The function on flat arrays, as a linked one sees them."""
    return lambda *args: function(*(a.reshape(-1) if isinstance(a, np.ndarray) else a for a in args))


def _overloaded(typed: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """f(a) as compiled code has it: typed(kind of a)(a), as in fast_math."""
    return lambda a: typed(SimpleNamespace(bitwidth=8 * a.itemsize))(a)


def _moved(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    """The function as it now is, on other globals."""
    twin = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__, twin.__module__ = function.__kwdefaults__, function.__module__
    return twin


# ---- and compiled anew


def changed(module: ModuleType) -> bool:
    """Whether a compiled function of this file or of those that it takes from, or how it is compiled, is not what the
    source says: a planted bug."""
    from npae.kernels import fast_parallel

    compiled = [_plain(thing) for room in _taken_from(module) for thing in vars(room).values() if _is_compiled(thing)]
    return any(map(_differs, (*compiled, fast_parallel.inner, fast_parallel.door)))


def _is_compiled(thing: Any) -> bool:
    return hasattr(thing, "py_func") or hasattr(thing, "linked")


def _taken_from(module: ModuleType) -> list[ModuleType]:
    """The file, those of the fast kernels that it has functions from, and so on."""
    rooms = [module]
    for room in rooms:
        files = {_plain(thing).__module__ for thing in vars(room).values() if _is_compiled(thing)}
        rooms += [other for other in map(importlib.import_module, files)
                  if other not in rooms and other.__name__.rpartition(".")[2] in FILES]
    return rooms


def _differs(function: FunctionType) -> bool:
    return bool(function.__code__.replace(co_flags=0) != _as_written(function).replace(co_flags=0))  # of __future__


def _as_written(function: FunctionType) -> Any:
    constants = _constants(file_source(function), inspect.getsourcefile(function) or "")
    return next(c for c in constants if inspect.iscode(c) and c.co_qualname == function.__qualname__)


@functools.lru_cache(maxsize=16)
def _constants(source: str, path: str) -> tuple[Any, ...]:
    return compile(source, path, "exec", dont_inherit=True).co_consts


def compiled_anew(module: ModuleType) -> Any:
    """The kernels of a file, compiled from what its functions are now, and those of others that it takes.

    Nothing of it is kept in a cache.
    """
    return SimpleNamespace(**_compiled_room(module.__name__, {}))


def _compiled_room(module: str, rooms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Like `_room`, but compiled: with this machine's vectors and `fast_math` as it is."""
    from numba import njit

    from npae.kernels import fast_link, fast_parallel

    if module not in rooms:
        rooms[module] = names = dict(vars(importlib.import_module(module)))
        names |= {name: CUTS[name] for name in CUTS if name in names}
        others = {*CUTS, *fast_link.LINKED}
        for name, thing in list(names.items()):
            function, compiled, linked = _plain(thing), hasattr(thing, "py_func"), getattr(thing, "linked", None)
            ours = compiled or linked or isinstance(thing, FunctionType) or hasattr(thing, "cache_info")
            if not ours or _file(function) not in FILES or _file(function) == "fast_math":
                continue
            if function.__module__ != module:
                names[name] = _compiled_room(function.__module__, rooms)[name]
            elif linked and (_differs(function) or set(function.__code__.co_names) & others):
                names[name] = fast_link.linked(linked.arrays, linked.floats, apart=False)(_moved(function, names))
            elif linked:  # compiled already, and no figure in it to be cut
                continue
            elif not compiled:
                names[name] = _moved(function, names)
            elif "no_cpython_wrapper" in thing.targetoptions:
                names[name] = fast_parallel.inner(_moved(function, names))
            else:
                names[name] = njit(**fast_parallel.OPTIONS)(_moved(function, names))
    return rooms[module]
