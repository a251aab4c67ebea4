"""The page of an explanation: one valid file without network or script, at home on a wide window, a phone and paper.
What needs a browser is skipped where no chromium is installed."""
import base64
import html.parser
import io
import re
from functools import cache

import numpy as np
import pytest
from browser import MISSING, Browser
from PIL import Image

from npae.lab import explain
from npae.lab.explain.blocks import Table, Tables
from npae.lab.explain.page import mathematics, written

MOST_BYTES = 3_000_000
VOID = {"meta", "link", "img", "br"}
needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@cache
def found(name):
    return explain.explanation(name)


@cache
def page(name):
    return found(name).to_html()


@pytest.fixture(scope="module")
def browser():
    with Browser() as window:
        yield window


@pytest.fixture
def show(browser, tmp_path):
    """show(name, width) opens the page of an explanation."""
    def opened(name, width=1280, dark=False):
        path = tmp_path / f"{name}.html"
        path.write_text(page(name), "utf-8")
        browser.look(width, dark=dark)
        for kind in ("performance", "browser"):
            browser.log(kind)
        browser.open(path)

    return opened


class Tags(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order; the text between them."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.names, self.links = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(name):
    tags = Tags()
    tags.feed(page(name))
    assert not tags.open
    return tags


def squeezed(text):
    return re.sub(r"[\s_{}]+", "", text)


@pytest.mark.parametrize("name", explain.LESSONS)
def test_a_page_is_whole_small_and_says_what_the_terminal_says(name):
    text, tags = page(name), parsed(name)
    assert len(text.encode()) <= MOST_BYTES
    assert "script" not in tags.names
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert {f"#s{k}" for k in range(len(found(name).sections))} <= set(tags.links)
    e, everything = found(name), squeezed("".join(tags.text))
    for section in e.sections:
        assert squeezed(section.title) in everything
        for block in section.blocks:
            for line in getattr(block, "texts", ()):
                assert squeezed(line) in everything, line
            for number in getattr(block, "numbers", ()):
                assert number.text in everything
    for code in e.section("code")[0].blocks:
        assert squeezed(code.source) in everything


def test_pictures_stand_in_the_page_itself():
    sources = [link for link in parsed("Conv2d").links if link.startswith("data:image/png")]
    assert len(sources) == 2
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
            assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_a_sheet_has_its_numbers_in_their_places():
    text = written(Tables((Table("x", np.array([[1.0, -2.0], [3.0, 4.5]]), frozenset([(0, 1)])),)))
    assert re.findall(r"<td(?: class=marked)?>([^<]*)</td>|(</tr>)", text) == [
        ("1", ""), ("\N{MINUS SIGN}2", ""), ("", "</tr>"), ("3", ""), ("4.5", ""), ("", "</tr>")]
    assert text.count("marked") == 1 and "<td class=marked>\N{MINUS SIGN}2</td>" in text


def test_mathematics_keeps_an_entry_together_and_escapes():
    text = mathematics("dx[h] = Σ_{i, j: row[i, j] = h} dy[i, j] < x[a[i]]")
    assert text.startswith('<span class="entry"><i>dx</i><span class="index">[h]</span></span> = Σ<sub>')
    assert '<i>x</i><span class="index">[a[i]]</span></span>' in text and "&lt;" in text
    assert mathematics("Σ_n max(x[n], 0)").startswith("Σ<sub><i>n</i></sub> max(")


@needs_browser
@pytest.mark.parametrize("name", ["Conv2d", "UpsampleConv2d", "Reparameterize", "gaussian_kl_sampled"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_page_fits_asks_the_network_for_nothing_and_has_nothing_to_complain_of(name, width, dark, show, browser):
    show(name, width, dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    beyond = browser.run("""
        return [...document.querySelectorAll("main *")].filter((e) => !e.closest(".frame")
            && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.textContent.slice(0, 60))""")
    assert not beyond
    assert not browser.log("browser")
    asked = [m for entry in browser.log("performance") if '"Network.requestWillBeSent"' in (m := entry["message"])]
    assert all('"url":"file:' in m or '"url":"data:' in m for m in asked)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", explain.LESSONS)
def test_every_page_fits_on_a_desk_and_a_phone(name, show, browser):
    for width in (1280, 390):
        show(name, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert not browser.log("browser")


@needs_browser
@pytest.mark.parametrize("name", ["Conv2d", "Bernoulli"])
def test_paper_cuts_nothing_off(name, show, browser):
    """In print no element is wider than the sheet (A4 less its margins, at 96 to the inch), and none scrolls."""
    sheet = round((210 - 30) / 25.4 * 96)
    show(name, sheet)
    browser.chromium("Emulation.setEmulatedMedia", media="print")
    try:
        cut = browser.run("""
            return [...document.querySelectorAll("main *")].filter((e) =>
                e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1 &&
                getComputedStyle(e).overflowX !== "visible").map((e) => e.textContent.slice(0, 60))""")
        assert not cut
        assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
        assert browser.run("return getComputedStyle(document.querySelector('pre')).whiteSpace") == "pre-wrap"
        pdf = base64.b64decode(browser.chromium("Page.printToPDF", preferCSSPageSize=True)["data"])
        assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    finally:
        browser.chromium("Emulation.setEmulatedMedia", media="")
