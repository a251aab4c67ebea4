"""The models: gradients of the whole, what an objective must be equal to in its limits, and what the doors refuse."""
import copy
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from npae import evaluate, gradcheck
from npae.kernels import fast, reference
from npae.layers import (
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    GaussianNoise,
    Identity,
    Layer,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    TiedConvTranspose2d,
    TiedDense,
    Upsample2d,
)
from npae.losses import Bernoulli, Gaussian, SquaredError
from npae.models import VAE, Autoencoder, Model
from npae.models import base as models_base
from npae.optim import Adam
from npae.penalties import gaussian_kl

SHAPE = (4, 6, 2)
PIXELS = math.prod(SHAPE)
LIKELIHOODS = [SquaredError(kernels=reference), Bernoulli(kernels=reference), Gaussian(0.3, kernels=reference)]
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)


def pictures(n=3, shape=SHAPE, dtype=np.float64, seed=5):
    return np.random.default_rng(seed).random((n, *shape)).astype(dtype)


def dense_nets(code=2, heads=1, dtype=np.float64):
    """An encoder to heads * code numbers and a decoder from code numbers, for pictures of SHAPE."""
    settings = {"rng": np.random.default_rng(1), "dtype": dtype, "kernels": reference}
    encoder = [Flatten(), Dense(PIXELS, 5, activation="tanh", **settings), Dense(5, heads * code, **settings)]
    decoder = [Dense(code, 5, activation="relu", **settings), Dense(5, PIXELS, **settings), Reshape(SHAPE)]
    return Sequential(encoder), Sequential(decoder)


def conv_nets(code=2, heads=2, dtype=np.float64):
    settings = {"rng": np.random.default_rng(2), "dtype": dtype, "kernels": reference}
    encoder = [Conv2d(2, 3, 3, stride=2, activation="relu", **settings), Flatten(), Dense(18, heads * code, **settings)]
    decoder = [Dense(code, 18, activation="relu", **settings), Reshape((2, 3, 3)),
               ConvTranspose2d(3, 2, 3, stride=2, **settings)]
    return Sequential(encoder), Sequential(decoder)


def tied_dense_nets(dtype=np.float64):
    settings = {"rng": np.random.default_rng(3), "dtype": dtype, "kernels": reference}
    a, b = Dense(PIXELS, 5, activation="tanh", **settings), Dense(5, 3, **settings)
    return Sequential([Flatten(), a, b]), Sequential([TiedDense(b, "tanh"), TiedDense(a), Reshape(SHAPE)])


def tied_conv_nets(dtype=np.float64):
    """A convolutional autoencoder whose code is a small picture."""
    settings = {"rng": np.random.default_rng(4), "dtype": dtype, "kernels": reference}
    a, b = Conv2d(2, 3, 3, stride=2, activation="relu", **settings), Conv2d(3, 2, (2, 3), **settings)
    return Sequential([a, b]), Sequential([TiedConvTranspose2d(b, "tanh"), TiedConvTranspose2d(a)])


def shaken(model):
    """Biases of zeros would hide mistakes."""
    rng = np.random.default_rng(6)
    for p in model.params:
        p.value += (0.1 * rng.standard_normal(p.value.shape)).astype(p.value.dtype)
    return model


def autoencoder(encoder, decoder):
    return shaken(Autoencoder(encoder, decoder, likelihood=LIKELIHOODS[0]))


def dense_vae(dtype=np.float64, **settings):
    return shaken(VAE(*dense_nets(heads=2, dtype=dtype), **{"likelihood": Bernoulli(kernels=reference), **settings}))


def gradient(model, x, seed=0):
    model.zero_grad()
    terms = model.loss(x, rng=np.random.default_rng(seed))
    model.backward()
    return terms, model.grad.copy()


# -- gradients of the whole --


@pytest.mark.parametrize("nets", [dense_nets, tied_dense_nets, tied_conv_nets], ids=lambda f: f.__name__)
@every_likelihood
def test_an_autoencoders_gradient_meets_differences(nets, likelihood):
    report = gradcheck.check(shaken(Autoencoder(*nets(), likelihood=likelihood)), pictures(), entries=8)
    assert report.ok, report


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize("likelihood", LIKELIHOODS[1:], ids=repr)
@pytest.mark.parametrize("nets", [dense_nets, conv_nets], ids=lambda f: f.__name__)
def test_a_vaes_gradient_meets_differences(nets, likelihood, beta, kl):
    model = shaken(VAE(*nets(heads=2), likelihood=likelihood, beta=beta, kl=kl))
    report = gradcheck.check(model, pictures(), rng=np.random.default_rng(7), entries=5)
    assert report.ok, report


def test_a_tied_gradient_is_the_sum_of_the_untied_ones():
    x = pictures()
    tied = autoencoder(*tied_dense_nets())
    bottom, top = (p.value for p in tied.params if p.name.endswith("W"))
    settings = {"dtype": np.float64, "kernels": reference}
    encoder = Sequential([Flatten(), Dense(PIXELS, 5, activation="tanh", **settings), Dense(5, 3, **settings)])
    decoder = [Dense(3, 5, activation="tanh", **settings), Dense(5, PIXELS, **settings), Reshape(SHAPE)]
    free = autoencoder(encoder, Sequential(decoder))
    values = {p.name: p.value for p in tied.params}
    for p in free.params:
        transposed = {"decoder.0.W": top.T, "decoder.1.W": bottom.T}
        p.value[...] = transposed.get(p.name, values.get(p.name))
    assert gradient(tied, x)[0] == pytest.approx(gradient(free, x)[0], rel=1e-13)
    got, parts = {p.name: p.grad for p in tied.params}, {p.name: p.grad for p in free.params}
    np.testing.assert_allclose(got["encoder.1.W"], parts["encoder.1.W"] + parts["decoder.1.W"].T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["encoder.2.W"], parts["encoder.2.W"] + parts["decoder.0.W"].T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [autoencoder(*tied_conv_nets()), dense_vae()], ids=lambda m: type(m).__name__)
