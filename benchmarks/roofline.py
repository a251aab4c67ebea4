"""Each kernel and each model's step against what the machine can do: the fraction reached, and where the rest goes.

    python benchmarks/roofline.py --model conv-vae        one model's profile, in seconds
"""
from __future__ import annotations

import argparse

import machine
import step_profile
from steps import MODELS, Step

from npae import kernels


def main() -> None:
    """One model's profile, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS), help="models to look at")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="steps that a profile watches")
    chosen = parser.parse_args()
    kernels.set_threads(chosen.threads)
    peak = machine.sgemm_peak(chosen.threads)
    print(f"sgemm, {chosen.threads} threads: {peak['gflops']:.0f} GF/s ({peak['library']}, {peak['size']} square)\n")
    for name in chosen.model:
        step = Step(name)
        print(f"{name}, batch {step.batch_size}")
        print(step_profile.table(step_profile.profile(step, chosen.steps), peak["gflops"]) + "\n")


if __name__ == "__main__":
    main()
