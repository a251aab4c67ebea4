"""What a family's file says of a layer, loss or penalty: a `Lesson`, made of equations and of the gradients derived
from them.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npae.lab.explain.algebra import Entry, Expr
from npae.lab.explain.blocks import Picture
from npae.lab.explain.example import Example
from npae.lab.explain.sums import Conditions


@dataclass(frozen=True)
class Equation:
    """left = right, for every place of left's indices."""

    left: Entry
    right: Expr


@dataclass(frozen=True)
class Path:
    """One way on which an array reaches the loss: through another whose gradient is known.

    partial: ∂through/∂target, in the primed indices of `through` and those of the target, 0 unless `where` holds.
    """

    through: Entry
    partial: Expr
    where: Conditions = ()


@dataclass(frozen=True)
class Gradient:
    """The derivation of one gradient.

    reaches: where the entry stands in the forward pass; paths: the chain rule's terms; why: which index is summed and
    what for; matrix: the same as a whole, with the reason of its form.
    """

    equation: Equation
    reaches: str
    paths: tuple[Path, ...]
    why: str
    matrix: tuple[str, ...]
    also: tuple[Equation, ...] = ()
    """Other forms of the same, after the words of `note`."""
    note: str = ""

    @property
    def name(self) -> str:
        """W for dW."""
        return self.equation.left.name[1:]


@dataclass(frozen=True)
class Lesson:
    """What is said of one layer, loss or penalty."""

    example: Example
    idea: str
    indices: str
    forward: tuple[Equation, ...]
    forward_words: str
    gradients: tuple[Gradient, ...]
    code: tuple[Callable[..., Any], ...]
    scalar: bool = False
    """The forward pass gives L itself, as a loss or penalty does."""
    pictures: tuple[Picture, ...] = ()
    besides: tuple[str, ...] = ()
    """Arrays that the forward pass needs besides, which are shown with its results."""
