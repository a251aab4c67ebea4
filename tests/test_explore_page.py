"""The explorer in a headless Chromium: its engine against npae layer by layer, its pictures against `model.decode`, its
speed, and what a visitor can do with it. Skipped where no chromium is installed."""
import itertools

import numpy as np
import pytest
from browser import MISSING
from explorables import dense, labelled, of_recipe, pictures, some_codes, tied

from npae import explore
from npae.explore import web
from npae.lab.catalogue import cases
from npae.layers import Reparameterize
from npae.recipes import RECIPES

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
LEVEL = 1 / 255  # of the grey levels


@pytest.fixture(scope="module")
def pages(tmp_path_factory, browser):
    """open(name) shows the page of a model, written once; returns (model, data set)."""
    folder, known = tmp_path_factory.mktemp("pages"), {}
    kinds = {"labelled": (labelled, "none", (28, 28, 1)), "dense": (dense, "none", (28, 28, 1)),
             "sigmoid code": (lambda: dense(3, activation="sigmoid"), "none", (28, 28, 1)),
             "64 numbers": (lambda: dense(64), "none", (28, 28, 1)), "tied": (tied, "none", (6, 9, 3)),
             "one number": (lambda: dense(1, (5, 7, 1)), "none", (5, 7, 1))}

    def show(name, width=1280, dark=False):
        path = folder / f"{name.replace(' ', '-')}.html"
        if name not in known:
            make, binarize, shape = kinds.get(name, (None, None, (28, 28, 1)))
            dataset = pictures(shape)
            if make:
                model = make()
            else:
                model, settings = of_recipe(name, dataset)
                binarize = settings["binarize"]
            path.write_text(explore.page(model, dataset, recipe=name, binarize=binarize, figure="error 0.1 per pixel"))
            known[name] = model, dataset
        browser.look(width, dark=dark)
        browser.mouse("mouseMoved", 1, 1)  # off the plane
        for kind in ("performance", "browser"):
            browser.log(kind)
        browser.open(path)
        return known[name]

    return show


def decoded(browser, z, y):
    """What the page decodes, (N, pixels)."""
    return np.array(browser.run("return arguments[0].map((z, n) => npae.decode(z, arguments[1]?.[n]))", z.tolist(),
                                None if y is None else y.tolist()))


def on_canvas(browser, element="decoded"):
    """The grey levels of a canvas, (H, W, 3)."""
    size, values = browser.run("""
        const c = document.getElementById(arguments[0]);
        return [[c.height, c.width], Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)]""",
                               element)
    rgba = np.array(values).reshape(*size, 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3] / 255


def frame(browser):
    """Wait until what was asked for has been drawn."""
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def box(browser, element):
    return browser.run("""
        const e = document.getElementById(arguments[0]);
        e.scrollIntoView({ block: "center" });
        const b = e.getBoundingClientRect();
        return [b.left, b.top, b.width, b.height]""", element)


def text(browser, element):
    return browser.run("return document.getElementById(arguments[0]).textContent", element)


def shown_code(browser):
    return [float(number.replace("\N{MINUS SIGN}", "-")) for number in text(browser, "code").split(", ")]


# -- the engine, layer by layer --


@pytest.fixture(scope="module")
def engine(tmp_path_factory, browser):
    """run(jobs) -> outputs: the engine on an otherwise empty page; a job is (description, parameters, x)."""
    path = tmp_path_factory.mktemp("engine") / "engine.html"
    code = (web.files("npae.lab") / "pages" / "engine.js").read_text("utf-8")
    path.write_text(f'<!doctype html><meta charset="utf-8"><script>{code}</script>')
    browser.open(path)

    def run(*jobs):
        found = browser.run("""
            return arguments[0].map(([layer, params, shape, rows]) => {
                const net = engine.make(layer, shape, engine.parameters(params));
                return [rows.map((x) => Array.from(net.run(Float32Array.from(x)))), net.shape];
            })""", [[layer, params, x.shape[1:], x.reshape(len(x), -1).tolist()] for layer, params, x in jobs])
        return [np.array(y).reshape(len(y), *shape) for y, shape in found]

    return run


