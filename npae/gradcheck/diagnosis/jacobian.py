"""A layer's Jacobian twice: J as differences have it, and B as backward claims it, one unit dy at a time.
Where the two differ, and how, tells what a backward pass does: which outputs it counts, where it puts them.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npae.gradcheck.diagnosis.rows import CLOSE
from npae.gradcheck.diagnosis.shares import differences
from npae.gradcheck.specimen import Specimen

MOST = 600
"""Outputs, and entries of an array, up to which whole Jacobians are made: a sample shape of a lesson, not MNIST."""

Array = np.ndarray


class Plain:
    """The activation of a layer without one: f(z) = z."""

    def f(self, z: Array) -> Array:
        return z

    def slope(self, y: Array) -> Array:
        return np.ones_like(y)

    def branch(self, y: Array) -> None:
        return None


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
        self._plain: dict[str, Array] = {}

    @cached_property
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

    def right(self, name: str) -> Array:
        """The right gradient as a whole, J^T g."""
        return (self.numeric(name).T @ np.ravel(self.g)).reshape(self.arrays[name].shape)

    @cached_property
    def _claimed(self) -> dict[str, Array]:
        unit, rows = np.zeros_like(self.g), []
        for k in np.ndindex(self.g.shape):
            unit[k] = 1
            rows.append(self.specimen.run(self.x, unit.copy()))
            unit[k] = 0
        return {name: np.array([np.ravel(row[name]) for row in rows]) for name in self.arrays}

    def claimed(self, name: str) -> Array:
        """B[k, p] = what backward adds to the gradient of a_p for a dy of 1 at output k."""
        return self._claimed[name]

    def linear(self, name: str, gradient: Array) -> bool:
        """Is the claimed gradient B^T g? Otherwise unit vectors say nothing about it."""
        return alike(np.ravel(gradient), self.claimed(name).T @ np.ravel(self.g))

    def unmoved(self, name: str, want: Array) -> str:
        """Where the right gradient is zero: does y change at all when the array does?"""
        if np.any(np.abs(want) > 1e-9 * max(1.0, float(np.max(np.abs(self.y), initial=0)))):
            return ""
        array, rng = self.arrays[name], np.random.default_rng(14)
        kept, same = array.copy(), True
        try:
            for size in (1, 1, 1, 1, 3, 3, 3, 3):  # dead units wake up at one of these
                array[...] = kept + size * rng.normal(size=array.shape)
                same = same and np.array_equal(self.again(), self.y)
        finally:
            array[...] = kept
        return f"forward does not depend on {name} (it may use a copy): no change of it changes y" if same else ""

    def pulled(self, g: Array) -> dict[str, Array]:
        """What backward says for another dy."""
        return self.specimen.run(self.x, g)

    def gradient_at(self, name: str, changes: dict[str, Array]) -> Array:
        """The right gradient of an array where others (or itself) have other values: J(changes)^T g."""
        kept = {other: self.arrays[other].copy() for other in changes}
        try:
            for other, value in changes.items():
                self.arrays[other][...] = value
            if self.right_slope is None:
                J = self._held(lambda: differences(self.again, self.arrays[name]))
            else:  # the slope stays that of this point
                with self._without_activation():
                    J = self.right_slope[:, None] * differences(self.again, self.arrays[name])
        finally:
            for other, value in kept.items():
                self.arrays[other][...] = value
        return (J.T @ np.ravel(self.g)).reshape(self.arrays[name].shape)

    def again(self) -> Array:
        """y once more, of what the arrays hold now."""
        return self.specimen.forward(self.x)

    # ---- the activation at the end of a layer, taken off

    @cached_property
    def z(self) -> Array | None:
        """z of a layer y = f(z) that keeps its f in `activation`; None of others."""
        if getattr(self._last, "activation", None) is None:
            return None
        try:
            with self._without_activation():
                return np.array(self.again())
        except Exception:
            return None  # compiled kernels know their own activations only

    def plain(self, name: str) -> Array:
        """dz_k / da_p."""
        if name not in self._plain:
            with self._without_activation():
                self._plain[name] = differences(self.again, self.arrays[name])
        return self._plain[name]

    @cached_property
    def bias(self) -> str:
        """The parameter that is added to z, unit by unit; empty without one."""
        units = self.y.shape[-1] if self.y.ndim else 0
        return next((name for name, param in reversed(self.specimen.params.items())
                     if np.shape(param.value) == (units,)), "")

    @cached_property
    def right_slope(self) -> Array | None:
        """dy_k / dz_k, where there is a bias to find it with."""
        if self.z is None or not self.bias or not self.small:
            return None
        at = np.tile(np.eye(self.y.shape[-1], dtype=bool), (self.y.size // self.y.shape[-1], 1))
        if not alike(self.plain(self.bias), at.astype(float)):
            return None
        return self.numeric(self.bias)[at]

    @property
    def _last(self):
        return getattr(self.specimen.target, "layers", [self.specimen.target])[-1]

    @contextmanager
    def _without_activation(self):
        kept = self._last.activation
        self._last.activation = Plain()
        try:
            yield
        finally:
            self._last.activation = kept

    def _held(self, measure: Callable[[], Array]) -> Array:
        """With the branches of this point held, where the layer can and where that changes nothing."""
        target = self.specimen.target
        if self.branch is None or not hasattr(target, "hold"):
            return measure()
        target.hold(self.branch)
        try:
            if np.array_equal(self.again(), self.y):
                return measure()
        finally:
            target.hold(None)
        return measure()


def alike(a: Array, b: Array, size: float | None = None) -> bool:
    """Equal as far as differences can see, beside the largest entry."""
    if a.shape != b.shape:
        return False
    size = float(np.max(np.abs(b), initial=0)) if size is None else size
    return bool(np.all(np.abs(a - b) <= CLOSE * max(size, math.ulp(0.0))))
