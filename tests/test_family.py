"""The family beside the plain autoencoder and the VAE: each objective against its equation, limits and differences."""
import json
import math

import numpy as np
import pytest
from scipy.special import logsumexp
from test_models import LinearGaussian

from npae import gradcheck, losses, models
from npae.corruption import CORRUPTIONS
from npae.kernels import reference
from npae.layers import Conv2d, Dense, Flatten, GaussianNoise, Identity, Reshape, Sequential, TiedDense
from npae.layers.tangent import Tangent
from npae.losses import Bernoulli, Gaussian, SquaredError
from npae.models import (
    IWAE,
    VAE,
    Autoencoder,
    ConditionalVAE,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    WeightDecayAutoencoder,
)

SHAPE, PIXELS = (2, 3, 1), 6
ON = {"dtype": np.float64, "kernels": reference}
BERNOULLI, SQUARE = Bernoulli(kernels=reference), SquaredError(kernels=reference)


def rng(seed=0):
    return np.random.default_rng(seed)


def nets(code=3, heads=1, classes=0, bend=None):
    r = rng(1)
    door = [] if classes else [Flatten()]
    return (Sequential([*door, Dense(PIXELS + classes, 5, activation="tanh", rng=r, **ON),
                        Dense(5, heads * code, activation=bend, rng=r, **ON)]),
            Sequential([Dense(code + classes, 5, activation="tanh", rng=r, **ON), Dense(5, PIXELS, rng=r, **ON),
                        Reshape(SHAPE)]))


def pictures(n=4, seed=5):
    return rng(seed).random((n, *SHAPE))


def conditional(**settings):
    return ConditionalVAE(*nets(2, 2, classes=3), classes=3, likelihood=BERNOULLI, **settings)


def iwae(samples=4, likelihood=BERNOULLI):
    return IWAE(*nets(2, 2), likelihood=likelihood, samples=samples)


