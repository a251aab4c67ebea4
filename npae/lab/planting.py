"""Bugs on purpose: a line or two of npae's own source changed, for as long as a `with` lasts.
The changed line is what a learner is shown; nothing is written to the disk.
"""
from __future__ import annotations

import importlib
import inspect
import linecache
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True)
class Edit:
    """In the function `where` ("npae.kernels.reference:dense_backward"), the text `old` is replaced by `new`."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A mistake that somebody makes: what was done, where, what finds it, and what the diagnosis has to say of it.

    `killed_by` has a letter for each part of the protocol that has to see it: G gradient, A adjoint, L linearity,
    S state, R reference values, B batch, M moments.
    """

    room: str
    """The layer, loss, penalty, optimizer, model or stage that it is about: "Dense"."""
    name: str
    did: str
    """One sentence: what the student did."""
    subject: str
    """What is checked with the bug in it: the name of a case of the catalogue, or of a subject of the lab."""
    edits: tuple[Edit, ...]
    killed_by: str
    says: tuple[str, ...] = ()
    """Words that all have to stand in the explanations ("a|b": one of the two); none: nothing may be explained."""


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Inside, npae has the bug.

    Raises ValueError: a text that does not stand exactly once in its function.
    """
    with ExitStack() as stack:
        for where in dict.fromkeys(edit.where for edit in bug.edits):
            stack.enter_context(_swapped(where, [edit for edit in bug.edits if edit.where == where]))
        yield


def lines(bug: Bug) -> list[str]:
    """The lines that the bug changes, with their file: '- as it is' and '+ as the student wrote it'."""
    shown: list[str] = []
    for edit in bug.edits:
        function = function_at(edit.where)
        text, first = inspect.getsourcelines(function)
        before = "".join(text)
        line = first + before[:_place(edit, before)].count("\n")
        old, new = (_whole_lines(before.replace(edit.old, part), before, edit) for part in (edit.old, edit.new))
        path = inspect.getsourcefile(function) or ""
        shown += [f"{path[path.rfind('npae'):]}:{line}", *(f"- {x}" for x in old), *(f"+ {x}" for x in new)]
    return shown


def function_at(where: str) -> FunctionType:
    """The function itself, without what decorates it."""
    module, _, path = where.partition(":")
    thing: Any = importlib.import_module(module)
    for name in path.split("."):
        thing = inspect.getattr_static(thing, name)
    thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    function = inspect.unwrap(thing)
    if not isinstance(function, FunctionType):
        raise ValueError(f"{where} is a {type(function).__name__}, and a bug is planted in a function")
    return function


@contextmanager
def swapped_code(function: FunctionType, source: str) -> Iterator[None]:
    """Inside, the function does what it does in this other source of its whole file.

    The function object stays, so that whoever has imported it gets the change too.
    """
    path = inspect.getsourcefile(function) or "?"
    kept = function.__code__
    function.__code__ = _code_in(compile(source, path, "exec", dont_inherit=True), kept.co_qualname)
    try:
        yield
    finally:
        function.__code__ = kept


def file_source(function: FunctionType) -> str:
    """The whole text of the file that a function stands in."""
    return "".join(linecache.getlines(inspect.getsourcefile(function) or "",
                                      vars(sys.modules[function.__module__])))


@contextmanager
def _swapped(where: str, edits: list[Edit]) -> Iterator[None]:
    function = function_at(where)
    segment = changed = "".join(inspect.getsourcelines(function)[0])
    for edit in edits:
        _place(edit, changed)
        changed = changed.replace(edit.old, edit.new)
    with swapped_code(function, file_source(function).replace(segment, changed)):
        yield


def _place(edit: Edit, text: str) -> int:
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.where} has {edit.old!r} {text.count(edit.old)} times where a bug is to be planted: "
                         "it has to stand there exactly once")
    return text.index(edit.old)


def _whole_lines(text: str, before: str, edit: Edit) -> list[str]:
    """The changed lines of a text: all between the lines that both texts begin and end with."""
    start = before.rfind("\n", 0, _place(edit, before)) + 1
    end = before.find("\n", _place(edit, before) + len(edit.old))
    end = len(before) if end < 0 else end
    part = text[start:len(text) - (len(before) - end)]
    return [line.strip() for line in part.splitlines()]


def _code_in(code: CodeType, qualname: str) -> CodeType:
    """The code of a function somewhere in the code of its file."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == qualname:
                return constant
            if qualname.startswith(constant.co_qualname + "."):
                return _code_in(constant, qualname)
    raise ValueError(f"there is no function {qualname} in the changed source")
