"""How a kernel uses every core: its work is cut into tasks, and one parallel loop, compiled once, runs them all.

A kernel is three things: the body of task k in Numba, `launch` under it, and a Python door that packs the arguments:

    @inner
    def _double_row(k, x, y):
        for j in range(x.shape[1]):
            y[k, j] = 2 * x[k, j]

    @door
    def _double(rows, *args):
        launch(_double_row, rows, args)

A `prange` of its own for each kernel does the same, but Numba then compiles the body four times over. A task writes
only what no other task reads or writes; how many tasks there are never depends on the number of threads.
"""
from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import cfunc, config, njit, prange, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from npae.cache import cache_dir
from npae.kernels import kept

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("*.py"))


def _places() -> Iterator[Path]:
    """Where compiled kernels may be kept, the best place first."""
    if config.CACHE_DIR:  # $NUMBA_CACHE_DIR
        yield Path(config.CACHE_DIR)
    else:
        yield HERE / "__pycache__"
        with suppress(ValueError):  # there is no home folder
            yield cache_dir()


def _cache_folder() -> Path:
    """A folder for compiled kernels, another one for every state of the sources.

    Numba looks only at the file of the function that it takes from its cache, but a kernel holds compiled code of
    other files too: after an edit of those it would go on with the old code.
    """
    state = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]
    folder = kept.writable(_places(), f"npae-kernels-{state}")
    if folder.parent.parent == HERE:
        for old in set(folder.parent.glob("npae-kernels-*")) - {folder}:
            shutil.rmtree(old, ignore_errors=True)
    return folder


CACHE = _cache_folder()


ALONE = threading.RLock()


@contextmanager
def _cached():
    """Functions that are decorated inside are kept in CACHE, in sealed files; by one thread at a time, since Numba has
    but one setting of each kind."""
    with ALONE:
        users, config.CACHE_DIR = config.CACHE_DIR, str(CACHE)
        try:
            with kept.sealed():
                yield
        finally:
            config.CACHE_DIR = users


def _nobody_compiles() -> None:
    ALONE.acquire()
    global_compiler_lock.acquire()


def _all_may_compile() -> None:
    global_compiler_lock.release()
    ALONE.release()


if hasattr(os, "register_at_fork"):  # or a child would wait for a thread that it does not have
    os.register_at_fork(before=_nobody_compiles, after_in_parent=_all_may_compile, after_in_child=_all_may_compile)


def door(function):
    """Compile a function that Python calls."""
    with _cached():
        return njit(cache=True, **OPTIONS)(function)


def inner(function):
    """Compile a function that only compiled code calls; the doors that it is compiled into keep it in their cache."""
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


def by_address(signature):
    """Compile a function that compiled code calls by its address, so that it is compiled once for all of them."""

    def compiled(function):
        with _cached():
            return cfunc(signature, cache=True)(function)

    return compiled


WORD = ir.IntType(64)
TASK = ir.FunctionType(ir.VoidType(), [WORD, WORD])  # address of the arguments, k
LOOP = "npae_loop"


@intrinsic
def launch(typing, body, tasks, args):
    """body(k, *args) for every k < tasks, on all threads. A body must not raise: nobody would hear it."""
    kinds = (types.int64, *args.types)
    body.dispatcher.compile(kinds)
    compiled = body.dispatcher.overloads[kinds]

    def generate(context, build, signature, values):
        _, tasks, packed = values
        context.add_linking_libs([compiled.library])
        # takes the arguments apart and calls the body
        task = ir.Function(build.module, TASK, build.module.get_unique_name("npae_task"))
        task.linkage = "internal"
        inside = ir.IRBuilder(task.append_basic_block())
        address, k = task.args
        struct = inside.load(inside.inttoptr(address, packed.type.as_pointer()))
        parts = [inside.extract_value(struct, i) for i in range(len(args.types))]
        context.call_internal_no_propagate(inside, compiled.fndesc, compiled.signature, [k, *parts])
        inside.ret_void()
        loop = cgutils.get_or_insert_function(build.module, ir.FunctionType(ir.VoidType(), [WORD] * 3), LOOP)
        slot = cgutils.alloca_once_value(build, packed)
        build.call(loop, [build.ptrtoint(task, WORD), build.ptrtoint(slot, WORD), tasks])
        return context.get_dummy_value()

    return types.void(body, types.int64, args), generate


@intrinsic
def _call(typing, task, args, k):
    def generate(context, build, signature, values):
        build.call(build.inttoptr(values[0], TASK.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


THREE_WORDS = types.void(types.int64, types.int64, types.int64)


@contextmanager
def _short_spin():
    """Threads that start inside wait awake for some 0.3 ms and then sleep, unless the user has said otherwise.

    GNU's OpenMP reads the variable once, when it starts. What Python does between two kernels takes some 0.05 ms, and
    to wake a thread takes 0.03 ms. Left alone, threads wait awake for milliseconds, no faster on an idle machine, but
    a step takes ten times as long beside two other busy programs (2 cores).
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


with _cached(), _short_spin():  # to compile a parallel function starts the threads
    @njit(THREE_WORDS, parallel=True, cache=True, **OPTIONS)
    def _parallel_loop(task, args, tasks):
        for k in prange(tasks):
            _call(task, args, np.int64(k))


POOL = ctypes.c_int64()  # 1 while the threads are at work, and for ever in a child of a fork
llvmlite.binding.add_symbol("npae_pool", ctypes.addressof(POOL))


def _pool(build):
    found = build.module.globals.get("npae_pool")
    return found or ir.GlobalVariable(build.module, WORD, "npae_pool")


@intrinsic
def _take_pool(typing):
    """Whether the threads were free; from now on they are not."""

    def generate(context, build, signature, values):
        return build.extract_value(build.cmpxchg(_pool(build), WORD(0), WORD(1), "acquire", "monotonic"), 1)

    return types.boolean(), generate


@intrinsic
def _leave_pool(typing):
    def generate(context, build, signature, values):
        build.store_atomic(WORD(0), _pool(build), "release", 8)
        return context.get_dummy_value()

    return types.void(), generate


if hasattr(os, "register_at_fork"):  # the threads stay with the parent, and OpenMP ends a child that calls for them
    os.register_at_fork(after_in_child=lambda: setattr(POOL, "value", 1))


@by_address(THREE_WORDS)
def _loop(task, args, tasks):
    # small work does not wait for threads, nor a second Python thread for the first one's: some of Numba's threading
    # layers end the process where two meet; how many tasks there are is the same, and so are the bits
    if tasks > 1 and _take_pool():
        _parallel_loop(task, args, tasks)
        _leave_pool()
    else:
        for k in range(tasks):
            _call(task, args, k)


llvmlite.binding.add_symbol(LOOP, _loop.address)  # compiled kernels find the loop by its name


@inner
def share(k, chunks, n):
    """lo, hi: the rows (or pictures) of chunk k when n of them are cut into chunks."""
    return k * n // chunks, (k + 1) * n // chunks
