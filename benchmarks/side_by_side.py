"""What the benchmarks of speed share: workers that step in turn, ratios of what they took, facts about the machine.

A worker is a process of its own, so that thread pools do not meet. It says what it is in a line of JSON, then sleeps;
for each line `n` on its stdin it takes n steps and answers with the seconds that they took.
"""
from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Self

Times = Mapping[str, Sequence[float]]
UNTIMED = 2  # steps at the start of each turn: they wake the threads and fetch what the others drove from the caches
BUSY = 0.7  # load average: what runs beside should be far below one core
REST = 0.1  # seconds between turns: threads of a pool spin for a while before they sleep


# ---- inside a worker

def serve(step: Callable[[int], object], ready: Mapping[str, Any], finish: Callable[[], object] = lambda: None) -> None:
    """Say `ready`, then take step(0), step(1), ... whenever a line asks for so many, until stdin ends.

    `finish` waits for a library that returns from a step before it has done it.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    print(json.dumps(ready), file=answers, flush=True)
    taken = 0
    for line in sys.stdin:
        for _ in range(UNTIMED):
            step(taken)
            taken += 1
        finish()
        began = time.perf_counter()
        for i in range(taken, taken + int(line)):
            step(i)
        finish()
        print(time.perf_counter() - began, file=answers, flush=True)
        taken += int(line)


# ---- outside

class WorkerError(RuntimeError):
    """A worker that ended before it answered; the message holds the end of what it wrote to stderr."""


class Worker:
    """A process that speaks `serve`'s protocol, with so many threads; `ready` is what it said of itself.

    Raises WorkerError: it ended, or said something else.
    """

    def __init__(self, command: Sequence[str], threads: int):
        # a pipe that nobody reads would fill up and stop the worker
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by `close`)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env={**os.environ, **thread_settings(threads)})
        try:
            said = self._answer()
            try:
                self.ready: dict[str, Any] = json.loads(said)
            except ValueError:
                raise WorkerError(f"{command} should say in a line of JSON what it is, and said {said!r}") from None
        except BaseException:
            self.close()
            raise

    def run(self, steps: int) -> float:
        """Seconds that so many steps took."""
        assert self.process.stdin
        try:
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the missing answer says so
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()[-12:]
            raise WorkerError(f"{self.process.args} ended with code {code}: " + ("\n".join(said) or "it said nothing"))
        return line

    def close(self) -> None:
        """End it; what it still does is cut short."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def thread_settings(threads: int) -> dict[str, str]:
    """The environment in which each library's pool has so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
                         str(threads))


def in_turn(workers: Mapping[str, Any], rounds: int, seconds: float = 0.25,
            rest: float = REST) -> dict[str, list[float]]:
    """Seconds a step of each worker in each round, A B C A B C ...: what disturbs the machine meets all of them.

    A turn is about `seconds` long, by the worker's own pace in a first turn that does not count.
    """
    steps = {}
    for name, worker in workers.items():
        time.sleep(rest)
        steps[name] = max(1, round(seconds / (worker.run(3) / 3)))
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            time.sleep(rest)
            times[name].append(worker.run(steps[name]) / steps[name])
    return times


# ---- numbers

def ratio(times: Times, peer: str, ours: str) -> float:
    """How many times as long the peer's step takes: the median over the rounds of its time / ours in that round."""
    return median(b / a for a, b in zip(times[ours], times[peer], strict=True))


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean logarithm: twice as fast here and half as fast there is as fast."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    flags: list[str] = []
    if info.exists():
        facts = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        cpu, flags = facts.get("model name", cpu), facts.get("flags", "").split()
    vector = next((name for name in ("avx512f", "avx2", "avx", "sse2") if name in flags), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "vectors": vector, "system": platform.platform()}


def others_at_work() -> str:
    """A sentence where other processes kept this machine busy over the last minute, else nothing."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return "" if load < BUSY else (
        f"The machine is busy: {load:.1f} threads ran at a time over the last minute. Pools of threads that do not get "
        "their cores are many times slower, one library's more than another's: wait until nothing else runs.")


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of these packages, as far as they are installed here."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """A result as a file."""
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
