"""A report a student can read: one line per parameter, the worst entries, the other tests, one sentence at the end.
The same facts are there as small objects in `rows` and `lines`."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npae.gradcheck.verdicts import Entry, Row, Verdict

WIDTH = 100
WORST = 5
NAMES = 4
SHORT = 3 * WIDTH  # characters on the wrong rows, in the last sentence


@dataclass(frozen=True)
class Line:
    """One test that is not a table: what is claimed, PASS or FAIL (or NOTE, which decides nothing), and the figure."""

    status: str
    claim: str
    figure: str = ""
    part: str = "state"
    """The part of the protocol that it belongs to: gradient, adjoint, linearity, state, reference, batch, moments,
    taylor."""

    def __str__(self) -> str:
        return _paragraph(f"  {self.status}  ", f"{self.claim}: {self.figure}" if self.figure else self.claim)


def _paragraph(label: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=label, subsequent_indent=" " * 8, break_on_hyphens=False)


def attempt(claim: str, test: Callable[[], str], part: str = "state") -> Line:
    """Run a test that returns what is wrong in words, or nothing; an exception is wrong too, and other tests go on."""
    try:
        wrong = test()
    except (Exception, SystemExit) as error:  # a layer of one's own may do that too
        wrong = f"raised {type(error).__name__}: {error}"
    return Line("FAIL" if wrong else "PASS", claim, wrong, part)


@dataclass(frozen=True)
class Report:
    """The outcome of a check: `ok`, the `rows` (one a parameter), the `lines` (other tests), and print(report).

    `explanations` says in words what the wrong gradients look like; each was tested against the numbers.
    """

    title: str
    rows: tuple[Row, ...] = ()
    lines: tuple[Line, ...] = ()
    explanations: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if every row is green and no line failed."""
        return not self.wrong

    @property
    def wrong(self) -> list[str]:
        """Everything that failed, in words."""
        rows = [row.explain() for row in self.rows if not row.ok]
        return rows + [f"not so: {line.claim} ({line.figure})" for line in self.lines if line.status == "FAIL"]

    def __bool__(self) -> bool:
        """As `ok`, so that `assert check(layer, x)` holds a test."""
        return self.ok

    def __repr__(self) -> str:
        """In one line, as pytest shows it where an assertion fails."""
        counts = f"{_several(len(self.rows), 'row')}, {_several(len(self.lines), 'other test')}"
        said = f", {self._closing()}" if self.wrong else ""
        return f"<Report of {self.title!r}: {'ok' if self.ok else 'not ok'}, {counts}{said}>"

    def row(self, name: str) -> Row:
        """The row of one parameter.

        Raises: KeyError if no row has that name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {[row.name for row in self.rows]}")

    def __str__(self) -> str:
        blocks = [self.title]
        if self.rows:
            blocks.append(_table(_HEAD, [_cells(row) for row in self.rows], left=2))
        worst = _worst(self.rows)
        if worst:
            blocks.append(_table(_WORST_HEAD, [_worst_cells(row, entry) for row, entry in worst], left=1))
        if self.explanations:
            blocks.append("\n".join(_paragraph("  WHY   ", text) for text in self.explanations))
        if self.lines:
            blocks.append("\n".join(str(line) for line in self.lines))
        blocks.append(textwrap.fill(self._closing(), WIDTH, subsequent_indent="  ", break_on_hyphens=False))
        return "\n\n".join(blocks)

    def to_markdown(self) -> str:
        """The same in Markdown: for an issue, a hand-in, a wiki."""
        blocks = [f"## {self.title}", f"**{self._closing()}**"]
        if self.rows:
            blocks.append(_markdown(_HEAD, [_cells(row) for row in self.rows]))
        worst = _worst(self.rows)
        if worst:
            blocks.append(_markdown(_WORST_HEAD, [_worst_cells(row, entry) for row, entry in worst]))
        items = [f"- **WHY** {text}" for text in self.explanations]
        items += [f"- {line.status}: {line.claim}{f': {line.figure}' if line.figure else ''}" for line in self.lines]
        return "\n\n".join([*blocks, "\n".join(items)] if items else blocks) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it; a number that is not finite becomes null."""
        rows = [{"name": row.name, "shape": list(row.shape), "verdict": str(row.verdict), "size": row.size,
                 "checked": len(row.entries), "directions": row.directions,
                 **{str(v): row.count(v) for v in (Verdict.PASS, Verdict.FAIL, Verdict.KINK, Verdict.UNRESOLVED)},
                 "worst_ratio": _number(row.worst_ratio), "worst_relative": _number(row.worst_relative),
                 "rms": _number(row.rms), "reason": row.reason} for row in self.rows]
        worst = [{"name": row.name, "index": list(entry.index), "analytic": _number(entry.analytic),
                  "numeric": _number(entry.numeric), "tol": _number(entry.tol), "h": entry.h,
                  "verdict": str(entry.verdict)} for row, entry in _worst(self.rows)]
        lines = [{"status": line.status, "part": line.part, "claim": line.claim, "figure": line.figure}
                 for line in self.lines]
        return {"title": self.title, "ok": self.ok, "wrong": self.wrong, "explanations": list(self.explanations),
                "rows": rows, "worst": worst, "lines": lines}

    def _closing(self) -> str:
        """In some four lines: what is said of several rows is said once, and what failed stands above."""
        if self.wrong:
            return "WRONG: " + "; ".join(self._wrong_in_short())
        parts = []
        if self.rows:
            verified, kinks, unresolved = (sum(row.count(v) for row in self.rows)
                                           for v in (Verdict.PASS, Verdict.KINK, Verdict.UNRESOLVED))
            parts.append(f"{_several(verified, 'derivative')} verified, {kinks} KINK, {unresolved} UNRESOLVED")
        if self.lines:
            parts.append(f"{_several(sum(line.status == 'PASS' for line in self.lines), 'other test')} passed")
        return "OK: " + "; ".join(parts)

    def _wrong_in_short(self) -> list[str]:
        named: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.ok:
                named.setdefault(row.explain().removeprefix(f"{row.name}: "), []).append(row.name)
        said: list[str] = []
        left = 0
        for text, names in named.items():
            more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
            words = f"{', '.join(names[:NAMES])}{more}: {text}"
            if said and len("; ".join([*said, words])) > SHORT:
                left += len(names)
            else:
                said.append(_shorten(words, SHORT))
        failed = sum(line.status == "FAIL" for line in self.lines)
        said += [f"{left} more of the rows above"] if left else []
        return said + ([f"{_several(failed, 'other test')} FAILED, see above"] if failed else [])


