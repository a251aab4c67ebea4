"""The training loop: that it learns, that a seed fixes every bit, and that nothing leaks from one stream to another."""
import inspect
import math

import numba
import numpy as np
import pytest

from npae import evaluate, kernels, losses, models, train
from npae.callbacks import Callback, History
from npae.data import Dataset
from npae.data.batches import batches, binarize_sample
from npae.kernels import reference
from npae.layers import Conv2d, ConvTranspose2d, Dense, Dropout, Flatten, GaussianNoise, Reshape, Sequential
from npae.optim import SGD, Adam

SHAPE = (4, 4, 1)


def pictures(n=20):
    """Bars, upright or lying, on a dark ground, as uint8."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, (n, *SHAPE)).astype(np.uint8)
    for i in range(n):
        place = rng.integers(4)
        x[i, place, :] = 220 if i % 2 else x[i, place, :]
        x[i, :, place] = x[i, :, place] if i % 2 else 220
    return x


class Watched(models.VAE):
    """A VAE that notes the labels and the pictures of every loss."""

    seen: list

    def loss(self, x, y=None, rng=None):
        self.seen = [*getattr(self, "seen", []), (None if y is None else y.copy(), x.copy())]
        return super().loss(x, y, rng)


def vae(kind=models.VAE, kernels=reference, noise=0.0):
    rng = np.random.default_rng(1)
    encoder = [Flatten(), GaussianNoise(noise), Dense(16, 4, rng=rng, kernels=kernels)]
    decoder = [Dense(2, 16, rng=rng, kernels=kernels), Reshape(SHAPE)]
    return kind(Sequential(encoder), Sequential(decoder), likelihood=losses.Bernoulli(kernels=kernels))


def squares():
    rng = np.random.default_rng(2)
    decoder = [Dense(2, 16, activation="sigmoid", rng=rng, kernels=reference), Reshape(SHAPE)]
    return models.Autoencoder(Sequential([Flatten(), Dense(16, 2, rng=rng, kernels=reference)]), Sequential(decoder),
                              likelihood=losses.SquaredError(kernels=reference))


def conv_vae():
    """On the fast kernels, with every layer that keeps a buffer in a training loop."""
    rng = np.random.default_rng(3)
    encoder = [Conv2d(1, 3, 3, stride=2, activation="relu", rng=rng), Flatten(), Dense(48, 4, rng=rng)]
    decoder = [Dense(2, 48, activation="relu", rng=rng), Reshape((4, 4, 3)),
               ConvTranspose2d(3, 1, 3, stride=2, rng=rng)]
    return models.VAE(Sequential(encoder), Sequential(decoder))


def fit(model, x=None, y=None, **settings):
    return train.fit(model, pictures() if x is None else x, y,
                     **{"optimizer": Adam(1e-2, kernels=reference), "epochs": 2, "batch_size": 8, **settings})


class Theta(Callback):
    """Keeps theta after each step."""

    def __init__(self):
        self.steps = []

    def on_batch_end(self, state):
        self.steps.append(state.model.theta.copy())


# -- learning --


@pytest.mark.parametrize("make", [vae, squares], ids=lambda f: f.__name__)
def test_the_loss_goes_down(make):
    history = fit(make(), epochs=60, optimizer=Adam(3e-2, kernels=reference))
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_an_epoch_is_loss_backward_step_on_batches_in_the_order_of_the_seed():
    """A fit, whose layers keep their buffers, against the loop written by hand, whose layers do not: the same bits."""
    x = np.random.default_rng(4).integers(0, 256, (37, 8, 8, 1)).astype(np.uint8)
    trained, by_hand = conv_vae(), conv_vae()
    train.fit(trained, x, optimizer=Adam(1e-2), epochs=1, batch_size=8, seed=5)
    rng, optimizer, steps = train.streams(5), Adam(1e-2), 0
    for batch, _ in batches(x, None, 8, order=rng.order, noise=rng.noise):
        by_hand.zero_grad()
        by_hand.loss(batch, rng=rng.noise)
        by_hand.backward()
        optimizer.step(by_hand.theta, by_hand.grad)
        steps += 1
    assert steps == 5
    np.testing.assert_array_equal(trained.theta, by_hand.theta)


def test_one_thread_and_two_give_the_same_bits():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba has started with 1 thread: set NUMBA_NUM_THREADS=2")
    x = np.random.default_rng(4).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    before, theta = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            kernels.set_threads(threads)
            model = conv_vae()
            train.fit(model, x, optimizer=Adam(1e-2), epochs=2, batch_size=16)
            theta.append(model.theta)
    finally:
        kernels.set_threads(before)
    np.testing.assert_array_equal(*theta)


# -- seeds and streams --


def test_a_seed_fixes_every_bit_and_another_one_changes_them():
    theta = []
    for seed in (0, 0, 1):
        model = vae(noise=0.1)
        fit(model, seed=seed, transform=binarize_sample)
        theta.append(model.theta)
    np.testing.assert_array_equal(theta[0], theta[1])
    assert not np.array_equal(theta[0], theta[2])


def test_the_streams_of_a_seed_are_all_different():
    first = [rng.random() for rng in (*train.streams(0), *train.streams(1))]
    assert len(set(first)) == len(first) and first[:6] == [rng.random() for rng in train.streams(0)]


def test_more_noise_never_changes_the_order_of_the_pictures():
    orders = []
    for noise, transform in ((0.0, None), (0.3, None), (0.3, binarize_sample)):
        model = vae(Watched, noise=noise)
        fit(model, y=np.arange(20), transform=transform)
        orders.append(np.concatenate([y for y, _ in model.seen]))
    for order in orders:
        np.testing.assert_array_equal(order, orders[0])
    first, second = np.split(orders[0], 2)
    assert sorted(first) == sorted(second) == list(range(20)) and not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(20))


def test_labels_stay_with_their_pictures_and_a_transform_is_done_to_each_batch_with_the_noise():
    x = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.zeros(SHAPE, np.uint8)
    model = vae(Watched)
    drawn = []

    def shifted(batch, rng):
        drawn.append(rng.random())
        return batch + np.float32(0.5)

    fit(model, x, np.arange(20), transform=shifted, validation=(x[:4], np.arange(4)), epochs=1)
    assert [len(y) for y, _ in model.seen] == [8, 8, 4, 4]
    for y, batch in model.seen:
        assert batch.dtype == np.float32
        np.testing.assert_array_equal(batch[:, 0, 0, 0], y.astype(np.float32) / np.float32(255) + np.float32(0.5))
    assert drawn[0] == train.streams(0).noise.random() and drawn[3] == train.streams(0).validation.random()


def test_validation_leaves_the_training_as_it_is():
    theta = []
    for validation in (None, pictures(9)):
        model = vae(noise=0.1)
        history = fit(model, validation=validation, transform=binarize_sample, epochs=3)
        theta.append(model.theta)
        assert ("val_loss" in history.rows[0]) == (validation is not None)
    np.testing.assert_array_equal(*theta)


def test_each_epoch_draws_noise_of_its_own():
    drawn = []

    def seen(batch, rng):
        drawn.append(rng.random())
        return batch

    fit(vae(), transform=seen, epochs=3)
    assert len(set(drawn)) == len(drawn) == 9
    alike = np.repeat(pictures(1), 20, axis=0)  # so that the loss is a function of z's noise alone
    losses = fit(vae(), alike, optimizer=SGD(0.0, kernels=reference), epochs=3)["loss"]
    assert min(abs(np.diff(losses))) > 1e-3


def test_validation_draws_the_same_noise_after_every_epoch():
    model, x = vae(noise=0.5), pictures(9)
    history = fit(model, epochs=3, optimizer=SGD(0.0, kernels=reference), validation=x, transform=binarize_sample)
    assert len(set(history["loss"])) == 3  # of the training noise each epoch has its own
    for name in ("val_loss", "val_recon", "val_kl"):
        assert len(set(history[name])) == 1
    terms = evaluate.loss_terms(model, x, rng=train.streams(0).validation, transform=binarize_sample)
    assert terms == {name: history["val_" + name][0] for name in ("loss", "recon", "kl")}


# -- what is counted --


def test_the_last_short_batch_counts_as_much_as_it_has_pictures():
    model, x = squares(), pictures(10)
    x[9] = 255
    history = fit(model, x, optimizer=SGD(0.0, kernels=reference), batch_size=4, validation=x, epochs=1)
    whole = model.loss(x / np.float32(255))["loss"]
    assert history["loss"] == pytest.approx([whole], rel=1e-6) == history["val_loss"]
    terms = evaluate.loss_terms(model, x, rng=np.random.default_rng(0), batch_size=4)
    assert terms == {"loss": pytest.approx(whole, rel=1e-6), "recon": pytest.approx(whole, rel=1e-6)}
    assert np.mean([model.loss(b)["loss"] for b, _ in batches(x, None, 4)]) != pytest.approx(whole, rel=1e-3)


class Counts(Callback):
    """What State says after each batch."""

    def __init__(self):
        self.batches = []

    def on_batch_end(self, state):
        self.batches.append((state.epoch, state.step, state.steps, state.images))


@pytest.mark.parametrize(("drop_last", "images"), [(False, [8, 16, 20]), (True, [8, 16])])
def test_the_last_short_batch_may_be_left_out(drop_last, images):
    counts = Counts()
    fit(vae(), drop_last=drop_last, callbacks=[counts])
    steps = len(images)
    assert counts.batches == [(epoch, i + 1, steps, n) for epoch in (0, 1) for i, n in enumerate(images)]


def test_the_history_has_a_row_an_epoch_with_terms_rate_and_seconds():
    optimizer = Adam(lambda step: 0.1 / (1 + step), kernels=reference)
    history = fit(vae(), optimizer=optimizer, validation=pictures(4), epochs=2)
    assert isinstance(history, History) and len(history) == 2 and history["epoch"] == [1, 2]
    terms = ["loss", "recon", "kl"]
    assert list(history.rows[0]) == ["epoch", *terms, *("val_" + name for name in terms), "lr", "seconds"]
    for row in history.rows:
        assert row["loss"] == pytest.approx(row["recon"] + row["kl"], rel=1e-6) and row["seconds"] >= 0
    assert history["lr"] == [0.1 / 4, 0.1 / 7]  # of the coming step, three a epoch
    own = History()
    assert fit(vae(), callbacks=[own]) is own and len(own) == 2
    assert len(fit(vae(), epochs=0)) == 0


def test_a_dataset_brings_its_labels_and_its_validation_part():
    x = np.arange(24, dtype=np.uint8)[:, None, None, None] + np.zeros(SHAPE, np.uint8)
    data = Dataset(x, np.arange(24), x[:2], np.arange(2), "counted")
    model = vae(Watched)
    assert "val_loss" not in fit(model, data, epochs=1).rows[0]
    model = vae(Watched)
    history = fit(model, data.with_validation(4), epochs=1)
    assert "val_loss" in history.rows[0]
    labels = [y for y, _ in model.seen]
    assert sorted(np.concatenate(labels[:3])) == list(range(20)) and list(labels[3]) == [20, 21, 22, 23]
    for y, batch in model.seen:
        np.testing.assert_array_equal(batch[:, 0, 0, 0], y.astype(np.float32) / np.float32(255))
    model = vae(Watched)
    fit(model, data.with_validation(4), validation=x[:3], epochs=1)  # what is asked for wins
    assert len(model.seen[3][1]) == 3 and model.seen[3][0] is None


def test_without_an_optimizer_it_is_adam():
    by_default, adam = vae(), vae()
    train.fit(by_default, pictures(), epochs=1)
    fit(adam, optimizer=Adam(1e-3), epochs=1, batch_size=20)
    np.testing.assert_array_equal(by_default.theta, adam.theta)


# -- buffers and failures --


def keeps(model):
    return {layer.work.keep for layer in model.walk() if not isinstance(layer, Sequential)}


class Failing(Callback):
    """Notes whether buffers are kept, and fails if asked to."""

    def __init__(self, fail):
        self.fail, self.kept = fail, None

    def on_batch_end(self, state):
        self.kept = keeps(state.model)
        if self.fail:
            raise KeyboardInterrupt


def test_buffers_are_kept_during_a_fit_and_given_back_after_it_whatever_happens():
    for fail in (False, True):
        model, watch = vae(), Failing(fail)
        try:
            fit(model, callbacks=[watch])
        except KeyboardInterrupt:
            assert fail
        assert watch.kept == {True} and keeps(model) == {False}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_fit_before_its_step(bad, monkeypatch):
    model, theta = squares(), Theta()
    monkeypatch.setattr(model, "loss", lambda x, y, rng: {
        "loss": bad if len(theta.steps) == 4 else models.Autoencoder.loss(model, x, y, rng)["loss"]})
    message = rf"the loss is {bad} in epoch 2, batch 2 of 3: use a smaller learning rate, and look at the data"
    with pytest.raises(ValueError, match=message):
        fit(model, callbacks=[theta])
    assert len(theta.steps) == 4
    np.testing.assert_array_equal(model.theta, theta.steps[-1])
    assert keeps(model) == {False}


def test_a_validation_that_is_not_finite_ends_the_fit(monkeypatch):
    model = squares()
    with pytest.raises(ValueError, match="the loss is nan of the validation pictures after epoch 1: use a smaller"):
        fit(model, validation=np.full((3, *SHAPE), np.nan, np.float32))
    assert keeps(model) == {False}


def test_a_last_step_that_breaks_the_model_does_not_pass_for_a_result():
    class Breaks(SGD):
        def step(self, theta, grad):
            theta[3] = math.inf

    with pytest.raises(ValueError, match="the loss is nan after epoch 1"):
        fit(squares(), optimizer=Breaks(0.1, kernels=reference), batch_size=20, epochs=1)


def test_noise_and_dropout_are_for_training_alone():
    rng = np.random.default_rng(0)
    encoder = Sequential([GaussianNoise(0.5), Flatten(), Dropout(0.5), Dense(16, 4, rng=rng, kernels=reference)])
    decoder = Sequential([Dense(2, 16, rng=rng, kernels=reference), Reshape(SHAPE)])
    model = models.VAE(encoder, decoder, likelihood=losses.Bernoulli(kernels=reference))
    x, theta = pictures(9), model.theta.copy()
    history = fit(model, x, optimizer=SGD(0.0, kernels=reference), validation=x, epochs=1)
    np.testing.assert_array_equal(model.theta, theta)
    quiet = models.VAE(Sequential([Flatten(), encoder.layers[3].to()]), decoder.to(), likelihood=model.likelihood)
    same = quiet.loss(x / np.float32(255), rng=train.streams(0).validation)  # z is sampled all the same
    assert history["val_loss"] == [pytest.approx(same["loss"], rel=1e-6)] != history["loss"]
    scored = evaluate.elbo(model, x, rng=train.streams(0).validation)
    assert scored["cross_entropy_bound"] == pytest.approx(-same["loss"], rel=1e-6)  # of grey pixels
    noisy = model.loss(x / np.float32(255), rng=np.random.default_rng(0))
    assert noisy["loss"] != pytest.approx(same["loss"], rel=1e-3)


def test_a_model_in_double_precision_takes_uint8_pictures():
    model, x = vae().to(np.float64), pictures()
    history = fit(model, x, validation=x, epochs=1)
    assert model.theta.dtype == np.float64 and math.isfinite(history["val_loss"][0])
    expected = model.loss(x / 255, rng=np.random.default_rng(0))["loss"]
    assert evaluate.loss_terms(model, x, rng=np.random.default_rng(0))["loss"] == pytest.approx(expected, rel=1e-12)
    mse = np.square(model.reconstruct(x / 255) - x / 255).mean()
    assert evaluate.reconstruction_mse(model, x) == pytest.approx(mse, rel=1e-12)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="x has 20 rows and y has 3"):
        fit(vae(), y=np.arange(3))
    with pytest.raises(ValueError, match="got int64: convert it first"):
        fit(vae(), np.zeros((9, *SHAPE), np.int64))
    with pytest.raises(ValueError, match="VAE is float32, got pictures of float64"):
        fit(vae(), np.zeros((9, *SHAPE)))
    with pytest.raises(ValueError, match="drop_last leaves no batch of 20 rows"):
        fit(vae(), batch_size=21, drop_last=True)


def test_pictures_above_what_the_decoder_can_paint_are_refused():
    grey = pictures().astype(np.float32)
    words = r"ends in a sigmoid and paints pixels up to 1, and the pictures, float32, go up to 220: divide them by 255"
    with pytest.raises(ValueError, match=words):
        fit(squares(), grey)
    fit(squares(), grey / 255, epochs=1)
    fit(squares(), grey, epochs=1, transform=lambda x, rng: x / 255)
    linear = models.Autoencoder(Sequential([Flatten(), Dense(16, 2)]), Sequential([Dense(2, 16), Reshape(SHAPE)]))
    fit(linear.to(kernels=reference), grey, epochs=1)  # counts, say


def test_validation_is_pictures_alone_or_with_labels_in_whatever_brackets():
    x, y = pictures(6), np.arange(6)
    rows = [fit(vae(), validation=validation, epochs=1)["val_loss"] for validation in (x, (x, None), (x, y), [x, y])]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    dataset = Dataset(x, y, x, y, "six")
    for wrong in (dataset, [[0.5]]):
        with pytest.raises(ValueError, match=r"validation must be pictures, or \(pictures, labels\), as arrays, got "):
            fit(vae(), validation=wrong)


def test_a_dataset_with_labels_beside_it_is_refused():
    x, y = pictures(6), np.arange(6)
    with pytest.raises(ValueError, match="six has labels of its own: leave y out"):
        train.fit(vae(), Dataset(x, y, x, y, "six"), y)


@pytest.mark.parametrize(("wrong", "words"), [
    ({"epochs": -1}, "fit: epochs must be an integer of at least 0, got -1"),
    ({"epochs": 1.5}, "fit: epochs must be an integer of at least 0, got 1.5"),
    ({"batch_size": 2.5}, "batch_size must be an integer of at least 1, got 2.5"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ({"optimizer": "adam"}, r"fit needs an optimizer such as optim.Adam\(1e-3\), got 'adam'"),
    ({"optimizer": Adam}, r"fit needs an optimizer such as optim.Adam\(1e-3\), got <class"),
    ({"callbacks": History()}, "callbacks is a list of objects whose classes inherit from .*, got <npae"),
    ({"callbacks": [History]}, "callbacks is a list of objects whose classes inherit from .*, got <class"),
    ({"callbacks": [print]}, "callbacks is a list of objects whose classes inherit from .*, got <built-in"),
    ({"x": [[0.5]]}, "x must be pictures as an array, or a Dataset, got list"),
])
def test_an_argument_that_will_not_do_is_told_in_a_sentence(wrong, words):
    with pytest.raises(ValueError, match=words):
        fit(vae(), **wrong)


def test_the_defaults_are_those_that_the_design_promises():
    defaults = {name: p.default for name, p in inspect.signature(train.fit).parameters.items()}
    assert {key: defaults[key] for key in ("epochs", "batch_size", "validation", "seed", "drop_last", "transform")} == {
        "epochs": 10, "batch_size": 64, "validation": None, "seed": 0, "drop_last": False, "transform": None}


def test_callbacks_may_come_from_a_generator():
    history, theta = History(), Theta()
    assert fit(vae(), callbacks=(c for c in (theta, history)), epochs=2) is history
    assert len(history) == 2 and len(theta.steps) == 6


def test_labels_may_be_a_list():
    assert len(fit(vae(), y=[0] * 20, epochs=1)) == 1


def test_what_ends_a_fit_is_told_though_a_callback_knows_nothing_of_it():
    class Stranger:
        """The four moments that there always were, and no base class."""

        def on_fit_begin(self, state): pass
        def on_batch_end(self, state): pass
        def on_fit_end(self, state): pass

        def on_epoch_end(self, state):
            raise ZeroDivisionError("mine")

    class Told(Callback):
        broken = False

        def on_fit_broken(self, state):
            self.broken = True

    told = Told()
    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(vae(), callbacks=[Stranger(), told])
    assert told.broken
