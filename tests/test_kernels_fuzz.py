"""Random calls of every kernel: fast against the reference, within bounds that follow from the length of the sums.

u is the unit roundoff (half an ulp of 1). The truth is the reference in float64 on the same numbers, so that a float32
sum of K products is within K u sum |a||b| of it, in any order (Higham 2002, section 3.1), and a float64 one within
twice that. All activations here have slopes of at most 1 and are good to 4 ulp = 8 u, their slopes to 8 u of 1.
Channels lie around the widths of vectors, pictures around chunks and the heights of tiles; arrays may begin at an odd
number; scratch is fresh or kept from call to call, and full of NaN when it is handed out.
"""
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npae.kernels import Workspace, fast, reference
from npae.kernels.geometry import window_geometry
from npae.layers import Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from npae.layers.activations import Activation


class Softsign(Activation):
    """y = x / (1 + |x|), which has no compiled loop."""

    def f(self, x):
        return x / (1 + np.abs(x))

    def slope(self, y):
        return (1 - np.abs(y)) ** 2


class Dirty(Workspace):
    """Scratch is what `empty` says: nothing can be read from it."""

    def empty(self, key, shape, dtype):
        array = super().empty(key, shape, dtype)
        array.fill(np.nan if array.dtype.kind == "f" else -9)
        return array


KEPT = Dirty(keep=True)  # one for all examples: its arrays have been larger and smaller
ACTIVATIONS = Identity(), ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh(), Softplus(), Softsign()
CHANNELS = st.one_of(st.integers(1, 40), st.sampled_from([1, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33]))
PICTURES = st.one_of(st.integers(1, 4), st.sampled_from([7, 8, 9, 13, 14, 15, 16, 17, 28, 31, 32, 33]))
ROWS = st.one_of(st.integers(1, 33), st.sampled_from([112, 127, 128, 129, 255, 300]))
COLUMNS = st.one_of(CHANNELS, st.sampled_from([48, 63, 64, 65, 223, 224, 225, 257]))


