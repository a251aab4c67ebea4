"""The command line: see the package's docstring."""
from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # before Numba is imported; who imports this file keeps his own threads
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")  # GNU's OpenMP does not survive a fork
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from . import __doc__ as guide
from .operators import FAST_FILES, FILES, ROOT, Mutant, files, mutants
from .workers import Harness, rows

SAMPLE = 150  # mutants of the compiled kernels: those with the smallest hashes, a share of each file
ELSEWHERE = ("bad_command_lines", "batches", "callbacks", "checkpoint", "checkpoint_faults", "checkpoint_fuzz",
             "checkpoint_kills", "checkpoint_signals", "cli", "data", "demos", "downloads", "explain_command",
             "explain_page", "explain_pictures", "explain_writing", "explore", "explore_page", "figures",
             "figures_codes", "figures_curves", "figures_grids", "figures_reconstruct", "figures_write", "floors",
             "idx", "idx_fuzz", "import", "interop", "kernels_parallel", "labs", "lock", "many_processes", "measures",
             "mnist", "mutation", "no_code_from_data", "numba_cache", "readme", "recipes", "store", "strokes",
             "trace_browser", "trace_command", "trace_cost", "trace_page")
"""Test files that say nothing of layers, kernels and objectives which others would not say sooner."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=guide.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--id", default="", help="mutants whose id contains this, or one of these: a,b")
    parser.add_argument("--fast", action="store_true", help="mutants of the compiled kernels")
    parser.add_argument("--tests", default="", help="only the test files tests/test_NAME.py: losses,penalties")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default 2)")
    parser.add_argument("--again", action="store_true", help="also those that survived")
    parser.add_argument("--control", action="store_true", help="edits that change nothing: all have to survive")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutation" / "results.jsonl")
    parser.add_argument("--list", action="store_true", help="the ids of mutants without a result")
    parser.add_argument("--show", metavar="ID", help="a mutant as a diff")
    parser.add_argument("--report", action="store_true", help="the table, and what survived")
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    chosen = [m for m in chosen_mutants(args.fast) if args.only in m.file
              and any(part in m.id for part in args.id.split(","))]
    if args.control:
        chosen, args.results = unchanged(chosen), args.results.with_name("control.jsonl")
    if args.show:
        print("\n\n".join(m.diff() for m in [*chosen_mutants(False), *chosen_mutants(True)] if m.id == args.show))
    elif args.report:
        report([*chosen_mutants(False), *chosen_mutants(True)], args.results)
    elif args.list:
        done = {row["id"] for row in rows(args.results)}
        print("\n".join(m.id for m in chosen if m.id not in done))
    else:
        tests = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py"))
                 if path.stem.removeprefix("test_") not in ELSEWHERE]
        tests = [*tests, *files(FILES)]  # those for their doctests
        if args.tests:
            tests = [str(ROOT / "tests" / f"test_{name}.py") for name in args.tests.split(",")]
        os.chdir(ROOT)
        harness = Harness(chosen, args.results, args.jobs, compiled=args.fast, again=args.again)
        return pytest.main([*tests, "-q", "-s", "--tb=native", "--assert=plain",
                            "-p", "no:cacheprovider", "-p", "no:faulthandler"], [harness])
    return 0


def chosen_mutants(fast: bool) -> list[Mutant]:
    """Of the NumPy and Python code all; of the compiled kernels as many of each file as its share of SAMPLE."""
    if not fast:
        return [m for file in files() for m in mutants(file)]
    found = {file: [m for m in mutants(file) if m.place == "body"] for file in files(FAST_FILES)}
    total = sum(map(len, found.values()))
    return [m for ms in found.values()
            for m in sorted(ms, key=lambda m: hashlib.sha1(m.id.encode()).digest())[:-(-SAMPLE * len(ms) // total)]]


def unchanged(chosen: list[Mutant]) -> list[Mutant]:
    """For each function an edit that puts there what stands there: a test that fails says nothing of mutants."""
    first = {(m.file, m.function): m for m in reversed(chosen)}
    return [replace(m, id=f"{m.id}:control", text=(ROOT / m.file).read_bytes()[m.start:m.end].decode())
            for m in first.values()]


def report(known: list[Mutant], results: Path) -> None:
    """A line a file; what survived and is not explained."""
    result = {row["id"]: row["result"] for row in rows(results)}
    told = (Path(__file__).parent / "survivors.md")
    explained = told.read_text() if told.exists() else ""
    print(f"{'file':<36}{'mutants':>8}{'killed':>8}{'equivalent':>12}{'open':>6}{'to run':>8}")
    table = {file: Counter() for file in dict.fromkeys(m.file for m in known)}
    for m in known:
        state = result.get(m.id, "to run")
        table[m.file]["equivalent" if state == "survived" and f"`{m.id}`" in explained else state] += 1
    for file, c in [*table.items(), ("all", sum(table.values(), Counter()))]:
        alive = sum(c.values()) - c["stillborn"]
        print(f"{file:<36}{alive:>8}{c['killed']:>8}{c['equivalent']:>12}{c['survived']:>6}{c['to run']:>8}")
    for m in known:
        if result.get(m.id) == "survived" and f"`{m.id}`" not in explained:
            print(f"\n{m.id}\n{m.diff()}")


if __name__ == "__main__":
    sys.exit(main())