def _several(number: int, what: str) -> str:
    """"1 row", "2 rows"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


_HEAD = ("name", "shape", "checked", "PASS", "FAIL", "KINK", "UNRES", "|a-r|/tol", "rel.err", "rms grad")
_WORST_HEAD = ("worst entry", "analytic a", "numeric r", "tol", "h", "verdict")


def _cells(row: Row) -> list[str]:
    counts = [f"{row.count(v):,}" for v in (Verdict.PASS, Verdict.FAIL, Verdict.KINK, Verdict.UNRESOLVED)]
    figures = [f"{row.worst_ratio:.2g}", f"{row.worst_relative:.1e}", f"{row.rms:.1e}"]
    checked = f"{row.directions} directions" if row.directions else f"{len(row.entries):,} of {row.size:,}"
    return [row.name, str(row.shape), checked, *counts, *figures]


def _worst(rows: Sequence[Row]) -> list[tuple[Row, Entry]]:
    """Failures first, then what stayed open, then whatever came nearest to its tolerance."""
    def badness(pair: tuple[Row, Entry]) -> tuple[bool, bool, float]:
        entry = pair[1]
        return entry.verdict is Verdict.FAIL, entry.verdict is not Verdict.PASS, entry.ratio

    entries = ((row, entry) for row in rows for entry in (() if row.directions else row.entries) + row.wrong_entries)
    return sorted(entries, key=badness, reverse=True)[:WORST]


def _worst_cells(row: Row, entry: Entry) -> list[str]:
    where = f"{row.name}[{', '.join(map(str, entry.index))}]" if entry.index else row.name
    values = f"{entry.analytic:+.9e}", f"{entry.numeric:+.9e}"
    return [where, *values, f"{entry.tol:.1e}", f"{entry.h:.1e}", entry.verdict]


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    def escaped(cell: str) -> str:
        return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())

    rows = [[escaped(cell) for cell in cells] for cells in (head, *body)]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _table(head: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
    """Columns as wide as they need to be, the first `left` of them flush left; the first gives way on a long line."""
    columns = list(zip(head, *body, strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[0] = min(widths[0], WIDTH - 2 - sum(widths[1:]) - (len(widths) - 1))
    lines = []
    for cells in zip(*columns, strict=True):
        texts = [_shorten(cells[0], widths[0]), *cells[1:]]
        padded = [text.ljust(width) if place < left else text.rjust(width)
                  for place, (text, width) in enumerate(zip(texts, widths, strict=True))]
        lines.append("  " + " ".join(padded))
    return "\n".join(lines)


def _shorten(text: str, width: int) -> str:
    """Keep both ends of a long name: encoder.0 and W say more than the middle."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[:width - tail - 2]}..{text[-tail:]}"
