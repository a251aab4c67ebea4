"""The kernels themselves, module against module and both against what must hold: names, bounds, NaNs, bits, transposes.

u is the unit roundoff (half an ulp of 1). A sum of K products, in whatever order and with or without fused
multiply-adds, is within K u sum |a||b| of the true one (Higham 2002, section 3.1), so that two kernels differ by at
most twice that. The sum of absolute values is what the reference kernel makes of absolute values.
"""
import inspect
import math

import mpmath
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npae import kernels as kernels_
from npae.kernels import Workspace, fast, reference
from npae.kernels.geometry import Geometry, window_geometry
from npae.layers import Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh

C = 2  # two kernels, each within K u of the truth
DTYPES = [np.float32, np.float64]
ACTIVATIONS = [Identity(), ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh(), Softplus()]  # none is steeper than 1
both_modules = pytest.mark.parametrize("K", [reference, fast], ids=["reference", "fast"])
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
every_bend = pytest.mark.parametrize("bend", ACTIVATIONS, ids=lambda a: a.label)

GEOMETRIES = {  # name -> (N, channels in, channels out, geometry)
    "odd kernel, same": (2, 3, 5, window_geometry((6, 7), 3, 1, "same")),
    "even kernel, same, stride does not divide": (3, 2, 4, window_geometry((7, 5), (2, 4), (2, 3), "same")),
    "padding 1": (1, 4, 2, window_geometry((5, 8), (3, 2), 2, 1)),
    "padding 2": (2, 1, 3, window_geometry((6, 4), (4, 3), (3, 1), 2)),
    "valid, pixels unseen": (2, 3, 1, window_geometry((8, 5), (2, 1), 3, "valid")),
    "kernel larger than the picture": (1, 2, 3, window_geometry((2, 3), (5, 4), 1, "same")),
    "one tap": (2, 3, 4, window_geometry((4, 5), 1, 1, "same")),
    "square twin": (3, 3, 3, window_geometry(3, 3, 1, "same")),
    "more pictures than chunks, whole vectors of channels": (19, 16, 17, window_geometry((5, 4), 3, 2, "same")),
    "windows that hang over the edge of a larger picture": (2, 5, 6, window_geometry((13, 17), (4, 5), (1, 2), 2)),
}
every_geometry = pytest.mark.parametrize("case", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def unit(dtype):
    return np.finfo(dtype).eps / 2


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def conv_arrays(case, dtype=np.float64, seed=0):
    """x, W, dy of a convolution from x's pictures to dy's."""
    (n, c, o, g), rng = case, np.random.default_rng(seed)
    shapes = (n, *g.input_size, c), (*g.kernel_size, c, o), (n, *g.output_size, o)
    return g, *(normal(rng, shape, dtype) for shape in shapes)


def bounded(got, want, terms, dtype, size):
    """|got - want| <= C terms u size, number by number."""
    assert got.dtype == want.dtype == dtype and got.shape == want.shape
    bound = C * terms * unit(dtype) * size.astype(np.float64)
    over = np.abs(got.astype(np.float64) - want) - bound
    assert (over <= 0).all(), f"{over.max():.2e} over the bound at {np.unravel_index(over.argmax(), over.shape)}"


# ---- the same doors


def test_both_modules_have_the_same_names_with_the_same_arguments():
    assert fast.__all__ == reference.__all__ == sorted(reference.__all__)
    for name in reference.__all__:
        slow, quick = (inspect.signature(getattr(module, name)).parameters.values() for module in (reference, fast))
        assert [(p.name, p.kind, p.default) for p in slow] == [(p.name, p.kind, p.default) for p in quick], name
        assert getattr(fast, name) is not getattr(reference, name) and getattr(fast, name).__doc__


def test_no_kernels_given_means_the_fast_ones():
    assert kernels_.resolve() is fast and kernels_.resolve(reference) is reference


# ---- contractions


def contractions_agree(case, dtype):
    g, x, W, dy = conv_arrays(case, dtype)
    kh, kw, c, o = W.shape
    n, oh, ow, _ = dy.shape
    calls = {"conv2d": ((x, W), kh * kw * c), "conv2d_input_grad": ((dy, W), kh * kw * o),
             "conv2d_weight_grad": ((x, dy), n * oh * ow)}
    for name, (arrays, terms) in calls.items():
        kernel = getattr(reference, name)
        size = kernel(*map(np.abs, arrays), g)
        bounded(getattr(fast, name)(*arrays, g), kernel(*arrays, g), terms, dtype, size)


@both_dtypes
@every_geometry
def test_the_fast_contractions_are_the_reference_to_rounding(case, dtype):
    contractions_agree(case, dtype)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.data())
