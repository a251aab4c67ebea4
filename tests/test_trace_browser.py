"""The page of a trace in a headless Chromium: what a visitor sees and does with it.
The tests are skipped where no chromium is installed."""
import math
import re

import numpy as np
import pytest
from browser import MISSING
from explorables import dense, pictures, tied
from traces import of_nan, of_recipe, told_by, traced

from npae import recipes
from npae.layers import Dense, Flatten, Reshape, Sequential
from npae.layers.summary import described
from npae.models import Autoencoder
from npae.trace import differences, maps, page, session

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
QUICK = ("bernoulli-vae", "tied-ae")


@pytest.fixture(scope="module")
def pages(tmp_path_factory, browser):
    """open(name) shows the page of a recipe's trace, written once, or "series"; returns the traces."""
    folder, known = tmp_path_factory.mktemp("pages"), {}

    def show(name, width=1280, dark=False):
        path = folder / f"{name}.html"
        if name not in known:
            if name == "series":
                model, x = of_recipe("tied-ae").model, pictures(n=30).train_x[:12] / np.float32(255)
                known[name] = [traced(model, x) for _ in range(6)]
                found = [session.Frame(10 * i + 1, t, t) for i, t in enumerate(known[name])]
            else:
                known[name] = [of_recipe(name)]
                found = [page.Single(known[name][0])]
            path.write_text(page.page(f"{name} on bars", found, known[name][0].model).text)
        assert path.stat().st_size <= 3_000_000
        opened(browser, path, width, dark)
        return known[name]

    return show


def opened(browser, path, width=1280, dark=False):
    """In a window so wide; what was logged of another page is forgotten."""
    browser.look(width, dark=dark)
    for kind in ("performance", "browser"):
        browser.log(kind)
    browser.open(path)
    ready(browser)


def check_page(browser, width, dark=False):
    """It fits, its console is empty, it has asked no network, and its theme is the asked one."""
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.check_silent()
    body = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, body[4:-1].split(", "))) < 200) == dark


def ready(browser):
    """The maps are inflated after the page has loaded."""
    browser.run("""return new Promise((done) => {
        const wait = () => window.npae ? done(true) : setTimeout(wait, 10); wait(); })""")


def drawn(browser):
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def slide(browser, element, value):
    """As a hand does: the slider is there, has the focus, and says that it has moved."""
    browser.run("""const slider = document.getElementById(arguments[0]);
        slider.focus();
        slider.value = arguments[1];
        slider.dispatchEvent(new Event("input"));""", element, value)


def text(browser, element):
    return browser.run("return document.getElementById(arguments[0]).textContent", element)


def plain(number):
    """A number of the page, such as −1.23·10⁻⁷, as a float."""
    powers = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    front, _, power = number.replace("\N{MINUS SIGN}", "-").partition("·10")
    return float(front) * 10.0 ** int(power.translate(powers) or 0)


def cells(browser, table):
    return browser.run("""return [...document.querySelectorAll(`#${arguments[0]} tr`)].slice(1)
        .map((row) => [...row.children].map((cell) => cell.textContent))""", table)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_page_fits_asks_the_network_for_nothing_and_has_nothing_to_complain_of(name, width, dark, pages, browser):
    t, = pages(name, width, dark)
    check_page(browser, width, dark)
    for k in range(len(t.rows)):  # every layer can be opened
        browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
        assert text(browser, "layer-title") == t.rows[k].name
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run("const box = document.querySelector('#entries').parentElement;"
                           "return box.scrollWidth - box.clientWidth") <= 0  # the check is seen whole
    assert browser.log("browser") == []


@pytest.mark.parametrize(("shape", "seen"), [((7,), (3, 3)), ((2304,), (48, 48)), ((5, 6), (5, 6)),
                                             ((4, 4, 2), (4, 4))])
