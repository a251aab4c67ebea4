"""Not-a-number at ten places of a training: it ends within one step, and the sentence names the place and the step."""
import math

import numpy as np
import pytest

from npae import checkpoint, losses, models, store, train
from npae.callbacks import Callback, History, ModelCheckpoint
from npae.checkpoint import Checkpoint
from npae.kernels import fast, reference
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential, Sigmoid
from npae.models import vae as vae_module
from npae.nonfinite import culprit
from npae.optim import SGD, Adam

SHAPE = (4, 4, 1)
X = np.random.default_rng(0).random((24, *SHAPE)).astype(np.float32)
STEP = 4  # after so many steps: 6 batches an epoch


def model(kernels):
    rng = np.random.default_rng(1)
    more = {"rng": rng, "kernels": kernels}
    encoder = [Conv2d(1, 2, 3, stride=2, activation="relu", **more), Flatten(), Dense(8, 4, **more)]
    decoder = [Sequential([Dense(2, 8, **more), Sigmoid(kernels=kernels)]), Dense(8, 16, **more), Reshape(SHAPE)]
    return models.VAE(Sequential(encoder, input_shape=SHAPE), Sequential(decoder),
                      likelihood=losses.Bernoulli(kernels=kernels))


class After(Callback):
    """Does something to the training after so many steps, and counts the steps."""

    def __init__(self, act):
        self.act, self.steps, self.theta = act, 0, None

    def on_batch_end(self, state):
        self.steps += 1
        if self.steps == STEP:
            self.act(state)
        self.theta = state.model.theta.copy()


def one(array, value=np.nan):
    array.reshape(-1)[array.size // 2] = value


def data(state, patch, x):
    one(x[4 * STEP])


def weight(state, patch, x):
    one(state.model.encoder.layers[2].W.value, np.inf)


def activation(state, patch, x):
    layer = state.model.decoder.layers[0].layers[1]
    right = layer._forward
    patch.setattr(layer, "_forward", lambda x: right(x) * np.float32(np.nan))


def loss(state, patch, x):
    patch.setattr(state.model.likelihood, "nll_each", lambda output, x: (np.full(len(x), np.nan), output))


def gradient(state, patch, x):
    right = state.model.likelihood.nll

    def nll(output, x):
        value, doutput = right(output, x)
        one(doutput)
        return value, doutput

    patch.setattr(state.model.likelihood, "nll", nll)


def moment(name):
    def act(state, patch, x):
        one(state.optimizer.moments[name][:16])  # of encoder.0.W, which has 18 numbers

    return act


def rate(state, patch, x):
    state.optimizer.lr = math.nan


def logvar(state, patch, x):
    state.model.encoder.layers[2].b.value[3] = np.nan


def kl(state, patch, x):
    right = vae_module.gaussian_kl
    patch.setattr(vae_module, "gaussian_kl", lambda mu, logvar, work: (math.nan, *right(mu, logvar)[1:]))


HERE, NEXT = "the loss is nan in epoch 1, batch 5 of 6: ", "the loss is nan in epoch 1, batch 6 of 6: "
PLACES = {  # how many steps are still done, and what the sentence says
    "data": (data, 0, HERE, r"the pictures of this batch are not finite in 1 of 64 numbers, first in picture 0 of"),
    "weight": (weight, 0, HERE, r"the parameter encoder\.2\.W is not finite in 1 of 32 numbers, by the step"),
    "activation": (activation, 0, HERE, r"Sigmoid 'decoder\.0\.1' is the first layer whose .*, in 32 of 32 numbers"),
    "loss": (loss, 0, HERE, r"every layer's output is finite, and the loss's recon not"),
    "gradient": (gradient, 1, NEXT, r"the parameter decoder\.1\.b is not finite in 1 of 16 numbers, as \d more"),
    "m": (moment("m"), 1, NEXT, r"the parameter encoder\.0\.W is not finite in 1 of 18 numbers, by the step before"),
    "v": (moment("v"), 1, NEXT, r"the parameter encoder\.0\.W is not finite in 1 of 18 numbers, by the step before"),
    "lr": (rate, 0, "", r"lr must be finite and at least 0, got nan"),
    "logvar": (logvar, 0, HERE, r"the parameter encoder\.2\.b is not finite in 1 of 4 numbers"),
    "kl": (kl, 0, HERE, r"every layer's output is finite, and the loss's kl not"),
}


@pytest.mark.parametrize("kernels", [reference, fast], ids=["reference", "fast"])
@pytest.mark.parametrize("place", PLACES)
def test_not_a_number_is_found_within_one_step_and_its_place_named(place, kernels, monkeypatch):
    act, more, where, words = PLACES[place]
    x = X.copy()
    hook = After(lambda state: act(state, monkeypatch, x))
    monkeypatch.setattr(train, "streams", unshuffled(train.streams))
    best = ModelCheckpoint(monitor="loss")
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=where + ".*" + words) as caught:
        train.fit(model(kernels), x, optimizer=Adam(1e-3, kernels=kernels), epochs=2, batch_size=4,
                  callbacks=[hook, best])
    assert hook.steps == STEP + more and str(caught.value).count("\n") == 0
    assert best.theta is None or np.isfinite(best.theta).all()


