"""`npae gradcheck` on a class of one's own, by other estimates, along directions, and what it writes and draws."""

import json

import matplotlib.image
import pytest

from npae.cli import main
from npae.lab import gradients, own

LAYERS = '''
import numpy as np
from npae.params import Param

class Right:
    def __init__(self, n_in=4, n_out=3, scale=1.0):
        rng = np.random.default_rng(0)
        self.W, self.b = Param("W", scale * rng.normal(size=(n_in, n_out))), Param("b", rng.normal(size=n_out))
        self.params = (self.W, self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W.value + self.b.value

    def backward(self, dy):
        self.W.grad += self.x.T @ dy
        self.b.grad += dy.sum(axis=0)
        return dy @ self.W.value.T

class Mean(Right):
    def backward(self, dy):
        dx = super().backward(dy)
        self.b.grad += dy.mean(axis=0) - dy.sum(axis=0)
        return dx

class Needs:
    params = ()

    def __init__(self, size):
        self.size = size

    def forward(self, x):
        return x.reshape(len(x), self.size)

    def backward(self, dy):
        return dy

class Pictures:
    params = ()

    def forward(self, x):
        self.shape = x.shape
        return x.transpose(0, 3, 1, 2)[:, :, ::2] * 2

    def backward(self, dy):
        dx = np.zeros(self.shape)
        dx[:, ::2] = 2 * dy.transpose(0, 2, 3, 1)
        return dx
'''


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "my_layers.py"
    path.write_text(LAYERS)
    return str(path)


def test_a_class_of_ones_own_goes_through_the_protocol(layers, capsys):
    assert main(["gradcheck", f"{layers}:Right"]) == 0
    assert "Layer check of Right, x (3, 4)" in capsys.readouterr().out
    assert main(["gradcheck", f"{layers}:Mean(6, 2, scale=0.5)"]) == 1
    printed = capsys.readouterr().out
    assert "x (3, 6)" in printed
    assert "db is 1/3 × the numeric gradient in all 2 entries: 3 is the batch size" in printed


def test_the_shape_of_a_batch_is_found_or_given(layers, capsys):
    assert main(["gradcheck", f"{layers}:Right(5)", "--shape", "7,5"]) == 0
    assert "x (7, 5)" in capsys.readouterr().out
    assert main(["gradcheck", f"{layers}:Pictures"]) == 1  # it gives float64 for float32
    assert "x (2, 5, 6, 2)" in capsys.readouterr().out


