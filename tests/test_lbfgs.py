"""L-BFGS: that it finds minima that are known, and how it hangs in the training loop."""
import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from npae import evaluate, train
from npae.callbacks import Callback, EarlyStopping, ModelCheckpoint
from npae.data.batches import binarize_threshold, to_float
from npae.kernels import reference
from npae.layers import Dense, Dropout, Flatten, Reshape, Sequential
from npae.losses import Bernoulli
from npae.models import VAE, Autoencoder, DenoisingAutoencoder
from npae.optim import LBFGS, SGD

pytestmark = pytest.mark.usefixtures("own_core")
SHAPE = (3, 3, 1)


def linear(dtype=np.float64, code=2, kind=Autoencoder, **settings):
    rng, on = np.random.default_rng(1), {"dtype": dtype, "kernels": reference}
    encoder = [Flatten(), Dense(9, code, rng=rng, **on)]
    return kind(Sequential(encoder), Sequential([Dense(2, 9, rng=rng, **on), Reshape(SHAPE)]), **settings)


def pictures(n=60):
    rng = np.random.default_rng(2)
    return np.clip(rng.random((n, 2)) @ rng.random((2, 9)) * 120 + rng.random((n, 9)) * 30, 0, 255).astype(
        np.uint8).reshape(n, *SHAPE)


def test_it_finds_the_end_of_rosenbrocks_valley():
    theta, seen = np.array([-1.2, 1.0, 0.8]), []
    optimizer = LBFGS()
    optimizer.minimize(lambda t: (rosen(t), rosen_der(t)), theta, 200, lambda t: seen.append(t.copy()))
    np.testing.assert_allclose(theta, 1, rtol=1e-6)
    assert optimizer.steps == len(seen) < 200 and np.array_equal(seen[-1], theta)


def test_it_stops_after_its_iterations_or_where_it_is_told_to():
    for iterations, calls, expected in ((3, 99, 3), (50, 2, 2)):
        theta, optimizer, left = np.array([-1.2, 1.0]), LBFGS(), iter([False] * (calls - 1) + [True])
        optimizer.minimize(lambda t: (rosen(t), rosen_der(t)), theta, iterations, lambda t, left=left: next(left))
        assert optimizer.steps == expected
        assert rosen(theta) < rosen([-1.2, 1.0])


def test_a_longer_memory_takes_another_way():
    ways = []
    for memory in (1, 3, 20):
        theta = np.linspace(-1.5, 1.5, 12)
        LBFGS(memory).minimize(lambda t: (rosen(t), rosen_der(t)), theta, 12)
        ways.append(theta)
    assert not np.allclose(ways[0], ways[1]) and not np.allclose(ways[1], ways[2])


def test_float32_a_single_step_and_a_memory_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"needs float64, got theta float32 \(2,\)"):
        LBFGS().minimize(lambda t: (rosen(t), rosen_der(t)), np.zeros(2, np.float32), 5)
    with pytest.raises(ValueError, match=r"use train\.fit"):
        LBFGS().step(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="memory must be an integer of at least 1, got 0"):
        LBFGS(memory=0)
    assert LBFGS().memory == 10
    assert LBFGS(5).config() == {"optimizer": "LBFGS", "lr": 1.0, "clip_norm": None, "memory": 5}


def test_in_a_fit_it_takes_a_linear_autoencoder_to_the_error_of_pca():
    x, model = pictures(), linear()
    history = train.fit(model, x, optimizer=LBFGS(), epochs=400, validation=x)
    assert evaluate.reconstruction_mse(model, x) <= evaluate.pca_mse(x, x, 2) * (1 + 1e-6)
    assert len(history) <= 400 and history["epoch"] == list(range(1, len(history) + 1))
    assert all(a >= b for a, b in zip(history["loss"], history["loss"][1:], strict=False))  # each is better
    assert history["val_loss"] == pytest.approx(history["loss"], rel=1e-9)  # the row is that of the theta it kept


def test_the_row_and_the_model_are_those_of_the_iteration():
    class Look(Callback):
        def on_batch_end(self, state):
            self.batch = state.step, state.steps, state.images

        def on_epoch_end(self, state):
            assert self.batch == (1, 1, 60)
            assert state.model.theta is theta
            value = state.model.loss(to_float(x, np.float64))["loss"]
            assert value == pytest.approx(state.terms["loss"], rel=1e-13)

    x = pictures()
    losses = []
    for _ in range(2):
        model = linear()
        theta = model.theta
        losses.append(train.fit(model, x, optimizer=LBFGS(), epochs=5, callbacks=[Look()])["loss"])
    assert losses[0] == losses[1] and len(losses[0]) == 5


def test_the_transform_comes_first_and_callbacks_may_end_it():
    x, model = pictures(), linear(likelihood=Bernoulli(kernels=reference))
    train.fit(model, x, optimizer=LBFGS(), epochs=2, transform=binarize_threshold)
    best = ModelCheckpoint()
    history = train.fit(linear(), x, optimizer=LBFGS(), epochs=500, validation=255 - x,
                        callbacks=[best, EarlyStopping(3)])
    assert len(history) < 100 and best.epoch == len(history) - 3


def test_chance_has_no_place_on_a_line_search():
    for model in (linear(kind=DenoisingAutoencoder), linear(code=4, kind=VAE)):
        with pytest.raises(ValueError, match="rng"):
            train.fit(model, pictures(), optimizer=LBFGS(), epochs=2, transform=binarize_threshold)
    rng, on = np.random.default_rng(1), {"dtype": np.float64, "kernels": reference}
    noisy = Autoencoder(Sequential([Flatten(), Dropout(0.5), Dense(9, 2, rng=rng, **on)]),
                        Sequential([Dense(2, 9, rng=rng, **on), Reshape(SHAPE)]))
    history = train.fit(noisy, pictures(), optimizer=LBFGS(), epochs=3)  # dropout is quiet without a generator
    assert history["loss"] == sorted(history["loss"], reverse=True)


def test_no_epochs_are_no_iterations_and_other_optimizers_are_as_before():
    model = linear()
    before = model.theta.copy()
    assert len(train.fit(model, pictures(), optimizer=LBFGS(), epochs=0)) == 0 and (model.theta == before).all()
    assert len(train.fit(model, pictures(), optimizer=SGD(1e-3), epochs=1)) == 1


def test_a_loss_that_is_not_finite_ends_it():
    model = linear()
    model.theta[...] = 1e200
    with pytest.raises(ValueError, match=r"the loss is (inf|nan) in iteration 1"), np.errstate(all="ignore"):
        train.fit(model, pictures(), optimizer=LBFGS(), epochs=3)
