"""What happens beside a training: when callbacks are told, what they remember, and what they say."""
import csv
import io
import math
import os
import re
import select
import termios
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from npae import evaluate, figures, losses, models, train
from npae.callbacks import Animation, Callback, EarlyStopping, History, ModelCheckpoint, ProgressBar, State, progress
from npae.kernels import fast_conv, reference
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential
from npae.optim import Adam

SHAPE = (4, 4, 1)


def vae():
    rng = np.random.default_rng(1)
    encoder = Sequential([Flatten(), Dense(16, 4, rng=rng, kernels=reference)])
    decoder = Sequential([Dense(2, 16, rng=rng, kernels=reference), Reshape(SHAPE)])
    return models.VAE(encoder, decoder, likelihood=losses.Bernoulli(kernels=reference))


def pictures(n=20):
    return np.random.default_rng(0).random((n, *SHAPE)).astype(np.float32)


def fit(model, *hooks, **settings):
    return train.fit(model, pictures(), **{"optimizer": Adam(1e-2, kernels=reference), "epochs": 3, "batch_size": 8,
                                           "callbacks": hooks, **settings})


def state(model=None, **settings):
    optimizer = Adam(0.5, kernels=reference)
    return State(**{"model": model or vae(), "optimizer": optimizer, "epochs": 9, "steps": 3, "pixels": 16,
                    "images": 20, "seconds": 0.5, **settings})


def told(callback, values, monitor="val_loss", model=None):
    """Tell a callback of epochs with these values; gives State, as after the epoch that stopped it or the last."""
    now = state(model)
    for now.epoch, value in enumerate(values, 1):
        now.terms = {"loss": 9.0} if value is None else {"loss": 9.0, monitor: value}
        now.model.theta[...] = now.epoch
        callback.on_epoch_end(now)
        if now.stop:
            break
    return now


