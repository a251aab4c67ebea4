"""Calls of every kernel on awkward shapes, small enough for Python to run their loops, with bounds on their rounding.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npae.kernels import reference
from npae.kernels.geometry import window_geometry
from npae.layers import LeakyReLU, ReLU, Sigmoid, Softplus, Tanh

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Job:
    """One kernel on given arrays: run(K, *arrays) -> results, and how far two ways of summing may be apart.

    |got - want| <= 2 terms u size,   u half the spacing at 1

    Source: Higham 2002, section 3.1: a sum of so many terms, taken twice, in any order.
    """

    name: str
    run: Callable[..., Arrays]
    arrays: Arrays
    terms: int = 0
    """0: to the bit."""
    sizes: Callable[..., Arrays] | None = None
    """What the sums are of in absolute values; none: the results themselves."""

    def wrong(self, got: Arrays, want: Arrays) -> str:
        """Which result differs, in words, or nothing."""
        sizes = want if self.sizes is None else self.sizes(reference, *map(np.abs, self.arrays))
        for place, (a, b, size) in enumerate(zip(got, want, sizes, strict=True)):
            u = np.finfo(self.arrays[0].dtype).eps / 2
            if a.shape != b.shape:
                return f"{self.name}: result {place} has shape {a.shape} instead of {b.shape}"
            gap, bound = np.abs(a.astype(np.float64) - b), 2 * self.terms * u * np.abs(size.astype(np.float64))
            if not (gap <= bound).all():
                return f"{self.name}, {self.arrays[0].dtype}: result {place} is off by {gap.max():.1e}"
        return ""


def _normal(dtype: Any, *shapes: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def pools(dtype: Any) -> Iterator[Job]:
    """Windows that hang over every edge, pictures higher than wide and wider than high, and 132 places in a window."""
    for size, kernel, stride, padding in (((5, 7), (3, 2), (2, 3), 1), ((6, 4), 3, 1, "same"), ((4, 5), 2, 2, 0)):
        g = window_geometry(size, kernel, stride, padding)
        x, dy = _normal(dtype, (2, *size, 3), (2, *g.output_size, 3))
        winner = reference.max_pool2d(x, g)[1]
        area = math.prod(g.kernel_size)
        yield Job("max_pool2d", lambda K, x, g=g: list(K.max_pool2d(x, g)), [x])
        yield Job("max_pool2d_input_grad", lambda K, dy, w=winner, g=g: [K.max_pool2d_input_grad(dy, w, g)], [dy], area,
                  lambda K, dy, w=winner, g=g: [K.max_pool2d_input_grad(dy, w, g)])
        for name, array in (("avg_pool2d", x), ("avg_pool2d_input_grad", dy)):
            run = partial(_call, name, g)
            yield Job(name, run, [array], area + 1, run)
    large = window_geometry((12, 13), (12, 11), 1, 0)
    rising = np.arange(156, dtype=dtype).reshape(1, 12, 13, 1)
    yield Job("max_pool2d", lambda K, x: list(K.max_pool2d(x, large)), [rising])


def upsampling(dtype: Any) -> Iterator[Job]:
    """Larger pictures wider than high, and higher than wide."""
    small, wide, high = _normal(dtype, (2, 3, 4, 2), (2, 6, 12, 2), (2, 9, 4, 2))
    for mode in ("nearest", "bilinear"):
        for factor, dy in (((2, 3), wide), ((3, 1), high)):
            for name, array in ((f"upsample2d_{mode}", small), (f"upsample2d_{mode}_input_grad", dy)):
                run = partial(_call, name, factor)
                yield Job(name, run, [array], 8 + 9 * math.prod(factor), run)


def _call(name: str, setting: Any, K: Any, array: np.ndarray) -> Arrays:
    return [getattr(K, name)(array, setting)]


def _layer(name: str, extra: tuple[Any, ...], K: Any, x: np.ndarray, W: np.ndarray, b: np.ndarray, y: np.ndarray,
           dy: np.ndarray) -> Arrays:
    """y, then dx and what is added to dW and db; y of the backward pass is given, so that both start from the same."""
    made = getattr(K, f"{name}_forward")(x, W, b, *extra, ReLU())
    dW, db, dx = np.ones_like(W), np.ones_like(b), np.zeros_like(x)
    getattr(K, f"{name}_backward")(x, W, y, dy, *extra, ReLU(), dW, db, dx)
    return [made, dW, db, dx]


def _open(name: str, extra: tuple[Any, ...], K: Any, x: Any, W: Any, b: Any, y: Any, dy: Any) -> Arrays:
    """The same with the slope 1 everywhere."""
    return _layer(name, extra, K, x, W, b, y + 1, dy)


def convolutions(dtype: Any) -> Iterator[Job]:
    """A kernel that does not divide; the square twin; one channel out, and so few taps that they fit into one vector;
    channels that are whole vectors; and the transposes of all."""
    for n, c, o, size, kernel, stride, padding in (
            (5, 3, 5, (6, 5), (5, 4), (3, 2), "same"), (2, 3, 3, (3, 3), 3, 1, "same"), (2, 2, 1, (4, 5), 3, 1, 1),
            (3, 2, 1, (4, 3), (1, 3), 1, "same"), (2, 1, 2, (5, 4), (3, 1), 2, "same"),
            (2, 1, 2, (4, 5), (1, 4), (1, 3), "same"), (5, 16, 16, (3, 2), (2, 1), 1, 0)):
        g = window_geometry(size, kernel, stride, padding)
        x, W, dy, b, b_ = _normal(dtype, (n, *size, c), (*g.kernel_size, c, o), (n, *g.output_size, o), (o,), (c,))
        terms = max(W[..., 0].size, W[:, :, 0].size, n * math.prod(g.output_size), n * math.prod(size)) + 12
        for name, arrays in (("conv2d", [x, W, b, np.maximum(dy, 0)[::-1], dy]),
                             ("conv2d_transpose", [dy, W, b_, np.maximum(x, 0)[::-1], x])):
            arrays = [np.ascontiguousarray(array) for array in arrays]
            yield Job(name, partial(_layer, name, (g,)), arrays, terms, partial(_open, name, (g,)))


def dense(dtype: Any) -> Iterator[Job]:
    """Several blocks of rows and of columns; rows so few that a matrix is read in place; a sum in parts; a single row;
    the square twin. And with a transposed W, as a tied layer has it; its dW is such a view too."""
    for n, c, o, tied in ((10, 9, 35, False), (13, 9, 18, True), (5, 3, 18, False), (3, 18, 12, False),
                          (2, 17, 3, False), (2, 17, 3, True), (1, 3, 2, False), (3, 3, 3, True)):
        x, W, b, y, dy = _normal(dtype, (n, c), (o, c) if tied else (c, o), (o,), (n, o), (n, o))
        yield Job("dense", partial(_layer, "dense", ()), [x, W.T if tied else W, b, y, dy], max(n, c, o) + 12,
                  partial(_open, "dense", ()))


def activations(dtype: Any) -> Iterator[Job]:
    """Both signs, zero and what is near to it, and more numbers than one task takes."""
    few = (np.linspace(-1, 1, 41) ** 3 * 6).astype(dtype).reshape(1, 41)
    for bend in (ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh(), Softplus()):
        long = np.resize(few, (2, 2100)) if isinstance(bend, ReLU) else few
        y = bend.f(long).astype(dtype)
        yield Job(f"activate, {bend.label}", lambda K, x, b=bend: [K.activate(x, b)], [long], 8)
        yield Job(f"activate_input_grad, {bend.label}", lambda K, dy, b=bend, y=y: [K.activate_input_grad(y, dy, b)],
                  [long[::-1].copy()], 8, lambda K, dy: [dy + 1])


def steps(dtype: Any) -> Iterator[Job]:
    """Rows that four does not divide, a vector shorter than a block and one longer."""
    logits, noise, theta, grad, m, long = _normal(dtype, (3, 7), (3, 7), (37,), (37,), (37,), (8200,))
    x, v = abs(noise) / 4, m * m

    def loss(name: str, *more: Any) -> Callable[..., Arrays]:
        def run(K: Any, y: np.ndarray, x: np.ndarray) -> Arrays:
            values, dy = np.zeros(len(y)), np.zeros_like(y)
            getattr(K, name)(y, x, *more, values, dy)
            return [values, dy]

        return run

    def step(name: str, *more: Any) -> Callable[..., Arrays]:
        def run(K: Any, theta: np.ndarray, grad: np.ndarray, *moments: np.ndarray) -> Arrays:
            moved = [array.copy() for array in (theta, *moments)]
            getattr(K, name)(moved[0], grad, *moved[1:], *more)
            return moved

        return run

    def moments(K: Any, a: np.ndarray) -> Arrays:
        return [np.array(K.moments(a))]

    def ample(K: Any, *arrays: np.ndarray) -> Arrays:
        return [np.full(len(arrays[0]), 60.0), np.full_like(arrays[0], 4)]

    yield Job("bernoulli_nll", loss("bernoulli_nll"), [logits, x], 16, ample)
    yield Job("squared_error", loss("squared_error", 0.7), [logits, x], 16, ample)
    for name, arrays, settings in (("sgd_step", [theta, grad], (0.1,)), ("sgd_step", [long, long + 1], (0.1,)),
                                   ("momentum_step", [theta, grad, m], (0.1, 0.9)),
                                   ("rmsprop_step", [theta, grad, v], (0.1, 0.9, 1e-7)),
                                   ("adam_step", [theta, grad, m, v], (0.1, 0.9, 0.999, 1e-8, 3, 0.01))):
        run = step(name, *settings)
        yield Job(name, run, arrays, 32, lambda K, *arrays: [array + 8 for i, array in enumerate(arrays) if i != 1])
    yield Job("sum_of_squares", lambda K, g: [np.array([K.sum_of_squares(g)])], [long], 16)
    yield Job("moments", moments, [long], 16, moments)
    yield Job("squared_distance", lambda K, a, b: [np.array([K.squared_distance(a, b)])], [long, long + 1], 16)
