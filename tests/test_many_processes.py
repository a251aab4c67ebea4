"""Many at once: processes on a cold cache, threads of one process, children of a fork. Nobody fails or waits for ever,
and everybody computes what one alone does, to the bit.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MINUTES = 900  # seconds: a process may be slow, and none may hang

WORK = """
import hashlib, json, os, sys, threading
import numpy as np
from npae import models, nets, losses, optim, train
from npae.kernels import fast, resolve

def learned(seed):
    \"\"\"The digest of a small conv net after a training: every fast kernel of a step, in parallel.\"\"\"
    rng = np.random.default_rng(seed)
    model = models.VAE(nets.bernoulli_vae_encoder((12, 12, 1), 2, rng=rng),
                       nets.bernoulli_vae_decoder((12, 12, 1), 2, rng=rng))
    x = rng.integers(0, 2, (48, 12, 12, 1)).astype(np.float32)
    train.fit(model, x, optimizer=optim.Adam(1e-3), epochs=2, batch_size=16, seed=seed)
    assert resolve() is fast and np.isfinite(model.theta).all()
    return hashlib.sha256(model.theta.tobytes()).hexdigest()

def alone():
    return [learned(seed) for seed in range(4)]

def threads():
    found = [None] * 4
    def work(seed):
        found[seed] = learned(seed)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    return found

def forks(n):
    \"\"\"Children of a process whose kernels have run: each learns, two at a time.\"\"\"
    wanted = learned(0)
    right = 0
    for _ in range(n // 2):
        children = []
        for _ in "ab":
            pid = os.fork()
            if pid == 0:
                try:
                    os._exit(0 if learned(0) == wanted else 3)
                except BaseException:
                    import traceback; traceback.print_exc()
                    os._exit(4)
            children.append(pid)
        right += sum(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert learned(0) == wanted
    return right

def fork_amid_threads():
    \"\"\"A child that is born while another thread's kernel runs.\"\"\"
    wanted, stop = learned(0), threading.Event()
    def busy():
        while not stop.is_set():
            learned(1)
    thread = threading.Thread(target=busy); thread.start()
    right = 0
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if learned(0) == wanted else 3)
        right += os.waitpid(pid, 0)[1] == 0
    stop.set(); thread.join()
    return right

print(json.dumps(eval(sys.argv[1])))
"""


def start(what, **environment):
    return subprocess.Popen([sys.executable, "-W", "ignore::DeprecationWarning", "-c", WORK, what], text=True, cwd=ROOT,
                            env={**os.environ, "NUMBA_NUM_THREADS": "2", **environment}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def said(process):
    out, err = process.communicate(timeout=MINUTES)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out)


@pytest.fixture(scope="module")
def alone():
    return said(start("alone()"))


# the layer omp ends children that use it after a fork, workqueue threads that meet in it
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_four_threads_learn_what_one_alone_learns(layer, alone):
    assert said(start("threads()", NUMBA_THREADING_LAYER=layer)) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("n", [4, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_children_of_a_fork_learn_what_their_parent_learns(layer, n):
    assert said(start(f"forks({n})", NUMBA_THREADING_LAYER=layer)) == n


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_a_child_of_a_busy_process_learns_too(layer):
    assert said(start("fork_amid_threads()", NUMBA_THREADING_LAYER=layer)) == 4


@pytest.mark.slow
def test_eight_processes_on_a_cold_cache_learn_what_one_alone_learns(alone, tmp_path):
    """They compile for minutes, all the same kernels at once, into one folder."""
    started = [start("alone()", NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="1") for _ in range(8)]
    assert [said(process) for process in started] == [alone] * 8
    assert said(start("alone()", NUMBA_CACHE_DIR=str(tmp_path))) == alone


ONE_KERNEL = """
import json, sys
import numpy as np
from numba import config, njit
from npae.kernels import kept
sys.path.insert(0, {folder!r})
config.CACHE_DIR = {folder!r}
from one_kernel import kernel
with kept.sealed():
    compiled = njit(cache=True)(kernel)
found = []
for dtype in {dtypes}:
    y = np.zeros(5, dtype)
    compiled(np.arange(5, dtype=dtype), y)
    found.append(y.tolist())
print(json.dumps([found, sum(compiled.stats.cache_hits.values())]))
"""


def test_four_processes_on_a_cold_cache_of_one_kernel_keep_each_others_files(tmp_path):
    """Two types in each order, so that at some time two of them write at once."""
    source = "def kernel(x, y):\n    for i in range(x.size):\n        y[i] += 2 * x[i] + 1\n"
    (tmp_path / "one_kernel.py").write_text(source)

    def process(dtypes):
        code = ONE_KERNEL.format(folder=str(tmp_path), dtypes=dtypes)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                cwd=ROOT)

    orders = [["f4", "f8"], ["f8", "f4"]] * 2
    for running in ([process(dtypes) for dtypes in orders], [process(orders[0])]):
        for found, _ in map(said, running):
            assert found == [[1, 3, 5, 7, 9]] * 2
    found, hits = said(process(orders[0]))
    assert found == [[1, 3, 5, 7, 9]] * 2 and hits == 2