def test_the_fast_contractions_are_the_reference_on_every_geometry(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = data.draw(st.sampled_from(["same", *(p for p in (0, 1, 2, 3) if kernel[0] <= height + 2 * p
                                                   and kernel[1] <= width + 2 * p)]))
    n, c, o = (data.draw(st.integers(1, 3)) for _ in range(3))
    contractions_agree((n, c, o, window_geometry((height, width), kernel, stride, padding)), np.float64)


@both_modules
@every_geometry
def test_the_three_contractions_are_one_trilinear_form(K, case):
    """<conv2d(x, W), dy> = <x, conv2d_input_grad(dy, W)> = <W, conv2d_weight_grad(x, dy)>"""
    g, x, W, dy = conv_arrays(case)
    y = K.conv2d(x, W, g)
    forms = (y * dy).sum(), (x * K.conv2d_input_grad(dy, W, g)).sum(), (W * K.conv2d_weight_grad(x, dy, g)).sum()
    assert max(forms) - min(forms) <= 1e-13 * np.linalg.norm(y) * np.linalg.norm(dy)


@every_geometry
def test_col2im_is_the_transpose_of_im2col(case):
    g, x, _, _ = conv_arrays(case)
    cols = reference.im2col(x, g)
    w = normal(np.random.default_rng(3), cols.shape, np.float64)
    assert abs((cols * w).sum() - (x * reference.col2im(w, g)).sum()) <= 1e-13 * np.linalg.norm(x) * np.linalg.norm(w)


# ---- fused pairs

def fused_conv(K, case, bend, dtype, transposed=False, keep=None):
    """y, then dx and what is added to given dW and db."""
    g, x, W, dy = conv_arrays(case, dtype)
    x, dy = (dy, x) if transposed else (x, dy)
    rng = np.random.default_rng(1)
    b = normal(rng, dy.shape[3], dtype)
    name = "conv2d_transpose" if transposed else "conv2d"
    y = getattr(K, f"{name}_forward")(x, W, b, g, bend, None, keep)
    dW, db, dx = normal(rng, W.shape, dtype), normal(rng, b.shape, dtype), np.full_like(x, np.nan)
    any_y = reference.activate(dy, bend)  # not the forward's: both modules are to start from the same
    assert getattr(K, f"{name}_backward")(x, W, any_y, dy, g, bend, dW, db, dx, keep) is dx
    return {"y": y.copy(), "dW": dW, "db": db, "dx": dx}


def fused_dense(K, shape, bend, dtype, keep=None):
    (n, c, o), rng = shape, np.random.default_rng(0)
    x, W, b, dy = (normal(rng, s, dtype) for s in ((n, c), (c, o), (o,), (n, o)))
    y = K.dense_forward(x, W, b, bend, None, keep)
    dW, db, dx = normal(rng, W.shape, dtype), normal(rng, b.shape, dtype), np.full_like(x, np.nan)
    assert K.dense_backward(x, W, reference.activate(dy, bend), dy, bend, dW, db, dx, keep) is dx
    return {"y": y.copy(), "dW": dW, "db": db, "dx": dx}


@both_dtypes
@every_bend
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_a_fused_pair_is_the_reference_to_rounding(bend, dtype, transposed):
    """To the K terms come the bias, the slope (4 roundings) and up to 8 chunks; f itself is good to 4 ulp.

    5 is more than any number of the given b, dW and db.
    """
    for case in GEOMETRIES.values():
        g, x, W, dy = (a if isinstance(a, Geometry) else np.abs(a) for a in conv_arrays(case, dtype))
        got, want = (fused_conv(K, case, bend, dtype, transposed) for K in (fast, reference))
        x, dy = (dy, x) if transposed else (x, dy)
        forward, back = (reference.conv2d_input_grad, reference.conv2d) if transposed else (
            reference.conv2d, reference.conv2d_input_grad)
        dW = reference.conv2d_weight_grad(dy, x, g) if transposed else reference.conv2d_weight_grad(x, dy, g)
        size = {"y": forward(x, W, g) + 5 + np.abs(want["y"]), "dW": dW + 5, "db": dy.sum((0, 1, 2)) + 5,
                "dx": back(dy, W, g)}
        taps = W[..., 0].size if not transposed else W[:, :, 0].size
        terms = {"y": W[..., 0].size + W[:, :, 0].size + 5, "dW": math.prod(g.output_size) * len(x) + 12,
                 "db": dy[..., 0].size + 12, "dx": max(taps, W[:, :, 0].size, W[..., 0].size) + 4}
        for name in want:
            bounded(got[name], want[name], terms[name], dtype, size[name])


@both_dtypes
@every_bend
@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 3, 3), (3, 1, 2), (37, 41, 2), (70, 33, 19)], ids=str)
def test_a_dense_pair_is_the_reference_to_rounding(bend, dtype, shape):
    got, want = (fused_dense(K, shape, bend, dtype) for K in (fast, reference))
    rng = np.random.default_rng(0)
    (n, c, o), (x, W, _, dy) = shape, (np.abs(normal(rng, s, dtype)) for s in (
        shape[:2], shape[1:], shape[2:], (shape[0], shape[2])))
    size = {"y": x @ W + 5 + np.abs(want["y"]), "dW": x.T @ dy + 5, "db": dy.sum(0) + 5, "dx": dy @ W.T}
    terms = {"y": c + 5, "dW": n + 12, "db": n + 12, "dx": o + 4}
    for name in want:
        bounded(got[name], want[name], terms[name], dtype, size[name])


