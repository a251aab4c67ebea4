"""Ctrl-C and SIGTERM: the batch ends, all is saved, a sentence says how to go on; a second one stops at once.

`pytest -m slow tests/test_checkpoint_signals.py` sends 50 signals to real trainings.
"""
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from trainings import Fit, draw_one, pictures

from npae import checkpoint, data, optim, store, train
from npae.callbacks import Callback
from npae.checkpoint import Checkpoint, Interrupted
from npae.cli import main
from npae.recipes import RECIPES

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


class Rings(Callback):
    """A signal after so many batches, in the middle of a step or after an epoch."""

    def __init__(self, number, batches=None, epoch=None):
        self.number, self.batches, self.epoch = number, batches, epoch

    def on_batch_end(self, state):
        if self.batches == 3 * state.epoch + state.step:
            signal.raise_signal(self.number)

    def on_epoch_end(self, state):
        if self.epoch == state.epoch:
            signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def handlers_are_given_back():
    """Those of a shell's foreground to begin with: what it starts in the background ignores Ctrl-C, children too."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert {number: signal.getsignal(number) for number in usual} == usual
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
@pytest.mark.parametrize("where", [{"batches": 1}, {"batches": 2}, {"batches": 3}, {"batches": 8}, {"epoch": 2},
                                   {"epoch": 5}], ids=str)
def test_a_fit_that_is_asked_to_stop_saves_and_goes_on_to_the_same_bits(number, where, tmp_path):
    batches, epoch = where.get("batches", 0), where.get("epoch", 0)
    said = f"in epoch {1 + (batches - 1) // 3}, after batch {1 + (batches - 1) % 3} of 3"
    if epoch:
        said = f"after epoch {epoch} of 5"
    words = f"stopped by {number.name} {said}, and saved: go on by train.fit(..., resume='{tmp_path / 'c.npz'}')"
    with pytest.raises(Interrupted, match=re.escape(words)) as caught:
        Fit(folder=tmp_path, seconds=1e9).run(Rings(number, **where))
    assert caught.value.status == 128 + number and isinstance(caught.value, KeyboardInterrupt)
    assert Fit().run(resume=tmp_path / "c.npz").all() == Fit().run().all()


@BOTH
def test_in_the_middle_of_a_step_the_step_is_done_first(number, tmp_path, monkeypatch):
    right, calls = optim.Adam.step, []

    def step(self, theta, grad):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(number)
        right(self, theta, grad)

    monkeypatch.setattr(optim.Adam, "step", step)
    with pytest.raises(Interrupted, match="in epoch 2, after batch 2 of 3"):
        Fit(folder=tmp_path, seconds=1e9).run()
    assert len(calls) == 5 and checkpoint.place(tmp_path / "c.npz") == "epoch 2, batch 2"


def test_a_validation_is_not_waited_for_and_is_done_anew(tmp_path, monkeypatch):
    """It may be long, and nothing of the training moves in it."""
    right, calls = train.loss_terms, []

    def loss_terms(*args, **settings):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the validation went on")
        return right(*args, **settings)

    monkeypatch.setattr(train, "loss_terms", loss_terms)
    with pytest.raises(Interrupted, match="in epoch 2, after batch 3 of 3"):
        Fit(folder=tmp_path, seconds=1e9).run()
    assert checkpoint.place(tmp_path / "c.npz") == "epoch 2, batch 3"
    assert Fit().run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_before_the_first_step_there_is_nothing_to_wait_for(tmp_path):
    class Early(Callback):
        def on_fit_begin(self, state):
            state.optimizer.step = lambda theta, grad: signal.raise_signal(signal.SIGTERM) or pytest.fail("went on")

    with pytest.raises(Interrupted, match="stopped by SIGTERM before the first step was done: there was nothing to"):
        Fit(folder=tmp_path).run(Early())
    assert not list(tmp_path.iterdir())


def test_a_second_signal_stops_at_once_and_the_checkpoint_before_stays(tmp_path):
    fit = Fit(folder=tmp_path, seconds=0.0)
    right, calls = fit.model.backward, []

    def backward():
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        right()

    fit.model.backward = backward
    with pytest.raises(KeyboardInterrupt) as caught:
        fit.run()
    assert type(caught.value) is KeyboardInterrupt
    assert checkpoint.place(tmp_path / "c.npz") == "epoch 2, batch 1"
    assert Fit().run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_when_all_is_saved_already_it_stops_at_once_and_nothing_is_saved_again(tmp_path):
    """The signal comes while the animation is being written, after the best weights were put back."""
    class Late(Callback):
        def on_fit_end(self, state):
            state.model.theta[...] = 7  # as best weights that are not the last ones
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the animation was waited for")

    fit = Fit(folder=tmp_path)
    fit.memories.append(Late())
    with pytest.raises(Interrupted, match="after epoch 5 of 5, and saved"):
        fit.run()
    assert not (store.read(tmp_path / "c.npz")[0]["theta"] == 7).any()
    assert Fit().run(resume=tmp_path / "c.npz").all() == Fit().run().all()


def test_a_signal_while_a_checkpoint_is_being_written_waits_for_it(tmp_path, monkeypatch):
    right, calls = os.replace, []

    def replace(*paths):
        calls.append(1)
        if len(calls) == 15:  # the last one: after it nothing is left to be saved
            signal.raise_signal(signal.SIGINT)
        right(*paths)

    monkeypatch.setattr(os, "replace", replace)
    fit = Fit(folder=tmp_path, seconds=0.0)
    fit.epochs = 4
    with pytest.raises(Interrupted, match="after epoch 4 of 4, and saved"):
        fit.run()
    assert checkpoint.place(tmp_path / "c.npz") == "epoch 4" and len(list(tmp_path.iterdir())) == 1


def test_who_ignores_a_signal_goes_on_ignoring_it(tmp_path):
    """As a shell's `nohup` and `&` ask for."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Fit(folder=tmp_path).run(Rings(signal.SIGINT, batches=4))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_is_ended_by_sigterm_and_saves_nothing(tmp_path):
    """As the workers of a multiprocessing.Pool that a callback opens: the pool would wait for them for ever."""
    class Forks(Callback):
        def on_epoch_end(self, state):
            ready, tell = os.pipe()
            child = os.fork()
            if child == 0:
                state.at_rest = True  # the worst moment: the one that trains would save at once
                os.write(tell, b"!")
                while True:
                    time.sleep(0.01)
            os.read(ready, 1)  # what comes before Python runs again after a fork is forgotten
            os.close(ready)
            os.close(tell)
            os.kill(child, signal.SIGTERM)
            for _ in range(6_000):
                if (ended := os.waitpid(child, os.WNOHANG))[0]:
                    break
                time.sleep(0.01)
            else:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
            self.statuses = [*getattr(self, "statuses", []), os.waitstatus_to_exitcode(ended[1])]

    fit, forks = Fit(folder=tmp_path, seconds=1e6), Forks()
    fit.memories.append(forks)
    fit.epochs = 2
    fit.run()
    assert forks.statuses == [-signal.SIGTERM] * 2
    assert checkpoint.place(tmp_path / "c.npz") == "epoch 2"