def test_backward_twice_adds_twice_the_same(model):
    _, once = gradient(model, pictures())
    model.backward()
    np.testing.assert_allclose(model.grad, 2 * once, rtol=1e-14, atol=1e-14)  # a tied one is a + b + a + b


# -- the clamp of logvar --


def clamped_vae(logvar=(-50.0, 0.3, 25.0), **settings):
    """A VAE whose encoder gives these logvar for every picture, beside a mu that depends on it."""
    model = shaken(VAE(*dense_nets(code=3, heads=2), likelihood=Gaussian(1.0, kernels=reference), **settings))
    head = model.encoder.layers[-1]
    head.W.value[:, 3:] *= 1e-3
    head.b.value[3:] = logvar
    return model, head


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_where_logvar_is_clamped_its_gradient_is_exactly_zero(kl):
    model, head = clamped_vae(kl=kl)
    gradient(model, pictures())
    np.testing.assert_array_equal(model.branch_signature()[2], [[-1, 0, 1]] * 3)
    for column, zero in ((3, True), (4, False), (5, True)):
        assert np.all(head.W.grad[:, column] == 0) == zero and (head.b.grad[column] == 0) == zero
    report = gradcheck.check(model, pictures(), rng=np.random.default_rng(0), entries=12)
    assert report.ok, report


def test_the_divergence_and_the_sample_use_the_same_clamped_logvar():
    model, _ = clamped_vae()
    x = pictures()
    terms, _ = gradient(model, x)
    eps = model.reparameterize.used_eps
    mu, raw = np.split(model.encoder.forward(x), 2, axis=1)
    assert raw.min() < -49 and raw.max() > 24
    logvar = np.clip(raw, -30, 20)
    assert terms["kl"] == gaussian_kl(mu, logvar)[0]
    z = mu + np.exp(logvar / 2) * eps
    assert terms["recon"] == pytest.approx(model.likelihood.nll(model.decoder.forward(z), x)[0], rel=1e-13)
    np.testing.assert_array_equal(model.encode_stats(x)[1], logvar)


def test_a_held_clamp_stays_where_it_was():
    model, head = clamped_vae()
    x = pictures()
    gradient(model, x)
    model.hold(model.branch_signature())
    head.b.value[3:] = 0.5, 21.0, 0.5  # each on another side of its bound than before
    _, free, _ = np.split(model.encoder.forward(x)[:, 3:], 3, axis=1)
    assert free.min() > 20
    kl = model.loss(x, rng=np.random.default_rng(0))["kl"]
    mu = model.encoder.forward(x)[:, :3]
    assert kl == gaussian_kl(mu, np.hstack([np.full((3, 1), -30.0), free, np.full((3, 1), 20.0)]))[0]
    model.hold(None)
    model.loss(x, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.branch_signature()[2], [[0, 1, 0]] * 3)


@pytest.mark.parametrize("make", [lambda: autoencoder(*dense_nets()), dense_vae], ids=["autoencoder", "vae"])
def test_what_was_held_is_free_again_after_hold_none(make):
    """With theta turned round the kinks lie elsewhere: held, the model stays on the old side; free, it does not."""
    model, x = make(), pictures()

    def branches_when_turned(hold):
        model.loss(x, rng=np.random.default_rng(0))
        if hold:
            model.hold(model.branch_signature())
        model.theta *= -1
        model.loss(x, rng=np.random.default_rng(0))
        relu = model.branch_signature()[1][0].copy()
        model.hold(None)
        model.theta *= -1
        return relu

    free = branches_when_turned(False)
    assert not np.array_equal(branches_when_turned(True), free)
    np.testing.assert_array_equal(branches_when_turned(False), free)


# -- limits and bounds --


def test_without_beta_only_the_reconstruction_has_a_gradient():
    model, x = dense_vae(beta=0), pictures()

    def recon(theta):
        model.theta[...] = theta
        terms, grad = gradient(model, x)
        assert terms["loss"] == terms["recon"] != terms["kl"] > 0
        return terms["recon"], grad

    padding = np.ones(len(model.theta), bool)
    for p in model.params:
        start = (p.value.__array_interface__["data"][0] - model.theta.__array_interface__["data"][0]) // 8
        padding[start:start + p.value.size] = False
    report = gradcheck.check_function(recon, model.theta.copy(), entries=60)
    assert report.ok, report
    assert not gradient(model, x)[1][padding].any()


def test_without_beta_and_without_noise_a_vae_is_the_plain_autoencoder():
    x, vae = pictures(), dense_vae(beta=0)
    vae.reparameterize.eps = np.zeros((3, 2))
    encoder, decoder = dense_nets()
    plain = Autoencoder(encoder, decoder, likelihood=vae.likelihood)
    values = {p.name: p.value for p in vae.params}
    for p in plain.params:
        p.value[...] = values[p.name][..., :p.value.shape[-1]]  # of the head, the columns of mu
    assert gradient(vae, x)[0]["loss"] == pytest.approx(gradient(plain, x)[0]["loss"], rel=1e-14)
    grads = {p.name: p.grad for p in vae.params}
    for p in plain.params:
        np.testing.assert_allclose(grads[p.name][..., :p.value.shape[-1]], p.grad, rtol=1e-10, atol=1e-12)
    assert not grads["encoder.2.b"][2:].any()


