"""The page of an explanation: one valid file without network or script, at home on a wide window, a phone and paper.
What needs a browser is skipped where no chromium is installed."""
import base64
import html.parser
import io
import re
from functools import cache

import numpy as np
import pytest
from browser import MISSING
from PIL import Image

from npae.lab import explain
from npae.lab.explain.blocks import Code, Formula, Prose, Table, Tables
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
        self.open, self.text, self.names, self.links, self.alts = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        self.alts += [value for key, value in attrs if key == "alt"]
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
    assert [tag for tag in tags.names if re.fullmatch("h[1-6]", tag)] == ["h1", *["h2"] * len(found(name).sections)]
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


def test_a_picture_is_also_said_in_words():
    first, second = parsed("Conv2d").alts
    assert first.startswith("im2col copies each pixel, col2im adds the copies up. 4 windows see pixel 5 (framed)")
    assert first.endswith("pixels, numbered; im2col: a row a window; col2im: copies added up")
    assert "kernel 3, stride 2 padding 1" in second
    captions = [block.caption for block in found("Conv2d").section("picture")[0].blocks]
    assert first not in captions and second not in captions


def test_an_idea_is_an_equation_as_far_as_it_is_one():
    assert '<p class="idea"><i>y</i> = f(<i>x</i> <i>W</i> + <i>b</i>), and where its transposes come from</p>' in page(
        "Dense")
    assert '<p class="idea"><i>y</i> = max(<i>x</i>, 0), a gate that is open or shut</p>' in page("ReLU")
    assert '<p class="idea">A window that walks over the picture, and why its backward adds</p>' in page("Conv2d")


def test_only_names_are_italic_in_a_formula():
    for name in explain.LESSONS:
        words = set(re.findall("<i>([^<]*)</i>", page(name)))
        assert not words & {"where", "else", "in", "the", "shape", "of"}, name


def deep():
    if MISSING:
        return "a & b < c"

    return ""


def test_a_line_of_code_goes_on_behind_its_indent():
    text = written(Code(deep))
    assert re.findall(r'<span style="--by: (\d+)ch">(.*?)</span>', text) == [
        ("6", "def deep():"), ("10", "    if MISSING:"), ("14", '        return "a &amp; b &lt; c"'), ("6", "<br>"),
        ("10", '    return ""')]


def test_a_sheet_has_its_numbers_in_their_places():
    text = written(Tables((Table("x", np.array([[1.0, -2.0], [3.0, 4.5]]), frozenset([(0, 1)])),)))
    assert re.findall(r"<td(?: class=marked)?>([^<]*)</td>|(</tr>)", text) == [
        ("1", ""), ("\N{MINUS SIGN}2", ""), ("", "</tr>"), ("3", ""), ("4.5", ""), ("", "</tr>")]
    assert text.count("marked") == 1 and "<td class=marked>\N{MINUS SIGN}2</td>" in text


@pytest.mark.parametrize("name", ["dcols", "∂cols/∂x[0, 1, 2, 0]"])
def test_the_words_above_a_sheet_are_upright_and_its_name_is_not(name):
    above = re.search("<figcaption>(.*?)</figcaption>", written(Tables((Table(name, np.ones((1, 1, 1, 1, 1, 1))),))))[1]
    assert above.endswith(" of picture 0: rows i, j, columns u, v, c")
    assert [word.lstrip("d∂") for word in re.findall("<i>(.*?)</i>", above)] == ["cols", "x"][:1 + name.count("/")]


def test_what_goes_on_from_the_line_above_stands_further_in():
    text = written(Formula(("dW[u] = dx[u]", "      + dy[u]")))
    assert re.findall("<div( class=more)?>", text) == ["", " class=more"]
    assert written(Prose("a sum, Σ_n dy[n], and Σ_{i, j} too")).count("<sub>") == 2


def test_mathematics_keeps_an_entry_together_and_escapes():
    text = mathematics("dx[h] = Σ_{i, j: row[i, j] = h} dy[i, j] < x[a[i]]")
    assert text.startswith('<span class="entry"><i>dx</i><span class="index">[h]</span></span> = Σ<sub>')
    assert '<i>x</i><span class="index">[a[i]]</span></span>' in text and "&lt;" in text
    assert mathematics("Σ_n max(x[n], 0)").startswith("Σ<sub><i>n</i></sub> max(")
    assert mathematics("∂y[n]/∂z[n] / 2").endswith('/<i>∂z</i><span class="index">[n]</span></span> / 2')


def contrast(*colours):
    """WCAG's, of two colours of three parts in [0, 1]."""
    parts = np.array(colours)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_can_be_read_on_its_ground(theme):
    """WCAG: 4.5 to 1 in each theme, and no colour is left to the other theme."""
    rules = dict(zip(("light", "dark", "print"), re.findall(r":root \{([^}]*)\}", page("Dense")), strict=True))
    colour = {name: value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:])
              for name, value in re.findall(r"--([\w-]+): (#\w+)", rules[theme])}
    assert set(colour) == set(re.findall(r"--([\w-]+): #", rules["light"]))
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("paper", "card")]
    for names in [*pairs, ("mark-ink", "mark")]:
        parts = [[int(colour[name][k:k + 2], 16) / 255 for k in (1, 3, 5)] for name in names]
        assert contrast(*parts) >= 4.5, (theme, names)


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
    scrolled = browser.run("""
        return [...document.querySelectorAll(".frame")].filter((e) => e.scrollWidth > e.clientWidth)
            .map((e) => getComputedStyle(e.parentNode.querySelector("figcaption"), "::before").content)""")
    assert all("swipe" in hint for hint in scrolled) and (width > 640 or name != "Conv2d" or len(scrolled) == 2)
    browser.check_silent()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", explain.LESSONS)
def test_every_page_fits_on_a_desk_and_a_phone(name, show, browser):
    for width in (1280, 390, 320):
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
