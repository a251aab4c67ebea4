"""A training that was interrupted and goes on is, to the bit, the one that was not; nothing else is gone on with."""
import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from trainings import SHAPE, Fit, Kill, Killed, adam, pictures, vae

from npae import checkpoint, losses, models, optim, store, train
from npae.callbacks import Callback, State
from npae.checkpoint import Checkpoint, CheckpointError, tree
from npae.data.batches import binarize_sample
from npae.kernels import reference
from npae.layers import Dense, Reshape, Sequential

MAKERS = {"SGD": lambda: optim.SGD(0.1, kernels=reference), "Momentum": lambda: optim.Momentum(0.01, kernels=reference),
          "RMSprop": lambda: optim.RMSprop(kernels=reference), "Adam": adam,
          "AdamW with a schedule": lambda: optim.AdamW(optim.CosineDecay(0.02, 15), kernels=reference, clip_norm=50)}


@pytest.mark.parametrize("name", MAKERS)
def test_killed_after_any_batch_and_resumed_it_is_the_same_training(name, tmp_path):
    """3 batches an epoch: 15 places, of which 4 lie between two epochs. The kill comes before the batch is saved."""
    whole = Fit(MAKERS[name]).run().all()
    for batches in range(2, 16) if name == "Adam" else (2, 7):
        Fit(MAKERS[name], tmp_path).killed_after(batches)
        assert Fit(MAKERS[name], tmp_path).run(resume=tmp_path / "c.npz").all() == whole, f"killed after {batches}"


@pytest.mark.parametrize("twice", [(4, 1), (4, 2), (2, 9), (5, 5)])
def test_killed_twice_it_is_the_same_training_too(twice, tmp_path):
    first, second = twice
    Fit(folder=tmp_path).killed_after(first)
    Fit(folder=tmp_path).killed_after(second, resume=tmp_path / "c.npz")
    assert Fit(folder=tmp_path).run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_what_is_resumed_is_what_is_in_the_file_and_not_what_the_callbacks_remember(tmp_path):
    interrupted = Fit(folder=tmp_path, seconds=0.0).killed_after(8)
    interrupted.saver = [Checkpoint(tmp_path / "other.npz")]
    interrupted.optimizer = adam()  # its settings must be those of the beginning
    assert interrupted.run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_more_epochs_may_be_asked_for(tmp_path):
    short = Fit(folder=tmp_path)
    short.epochs = 2
    short.run()
    assert Fit(folder=tmp_path).run(resume=tmp_path / "c.npz").all() == Fit().run().all()
    with pytest.raises(CheckpointError, match="stands in batch 0 after 5 epochs, and the fit has 3 batches and 2 ep"):
        short.run(resume=tmp_path / "c.npz")


def test_fewer_epochs_than_the_one_in_which_it_stands_are_refused(tmp_path):
    Fit(folder=tmp_path).killed_after(5)  # in the second epoch
    short = Fit()
    short.epochs = 1
    theta = short.model.theta.copy()
    with pytest.raises(CheckpointError, match="stands in batch 1 after 1 epochs, and the fit has 3 batches and 1 ep"):
        short.run(resume=tmp_path / "c.npz")
    np.testing.assert_array_equal(short.model.theta, theta)


@pytest.mark.parametrize("path", [True, 1, 2.5, ["c.npz"], b"c.npz"])
def test_what_is_no_path_is_not_opened(path):
    with pytest.raises(ValueError, match=r"resume is the path of a checkpoint, such as 'c\.npz', got "):
        Fit().run(resume=path)
    os.fstat(1)  # open(True) would have closed it


def test_a_training_that_had_ended_early_does_not_go_on(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, state):
            state.stop = "enough" if state.epoch == 2 else None

    once = Fit(folder=tmp_path).run(Stop())
    again = Fit(folder=tmp_path).run(resume=tmp_path / "c.npz")
    assert again.all() == once.all() and len(again.history) == 2


def test_a_rate_that_a_callback_has_changed_is_not_forgotten(tmp_path):
    class Plateau(Callback):
        def on_epoch_end(self, state):
            state.optimizer.lr /= 2

    whole = Fit().run(Plateau())
    with pytest.raises(Killed):
        Fit(folder=tmp_path).run(Plateau(), Kill(8))
    again = Fit(folder=tmp_path).run(Plateau(), resume=tmp_path / "c.npz")
    assert again.all() == whole.all() and again.optimizer.lr == 0.01 / 2 ** 5


