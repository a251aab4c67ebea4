"""Nested dicts and lists of numbers and arrays, as JSON and named arrays: what a callback's `state()` may hold."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae.store import CheckpointError, StoreError

ARRAY, FLOAT = "$array", "$float"
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON can hold it; its arrays, and NumPy's numbers, go into `arrays` under the path that leads to them.

    Infinity and NaN become {"$float": "inf"}, an array {"$array": "callbacks.1.theta"}; a tuple comes back as a list.
    Raises: StoreError for a key that begins with $, or two arrays of one path.

    >>> arrays = {}
    >>> encode({"best": math.inf, "theta": np.zeros(2)}, "kept", arrays), list(arrays)
    ({'best': {'$float': 'inf'}, 'theta': {'$array': 'kept.theta'}}, ['kept.theta'])
    """
    if isinstance(value, float):  # NumPy's float64 is one
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if isinstance(value, np.ndarray | np.generic):
        if name in arrays:  # {"a.0": array, "a": [array]}
            raise StoreError(f"two arrays have the path {name}: use keys without dots")
        arrays[name] = np.asarray(value)
        return {ARRAY: name}
    if isinstance(value, list | tuple):
        return [encode(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if marked := [key for key in value if str(key).startswith("$")]:
        raise StoreError(f"{name} has the key {marked[0]!r}, and keys that begin with $ are the checkpoint's own")
    return {key: encode(part, f"{name}.{key}" if name else key, arrays) for key, part in value.items()}


def decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that `encode` was given; its arrays are taken out of `arrays`.

    Raises: CheckpointError for an array that is not there (any more), or a mark that `encode` does not make.
    """
    if isinstance(value, list):
        return [decode(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: decode(part, arrays) for key, part in value.items()}
    (mark, content), *more = value.items()
    if not more and mark == FLOAT and isinstance(content, str) and content in NOT_FINITE:
        return NOT_FINITE[content]
    if more or mark != ARRAY or not isinstance(content, str) or content not in arrays:
        raise CheckpointError(f"{str(value)[:60]} stands for nothing that the file has")
    return arrays.pop(content)[()]  # of no dimensions: a number of NumPy's, as it was
