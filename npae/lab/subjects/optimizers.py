"""Optimizers beside the textbook: fifty steps of each against a loop written here, and where they differ, the name of
the mistake that gives the very same steps.

The rules and the mistakes stand in `npae.lab.textbook`. One is named only if it walks the wrong way to rounding, in
all steps and entries, and no other one does.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from npae import optim
from npae.gradcheck import Report
from npae.lab.findings import RTOL, Findings
from npae.lab.textbook import CLIPPED, CLIPS, PAUSE, RULES, STEPS, Rule, falling, gradient, start, textbook

FALLING = 0.05, 0.5, 4  # rate, factor, every
KINDS: dict[str, type[optim.Optimizer]] = {kind.__name__: kind for kind in (
    optim.SGD, optim.Momentum, optim.RMSprop, optim.Adam, optim.AdamW)}


def walk(optimizer: optim.Optimizer, pause: Callable[[optim.Optimizer], optim.Optimizer] = lambda o: o) -> np.ndarray:
    """theta after each step of npae's optimizer, (STEPS, 5); after PAUSE steps it may be changed for another."""
    theta, walked = start(), []
    with np.errstate(all="ignore"):
        for step in range(1, STEPS + 1):
            optimizer.step(theta, gradient(theta, step))
            walked.append(theta.copy())
            if step == PAUSE:
                optimizer = pause(optimizer)
    return np.array(walked)


def _walk_anew(make: Callable[..., optim.Optimizer], lr: Any, *pause: Any) -> np.ndarray:
    return walk(make(lr), *pause)


def _optimizer(name: str, kernels: ModuleType) -> Report:
    """One optimizer: its steps, its clock, its memory."""
    kind, (rule, mistakes) = KINDS[name], RULES[name]
    found = Findings()

    def make(lr: Any = 0.01) -> optim.Optimizer:
        return kind(lr, kernels=kernels)

    made = vars(make())
    names = ("momentum", "rho", "beta1", "beta2", "eps", "decay")
    settings: dict[str, Any] = {key: made[key] for key in names if key in made}
    for claim, lr, rate in ((f"{STEPS} steps are those of the textbook", 0.01, lambda step: 0.01),
                            ("a rate that changes acts at once", optim.StepDecay(*FALLING), falling)):
        variants = {mistake: partial(textbook, {**rule, **lines}, rate=rate, **settings)
                    for mistake, lines in mistakes.items()}
        found.same(claim, partial(_walk_anew, make, lr), partial(textbook, rule, rate=rate, **settings), variants)
    _memory(found, make, rule, settings)
    found.test("theta is written in place and grad is only read", lambda: _in_place(make()))
    found.test("the state of another optimizer is refused", lambda: _refuses(make(), found))
    return found.report(f"{name}: {STEPS} steps beside the textbook")


