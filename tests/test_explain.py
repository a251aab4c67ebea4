"""Explanations: one for every layer, loss and penalty, every number computed and right, and a wrong backward told."""
import gc
import inspect
import itertools
import re
from functools import cache

import numpy as np
import pytest

from npae import layers, losses, penalties
from npae.cli import main
from npae.kernels import reference
from npae.lab import catalogue, explain, oracles
from npae.lab.explain.blocks import Prose, Tables, Worked

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


SHAPES = {"Dense": ["1,1", "3,4"], "TiedDense": ["1,2", "3,1"], "Conv2d": ["1,3,2,2", "1,2,5,1"],
          "ConvTranspose2d": ["1,1,3,1"], "TiedConvTranspose2d": ["1,5,3,2"], "UpsampleConv2d": ["1,1,2,3"],
          "MaxPool2d": ["1,2,4,2"], "AvgPool2d": ["3,3,2,1"], "Upsample2d": ["1,1,3,2"],
          "Upsample2d-bilinear": ["1,3,1,2"],
          "Flatten": ["1,3,1,2"], "Reshape": ["3,7", "1,9"], "Reparameterize": ["1,2", "3,6"], "Bernoulli": ["1,5"],
          "gaussian_kl_sampled": ["3,1"], "sparsity_kl": ["4,1"], "contractive": ["1,3"], "weight_decay": ["1,4"],
          "Gaussian": ["1,1"], "SquaredError": ["1,1"], "ReLU": ["1,1"], "MaskingNoise": ["1,1"]}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes])
def test_another_shape_is_explained_as_well(name, shape):
    sizes = tuple(map(int, shape.split(",")))
    e = explain.explanation(name, sizes)
    assert e.ok, "\n".join(e.section("check")[0].lines())
    first = e.example.arrays[e.example.given[0]]
    assert first.size == np.prod(sizes) or name == "Reparameterize"


WINDOWS = [{"kernel": 3, "stride": 2, "padding": 1}, {"kernel": 2, "stride": 2, "padding": 1},
           {"kernel": 3, "stride": 1, "padding": "same"}, {"kernel": 3, "stride": 2, "padding": "valid"},
           {"kernel": 3, "stride": 2, "padding": "same"}, {"kernel": 4, "stride": 2, "padding": "same"}]
WINDOWED = ["Conv2d", "ConvTranspose2d", "TiedConvTranspose2d", "MaxPool2d", "AvgPool2d"]


@pytest.mark.parametrize("setting", WINDOWS, ids=str)
@pytest.mark.parametrize("name", WINDOWED)
def test_the_formulas_hold_with_a_stride_and_with_padding(name, setting):
    """With s = 1 and p = 0 a wrong sign of either would not be seen."""
    e = explain.explanation(name, (1, 3, 3, 1) if name == "ConvTranspose2d" else (1, 4, 4, 1), **setting)
    assert e.ok, "\n".join(e.section("check")[0].lines())


@pytest.mark.parametrize("name", sorted({*WINDOWED} - {"ConvTranspose2d", "TiedConvTranspose2d"}))
def test_rows_and_columns_have_a_padding_each(name):
    """'same' with stride 2 puts a zero above 5 rows and none before 4 columns."""
    e = explain.explanation(name, (1, 5, 4, 1), kernel=3, stride=2, padding="same")
    assert (e.example.letters["p"], e.example.letters["q"]) == (1, 0)
    assert e.ok, "\n".join(e.section("check")[0].lines())


def test_a_page_draws_the_window_that_was_asked_for():
    usual, other = (explain.explanation("ConvTranspose2d", (1, 2, 2, 1), kernel=kernel).to_html() for kernel in (2, 3))
    pictures = [re.findall(r'src="?data:image/png[^" >]*', text) for text in (usual, other)]
    assert len(pictures[0]) == len(pictures[1]) == 1 and pictures[0] != pictures[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWED)
def test_every_window_is_explained_or_refused_in_a_sentence(name):
    refused = 0
    settings = list(itertools.product((3, 4), (1, 2, 3, 4), (1, 2, 3), ("same", "valid", 1, 2)))
    for rows, kernel, stride, padding in settings:
        try:
            e = explain.explanation(name, (1, rows, 4, 1), kernel=kernel, stride=stride, padding=padding)
        except ValueError as error:
            assert re.search(r": use a |, or padding='same'", str(error)), error
            refused += 1
        else:
            assert e.ok, (rows, kernel, stride, padding)
    assert refused < len(settings) / 3


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_folded_kernel_is_explained_for_other_sizes(kernel):
    assert explain.explanation("UpsampleConv2d", (1, 2, 2, 1), kernel=kernel).ok


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


# -- the command --


@every
def test_an_explanation_fits_into_a_terminal_of_80_columns(name):
    """But for lines of code, and windows that are drawn side by side."""
    said = [line for section in found(name).sections if section.kind not in ("code", "picture")
            for line in section.lines(80)]
    said += found(name).to_text(80).split("\n\n")[0].splitlines()
    assert max(map(len, said)) <= 80 and max(map(len, said)) > 60


