"""Explanations: the derivation of each layer, loss and penalty, with the numbers of an example small enough to do by
hand."""
from __future__ import annotations

import difflib
from collections.abc import Callable

from npae.lab.explain import conv, dense, tied, transposed
from npae.lab.explain.document import Explanation
from npae.lab.explain.lesson import Lesson, explained

__all__ = ["LESSONS", "Explanation", "called", "explanation"]

Shape = tuple[int, ...]
LESSONS: dict[str, Callable[[Shape | None], Lesson]] = {
    "Dense": dense.dense, "TiedDense": tied.tied_dense, "Conv2d": conv.conv2d,
    "ConvTranspose2d": transposed.conv_transpose2d, "TiedConvTranspose2d": tied.tied_conv_transpose2d,
    "UpsampleConv2d": transposed.upsample_conv2d,
}


def explanation(name: str, shape: Shape | None = None) -> Explanation:
    name = called(name)
    return explained(name, LESSONS[name](shape))


def called(name: str) -> str:
    known = {key.lower(): key for key in LESSONS}
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    guess = f"did you mean {known[near[0]]}? There are" if near else "there are"
    raise ValueError(f"nothing to explain is called {name!r}: {guess} {', '.join(known.values())}")
