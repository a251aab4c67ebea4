"""Everything in npae that can be checked, by name, each with the whole protocol that fits it.
Every file has its `SUBJECTS`: name -> check(kernels) -> Report.
"""
from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType

from npae.gradcheck import Line, Report

FILES = ("layers", "losses", "penalties", "models", "optimizers", "data", "training", "callbacks", "resume",
         "kernels")
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
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise ValueError(f"none of the {len(known)} subjects is called {name!r}; near it are {', '.join(near)}")
    return attempted(name, partial(known[name], kernels))


HOUSE = Path(__file__).parent.parent.parent  # not Numba's or NumPy's files: where to look is the last line of npae


def attempted(name: str, check: Callable[[], Report]) -> Report:
    """The report of a check; of one that raises, where in npae, and why."""
    try:
        return check()
    except Exception as error:
        line = Line("FAIL", "forward and backward run", raised(error), "gradient")
        return Report(f"Gradient check of {name}", lines=(line,))


def raised(error: Exception) -> str:
    """What was raised, where in npae, and why."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(HOUSE)]
    why = " ".join(str(error).split())[:300]
    return f"raised {type(error).__name__} at {ours[-1].filename}:{ours[-1].lineno}: {why}"
