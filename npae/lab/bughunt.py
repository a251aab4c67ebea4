"""The bug hunt: a piece of npae with one bug planted, for somebody who is to find it.
The hunter runs the checks, reads the code with the bug in it, asks for a hint, and says which mistake it is.
"""
from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from npae.gradcheck import Report
from npae.gradcheck.report import Line
from npae.gradcheck.verdicts import Verdict
from npae.kernels import reference
from npae.lab import planting, subjects, zoo
from npae.lab.planting import Bug
from npae.lab.zoo.kinds import kind, rooms, sentence
from npae.lab.zoo.trial import speaks

CHOICES = 4
"""Sentences to choose from: the true one and others of the same room, or of a neighbour's."""
NEIGHBOURS = 3
"""Rooms beside the bug's own that lend sentences where it has too few."""
MOST_TRIED = 9
"""Other bugs that are looked at for a question: each takes a report, half a second of a big model's."""
WIDTH = 100
EVERYDAY = ("layers", "losses and penalties", "models")
"""Kinds of rooms that are hunted in where none is asked for."""
ASKED = (*EVERYDAY, "optimizers and training")
"""Those that can be asked for; each bug of the compiled kernels takes a minute to compile."""
# what a figure may say before the answer: rows, an exception, values; not the words behind them
SEEN = re.compile(r"raised |f\(|not so: |\S+: (VACUOUS|NONDETERMINISTIC)|.*: \d+ of \d+ (entries|directions) FAIL$")
NAMES = ("dW", "dx", "db", "dh", "dmu", "dlogvar", "doutput", "value", "the value", "y", "kl", "recon", "decay")
"""Words of a diagnosis that say where, not what."""


