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
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from side_by_side import Worker, WorkerError, in_turn, machine, others_at_work, versions, write_json
from steps import MODELS
from vs_torch_report import JAX, OURS, Result, compared, conclusion, line, markdown, picture, summary

from npae.figures import save

__all__ = ["main", "markdown", "measure"]
HERE = Path(__file__).resolve().parent
MODES = {"eager": "eager", "channels_last": "eager, channels_last", "compile": "torch.compile",
         "compile_channels_last": "torch.compile, channels_last"}
DENSE = ("mlp-vae", "tied-ae")  # without pictures inside: channels_last is the same there
# how far apart npae and a peer may be: all in float64, and the loss, each gradient and theta in float32, as it is timed
BOUNDS = {"double": 1e-10, "loss": 1e-4, "grad": 1e-3, "theta": 1e-3}


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
                command = [*command, str(handover), "--threads", str(threads)]
                with Worker([*command, "--verify"], threads) as verifier:  # in a process of its own: see the README
                    errors[name] = worst(verifier.ready["errors"])
                if objection := disagreement(errors[name]):
                    raise WorkerError(f"{name} does not compute what npae computes: {objection}")
                worker = stack.enter_context(Worker(command, threads))
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


# ---- all of them

def measure(torch_python: str = sys.executable, jax_python: str = sys.executable, models: Sequence[str] = MODELS,
            threads: Sequence[int] = (2,), repeats: int = 1, rounds: int = 12, modes: Sequence[str] = tuple(MODES),
            batch_size: int | None = None) -> Result:
    """{"threads": {n: {"repeats": [{model: ...}], "summary": ...}}}: each repeat has new processes."""
    if warning := others_at_work():
        print(warning + "\n", flush=True)
    torch, jax = (version(python, name) for python, name in ((torch_python, "torch"), (jax_python, "jax")))
    peers = {name: found for name, found in (("torch", torch), ("jax", jax)) if found}
    made = {**versions("numpy", "numba", "npae"), **peers}
    result: Result = {"benchmark": "vs_torch", "machine": machine(), "versions": made, "rounds": rounds,
                      "busy": warning, "allocator": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
                      "threads": {}}
    if not torch:
        print(f"PyTorch is not installed for {torch_python}: npae's own times alone follow. "
              "(`pip install torch` there, or name a Python that has it with --torch-python.)\n", flush=True)
    for n in threads:
        runs: list[dict[str, Result]] = []
        for k in range(repeats):
            print(f"{n} thread{'s' * (n > 1)} each, run {k + 1} of {repeats}", flush=True)
            runs.append({})
            for model in models:
                started = dict(commands(model, torch_python if torch else "", jax_python if jax else "", modes))
                runs[-1][model] = side_by_side(model, n, started, rounds, batch_size)
                print(line(model, runs[-1][model]), flush=True)
        result["threads"][str(n)] = {"repeats": runs, "summary": summary(runs)}
        print(conclusion(result["threads"][str(n)]["summary"]), flush=True)
    return result


def version(python: str, package: str) -> str:
    """The version that this Python imports; empty where it cannot.

    Raises ValueError: there is no such Python.
    """
    try:
        done = subprocess.run([python, "-c", f"import {package}; print({package}.__version__)"], capture_output=True,
                              text=True)
    except OSError as error:
        raise ValueError(f"{python} cannot be started ({error.strerror}): --torch-python and --jax-python take the "
                         "path of a Python") from None
    return done.stdout.strip() if done.returncode == 0 else ""


def commands(model: str, torch_python: str, jax_python: str, modes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each peer and how it is started; a Python that is empty has none."""
    if torch_python:
        for mode in modes:
            if not (model in DENSE and "channels_last" in mode):
                yield MODES[mode], [torch_python, str(HERE / "torch_peer.py"), "--mode", mode]
    if jax_python:
        yield JAX, [jax_python, str(HERE / "jax_peer.py")]


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
    parser.add_argument("--json", type=Path, help="write everything there, turn by turn")
    parser.add_argument("--picture", type=Path, help="draw the ratios there (PNG)")
    chosen = parser.parse_args()
    try:
        result = measure(chosen.torch_python, chosen.jax_python, chosen.models, chosen.threads, chosen.repeats,
                         chosen.rounds, chosen.modes, chosen.batch_size)
    except (ValueError, WorkerError) as error:
        raise SystemExit(str(error)) from None
    if chosen.json:
        write_json(chosen.json, result)
    if chosen.picture and not any("ratio" in one["summary"] for one in result["threads"].values()):
        print(f"There are no ratios to PyTorch, so no picture is drawn to {chosen.picture}.")
    elif chosen.picture:
        save(picture(result), chosen.picture)


if __name__ == "__main__":
    main()
