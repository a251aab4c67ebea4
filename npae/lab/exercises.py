"""The nine exercises of demos/exercises: what a learner's class is called, how it is made and put between layers of
npae, and the values that its forward has to give. The grader is `npae.lab.grade`.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npae.kernels import reference
from npae.lab import hints
from npae.layers import Conv2d, Dense, Layer

Shape = tuple[int, ...]
Make = Callable[[Any, np.random.Generator], Any]
NOISE = 7
"""Seed of the generator that a layer with noise is given."""
STAGES = ("shapes", "bias", "weight", "input", "composition", "state")
"""In the order in which they are graded."""
POINTS = {"shapes": 1, "bias": 1, "weight": 3, "input": 3, "composition": 1, "state": 1}
POINTS_WITHOUT_WEIGHTS = {"shapes": 2, "input": 5, "composition": 2, "state": 1}


@dataclass(frozen=True)
class Part:
    """One class of an exercise.

    Shapes: `input_shape` is that of a batch; `params` has the shape of each parameter, by name.
    `before` and `after` make layers of npae around two of the class. `numbers` are those that a diagnosis may name.
    """

    kind: str
    make: Make
    input_shape: Shape
    reference: Callable[..., np.ndarray]
    """(x, *values of the parameters) -> y, written independently of the exercise."""
    params: Mapping[str, Shape] = field(default_factory=dict)
    before: Callable[[np.random.Generator], Sequence[Layer]] = lambda rng: []
    after: Callable[[np.random.Generator], Sequence[Layer]] = lambda rng: []
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def points(self) -> dict[str, int]:
        """What each stage counts, out of 10; a stage that the class does not have is left out."""
        return POINTS if self.params else POINTS_WITHOUT_WEIGHTS

    @property
    def look(self) -> dict[str, str]:
        """For each stage a question that leads back to the derivation."""
        return hints.look(self.kind)


@dataclass(frozen=True)
class Exercise:
    """A file of demos/exercises; 10 points, shared equally between its parts."""

    number: int
    stem: str
    parts: tuple[Part, ...]

    def points(self, part: Part) -> dict[str, float]:
        """What each stage of one of its parts counts here."""
        return {stage: points / len(self.parts) for stage, points in part.points.items()}


def spread(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Numbers of both signs in random order, no two of them close together and none close to 0: no kink is near."""
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n / 2 + 0.25) * (4 / n)).reshape(shape)


def recognise(classes: Sequence[str], name: str) -> list[Exercise]:
    """The exercises of which a file defines a class; where there is none, the one after which the file is named."""
    found = [e for e in EXERCISES if any(part.kind in classes for part in e.parts)]
    return found or [e for e in EXERCISES if e.stem in name or e.stem.split("_", 1)[1] in name.lower()]


# ---- the layers around the learner's (on the textbook's kernels: no process waits for Numba), and forward by loops

def _dense(n_in: int, n_out: int) -> Callable[[np.random.Generator], Sequence[Layer]]:
    return lambda rng: [Dense(n_in, n_out, activation="tanh", rng=rng, kernels=reference)]


def _conv(n_in: int, n_out: int) -> Callable[[np.random.Generator], Sequence[Layer]]:
    return lambda rng: [Conv2d(n_in, n_out, 2, activation="tanh", rng=rng, kernels=reference)]


