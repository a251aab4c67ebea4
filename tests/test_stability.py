"""The numerical traps: each with the input on which the obvious form breaks, in float32 and float64, on both modules of
kernels, with every floating-point warning an error; values against mpmath, gradients finite.
"""
import itertools
import math

import mpmath
import numpy as np
import pytest

from npae import evaluate, losses, models, nets, optim, penalties, train
from npae.data.batches import batches, to_float
from npae.evaluate.importance import _LogSum
from npae.kernels import fast, reference
from npae.layers import Dense, Flatten, Reparameterize, Reshape, Sequential, Sigmoid, Softplus, Tanh
from npae.models.vae import LOGVAR_RANGE

pytestmark = pytest.mark.parametrize(("K", "dtype"), [
    (K, dtype) for K in (reference, fast) for dtype in (np.float32, np.float64)],
    ids=["reference-float32", "reference-float64", "fast-float32", "fast-float64"])


@pytest.fixture(autouse=True)
def strict():
    """Overflow, underflow, division by zero and not-a-number are errors in every test here."""
    with np.errstate(all="raise"):
        yield


def near(got, exact, dtype, ulps=4):
    """Within so many ulp of the exact numbers, and a denormal number where these are below the smallest normal one."""
    for g, e in zip(np.ravel(got).tolist(), exact, strict=True):
        info = np.finfo(dtype)
        room = ulps * max(abs(float(e)) * float(info.eps), float(info.smallest_subnormal))
        assert math.isfinite(g) and abs(mpmath.mpf(g) - e) <= room, (g, float(e))


def there_and_back(layer, x):
    """y, and dx of dy = 1."""
    y = layer.forward(x)
    return y, layer.backward(np.ones_like(y))


def numbers(*values, dtype):
    return np.array(values, dtype).reshape(1, -1)


def nll(logit, x, K, dtype):
    value, dlogits = losses.Bernoulli(kernels=K).nll(numbers(logit, dtype=dtype), numbers(x, dtype=dtype))
    assert dlogits.dtype == dtype
    return value, dlogits.item()


# -- activations --


def test_sigmoid_of_large_numbers(K, dtype):
    x = numbers(1e4, 800, 89, 0, -17, -40, -80, -800, -1e4, dtype=dtype)
    y, dx = there_and_back(Sigmoid(kernels=K), x)
    near(y, [1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in x.ravel().tolist()], dtype)
    assert np.isfinite(dx).all() and (dx >= 0).all()


def test_softplus_of_large_numbers(K, dtype):
    x = numbers(1000, 89, 0, -17, -40, -80, -1000, dtype=dtype)
    y, dx = there_and_back(Softplus(kernels=K), x)
    near(y, [mpmath.log1p(mpmath.exp(mpmath.mpf(v))) for v in x.ravel().tolist()], dtype)
    near(dx, [1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in x.ravel().tolist()], dtype, ulps=16)


def test_tanh_of_large_and_of_small_numbers(K, dtype):
    x = numbers(1e4, 20, 1e-6, -1e-6, -1e4, dtype=dtype)
    y, dx = there_and_back(Tanh(kernels=K), x)
    near(y, [mpmath.tanh(mpmath.mpf(v)) for v in x.ravel().tolist()], dtype)
    assert np.isfinite(dx).all()


# -- likelihoods --


@pytest.mark.parametrize(("logit", "x"), [(1e4, 0), (-1e4, 1), (1e4, 1), (-1e4, 0), (100, 0), (89, 0), (40, 0), (17, 0),
                                          (-17, 1), (-100, 0), (0, 0.5)])
def test_cross_entropy_of_large_logits(logit, x, K, dtype):
    """The obvious form, -x log s - (1 - x) log(1 - s), is infinite in float32 from a logit of 17 on."""
    value, dlogit = nll(logit, x, K, dtype)
    l, s = mpmath.mpf(logit), 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
    near([value], [mpmath.log1p(mpmath.exp(-abs(l))) + max(l, 0) - x * l], dtype)
    near([dlogit], [s - x], dtype)


def test_a_wrong_certainty_costs_its_logit_and_keeps_its_gradient(K, dtype):
    """Probabilities clipped to [1e-7, 1 - 1e-7] would cost 16 for any logit above, with a gradient of 0."""
    (a, da), (b, db) = nll(1e4, 0, K, dtype), nll(2e4, 0, K, dtype)
    assert (a, b) == (1e4, 2e4) and da == db == 1


