"""What a layer says of itself: its equation from the docstring, and the lines that compute it, read with `inspect`.
Beside the lines of the layer stand those of `kernels.reference` that they call: the textbook of the fast kernels.
"""
from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npae.kernels import reference
from npae.layers import Identity, Layer
from npae.models import Model
from npae.trace.statistics import bend_of

FORWARD, BACKWARD = ("forward", "_forward", "_apply"), ("backward", "_backward", "_gradients")
HOME = Path(__file__).parents[2]  # the folder that npae lies in
OTHER_HEADS = ("Raises", "Source")  # of a docstring: what is no equation, shape or backward


def equation(thing: Any) -> str:
    """The docstring of a layer's or model's class as far as it is mathematics: equation, shapes, backward.

    >>> from npae.layers import ReLU
    >>> equation(ReLU())
    'y = max(x, 0);   slope 1 where y > 0, else 0 (at x = 0 too);   bend 0'
    """
    kept, keep = [], True
    for line in (inspect.getdoc(type(thing)) or "").split(">>>")[0].splitlines():
        if line and not line.startswith(" "):
            keep = not line.startswith(OTHER_HEADS)
        if keep:
            kept.append(line)
    return "\n".join(kept).strip()


def code(layer: Layer) -> dict[str, list[dict[str, str]]]:
    """{"forward", "backward", "textbook"}: functions as {"name", "place", "text"}, each in the class that defines it.

    What lies in no file (a class typed into a prompt) is told in place of its text.
    """
    bend = bend_of(layer)
    bends = [] if bend is None or isinstance(bend, Identity) else [bend]
    found = {"forward": [*_methods(layer, FORWARD), *_all(bends, "f")],
             "backward": [*_methods(layer, BACKWARD), *_all(bends, "slope")]}
    called = "\n".join(part["text"] for parts in found.values() for part in parts)
    found["textbook"] = [shown(getattr(reference, name)) for name in _textbook(called)]
    return found


def objective(model: Model) -> dict[str, Any]:
    """What a model does beside its layers: {"equation", "code"}, with its likelihood, in which the gradient begins."""
    compute = shown(type(model.likelihood)._compute)
    code = [*map(shown, (type(model).loss, type(model).backward)), compute,
            *(shown(getattr(reference, name)) for name in _textbook(compute["text"]))]
    head = type(model.likelihood).__name__
    return {"equation": f"{equation(model)}\n\n{head}: {equation(model.likelihood)}", "code": code}


def _methods(layer: Layer, names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    for name in names:
        owner = next((kind for kind in type(layer).__mro__ if name in vars(kind)), Layer)
        if owner is not Layer:  # whose own are the checks at every layer's door
            yield shown(vars(owner)[name])


def _all(bends: list[Any], name: str) -> Iterator[dict[str, str]]:
    for bend in bends:
        yield shown(getattr(type(bend), name))


def shown(function: Any) -> dict[str, str]:
    """Its name, the file and line where it stands, and its lines."""
    name = getattr(function, "__qualname__", str(function))
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    except (OSError, TypeError):
        return {"name": name, "place": "", "text": "(its source lies in no file)"}
    where = path.relative_to(HOME).as_posix() if path.is_relative_to(HOME) else path.name
    return {"name": name, "place": f"{where}:{first}", "text": textwrap.dedent("".join(lines)).rstrip()}


def _textbook(text: str) -> list[str]:
    """The functions of `kernels.reference` that a text calls, those that they call, and so on, each once."""
    known = {name: function for name, function in vars(reference).items() if inspect.isfunction(function)}
    found: list[str] = []
    waiting = [name for name in re.findall(r"(?:kernels|K)\.(\w+)", text) if name in known]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found.append(name)
        called = re.findall(r"(?<![\w.])(\w+)\(", inspect.getsource(known[name]))
        waiting += [other for other in called if other in known]
    return found
