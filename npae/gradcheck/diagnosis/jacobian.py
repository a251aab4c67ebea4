"""A layer's Jacobian twice: J as differences have it, and B as backward claims it, one unit dy at a time.
Where the two differ, and how, tells what a backward pass does: which outputs it counts, where it puts them.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npae.gradcheck.diagnosis.shares import differences
from npae.gradcheck.specimen import Specimen

MOST = 600
"""Outputs, and entries of an array, up to which whole Jacobians are made: a sample shape of a lesson, not MNIST."""
CLOSE = 1e-7
"""Of the largest entry: how well differences without a tolerance of their own are trusted here."""

Array = np.ndarray


@dataclass
class Pullback:
    """A layer at a point: x, an upstream gradient g, and what both say of the derivatives there."""

    specimen: Specimen
    x: Array
    g: Array

    def __post_init__(self) -> None:
        self.y = np.array(self.specimen.forward(self.x))
        self.branch = self.specimen.branch()
        self._numeric: dict[str, Array] = {}
        self._claimed: dict[str, Array] | None = None

    @property
    def small(self) -> bool:
        """Is it worth while to make whole Jacobians?"""
        return self.y.size <= MOST and all(array.size <= MOST for array in self.arrays.values())

    @property
    def arrays(self) -> dict[str, Array]:
        """x and the parameters, as they are used: to be changed in place and put back."""
        return {"x": self.x, **{name: param.value for name, param in self.specimen.params.items()}}

    def numeric(self, name: str) -> Array:
        """J[k, p] = dy_k / da_p by Richardson's differences; k and p count in C order."""
        if name not in self._numeric:
            self._numeric[name] = self._held(lambda: differences(self.again, self.arrays[name]))
        return self._numeric[name]

    def claimed(self, name: str) -> Array:
        """B[k, p] = what backward adds to the gradient of a_p for a dy of 1 at output k."""
        if self._claimed is None:
            unit, rows = np.zeros_like(self.g), []
            for k in np.ndindex(self.g.shape):
                unit[k] = 1
                rows.append(self.specimen.run(self.x, unit.copy()))
                unit[k] = 0
            self._claimed = {name: np.array([np.ravel(row[name]) for row in rows]) for name in self.arrays}
        return self._claimed[name]

    def pulled(self, g: Array) -> dict[str, Array]:
        """What backward says for another dy."""
        return self.specimen.run(self.x, g)

    def gradient_at(self, name: str, changes: dict[str, Array], g: Array | None = None) -> Array:
        """The right gradient of an array where others (or itself) have other values: J(changes)^T g."""
        kept = {other: self.arrays[other].copy() for other in changes}
        try:
            for other, value in changes.items():
                self.arrays[other][...] = value
            J = self._held(lambda: differences(self.again, self.arrays[name]))
        finally:
            for other, value in kept.items():
                self.arrays[other][...] = value
        return (J.T @ np.ravel(self.g if g is None else g)).reshape(self.arrays[name].shape)

    def again(self) -> Array:
        """y once more, of what the arrays hold now."""
        return self.specimen.forward(self.x)

    def _held(self, measure: Callable[[], Array]) -> Array:
        """With the branches of this point held, where the layer can."""
        if self.branch is None or not hasattr(self.specimen.target, "hold"):
            return measure()
        self.specimen.target.hold(self.branch)
        try:
            return measure()
        finally:
            self.specimen.target.hold(None)


def alike(a: Array, b: Array, size: float | None = None) -> bool:
    """Equal as far as differences can see, beside the largest entry."""
    if a.shape != b.shape:
        return False
    size = float(np.max(np.abs(b), initial=0)) if size is None else size
    return bool(np.all(np.abs(a - b) <= CLOSE * max(size, math.ulp(0.0))))