def test_a_linear_autoencoder_learns_the_principal_components():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((60, 12)) @ rng.standard_normal((12, 12)) + rng.standard_normal(12)
    settings = {"rng": rng, "dtype": np.float64, "kernels": reference}
    model = Autoencoder(Sequential([Dense(12, 3, **settings)]), Sequential([Dense(3, 12, **settings)]),
                        likelihood=SquaredError(kernels=reference))

    def loss(theta):
        model.theta[...] = theta
        terms, grad = gradient(model, x)
        return terms["loss"], grad

    found = minimize(loss, model.theta.copy(), jac=True, method="L-BFGS-B",
                     options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-9})
    mse = evaluate.pca_mse(x, x, 3)
    assert found.fun / 12 == pytest.approx(mse, rel=1e-9)
    model.theta[...] = found.x
    assert evaluate.reconstruction_mse(model, x) == pytest.approx(mse, rel=1e-9)


class LinearGaussian:
    """x = m + W z + noise of variance 0.3, with orthogonal columns in W, so that the posterior is factorised and known.

    p(x) = N(m, W W^T + 0.3 I);   p(z|x) = N(S W^T (x - m) / 0.3, S),   S = (I + W^T W / 0.3)^-1
    """

    variance = 0.3

    def __init__(self):
        rng = np.random.default_rng(9)
        self.W = np.linalg.qr(rng.standard_normal((4, 2)))[0] * [1.5, 0.7]
        self.m = rng.standard_normal(4)
        self.S = 1 / (1 + np.square(self.W).sum(0) / self.variance)
        self.x = self.m + rng.standard_normal((5, 2)) @ self.W.T + 0.5 * rng.standard_normal((5, 4))
        self.log_p = multivariate_normal(self.m, self.W @ self.W.T + self.variance * np.eye(4)).logpdf(self.x)

    def posterior(self):
        return (self.x - self.m) @ self.W * self.S / self.variance

    def model(self, kl):
        settings = {"dtype": np.float64, "kernels": reference}
        encoder, decoder = Dense(4, 4, **settings), Dense(2, 4, **settings)
        decoder.W.value[...], decoder.b.value[...] = self.W.T, self.m
        encoder.W.value[...] = np.hstack([self.W * self.S / self.variance, np.zeros((4, 2))])
        encoder.b.value[:2] = -self.m @ encoder.W.value[:, :2]
        encoder.b.value[2:] = np.log(self.S)
        return VAE(Sequential([encoder]), Sequential([decoder]), kl=kl,
                   likelihood=Gaussian(self.variance, kernels=reference))


def mean_and_error(draw, n=400):
    rng = np.random.default_rng(10)
    values = [draw(rng) for _ in range(n)]
    return np.mean(values), np.std(values) / math.sqrt(n)


def test_at_the_exact_posterior_every_sampled_loss_is_the_log_evidence():
    """log p(x|z) + log p(z) - log q(z|x) = log p(x) for each z; with another spread in z than in q it is not."""
    exact = LinearGaussian()
    model = exact.model("sampled")
    losses = [model.loss(exact.x, rng=np.random.default_rng(seed))["loss"] for seed in range(5)]
    np.testing.assert_allclose(losses, -exact.log_p.mean(), rtol=1e-12)


def test_at_the_exact_posterior_the_mean_loss_is_the_log_evidence():
    exact = LinearGaussian()
    model = exact.model("analytic")
    mean, error = mean_and_error(lambda rng: model.loss(exact.x, rng=rng)["loss"])
    assert 0 < error < 0.1 and abs(mean + exact.log_p.mean()) < 5 * error
    assert evaluate.elbo(exact.model("sampled"), exact.x, rng=np.random.default_rng(0))["elbo"] == pytest.approx(
        exact.log_p.mean(), rel=1e-12)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_elsewhere_the_elbo_is_below_the_log_evidence_by_the_divergence_from_the_posterior(kl):
    exact = LinearGaussian()
    model = exact.model(kl)
    head = model.encoder.layers[0]
    head.W.value += 0.1 * np.random.default_rng(11).standard_normal(head.W.value.shape)
    mu, logvar = model.encode_stats(exact.x)
    ratio = np.exp(logvar) / exact.S
    gap = 0.5 * np.sum(np.square(mu - exact.posterior()) / exact.S + ratio - 1 - np.log(ratio), axis=1).mean()
    mean, error = mean_and_error(lambda rng: -model.loss(exact.x, rng=rng)["loss"])
    assert abs(mean - (exact.log_p.mean() - gap)) < 5 * error < gap
    assert mean < exact.log_p.mean()


def test_the_sampled_divergence_has_the_analytic_one_as_its_mean():
    x = pictures(8)
    analytic = dense_vae().loss(x, rng=np.random.default_rng(0))["kl"]
    model = dense_vae(kl="sampled")
    mean, error = mean_and_error(lambda rng: model.loss(x, rng=rng)["kl"])
    assert 0 < error < 0.1 * analytic and abs(mean - analytic) < 5 * error


