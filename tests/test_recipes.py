"""The table of recipes: its defaults are the published settings, and `--set` is checked against it."""
import math
from dataclasses import replace

import numpy as np
import pytest

from npae import models, optim, recipes, train
from npae.data import Dataset
from npae.data.batches import binarizer
from npae.losses import Bernoulli, SquaredError
from npae.train import streams


def toy(shape, n=20, labels=True):
    """Pictures of noise in five classes."""
    x = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)
    y = np.arange(n) % 5 if labels else None
    return Dataset(x, y, x[:4], None if y is None else y[:4], "toy")


def resolved(name, **given):
    return recipes.get(name).resolve(given)


def test_conv_ae_has_the_published_settings():
    settings, remark = resolved("conv-ae")
    assert (settings["latent"], settings["lr"], settings["optimizer"]) == (10, 3e-4, "rmsprop")
    assert (settings["batch_size"], settings["epochs"], settings["patience"]) == (64, 100, 10)
    assert recipes.get("conv-ae").drop_last
    assert remark is None


def test_two_dimensions_raise_the_rate_of_conv_ae_and_say_so():
    settings, remark = resolved("conv-ae", latent="2")
    assert settings["lr"] == 1e-3
    assert "0.001" in remark


def test_a_rate_that_is_given_is_kept_without_a_remark():
    settings, remark = resolved("conv-ae", latent="2", lr="0.01")
    assert settings["lr"] == 0.01
    assert remark is None


def test_bernoulli_vae_has_the_published_settings():
    settings, _ = resolved("bernoulli-vae")
    assert (settings["latent"], settings["lr"], settings["optimizer"]) == (2, 1e-4, "adam")
    assert (settings["batch_size"], settings["epochs"], settings["kl"]) == (32, 10, "sampled")
    assert (settings["binarize"], settings["beta"]) == ("threshold", 1.0)


@pytest.mark.parametrize(("name", "likelihood"), [("conv-ae", SquaredError), ("bernoulli-vae", Bernoulli)])
def test_a_recipe_builds_its_model(name, likelihood):
    recipe = recipes.get(name)
    settings, _ = recipe.resolve({"latent": "3"})
    model = recipe.build(settings, toy((8, 12, 2)), streams(0).init)
    assert isinstance(model.likelihood, likelihood)
    assert model.latent == 3
    assert isinstance(recipe.optimizer(settings), optim.RMSprop if name == "conv-ae" else optim.Adam)


def test_an_optimizer_is_the_one_of_its_name():
    kinds = {"sgd": optim.SGD, "momentum": optim.Momentum, "rmsprop": optim.RMSprop, "adam": optim.Adam,
             "adamw": optim.AdamW}
    assert set(recipes.OPTIMIZERS) == {*kinds, "lbfgs"}
    for name, kind in kinds.items():
        settings, _ = resolved("conv-ae", optimizer=name, lr="0.25")
        optimizer = recipes.get("conv-ae").optimizer(settings)
        assert type(optimizer) is kind and optimizer.learning_rate() == 0.25


def test_the_vaes_settings_reach_the_model():
    recipe = recipes.get("bernoulli-vae")
    for beta, kl in ((0.5, "analytic"), (2.0, "sampled")):
        settings, _ = recipe.resolve({"beta": str(beta), "kl": kl})
        model = recipe.build(settings, toy((8, 8, 1)), streams(0).init)
        assert (model.beta, model.kl) == (beta, kl)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    recipe = recipes.get("conv-ae")
    settings, _ = recipe.resolve({})
    first, again, other = (recipe.build(settings, toy((8, 8, 1)), streams(seed).init).theta for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("given", "words"), [
    ({"latnet": "2"}, "use one of latent"),
    ({"latent": "two"}, "latent must be a whole number of at least 1, got 'two'"),
    ({"latent": "0"}, "latent must be a whole number of at least 1, got '0'"),
    ({"latent": "2.5"}, "whole number"),
    ({"lr": "fast"}, "lr must be a number of at least 0, got 'fast'"),
    ({"lr": "nan"}, "lr must be a number"),
    ({"optimizer": "magic"}, "sgd, momentum, rmsprop, adam, adamw"),
    ({"binarize": "yes"}, "threshold, sample, none"),
    ({"validation": "-1"}, "at least 0"),
])
def test_a_wrong_setting_is_told_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        resolved("conv-ae", **given)


