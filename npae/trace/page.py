"""The page of a trace: one file of HTML with the numbers, the maps, the source and the finite differences in it.
It asks no network for anything; the maps are deflated, and the browser inflates them.
"""
from __future__ import annotations

import base64
import html
import json
import math
import re
import zlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npae import store
from npae.kernels import reference
from npae.layers.summary import described
from npae.trace import differences, maps, source, table

if TYPE_CHECKING:
    from npae.models import Model
    from npae.trace.record import Trace
    from npae.trace.rows import LayerTrace
    from npae.trace.session import Frame
    from npae.trace.statistics import Stats

MOST_BYTES = 3_000_000
RUNGS = ((8, 16), (6, 16), (4, 16), (3, 16), (2, 16), (2, 8), (1, 8), (1, 4), (1, 1))
"""(pictures, channels a layer), from all to few; the first that fits into MOST_BYTES is taken."""


def write(path: str | Path, trace: Trace) -> Path:
    """Write the page of one trace."""
    check(path)
    store.write_text(path, page(f"{type(trace.model).__name__}: one step", [Single(trace)], trace.model).text)
    return Path(path)


class Single:
    """A trace on its own as a frame of a series: its maps are those of its own batch."""

    def __init__(self, trace: Trace):
        self.step, self.trace, self.maps = 1, trace, trace


def check(path: str | Path) -> None:
    """Raises ValueError: a file that does not end in .html; OSError: no folder for it."""
    if Path(path).suffix.lower() != ".html":
        raise ValueError(f"the trace is a web page, and {path} does not end in .html: choose another file")
    store.check_target(path)


class Page(NamedTuple):
    """A page as text, and the sentences on gradients that its finite differences contradict."""

    text: str
    wrong: list[str]


def page(title: str, frames: list[Frame] | list[Single], model: Model) -> Page:
    """One self-contained page, at most MOST_BYTES long; of the last frame's weights three a layer are checked.

    Raises ValueError: a trace without a loss; a net too large for a page.
    """
    last = frames[-1].maps
    if last.pictures is None or not all(frame.trace.terms for frame in frames):
        raise ValueError("this trace has seen no loss: call model.loss(x) and model.backward() inside its block")
    told = _told(title, frames, model)
    found = differences.checks(model, last.pictures, last.labels)
    for layer, row in zip(told["layers"], last.rows, strict=True):
        layer["check"] = [_finite_all(entry) for p in row.params for entry in found[p.name]]
    wrong = list(differences.disagreements(last.rows, found))
    for frame in told["frames"]:  # the lines are the same in each
        frame["flags"] += wrong
    for pictures, channels in RUNGS:
        blob = _blob(told, frames, min(pictures, len(last.pictures)), channels)
        text = _filled(title, told, blob)
        if (size := len(text.encode())) <= MOST_BYTES:
            return Page(text, wrong)
    raise ValueError(f"the page would have {size / 1e6:.1f} MB with one picture and one channel a layer, and "
                     f"{MOST_BYTES / 1e6:.0f} MB is the most: trace fewer steps, or a smaller net")


def _filled(title: str, told: dict[str, Any], blob: bytes) -> str:
    """The template with its parts; in JSON every < is escaped, so that no text of ours can end the script."""
    pages = files("npae.lab") / "pages"
    parts = {name.upper(): (pages / f"trace_{name}.js").read_text("utf-8") for name in ("maps", "layer", "strip")}
    parts.update(TITLE=html.escape(title), DATA=json.dumps(told, allow_nan=False).replace("<", "\\u003c"),
                 STYLE=(pages / "trace.css").read_text("utf-8"), MAPS_DATA=base64.b64encode(blob).decode())
    template = (pages / "trace.html").read_text("utf-8")
    return re.sub("%(" + "|".join(sorted(parts, key=len, reverse=True)) + ")%", lambda found: parts[found[1]], template)


def _told(title: str, frames: Any, model: Model) -> dict[str, Any]:
    """What the page knows beside the maps."""
    sources: list[dict[str, str]] = []
    first, objective = frames[0].trace, source.objective(model)
    objective["code"] = [_index(part, sources) for part in objective["code"]]
    return {"objective": objective, "title": title, "model": type(model).__name__, "unit": model.likelihood.unit,
            "batch": len_of(first), "shown": len_of(frames[0].maps), "code": code_of(first), "series": len(frames) > 1,
            "steps": list(differences.STEPS), "levels": maps.LEVELS, "quantile": maps.QUANTILE,
            "layers": [_layer(row, sources) for row in first.rows], "sources": sources,
            "frames": [_frame(frame) for frame in frames]}