def test_kernels_that_are_compiled_go_on_to_the_same_bits(tmp_path):
    """A tied model on the fast kernels, shuffled, without validation."""
    def model():
        from npae import nets

        encoder, decoder = nets.tied_pair(SHAPE, [8, 3], activation="tanh", pixels="tanh", rng=np.random.default_rng(1))
        return models.Autoencoder(encoder, decoder, likelihood=losses.SquaredError())

    def fit(model, *hooks, **more):
        return train.fit(model, pictures(), optimizer=optim.Adam(1e-2), epochs=3, batch_size=8, callbacks=hooks, **more)

    whole, again = model(), model()
    fit(whole)
    with pytest.raises(Killed):
        fit(model(), Kill(5), Checkpoint(tmp_path / "c.npz", seconds=0))
    fit(again, resume=tmp_path / "c.npz")
    assert again.theta.tobytes() == whole.theta.tobytes()


# -- when it is saved --


def test_it_is_saved_where_it_is_time_to_and_after_the_last_epoch(tmp_path, monkeypatch):
    """A clock that goes one second a look; the first look is at the beginning."""
    saved, now = [], [0.0]

    def monotonic():
        now[0] += 1
        return now[0]

    monkeypatch.setattr("npae.checkpoint.callback.time.monotonic", monotonic)
    monkeypatch.setattr("npae.checkpoint.callback.save", lambda path, state: saved.append((state.epoch, state.step,
                                                                                          state.order is None)))
    fit = Fit(folder=tmp_path, seconds=1e9)
    fit.epochs = 2
    fit.run()
    assert saved == [(2, 3, True)]
    saved.clear()
    fit.saver = [Checkpoint(tmp_path / "c.npz", seconds=3)]
    fit.run()
    assert saved == [(0, 3, False), (1, 2, False), (2, 3, True)]


def test_what_a_dead_process_left_half_written_goes_when_the_next_fit_begins(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".npae-{store.files.HOST}-{dead.pid}-00.tmp").write_text("half")
    Fit(folder=tmp_path).run()
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


def test_what_another_training_has_left_is_not_said_to_be_kept_of_this_one(tmp_path):
    Fit(folder=tmp_path).run()
    with pytest.raises(Killed) as caught:
        Fit(folder=tmp_path, seconds=1e6).run(Kill(2))
    assert not hasattr(caught.value, "__notes__")


def test_seconds_go_on_where_they_were_and_memories_are_told_apart_by_their_kind(tmp_path):
    Fit(folder=tmp_path, seconds=0.0).killed_after(5)
    kept = store.read(tmp_path / "c.npz")[1]["training"]["seconds"]
    began = []

    class Looks(Callback):
        def on_fit_begin(self, state):
            began.append(state.seconds)

    Fit(folder=tmp_path).run(Looks(), resume=tmp_path / "c.npz")
    assert began == [kept] and kept > 0
    other = Fit(folder=tmp_path)
    other.memories[1], other.memories[2] = other.memories[2], other.memories[1]
    Fit(folder=tmp_path, seconds=0.0).killed_after(5)
    with pytest.raises(store.CheckpointError, match="pass the same ones in the same order"):
        other.run(resume=tmp_path / "c.npz")


def test_a_checkpoint_is_told_last(tmp_path):
    told = []
    saver, watch = Checkpoint(tmp_path / "c.npz", seconds=0), Callback()
    saver.on_epoch_end = lambda state: told.append("saver")
    watch.on_epoch_end = lambda state: told.append("watch")
    fit = Fit()
    fit.memories = [saver, watch, *fit.memories]
    fit.epochs = 1
    fit.run()
    assert told == ["watch", "saver"]
    fit.memories.append(Checkpoint(tmp_path / "d.npz"))
    with pytest.raises(ValueError, match="callbacks has 2 Checkpoints or more"):
        fit.run()


@pytest.mark.parametrize(("make", "words"), [
    (lambda folder: Checkpoint(folder / "c.npz", seconds=-1), "seconds must be at least 0, got -1"),
    (lambda folder: Checkpoint(folder / "c.npz", seconds=math.nan), "seconds must be at least 0, got nan"),
    (lambda folder: Fit(folder=folder / "nowhere").run(), "there is no folder .*nowhere for c.npz"),
    (lambda folder: Fit(folder=folder).run(optimizer=optim.LBFGS()), "L-BFGS keeps its memory inside SciPy")])
