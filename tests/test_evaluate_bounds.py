"""Bounds on log p(x) against a model whose log p(x) is known, and against sums of weights worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from npae import losses
from npae.data.batches import binarize_sample, binarize_threshold
from npae.evaluate import (
    active_units,
    bits_per_pixel,
    code_statistics,
    elbo,
    grey_floor,
    kl_per_dimension,
    log_likelihood,
    pca,
    reconstruction_mse,
)
from npae.evaluate.importance import _LogSum
from npae.kernels import reference
from npae.layers import Dense, Flatten, Reshape, Sequential, TiedDense
from npae.models import VAE, Autoencoder
from npae.penalties import gaussian_kl

VARIANCE = 0.2
SETTINGS = {"dtype": np.float64, "kernels": reference}


def pictures(n, shape=(2, 3, 1), seed=0):
    return np.random.default_rng(seed).random((n, *shape))


class Exact:
    """x = m + W z + noise, W with orthogonal columns: p(x) = N(m, W W^T + VARIANCE I), and the posterior
    N(S W^T (x - m) / VARIANCE, S), S = (I + W^T W / VARIANCE)^-1, is factorised, so that an encoder can be exact.
    """

    def __init__(self, n=30):
        rng = np.random.default_rng(1)
        self.W = np.linalg.qr(rng.standard_normal((6, 2)))[0] * [1.2, 0.6]
        self.m = rng.standard_normal(6)
        self.S = 1 / (1 + np.square(self.W).sum(axis=0) / VARIANCE)
        rows = self.m + rng.standard_normal((n, 2)) @ self.W.T + math.sqrt(VARIANCE) * rng.standard_normal((n, 6))
        self.x = rows.reshape(n, 2, 3, 1)
        self.log_p = multivariate_normal(self.m, self.W @ self.W.T + VARIANCE * np.eye(6)).logpdf(rows)

    def model(self, spread=0.0, kl="sampled", likelihood=None):
        """At spread 0 the exact posterior; otherwise an encoder that is wrong by about so much."""
        encoder, decoder = Dense(6, 4, **SETTINGS), Dense(2, 6, **SETTINGS)
        decoder.W.value[...], decoder.b.value[...] = self.W.T, self.m
        encoder.W.value[...] = np.hstack([self.W * self.S / VARIANCE, np.zeros((6, 2))])
        encoder.b.value[:2], encoder.b.value[2:] = -self.m @ encoder.W.value[:, :2], np.log(self.S)
        encoder.b.value += spread * np.array([1, -1, 1.5, 1])
        return VAE(Sequential([Flatten(), encoder]), Sequential([decoder, Reshape((2, 3, 1))]), kl=kl,
                   likelihood=likelihood or losses.Gaussian(VARIANCE, kernels=reference))


def rng(seed=0):
    return np.random.default_rng(seed)


def test_at_the_exact_posterior_one_sample_gives_log_p():
    """Every weight is p(x) itself: a wrong constant, sign or spread anywhere would show."""
    exact = Exact()
    found = log_likelihood(exact.model(), exact.x, samples=3, rng=rng())
    assert found["log_likelihood"] == pytest.approx(exact.log_p.mean(), rel=1e-12)
    assert found["se"] == pytest.approx(exact.log_p.std(ddof=1) / math.sqrt(30), rel=1e-9)
    assert found["effective_samples"] == pytest.approx(3, rel=1e-9) and found["se_samples"] < 1e-5
    assert (found["pictures"], found["samples"]) == (30, 3)
    assert found["elbo"] == pytest.approx(exact.log_p.mean(), rel=1e-12)
    assert elbo(exact.model(), exact.x, rng=rng())["elbo"] == pytest.approx(exact.log_p.mean(), rel=1e-12)


def test_elsewhere_the_elbo_is_below_and_the_log_likelihood_reaches_log_p_within_its_error():
    exact = Exact()
    model = exact.model(spread=0.3)
    bound = np.mean([elbo(model, exact.x, rng=rng(seed))["elbo"] for seed in range(50)])
    assert bound < exact.log_p.mean() - 0.1
    found = [log_likelihood(model, exact.x, samples=500, rng=rng(seed)) for seed in range(12)]
    away = [(f["log_likelihood"] - exact.log_p.mean()) / f["se_samples"] for f in found]
    assert 0 < found[0]["se_samples"] < 0.03
    assert abs(np.mean(away)) < 1.2 and 0.4 < np.std(away) < 1.9  # the error is neither too small nor too large


def test_the_bound_of_one_sample_is_the_elbo_and_more_samples_raise_it():
    exact = Exact()
    model = exact.model(spread=0.5)
    assert log_likelihood(model, exact.x, samples=1, rng=rng(3))["log_likelihood"] == pytest.approx(
        elbo(model, exact.x, rng=rng(3))["elbo"], rel=1e-12)
    means = [np.mean([log_likelihood(model, exact.x, samples=k, rng=rng(seed))["log_likelihood"] for seed in range(40)])
             for k in (1, 3, 10, 100)]
    assert means[0] + 0.1 < means[1] and means[1] + 0.05 < means[2] < means[3] - 0.01
    assert means[3] < exact.log_p.mean() + 0.02


def test_the_log_mean_of_the_weights_is_that_of_the_definition():
    exact = Exact(4)
    model = exact.model(spread=0.5)
    mu, logvar = model.encode_stats(exact.x)
    noise, weights = rng(7), []
    for _ in range(5):
        eps = noise.standard_normal((4, 2))
        z = mu + np.exp(logvar / 2) * eps
        p_z = multivariate_normal(np.zeros(2), np.eye(2)).pdf(z)
        q_z = [multivariate_normal(m, np.diag(np.exp(v))).pdf(a) for m, v, a in zip(mu, logvar, z, strict=True)]
        rows = exact.x.reshape(4, 6)
        p_x = [multivariate_normal(exact.m + exact.W @ a, VARIANCE * np.eye(6)).pdf(b)
               for a, b in zip(z, rows, strict=True)]
        weights.append(np.array(p_x) * p_z / q_z)
    weights = np.array(weights)
    ess = weights.sum(0) ** 2 / np.square(weights).sum(0)
    found = log_likelihood(model, exact.x, samples=5, rng=rng(7))
    assert found["log_likelihood"] == pytest.approx(np.log(weights.mean(axis=0)).mean(), rel=1e-12)
    assert found["elbo"] == pytest.approx(np.log(weights).mean(), rel=1e-12)
    assert found["effective_samples"] == pytest.approx(ess.mean(), rel=1e-10)
    assert found["se_samples"] == pytest.approx(math.sqrt((1 / ess - 1 / 5).sum()) / 4, rel=1e-10)


def test_the_batch_size_changes_nothing_and_the_buffers_come_back():
    exact = Exact()
    model = exact.model(spread=0.3)
    one, two = (log_likelihood(model, exact.x, samples=20, rng=rng(), batch_size=size) for size in (256, 7))
    assert two == pytest.approx(one, rel=1e-12)
    for keep in (False, True):
        model.keep_buffers(keep)
        log_likelihood(model, exact.x, samples=2, rng=rng())
        assert model.decoder.layers[0].work.keep == model.encoder.layers[1].work.keep == keep


def test_memory_does_not_grow_with_the_samples():
    import tracemalloc

    exact = Exact(200)
    model = exact.model()
    log_likelihood(model, exact.x, samples=2, rng=rng())

    def peak(samples):
        tracemalloc.start()
        log_likelihood(model, exact.x, samples=samples, rng=rng())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(400) < peak(4) + 100_000 < 400 * 200 * 2 * 8


def test_a_random_transform_draws_the_pictures_once():
    x = np.full((3, 2, 3, 1), 0.5)
    model = Exact().model(likelihood=losses.Bernoulli(kernels=reference))
    seen = []

    def draw(batch, generator):
        seen.append(binarize_sample(batch, generator))
        return seen[-1]

    found = log_likelihood(model, x, samples=4, rng=rng(), transform=draw, batch_size=2)
    assert [len(batch) for batch in seen] == [2, 1]
    assert "log_likelihood" in found


@pytest.mark.parametrize("rows", [
    [[-np.inf, -1000.0], [-np.inf, -1001.0]], [[-np.inf, -5.0], [3.0, -np.inf]], [[1000.0, -1e5], [1001.0, 1e5]],
    [[800.0, -800.0], [-800.0, 800.0]]])
def test_extreme_weights_are_added_without_overflow(rows):
    total = _LogSum(2)
    with np.errstate(all="raise"):
        for row in rows:
            total.add(np.array(row))
        found, ess = total.log_mean(), total.effective_samples()
    np.testing.assert_allclose(found, np.logaddexp(*map(np.array, rows)) - math.log(2), rtol=1e-14)
    assert ((ess >= 1) & (ess <= 2)).all()


def test_a_picture_that_is_not_a_number_has_no_error_that_looks_like_one():
    x = pictures(3)
    x[1, 0, 0] = np.nan
    found = log_likelihood(Exact().model(), x, samples=3, rng=rng())
    assert all(math.isnan(found[key]) for key in ("log_likelihood", "elbo", "se", "se_samples", "effective_samples"))


def test_grey_pixels_under_bernoulli_are_never_called_a_likelihood():
    x = pictures(5)
    grey = Exact().model(likelihood=losses.Bernoulli(kernels=reference))
    assert set(elbo(grey, x, rng=rng())) == {"cross_entropy_bound", "recon", "kl"}
    assert "log_likelihood" not in (found := log_likelihood(grey, x, samples=2, rng=rng()))
    assert math.isfinite(found["cross_entropy_estimate"]) and "elbo" not in found
    assert found["cross_entropy_bound"] < found["cross_entropy_estimate"]
    for place in (0, -1):  # one grey pixel is enough, in whatever batch
        one = np.zeros((600, 2, 3, 1))
        one[place, 1, 2] = 0.5
        assert "cross_entropy_bound" in elbo(grey, one, rng=rng())
    dense = Exact().model()
    for model, data, transform in ((grey, x, binarize_threshold), (grey, np.round(x), None), (dense, x, None)):
        assert "elbo" in elbo(model, data, rng=rng(), transform=transform)
        assert "log_likelihood" in log_likelihood(model, data, samples=2, rng=rng(), transform=transform)


def test_the_floor_of_grey_pixels_is_the_least_that_bernoulli_means_can_reach():
    x = np.clip(pictures(4), 0.01, 0.99)
    logits = np.log(x / (1 - x))
    at = losses.Bernoulli(kernels=reference).nll
    assert grey_floor(x) == pytest.approx(at(logits, x)[0], rel=1e-12)
    assert grey_floor(x) < at(logits + 0.01, x)[0]
    assert grey_floor(x, transform=binarize_threshold) == 0
    assert grey_floor(np.array([0, 255, 51], np.uint8).reshape(1, 1, 3, 1)) == pytest.approx(
        -0.2 * math.log(0.2) - 0.8 * math.log(0.8), rel=1e-12)
    for wrong, words in ((255 * x, "2.55 to 238"), (np.where(x > 0.9, np.nan, x), "nan to nan"), (x - 1, "-0.9")):
        with pytest.raises(ValueError, match=f"grey_floor needs grey levels in .0, 1., .*{words}"):
            grey_floor(wrong)


def test_the_floor_of_mnists_test_set_is_the_published_one(mnist_dir):
    from npae import data

    assert grey_floor(data.load("mnist", mnist_dir).test_x) == pytest.approx(45.53, abs=0.005)


def test_what_has_no_likelihood_or_no_prior_is_refused():
    x = pictures(2)
    squares = Exact().model(likelihood=losses.SquaredError(kernels=reference))
    with pytest.raises(ValueError, match=r"a log-likelihood is in nats.*squared grey level"):
        log_likelihood(squares, x, rng=rng())
    plain = Autoencoder(Sequential([Flatten(), Dense(6, 2, **SETTINGS)]),
                        Sequential([Dense(2, 6, **SETTINGS), Reshape((2, 3, 1))]), likelihood=losses.Gaussian(1.0))
    for measure in (lambda: log_likelihood(plain, x, rng=rng()), lambda: code_statistics(plain, x)):
        with pytest.raises(ValueError, match=r"needs a model with a prior.*Autoencoder has none"):
            measure()
    with pytest.raises(ValueError, match="samples"):
        log_likelihood(Exact().model(), x, samples=0, rng=rng())
    with pytest.raises(ValueError, match="empty"):
        log_likelihood(Exact().model(), x[:0], rng=rng())


def test_labels_go_to_encoder_and_decoder():
    class Told(VAE):
        """A stand-in for a conditional model: labels move mu and the picture."""

        def encode_stats(self, x, y=None):
            mu, logvar = super().encode_stats(x)
            return mu + y[:, None], logvar

        def decoder_output(self, z, y=None):
            return super().decoder_output(z - y[:, None])

    exact = Exact()
    plain, y = exact.model(), np.arange(30) % 3
    told = Told(plain.encoder.to(), plain.decoder.to(), likelihood=plain.likelihood)
    found = log_likelihood(told, exact.x, samples=2, rng=rng(), y=y, batch_size=7)["log_likelihood"]
    mu, logvar = code_statistics(told, exact.x, y=y, batch_size=7)
    np.testing.assert_allclose(mu, plain.encode(exact.x) + y[:, None], rtol=1e-12)
    # p(x|z) p(z) / q is as before but for p(z), at z + y in place of z
    noise, mean = rng(), 0
    log_w = []
    for _ in range(2):
        z = mu + np.exp(logvar / 2) * noise.standard_normal((30, 2))
        log_w.append(exact.log_p - 0.5 * np.square(z).sum(1) + 0.5 * np.square(z - y[:, None]).sum(1))
    mean = np.logaddexp(*log_w) - math.log(2)
    assert found == pytest.approx(mean.mean(), rel=1e-10)


def test_kl_per_dimension_adds_up_and_active_units_are_those_that_vary():
    generator = rng(2)
    mu, logvar = generator.standard_normal((50, 3)) * [1, 0.3, 0.05] + [0, 0, 5], generator.standard_normal((50, 3))
    kl = kl_per_dimension(mu, logvar)
    assert kl.sum() == pytest.approx(gaussian_kl(mu, logvar)[0], rel=1e-13)
    assert kl[1] == pytest.approx(gaussian_kl(mu[:, 1:2], logvar[:, 1:2])[0], rel=1e-13)
    assert active_units(mu) == 2  # 0.05^2 < 0.01, wherever it lies
    assert active_units(mu, threshold=0.5) == 1
    spoilt = np.where(mu > 1, np.nan, mu)
    for wrong, words in ((mu[:, 0], r"\(50,\), of which 50"), (spoilt, r"\(50, 3\), of which 94")):
        with pytest.raises(ValueError, match=f"active_units needs finite codes of shape .* got .*{words}"):
            active_units(wrong)
    assert kl_per_dimension(np.zeros((2, 1), np.float32), np.full((2, 1), 1e-4, np.float32)) == pytest.approx(2.5e-9,
                                                                                                             rel=1e-4)


def test_bits_per_pixel():
    assert bits_per_pixel(-math.log(2) * 12, 6) == pytest.approx(2, rel=1e-15)


def test_a_tied_linear_autoencoder_spans_the_principal_subspace():
    """decoder = encoder^T: at the optimum W is an orthonormal basis of the leading components, as good as PCA."""
    from scipy.optimize import minimize

    x = (rng(4).standard_normal((60, 6)) * [3, 2, 1.5, 0.4, 0.3, 0.2] @ np.linalg.qr(rng(5).standard_normal((6, 6)))[0])
    x = (x - x.mean(axis=0)).reshape(60, 2, 3, 1)
    encoder = Dense(6, 3, rng=rng(6), **SETTINGS)
    model = Autoencoder(Sequential([Flatten(), encoder]), Sequential([TiedDense(encoder), Reshape((2, 3, 1))]),
                        likelihood=losses.SquaredError(kernels=reference))

    def loss(theta):
        model.theta[...] = theta
        model.zero_grad()
        value = model.loss(x)["loss"]
        model.backward()
        return value, model.grad.copy()

    model.theta[...] = minimize(loss, model.theta.copy(), jac=True, method="L-BFGS-B",
                                options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-9}).x
    found = pca(x)
    V = found.components[:, :3]
    assert reconstruction_mse(model, x) == pytest.approx(found.mse(x, 3), rel=1e-9)
    cosines = np.linalg.svd(V.T @ np.linalg.qr(encoder.W.value)[0], compute_uv=False)
    np.testing.assert_allclose(cosines, 1, atol=1e-9)
    np.testing.assert_allclose(encoder.W.value.T @ encoder.W.value, np.eye(3), atol=1e-5)