def test_the_loss_at_chance_is_known():
    model = dense_vae()
    for p in model.params:
        p.value[...] = 0
    terms = model.loss(pictures(), rng=np.random.default_rng(0))
    assert terms == {"loss": pytest.approx(PIXELS * math.log(2), rel=1e-14), "kl": 0,
                     "recon": pytest.approx(PIXELS * math.log(2), rel=1e-14)}


def test_a_gaussians_constant_is_in_recon_and_beta_weighs_the_divergence_alone():
    x = pictures()
    density = dense_vae(likelihood=Gaussian(0.5, kernels=reference), beta=3.0)
    terms = density.loss(x, rng=np.random.default_rng(0))
    squares = dense_vae(likelihood=SquaredError(kernels=reference)).loss(x, rng=np.random.default_rng(0))
    assert terms["recon"] == pytest.approx(squares["recon"] + PIXELS / 2 * math.log(math.pi), rel=1e-13)
    assert terms["loss"] == pytest.approx(terms["recon"] + 3 * terms["kl"], rel=1e-15)
    plain = autoencoder(*dense_nets()).loss(x)
    assert plain == {"loss": plain["recon"], "recon": plain["recon"]}


# -- doors --


def test_encode_decode_and_the_others_give_arrays_of_the_callers_own():
    model, x = dense_vae(np.float32), pictures(dtype=np.float32)
    calls = {
        "encode": (lambda: model.encode(x), (3, 2)), "mu": (lambda: model.encode_stats(x)[0], (3, 2)),
        "logvar": (lambda: model.encode_stats(x)[1], (3, 2)),
        "decode": (lambda: model.decode(np.ones((3, 2), np.float32)), (3, *SHAPE)),
        "reconstruct": (lambda: model.reconstruct(x), (3, *SHAPE)),
        "sample": (lambda: model.sample(3, rng=np.random.default_rng(0)), (3, *SHAPE)),
        "interpolate": (lambda: model.interpolate(x[0], x[1], 3), (3, *SHAPE)),
    }
    for keep in (False, True):
        model.keep_buffers(keep)
        for name, (call, shape) in calls.items():
            got = call()
            assert got.shape == shape and got.dtype == np.float32, name
            before = got.copy()
            for other, _ in calls.values():
                other()
            model.decode(np.full((3, 2), 9, np.float32))
            model.loss(1 - x, rng=np.random.default_rng(1))
            np.testing.assert_array_equal(got, before, err_msg=name)
            if len(shape) == 4:
                assert got.min() >= 0 and got.max() <= 1, name
            got[...] = 7  # nobody else reads it
            np.testing.assert_array_equal(call(), before, err_msg=name)


def test_a_reconstruction_takes_mu_and_is_the_same_each_time():
    model, x = dense_vae(), pictures()
    model.loss(x, rng=np.random.default_rng(0))
    mu, logvar = model.encode_stats(x)
    assert np.abs(logvar).min() > 0
    logits = model.decoder.forward(mu)
    np.testing.assert_allclose(model.reconstruct(x), 1 / (1 + np.exp(-logits)), rtol=1e-14)
    np.testing.assert_array_equal(model.encode(x), mu)
    np.testing.assert_array_equal(model.reconstruct(x), model.reconstruct(x))


def test_a_sample_is_the_picture_of_a_standard_normal_code():
    model = dense_vae()
    z = np.random.default_rng(3).standard_normal((4, 2))
    np.testing.assert_array_equal(model.sample(4, rng=np.random.default_rng(3)), model.decode(z))


@pytest.mark.parametrize("nets", [dense_nets, tied_conv_nets], ids=lambda f: f.__name__)
def test_a_way_from_one_picture_to_another_starts_and_ends_at_their_reconstructions(nets):
    model, x = autoencoder(*nets()), pictures()
    way = model.interpolate(x[0], x[1], steps=5)
    assert way.shape == (5, *SHAPE)
    np.testing.assert_allclose(way[[0, -1]], model.reconstruct(x[:2]), rtol=1e-12)
    middle = model.decode(model.encode(x[:2]).mean(0, keepdims=True))
    np.testing.assert_allclose(way[2], middle[0], rtol=1e-12)


def test_many_pictures_are_encoded_in_batches_like_one_by_one(monkeypatch):
    model, x = dense_vae(), pictures(11)
    whole, stats = model.reconstruct(x), model.encode_stats(x)
    monkeypatch.setattr(models_base, "BATCH", 4)
    one_by_one = np.concatenate([model.reconstruct(x[i:i + 1]) for i in range(11)])
    for got in (model.reconstruct(x), one_by_one):
        np.testing.assert_allclose(got, whole, rtol=1e-12)
    np.testing.assert_allclose(np.hstack(model.encode_stats(x)), np.hstack(stats), rtol=1e-12, atol=1e-15)
    model.keep_buffers(True)  # as inside a fit: one batch must not write over another
    np.testing.assert_allclose(model.reconstruct(x), whole, rtol=1e-12)
    plain = autoencoder(*dense_nets())
    codes = plain.encode(x)
    plain.keep_buffers(True)
    np.testing.assert_array_equal(plain.encode(x), codes)


@pytest.mark.parametrize("call", [
    lambda m, x: m.encode(x), lambda m, x: m.encode_stats(x), lambda m, x: m.decode(np.zeros((1, 2))),
    lambda m, x: m.reconstruct(x), lambda m, x: m.sample(1, rng=np.random.default_rng(0)),
    lambda m, x: m.interpolate(x[0], x[1])], ids=["encode", "encode_stats", "decode", "reconstruct", "sample", "way"])
