"""The kernels of a training step, in both modules: against mpmath, against each other, and at the edges of the floats.
Bounds are derived from the number of roundings; u below is the unit roundoff, half an ulp of 1.
"""
import math

import mpmath
import numba
import numpy as np
import pytest

from npae.kernels import fast, fast_moments, fast_training, reference, reference_training

MODULES = [pytest.param(reference_training, id="reference"), pytest.param(fast_training, id="fast")]
DTYPES = [np.float32, np.float64]
both_modules = pytest.mark.parametrize("K", MODULES)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)
SIZES = [1, 7, 8192, 8193, 20_000]  # around the size of a block, and several of them


def bernoulli(K, logits, x):
    nll, dlogits = np.full(len(logits), 9.0), np.full_like(logits, 9)
    K.bernoulli_nll(logits, x, nll, dlogits)
    return nll, dlogits


def squared(K, y, x, scale=1.0):
    sse, dy = np.full(len(y), 9.0), np.full_like(y, 9)
    K.squared_error(y, x, scale, sse, dy)
    return sse, dy


def optimizer_calls(K, theta, grad, first, second):
    """Every optimizer step as a call on copies: name -> the arrays that it wrote."""
    steps = {
        "sgd": lambda t, m, v: (K.sgd_step(t, grad, 0.1), t),
        "momentum": lambda t, m, v: (K.momentum_step(t, grad, m, 0.1, 0.9), t, m),
        "rmsprop": lambda t, m, v: (K.rmsprop_step(t, grad, v, 0.1, 0.9, 1e-7), t, v),
        "adam": lambda t, m, v: (K.adam_step(t, grad, m, v, 0.1, 0.9, 0.999, 1e-8, 3, 0.0), t, m, v),
        "adamw": lambda t, m, v: (K.adam_step(t, grad, m, v, 0.1, 0.9, 0.999, 1e-8, 3, 0.5), t, m, v),
    }
    return {name: step(theta.copy(), first.copy(), second.copy())[1:] for name, step in steps.items()}


def vectors(dtype, size, seed=0):
    rng = np.random.default_rng(seed)
    theta, grad, first = (rng.standard_normal(size).astype(dtype) for _ in range(3))
    return theta, grad, first, (rng.random(size) + 0.01).astype(dtype)


# -- Bernoulli --


@both_modules
@both_dtypes
@pytest.mark.parametrize("shape", [(1, 784), (2, 1), (3, 7)])
def test_bernoulli_meets_mpmath_within_its_roundings(K, dtype, shape):
    """x l and two sums round by u |l| each, log1p(exp) is good to 4 ulp, the sum over pixels is taken in float64."""
    rng = np.random.default_rng(1)
    logits, x = rng.normal(0, 6, shape).astype(dtype), rng.random(shape).astype(dtype)
    nll, dlogits = bernoulli(K, logits, x)
    eps = np.finfo(dtype).eps
    for n in range(shape[0]):
        pairs = [(mpmath.mpf(float(l)), mpmath.mpf(float(t))) for l, t in zip(logits[n], x[n], strict=True)]
        exact = mpmath.fsum(mpmath.log(1 + mpmath.exp(l)) - t * l for l, t in pairs)
        per_term = float(np.sum(1.5 * np.abs(logits[n].astype(float)) + 3.5)) * eps
        summing = shape[1] * 2.3e-16 * float(np.sum(np.abs(logits[n].astype(float)) + 1))
        assert abs(nll[n] - float(exact)) <= per_term + summing
        slopes = np.array([float((1 / (1 + mpmath.exp(-l)) - t) / shape[0]) for l, t in pairs])
        assert np.all(np.abs(dlogits[n] - slopes) <= 4 * eps / shape[0])
    assert nll.dtype == np.float64 and dlogits.dtype == dtype


@both_modules
@both_dtypes
def test_softplus_and_sigmoid_are_within_4_ulp_down_to_the_denormals(K, dtype):
    """x = 0 and l = -a leaves log(1 + exp(-a)) alone in nll, and sigmoid(-a) in the gradient; N is a power of two."""
    top = 103 if dtype is np.float32 else 740
    a = np.concatenate([np.linspace(0, top, 448), 10.0 ** np.arange(-40, 1, 0.65), [17]]).astype(dtype)[:512]
    assert len(a) == 512
    nll, dlogits = bernoulli(K, -a[:, None], np.zeros((512, 1), dtype))
    for value, slope, at in zip(nll, 512 * dlogits[:, 0], a, strict=True):
        with mpmath.workdps(30):
            z = mpmath.exp(-mpmath.mpf(float(at)))
            softplus, sigmoid = mpmath.log1p(z), z / (1 + z)
            assert abs(mpmath.mpf(float(value)) - softplus) <= 4 * float(np.spacing(dtype(value))), at
            if sigmoid > 600 * np.finfo(dtype).tiny:  # below, the division by N = 512 has rounded a denormal
                assert abs(mpmath.mpf(float(slope)) - sigmoid) <= 4 * float(np.spacing(dtype(slope))), at