@both_modules
@every_bend
def test_a_fused_pair_is_bias_and_activation_around_the_contraction(K, bend):
    case = GEOMETRIES["padding 1"]
    g, x, W, dy = conv_arrays(case)
    b = np.array([0.3, -0.7])
    y = K.conv2d_forward(x, W, b, g, bend)
    assert np.allclose(y, bend.f(reference.conv2d(x, W, g) + b), rtol=1e-13, atol=1e-13)
    dW, db = np.zeros_like(W), np.zeros_like(b)
    assert K.conv2d_backward(x, W, y, dy, g, bend, dW, db) is None  # no dx asked for
    dz = dy * bend.slope(y)
    assert np.allclose(dW, reference.conv2d_weight_grad(x, dz, g), rtol=1e-13, atol=1e-13)
    assert np.allclose(db, dz.sum((0, 1, 2)), rtol=1e-13, atol=1e-13)


# ---- pooling and upsampling

POOLS = [GEOMETRIES[name] for name in ("odd kernel, same", "even kernel, same, stride does not divide", "padding 1",
                                       "valid, pixels unseen", "one tap", "square twin")]


@both_dtypes
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_fast_pooling_is_the_reference(case, dtype):
    """Winners and their gradients to the bit where windows do not overlap, sums to rounding."""
    g, x, _, _ = conv_arrays(case, dtype)
    dy = normal(np.random.default_rng(4), (len(x), *g.output_size, x.shape[3]), dtype)
    (y, winner), (y_, winner_) = (K.max_pool2d(x, g) for K in (fast, reference))
    assert np.array_equal(y, y_) and np.array_equal(winner, winner_) and winner.dtype == winner_.dtype == np.int32
    area, ones = math.prod(g.kernel_size), np.abs(dy)
    size = reference.max_pool2d_input_grad(ones, winner, g)
    bounded(*(K.max_pool2d_input_grad(dy, winner, g) for K in (fast, reference)), area, dtype, size)
    bounded(*(K.avg_pool2d(x, g) for K in (fast, reference)), area + 1, dtype, reference.avg_pool2d(np.abs(x), g))
    bounded(*(K.avg_pool2d_input_grad(dy, g) for K in (fast, reference)), area + 1, dtype,
            reference.avg_pool2d_input_grad(ones, g))