def test_backward_after_another_door_is_an_error(call):
    model, x = dense_vae(), pictures()
    with pytest.raises(ValueError, match=r"there was none, or encode, .* came in between: call loss"):
        model.backward()
    gradient(model, x)
    call(model, x)
    before = model.grad.copy()
    with pytest.raises(ValueError, match="backward belongs to the latest loss"):
        model.backward()
    np.testing.assert_array_equal(model.grad, before)
    gradient(model, x)  # and works again after a loss


@pytest.mark.parametrize("bad", [
    lambda x: {"x": x + 1, "rng": np.random.default_rng(0)}, lambda x: {"x": x[:, :3], "rng": np.random.default_rng(0)},
    lambda x: {"x": x.astype(np.float32), "rng": np.random.default_rng(0)}, lambda x: {"x": x}],
    ids=["pixels above 1", "size", "dtype", "no rng"])
def test_a_loss_that_fails_leaves_no_stale_backward_behind(bad):
    model, x = dense_vae(), pictures()
    _, before = gradient(model, x)
    with pytest.raises(ValueError):
        model.loss(**bad(x))
    with pytest.raises(ValueError, match="backward belongs to the latest loss"):
        model.backward()
    np.testing.assert_array_equal(model.grad, before)


def test_pictures_that_do_not_fit_are_refused_with_both_numbers():
    model, rng = dense_vae(np.float32), np.random.default_rng(0)
    conv = VAE(*conv_nets(dtype=np.float32), likelihood=Bernoulli(kernels=reference))
    with pytest.raises(ValueError, match="VAE is float32, got pictures of float64: pass float pictures"):
        model.loss(pictures(), rng=rng)
    with pytest.raises(ValueError, match=r"VAE is float32, got pictures of uint8: .* divided by 255"):
        model.loss(np.zeros((2, *SHAPE), np.uint8), rng=rng)
    with pytest.raises(ValueError, match=r"Dense 'encoder.1' is float32, got x of float64"):
        model.encode(pictures())
    with pytest.raises(ValueError, match="expects x of float32 or float64, got uint8"):
        conv.encode(np.zeros((2, *SHAPE), np.uint8))
    with pytest.raises(ValueError, match=r"Conv2d 'encoder.0' expects 2 input channels, got x of shape \(.*4, 6, 3\)"):
        conv.loss(np.zeros((2, 4, 6, 3), np.float32), rng=rng)
    with pytest.raises(ValueError, match=r"at least 1 row, got x of shape \(0, 4, 6, 2\)"):
        model.encode(np.zeros((0, *SHAPE), np.float32))
    with pytest.raises(ValueError, match=r"neither eps nor a generator: pass rng to model.loss"):
        model.loss(pictures(dtype=np.float32))


def test_nets_that_do_not_fit_each_other_are_refused_with_both_numbers():
    encoder, _ = dense_nets()
    other = Sequential([Dense(2, 6, dtype=np.float64, kernels=reference), Reshape((1, 6, 1))])
    with pytest.raises(ValueError, match=r"output has shape \(3, 1, 6, 1\) but x \(3, 4, 6, 2\)"):
        Autoencoder(encoder, other, likelihood=SquaredError(kernels=reference)).loss(pictures())
    with pytest.raises(ValueError, match=r"decoder takes 2 numbers, .* of shape \(N, 4\), got \(3, 2\)"):
        VAE(*dense_nets(heads=1)).loss(pictures(), rng=np.random.default_rng(0))


def test_a_layer_belongs_to_one_model_and_stands_in_it_once():
    encoder, decoder = dense_nets(heads=2)
    for beta in (-1, float("nan")):
        with pytest.raises(ValueError, match="VAE: beta must be finite and at least 0, got"):
            dense_vae(beta=beta)
    with pytest.raises(ValueError, match="kl must be 'analytic' or 'sampled', got 'exact'"):
        VAE(encoder, decoder, kl="exact")
    VAE(encoder, decoder)  # a refused call has not used the nets up
    with pytest.raises(ValueError, match=r"encoder.1.W is packed already: .* use model.to\(\) for a copy"):
        Autoencoder(encoder, dense_nets()[1])
    flat = Flatten()
    with pytest.raises(ValueError, match=r"Flatten .* stands in the encoder and in the decoder"):
        Autoencoder(Sequential([flat, Dense(PIXELS, 2)]), Sequential([Dense(2, PIXELS), Sequential([flat])]))


@pytest.mark.parametrize("nets", [dense_nets, tied_dense_nets, tied_conv_nets], ids=lambda f: f.__name__)
def test_parameters_are_views_of_theta_and_the_gaps_stay_zero(nets):
    model = autoencoder(*nets())
    assert len({p.name for p in model.params}) == len(model.params)
    for p in model.params:
        assert np.shares_memory(p.value, model.theta) and np.shares_memory(p.grad, model.grad)
    model.theta[...], model.grad[...] = 1, 1
    for p in model.params:
        p.value[...], p.grad[...] = 0, 0
    gaps = model.theta == 1
    assert gaps.sum() == len(model.theta) - sum(p.value.size for p in model.params) > 0
    model = autoencoder(*nets())
    _, grad = gradient(model, pictures())
    Adam(0.1, kernels=reference).step(model.theta, model.grad)
    assert not model.theta[gaps].any() and not grad[gaps].any() and model.theta[~gaps].all()
    model.zero_grad()
    assert not any(p.grad.any() for p in model.params)