def _windows(x: np.ndarray, size: Shape, stride: int) -> dict[Shape, np.ndarray]:
    """(i, j) -> the window there."""
    (kh, kw), (height, width) = size, x.shape[1:3]
    return {(i, j): x[:, stride * i:stride * i + kh, stride * j:stride * j + kw]
            for i in range((height - kh) // stride + 1) for j in range((width - kw) // stride + 1)}


def _tiled(places: Mapping[Shape, np.ndarray]) -> np.ndarray:
    """(i, j) -> (N, C), as a picture (N, H', W', C)."""
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    return np.stack([np.stack([places[i, j] for j in range(columns)], 1) for i in range(rows)], 1)


def _conv2d(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    X = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _tiled({place: np.einsum("nuvc,uvco->no", window, W) + b
                   for place, window in _windows(X, W.shape[:2], 2).items()})


def _max_pool(x: np.ndarray) -> np.ndarray:
    return _tiled({place: window.max((1, 2)) for place, window in _windows(x, (3, 2), 2).items()})


def _nearest(x: np.ndarray) -> np.ndarray:
    return np.kron(x, np.ones((1, 2, 2, 1)))


def _bilinear(x: np.ndarray) -> np.ndarray:
    """Twice as large: three quarters of the nearer pixel and one of the next, edges repeated; rows, then columns."""
    for axis in (1, 2):
        edge = [(0, 0)] * 4
        edge[axis] = (1, 1)
        padded = np.moveaxis(np.pad(x, edge, mode="edge"), axis, 0)
        mixed = np.stack([0.75 * padded[1:-1] + 0.25 * padded[:-2], 0.75 * padded[1:-1] + 0.25 * padded[2:]], 1)
        x = np.moveaxis(mixed.reshape(-1, *padded.shape[1:]), 0, axis)
    return x


def _stamps(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    (n, height, width, _), (kh, kw, out, _) = x.shape, W.shape
    Y = np.zeros((n, 2 * height - 2 + kh, 2 * width - 2 + kw, out))
    for i, j in np.ndindex(height, width):
        Y[:, 2 * i:2 * i + kh, 2 * j:2 * j + kw] += np.einsum("nc,uvoc->nuvo", x[:, i, j], W)
    return Y[:, 1:-1, 1:-1] + b


def _sample(x: np.ndarray) -> np.ndarray:
    mu, logvar = x[:, :x.shape[1] // 2], x[:, x.shape[1] // 2:]
    return mu + np.sqrt(np.exp(logvar)) * np.random.default_rng(NOISE).standard_normal(mu.shape)


def _kl(x: np.ndarray) -> np.ndarray:
    mu, logvar = x[:, :x.shape[1] // 2], x[:, x.shape[1] // 2:]
    return np.einsum("nj->n", mu**2 + np.exp(logvar) - 1 - logvar) / 2


def _code(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (1 + np.tanh((np.einsum("ni,ij->nj", x, W) + b) / 2)) / 2


def _jacobian(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    J = W * (np.cosh((np.einsum("ni,ij->nj", x, W) + b) / 2) ** -2 / 4)[:, None]
    return np.einsum("nij,nij->n", J, J)


# ---- the exercises

DENSE = Part(
    "Dense", lambda kind, rng: kind(5, 3, rng), (4, 5), lambda x, W, b: np.einsum("ni,io->no", x, W) + b,
    {"W": (5, 3), "b": (3,)}, _dense(5, 5), _dense(3, 2),
    {"the batch size": 4, "the fan-in": 5, "the fan-out": 3})
RELU = Part(
    "ReLU", lambda kind, rng: kind(), (3, 7), lambda x: np.where(x > 0, x, 0),
    {}, _dense(7, 7), _dense(7, 2), {"the batch size": 3})
SIGMOID = Part(
    "Sigmoid", lambda kind, rng: kind(), (3, 7), lambda x: (1 + np.tanh(x / 2)) / 2,
    {}, _dense(7, 7), _dense(7, 2), {"the batch size": 3})
CONV = Part(
    "Conv2d", lambda kind, rng: kind(2, 3, (3, 2), 2, 1, rng), (2, 6, 5, 2), _conv2d,
    {"W": (3, 2, 2, 3), "b": (3,)}, _conv(2, 2), _conv(3, 2),
    {"the batch size": 2, "the number of pixels": 30, "the number of output pixels": 9, "the fan-in": 12,
     "the size of the window": 6, "the stride": 2})
POOL = Part(
    "MaxPool2d", lambda kind, rng: kind((3, 2), 2), (2, 7, 5, 3), _max_pool,
    {}, _conv(3, 3), _conv(3, 2), {"the batch size": 2, "the size of the window": 6, "the stride": 2})
NEAREST = Part(
    "UpsampleNearest", lambda kind, rng: kind(2), (2, 3, 4, 2), _nearest,
    {}, _conv(2, 2), _conv(2, 2), {"the batch size": 2, "the factor": 2, "the size of the window": 4})
BILINEAR = Part(
    "UpsampleBilinear", lambda kind, rng: kind(2), (2, 3, 4, 2), _bilinear,
    {}, _conv(2, 2), _conv(2, 2), {"the batch size": 2, "the factor": 2, "the size of the window": 4})
TRANSPOSED = Part(
    "ConvTranspose2d", lambda kind, rng: kind(2, 3, (3, 4), 2, 1, rng), (2, 3, 2, 2), _stamps,
    {"W": (3, 4, 3, 2), "b": (3,)}, _conv(2, 2), _conv(3, 2),
    {"the batch size": 2, "the number of pixels": 6, "the fan-in": 2, "the size of the window": 12, "the stride": 2})
SAMPLE = Part(
    "Reparameterize", lambda kind, rng: kind(), (4, 6), _sample,
    {}, _dense(6, 6), _dense(3, 2), {"the batch size": 4, "the number of units": 3})
KL = Part(
    "GaussianKL", lambda kind, rng: kind(), (4, 6), _kl,
    {}, _dense(6, 6), numbers={"the batch size": 4, "the number of units": 3})
TIED = Part(
    "TiedPair", lambda kind, rng: kind(5, 3, rng), (4, 5),
    lambda x, W, b, c: np.einsum("nj,ij->ni", _code(x, W, b), W) + c,
    {"W": (5, 3), "b": (3,), "c": (5,)}, _dense(5, 5), _dense(5, 2),
    {"the batch size": 4, "the fan-in": 5, "the number of units": 3})
CONTRACTIVE = Part(
    "ContractivePenalty", lambda kind, rng: kind(5, 3, rng), (4, 5), _jacobian,
    {"W": (5, 3), "b": (3,)}, _dense(5, 5), numbers={"the batch size": 4, "the fan-in": 5, "the number of units": 3})

EXERCISES = tuple(Exercise(number, f"{number}_{stem}", parts) for number, (stem, parts) in enumerate({
    "dense": (DENSE,), "relu_sigmoid": (RELU, SIGMOID), "conv2d": (CONV,), "max_pool": (POOL,),
    "upsampling": (NEAREST, BILINEAR), "conv_transpose2d": (TRANSPOSED,), "reparameterize": (SAMPLE, KL),
    "tied_weights": (TIED,), "contractive": (CONTRACTIVE,)}.items(), 1))
