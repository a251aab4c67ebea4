"""Elementwise functions within 4 ulp of mpmath over all that floats can hold: every exponent, denormal numbers, zeros
and infinities of both signs, in the middle of vectors and at their ends, alone and at the end of a fused kernel.
"""
import functools

import mpmath
import numpy as np
import pytest
from test_kernels import ACTIVATIONS, EXACT, SLOPE

from npae.kernels import fast, reference
from npae.kernels.geometry import window_geometry
from npae.layers import LeakyReLU

both_modules = pytest.mark.parametrize("K", [reference, fast], ids=["reference", "fast"])
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
every_bend = pytest.mark.parametrize("bend", ACTIVATIONS, ids=lambda a: a.label)
EVERY_DAY, NOW_AND_THEN = {np.float32: 3, np.float64: 1}, {np.float32: 60, np.float64: 12}  # numbers an exponent
SATURATED = 1000  # beyond, exp of an argument is 0 or infinite in either dtype


@functools.cache
def arguments(dtype, each):
    """`each` numbers of every exponent and sign, the edges, a dense middle, and the seams of exp: halves of log 2."""
    rng, kind = np.random.default_rng(0), np.finfo(dtype)
    lowest, highest = int(np.log2(float(kind.smallest_subnormal))), kind.maxexp
    exponents = np.repeat(np.arange(lowest, highest), each)
    sizes = np.ldexp(1 + rng.random(len(exponents)), exponents).astype(dtype)
    seams = (np.arange(1, 2 * 1100, 1 if each > 3 else 3) * np.log(2) / 2).astype(dtype)
    reach = 760 if dtype is np.float64 else 120
    middle = rng.uniform(0, reach, 200 * each)
    seams = seams[seams < reach]
    edges = [0, kind.smallest_subnormal, kind.tiny, kind.max, np.inf]
    sizes = np.concatenate([sizes, middle, seams, np.nextafter(seams, 0, dtype=dtype), edges]).astype(dtype)
    return np.concatenate([sizes, -sizes])


def limit(name, t, alpha):
    """What is left of f far away."""
    if name in ("sigmoid", "tanh"):
        return mpmath.mpf(t > 0) if name == "sigmoid" else mpmath.sign(t)
    return t if t > 0 or name == "identity" else alpha * t if name == "leaky_relu" else mpmath.mpf(0)


@functools.cache
def truth(name, alpha, dtype, each):
    """f of all arguments, as high + low in float64: the second is what rounding leaves of the first."""
    exact = []
    with mpmath.workprec(160):
        alpha = mpmath.mpf(float(dtype(alpha)))
        for t in map(float, arguments(dtype, each)):
            t = mpmath.mpf(t)
            exact.append(EXACT[name](t, alpha) if abs(t) < SATURATED else limit(name, t, alpha))
        return parts(exact)


def parts(exact):
    high = np.array([float(e) for e in exact])
    low = [float(e - mpmath.mpf(h)) if np.isfinite(h) else 0.0 for e, h in zip(exact, map(float, high), strict=True)]
    return high, np.array(low)


def within(got, exact, x, dtype, ulps=4.0, absolute=0.0):
    """|got - (high + low)| <= ulps of the truth (+ absolute); infinities are met exactly."""
    high, low = exact
    assert got.dtype == dtype and got.shape == high.shape == x.shape
    finite, kind = np.isfinite(high), np.finfo(dtype)
    size = np.minimum(np.abs(high), float(np.nextafter(kind.max, 0, dtype=dtype))).astype(dtype)  # no ulp above the max
    assert np.array_equal(got[~finite], high[~finite].astype(dtype)) and np.isfinite(got[finite]).all()
    off = np.abs((got[finite].astype(np.float64) - high[finite]) - low[finite]) - absolute
    off /= np.spacing(size[finite]).astype(np.float64)
    worst = int(off.argmax())
    assert off[worst] <= ulps, f"{off[worst]:.2f} ulp at {x[finite][worst]!r}: {got[finite][worst]!r}"


def in_pieces(f, x):
    """f of 1, 2, 3, ... 41, 1, 2, ... numbers in turn: a vector's end is computed in another loop than its middle."""
    made, at, length = [], 0, 1
    while at < len(x):
        made.append(f(x[at:at + length]))
        at, length = at + length, length % 41 + 1
    return np.concatenate(made)


def fused(K, bend, x, outs, conv):
    """bend(x) as the end of a matrix product with one term, x times 1, or of a convolution of one tap."""
    dtype, b = x.dtype, np.zeros(outs, x.dtype)
    if conv:
        g = window_geometry((1, 1), 1, 1, 0)
        y = K.conv2d_forward(x.reshape(-1, 1, 1, 1), np.ones((1, 1, 1, outs), dtype), b, g, bend)
    else:
        y = K.dense_forward(x.reshape(-1, 1), np.ones((1, outs), dtype), b, bend)
    y = y.reshape(len(x), outs)
    assert all(np.array_equal(y[:, 0], y[:, o]) for o in range(outs))  # whichever lane of a vector
    return y[:, -1].copy()


def check_activation(K, dtype, bend, each):
    x = arguments(dtype, each)
    exact = truth(bend.label, getattr(bend, "alpha", 0.0), dtype, each)
    within(K.activate(x, bend), exact, x, dtype)
    within(in_pieces(lambda piece: K.activate(piece, bend), x[::7].copy()), [e[::7] for e in exact], x[::7], dtype)
    for outs in (1, 17, 33):
        for conv in (False, True):
            within(fused(K, bend, x, outs, conv), exact, x, dtype)