class Recorder(Callback):
    """Writes down each call, and what it could see."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def on_fit_begin(self, state):
        self.log.append((self.name, "begin", state.epoch))

    def on_batch_end(self, state):
        self.log.append((self.name, "batch", state.epoch, state.step))

    def on_epoch_end(self, state):
        self.log.append((self.name, "epoch", state.epoch, "val_loss" in state.terms))

    def on_fit_end(self, state):
        self.log.append((self.name, "end", state.epoch))


def test_callbacks_are_told_in_their_order_and_after_the_validation():
    log = []
    fit(vae(), Recorder("a", log), Recorder("b", log), epochs=2, batch_size=10, validation=pictures(4))
    moments = [("begin", 0), ("batch", 0, 1), ("batch", 0, 2), ("epoch", 1, True),
               ("batch", 1, 1), ("batch", 1, 2), ("epoch", 2, True), ("end", 2)]
    assert log == [(name, *moment) for moment in moments for name in ("a", "b")]


def test_a_callback_that_does_nothing_is_one():
    model, other = vae(), vae()
    fit(model, Callback())
    fit(other)
    np.testing.assert_array_equal(model.theta, other.theta)
    assert Callback().state() == {} and Callback().restore({}) is None


# -- History --


def test_a_history_is_written_as_it_is_read(tmp_path):
    history = fit(vae(), validation=pictures(4))
    history.write_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as lines:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    assert rows == history.rows and len(rows) == 3
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()
    History().write_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == "epoch\n"


def test_a_history_that_is_restored_goes_on_where_it_was():
    history, again = fit(vae()), History()
    kept = history.state()
    again.restore(kept)
    assert again.rows == history.rows and again["loss"] == history["loss"]
    again.rows[0]["loss"] = -1.0
    again.rows.pop()
    assert len(kept["rows"]) == len(history) == 3 and kept["rows"][0]["loss"] == history["loss"][0] != -1


def test_a_history_whose_later_rows_have_more_columns_is_written_whole(tmp_path):
    history = History()
    history.rows = [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 2.0, "val_loss": 2.25}]
    history.write_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,val_loss\n1,2.5,\n2,2.0,2.25\n"


# -- memories --


@pytest.mark.parametrize("make", [ModelCheckpoint, lambda: EarlyStopping(2)])
def test_a_new_training_forgets_the_best_of_an_earlier_one_and_a_resumed_one_does_not(make):
    memory = make()
    told(memory, [1.0, 4.0])
    memory.on_fit_begin(state(epoch=2))
    assert memory.best == 1.0
    memory.on_fit_begin(state(epoch=0))
    assert memory.state() == make().state()


def test_a_second_training_has_an_animation_of_its_own(monkeypatch):
    monkeypatch.setattr(figures, "training_gif", lambda frames, path: None)
    animation = Animation("training.gif", np.zeros((16, 2), np.float32), pictures(16))
    for _ in range(2):
        fit(vae(), animation, epochs=2)
        assert [frame[0] for frame in animation.frames] == [0, 1, 2]


def test_a_second_training_has_a_history_of_its_own():
    history = History()
    for epochs in (3, 2):
        rows = fit(vae(), history, epochs=epochs).rows
        assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
    history.on_fit_begin(state(epoch=2))
    assert len(history) == 2


# -- ModelCheckpoint --


def test_the_best_weights_are_kept_written_and_put_back(tmp_path):
    keeper = ModelCheckpoint(tmp_path / "best.npz")
    now = told(keeper, [5.0, 3.0, 3.0, math.nan, 4.0])
    assert (keeper.best, keeper.epoch) == (3.0, 2) and (now.model.theta == 5).all()
    assert all((p.value == 2).all() for p in models.load(tmp_path / "best.npz").params)
    view = now.model.params[0].value
    keeper.on_fit_end(now)
    assert (now.model.theta == 2).all() and (view == 2).all()  # in place: parameters are views


def test_a_fit_ends_with_the_weights_of_its_best_epoch():
    log, keeper, model, x = [], ModelCheckpoint(), vae(), pictures(6)

    class Thetas(Callback):
        def on_epoch_end(self, state):
            log.append(state.model.theta.copy())

    history = fit(model, Thetas(), keeper, epochs=6, optimizer=Adam(2.0, kernels=reference), validation=x)
    best = int(np.argmin(history["val_loss"]))
    assert keeper.epoch == best + 1 < 6 and keeper.best == history["val_loss"][best]
    np.testing.assert_array_equal(model.theta, log[best])
    assert evaluate.loss_terms(model, x, rng=train.streams(0).validation)["loss"] == keeper.best


def test_another_column_can_be_watched():
    keeper = ModelCheckpoint(monitor="val_recon")
    told(keeper, [2.0, 1.0, 3.0], "val_recon")
    assert keeper.epoch == 2


def test_without_validation_the_last_weights_stay_and_nothing_is_written(tmp_path):
    keeper = ModelCheckpoint(tmp_path / "best.npz")
    now = told(keeper, [None, None])
    keeper.on_fit_end(now)
    assert (now.model.theta == 2).all() and keeper.theta is None and not list(tmp_path.iterdir())


def test_a_keeper_that_is_restored_knows_the_best_so_far():
    keeper, again = ModelCheckpoint(), ModelCheckpoint()
    told(keeper, [5.0, 3.0])
    kept = keeper.state()
    told(keeper, [1.0])  # must not reach what was kept
    again.restore(kept)
    now = told(again, [4.0, 3.5, 3.2])  # theta is 3 now
    again.on_fit_end(now)
    assert (again.best, again.epoch) == (3.0, 2) and (now.model.theta == 2).all()
    assert ModelCheckpoint().state() == {"best": math.inf, "epoch": 0, "theta": None}


# -- EarlyStopping --


@pytest.mark.parametrize(("values", "epoch"), [
    ([5, 4, 4, 4], 4), ([5, 6, 4, 5, 3, 4, 5], 7), ([5, 5, 5], 3), ([5, math.nan, math.nan], 3), ([5, 4, 3, 2], None),
    ([5, 6, 4.5, 4.6, 4], None), ([None] * 8, None)],
    ids=["equal is not lower", "counts anew", "from the first", "not a number", "always lower", "one short", "none"])
def test_patience_counts_the_epochs_since_the_best_one(values, epoch):
    now = told(EarlyStopping(2), values)
    assert (now.epoch if now.stop else None) == epoch
    assert now.stop in (None, "val_loss has not become lower for 2 epochs")


def test_a_fit_is_stopped_after_the_epoch_and_callbacks_are_told_of_its_end():
    log = []
    history = fit(vae(), EarlyStopping(2, monitor="lower"), Recorder("a", log), epochs=9)
    assert len(history) == 9  # there is no such column

    class Worse(Callback):
        def on_epoch_end(self, state):
            state.terms["val_loss"] = float(state.epoch)

    log.clear()
    assert len(fit(vae(), Worse(), EarlyStopping(2), Recorder("a", log), epochs=9)) == 3
    assert log[-1] == ("a", "end", 3) and log[-2] == ("a", "epoch", 3, True)


def test_patience_below_one_epoch_is_refused():
    with pytest.raises(ValueError, match="patience must be an integer of at least 1, got 0"):
        EarlyStopping(0)


def test_patience_that_is_restored_goes_on_counting():
    stopping, again = EarlyStopping(3), EarlyStopping(3)
    told(stopping, [4.0, 5.0, 5.0])
    again.restore(stopping.state())
    assert stopping.state() == {"best": 4.0, "waited": 2}
    assert told(again, [4.5]).stop


# -- ProgressBar --


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setattr(progress, "compiled_before", lambda convolutions: True)


def test_where_there_is_no_terminal_each_epoch_is_a_plain_line(compiled):
    out = io.StringIO()
    history = fit(vae(), ProgressBar(out), epochs=2, validation=pictures(4))
    first, second = out.getvalue().splitlines()
    row = history.rows[0]
    terms = re.escape(f"loss {row['loss']:.2f} (recon {row['recon']:.2f}, kl {row['kl']:.2f}, "
                      f"val_loss {row['val_loss']:.2f}) nats per image")
    assert re.fullmatch(rf"epoch 1/2: {terms}, [\d,]+ pictures/s, \d+\.\d s, \d:\d\d left", first)
    assert second.startswith("epoch 2/2: ") and second.endswith(" s, 0:00 left")


def test_of_very_many_epochs_not_every_one_has_a_line(compiled):
    for epochs, stop, said in ((100, 0, range(1, 101)), (250, 0, [1, *range(3, 250, 3), 250]), (250, 5, [1, 3, 5])):
        out, now = io.StringIO(), state(epochs=epochs, images=1, seconds=1.0, terms={"loss": 1.0})
        bar = ProgressBar(out)
        for now.epoch in range(1, (stop or epochs) + 1):
            now.stop = "enough" if now.epoch == stop else None
            bar.on_epoch_end(now)
        assert [int(line.split()[1].split("/")[0]) for line in out.getvalue().splitlines()] == list(said)


def test_the_line_has_the_figures_of_state(compiled):
    out = io.StringIO()
    now = state(epoch=4, images=60_000, seconds=12.34, terms={"loss": 31.5, "recon": 31.5})
    now.model.likelihood = losses.SquaredError()
    ProgressBar(out).on_epoch_end(now)
    assert out.getvalue() == ("epoch 4/9: loss 31.50 squared grey level per image (1.96875 per pixel), "
                              "4,862 pictures/s, 12.3 s, 1:02 left\n")
    now.seconds = 1234.5
    ProgressBar(out).on_epoch_end(now)
    assert out.getvalue().endswith(", 1234.5 s, 1:42:52 left\n")


def test_on_a_terminal_of_80_columns_nothing_is_cut_off(compiled):
    """A bar with speed and time on one line, the terms with their unit under it; the epoch's line takes their place."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    now = state(epoch=9, epochs=10, steps=40, images=12_800, terms={"loss": 160.123, "recon": 155.002, "kl": 5.121})
    with os.fdopen(slave, "w") as out:
        bar = ProgressBar(out)
        for now.step in range(1, 41):
            now.seconds = now.step / 4
            bar.on_batch_end(now)
            time.sleep(0.01)
        now.epoch, now.terms["val_loss"] = 10, 161.0
        bar.on_epoch_end(now)
        text = ""
        while select.select([master], [], [], 0.2)[0]:  # it comes in pieces
            text += os.read(master, 65536).decode()
    os.close(master)
    assert bar.bars == ()
    *lines, last, end = [line.strip() for line in re.split(r"[\r\n]+|\x1b\[A", text)]
    assert max(map(len, lines)) < 80
    assert "loss 160.12 (recon 155.00, kl 5.12) nats per image" in lines
    bars = [line for line in lines if "%, " in line]
    assert bars and all(re.fullmatch(r"epoch 10/10 +\d+%, [\d,]+ pictures/s, \d:\d\d left \|.{20,}\|", b) for b in bars)
    assert last == ("epoch 10/10: loss 160.12 (recon 155.00, kl 5.12, val_loss 161.00) nats per image, "
                    "1,280 pictures/s, 10.0 s, 0:00 left")
    assert end == ""