def test_an_unknown_recipe_is_told_the_known_ones():
    with pytest.raises(ValueError, match="use one of conv-ae, conv-vae, bernoulli-vae"):
        recipes.get("vae")


# -- the family --

EXPECTED = {  # recipe: model, likelihood, latent, epochs, batch size, optimizer, rate, binarisation
    "conv-ae": (models.Autoencoder, "SquaredError(factor=1.0)", 10, 100, 64, optim.RMSprop, 3e-4, "none"),
    "conv-vae": (models.VAE, "Bernoulli()", 2, 10, 16, optim.RMSprop, 1e-3, "none"),
    "bernoulli-vae": (models.VAE, "Bernoulli()", 2, 10, 32, optim.Adam, 1e-4, "threshold"),
    "mlp-vae": (models.VAE, "Gaussian(variance=0.5)", 64, 50, 1024, optim.AdamW, 1e-3, "none"),
    "mlp-cvae": (models.ConditionalVAE, "Gaussian(variance=0.5)", 64, 50, 1024, optim.AdamW, 1e-3, "none"),
    "tied-ae": (models.Autoencoder, "SquaredError(factor=1.0)", 32, 30, 20, optim.Adam, 1e-3, "none"),
    "ae": (models.Autoencoder, "Bernoulli()", 64, 20, 128, optim.Adam, 1e-3, "none"),
    "weight-decay-ae": (models.WeightDecayAutoencoder, "Bernoulli()", 1024, 20, 128, optim.Adam, 1e-3, "none"),
    "overcomplete-ae": (models.Autoencoder, "Bernoulli()", 1024, 20, 128, optim.Adam, 1e-3, "none"),
    "denoising-ae": (models.DenoisingAutoencoder, "Bernoulli()", 512, 20, 128, optim.Adam, 1e-3, "none"),
    "sparse-ae": (models.SparseAutoencoder, "SquaredError(factor=0.5)", 196, 20, 128, optim.Adam, 1e-3, "none"),
    "contractive-ae": (models.ContractiveAutoencoder, "Bernoulli()", 256, 20, 128, optim.Adam, 1e-3, "none"),
    "conv-pool-ae": (models.WeightDecayAutoencoder, "Bernoulli()", 32, 20, 128, optim.Adam, 1e-3, "none"),
    "iwae": (models.IWAE, "Bernoulli()", 50, 30, 100, optim.Adam, 1e-3, "sample"),
}


def test_the_table_holds_the_whole_family():
    assert list(recipes.RECIPES) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_recipe_is_the_one_that_the_table_promises(name):
    kind, likelihood, latent, epochs, batch_size, optimizer, lr, binarize = EXPECTED[name]
    recipe = recipes.get(name)
    s, _ = recipe.resolve({})
    data = toy((28, 28, 1))
    model = recipe.build(s, data, streams(0).init)
    assert (type(model), repr(model.likelihood), model.latent) == (kind, likelihood, latent)
    assert (s["epochs"], s["batch_size"], s["binarize"]) == (epochs, batch_size, binarize)
    assert (type(recipe.optimizer(s)), recipe.optimizer(s).learning_rate()) == (optimizer, lr)
    assert recipe.equation and recipe.summary


@pytest.mark.parametrize("name", EXPECTED)
def test_each_recipe_learns_on_small_pictures_of_two_channels(name):
    """A few steps on few numbers make the loss smaller; the pictures that come out have the right shape."""
    recipe, data = recipes.get(name), toy((8, 12, 2), 40)
    s, _ = recipe.resolve({"latent": "3"})
    model = recipe.build(s, data, streams(0).init)
    transform = binarizer(s["binarize"])
    history = train.fit(model, data.train_x, data.train_y, optimizer=recipe.optimizer(s), epochs=8, batch_size=10,
                        transform=transform)
    assert history["loss"][-1] < history["loss"][0]
    x = data.test_x / np.float32(255)
    assert model.reconstruct(x, data.test_y).shape == x.shape


