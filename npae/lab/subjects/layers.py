"""Every case of the catalogue with the whole protocol: `gradcheck.check_layer` with its oracle, and then the promises
that npae's own layers make beyond it.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Line, Report
from npae.kernels import reference
from npae.lab import oracles
from npae.lab.catalogue import ALL, Case
from npae.lab.promises import NOISE, entries, promises
from npae.lab.subjects import raised
from npae.layers import Dense, Layer

Array = np.ndarray


def _two_heads(rng: np.random.Generator, dtype: Any = np.float32, kernels: ModuleType | None = None) -> Layer:
    """The end of a VAE's encoder, [mu | logvar]."""
    return Dense(4, 6, rng=rng, dtype=dtype, kernels=kernels)


CASES = (*ALL, Case("Dense", "Dense(4, 6) of two heads", _two_heads, ((3, 4),), True, False))


def _check(case: Case, kernels: ModuleType) -> Report:
    """All that can be asked of one case; a layer that raises where differences are made has a report too."""
    def make(dtype: Any = np.float32) -> Layer:
        layer = case.make(np.random.default_rng(0), dtype, kernels)
        layer.give_rng(np.random.default_rng(NOISE) if case.random else None)
        return layer

    noise = np.random.default_rng(NOISE) if case.random else None
    try:
        report = gradcheck.check_layer(make, case.input_shapes[0], reference=partial(_values, case), rng=noise,
                                       entries=entries(case))
    except Exception as error:
        line = Line("FAIL", "forward and backward run", raised(error), "gradient")
        report = Report(f"Layer check of {case.name}", lines=(line,))
    return replace(report, lines=(*report.lines, *promises(case, make)))


def _values(case: Case, x: Array, *values: Array) -> Array:
    """What the oracle makes of x with these values of the parameters, and with the noise that the layer gets."""
    twin = case.make(np.random.default_rng(0), np.float64, reference)
    for p, value in zip(twin.params, values, strict=True):
        p.value[...] = value
    return oracles.forward(twin, x, np.random.default_rng(NOISE) if case.random else None)


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {case.name: partial(_check, case) for case in CASES}