@both_modules
def test_where_all_is_minus_infinity_the_first_pixel_wins_and_no_padding(K):
    y, winner = K.max_pool2d(np.full((1, 3, 4, 2), -np.inf), window_geometry((3, 4), (2, 3), 1, 1))
    want = [[4, 3, 3, 3], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]  # u kw + v of the first tap inside the picture
    assert (y == -np.inf).all() and winner[0, :, :, 0].tolist() == winner[0, :, :, 1].tolist() == want


@both_modules
def test_what_a_kernel_makes_is_in_c_order(K):
    """Whoever gets it hands it on to compiled loops, which take nothing else."""
    g, x, W, dy = conv_arrays(GEOMETRIES["padding 1"])
    y, winner = K.max_pool2d(x, g)
    made = [y, winner, K.max_pool2d_input_grad(y, winner, g), K.avg_pool2d(x, g), K.avg_pool2d_input_grad(y, g),
            K.upsample2d_bilinear(x, (2, 3)), K.upsample2d_bilinear_input_grad(x[:, :4].copy(), (2, 1)),
            K.conv2d_transpose_forward(dy, W, np.zeros(x.shape[3]), g, Identity())]
    assert [a.flags.c_contiguous for a in made] == [True] * len(made)


@both_dtypes
@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 2, 3), (3, 3, 3, 3)], ids=str)
def test_fast_upsampling_is_the_reference(shape, factor, dtype):
    rng = np.random.default_rng(0)
    x = normal(rng, shape, dtype)
    dy = normal(rng, (shape[0], shape[1] * factor[0], shape[2] * factor[1], shape[3]), dtype)
    assert np.array_equal(fast.upsample2d_nearest(x, factor), reference.upsample2d_nearest(x, factor))
    for name, array, terms in (("nearest_input_grad", dy, math.prod(factor)), ("bilinear", x, 8),
                               ("bilinear_input_grad", dy, 8 + 9 * math.prod(factor))):
        slow = getattr(reference, f"upsample2d_{name}")
        bounded(getattr(fast, f"upsample2d_{name}")(array, factor), slow(array, factor), terms, dtype,
                slow(np.abs(array), factor))


@both_modules
def test_pools_and_upsampling_are_transposes_of_their_gradients(K):
    rng = np.random.default_rng(0)
    g, x, _, _ = conv_arrays(GEOMETRIES["even kernel, same, stride does not divide"])
    pairs = [(lambda v: K.avg_pool2d(v, g), lambda w: K.avg_pool2d_input_grad(w, g)),
             (lambda v: K.upsample2d_nearest(v, (2, 3)), lambda w: K.upsample2d_nearest_input_grad(w, (2, 3))),
             (lambda v: K.upsample2d_bilinear(v, (2, 3)), lambda w: K.upsample2d_bilinear_input_grad(w, (2, 3)))]
    for f, ft in pairs:
        y = f(x)
        w = normal(rng, y.shape, np.float64)
        assert abs((y * w).sum() - (x * ft(w)).sum()) <= 1e-13 * np.linalg.norm(y) * np.linalg.norm(w)


# ---- activations against mpmath


EXACT = {"identity": lambda t, a: t, "relu": lambda t, a: max(t, mpmath.mpf(0)),
         "leaky_relu": lambda t, a: t if t > 0 else a * t, "sigmoid": lambda t, a: 1 / (1 + mpmath.exp(-t)),
         "tanh": lambda t, a: mpmath.tanh(t), "softplus": lambda t, a: mpmath.log1p(mpmath.exp(t))}
SLOPE = {"identity": lambda y, a: mpmath.mpf(1), "relu": lambda y, a: mpmath.mpf(y > 0),
         "leaky_relu": lambda y, a: mpmath.mpf(1) if y > 0 else a, "sigmoid": lambda y, a: y * (1 - y),
         "tanh": lambda y, a: 1 - y * y, "softplus": lambda y, a: -mpmath.expm1(-y)}


def arguments(dtype):
    """From the smallest normal number to where the functions saturate, both signs, and zero."""
    tiny = float(np.finfo(dtype).tiny)
    sizes = [tiny, 1e-30, 1e-12, 1e-8, 1e-4, 1e-3, 1e-2, *np.linspace(0.05, 30, 300), 50, 80]
    return np.array([0, *sizes, *(-s for s in sizes)], dtype)