def test_noise_layers_are_noisy_with_a_generator_and_quiet_without():
    encoder, decoder = dense_nets()
    first, inner = GaussianNoise(0.5), GaussianNoise(0.5)
    model = autoencoder(Sequential([first, *encoder.layers]), Sequential([inner, *decoder.layers]))
    x = pictures()
    first.amount = 0.0  # each on its own
    assert model.loss(x)["loss"] != model.loss(x, rng=np.random.default_rng(0))["loss"]
    first.amount, inner.amount = 0.5, 0.0
    quiet, noisy = model.loss(x)["loss"], model.loss(x, rng=np.random.default_rng(0))["loss"]
    assert quiet != noisy
    squares = np.square(model.reconstruct(x) - x).sum() / len(x)  # quiet again, though the loss before was noisy
    assert model.loss(x)["loss"] == quiet == pytest.approx(squares, rel=1e-13)


def test_a_copy_in_another_dtype_or_on_other_kernels_has_the_same_loss_and_nothing_in_common():
    x = pictures(dtype=np.float32)
    for original in (dense_vae(np.float32, beta=2.0), autoencoder(*tied_conv_nets(np.float32))):
        terms, grad = gradient(original, x)
        theta = original.theta.copy()
        for twin in (original.to(np.float64), original.to(kernels=reference), original.to(), copy.deepcopy(original)):
            assert type(twin) is type(original) and [p.name for p in twin.params] == [p.name for p in original.params]
            with pytest.raises(ValueError, match="latest loss"):
                twin.backward()
            twin.zero_grad()
            got = twin.loss(x.astype(twin.theta.dtype), rng=np.random.default_rng(0))
            twin.backward()
            assert got == pytest.approx(terms, rel=1e-5)
            np.testing.assert_allclose(twin.grad, grad, rtol=0, atol=1e-5 * abs(grad).max())  # float32 against float64
            assert {p.value.dtype for p in twin.params} == {twin.theta.dtype}
            twin.theta += 1
            assert all(np.shares_memory(p.value, twin.theta) for p in twin.params)
        np.testing.assert_array_equal(original.theta, theta)
        np.testing.assert_array_equal(original.grad, grad)
        original.backward()  # the copies came between loss and backward, and took nothing away
    twin = original.to(np.float64)
    encoder, decoder = list(twin.encoder.walk()), list(twin.decoder.walk())
    assert decoder[2].W is encoder[1].W and decoder[2].partner is encoder[1]
    usual = Autoencoder(*dense_nets())
    assert usual.to(kernels=reference).likelihood.kernels is reference and usual.likelihood.kernels is None


def test_a_training_that_is_copied_goes_on_like_the_original():
    """On the fast kernels: a module, which layers, likelihood and optimizer hold, and which cannot be copied."""
    model, optimizer, x = VAE(*conv_nets(dtype=np.float32)).to(kernels=fast), Adam(1e-2), pictures(dtype=np.float32)
    gradient(model, x)
    optimizer.step(model.theta, model.grad)
    twin, its_optimizer = copy.deepcopy((model, optimizer))
    for m, o in ((model, optimizer), (twin, its_optimizer)):
        gradient(m, x)
        o.step(m.theta, m.grad)
    np.testing.assert_array_equal(twin.theta, model.theta)
    assert np.shares_memory(twin.params[0].value, twin.theta) and not np.shares_memory(twin.theta, model.theta)


class Residual(Layer):
    """A user's own layer around another: y = x + f(x)."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.params = inner, inner.params

    def _forward(self, x):
        self.saved = True
        return x + self.inner.forward(x)

    def _backward(self, dy, need_dx):
        return dy + self.inner.backward(dy)


def test_a_layer_in_a_layer_of_ones_own_is_copied_with_it():
    layer = Residual(Dense(5, 5, activation="tanh", rng=np.random.default_rng(0)))
    layer.forward(np.ones((2, 5), np.float32))
    twin = layer.to(np.float64, reference)
    assert twin.inner.kernels is reference and twin.inner.dtype == np.float64
    assert twin.params[0] is twin.inner.W and layer.inner.kernels is fast
    assert gradcheck.check(layer, np.random.default_rng(1).standard_normal((2, 5))).ok


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.complex64])
def test_a_dtype_that_no_kernel_computes_in_is_refused(dtype):
    for thing in (dense_vae(), Dense(3, 2)):
        with pytest.raises(ValueError, match=f"layers compute in float32 or float64 .*, got {np.dtype(dtype)}"):
            thing.to(dtype)


class Twice(Layer):
    """A user's own layer with two inner ones whose Params have equal names."""

    def __init__(self):
        super().__init__()
        self.params = (*Dense(PIXELS, PIXELS).params, *Dense(PIXELS, PIXELS).params)


def test_two_parameters_of_one_name_are_refused_since_a_file_would_keep_one_of_them():
    with pytest.raises(ValueError, match=r"2 parameters are called 'encoder.1.W', and a model file keeps one array"):
        Autoencoder(Sequential([Flatten(), Twice()]), Sequential([Reshape(SHAPE)]))


WIDE = {"dtype": np.float64, "kernels": reference}


