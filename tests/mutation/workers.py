"""The tests of one mutant after the other, each mutant in a process forked from one where all is imported and warm.
A pytest plugin: pytest collects the tests once, and instead of running them hands them over to here.
"""
from __future__ import annotations

import ast
import bisect
import gc
import hashlib
import itertools
import json
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from . import planting
from .operators import ROOT, Mutant

LIMIT = 30.0  # seconds for one test, and FACTOR times as long as without a mutant: then it is a hang
FACTOR = 20
FIRST = 8.0  # seconds of the quickest tests for a first stage; who lives through it meets all the others at the end
WAIT = {"test_catalogue.py": 10}  # thousands of tests much like each other: first those that know one thing well
MEMORY = 12 * 2**30  # bytes of address space: a mutant that asks for more fails


@dataclass
class Timed:
    """What a run without a mutant said of one test."""

    seconds: float
    lines: set[tuple[str, int]]
    ok: bool


@dataclass
class Job:
    """A mutant whose tests are running."""

    mutant: Mutant
    pid: int
    pipe: int
    began: float
    said: bytes = b""


@dataclass(eq=False)
class Harness:
    """The plugin. `compiled` is for mutants of compiled kernels: nothing is compiled before the fork."""

    mutants: list[Mutant]
    results: Path
    jobs: int = 2
    compiled: bool = False
    again: bool = False
    """Also those that survived before."""
    failed: str = ""
    killers: dict[str, list[str]] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        if not self.compiled:
            _warm()
        measured = self._measured(items)
        broken = [item.nodeid for item in items if not measured[item.nodeid].ok]
        if broken:
            print(f"{len(broken)} tests fail or hang without a mutant and are left out: {', '.join(broken)}")
        self.known = planting.functions()
        gc.collect()
        gc.freeze()  # forked processes share what is never looked at again
        order = sorted((item for item in items if measured[item.nodeid].ok),
                       key=lambda item: measured[item.nodeid].seconds * WAIT.get(item.path.name, 1))
        self._all(order, measured)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    # ---- without a mutant: what each test touches, and how long it takes

    def _measured(self, items: list[pytest.Item]) -> dict[str, Timed]:
        state = hashlib.sha256("".join(item.nodeid for item in items).encode())
        for path in sorted([*(ROOT / "npae").rglob("*.py"), *(ROOT / "tests").glob("*.py")]):
            state.update(path.read_bytes())
        kept = self.results.with_name(f"touched-{state.hexdigest()[:16]}.pickle")
        if not kept.exists():
            print(f"{len(items)} tests are run once without a mutant, to see which lines each of them touches",
                  flush=True)
            parts = [kept.with_suffix(f".{k}") for k in range(self.jobs)]
            pids = [_forked(lambda k=k: self._measure(items[k::self.jobs], parts[k])) for k in range(self.jobs)]
            for pid in pids:
                os.waitpid(pid, 0)
            found: dict[str, Timed] = {}
            for part in parts:
                found |= pickle.loads(part.read_bytes())
                part.unlink()
            kept.write_bytes(pickle.dumps(found))
        return pickle.loads(kept.read_bytes())

    def _measure(self, items: list[pytest.Item], path: Path) -> None:
        found: dict[str, Timed] = {}
        for i, item in enumerate(items):
            lines: set[tuple[str, int]] = set()
            sys.settrace(_tracer(lines))
            self.failed, began = "", time.perf_counter()
            try:
                _run(item, items[i + 1] if i + 1 < len(items) else None)
            finally:
                sys.settrace(None)
            found[item.nodeid] = Timed(time.perf_counter() - began, lines, not self.failed)
        path.write_bytes(pickle.dumps(found))

    # ---- with one

    def _all(self, order: list[pytest.Item], measured: dict[str, Timed]) -> None:
        done = {row["id"] for row in rows(self.results) if not (self.again and row["result"] == "survived")}
        waiting = [(m, False) for m in self.mutants if m.id not in done]
        running: list[Job] = []
        began, total, count = time.perf_counter(), len(waiting), 0
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant, late = waiting.pop(0)
                running.append(self._start(mutant, late, self._tests(mutant, order, measured), measured))
            ready, _, _ = select.select([job.pipe for job in running], [], [], 1.0)
            for job in [job for job in running if job.pipe in ready]:
                if part := os.read(job.pipe, 65536):
                    job.said += part
                    continue
                running.remove(job)
                row = self._end(job)
                if row["result"] == "late":
                    waiting.append((job.mutant, True))
                else:
                    count += 1
                if count % 20 == 0 or row["result"] in ("survived", "late"):
                    print(f"{count}/{total} {time.perf_counter() - began:.0f} s  {row['result']} {row['id']} "
                          f"({row['seconds']} s)", flush=True)

    def _tests(self, mutant: Mutant, order: list[pytest.Item], measured: dict[str, Timed]) -> list[pytest.Item]:
        """Those that run a line of the mutant's statement; first those that killed in this function before."""
        if mutant.place == "body" and not self.compiled:
            spots = {(mutant.file, line) for line in mutant.lines}
            chosen = [item for item in order if measured[item.nodeid].lines & spots]
        else:
            names = planting.users(mutant.function.split(".")[0]) if self.compiled else set()
            chosen = [item for item in order
                      if any(_concerns(file, line, mutant.file, names) for file, line in measured[item.nodeid].lines)]
        first = self.killers.get(f"{mutant.file}:{mutant.function}", [])[:30]
        return sorted(chosen, key=lambda item: first.index(item.nodeid) if item.nodeid in first else len(first))

    def _start(self, mutant: Mutant, late: bool, tests: list[pytest.Item], measured: dict[str, Timed]) -> Job:
        pipe, said = os.pipe()
        sums = list(itertools.accumulate(measured[item.nodeid].seconds for item in tests))
        early = tests if late else tests[:1 + bisect.bisect(sums, FIRST)]
        at_the_end = "survived" if len(early) == len(tests) else "late"
        tests = tests if late else early

        def work() -> None:
            os.close(pipe)
            try:
                planting.plant(mutant, self.known)
                if self.compiled:
                    planting.forget_compiled(mutant)
            except planting.Stillborn as error:
                os.write(said, json.dumps(["stillborn", str(error), 0]).encode() + b"\n")
                return
            try:
                run(said)
            except BaseException:  # of the harness itself: no verdict
                os.write(said, json.dumps(["broken", traceback.format_exc(), 0]).encode() + b"\n")

        def run(said: int) -> None:
            for i, item in enumerate(tests):
                os.write(said, json.dumps(["hang", item.nodeid, i + 1]).encode() + b"\n")
                signal.setitimer(signal.ITIMER_REAL, LIMIT * (4 if self.compiled else 1)
                                 + FACTOR * measured[item.nodeid].seconds)
                _run(item, tests[i + 1] if i + 1 < len(tests) else None)
                if self.failed:
                    os.write(said, json.dumps(["killed", item.nodeid, i + 1]).encode() + b"\n")
                    return
            os.write(said, json.dumps([at_the_end, "", len(tests)]).encode() + b"\n")

        pid = _forked(work)
        os.close(said)
        return Job(mutant, pid, pipe, time.perf_counter())

    def _end(self, job: Job) -> dict[str, Any]:
        os.close(job.pipe)
        _, status = os.waitpid(job.pid, 0)
        silent = json.dumps(["broken", "its process ended without a word", 0])
        result, by, tests = json.loads((job.said.splitlines() or [silent])[-1])
        if result == "hang":
            result, by = "killed", f"{by} (ended by signal {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})"
        row = {"id": job.mutant.id, "result": result, "by": by, "tests": tests,
               "seconds": round(time.perf_counter() - job.began, 1)}
        if result == "killed" and " (" not in by:
            before = self.killers.setdefault(f"{job.mutant.file}:{job.mutant.function}", [])
            if by in before:
                before.remove(by)
            before.insert(0, by)
        if result not in ("late", "broken"):
            with open(self.results, "a") as file:
                file.write(json.dumps(row) + "\n")
        return row