@pytest.mark.parametrize("target, words", [
    ("nothing.py:Right", "there is no file nothing.py"),
    ("{layers}:Wrong", "has no class Wrong: it has Right, Mean, Needs, Pictures"),
    ("{layers}", "names no class: write FILE.py:Class"),
    ("{layers}:Needs", "cannot be made of ()"),
    ("{layers}:Right(print)", "are not numbers, strings or tuples"),
    ("{layers}:Needs(977)", "give it with --shape 4,5"),
])
def test_what_is_no_layer_is_refused_in_a_sentence(layers, target, words, capsys):
    assert main(["gradcheck", target.format(layers=layers)]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_does_not_run_is_refused(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    assert main(["gradcheck", f"{tmp_path}/broken.py:A"]) == 2
    assert "broken.py does not run: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["--method", "complex"], ["--method", "five-point"], ["--fast"]])
def test_the_gradient_alone_by_another_way(how, layers, capsys):
    assert main(["gradcheck", "Conv2d", *how]) == 0
    assert "a second backward" in (printed := capsys.readouterr().out)
    assert "memory order" not in printed and "in Fortran order" not in printed
    assert main(["gradcheck", f"{layers}:Mean", *how]) == 1


def test_a_method_that_does_not_exist_and_a_shape_for_npaes_own(capsys):
    assert main(["gradcheck", "Dense", "--shape", "3,4"]) == 2
    assert "leave --shape out" in capsys.readouterr().err
    assert main(["gradcheck", "my.py:A", "--shape", "3,x"]) == 2
    assert "--shape takes whole numbers above 0 with commas, such as 4,5, got '3,x'" in capsys.readouterr().err
    assert main(["gradcheck", "Dens"]) == 2
    assert "nothing to check is called 'Dens'" in capsys.readouterr().err


def test_reports_are_written_and_curves_drawn(tmp_path, layers, capsys):
    files = {name: str(tmp_path / name) for name in ("a.json", "a.md", "a.png")}
    assert main(["gradcheck", f"{layers}:Mean", "--json", files["a.json"], "--markdown", files["a.md"],
                 "--plot", files["a.png"]]) == 1
    (found,) = json.loads((tmp_path / "a.json").read_text()).values()
    assert found["ok"] is False and "3 is the batch size" in found["explanations"][0]
    assert "**WHY** db is 1/3" in (tmp_path / "a.md").read_text()
    for name in ("a.png", "a-taylor.png"):
        assert matplotlib.image.imread(tmp_path / name).std() > 0.05
    assert capsys.readouterr().out.splitlines()[-1].endswith("a-taylor.png")
    with pytest.raises(ValueError, match="a plot is of one target, got 'all'"):
        gradients.plot("all", tmp_path / "b.png")
    assert [path.name for path in gradients.plot("gaussian_kl", tmp_path / "kl.png")] == ["kl.png"]


def test_every_name_that_is_known_has_a_report():
    """One of each sort; `npae gradcheck all` walks them all."""
    for name in ("Upsample2d", "SquaredError", "sparsity_kl", "SparseAutoencoder", "ae"):
        found = dict(gradients.reports(name))
        assert all(report.ok for report in found.values())
        assert {key.rsplit(", ", 1)[1] for key in found} == {"reference kernels", "fast kernels"}
    assert any("Taylor" in line.claim for report in found.values() for line in report.lines)
    assert not own.is_own("Dense") and own.is_own("a.py:B")


OWN = '''
import numpy as np
from npae.params import Param

class Bias:
    def __init__(self):
        self.b = Param("b", np.ones(4))
        self.params = [self.b]

    def forward(self, x):
        return x + self.b.value

    def backward(self, dy):
        self.b.grad += dy.sum(axis=0)
        return dy.copy()

class Misspelt(Bias):
    def forward(self, x):
        return x + self.c.value

class Exits(Bias):
    def forward(self, x):
        raise SystemExit(0)

class Forgets(Bias):
    def backward(self, dy):
        pass

class Far(Bias):
    def forward(self, x):
        if len(x) == 1:
            raise SystemExit("one image")
        return super().forward(x)

class Talks(Bias):
    def forward(self, x):
        print("x is", x.shape)
        return super().forward(x)

class Untold(Bias):
    def __init__(self):
        self.params = [np.ones(4)]

class Broken(Bias):
    def __init__(self):
        self.b = np.ones(4) @ np.ones(3)

class ChannelsFirst(Bias):
    def __init__(self):
        super().__init__()
        self.W = Param("W", np.random.default_rng(0).normal(size=(4, 3, 1, 1)))
        self.params = [self.W]

    def forward(self, x):
        self.x = x
        return np.einsum("nchw,oc->nohw", x, self.W.value[:, :, 0, 0])

    def backward(self, dy):
        self.W.grad[:, :, 0, 0] += np.einsum("nohw,nchw->oc", dy, self.x)
        return np.einsum("nohw,oc->nchw", dy, self.W.value[:, :, 0, 0])
'''


@pytest.fixture
def own_layers(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def at(words):
    """The number of the line of OWN with these words."""
    return 1 + [words in text for text in OWN.splitlines()].index(True)


@pytest.mark.parametrize("how", [[], ["--fast"]])
@pytest.mark.parametrize("kind, words", [
    ("Misspelt", f"forward raised AttributeError in line {at('self.c.value')}: 'Misspelt' object has no attribute 'c'"),
    ("Exits", f"forward raised SystemExit in line {at('SystemExit(0)')}: 0"),
    ("Forgets", "backward returned None: return dx"),
])
def test_what_does_not_run_is_one_line_of_a_report(kind, words, how, own_layers, tmp_path, capsys):
    assert main(["gradcheck", f"{own_layers}:{kind}", *how, "--plot", str(tmp_path / "a.png")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert f"x (3, 4) FAIL forward and backward run: {words}" in printed
    assert printed.count("FAIL ") == 1 and "1 is wrong: " in printed and "NoneType" not in printed
    assert printed.endswith("does not run") and not (tmp_path / "a.png").exists()


def test_what_ends_python_later_on_is_told_too(own_layers, capsys):
    assert main(["gradcheck", f"{own_layers}:Far"]) == 1
    assert "gradient check with N = 1: raised SystemExit: one image" in " ".join(capsys.readouterr().out.split())


def test_what_a_layer_prints_is_one_line(own_layers, capsys):
    assert main(["gradcheck", f"{own_layers}:Talks"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("x is") == 1
    assert " lines, the first: x is (3, 4)" in printed and "NOTE  the layer printed " in printed
    with own.heard() as heard:
        print("one\ntwo", end="")
    assert (heard.lines, heard.first) == (2, "one")


@pytest.mark.parametrize("kind, words", [
    ("Untold", "params[0] of Untold is an array: a parameter has a value and a grad"),
    ("Broken", f"Broken cannot be made: __init__ raised ValueError in line {at('np.ones(3)')}: matmul"),
])
def test_what_is_no_layer_to_begin_with_is_refused(kind, words, own_layers, capsys):
    assert main(["gradcheck", f"{own_layers}:{kind}"]) == 2
    assert words in capsys.readouterr().err


def test_pictures_with_channels_first_are_tried_too(own_layers, capsys):
    main(["gradcheck", f"{own_layers}:ChannelsFirst"])
    assert "x (2, 3, 5, 6)" in capsys.readouterr().out


@pytest.mark.parametrize("how, words", [
    (["--method", "bogus"], "no estimate is called 'bogus': use one of"),
    (["--method", "central", "--fast"], "the fast mode takes Richardson's differences along directions, not central"),
])
@pytest.mark.parametrize("target", ["Dense", "all", "bernoulli-vae"])
def test_a_wrong_method_is_refused_before_anything_runs(how, words, target, capsys):
    assert main(["gradcheck", target, *how]) == 2
    said = capsys.readouterr()
    assert words in said.err and "report" not in said.out and len(said.err.splitlines()) == 1


def test_names_may_be_in_any_case_and_near_ones_are_offered(capsys):
    assert gradients.called("dense") == "Dense" and gradients.called("ALL") == "all"
    assert gradients.called("a.py:dense") == "a.py:dense"
    assert main(["gradcheck", "FLATTEN"]) == 0
    assert "Flatten(), fast kernels" in capsys.readouterr().out
    assert main(["gradcheck", "Dens"]) == 2
    assert "nothing to check is called 'Dens': did you mean Dense? It is one of all, " in capsys.readouterr().err
    assert main(["gradcheck", "xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_the_walk_says_first_how_long_it_is(monkeypatch, capsys):
    monkeypatch.setattr(gradients, "kinds", lambda: ("Flatten", "sparsity_kl"))
    assert main(["gradcheck"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    number = last.split()[0]
    assert int(number) >= 4 and last.startswith(f"{number} reports in")
    assert first.startswith(f"all that npae has, {number} reports") and "`npae gradcheck Dense` takes one name" in first


@pytest.mark.parametrize("kind", ["Autoencoder", "WeightDecayAutoencoder", "DenoisingAutoencoder", "SparseAutoencoder",
                                  "ConditionalVAE", "reparameterize"])
@pytest.mark.parametrize("option", ["--fast", "--method=complex"])
def test_what_was_not_looked_at_is_not_called_right(kind, option, capsys):
    assert main(["gradcheck", kind, option]) == 2
    said = capsys.readouterr()
    assert "gradient is right" not in said.out
    assert f"{kind} is checked by its whole protocol alone: leave --method, --fast and --plot out" in said.err
