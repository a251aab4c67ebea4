"""What holds for every model: the terms and their weights, batches and their pictures, state, chance.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Line, Report
from npae.gradcheck.facts import Facts
from npae.gradcheck.report import attempt
from npae.gradcheck.specimen import REORDERED_RTOL
from npae.lab.subjects.parts import differs, reference, report
from npae.lab.subjects.problem import N, NoiseOf, Problem, Terms, values
from npae.models.base import BATCH

FLOAT32_RTOL = 1e-4
"""A loss in float32 beside the same in float64: a hundred roundings of 6e-8, and room."""

Pairs = list[tuple[Terms, Terms]]


def model_report(title: str, problem: Problem, lines: Sequence[Line] = ()) -> Report:
    """The protocol of a model: gradient, reference, batch and state, and lines of its own."""
    def check() -> Report:
        rng = np.random.default_rng(7) if problem.noise else None
        return gradcheck.check(problem.make(), problem.x, y=problem.y, rng=rng, facts=problem.facts)

    return report(title, check, [*_reference(problem), *lines, *_batch(problem), *_state(problem)])


def _reference(problem: Problem) -> list[Line]:
    """Single pictures (pairs, where the loss is no mean over pictures), and three whole batches, term by term."""
    size = 1 if problem.mean else 2
    some = [(problem.x[i:i + size], None if problem.y is None else problem.y[i:i + size]) for i in range(N + 1 - size)]
    whole = [(bent, problem.y) for bent in (problem.x, problem.x**2, np.sqrt(problem.x))]
    few = Facts({**problem.facts.numbers, "the batch size": size})
    try:
        measured = [(_both(problem, some), few), (_both(problem, whole), problem.facts)]
    except Exception as error:
        return [Line("FAIL", "the loss of a batch", f"raised {type(error).__name__}: {error}", "reference")]
    lines = [reference(f"{name} is what its definition says", partial(_as_defined, measured, name))
             for name in measured[0][0][0][0]]
    if problem.weights:
        lines.append(reference("the terms add up to the loss with their weights", lambda: _adds_up(problem)))
    return lines


def _both(problem: Problem, batches: Sequence[tuple[np.ndarray, Any]]) -> Pairs:
    """(what the model says, what the definition says) of each batch, from equal generators."""
    model, pairs = problem.make(), []
    for seed, (x, y) in enumerate(batches):
        terms = model.loss(x.copy(), y, **problem.chance(np.random.default_rng(seed)))
        defined = problem.define(values(model), x, y, np.random.default_rng(seed))
        pairs.append((terms, {"loss": sum(w * defined[name] for name, w in problem.weights.items()), **defined}))
    return pairs


def _as_defined(measured: Sequence[tuple[Pairs, Facts]], term: str) -> str:
    called = "the value" if term == "loss" else f"the value of {term}"
    wrong = (differs(called, [terms[term] for terms, _ in pairs], [defined[term] for _, defined in pairs], facts)
             for pairs, facts in measured)
    return next(filter(None, wrong), "")


def _adds_up(problem: Problem) -> str:
    terms, _ = problem.terms(range(N))
    return differs("the value", terms["loss"], sum(weight * terms[name] for name, weight in problem.weights.items()))


def _batch(problem: Problem) -> list[Line]:
    order = [2, 1, 0, 4, 3]
    lines = [attempt("pictures in another order give the same loss and gradient",
                     lambda: _same(problem, order, problem.terms(range(N))), "batch"),
             attempt("a batch twice over gives the same loss and gradient",
                     lambda: _same(problem, [*range(N), *range(N)], problem.terms(range(N))), "batch")]
    lines.append(attempt("more pictures than go through at a time get the codes that few get",
                         lambda: _many(problem), "batch"))
    if problem.mean:
        lines.append(attempt("loss and gradient are the means of those of single pictures with the same noise",
                             lambda: _mean_of_singles(problem), "batch"))
    return lines


def _many(problem: Problem) -> str:
    model, times = problem.make(), 2 * BATCH // N + 1
    labels = None if problem.y is None else np.tile(problem.y, times)
    got = model.encode(np.tile(problem.x, (times, 1, 1, 1)), labels)
    return differs("the code", got, np.tile(model.encode(problem.x, problem.y), (times, 1)))


def _same(problem: Problem, places: Sequence[int], want: tuple[Terms, np.ndarray]) -> str:
    terms, grad = problem.terms(places)
    wrong = differs("the value", terms["loss"], want[0]["loss"], rtol=REORDERED_RTOL)
    return wrong or differs("the gradient", grad, want[1], rtol=REORDERED_RTOL)


def _mean_of_singles(problem: Problem) -> str:
    singles = [problem.terms([i]) for i in range(N)]
    mean = {"loss": math.fsum(terms["loss"] for terms, _ in singles) / N}
    return _same(problem, range(N), (mean, np.mean([grad for _, grad in singles], axis=0)))


def _state(problem: Problem) -> list[Line]:
    tests = {"pictures and parameters stay as they were": _leaves_arguments,
             "gradients are added to what is there, in place": _adds_in_place,
             "backward belongs to the latest loss": _latest,
             "two models share nothing": _shares_nothing,
             "encode and reconstruct are the same before and after a loss, and write nothing": _quiet,
             "backward after encode is an error that speaks of the loss, and adds nothing": _refuses,
             "a loss that fails leaves nothing to go back from": _forgets,
             "float32 in, float32 out, and the same loss": _keeps_float32}
    if problem.noise:
        tests["backward draws no noise, and equal generators give equal losses"] = _leaves_the_generator
    return [attempt(claim, partial(test, problem)) for claim, test in tests.items()]


def _leaves_arguments(problem: Problem) -> str:
    model, x = problem.make(), problem.x
    before = values(model)
    model.loss(x, problem.y, **problem.chance(np.random.default_rng(0)))
    model.backward()
    wrong = [] if np.array_equal(x, problem.x) else ["writes into x"]
    return ", ".join(wrong + [f"writes into {name}" for name, value in values(model).items()
                              if not np.array_equal(value, before[name])])


def _adds_in_place(problem: Problem) -> str:
    _, want = problem.terms(range(N))
    model = problem.make()
    homes = {p.name: p.grad for p in model.params}
    problem.terms(range(N), model=model)  # clears, and adds once
    model.backward()
    rebound = [p.name for p in model.params if p.grad is not homes[p.name]]
    if rebound:
        return f"the gradient of {rebound[0]} is another array afterwards: not in place"
    if not differs("", model.grad, want):
        return "the gradient is overwritten"
    once = problem.make()
    problem.terms(range(N), model=once)
    overwritten = [p.name for p, q in zip(model.params, once.params, strict=True) if not differs("", p.grad, q.grad)]
    if overwritten:
        return f"the gradient of {overwritten[0]} is overwritten"
    return differs("the gradient of two calls", model.grad, 2 * want)


def _latest(problem: Problem) -> str:
    """Another batch of the same size, then a smaller one."""
    first, other, fewer = [0, 1, 2], [4, 3, 1], [2, 4]
    for later in (other, fewer):
        model = problem.make()
        _, stale = problem.terms(first, model=model)
        (_, got), (_, want) = problem.terms(later, model=model), problem.terms(later)
        wrong = differs("the gradient", got, want)
        if wrong:
            return wrong if differs("", got, stale) else "the gradient belongs to an earlier forward"
    return ""


def _shares_nothing(problem: Problem) -> str:
    a, b = problem.make(), problem.make()
    _, want = problem.terms([0, 1, 2])
    a.loss(problem.x[:3], None if problem.y is None else problem.y[:3], **problem.chance(NoiseOf(N, [0, 1, 2])))
    problem.terms([4, 3], model=b)
    a.backward()
    return "shared between two instances" if differs("", a.grad, want) else ""


def _quiet(problem: Problem) -> str:
    model, y = problem.make(), problem.y
    x = problem.x
    before = model.encode(x, y), model.reconstruct(x, y)
    model.loss(x, y, **problem.chance(np.random.default_rng(0)))
    for name, want in zip(("encode", "reconstruct"), before, strict=True):
        if not np.array_equal(getattr(model, name)(x, y), want):
            return f"{name} gives something else after a loss"
    return "" if np.array_equal(x, problem.x) else "writes into x"


def _refuses(problem: Problem) -> str:
    model = problem.make()
    problem.terms(range(N), model=model)
    model.encode(problem.x, problem.y)
    return _no_backward(model)


def _forgets(problem: Problem) -> str:
    model = problem.make()
    problem.terms(range(N), model=model)
    try:
        model.loss(problem.x.astype(np.float32), problem.y, **problem.chance(np.random.default_rng(0)))
    except ValueError:
        return _no_backward(model)
    return "float32 pictures are taken by a float64 model"


def _no_backward(model: Any) -> str:
    before = model.grad.copy()
    try:
        model.backward()
    except ValueError as error:
        said = "" if "latest loss" in str(error) else f"the error says {error}"
        return said if np.array_equal(model.grad, before) else "the gradient is added to before the error"
    return "backward gives a gradient"


def _keeps_float32(problem: Problem) -> str:
    model = problem.make().to(np.float32)
    x, rng = problem.x.astype(np.float32), np.random.default_rng(0)
    loss = model.loss(x, problem.y, **problem.chance(rng))["loss"]
    model.backward()
    arrays = {"the gradient": model.params[0].grad, "the code": model.encode(x, problem.y),
              "the picture": model.reconstruct(x, problem.y)}
    wrong = [f"{name} is float64: float64 comes out of float32" for name, a in arrays.items() if a.dtype == np.float64]
    want = problem.make().loss(problem.x, problem.y, **problem.chance(np.random.default_rng(0)))["loss"]
    return ", ".join(wrong) or differs("the value", loss, want, rtol=FLOAT32_RTOL)


def _leaves_the_generator(problem: Problem) -> str:
    losses = []
    for _ in range(2):
        model, rng = problem.make(), np.random.default_rng(0)
        losses.append(model.loss(problem.x, problem.y, rng=rng)["loss"])
        before = rng.bit_generator.state
        model.backward()
        if rng.bit_generator.state != before:
            return "backward draws noise again"
    return "" if losses[0] == losses[1] else f"equal generators give {losses[0]!r} and {losses[1]!r}"


def limit(claim: str, problem: Problem, other: Callable[[], Any], **settings: Any) -> Line:
    """With these settings the loss and the gradient are those of another model with the same parameters."""
    def test() -> str:
        model, plain = problem.make(), other()
        for name, value in settings.items():
            setattr(model, name, value)
        plain.theta[...] = model.theta
        terms, grad = problem.terms(range(N), model=model)
        want, plain_grad = problem.terms(range(N), model=plain)
        return differs("the value", terms["loss"], want["loss"]) or differs("the gradient", grad, plain_grad)

    return reference(claim, test)