def rows(path: Path) -> list[dict[str, Any]]:
    """The results so far, the latest of each mutant."""
    lines = path.read_text().splitlines() if path.exists() else []
    return list({row["id"]: row for row in map(json.loads, lines)}.values())


def _warm() -> None:
    """Load the compiled kernels, so that no forked process has to."""
    from conftest import COMPILE

    argv = sys.argv
    for dtype in ("float32", "float64"):
        sys.argv = ["", dtype]
        exec(COMPILE, {})
    sys.argv = argv


def _run(item: pytest.Item, after: pytest.Item | None) -> None:
    globs = dict(item.dtest.globs) if isinstance(item, pytest.DoctestItem) and item.dtest else None
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    if globs is not None:  # a doctest clears its names when it is done
        item.dtest.globs.update(globs)


def _tracer(lines: set[tuple[str, int]]) -> Callable:
    """For sys.settrace: notes the lines of npae that run."""
    house, cut = f"{ROOT}/npae/", len(str(ROOT)) + 1
    ours: dict[str, str | None] = {}

    def each(frame: Any, event: str, _: Any) -> Callable:
        lines.add((ours[frame.f_code.co_filename], frame.f_lineno))
        return each

    def calls(frame: Any, event: str, _: Any) -> Callable | None:
        path = frame.f_code.co_filename
        if path not in ours:
            ours[path] = path[cut:] if path.startswith(house) else None
        if ours[path] is None:
            return None
        lines.add((ours[path], frame.f_lineno))
        return each

    return calls


def _concerns(file: str, line: int, mutated: str, names: set[str]) -> bool:
    """Whether a line belongs to the mutated file, or for a compiled kernel to a Python function that leads to it."""
    return file == mutated if not names else _owner(file, line) in names


_owners: dict[str, dict[int, str]] = {}


def _owner(file: str, line: int) -> str:
    """The function of the fast kernels that a line stands in; "" elsewhere."""
    if "kernels/fast" not in file:
        return ""
    if file not in _owners:
        _owners[file] = {n: node.name for node in ast.parse((ROOT / file).read_text()).body
                         if isinstance(node, ast.FunctionDef | ast.ClassDef)
                         for n in range(node.lineno, node.end_lineno + 1)}
    return _owners[file].get(line, "")


def _forked(work: Callable[[], None]) -> int:
    """The process id of a child that does this work and nothing else, and says nothing on the terminal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        tempfile.tempdir = None
        work()
    finally:
        os._exit(0)
