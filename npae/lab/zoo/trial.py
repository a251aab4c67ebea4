"""One bug on trial: planted, checked with the whole protocol, and a verdict on the verdict: which parts of it have seen
the bug, and has the report named it?
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from npae.gradcheck import Report
from npae.kernels import reference
from npae.lab import subjects
from npae.lab.planting import Bug, planted

PARTS = {"G": "gradient", "A": "adjoint", "L": "linearity", "S": "state", "R": "reference", "B": "batch",
         "M": "moments"}
"""The parts of the protocol, by letter."""
SILENT = "nothing that is known explains", "no explanation was found"


@dataclass(frozen=True)
class Trial:
    """A bug, and what became of it."""

    bug: Bug
    seen_by: frozenset[str]
    """Letters of the parts that failed."""
    said: tuple[str, ...]
    """What the report explains: sentences about arrays, and what failed lines say."""
    explained: bool
    """Is there any explanation of an array?"""

    @property
    def killed(self) -> bool:
        """Has anything seen it?"""
        return bool(self.seen_by)

    @property
    def as_foretold(self) -> bool:
        """Has every part seen it that had to?"""
        return set(self.bug.killed_by) <= self.seen_by

    @property
    def named(self) -> bool:
        """Do all the words that were written down beforehand stand in the report?"""
        text = "\n".join(self.said)
        return bool(self.bug.says) and all(any(word in text for word in words.split("|")) for words in self.bug.says)

    @property
    def misnamed(self) -> bool:
        """Is it explained, but as something else?"""
        return self.explained and not self.named


def trial(bug: Bug) -> Trial:
    """Plant the bug, run its subject, and take it out again."""
    with planted(bug):
        report = subjects.check(bug.subject, reference)
    return Trial(bug, seen_by(report), tuple(said(report)), any(map(speaks, report.explanations)))


def seen_by(report: Report) -> frozenset[str]:
    """The letters of the parts of the protocol that found something wrong."""
    parts = {line.part for line in report.lines if line.status == "FAIL"}
    if any(not row.ok for row in report.rows):
        parts.add("gradient")
    return frozenset(letter for letter, part in PARTS.items() if part in parts)


def speaks(explanation: str) -> bool:
    """Does it say more than that nothing is known?"""
    return not any(words in explanation for words in SILENT)


def said(report: Report) -> Iterator[str]:
    """Every explanation, and what failed lines say."""
    yield from filter(speaks, report.explanations)
    yield from (f"{line.claim}: {line.figure}" for line in report.lines if line.status == "FAIL")


def trials(bugs: Iterable[Bug]) -> list[Trial]:
    """All of them, one after the other."""
    return [trial(bug) for bug in bugs]