def len_of(trace: Trace) -> int:
    """How many pictures the traced batch had."""
    return next((row.input_shape[0] for row in trace.rows if row.input_shape), 0)


def code_of(trace: Trace) -> int:
    """The place of the row whose output the decoder is given."""
    return next((i for i, row in enumerate(trace.rows) if row.name.startswith("decoder.")), 0) - 1


def _layer(row: LayerTrace, sources: list[dict[str, str]]) -> dict[str, Any]:
    shapes = [("x", row.input_shape), ("y", row.output_shape),
              *((p.name.rsplit(".", 1)[-1], p.shape) for p in row.params)]
    part, code = row.name.split(".")[0], source.code(row.layer)
    return {"name": row.name, "kind": described(row.layer), "part": part if part in ("encoder", "decoder") else "code",
            "equation": source.equation(row.layer), "shapes": [[name, _shape(shape)] for name, shape in shapes],
            "size": _size(row.output_shape or ()),
            "adds": row.multiply_adds, "dtype": str(row.dtype),
            "twins": bool(code["textbook"]) and row.layer.kernels is not reference,
            "code": {part: [_index(one, sources) for one in parts] for part, parts in code.items()}}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not reached" if shape is None else str(tuple(map(int, shape)))


def _size(shape: tuple[int, ...]) -> str:
    """28×28×1: without the batch."""
    return "×".join(map(str, shape[1:]))


def _index(part: dict[str, str], sources: list[dict[str, str]]) -> int:
    """Its place among the sources: layers of one kind share their lines."""
    if part not in sources:
        sources.append(part)
    return sources.index(part)


def _frame(frame: Any) -> dict[str, Any]:
    trace: Trace = frame.trace
    return {"step": frame.step, "terms": {name: _finite(value) for name, value in trace.terms.items()},
            "flags": trace.flags, "well": table.well(trace), "compiled": trace.compiled,
            "rows": [_row(row) for row in trace.rows]}


def _row(row: LayerTrace) -> dict[str, Any]:
    return {"y": _stats(row.activation), "dy": _stats(row.gradient), "dead": row.dead, "saturated": row.saturated,
            "ms": [1e3 * row.forward_seconds, 1e3 * row.backward_seconds],
            "params": [[p.name, _finite(p.norm), _said(p.grad_norm), _said(p.update_ratio)] for p in row.params]}


def _said(value: float | None) -> float | str | None:
    """JSON has numbers alone: what is no number, or has left exact zero, has words. None: it did not happen."""
    if value is None or math.isfinite(value):
        return value
    return "not a number" if math.isnan(value) else table.ratio(value)


def _stats(found: Stats | None) -> list[float | None] | None:
    return None if found is None else [_finite(v) for v in (found.norm, found.mean, found.std, found.zeros)]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _finite_all(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: [_finite(v) for v in value] if isinstance(value, list) else value if key == "entry" else _finite(value)
            for key, value in entry.items()}


def _blob(told: dict[str, Any], frames: Any, pictures: int, channels: int) -> bytes:
    """The deflated maps: the pictures, then for each frame those of each layer (y, dy) and what is painted.

    Their sizes and scales go into `told`.
    """
    x: np.ndarray = frames[0].maps.pictures[:pictures]
    labels, shown = frames[0].maps.labels, maps.grey(x)
    told["pictures"] = {"shape": list(shown.shape), "size": _size(x.shape),
                        "labels": None if labels is None else labels[:pictures].tolist()}
    parts = [shown.ravel()]
    for frame, said in zip(frames, told["frames"], strict=True):
        said["maps"] = []
        for row in frame.maps.rows:
            pair = {name: None if a is None else maps.made(a, x.shape[1:], pictures, channels)
                    for name, a in (("y", row.y), ("dy", row.dy))}
            said["maps"].append({name: m and [list(m.codes.shape[1:]), m.scale, m.total] for name, m in pair.items()})
            parts += [m.codes.ravel() for m in pair.values() if m]
        painted = frame.maps.model.likelihood.mean(frame.maps.rows[-1].y[:pictures])
        parts.append(maps.grey(painted.reshape(x.shape)).ravel())
    return zlib.compress(np.concatenate(parts).tobytes(), 9)