def test_a_model_of_rows_or_of_pictures_without_a_channel_has_its_page(shape, seen, browser, tmp_path):
    d = math.prod(shape)
    flat = [Flatten()] * (len(shape) > 1)
    back = [Reshape(shape)] * (len(shape) > 1)
    model = Autoencoder(Sequential([*flat, Dense(d, 4, rng=0)]), Sequential([Dense(4, d, rng=0), *back]))
    x = np.random.default_rng(0).random((5, *shape)).astype(np.float32)
    path = traced(model, x).to_html(tmp_path / "rows.html")
    told, blob = told_by(path.read_text())
    assert told["pictures"]["shape"] == [5, *seen, shape[2] if len(shape) == 3 else 1]
    first = blob[:math.prod(told["pictures"]["shape"][1:])]
    np.testing.assert_allclose(first[:d] / 255, x[0].ravel(), atol=0.5 / 255 + 1e-6)
    assert not first[d:].any()
    total = [m["y"][2] for m in told["frames"][0]["maps"]]
    assert total[-1] == (shape[-1] if len(shape) == 3 else d)
    browser.look(1280)
    browser.log("browser")
    browser.open(path)
    ready(browser)
    assert browser.log("browser") == []
    sizes = browser.run("return [...document.querySelectorAll('#strip .size')].map(e => e.textContent)")
    assert sizes[0] == sizes[-1] == "×".join(map(str, shape))
    assert browser.run("const c = document.querySelector('#strip canvas'); return [c.height, c.width]") == list(seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_its_page(name, pages, browser, tmp_path):
    """Written by the command, on strokes; opened layer by layer in both widths."""
    from npae.cli import main

    path = tmp_path / "trace.html"
    assert main(["trace", name, "--html", str(path)]) == 0
    assert path.stat().st_size <= 3_000_000
    for width in (1280, 390):
        opened(browser, path, width)
        check_page(browser, width)
        for k in range(browser.run("return npae.told.layers.length")):
            took = browser.run("return npae.show({ layer: arguments[0] })", k)
            assert took < 1000 and browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.log("browser") == []
    print(f"\n{name}: {path.stat().st_size / 1e6:.2f} MB", end="")


def test_a_page_says_the_traces_numbers(pages, browser):
    t, = pages("bernoulli-vae")
    assert text(browser, "title") == "bernoulli-vae on bars" and "one step of a training" in text(browser, "lead")
    assert "nats per image" in text(browser, "facts") and "batch of 12" in text(browser, "facts")
    assert "those of the mean loss of 12 pictures." in text(browser, "legend")
    assert "Nothing wrong is found" in text(browser, "flags")
    k = next(i for i, row in enumerate(t.rows) if row.name == "decoder.2")
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    row = t.rows[k]
    for said, found in zip(cells(browser, "numbers"), (row.activation, row.gradient), strict=True):
        assert [plain(v) for v in said[1:4]] == pytest.approx([found.norm, found.mean, found.std], rel=6e-3)
        assert float(said[4].split()[0]) / 100 == pytest.approx(found.zeros, rel=6e-3)
    for said, p in zip(cells(browser, "params"), row.params, strict=True):
        assert said[0] == p.name and plain(said[2]) == pytest.approx(p.grad_norm, rel=6e-3)
        assert (said[3] == "from 0") if p.norm == 0 else (plain(said[3]) == pytest.approx(p.update_ratio, rel=6e-2))
    x, y = row.input_shape, row.output_shape
    assert text(browser, "shapes") == (f"x {x} · W (3, 3, 64, 32) · b (64,) → y {y}"
                                       f"dy {y} → dx {x} · dW (3, 3, 64, 32) · db (64,)")
    for line in ("ConvTranspose2d._gradients", "conv2d_transpose_backward"):
        assert line in text(browser, "code")
    assert "each pixel of x paints its kernel" in text(browser, "equation")
    for line in ("beta KL(q(z|x)", "dz = decoder^T dy", "VAE.loss", "def backward(self)", "Bernoulli._compute",
                 "dlogits[...] ="):
        assert line in text(browser, "objective")
    assert browser.run("return document.querySelector('.tile .mark').parentElement.querySelector('.name').textContent"
                       ) == "reparameterize"


def pixels(browser, canvas):
    """The rgba of a canvas, (h, w, 4): `canvas` is an expression that names it."""
    size, values = browser.run(f"""
        const c = {canvas};
        return [[c.height, c.width], Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)]""")
    return np.array(values).reshape(*size, 4)


def colours(browser, codes):
    """Codes (..., ) -> rgba by the page's own style: from white to its two ends, ink for what is no number."""
    style = {name: np.array(browser.run("""const v = getComputedStyle(document.documentElement).getPropertyValue(
        arguments[0]).trim(); return [1, 3, 5].map((i) => parseInt(v.slice(i, i + 2), 16))""", f"--{name}"))
             for name in ("zero", "minus", "plus", "ink")}
    share = (codes.astype(float) - maps.LEVELS)[..., None] / maps.LEVELS
    ends = np.where(share < 0, style["minus"], style["plus"])
    rgb = np.floor(style["zero"] + np.abs(share) * (ends - style["zero"]) + 0.5)
    rgb[codes == maps.BAD] = style["ink"]
    rgba = np.concatenate([rgb, np.full((*codes.shape, 1), 255.0)], -1)
    rgba[codes == maps.BLANK] = 0
    return rgba


def test_each_pixel_of_a_map_has_the_colour_of_its_number(pages, browser):
    t, = pages("bernoulli-vae")
    for k, row in enumerate(t.rows):
        for n in (k % 8,):
            browser.run("npae.show({ layer: arguments[0], picture: arguments[1] })", k, n)
            for side in ("y", "dy"):
                a = getattr(row, side)
                assert browser.run("return document.getElementById(arguments[0]).hidden", f"big-{side}") == (a is None)
                if a is None:
                    continue
                codes = maps.made(a, (28, 28, 1), 8, 16).codes[n]
                c, h, w = codes.shape
                across = math.ceil(math.sqrt(c))
                shown, tile = (pixels(browser, canvas) for canvas in (
                    f'document.getElementById("big-{side}")',
                    f"document.querySelectorAll('button.tile')[{k}].querySelectorAll('canvas')[{int(side == 'dy')}]"))
                np.testing.assert_array_equal(shown, tile)
                for place in range(c):
                    i, j = place // across * (h + 1), place % across * (w + 1)
                    np.testing.assert_array_equal(shown[i:i + h, j:j + w], colours(browser, codes[place]))
    ramp = pixels(browser, 'document.getElementById("ramp")')
    np.testing.assert_array_equal(ramp[0], colours(browser, np.arange(2 * maps.LEVELS + 1)))


def test_the_pictures_are_those_of_the_batch_in_grey_and_in_colour(tmp_path, browser):
    for model, dataset in ((dense(), pictures(n=20)), (tied(), pictures((6, 9, 3), 20))):
        x = dataset.train_x[:5] / np.float32(255)
        t = traced(model, x)
        browser.look(1280)
        browser.open(t.to_html(tmp_path / "colour.html"))
        ready(browser)
        painted = model.likelihood.mean(t.rows[-1].y).reshape(x.shape)
        for n in (0, 3):
            browser.run("document.querySelectorAll('#pictures button')[arguments[0]].click()", n)
            for canvas, expected in (("document.querySelectorAll('.tile.picture canvas')[0]", x),
                                     (f"document.querySelectorAll('#pictures canvas')[{n}]", x),
                                     ("document.querySelectorAll('.tile.picture canvas')[1]", painted)):
                shown = pixels(browser, canvas)
                assert (shown[..., 3] == 255).all()
                np.testing.assert_array_equal(shown[..., :3], np.broadcast_to(maps.grey(expected)[n], (
                    *shown.shape[:2], 3)))
        assert browser.run("return document.querySelectorAll('#pictures button')[3].ariaLabel") == "picture 4"


def test_what_is_no_number_is_inked_and_said(tmp_path, browser):
    t = of_nan()
    with np.errstate(all="ignore"):
        browser.open(t.to_html(tmp_path / "nan.html"))
    ready(browser)
    browser.run("npae.show({ layer: 1, picture: 0 })")
    codes = maps.made(t.rows[1].y, (28, 28, 1), 8, 16).codes[0, 0]
    assert {maps.BAD, maps.BLANK} <= set(codes.ravel().tolist())
    np.testing.assert_array_equal(pixels(browser, 'document.getElementById("big-y")'), colours(browser, codes))
    assert cells(browser, "numbers")[0][1] == "not a number" and "loss not a number" in text(browser, "step-name")


def test_what_stands_around_a_layer_is_the_traces_too(pages, browser):
    t, = pages("bernoulli-vae")
    assert "99 % of a layer's shown numbers lie within" in text(browser, "legend")
    lengths = [np.log10(row.gradient.norm) for row in t.rows if row.gradient and row.gradient.norm]
    low, high = math.floor(min(lengths)), math.ceil(max(lengths))
    widths = browser.run("return [...document.querySelectorAll('.gauge i')].map((bar) => parseFloat(bar.style.width))")
    for k, row in enumerate(t.rows):
        browser.run("npae.show({ layer: arguments[0] })", k)
        hint = text(browser, "layer-hint")
        part = row.name.split(".")[0]
        where = f"in the {part}" if part in ("encoder", "decoder") else "between encoder and decoder"
        assert where in hint and f": {row.multiply_adds:,} multiply-adds a picture, float32" in hint
        assert ("units are off" in hint) == bool(row.dead) and ("flat end" in hint) == bool(row.saturated)
        for share, words in ((row.dead, "of its units are off in the whole batch"),
                             (row.saturated, "of its numbers lie at a flat end")):
            if share:
                assert float(re.search(rf"([\d.]+) % {words}", hint)[1]) == pytest.approx(100 * share, rel=6e-3)
        for side, a in (("y", row.y), ("dy", row.dy)):
            said = text(browser, f"caption-{side}")
            if a is None:
                assert said.endswith("none is asked for here")
                continue
            shown, kind = (min(16, a.shape[-1]), "channel") if a.ndim == 4 else (min(1024, a.shape[-1]), "number")
            if a.ndim == 2 and a.shape[1] == 784:
                shown = 784
            total = a.shape[-1]
            head = f"the first {shown:,} of {total:,}" if shown < total else f"{total:,}"
            assert f": {head} {kind}{'s' * (total != 1)}; scale ±" in said
            scale = maps.made(a, (28, 28, 1), 8, 16).scale
            assert plain(said.split("±")[1]) == pytest.approx(scale, rel=6e-3)
            small = browser.run("return document.querySelectorAll('button.tile')[arguments[0]].querySelectorAll("
                                "'.scale')[arguments[1]].textContent", k, int(side == "dy"))
            assert plain(small[1:]) == pytest.approx(scale, rel=6e-2)
        there, back = cells(browser, "numbers")
        for said in (*there[1:4], *(back[1:4] if row.gradient else ())):
            front, _, power = said.partition("·10")
            assert len(re.sub(r"\D", "", front).strip("0")) <= 3
            assert bool(power) == (plain(said) != 0 and not 1e-3 <= abs(plain(said)) < 1e5)
        assert float(there[5]) == pytest.approx(1e3 * row.forward_seconds, abs=0.0051)
        assert float(back[5]) == pytest.approx(1e3 * row.backward_seconds, abs=0.0051)
        for said, p in zip(cells(browser, "params"), row.params, strict=True):
            assert plain(said[1]) == pytest.approx(p.norm, rel=6e-3)
        if row.params:
            for said, entry in zip(cells(browser, "entries"),
                                   browser.run("return npae.told.layers[arguments[0]].check", k), strict=True):
                assert plain(said[1]) == pytest.approx(entry["value"], rel=6e-4)
        norm = row.gradient.norm if row.gradient else 0
        assert widths[k] == pytest.approx(max(2, 100 * (np.log10(norm) - low) / (high - low)) if norm else 0, abs=0.01)


def test_a_flag_marks_its_own_layer_and_none_whose_name_begins_alike(pages, browser):
    pages("bernoulli-vae")
    browser.run("npae.told.frames[0].flags = ['encoder.10 (Dense): dead', 'encoder.1 (Conv2d): dead']; npae.show({})")
    marked = "return [...document.querySelectorAll('.tile.wrong .name')].map((b) => b.textContent)"
    assert browser.run(marked) == ["encoder.1"]
    browser.run("npae.told.frames[0].flags.pop(); npae.show({})")
    assert browser.run(marked) == []


def points(browser, selector):
    """The places of a curve's points."""
    said = browser.run("return document.querySelector(arguments[0]).getAttribute('points')", selector)
    return np.array([list(map(float, point.split(","))) for point in said.split()])


def test_the_curves_over_the_steps_and_over_h_lie_where_their_numbers_are(pages, browser):
    traces = pages("series")
    assert text(browser, "lead").startswith("Autoencoder: 6 steps of a training, from 1 to 51, each")
    assert text(browser, "when") == ", with the weights after step 51"
    assert browser.run("return document.getElementById('step').max") == "5"
    k = next(k for k, row in enumerate(traces[0].rows) if row.params)
    first = traces[0].rows[k].params[0].name
    values = {"loss": [t.terms["loss"] for t in traces], "‖y‖": [t.rows[k].activation.norm for t in traces],
              "‖dy‖": [t.rows[k].gradient.norm for t in traces],
              f"update / norm of {first}": [t.rows[k].params[0].update_ratio for t in traces]}
    for layer in (k, k + 1, k):  # each layer has its own
        browser.run("npae.show({ layer: arguments[0], frame: 4 })", layer)
    titles = browser.run("return [...document.querySelectorAll('#ways .title')].map((t) => t.textContent)")
    assert [title.split(": ")[0] for title in titles] == list(values)
    for n, (title, way) in enumerate(zip(titles, values.values(), strict=True)):
        ends = [plain(part) for part in title.split(": ")[1].split(" to ")]
        assert ends == pytest.approx([min(way), max(way)], rel=6e-3)
        logs = np.log10(way)
        down = 84 - 62 * (logs - logs.min()) / np.ptp(logs)
        found = points(browser, f"#ways svg:nth-child({n + 1}) .curve")
        np.testing.assert_allclose(found, np.stack([6 + 248 * np.arange(6) / 5, down], 1), atol=0.06)
        dot = browser.run("return document.querySelectorAll('#ways .now')[arguments[0]].getAttribute('transform')", n)
        assert [float(v) for v in dot[10:-1].split(",")] == found[4].tolist()
    entry = browser.run("return npae.told.layers[arguments[0]].check[0]", k)
    quotients = (np.array(entry["plus"]) - entry["minus"]) / (2 * np.array(differences.STEPS))
    errors = np.log10(np.clip(np.abs(quotients / entry["analytic"] - 1), 1e-13, 10))
    found = points(browser, "#curves .curve")
    np.testing.assert_allclose(found[:, 0], 34 + 220 * np.arange(13) / 12, atol=0.06)
    np.testing.assert_allclose(found[:, 1], 10 + 110 * (1 - errors) / 14, atol=0.3)
    facts = [text(browser, "facts")]
    browser.run("npae.show({ frame: 0 })")
    assert facts[0] != text(browser, "facts") and text(browser, "step-name").startswith("step 1, loss")


def test_the_quotients_are_divided_anew_as_h_moves(pages, browser):
    pages("tied-ae")
    k = 2
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    entries = browser.run("return npae.told.layers[arguments[0]].check", k)
    assert [entry["entry"].split("[")[0] for entry in entries] == ["W", "W", "b"]
    seen = []
    for i, h in ((0, 1.0), (5, 1e-5), (12, 1e-12)):
        slide(browser, "h", i)
        assert plain(text(browser, "h-name").split(" = ")[1]) == pytest.approx(h)
        for said, entry in zip(cells(browser, "entries"), entries, strict=True):
            quotient = (entry["plus"][i] - entry["minus"][i]) / (2 * h)
            assert said[0] == entry["entry"] and plain(said[2]) == pytest.approx(entry["analytic"], rel=1e-7)
            assert plain(said[3]) == pytest.approx(quotient, rel=1e-7, abs=1e-300)
            seen.append(abs(quotient / entry["analytic"] - 1))
            assert plain(said[4]) == pytest.approx(seen[-1], rel=0.1, abs=1e-15)
    assert max(seen[3:6]) < 1e-4 < min(max(seen[:3]), max(seen[6:]))  # the foot of the V lies between
    assert browser.run("return document.querySelectorAll('#curves svg').length") == 3


def test_a_picture_is_chosen_and_its_maps_are_drawn(pages, browser):
    t, = pages("bernoulli-vae")
    k, row = next((i, row) for i, row in enumerate(t.rows) if row.name == "encoder.1")
    browser.run("document.querySelectorAll('button.tile')[arguments[0]].click()", k)
    seen = []
    for n in (0, 5):
        browser.run("document.querySelectorAll('#pictures button')[arguments[0]].click()", n)
        assert browser.run("return [...document.querySelectorAll('#pictures button')].map((b) => b.ariaPressed)"
                           ).index("true") == n
        size, values = browser.run("""
            const c = document.getElementById("big-dy");
            return [[c.height, c.width], Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)]""")
        rgba = np.array(values).reshape(*size, 4)
        assert size == [4 * 7 - 1, 4 * 7 - 1]  # 16 channels of 6 x 6, with lines between
        assert (rgba[6, :, 3] == 0).all() and (rgba[:6, :6, 3] == 255).all()
        blue, red = rgba[..., 2].astype(int), rgba[..., 0].astype(int)
        _, scale, _ = browser.run("return [0, npae.told.frames[0].maps[arguments[0]].dy.scale, 0]", k)
        for c in (0, 5, 15):
            i, j = 7 * (c // 4), 7 * (c % 4)
            warm = red[i:i + 6, j:j + 6] - blue[i:i + 6, j:j + 6]
            dy = row.dy[n, :, :, c] / scale
            assert (np.sign(warm[np.abs(dy) > 0.1]) == np.sign(dy[np.abs(dy) > 0.1])).all()
        seen.append(values)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_slider_walks_through_the_steps_within_a_frame(width, pages, browser):
    traces = pages("series", width)
    check_page(browser, width)
    took = browser.run("return Array.from({ length: 100 }, (_, i) => npae.show({ frame: i % 6, picture: i % 3 }))")
    print(f"\nmedian {np.median(took):.1f} ms, 95 % {np.percentile(took, 95):.1f} ms", end="")
    assert np.median(took) <= 16
    slide(browser, "step", 0)
    for frame in (0, 1, 2):
        if frame:
            for kind in ("rawKeyDown", "keyUp"):  # the keyboard moves it too
                browser.chromium("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight",
                                 windowsVirtualKeyCode=39)
        drawn(browser)
        said, loss = text(browser, "step-name").split(", loss ")
        assert said == f"step {10 * frame + 1}" and plain(loss) == pytest.approx(traces[frame].terms["loss"], rel=1e-3)


def test_the_arrow_keys_walk_along_the_strip(pages, browser):
    t, = pages("tied-ae")
    browser.run("const tile = document.querySelectorAll('button.tile')[0]; tile.focus(); tile.click()")
    for key, k in (("ArrowLeft", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        browser.chromium("Input.dispatchKeyEvent", type="keyDown", key=key)
        assert text(browser, "layer-title") == t.rows[k].name
        assert browser.run("return document.activeElement.querySelector('.name').textContent") == t.rows[k].name


@pytest.mark.parametrize("width", [1280, 390])
def test_layers_of_a_deep_net_are_told_apart_by_the_ends_of_their_names(width, browser, tmp_path):
    nets = [Sequential([Sequential([Dense(6, 6, rng=0) for _ in range(12)])]) for _ in range(2)]
    t = traced(Autoencoder(*nets), np.ones((5, 6), np.float32))
    opened(browser, t.to_html(tmp_path / "deep.html"), width)
    seen = browser.run("""return [...document.querySelectorAll(".tile .name")].map((name) => {
        const end = document.createRange(), at = name.firstChild.length, box = name.getBoundingClientRect();
        end.setStart(name.firstChild, at - 2);
        end.setEnd(name.firstChild, at);
        const { left, right } = end.getBoundingClientRect();
        return [name.textContent, name.scrollWidth > name.clientWidth, left >= box.left && right <= box.right + 0.5];
    })""")
    assert [name for name, *_ in seen] == [row.name for row in t.rows]
    assert any(cut for _, cut, _ in seen) and all(whole for *_, whole in seen)
    check_page(browser, width)


def test_a_long_kind_breaks_between_its_words_and_within_one_with_a_hyphen(pages, browser):
    t, = pages("bernoulli-vae")
    seen = browser.run("return [...document.querySelectorAll('.tile .kind')].map((kind) => kind.textContent)")[1:-1]
    assert [re.sub("[\u200b\u00ad]", "", kind) for kind in seen] == [described(row.layer) for row in t.rows]
    whole = {kind: kind.replace("\u200b", "|").replace("\u00ad", "-") for kind in seen}.values()
    assert "|Reparame-terize" in whole and "|Conv|Transpose|2d + relu" in whole and "|Conv|2d + relu" in whole
    scripts = browser.run("return [...document.scripts].map((script) => script.textContent).join()")
    assert "breakable" in scripts and "(?<" not in scripts, "with a lookbehind a browser of 2022 shows nothing"


def test_on_paper_nothing_is_cut_off(pages, browser):
    pages("bernoulli-vae", 720)
    cut = """return [...document.querySelectorAll("main, .strip, pre, .scroll")]
        .filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.className || box.tagName)"""
    assert "strip" in browser.run(cut)  # on a screen this wide it scrolls
    browser.chromium("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.run(cut) == []
    finally:
        browser.chromium("Emulation.setEmulatedMedia", media="")


def test_what_is_wrong_stands_on_the_page_and_at_its_layer(tmp_path, browser):
    model = dense()
    model.encoder.layers[1].b.value[...] = -100
    t = traced(model, pictures(n=40).train_x / np.float32(255))
    assert any("dead units" in flag for flag in t.flags)
    browser.open(t.to_html(tmp_path / "wrong.html"))
    ready(browser)
    assert browser.run("return [...document.querySelectorAll('#flags li')].map((li) => li.textContent)") == t.flags
    marked = browser.run("return [...document.querySelectorAll('.tile.wrong .name')].map((b) => b.textContent)")
    assert marked == [row.name for row in t.rows if any(flag.startswith(f"{row.name} ") for flag in t.flags)]
    browser.run("npae.told.frames[0].rows[1].dead = 0.75; npae.told.frames[0].rows[1].saturated = 0.1234;"
                "npae.show({ layer: 1 })")
    assert text(browser, "layer-hint").endswith(
        "; 75 % of its units are off in the whole batch; 12.3 % of its numbers lie at a flat end")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv-ae", "conv-vae", "mlp-vae", "tied-ae"])
def test_a_scrubbed_training_fits_into_three_megabytes_and_redraws_within_a_frame(name, browser, tmp_path):
    from npae.cli import main

    path = tmp_path / "series.html"
    assert main(["trace", name, "--every", "2" if name == "mlp-vae" else "20", "--html", str(path)]) == 0
    assert path.stat().st_size <= 3_000_000
    for width in (1280, 390):
        opened(browser, path, width)
        check_page(browser, width)
        took = browser.run("""return Array.from({ length: 200 }, (_, i) => npae.show({
            frame: i % npae.told.frames.length, layer: i % npae.told.layers.length })).sort((a, b) => a - b)""")
        assert np.median(took) <= 16
    pictures_shown = browser.run("return npae.told.pictures.shape[0]")
    size = path.stat().st_size / 1e6
    print(f"\n{name}: {size:.2f} MB, {pictures_shown} pictures, a redraw in {np.median(took):.1f} ms", end="")
    assert browser.run("return npae.told.frames.length") == 20
