"""A scalar function phi of named arrays, made of whatever is to be checked: <g, f(x)> of a layer, the loss of a model,
the value of a function. Differences are taken of phi, and its gradient is what backward claims.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae.gradcheck.specimen import Specimen

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scalar:
    """A scalar function phi of named arrays, standing at one point, with the gradient that is claimed there."""

    arrays: dict[str, np.ndarray]
    claimed: dict[str, np.ndarray]
    evaluate: Callable[[], tuple[float, bool]]
    """() -> (phi at what the arrays hold now, is that on the branch of the centre?)"""
    backward: Callable[[], Any]
    """After evaluate: adds the gradients that it claims to those that are there."""
    value: float
    terms: float
    """Sum of the absolute terms that phi is a sum of: its rounding error is a multiple of eps * terms."""

    @property
    def scale(self) -> float:
        """`terms`, or the root of the sum of (a dphi/da)^2 over every number a that phi is made of: the larger one.

        Terms that cancel within a forward do not show in the value, but they do in its derivatives: to round a is to
        move phi by eps a dphi/da, and these add up like random steps. The claimed derivatives will do: an entry so
        wrong that it matters here is far outside its tolerance all the same.
        """
        squares = [np.square(self.arrays[name] * self.claimed[name]) for name in self.arrays
                   if self.claimed[name].shape == self.arrays[name].shape]
        return max(self.terms, math.sqrt(sum(float(np.sum(s, where=np.isfinite(s))) for s in squares)))


def random_upstream(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """g of phi = <g, f(x)>, from a stream of its own: people make their x by default_rng(0).normal(...) too."""
    return np.asarray(np.random.default_rng([seed, 12]).normal(size=shape))


def at_arrays(f: Callable[[Any], tuple[float, Any]], theta: Mapping[str, np.ndarray] | np.ndarray, name: str,
              terms: float | None) -> Scalar:
    """phi = f as a function of theta; f is given copies each time, so that it may do with them what it likes."""
    several = isinstance(theta, Mapping)
    arrays = dict(theta) if isinstance(theta, Mapping) else {name: theta}

    def call() -> tuple[float, Any]:
        return f({key: array.copy() for key, array in arrays.items()} if several else arrays[name].copy())

    value, gradient = call()
    if several and set(gradient) != set(arrays):
        raise ValueError(f"f has the arrays {sorted(arrays)}, but gives gradients of {sorted(gradient)}: one for each")
    claimed = {key: np.array(gradient[key] if several else gradient) for key in arrays}
    size = abs(float(value)) if terms is None else terms
    return Scalar(arrays, claimed, lambda: (float(call()[0]), True), lambda: None, float(value), size)


def at_layer(specimen: Specimen, x: np.ndarray, g: np.ndarray) -> Scalar:
    """phi = <g, f(x)> as a function of x and of every parameter."""
    def evaluate() -> tuple[float, bool]:
        phi = float(np.sum(g * specimen.forward(x)))
        return phi, specimen.on_branch(branch)

    specimen.clear()
    y = np.array(specimen.forward(x))
    branch = specimen.branch()
    claimed = specimen.pull(g.copy())
    arrays = {"x": x, **{name: param.value for name, param in specimen.params.items()}}
    size = float(np.sum(np.abs(g * y)))
    return Scalar(arrays, claimed, evaluate, lambda: specimen.target.backward(g.copy()), float(np.sum(g * y)), size)


def at_model(specimen: Specimen, x: np.ndarray, y: np.ndarray | None) -> Scalar:
    """phi = loss as a function of every parameter; the reported terms tell how much may have cancelled."""
    def evaluate() -> tuple[float, bool]:
        phi = float(specimen.loss(x, y)["loss"])
        return phi, specimen.on_branch(branch)

    specimen.clear()
    terms = specimen.loss(x, y)
    branch = specimen.branch()
    specimen.target.backward()
    arrays = {name: param.value for name, param in specimen.params.items()}
    size = sum(abs(float(term)) for term in terms.values())
    return Scalar(arrays, specimen.grads(), evaluate, specimen.target.backward, float(terms["loss"]), size)
