"""What a wrong gradient of a model looks like: terms of the loss, places of tied weights, images."""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from npae.gradcheck.diagnosis.jacobian import MOST, alike
from npae.gradcheck.diagnosis.layer import layer_facts
from npae.gradcheck.diagnosis.rows import Wrong, wrong_of, wrong_rows
from npae.gradcheck.diagnosis.shares import differences, shares_of_terms, shares_of_uses
from npae.gradcheck.facts import Facts
from npae.gradcheck.specimen import Specimen
from npae.gradcheck.verdicts import Row

Array = np.ndarray
ENTRIES = re.compile(r" in all \d+ (checked )?entries")
"""How many there are differs from array to array, and is in the table."""


def diagnose_model(specimen: Specimen, x: Array, y: Array | None, claimed: dict[str, Array], rows: Sequence[Row],
                   facts: Facts) -> tuple[str, ...]:
    """For each wrong row: which term of the loss is missing or too large, which place of a tied weight, which image.

    Rows of which the same is true share a sentence.
    """
    facts = layer_facts(specimen.target, x, x, specimen.params).with_(_settings(specimen.target)).with_(facts)
    told: dict[str, list[str]] = {}
    for row in wrong_rows(rows):
        said = _of_terms(specimen, x, y, row)
        if not said:
            wrong = wrong_of(row, claimed[row.name], _whole(specimen, x, y, row))
            own = Facts(arrays={row.name.rsplit(".", 1)[-1]: specimen.params[row.name].value})  # decay is c times it
            plain = wrong.explain(facts.with_(own)) or _of_halves(wrong)
            said = [plain.removeprefix(wrong.name).strip()] if plain else []
        said = said or _of_uses(specimen, x, y, row) or _of_images(specimen, x, y, row)
        for words in said or ["nothing that is known explains it"]:
            told.setdefault(ENTRIES.sub("", words), []).append(row.name)
    return tuple(_sentence(names, words) for words, names in told.items())


def _whole(specimen: Specimen, x: Array, y: Array | None, row: Row) -> Array | None:
    """The right gradient of all entries of a small parameter, not only of those that were looked at."""
    if row.size > MOST:
        return None
    value = specimen.params[row.name].value
    return differences(lambda: np.array([specimen.loss(x, y)["loss"]]), value).reshape(row.shape)


def _of_halves(wrong: Wrong) -> str:
    """Two heads are one layer: mu is the first half of its units, logvar the second."""
    d, odd = divmod(wrong.got.shape[-1], 2)
    if not wrong.whole or odd or not alike(wrong.got, np.concatenate([wrong.want[..., d:], wrong.want[..., :d]], -1)):
        return ""
    return "the first half of the units and the second are swapped"


def _sentence(names: list[str], words: str) -> str:
    """One subject for all arrays of which the same is true."""
    if len(names) == 1:
        verb = words.startswith(("is ", "has ", "lacks ", "counts "))
        return f"the gradient of {names[0]}{'' if verb else ':'} {words}"
    more = f" and of {len(names) - 2} more" if len(names) > 2 else ""
    return f"the gradient of {names[0]}, of {names[1]}{more}, each: {words}"


def _settings(model: Any) -> Facts:
    """beta, lam, rho and the like; the variance of the likelihood."""
    words = {"variance": "the variance", "samples": "the number of samples", "factor": "the factor",
             "amount": "p"}
    numbers = {words.get(attribute, attribute): float(value)
               for thing in (model, getattr(model, "likelihood", None)) if thing is not None
               for attribute, value in vars(thing).items()
               if isinstance(value, int | float) and not isinstance(value, bool) and not attribute.startswith("_")}
    return Facts(numbers)


def _analytic(row: Row) -> Array:
    return np.array([entry.analytic for entry in row.entries])


def _indices(row: Row) -> list[tuple[int, ...]]:
    return [entry.index for entry in row.entries]


def _of_terms(specimen: Specimen, x: Array, y: Array | None, row: Row) -> list[str]:
    """loss = recon + beta kl: is each term's gradient there, once?"""
    names = [name for name in specimen.loss(x, y) if name != "loss"]
    if row.directions or len(names) < 2:
        return []

    def terms() -> Array:
        found = specimen.loss(x, y)
        return np.array([found["loss"], *(found[name] for name in names)])

    total, *shares = differences(terms, specimen.params[row.name].value, _indices(row))
    told = shares_of_terms(names, total, np.array(shares), _analytic(row))
    if len(told) == len(names) and len(set(told.values())) == 1:
        return []  # all alike: that is no matter of the terms
    return [f"the gradient of {term} {words}" for term, words in told.items()]


def _of_uses(specimen: Specimen, x: Array, y: Array | None, row: Row) -> list[str]:
    if row.directions:
        return []

    def loss() -> Array:
        return np.array([specimen.loss(x, y)["loss"]])

    said = shares_of_uses(specimen.target, specimen.params[row.name], loss, np.ones(1), _analytic(row), _indices(row))
    return [said] if said else []


def _of_images(specimen: Specimen, x: Array, y: Array | None, row: Row) -> list[str]:
    """The loss is a mean over images: is one of them alone in the gradient? Noise would not be the same for one."""
    if len(x) < 2 or specimen.rng is not None or row.directions:
        return []
    if specimen.held:
        specimen.target.hold(None)  # a mask of the whole batch does not fit one image
    for n, place in ((0, "first"), (len(x) - 1, "last")):
        one = x[n:n + 1], None if y is None else y[n:n + 1]

        def of_one(one: tuple = one) -> Array:
            return np.array([specimen.loss(*one)["loss"]])

        share = differences(of_one, specimen.params[row.name].value, _indices(row))[0]
        if any(alike(_analytic(row), c * share) for c in (1.0, 1 / len(x))):
            return [f"it counts only the {place} image"]
    return []
