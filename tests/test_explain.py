"""Explanations: one for every layer, loss and penalty, every number computed and right, and a wrong backward told."""
import gc
import inspect
import re
from functools import cache

import numpy as np
import pytest

from npae import layers, losses, penalties
from npae.kernels import reference
from npae.lab import catalogue, explain, oracles
from npae.lab.explain.blocks import Formula, Prose, Rows, Tables, Worked

STEPS = {"loss", "forward", "derivation", "matrix", "entry", "code", "check"}
NUMBER = re.compile(r"(?<!\w)\N{MINUS SIGN}?\d+(?:\.\d+)?(?:e[+\N{MINUS SIGN}]\d+)?")
H = 1e-4


@cache
def found(name):
    """Its explanation, made once."""
    return explain.explanation(name)


every = pytest.mark.parametrize("name", explain.LESSONS)


def public(kind):
    """The classes made of it in npae's files, however deep, that a user may name."""
    for made in kind.__subclasses__():
        yield from public(made)
        if made.__module__.startswith(("npae.layers", "npae.losses")) and not made.__name__.startswith("_"):
            yield made.__name__


def wanted():
    """Every layer, likelihood and penalty that there is."""
    kinds = {*layers.__all__, *public(layers.Layer)} - {"Layer", "Affine", "Activation", "KINDS", "build"}
    costs = {name for name, f in inspect.getmembers(penalties, inspect.isfunction)
             if f.__module__ == penalties.__name__ and not name.startswith("_")}
    return kinds | set(catalogue.KINDS) | set(public(losses.Likelihood)) | costs


def test_every_layer_loss_and_penalty_has_its_explanation():
    assert len(wanted()) > 30
    assert not {name for name in wanted() if name not in explain.LESSONS and name not in explain.PARTS}
    for name in wanted():
        assert explain.called(name.upper()) in explain.LESSONS


@pytest.mark.parametrize("base", [layers.Layer, layers.Dense, layers.Activation, losses.Likelihood])
def test_a_new_kind_without_its_explanation_would_be_told(base):
    stranger = type("Stranger", (base,), {"__module__": base.__module__})
    assert wanted() - set(explain.LESSONS) - set(explain.PARTS) == {stranger.__name__}
    del stranger
    gc.collect()  # a class is in a circle with itself, and the other tests are to see it no more
    assert not wanted() - set(explain.LESSONS) - set(explain.PARTS)


def test_a_new_penalty_without_its_explanation_would_be_told(monkeypatch):
    def stranger():
        pass

    stranger.__module__ = penalties.__name__
    monkeypatch.setattr(penalties, "stranger", stranger, raising=False)
    assert wanted() - set(explain.LESSONS) - set(explain.PARTS) == {"stranger"}


@every
def test_an_explanation_has_all_its_steps_and_is_right(name):
    e = found(name)
    assert e.ok and {section.kind for section in e.sections} >= STEPS
    assert "NOT" not in e.to_text() and "Every gradient is right." in e.to_text()
    derived = [section.title.split()[1].rstrip(",") for section in e.section("derivation")]
    for row in e.example.report.rows:
        short = e.example.aliases.get(row.name, row.name.rsplit(".", 1)[-1])
        assert f"d{short}" in derived or name == "Reparameterize", f"d{short} is not derived"
    said = [n.name for n in e.section("entry")[0].numbers]
    assert set(derived) <= set(said), "one entry of each is expanded"
    for code in e.section("code")[0].blocks:
        assert code.source.startswith(("def ", "@")) and code.where.startswith("npae/")


@every
def test_an_example_is_made_of_numbers_for_which_nobody_needs_a_calculator(name):
    """Small whole numbers and their halves, quarters and eighths."""
    e = found(name).example
    for given in {*e.given} - {"eps"}:  # noise is drawn
        a = e.arrays[given]
        assert np.array_equal(8 * a, np.rint(8 * a)) and np.abs(a).max() < 20, given


