"""A training step of npae beside PyTorch's, in turn on the same cores, for the five tutorial models in float32.

    python benchmarks/vs_torch.py [--torch-python PATH] [--threads 2 1] [--repeats 5] [--json FILE] [--picture FILE.png]

A step is forward, loss, backward and optimizer on a batch that is ready. Every way to run it has a process of its own
and steps when it is its turn. Before it is timed, each peer shows that it computes what npae computes: equal weights,
batch, noise and settings give the same loss and gradients, and the same theta after three steps. npae's peer is the
fastest of PyTorch's modes, model by model and repeat by repeat; JAX (jit) is a second one where it is installed.
"""
from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side import Times, Worker, WorkerError, geometric_mean, in_turn, machine, ratio, versions, write_json
from steps import MODELS

HERE = Path(__file__).resolve().parent
OURS, JAX = "npae", "JAX jit"
MODES = {"eager": "eager", "channels_last": "eager, channels_last", "compile": "torch.compile",
         "compile_channels_last": "torch.compile, channels_last"}
DENSE = ("mlp-vae", "tied-ae")  # without pictures inside: channels_last is the same there
# how far apart npae and a peer may be: all in float64, and the loss, each gradient and theta in float32, as it is timed
BOUNDS = {"double": 1e-10, "loss": 1e-4, "grad": 1e-3, "theta": 1e-3}
Result = dict[str, Any]


# ---- one side-by-side run

def side_by_side(recipe: str, threads: int, peers: Mapping[str, Sequence[str]], rounds: int,
                 batch_size: int | None = None) -> Result:
    """npae and each peer that verifies (its name -> the command up to the handover), in processes that begin now."""
    with ExitStack() as stack:
        handover = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "handover.npz"
        size = ["--batch-size", str(batch_size)] if batch_size else []
        command = [sys.executable, str(HERE / "handover.py"), recipe, str(handover), *size]
        workers = {OURS: stack.enter_context(Worker(command, threads))}
        errors, refused = {}, {}
        for name, command in peers.items():
            try:
                worker = stack.enter_context(Worker([*command, str(handover), "--threads", str(threads)], threads))
                errors[name] = worst(worker.ready["errors"])
                if objection := disagreement(errors[name]):
                    raise WorkerError(f"{name} does not compute what npae computes: {objection}")
            except WorkerError as error:
                refused[name] = str(error)
                print(f"  !! {recipe}, {name}: NOT TIMED. {error}", file=sys.stderr, flush=True)
                continue
            workers[name] = worker
        steps = in_turn(workers, rounds)
        return {"batch": workers[OURS].ready["batch"], "errors": errors, "refused": refused, "steps": steps,
                **compared(steps)}


def worst(errors: Mapping[str, Any]) -> dict[str, float]:
    """The largest of each kind; a not-a-number is larger than anything."""
    return {key: max(many.values() if isinstance(many, dict) else [many], key=lambda e: math.inf if e != e else e)
            for key, many in errors.items()}


def disagreement(error: Mapping[str, float]) -> str:
    """What is farther from npae than it may be; a not-a-number is. Empty: nothing."""
    what = {"double": "loss or gradient in float64", "loss": "the loss", "grad": "a gradient",
            "theta": "theta after 3 steps"}
    return "; ".join(f"{what[key]} is {error[key]:.1e} off, at most {bound:g} is allowed"
                     for key, bound in BOUNDS.items() if not error[key] <= bound)


def compared(steps: Times) -> Result:
    """npae beside PyTorch's fastest mode (by its median step), and beside JAX."""
    found: Result = {}
    modes = [name for name in steps if name not in (OURS, JAX)]
    if modes:
        peer = min(modes, key=lambda name: median(steps[name]))
        found = {"peer": peer, "ratio": ratio(steps, peer, OURS), "best": min(steps[peer]) / min(steps[OURS])}
    if JAX in steps:
        found["jax"] = ratio(steps, JAX, OURS)
    return found


# ---- all of them

def measure(torch_python: str = sys.executable, jax_python: str = sys.executable, models: Sequence[str] = MODELS,
            threads: Sequence[int] = (2,), repeats: int = 1, rounds: int = 12, modes: Sequence[str] = tuple(MODES),
            batch_size: int | None = None) -> Result:
    """{"threads": {n: {"repeats": [{model: ...}], "summary": ...}}}: each repeat has new processes."""
    torch, jax = (version(python, name) for python, name in ((torch_python, "torch"), (jax_python, "jax")))
    result: Result = {"benchmark": "vs_torch", "machine": machine(), "rounds": rounds, "threads": {}, "versions": {
        **versions("numpy", "numba", "npae"), **({"torch": torch} if torch else {}), **({"jax": jax} if jax else {})}}
    if not torch:
        print(f"PyTorch is not installed for {torch_python}: npae's own times alone follow. "
              "(`pip install torch` there, or name a Python that has it with --torch-python.)\n", flush=True)
    for n in threads:
        runs: list[dict[str, Result]] = []
        for k in range(repeats):
            print(f"{n} thread{'s' * (n > 1)} each, run {k + 1} of {repeats}", flush=True)
            runs.append({})
            for model in models:
                peers = dict(commands(model, torch_python if torch else "", jax_python if jax else "", modes))
                runs[-1][model] = side_by_side(model, n, peers, rounds, batch_size)
                print(line(model, runs[-1][model]), flush=True)
        result["threads"][str(n)] = {"repeats": runs, "summary": summary(runs)}
        print(conclusion(result["threads"][str(n)]["summary"]), flush=True)
    return result