@both_modules
@both_dtypes
@pytest.mark.parametrize("logit, x, expected", [
    (1e4, 0, 1e4), (1e4, 1, 0), (-1e4, 1, 1e4), (-1e4, 0, 0), (100, 1, 3.720075976e-44), (100, 0, 100),
    (89, 0, 89), (-89, 1, 89), (17, 0, 17 + 4.139937634e-8), (17, 1, 4.139937634e-8), (40, 1, 4.248354255e-18),
    (-1000, 0.5, 500), (0, 0.3, np.log(2)), (-0.0, 1, np.log(2)),
])
def test_extreme_logits_give_the_right_number_without_a_warning(K, dtype, logit, x, expected):
    with np.errstate(all="raise"):
        nll, dlogits = bernoulli(K, np.array([[logit]], dtype), np.array([[x]], dtype))
    ulp = np.spacing(dtype(expected)) if expected else 0  # a denormal 3.7e-44 has only 5 bits
    assert abs(nll[0] - expected) <= max(4 * ulp, 1e-9 * expected)
    assert np.isfinite(dlogits[0, 0]) and abs(dlogits[0, 0]) <= 1


@both_modules
def test_float32_pixels_are_summed_in_float64(K):
    """Terms max(l, 0) = l that float32 holds exactly, with an odd sum above 2^24 that it does not."""
    logits = (2**20 + 1 + 2 * np.arange(783, dtype=np.float32))[None]
    nll, _ = bernoulli(K, logits, np.zeros_like(logits))
    assert nll[0] == sum(2**20 + 1 + 2 * j for j in range(783))


@both_modules
@pytest.mark.parametrize("where", ["logits", "x"])
def test_nan_comes_out_where_it_went_in_and_nowhere_else(K, where):
    arrays = {"logits": np.ones((3, 7), np.float32), "x": np.ones((3, 7), np.float32)}
    arrays[where][1, 2] = np.nan
    nll, dlogits = bernoulli(K, **arrays)
    assert np.isnan(nll).tolist() == [False, True, False]
    assert np.isnan(dlogits[1, 2]) and np.isnan(dlogits).sum() == 1


@both_modules
@both_dtypes
@pytest.mark.parametrize("logit", [np.inf, -np.inf])
@pytest.mark.parametrize("x", [0, 0.5, 1])
def test_infinite_logits_never_give_a_finite_likelihood(K, dtype, logit, x):
    with np.errstate(invalid="ignore"):
        nll, dlogits = bernoulli(K, np.array([[logit]], dtype), np.array([[x]], dtype))
    assert not np.isfinite(nll[0])
    assert dlogits[0, 0] == (1 if logit > 0 else 0) - x


@both_modules
def test_the_bernoulli_gradient_meets_differences(K):
    rng = np.random.default_rng(2)
    logits, x = rng.normal(0, 3, (2, 7)), rng.random((2, 7))
    dlogits = bernoulli(K, logits, x)[1]
    for index in np.ndindex(logits.shape):
        def f(h, index=index):
            moved = logits.copy()
            moved[index] += h
            return bernoulli(K, moved, x)[0].mean()

        coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (2e-3, 1e-3))
        assert abs((4 * fine - coarse) / 3 - dlogits[index]) < 1e-10


# -- squared error --


@both_modules
@both_dtypes
@pytest.mark.parametrize("shape", [(1, 784), (2, 1), (3, 7)])
def test_squared_error_is_the_sum_of_squares_of_the_rounded_differences(K, dtype, shape):
    rng = np.random.default_rng(3)
    y, x = rng.standard_normal(shape).astype(dtype), rng.random(shape).astype(dtype)
    sse, dy = squared(K, y, x, scale=0.75)
    difference = (y - x).astype(np.float64)
    exact = 0.75 * (difference**2).sum(axis=1)
    assert np.all(np.abs(sse - exact) <= (shape[1] + 2) * 2.3e-16 * exact)
    assert np.all(np.abs(dy - 1.5 * difference / shape[0]) <= np.finfo(dtype).eps * np.abs(dy))
    assert dy.dtype == dtype


