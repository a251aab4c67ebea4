"""The update rules of optimizers as textbooks print them, line by line, and the mistakes that people make in them.

A rule is its lines, s.name = line(s), one after the other; a variant is the rule with a line that a person got wrong.
All is plain float64, and nothing of `npae.optim` or its kernels is used.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

STEPS = 50
PAUSE = 20  # steps before an optimizer is put away and restored

Rule = dict[str, Callable[[Any], Any]]


DOWN: Rule = {"theta": lambda s: s.theta - s.lr * s.g}
CLIMBS: Rule = {"theta": lambda s: s.theta + s.lr * s.g}
NEVER: Rule = {"theta": lambda s: s.theta}
LATE: Rule = {"lr": lambda s: s.rate(s.step)}
TEXTBOOK: Rule = {"lr": lambda s: s.rate(s.step - 1), "t": lambda s: s.step, "g": lambda s: s.grad}
MOMENTUM: Rule = {**TEXTBOOK, "velocity": lambda s: s.momentum * s.velocity + s.g,
                  "theta": lambda s: s.theta - s.lr * s.velocity}
RMSPROP: Rule = {**TEXTBOOK, "v": lambda s: s.rho * s.v + (1 - s.rho) * s.g**2,
                 "theta": lambda s: s.theta - s.lr * s.g / (np.sqrt(s.v) + s.eps)}
ADAM: Rule = {**TEXTBOOK, "m": lambda s: s.beta1 * s.m + (1 - s.beta1) * s.g,
              "v": lambda s: s.beta2 * s.v + (1 - s.beta2) * s.g**2,
              "m_hat": lambda s: s.m / (1 - s.beta1**s.t), "v_hat": lambda s: s.v / (1 - s.beta2**s.t),
              "theta": lambda s: s.theta - s.lr * s.m_hat / (np.sqrt(s.v_hat) + s.eps)}
ADAMW: Rule = {**{name: line for name, line in ADAM.items() if name != "theta"},
               "shrunk": lambda s: s.theta - s.lr * s.decay * s.theta,
               "theta": lambda s: s.shrunk - s.lr * s.m_hat / (np.sqrt(s.v_hat) + s.eps)}
ENTRIES: Rule = {"t": lambda s: (s.step - 1) * s.theta.size + 1 + np.arange(s.theta.size)}
MISTAKES_OF_ADAM: dict[str, Rule] = {
    "without bias correction": {"m_hat": lambda s: s.m, "v_hat": lambda s: s.v},
    "m is not corrected": {"m_hat": lambda s: s.m},
    "v is not corrected": {"v_hat": lambda s: s.v},
    "t starts at 0": {"t": lambda s: s.step - 1},
    "t is one ahead": {"t": lambda s: s.step + 1},
    "t counts the entries of theta": ENTRIES,
    "beta1 and beta2 swapped": {"m": lambda s: s.beta2 * s.m + (1 - s.beta2) * s.g,
                                "v": lambda s: s.beta1 * s.v + (1 - s.beta1) * s.g**2,
                                "m_hat": lambda s: s.m / (1 - s.beta2**s.t),
                                "v_hat": lambda s: s.v / (1 - s.beta1**s.t)},
    "m of the squared gradient": {"m": lambda s: s.beta1 * s.m + (1 - s.beta1) * s.g**2},
    "v of the gradient, not of its square": {"v": lambda s: s.beta2 * s.v + (1 - s.beta2) * np.abs(s.g)},
}


def _divisors(start: Callable[[Any], Any]) -> dict[str, Rule]:
    """What is done to the divisor of Adam's step; `start` is the theta that is stepped from."""
    return {
        "eps inside the root": {"theta": lambda s: start(s) - s.lr * s.m_hat / np.sqrt(s.v_hat + s.eps)},
        "without eps": {"theta": lambda s: start(s) - s.lr * s.m_hat / np.sqrt(s.v_hat)},
        "without the root of v": {"theta": lambda s: start(s) - s.lr * s.m_hat / (s.v_hat + s.eps)},
        "climbs instead of descending": {"theta": lambda s: start(s) + s.lr * s.m_hat / (np.sqrt(s.v_hat) + s.eps)}}


