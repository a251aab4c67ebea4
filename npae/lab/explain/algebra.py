"""Formulas with indices that can be written in three ways and computed: with letters, with the places filled in, and
with the numbers of an example. What a derivation says and what it computes is then one and the same object.

    dW[i, o] = Σ_n x[n, i] dz[n, o]     letters
    dW[2, 0] = x[0, 2] dz[0, 0] + ...   places
             = 3·(−1) + ...             numbers, each from an array of the example
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from npae.lab.explain.writing import (
    ATOM,
    POWER,
    PRODUCT,
    SUM,
    Env,
    Number,
    Outside,
    Text,
    Writer,
    called,
    shown,
    starts_with_minus,
)

FUNCTIONS: dict[str, Any] = {"exp": math.exp, "log": math.log, "expm1": math.expm1, "tanh": math.tanh, "max": max,
                             "min": min, "abs": abs, "step": lambda t: float(t > 0)}


class Expr:
    """A formula. `value(env)` computes it; `write(how)` gives its text."""

    def value(self, env: Env) -> float:
        raise NotImplementedError

    def write(self, how: Writer) -> Text:
        raise NotImplementedError

    def terms(self, env: Env) -> int:
        """How many terms the written sum has."""
        return 1

    def __add__(self, other: Any) -> Expr:
        return Add((self, as_expr(other)), (1, 1))

    def __radd__(self, other: Any) -> Expr:
        return Add((as_expr(other), self), (1, 1))

    def __sub__(self, other: Any) -> Expr:
        return Add((self, as_expr(other)), (1, -1))

    def __rsub__(self, other: Any) -> Expr:
        return Add((as_expr(other), self), (1, -1))

    def __neg__(self) -> Expr:
        return Add((self,), (-1,))

    def __mul__(self, other: Any) -> Expr:
        return Mul(self, as_expr(other))

    def __rmul__(self, other: Any) -> Expr:
        return Mul(as_expr(other), self)

    def __truediv__(self, other: Any) -> Expr:
        return Div(self, as_expr(other))

    def __rtruediv__(self, other: Any) -> Expr:
        return Div(as_expr(other), self)

    def __floordiv__(self, other: Any) -> Expr:
        return Div(self, as_expr(other), whole=True)

    def squared(self) -> Expr:
        """Its square."""
        return Square(self)


def as_expr(thing: Any) -> Expr:
    """A formula as it is, a number as a constant."""
    return thing if isinstance(thing, Expr) else Constant(thing)


@dataclass(frozen=True, eq=False)
class Constant(Expr):
    """A number that belongs to the formula, such as the 2 of a square's derivative."""

    number: float

    def value(self, env: Env) -> float:
        return self.number

    def write(self, how: Writer) -> Text:
        return how.constant(self.number)


@dataclass(frozen=True, eq=False)
class Letter(Expr):
    """An index, whose place env.at tells, or a constant of the example (a stride, N, beta)."""

    name: str

    def value(self, env: Env) -> float:
        return env.at[self.name] if self.name in env.at else env.letters[self.name]

    def write(self, how: Writer) -> Text:
        if how.env is None or (self.name not in how.env.at and not how.figures):
            return Text(self.name, ATOM)
        return how.constant(self.value(how.env))


@dataclass(frozen=True, eq=False)
class Array:
    """A named array: x[n, i] is an entry of it."""

    name: str

    def __getitem__(self, index: Any) -> Entry:
        return Entry(self.name, tuple(map(as_expr, index if isinstance(index, tuple) else (index,))))