@both_modules
def test_squares_do_not_overflow_in_float32(K):
    sse, dy = squared(K, np.full((1, 2), 1e20, np.float32), np.zeros((1, 2), np.float32))
    assert sse[0] == pytest.approx(2e40, rel=1e-6) and np.all(np.isfinite(dy))
    assert K.sum_of_squares(np.full(4, 1e20, np.float32)) == pytest.approx(4e40, rel=1e-6)


@both_modules
@both_dtypes
def test_a_pixel_that_is_nan_makes_its_picture_nan(K, dtype):
    y, x = np.ones((3, 7), dtype), np.zeros((3, 7), dtype)
    y[2, 6] = np.nan
    sse, dy = squared(K, y, x)
    assert sse[:2].tolist() == [7, 7] and np.isnan(sse[2]) and np.isnan(dy).sum() == 1


# -- optimizer steps --


@both_dtypes
@pytest.mark.parametrize("size", SIZES)
def test_fast_steps_equal_the_reference_to_a_few_roundings(dtype, size):
    """At most 12 roundings on the way to a number of size 1 to 10 (moments: at most 4)."""
    arrays = vectors(dtype, size)
    expected, got = optimizer_calls(reference_training, *arrays), optimizer_calls(fast_training, *arrays)
    u = np.finfo(dtype).eps / 2
    for name, written in expected.items():
        scale = np.max(np.abs(written[0] - arrays[0])) + np.abs(written[0])
        assert np.all(np.abs(got[name][0] - written[0]) <= 12 * u * scale), name
        for moment, other in zip(written[1:], got[name][1:], strict=True):
            assert np.all(np.abs(moment - other) <= 4 * u * 4), name


@both_modules
def test_scalars_are_rounded_to_the_vectors_dtype(K):
    """A float64 learning rate must neither promote a float32 step nor change its bits."""
    theta, grad, velocity, _ = vectors(np.float32, 100)
    expected = theta - np.float32(0.1) * grad
    for lr in (0.1, np.float64(0.1)):
        moved = theta.copy()
        K.sgd_step(moved, grad, lr)
        assert np.array_equal(moved, expected)
    moving = velocity.copy()
    K.momentum_step(theta, grad, moving, 0.1, np.float64(0.9))
    assert np.array_equal(moving, np.float32(0.9) * velocity + grad)


@both_modules
@both_dtypes
def test_tiny_moments_are_flushed_to_zero_and_others_are_not(K, dtype):
    zeros, tiny = np.zeros(4, dtype), np.array([9e-31, -9e-31, 2e-30, -2e-30], dtype)
    kept = [False, False, True, True]
    results = optimizer_calls(K, zeros, zeros, tiny, np.abs(tiny))
    for name, written in results.items():
        for moment in written[1:]:
            assert (moment != 0).tolist() == kept, name


@both_modules
def test_the_smallest_moment_that_is_kept_is_kept(K):
    velocity = np.zeros(3)
    K.momentum_step(np.zeros(3), np.array([1, -1, 0.999]) * reference_training.TINY_MOMENT, velocity, 0.1, 0.9)
    assert velocity.tolist() == [reference_training.TINY_MOMENT, -reference_training.TINY_MOMENT, 0]


@both_modules
@both_dtypes
def test_nan_survives_the_flush_and_reaches_theta(K, dtype):
    theta, grad, first, second = vectors(dtype, 7)
    grad[3] = np.nan
    for name, written in optimizer_calls(K, theta, grad, first, second).items():
        for array in written:
            assert np.isnan(array).tolist() == [i == 3 for i in range(7)], name


@both_modules
@both_dtypes
def test_entries_that_are_zero_without_a_gradient_stay_zero(K, dtype):
    """The gaps between aligned tensors in one flat vector rely on this."""
    zeros = np.zeros(20, dtype)
    for name, written in optimizer_calls(K, zeros, zeros, zeros, zeros).items():
        assert all(not array.any() for array in written), name


# -- sums, bits, shapes --


