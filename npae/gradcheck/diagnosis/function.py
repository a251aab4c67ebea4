"""What the wrong gradient of a function looks like: a loss, a penalty, anything with a value and a gradient."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from npae.gradcheck.diagnosis.jacobian import alike
from npae.gradcheck.diagnosis.rows import NOTHING, wrong_of, wrong_rows
from npae.gradcheck.facts import Facts
from npae.gradcheck.verdicts import Row

Array = np.ndarray


def diagnose_function(claimed: dict[str, Array], arrays: dict[str, Array], rows: Sequence[Row],
                      facts: Facts) -> tuple[str, ...]:
    """One sentence for each wrong row, from the arrays alone; two of one shape may have changed places."""
    wrong = wrong_rows(rows)
    facts = Facts(arrays=arrays).with_(facts)
    full = {row.name: np.array([entry.numeric for entry in row.entries]).reshape(row.shape) for row in rows
            if row.refused is None and len(row.entries) == row.size and not row.directions}
    for a, b in combinations([row for row in wrong if row.name in full], 2):
        if a.shape == b.shape and alike(claimed[a.name], full[b.name]) and alike(claimed[b.name], full[a.name]):
            swapped = f"the gradients of {a.name} and {b.name} are swapped"
            return (swapped, *(_told(row, claimed, facts) for row in wrong if row not in (a, b)))
    return tuple(_told(row, claimed, facts) for row in wrong)


def _told(row: Row, claimed: dict[str, Array], facts: Facts) -> str:
    wrong = wrong_of(row, claimed[row.name])
    return wrong.explain(facts) or NOTHING.format(wrong.name)