def test_probabilities_next_to_one_are_told_apart(K, dtype):
    """1 - 1e-8 is 1 in float32: what is clipped there is not clipped at all."""
    costs = [nll(logit, 0, K, dtype)[0] for logit in (17, 18, 19, 40)]
    assert all(b > a for a, b in itertools.pairwise(costs))


def test_the_gradient_has_no_division_by_a_variance(K, dtype):
    """(s - x) / (s (1 - s)) times s (1 - s) is 0 / 0 at a logit of 17 in float32 and of 40 in float64."""
    for logit in (17, 40, 800):
        assert nll(logit, 1, K, dtype)[1] == pytest.approx(-math.exp(-logit), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("logit", [np.inf, -np.inf, np.nan])
def test_logits_that_are_not_finite_are_never_a_finite_loss(logit, K, dtype):
    with np.errstate(invalid="ignore"):
        assert not math.isfinite(nll(logit, 0.5, K, dtype)[0])


def test_squares_of_large_differences(K, dtype):
    y, x = numbers(1e25, 0, dtype=dtype), numbers(0, 0, dtype=dtype)
    value, dy = losses.SquaredError(kernels=K).nll(y, x)
    assert value == pytest.approx(1e50, rel=1e-6) and np.isfinite(dy).all()


# -- latents --


def vae(logvar, K, dtype, kl="analytic"):
    """An encoder that says mu = 0.5 and this logvar of every picture."""
    head = Dense(4, 2, dtype=dtype, kernels=K)
    head.W.value[...], head.b.value[...] = 0, (0.5, logvar)
    body = Dense(1, 4, dtype=dtype, kernels=K, rng=0)
    model = models.VAE(Sequential([Flatten(), head]), Sequential([body, Reshape((2, 2, 1))]), kl=kl,
                       likelihood=losses.Bernoulli(kernels=K))
    terms = model.loss(np.full((2, 2, 2, 1), 0.25, dtype), rng=np.random.default_rng(0))
    model.backward()
    return terms, head.b.grad


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("logvar", [89, 710, 1e4, -200, -1e4])
def test_log_variances_that_exp_cannot_hold(logvar, kl, K, dtype):
    """exp(89) is infinite in float32, exp(710) in float64: clamped to [-30, 20], with a gradient of 0 beyond."""
    terms, grad = vae(logvar, K, dtype, kl)
    assert all(map(math.isfinite, terms.values())) and np.isfinite(grad).all() and grad[1] == 0
    if kl == "analytic":
        v = mpmath.mpf(min(max(logvar, LOGVAR_RANGE[0]), LOGVAR_RANGE[1]))
        near([terms["kl"]], [(mpmath.mpf(0.25) + mpmath.expm1(v) - v) / 2], np.float64)


def test_a_divergence_next_to_the_prior(K, dtype):
    """(exp(v) - 1 - v) / 2 at v = 1e-4 is 2.5e-9, and 0 in float32."""
    v = dtype(1e-4)
    value, _, dlogvar = penalties.gaussian_kl(np.zeros((1, 1), dtype), np.array([[v]]))
    exact = mpmath.mpf(float(v))
    assert value == pytest.approx(float((mpmath.expm1(exact) - exact) / 2), rel=1e-9)
    near(dlogvar, [mpmath.expm1(exact) / 2], dtype)


def test_samples_of_the_narrowest_distribution_are_no_denormal_numbers(K, dtype):
    """exp(-100) is 3.8e-44 in float32: a denormal number, many times slower than others."""
    eps = np.ones((1, 1))
    layer = Reparameterize()
    layer.eps = eps
    z = layer.forward(numbers(0, LOGVAR_RANGE[0], dtype=dtype))
    near(z, [mpmath.exp(mpmath.mpf(LOGVAR_RANGE[0]) / 2)], dtype)
    assert z.item() > np.finfo(dtype).smallest_normal


# -- penalties --


@pytest.mark.parametrize("mean", [0, 1e-30, 1 - 1e-8, 1])
def test_units_that_are_always_or_never_on(mean, K, dtype):
    h = np.full((3, 2), mean, dtype)
    value, dh = penalties.sparsity_kl(h, 0.1)
    assert math.isfinite(value) and np.isfinite(dh).all() and dh.dtype == dtype
    assert (np.sign(dh) == (-1 if mean < 0.1 else 1)).all(), "the way back to rho"


def test_a_contraction_at_rest(K, dtype):
    """At h = 0 and at saturation the slope is 0; there is no root or quotient in it."""
    for h in (0.0, 1.0, 0.5):
        value, dh, dW = penalties.contractive(np.full((2, 3), h, dtype), np.ones((4, 3), dtype), Sigmoid(kernels=K))
        assert math.isfinite(value) and np.isfinite(dh).all() and np.isfinite(dW).all()


# -- sums --


def test_a_bias_gradient_over_many_rows(K, dtype):
    """The naive float32 sum of 5.88 million times 0.1 along the first axis is off by 0.7 %."""
    n = 588_000 * (1 if K is reference else 10)
    layer = Dense(1, 3, dtype=dtype, kernels=K)
    layer.forward(np.zeros((n, 1), dtype))
    layer.backward(np.full((n, 3), 0.1, dtype), need_dx=False)
    np.testing.assert_allclose(layer.b.grad, n * float(dtype(0.1)), rtol=1e-6)


def test_a_loss_over_many_numbers(K, dtype):
    n = 600_000
    value, _ = losses.SquaredError(kernels=K).nll(np.full((1, n), 0.1, dtype), np.zeros((1, n), dtype))
    assert value == pytest.approx(n * float(dtype(0.1)) ** 2, rel=1e-7 if dtype == np.float32 else 1e-11)
    assert evaluate.reconstruction_mse(_identity(K, dtype), np.zeros((3000, 2, 2, 1), dtype)) == 0


def _identity(K, dtype):
    a, b = (Dense(4, 4, dtype=dtype, kernels=K) for _ in "ab")
    for layer in (a, b):
        layer.W.value[...] = np.eye(4)
    return models.Autoencoder(Sequential([Flatten(), a]), Sequential([b, Reshape((2, 2, 1))]))


def test_a_variance_far_from_zero(K, dtype):
    """E[x²] - E[x]² of 4096 + k/128 has no digit right in float32."""
    x = (4096 + np.arange(64) / 128).astype(dtype).reshape(64, 1, 1, 1)
    exact = np.var(np.arange(64)) / 128**2
    assert evaluate.reconstruction.pca(x).variances[0] == pytest.approx(exact, rel=1e-12)
    assert evaluate.knn(x, np.arange(64), x, np.arange(64), k=1) == 1


def test_a_mean_over_batches_weighs_the_short_last_one(K, dtype):
    x = np.random.default_rng(0).random((7, 2, 2, 1)).astype(dtype)
    model = models.Autoencoder(Sequential([Flatten(), Dense(4, 2, rng=0, dtype=dtype, kernels=K)]),
                               Sequential([Dense(2, 4, rng=1, dtype=dtype, kernels=K), Reshape((2, 2, 1))]))
    whole = model.loss(x)["loss"]
    parts = evaluate.loss_terms(model, x, rng=np.random.default_rng(0), batch_size=4)["loss"]
    assert parts == pytest.approx(whole, rel=1e-6)
    history = train.fit(model, x, optimizer=optim.SGD(0.0, kernels=K), epochs=1, batch_size=4)
    assert history["loss"] == [pytest.approx(whole, rel=1e-6)]


def test_logarithms_of_sums_of_extreme_weights(K, dtype):
    for weights in ((1000, 1001, 1002), (-1000, -1001, -1002), (-np.inf, 5), (-1e5, 1e5)):
        total = _LogSum(1)
        for w in weights:
            total.add(np.array([w], np.float64))
        exact = mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(w)) for w in weights) / len(weights))
        near(total.log_mean(), [exact], np.float64)
    nothing = _LogSum(1)
    nothing.add(np.array([-np.inf]))
    assert nothing.log_mean() == -np.inf and nothing.effective_samples() == 1


