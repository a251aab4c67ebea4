"""One convolution, computed in one way after the other: the rungs that `ladder.py` climbs, to be read downwards.

Each takes pictures x (N, H, W, C), weights W (kh, kw, C, O) and a Geometry g, and gives y (N, oh, ow, O). The compiled
ones have a body for picture k, and under it `launch`, which runs the bodies of all pictures on all threads.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npae.kernels import fast, reference
from npae.kernels.fast_parallel import door, inner, launch
from npae.kernels.geometry import Geometry
from npae.layers import ReLU


def seven_loops(k, x, W, g, y):
    """y[k,i,j,o] = sum_{u,v,c} W[u,v,c,o] x[k, s i + u - p, s j + v - p, c], letter by letter."""
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    for i in range(oh):
        for j in range(ow):
            for o in range(W.shape[3]):
                total = y.dtype.type(0)
                for u in range(kh):
                    for v in range(kw):
                        a, b = sh * i + u - top, sw * j + v - left
                        if 0 <= a < h and 0 <= b < w:  # outside are zeros
                            for c in range(W.shape[2]):
                                total += W[u, v, c, o] * x[k, a, b, c]
                y[k, i, j, o] = total


def naive_python(x, W, g):
    """The formula as it stands, one number after the other: Python looks up what `*` means a hundred million times."""
    y = _empty(x, W, g)
    for k in range(len(x)):
        seven_loops(k, x, W, g, y)
    return y


_seven_loops = inner(seven_loops)


@door
def _naive(pictures, *args):
    launch(_seven_loops, pictures, args)


def naive_numba(x, W, g):
    """The same seven loops, compiled: the types are known, and each multiply-add is one instruction."""
    y = _empty(x, W, g)
    _naive(len(x), x, W, g, y)
    return y


@inner
def _outputs_innermost(k, x, W, g, y):
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    y[k] = 0
    for i in range(oh):
        for j in range(ow):
            for u in range(kh):
                for v in range(kw):
                    a, b = sh * i + u - top, sw * j + v - left
                    if 0 <= a < h and 0 <= b < w:
                        for c in range(W.shape[2]):
                            for o in range(W.shape[3]):
                                y[k, i, j, o] += W[u, v, c, o] * x[k, a, b, c]


@door
def _ordered(pictures, *args):
    launch(_outputs_innermost, pictures, args)


def loop_order(x, W, g):
    """o runs innermost: neighbours in memory are used one after the other, so one instruction does a vector of them.

    With c innermost W is read in jumps of O numbers, and each sum has to wait for the one before it.
    """
    y = _empty(x, W, g)
    _ordered(len(x), x, W, g, y)
    return y


def im2col(x, W, g):
    """Every window laid out as a row, then one matrix product: BLAS keeps sums in registers and operands in the cache.

    It costs a copy of x that is kh kw times as large.
    """
    return reference.conv2d(x, W, g)


@inner
def _taps(k, x, W, g, size, y):
    (h, w), (kh, kw), _, (top, left), (oh, ow) = g
    padded = np.zeros((size[0], size[1], x.shape[3]), x.dtype)
    for a in range(h):
        for b in range(w):
            for c in range(x.shape[3]):
                padded[top + a, left + b, c] = x[k, a, b, c]
    part = np.empty((ow, W.shape[3]), x.dtype)
    y[k] = 0
    for i in range(oh):
        for u in range(kh):
            for v in range(kw):
                np.dot(padded[i + u, v:v + ow], W[u, v], part)
                for j in range(ow):
                    for o in range(W.shape[3]):
                        y[k, i, j, o] += part[j, o]


@door
def _direct(pictures, *args):
    launch(_taps, pictures, args)


def direct(x, W, g):
    """No rows are laid out: for each row of outputs and each tap a short product reads the padded picture in place.

    np.dot wants rows that do not overlap, so a window of kw pixels is kw products; and it cannot add to what is there.
    Raises ValueError: a stride other than 1, with which a row of pixels is not contiguous.
    """
    if g.stride != (1, 1):
        raise ValueError(f"direct reads rows in place at stride (1, 1) only, got {g.stride}: use another rung")
    y = _empty(x, W, g)
    _direct(len(x), x, W, g, g.padded_size, y)
    return y


def register_tile(x, W, g):
    """A block of outputs stays in registers until all taps are done: what is read is used for many sums at once.

    Overlapping rows are no trouble to a kernel of our own, so a row takes kh products (`fast_conv`, `fast_tile`).
    """
    return fast.conv2d(x, W, g)


def three_passes(x, W, b, g):
    """The whole layer, f(conv2d(x, W) + b), as three passes: y goes to memory and back two times more."""
    y = fast.conv2d(x, W, g)
    y += b
    return fast.activate(y, ReLU(), y)


def fused(x, W, b, g):
    """Bias and ReLU are done while the outputs are still at hand."""
    return fast.conv2d_forward(x, W, b, g, ReLU())


def _empty(x, W, g):
    return np.empty((len(x), *g.output_size, W.shape[3]), x.dtype)


class Rung(NamedTuple):
    """A way to compute the convolution; with `layer`, of the convolution, the bias and ReLU."""

    name: str
    run: Callable[..., np.ndarray]
    buys: str
    layer: bool = False
    slow: bool = False
    """Timed on a small part of the work, with one thread."""
    numpy_blas: bool = False
    """Its threads are those of NumPy's BLAS."""