def test_the_engine_computes_every_layer_of_the_catalogue(engine):
    rng = np.random.default_rng(0)
    jobs, expected, names = [], [], []
    for case in cases():
        layer = case.make(rng)
        if any(isinstance(part, Reparameterize) for part in layer.walk()):  # a sample, in training alone
            with pytest.raises(ValueError, match="cannot run Reparameterize"):
                web.description(layer)
            continue
        params = {p.name: web.packed(p.value, "<f4") for p in layer.params}
        for shape in case.input_shapes:
            x = rng.standard_normal(shape).astype(np.float32)
            x[0].flat[::3] = 0  # which the engine leaves out
            jobs.append((web.description(layer), params, x))
            expected.append(layer.forward(x))
            names.append(f"{case.name} on {shape}")
    assert len(jobs) > 80
    for name, found, y in zip(names, engine(*jobs), expected, strict=True):
        assert found.shape == y.shape, name
        np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5 * np.abs(y).max(), err_msg=name)


def test_a_shift_adds_its_offset(engine):
    x, offset = (np.random.default_rng(n).standard_normal((2, 3, 4, 2)[n:]).astype(np.float32) for n in (0, 1))
    found, = engine(({"layer": "Shift", "offset": offset.tolist()}, {}, x))
    np.testing.assert_allclose(found, x + offset, rtol=1e-6)


def test_activations_at_their_ends(engine):
    x = np.array([[-200, -30, -1e-8, 0, 1e-8, 30, 200]], np.float32)
    for kind, y in (("Sigmoid", [0, np.exp(-30), 0.5, 0.5, 0.5, 1, 1]), ("ReLU", [0, 0, 0, 0, 1e-8, 30, 200]),
                    ("Softplus", [0, np.exp(-30), np.log(2), np.log(2), np.log(2), 30, 200])):
        np.testing.assert_allclose(engine(({"layer": kind}, {}, x))[0], [y], rtol=1e-5, atol=1e-30)


def test_the_page_and_npae_agree_on_the_layers_that_the_page_knows(engine, browser):
    assert browser.run("return Object.keys(engine.LAYERS)") == list(web.LAYERS)
    with pytest.raises(RuntimeError, match="the page does not know the layer Swish"):
        engine(({"layer": "Swish"}, {}, np.zeros((1, 2), np.float32)))


# -- pictures and codes --


def compare_with_decode(name, pages, browser, n):
    model, _ = pages(name)
    z, y = some_codes(model, n)
    expected = model.decode(z, y)
    found = decoded(browser, z, y).reshape(expected.shape)
    assert np.abs(found - expected).max() <= LEVEL / 100  # the page's own numbers
    for k in range(min(n, 5)):  # and what it draws, which has 256 levels
        browser.run("npae.show(...arguments)", z[k].tolist(), *([] if y is None else [int(y[k])]))
        canvas = on_canvas(browser)
        assert np.abs(canvas - expected[k].clip(0, 1)).max() <= LEVEL
        assert np.ptp(canvas) > 10 * LEVEL
    return expected


