"""The bug hunt: a layer of npae with one bug planted, for somebody who is to find it.
The hunter runs the checks, reads the code with the bug in it, asks for a hint, and says which mistake it is.
"""
from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npae.gradcheck import Report
from npae.kernels import reference
from npae.lab import planting, subjects, zoo
from npae.lab.planting import Bug

CHOICES = 4
"""Sentences to choose from: the true one and others of the same room, or of a neighbour's."""
HELP = "check: run the protocol   code: read the code   hint: what the diagnosis says   1-4: your guess   quit"


@dataclass(frozen=True)
class Hunt:
    """One question: a bug in a place, and sentences of which one is true."""

    bug: Bug
    choices: tuple[str, ...]

    @property
    def answer(self) -> int:
        """The number of the true sentence, counted from 1."""
        return self.choices.index(self.bug.did) + 1

    @cached_property
    def full_report(self) -> Report:
        """The protocol on npae with the bug in it."""
        with planting.planted(self.bug):
            return subjects.check(self.bug.subject, reference)

    @property
    def report(self) -> Report:
        """What the hunter sees: the figures without their explanations."""
        lines = tuple(dataclasses.replace(line, figure=line.figure.split(":")[0]) if line.status == "FAIL" else line
                      for line in self.full_report.lines)
        return dataclasses.replace(self.full_report, explanations=(), lines=lines)

    @property
    def code(self) -> str:
        """The functions that the bug is in, with the bug."""
        texts = []
        for where in dict.fromkeys(edit.where for edit in self.bug.edits):
            text = inspect.getsource(planting.function_at(where))
            for edit in self.bug.edits:
                text = text.replace(edit.old, edit.new) if edit.where == where else text
            texts.append(f"# {where.replace(':', '.')}\n{inspect.cleandoc(text) if text[0] == ' ' else text.rstrip()}")
        return "\n\n".join(texts)

    @property
    def hint(self) -> str:
        """What the diagnosis says of it."""
        failed = [f"{line.claim}: {line.figure}" for line in self.full_report.lines if line.status == "FAIL"]
        return "\n".join([*self.full_report.explanations, *failed]) or "the diagnosis has nothing to say"

    @property
    def solution(self) -> str:
        """The sentence, and the lines."""
        return "\n".join([self.bug.did, *planting.lines(self.bug)])


def rooms() -> list[str]:
    """Where bugs can be hunted: rooms with enough bugs to choose from."""
    names = [bug.room for bug in zoo.bugs()]
    return [room for room in dict.fromkeys(names) if names.count(room) >= CHOICES]


def hunt(room: str | None = None, seed: int = 0) -> Hunt:
    """A question about this room, or about any; the same seed asks the same.

    Raises ValueError: a room without bugs.
    """
    rng = np.random.default_rng([seed, 11])
    if room is None:
        room = str(rng.choice(rooms()))
    mine = list(zoo.bugs(room))
    bug = mine[int(rng.integers(len(mine)))]
    others = dict.fromkeys(other.did for other in mine if other.did != bug.did)
    if len(others) < CHOICES - 1:
        others |= dict.fromkeys(other.did for other in zoo.bugs() if other.did != bug.did)
    wrong = rng.permutation(list(others)[:max(CHOICES - 1, len(mine) - 1)])[:CHOICES - 1]
    return Hunt(bug, tuple(str(text) for text in rng.permutation([bug.did, *wrong])))


def play(question: Hunt, ask: Callable[[str], str], show: Callable[[str], None]) -> bool:
    """Talk with the hunter until there is an answer; whether it is right. `ask` raises EOFError if nobody is there."""
    show(f"{question.bug.subject} has one bug. Which?")
    for number, text in enumerate(question.choices, 1):
        show(f"  {number}  {text}")
    show(HELP)
    while True:
        try:
            word = ask("> ").strip().lower()
        except EOFError:
            word = "quit"
        if word == "check":
            show(str(question.report))
        elif word == "code":
            show(question.code)
        elif word == "hint":
            show(question.hint)
        elif word.isdigit() and 1 <= int(word) <= len(question.choices):
            right = int(word) == question.answer
            show(("Yes. " if right else f"No, it is {question.answer}. ") + question.solution)
            return right
        elif word in ("quit", "q", "exit"):
            show(f"It was {question.answer}. {question.solution}")
            return False
        else:
            show(f"{word!r} is no answer. {HELP}")


def sheet(questions: Sequence[Hunt]) -> tuple[str, str]:
    """(a quiz for a class, its answers), both in Markdown."""
    quiz, answers = ["# Which bug is it?", "", "One line of each layer is wrong. The report says what the checks saw; "
                     "tick the sentence that explains it, and say how you know.", ""], ["# Answers", ""]
    for number, question in enumerate(questions, 1):
        quiz += [f"## {number}. {question.bug.subject}", "", "```", str(question.report), "```", ""]
        quiz += [f"- [ ] {letter}. {text}" for letter, text in zip("abcdefgh", question.choices, strict=False)] + [""]
        answers += [f"{number}. **{'abcdefgh'[question.answer - 1]}.** {question.bug.did}", "", "   ```diff",
                    *(f"   {line}" for line in planting.lines(question.bug)), "   ```", ""]
        answers += [f"   {text}" for text in question.full_report.explanations] + [""]
    return "\n".join(quiz), "\n".join(answers)
