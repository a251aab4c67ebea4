"""What `npae trace` prints, and the page that it writes."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from npae import recipes, store
from npae.trace import page, session, table
from npae.trace.session import Frame, Session


def lines(what: str, *, html: str | None = None, every: int | None = None, steps: int | None = None,
          data: str | None = None, data_dir: str | None = None, seed: int | None = None,
          given: Mapping[str, str] | None = None) -> Iterator[str]:
    """Trace a recipe or a run: the lines for the terminal.

    Raises ValueError: neither a recipe nor a run; settings beside a run, which has its own; --steps beside --every; a
    file that is no .html.
    """
    if html is not None:
        page.check(html)
    if every is not None and steps is not None:
        raise ValueError(f"--every {every} traces from the first step on, and --steps {steps} waits: leave one out")
    if what in recipes.RECIPES:
        found = session.of_recipe(what, data=data or "strokes", data_dir=data_dir, seed=seed or 0, given=given,
                                  steps=session.WARM if steps is None else steps, every=every)
    elif Path(what).is_dir():
        beside: dict[str, Any] = {"--data": data, "--data-dir": data_dir, "--seed": seed, "--set": given or None}
        if more := [name for name, value in beside.items() if value is not None]:
            raise ValueError(f"{what} is a run and has its own settings: leave {', '.join(more)} out")
        found = session.of_run(what, steps=steps or 0, every=every)
    else:
        raise ValueError(f"{what} is neither a recipe (`npae list` shows them) nor the folder of a run")
    yield from said(found)
    if html is not None:
        text, wrong = page.page(_titled(found), found.frames, found.model)
        store.write_text(html, text)
        yield from wrong or ["the finite differences on the page agree with backward"]
        yield f"the page is in {html} ({len(text.encode()) / 1e6:.1f} MB): open it in a browser"


def said(found: Session) -> Iterator[str]:
    """The table of the last traced step; of several steps the way there first."""
    if len(found.frames) > 1:
        yield f"{found.title}: {len(found.frames)} steps; the loss, and the norm of the gradient dy at each layer"
        yield from table.columns(list(_way(found.frames)), left=0)
        yield from _flags(found.frames[:-1])
        yield ""
    yield f"{found.title}: step {found.frames[-1].step:,}"
    yield str(found.frames[-1].trace)


def _titled(found: Session) -> str:
    """A page of one step says which one; with more of them the slider does."""
    return found.title if len(found.frames) > 1 else f"{found.title}: step {found.frames[-1].step:,}"


def _flags(frames: list[Frame]) -> Iterator[str]:
    """What is wrong in which steps; a sentence that comes again stands once."""
    steps: dict[str, list[str]] = {}
    for frame in frames:
        for flag in frame.trace.flags:
            steps.setdefault(flag, []).append(f"{frame.step:,}")
    for flag, at in steps.items():
        when = f"step {at[0]}" if len(at) == 1 else f"{len(at)} steps from {at[0]} to {at[-1]}"
        yield f"{when}: {flag}"


def _way(frames: list[Frame]) -> Iterator[tuple[str, ...]]:
    places = [i for i, row in enumerate(frames[0].trace.rows) if row.gradient is not None]
    yield ("step", "loss", *(frames[0].trace.rows[i].name for i in places))
    for frame in frames:
        rows = [frame.trace.rows[i] for i in places]
        yield (f"{frame.step:,}", f"{frame.trace.terms['loss']:.4g}", *(table.stat(row.gradient)[0] for row in rows))