@pytest.mark.parametrize("name", ["bernoulli-vae", "labelled", "sigmoid code", "tied", "one number"])
def test_a_page_draws_what_the_model_decodes(name, pages, browser):
    compare_with_decode(name, pages, browser, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_for_100_codes_a_page_draws_what_the_recipes_model_decodes(name, pages, browser):
    expected = compare_with_decode(name, pages, browser, 100)
    assert expected.std(axis=0).max() > 0.02  # or all pictures would be the same


@pytest.mark.parametrize("name", ["bernoulli-vae", "conv-ae", "labelled", "tied"])
def test_a_page_encodes_as_the_model_does(name, pages, browser):
    model, dataset = pages(name)
    x = dataset.test_x[:7] / np.float32(255)
    y = None if model.classes is None else dataset.test_y[:7]
    z = model.encode(x, y)
    found = browser.run("return arguments[0].map((x, n) => npae.encode(x, arguments[1]?.[n]))",
                        x.reshape(7, -1).tolist(), None if y is None else y.tolist())
    np.testing.assert_allclose(found, z, rtol=1e-4, atol=1e-4 * np.abs(z).max())


def test_a_page_with_coarse_weights_still_draws_the_same_and_reads_nearly_the_same(browser, tmp_path, monkeypatch):
    model, dataset = dense(), pictures()
    monkeypatch.setattr(web, "PRECISIONS", (("<i2", "|i1"),))
    path = tmp_path / "coarse.html"
    path.write_text(explore.page(model, dataset))
    browser.open(path)
    z, _ = some_codes(model, 20)
    assert np.abs(decoded(browser, z, None).reshape(20, 28, 28, 1) - model.decode(z)).max() <= LEVEL
    x = dataset.test_x[:20] / np.float32(255)
    z = model.encode(x)
    found = browser.run("return arguments[0].map((x) => npae.encode(x))", x.reshape(20, -1).tolist())
    assert 0 < np.abs(found - z).max() < 0.1 * z.std(axis=0).max()


def test_wrong_codes_labels_and_pictures_are_told_in_a_sentence(pages, browser):
    pages("labelled")
    for script, words in (("npae.decode([1, 2, 3], 0)", "a code of this model has 2 numbers, got 3"),
                          ("npae.decode([1, 2], 10)", "this model needs a label from 0 to 9, got 10"),
                          ("npae.decode([1, 2])", "this model needs a label from 0 to 9, got undefined"),
                          ("npae.encode([1], 0)", "a picture of this model has 784 numbers, got 1")):
        with pytest.raises(RuntimeError, match=words):
            browser.run(script)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_decode_and_draw_is_quick(name, pages, browser):
    model, _ = pages(name)
    z, y = some_codes(model, 100)
    took = browser.run("return arguments[0].map((z, n) => npae.show(z, arguments[1]?.[n]))", z.tolist(),
                       None if y is None else y.tolist())
    print(f"\n{name}: median {np.median(took):.1f} ms, 95 % {np.percentile(took, 95):.1f} ms")
    assert np.median(took) <= (16 if model.latent == 2 else 40)


# -- what a visitor sees and does --


@pytest.mark.parametrize("name", ["bernoulli-vae", "64 numbers", "tied", "labelled"])
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_page_fits_asks_the_network_for_nothing_and_has_nothing_to_complain_of(name, width, dark, pages, browser):
    pages(name, width, dark)
    frame(browser)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    parts = browser.run("""return [".pair", ".codes", ".controls"].map((part) => {
        const e = document.querySelector(part), b = e.getBoundingClientRect();
        return [b.left, b.top, b.left + e.scrollWidth, b.top + e.scrollHeight]; })""")
    for (left, top, right, bottom), (x, y, z, w) in itertools.combinations(parts, 2):
        assert right > left and bottom > top and (right <= x or z <= left or bottom <= y or w <= top)  # side by side
    browser.check_silent()
    body = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, body[4:-1].split(", "))) < 200) == dark


def test_a_page_says_what_it_shows(pages, browser):
    pages("bernoulli-vae")
    assert text(browser, "title") == "What 2 numbers can draw"
    assert text(browser, "facts") == "recipe bernoulli-vaetrained on barson 90 test pictures error 0.1 per pixel"
    assert "28 × 28 pixels" in text(browser, "lead")
    assert text(browser, "legend") == "0123456789"
    assert browser.run("return document.getElementById('time').textContent").endswith("ms, drawing included")