@dataclass(frozen=True)
class Hunt:
    """One question: a bug in a place, and bugs of which one is there."""

    bug: Bug
    others: tuple[Bug, ...]
    order: tuple[int, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The sentences, the true one among them."""
        bugs = (self.bug, *self.others)
        return tuple(sentence(bugs[i]) for i in self.order)

    @property
    def answer(self) -> int:
        """The number of the true sentence, counted from 1."""
        return self.order.index(0) + 1

    @property
    def place(self) -> str:
        """Where the bug is, and as what it is checked."""
        room, subject = self.bug.room, self.bug.subject
        return subject if subject.startswith(room) else f"{room}, checked as {subject}"

    @cached_property
    def full_report(self) -> Report:
        """The protocol on npae with the bug in it."""
        return _report(self.bug, self.bug.subject)

    @property
    def evidence(self) -> str:
        """What the hunter sees: tables and figures that failed, without their explanations."""
        shown = _shown(self.full_report)
        passed = sum(line.status == "PASS" for line in shown.lines)
        failed = tuple(line for line in shown.lines if line.status == "FAIL")
        rows = [row for row in shown.rows if not row.ok]
        blocks = [shown.title]
        if rows:
            blocks = str(dataclasses.replace(shown, lines=())).split("\n\n")[:-1]  # without the closing sentence
        elif shown.rows:
            names = ", ".join(row.name for row in shown.rows)
            blocks.append(str(Line("PASS", f"gradients of {names}", "every derivative agrees with differences")))
        refused = [str(Line("FAIL", row.explain())) for row in rows if not row.count(Verdict.FAIL)]
        last = f"  and {passed} other test{'s' * (passed != 1)} passed"
        return "\n\n".join([*blocks, "\n".join([*refused, *map(str, failed), last])])

    @property
    def passed(self) -> str:
        """The tests that found nothing."""
        return "\n".join(str(line) for line in self.full_report.lines if line.status != "FAIL")

    @property
    def code(self) -> str:
        """The functions that the bug is in, with the bug."""
        texts = []
        for where in dict.fromkeys(edit.where for edit in self.bug.edits):
            text = inspect.getsource(planting.function_at(where))
            for edit in self.bug.edits:
                text = text.replace(edit.old, edit.new) if edit.where == where else text
            texts.append(f"# {where.replace(':', '.')}\n{textwrap.dedent(text).rstrip()}")
        return "\n\n".join(texts)

    @property
    def hint(self) -> str:
        """What the diagnosis says of it, of the gradients or, where they are right, of what failed."""
        failed = [f"{line.claim}: {line.figure}" for line in self.full_report.lines
                  if line.status == "FAIL" and figure(line.figure) != line.figure]
        texts = list(filter(speaks, self.full_report.explanations)) or failed
        return "\n".join(filled(text, 0, 2) for text in texts) or "The diagnosis has no words for it."

    @property
    def solution(self) -> str:
        """The sentence, and the lines."""
        return "\n".join([sentence(self.bug), *planting.lines(self.bug)])


def room_called(word: str) -> str:
    """The room of this name, in whatever case.

    Raises ValueError: a room without bugs, or one that is not hunted in.
    """
    known = rooms(*ASKED)
    for room in known:
        if room.lower() == word.lower():
            return room
    raise ValueError(f"no bugs are hunted in {word!r}: use one of {', '.join(known)}")


def hunts(room: str | None = None, seed: int = 0) -> Iterator[Hunt]:
    """Questions about this room, or about any, until its bugs are used up; the same seed asks the same.

    Raises ValueError: a room without bugs; a seed below 0.
    """
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}")
    rng = np.random.default_rng([seed, 11])
    left = {name: list(zoo.bugs(name)) for name in _places(room)}
    while left:
        name = list(left)[int(rng.integers(len(left)))]
        bug = left[name].pop(int(rng.integers(len(left[name]))))
        if not left[name]:
            del left[name]
        others = _others(bug, rng)
        yield Hunt(bug, others, tuple(map(int, rng.permutation(len(others) + 1))))


def hunt(room: str | None = None, seed: int = 0) -> Hunt:
    """The first question of a seed."""
    return next(hunts(room, seed))


def _others(bug: Bug, rng: np.random.Generator) -> tuple[Bug, ...]:
    """Bugs that are not there and might be: of the same room, and of rooms beside it where that has too few.

    A bug whose report in this place is that of the true one is left out: nobody could tell the two apart. One of the
    others may break the very same tests, with other numbers; those that would not be noticed here come last.
    """
    truth, sentences = _facts(bug, bug.subject), {sentence(bug)}
    found: list[tuple[int, Bug]] = []
    for other in _candidates(bug, rng):
        if sum(rank == 0 for rank, _ in found) >= CHOICES - 1 or len(found) >= MOST_TRIED:
            break
        facts = _facts(other, bug.subject)
        if sentence(other) in sentences or facts == truth:
            continue
        sentences.add(sentence(other))
        twins = sum(rank == 0 and _facts(known, bug.subject)[0] == truth[0] for rank, known in found)
        rank = 2 if not facts[0] else 1 if facts[0] == truth[0] and twins else 0
        found.append((rank + 3 * (other.room != bug.room), other))
    return tuple(other for _, other in sorted(found, key=lambda pair: pair[0])[:CHOICES - 1])


def _candidates(bug: Bug, rng: np.random.Generator) -> Iterator[Bug]:
    """The bugs of the same room, then those of the rooms beside it, without what is perhaps the same mistake."""
    there = rooms(kind(bug.room))
    near = sorted(there, key=lambda room: abs(there.index(room) - there.index(bug.room)))[:NEIGHBOURS + 1]
    mine = [other for other in zoo.bugs(bug.room) if other != bug]
    kin = [other for room in near[1:] for other in zoo.bugs(room) if not _alike(bug, other)]
    for bugs in (mine, kin):
        yield from (bugs[i] for i in rng.permutation(len(bugs)))


def _alike(bug: Bug, other: Bug) -> bool:
    """Is it perhaps the same mistake in another room: by its name, or by the words of its diagnosis?"""
    words = {word for words in bug.says for word in words.split("|")} - set(NAMES)
    return bug.name == other.name or any(word in words for text in other.says for word in text.split("|"))


@cache
def _report(bug: Bug, subject: str) -> Report:
    with planting.planted(bug), np.errstate(all="ignore"):  # bugs divide by zero, and the report says what came of it
        return subjects.check(subject, reference)


@cache
def _facts(bug: Bug, subject: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what fails with the bug in this place, the wrong numbers to six digits): what two bugs are told apart by."""
    report = _report(bug, subject)
    wrong = [row.name for row in report.rows if not row.ok]
    wrong += [line.claim for line in report.lines if line.status == "FAIL"]
    numbers = [f"{row.name}{entry.index} {entry.analytic:.5e}" for row in report.rows for entry in row.entries
               if entry.verdict is Verdict.FAIL]
    return tuple(wrong), tuple(numbers)


def _shown(report: Report) -> Report:
    """The report without what explains."""
    lines = tuple(dataclasses.replace(line, figure=figure(line.figure)) if line.status == "FAIL" else line
                  for line in report.lines)
    rows = tuple(dataclasses.replace(row, reason=row.reason.split("; ")[0]) for row in report.rows)
    return dataclasses.replace(report, explanations=(), lines=lines, rows=rows)


def figure(text: str) -> str:
    """What was seen, without the words that explain it.

    >>> figure("W differs by 3.1: the gradient is overwritten; = stands where += belongs")
    'W differs by 3.1'
    >>> figure("W: 4 of 9 entries FAIL; dW is the transpose of the numeric gradient")
    'W: 4 of 9 entries FAIL'
    """
    first, *more = text.split("; ")
    kept = [first if SEEN.match(first) else first.split(": ")[0], *filter(SEEN.match, more)]
    return "; ".join(re.sub(r"^(not so: .*\([^:]*): .*", r"\1)", part) for part in kept)


def filled(text: str, indent: int, hanging: int) -> str:
    """The text in lines of the report's width."""
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * hanging,
                         break_on_hyphens=False, break_long_words=False)


def bugs_of(room: str | None) -> int:
    """How many bugs can be asked for."""
    return sum(len(zoo.bugs(name)) for name in _places(room))


def _places(room: str | None) -> list[str]:
    """The room that is asked for, or those of every day that need not borrow sentences."""
    return [room_called(room)] if room else [name for name in rooms(*EVERYDAY) if len(zoo.bugs(name)) >= CHOICES]


def take(room: str | None, seed: int, number: int) -> Iterator[Hunt]:
    """The first questions of a seed.

    Raises ValueError: more than there are bugs, or fewer than one.
    """
    most = bugs_of(room)
    if not 1 <= number <= most:
        raise ValueError(f"{number} questions were asked for, and there are bugs for {most}: use -n 1 to {most}")
    return (question for _, question in zip(range(number), hunts(room, seed), strict=False))
