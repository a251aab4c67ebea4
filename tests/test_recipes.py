"""The table of recipes: its defaults are the published settings, and `--set` is checked against it."""
import pytest

from npae import optim, recipes
from npae.losses import Bernoulli, SquaredError
from npae.train import streams


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
    model = recipe.build(settings, (8, 12, 2), streams(0).init)
    assert isinstance(model.likelihood, likelihood)
    assert model.latent == 3
    assert isinstance(recipe.optimizer(settings), optim.RMSprop if name == "conv-ae" else optim.Adam)


def test_an_optimizer_is_the_one_of_its_name():
    kinds = {"sgd": optim.SGD, "momentum": optim.Momentum, "rmsprop": optim.RMSprop, "adam": optim.Adam,
             "adamw": optim.AdamW}
    assert set(recipes.OPTIMIZERS) == set(kinds)
    for name, kind in kinds.items():
        settings, _ = resolved("conv-ae", optimizer=name, lr="0.25")
        optimizer = recipes.get("conv-ae").optimizer(settings)
        assert type(optimizer) is kind and optimizer.learning_rate() == 0.25


def test_the_vaes_settings_reach_the_model():
    recipe = recipes.get("bernoulli-vae")
    for beta, kl in ((0.5, "analytic"), (2.0, "sampled")):
        settings, _ = recipe.resolve({"beta": str(beta), "kl": kl})
        model = recipe.build(settings, (8, 8, 1), streams(0).init)
        assert (model.beta, model.kl) == (beta, kl)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    recipe = recipes.get("conv-ae")
    settings, _ = recipe.resolve({})
    first, again, other = (recipe.build(settings, (8, 8, 1), streams(seed).init).theta for seed in (0, 0, 1))
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
    with pytest.raises(ValueError, match="use one of conv-ae, bernoulli-vae"):
        recipes.get("vae")
