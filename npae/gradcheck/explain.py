"""What a wrong array looks like beside the right one, in words: every candidate is tested, and only one that explains
all entries to rounding is told, with its figure.
"""
from __future__ import annotations

import numpy as np

from npae.gradcheck.facts import Facts

RTOL = 1e-7


def explain(name: str, got: np.ndarray, want: np.ndarray, facts: Facts | None = None,
            right: str = "the numeric gradient") -> str:
    """One sentence, such as "dW has the wrong sign in all 12 entries"; empty where nothing explains `got`.

    `name` is what got is called, `right` what want is called ("the reference", say).
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    size = float(np.max(np.abs(want), initial=0))
    if got.shape == want.shape and np.all(np.abs(got + want) <= RTOL * size):
        return f"{name} has the wrong sign in all {want.size} entries"
    return ""
