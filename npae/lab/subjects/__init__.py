"""Everything in npae that can be checked, by name, each with the whole protocol that fits it.
Every file has its `SUBJECTS`: name -> check(kernels) -> Report.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from types import ModuleType

from npae.gradcheck import Report

FILES = ("layers", "losses", "penalties", "models", "optimizers", "training", "kernels")
Check = Callable[[ModuleType], Report]


@cache
def subjects() -> dict[str, Check]:
    """name -> check, in the order of the house."""
    found: dict[str, Check] = {}
    for name in FILES:
        found |= importlib.import_module(f"npae.lab.subjects.{name}").SUBJECTS
    return found


def check(name: str, kernels: ModuleType) -> Report:
    """The report of one subject.

    Raises ValueError: a name that is none of them (they are listed).
    """
    known = subjects()
    if name not in known:
        raise ValueError(f"nothing to check is called {name!r}: use one of {', '.join(known)}")
    return attempted(name, known[name], kernels)