RUNGS = (
    Rung("naive Python", naive_python, "the formula as it stands", slow=True),
    Rung("naive Numba", naive_numba, "the same loops without an interpreter"),
    Rung("better loop order", loop_order, "vector instructions"),
    Rung("im2col + BLAS", im2col, "a number that is read is used often", numpy_blas=True),
    Rung("direct in place", direct, "no copy of the picture nine times as large"),
    Rung("register tile", register_tile, "sums stay in registers until all taps are done"),
    Rung("tile, then bias, then ReLU", three_passes, "the whole layer in three passes", layer=True),
    Rung("fused epilogue", fused, "the whole layer in one pass", layer=True),
)


# ---- the work, and what must come out of it

class Work(NamedTuple):
    """The arrays and the geometry of one convolution."""

    x: np.ndarray
    W: np.ndarray
    b: np.ndarray
    g: Geometry

    @property
    def flops(self) -> int:
        """Two for each multiply-add, those with the zeros around the picture too: 2 N oh ow kh kw C O"""
        return 2 * len(self.x) * math.prod(self.g.output_size) * self.W.size

    def for_rung(self, rung: Rung) -> Work:
        """All of it, or for a slow rung two output channels of the first picture."""
        x, W, b, g = self
        return Work(x[:1], np.ascontiguousarray(W[..., :2]), b[:2], g) if rung.slow else self

    def run(self, rung: Rung) -> np.ndarray:
        """What the rung makes of it."""
        return rung.run(self.x, self.W, self.b, self.g) if rung.layer else rung.run(self.x, self.W, self.g)


def make_work(n: int, channels: int, outs: int, g: Geometry) -> Work:
    """Gaussian pictures, weights and biases, float32."""
    rng = np.random.default_rng(0)
    shapes = (n, *g.input_size, channels), (*g.kernel_size, channels, outs), (outs,)
    x, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return Work(x, W, b, g)


def verify(rung: Rung, work: Work) -> float:
    """The largest error of a rung, as a part of what rounding allows.

    A float32 sum of K products, in whatever order, is within K u sum |a||b| of the true one, u = 2^-24 (Higham 2002,
    section 3.1). The true one is the reference in float64. A bias is one term more; a ReLU makes no error larger.
    Raises ValueError: the error is larger than that, or NaN.
    """
    (x, W, b), g = (a.astype(np.float64) for a in work[:3]), work.g
    want, size = reference.conv2d(x, W, g), reference.conv2d(abs(x), abs(W), g)
    if rung.layer:
        want, size = np.maximum(want + b, 0), size + abs(b)
    terms = W[..., 0].size + rung.layer
    error = float((abs(work.run(rung) - want) / (terms * 2.0**-24 * size)).max())
    if not error <= 1:
        raise ValueError(f"{rung.name} is {error:.3g} times as far from the reference as rounding of {terms} terms "
                         "allows: it is not timed before it is mended")
    return error
