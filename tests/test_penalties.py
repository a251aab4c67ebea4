"""The divergence from the prior: against quadrature and mpmath, near the prior and far from it, and its samples."""
import math
import re
from statistics import NormalDist

import mpmath
import numpy as np
import pytest

from npae.kernels import fast, reference
from npae.layers import Identity, Sigmoid, Softplus, Tanh
from npae.penalties import (
    contractive,
    gaussian_kl,
    gaussian_kl_per_image,
    gaussian_kl_sampled,
    sparsity_kl,
    weight_decay,
)

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
shapes = pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 2)])


def latents(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, shape).astype(dtype), rng.normal(-1, 1.5, shape).astype(dtype)


def extrapolated_difference(f):
    coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (2e-3, 1e-3))
    return (4 * fine - coarse) / 3


def bumped(a, index, h):
    moved = a.copy()
    moved[index] += h
    return moved


# -- analytic --


@both_dtypes
def test_the_prior_costs_nothing(dtype):
    zeros = np.zeros((3, 2), dtype)
    value, dmu, dlogvar = gaussian_kl(zeros, zeros)
    assert value == 0 and not dmu.any() and not dlogvar.any()


@pytest.mark.parametrize("mu, logvar", [(0, 0.5), (1.5, 0), (-2, -3), (0.3, 2), (4, -6)])
def test_the_divergence_meets_quadrature(mu, logvar):
    """KL = ∫ q (log q - log p) dz, integrated by mpmath over mu ± 12 sigma."""
    sigma = mpmath.exp(mpmath.mpf(logvar) / 2)

    def integrand(z):
        q = mpmath.npdf(z, mu, sigma)
        return q * (mpmath.log(q) - mpmath.log(mpmath.npdf(z)))

    exact = mpmath.quad(integrand, [mu + k * sigma for k in range(-12, 13)])
    value = gaussian_kl(np.array([[float(mu)]]), np.array([[float(logvar)]]))[0]
    assert value == pytest.approx(float(exact), rel=1e-12)


@both_dtypes
@pytest.mark.parametrize("logvar", [1e-4, -1e-4, 1e-6, 1e-3])
def test_near_the_prior_no_digit_is_lost(dtype, logvar):
    """exp(logvar) - 1 - logvar in float32 would be 0 at 1e-4, where the answer is 2.500e-9."""
    logvar = dtype(logvar)
    exact = mpmath.mpf(float(logvar))
    exact = (mpmath.expm1(exact) - exact) / 2
    value, _, dlogvar = gaussian_kl(np.zeros((1, 1), dtype), np.array([[logvar]]))
    assert value == pytest.approx(float(exact), rel=1e-9)  # expm1 - logvar cancels by at most logvar / 2
    assert dlogvar[0, 0] == pytest.approx(math.expm1(float(logvar)) / 2, rel=float(np.finfo(dtype).eps))


def test_the_divergence_is_never_negative():
    logvar = np.concatenate([s * 10.0 ** np.linspace(-20, 2, 2000) for s in (1, -1)])[:, None]
    assert np.all(gaussian_kl_per_image(np.zeros_like(logvar), logvar) >= 0)


@both_dtypes
def test_extreme_latents_stay_finite_without_a_warning(dtype):
    mu = np.array([[1e-30, 1e10, -50.0, 0.0]], dtype)
    logvar = np.array([[-200.0, 20.0, -30.0, 85.0]], dtype)
    with np.errstate(all="raise"):
        value, dmu, dlogvar = gaussian_kl(mu, logvar)
    exact = mpmath.fsum((mpmath.mpf(float(m)) ** 2 + mpmath.expm1(float(v)) - float(v)) / 2
                        for m, v in zip(mu[0], logvar[0], strict=True))
    assert value == pytest.approx(float(exact), rel=1e-14)
    assert np.isfinite(dmu).all() and np.isfinite(dlogvar).all() and dlogvar[0, 0] == -0.5


def test_beyond_the_range_of_exp_the_answer_is_inf():
    assert gaussian_kl(np.zeros((1, 1)), np.full((1, 1), 710.0))[0] == math.inf
    assert gaussian_kl(np.zeros((1, 1), np.float32), np.full((1, 1), 90, np.float32))[2][0, 0] == math.inf


