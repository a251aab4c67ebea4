"""A layer of one's own on the command line: `npae gradcheck my_layers.py:MyDense(5, 3)`.
"""
from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Line, Report
from npae.gradcheck.contract import answers, named_params, raised
from npae.gradcheck.protocol import stuck_line
from npae.gradcheck.specimen import Specimen, copy_as
from npae.lab.points import Target

TARGET = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)\s*(?P<call>\(.*\))?", re.DOTALL)
ROWS = 3
PICTURE = 2, 5, 6
SHAPE_ERRORS = ValueError, IndexError, AssertionError  # what a forward raises that another shape may suit


def is_own(target: str) -> bool:
    """FILE.py:Class, or FILE.py:Class(arguments)."""
    return ".py" in target


def check(target: str, shape: tuple[int, ...] | None, method: str, along: bool) -> tuple[str, Report]:
    """(name, report): the whole protocol, or with a method or directions the gradient alone.

    What the layer raises is a line of the report, what it prints is another.
    Raises ValueError: a file, class, argument or shape with which there is no layer to check (it says which).
    """
    with heard() as printed:
        make = maker(target)
        shape = shape or _shape_of(make, target)
        try:
            report = _report(make, shape, method, along)
        except (Exception, SystemExit) as error:
            words = raised(error, make())
            if isinstance(error, ValueError) and " in line " not in words:
                raise  # what is asked of the layer, not what it does
            line = Line("FAIL", "forward and backward run", words, "gradient")
            report = Report(f"Layer check of {type(make()).__name__}, x {shape}", lines=(line,))
    if printed.lines:
        claim = f"the layer printed {printed.lines} line{'s' * (printed.lines != 1)}, the first"
        report = dataclasses.replace(report, lines=(*report.lines, Line("NOTE", claim, printed.first)))
    return target, report


def _report(make: Callable[[], Any], shape: tuple[int, ...], method: str, along: bool) -> Report:
    if method == "richardson" and not along:
        return gradcheck.check_layer(make, shape)
    x = np.random.default_rng(1).standard_normal(shape)
    stuck = stuck_line(Specimen(copy_as(make(), np.float64)), x)
    if stuck is not None:
        return Report(f"Gradient check of {type(make()).__name__}, x {shape}", lines=(stuck,))
    return gradcheck.check(make(), x, method=method, fast=along)


class Heard(io.TextIOBase):
    """Takes what is printed: how many lines, and the first of them."""

    def __init__(self) -> None:
        self._ends, self._start, self._open = 0, "", False

    def write(self, text: str) -> int:
        if "\n" not in self._start and len(self._start) < 200:
            self._start += text
        if text:
            self._ends, self._open = self._ends + text.count("\n"), not text.endswith("\n")
        return len(text)

    @property
    def lines(self) -> int:
        """The last of them may have no end."""
        return self._ends + self._open

    @property
    def first(self) -> str:
        """Cut off where it is long."""
        return self._start.partition("\n")[0][:200]


@contextlib.contextmanager
def heard() -> Iterator[Heard]:
    """While it lasts, what is printed is counted and not shown."""
    printed = Heard()
    with contextlib.redirect_stdout(printed):
        yield printed


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

    try:
        inspect.signature(made).bind(*args, **settings)
    except TypeError as error:
        raise ValueError(f"{match['name']} cannot be made of {match['call'] or '()'} ({error}): write its arguments, "
                         f"such as '{match['path']}:{match['name']}(5, 3)'") from error

    def make() -> Any:
        try:
            return made(*args, **settings)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{match['name']} cannot be made: __init__ {raised(error, made)}") from error

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
    except (Exception, SystemExit) as error:
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
    """The first shape of a batch that forward takes: rows or pictures, with as many features as W has inputs.

    Where forward raises what has nothing to do with shapes, the first of all: the report says what is wrong.
    """
    tried: list[str] = []
    layer, elsewhere = make(), True
    named_params(layer)
    answers(layer)
    shapes = list(_shapes(layer))
    for shape in shapes:
        try:
            make().forward(np.random.default_rng(1).standard_normal(shape))
        except (Exception, SystemExit) as error:
            tried.append(f"{shape} raised {type(error).__name__}")
            elsewhere = elsewhere and not isinstance(error, SHAPE_ERRORS)
            continue
        return shape
    if elsewhere:
        return shapes[0]
    raise ValueError(f"no shape of x was found that {target} takes ({'; '.join(tried)}): give it with --shape 4,5")


def _shapes(layer: Any) -> Iterator[tuple[int, ...]]:
    for param in layer.params:
        size = np.shape(param.value)
        if len(size) == 4:
            last, first = [(*PICTURE, size[2]), (*PICTURE, size[3])], [_channels_first(c) for c in (size[1], size[0])]
            kernel_behind = size[2] == size[3] and size[0] != size[1]  # (out, in, 3, 3), not (3, 3, in, out)
            yield from (*first, *last) if kernel_behind else (*last, *first)
        elif len(size) == 2:
            yield from ((ROWS, size[0]), (ROWS, size[1]))
        elif len(size) == 1:
            yield ROWS, size[0]
    yield from ((ROWS, 4), (*PICTURE, 2), (2, 4, 6, 2), _channels_first(2))


def _channels_first(channels: int) -> tuple[int, ...]:
    return PICTURE[0], channels, *PICTURE[1:]
