"""An explanation as one page of HTML: no network, no script, and nothing that paper would cut off.
"""
from __future__ import annotations

import base64
import html
import io
import re
from functools import singledispatch
from importlib.resources import files
from typing import TYPE_CHECKING

from npae.canvas import render, styled
from npae.lab.explain.blocks import (
    Code,
    Formula,
    Picture,
    Prose,
    Rows,
    Sheet,
    Table,
    Tables,
    Worked,
)
from npae.lab.explain.wrap import at_signs, pieces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from npae.lab.explain.document import Explanation, Section

NAMED = re.compile(r"(?<![\w&])(/(?=∂))?(∂?[^\W\d][\w′]*)(?=\[)")
LIMITS = re.compile(r"Σ_(?:\{([^}]*)\}|(\w′?))")
WORD = re.compile(r"(?<![\w&<])(?!(?:where|else|in|the|shape|of)\b)([a-zA-Z]\w*′?)(?![\w(\[;])")
SPAN = re.compile(r"`([^`]+)`|([^\W\d][\w′]*\[[^\]]*\])")


def page(explanation: Explanation) -> str:
    """The page of an explanation; it is valid HTML in one file."""
    parts = {
        "TITLE": html.escape(f"{explanation.name}, explained by npae"), "NAME": html.escape(explanation.name),
        "IDEA": _idea(explanation.idea),
        "CONTENTS": "".join(f'<li><a href="#s{i}">{html.escape(" ".join(section.title.split()))}</a></li>'
                            for i, section in enumerate(explanation.sections)),
        "BODY": "\n".join(_section(section, i) for i, section in enumerate(explanation.sections))}
    template = (files("npae.lab") / "pages" / "explanation.html").read_text("utf-8")
    return re.sub("%(" + "|".join(parts) + ")%", lambda found: parts[found[1]], template)


def _idea(text: str) -> str:
    """A sentence; where it begins with an equation, this is set as one."""
    first, *others = pieces(text, lambda text, place: text[place - 1] == ",")
    start = mathematics(first) if "=" in first else html.escape(first[:1].upper() + first[1:])
    return " ".join([start, *map(html.escape, others)])


def _section(section: Section, place: int) -> str:
    number, title = section.title.split(maxsplit=1)
    head = f'<h2><span class="number">{number}</span> {html.escape(title)}</h2>'
    return f'<section id="s{place}" class="step-{section.kind}">{head}{"".join(map(written, section.blocks))}</section>'


def _limits(found: re.Match[str]) -> str:
    """What a sum goes over, below its sign."""
    return f"Σ<sub>{found[1] or found[2]}</sub>"


@singledispatch
def written(block: object) -> str:
    """A block as HTML."""
    raise ValueError(f"a page has no form for {block!r}")


@written.register
def _(block: Prose) -> str:
    text = SPAN.sub(lambda found: f"<code>{found[1] or found[2]}</code>", html.escape(block.text, quote=False))
    return f"<p>{LIMITS.sub(_limits, text)}</p>"


@written.register
def _(block: Formula) -> str:
    lines = (f'<div{" class=more" * text.startswith(" ")}>{mathematics(text)}</div>' for text in block.texts)
    return f'<div class="formula">{"".join(lines)}</div>'


@written.register
def _(block: Worked) -> str:
    rows = []
    for text in block.texts:
        left, right = text.split("= ", 1)
        right, *backward = right.split(8 * " ")  # what backward gives, behind the last line
        terms = " ".join(f'<span class="term">{mathematics(term)}</span>' for term in pieces(right, at_signs))
        said = "".join(f'<span class="said">{html.escape(words)}</span>' for words in backward)
        rows.append(f'<span class="left">{mathematics(left.strip())}</span><span class="equals">=</span>'
                    f'<span class="right">{terms}{said}</span>')
    return f'<div class="worked">{"".join(rows)}</div>'


@written.register
def _(block: Tables) -> str:
    sheets = [_sheet(table, sheet) for table in block.tables for sheet in table.sheets()]
    return f'<div class="tables">{"".join(sheets)}</div>'


@written.register
def _(block: Rows) -> str:
    head, *rows = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
                   for tag, cells in (("th", block.head), *(("td", row) for row in block.rows)))
    return (f'<div class="frame"><table class="rows"><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(f"<tr>{row}</tr>" for row in rows)}</tbody></table></div>')


@written.register
def _(block: Code) -> str:
    lines = "".join(_line(line) for line in block.source.splitlines())
    return (f'<figure class="code"><figcaption>{html.escape(block.where)}</figcaption>'
            f"<pre><code>{lines}</code></pre></figure>")


def _line(text: str) -> str:
    """A line of code; what does not fit goes on six further in, where no line of Python begins."""
    indent = len(text) - len(text.lstrip())
    return f'<span style="--by: {indent + 6}ch">{html.escape(text, quote=False) or "<br>"}</span>'


@written.register
def _(block: Picture) -> str:
    figure = block.draw()
    data = base64.b64encode(png(figure)).decode()
    return (f'<figure class="picture"><div class="frame" tabindex="0"><img src="data:image/png;base64,{data}" '
            f'alt="{html.escape(seen(figure))}"></div>'
            f"<figcaption>{html.escape(block.caption)}</figcaption></figure>")


def seen(figure: Figure) -> str:
    """A picture in words: its title, its note and the names of its parts."""
    title, note = (text.get_text() for text in figure.texts[:2])
    parts = [" ".join(ax.get_title(loc="left").split()) for ax in figure.axes]
    return ". ".join(text.rstrip(".") for text in (title, note, "; ".join(filter(None, parts))))


def mathematics(text: str) -> str:
    """A formula with its sums' limits as subscripts; an entry and its indices stay on one line."""
    text = LIMITS.sub(lambda found: f"Σ\x01{found[1] or found[2]}\x02", text)
    text = _entries(html.escape(text.replace("else 0", "else\N{NO-BREAK SPACE}0"), quote=False))
    return text.replace("\x01", "<sub>").replace("\x02", "</sub>")


def _entries(text: str) -> str:
    """name[index] as two spans that do not part."""
    done, place = "", 0
    while found := NAMED.search(text, place):
        end = _closing(text, found.end())
        done += (f'{_italic(text[place:found.start()])}<span class="entry">{found[1] or ""}<i>{found[2]}</i>'
                 f'<span class="index">{text[found.end():end]}</span></span>')
        place = end
    return done + _italic(text[place:])


def _italic(text: str) -> str:
    """Names of arrays and numbers; words and functions stay upright."""
    return WORD.sub(r"<i>\1</i>", text)


def _closing(text: str, place: int) -> int:
    """Behind the bracket that closes the one at this place."""
    depth = 0
    for end in range(place, len(text)):
        depth += (text[end] == "[") - (text[end] == "]")
        if depth == 0:
            return end + 1
    return len(text)


def _sheet(table: Table, sheet: Sheet) -> str:
    name, rows = sheet
    texts = {number.place: number.text for number in table.numbers}
    cells = "".join("<tr>" + "".join(f'<td{" class=marked" * (place in table.marked)}>{texts[place]}</td>'
                                     for place in row) + "</tr>" for row in rows)
    array, words, rest = name.partition(" of picture")
    caption = _entries(html.escape(array)) + html.escape(words + rest)
    return f"<figure><figcaption>{caption}</figcaption><table>{cells}</table></figure>"


@styled
def png(figure: Figure) -> bytes:
    """A figure as a PNG of few colours."""
    buffer = io.BytesIO()
    render(figure).quantize(256, dither=0).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
