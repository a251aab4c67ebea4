"""What a process costs: how long it takes to start, and the most memory that it holds at a time.

Each figure is that of a fresh process. Peak memory is Linux's VmHWM, and not the ru_maxrss of `resource`: that one
begins with what the process that started it held.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_by_side import Worker, thread_settings

HERE = Path(__file__).resolve().parent
STEPS = 40  # that each process takes before its peak is read
MODE = "eager"  # of PyTorch's modes the one that holds least
IMPORT = "import time, numpy; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
FIND = f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
FIRST = """import json, time
marks = [time.perf_counter()]
from steps import Step
marks.append(time.perf_counter())
step = Step({name!r})
marks.append(time.perf_counter())
for i in range(2):
    step(i)
    marks.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]))"""
STEPPING = """from side_by_side import serve
from steps import Step
serve(Step({name!r}), {{}})"""
FIT = """from scaling_work import epoch
from side_by_side import serve
run = epoch({name!r}, {pictures})
serve(run, {{}})"""


# ---- start-up

def startup(names: Sequence[str], repeats: int = 3, threads: int = 2) -> dict[str, Any]:
    """Seconds of imports, and for each model of its first step from a cold cache of compiled kernels and a warm one.

    "first" is the whole process: the interpreter's start, imports, pictures, model, one step; the best of `repeats`
    (the cold one happens once). "parts": imports, building, the first step, the second one.
    """
    found: dict[str, Any] = {"bare": _whole("pass", repeats, threads)[0], "imports": {}, "models": {}}
    for what in ("npae", "npae.train, npae.recipes", "npae.kernels.fast"):
        found["imports"][what] = min(float(_whole(IMPORT.format(what), 1, threads)[1]) for _ in range(repeats))
    for name in names:
        code = FIND + FIRST.format(name=name)
        with tempfile.TemporaryDirectory() as cache:
            cold, parts = _whole(code, 1, threads, cache)
            warm, warm_parts = _whole(code, repeats, threads, cache)
        found["models"][name] = {"cold": cold, "warm": warm, "compiling": cold - warm, "cold_parts": json.loads(parts),
                                 "warm_parts": json.loads(warm_parts)}
    return found


def _whole(code: str, repeats: int, threads: int, cache: str | None = None) -> tuple[float, str]:
    """Seconds of the quickest of so many processes that run this code, and what it printed."""
    best, said = float("inf"), ""
    environment = {**os.environ, **thread_settings(threads), **({"NUMBA_CACHE_DIR": cache} if cache else {})}
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        if (seconds := time.perf_counter() - start) < best:
            best, said = seconds, done.stdout
    return best, said


# ---- memory

def memory(names: Sequence[str], torch_python: str | None = None, threads: int = 2, steps: int = STEPS,
           pictures: int = 2_000) -> dict[str, Any]:
    """model -> MiB: "npae" and "torch" over so many steps on the same batches, "fit" over an epoch of train.fit.

    PyTorch's process has checked itself against npae before, which does not count; what it was handed for that, weights
    and gradients, it goes on holding: "handed".
    """
    found: dict[str, Any] = {}
    for name in names:
        found[name] = {"npae": peak([sys.executable, "-c", FIND + STEPPING.format(name=name)], threads, steps),
                       "fit": peak([sys.executable, "-c", FIND + FIT.format(name=name, pictures=pictures)], threads, 1)}
        if torch_python:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "handover.npz"
                Worker([sys.executable, str(HERE / "handover.py"), name, str(file)], threads).close()
                command = [torch_python, str(HERE / "torch_peer.py"), str(file), "--mode", MODE, "--threads",
                           str(threads)]
                found[name]["torch"] = peak(command, threads, steps, ready=True)
                found[name]["handed"] = file.stat().st_size / 2**20
    return found


def peak(command: Sequence[str], threads: int, steps: int, ready: bool = False) -> float:
    """The most MiB that a worker holds at a time until it has taken so many steps; `ready`: only from when it is ready.

    Raises WorkerError: it ended before.
    """
    with Worker(command, threads) as worker:
        if ready:
            Path(f"/proc/{worker.process.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        worker.run(steps)
        return held(worker.process.pid)


def held(pid: int) -> float:
    """The most MiB that a process has held at a time until now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
