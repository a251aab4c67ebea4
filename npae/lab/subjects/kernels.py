"""The fast kernels beside the textbook: the same numbers, whoever runs the loops.

Each job runs three times: compiled, and read by Python (`npae.lab.interpreted`) with its tasks in both orders, where
wrong indices, empty arrays and tasks that meet are seen. A bug that is planted in a compiled function is in the
interpreted one at once; the file is compiled anew only where the interpreter finds nothing, since compiled code that
leaves its arrays may end the process.
"""
from __future__ import annotations

import importlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from npae.gradcheck import Line, Report
from npae.kernels import reference, set_threads
from npae.lab.findings import Findings
from npae.lab.interpreted import changed, compiled_anew, interpreted, watched
from npae.lab.kernel_jobs import Arrays, Job, activations, convolutions, dense, pools, steps, upsampling
from npae.layers import Tanh

DTYPES = (np.float32, np.float64)


# ---- what is asked of every job


def _jobs(make: Callable[[Any], Iterator[Job]]) -> list[Job]:
    return [job for dtype in DTYPES for job in make(dtype)]


def _wrong(K: Any, job: Job) -> str:
    return job.wrong(job.run(K, *job.arrays), job.run(reference, *job.arrays))


def _values(K: Any, jobs: list[Job]) -> str:
    return next(filter(None, (_wrong(K, job) for job in jobs)), "")