@both_modules
@both_dtypes
@every_bend
def test_activations_are_within_four_ulp_of_mpmath(K, dtype, bend):
    x = arguments(dtype)
    y = K.activate(x, bend)
    with mpmath.workprec(200):
        alpha = mpmath.mpf(float(dtype(bend.alpha))) if bend.label == "leaky_relu" else 0
        exact = [EXACT[bend.label](mpmath.mpf(float(t)), alpha) for t in x]
        ulps = [abs(float(v) - e) / float(np.spacing(dtype(abs(float(e))))) for v, e in zip(y, exact, strict=True)]
    worst = int(np.argmax(np.array(ulps, float)))
    assert ulps[worst] <= 4, f"{float(ulps[worst]):.1f} ulp at x = {x[worst]}"


@both_modules
@both_dtypes
@every_bend
def test_slopes_are_within_four_roundings_of_the_slope_at_the_given_output(K, dtype, bend):
    """1 - y y loses what y y was rounded by: an absolute u, which no formula in y alone can avoid but for its form."""
    y = np.unique(K.activate(arguments(dtype), bend))
    slope = K.activate_input_grad(y, np.ones_like(y), bend)
    with mpmath.workprec(200):
        alpha = mpmath.mpf(float(dtype(getattr(bend, "alpha", 0))))
        exact = [SLOPE[bend.label](mpmath.mpf(float(t)), alpha) for t in y]
        absolute = 2 * unit(dtype) if bend.label == "tanh" else 0
        for t, v, e in zip(y, slope, exact, strict=True):
            assert abs(float(v) - e) <= absolute + 4 * float(np.spacing(dtype(abs(float(e))))), t


@both_modules
@both_dtypes
def test_denormal_arguments_are_not_flushed_to_zero(K, dtype):
    small = np.array([np.finfo(dtype).smallest_subnormal * k for k in (1, 3, 1000)], dtype)
    for bend in (Identity(), ReLU(), Tanh()):
        assert np.array_equal(K.activate(small, bend), small)
    assert np.array_equal(K.activate(-small, Tanh()), -small)
    low = np.array([np.log(np.finfo(dtype).tiny) - 3], dtype)  # exp of it is denormal
    for bend in (Sigmoid(), Softplus()):
        assert 0 < K.activate(low, bend)[0] < np.finfo(dtype).tiny


@both_modules
@both_dtypes
def test_infinite_arguments_saturate_without_a_warning(K, dtype):
    x = np.array([np.inf, -np.inf, 1e4, -1e4], dtype)
    want = {"relu": [np.inf, 0, 1e4, 0], "sigmoid": [1, 0, 1, 0], "tanh": [1, -1, 1, -1]}
    want["softplus"] = want["relu"]
    for bend in (ReLU(), Sigmoid(), Tanh(), Softplus()):
        assert K.activate(x, bend).tolist() == want[bend.label]


# ---- NaN in, NaN out


def struck(shape, index):
    """An array of zeros with a one where the NaN will be."""
    mark = np.zeros(shape)
    mark[index] = 1
    return mark


def poisoned(array, index):
    array = array.copy()
    array[index] = np.nan
    return array