MODELS = {
    "decay": lambda: WeightDecayAutoencoder(*nets(), likelihood=SQUARE, lam=0.3),
    "masking": lambda: DenoisingAutoencoder(*nets(), likelihood=BERNOULLI, corruption="masking", amount=0.4),
    "gaussian": lambda: DenoisingAutoencoder(*nets(), likelihood=SQUARE, corruption="gaussian", amount=0.4),
    "salt": lambda: DenoisingAutoencoder(*nets(), likelihood=SQUARE, corruption="salt_and_pepper", amount=0.4),
    "sparse": lambda: SparseAutoencoder(*nets(bend="sigmoid"), likelihood=SQUARE, rho=0.2, beta=0.7, lam=0.1),
    "conditional": conditional,
    "conditional, sampled": lambda: conditional(beta=0.7, kl="sampled"),
    "iwae": iwae,
    "iwae, one sample": lambda: iwae(1),
    "iwae, gaussian": lambda: iwae(3, Gaussian(0.3, kernels=reference)),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@every_model
def test_the_gradient_of_each_objective_meets_differences(make):
    report = gradcheck.check(make(), pictures(), y=np.array([0, 2, 1, 2]), rng=rng(7))
    assert report.ok, report


@every_model
def test_each_model_comes_back_from_its_file_with_all_settings(make, tmp_path):
    model, y = make(), np.array([0, 2, 1, 2])
    model.save(tmp_path / "model.npz")
    again = models.load(tmp_path / "model.npz").to(kernels=reference)
    assert again.config() == model.config()
    assert again.loss(pictures(), y, rng(3)) == model.loss(pictures(), y, rng(3))


@every_model
def test_backward_is_for_the_latest_loss_and_adds(make):
    model, y = make(), np.array([0, 2, 1, 2])
    model.loss(pictures(), y, rng(3))
    model.backward()
    once = model.grad.copy()
    model.backward()
    np.testing.assert_allclose(model.grad, 2 * once, rtol=1e-13, atol=1e-15)
    model.encode(pictures(), y)
    with pytest.raises(ValueError, match="backward belongs to the latest loss"):
        model.backward()


def test_every_public_model_is_tested_here_or_with_the_plain_ones():
    here = {type(make()).__name__ for make in MODELS.values()}
    assert here | {"Autoencoder", "VAE", "ContractiveAutoencoder"} == {kind.__name__ for kind in models.KINDS}


# -- weight decay --


def test_decay_counts_every_weight_once_and_no_bias():
    model = MODELS["decay"]()
    for p in model.params:
        p.value[...] = 2 if p.name.endswith("b") else 3
    terms = model.loss(pictures())
    weights = 2 * (PIXELS * 5 + 5 * 3)
    assert terms["decay"] == 9 * weights
    assert terms["loss"] == pytest.approx(terms["recon"] + 0.3 * 9 * weights, rel=1e-14)
    dense = Dense(PIXELS, 4, rng=rng(), **ON)
    tied = WeightDecayAutoencoder(Sequential([Flatten(), dense]), Sequential([TiedDense(dense), Reshape(SHAPE)]))
    assert tied.loss(pictures())["decay"] == pytest.approx(np.square(dense.W.value).sum(), rel=1e-14)


def test_without_decay_and_sparsity_both_are_the_plain_autoencoder():
    x = pictures()
    plain = Autoencoder(*nets(bend="sigmoid"), likelihood=SQUARE)
    plain_loss = plain.loss(x)["loss"]
    plain.backward()
    for model in (WeightDecayAutoencoder(*nets(bend="sigmoid"), likelihood=SQUARE, lam=0),
                  SparseAutoencoder(*nets(bend="sigmoid"), likelihood=SQUARE, beta=0, lam=0),
                  DenoisingAutoencoder(*nets(bend="sigmoid"), likelihood=SQUARE, amount=0)):
        assert model.loss(x, rng=rng())["loss"] == plain_loss
        model.backward()
        np.testing.assert_array_equal(model.grad, plain.grad)


# -- denoising --


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_denoising_loss_compares_with_the_clean_picture_what_was_made_of_the_noisy_one(kind):
    model, x = DenoisingAutoencoder(*nets(), likelihood=SQUARE, corruption=kind, amount=0.4), pictures()
    noisy = CORRUPTIONS[kind](x, 0.4, rng(3))
    assert np.array_equal(model.corrupt(x, rng(3)), noisy) and not np.array_equal(noisy, x)
    expected = SQUARE.nll(model.reconstruct(noisy), x)[0]
    assert model.loss(x, rng=rng(3))["loss"] == pytest.approx(expected, rel=1e-14)


def test_the_noise_is_another_one_each_time_also_where_noise_layers_are_quiet():
    model, x, draw = MODELS["masking"](), pictures(), rng(3)
    assert model.loss(x, rng=draw) != model.loss(x, rng=draw)
    with model.without_noise():  # the noise is the objective, like z in a VAE, and belongs to test figures too
        assert model.loss(x, rng=rng(3)) == model.loss(x, rng=rng(3)) != model.loss(x, rng=rng(4))
    with pytest.raises(ValueError, match="draws its noise from a generator: pass rng"):
        model.loss(x)


@pytest.mark.parametrize(("settings", "words"), [
    ({"corruption": "blur"}, "one of masking, gaussian, salt_and_pepper, got 'blur'"),
    ({"amount": 1.5}, "masking noise needs an amount from 0 to 1, got 1.5"),
    ({"corruption": "gaussian", "amount": -1}, "at least 0, got -1")])
def test_noise_that_makes_no_sense_is_refused_before_any_training(settings, words):
    with pytest.raises(ValueError, match=words):
        DenoisingAutoencoder(*nets(), **settings)


# -- sparsity --


def test_a_sparse_loss_is_its_equation():
    model, x = MODELS["sparse"](), pictures()
    h = model.encode(x)
    recon = SQUARE.nll(model.decode(h), x)[0]
    r = h.mean(0)
    sparsity = (0.2 * np.log(0.2 / r) + 0.8 * np.log(0.8 / (1 - r))).sum()
    decay = sum(np.square(p.value).sum() for p in model.params if p.name.endswith("W"))
    terms = model.loss(x)
    assert terms == pytest.approx({"loss": recon + 0.7 * sparsity + 0.1 * decay, "recon": recon, "sparsity": sparsity,
                                   "decay": decay}, rel=1e-13)


@pytest.mark.parametrize("kind", [SparseAutoencoder, WeightDecayAutoencoder, DenoisingAutoencoder,
                                  ContractiveAutoencoder])
def test_without_a_likelihood_it_is_squares(kind):
    assert type(kind(*nets(bend="sigmoid")).likelihood) is SquaredError


def test_a_sparse_model_needs_a_target_that_a_mean_can_reach():
    for settings, words in (({"rho": 0}, "between 0 and 1, got 0"), ({"rho": 1}, "between 0 and 1, got 1"),
                            ({"rho": 1.5}, "between 0 and 1, got 1.5"),
                            ({"beta": -1}, "beta must be finite and at least"),
                            ({"lam": math.nan}, "lam must be finite and at least 0, got nan")):
        with pytest.raises(ValueError, match=words):
            SparseAutoencoder(*nets(), likelihood=SQUARE, **settings)


# -- labels --


def test_a_label_is_a_place_in_a_list():
    model, y = conditional(), np.array([0, 2, 1, 2])
    x = pictures()
    rows = np.hstack([x.reshape(4, -1), np.eye(3)[y]])
    mu, logvar = model.encode_stats(x, y)
    np.testing.assert_array_equal(np.hstack([mu, logvar]), model.encoder.forward(rows))
    z = rng(2).standard_normal((4, 2))
    output = model.decoder.forward(np.hstack([z, np.eye(3)[y]]))
    np.testing.assert_array_equal(model.decoder_output(z, y), output)
    np.testing.assert_array_equal(model.decode(z, y), BERNOULLI.mean(output))
    assert model.latent == 2 and model.classes == 3


@pytest.mark.parametrize("first", [Identity(kernels=reference), GaussianNoise(0.1)], ids=str)
def test_a_conditional_decoder_may_begin_with_any_layer(first):
    encoder, decoder = nets(2, 2, classes=3)
    told = ConditionalVAE(encoder, Sequential([first, *decoder.layers]), classes=3, likelihood=BERNOULLI)
    assert told.latent == 2
    assert math.isfinite(told.loss(pictures(), np.array([0, 2, 1, 2]), rng(3))["loss"])
    assert told.sample(4, rng=rng(4)).shape == (4, *SHAPE)


def test_a_conditional_model_whose_nets_do_not_listen_is_the_plain_one():
    model, x, y = conditional(kl="sampled"), pictures(), np.array([0, 2, 1, 2])
    plain = VAE(*nets(2, 2), likelihood=BERNOULLI, kl="sampled")
    for p, q in zip(model.params, plain.params, strict=True):
        listened = p.value.shape != q.value.shape  # the first matrix of each net
        p.value[: len(q.value)] = q.value
        if listened:
            p.value[len(q.value):] = 0
    assert model.loss(x, y, rng(3)) == pytest.approx(plain.loss(x, rng=rng(3)), rel=1e-14)


def test_samples_are_of_the_classes_asked_for_and_of_each_in_turn_otherwise():
    model = conditional()
    z = rng(4).standard_normal((5, 2))
    np.testing.assert_array_equal(model.sample(5, rng=rng(4)), model.decode(z, np.array([0, 1, 2, 0, 1])))
    np.testing.assert_array_equal(model.sample(5, rng=rng(4), y=np.full(5, 2)), model.decode(z, np.full(5, 2)))


def test_the_way_between_two_pictures_changes_its_label_in_the_middle():
    model, (a, b), y = conditional(), pictures(2), np.array([1, 2])
    path = model.interpolate(a, b, 4, y)
    np.testing.assert_array_equal(path[[0, -1]], model.reconstruct(np.stack([a, b]), y))
    mu = model.encode(np.stack([a, b]), y)
    for i, label in ((1, 1), (2, 2)):
        between = model.decode((((3 - i) * mu[0] + i * mu[1]) / 3)[None], np.array([label]))
        np.testing.assert_allclose(path[i], between[0], rtol=1e-12)


def test_many_labelled_pictures_go_through_in_batches(monkeypatch):
    model, x, y = conditional(), pictures(7), np.array([0, 1, 2, 0, 1, 2, 0])
    whole = model.reconstruct(x, y)
    monkeypatch.setattr("npae.models.base.BATCH", 3)
    np.testing.assert_allclose(model.reconstruct(x, y), whole, rtol=1e-14)


@pytest.mark.parametrize(("y", "words"), [
    (None, "needs the labels y of its 4 pictures"),
    (np.array([0, 1, 2, 3]), "knows the labels 0 to 2, got 0 to 3"), (np.array([0, 1, 2, -1]), "got -1 to 2"),
    (np.array([0.0, 1, 2, 1]), "integers of shape"), (np.array([0, 1]), "(4 rows and 2 labels|4 labels as integers)")])
def test_labels_that_do_not_fit_are_refused(y, words):
    model = conditional()
    for call in (lambda: model.loss(pictures(), y, rng()), lambda: model.encode(pictures(), y),
                 lambda: model.decode(np.zeros((4, 2)), y)):
        with pytest.raises(ValueError, match=words):
            call()


# -- importance weights --


def test_an_importance_weighted_loss_is_its_equation():
    model, x = iwae(5), pictures()
    mu, logvar = model.encode_stats(x)
    eps = rng(3).standard_normal((5, 4, 2))
    z = mu + np.exp(logvar / 2) * eps
    log_p = [-BERNOULLI.per_image(model.decoder_output(z[k]), x) - np.square(z[k]).sum(1) / 2 for k in range(5)]
    log_q = -(np.square(z - mu) / np.exp(logvar) + logvar).sum(2) / 2
    expected = -(logsumexp(np.array(log_p) - log_q, axis=0) - math.log(5)).mean()
    terms = model.loss(x, rng=rng(3))
    assert terms["loss"] == pytest.approx(expected, rel=1e-13)
    assert terms["recon"] + terms["kl"] == pytest.approx(-(np.array(log_p) - log_q).mean(), rel=1e-13)


def test_with_one_sample_it_is_the_vae_in_value_and_gradient():
    x = pictures()
    one, vae = iwae(1), VAE(*nets(2, 2), likelihood=BERNOULLI, kl="sampled")
    assert one.loss(x, rng=rng(3)) == pytest.approx(vae.loss(x, rng=rng(3)), rel=1e-13)
    one.backward()
    vae.backward()
    np.testing.assert_allclose(one.grad, vae.grad, rtol=1e-11, atol=1e-14)


def test_the_bound_rises_with_k_towards_the_log_evidence():
    """A linear model whose log p(x) is known, with an encoder that is off."""
    exact, means = LinearGaussian(), []
    plain = exact.model("sampled")
    plain.encoder.layers[0].W.value += 0.3 * rng(11).standard_normal(plain.encoder.layers[0].W.value.shape)
    for k in (1, 5, 50):
        model = IWAE(plain.encoder.to(), plain.decoder.to(), likelihood=plain.likelihood, samples=k)
        draw = rng(k)
        bounds = [-model.loss(exact.x, rng=draw)["loss"] for _ in range(400)]
        means.append((np.mean(bounds), np.std(bounds) / 20))
    (one, e1), (five, e5), (fifty, e50) = means
    assert one + 5 * (e1 + e5) < five and five + 3 * (e5 + e50) < fifty < exact.log_p.mean() + 3 * e50


def test_at_the_exact_posterior_every_weight_is_the_evidence():
    exact = LinearGaussian()
    plain = exact.model("sampled")
    model = IWAE(plain.encoder.to(), plain.decoder.to(), likelihood=plain.likelihood, samples=3)
    assert model.loss(exact.x, rng=rng())["loss"] == pytest.approx(-exact.log_p.mean(), rel=1e-12)
    np.testing.assert_allclose(model.w, 1 / 3, rtol=1e-9)


def test_weights_of_hopeless_samples_do_not_underflow():
    model, x = iwae(3, Gaussian(1e-4, kernels=reference)), pictures()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert math.isfinite(model.loss(x, rng=rng())["loss"])
        model.backward()
    assert np.isfinite(model.grad).all()


def test_where_logvar_is_clamped_its_gradient_is_zero_in_the_bound_too():
    model = iwae(3)
    model.encoder.layers[-1].b.value[2:] = -40, 0.5
    assert gradcheck.check(model, pictures(), rng=rng(7)).ok
    model.loss(pictures(), rng=rng(7))
    model.backward()
    head = model.encoder.layers[-1]
    assert head.b.grad[2] == 0 and (head.W.grad[:, 2] == 0).all() and head.b.grad[3] != 0


def test_the_bound_refuses_what_it_has_no_place_for():
    for settings in ({"beta": 2.0}, {"kl": "analytic"}):
        with pytest.raises(ValueError, match="no KL to scale or to take in closed form"):
            IWAE(*nets(2, 2), **settings)
    with pytest.raises(ValueError, match="samples"):
        iwae(0)


def test_a_conditional_model_may_have_a_convolution_behind_its_door():
    """Pixels and label arrive as rows; what a net makes of them is its own affair."""
    encoder = Sequential([Dense(PIXELS + 3, PIXELS, rng=rng(), **ON), Reshape(SHAPE),
                          Conv2d(1, 1, 3, rng=rng(), **ON), Flatten(), Dense(PIXELS, 4, rng=rng(), **ON)])
    model = ConditionalVAE(encoder, nets(2, 2, classes=3)[1], classes=3, likelihood=losses.Bernoulli(kernels=reference))
    assert model.reconstruct(pictures(), np.array([0, 1, 2, 0])).shape == (4, *SHAPE)


def deep_contractive():
    return ContractiveAutoencoder(*nets(bend="tanh"), likelihood=SQUARE, lam=0.7)


EVERY = {**MODELS, "plain": lambda: Autoencoder(*nets(), likelihood=SQUARE),
         "vae": lambda: VAE(*nets(2, 2), likelihood=BERNOULLI),
         "contractive": lambda: ContractiveAutoencoder(Sequential([Flatten(), Dense(PIXELS, 3, rng=rng(1), **ON)]),
                                                       nets()[1], likelihood=SQUARE),
         "deep contractive": deep_contractive}
every_one = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


@every_one
def test_no_model_asks_for_the_gradient_of_its_pictures(make, monkeypatch):
    model, asked = make(), []
    first = next(layer for layer in model.encoder.walk() if isinstance(layer, Dense))
    backward = first._backward
    monkeypatch.setattr(first, "_backward", lambda dy, need_dx: asked.append(need_dx) or backward(dy, need_dx))
    model.loss(pictures(), np.array([0, 2, 1, 2]), rng(7))
    model.backward()
    assert asked == ([True] if make is deep_contractive else [False])  # a tangent's steps do not know who is first


def test_weights_of_terms_are_finite_numbers_of_pythons_own():
    for kind, name in ((WeightDecayAutoencoder, "lam"), (SparseAutoencoder, "beta"), (SparseAutoencoder, "lam"),
                       (ContractiveAutoencoder, "lam"), (VAE, "beta")):
        heads = 2 if kind is VAE else 1
        config = kind(*nets(heads=heads), likelihood=SQUARE, **{name: np.float32(0.25)}).config()
        assert json.loads(json.dumps(config))[name] == 0.25
        for bad in (math.inf, math.nan, -0.1):
            with pytest.raises(ValueError, match=f"{kind.__name__}: {name} must be finite and at least 0, got {bad}"):
                kind(*nets(heads=heads), likelihood=SQUARE, **{name: bad})
    assert json.dumps(SparseAutoencoder(*nets(), rho=np.float32(0.25)).config())
    assert json.dumps(DenoisingAutoencoder(*nets(), amount=np.float32(0.25)).config())


def test_labels_may_be_a_list():
    model = conditional()
    assert np.array_equal(model.one_hot([0, 2], 2), np.eye(3)[[0, 2]])
    a, b = pictures(2)
    assert np.array_equal(model.interpolate(a, b, 3, [0, 2]), model.interpolate(a, b, 3, np.array([0, 2])))


@every_one
def test_the_doors_of_every_objective_are_watched(make):
    model, y = make(), np.array([0, 2, 1, 2])
    with pytest.raises(ValueError, match="there was none"):
        model.backward()
    model.loss(pictures(), y, rng(7))
    with pytest.raises(ValueError, match="is float64, got pictures of float32"):
        model.loss(pictures().astype(np.float32), y, rng(7))
    with pytest.raises(ValueError, match="there was none"):
        model.backward()


@every_one
def test_every_term_is_a_number_of_pythons_own_and_float32_follows_float64(make):
    """On one picture too, where there are fewer rows than numbers in a code."""
    wide = make()
    slim = wide.to(np.float32)
    for n in (1, 4):
        results = []
        for model in (wide, slim):
            model.zero_grad()
            terms = model.loss(pictures(n).astype(model.theta.dtype), np.array([0, 2, 1, 2])[:n], rng(7))
            model.backward()
            assert {type(value) for value in terms.values()} == {float} and model.grad.any()
            results.append((*terms.values(), *model.grad))
        np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_on_one_picture_the_bounds_gradient_meets_differences():
    report = gradcheck.check(iwae(1), pictures(1), rng=rng(7))
    assert report.ok, report


def test_the_divergence_of_a_float32_bound_is_taken_in_float64():
    model, x = iwae().to(np.float32), pictures().astype(np.float32)
    kl = model.loss(x, rng=rng(7))["kl"]
    z, eps = (a.reshape(4, 4, 2).astype(np.float64) for a in (model.z, model.reparameterize.used_eps))
    _, logvar = model.encode_stats(x)
    assert kl == pytest.approx(np.sum(z**2 - eps**2 - logvar, axis=2).mean() / 2, rel=1e-13)


def test_the_direction_of_a_deep_contraction_is_standard_normal():
    model, x = deep_contractive(), pictures()
    _, t = Tangent(model.encoder).forward(x, rng(7).standard_normal(x.shape))
    assert model.loss(x, rng=rng(7))["jac"] == pytest.approx(np.square(t).sum() / 4, rel=1e-13)


def test_settings_that_are_left_out_have_the_values_of_the_signatures():
    for kind, heads, expected in (
            (WeightDecayAutoencoder, 1, {"lam": 1e-4}), (DenoisingAutoencoder, 1, {"amount": 0.3}),
            (SparseAutoencoder, 1, {"rho": 0.1, "beta": 3.0, "lam": 0.0}), (ContractiveAutoencoder, 1, {"lam": 0.1}),
            (VAE, 2, {"beta": 1.0}), (IWAE, 2, {"samples": 5, "beta": 1.0})):
        likelihood = Gaussian(0.3, kernels=reference)
        model = kind(*nets(heads=heads), likelihood=likelihood)
        assert model.likelihood is likelihood and expected.items() <= model.config().items()
