"""The bug zoo: mistakes that people make in backward passes and around them, each as a line or two of npae's own code.
Every file has its `BUGS`, and `NOT_HERE`: bugs of the literature that cannot be made in npae, with the reason.
"""
from __future__ import annotations

import importlib
from functools import cache

from npae.lab.planting import Bug

FILES = ("dense", "activations", "conv", "transposed", "pool", "upsample", "tied", "shapes", "noise", "latent",
         "losses", "penalties", "models", "optimizers", "training", "kernels")


@cache
def bugs(room: str | None = None) -> tuple[Bug, ...]:
    """All bugs, or those of one room.

    Raises ValueError: a room that has none (those that have are listed).
    """
    everything = tuple(bug for name in FILES for bug in importlib.import_module(f"npae.lab.zoo.{name}").BUGS)
    found = tuple(bug for bug in everything if room in (None, bug.room))
    if not found:
        rooms = dict.fromkeys(bug.room for bug in everything)
        raise ValueError(f"the zoo has no bugs of {room!r}: use one of {', '.join(rooms)}")
    return found


def not_here() -> dict[str, str]:
    """Bugs of the literature that npae has no place for: name -> reason."""
    reasons: dict[str, str] = {}
    for name in FILES:
        reasons |= importlib.import_module(f"npae.lab.zoo.{name}").NOT_HERE
    return reasons