def test_importance_weights_of_improbable_pictures(K, dtype):
    """Each log w is near -1e5: exp of it is 0, and a mean of zeros has the logarithm -inf."""
    shape, rng = (2, 2, 1), np.random.default_rng(0)
    encoder, decoder = nets.mlp_encoder(shape, [2], rng=rng, dtype=dtype), nets.mlp_decoder(shape, [1], rng=rng,
                                                                                           dtype=dtype)
    encoder, decoder = encoder.to(kernels=K), decoder.to(kernels=K)
    model = models.IWAE(encoder, decoder, likelihood=losses.Gaussian(1e-5, kernels=K), samples=3)
    loss = model.loss(np.ones((2, *shape), dtype), rng=rng)["loss"]
    model.backward()
    assert math.isfinite(loss) and loss > 1000 and np.isfinite(model.grad).all()


# -- optimizers --


def test_the_length_of_a_gradient_whose_square_overflows(K, dtype):
    grad = np.full(4, 1e20, dtype)
    assert optim.clip_global_norm(grad, 1.0, K) == pytest.approx(2e20, rel=1e-6)
    np.testing.assert_allclose(grad, 0.5, rtol=1e-6)


def test_adam_adds_eps_to_the_root_and_not_under_it(K, dtype):
    """The first step on a gradient of 1e-8 is lr / 2; with eps under the root it would be lr / 10,000."""
    theta = np.zeros(1, dtype)
    optim.Adam(1.0, eps=1e-8, kernels=K).step(theta, np.full(1, 1e-8, dtype))
    assert theta[0] == pytest.approx(-0.5, rel=1e-5)


