"""How npae's time and memory grow: with threads, batch, pictures and width; and what a process costs before it trains.

    python benchmarks/scaling.py [--part threads batch pictures width memory startup] [--torch-python PATH]

Each part stands alone. Only `memory` has something to compare with: PyTorch's process on the same net and batches,
where `--torch-python` names an interpreter that has it.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import scaling_process
import scaling_work
import side_by_side
from steps import MODELS

from npae import kernels

PARTS = ("threads", "batch", "pictures", "width", "memory", "startup")


def measure(parts: Sequence[str] = PARTS, names: Sequence[str] = MODELS, rounds: int = 3, threads: int = 2,
            torch_python: str | None = None, sizes: Sequence[int] = scaling_work.BATCH_SIZES,
            numbers: Sequence[int] = scaling_work.PICTURES) -> dict[str, Any]:
    """{"benchmark", "machine", "versions", "threads", "parts": {...}} of the parts that are asked for."""
    result: dict[str, Any] = {"benchmark": "scaling", "machine": side_by_side.machine(), "threads": threads,
                              "versions": side_by_side.versions("numpy", "numba"), "parts": {}}
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "threads": lambda: scaling_work.threads(names, rounds),
        "batch": lambda: scaling_work.batch(names, rounds, sizes),
        "pictures": lambda: scaling_work.pictures(names, rounds, numbers),
        "width": lambda: scaling_work.width(rounds),
        "memory": lambda: scaling_process.memory(names, torch_python, threads),
        "startup": lambda: scaling_process.startup(names, rounds, threads)}
    for part in parts:
        kernels.set_threads(max(threads, 2) if part == "threads" else threads)
        result["parts"][part] = work[part]()
        print(markdown({"parts": {part: result["parts"][part]}}) + "\n", flush=True)
    return result


# ---- tables

def markdown(result: dict[str, Any]) -> str:
    """A table for each part that was measured."""
    tables = {"threads": _threads, "batch": _batch, "pictures": _pictures, "width": _width, "memory": _memory,
              "startup": _startup}
    return "\n\n".join(table(result["parts"][part]) for part, table in tables.items() if part in result["parts"])


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _threads(found: dict[str, Any]) -> str:
    return rows(["threads: model (batch)", "1 thread", "2 threads", "speed-up", "over the rounds"],
                ([f"`{name}` ({one['batch']})", *(f"{1e3 * s:.2f} ms" for s in one["seconds"].values()),
                  f"{one['speed_up']:.2f}", "{:.2f} to {:.2f}".format(*one["range"])] for name, one in found.items()))


def _batch(found: dict[str, Any]) -> str:
    sizes = list(next(iter(found.values()))["us"])
    return rows(["batch: µs a picture", *sizes, "rise at most"],
                ([f"`{name}`", *(f"{us:.0f}" if us >= 10 else f"{us:.1f}" for us in one["us"].values()),
                  f"{one['rise'] - 1:.0%}"] for name, one in found.items()))


def _pictures(found: dict[str, Any]) -> str:
    numbers = list(next(iter(found.values()))["seconds"])
    return rows(["pictures: seconds an epoch", *(f"{int(n):,}" for n in numbers), "grows as"],
                ([f"`{name}`", *(f"{s:.2f}" for s in one["seconds"].values()), f"n^{one['exponent']:.2f}"]
                 for name, one in found.items()))


def _width(found: dict[str, Any]) -> str:
    tables = []
    for kind, what in (("dense", "hidden width"), ("conv", "channels")):
        widths = found[kind]
        tables.append(rows([f"width: {kind}, {what}", *widths], [
            ["a step of 64 pictures, ms", *(f"{1e3 * one['seconds']:.2f}" for one in widths.values())],
            ["GF/s", *(f"{one['gflops']:.0f}" for one in widths.values())]]))
    return "\n\n".join(tables)


def _memory(found: dict[str, Any]) -> str:
    def torch(one: dict[str, Any]) -> str:
        return f"{one['torch']:.0f} MiB (handed over: {one['handed']:.0f})" if "torch" in one else "–"

    return rows(["memory: peak of the process", "npae", "PyTorch (eager)", "npae, train.fit"],
                ([f"`{name}`", f"{one['npae']:.0f} MiB", torch(one), f"{one['fit']:.0f} MiB"]
                 for name, one in found.items()))


def _startup(found: dict[str, Any]) -> str:
    imports = rows(["start-up: import, beside NumPy", "seconds"],
                   ([f"`{what}`", f"{seconds:.3f}"] for what, seconds in found["imports"].items()))
    models = rows(["start-up: a process until its first step is done", "cold", "of this compiling", "from the cache",
                   "of this imports", "building", "the step", "(the next one)"],
                  ([f"`{name}`", f"{one['cold']:.1f} s", f"{one['compiling']:.1f} s", f"{one['warm']:.2f} s",
                    *(f"{s:.2f}" for s in one["warm_parts"][:-1]), f"{one['warm_parts'][-1]:.3f}"]
                   for name, one in found["models"].items()))
    return f"{imports}\n\n{models}"


def main() -> None:
    """Measure, print each part when it is done, and write everything where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS, help="default: all")
    parser.add_argument("--models", choices=MODELS, nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each that are compared (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="of all parts but `threads` (default: 2)")
    parser.add_argument("--batches", type=int, nargs="+", default=scaling_work.BATCH_SIZES)
    parser.add_argument("--pictures", type=int, nargs="+", default=scaling_work.PICTURES)
    parser.add_argument("--torch-python", help="an interpreter that has PyTorch, for `memory`")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--picture", type=Path, help="draw `batch` and `pictures` there (PNG)")
    chosen = parser.parse_args()
    if "memory" in chosen.part and not chosen.torch_python:
        print("PyTorch's memory is left out: name an interpreter that has it with --torch-python PATH.\n")
    result = measure(chosen.part, chosen.models, chosen.rounds, chosen.threads, chosen.torch_python, chosen.batches,
                     chosen.pictures)
    if chosen.json:
        side_by_side.write_json(chosen.json, result)
    if chosen.picture:
        import scaling_picture

        scaling_picture.draw(result).savefig(chosen.picture)


if __name__ == "__main__":
    main()
