"""The same seed gives the same bits, however many threads there are and whether buffers are fresh or kept.

Numba and BLAS fix their threads when a process starts, so each number of threads trains in a process of its own.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
THREADS = ("1", "2", "4")  # 4 also where there are but 2 cores
TRAIN = """
import hashlib
import sys
import numba
from steps import MODELS, Step

threads, batches, sizes = int(sys.argv[1]), int(sys.argv[2]), dict(zip(sys.argv[3::2], map(int, sys.argv[4::2])))
assert numba.config.NUMBA_NUM_THREADS == numba.get_num_threads() == threads
for name in MODELS:
    for keep in (True, False):
        step = Step(name, batch_size=sizes.get(name))
        start = step.model.theta.copy()
        step.model.keep_buffers(keep)
        for i in range(batches if keep else 3):
            step(i)
            if i == 2 or i == batches - 1:
                bits = hashlib.sha256(step.model.theta.tobytes() + step.model.grad.tobytes()).hexdigest()
                print(name, "kept" if keep else "fresh", i, (step.model.theta != start).mean().round(1) > 0, bits)
"""


def trained(batches, **sizes):
    """threads -> the lines that TRAIN prints; all numbers of threads at the same time."""
    words = [str(word) for pair in sizes.items() for word in pair]
    running = {n: subprocess.Popen(
        [sys.executable, "-c", TRAIN, n, str(batches), *words], text=True, stdout=subprocess.PIPE, cwd=BENCHMARKS,
        env={**os.environ, "NUMBA_NUM_THREADS": n, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n})
        for n in THREADS}
    lines = {n: process.communicate(timeout=900)[0].splitlines() for n, process in running.items()}
    assert all(process.returncode == 0 for process in running.values())
    return lines


def the_same(lines, batches):
    assert lines["1"] == lines["2"] == lines["4"]
    words = [line.split() for line in lines["1"]]
    assert {(name, keep) for name, keep, *_ in words} == {
        (name, keep) for name in ("conv-ae", "conv-vae", "mlp-vae", "tied-ae", "bernoulli-vae")
        for keep in ("kept", "fresh")}
    assert all(moved == "True" for *_, moved, _ in words)
    assert sum(line.split()[2] == str(batches - 1) for line in lines["1"]) == 5
    after_three = {keep: [bits for _, which, i, _, bits in words if which == keep and i == "2"]
                   for keep in ("kept", "fresh")}
    assert after_three["kept"] == after_three["fresh"] and len(set(after_three["kept"])) == 5


def test_one_two_and_four_threads_train_the_same_bits():
    the_same(trained(8, **{"mlp-vae": 130, "conv-ae": 19}), 8)


@pytest.mark.slow
def test_one_two_and_four_threads_train_the_same_bits_for_fifty_batches():
    the_same(trained(50), 50)
