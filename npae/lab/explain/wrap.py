"""Long equations in the lines of a terminal.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable

WIDTH = 100


def wrapped(text: str, width: int = WIDTH - 4) -> list[str]:
    """One equation in lines: broken before a + or − outside brackets, else at a space, and going on under what follows
    the equals sign."""
    room, hang = width - 4, text.find(" = ") + 3 if " = " in text[:40] else 4
    lines = [""]
    for piece in pieces(text, at_signs):
        shorter = [piece] if len(piece) <= room - hang else pieces(piece, _at_spaces)
        for part in itertools.chain.from_iterable(_crammed(part, room - hang) for part in shorter):
            if lines[-1].strip() and len(lines[-1]) + 1 + len(part) > room:
                lines.append(" " * hang + part)
            else:
                lines[-1] += " " * bool(lines[-1].strip()) + part
    return ["    " + line for line in lines]


def _crammed(text: str, room: int) -> list[str]:
    """A sum or a list that is too long and stands in brackets is broken all the same."""
    if len(text) <= room:
        return [text]
    if " + " not in text:
        *others, last = text.split(", ")
        return [*(f"{other}," for other in others), last]
    first, *others = text.split(" + ")
    return [first, *(f"+ {other}" for other in others)]


def pieces(text: str, at: Callable[[str, int], bool]) -> list[str]:
    """The text cut at those spaces outside brackets that `at` names."""
    pieces, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == " " and depth == 0 and place > start and text[start:place].strip() and at(text, place):
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]


def at_signs(text: str, place: int) -> bool:
    """Before a + or a − that stands between two terms, not in a condition."""
    return text[place + 1:place + 3] in ("+ ", "\N{MINUS SIGN} ") and " where " not in text[:place]


def _at_spaces(text: str, place: int) -> bool:
    """Between two factors or conditions, not beside a sign."""
    around = {text[place - 1], text[place + 1]}
    return not around & set("=+/\N{MINUS SIGN}·") and (" where " not in text[:place] or text[place - 1] == ",")