def widths(net):
    return [layer.W.value.shape for layer in net.walk() if hasattr(layer, "W")]


def built(name, shape=(28, 28, 1), **given):
    recipe = recipes.get(name)
    s, _ = recipe.resolve(given)
    return recipe.build(s, toy(shape), streams(0).init)


def bends(net):
    return [layer.activation.label for layer in net.walk() if hasattr(layer, "activation")]


def test_the_tied_net_is_a_stack_of_tanh_with_its_own_transposes_and_the_mean_picture_at_both_doors():
    model, data = built("tied-ae"), toy((28, 28, 1))
    assert widths(model.encoder) == [(784, 256), (256, 256), (256, 64), (64, 32)]
    assert widths(model.decoder) == widths(model.encoder)[::-1] and len(model.weights) == 4
    assert bends(model.encoder) + bends(model.decoder) == ["tanh"] * 8
    assert len(model.params) == 12 and not any(p.value.any() for p in model.params if p.name.endswith("b"))
    for W in model.weights:
        a = 1 / math.sqrt(len(W.value))
        assert 0.99 * a < np.abs(W.value).max() <= a * (1 + 1e-6)
    x = data.test_x / np.float32(255)
    expected = np.square(model.decode(model.encode(x)) - x).sum() / len(x)
    assert model.loss(x)["loss"] == pytest.approx(expected, rel=1e-5)
    zero = np.repeat(data.mean[None], 2, 0)  # the mean picture is the origin of every layer without biases
    np.testing.assert_allclose(model.reconstruct(zero), zero, atol=1e-6)
    assert not model.encode(zero).any()


def test_the_leaky_nets_are_as_published_and_their_biases_are_drawn_too():
    vae, cvae = built("mlp-vae"), built("mlp-cvae")
    assert widths(vae.encoder) == [(784, 784), (784, 784), (784, 128)]
    assert widths(vae.decoder) == [(64, 784), (784, 784), (784, 784)]
    assert widths(cvae.encoder)[0] == (789, 784) and widths(cvae.decoder)[0] == (69, 784) and cvae.classes == 5
    for model in (vae, cvae):
        assert bends(model.encoder) == ["leaky_relu", "leaky_relu", "identity"]
        assert bends(model.decoder) == ["leaky_relu", "leaky_relu", "sigmoid"]
        for W, b in zip(model.weights, (p for p in model.params if p.name.endswith("b")), strict=True):
            a = 1 / math.sqrt(len(W.value))
            for values in (W.value, b.value):
                assert 0.9 * a < np.abs(values).max() <= a * (1 + 1e-6)
    with pytest.raises(ValueError, match="told each picture's label, and toy has none: take mlp-vae"):
        recipes.get("mlp-cvae").build(resolved("mlp-cvae")[0], toy((8, 8, 1), labels=False), streams(0).init)
    with pytest.raises(ValueError, match="told each picture's label, and toy has none of its test pictures"):
        recipes.get("mlp-cvae").build(resolved("mlp-cvae")[0], replace(toy((8, 8, 1)), test_y=None), streams(0).init)


def test_the_conv_vaes_weight_of_the_kl_is_that_of_a_mean_over_the_pixels_that_there_are():
    s = recipes.get("conv-vae").parse({"latent": "4"})
    remark = recipes.get("conv-vae").adapt(s, toy((12, 8, 3)))
    assert s["beta"] == pytest.approx(288 * 5e-4 * 2 / 4) and "beta = 288 · 5e-4" in remark


def test_the_loss_of_the_conv_vae_is_the_published_one_times_the_pixels():
    """The tutorial's: mean cross-entropy over pixels + 5e-4 mean over latents of (exp(logvar) - 1 - logvar + mu²)."""
    model, data = built("conv-vae"), toy((28, 28, 1))
    assert widths(model.encoder) == [(3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 64), (3, 3, 64, 64), (12544, 32),
                                     (32, 4)]
    assert widths(model.decoder) == [(2, 12544), (3, 3, 32, 64), (3, 3, 32, 1)]
    x = data.test_x / np.float32(255)
    terms = model.loss(x, rng=streams(0).noise)
    mu, logvar = (a.astype(np.float64) for a in model.encode_stats(x))
    penalty = 5e-4 * (np.exp(logvar) - 1 - logvar + mu * mu).mean()
    assert terms["loss"] / 784 == pytest.approx(terms["recon"] / 784 + penalty, rel=1e-6)
    assert model.beta == pytest.approx(0.392)
    _, remark = resolved("conv-vae", latent="4")
    assert "= 0.196, no ELBO" in remark and resolved("conv-vae", beta="1")[1] is None


