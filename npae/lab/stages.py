"""One submission, graded stage by stage in a process of its own: `python -m npae.lab.stages FILE RESULT NUMBER ...`.
It runs the submitted code, as it is. Each result is written down at once, one JSON object a line, so that what was
right stays known when a later stage hangs. `npae.lab.grade` starts it and reads it.
"""
from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from npae.gradcheck import Report, Row, Verdict, check
from npae.gradcheck.contract import a_or_an
from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.facts import Facts
from npae.gradcheck.specimen import Maker, copy_as
from npae.gradcheck.state import state_lines
from npae.lab import hints
from npae.lab.exercises import EXERCISES, NOISE, Part, spread
from npae.lab.harness import Guarded, Net, said

FEW = 8  # entries a parameter of a net: each layer alone has been looked at whole
RTOL = 1e-10  # of the largest value of forward, in float64
FOLLOWS = "This follows from what is wrong above: put that right first."


class Wrong(Exception):
    """A stage that fails; the message is what it looks like. `raised` is what the submission raised, if that is it."""

    def __init__(self, looks: str, raised: BaseException | None = None):
        super().__init__(looks)
        self.raised = raised


def main(argv: list[str]) -> None:
    """FILE, the file for the results, and the numbers of the exercises to look for."""
    file, result, *numbers = argv
    with open(result, "w", encoding="utf-8") as out:
        def tell(**fact: Any) -> None:
            out.write(json.dumps(fact) + "\n")
            out.flush()

        try:
            module = _load(Path(file))
        except BaseException as error:  # a submission may raise anything, SystemExit among it
            tell(remark=f"it cannot be imported: {said(error, file)}")
            numbers = []
        for number in map(int, numbers):
            for part in EXERCISES[number - 1].parts:
                Grading(part, getattr(module, part.kind, None), file, tell).run()
        tell(end=True)


def _load(path: Path) -> Any:
    """The file as a module; it finds files beside it, and is not __main__."""
    sys.path.append(str(path.parent))  # behind the others: a file there may be called numpy.py
    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    spec.loader.exec_module(module)
    return module


