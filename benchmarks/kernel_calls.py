"""The kernels that a training step calls, with the very arrays that it calls them with, and each one timed alone.

Nothing is typed in: one step is watched, and what its layers, its loss and its optimizer ask of `npae.kernels.fast`
is written down. A kernel that is timed alone finds its arrays in the caches, so a step may be slower than their sum.
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import quickest
from step_profile import rows_of
from steps import Step
from watch import PYTHON, watching

from npae.kernels import reference

PRODUCTS = ("conv2d", "dense")  # how the names begin of kernels that multiply matrices
UPDATED = {"dW", "db", "theta", "m", "v", "velocity"}  # read and written; every other array is one of both
SECONDS = 0.1  # how long each kernel is repeated


@dataclass
class Call:
    """A kernel at one shape: how often a step calls it, what it has to do at least, and how long it takes.

    Attributes: bytes: each array once, those that are updated twice; seconds of one call.
    """

    kernel: str
    where: str
    shapes: str
    flops: int
    bytes: int
    times: int = 1
    seconds: float = 0.0


def measure(step: Step, seconds: float = SECONDS) -> list[Call]:
    """The kernels of a step in the order of their first call. The step's weights are used up."""
    step(0)  # which compiles what is not compiled yet
    with watching(step) as watch:
        watch.timed(step, "step", "", PYTHON)(1)
    rows = {(row.part, row.phase): row for row in rows_of(step, watch)}
    found: dict[tuple[Any, ...], Call] = {}
    for part, phase, name, function, args, kwargs in watch.kernels:
        row, product = rows[part, phase], name.startswith(PRODUCTS)
        call = Call(name, row.what, shapes(args), row.flops if product else 0, least_bytes(name, args, kwargs))
        key = call.kernel, call.where, call.shapes, call.flops
        if key in found:
            found[key].times += 1
            continue
        found[key] = call
        call.seconds = quickest(lambda f=function, a=args, k=kwargs: f(*a, **k), seconds)  # type: ignore[misc]
    return list(found.values())


def shapes(args: tuple[Any, ...]) -> str:
    """The sizes of the arrays that the kernel is told of, in its own order: 16x28x28x1 3x3x1x32."""
    return " ".join("x".join(map(str, array.shape)) for array in args if isinstance(array, np.ndarray))


def least_bytes(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """What has to be read and written if nothing is read or written twice."""
    given = inspect.signature(getattr(reference, name)).bind(*args, **kwargs).arguments
    arrays = {id(array): (array.nbytes, key) for key, array in given.items() if isinstance(array, np.ndarray)}
    return sum(size * (2 if key in UPDATED else 1) for size, key in arrays.values())


def roofs(call: Mapping[str, Any], peak: float, copy: Mapping[str, float]) -> dict[str, Any]:
    """{"roof", "fraction", "gflops", "gbytes"}: which of the two roofs is nearer, and the part of it that is reached.

    peak: GF/s of a large product; copy: GB/s by the bytes that are copied, of which the nearest number counts.
    """
    rate = copy[min(copy, key=lambda size: abs(math.log(2 * int(size) / call["bytes"])))]
    limits = {"products": call["flops"] / peak / 1e9, "copies": call["bytes"] / rate / 1e9}
    roof = max(limits, key=lambda name: limits[name])
    return {"roof": roof, "fraction": limits[roof] / call["seconds"], "gflops": call["flops"] / call["seconds"] / 1e9,
            "gbytes": call["bytes"] / call["seconds"] / 1e9}