def test_the_averages_of_the_conv_vaes_optimizer_reach_further_back():
    settings, _ = resolved("conv-vae")
    for name, rho, eps in (("conv-vae", 0.99, 1e-8), ("conv-ae", 0.9, 1e-7)):
        optimizer = recipes.get(name).optimizer({**settings, "lr": 0.5})
        assert (optimizer.rho, optimizer.eps, optimizer.learning_rate()) == (rho, eps, 0.5)
    assert type(recipes.get("conv-vae").optimizer({**settings, "optimizer": "adam"})) is optim.Adam


def test_the_pixels_of_the_iwae_begin_at_the_mean_picture():
    model, data = built("iwae"), toy((28, 28, 1))
    assert widths(model.encoder) == [(784, 200), (200, 200), (200, 100)]
    assert widths(model.decoder) == [(50, 200), (200, 200), (200, 784)]
    assert bends(model.encoder) == bends(model.decoder) == ["tanh", "tanh", "identity"]
    for p in model.decoder.params[:-1]:
        p.value[...] = 0
    np.testing.assert_allclose(model.decode(np.zeros((1, 50), np.float32))[0], data.mean, rtol=1e-5)
    assert model.samples == 5 and built("iwae", samples="2").samples == 2


def test_l_bfgs_is_the_exercise_in_double_precision():
    s, remark = resolved("sparse-ae", optimizer="lbfgs")
    assert (s["epochs"], s["pictures"]) == (400, 10_000) and "400 iterations in float64 on the first 10,000" in remark
    s, _ = resolved("sparse-ae", optimizer="lbfgs", epochs="7", pictures="50")
    assert (s["epochs"], s["pictures"]) == (7, 50)
    for given, n in (({}, 20), ({"pictures": "0"}, 0)):  # a small data set: all of it
        s = recipes.get("sparse-ae").parse({"optimizer": "lbfgs", **given})
        remark = recipes.get("sparse-ae").adapt(s, toy((8, 8, 1)))
        assert s["pictures"] == n and "on the first 20 pictures" in remark
    assert resolved("sparse-ae")[0]["pictures"] == 0
    model = built("sparse-ae", optimizer="lbfgs")
    assert model.theta.dtype == np.float64 and (model.rho, model.beta, model.lam) == (0.1, 3.0, 1.5e-3)
    assert built("sparse-ae").theta.dtype == np.float32
    with pytest.raises(ValueError, match="optimizer must be one of sgd, momentum, rmsprop, adam, adamw, got 'lbfgs'"):
        resolved("ae", optimizer="lbfgs")


@pytest.mark.parametrize(("name", "given", "found"), [
    ("denoising-ae", {"corruption": "gaussian", "amount": "0.7"}, {"corruption": "gaussian", "amount": 0.7}),
    ("sparse-ae", {"rho": "0.2", "beta": "0.5", "lam": "0.01"}, {"rho": 0.2, "beta": 0.5, "lam": 0.005}),
    ("weight-decay-ae", {"lam": "0.25"}, {"lam": 0.25}), ("conv-pool-ae", {"lam": "0.25"}, {"lam": 0.25}),
    ("contractive-ae", {"lam": "0.25"}, {"lam": 0.25}), ("conv-vae", {"beta": "2"}, {"beta": 2.0}),
    ("mlp-vae", {"beta": "2"}, {"beta": 2.0}), ("mlp-cvae", {"beta": "2"}, {"beta": 2.0})])
def test_the_settings_of_an_objective_reach_the_model(name, given, found):
    config = built(name, (8, 8, 1), **given).config()
    assert {key: config[key] for key in found} == found
