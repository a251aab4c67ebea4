"""The zoo as a matrix: every bug x every part of the protocol, as a table in Markdown, as JSON, and for a picture.
"""
from __future__ import annotations

import multiprocessing
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from npae.figures.zoo import Column
from npae.lab import zoo
from npae.lab.planting import Bug
from npae.lab.zoo.kinds import KINDS, kind, markdown, sentence
from npae.lab.zoo.trial import PARTS, Trial, trial

SEEN, MISSED = "●", "missed"
SHOWN = 300
"""Letters of a report that are shown of a misnamed bug; all of it is in the JSON."""
GRADIENT = frozenset("GA")
"""The parts that compare the gradient with the forward. They cannot see a bug that forward and backward share."""
HEAD = """# The bug zoo

Every row is a bug that somebody makes in npae's own code, planted for a moment. Every column is a part of the protocol
that `gradcheck.check_layer` and the lab run: ● where it sees the bug, *missed* where it had to and does not.
**Named**: whether the report says all the words that were written down for the bug beforehand (*yes*, *no*), says
something else (***misnamed***), or has no words to say (–). A bug in **bold** is seen by no gradient check (G
or A): forward and backward agree, or the gradient is right, or there is none; the last column says what kills it.

This page and its picture are made by `python -m npae.lab.zoo --markdown FILE --picture FILE`.
"""


def run(bugs: Sequence[Bug], jobs: int = 1) -> Iterator[Trial]:
    """Put the bugs on trial, in so many processes; the trials come in the order of the bugs."""
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    if jobs == 1:
        yield from map(_trial, bugs)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:  # Numba's threads outlive no fork
        yield from pool.map(_trial, bugs)


def _trial(bug: Bug) -> Trial:
    with np.errstate(all="ignore"):  # bugs divide by zero, and the report says what came of it
        return trial(bug)


def word(t: Trial) -> str:
    """Has the report named the bug?"""
    if t.misnamed:
        return "misnamed"
    return "named" if t.named else "unnamed" if t.bug.says else "wordless"


def without_gradient(t: Trial) -> bool:
    """Is it a bug that something sees, but no gradient check?"""
    return t.killed and not t.seen_by & GRADIENT


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """The figures of the summary, by what is counted."""
    return {"bugs": len(trials), "killed": sum(t.killed for t in trials),
            "as foretold": sum(t.as_foretold for t in trials), "with words": sum(bool(t.bug.says) for t in trials),
            "named": sum(t.named for t in trials), "misnamed": sum(t.misnamed for t in trials),
            "by no gradient check": sum(map(without_gradient, trials))}


def summary(trials: Sequence[Trial]) -> str:
    """The figures in lines, and every bug that something is the matter with."""
    n = counts(trials)
    lines = [f"{n['bugs']} bugs: {n['killed']} killed, {n['as foretold']} by all the parts that were foretold; "
             f"{n['by no gradient check']} of them are seen by no gradient check",
             f"named: {n['named']} of {n['bugs']}{_share(n['named'], n['bugs'])}, and {n['with words']} have words to "
             f"be named with; misnamed: {n['misnamed']}{_share(n['misnamed'], n['bugs'])}"]
    for title, wrong in _troubles(trials).items():
        lines += [f"{title}:", *(f"  {t.bug.room}.{t.bug.name}: {why}" for t, why in wrong)] if wrong else []
    return "\n".join(lines)


def as_markdown(trials: Sequence[Trial], picture: str = "") -> str:
    """The whole page: totals, what is the matter, the rooms, and the bugs that npae has no place for.

    `picture`: where it lies, seen from the page.
    """
    n = counts(trials)
    totals = [["number", *map(str, n.values())], ["of all bugs", *(_percent(v, n["bugs"]) for v in n.values())]]
    blocks = [HEAD, f"![A column a bug, a row a part of the protocol]({picture})" if picture else "",
              _table(["", *n], totals, right=True), _parts(trials)]
    for title, wrong in _troubles(trials).items():
        rows = [[f"{t.bug.room}.{t.bug.name}", sentence(t.bug), "; ".join(t.bug.says), why] for t, why in wrong]
        head = ["bug", "what the student did", "words to be named with", "report"]
        blocks += [f"## {title}", _table(head, rows)] if rows else []
    blocks += ["## Rooms", _contents(trials)]
    for room in dict.fromkeys(t.bug.room for t in trials):
        blocks += [f"### {room}", _room([t for t in trials if t.bug.room == room])]
    reasons = [[name, why] for name, why in zoo.not_here().items()]
    blocks += ["## Bugs that npae has no place for", _table(["bug", "why it is not here"], reasons)]
    return "\n\n".join(block.strip() for block in blocks if block) + "\n"