def _swallowed(K: Any, jobs: list[Job], found: Findings) -> str:
    """A NaN in the first array reaches every result that its place has a say in, where kernels are right otherwise.

    That is where a number of 1000 or -1000 in its place makes a difference: a zero of a matrix is no term of a sum.
    """
    for job in (job for job in jobs if not _wrong(K, job)):
        first, *others = job.arrays

        def run(K: Any, value: float, job: Job = job, first: Any = first, others: Any = others) -> Arrays:
            struck = first.copy()
            struck.reshape(-1)[first.size // 2] = value
            with np.errstate(invalid="ignore"):
                return job.run(K, struck, *others)

        got, want, high, low = run(K, math.nan), run(reference, math.nan), run(reference, 1e3), run(reference, -1e3)
        if any((np.isnan(b) & (c != d) & ~np.isnan(a)).any() for a, b, c, d in zip(got, want, high, low, strict=True)):
            return f"{job.name}: {found.say('a NaN is swallowed')}"
    return ""


def _dtypes(K: Any, jobs: list[Job], found: Findings) -> str:
    for job in jobs:
        got, want = ([array.dtype for array in job.run(k, *job.arrays)] for k in (K, reference))
        if got != want:
            wider = (np.dtype(np.float64), np.dtype(np.float32)) in zip(got, want, strict=True)
            return f"{job.name}: " + (found.say("float64 comes out of float32") if wider else f"{got}, not {want}")
    return ""


def _memory_order(K: Any, found: Findings) -> str:
    """The same numbers in another order of the memory."""
    x, y, bend = np.linspace(-2, 2, 12).reshape(3, 4), np.linspace(0, 1, 12).reshape(3, 4), Tanh()
    for f in (lambda a: K.activate(a, bend), lambda a: K.activate_input_grad(y, a, bend)):
        if not np.array_equal(f(x), f(np.asfortranarray(x))):
            return found.say("the result depends on the order in memory")
    return ""


@contextmanager
def _told_threads(n: int) -> Iterator[None]:
    """Inside, Numba says that it has n threads, and has what it has."""
    import numba

    right, numba.get_num_threads = numba.get_num_threads, lambda: n
    try:
        yield
    finally:
        numba.get_num_threads = right


def _same_bits(a: Arrays, b: Arrays) -> bool:
    return all(one.tobytes() == other.tobytes() for one, other in zip(a, b, strict=True))


def _blame(found: Findings, names: list[str], words: str) -> str:
    """Which kernels it is, and the words for it."""
    return ", ".join(dict.fromkeys(names)) + (f": {found.say(words)}" if words else "") if names else ""


# ---- the loops as Python reads them


def _read(K: Any, job: Job, threads: int = 2, backwards: bool = False) -> tuple[Any, Arrays]:
    with watched(backwards) as watch, _told_threads(threads), np.errstate(all="ignore"):
        try:
            return watch, job.run(K, *job.arrays)
        except IndexError:
            watch.beyond += 1
        except Exception:  # the line of the values tells which
            pass
    return watch, []


def _read_by_python(found: Findings, jobs: list[Job]) -> None:
    """What compiled code does not say: where an index points, what was empty, who else was there."""
    K = interpreted()
    read = [(job, *_read(K, job)) for job in jobs]
    below, beyond, met = ([job.name for job, watch, _ in read if getattr(watch, count)]
                          for count in ("below", "beyond", "met"))
    whole = [(job, got) for job, _, got in read if got]
    empty = [job.name for job, got in whole
             if any((np.isnan(a) if a.dtype.kind == "f" else a == np.iinfo(a.dtype).min).any() for a in got)]
    turned = [job.name for job, got in whole if not _same_bits(got, _read(K, job, backwards=True)[1])]
    counted = [job.name for job, got in whole if not _same_bits(got, _read(K, job, threads=1)[1])]
    for claim, names, words in (
            ("no index is below 0", below, "an index below 0 wraps round to the other end"),
            ("no index is beyond the end", beyond, "an index lies beyond the end"),
            ("no two tasks write to the same place", met, "two tasks write to the same place"),
            ("nothing is left or read as np.empty gave it", empty, "a number is as np.empty left it"),
            ("tasks in the reverse order give the same bits", turned, ""),
            ("told of 1 thread and of 2, the same bits come out", counted, "the sums depend on the number of threads")):
        found.test(claim, partial(_blame, found, names, words))
    _asked(found, "read by Python", K, [job for job, watch, _ in read if not watch.beyond])


def _asked(found: Findings, who: str, K: Any, jobs: list[Job]) -> None:
    found.test(f"{who}, kernels give the values of the reference", partial(_values, K, jobs), "reference")
    found.test(f"{who}, kernels give NaN for NaN", partial(_swallowed, K, jobs, found))
    found.test(f"{who}, kernels keep the dtype", partial(_dtypes, K, jobs, found))


def _file(file: str, make: Callable[[Any], Iterator[Job]], kernels: ModuleType) -> Report:
    """One of the fast_*.py files, or other kernels in its place; the reference is what they are held against."""
    from npae.kernels import fast

    found, module, jobs = Findings(), importlib.import_module(f"npae.kernels.{file}"), _jobs(make)
    title = f"Kernels of {file} beside the textbook: {len(jobs)} calls"
    K: Any = fast if kernels is reference else kernels
    if K is fast:
        _read_by_python(found, jobs)
        if changed(module):
            if any(line.status == "FAIL" for line in found.lines):
                found.lines.append(Line("NOTE", "compiled", "not compiled anew: Python has found something already"))
                return found.report(title)
            K, jobs = compiled_anew(module), _jobs(make)[-len(jobs) // 2:]  # float64 alone: it takes a second a kernel
    with _nothing_remembered(module):
        _asked(found, "compiled", K, jobs)
        if file == "fast_activation":
            found.test("the order in memory does not matter", partial(_memory_order, K, found))
        found.lines.append(_threads(K, jobs))
    return found.report(title)


@contextmanager
def _nothing_remembered(module: ModuleType) -> Iterator[None]:
    """What functions with a cache have found inside is forgotten outside, and the other way round: one has a bug."""
    functions = [thing for thing in vars(module).values() if hasattr(thing, "cache_clear")]
    for function in functions:
        function.cache_clear()
    try:
        yield
    finally:
        for function in functions:
            function.cache_clear()


def _threads(K: Any, jobs: list[Job]) -> Line:
    """The same bits, whoever works."""
    import numba

    claim = "1 thread and 2 give the same bits"
    if numba.config.NUMBA_NUM_THREADS < 2:
        return Line("NOTE", claim, "Numba has started with 1 thread: set NUMBA_NUM_THREADS=2")
    before, results = numba.get_num_threads(), []
    try:
        for n in (1, 2):
            set_threads(n)
            results.append([job.run(K, *job.arrays) for job in jobs])
    finally:
        set_threads(before)
    differ = [job.name for job, a, b in zip(jobs, *results, strict=True) if not _same_bits(a, b)]
    return Line("FAIL" if differ else "PASS", claim, ", ".join(dict.fromkeys(differ)))


# ---- the cache


def _cache(kernels: ModuleType) -> Report:
    """An edit of any file that kernels are made of leads to another folder of compiled code."""
    from npae.kernels import fast_parallel

    found = Findings()
    kept = fast_parallel.HERE, fast_parallel.SOURCES, fast_parallel.config.CACHE_DIR
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(shutil.copy(path, folder)) for path in fast_parallel.SOURCES]
        fast_parallel.HERE, fast_parallel.SOURCES = Path(folder), copies
        fast_parallel.config.CACHE_DIR = str(Path(folder) / "cache")
        try:
            for path in copies:
                before = fast_parallel._cache_folder()
                path.write_text(path.read_text() + "\n")
                stale = [path.name] * (fast_parallel._cache_folder() == before)
                found.test(f"an edit of {path.name} is seen",
                           partial(_blame, found, stale, "compiled code of before is used after an edit"))
        finally:
            fast_parallel.HERE, fast_parallel.SOURCES, fast_parallel.config.CACHE_DIR = kept
    return found.report("The cache of compiled kernels")


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    "fast_pool": partial(_file, "fast_pool", pools),
    "fast_upsampling": partial(_file, "fast_pool", upsampling),
    "fast_conv": partial(_file, "fast_conv", convolutions),
    "fast_dense": partial(_file, "fast_dense", dense),
    "fast_activation": partial(_file, "fast_activation", activations),
    "fast_training": partial(_file, "fast_training", steps),
    "compiled cache": _cache,
}
