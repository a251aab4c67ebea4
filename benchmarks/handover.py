"""What npae hands to its peers, as one .npz: the recipe's settings, weights, batches and noise, and what npae makes of
them (loss, gradients, theta after three steps), so that a peer proves that it does the same before it is timed.

    python benchmarks/handover.py RECIPE FILE.npz [--batch-size N]     writes the file, then steps when it is told to
"""
from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import serve
from steps import Step

import npae
from npae.layers import Shift

WARM = 3  # steps that npae and a peer take from the same start, to end at the same theta


def write(step: Step, path: Path) -> None:
    """Take the first three steps, and write down everything that a peer needs to take them too."""
    model = step.model
    start = {p.name: p.value.copy() for p in model.params}
    loss = step.loss_and_grad(0)["loss"] - model.likelihood.constant(math.prod(step.x.shape[2:]))
    grad = {p.name: p.grad.copy() for p in model.params}
    for i in range(WARM):
        step(i)
    arrays = {"x": step.x, **({} if step.eps is None else {"eps": step.eps}), **shifts(model)}
    for kind, values in ("start", start), ("grad", grad), ("end", {p.name: p.value for p in model.params}):
        arrays.update({f"{kind}/{name}": value for name, value in values.items()})
    np.savez(path, facts=json.dumps({**facts(step), "loss": loss}), **arrays)


def facts(step: Step) -> dict[str, Any]:
    """Settings of the objective and of the optimizer."""
    model = step.model
    return {"recipe": step.recipe, "latent": step.settings["latent"], "optimizer": step.optimizer.config(),
            "beta": getattr(model, "beta", None), "kl": getattr(model, "kl", None)}


def shifts(model: Any) -> dict[str, np.ndarray]:
    """The mean picture that a tied autoencoder adds at its end."""
    last = list(model.decoder.walk())[-1]
    return {"mean": last.offset.astype(np.float32)} if isinstance(last, Shift) else {}


def main() -> None:
    """Write the file, then serve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("recipe")
    parser.add_argument("file", type=Path)
    parser.add_argument("--batch-size", type=int)
    chosen = parser.parse_args()
    step = Step(chosen.recipe, chosen.batch_size)
    write(step, chosen.file)
    serve(step, {"npae": npae.__version__, "batch": step.batch_size, "numbers": step.model.theta.size})


if __name__ == "__main__":
    main()