@both_modules
@both_dtypes
@pytest.mark.parametrize("size", [0, *SIZES])
def test_sum_of_squares_meets_the_exact_sum(K, dtype, size):
    g = np.random.default_rng(4).standard_normal(size).astype(dtype)
    exact = math.fsum(float(a) ** 2 for a in g)
    assert abs(K.sum_of_squares(g) - exact) <= (size + 2) * 1.2e-16 * exact
    assert type(K.sum_of_squares(g)) is float


@pytest.mark.parametrize("K", [fast, reference], ids=["fast", "reference"])
@both_dtypes
@pytest.mark.parametrize("size", [0, *SIZES])
def test_moments_meet_the_exact_sums(K, dtype, size):
    a = np.random.default_rng(5).standard_normal(size).astype(dtype)
    a[::3] = 0
    a[1::6] *= -0.0
    total, squares, zeros = K.moments(a)
    assert abs(total - math.fsum(map(float, a))) <= (size + 2) * 1.2e-16 * math.fsum(map(abs, map(float, a)))
    assert squares == pytest.approx(K.sum_of_squares(a), rel=1e-14) and zeros == sum(v == 0 for v in a)
    b = np.random.default_rng(6).standard_normal(size).astype(dtype)
    exact = math.fsum((float(v) - float(w)) ** 2 for v, w in zip(a, b, strict=True))
    assert K.squared_distance(a, b) == pytest.approx(exact, rel=1e-13)
    assert K.squared_distance(a, a.copy()) == 0
    assert [type(v) for v in (total, squares, zeros)] == [float, float, int]
    if size:
        a[-1] = np.nan
        again = K.moments(a)
        assert math.isnan(again[0]) and math.isnan(again[1]) and again[2] == sum(v == 0 for v in a)


@both_modules
def test_a_long_float32_sum_keeps_its_digits(K):
    g = np.full(5_880_000, 0.1, np.float32)
    assert K.sum_of_squares(g) == pytest.approx(len(g) * float(np.float32(0.1)) ** 2, rel=1e-12)


@both_modules
@pytest.mark.parametrize("bad, expected", [(np.nan, np.nan), (np.inf, np.inf), (1e200, np.inf)])
def test_a_norm_that_is_not_finite_says_so(K, bad, expected):
    g = np.ones(9000)
    g[8999] = bad
    np.testing.assert_equal(K.sum_of_squares(g), expected)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_one_and_two_threads_give_the_same_bits():
    rng = np.random.default_rng(5)
    logits, x = (rng.random((33, 784)).astype(np.float32) for _ in range(2))
    arrays = vectors(np.float32, 100_003)

    def everything():
        steps = [a for written in optimizer_calls(fast_training, *arrays).values() for a in written]
        squares = np.array([fast_training.sum_of_squares(arrays[0])])
        return [*bernoulli(fast_training, logits, x), *squared(fast_training, logits, x), *steps, squares]

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = everything()
        numba.set_num_threads(2)
        two = everything()
    finally:
        numba.set_num_threads(before)
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]


@both_modules
def test_inputs_are_not_written(K):
    arrays = vectors(np.float64, 12)
    logits, x = arrays[0].reshape(3, 4), arrays[3].reshape(3, 4)
    copies = [a.copy() for a in arrays]
    bernoulli(K, logits, x)
    squared(K, logits, x)
    optimizer_calls(K, *arrays)
    K.sum_of_squares(arrays[1])
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


@pytest.mark.parametrize("call", [
    lambda a, b: fast_training.sgd_step(a, b, 0.1),
    lambda a, b: fast_training.momentum_step(a, a, b, 0.1, 0.9),
    lambda a, b: fast_training.rmsprop_step(a, a, b, 0.1, 0.9, 1e-7),
    lambda a, b: fast_training.adam_step(a, a, a, b, 0.1, 0.9, 0.999, 1e-8, 1, 0.0),
    lambda a, b: fast_training.bernoulli_nll(a[:, None], b[:, None], a, a[:, None]),
    lambda a, b: fast_training.bernoulli_nll(a[:, None], a[:, None], b, a[:, None]),
    lambda a, b: fast_training.squared_error(a[:, None], a[:, None], 1.0, b, a[:, None]),
    lambda a, b: fast_training.squared_error(a[:, None], a[:, None], 1.0, a, b[:, None]),
    fast_moments.squared_distance,
])
def test_compiled_loops_refuse_unequal_shapes(call):
    with pytest.raises(ValueError, match=r"\(3,.*\(4,|\(4,.*\(3,"):
        call(np.ones(4), np.ones(3))
