"""Loops that many kernels share: compiled once a dtype and called by their address.

Left alone, Numba puts a copy of a compiled function into every function that calls it, and into every one that calls
those, and optimises each copy anew: half a minute of waiting before the first training step.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj, numpy_support

from npae.kernels.fast_parallel import ALONE, WORD, by_address, inner

LINKED: dict[str, Linked] = {}
_ready: dict[np.dtype, list[Any]] = {}  # keeps the compiled code alive


class Linked:
    """A function and the kinds of its parameters: arrays of one dtype, float64 numbers, and else integers."""

    def __init__(self, function: Callable[..., None], arrays: str, floats: str):
        self.name, self.body = function.__name__, inner(function)
        self.parameters = tuple(inspect.signature(function).parameters)
        self.arrays, self.floats = arrays, floats

    def kinds(self, dtype: Any) -> tuple[Any, ...]:
        """The Numba types of the parameters for a Numba dtype."""
        return tuple(types.Array(dtype, 1, "C") if name in self.arrays.split() else
                     types.float64 if name in self.floats.split() else types.int64 for name in self.parameters)

    def accepted(self, given: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """The dtype, and the types to call it with: the arrays of any shape, in C order."""
        dtype = next(kind.dtype for kind in given if isinstance(kind, types.Array))
        for name, kind in zip(self.parameters, given, strict=True):
            if name in self.arrays.split() and (kind.dtype, kind.layout) != (dtype, "C"):
                raise TypeError(f"{self.name}: {name} is {kind}, but must be of {dtype} in C order")
        return dtype, [kind if name in self.arrays.split() else wanted
                       for name, kind, wanted in zip(self.parameters, given, self.kinds(dtype), strict=True)]

    def call(self, context, build, dtype, words) -> None:
        """Emit a call with arguments that are words: the address and the size of an array, or the bits of a number."""
        kinds, given = self.kinds(dtype), []
        for kind in kinds:
            if isinstance(kind, types.Array):
                array, size = context.make_array(kind)(context, build), WORD(dtype.bitwidth // 8)
                data = build.inttoptr(next(words), array.data.type)
                arrayobj.populate_array(array, data, shape=[next(words)], strides=[size], itemsize=size, meminfo=None)
                given.append(array._getvalue())
            else:
                given.append(build.bitcast(next(words), context.get_value_type(kind)))
        self.body.compile(kinds)
        compiled = self.body.overloads[kinds]
        context.add_linking_libs([compiled.library])
        context.call_internal_no_propagate(build, compiled.fndesc, compiled.signature, given)


def _words(context, build, signature, values):
    """The arguments of a call as words."""
    for kind, value in zip(signature.args, values, strict=True):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, build, value)
            yield build.ptrtoint(array.data, WORD)
            yield array.nitems
        else:
            yield build.bitcast(value, WORD)


def linked(arrays: str, floats: str = "", apart: bool = True) -> Callable[[Callable[..., None]], Any]:
    """Let compiled code call a function that is compiled once for each dtype that is made `ready`.

    arrays, floats: the names of those parameters, with blanks between; all others are integers. The caller's arrays
    may be of any shape; the function sees them flat. It must not raise. Not `apart`, it is copied into its callers.
    """

    def decorate(function: Callable[..., None]) -> Any:
        entry = Linked(function, arrays, floats)
        if apart:
            LINKED[entry.name] = entry

        def door(typing, *given):
            dtype, kinds = entry.accepted(given)

            def generate(context, build, signature, values):
                words = _words(context, build, signature, values)
                if apart:
                    packed = cgutils.alloca_once_value(build, cgutils.pack_array(build, list(words), WORD))
                    target = cgutils.get_or_insert_function(
                        build.module, ir.FunctionType(ir.VoidType(), [WORD]), _symbol(entry.name, dtype))
                    build.call(target, [build.ptrtoint(packed, WORD)])
                else:
                    entry.call(context, build, dtype, words)
                return context.get_dummy_value()

            return types.void(*kinds), generate

        plates = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                  for name in ("typing", *entry.parameters)]
        door.__signature__ = inspect.Signature(plates)  # type: ignore[attr-defined]
        door.__name__ = entry.name
        known = intrinsic(door)
        known.__wrapped__, known.linked = function, entry  # for who reads the kernels without compiling them
        return known

    return decorate


def _symbol(name: str, dtype: Any) -> str:
    return f"npae_{name}_{dtype}"


@intrinsic(prefer_literal=True)
def _enter(typing, name, address, zero):
    """The linked function of that name, for zero's dtype, on the arguments whose words stand at an address."""

    def generate(context, build, signature, values):
        first, entry = build.inttoptr(values[1], WORD.as_pointer()), LINKED[name.literal_value]
        count = sum(2 if isinstance(kind, types.Array) else 1 for kind in entry.kinds(zero))
        entry.call(context, build, zero, (build.load(build.gep(first, [WORD(i)])) for i in range(count)))
        return context.get_dummy_value()

    return types.void(name, address, zero), generate


def _door(name: str) -> Callable[[int, float], None]:
    def linked_door(address, zero):
        _enter(name, address, zero)

    return linked_door


def ready(dtype: Any) -> None:
    """Compile every linked function for a dtype (or take it from the cache) and make it known by its name."""
    dtype = np.dtype(dtype)
    if dtype in _ready:  # asked in every step
        return
    with ALONE:
        if dtype in _ready:  # by a thread that came first
            return
        kind, compiled = numpy_support.from_dtype(dtype), []
        for name in LINKED:  # in the order in which they were made, as one may call those before it
            compiled.append(by_address(types.void(types.int64, kind))(_door(name)))
            llvmlite.binding.add_symbol(_symbol(name, kind), compiled[-1].address)
        _ready[dtype] = compiled