@st.composite
def geometries(draw, pool=False):
    """Windows of a pool all meet the picture: the layers refuse others."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel, stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.tuples(*[st.integers(1, 3)] * 2))
    fits = [p for p in (0, 1, 2, 3) if kernel[0] <= height + 2 * p and kernel[1] <= width + 2 * p
            and (p < min(kernel) or not pool)]
    return window_geometry((height, width), kernel, stride, draw(st.sampled_from(["same", *fits])))


class Case:
    """What one example draws: a dtype, an activation, a workspace, and random arrays."""

    def __init__(self, draw):
        self.dtype = np.dtype(draw(st.sampled_from([np.float32, np.float64])))
        self.bend = draw(st.sampled_from(ACTIVATIONS))
        self.work = draw(st.sampled_from([None, Dirty(), KEPT]))
        self.odd = draw(st.integers(0, 3))
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def normal(self, *shape):
        """Contiguous, from the first number of its memory or from a later one."""
        numbers = self.rng.standard_normal(math.prod(shape) + self.odd).astype(self.dtype)
        return numbers[self.odd:].reshape(shape)

    def nothing(self, *shape):
        array = self.normal(*shape)
        array.fill(np.nan)
        return array

    def output(self, *shape):
        """What an activation gives."""
        return self.bend.f(self.normal(*shape)).astype(self.dtype)

    def near(self, got, want, bound, name=""):
        """|got - want| <= bound u (twice that where the truth is as coarse), number by number."""
        assert got.shape == want.shape and got.dtype == self.dtype and got.flags.c_contiguous, name
        u = np.finfo(self.dtype).eps / 2 * (1 if self.dtype == np.float32 else 2)
        over = np.abs(got.astype(np.float64) - want) - bound * u - float(np.finfo(self.dtype).smallest_subnormal)
        assert (over <= 0).all(), f"{name} {self.dtype}: {over.max():.2e} over the bound at {np.argmax(over)}"


def double(*arrays):
    return [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arrays]


def size(*arrays):
    return [np.abs(a.astype(np.float64)) if isinstance(a, np.ndarray) else a for a in arrays]


# ---- sums of products


def conv_agrees(data):
    """Convolutions and transposed ones, forward and backward, and the three contractions."""
    draw = data.draw
    c, g, transposed = Case(draw), draw(geometries()), draw(st.booleans())
    n, inside, out = draw(PICTURES), draw(CHANNELS), draw(CHANNELS)
    n = max(1, min(n, 3_000_000 // (inside * out * math.prod(g.kernel_size) * math.prod(g.output_size))))
    a, W, d = (c.normal(n, *g.input_size, inside), c.normal(*g.kernel_size, inside, out),
               c.normal(n, *g.output_size, out))
    taps, pixels = math.prod(g.kernel_size), n * math.prod(g.output_size)
    terms = {"conv2d": (a, W, taps * inside), "conv2d_input_grad": (d, W, taps * out),
             "conv2d_weight_grad": (a, d, pixels)}
    for name, (left, right, length) in terms.items():
        want, sums = (getattr(reference, name)(*pair, g) for pair in (double(left, right), size(left, right)))
        c.near(getattr(fast, name)(left, right, g), want, length * sums, name)
    if transposed:
        fused_agrees(c, draw, "conv2d_transpose", (d, W, a), (g,), (taps * out, pixels, taps * inside))
    else:
        fused_agrees(c, draw, "conv2d", (a, W, d), (g,), (taps * inside, pixels, taps * out))


def dense_agrees(data):
    """W and its gradient as they are, or the transposes of what a tied layer holds."""
    draw = data.draw
    c, n, inside, out, tied = Case(draw), draw(ROWS), draw(COLUMNS), draw(COLUMNS), draw(st.booleans())
    W = c.normal(out, inside).T if tied else c.normal(inside, out)
    fused_agrees(c, draw, "dense", (c.normal(n, inside), W, c.normal(n, out)), (), (inside, n, out), tied)


def fused_agrees(c, draw, name, arrays, g, lengths, tied=False):
    """y;  dW and db on top of what is there;  dx, or none.  lengths: of the sums in y, dW and dx."""
    x, W, dy = arrays
    b, y = c.normal(dy.shape[-1]), c.output(*dy.shape)
    dW, db = c.normal(*W.shape), c.normal(*b.shape)
    dW = np.ascontiguousarray(dW.T).T if tied else dW
    given = double(dW, db)
    out, dx = (c.nothing(*shape) if draw(st.booleans()) else None for shape in (dy.shape, x.shape))
    read = [array.tobytes() for array in (x, W, b, dy, y)]
    forward, backward = f"{name}_forward", f"{name}_backward"
    made = getattr(fast, forward)(x, W, b, *g, c.bend, out, c.work)
    assert out is None or made is out
    want = getattr(reference, forward)(*double(x, W, b), *g, c.bend)
    sums = getattr(reference, forward)(*size(x, W, b), *g, Identity())
    c.near(made, want, (lengths[0] + 2) * sums + 8 * np.abs(want), forward)

    assert getattr(fast, backward)(x, W, y, dy, *g, c.bend, dW, db, dx, c.work) is dx
    want = [array.copy() for array in (*given, x.astype(np.float64))]
    sums = [np.abs(array) for array in given] + [np.zeros(x.shape)]
    getattr(reference, backward)(*double(x, W, y, dy), *g, c.bend, *want)
    getattr(reference, backward)(*size(x, W, y, dy), *g, Identity(), *sums)
    longest = [lengths[1] + 20, lengths[1] + 20, lengths[2] + 10]
    for key, got, truth, total, length in zip(("dW", "db", "dx"), (dW.T if tied else dW, db, dx), want, sums, longest,
                                              strict=True):
        if got is not None:
            turn = np.transpose if tied and key == "dW" else np.asarray
            c.near(got, turn(truth), length * turn(total), f"{backward}, {key}")
    assert read == [array.tobytes() for array in (x, W, b, dy, y)], f"{name} writes to what it is to read"


def activations_agree(data):
    """Number by number, over the edges of blocks; f and its slope, in place of another array or in a new one."""
    draw = data.draw
    c, n = Case(draw), draw(st.one_of(st.integers(1, 70), st.sampled_from([4095, 4096, 4097, 8193])))
    x, y, dy = c.normal(n), c.output(n), c.normal(n)
    want = c.bend.f(x.astype(np.float64))
    c.near(fast.activate(x, c.bend, draw(st.sampled_from([None, c.nothing(n)]))), want, 8 * np.abs(want) + 1e-30)
    want = reference.activate_input_grad(*double(y, dy), c.bend)
    c.near(fast.activate_input_grad(y, dy, c.bend, draw(st.sampled_from([None, c.nothing(n)]))), want, 10 * np.abs(dy))


def pools_agree(data):
    """Few different numbers, so that windows have several largest ones."""
    draw = data.draw
    c, g, n, channels = Case(draw), draw(geometries(pool=True)), draw(PICTURES), draw(CHANNELS)
    x = np.round(c.normal(n, *g.input_size, channels))
    dy = c.normal(n, *g.output_size, channels)
    out, winner = (c.nothing(*dy.shape), np.full(dy.shape, -1, np.int32)) if draw(st.booleans()) else (None, None)
    (y, won), (want, first) = fast.max_pool2d(x, g, out, winner), reference.max_pool2d(x, g)
    assert np.array_equal(y, want) and np.array_equal(won, first) and (out is None or (y is out and won is winner))
    area, dx = math.prod(g.kernel_size), draw(st.sampled_from([None, c.nothing(*x.shape)]))
    for name, arrays in (("max_pool2d_input_grad", (dy, won)), ("avg_pool2d_input_grad", (dy,)), ("avg_pool2d", (x,))):
        wide = [double(a)[0] if a.dtype.kind == "f" else a for a in arrays]
        kernel, total = getattr(reference, name), [np.abs(a) for a in wide]
        given = () if name == "avg_pool2d" else (dx,)
        c.near(getattr(fast, name)(*arrays, g, *given), kernel(*wide, g), (area + 1) * kernel(*total, g), name)


def upsampling_agrees(data):
    draw = data.draw
    c, n, channels = Case(draw), draw(PICTURES), draw(CHANNELS)
    (h, w), (fh, fw) = draw(st.tuples(*[st.integers(1, 6)] * 2)), draw(st.tuples(*[st.integers(1, 4)] * 2))
    x, dy = c.normal(n, h, w, channels), c.normal(n, h * fh, w * fw, channels)
    for mode, array, like in (("nearest", x, dy), ("nearest_input_grad", dy, x), ("bilinear", x, dy),
                              ("bilinear_input_grad", dy, x)):
        kernel, given = getattr(reference, f"upsample2d_{mode}"), draw(st.sampled_from([None, c.nothing(*like.shape)]))
        got = getattr(fast, f"upsample2d_{mode}")(array, (fh, fw), given)
        assert given is None or got is given
        length = {"nearest": 0, "nearest_input_grad": fh * fw}.get(mode, 8 + 9 * fh * fw)
        c.near(got, kernel(*double(array), (fh, fw)), length * kernel(*size(array), (fh, fw)), mode)


def losses_agree(data):
    """Sums over pixels are taken in float64, so that only the terms themselves are rounded."""
    draw = data.draw
    c, n, d = Case(draw), draw(PICTURES), draw(st.one_of(st.integers(1, 40), st.sampled_from([783, 784, 1025])))
    logits, x = 6 * c.normal(n, d), np.abs(c.normal(n, d)) % 1
    l, t = double(logits, x)
    got, want = ((np.full(n, np.nan), c.nothing(n, d)) for _ in range(2))
    fast.bernoulli_nll(logits, x, *got)
    want = np.full(n, np.nan), np.empty((n, d))
    reference.bernoulli_nll(l, t, *want)
    u = np.finfo(c.dtype).eps / 2
    assert (np.abs(got[0] - want[0]) <= (3 * u + 2 * d * 2.0**-53) * (np.abs(l) * (1 + t) + 3).sum(1)).all()
    c.near(got[1], want[1], np.full((n, d), 10 / n), "dlogits")
    scale = draw(st.sampled_from([0.5, 1.0, 0.3]))
    fast.squared_error(logits, x, scale, *got)
    difference = (logits - x).astype(np.float64)
    exact = scale * (difference**2).sum(1)
    assert (np.abs(got[0] - exact) <= (d + 4) * 2.0**-53 * exact).all()
    c.near(got[1], 2 * scale * difference / n, 3 * np.abs(2 * scale * difference / n), "dy")


STEPS = {"sgd_step": (0, (0.1,)), "momentum_step": (1, (0.1, 0.9)), "rmsprop_step": (1, (0.1, 0.9, 1e-7)),
         "adam_step": (2, (0.1, 0.9, 0.999, 1e-8, 3, 0.5))}  # name -> number of moments, settings


def vectors(c, n, name):
    """theta, grad and the moments; squares are positive."""
    moments = [c.normal(n) for _ in range(STEPS[name][0])]
    if name in ("rmsprop_step", "adam_step"):
        moments[-1] = np.abs(moments[-1]) + c.dtype.type(0.01)
    return [c.normal(n), c.normal(n), *moments]


def steps_agree(data):
    """At most 12 roundings on the way to numbers of theta's or the step's size, 4 on that to a moment's."""
    draw = data.draw
    c, n = Case(draw), draw(st.one_of(st.integers(1, 70), st.sampled_from([8191, 8192, 8193, 24600])))
    for name, (_, how) in STEPS.items():
        arrays = vectors(c, n, name)
        want = double(*arrays)
        getattr(reference, name)(*want, *how)
        scale = np.abs(arrays[0]) + np.max(np.abs(want[0] - arrays[0]))  # summands of a step may cancel
        grad = arrays[1].copy()
        getattr(fast, name)(*arrays, *how)
        c.near(arrays[0], want[0], 12 * scale, name)
        for moment, other in zip(arrays[2:], want[2:], strict=True):
            c.near(moment, other, 4 * (np.abs(other) + np.abs(grad) + grad.astype(float)**2), name)
        assert np.array_equal(grad, arrays[1])
    exact = math.fsum(float(value) ** 2 for value in grad)
    assert abs(fast.sum_of_squares(grad) - exact) <= (n + 2) * 2.0**-53 * exact


CHECKS = {conv_agrees: 70, dense_agrees: 50, activations_agree: 40, pools_agree: 40, upsampling_agrees: 30,
          losses_agree: 30, steps_agree: 20}


def fuzz(check, examples):
    settings(deadline=None, derandomize=True, max_examples=examples, database=None,
             suppress_health_check=list(HealthCheck))(given(st.data())(check))()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fast_is_the_reference_on_random_calls(check):
    fuzz(check, CHECKS[check])


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fast_is_the_reference_on_very_many_random_calls(check):
    fuzz(check, 30 * CHECKS[check])