@both_modules
@every_bend
@pytest.mark.parametrize("case", list(GEOMETRIES.values())[:4], ids=str)
def test_a_nan_reaches_every_output_of_a_convolution_that_it_is_a_term_of(K, case, bend):
    """Also through the zero slope of a ReLU; and, from x or dy, no other output."""
    g, x, W, dy = conv_arrays(case)
    b, at, up, tap = np.full(W.shape[3], -0.5), (0, 1, 2, 0), (0, 1, 0, 0), (0, 0, 0, 0)
    y = K.conv2d_forward(x, W, b, g, bend)
    reached = reference.conv2d(struck(x.shape, at), np.ones_like(W), g) > 0
    assert np.array_equal(np.isnan(K.conv2d_forward(poisoned(x, at), W, b, g, bend)), reached)
    reached = reference.conv2d(np.ones_like(x), struck(W.shape, tap), g) > 0
    assert np.isnan(K.conv2d_forward(x, poisoned(W, tap), b, g, bend))[reached].all()
    assert np.isnan(K.conv2d_forward(x, W, poisoned(b, 0), g, bend))[..., 0].all()

    for x_, W_, y_, dy_, where in ((x, W, y, poisoned(dy, up), "dy"), (x, W, poisoned(y, up), dy, "y"),
                                   (poisoned(x, at), W, y, dy, "x"), (x, poisoned(W, tap), y, dy, "W")):
        if where == "y" and bend.label == "identity":
            continue  # its slope is 1 whatever y is
        dW, db, dx = np.zeros_like(W), np.zeros_like(b), np.zeros_like(x)
        K.conv2d_backward(x_, W_, y_, dy_, g, bend, dW, db, dx)
        if where in ("dy", "y"):
            mark = struck(dy.shape, up)
            assert np.array_equal(np.isnan(dx), reference.conv2d_input_grad(mark, np.ones_like(W), g) > 0)
            assert np.isnan(dW)[reference.conv2d_weight_grad(np.ones_like(x), mark, g) > 0].all()
            assert np.isfinite(dW[..., 1:]).all() and np.isnan(db[0]) and np.isfinite(db[1:]).all()
        elif where == "x":
            reached = reference.conv2d_weight_grad(struck(x.shape, at), np.ones_like(dy), g) > 0
            assert np.array_equal(np.isnan(dW), reached) and np.isfinite(dx).all() and np.isfinite(db).all()
        else:
            reached = reference.conv2d_input_grad(np.ones_like(dy), struck(W.shape, tap), g) > 0
            assert np.isnan(dx)[reached].all() and np.isfinite(dW).all()


@both_modules
@every_bend
def test_a_nan_reaches_every_output_of_a_transposed_convolution_that_it_is_a_term_of(K, bend):
    g, y_like, W, x = conv_arrays(GEOMETRIES["padding 1"])
    b, at, up = np.full(W.shape[2], -0.5), (0, 1, 2, 0), (0, 2, 3, 1)
    y = K.conv2d_transpose_forward(x, W, b, g, bend)
    reached = reference.conv2d_input_grad(struck(x.shape, at), np.ones_like(W), g) > 0
    assert np.array_equal(np.isnan(K.conv2d_transpose_forward(poisoned(x, at), W, b, g, bend)), reached)
    dW, db, dx = np.zeros_like(W), np.zeros_like(b), np.zeros_like(x)
    K.conv2d_transpose_backward(x, W, y, poisoned(y_like, up), g, bend, dW, db, dx)
    mark = struck(y.shape, up)
    assert np.array_equal(np.isnan(dx), reference.conv2d(mark, np.ones_like(W), g) > 0)
    assert np.isnan(dW)[reference.conv2d_weight_grad(mark, np.ones_like(x), g) > 0].all()
    assert np.flatnonzero(np.isnan(db)).tolist() == [1]


@both_modules
@every_bend
@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_nan_reaches_every_output_of_a_dense_layer_that_it_is_a_term_of(K, bend, n):
    rng = np.random.default_rng(0)
    x, W, b, dy = (normal(rng, s, np.float64) for s in ((n, 4), (4, 3), (3,), (n, 3)))
    y = K.dense_forward(x, W, b, bend)
    assert np.array_equal(np.isnan(K.dense_forward(poisoned(x, (0, 2)), W, b, bend)).any(1), struck((n,), 0) > 0)
    assert np.isnan(K.dense_forward(poisoned(x, (0, 2)), W, b, bend)[0]).all()
    assert np.array_equal(np.isnan(K.dense_forward(x, poisoned(W, (2, 1)), b, bend)), np.tile([0, 1, 0], (n, 1)) > 0)
    dW, db, dx = np.zeros_like(W), np.zeros_like(b), np.zeros_like(x)
    K.dense_backward(x, W, y, poisoned(dy, (0, 1)), bend, dW, db, dx)
    assert np.isnan(dx[0]).all() and np.isfinite(dx[1:]).all()
    assert np.array_equal(np.isnan(dW), np.tile([0, 1, 0], (4, 1)) > 0)
    assert np.flatnonzero(np.isnan(db)).tolist() == [1]


