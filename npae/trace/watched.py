"""Calls that are watched for a while: an attribute of a model or a layer stands before the method of its class.
"""
from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any


class Watched:
    """owner.name(...) is watch(the call as it was, ...) until `take_off`; whoever still holds it then calls through it.

    A copy of its owner gets what the owner had before: the plain method, or a user's own.
    """

    def __init__(self, owner: Any, name: str, watch: Callable[..., Any]):
        self.owner, self.name = owner, name
        self.watch: Callable[..., Any] | None = watch  # None: taken off
        self.there = vars(owner).get(name)  # one that was put on before, or a user's own
        self.call = getattr(owner, name)
        setattr(owner, name, self)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.call(*args, **settings) if self.watch is None else self.watch(self.call, *args, **settings)

    def take_off(self) -> None:
        """Put back what was there; what was put on later stays."""
        self.watch = None
        top = vars(self.owner).get(self.name)
        if top is self:
            delattr(self.owner, self.name) if self.there is None else setattr(self.owner, self.name, self.there)
        while isinstance(top, Watched):
            if top.call is self:
                top.call, top.there = self.call, self.there
            top = top.call

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.there is not None:
            return copy.deepcopy(self.there, memo)
        return getattr(type(self.owner), self.name).__get__(memo[id(self.owner)])


def timed(call: Callable[..., Any], *args: Any, **settings: Any) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    start = time.perf_counter()
    result = call(*args, **settings)
    return result, time.perf_counter() - start
