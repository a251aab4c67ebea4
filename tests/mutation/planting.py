"""A mutant put into the running process: whoever has imported the function gets it too. Only for forked processes.
"""
from __future__ import annotations

import ast
import dataclasses
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from .operators import FAST_FILES, ROOT, Mutant, files

Functions = dict[tuple[str, str, int], list[FunctionType]]


class Stillborn(Exception):
    """A mutant that cannot be put in place: it counts neither as killed nor as alive."""


def functions() -> Functions:
    """All functions of npae that live in this process, by file, qualified name and first line."""
    found: Functions = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(f"{ROOT}/npae/"):
            file = str(Path(thing.__code__.co_filename).relative_to(ROOT))
            found.setdefault((file, *_key(thing.__code__)), []).append(thing)
    return found


def plant(mutant: Mutant, known: Functions) -> None:
    """From here on npae has the mutant.

    Raises Stillborn: an edit without a place, or code that is no Python.
    """
    try:
        {"body": _body, "default": _default, "class": _class, "module": _module}[mutant.place](mutant, known)
    except (SyntaxError, ValueError) as error:
        raise Stillborn(str(error)) from error


def forget_compiled(mutant: Mutant) -> None:
    """Let all doors that a changed kernel is compiled into be compiled anew, away from the cache on the disk.

    Raises Stillborn: what is compiled, or has run, when npae is imported.
    """
    from numba import cfunc
    from numba.core.caching import NullCache

    function = mutant.function.split(".")[0]
    if function == "_machine" or (mutant.file.endswith("fast_parallel.py") and function not in ("launch", "share")):
        raise Stillborn(f"{function} has run before anything can be planted")
    stale = users(function)
    for name, module in list(sys.modules.items()):
        if name.startswith("npae.kernels.fast"):
            for door in [value for key, value in vars(module).items() if key in stale and hasattr(value, "_cache")]:
                door._cache = NullCache()
    sys.modules["npae.kernels.fast_link"].by_address = lambda signature: cfunc(signature)


def _body(mutant: Mutant, known: Functions) -> None:
    new = {_key(code): code for code in _codes(compile(mutant.source(), str(ROOT / mutant.file), "exec"))}
    placed = False
    for (file, name, line), there in known.items():
        around = f"{mutant.function}.".startswith(name.replace(".<locals>", "") + ".")
        if file == mutant.file and around and line <= mutant.lines[0] and (name, line) in new:
            for function in there:
                function.__code__ = new[name, line]
                placed = True
    if not placed:
        raise Stillborn(f"no function {mutant.function} is alive")


def _default(mutant: Mutant, known: Functions) -> None:
    old, new = (_node(ast.parse(text), mutant) for text in ((ROOT / mutant.file).read_text(), mutant.source()))
    names = [arg.arg for arg in old.args.args][len(old.args.args) - len(old.args.defaults):]
    names += [arg.arg for arg in old.args.kwonlyargs]
    for (file, name, line), there in known.items():
        if (file, name) == (mutant.file, mutant.function) and abs(line - mutant.lines[0]) < 9:
            for function in there:
                for arg, was, now in zip(names, [*old.args.defaults, *old.args.kw_defaults],
                                         [*new.args.defaults, *new.args.kw_defaults], strict=True):
                    if was is not None and ast.dump(was) != ast.dump(now):
                        _set_default(function, arg, eval(ast.unparse(now), function.__globals__))


def _set_default(function: FunctionType, name: str, value: Any) -> None:
    if name in (function.__kwdefaults__ or {}):
        function.__kwdefaults__[name] = value
    else:
        code, defaults = function.__code__, list(function.__defaults__ or ())
        place = code.co_varnames.index(name) - (code.co_argcount - len(defaults))
        function.__defaults__ = (*defaults[:place], value, *defaults[place + 1:])


def _class(mutant: Mutant, known: Functions) -> None:
    module = _module_of(mutant)
    kind = getattr(module, mutant.function)
    for name, value in _values(mutant, {**vars(module), **vars(kind)}):
        if dataclasses.is_dataclass(kind):
            old = getattr(kind, name)
            kind.__init__.__defaults__ = tuple(value if d is old else d for d in kind.__init__.__defaults__)
        setattr(kind, name, value)


def _module(mutant: Mutant, known: Functions) -> None:
    home = _module_of(mutant)
    for name, value in _values(mutant, dict(vars(home))):
        old = getattr(home, name)
        for other, module in list(sys.modules.items()):
            if other.startswith("npae.") and vars(module).get(name) is old:
                setattr(module, name, value)


def _values(mutant: Mutant, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what the changed statement binds."""
    statement = next(node for node in ast.walk(ast.parse(mutant.source()))
                     if isinstance(node, ast.Assign | ast.AnnAssign) and node.lineno == mutant.lines[0])
    exec(compile(ast.Module([statement], []), mutant.file, "exec"), names)
    for target in ast.walk(statement):
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
            yield target.id, names[target.id]


def _node(tree: ast.Module, mutant: Mutant) -> ast.FunctionDef:
    return next(node for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef) and node.lineno == mutant.lines[0])


def _module_of(mutant: Mutant) -> Any:
    name = mutant.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return sys.modules[name]


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def users(name: str) -> set[str]:
    """Everything in the fast kernels that mentions a name, or something that mentions it, and so on."""
    mentions: dict[str, set[str]] = {}
    for file in files(FAST_FILES):
        for node in ast.parse((ROOT / file).read_text()).body:
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            for own in [getattr(node, "name", None), *(n.id for t in getattr(node, "targets", []) for n in ast.walk(t)
                                                       if isinstance(n, ast.Name))]:
                if own:
                    mentions.setdefault(own, set()).update(names)
            for decorator in getattr(node, "decorator_list", []):  # @overload(f): who calls f gets this
                for argument in getattr(decorator, "args", []):
                    if isinstance(argument, ast.Name):
                        mentions.setdefault(argument.id, set()).add(node.name)
    found = {name}
    while more := {user for user, names in mentions.items() if names & found} - found:
        found |= more
    return found