@both_modules
@every_bend
def test_a_nan_passes_an_activation_and_its_slope_in_place(K, bend):
    x = np.array([[np.nan, 1.0], [-1.0, np.nan]])
    assert np.array_equal(np.isnan(K.activate(x, bend)), np.isnan(x))
    assert np.array_equal(np.isnan(K.activate_input_grad(-np.abs(np.ones((2, 2))), x, bend)), np.isnan(x))
    if bend.label != "identity":
        assert np.array_equal(np.isnan(K.activate_input_grad(x, np.ones((2, 2)), bend)), np.isnan(x))


@both_modules
def test_a_nan_passes_pooling_and_upsampling(K):
    g = window_geometry((5, 4), 3, 2, 1)
    x, at = normal(np.random.default_rng(0), (2, 5, 4, 3), np.float64), (0, 1, 2, 1)
    mark = struck(x.shape, at)
    pooled = reference.avg_pool2d(mark, g) > 0
    y, winner = K.max_pool2d(poisoned(x, at), g)
    assert np.array_equal(np.isnan(y), pooled) and np.array_equal(np.isnan(K.avg_pool2d(poisoned(x, at), g)), pooled)
    dy, up = np.ones(y.shape), (1, 0, 1, 2)
    for grad, reached in ((K.avg_pool2d_input_grad(poisoned(dy, up), g), None),
                          (K.max_pool2d_input_grad(poisoned(dy, up), winner, g), 1)):
        want = reference.avg_pool2d_input_grad(struck(y.shape, up), g) > 0
        assert np.isnan(grad).sum() == (reached or want.sum()) and np.isnan(grad)[want].any()
    for mode in ("nearest", "bilinear"):
        up, down = getattr(K, f"upsample2d_{mode}"), getattr(K, f"upsample2d_{mode}_input_grad")
        slow, back = getattr(reference, f"upsample2d_{mode}"), getattr(reference, f"upsample2d_{mode}_input_grad")
        large = struck((2, 10, 8, 3), at)
        assert np.isnan(up(poisoned(x, at), (2, 2)))[slow(mark, (2, 2)) > 0].all()
        assert np.isnan(down(poisoned(np.ones(large.shape), at), (2, 2)))[back(large, (2, 2)) > 0].all()


# ---- doors


def test_fast_kernels_refuse_what_does_not_fit_together():
    g, x, W, dy = conv_arrays(GEOMETRIES["odd kernel, same"])
    for wrong in (x[:, :-1].copy(), x[..., :-1].copy(), x.astype(np.float32), np.asfortranarray(x)):
        with pytest.raises(ValueError, match=r"x float\d\d \(2, .* must be of one dtype, in C order, and fit together"):
            fast.conv2d(wrong, W, g)
    for wrong in (dy[:, :-1].copy(), dy[..., :-1].copy()):
        with pytest.raises(ValueError, match="fit together"):
            fast.conv2d_input_grad(wrong, W, g)
    with pytest.raises(ValueError, match=r"dy of shape \(2, 5, 7, 5\) does not fit x of shape \(2, 6, 7, 3\)"):
        fast.conv2d_weight_grad(x, dy[:, :-1].copy(), g)
    x, W, b = np.ones((2, 5)), np.ones((4, 3)), np.ones(3)
    with pytest.raises(ValueError, match=r"x float64 \(2, 5\), W float64 \(4, 3\) and b float64 \(3,\) must"):
        fast.dense_forward(x, W, b, Identity())
    with pytest.raises(ValueError, match="must be of one dtype"):
        fast.dense_backward(x[:, :4].astype(np.float32), W, b, b, Identity(), W, b)
    with pytest.raises(ValueError, match="C order"):
        fast.dense_forward(np.asfortranarray(x[:, :4]), W, b, Identity())


# ---- bits