class Grading:
    """The stages of one class; `tell` is given a remark, or each stage with whether it passed and its hint."""

    def __init__(self, part: Part, kind: Any, file: str, tell: Callable[..., None]):
        self.part, self.kind, self.file, self.tell = part, kind, file, tell
        self.x = spread(np.random.default_rng(0), part.input_shape)
        self.rng = np.random.default_rng(NOISE)
        self.passed: dict[str, bool] = {}

    def run(self) -> None:
        """One remark where there is nothing to grade, else every stage that the class has."""
        try:
            self._as_given()
        except BaseException as error:
            raised = f"{self.part.kind} is not as it was given: it raised {said(error, self.file)}"
            self.tell(part=self.part.kind, remark=str(error) if isinstance(error, Wrong) else raised)
            return
        for stage in self.part.points:
            stage_of = {"shapes": self._shapes, "composition": self._composition, "state": self._state}
            hint = ""
            try:
                if stage in stage_of:
                    stage_of[stage]()
                else:
                    self._gradient(stage)
            except BaseException as error:
                looks = str(error) if isinstance(error, Wrong) else f"It raised {said(error, self.file)}."
                cause = error.raised if isinstance(error, Wrong) else error
                question = hints.of_raised(cause) if cause else ""
                hint = looks if looks == FOLLOWS else f"{looks}\n{question or self.part.look[stage]}"
            self.passed[stage] = not hint
            self.tell(part=self.part.kind, stage=stage, ok=not hint, hint=hint)

    def make(self) -> Any:
        """A new layer; equal seeds give equal weights."""
        return self.part.make(self.kind, np.random.default_rng(1))

    def float64(self) -> Any:
        """A new layer in float64, with noise from the generator that the values are known for."""
        return Maker(self.make, self.rng, 0).fresh(np.float64)

    def _as_given(self) -> None:
        """Raises Wrong where the class is not the one of the exercise, or its backward has not been begun."""
        name = self.part.kind
        if not isinstance(self.kind, type):
            raise Wrong(f"the class {name} is missing")
        foreign = next((base for base in self.kind.__mro__ if base.__module__.split(".")[0] == "npae"), None)
        if foreign is not None:
            raise Wrong(f"{name} is to be written by hand, but it inherits from {foreign.__module__}."
                        f"{foreign.__name__}")
        specimen = self.float64()
        shapes = {key: param.value.shape for key, param in specimen.params.items()}
        if shapes != dict(self.part.params):
            raise Wrong(f"{name} has the parameters {shapes}, it was given {dict(self.part.params)}: take them back")
        y = np.array(specimen.forward(self.x.copy()))
        want = self.part.reference(self.x, *(param.value for param in specimen.params.values()))
        if y.shape != want.shape or not np.max(np.abs(y - want)) <= RTOL * np.max(np.abs(want)):
            raise Wrong(f"forward of {name} gives other values than the one that was given: take that back, only "
                        "backward is yours")
        guarded = Guarded(specimen.target)
        dx = guarded.backward(np.ones_like(y))
        begun = dx is not None or any(np.any(grad) for grad in specimen.grads().values())
        if not begun and (not guarded.raised or isinstance(guarded.raised[0], NotImplementedError)):
            raise Wrong(f"backward of {name} is still blank: begin with the derivation at the top of the file, on "
                        "paper, then write one gradient after the other")

    def _shapes(self) -> None:
        for x in (self.x, self.x[:1]):
            specimen = self.float64()
            y = np.array(specimen.forward(x))
            dx = specimen.target.backward(np.ones_like(y))
            if not isinstance(dx, np.ndarray):
                raise Wrong("backward returned None: return dx." if dx is None else
                            f"backward returned {a_or_an(dx)}: return an array.")
            arrays = {"dx": (dx, x), **{f"d{name}": (np.asarray(param.grad), param.value)
                                        for name, param in specimen.params.items()}}
            for name, (grad, value) in arrays.items():
                if grad.shape != value.shape:
                    raise Wrong(f"{name} has the shape {grad.shape} for N = {len(x)}, {value.shape} belongs there.")

    @cached_property
    def report(self) -> Report:
        """The gradient check, in which a backward that raises is one that returns None."""
        return check(Guarded(self.float64().target), self.x, rng=self.rng)

    def _gradient(self, stage: str) -> None:
        """What backward has added before it raised counts, and what it did not come to follows from that."""
        specimen = self.float64()
        guarded = Guarded(specimen.target)
        guarded.backward(np.ones_like(np.array(specimen.forward(self.x))))
        for row in self.report.rows:
            if _stage_of(row.name) == stage and not row.ok:
                begun = row.name != "x" and np.any(specimen.params[row.name].grad)
                if not self.passed["shapes"] and (row.refused or (guarded.raised and not begun)):
                    raise Wrong(FOLLOWS)
                if guarded.raised and not begun:
                    raise Wrong(f"backward raised {said(guarded.raised[0], self.file)}.", guarded.raised[0])
                raise Wrong(_looks(row, self.report, Facts(self.part.numbers)))

    def _composition(self) -> None:
        """Where not even the shapes are right, that is why."""
        try:
            self._composes()
        except Wrong:
            raise
        except BaseException:
            if not self.passed["shapes"]:
                raise Wrong(FOLLOWS) from None
            raise

    def _composes(self) -> None:
        """Of the layers above and below, and of the two themselves as far as they are right alone."""
        if not self.passed["input"]:
            raise Wrong(FOLLOWS)
        rng = np.random.default_rng(2)
        first, second = (copy_as(self.part.make(self.kind, rng), np.float64) for _ in range(2))
        before, after = ([layer.to(np.float64) for layer in layers(rng)]
                         for layers in (self.part.before, self.part.after))
        for row in check(Net(before, first, second, after), self.x, rng=self.rng, entries=FEW).rows:
            own = row.name.startswith(("first.", "second."))
            if not row.ok and (not own or self.passed[_stage_of(row.name.split(".")[1])]):
                raise Wrong(f"In a net with two of them, in {row.explain()}.")

    def _state(self) -> None:
        """Where not even the shapes are right, that is why."""
        try:
            self._keeps_state()
        except BaseException:
            if not self.passed["shapes"]:
                raise Wrong(FOLLOWS) from None
            raise

    def _keeps_state(self) -> None:
        specimen = self.float64()
        if not any(np.any(grad) for grad in specimen.pull(np.ones_like(specimen.forward(self.x))).values()):
            raise Wrong("This counts as soon as one gradient is not zero.")
        maker, draw = Maker(self.make, self.rng, 0), np.random.default_rng(3)
        lines = [*self.report.lines, *state_lines(maker, lambda shape: spread(draw, shape), self.x, 0)]
        wrong = [line for line in lines if line.status == "FAIL"]
        if wrong:
            raise Wrong(f"Not so: {wrong[0].claim} ({wrong[0].figure}).")


def _stage_of(name: str) -> str:
    """The stage in which the gradient of this array is graded."""
    return {"x": "input", "W": "weight"}.get(name, "bias")


def _looks(row: Row, report: Report, facts: Facts) -> str:
    """What a wrong gradient looks like: its explanation where there is one, else its worst entry."""
    name = f"d{row.name}"
    if row.refused:
        return f"{name}: {row.reason}."
    got, want = (np.reshape([getattr(e, of) for e in row.entries], row.shape) for of in ("analytic", "numeric"))
    told = [text for text in report.explanations if name in text.replace(",", " ").split()]
    told = told or [text for text in [explain(name, got, want, facts)] if text]
    if told:
        return f"{'; '.join(told)}."
    wrong = [entry for entry in row.entries if entry.verdict is Verdict.FAIL]
    if not wrong:
        return f"{row.explain()}."
    worst = max(wrong, key=lambda entry: abs(entry.analytic - entry.numeric))
    return (f"{name} is wrong in {len(wrong)} of {len(row.entries)} entries: {name}{list(worst.index)} is "
            f"{worst.analytic:+.4g}, differences say {worst.numeric:+.4g}.")


if __name__ == "__main__":
    main(sys.argv[1:])
