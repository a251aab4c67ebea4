"""Sums over indices: in letters a Σ with its conditions, with places or numbers all their terms.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from npae.lab.explain.algebra import Add, Expr, Letter, as_expr
from npae.lab.explain.writing import PRODUCT, SUM, Env, Outside, Text, Writer, starts_with_minus

Conditions = tuple[tuple[Expr, Expr], ...]


@dataclass(frozen=True, eq=False)
class Sum(Expr):
    """Σ body, over all places of some indices where the conditions hold; terms with an entry outside are left out."""

    over: tuple[Letter, ...]
    body: Expr
    where: Conditions = ()

    def walk(self, env: Env) -> Iterator[tuple[Env, float]]:
        """The places of the sum, those at which the body has a value, and that value."""
        own = [letter.name for letter in self.over]
        # an index that is to equal a known one has one place: nothing to search
        pinned = {a.name: b for a, b in self.where if isinstance(a, Letter) and isinstance(b, Letter)
                  and a.name in own and b.name not in own}
        ranges = [(int(pinned[name].value(env)),) if name in pinned else range(env.sizes[name.rstrip("′")])
                  for name in own]
        for places in itertools.product(*ranges):
            there = env.place(dict(zip(own, places, strict=True)))
            try:
                if all(a.value(there) == b.value(there) for a, b in self.where):
                    yield there, self.body.value(there)
            except Outside:
                continue

    def value(self, env: Env) -> float:
        return math.fsum(value for _, value in self.walk(env))

    def write(self, how: Writer) -> Text:
        if how.env is None and not self.over:
            return self.body.write(how)
        if how.env is None:
            where = ", ".join(f"{a.write(how).text} = {b.write(how).text}" for a, b in self.where)
            return Text(f"{sigma(self.over, where)} {self.body.write(how).within(PRODUCT)}", PRODUCT)
        terms = [self.body.write(how.at(there)) for there, _ in self.walk(how.env)]
        if len(terms) < 2:
            return terms[0] if terms else how.constant(0)
        mixed = isinstance(self.body, Add)  # a difference as a term is kept together
        return Text(" + ".join(t.within(PRODUCT if mixed or (i and starts_with_minus(t)) else SUM)
                               for i, t in enumerate(terms)), SUM)

    def terms(self, env: Env) -> int:
        return sum(self.body.terms(there) for there, _ in self.walk(env))


def sigma(over: Iterable[Expr], where: str = "") -> str:
    """Σ_n, Σ_{i, j}, Σ_{i, j: s i + u = h}"""
    names = ", ".join(dict.fromkeys(letter.write(Writer()).text for letter in over))
    return f"Σ_{names}" if len(names.rstrip("′")) == 1 and not where else f"Σ_{{{names}{': ' * bool(where)}{where}}}"


def total(over: Any, body: Any, *where: tuple[Any, Any]) -> Sum:
    """Σ body over one letter or several, under conditions (left, right) that are to be equal."""
    letters = over if isinstance(over, tuple) else (over,)
    return Sum(letters, as_expr(body), tuple((as_expr(a), as_expr(b)) for a, b in where))


def inside(body: Expr) -> Sum:
    """The body, or 0 where an entry in it lies outside its array."""
    return Sum((), body)