def test_a_fit_in_another_thread_is_saved_and_listens_to_nothing(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(Fit(folder=tmp_path).run()))
    thread.start()
    thread.join()
    assert done and checkpoint.place(tmp_path / "c.npz") == "epoch 5"


def test_an_exception_gives_the_handlers_back(tmp_path):
    with pytest.raises(ValueError, match="epoch 1"):
        Fit(folder=tmp_path).run(validation=np.full((3, 4, 4, 1), np.nan, np.float32))


# -- the command --


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, x_train=pictures(60).reshape(60, 4, 4).repeat(2, 1).repeat(2, 2),
             x_test=pictures(9, 2).reshape(9, 4, 4).repeat(2, 1).repeat(2, 2))
    return path


def command(bars, out, *more):
    return ["train", "bernoulli-vae", "--data", str(bars), "--epochs", "3", "--out", str(out), "--set", "batch_size=16",
            "patience=2", *more]


FILES = ("model.npz", "metrics.json", "training.gif", "config.json")


@pytest.fixture
def one_figure(monkeypatch):
    """Ten of them take a second."""
    monkeypatch.setattr("npae.runs.start.draw", draw_one)


def without_seconds(run):
    return [line.rpartition(",")[0] for line in (run / "history.csv").read_text().splitlines()]


def assert_equal_runs(a, b):
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert without_seconds(a) == without_seconds(b)
    assert {path.name for path in a.iterdir()} == {path.name for path in b.iterdir()}
    for figure in (a / "figures").iterdir():
        assert figure.read_bytes() == (b / "figures" / figure.name).read_bytes(), figure.name