def test_a_gradient_that_cannot_be_clipped_is_told_with_its_layer_and_its_step(monkeypatch):
    monkeypatch.setattr(train, "streams", unshuffled(train.streams))
    hook = After(lambda state: gradient(state, monkeypatch, X))
    words = r"gradient's norm is nan .*\n.*in epoch 1, batch 5 of 6, where the gradient of decoder\.1\.b is not finite"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=words):
        train.fit(model(reference), X, optimizer=SGD(0.1, clip_norm=1, kernels=reference), epochs=1, batch_size=4,
                  callbacks=[hook])
    assert hook.steps == STEP and np.isfinite(hook.theta).all()


@pytest.mark.parametrize("place", PLACES)
def test_the_last_good_checkpoint_is_named_and_is_good(place, tmp_path, monkeypatch):
    """One is written after every step, so the one before what is spoilt is there."""
    act = PLACES[place][0]
    x, path = X.copy(), tmp_path / "c.npz"
    hook = After(lambda state: act(state, monkeypatch, x))
    monkeypatch.setattr(train, "streams", unshuffled(train.streams))
    words = r"not finite|must be finite|the loss is nan"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=words) as caught:
        train.fit(model(reference), x, optimizer=Adam(1e-3, kernels=reference), epochs=2, batch_size=4,
                  callbacks=[hook, Checkpoint(path, seconds=0)])
    *others, kept = caught.value.__notes__
    assert kept == (f"the last good checkpoint, of {checkpoint.place(path)}, is kept: go on from there by "
                    f"train.fit(..., resume={str(path)!r})")
    assert checkpoint.place(path) in ("epoch 1, batch 3", "epoch 1, batch 4")
    assert "batch" in "".join([str(caught.value), *others])
    assert all(np.isfinite(array).all() for array in store.read(path)[0].values())


def unshuffled(streams):
    """The pictures of each batch as they stand, so that it is known when the spoilt one comes."""
    def of(seed):
        class Order:
            class bit_generator:
                random_raw, state = staticmethod(np.arange), {}

        return streams(seed)._replace(order=Order)

    return of


@pytest.mark.parametrize("validation", [None, X[:8]], ids=["without validation", "with validation"])
def test_what_the_last_step_of_an_epoch_breaks_is_no_epoch(validation):
    """The best weights, and every callback of the epoch's end, never see it."""
    told = []

    class Told(Callback):
        def on_epoch_end(self, state):
            told.append(np.isfinite(state.model.theta).all())

    class Breaks(SGD):
        def _update(self, K, theta, grad, lr):
            super()._update(K, theta, grad, lr)
            if self.steps == 12:
                theta[0] = np.nan

    with pytest.raises(ValueError, match=r"the loss is nan after epoch 2: .*encoder\.0\.W is not finite in 1 of 18"):
        train.fit(model(reference), X, optimizer=Breaks(0.1, kernels=reference), epochs=3, batch_size=4,
                  validation=validation, callbacks=[Told()])
    assert told == [True]


def test_a_moment_that_has_overflowed_is_found_at_the_end_of_its_epoch():
    """The square of a gradient of 1e25 is infinite in float32: m / sqrt(v) is 0 from then on, and the loss is fine."""
    class Steep(Adam):
        def _update(self, K, theta, grad, lr):
            if self.steps == 8:
                grad[0] = 1e25
            super()._update(K, theta, grad, lr)

    rows, words = History(), r"Steep's v is not finite in 1 of \d+ numbers after epoch 2: clip the gradient"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=words):
        train.fit(model(reference), X, optimizer=Steep(1e-3, kernels=reference), epochs=4, batch_size=4,
                  callbacks=[rows])
    assert len(rows) == 1


def test_the_loss_of_a_step_that_was_refused_leaves_theta_as_it_was():
    net = model(reference)
    before, x = net.theta.copy(), X[:4].copy()
    x[2, 0, 0, 0] = np.nan
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"1 of 64 numbers, first in picture \d of 0 to 3"):
        train.fit(net, x, optimizer=SGD(0.1, kernels=reference), epochs=1, batch_size=4,
                  transform=lambda x, rng: x)
    np.testing.assert_array_equal(net.theta, before)


def test_where_all_is_finite_or_the_search_fails_there_is_no_culprit():
    net = model(reference)
    assert culprit(net, X[:2]) == "" == culprit(net, X[:2], None, {"loss": math.nan, "recon": 1.0})
    assert culprit(net, X[:2, :3]) == "" == culprit(None, X[:2])  # and no other error in its place


def test_pictures_come_before_the_parameters_that_they_have_broken_and_the_first_one_is_named():
    net, x = model(reference), X[:4].copy()
    x[1, 0, 0, 0] = x[3, 0, 0, 0] = net.theta[0] = math.inf
    assert culprit(net, x).endswith("not finite in 2 of 64 numbers, first in picture 1 of 0 to 3")