@both_modules
@both_dtypes
@every_bend
def test_activations_are_within_four_ulp_over_the_whole_range(K, dtype, bend):
    check_activation(K, dtype, bend, EVERY_DAY[dtype])


@pytest.mark.slow
@both_modules
@both_dtypes
@every_bend
def test_activations_are_within_four_ulp_at_very_many_arguments(K, dtype, bend):
    check_activation(K, dtype, bend, NOW_AND_THEN[dtype])


@both_modules
@both_dtypes
def test_the_sign_of_zero_and_of_the_smallest_numbers_is_kept(K, dtype):
    """By the odd functions, and by the slope of a leaky ReLU."""
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, smallest, -smallest], dtype)
    for bend in ACTIVATIONS:
        if bend.label in ("identity", "tanh"):
            assert K.activate(x, bend).tobytes() == x.tobytes(), bend.label
    assert np.signbit(K.activate(x, LeakyReLU(1.0))).tolist() == [False, True, False, True]


@both_modules
@both_dtypes
@every_bend
def test_slopes_are_within_four_ulp_over_the_whole_range_of_outputs(K, dtype, bend):
    """But for an absolute u that 1 - y y loses where y y was rounded."""
    y = arguments(dtype, EVERY_DAY[dtype])
    y = y[np.isfinite(y)]
    if bend.label in ("sigmoid", "tanh"):
        y = np.concatenate([y[np.abs(y) <= 1], 1 - y[(y > 0) & (y < 0.5)], [1]]).astype(dtype)
    if bend.label in ("sigmoid", "softplus", "relu"):
        y = y[y >= 0]
    with mpmath.workprec(160):
        alpha = mpmath.mpf(float(dtype(getattr(bend, "alpha", 0))))
        exact = parts([SLOPE[bend.label](mpmath.mpf(t), alpha) if t < SATURATED or bend.label != "softplus"
                       else mpmath.mpf(1) for t in map(float, y)])
    absolute = float(np.finfo(dtype).eps) if bend.label == "tanh" else 0
    within(K.activate_input_grad(y, np.ones_like(y), bend), exact, y, dtype, absolute=absolute)
    made = in_pieces(lambda piece: K.activate_input_grad(piece, np.ones_like(piece), bend), y)
    within(made, exact, y, dtype, absolute=absolute)


# ---- the likelihood of pixels


def bernoulli(K, logits, x):
    nll, dlogits = np.full(len(logits), np.nan), np.full_like(logits, np.nan)
    K.bernoulli_nll(logits, x, nll, dlogits)
    return nll, dlogits


@both_modules
@both_dtypes
def test_a_black_pixel_costs_softplus_and_pulls_with_sigmoid(K, dtype):
    """x = 0 leaves one function in each result. Pixels one by one for the first; as one picture for the second."""
    each = EVERY_DAY[dtype]
    l = arguments(dtype, each)
    low = np.abs(l) < np.finfo(dtype).max / 1e6  # their sum is finite; 0 times infinity is NaN, as the formula has it
    l = l[low]
    softplus, sigmoid = ([part[low] for part in truth(name, 0.0, dtype, each)] for name in ("softplus", "sigmoid"))
    nll = bernoulli(K, l[:, None], np.zeros_like(l)[:, None])[0]
    within(nll.astype(dtype), softplus, l, dtype)
    within(bernoulli(K, l[None], np.zeros_like(l)[None])[1][0], sigmoid, l, dtype)
    made = in_pieces(lambda piece: bernoulli(K, piece[None], np.zeros_like(piece)[None])[1][0], l[::7].copy())
    within(made, [e[::7] for e in sigmoid], l[::7], dtype)


@both_modules
@both_dtypes
def test_a_grey_pixel_costs_what_its_three_terms_allow(K, dtype):
    """max(l, 0) - x l + log(1 + exp(-|l|)): each to 4 ulp of its own, whatever their sum cancels to; sigmoid(l) - x."""
    l = arguments(dtype, 1)
    l = l[np.isfinite(l) & (np.abs(l) < np.finfo(dtype).max / 4)]
    x = np.random.default_rng(1).choice(np.array([0, 1, 0.5, 0.3, 1e-5, 1 - 2.0**-20], dtype), len(l))
    nll, dlogits = bernoulli(K, l[:, None], x[:, None])[0], bernoulli(K, l[None], x[None])[1][0]
    u, least = float(np.finfo(dtype).eps) / 2, 4 * float(np.finfo(dtype).smallest_subnormal)
    with mpmath.workprec(160):
        for t, grey, value, slope in zip(*(map(float, a) for a in (l, x, nll, dlogits)), strict=True):
            far = abs(t) > SATURATED
            one = mpmath.mpf(0) if far else mpmath.log1p(mpmath.exp(-abs(mpmath.mpf(t))))
            terms = [mpmath.mpf(max(t, 0)), -mpmath.mpf(grey) * mpmath.mpf(t), one]
            size = sum(map(abs, terms))
            assert abs(value - sum(terms)) <= 4 * u * size + 8 * u * one + least, (t, grey)
            sigmoid = mpmath.mpf(t > 0) if far else 1 / (1 + mpmath.exp(-mpmath.mpf(t)))
            assert abs(slope - (sigmoid - grey)) <= 8 * u * sigmoid + 2 * u * abs(sigmoid - grey) + least, (t, grey)
