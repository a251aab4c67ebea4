"""What a diagnosis may know beside two arrays: the numbers and arrays of a problem, each by its name in words.
An explanation such as "3 is the batch size" can only be found if somebody says that there is a batch size of 3.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Facts:
    """numbers: {"the batch size": 3, "beta": 0.5};  arrays: {"eps": eps}, of a gradient's shape or broadcast to it."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def with_(self, other: Facts | None) -> Facts:
        """These and those of another; the other's win."""
        if other is None:
            return self
        return Facts({**self.numbers, **other.numbers}, {**self.arrays, **other.arrays})