@pytest.mark.parametrize(("step", "left"), [(100, "1:28 left"), (400, "0:50 left")])
def test_the_bar_tells_the_time_of_all_epochs(step, left, compiled):
    """An epoch of 400 steps takes 50 seconds; 8 of 10 epochs and `step` steps are done."""
    out = Terminal()
    bar, now = ProgressBar(out), state(epoch=8, epochs=10, steps=400, step=step, seconds=step / 8, terms={"loss": 1.0})
    bar.on_batch_end(now)
    time.sleep(0.2)  # it is drawn ten times a second
    bar.on_batch_end(now)
    assert left in out.getvalue()


def test_a_bar_makes_room_for_the_message_of_an_exception(compiled):
    class Interrupted(Callback):
        def on_batch_end(self, state):
            if state.step == 2:
                raise KeyboardInterrupt

    out = Terminal()
    bar = ProgressBar(out)
    with pytest.raises(KeyboardInterrupt):
        fit(vae(), bar, Interrupted())
    assert bar.bars == ()
    assert out.getvalue().endswith("\r")
    assert not out.getvalue().rsplit("\r", 2)[1].strip()


def test_compiling_is_said_when_there_are_no_compiled_kernels_yet(monkeypatch):
    for before in (True, False):
        monkeypatch.setattr(progress, "compiled_before", lambda convolutions, before=before: before)
        out = io.StringIO()
        fit(vae(), ProgressBar(out), epochs=1)
        assert out.getvalue().startswith("compiling the kernels for this machine (once") != before
        assert len(out.getvalue().splitlines()) == 2 - before


