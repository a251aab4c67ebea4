"""Each kernel and each model's step against what the machine can do: the fraction reached, and where the rest goes.

    python benchmarks/roofline.py                           all five models; --json, --picture to keep what it finds
    python benchmarks/roofline.py --model conv-vae          one model's step, layer by layer, in seconds

A kernel cannot be faster than the machine's own large matrix product (sgemm), nor than a copy of the bytes that it must
read and write (or their update in place): two roofs, of which the one that asks for more time is the nearer. Flops are
those that a layer really does (`multiply_adds`, twice): UpsampleConv2d's are fewer than those of the two layers that it
stands for, whose count stands beside it. A step has forward, dW and dx of each layer; the first that learns has no dx.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kernel_calls
import machine
import side_by_side
import step_profile
from steps import MODELS, Step

from npae import kernels


def measure(models: Sequence[str] = MODELS, threads: Sequence[int] = (1, 2), steps: int = 60, seconds: float = 0.1,
            torch_python: str | None = None, batch_size: int | None = None) -> dict[str, Any]:
    """Peaks, a profile for each number of threads, and with the largest number every kernel that the models call."""
    peaks = {str(t): {"sgemm": machine.sgemm_peak(t, torch_python), "copy": machine.copy_bandwidth(t)} for t in threads}
    found = {name: _model(name, threads, steps, seconds, batch_size) for name in models}
    for t in threads:  # once more: a machine that was busy at the beginning would flatter every figure
        again = machine.sgemm_peak(t, torch_python)
        peaks[str(t)]["sgemm"] = max(peaks[str(t)]["sgemm"], again, key=lambda one: one["gflops"])
    result = {"benchmark": "roofline", "machine": side_by_side.machine(),
              "versions": side_by_side.versions("numpy", "numba"), "threads": max(threads), "peaks": peaks,
              "models": found}
    compare(result)
    return result


def _model(name: str, threads: Sequence[int], steps: int, seconds: float, batch_size: int | None) -> dict[str, Any]:
    """What one model takes: its profiles, and its kernels alone."""
    profiles: dict[str, Any] = {}
    for t in sorted(threads):
        kernels.set_threads(t)
        step = Step(name, batch_size)
        profiles[str(t)] = step_profile.profile(step, steps)
    calls = [vars(call) for call in kernel_calls.measure(step, seconds)]
    return {"batch": step.batch_size, "profiles": profiles, "kernels": calls}


def compare(result: dict[str, Any]) -> None:
    """Write beside each time the part of the peaks that it reaches."""
    peaks = result["peaks"]
    most = peaks[str(result["threads"])]
    for one in result["models"].values():
        for t, found in one["profiles"].items():
            found["reached"] = step_profile.reached(found, peaks[t]["sgemm"]["gflops"])
        for call in one["kernels"]:
            call.update(kernel_calls.roofs(call, most["sgemm"]["gflops"], most["copy"]))


# ---- tables

def markdown(result: dict[str, Any]) -> str:
    """The README's two tables: the steps, and the kernels, each over all shapes at which the models call it."""
    t, single = str(result["threads"]), min(result["peaks"], key=int)
    peak, copies = result["peaks"][t]["sgemm"], list(result["peaks"][t]["copy"].values())
    lines = [f"{result['machine']['cpu']}, {t} threads: sgemm {peak['gflops']:.0f} GF/s ({peak['library']}), copies of "
             f"{copies[-1]:.0f} GB/s in memory and {copies[0]:.0f} GB/s in the cores' caches (read and written).", "",
             f"| model (batch) | a step | GF/s | of the sgemm peak | with {single} thread | products: at the peak, "
             "beyond it | other loops | NumPy and Python |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, one in result["models"].items():
        found, alone = one["profiles"][t], one["profiles"][single]
        at_peak, beyond, other, python = (f"{share:.0%}" for share in found["reached"]["shares"].values())
        two = found["reached"]["two_layer_fraction"]
        counted = f" ({two:.0%} counted as two layers)" * (two != found["reached"]["fraction"])
        lines.append(f"| `{name}` ({one['batch']}) | {1e3 * found['step']:.2f} ms | {found['reached']['gflops']:.0f} | "
                     f"{found['reached']['fraction']:.0%}{counted} | {alone['reached']['fraction']:.0%} | "
                     f"{at_peak}, {beyond} | {other} | {python} |")
    lines += ["", "| kernel | shapes | GF/s | GB/s at least | of the nearer roof, each shape | all together |",
              "|---|---:|---:|---:|---:|---:|"]
    for kernel, calls in by_kernel(result).items():
        fractions = [call["fraction"] for call in calls]
        whole = sum(call["times"] * call["fraction"] * call["seconds"] for call in calls)
        whole /= sum(call["times"] * call["seconds"] for call in calls)
        lines.append(f"| `{kernel}` | {len(calls)} | {_range([call['gflops'] for call in calls])} | "
                     f"{_range([call['gbytes'] for call in calls])} | {_range([100 * f for f in fractions])} % | "
                     f"{whole:.0%} |")
    return "\n".join(lines)


def by_kernel(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The calls of all models under the kernel's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in result["models"].values():
        for call in one["kernels"]:
            found.setdefault(call["kernel"], []).append(call)
    return dict(sorted(found.items()))


def _range(values: list[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 1 else f"{value:.1f}" for value in (min(values), max(values)))
    return "–" if max(values) == 0 else low if low == high else f"{low}–{high}"


def table(result: dict[str, Any]) -> str:
    """Everything as text, for the terminal."""
    t, texts = str(result["threads"]), []
    for name, one in result["models"].items():
        texts += [f"{name}, batch {one['batch']}, {t} threads",
                  step_profile.table(one["profiles"][t], result["peaks"][t]["sgemm"]["gflops"]), "",
                  f"{'each kernel alone':<27}{'where':<36}{'':>4}{'us':>9}{'GF/s':>8}{'GB/s':>8}  nearer roof"]
        texts += [f"{call['kernel']:<27}{call['where'][:35]:<36}{call['times']:>3}x{1e6 * call['seconds']:9.1f}"
                  f"{call['gflops']:8.1f}{call['gbytes']:8.1f}  {call['fraction']:4.0%} of {call['roof']}"
                  for call in one["kernels"]] + [""]
    return "\n".join(texts)


def main() -> None:
    """One model's profile, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--model", choices=MODELS, nargs="+", help="show the profile of these models alone, quickly")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--steps", type=int, default=60, help="steps that a profile watches (default: 60)")
    parser.add_argument("--torch-python", help="an interpreter that has PyTorch, whose matrix product counts too")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--picture", type=Path, help="draw where each step goes there (PNG)")
    chosen = parser.parse_args()
    most = max(chosen.threads)
    kernels.set_threads(most)
    if chosen.model:
        peak = machine.sgemm_peak(most, chosen.torch_python)
        print(f"sgemm, {most} threads: {peak['gflops']:.0f} GF/s ({peak['library']}, {peak['size']} square)\n")
        for name in chosen.model:
            print(f"{name}\n{step_profile.table(step_profile.profile(Step(name), chosen.steps), peak['gflops'])}\n")
        return
    result = measure(MODELS, chosen.threads, chosen.steps, torch_python=chosen.torch_python)
    print(table(result) + "\n" + markdown(result))
    if chosen.json:
        side_by_side.write_json(chosen.json, result)
    if chosen.picture:
        import roofline_picture

        roofline_picture.draw(result).savefig(chosen.picture)


if __name__ == "__main__":
    main()
