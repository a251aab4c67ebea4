"""What npae hands to its peers, as one .npz: the recipe's settings, weights, batches and noise, and what npae makes of
them, so that a peer shows that it does the same before it is timed.

    python benchmarks/handover.py RECIPE FILE.npz [--batch-size N]     writes the file, then steps when it is told to

Arrays: x (8, N, H, W, C), eps (8, N, d) of a VAE, mean (H, W, C) of a tied autoencoder;   start/NAME, each parameter;
    loss (8,) without the likelihood's constant and grad/NAME/i, of every batch i at the start;
    end/NAME after one optimizer step along each of the first three of these gradients;
    loss64 and grad64/NAME, batch 0 again in float64 by the textbook kernels, where rounding decides nothing.
The steps follow gradients that are handed over, and not each side's own: where the sum before a ReLU is zero but for
rounding, the two sides may differ in which way it bends, and RMSprop's first step is as long for every weight, however
small its gradient. From there the two would walk apart, and both be right.
"""
from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import serve
from steps import BATCHES, Step

import npae
from npae.kernels import reference
from npae.layers import Shift

STEPS = 3


def write(step: Step, path: Path) -> None:
    """Write down everything that a peer needs to do the same, and to see that it does; takes three steps."""
    params, constant = step.model.params, step.model.likelihood.constant(math.prod(step.x.shape[2:]))
    arrays = {"x": step.x, **({} if step.eps is None else {"eps": step.eps}), **mean_picture(step.model)}
    arrays.update({f"start/{p.name}": p.value.copy() for p in params})
    loss, grad = [], []
    for i in range(BATCHES):
        loss.append(step.loss_and_grad(i)["loss"] - constant)
        grad.append(step.model.grad.copy())
        arrays.update({f"grad/{p.name}/{i}": p.grad.copy() for p in params})
    loss64, grad64 = in_float64(step)
    for i in range(STEPS):
        step.optimizer.step(step.model.theta, grad[i])
    arrays.update({f"end/{p.name}": p.value for p in params})
    np.savez(path, facts=json.dumps(facts(step)), loss=loss, loss64=loss64 - constant, **grad64,
             **arrays)


def in_float64(step: Step) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of batch 0 and its gradient, by the textbook."""
    model = step.model.to(dtype=np.float64, kernels=reference)
    if step.eps is not None:
        model.reparameterize.eps = step.eps[0].astype(np.float64)
    model.zero_grad()
    loss = model.loss(step.x[0].astype(np.float64))["loss"]
    model.backward()
    return loss, {f"grad64/{p.name}": p.grad for p in model.params}


def facts(step: Step) -> dict[str, Any]:
    """Settings of the objective and of the optimizer."""
    model = step.model
    return {"recipe": step.recipe, "latent": step.settings["latent"], "optimizer": step.optimizer.config(),
            "beta": getattr(model, "beta", None), "kl": getattr(model, "kl", None)}


def mean_picture(model: Any) -> dict[str, np.ndarray]:
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