def plane_of(z):
    """(z1, z2) at a place of the plane, a fraction of its width and height: a margin of 7 % around codes and origin."""
    low, high = np.vstack([z, [[0, 0]]]).min(axis=0), np.vstack([z, [[0, 0]]]).max(axis=0)
    half = 0.57 * (high - low).max()
    return lambda x, y: (low + high) / 2 + half * np.array([2 * x - 1, 1 - 2 * y])


def test_a_dot_and_the_pointer_stand_where_the_axes_say(pages, browser):
    model, dataset = pages("bernoulli-vae")
    z = model.encode((dataset.test_x > 127).astype(np.float32))
    place = plane_of(z)
    left, top, width, height = box(browser, "marker")
    wide, tall = width - 38 - 10, height - 10 - 28  # the page's margins
    for x, y in ((0.1, 0.9), (0.8, 0.25)):
        browser.mouse("mouseMoved", left + 38 + x * wide, top + 10 + y * tall)
        frame(browser)
        np.testing.assert_allclose(browser.run("return npae.code()"), place(x, y), atol=2 * np.ptp(z) / wide)
    low, high = place(0, 1), place(1, 0)
    n = np.abs(z - z.mean(axis=0)).sum(axis=1).argmax()  # a dot away from the others
    x, y = (z[n] - low) / (high - low) * [wide, -tall] + [38, 10 + tall]
    ground = browser.run("return Array.from(document.getElementById('ground').getContext('2d')"
                         ".getImageData(arguments[0], arguments[1], 1, 1).data)", int(x), int(y))
    hue = ["#4c8fd0", "#f08c2e", "#3fa656", "#e0525a", "#9a6fd0", "#a9765a", "#e07fc0", "#8f959e", "#b8a832",
           "#34b3c0"][dataset.test_y[n]]
    assert ground[3] > 180 and np.abs(np.array(ground[:3]) - list(bytes.fromhex(hue[1:]))).max() < 25


def test_moving_over_the_plane_decodes_and_a_click_holds(pages, browser):
    model, _ = pages("bernoulli-vae")
    left, top, width, height = box(browser, "marker")
    codes = []
    for x, y in ((0.3, 0.4), (0.6, 0.4), (0.6, 0.7)):
        browser.mouse("mouseMoved", left + x * width, top + y * height)
        frame(browser)
        codes.append(shown_code(browser))
        x = model.decode(np.float32([browser.run("return npae.code()")]))[0]
        assert np.abs(on_canvas(browser) - x).max() <= LEVEL
    assert codes[0][0] < codes[1][0] == codes[2][0] and codes[0][1] == codes[1][1] > codes[2][1]
    browser.mouse("mousePressed", left + 0.6 * width, top + 0.7 * height, "left")
    browser.mouse("mouseReleased", left + 0.6 * width, top + 0.7 * height, "left")
    browser.mouse("mouseMoved", left + 0.2 * width, top + 0.2 * height)
    frame(browser)
    assert shown_code(browser) == codes[2] and "Held" in text(browser, "hint")
    assert "no original" in text(browser, "caption")
    assert browser.run("return document.getElementById('source').className") == "empty"