@BOTH
def test_npae_train_stops_with_the_status_of_the_signal_and_says_how_to_go_on(number, bars, tmp_path, capsys,
                                                                             monkeypatch):
    monkeypatch.setattr("npae.runs.start.draw", draw_one)
    run, whole, calls = tmp_path / "Jana's run", tmp_path / "whole", []
    right = Checkpoint.on_batch_end

    def on_batch_end(self, state):
        calls.append(1)
        if len(calls) == 4 + 1 + 2:  # the epoch's end is one too
            signal.raise_signal(number)
        right(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_batch_end", on_batch_end)
        assert main(command(bars, run)) == 128 + number
    error = capsys.readouterr().err.splitlines()[-1]
    sentence, go_on, _ = error.split("`")
    assert sentence == f"npae: stopped by {number.name} in epoch 2, after batch 2 of 4, and saved: go on by "
    assert shlex.split(go_on) == ["npae", "train", "--resume", str(run)]  # as a shell takes it
    assert {path.name for path in run.iterdir()} == {"config.json", "checkpoint.npz"}
    assert main(["eval", str(run)]) == 2
    assert f"is no finished run: it should hold config.json and model.npz; go on by `{go_on}`" in (
        capsys.readouterr().err)
    assert main(command(bars, run)) == 2
    assert f"{run} is a run that was interrupted: go on by `{go_on}`, or choose another --out" in (
        capsys.readouterr().err)
    assert {path.name for path in run.iterdir()} == {"config.json", "checkpoint.npz"}
    assert main(shlex.split(go_on)[1:]) == main(command(bars, whole)) == 0
    assert "bernoulli-vae: going on after epoch 2, batch 2" in capsys.readouterr().out
    assert_equal_runs(run, whole)
    assert main(["train", "--resume", str(run)]) == 2
    assert f"{run} is finished, there is nothing to go on with: `npae eval {shlex.quote(str(run))}` measures" in (
        capsys.readouterr().err)
    assert_equal_runs(run, whole)


def test_data_that_have_been_moved_are_found_where_config_json_says(one_figure, bars, tmp_path, capsys):
    run, there, moved = tmp_path / "run", tmp_path / "there.npz", tmp_path / "moved.npz"
    there.write_bytes(bars.read_bytes())
    assert main(command(there, run)) == 0
    there.rename(moved)
    (run / "history.csv").unlink()  # so that it is not finished
    for words in (["eval", str(run)], ["train", "--resume", str(run)]):
        assert main(words) == 2
        assert (f"; if the data of the run have been moved, write their new place into {run / 'config.json'}"
                in capsys.readouterr().err)
    config = store.read_json(run / "config.json")
    store.write_json(run / "config.json", {**config, "data": str(moved)})
    assert main(["train", "--resume", str(run)]) == 0


def test_a_run_that_was_interrupted_while_it_was_measured_is_finished_by_resume(one_figure, bars, tmp_path, capsys,
                                                                               monkeypatch):
    def measure(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("npae.runs.start.measure", measure)
        assert main(command(bars, tmp_path / "run")) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"npae: interrupted; the last good checkpoint, of epoch 3, is kept: go on from there by `npae train --resume "
        f"{tmp_path / 'run'}`")
    assert main(["train", "--resume", str(tmp_path / "run")]) == main(command(bars, tmp_path / "whole")) == 0
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def test_what_is_not_a_number_is_told_with_the_step_and_the_last_good_checkpoint(one_figure, bars, tmp_path, capsys,
                                                                                monkeypatch):
    right, calls = optim.Adam.step, []

    def step(self, theta, grad):
        right(self, theta, grad)
        calls.append(1)
        if len(calls) == 6:
            theta[:5] = np.nan

    with monkeypatch.context() as patch:
        patch.setattr(optim.Adam, "step", step)
        assert main(command(bars, tmp_path / "run", "--save-every", "0")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "npae: encoder.0.W is not finite after batch 2 of epoch 2, and is not saved; the checkpoint before" in error
    assert error.endswith("; the last good checkpoint, of epoch 2, batch 1, is kept: go on from there by `npae train "
                          f"--resume {tmp_path / 'run'}`")
    assert main(["train", "--resume", str(tmp_path / "run")]) == main(command(bars, tmp_path / "whole")) == 0
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def test_a_run_without_a_checkpoint_begins_anew_and_one_of_lbfgs_too(one_figure, bars, tmp_path, capsys):
    sparse = ["train", "sparse-ae", "--data", str(bars), "--epochs", "4", "--set", "optimizer=lbfgs", "latent=3",
              "--out"]
    assert main([*sparse, str(tmp_path / "whole")]) == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    (tmp_path / "run" / ".npae-lock").write_text("99999999\n")  # of a process that was killed
    (tmp_path / "run" / f".npae-{store.files.HOST}-99999999-00.tmp").write_text("half")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert f"sparse-ae: there is no checkpoint in {tmp_path / 'run'}, so it begins anew" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.npz").read_bytes() == (tmp_path / "whole" / "model.npz").read_bytes()
    assert not list((tmp_path / "run").glob(".npae*"))


def test_a_resume_that_fails_leaves_what_is_there(one_figure, bars, tmp_path, capsys, monkeypatch):
    assert main(command(bars, tmp_path / "run")) == 0
    (tmp_path / "run" / "model.npz").unlink()
    (tmp_path / "run" / "checkpoint.npz").write_bytes(b"half of it")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "checkpoint.npz is not a whole npae file" in error and error.count("\n") == 1
    assert error.endswith("; to begin this run anew, remove checkpoint.npz and give the command again\n")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    (tmp_path / "run" / "checkpoint.npz").unlink()
    monkeypatch.setattr(train, "fit", None)
    with pytest.raises(TypeError):
        main(["train", "--resume", str(tmp_path / "run")])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted({*before} - {"checkpoint.npz"})


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_goes_on_to_the_same_bits(recipe, tmp_path, monkeypatch, capsys):
    """Stopped in the second epoch of two, of a few of the strokes."""
    strokes, right, calls = data.load("strokes"), Checkpoint.on_batch_end, []
    np.savez(tmp_path / "few.npz", x_train=strokes.train_x[:150], y_train=strokes.train_y[:150],
             x_test=strokes.test_x[:30], y_test=strokes.test_y[:30])
    monkeypatch.setattr("npae.runs.start.draw", draw_one)
    words = ["train", recipe, "--data", str(tmp_path / "few.npz"), "--epochs", "2", "--set", "batch_size=32",
             "validation=22", "--out"]

    def on_batch_end(self, state):
        calls.append(1)
        if len(calls) == 4 + 1 + 2:
            signal.raise_signal(signal.SIGINT)
        right(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_batch_end", on_batch_end)
        assert main([*words, str(tmp_path / "run")]) == 130
    assert "in epoch 2, after batch" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "run")]) == main([*words, str(tmp_path / "whole")]) == 0
    assert (tmp_path / "run" / "model.npz").read_bytes() == (tmp_path / "whole" / "model.npz").read_bytes()
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "whole")