@shapes
@both_dtypes
def test_the_value_sums_over_latents_and_averages_over_pictures(shape, dtype):
    mu, logvar = latents(shape, dtype)
    value, dmu, dlogvar = gaussian_kl(mu, logvar)
    per_image = gaussian_kl_per_image(mu, logvar)
    cells = [[gaussian_kl_per_image(mu[n:n + 1, j:j + 1], logvar[n:n + 1, j:j + 1])[0] for j in range(shape[1])]
             for n in range(shape[0])]
    assert isinstance(value, float) and value == per_image.mean()
    assert per_image.shape == (shape[0],) and per_image.dtype == np.float64
    np.testing.assert_allclose(per_image, np.sum(cells, axis=1), rtol=1e-14)
    assert dmu.dtype == dlogvar.dtype == dtype and dmu.shape == dlogvar.shape == shape


@shapes
def test_the_gradients_meet_differences(shape):
    mu, logvar = latents(shape)
    _, dmu, dlogvar = gaussian_kl(mu, logvar)
    for index in np.ndindex(shape):
        along_mu = extrapolated_difference(lambda h, i=index: gaussian_kl(bumped(mu, i, h), logvar)[0])
        along_logvar = extrapolated_difference(lambda h, i=index: gaussian_kl(mu, bumped(logvar, i, h))[0])
        assert abs(along_mu - dmu[index]) < 1e-10 and abs(along_logvar - dlogvar[index]) < 1e-10


# -- sampled --


@pytest.mark.parametrize("k", [1, 3])
def test_the_sampled_value_is_log_q_minus_log_p_at_the_sample(k):
    mu, logvar = latents((2, 3))
    eps = np.random.default_rng(1).standard_normal((k * 2, 3))
    sigma = np.exp(logvar / 2)
    z = np.tile(mu, (k, 1)) + np.tile(sigma, (k, 1)) * eps  # all pictures of one sample before the next sample
    log_ratio = sum(math.log(NormalDist(mu[n % 2, j], sigma[n % 2, j]).pdf(z[n, j]) / NormalDist().pdf(z[n, j]))
                    for n, j in np.ndindex(z.shape))
    assert gaussian_kl_sampled(mu, logvar, eps)[0] == pytest.approx(log_ratio / (k * 2), rel=1e-12)


@shapes
@pytest.mark.parametrize("k", [1, 3])
def test_the_sampled_gradients_are_total_derivatives(shape, k):
    """The noise is held, z moves with mu and logvar."""
    mu, logvar = latents(shape)
    eps = np.random.default_rng(2).standard_normal((k * shape[0], shape[1]))
    _, dmu, dlogvar = gaussian_kl_sampled(mu, logvar, eps)
    for index in np.ndindex(shape):
        along_mu = extrapolated_difference(lambda h, i=index: gaussian_kl_sampled(bumped(mu, i, h), logvar, eps)[0])
        along_logvar = extrapolated_difference(
            lambda h, i=index: gaussian_kl_sampled(mu, bumped(logvar, i, h), eps)[0])
        assert abs(along_mu - dmu[index]) < 1e-10 and abs(along_logvar - dlogvar[index]) < 1e-10


def test_one_sample_has_the_gradients_of_its_equation():
    mu, logvar = latents((3, 2))
    eps = np.random.default_rng(3).standard_normal((3, 2))
    sigma = np.exp(logvar / 2)
    z = mu + sigma * eps
    _, dmu, dlogvar = gaussian_kl_sampled(mu, logvar, eps)
    np.testing.assert_allclose(dmu, z / 3, rtol=1e-14)
    np.testing.assert_allclose(dlogvar, (-0.5 + z * sigma * eps / 2) / 3, rtol=1e-13)


def test_samples_average_to_the_analytic_divergence_and_gradients():
    k = 100_000
    mu, logvar = np.array([[0.8, -0.3]]), np.array([[-1.0, 0.4]])
    eps = np.random.default_rng(4).standard_normal((k, 2))
    value, dmu, dlogvar = gaussian_kl_sampled(mu, logvar, eps)
    sigma = np.exp(logvar / 2)
    z = mu + sigma * eps
    exact = gaussian_kl(mu, logvar)
    spread = np.std(0.5 * (z**2 - eps**2 - logvar).sum(axis=1))
    assert abs(value - exact[0]) < 5 * spread / math.sqrt(k)
    assert np.all(np.abs(dmu - exact[1]) < 5 * np.std(z, axis=0) / math.sqrt(k))
    assert np.all(np.abs(dlogvar - exact[2]) < 5 * np.std(z * sigma * eps / 2, axis=0) / math.sqrt(k))


# -- arrays as callers have them --


