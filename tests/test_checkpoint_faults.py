"""Every Nth open, write, fsync and replace fails: the old or the new checkpoint is there, and a run goes on from it.
`pytest -m slow tests/test_checkpoint_faults.py` does it to a whole `npae train` too."""
import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainings import Fit, draw_one, pictures

from npae import checkpoint, store
from npae.cli import main
from npae.store import files

CALLS = ("open", "write", "fsync", "replace")
CODES = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES)


class Fault:
    """Lets the Nth call of one kind fail, of all that the store makes."""

    def __init__(self, call, nth, code):
        self.call, self.left, self.code = call, nth, code
        self.real = {"fsync": os.fsync, "replace": os.replace, "os.open": os.open}

    def meet(self, call):
        if call == self.call:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code))

    def open(self, name, mode):
        self.meet("open")
        return WatchedFile(io.FileIO(name, mode.replace("b", "")), self)

    def __enter__(self):
        def watched(call, kind):
            return lambda *args, **more: (self.meet(kind), self.real[call](*args, **more))[1]

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(files, "open", self.open, raising=False)
        for call, kind in (("os.open", "open"), ("fsync", "fsync"), ("replace", "replace")):
            self.patch.setattr(os, call.removeprefix("os."), watched(call, kind))
        return self

    def __exit__(self, *error):
        self.patch.undo()

    @property
    def met(self):
        return self.left <= 0


class WatchedFile(io.BufferedRandom):
    """A file whose writes go past a Fault."""

    def __init__(self, raw, fault):
        super().__init__(raw)
        self.fault = fault

    def write(self, data):
        self.fault.meet("write")
        return super().write(data)


def content(path):
    """Theta, and how far the training had come."""
    arrays, meta = store.read(path)
    return arrays["theta"].tobytes(), checkpoint.place(path), meta["training"]["step"]


@pytest.fixture(scope="module")
def savings(tmp_path_factory):
    """What the path holds after each of the savings of two epochs without a fault, and before them."""
    folder, seen = tmp_path_factory.mktemp("savings"), [None]

    with pytest.MonkeyPatch.context() as patch:
        right = checkpoint.callback.save
        patch.setattr("npae.checkpoint.callback.save", lambda path, state: (right(path, state),
                                                                            seen.append(content(path))))
        fit = Fit(folder=folder)
        fit.epochs = 2
        fit.run()
    assert len(seen) == 10  # six batches, two ends of epochs, and one more after the last
    return seen


@pytest.mark.parametrize(("call", "code"), [
    pytest.param(call, code, id=f"{call}-{errno.errorcode[code]}", marks=[pytest.mark.slow] * (
        call == "write" and code != errno.ENOSPC)) for call in CALLS for code in CODES])
def test_whichever_call_fails_the_checkpoint_is_the_old_or_the_new_one(call, code, savings, tmp_path):
    """N goes up to the end of the second saving; what a fit has saved once, it never loses."""
    path, failed = tmp_path / "c.npz", 0
    for nth in range(1, 1_000):
        path.unlink(missing_ok=True)
        fit, places = Fit(folder=tmp_path), []
        fit.epochs = 2
        with Fault(call, nth, code) as fault:
            right = checkpoint.callback.save

            def save(path, state, places=places, right=right):
                places.append(0)
                right(path, state)

            fault.patch.setattr("npae.checkpoint.callback.save", save)
            try:
                fit.run()
            except OSError as error:
                assert error.errno == code and fault.met
                failed += 1
        assert fault.met, f"{nth} is more than there are"
        found = content(path) if path.exists() else None
        assert found in (savings[len(places) - 1], savings[len(places)])
        assert {file.name for file in tmp_path.iterdir()} == {"c.npz"} - ({"c.npz"} if found is None else set())
        if found is not None and nth % 7 == 0:
            assert Fit().run(resume=path).all() == Fit().run().all()
        if len(places) > 2:
            break
    assert failed == nth >= {"open": 5, "write": 20, "fsync": 5, "replace": 3}[call]


@pytest.mark.parametrize(("call", "code"), [
    pytest.param(call, code, id=f"{call}-{errno.errorcode[code]}", marks=[pytest.mark.slow] * (
        call == "write" or code != errno.ENOSPC)) for call in CALLS for code in CODES])
def test_whichever_call_of_a_run_fails_it_says_so_and_goes_on_when_it_can(call, code, tmp_path, capsys, monkeypatch):
    """From the lock to the last figure: one sentence, status 2; then --resume, or the same command again, finishes."""
    monkeypatch.setattr("npae.runs.start.draw", draw_one)
    data = tmp_path / "data.npz"
    np.savez(data, x_train=pictures(60)[..., 0], x_test=pictures(9, 2)[..., 0])
    command = ["train", "ae", "--data", str(data), "--epochs", "2", "--set", "batch_size=30", "latent=2",
               "--save-every", "0", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    whole = (tmp_path / "whole" / "model.npz").read_bytes()
    for nth in range(1, 1_000):
        run = tmp_path / "run"
        capsys.readouterr()
        with Fault(call, nth, code) as fault:
            status = main([*command, str(run)])
        if not fault.met:
            break
        last = capsys.readouterr().err.splitlines()[-1]
        assert status == 2 and last.startswith("npae: ") and os.strerror(code) in last, (nth, last)
        assert main(["train", "--resume", str(run)] if run.exists() else [*command, str(run)]) == 0, nth
        assert (run / "model.npz").read_bytes() == whole
        assert {path.name for path in run.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
        shutil.rmtree(run)
    assert status == 0 and nth > {"open": 20, "write": 60, "fsync": 20, "replace": 10}[call]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "runs").mkdir(mode=0o555)
    assert main(["train", "ae", "--out", str(tmp_path / "runs" / "a")]) == 2
    assert "cannot be made (Permission denied): choose another --out" in capsys.readouterr().err


SMALL_DISK = """
import resource, sys
from pathlib import Path
from npae import checkpoint
from trainings import Fit

path = Path(sys.argv[1])
fit = Fit(folder=path.parent)
fit.epochs = 1
fit.run()
old, size, state = path.read_bytes(), path.stat().st_size, fit.saver[0].fit
for limit in range(1, size, size // 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fit.model.theta += 1
        checkpoint.save(path, state)
    except OSError as error:
        assert error.filename == str(path) and path.read_bytes() == old, limit
    else:
        sys.exit("written beyond the limit")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert [file.name for file in path.parent.iterdir()] == [path.name]
checkpoint.save(path, state)
assert path.read_bytes() != old
"""


def test_a_disk_that_is_full_at_any_of_100_sizes_leaves_the_old_checkpoint(tmp_path):
    """The limit on a file's size stands in for a full disk."""
    pytest.importorskip("resource", reason="the limit on file sizes is set with the module resource, absent here")
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", SMALL_DISK, str(tmp_path / "c.npz")], check=True,
                   env=os.environ | {"PYTHONPATH": paths})
