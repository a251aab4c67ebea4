"""What is asked of a layer before anything is measured: parameters that can be moved, forward(x) and backward(dy) that
can be called, arrays that come back. What is not so is told once, with the learner's own line.
"""
from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np


def named_params(target: Any) -> dict[str, Any]:
    """The parameters by name, each once; one without a name is called after its place.

    Two parts of a layer may each have a W: the second is called "W (2)".
    Raises: ValueError if there is no `params`, or another thing than parameters in it; if two parameters that belong
    to one part have the same name, if one is called "x", has no entries, no grad, or a value that is no array.
    """
    kind = type(target).__name__
    if isinstance(target, type):
        raise ValueError(f"{target.__name__} is a class: a layer is checked, such as {target.__name__}()")
    if not hasattr(target, "params"):
        raise ValueError(f"{kind} has no params: a layer without parameters has params = ()")
    if not isinstance(target.params, tuple | list):
        found = "a method" if callable(target.params) else a_or_an(target.params)
        raise ValueError(f"params of {kind} is {found}: make it a tuple of parameters, such as (self.W, self.b)")
    named: dict[str, Any] = {}
    for place, param in enumerate(target.params):
        if any(param is other for other in named.values()):
            continue
        name = getattr(param, "name", None) or f"params[{place}]"
        _is_param(param, f"params[{place}] of {kind}", f"the parameter {name!r} of {kind}")
        same = [other for key, other in named.items() if key.partition(" (")[0] == name]
        if not all(_in_two_parts(target, param, other) for other in same):
            raise ValueError(f"two parameters of {kind} are called {name!r}; give each its own name")
        named[f"{name} ({len(same) + 1})" if same else name] = param
    return named


def a_or_an(thing: Any) -> str:
    """What a thing is, in words: a list, an array, None."""
    if thing is None:
        return "None"
    name = "array" if isinstance(thing, np.ndarray) else type(thing).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _is_param(param: Any, where: str, called: str) -> None:
    if not hasattr(param, "value"):
        raise ValueError(f"{where} is {a_or_an(param)}: a parameter has a value and a grad, such as Param('W', array)")
    if not isinstance(param.value, np.ndarray):
        raise ValueError(f"the value of {called[4:]} is {a_or_an(param.value)}: make it an array of floats")
    if not hasattr(param, "grad"):
        raise ValueError(f"{called} has no grad: begin with grad = np.zeros_like(value)")
    if getattr(param, "name", None) == "x":
        raise ValueError(f"{called} has the name of the input, whose gradient is dx: rename it")
    if param.value.size == 0:
        raise ValueError(f"{called} has no entries, its shape is {param.value.shape}: leave it out")


def _in_two_parts(target: Any, one: Any, other: Any) -> bool:
    """Does a layer within this one hold exactly one of the two?"""
    for part in _parts(target, set()):
        params = part.params if isinstance(part.params, tuple | list) else ()
        if any(p is one for p in params) != any(p is other for p in params):
            return True
    return False


def _parts(layer: Any, seen: set[int]) -> Iterator[Any]:
    """The layers within a layer, in its attributes or in lists there, at every depth."""
    for value in getattr(layer, "__dict__", {}).values():
        items = value if isinstance(value, tuple | list) else value.values() if isinstance(value, dict) else (value,)
        for item in items:
            if hasattr(item, "params") and id(item) not in seen:
                seen.add(id(item))
                yield item
                yield from _parts(item, seen)


def is_npaes(layer: Any) -> bool:
    """Is it one of npae.layers, or derived from one? Those keep contracts beyond the protocol."""
    return any(base.__module__.partition(".layers")[0] == "npae" for base in type(layer).__mro__)


def answers(target: Any) -> None:
    """Raises ValueError where forward(x) or backward(dy), of a model backward(), cannot be called."""
    kind, is_model = type(target).__name__, hasattr(target, "loss")
    for name, given in (("backward", ()),) if is_model else (("forward", ("x",)), ("backward", ("dy",))):
        wanted = f"{name}({', '.join(given)})"
        method = getattr(target, name, None)
        if not callable(method):
            raise ValueError(f"{kind} has no {name}: write {wanted}")
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):  # written in C, say
            continue
        try:
            signature.bind(*given)
        except TypeError:
            raise ValueError(f"{name} of {kind} takes {signature}, but it is called as {wanted}: leave the other "
                             "arguments out, or give them a default") from None


def trouble(layer: Any, x: np.ndarray) -> str:
    """What keeps forward(x) or backward(dy) from giving an array, in words; nothing if both do."""
    try:
        y = layer.forward(x.copy())
    except (Exception, SystemExit) as error:
        return f"forward {raised(error, layer)}"
    wrong = _no_array("forward", y, "y")
    if wrong:
        return wrong
    try:
        dx = layer.backward(np.ones(np.shape(y)))
    except (Exception, SystemExit) as error:
        return f"backward {raised(error, layer)}"
    return _no_array("backward", dx, "dx")


def raised(error: BaseException, layer: Any) -> str:
    """An exception in words, with the last line of the layer's own file that it went through."""
    kinds = (layer if isinstance(layer, type) else type(layer)).__mro__
    files = {f.__code__.co_filename for kind in kinds for f in vars(kind).values() if inspect.isfunction(f)}
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    where = f" in line {lines[-1]}" if lines else ""
    why = " ".join(str(error).split())[:300]
    return f"raised {type(error).__name__}{where}{f': {why}' if why else ''}"


def _no_array(name: str, found: Any, belongs: str) -> str:
    if isinstance(found, np.ndarray | np.number | float) and np.asarray(found).dtype != object:
        return ""
    return f"{name} returned {a_or_an(found)}: return {belongs if found is None else 'an array'}"
