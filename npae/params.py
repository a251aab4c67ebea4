"""Trainable arrays with their gradients, and the flat vectors that an optimizer sees.
Every Param of a packed model is a view into two vectors, theta and grad, so that one call updates the whole net.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from npae.copying import deep_copy
from npae.kernels.workspace import aligned


class Param:
    """A trainable array and its gradient; the name is a path such as 'encoder.2.W' once the layer stands in a model.

    Values are written in place (`p.value[...] = `), never rebound: value and grad may be views into theta and grad.
    """

    def __init__(self, name: str, value: np.ndarray):
        self.name = name
        self.value = value
        self.grad = np.zeros_like(value)
        self.packed = False  # True once value and grad are views into a model's theta and grad

    def __deepcopy__(self, memo: dict[int, Any]) -> Param:
        """One with arrays of its own, which belongs to no model yet."""
        return deep_copy(self, memo, packed=False)

    def __repr__(self) -> str:
        return f"Param({self.name!r}, shape {self.value.shape}, {self.value.dtype})"


def unique(params: Iterable[Param]) -> tuple[Param, ...]:
    """Each Param once, in order: tied layers hold the same one."""
    return tuple({id(p): p for p in params}.values())


def pack(params: Iterable[Param], align: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Re-home all parameters as views into two flat vectors, theta and grad, which are returned.

    Each tensor starts at a multiple of `align` numbers; the gaps are zero and stay zero (their gradient is zero).
    Raises ValueError: no parameters; different dtypes; a parameter that is packed already (it would leave its model).

    >>> W, b = Param("W", np.ones((2, 3))), Param("b", np.zeros(3))
    >>> theta, grad = pack([W, b])
    >>> W.grad += 1
    >>> float(grad.sum())
    6.0
    """
    params = unique(params)
    if not params:
        raise ValueError("pack needs at least one parameter, got none")
    dtypes = {p.value.dtype for p in params}
    if len(dtypes) > 1:
        raise ValueError(f"a model has one dtype, got {sorted(map(str, dtypes))}: build all its layers alike")
    for p in params:
        if p.packed:
            raise ValueError(f"{p.name} is packed already: a layer belongs to one model; use model.to() for a copy")
    starts = np.cumsum([0] + [-(-p.value.size // align) * align for p in params])
    theta, grad = (aligned(int(starts[-1]), params[0].value.dtype, fill=0) for _ in range(2))
    for p, start in zip(params, starts, strict=False):
        here = slice(start, start + p.value.size)
        theta[here], grad[here] = p.value.ravel(), p.grad.ravel()
        p.value, p.grad = theta[here].reshape(p.value.shape), grad[here].reshape(p.value.shape)
        p.packed = True
    return theta, grad
