"""Grades as text: stage by stage with the hints for a learner, a table and what to talk about for a teacher of many.
"""
from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from typing import Any

from npae.lab.exercises import STAGES
from npae.lab.grade import Grade
from npae.lab.stages import FOLLOWS

WIDTH = 100
NAMES = 6
"""How many students are named beside a hint; of more, how many more."""
DASH = "–"


def sheet(grade: Grade) -> str:
    """For the learner: every stage, and under one that failed what it looks like and what to look at again."""
    lines = [f"{grade.file}: {grade.title}, {grade.points:g} of {_of(grade):g} points"]
    lines += [_wrapped(f"! {remark}", 2) for remark in grade.remarks]
    for part in dict.fromkeys(stage.part for stage in grade.stages):
        stages = [stage for stage in grade.stages if stage.part == part]
        if not any(stage.hint or stage.ok for stage in stages):
            continue  # nothing was graded, and a remark has said why
        lines += [f"  {part}"]
        for stage in stages:
            lines.append(f"    {stage.name:<12} {stage.points:>3g} of {stage.of:g}{'' if stage.ok else '   <--'}")
            lines += [_wrapped(text, 8, 12) for text in stage.hint.replace("\n", "\nLook again: ").splitlines()]
    return "\n".join(lines)


def table(grades: Sequence[Grade]) -> str:
    """For the teacher: students x stages; then what to talk about, the most frequent first."""
    rows = [["student", "exercise", *STAGES, "total"]]
    for g in grades:
        total = (g.points, _of(g)) if g.exercise else None
        rows.append([g.student, g.title, *(_cell(g.stage(name)) for name in STAGES), _cell(total)])
    several = len({g.title for g in grades if g.exercise}) > 1
    right = [[g.stage(name) for g in grades] for name in STAGES]
    counts = [f"{sum(s is not None and s[0] == s[1] for s in found)}" for found in right]
    rows.append(["all right", "", *counts, f"{sum(g.ok for g in grades)} of {len(grades)}"])
    kept = [i for i in range(len(rows[0])) if (several or i != 1) and any(row[i] != DASH for row in rows[1:-1])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in kept).rstrip()
             for row in rows]
    rule = "-" * max(map(len, lines))
    head = [] if several else [g.title for g in grades if g.exercise][:1]
    return "\n".join([*head, lines[0], rule, *lines[1:-1], rule, lines[-1], *_findings(grades, several)])


def as_json(grades: Sequence[Grade]) -> list[dict[str, Any]]:
    """What `--json` writes: each grade with all its stages and hints."""
    return [{"student": g.student, "file": g.file, "exercise": g.exercise and g.exercise.stem, "points": g.points,
             "of": _of(g), "remarks": list(g.remarks),
             "stages": [{"class": s.part, "stage": s.name, "points": s.points, "of": s.of, "hint": s.hint}
                        for s in g.stages]} for g in grades]


def as_csv(grades: Sequence[Grade]) -> str:
    """What `--csv` writes: a line a grade, a column a stage (empty where the exercise has none such)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "exercise", *STAGES, "total", "of", "remarks"])
    for g in grades:
        cells = ["" if (found := g.stage(name)) is None else f"{found[0]:g}" for name in STAGES]
        writer.writerow([g.student, g.title, *cells, f"{g.points:g}", f"{_of(g):g}", "; ".join(g.remarks)])
    return text.getvalue()


def _of(grade: Grade) -> float:
    return sum(stage.of for stage in grade.stages)


def _cell(found: tuple[float, float] | None) -> str:
    return DASH if found is None else f"{found[0]:g}/{found[1]:g}"


def _findings(grades: Sequence[Grade], several: bool) -> list[str]:
    """Each hint and each remark once, with the students to whom it was given, the most frequent first.

    What follows from an earlier stage is left out; the questions stand in the sheets of the learners.
    """
    hints: dict[str, list[str]] = {}
    remarks: dict[str, list[str]] = {}
    for g in grades:
        for remark in g.remarks:
            remarks.setdefault(remark, []).append(g.student)
        for stage in g.stages:
            if stage.hint and stage.hint != FOLLOWS:
                where = f"{g.title}, " * several + f"{stage.part}, {stage.name}: "
                hints.setdefault(where + stage.hint.splitlines()[0], []).append(g.student)
    lines = []
    for heading, told in (("What to talk about", hints), ("What stood in the way", remarks)):
        lines += ["", f"{heading}:"] if told else []
        for text, students in sorted(told.items(), key=lambda item: -len(item[1])):
            more = len(students) - NAMES
            names = ", ".join(students[:NAMES]) + (f" and {more} more" if more > 0 else "")
            lines += [_wrapped(f"{len(students):>3} x  {text}", 0, 7), _wrapped(f"({names})", 7)]
    return lines


def _wrapped(text: str, indent: int, hanging: int | None = None) -> str:
    later = indent if hanging is None else hanging
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * later,
                         break_on_hyphens=False, break_long_words=False)