@every
def test_the_chain_rule_adds_up_in_the_printed_tables(name):
    """Each array's gradient times its derivative by the entry, from the tables alone, is the number above them."""
    e = found(name)
    for section in e.section("derivation"):
        *_, worked, tables = section.blocks
        (number,) = worked.numbers
        pairs = list(zip(tables.tables[::2], tables.tables[1::2], strict=True))
        for gradient, partial in pairs:
            meets = {place for place in np.ndindex(partial.array.shape) if place and partial.array[place]}
            assert gradient.marked == partial.marked == meets
        total = sum(value(a.text) * value(b.text) for gradient, partial in pairs
                    for a, b in zip(gradient.numbers, partial.numbers, strict=True))
        assert value(number.text) == pytest.approx(total, rel=1e-4, abs=1e-9), worked.texts
        assert number.text == worked.texts[0].split(" = ")[-1]


def tokens(text):
    """The numbers in a line, those in brackets (indices) left out."""
    while "[" in text:
        text, before = re.sub(r"\[[^\[\]]*\]", "", text), text
        assert text != before, f"unbalanced: {text}"
    return NUMBER.findall(text)


def value(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


@every
def test_every_printed_number_comes_from_an_array_of_the_example(name):
    e = found(name)
    assert len(e.numbers) > 20
    for section in e.sections:
        for block in section.blocks:
            if isinstance(block, Worked):
                printed = [token for text in block.texts for token in tokens(text.split("= ", 1)[1])]
                assert len(printed) == len(block.numbers)
                for token, n in zip(printed, block.numbers, strict=True):
                    assert token in (n.text, f"\N{MINUS SIGN}{n.text}")  # the minus of exp(−x) is the formula's
            if isinstance(block, Tables):
                rows = [line for line in block.lines() if re.fullmatch(r"[][\s\d.e+\N{MINUS SIGN}]*", line)]
                printed = [token for line in rows for token in NUMBER.findall(line)]
                assert sorted(printed) == sorted(n.text for n in block.numbers)
    for n in e.numbers:
        if n.name:
            assert value(n.text) == pytest.approx(e.example.arrays[n.name][n.place], rel=1e-5, abs=1e-12), n


@every
def test_every_printed_gradient_is_what_differences_give(name):
    """Central differences of L by the array's own entry: they know neither the formula nor backward."""
    e, known = found(name), {}
    checked = set()
    for n in e.numbers:
        base = n.name[1:]
        if not n.name.startswith("d") or base not in e.example.losses:
            assert n.name in ("", "L", "dy", "dL", *e.example.given) or n.name in e.example.arrays
            continue
        if n[:2] not in known:
            array = e.example.arrays[base]
            up, down = array.copy(), array.copy()
            up[n.place] += H
            down[n.place] -= H
            L = e.example.losses[base]
            known[n[:2]] = (L(up) - L(down)) / (2 * H)
        assert value(n.text) == pytest.approx(known[n[:2]], rel=2e-5, abs=2e-6), n
        checked.add(n.name)
    assert checked == {section.title.split()[1].rstrip(",") for section in e.section("derivation")}


@every
def test_each_step_has_its_words_and_its_formula_before_its_numbers(name):
    e = found(name)
    (forward,), (matrix,) = e.section("forward"), e.section("matrix")
    kinds = [type(block) for block in forward.blocks]
    assert kinds[:3] == [Prose, Formula, Prose] and set(kinds[3:]) <= {Worked, Tables} and Worked in kinds
    formulas = [line.split(" = ")[0].split("[")[0] for line in forward.blocks[1].texts]
    heads = [block.texts[0].split("[")[0].split(" = ")[0] for block in forward.blocks if isinstance(block, Worked)]
    assert formulas == heads
    for section in e.section("derivation"):
        kinds = [type(block) for block in section.blocks]
        assert kinds[:4] == [Prose, Formula, Prose, Formula] and kinds[-3:] == [Prose, Worked, Tables]
    said = [block.texts[0].split(" = ")[0] for block in matrix.blocks if isinstance(block, Formula)]
    assert len(said) == len(e.section("derivation")) and isinstance(matrix.blocks[-1], Tables)


@every
def test_the_checks_own_figures_are_those_of_the_check(name):
    e = found(name)
    (section,) = e.section("check")
    formulas, differences = (block.rows for block in section.blocks if isinstance(block, Rows))
    for array, _, size, verdict in formulas:
        assert int(size) == e.example.arrays[array].size and verdict == "the same, to rounding"
    own = {f"d{e.example.aliases.get(row.name, row.name.rsplit('.', 1)[-1])}": row for row in e.example.report.rows}
    assert list(own) == [row[0] for row in differences[:len(own)]]
    for label, verified, error, share, verdict in differences:
        passed, total = map(int, verified.split(" of "))
        assert 0 < passed <= total <= e.example.arrays[label].size or name == "Reparameterize"
        assert 0 <= float(error) < 1e-6 and float(share) <= 1 and verdict == "PASS"
        if label in own:
            entries = own[label].entries
            assert total == len(entries) and passed == sum(entry.verdict == "PASS" for entry in entries)
            assert error == f"{max(abs(entry.analytic - entry.numeric) for entry in entries):.1e}"


@pytest.mark.parametrize("name", [name for name in explain.LESSONS if name.split("-")[0] in catalogue.KINDS])
def test_forward_is_that_of_the_oracle(name):
    """Plain loops that share nothing with npae give y; losses and penalties are held against SciPy elsewhere."""
    e = found(name).example
    rng = np.random.default_rng(explain.noise.SEED) if getattr(e.layer, "amount", 0) else None
    expected = oracles.forward(e.layer, e.arrays["x"], rng)
    assert np.allclose(e.arrays["y"], expected, rtol=1e-12, atol=1e-12)
    assert e.arrays["L"] == pytest.approx(float(np.sum(e.arrays["dy"] * expected)), rel=1e-12)


@every
def test_no_number_is_typed_into_the_words(name):
    """Words name sizes and formulas; a decimal in them would be a result that somebody typed."""
    e = found(name)
    settings = {f"{number:g}" for number in e.example.letters.values()}
    for section in e.sections:
        for block in section.blocks:
            if isinstance(block, Prose) and section.kind != "loss":
                assert not set(re.findall(r"\d+\.\d+", block.text)) - settings, block.text


@every
def test_every_letter_is_named_before_it_stands_in_a_formula(name):
    """What is no array of the example and no function that all know is a letter; N stands in words, too."""
    e = found(name)
    (loss,), (forward,) = e.section("loss"), e.section("forward")
    formulas = " ".join(text for section in (forward, *e.section("derivation")) for block in section.blocks
                        if isinstance(block, Formula) for text in block.texts)
    prose = " ".join(block.text for section in e.sections for block in section.blocks if isinstance(block, Prose))
    said = next(block.text for block in loss.blocks if isinstance(block, Prose) and "Letters:" in block.text)
    said += forward.blocks[0].text
    used = set(re.findall(r"[^\W\d_²]\w*", formulas.replace("Σ_", " ").replace("²", " ")))
    plain = {"exp", "log", "expm1", "tanh", "max", "min", "abs", "where", "else", "π", "f"}
    assert not used - plain - {array.lstrip("∂") for array in e.example.arrays} - set(re.findall(r"\w+", said))
    if re.search(r"\bN\b(?!\()", prose + formulas):
        assert re.search(r"\bN( the number of pictures|, in and out are their numbers)", said)


def test_what_takes_part_in_an_entry_is_marked():
    (section,) = found("Dense").section("entry")
    tables = [block for block in section.blocks if isinstance(block, Tables)]
    for worked, marks in zip([b for b in section.blocks if isinstance(b, Worked)], tables, strict=True):
        used = {(n.name, n.place) for n in worked.numbers if n.name}
        assert used == {(table.name, place) for table in marks.tables for place in table.marked}


# -- a wrong backward --

WRONG = {
    "col2im overwrites": ("Conv2d", reference, "col2im", lambda right: lambda cols, g: right(cols, g) * 0.5),
    "W is not transposed": ("Dense", reference, "dense_backward",
                            lambda right: lambda x, W, y, dy, f, dW, db, dx=None, work=None:
                            right(x, W[::-1], y, dy, f, dW, db, dx, work)),
    "the weight gradient is forgotten": ("ConvTranspose2d", reference, "conv2d_weight_grad",
                                         lambda right: lambda x, dy, g: 0 * right(x, dy, g)),
    "every pixel of a window wins": ("MaxPool2d", reference, "max_pool2d_input_grad",
                                     lambda right: lambda dy, winner, g, out=None: right(dy, 0 * winner, g, out)),
    "the half is forgotten": ("Reparameterize", layers.Reparameterize, "_backward", lambda right:
                              lambda self, dz, need_dx: right(self, dz, need_dx) * np.repeat([1, 2], dz.shape[1])),
    "the slope of another": ("Tanh", layers.Tanh, "slope", lambda right: lambda self, y: 1 - y),
    "the mean over pictures is forgotten": ("gaussian_kl", penalties, "gaussian_kl", lambda right:
                                            lambda mu, logvar: (right(mu, logvar)[0], *(len(mu) * g for g in
                                                                                        right(mu, logvar)[1:]))),
    "the kernel is turned": ("Conv2d", reference, "conv2d_input_grad",
                             lambda right: lambda dy, W, g: right(dy, W[::-1, ::-1], g)),
    "no even share": ("AvgPool2d", reference, "avg_pool2d_input_grad", lambda right: lambda dy, g, out=None:
                      4 * right(dy, g)),
    "the mean of the copies": ("Upsample2d", reference, "upsample2d_nearest_input_grad",
                               lambda right: lambda dy, factor, out=None: right(dy, factor) / 4),
    "a bias by the mean": ("Dense", reference, "_sum", lambda right: lambda dz, axes: right(dz, axes) / len(dz)),
    "dropout does not scale": ("Dropout", layers.noise._Noise, "_backward", lambda right: lambda self, dy, need_dx:
                               right(self, dy, need_dx) * (1 - self.amount)),
    "a wrong forward": ("Softplus", layers.Softplus, "f", lambda right: lambda self, x: right(self, x) + 0.125),
}


MEANT = {  # what the last sentence names
    "col2im overwrites": "dx", "W is not transposed": "dx", "the weight gradient is forgotten": "dW",
    "every pixel of a window wins": "dx", "the half is forgotten": "dlogvar, dx", "the slope of another": "dx",
    "the mean over pictures is forgotten": "dmu, dlogvar", "a wrong forward": "y, dx",
    "the kernel is turned": "dx", "no even share": "dx", "the mean of the copies": "dx", "a bias by the mean": "db",
    "dropout does not scale": "dx",
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_the_code_is_told_by_the_explanation(mistake, monkeypatch):
    name, owner, attribute, wrong = WRONG[mistake]
    right = getattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, wrong(right))
    e = explain.explanation(name)
    assert not e.ok
    text = e.to_text()
    assert "off by" in text
    assert f"NOT every gradient is right: look at {MEANT[mistake]} above." in text


def test_a_gradient_that_is_overwritten_is_told_in_a_sentence_of_its_own(monkeypatch):
    right = layers.Conv2d._gradients

    def overwrites(self, x, y, dy, dx):
        self.W.grad[...] = 0
        right(self, x, y, dy, dx)

    monkeypatch.setattr(layers.Conv2d, "_gradients", overwrites)
    e = explain.explanation("Conv2d")
    text = " ".join(e.to_text().split())
    assert not e.ok and "This does NOT hold: a second backward adds the same gradients again (W differs by" in text
    assert "look at a second" not in text and "gradient is right" not in text


def test_what_the_marks_mean_is_said_where_the_first_arrays_stand():
    text = found("Dense").to_text()
    said, marked = text.index("by [ ], is what has a part in the number"), re.search(r"\[−?[\d.]+\]", text)
    assert said < marked.start()
