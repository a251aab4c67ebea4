"""What the wrong gradient of a function looks like: a loss, a penalty, anything with a value and a gradient."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from npae.gradcheck.diagnosis.formulas import formula, formula_of_two
from npae.gradcheck.diagnosis.jacobian import alike
from npae.gradcheck.diagnosis.rows import NOTHING, Wrong, wrong_of, wrong_rows
from npae.gradcheck.facts import Facts
from npae.gradcheck.verdicts import Row

Array = np.ndarray


def diagnose_function(claimed: dict[str, Array], arrays: dict[str, Array], rows: Sequence[Row],
                      facts: Facts) -> tuple[str, ...]:
    """One sentence for each wrong row, from the arrays alone; two of one shape may have changed places."""
    wrong = [wrong_of(row, claimed[row.name]) for row in wrong_rows(rows)]
    facts = Facts(arrays=arrays).with_(facts)
    for a, b in combinations([w for w in wrong if w.whole], 2):
        if alike(a.got, b.want) and alike(b.got, a.want):
            return (f"the gradients of {a.row.name} and {b.row.name} are swapped",
                    *(_told(w, facts) for w in wrong if w not in (a, b)))
    return tuple(_told(w, facts) for w in wrong)


def _told(wrong: Wrong, facts: Facts) -> str:
    plain = wrong.explain(facts)
    if plain and not any(words in plain for words in ("off by a constant", "has an extra", "lacks")):
        return plain
    return _as_formula(wrong, facts) or plain or NOTHING.format(wrong.name)


def _as_formula(wrong: Wrong, facts: Facts) -> str:
    """A gradient that is worked out entry by entry, but for a factor such as 1/N: from which formula?"""
    if not wrong.whole or wrong.want.size < 3:
        return ""
    variables = {name: np.ravel(array) for name, array in facts.arrays.items() if array.shape == wrong.want.shape}
    got, want = np.ravel(wrong.got), np.ravel(wrong.want)
    for what, n in {"": 1.0, **facts.numbers}.items():
        for c in (n, 1 / n) if n not in (0.0, 1.0) else (1.0,):
            belongs = _named(want * c, variables)
            stands = _named(got * c, variables) if belongs else ""
            if stands:
                by = f", both divided by {what}" if c == n != 1 else f", both times {what}" if n != 1 else ""
                return f"{wrong.name} is {stands} where {belongs} belongs{by}"
    return ""


def _named(values: Array, variables: dict[str, Array]) -> str:
    text, name = formula(values, variables)
    return text.format(t=name) if text else formula_of_two(values, variables)
