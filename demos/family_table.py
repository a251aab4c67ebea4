"""Fill the README's table of the family from the metrics.json of runs, one run a recipe, and take its gallery from
their figures:

    python demos/family_table.py RUN RUN ...

Recipes without a run keep a dash and their picture. What stands between the two marks in README.md is this script's.
"""
from __future__ import annotations

import inspect
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npae import recipes, store
from npae.data import Dataset

README = Path(__file__).resolve().parent.parent / "README.md"
GALLERY = Path(__file__).resolve().parent / "gallery"
BEGIN, END = "<!-- the family: made by demos/family_table.py -->\n", "<!-- end of the family -->\n"
HEAD = ("| recipe | objective | model | demo | squared error an image (PCA's with as many numbers) | nats an image |\n"
        "|---|---|---|---|---|---|\n")
DEMOS = {"conv-ae": "06", "conv-vae": "09", "bernoulli-vae": "07", "mlp-vae": "08", "mlp-cvae": "08", "tied-ae": "02",
         "ae": "10", "weight-decay-ae": "10", "overcomplete-ae": "10", "denoising-ae": "03", "sparse-ae": "04",
         "contractive-ae": "05", "conv-pool-ae": "06", "iwae": "09"}
PICTURES = {"conv-vae": "manifold", "bernoulli-vae": "manifold", "mlp-vae": "samples", "iwae": "samples",
            "mlp-cvae": "class_sheet", "overcomplete-ae": "filters", "weight-decay-ae": "filters",
            "contractive-ae": "filters", "sparse-ae": "filters", "denoising-ae": "denoised", "ae": "interpolations",
            "conv-ae": "reconstructions", "conv-pool-ae": "reconstructions", "tied-ae": "reconstructions"}


def table(runs: Mapping[str, dict[str, Any]]) -> str:
    """A row for each recipe; `runs` are metrics by the recipe's name."""
    return HEAD + "".join(f"| {' | '.join(row(name, runs.get(name)))} |\n" for name in recipes.RECIPES)


def row(name: str, metrics: dict[str, Any] | None) -> list[str]:
    """What stands in the columns of a recipe."""
    recipe = recipes.get(name)
    kind = type(recipe.build(recipe.resolve({})[0], nothing(), np.random.default_rng(0)))
    file = Path(inspect.getfile(kind)).name
    equation = recipe.equation.replace("|", r"\|")  # a bar would end the column
    return [f"`{name}`", equation, f"[{file}](npae/models/{file})", DEMOS[name], *measured(metrics)]


def measured(metrics: dict[str, Any] | None) -> tuple[str, str]:
    """The two columns of numbers, on test pictures of 28 x 28."""
    if metrics is None:
        return "–", "–"
    test = metrics["test"]
    error = f"{784 * test['mse']:.2f}" + (f" ({784 * test['mse_pca']:.2f})" if "mse_pca" in test else "")
    if metrics.get("likelihood") == "Gaussian(variance=0.5)":
        nats = f"{test['recon'] - 392 * math.log(math.pi):.2f} + KL {test['kl']:.2f}; ELBO {test['elbo']:.2f}"
    elif "elbo" in test:
        nats = f"ELBO {test['elbo']:.2f}"
        if "log_likelihood" in test:
            nats += f"; log p(x) {test['log_likelihood']['log_likelihood']:.2f} ± {test['log_likelihood']['se']:.2f}"
    elif "kl" in test:
        nats = f"grey pixels: {test['recon']:.2f} + KL {test['kl']:.2f}"
    else:
        nats = f"grey pixels: {test['recon']:.2f}" if "recon" in test else "–"
    return error, nats.replace("-", "−")


def nothing() -> Dataset:
    """A data set of MNIST's kind without anything on it."""
    x, y = np.zeros((10, 28, 28, 1), np.uint8), np.arange(10)
    return Dataset(x, y, x, y, "nothing")


def filled(readme: str, text: str) -> str:
    """The README with this text between its marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + text + END + rest.split(END)[1]


if __name__ == "__main__":
    found = {}
    for folder in map(Path, sys.argv[1:]):
        metrics = store.read_json(folder / "metrics.json")
        name = metrics["recipe"]
        found[name] = metrics
        shutil.copyfile(folder / "figures" / f"{PICTURES[name]}.png", GALLERY / f"{name}.png")
    README.write_text(filled(README.read_text(), table(found)))
