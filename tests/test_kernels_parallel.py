"""The parallel loop that all kernels share: every task once, whatever the number of threads, and kept in the cache."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads

import npae
from npae.kernels import fast_parallel
from npae.kernels.fast_parallel import door, inner, launch, share


@inner
def _count(k, scale, counts):
    counts[k] += scale * k


@door
def count(tasks, *args):
    launch(_count, tasks, args)


@inner
def _bounds(k, n, bounds):
    bounds[k, 0], bounds[k, 1] = share(k, bounds.shape[0], n)


@door
def bounds_of(tasks, *args):
    launch(_bounds, tasks, args)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_task_runs_exactly_once(tasks, threads, dtype):
    counts = np.ones(tasks + 1, dtype)
    before = get_num_threads()
    set_num_threads(min(threads, before))
    try:
        count(tasks, dtype(0.5), counts)
    finally:
        set_num_threads(before)
    np.testing.assert_array_equal(counts, [*(1 + 0.5 * k for k in range(tasks)), 1])


@pytest.mark.parametrize(("n", "chunks"), [(1, 1), (9, 8), (8, 8), (64, 8), (100, 7), (3, 8)])
def test_chunks_cover_all_rows_without_a_gap_or_an_overlap(n, chunks):
    bounds = np.zeros((chunks, 2), np.int64)
    bounds_of(chunks, n, bounds)
    assert bounds[0, 0] == 0 and bounds[-1, 1] == n
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
    assert np.ptp(bounds[:, 1] - bounds[:, 0]) <= 1


SECOND_PROCESS = """
import numpy as np
from numba.core import event
compiled = []
class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e):
        pass
event.register("numba:compile", Listener())
from npae.kernels import fast
fast.sgd_step(np.ones(9, np.float32), np.ones(9, np.float32), 0.1)
print(len(compiled))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    def compiled():
        run = subprocess.run([sys.executable, "-c", SECOND_PROCESS], capture_output=True, text=True, check=True,
                             env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
        return int(run.stdout)

    assert compiled() > 0
    assert compiled() == 0


RELU = """
import numpy as np
from npae.kernels import fast
from npae.layers import ReLU
x, W, b = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.ones(1, np.float32)
print(fast.dense_forward(x, W, b, ReLU())[0, 0])
"""


def test_a_kernel_is_compiled_again_when_another_file_that_it_is_made_of_changes(tmp_path):
    shutil.copytree(Path(npae.__file__).parent, tmp_path / "npae", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}

    def result():
        run = subprocess.run([sys.executable, "-c", RELU], capture_output=True, text=True, check=True, cwd=tmp_path,
                             env=environment | {"PYTHONPATH": str(tmp_path)})
        return float(run.stdout)

    assert result() == 2
    kept = tmp_path / "npae" / "kernels" / "__pycache__"
    first, = kept.glob("npae-kernels-*")
    other = tmp_path / "npae" / "kernels" / "fast_activation.py"
    right = "z[i] = zero if z[i] <= zero else z[i]"
    assert right in other.read_text()
    other.write_text(other.read_text().replace(right, "z[i] = zero if z[i] <= zero else 10 * z[i]"))
    assert result() == 20
    second, = kept.glob("npae-kernels-*")  # what was compiled from the sources of before is not kept for ever
    assert second != first


WAITING = """
import os
seen = []
class Environment(type(os.environ)):
    def __setitem__(self, key, value):
        seen.append(key)
        super().__setitem__(key, value)
os.environ.__class__ = Environment
import npae.kernels.fast
print("GOMP_SPINCOUNT" in seen, os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(("given", "printed"), [
    ({}, "True None"), ({"GOMP_SPINCOUNT": "7"}, "False 7"), ({"OMP_WAIT_POLICY": "active"}, "False None")])
def test_idle_threads_fall_asleep_soon_unless_the_user_has_said_otherwise(given, printed):
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, check=True,
                         env=environment | given)
    assert run.stdout.strip() == printed


def test_where_kernels_are_kept(tmp_path, monkeypatch):
    own, home = tmp_path / "kernels" / "__pycache__", tmp_path / "home"
    monkeypatch.setattr(fast_parallel, "HERE", own.parent)
    monkeypatch.setattr(fast_parallel, "cache_dir", lambda: home)
    monkeypatch.setattr(fast_parallel.config, "CACHE_DIR", "")
    (own / "npae-kernels-of-yesterday").mkdir(parents=True)
    assert [fast_parallel._cache_folder()] == list(own.iterdir())
    shutil.rmtree(own)
    own.touch()  # an installation that is not the user's
    (home / "npae-kernels-of-another-version").mkdir(parents=True)
    assert fast_parallel._cache_folder().parent == home and len(list(home.iterdir())) == 2
    shutil.rmtree(home)
    home.touch()
    with pytest.warns(RuntimeWarning, match=r"compiled kernels cannot be kept in .*__pycache__ nor in .*home"):
        assert fast_parallel._cache_folder() != fast_parallel._cache_folder()  # two of a process's own
    monkeypatch.undo()
    monkeypatch.setattr(fast_parallel.config, "CACHE_DIR", str(tmp_path / "given"))
    assert fast_parallel._cache_folder().parent == tmp_path / "given"