@both_dtypes
def test_halves_of_one_array_are_read_in_place_and_not_written(dtype):
    """A net gives [mu | logvar] as one array, so both come as strided views."""
    both = np.random.default_rng(5).standard_normal((3, 8)).astype(dtype)
    copy, eps = both.copy(), np.ones((3, 4), dtype)
    mu, logvar = both[:, :4], both[:, 4:]
    for views, own in ((gaussian_kl(mu, logvar), gaussian_kl(mu.copy(), logvar.copy())),
                       (gaussian_kl_sampled(mu, logvar, eps), gaussian_kl_sampled(mu.copy(), logvar.copy(), eps))):
        assert views[0] == own[0]
        assert all(np.array_equal(a, b) and a.dtype == dtype for a, b in zip(views[1:], own[1:], strict=True))
    assert np.array_equal(both, copy)


def test_float32_latents_are_computed_in_float64_and_rounded_once():
    mu, logvar = latents((30, 7), np.float32)
    eps = np.random.default_rng(6).standard_normal((60, 7)).astype(np.float32)
    for penalty, arrays in ((gaussian_kl, (mu, logvar)), (gaussian_kl_sampled, (mu, logvar, eps))):
        value, *gradients = penalty(*arrays)
        exact, *wanted = penalty(*(a.astype(np.float64) for a in arrays))
        assert type(value) is float and value == exact
        for gradient, double in zip(gradients, wanted, strict=True):
            np.testing.assert_array_equal(gradient, double.astype(np.float32))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_in_nan_out(where):
    arrays = [*latents((3, 2)), np.ones((3, 2))]
    arrays[where][1, 1] = np.nan
    value, *gradients = gaussian_kl_sampled(*arrays)
    assert math.isnan(value) and any(np.isnan(g[1, 1]) for g in gradients)
    if where < 2:
        assert math.isnan(gaussian_kl(*arrays[:2])[0])
        assert np.isnan(gaussian_kl_per_image(*arrays[:2])).tolist() == [False, True, False]


@pytest.mark.parametrize("mu, logvar, message", [
    (np.zeros((3, 2)), np.zeros((3, 1)), r"\(3, 2\) but logvar \(3, 1\)"),
    (np.zeros((3, 2)), np.zeros(2), r"\(3, 2\) but logvar \(2,\)"),
    (np.zeros(3), np.zeros(3), r"\(N, d\).*\(3,\)"),
    (np.zeros((0, 3)), np.zeros((0, 3)), r"at least 1.*\(0, 3\)"),
    (np.zeros((3, 2), int), np.zeros((3, 2), int), "int64"),
    (np.zeros((3, 2)), np.zeros((3, 2), np.float32), "float64 and float32"),
])
def test_latents_that_do_not_fit_are_refused(mu, logvar, message):
    for call in (gaussian_kl, gaussian_kl_per_image, lambda m, v: gaussian_kl_sampled(m, v, m)):
        with pytest.raises(ValueError, match=message):
            call(mu, logvar)


@pytest.mark.parametrize("shape", [(4, 2), (3, 1), (0, 2), (3,), (2, 3, 2)])
def test_noise_that_is_no_multiple_of_the_pictures_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(k \* 3, 2\).*\(3, 2\)"):
        gaussian_kl_sampled(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(shape))


# -- sparsity --


def coins(rho, rho_hat):
    """KL(rho ‖ rho_hat) of two coins, with mpmath."""
    rho, rho_hat = mpmath.mpf(rho), mpmath.mpf(rho_hat)
    return rho * mpmath.log(rho / rho_hat) + (1 - rho) * mpmath.log((1 - rho) / (1 - rho_hat))


@both_dtypes
def test_sparsity_is_the_divergence_of_two_coins_summed_over_the_units(dtype):
    h = np.random.default_rng(0).uniform(0.02, 0.9, (4, 3)).astype(dtype)
    exact = sum(coins(0.1, float(mean)) for mean in h.astype(np.float64).mean(0))
    value, dh = sparsity_kl(h, 0.1)
    assert value == pytest.approx(float(exact), rel=1e-13) and dh.dtype == dtype and dh.shape == h.shape
    slope = [float(mpmath.diff(lambda r: coins(0.1, r), float(mean))) / 4 for mean in h.astype(np.float64).mean(0)]
    np.testing.assert_allclose(dh, np.tile(slope, (4, 1)), rtol=20 * np.finfo(dtype).eps)


def test_a_unit_that_fires_for_one_picture_of_ten_costs_nothing_at_a_tenth():
    h = np.eye(10)
    assert sparsity_kl(h, 0.1)[0] == pytest.approx(0, abs=1e-15)
    assert sparsity_kl(h, 0.2)[0] == pytest.approx(10 * float(coins(0.2, 0.1)), rel=1e-12)