# -- fifty real ones --


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 50])
def test_trainings_that_are_stopped_at_any_moment_are_saved_and_resumed_exactly(n, tmp_path):
    """SIGINT and SIGTERM in turn, while `tied-ae` trains on strokes; processor seconds from the signal to the end."""
    draw, took = random.Random(0), []
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "npae", "train"]
    begin = [*words, "tied-ae", "--epochs", "4", "--set", "pictures=4000", "validation=400", "--out"]
    subprocess.run([*begin, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    for i in range(n):
        run, number = tmp_path / f"run{i}", (signal.SIGINT, signal.SIGTERM)[i % 2]
        process = subprocess.Popen([*begin, str(run), "--save-every", "0.1"], env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not (run / "checkpoint.npz").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.random() * 0.5)
        before = processor_seconds(process.pid)
        process.send_signal(number)
        with process.stderr:
            error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took.append(usage.ru_utime + usage.ru_stime - before)
        assert process.returncode == 128 + number, error
        assert re.search(rf"npae: stopped by {number.name} .*, and saved: go on by `npae train --resume {run}`", error)
        subprocess.run([*words, "--resume", str(run)], env=environment, check=True, capture_output=True)
        assert (run / "model.npz").read_bytes() == (tmp_path / "whole" / "model.npz").read_bytes()
        assert without_seconds(run) == without_seconds(tmp_path / "whole")
    print(f"{len(took)} of {n} saved and resumed exactly; signal to end {max(took):.2f} s of the processor at most")
    assert max(took) < 1


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
