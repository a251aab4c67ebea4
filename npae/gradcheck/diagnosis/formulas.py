"""Which function of x and y is this? The local derivatives that activations have, and those that are taken for them."""
from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from npae.gradcheck.diagnosis.jacobian import alike

Array = np.ndarray


def _sigmoid(t: Array) -> Array:
    return 0.5 * (1 + np.tanh(t / 2))


OF_ONE: dict[str, Callable[[Array], Array]] = {
    "{t} (1 - {t})": lambda t: t * (1 - t),
    "1 - {t}²": lambda t: 1 - t * t,
    "{t}": lambda t: t,
    "1 - {t}": lambda t: 1 - t,
    "1 + {t}": lambda t: 1 + t,
    "{t}²": lambda t: t * t,
    "(1 - {t})²": lambda t: (1 - t) ** 2,
    "(1 - {t}²)²": lambda t: (1 - t * t) ** 2,
    "({t} (1 - {t}))²": lambda t: (t * (1 - t)) ** 2,
    "2 {t}": lambda t: 2 * t,
    "exp({t})": np.exp,
    "exp(-{t})": lambda t: np.exp(-t),
    "1 - exp(-{t})": lambda t: 1 - np.exp(-t),
    "exp({t}/2)": lambda t: np.exp(t / 2),
    "½ exp({t}/2)": lambda t: np.exp(t / 2) / 2,
    "½ exp({t})": lambda t: np.exp(t) / 2,
    "exp({t}) - 1": np.expm1,
    "½ (exp({t}) - 1)": lambda t: np.expm1(t) / 2,
    "sigmoid({t})": _sigmoid,
    "1 - sigmoid({t})": lambda t: _sigmoid(-t),
    "sigmoid({t}) (1 - sigmoid({t}))": lambda t: _sigmoid(t) * _sigmoid(-t),
    "tanh({t})": np.tanh,
    "1 - tanh({t})²": lambda t: 1 - np.tanh(t) ** 2,
    "[{t} > 0]": lambda t: (t > 0).astype(float),
    "[{t} >= 0]": lambda t: (t >= 0).astype(float),
    "[{t} <= 0]": lambda t: (t <= 0).astype(float),
    "[{t} < 0]": lambda t: (t < 0).astype(float),
    "[{t} > 1]": lambda t: (t > 1).astype(float),
    "sign({t})": np.sign,
    "|{t}|": np.abs,
    "max({t}, 0)": lambda t: np.maximum(t, 0),
}
"""Every formula of one variable; {t} is its name."""


OF_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "{s} - {t}": lambda s, t: s - t,
    "2 ({s} - {t})": lambda s, t: 2 * (s - t),
    "{s} + {t}": lambda s, t: s + t,
    "{s} {t}": lambda s, t: s * t,
    "{s} (1 - {t})": lambda s, t: s * (1 - t),
    "|{s} - {t}|": lambda s, t: np.abs(s - t),
    "sign({s} - {t})": lambda s, t: np.sign(s - t),
    "({s} - {t})²": lambda s, t: (s - t) ** 2,
    "sigmoid({s}) - {t}": lambda s, t: _sigmoid(s) - t,
    "sigmoid({s}) - (1 - {t})": lambda s, t: _sigmoid(s) - (1 - t),
    "sigmoid(|{s}|) - {t}": lambda s, t: _sigmoid(np.abs(s)) - t,
    "(sigmoid({s}) - {t}) sigmoid({s}) (1 - sigmoid({s}))": lambda s, t: (_sigmoid(s) - t) * _sigmoid(s) * _sigmoid(-s),
    "[{s} > 0] - {t}": lambda s, t: (s > 0) - t,
    "({s} - {t}) / ({s} (1 - {s}))": lambda s, t: (s - t) / (s * (1 - s)),
}
"""Formulas of two variables: an output and its target, a weight and its input."""


def formula_of_two(values: Array, variables: dict[str, Array]) -> str:
    """The first of OF_TWO that gives these values, with its names; empty if none does."""
    if values.size < 6:
        return ""
    with np.errstate(all="ignore"):
        for text, f in OF_TWO.items():
            for (a, s), (b, t) in permutations(variables.items(), 2):
                if alike(values, f(s, t)):
                    return text.format(s=a, t=b)
    return ""


def formula(values: Array, variables: dict[str, Array]) -> tuple[str, str]:
    """(formula with {t} in it, name of the variable) of the first that gives these values; two empty strings if none.

    >>> y = np.linspace(-0.5, 0.7, 5)
    >>> formula(1 - y * y, {"x": np.arctanh(y), "y": y})
    ('1 - {t}²', 'y')
    """
    for constant, words in ((0.0, "0"), (1.0, "1")):
        if alike(values, np.full(values.shape, constant), 1.0):
            return words, ""
    if values.size < 3:
        return "", ""
    with np.errstate(all="ignore"):
        for text, f in OF_ONE.items():
            for name, t in reversed(variables.items()):
                if alike(values, f(t)):
                    return text, name
    return "", ""