@both_dtypes
def test_dead_and_saturated_units_cost_a_finite_number_and_are_pushed_back(dtype):
    h = np.array([[0.0, 1.0, 1 - 1e-8]], dtype)
    with np.errstate(all="raise"):
        value, dh = sparsity_kl(h, 0.1)
    assert np.isfinite(value) and dh[0, 0] < -1e4 and dh[0, 1] > 1e5 and dh[0, 2] > 1e5
    on_the_edge = sparsity_kl(np.full((1, 3), 1e-6), 0.1)[0] / 3
    assert sparsity_kl(np.zeros((1, 3)), 0.1)[0] / 3 == pytest.approx(on_the_edge + 0.1 - 0.9e-6, rel=1e-9)  # tangent


@pytest.mark.parametrize(("h", "rho", "words"), [
    (np.full((2, 2), 0.5), 0.0, "rho between 0 and 1, got 0.0"), (np.full((2, 2), 0.5), 1.0, "got 1.0"),
    (np.full((2, 2), 1.5), 0.1, r"in \[0, 1\], got 1.5 to 1.5"), (np.full((2, 2), -0.5), 0.1, "the code a sigmoid"),
    (np.array([[0.5, 1.5]]), 0.1, "got 0.5 to 1.5"), (np.array([[-0.5, 0.5]]), 0.1, "got -0.5 to 0.5"),
    (np.zeros((0, 2)), 0.1, r"got \(0, 2\)"), (np.zeros(3), 0.1, r"got \(3,\)")])
def test_activations_that_are_no_coins_are_refused(h, rho, words):
    with pytest.raises(ValueError, match=words):
        sparsity_kl(h, rho)


# -- contraction and decay --


@pytest.mark.parametrize("bend", [Sigmoid(), Tanh(), Softplus(), Identity()], ids=repr)
def test_the_contractive_penalty_is_the_squared_size_of_the_jacobian(bend):
    """J by complex steps through the layer itself, column by column."""
    rng = np.random.default_rng(1)
    x, W, b = rng.standard_normal((3, 5)), rng.standard_normal((5, 4)), rng.standard_normal(4)
    step = 1e-30
    columns = [bend.f((x + 1j * step * np.eye(5)[i]) @ W + b).imag / step for i in range(5)]
    exact = sum(np.square(column).sum() for column in columns) / 3
    value = contractive(bend.f(x @ W + b), W, bend)[0]
    assert type(value) is float and value == pytest.approx(exact, rel=1e-12)
    alone = [contractive(bend.f(x[n:n + 1] @ W + b), W, bend)[0] for n in range(3)]  # one picture is a batch too
    assert np.mean(alone) == pytest.approx(exact, rel=1e-12)


@both_dtypes
def test_a_linear_contraction_is_weight_decay_exactly(dtype):
    rng = np.random.default_rng(2)
    W, h = rng.standard_normal((5, 4)).astype(dtype), rng.standard_normal((3, 4)).astype(dtype)
    value, dh, dW = contractive(h, W, Identity())
    decay, (dW_decay,) = weight_decay([W])
    assert value == pytest.approx(decay, rel=8 * float(np.finfo(dtype).eps)) and not dh.any()
    np.testing.assert_array_equal(dW, dW_decay)
    assert dh.dtype == dW.dtype == dtype


def test_decay_sums_over_all_weights_on_both_kernels():
    Ws = [np.arange(6.0).reshape(2, 3), np.full((2, 2, 1), -1.0)]
    for kernels in (reference, fast):
        value, dWs = weight_decay(Ws, kernels)
        assert value == 59 and all((dW == 2 * W).all() for W, dW in zip(Ws, dWs, strict=True))


def test_penalties_on_what_does_not_fit_are_refused():
    for h, W in (((3, 4), (5, 3)), ((4,), (5, 4)), ((3, 2, 4), (5, 2)), ((3, 4), (4,)), ((3, 4), (5, 4, 1)),
                 ((0, 4), (5, 4))):
        with pytest.raises(ValueError, match=re.escape(f"got {h} and {W}: pass the weights")):
            contractive(np.zeros(h), np.zeros(W), Sigmoid())
    with pytest.raises(ValueError, match="got 0"):
        weight_decay([])


def test_the_contractive_penalty_of_many_float32_pictures_is_summed_in_double_precision():
    h = np.random.default_rng(3).uniform(0.2, 0.8, (200_000, 2)).astype(np.float32)
    W = np.random.default_rng(4).standard_normal((3, 2)).astype(np.float32)
    s = Sigmoid().slope(h).astype(np.float64)
    exact = np.mean(s**2, axis=0) @ np.sum(W.astype(np.float64) ** 2, axis=0)
    assert contractive(h, W, Sigmoid())[0] == pytest.approx(exact, rel=2e-7)