def everything(keep=None):
    """One call of every kernel, large enough to be shared out among threads."""
    case, dtype = GEOMETRIES["more pictures than chunks, whole vectors of channels"], np.float32
    results = {}
    for bend in (ReLU(), Tanh()):
        for transposed in (False, True):
            results |= {(bend.label, transposed, k): v
                        for k, v in fused_conv(fast, case, bend, dtype, transposed, keep).items()}
        results |= {(bend.label, "dense", k): v for k, v in fused_dense(fast, (70, 33, 19), bend, dtype, keep).items()}
        x = normal(np.random.default_rng(0), 9001, dtype)
        results[bend.label, "alone"] = fast.activate_input_grad(fast.activate(x, bend), x, bend)
    g, x, _, _ = conv_arrays(case, dtype)
    y, winner = fast.max_pool2d(x, g)
    results["max"], results["back"] = y, fast.max_pool2d_input_grad(y, winner, g)
    results["avg"] = fast.avg_pool2d_input_grad(fast.avg_pool2d(x, g), g)
    for mode in ("nearest", "bilinear"):
        up = getattr(fast, f"upsample2d_{mode}")(x, (2, 3))
        results[mode] = getattr(fast, f"upsample2d_{mode}_input_grad")(up, (2, 3))
    return {key: value.tobytes() for key, value in results.items()}


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_one_thread_and_two_give_the_same_bits_again_and_again():
    before = numba.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 1, 2):
            kernels_.set_threads(threads)
            found.append(everything())
    finally:
        kernels_.set_threads(before)
    assert found[0] == found[1] == found[2] == found[3]


def test_kept_workspaces_give_the_same_bits():
    keep = Workspace(keep=True)
    assert everything(keep) == everything() == everything(keep)


def test_a_number_of_threads_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        kernels_.set_threads(0)
    too_many = numba.config.NUMBA_NUM_THREADS + 1
    with pytest.raises(ValueError, match=rf"set_threads\({too_many}\), but Numba has started with {too_many - 1}"):
        kernels_.set_threads(too_many)


def test_a_kept_buffer_grows_stays_and_is_one_for_each_key_and_dtype():
    work = Workspace(keep=True)
    a = work.empty("y", (2, 3), np.float32)
    assert np.shares_memory(a, work.empty("y", (1, 6), np.float32)) and work.empty("y", (0, 3), np.float32).size == 0
    assert not np.shares_memory(a, work.empty("x", (2, 3), np.float32))
    assert not np.shares_memory(a, work.empty("y", (2, 3), np.float64))
    larger = work.empty("y", (3, 3), np.float32)
    assert larger.shape == (3, 3) and np.shares_memory(larger, work.empty("y", (2, 3), np.float32))
    fresh = Workspace()
    assert not np.shares_memory(fresh.empty("y", (2, 3), np.float32), fresh.empty("y", (2, 3), np.float32))


def test_a_plan_is_made_once_where_arrays_are_kept_and_anew_when_they_have_grown():
    made = []

    def plan(work, size):
        def make():
            made.append(size)
            return work.empty("y", (size,), np.float32)
        return make

    fresh, kept = Workspace(), Workspace(keep=True)
    assert fresh.once("small", plan(fresh, 3)) is not fresh.once("small", plan(fresh, 3))
    small = kept.once("small", plan(kept, 3))
    assert kept.once("small", plan(kept, 3)) is small and made == [3, 3, 3]
    large = kept.once("large", plan(kept, 5))
    assert kept.once("large", plan(kept, 5)) is large
    small = kept.once("small", plan(kept, 3))
    assert np.shares_memory(small, large) and made == [3, 3, 3, 5, 3], "a view of what was replaced is not given again"


@both_modules
@pytest.mark.parametrize("size", [2, 3, 17])
def test_weights_in_any_order_of_the_memory_give_the_same_numbers(K, size):
    rng, g = np.random.default_rng(size), Geometry((6, 5), (3, 3), (2, 1), (1, 1), (3, 5))
    x, dy = rng.random((2, 6, 5, 4), np.float32), rng.random((2, 3, 5, size), np.float32)
    W = rng.random((3, 3, 4, size), np.float32)

    def everything(weights):
        dx = K.conv2d_backward(x, weights, dy, dy, g, ReLU(), np.zeros_like(W), np.zeros(size, np.float32),
                               np.empty_like(x))
        return K.conv2d(x, weights, g), K.conv2d_input_grad(dy, weights, g), dx

    for got, want in zip(everything(np.asfortranarray(W)), everything(W), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