@pytest.mark.parametrize(("head", "latent", "input_shape"), [
    (lambda: [Flatten(), Dense(PIXELS, 24, **WIDE)], 12, None),
    (lambda: [Flatten(), Dense(PIXELS, 24, **WIDE), Tanh(kernels=reference)], None, None),
    (lambda: [Conv2d(SHAPE[2], 4, 2, stride=2, **WIDE), Flatten()], None, None),
    (lambda: [Conv2d(SHAPE[2], 4, 2, stride=2, **WIDE), Flatten()], 12, SHAPE),
])
def test_a_vaes_decoder_may_begin_with_any_layer(head, latent, input_shape):
    decoder = Sequential([Reshape((2, 3, 2)), ConvTranspose2d(2, SHAPE[2], 2, stride=2, **WIDE)])
    model = VAE(Sequential(head(), input_shape=input_shape), decoder, likelihood=Bernoulli(kernels=reference))
    assert math.isfinite(model.loss(pictures(), rng=np.random.default_rng(0))["loss"])
    model.backward()
    assert model.grad.any() and model.encode(pictures()).shape == (3, 12)
    assert "(4, 6, 2)" in model.summary(SHAPE).splitlines()[-1]
    assert model.latent == latent
    if latent:
        assert model.sample(2, rng=np.random.default_rng(0)).shape == (2, *SHAPE)
    else:
        with pytest.raises(ValueError, match=r"neither net says how many .* Sequential\(layers, input_shape=\(H, W, C"):
            model.sample(2, rng=np.random.default_rng(0))


def test_a_dense_layer_further_down_says_nothing_about_the_code():
    decoder = Sequential([Reshape((2, 2, 1)), Upsample2d(2), Flatten(), Dense(16, PIXELS), Reshape(SHAPE)])
    assert VAE(Sequential([Flatten(), Dense(PIXELS, 8)]), decoder).latent == 4


class TwoHeads(Layer):
    """[mu | logvar] from two dense layers of its own."""

    def __init__(self, d):
        super().__init__()
        self.heads = [Dense(PIXELS, d, rng=seed, **WIDE) for seed in (1, 2)]
        self.params = (*self.heads[0].params, *self.heads[1].params)

    def walk(self):
        yield self
        yield from self.heads

    def set_name(self, name):
        super().set_name(name)
        for head, what in zip(self.heads, ("mu", "logvar"), strict=True):
            head.set_name(f"{name}.{what}")

    def _forward(self, x):
        return np.hstack([head.forward(x) for head in self.heads])


def test_what_stands_inside_a_layer_of_ones_own_says_nothing_about_the_code():
    decoder = Sequential([Reshape((2, 3, 2)), ConvTranspose2d(2, SHAPE[2], 2, stride=2, **WIDE)])
    model = VAE(Sequential([Flatten(), TwoHeads(12)]), decoder, likelihood=Bernoulli(kernels=reference))
    assert model.latent is None
    assert math.isfinite(model.loss(pictures(), rng=np.random.default_rng(0))["loss"])


def test_the_number_of_latents_is_what_the_decoder_takes():
    assert autoencoder(*dense_nets()).latent == 2 and dense_vae().latent == 2
    assert autoencoder(*tied_dense_nets()).latent == 3 and autoencoder(*tied_conv_nets()).latent is None
    encoder, decoder = tied_dense_nets()
    bent = Sequential([*encoder.layers, Tanh(kernels=reference)])  # its last layer does not say how many
    assert Autoencoder(bent, decoder).latent == 3


def test_without_a_likelihood_an_autoencoder_takes_squares_and_a_vae_logits():
    assert type(Autoencoder(*dense_nets()).likelihood) is SquaredError
    assert type(VAE(*dense_nets(heads=2)).likelihood) is Bernoulli


@pytest.mark.parametrize("likelihood", ["bernoulli", Bernoulli, 0.5], ids=["word", "class", "number"])
def test_what_is_no_likelihood_is_refused(likelihood):
    with pytest.raises(ValueError, match=r"needs a likelihood such as losses.Bernoulli\(\), got "):
        VAE(*dense_nets(heads=2), likelihood=likelihood)
    with pytest.raises(ValueError, match=r"Model needs a likelihood such as losses.Bernoulli\(\), got None"):
        Model(*dense_nets(), None)


@pytest.mark.parametrize("end", [
    [Dense(2, PIXELS, activation="sigmoid"), Reshape(SHAPE)], [Dense(2, PIXELS), Sigmoid(), Reshape(SHAPE)],
    [Dense(2, PIXELS), Sequential([Reshape(SHAPE), Sigmoid()])],
    [Dense(2, PIXELS), Reshape(SHAPE), Conv2d(2, 2, 3, activation=Sigmoid()), Identity()]],
    ids=["fused", "layer", "nested", "convolution"])
def test_a_sigmoid_before_the_bernoullis_own_is_refused(end):
    decoder = Sequential(end).to()
    with pytest.raises(ValueError, match="Bernoulli takes logits and has a sigmoid of its own"):
        VAE(dense_nets(heads=2, dtype=np.float32)[0], decoder)
    assert Autoencoder(dense_nets(dtype=np.float32)[0].to(), decoder.to()).likelihood.unit.startswith("squared")


def test_a_sigmoid_further_up_is_no_trouble_for_bernoulli():
    class Gate(Residual):
        """Its gate, a sigmoid, is the last layer of the walk, but not what the output comes from."""

        def walk(self):
            yield self
            yield self.inner

    class Speaks(Residual):
        """It has an activation, but its output is x + f(x)."""

        def __init__(self, inner):
            super().__init__(inner)
            self.activation = Sigmoid()

    class Around(Sequential):
        """A net of its own kind: its last layer is not its output."""

        def _forward(self, x):
            return x + super()._forward(x)

    decoder = [Dense(2, 5, activation="sigmoid"), Dense(5, PIXELS)]
    inner = Dense(PIXELS, PIXELS, activation="sigmoid")
    ends = ([], [Speaks(inner.to())], [Around([inner.to()])], [Gate(inner.to())])
    for last in ([*end, Reshape(SHAPE)] for end in ends):
        VAE(dense_nets(heads=2, dtype=np.float32)[0], Sequential([*decoder, *last]).to())