def _memory(found: Findings, make: Callable[..., optim.Optimizer], rule: Rule, settings: dict[str, Any]) -> None:
    """An optimizer that is restored goes on where its state stood, whatever others do with the same state."""
    def again(optimizer: optim.Optimizer, beside: bool) -> optim.Optimizer:
        saved, twin, third = optimizer.state(), make(), make()
        if beside:
            optimizer.step(start(), np.ones(5))
        twin.restore(saved)
        third.restore(saved)
        if beside:
            third.step(start(), np.ones(5))
        return twin

    def extra_step(s: Any) -> None:
        theta, s.grad, s.step = s.theta, np.ones(5), s.step + 1
        for name, line in rule.items():
            setattr(s, name, line(s))
        s.theta, s.step = theta, s.step - 1

    def moments(f: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
        return lambda s: vars(s).update({name: f(getattr(s, name)) for name in ("m", "v", "velocity")})

    lost: dict[str, Callable[[Any], None]] = {
        "the steps are lost": lambda s: vars(s).update(step=0),
        "the moments are lost": moments(np.zeros_like),
        "the moments are rounded to float32": moments(lambda m: m.astype(np.float32).astype(np.float64))}
    shared: dict[str, Callable[[Any], None]] = {"optimizers share their moments": extra_step}
    for claim, beside, changes in (("restored from its state it goes on", False, lost),
                                   ("what others do with the same state does not matter", True, shared)):
        variants = {name: partial(textbook, rule, change, rate=lambda step: 0.01, **settings)
                    for name, change in changes.items()}
        undisturbed = partial(again, beside=False) if beside else lambda optimizer: optimizer
        found.same(claim, partial(_walk_anew, make, 0.01, partial(again, beside=beside)),
                   partial(_walk_anew, make, 0.01, undisturbed), variants, "state")


def _in_place(optimizer: optim.Optimizer) -> str:
    whole, grad = np.concatenate([start(), start()]), np.ones(5)
    with np.errstate(all="ignore"):
        optimizer.step(whole[:5], grad)  # a view, as a model's parameters are of theta
    wrong = [] if not np.array_equal(whole[:5], start()) else ["theta has not moved"]
    wrong += [] if np.array_equal(grad, np.ones(5)) else ["grad has been changed"]
    wrong += [] if np.array_equal(whole[5:], start()) else ["what stands behind theta has been changed"]
    return ", ".join(wrong)


def _refuses(optimizer: optim.Optimizer, found: Findings) -> str:
    other = optim.RMSprop(0.01) if isinstance(optimizer, optim.Momentum) else optim.Momentum(0.01)
    other.step(start(), np.ones(5))
    try:
        optimizer.restore(other.state())
    except ValueError:
        return ""
    return found.say("another optimizer's state is taken")


def _clipping(kernels: ModuleType) -> Report:
    """Gradients longer and shorter than the limit, one after the other."""
    settings: dict[str, Any] = {"rate": lambda step: 0.01, "longest": 20.0}
    found = Findings()
    found.same("long gradients are shortened, short ones are not",
               lambda: walk(optim.SGD(0.01, clip_norm=20.0, kernels=kernels)), partial(textbook, CLIPPED, **settings),
               {name: partial(textbook, {**CLIPPED, **change}, **settings) for name, change in CLIPS.items()})

    def norm() -> str:
        grad = np.array([3.0, 0, -4.0])
        before, after = optim.clip_global_norm(grad, 2.5, kernels), float(np.linalg.norm(grad))
        right = np.allclose((before, after), (5, 2.5), rtol=RTOL)
        return "" if right else f"a norm of 5 that was to become 2.5 was {before} and is {after}"

    def broken() -> str:
        grad = np.array([1.0, math.nan])
        try:
            optim.clip_global_norm(grad, 1.0, kernels)
        except ValueError:
            return "" if grad[0] == 1 else "the gradient has been changed before the error"
        return "no error"

    found.test("the norm as it was is given back, and what is left has the limit's", norm, "reference")
    found.test("a norm that is not finite is an error that changes nothing", broken)
    return found.report("Clipping by the global norm")


Rate = Callable[[int], float]
SCHEDULES: dict[str, tuple[Rate, Rate, dict[str, Rate]]] = {
    "ExponentialDecay": (optim.ExponentialDecay(0.8, 0.5, 6), lambda s: 0.8 * 0.5**(s / 6), {
        "decays in steps": lambda s: 0.8 * 0.5**(s // 6), "begins at step 1": lambda s: 0.8 * 0.5**((s + 1) / 6)}),
    "StepDecay": (optim.StepDecay(0.8, 0.5, 6), lambda s: 0.8 * 0.5**(s // 6), {
        "decays smoothly": lambda s: 0.8 * 0.5**(s / 6), "begins at step 1": lambda s: 0.8 * 0.5**((s + 1) // 6)}),
    "CosineDecay": (optim.CosineDecay(0.8, 12, 0.1),
                    lambda s: 0.45 + 0.35 * math.cos(math.pi * s / 12) if s < 12 else 0.1, {
        "rises again": lambda s: 0.45 + 0.35 * math.cos(math.pi * s / 12),
        "forgets its end": lambda s: 0.4 + 0.4 * math.cos(math.pi * s / 12) if s < 12 else 0.0}),
    "LinearWarmup": (optim.LinearWarmup(5, optim.ExponentialDecay(0.8, 0.5, 6)),
                     lambda s: 0.16 * (s + 1) if s < 5 else 0.8 * 0.5**((s - 5) / 6), {
        "begins at 0": lambda s: 0.16 * s if s < 5 else 0.8 * 0.5**((s - 5) / 6),
        "counts the warm-up's steps too": lambda s: (0.16 * (s + 1) if s < 5 else 0.8) * 0.5**(s / 6)}),
}


def _schedules(kernels: ModuleType) -> Report:
    """The rates of 40 steps; a schedule has no kernels."""
    def rates(f: Rate) -> np.ndarray:
        return np.array([[f(step)] for step in range(40)])

    found = Findings()
    for name, (schedule, want, mistakes) in SCHEDULES.items():
        found.same(f"{name} has the rates of its formula", partial(rates, schedule), partial(rates, want),
                   {mistake: partial(rates, f) for mistake, f in mistakes.items()})
    return found.report("Schedules: 40 rates")


SUBJECTS: dict[str, Callable[[ModuleType], Report]] = {
    **{name: partial(_optimizer, name) for name in RULES},
    "clip_global_norm": _clipping,
    "schedules": _schedules,
}
