"""Deep copies of things that hold what cannot be copied, or should not be: a module of kernels, buffers, a packed view.
"""
from __future__ import annotations

import copy
from typing import Any, TypeVar

T = TypeVar("T")


def deep_copy(thing: T, memo: dict[int, Any], **instead: Any) -> T:
    """What a `__deepcopy__(memo)` returns: a copy of each attribute, but for those named, which become what is given.

    >>> class Counter:
    ...     def __init__(self): self.counts, self.module = [1, 2], copy
    ...     def __deepcopy__(self, memo): return deep_copy(self, memo, module=self.module)
    >>> twin = copy.deepcopy(Counter())
    >>> twin.counts, twin.module is copy
    ([1, 2], True)
    """
    twin = memo[id(thing)] = object.__new__(type(thing))
    for name, value in vars(thing).items():
        vars(twin)[name] = instead[name] if name in instead else copy.deepcopy(value, memo)
    return twin