def as_json(trials: Sequence[Trial]) -> dict[str, Any]:
    """What `--json` writes: the figures, and every trial with all that the report says."""
    rows = [{"room": t.bug.room, "name": t.bug.name, "did": t.bug.did, "subject": t.bug.subject,
             "killed_by": t.bug.killed_by, "seen_by": _letters(t.seen_by), "killed": t.killed,
             "as_foretold": t.as_foretold, "says": list(t.bug.says), "word": word(t), "said": list(t.said)}
            for t in trials]
    return {"counts": counts(trials), "bugs": rows}


def columns(trials: Sequence[Trial]) -> dict[str, dict[str, list[Column]]]:
    """kind -> room -> a column a bug, for the picture."""
    found: dict[str, dict[str, list[Column]]] = {name: {} for name in KINDS}
    for t in trials:
        found[kind(t.bug.room)].setdefault(t.bug.room, []).append(
            Column(tuple(letter in t.seen_by for letter in PARTS), not without_gradient(t), word(t)))
    return {name: rooms for name, rooms in found.items() if rooms}


def _troubles(trials: Sequence[Trial]) -> dict[str, list[tuple[Trial, str]]]:
    """What must not be: bugs that survive, that a part has missed, that are called something else."""
    return {"Survivors": [(t, "nothing sees it") for t in trials if not t.killed],
            "Missed by a part that had to see it": [
                (t, f"seen by {_names(t.seen_by)}, not by {_names(set(t.bug.killed_by) - t.seen_by)}")
                for t in trials if t.killed and not t.as_foretold],
            "Misnamed": [(t, textwrap.shorten("; ".join(t.said), SHOWN, placeholder=" ..."))
                         for t in trials if t.misnamed]}


def _parts(trials: Sequence[Trial]) -> str:
    """How many each part sees, and how many nothing else does."""
    seen = {letter: sum(letter in t.seen_by for t in trials) for letter in PARTS}
    alone = {letter: sum(t.seen_by == {letter} for t in trials) for letter in PARTS}
    return _table(["", *(f"{letter} {name}" for letter, name in PARTS.items())],
                  [["bugs that it sees", *map(str, seen.values())],
                   ["that nothing else sees", *map(str, alone.values())]], right=True)


def _contents(trials: Sequence[Trial]) -> str:
    """A line a kind, with its rooms and their numbers of bugs."""
    rooms: dict[str, list[str]] = {}
    for room in dict.fromkeys(t.bug.room for t in trials):
        mine = [t for t in trials if t.bug.room == room]
        link = f"[{room}](#{room.lower().replace(' ', '-')}) {len(mine)}"
        rooms.setdefault(kind(room), []).append(link)
    return "\n".join(f"- {name}: {', '.join(links)}" for name, links in rooms.items())


def _room(trials: Sequence[Trial]) -> str:
    rows = []
    for t in trials:
        marks = [SEEN if letter in t.seen_by else MISSED if letter in t.bug.killed_by else "" for letter in PARTS]
        other = without_gradient(t)
        named = {"named": "yes", "unnamed": "no", "wordless": "–", "misnamed": "***misnamed***"}[word(t)]
        rows.append([f"**{t.bug.name}**" if other else t.bug.name, markdown(sentence(t.bug)), *marks, named,
                     _names(t.seen_by) if other else "" if t.killed else "nothing"])
    return _lines(["bug", "what the student did", *PARTS, "named", "killed without a gradient check"], rows,
                  "|---|---|" + ":-:|" * len(PARTS) + "---|---|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: bool = False) -> str:
    return _lines(head, [[markdown(cell) for cell in row] for row in rows],
                  "|---|" + ("---:|" if right else "---|") * (len(head) - 1))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]], rule: str) -> str:
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def _letters(letters: set[str] | frozenset[str]) -> str:
    return "".join(letter for letter in PARTS if letter in letters)


def _names(letters: set[str] | frozenset[str]) -> str:
    return ", ".join(PARTS[letter] for letter in _letters(letters)) or "nothing"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _share(part: int, whole: int) -> str:
    return f" ({_percent(part, whole)})"