def version(python: str, package: str) -> str:
    """The version that this Python imports; empty where it cannot."""
    done = subprocess.run([python, "-c", f"import {package}; print({package}.__version__)"], capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def commands(model: str, torch_python: str, jax_python: str, modes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each peer and how it is started; a Python that is empty has none."""
    if torch_python:
        for mode in modes:
            if not (model in DENSE and "channels_last" in mode):
                yield MODES[mode], [torch_python, str(HERE / "torch_peer.py"), "--mode", mode]
    if jax_python:
        yield JAX, [jax_python, str(HERE / "jax_peer.py")]


def summary(runs: Sequence[Mapping[str, Result]]) -> Result:
    """For each model the medians over the repeats, and how far they spread; the geometric mean over the models."""
    models = {model: over_repeats([run[model] for run in runs]) for model in runs[0]}
    found: Result = {"models": models}
    for key in ("ratio", "best", "jax"):
        means = [geometric_mean([one[key] for one in run.values()]) for run in runs
                 if all(key in one for one in run.values())]
        if means:
            found[key], found[f"{key}_range"] = median(means), [min(means), max(means)]
    return found


def over_repeats(runs: Sequence[Result]) -> Result:
    """Medians over the repeats of one model's figures, in seconds and ratios."""
    names = [name for name in runs[0]["steps"] if all(name in run["steps"] for run in runs)]
    found: Result = {
        "batch": runs[0]["batch"],
        "median": {name: median(median(run["steps"][name]) for run in runs) for name in names},
        "fastest": {name: min(min(run["steps"][name]) for run in runs) for name in names}}
    found["images"] = {name: runs[0]["batch"] / found["median"][name] for name in names}
    for key in ("ratio", "best", "jax"):
        values = [run[key] for run in runs if key in run]
        if values:
            found[key], found[f"{key}_range"] = median(values), [min(values), max(values)]
    peers = [run["peer"] for run in runs if "peer" in run]
    if peers:
        found["peer"] = max(dict.fromkeys(peers), key=peers.count)
    return found


# ---- words

def line(model: str, one: Result) -> str:
    """What one run of one model found."""
    rows = [f"  {model}, batch {one['batch']}"]
    for name, times in one["steps"].items():
        text = f"    {name:29s} best {1e3 * min(times):8.3f} ms   median {1e3 * median(times):8.3f} ms   " \
               f"{one['batch'] / median(times):9.0f} images/s"
        if name != OURS:
            text += f"   ÷ npae {ratio(one['steps'], name, OURS):5.2f}{'  <- the peer' if name == one.get('peer') else ''}"
        rows.append(text)
    return "\n".join(rows)


def conclusion(found: Result) -> str:
    """The ratios over all repeats."""
    rows = ["  median of the repeats (least to most):"]
    for model, one in found["models"].items():
        if "ratio" in one:
            rows.append(f"    {model:14s} {spread(one, 'ratio')}   best by best {one['best']:.2f}   {one['peer']}")
    if "ratio" in found:
        rows.append(f"    geometric mean {spread(found, 'ratio')}   best by best {found['best']:.2f}")
    if "jax" in found:
        rows.append(f"    geometric mean of {JAX} {spread(found, 'jax')}")
    return "\n".join(rows) + "\n" if len(rows) > 1 else ""


def spread(found: Result, key: str) -> str:
    """2.31 (2.25 to 2.36)"""
    low, high = found[f"{key}_range"]
    return f"{found[key]:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure, print, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--jax-python", default=sys.executable, help="a Python that has JAX (default: this one)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--threads", nargs="+", type=int, default=[2], help="for each side; several are done in turn")
    parser.add_argument("--repeats", type=int, default=1, help="runs with new processes; the figures are their median")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each in a run, of about 0.25 s")
    parser.add_argument("--batch-size", type=int, help="another than the recipe's")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    result = measure(chosen.torch_python, chosen.jax_python, chosen.models, chosen.threads, chosen.repeats,
                     chosen.rounds, chosen.modes, chosen.batch_size)
    if chosen.json:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
