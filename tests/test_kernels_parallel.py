"""The parallel loop that all kernels share: every task once, whatever the number of threads, and kept in the cache."""
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import get_num_threads, njit, set_num_threads

from npae.kernels.fast_parallel import DOOR, INNER, launch, share


@njit(**INNER)
def _count(k, scale, counts):
    counts[k] += scale * k


@njit(**DOOR)
def count(tasks, *args):
    launch(_count, tasks, args)


@njit(**INNER)
def _bounds(k, n, bounds):
    bounds[k, 0], bounds[k, 1] = share(k, bounds.shape[0], n)


@njit(**DOOR)
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