@dataclass(frozen=True, eq=False)
class Entry(Expr):
    """One number of an array, at indices that are formulas themselves; without indices a single number, such as L."""

    name: str
    index: tuple[Expr, ...]

    def place(self, env: Env) -> tuple[int, ...]:
        """The indices as numbers.

        Raises Outside: they lie beyond the array's edge.
        """
        place = tuple(int(part.value(env)) for part in self.index)
        if not all(0 <= p < size for p, size in zip(place, env.arrays[self.name].shape, strict=True)):
            raise Outside
        return place

    def value(self, env: Env) -> float:
        return float(env.arrays[self.name][self.place(env)])

    def write(self, how: Writer) -> Text:
        if how.env is None:
            return Text(called(self.name, [part.write(how).text for part in self.index]), ATOM)
        place = self.place(how.env)
        if not how.figures:
            return Text(called(self.name, place), ATOM)
        value = self.value(how.env)
        how.numbers.append(Number(self.name, place, shown(value)))
        return Text(shown(value), SUM if value < 0 else ATOM)


@dataclass(frozen=True, eq=False)
class Add(Expr):
    """a + b, a − b, −a."""

    parts: tuple[Expr, ...]
    signs: tuple[int, ...]

    def value(self, env: Env) -> float:
        return sum(sign * part.value(env) for part, sign in zip(self.parts, self.signs, strict=True))

    def write(self, how: Writer) -> Text:
        text = ""
        for part, sign in zip(self.parts, self.signs, strict=True):
            written = part.write(how)
            mark = "\N{MINUS SIGN}" if sign < 0 else "+"
            text += f" {mark} " if text else mark.strip("+")
            text += written.within(PRODUCT if sign < 0 or (text and starts_with_minus(written)) else SUM)
        return Text(text, SUM)

    def terms(self, env: Env) -> int:
        return sum(part.terms(env) for part in self.parts)


@dataclass(frozen=True, eq=False)
class Mul(Expr):
    """a b"""

    a: Expr
    b: Expr

    def value(self, env: Env) -> float:
        return self.a.value(env) * self.b.value(env)

    def write(self, how: Writer) -> Text:
        left = self.a.write(how).within(POWER if isinstance(self.a, Div) else PRODUCT)
        return Text(f"{left}{'·' if how.figures else ' '}{self.b.write(how).within(PRODUCT)}", PRODUCT)

    def terms(self, env: Env) -> int:
        return max(self.a.terms(env), self.b.terms(env))


@dataclass(frozen=True, eq=False)
class Div(Expr):
    """a / b; `whole`: a // b, rounded down, as indices are."""

    a: Expr
    b: Expr
    whole: bool = False

    def value(self, env: Env) -> float:
        a, b = self.a.value(env), self.b.value(env)
        return a // b if self.whole else a / b

    def write(self, how: Writer) -> Text:
        sign = "//" if self.whole else "/"
        return Text(f"{self.a.write(how).within(PRODUCT)} {sign} {self.b.write(how).within(POWER)}", PRODUCT)

    def terms(self, env: Env) -> int:
        return self.a.terms(env)


@dataclass(frozen=True, eq=False)
class Square(Expr):
    """a²"""

    a: Expr

    def value(self, env: Env) -> float:
        return self.a.value(env) ** 2

    def write(self, how: Writer) -> Text:
        return Text(f"{self.a.write(how).within(ATOM)}²", POWER)


@dataclass(frozen=True, eq=False)
class Function(Expr):
    """exp(a), max(a, b), ...: a name of FUNCTIONS."""

    name: str
    of: tuple[Expr, ...]

    def value(self, env: Env) -> float:
        return FUNCTIONS[self.name](*(part.value(env) for part in self.of))

    def write(self, how: Writer) -> Text:
        return Text(f"{self.name}({', '.join(part.write(how).text for part in self.of)})", ATOM)


def apply(name: str, *of: Any) -> Expr:
    """A function of formulas."""
    return Function(name, tuple(map(as_expr, of)))


def letters(names: str) -> list[Letter]:
    """One letter for each word."""
    return [Letter(name) for name in names.split()]


def arrays(names: str) -> list[Array]:
    """One array for each word."""
    return [Array(name) for name in names.split()]