def test_the_command_asks_the_terminal_for_its_width(capsys, monkeypatch):
    widths = []
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["explain", "ReLU"]) == 0
        widths.append(len(max(re.split(r"6  The code|7  The check", capsys.readouterr().out)[0].splitlines(), key=len)))
    assert 70 < widths[0] <= 80 < widths[1] <= 100


def test_the_command_prints_a_derivation(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["explain", "conv2D"]) == 0
    text = capsys.readouterr().out
    assert text == found("Conv2d").to_text() + "\n"
    assert "dx[n, h, w, c] = Σ_{i, j, u, v: s i + u − p = h, s j + v − q = w} dcols[n, i, j, u, v, c]" in text
    assert all(len(line) <= 125 for line in text.splitlines())


def test_the_command_takes_a_kernel_a_stride_and_a_padding(capsys):
    assert main(["explain", "conv2d", "--kernel", "3", "--stride", "2", "--padding", "same"]) == 0
    assert "kernel_size=3, stride=2, padding='same'" in " ".join(capsys.readouterr().out.split())
    assert main(["explain", "AvgPool2d", "--padding", "1"]) == 0
    assert "padding=1" in capsys.readouterr().out


def test_the_command_writes_a_page(tmp_path, capsys):
    path = tmp_path / "dense.html"
    assert main(["explain", "dense", "--shape", "3,2", "--html", str(path)]) == 0
    assert f"the explanation of Dense is in {path}" in capsys.readouterr().out
    assert "<title>Dense, explained by npae</title>" in path.read_text("utf-8")


def test_without_a_name_it_lists_what_there_is(capsys):
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(explain.LESSONS)


@pytest.mark.parametrize(("words", "said"), [
    (["convv2d"], "nothing to explain is called 'convv2d': did you mean Conv2d? It is one of Dense, "),
    (["zebra"], "nothing to explain is called 'zebra': use one of Dense, "),
    (["Dense", "--shape", "2,3,4"], "Dense is explained on a batch of shape (N, in), 2 numbers, got --shape 2,3,4"),
    (["Conv2d", "--shape", "9,9,9,9"], "an example of 6561 numbers is too large to be read, 128 is the most"),
    (["Conv2d", "--shape", "1,1,4,1"], "a kernel of (2, 2) does not fit into an input of (1, 4)"),
    (["Reparameterize", "--shape", "2,3"], "needs an even number of columns, got 3"),
    (["Dense", "--html", "page.pdf"], "an explanation is a web page, and page.pdf does not end in .html"),
    (["--shape", "2,3"], "--shape, --kernel, --stride, --padding and --html belong to a LAYER"),
    (["--stride", "2"], "--shape, --kernel, --stride, --padding and --html belong to a LAYER"),
    (["Dense", "--stride", "2"], "Dense is explained without --stride: that is for Conv2d, ConvTranspose2d, Tied"),
    (["UpsampleConv2d", "--padding", "1"], "UpsampleConv2d is explained without --padding: that is for Conv2d, "),
    (["Conv2d", "--kernel", "5"], "a kernel of (5, 5) does not fit into an input of (4, 4) with padding 0"),
    (["Conv2d", "--kernel", "5", "--padding", "same"], "a kernel of 5 x 5 is too large to be read, 16 numbers"),
    (["Conv2d", "--stride", "0"], "stride must be an integer of at least 1, or a pair of them, got 0"),
    (["MaxPool2d", "--padding", "some"], "padding must be 'same', 'valid' or an integer of at least 0, got 'some'"),
    (["ConvTranspose2d", "--stride", "9"], "a picture of 20 x 20 is too large to be read, 128 numbers are the most"),
    (["ConvTranspose2d", "--kernel", "1", "--stride", "3", "--padding", "1", "--shape", "1,2,2,1"],
     "with kernel 1, stride 3 and padding 1 no window meets a pixel"),
    (["TiedConvTranspose2d", "--kernel", "3", "--shape", "1,5,5,1"],
     "5 x 5 pixels become 6 x 6 on the way back, and the padding (0, 0) instead of (1, 1): use a --shape"),
    (["Dense", "--shape", "2,x"], "--shape takes whole numbers above 0")])
def test_a_wrong_word_is_one_sentence(words, said, capsys):
    assert main(["explain", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_a_wrong_gradient_is_exit_status_1(monkeypatch, capsys):
    monkeypatch.setattr(layers.Tanh, "slope", lambda self, y: 1 - y)
    assert main(["explain", "tanh"]) == 1


def test_what_takes_part_in_an_entry_is_marked():
    (section,) = found("Dense").section("entry")
    tables = [block for block in section.blocks if isinstance(block, Tables)]
    for worked, marks in zip([b for b in section.blocks if isinstance(b, Worked)], tables, strict=True):
        used = {(n.name, n.place) for n in worked.numbers if n.name}
        assert used == {(table.name, place) for table in marks.tables for place in table.marked}


def test_what_the_marks_mean_is_said_where_the_first_arrays_stand():
    text = found("Dense").to_text()
    said, marked = text.index("by [ ], is what has a part in the number"), re.search(r"\[−?[\d.]+\]", text)
    assert said < marked.start()