def test_compiled_kernels_are_found_in_numbas_cache(monkeypatch, tmp_path):
    assert fast_conv._conv_forward.stats.cache_path  # the name and the attribute that the search relies on
    stand_in = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(fast_conv, "_conv_forward", stand_in)
    assert not progress.compiled_before()
    (tmp_path / "fast_dense._forward-90.py311.nbi").touch()
    assert progress.compiled_before(convolutions=False) and not progress.compiled_before()
    (tmp_path / "fast_conv._conv_forward-179.py311.nbi").touch()
    assert progress.compiled_before()


def test_a_model_without_convolutions_asks_for_the_kernels_of_dense_layers_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(progress, "compiled_before", lambda convolutions: asked.append(convolutions) or True)
    for layers in ([Flatten(), Dense(16, 2)], [Conv2d(1, 1, 3), Flatten(), Dense(16, 2)]):
        model = models.Autoencoder(Sequential(layers), Sequential([Dense(2, 16), Reshape(SHAPE)]))
        ProgressBar(io.StringIO()).on_fit_begin(State(model, Adam(), 1, 1, 16))
    assert asked == [False, True]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_reason_of_an_early_end_is_said_wherever_the_bar_stands_among_the_callbacks(compiled, stream):
    class Stop(Callback):
        def on_epoch_end(self, state):
            state.stop = "it is late" if state.epoch == 2 else None

    for order in (1, -1):
        out = stream()
        fit(vae(), *[ProgressBar(out), Stop()][::order])
        assert out.getvalue().endswith("\nstopped after epoch 2: it is late\n")
        assert out.getvalue().count("stopped") == 1


# -- Animation --


def test_an_animation_has_a_frame_before_the_training_and_one_after_every_epoch(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "training_gif", lambda frames, path: drawn.append((list(frames), path)))
    model, codes, x = vae(), np.random.default_rng(2).standard_normal((16, 2)).astype(np.float32), pictures(16)
    untrained = model.decode(codes)
    fit(model, Animation("training.gif", codes, x), epochs=2)
    (frames, path), = drawn
    assert path == "training.gif" and [frame[0] for frame in frames] == [0, 1, 2]
    assert all(frame[2] is x for frame in frames)
    np.testing.assert_array_equal(frames[0][1], untrained)
    np.testing.assert_array_equal(frames[2][1], model.decode(codes))
    np.testing.assert_array_equal(frames[2][3], model.reconstruct(x))
    assert not np.array_equal(frames[1][3], frames[2][3])  # each frame is of its own epoch


def test_an_animation_is_written_as_a_gif(tmp_path):
    fit(vae(), Animation(tmp_path / "training.gif", np.zeros((16, 2), np.float32), pictures(16)), epochs=1)
    with Image.open(tmp_path / "training.gif") as gif:
        assert gif.format == "GIF" and gif.n_frames == 2


def test_an_animation_leaves_the_training_as_it_is(monkeypatch):
    monkeypatch.setattr(figures, "training_gif", lambda frames, path: None)
    model, other = vae(), vae()
    fit(model, Animation("training.gif", np.zeros((16, 2), np.float32), pictures(16)))
    fit(other)
    np.testing.assert_array_equal(model.theta, other.theta)


def test_an_animation_that_is_restored_has_its_frames_and_does_not_begin_again(monkeypatch):
    monkeypatch.setattr(figures, "training_gif", lambda frames, path: None)
    model, codes, x = vae(), np.zeros((16, 2), np.float32), pictures(16)
    first, again = Animation("a.gif", codes, x), Animation("a.gif", codes, x)
    fit(model, first, epochs=2)
    again.restore(first.state())
    again.on_fit_begin(state(model, epoch=2))
    assert len(again.frames) == 3
    for got, frame in zip(again.frames, first.frames, strict=True):
        assert got[0] == frame[0] and got[2] is x
        np.testing.assert_array_equal(got[1], frame[1])
        np.testing.assert_array_equal(got[3], frame[3])
    again.on_epoch_end(state(model, epoch=3))
    assert [frame[0] for frame in again.frames] == [0, 1, 2, 3]
