"""The figures of runs as text: one run as a table with units, several side by side with the best of each row marked.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npae.measures import FIGURES, MSE, NATS, numbers

Metrics = Mapping[str, Any]
DASH, MARK = "–", "*"


def report(metrics: Metrics) -> str:
    """What was measured of one run: a line for each figure, with its unit, and the notes."""
    units = metrics.get("units", {})
    rows = [(FIGURES[path].label, _text(path, value), units.get(path, FIGURES[path].unit))
            for path, value in numbers(metrics["test"]) if not isinstance(value, list)]
    left, middle = (max(len(row[i]) for row in rows) for i in (0, 1))
    head = (f"{metrics['recipe']} on {metrics['data']}, {metrics['epochs']} epoch{'s' * (metrics['epochs'] != 1)}, "
            f"seed {metrics['seed']}: figures of the test pictures")
    lines = [f"  {label:<{left}}  {value:>{middle}}  {unit}".rstrip() for label, value, unit in rows]
    factors = metrics["test"].get("mig", {}).get("factors", {})
    if factors:
        lines.append("    of it: " + ", ".join(f"{name} {gap:.2f}" for name, gap in factors.items()))
    lines += [f"  {FIGURES[path].label}, {FIGURES[path].unit}: {_text(path, value)}"
              for path, value in numbers(metrics["test"]) if isinstance(value, list)]
    return "\n".join([head, *lines, *(f"note: {note}" for note in metrics.get("notes", []))])


def readable(metrics: Metrics) -> bool:
    """Whether there are figures in what was read from a metrics.json, each of them a number or a list of numbers."""
    found = list(numbers(metrics["test"]))
    for path, value in found:
        kind = int if FIGURES[path].digits.endswith("d") else (int, float)
        if not all(isinstance(v, kind) for v in (value if isinstance(value, list) else [value])):
            return False
    return bool(found)


def side_by_side(names: Sequence[str], runs: Sequence[Metrics], *, markdown: bool = False) -> str:
    """Rows are figures, columns are runs; a dash where a run has no such figure.

    The best of a row is marked (with a star, in Markdown in bold) where one way is better and the figures can be
    compared: of the same test pictures, made black and white and spoilt in the same way, and told their labels or not,
    and, in nats, of the same likelihood.
    """
    values = [{path: value for path, value in numbers(metrics["test"]) if not isinstance(value, list)}
              for metrics in runs]
    table = [["", *names]]
    for path, figure in FIGURES.items():
        if not any(path in found for found in values):
            continue
        cells = [_text(path, found[path]) if path in found else DASH for found in values]
        best = _best(path, runs, values)
        cells = [_marked(cell, markdown) if i in best else cell for i, cell in enumerate(cells)]
        table.append([f"{figure.label}, {figure.unit}" if figure.unit else figure.label, *cells])
    return _markdown(table) if markdown else _columns(table)


def _text(path: str, value: Any) -> str:
    if isinstance(value, list):
        shown = " ".join(_text(path, v) for v in sorted(value, reverse=True)[:10])
        return shown + (f" and {len(value) - 10} more" if len(value) > 10 else "")
    return format(value, FIGURES[path].digits)


def _best(path: str, runs: Sequence[Metrics], values: Sequence[Mapping[str, Any]]) -> list[int]:
    """The runs whose figure is marked: none where the figures do not compare, or are all the same."""
    better = FIGURES[path].better
    there = [i for i, found in enumerate(values) if path in found]
    kinds = {_kind(path, runs[i]) for i in there}
    shown = {i: float(_text(path, values[i][path])) for i in there if better}
    if len(there) < 2 or len(kinds) > 1 or len(set(shown.values())) < 2:
        return []
    best = max(better * value for value in shown.values())
    return [i for i, value in shown.items() if better * value == best]


def _kind(path: str, metrics: Metrics) -> tuple[Any, ...]:
    """What has to be the same in two runs for a figure of the one to be better than that of the other."""
    data = metrics["data"], metrics.get("test_sha256")
    pixels = *data, metrics.get("binarize"), metrics.get("conditional")
    if path == "mse_from_noisy":
        return *pixels, *metrics.get("noise", ())
    if FIGURES[path].unit == MSE:
        return pixels
    if FIGURES[path].unit != NATS and path != "bits_per_pixel":
        return data
    group = metrics["test"].get(path.split(".")[0])
    several = (group.get("pictures"), group.get("samples")) if isinstance(group, dict) else ()
    return *pixels, metrics.get("likelihood"), *several


def _marked(cell: str, markdown: bool) -> str:
    return f"**{cell}**" if markdown else cell + MARK


def _columns(table: Sequence[Sequence[str]]) -> str:
    """Figures on the left, numbers on the right of their columns, a star outside them."""
    widths = [max(len(row[i].rstrip(MARK)) for row in table) for i in range(len(table[0]))]
    lines = []
    for label, *cells in table:
        padded = (" " * (width - len(cell.rstrip(MARK))) + cell + " " * (not cell.endswith(MARK))
                  for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(f"{label:<{widths[0]}}  {'  '.join(padded)}".rstrip())
    if any(cell.endswith(MARK) for row in table[1:] for cell in row[1:]):
        lines.append(f"{MARK} the best of its row")
    return "\n".join(lines)


def _markdown(table: Sequence[Sequence[str]]) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(table[0]) - 1), *lines[1:]])