def test_what_cannot_be_saved_is_told_in_the_beginning(make, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["theta", "v", "m"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_that_is_not_finite_is_saved_and_the_checkpoint_before_stays(where, bad, tmp_path):
    class Breaks(Callback):
        def on_batch_end(self, state):
            if (state.epoch, state.step) == (2, 1):
                vector = state.model.params[2].value.ravel() if where == "theta" else state.optimizer.moments[where]
                vector[1] = bad

    name = "decoder.0.W" if where == "theta" else f"Adam's {where}"
    name = vae().params[2].name if where == "theta" else name
    with pytest.raises(ValueError, match=f"{name} is not finite after batch 1 of epoch 3, and is not saved; the check"):
        Fit(folder=tmp_path).run(Breaks())
    assert checkpoint.place(tmp_path / "c.npz") == "epoch 2"
    assert Fit().run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_the_best_weights_are_never_those_of_something_broken():
    class Breaks(Callback):
        def on_epoch_end(self, state):
            if state.epoch == 2:
                state.terms["val_loss"] = -math.inf
            if state.epoch == 3:
                state.terms["val_loss"], state.model.theta[0] = -1e9, math.nan

    fit = Fit()
    with pytest.raises(ValueError, match="the loss is nan in epoch 4, batch 1"):
        fit.run(Breaks())
    assert fit.best.epoch == 1 and math.isfinite(fit.best.best) and np.isfinite(fit.best.theta).all()
    np.testing.assert_array_equal(fit.model.theta, fit.best.theta)  # what the user is left with


# -- what is refused --


def changed(fit, what):
    if what == "the callbacks":
        fit.memories.pop()
    return {"another seed": {"seed": 4}, "another batch size": {"batch_size": 9}, "other pictures": {},
            "another validation": {"validation": pictures(6, 2)}, "another transform": {"transform": None},
            "another optimizer": {"optimizer": optim.RMSprop(kernels=reference)},
            "another rate": {"optimizer": adam(1e-3)}, "the callbacks": {},
            "no short batch": {"drop_last": True}}[what]


@pytest.mark.parametrize(("what", "words"), [
    ("another seed", "its seed is 3, and this fit's is 4; pass what the interrupted fit was given"),
    ("another batch size", "its batch_size is 8, and this fit's is 9"),
    ("another validation", "its validation is "), ("another transform", 'its transform is "binarize_sample", and this'),
    ("another optimizer", 'its optimizer is {"optimizer": "Adam", .*RMSprop'),
    ("another rate", r"its optimizer.lr is 0.01, and this fit's is 0.001;"),
    ("no short batch", "its drop_last is false, and this fit's is true"),
    ("the callbacks", "memories of History, ModelCheckpoint, EarlyStopping, Animation, and the callbacks that rem.* "
                      "are History, ModelCheckpoint, EarlyStopping: pass the same")])
def test_a_fit_that_is_another_is_refused_with_what_is_different(what, words, tmp_path):
    Fit(folder=tmp_path).killed_after(5)
    fit = Fit()
    theta = fit.model.theta.copy()
    with pytest.raises(CheckpointError, match=words):
        fit.run(resume=tmp_path / "c.npz", **changed(fit, what))
    np.testing.assert_array_equal(fit.model.theta, theta)


def test_other_pictures_and_another_model_are_refused(tmp_path):
    Fit(folder=tmp_path).killed_after(5)
    settings = {"optimizer": adam(), "batch_size": 8, "seed": 3, "resume": tmp_path / "c.npz"}
    with pytest.raises(CheckpointError, match=r"its model.encoder.layers.1.amount is 0.1, and this fit's is 0.2"):
        train.fit(vae(noise=0.2), pictures(), transform=binarize_sample, validation=pictures(6, 1), **settings)
    one = pictures()
    one[19, 3, 3] ^= 1
    with pytest.raises(CheckpointError, match="its data is "):
        train.fit(vae(), one, transform=binarize_sample, validation=pictures(6, 1), **settings)
    for same_bytes in (pictures().reshape(20, 2, 8, 1), pictures().view(np.int8)):
        assert checkpoint.file._sha256([same_bytes]) != checkpoint.file._sha256([pictures()])
    with pytest.raises(FileNotFoundError):
        Fit().run(resume=tmp_path / "nothing.npz")
    vae().save(tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match=r"model.npz is no checkpoint: it should have kind, versions"):
        Fit().run(resume=tmp_path / "model.npz")


def test_of_all_that_is_different_the_data_are_told_first(tmp_path):
    """A model may have been built by their mean."""
    Fit(folder=tmp_path).killed_after(5)
    with pytest.raises(CheckpointError, match="its data is "):
        train.fit(vae(noise=0.2), pictures(seed=1), seed=4, resume=tmp_path / "c.npz")


def test_labels_in_a_list_and_numbers_of_numpy_are_saved_like_any_others(tmp_path):
    def fit(**more):
        rng = np.random.default_rng(1)
        encoder = Sequential([Dense(18, 4, rng=rng, kernels=reference)])
        decoder = Sequential([Dense(4, 16, rng=rng, kernels=reference), Reshape(SHAPE)])
        model = models.ConditionalVAE(encoder, decoder, classes=2, likelihood=losses.Bernoulli(kernels=reference))
        train.fit(model, pictures(4), [0, 1, 1, 0], validation=(pictures(2), [0, 1]), batch_size=np.int32(2),
                  seed=np.int64(1), drop_last=np.bool_(True), epochs=2, optimizer=adam(), **more)
        return model.theta

    whole = fit(callbacks=[Checkpoint(tmp_path / "c.npz")])
    np.testing.assert_array_equal(fit(resume=tmp_path / "c.npz"), whole)


def rewritten(path, change):
    """The file with its meta changed by a function on its parts."""
    arrays, meta = store.read(path)
    change(meta, meta["training"], arrays)
    store.write(path, arrays, meta)


def forge_order(meta, training, arrays):
    arrays["order"][0] = arrays["order"][1]


def forge_size(meta, training, arrays):
    arrays["theta"] = arrays["theta"][:-1]


def forge_moment(meta, training, arrays):
    arrays["optimizer.m"] = arrays["optimizer.m"].astype(np.float64)


@pytest.mark.parametrize(("change", "words"), [
    (lambda m, t, a: m.update(kind="npae checkpoint 2"), "is no checkpoint"),
    (lambda m, t, a: m["config"].update(seed=4), "with a config that its digest fits"),
    (lambda m, t, a: m.pop("versions"), "it should have kind, versions"),
    (lambda m, t, a: m["versions"].pop("numpy"), "its versions"),
    (lambda m, t, a: t.update(epoch=None), "its place in the training, are not there"),
    (lambda m, t, a: t.update(epoch=-1), "stands in batch 1 after -1 epochs"),
    (lambda m, t, a: t.update(step=4), "stands in batch 4"),
    (lambda m, t, a: t.pop("stop"), "it should have theta, optimizer"),
    (lambda m, t, a: t.update(more=1), "and nothing else"),
    (lambda m, t, a: t.update(stop=3), "its stop is of the kind int"),
    (lambda m, t, a: t["generators"].pop("noise"), "it has the generators init, order"),
    (lambda m, t, a: t["generators"].update(noise={"bit_generator": "os.system"}), "is refused: "),
    (lambda m, t, a: t["generators"]["noise"]["state"].update(state="7"), "is refused: "),
    (lambda m, t, a: t["optimizer"].pop("v"), "arrays have no place in it: optimizer.v"),
    (lambda m, t, a: t["optimizer"].update(m=t["optimizer"]["v"]), "stands for nothing that the file has"),
    (lambda m, t, a: t["optimizer"].update(lr=-1.0), "lr must be finite and at least 0, got -1"),
    (lambda m, t, a: t["sums"].update(loss="4"), "is refused: TypeError"),
    (lambda m, t, a: t["callbacks"][1].append(3), "is refused: "),
    (lambda m, t, a: t["callbacks"][0][1].pop("rows"), "is refused: KeyError 'rows'"),
    (lambda m, t, a: t.update(stop={"$code": "print()"}), "stands for nothing"),
    (lambda m, t, a: t.update(seconds={"$float": "__import__('os')"}), "stands for nothing"),
    (forge_order, "its order does not name each picture once"),
    (forge_size, r"vector of float32 \(\d+,\), and the model's theta is float32"),
    (forge_moment, "it has a vector of float64")])
def test_a_checkpoint_that_was_forged_is_refused_and_theta_stays(change, words, tmp_path):
    Fit(folder=tmp_path).killed_after(5)
    rewritten(tmp_path / "c.npz", change)
    fit = Fit()
    theta = fit.model.theta.copy()
    with pytest.raises(CheckpointError, match=words) as caught:
        fit.run(resume=tmp_path / "c.npz")
    assert str(tmp_path / "c.npz") in str(caught.value)
    np.testing.assert_array_equal(fit.model.theta, theta)


def test_where_the_bits_cannot_be_the_same_that_is_said(tmp_path):
    Fit(folder=tmp_path).killed_after(5)
    rewritten(tmp_path / "c.npz", lambda m, t, a: m["versions"].update(numpy="1.0", machine="abacus"))
    with pytest.warns(RuntimeWarning, match="not bit-exact here, because numpy was 1.0 and is .* and machine was abac"):
        Fit().run(resume=tmp_path / "c.npz")


# -- the tree --


@pytest.mark.parametrize("value", [
    None, True, 3, 2 ** 127, 0.1, -0.0, math.inf, -math.inf, "größe", [1, [2.5, {}]], {"a": {"b": []}}])
def test_what_json_can_hold_and_infinity_come_back(value):
    arrays = {}
    back = tree.decode(json.loads(json.dumps(tree.encode(value, "x", arrays), allow_nan=False)), arrays)
    assert back == value and type(back) is type(value) and not arrays
    assert math.copysign(1, back) == math.copysign(1, value) if isinstance(value, float) else True


def test_arrays_and_numbers_of_numpy_come_back_as_they_were():
    value = {"theta": np.arange(3.0), "rows": [{"x": np.ones((2, 1), np.int8)}, np.float32(0.1)], "best": np.float64(2)}
    arrays = {}
    kept = json.loads(json.dumps(tree.encode(value, "memory", arrays)))
    assert set(arrays) == {"memory.theta", "memory.rows.0.x", "memory.rows.1"}
    back = tree.decode(kept, arrays)
    assert not arrays and back["rows"][0]["x"].dtype == np.int8 and back["best"] == 2
    assert type(back["rows"][1]) is np.float32 and back["rows"][1] == np.float32(0.1)
    assert math.isnan(tree.decode(tree.encode(math.nan, "", {}), {}))
    with pytest.raises(store.StoreError, match=r"memory has the key '\$array', and keys that begin with \$"):
        tree.encode({"$array": "theta"}, "memory", {})


def test_two_arrays_of_one_path_are_refused_when_they_are_saved_and_not_when_they_are_read():
    with pytest.raises(store.StoreError, match=r"two arrays have the path memory\.a\.0: use keys without dots"):
        tree.encode({"a.0": np.zeros(1), "a": [np.ones(1)]}, "memory", {})


@pytest.mark.parametrize(("memory", "words"), [
    ({"model": object()}, r"the memory of Odd goes into no checkpoint: Odd\.state\(\)\['model'\] is object"),
    ({"names": np.array(["a"])}, r"of Odd goes into no checkpoint: array 'state.names' has dtype <U1"),
    ({"$x": 1}, r"of Odd goes into no checkpoint: state has the key '\$x'")])
def test_a_memory_that_no_file_can_hold_is_told_before_the_fit_begins(memory, words, tmp_path):
    class Odd(Callback):
        def state(self):
            return memory

        def restore(self, state):
            """Nothing."""

        def on_batch_end(self, state):
            raise AssertionError("it has begun")

    with pytest.raises(ValueError, match=words):
        Fit(folder=tmp_path).run(Odd())
    assert not list(tmp_path.iterdir())


def test_a_memory_that_is_never_taken_back_is_refused(tmp_path):
    class Forgets(Callback):
        def state(self):
            return {"n": 1}

    with pytest.raises(ValueError, match=r"Forgets has a state\(\) and no restore\(state\)"):
        Fit(folder=tmp_path).run(Forgets())


def test_a_state_is_fresh_before_its_first_batch_alone():
    state = State(vae(), adam(), 3, 3, 16)
    assert state.fresh
    state.step = 1
    assert not state.fresh
    state.epoch, state.step = 1, 0
    assert not state.fresh


def test_nothing_is_said_where_all_is_as_it_was(tmp_path):
    Fit(folder=tmp_path).killed_after(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fit().run(resume=tmp_path / "c.npz")