@pytest.mark.parametrize("make", [optim.Momentum, optim.RMSprop, optim.Adam])
def test_moments_of_what_stands_still_never_become_denormal(make, K, dtype):
    optimizer, theta = make(1e-3, kernels=K), np.zeros(8, dtype)
    optimizer.step(theta, np.full(8, 1e-3, dtype))
    for _ in range(1200):
        optimizer.step(theta, np.zeros(8, dtype))
    for moment in optimizer.moments.values():
        assert ((moment == 0) | (np.abs(moment) >= 1e-30)).all()
    assert np.isfinite(theta).all()


def test_a_rate_schedule_of_many_steps_stays_a_number(K, dtype):
    rate = optim.ExponentialDecay(1.0, 0.5, 1)
    assert [rate(step) for step in (0, 10, 1000)] == [1.0, 2.0**-10, 2.0**-1000]


# -- borders --


def test_bytes_become_numbers_at_the_border(K, dtype):
    """255 + 1 is 0 and 3 - 5 is 254 among bytes."""
    x = to_float(np.array([3, 5, 255], np.uint8), dtype)
    assert x.dtype == dtype and x[0] - x[1] < 0 and x[2] == 1 and x[2] + x[2] == 2
    batch, _ = next(batches(np.full((2, 1), 255, np.uint8), dtype=dtype))
    assert batch.dtype == dtype and (batch == 1).all()


def test_nothing_of_a_training_step_changes_its_dtype(K, dtype):
    """x / 255 is float64, and so is float32 times a NumPy scalar of float64."""
    shape, rng = (4, 4, 1), np.random.default_rng(0)
    for kind, width, likelihood in ((models.VAE, 4, losses.Bernoulli(kernels=K)),
                                    (models.IWAE, 4, losses.Gaussian(np.float64(0.5), kernels=K)),
                                    (models.SparseAutoencoder, 2, losses.SquaredError(kernels=K)),
                                    (models.DenoisingAutoencoder, 2, losses.SquaredError(kernels=K))):
        encoder = nets.mlp_encoder(shape, [width], code="sigmoid", rng=rng, dtype=dtype).to(kernels=K)
        model = kind(encoder, nets.mlp_decoder(shape, [2], rng=rng, dtype=dtype).to(kernels=K), likelihood=likelihood)
        seen = []
        for layer in model.walk():
            if not isinstance(layer, Sequential):
                _watch(layer, seen)
        model.loss(np.full((3, *shape), 0.25, dtype), rng=rng)
        model.backward()
        optimizer = optim.Adam(np.float64(1e-3), kernels=K)
        optimizer.step(model.theta, model.grad)
        found = {*seen, model.theta.dtype, model.grad.dtype, *(m.dtype for m in optimizer.moments.values())}
        assert len(seen) > 6 and found == {np.dtype(dtype)}, kind


def _watch(layer, seen):
    """Note the dtypes of what a layer is given and gives."""
    forward, backward = layer._forward, layer._backward

    def _forward(x):
        y = forward(x)
        seen.extend((x.dtype, y.dtype))
        return y

    def _backward(dy, need_dx):
        dx = backward(dy, need_dx)
        seen.extend(a.dtype for a in (dy, dx) if a is not None)
        return dx

    layer._forward, layer._backward = _forward, _backward


def test_grey_levels_at_both_ends_have_no_entropy(K, dtype):
    """0 log 0 is 0, and not 0 times -inf."""
    x = np.array([0, 1, 0.5], dtype).reshape(1, 3, 1, 1)
    assert evaluate.grey_floor(x) == pytest.approx(math.log(2), rel=1e-12)