def test_a_finger_on_the_plane_decodes_too(pages, browser):
    pages("bernoulli-vae", 390)
    left, top, width, height = box(browser, "marker")
    codes = []
    for kind, x in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.8)):
        point = {"x": left + x * width, "y": top + 0.5 * height}
        browser.chromium("Input.dispatchTouchEvent", type=kind, touchPoints=[point])
        frame(browser)
        codes.append(shown_code(browser)[0])
    browser.chromium("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert codes == sorted(codes) and codes[0] < codes[2]


def test_the_arrow_keys_move_the_code(pages, browser):
    pages("bernoulli-vae")
    browser.run("document.getElementById('reset').click(); document.getElementById('marker').focus()")
    for key, expected in (("ArrowRight", [0.1, 0]), ("ArrowUp", [0.1, 0.1]), ("ArrowLeft", [0, 0.1])):
        browser.chromium("Input.dispatchKeyEvent", type="keyDown", key=key)
        frame(browser)
        assert shown_code(browser) == pytest.approx(expected)


def test_sliders_begin_with_the_liveliest_numbers_and_all_can_be_shown(pages, browser):
    model, dataset = pages("64 numbers")
    z = model.encode(dataset.test_x / np.float32(255))
    order = [i + 1 for i in np.argsort(-z.std(axis=0), kind="stable")]
    names = "return [...document.querySelectorAll('.slider span')].map((s) => s.textContent)"
    assert browser.run(names) == [f"z{i}" for i in order[:12]]
    assert text(browser, "all") == "show all 64"
    browser.run("document.getElementById('all').click()")
    assert browser.run(names) == [f"z{i}" for i in order]
    browser.look(390)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    code = np.array(browser.run("""
        const input = document.querySelectorAll(".slider input")[20];
        input.value = input.max;
        input.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll(".slider output")].map((o) => o.textContent)"""))
    frame(browser)
    after = browser.run("return [...document.querySelectorAll('.slider output')].map((o) => o.textContent)")
    assert [k for k in range(64) if code[k] != after[k]] == [20]


@pytest.mark.parametrize("name", ["sigmoid code", "bernoulli-vae"])
def test_sliders_reach_as_far_as_the_codes(name, pages, browser):
    model, dataset = pages(name)
    seen = (dataset.test_x > 127) if name == "bernoulli-vae" else dataset.test_x / np.float32(255)
    reach = explore.ranges(model.encode(seen.astype(np.float32)), name == "bernoulli-vae")
    found = browser.run("""return [...document.querySelectorAll(".slider")].map((row) => [
        Number(row.querySelector("span").textContent.slice(1)),
        ...["min", "max", "step"].map((key) => Number(row.querySelector("input")[key]))])""")
    assert [row[1:] for row in sorted(found)] == [pytest.approx(row) for row in reach]


def test_the_buttons_take_a_test_picture_a_draw_from_the_prior_and_the_way_back(pages, browser):
    model, dataset = pages("bernoulli-vae")
    seen = (dataset.test_x > 127).astype(np.float32)
    codes = set()
    for _ in range(4):
        browser.run("document.getElementById('test').click()")
        original = on_canvas(browser, "original")[..., 0]
        n = np.abs(seen[..., 0] - original).sum(axis=(1, 2)).argmin()
        assert (seen[n, ..., 0] == original).all()
        np.testing.assert_allclose(shown_code(browser), model.encode(seen[n:n + 1])[0], atol=0.0051)
        assert text(browser, "caption") == f"a test picture, label\N{NO-BREAK SPACE}{dataset.test_y[n]}"
        codes.add(text(browser, "code"))
    assert len(codes) > 1
    drawn = browser.run("""return Array.from({ length: 40 }, () => {
        document.getElementById("prior").click();
        return npae.code(); }).flat()""")
    assert abs(np.mean(drawn)) < 0.5 and 0.7 < np.std(drawn) < 1.3
    browser.run("document.getElementById('reset').click()")
    frame(browser)
    assert shown_code(browser) == [0, 0]
    pages("dense")
    assert browser.run("return document.getElementById('prior').hidden")


def test_a_conditional_page_paints_the_label_that_is_pressed(pages, browser):
    model, _ = pages("labelled")
    browser.run("document.getElementById('reset').click()")
    for label in (7, 2):
        browser.run("document.getElementById('label-buttons').children[arguments[0]].click()", label)
        frame(browser)
        assert browser.run("return [...document.querySelectorAll('#label-buttons [aria-pressed=true]')]"
                           ".map((b) => b.textContent)") == [str(label)]
        x = model.decode(np.zeros((1, 2), np.float32), np.array([label]))[0]
        assert np.abs(on_canvas(browser) - x).max() <= LEVEL


def draw(browser, points):
    left, top, width, height = box(browser, "pad")
    (x, y), *others = [(left + x * width, top + y * height) for x, y in points]
    browser.mouse("mouseMoved", x, y)
    browser.mouse("mousePressed", x, y, "left")
    for x, y in others:
        browser.mouse("mouseMoved", x, y, "left")
    browser.mouse("mouseReleased", x, y, "left")
    frame(browser)


@pytest.mark.parametrize("name", ["dense", "bernoulli-vae"])
def test_a_drawing_is_centred_encoded_and_decoded(name, pages, browser):
    model, dataset = pages(name)
    draw(browser, [(0.1, 0.1), (0.1, 0.3), (0.12, 0.5)])  # small, and in a corner
    seen = on_canvas(browser, "original")[..., 0]
    i, j = np.indices(seen.shape)
    assert [(seen * i).sum() / seen.sum(), (seen * j).sum() / seen.sum()] == pytest.approx([13.5, 13.5], abs=0.5)
    rows = np.nonzero(seen.max(axis=1) > 0.3)[0]
    extent = explore.codes.drawing(dataset.test_x / np.float32(255))["extent"]
    assert abs(np.ptp(rows) + 1 - extent) <= 2
    assert (set(np.unique(seen)) == {0, 1}) == (name == "bernoulli-vae")  # which was trained on black and white
    z = model.encode(seen[None, ..., None].astype(np.float32))
    np.testing.assert_allclose(browser.run("return npae.code()"), z[0], rtol=1e-4, atol=1e-5)  # other sums of float32
    assert np.abs(on_canvas(browser) - model.decode(z)[0]).max() <= 1.5 * LEVEL
    assert "your drawing" in text(browser, "caption")
    before = text(browser, "code")
    draw(browser, [(0.3, 0.5), (0.7, 0.5)])
    assert text(browser, "code") != before  # a second stroke joins the first
    browser.run("document.getElementById('clear').click()")
    assert browser.run("""
        const pad = document.getElementById("pad");
        const rgba = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height).data;
        return rgba.every((v, i) => v === (i % 4 === 3 ? 255 : 0))""")


def test_a_dot_is_a_drawing_too(pages, browser):
    pages("dense")
    draw(browser, [(0.5, 0.5), (0.5, 0.5)])
    seen = on_canvas(browser, "original")[..., 0]
    assert 2 < seen.sum() < 40


@pytest.mark.parametrize("name", ["bernoulli-vae", "labelled"])
def test_the_plane_in_pictures_shows_what_its_places_decode_to(name, pages, browser):
    model, _ = pages(name)
    browser.run("document.getElementById('view-pictures').click()")
    left, top, width, height = box(browser, "marker")
    cell = [(width - 38 - 10) / 18, (height - 10 - 28) / 18]  # the page's margins, and its 18 pictures a side
    for i, j in ((0, 0), (17, 3), (17, 17)):
        x, y = 38 + (j + 0.5) * cell[0], 10 + (i + 0.5) * cell[1]
        browser.mouse("mouseMoved", left + x, top + y)
        seen = []
        for label in (0, 3) if model.classes else (None,):
            browser.run("document.getElementById('label-buttons').children[arguments[0]]?.click()", label or 0)
            frame(browser)
            z = np.float32([browser.run("return npae.code()")])
            expected = model.decode(z, None if label is None else np.array([label])).mean()
            for _ in range(200):  # the pictures come a row a frame
                frame(browser)
                rgba = browser.run("return Array.from(document.getElementById('ground').getContext('2d')"
                                   ".getImageData(...arguments).data)", x - cell[0] / 2, y - cell[1] / 2, *cell)
                seen.append(np.mean(rgba[::4]) / 255)
                if min(rgba[3::4]) == 255 and abs(seen[-1] - expected) < 0.01:
                    break
            assert abs(seen[-1] - expected) < 0.01
        assert not model.classes or np.ptp(seen) > 0.01  # another label, other pictures
    assert browser.run("return document.getElementById('legend').hidden")