@pytest.mark.parametrize("net", [None, [Dense(2, 5)], Dense(2, PIXELS)], ids=["none", "list", "layer"])
def test_nets_that_are_no_sequential_are_refused(net):
    with pytest.raises(ValueError, match="Autoencoder takes its decoder as a Sequential, got"):
        Autoencoder(dense_nets()[0], net)
    with pytest.raises(ValueError, match="Autoencoder takes its encoder as a Sequential, got"):
        Autoencoder(net, dense_nets()[1])


def test_the_summary_shows_both_nets():
    for model in (dense_vae(), autoencoder(*tied_conv_nets())):  # a code of numbers, and one that is a small picture
        head, *_, last = model.summary(SHAPE).splitlines()
        assert head == "encoder" and "\ndecoder\n" in model.summary(SHAPE)
        assert last.startswith("total") and "(4, 6, 2)" in last


def test_a_sigmoid_is_found_before_a_net_that_only_changes_the_shape():
    encoder, decoder = dense_nets()
    with pytest.raises(ValueError, match="the decoder ends in one more"):
        VAE(encoder, Sequential([*decoder.layers[:2], Sigmoid(), Sequential([Reshape(SHAPE), Identity()])]))


def test_of_two_parameters_of_one_name_it_is_the_name_that_is_told():
    class Twice(Dense):
        def set_name(self, name):
            super().set_name(name)
            self.W.name = "encoder.2.W"

    encoder, decoder = dense_nets()
    twice = Twice(2, 2, rng=np.random.default_rng(0), dtype=np.float64, kernels=reference)
    with pytest.raises(ValueError, match=r"2 parameters are called 'encoder\.2\.W'"):
        Autoencoder(Sequential([*encoder.layers, twice]), decoder)


def test_what_a_model_takes_from_a_caller_may_be_a_list():
    model, x = autoencoder(*dense_nets()), pictures(2)
    assert np.array_equal(model.encode(list(x)), model.encode(x))
    with pytest.raises(ValueError, match=r"needs at least 1 row, got x of shape \(0,\)"):
        model.encode([])
    assert np.array_equal(model.decode([[0.5, -0.5]]), model.decode(np.array([[0.5, -0.5]])))


def test_a_way_has_eight_pictures_unless_another_number_is_asked_for():
    model, (a, b) = autoencoder(*dense_nets()), pictures(2)
    assert len(model.interpolate(a, b)) == 8 and len(model.interpolate(a, b, 3)) == 3


def test_both_nets_are_walked_and_a_branch_has_two_halves():
    model = autoencoder(*dense_nets())
    assert [layer.name for layer in model.walk()] == [
        "encoder", "encoder.0", "encoder.1", "encoder.2", "decoder", "decoder.0", "decoder.1", "decoder.2"]
    model.loss(pictures())
    with pytest.raises(ValueError):
        model.hold(model.branch_signature()[:1])


def test_a_summary_of_pictures_of_unknown_size_asks_for_it():
    with pytest.raises(ValueError, match="summary needs the shape of one input"):
        autoencoder(*dense_nets()).summary()


def test_a_copy_keeps_the_kernels_of_its_likelihood_unless_others_are_given():
    model = autoencoder(*dense_nets())
    assert model.to(np.float32).likelihood.kernels is model.likelihood.kernels is reference
    assert model.to(kernels=fast).likelihood.kernels is fast


def test_an_encoder_whose_numbers_are_no_pairs_is_refused():
    decoder = Sequential([Reshape((1,)), Dense(1, PIXELS, dtype=np.float64, kernels=reference), Reshape(SHAPE)])
    odd = Sequential([Flatten(), Dense(PIXELS, 3, dtype=np.float64, kernels=reference), Identity(reference)])
    with pytest.raises(ValueError, match=r"must give \[mu \| logvar\] of shape \(N, 2 d\), got \(3, 3\)"):
        VAE(odd, decoder).loss(pictures(), rng=np.random.default_rng(0))
    flat = Sequential([Conv2d(2, 2, 1, dtype=np.float64, kernels=reference)])
    with pytest.raises(ValueError, match=r"must give \[mu \| logvar\] of shape .*, got \(3, 4, 6, 2\)"):
        VAE(flat, decoder.to()).loss(pictures(), rng=np.random.default_rng(0))


@pytest.mark.parametrize("edge", [-30.0, 20.0])
def test_on_the_edge_of_its_range_logvar_still_learns(edge):
    model = dense_vae()
    head = model.encoder.layers[-1]
    head.W.value[:, 2:], head.b.value[2:] = 0, edge
    model.loss(pictures(), rng=np.random.default_rng(0))
    assert not model.clamped.any()
    model.backward()
    assert head.b.grad[2:].all()


def test_codes_and_branches_are_the_callers_own():
    model, x = dense_vae(), pictures()
    code = model.encode(x)
    assert code.flags.c_contiguous and code.flags.owndata
    _, expected = gradient(model, x)
    model.zero_grad()
    model.loss(x, rng=np.random.default_rng(0))
    model.branch_signature()[2][...] = 1
    model.backward()
    assert np.array_equal(model.grad, expected)
