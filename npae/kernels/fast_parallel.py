"""How a kernel uses every core: its work is cut into tasks, and one parallel loop, compiled once, runs them all.

A kernel is three things: the body of task k in Numba, `launch` under it, and a Python door that packs the arguments:

    @njit(**INNER)
    def _double_row(k, x, y):
        for j in range(x.shape[1]):
            y[k, j] = 2 * x[k, j]

    @njit(**DOOR)
    def _double(rows, *args):
        launch(_double_row, rows, args)

A `prange` of its own for each kernel does the same, but Numba then compiles the body four times over. A task writes
only what no other task reads or writes; how many tasks there are never depends on the number of threads.
"""
from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

DOOR: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}  # of a function that Python calls
INNER: dict[str, Any] = {**DOOR, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # of one that only kernels call

WORD = ir.IntType(64)
TASK = ir.FunctionType(ir.VoidType(), [WORD, WORD])  # address of the arguments, k
LOOP = "npae_loop"


@intrinsic
def launch(typing, body, tasks, args):
    """body(k, *args) for every k < tasks, on all threads."""
    kinds = (types.int64, *args.types)
    body.dispatcher.compile(kinds)
    compiled = body.dispatcher.overloads[kinds]

    def generate(context, build, signature, values):
        _, tasks, packed = values
        context.add_linking_libs([compiled.library])
        task = ir.Function(build.module, TASK, "npae_task")  # takes the arguments apart and calls the body
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


@njit(THREE_WORDS, parallel=True, **DOOR)
def _parallel_loop(task, args, tasks):
    for k in prange(tasks):
        _call(task, args, np.int64(k))


@cfunc(THREE_WORDS, cache=True)
def _loop(task, args, tasks):
    if tasks == 1:  # small work does not wait for threads
        _call(task, args, 0)
    else:
        _parallel_loop(task, args, tasks)


llvmlite.binding.add_symbol(LOOP, _loop.address)  # compiled kernels find the loop by its name


@njit(**INNER)
def share(k, chunks, n):
    """lo, hi: the rows (or pictures) of chunk k when n of them are cut into chunks."""
    return k * n // chunks, (k + 1) * n // chunks
