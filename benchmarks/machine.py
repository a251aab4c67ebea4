"""What the machine can do at most: the rate of a large matrix product, and the rate at which numbers are copied.

Each figure is measured in a process of its own, so that no two pools of threads meet; this file is that process too,
and then needs NumPy or PyTorch and nothing of npae.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from side_by_side import thread_settings

SIZES = (512, 1024, 1536, 2048, 3072)  # of the square matrices; the best one counts
SECONDS = 0.3  # how long each size is repeated
FAR = 1 << 29  # bytes of an array that is copied: 512 MiB lie beyond any cache
NEAR = 1 << 18  # bytes a thread of the smallest ones: two of them lie in a core's own cache (L2)


def sgemm_peak(threads: int, torch_python: str | None = None, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """The best float32 matrix product: {"gflops", "size", "library"}, of NumPy's BLAS and, where asked, PyTorch's."""
    found = [{**_worker(sys.executable, threads, "numpy", *sizes), "library": "NumPy"}]
    if torch_python:
        found.append({**_worker(torch_python, threads, "torch", *sizes), "library": "PyTorch"})
    return max(found, key=lambda one: one["gflops"])


def copy_bandwidth(threads: int, far: int = FAR) -> dict[str, float]:
    """GB/s, read and written together, by the bytes that are copied, or updated in place where this is faster.

    From arrays that a core's own cache holds up to those of `far` bytes.
    """
    sizes = [far]
    while sizes[-1] >= 4 * NEAR * threads:
        sizes.append(sizes[-1] // 4)
    return _worker(sys.executable, threads, "copy", *sorted(sizes))


def _worker(python: str, threads: int, what: str, *numbers: int) -> dict[str, Any]:
    """This file as a program of that interpreter, with so many threads."""
    done = subprocess.run([python, __file__, what, str(threads), *map(str, numbers)], capture_output=True, text=True,
                          env={**os.environ, **thread_settings(threads)}, check=False)
    if done.returncode:
        raise RuntimeError(f"{python} could not measure '{what}' with {threads} threads: {done.stderr.strip()}")
    return json.loads(done.stdout)


# ---- in the process of its own

def quickest(run: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds of the quickest of the calls that fit into so many seconds; the first one does not count."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _product(library: str, n: int) -> Callable[[], object]:
    """C = A B with n x n numbers of float32, into an array that is there."""
    if library == "torch":
        import torch

        tensors = [torch.rand(n, n) for _ in range(3)]
        return lambda: torch.mm(*tensors[:2], out=tensors[2])
    import numpy as np

    A, B, C = (np.random.default_rng(0).random((n, n), np.float32) for _ in range(3))
    return lambda: np.matmul(A, B, out=C)


def _moved(threads: int, size: int) -> float:
    """GB/s, read and written: of copies, or of updates in place where these are faster (they fetch no line only to
    overwrite it). All threads together, each with its own share of `size` bytes, side by side.
    """
    import numpy as np

    arrays = [(np.ones(size // threads // 4, np.float32), np.zeros(size // threads // 4, np.float32))
              for _ in range(threads)]
    repeats, gate = max(1, (1 << 28) // size), threading.Barrier(threads)

    def rate(move: Callable[..., object]) -> float:
        times = [float("inf")] * threads

        def work(k: int) -> None:
            for _ in range(5):
                gate.wait()
                start = time.perf_counter()
                for _ in range(repeats):
                    move(*arrays[k])
                times[k] = min(times[k], (time.perf_counter() - start) / repeats)

        running = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(2e-9 * (size // threads) / seconds for seconds in times)

    return max(rate(lambda a, b: np.copyto(b, a)), rate(lambda a, b: np.negative(a, out=a)))


def main() -> None:
    """what, threads, numbers: a line of JSON."""
    what, threads, *numbers = sys.argv[1], *map(int, sys.argv[2:])
    if what == "copy":
        print(json.dumps({size: _moved(threads, size) for size in numbers}))
        return
    if what == "torch":
        import torch

        torch.set_num_threads(threads)
    rates = {n: 2 * n**3 / quickest(_product(what, n)) / 1e9 for n in numbers}
    size = max(rates, key=lambda n: rates[n])
    print(json.dumps({"gflops": rates[size], "size": size}))


if __name__ == "__main__":
    main()
