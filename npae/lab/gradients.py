"""What `npae gradcheck` walks: every layer of the catalogue, every loss, penalty and model under the whole protocol,
and every recipe's net with differences and Taylor remainders. Whatever has kernels is walked twice, on the textbook and
on the fast ones. A backward pass that raises is a report too, and the walk goes on.
"""
from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

from npae import gradcheck, recipes
from npae.gradcheck import Report
from npae.gradcheck.gradient import Way
from npae.gradcheck.taylor import taylor_line
from npae.kernels import reference, resolve
from npae.lab import catalogue, own, points
from npae.lab.subjects import attempted, layers, losses, models, penalties

KERNELS: dict[str, ModuleType] = {  # the textbook alone where the fast ones cannot run
    kernels.__name__.rpartition(".")[2]: kernels for kernels in (reference, resolve())}
Check = Callable[[ModuleType], Report]


def reports(target: str = "all", method: str = "richardson", along: bool = False,
            shape: tuple[int, ...] | None = None) -> Iterator[tuple[str, Report]]:
    """(name, report) of a layer, loss, penalty, model or recipe, of FILE.py:Class, or of all; one after the other.

    With another method than Richardson's, or `along` random directions, only the gradient is looked at, and not the
    rest of the protocol; `shape` is that of a batch for a class of one's own.
    Raises ValueError: a name that is none of them (they are listed), a method that does not exist, or one beside
    `along`; all before anything is looked at.
    """
    Way(method, along, None)
    target = called(target)
    if own.is_own(target):
        yield own.check(target, shape, method, along)
        return
    if shape is not None:
        raise ValueError(f"npae's own {target} is checked on shapes of its own: leave --shape out")
    whole = method == "richardson" and not along
    if not whole and target != "all":
        _has_a_point(target)
    for name, check in _walks(target, _protocol if whole else partial(_gradient_alone, method=method, along=along)):
        for label, kernels in KERNELS.items():
            yield f"{name}, {label} kernels", attempted(name, partial(check, kernels))


def plot(target: str, path: str | Path, shape: tuple[int, ...] | None = None) -> list[Path]:
    """Draw how wrong each estimate is at each step, and of a layer or model what its gradient leaves of phi.

    Of a layer with several cases the first is drawn. Gives the files: FILE, and FILE-taylor beside it.
    Raises ValueError: all at once, or a name that is not known.
    """
    from npae import figures

    point: points.Point
    target = called(target)
    if own.is_own(target):
        name, point = target, own.point(target, shape)
    elif target == "all":
        raise ValueError(f"a plot is of one target, got {target!r}: name a layer, loss, penalty, model or recipe")
    else:
        _has_a_point(target)
        name, point = next(points.points(target, reference))
    path = figures.check_png(path)
    files = [path]
    with own.heard():  # a layer of one's own may print
        curves = dataclasses.replace(point.v_curve(), name=name)
    figures.save(figures.v_curves(curves, title=f"{name}: how wrong is a difference?"), path)
    if isinstance(point, points.Target):
        files.append(path.with_stem(f"{path.stem}-taylor"))
        with own.heard():
            remainders = point.taylor()
        figures.save(figures.taylor_plot(remainders, title=f"{name}: what its gradient leaves of φ"), files[-1])
    return files


def _has_a_point(target: str) -> None:
    """Raises ValueError: what has a protocol of its own, and no single function to difference another way or to plot;
    without a report there would be nothing wrong.
    """
    if next(points.points(target, reference), None) is None:
        raise ValueError(f"{target} is checked by its whole protocol alone: leave --method, --fast and --plot out, or "
                         "name a recipe that uses it")


def kinds() -> tuple[str, ...]:
    """All names that a target may have."""
    return tuple(dict.fromkeys((*catalogue.KINDS, *losses.SUBJECTS, *penalties.SUBJECTS,
                                *(name.split(",")[0] for name in models.SUBJECTS), *recipes.RECIPES)))


def called(target: str) -> str:
    """The name as it is written here, in whatever case it was given; FILE.py:Class as it is.

    Raises ValueError: a name that is none (they are listed, the nearest first).
    """
    known = {name.lower(): name for name in ("all", *kinds())}
    if own.is_own(target) or target.lower() in known:
        return known.get(target.lower(), target)
    near = difflib.get_close_matches(target.lower(), known, n=1)
    guess = f"did you mean {known[near[0]]}? It is" if near else "use"
    raise ValueError(f"nothing to check is called {target!r}: {guess} one of {', '.join(known.values())}, or "
                     "FILE.py:Class")


def number(target: str = "all") -> int:
    """How many reports there are of npae's own."""
    return len(KERNELS) * sum(1 for _ in _walks(target, _protocol))


def line(report: Report) -> str:
    """The report of a right gradient in one line."""
    verified = sum(row.count(gradcheck.Verdict.PASS) for row in report.rows)
    unverified = sum(row.unverified for row in report.rows)
    worst = max((entry.ratio for row in report.rows for entry in row.entries), default=0.0)
    passed = sum(found.status == "PASS" for found in report.lines)
    return (f"{verified} derivative{'s' * (verified != 1)} verified, {unverified} KINK or UNRESOLVED, worst error "
            f"{worst:.2g} of its limit; {passed} other test{'s' * (passed != 1)}")


def _walks(target: str, checks: Callable[[str], Iterator[tuple[str, Check]]]) -> Iterator[tuple[str, Check]]:
    for kind in kinds() if target == "all" else (target,):
        yield from checks(kind)


def _protocol(kind: str) -> Iterator[tuple[str, Check]]:
    """The subjects of this name, under all that there is for them."""
    if kind in recipes.RECIPES:
        yield kind, partial(_recipe, kind)
    for name, check in {**losses.SUBJECTS, **penalties.SUBJECTS, **models.SUBJECTS}.items():
        if name.split(",")[0] == kind:
            yield name, check
    for case in layers.CASES:
        if case.kind == kind:
            yield case.name, layers.SUBJECTS[case.name]


def _recipe(name: str, kernels: ModuleType) -> Report:
    point = points.recipe(name, kernels)
    report = point.check()
    return dataclasses.replace(report, lines=(*report.lines, taylor_line(point.thing, point.x, point.y, point.rng)))


def _gradient_alone(kind: str, method: str, along: bool) -> Iterator[tuple[str, Check]]:
    def check(name: str, kernels: ModuleType) -> Report:
        return dict(points.points(kind, kernels))[name].check(method, along)

    for name, _ in points.points(kind, reference):
        yield name, partial(check, name)
