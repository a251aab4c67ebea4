"""Explanations from Python and by `npae explain`: what is printed, and what does not fit told in a sentence."""
import re

import pytest
from test_explain import every, found

from npae import layers
from npae.cli import main
from npae.lab import explain


def test_an_explanation_prints_its_text_and_shows_itself_in_a_few_lines():
    e = found("Conv2d")
    assert str(e) == e.to_text()
    assert "3d dx, by its indices" in repr(e) and len(repr(e)) < 1200 and len(repr(e.sections[1])) < 60


@pytest.mark.parametrize(("args", "settings", "said"), [
    (("Conv2d", "2,4,4,1"), {}, "Conv2d: shape must be a shape such as (28, 28, 1), got '2,4,4,1'"),
    (("Conv2d", (2, 4, 4.5, 1)), {}, "Conv2d: shape: each size must be an integer of at least 1, got 4.5"),
    (("Dense", (-1, 3)), {}, "Dense: shape: each size must be an integer of at least 1, got -1"),
    (("Conv2d",), {"kernel": (2, 3)}, "Conv2d: kernel must be an integer of at least 1, got (2, 3)"),
    ((3,), {}, "nothing to explain is called 3: use one of Dense")])
def test_what_does_not_fit_is_a_sentence_in_python_too(args, settings, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        explain.explanation(*args, **settings)


# -- the command --


@every
def test_an_explanation_fits_into_a_terminal_of_80_columns(name):
    """But for lines of code, and windows that are drawn side by side."""
    said = [line for section in found(name).sections if section.kind not in ("code", "picture")
            for line in section.lines(80)]
    said += found(name).to_text(80).split("\n\n")[0].splitlines()
    assert max(map(len, said)) <= 80 and max(map(len, said)) > 60


@every
def test_lines_are_as_long_as_the_terminal_is_wide_and_no_longer(name):
    """72 is the least that the command asks for, 100 the most."""
    for width in (72, 73, 79, 88, 95, 100):
        lines = [line for section in found(name).sections if section.kind not in ("code", "picture")
                 for line in section.lines(width)]
        assert width - 12 < max(map(len, lines)) <= width


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
    (["Conv2d", "--stride", "0"], "Conv2d: stride must be an integer of at least 1, got 0"),
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
