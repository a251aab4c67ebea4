"""A layer of one's own on the command line: `npae gradcheck my_layers.py:MyDense(5, 3)`.
"""
from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Report
from npae.lab.points import Target

TARGET = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)\s*(?P<call>\(.*\))?", re.DOTALL)
ROWS = 3
PICTURE = 2, 5, 6


def is_own(target: str) -> bool:
    """FILE.py:Class, or FILE.py:Class(arguments)."""
    return ".py" in target


def check(target: str, shape: tuple[int, ...] | None, method: str, along: bool) -> tuple[str, Report]:
    """(name, report): the whole protocol, or with a method or directions the gradient alone.

    Raises ValueError: a file, class, argument or shape with which there is no layer to check (it says which).
    """
    make = maker(target)
    shape = shape or _shape_of(make, target)
    if method == "richardson" and not along:
        return target, gradcheck.check_layer(make, shape)
    x = np.random.default_rng(1).standard_normal(shape)
    return target, gradcheck.check(make(), x, method=method, fast=along)


def point(target: str, shape: tuple[int, ...] | None) -> Target:
    """The layer with a batch, to draw curves of."""
    make = maker(target)
    return Target(make(), np.random.default_rng(1).standard_normal(shape or _shape_of(make, target)))


def maker(target: str) -> Callable[[], Any]:
    """What makes a new layer each time it is called.

    Raises ValueError: as `check`.
    """
    match = TARGET.fullmatch(target.strip())
    if match is None:
        raise ValueError(f"{target!r} names no class: write FILE.py:Class, or FILE.py:Class(5, 3) with its arguments")
    module = _module(Path(match["path"]))
    made = getattr(module, match["name"], None)
    if not isinstance(made, type):
        classes = [name for name, value in vars(module).items()
                   if isinstance(value, type) and value.__module__ == module.__name__]
        raise ValueError(f"{match['path']} has no class {match['name']}: it has {', '.join(classes) or 'none'}")
    args, settings = _arguments(match["call"] or "()", target)

    def make() -> Any:
        try:
            return made(*args, **settings)
        except TypeError as error:
            raise ValueError(f"{match['name']} cannot be made of {match['call'] or '()'} ({error}): write its "
                             f"arguments, such as '{match['path']}:{match['name']}(5, 3)'") from error

    make()
    return make


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return module


def _arguments(call: str, target: str) -> tuple[list[Any], dict[str, Any]]:
    """Literals only: numbers, strings, tuples."""
    try:
        parsed: Any = ast.parse(f"f{call}", mode="eval").body
        return ([ast.literal_eval(a) for a in parsed.args],
                {k.arg: ast.literal_eval(k.value) for k in parsed.keywords if k.arg is not None})
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the arguments in {target!r} are not numbers, strings or tuples: {error}") from error


def _shape_of(make: Callable[[], Any], target: str) -> tuple[int, ...]:
    """The first shape of a batch that forward takes: rows or pictures, with as many features as W has inputs."""
    tried = []
    for shape in _shapes(make()):
        try:
            make().forward(np.random.default_rng(1).standard_normal(shape))
        except Exception as error:
            tried.append(f"{shape} raised {type(error).__name__}")
            continue
        return shape
    raise ValueError(f"no shape of x was found that {target} takes ({'; '.join(tried)}): give it with --shape 4,5")


def _shapes(layer: Any) -> Iterator[tuple[int, ...]]:
    for param in getattr(layer, "params", ()):
        size = np.shape(param.value)
        if len(size) == 4:
            yield from ((*PICTURE, size[2]), (*PICTURE, size[3]))
        elif len(size) == 2:
            yield from ((ROWS, size[0]), (ROWS, size[1]))
        elif len(size) == 1:
            yield ROWS, size[0]
    yield from ((ROWS, 4), (*PICTURE, 2), (2, 4, 6, 2))