ALWAYS: dict[str, Rule] = {"theta never moves": NEVER, "schedule asked for step 1 first": LATE}
RULES: dict[str, tuple[Rule, dict[str, Rule]]] = {
    "SGD": ({**TEXTBOOK, **DOWN}, {**ALWAYS, "climbs instead of descending": CLIMBS,
                                   "the learning rate twice": {"g": lambda s: s.lr * s.grad}}),
    "Momentum": (MOMENTUM, {
        **ALWAYS, "climbs instead of descending": {"theta": lambda s: s.theta + s.lr * s.velocity},
        "momentum with the wrong sign": {"velocity": lambda s: s.g - s.momentum * s.velocity},
        "dampened by 1 - momentum": {"velocity": lambda s: s.momentum * s.velocity + (1 - s.momentum) * s.g},
        "learning rate inside the velocity": {"velocity": lambda s: s.momentum * s.velocity + s.lr * s.g,
                                              "theta": lambda s: s.theta - s.velocity},
        "Nesterov's step": {"theta": lambda s: s.theta - s.lr * (s.g + s.momentum * s.velocity)},
        "the velocity is forgotten": {"velocity": lambda s: s.g}}),
    "RMSprop": (RMSPROP, {
        **ALWAYS, "eps inside the root": {"theta": lambda s: s.theta - s.lr * s.g / np.sqrt(s.v + s.eps)},
        "without the root of v": {"theta": lambda s: s.theta - s.lr * s.g / (s.v + s.eps)},
        "rho and 1 - rho swapped": {"v": lambda s: (1 - s.rho) * s.v + s.rho * s.g**2},
        "v is a sum and no average": {"v": lambda s: s.v + s.g**2}}),
    "Adam": (ADAM, {**ALWAYS, **MISTAKES_OF_ADAM, **_divisors(lambda s: s.theta)}),
    "AdamW": (ADAMW, {
        **ALWAYS, **MISTAKES_OF_ADAM, **_divisors(lambda s: s.shrunk),
        "decay coupled with the gradient": {"g": lambda s: s.grad + s.decay * s.theta, "shrunk": lambda s: s.theta},
        "decay without the learning rate": {"shrunk": lambda s: s.theta - s.decay * s.theta},
        "decay forgotten": {"shrunk": lambda s: s.theta}}),
}
CLIPPED: Rule = {**TEXTBOOK, "g": lambda s: s.grad * min(1, s.longest / math.hypot(*s.grad)), **DOWN}
CLIPS: dict[str, Rule] = {
    "clips by value": {"g": lambda s: np.clip(s.grad, -s.longest, s.longest)},
    "norm without the root": {"g": lambda s: s.grad * min(1, s.longest / np.sum(s.grad**2))},
    "norm of absolute values": {"g": lambda s: s.grad * min(1, s.longest / np.sum(np.abs(s.grad)))},
    "norm of the largest entry": {"g": lambda s: s.grad * min(1, s.longest / np.max(np.abs(s.grad)))},
    "lengthens short gradients": {"g": lambda s: s.grad * s.longest / math.hypot(*s.grad)},
    "does not clip": {"g": lambda s: s.grad}}


def falling(step: int) -> float:
    """A rate of half as much every four steps."""
    return 0.05 * 0.5**(step // 4)


def gradient(theta: np.ndarray, step: int) -> np.ndarray:
    """Two entries pulled to a target, one large, one so small that eps matters, one that is rarely there."""
    pull, target = np.array([1.0, 0.5, 0, 0, 0]), np.array([0.3, -1.2, 0, 0, 0])
    wave = np.cos(1.7 * step + np.arange(5)) + np.array([0.2, 0.1, 0.4, 0.3, 0])
    size = np.array([0.3, 0.8, 40.0, 3e-7, 0.1 if step % 7 == 3 else 0])
    return pull * (theta - target) + size * wave


def start() -> np.ndarray:
    """Where theta begins."""
    return np.array([1.0, -0.5, 2.0, 0.25, -0.1])


def textbook(rule: Rule, change: Callable[[Any], None] | None = None, **settings: Any) -> np.ndarray:
    """theta after each step of a rule, (STEPS, 5); `change` is what happens to what it remembers after PAUSE steps.

    s.step is what the rule has counted; the problem's own clock goes on whatever the rule forgets.
    """
    zero = np.zeros(5)
    s = SimpleNamespace(theta=start(), m=zero, v=zero, velocity=zero, step=0, **settings)
    walked = []
    with np.errstate(all="ignore"):  # a wrong rule may divide by zero, and is told by that
        for clock in range(1, STEPS + 1):
            s.step, s.grad = s.step + 1, gradient(s.theta, clock)
            for name, line in rule.items():
                setattr(s, name, line(s))
            walked.append(s.theta)
            if change is not None and clock == PAUSE:
                change(s)
    return np.array(walked)
