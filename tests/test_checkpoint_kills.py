"""SIGKILL at any moment: the old or the new checkpoint is there, whole, and a training that goes on from it ends in the
same bits. `pytest -m slow tests/test_checkpoint_kills.py` kills 1,000 savings and 80 trainings."""
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from npae import data

if not hasattr(os, "fork") or not os.path.isdir("/proc/self/fd"):
    pytest.skip("needs fork and /proc", allow_module_level=True)

VICTIMS = Path(__file__).parent / "victims.py"


def told(*words):
    """What the program of victims prints, line by line."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, str(VICTIMS), *map(str, words)], env=environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kills", [48, pytest.param(1_000, marks=pytest.mark.slow)])
def test_killed_while_saving_the_old_or_the_new_checkpoint_is_there(kills, tmp_path):
    """An acknowledged one is never lost, and what was half-written is taken away by the next who comes."""
    rows = told("saving", kills, tmp_path)
    phases = Counter(row["phase"] for row in rows)
    assert len(rows) == kills and min(phases.values()) >= kills // len(phases) and len(phases) == 6
    orphans = Counter()
    for row in rows:
        new = row["found"] - row["acknowledged"]
        wanted = {"between replace and fsync of the folder": (1,), "at any time": (0, 1)}.get(row["phase"], (0,))
        assert row["signal"] == -9 and new in wanted, row
        assert row["left"] == ["c.npz"]
        orphans[row["phase"]] += row["orphans"]
    assert orphans["in the write"] == phases["in the write"]
    assert orphans["between fsync and replace"] == phases["between fsync and replace"]
    assert orphans["before the write"] == orphans["after the save"] == 0
    print(f"{kills} of {kills} old or new, 0 acknowledged lost: {dict(phases)}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """440 of the strokes to train, of which 40 are set aside, and 30 to test."""
    strokes, path = data.load("strokes"), tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x_train=strokes.train_x[:440, ..., 0], x_test=strokes.test_x[:30, ..., 0])
    return path


slow = pytest.mark.slow


@pytest.mark.parametrize(("recipe", "kills"), [
    ("tied-ae", 1), pytest.param("tied-ae", 50, marks=slow), pytest.param("conv-ae", 15, marks=slow),
    pytest.param("bernoulli-vae", 15, marks=slow)])
def test_killed_while_training_and_resumed_it_ends_in_the_same_bits(recipe, kills, pictures, tmp_path):
    """Weights, moments, generators, history, best weights, metrics; some are killed a second time."""
    rows = told("training", recipe, kills, tmp_path, pictures)
    assert len(rows) == kills
    for row in rows:
        assert set(row["ended"]) == {-9} and row["last"] == 0 and row["equal"], row
        assert row["left"] == sorted(["config.json", "model.npz", "history.csv", "metrics.json", "last.npz"]
                                     + ["training.gif"] * (recipe == "bernoulli-vae"))
    stood = [place for row in rows for place in row["stood"]]
    middle = sum("batch" in place for place in stood)
    assert 0.4 * len(stood) <= middle <= max(1, len(stood) - 1)
    print(f"{recipe}: {kills} of {kills} to the bit; {middle} of {len(stood)} kills in the middle of an epoch")
