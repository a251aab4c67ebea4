"""check_layer on right layers: nothing that a layer may do is called wrong, and odd makers are dealt with."""

import re

import numpy as np
import pytest
from test_gradcheck import Dense, Param, Tanh
from test_gradcheck_mutants import REFERENCE, REFERENCES, SHAPES, found_by

import npae.layers
import npae.params
from npae.gradcheck import Verdict, check, check_layer
from npae.gradcheck.contract import is_npaes


@pytest.mark.parametrize("layer", REFERENCES)
@pytest.mark.parametrize("seed", range(3))
def test_a_right_layer_passes_the_whole_protocol(layer, seed):
    rng = np.random.default_rng(seed)
    reference = REFERENCES[layer]
    report = check_layer(layer, SHAPES.get(layer, (4, 5)), reference=reference, seed=seed)
    assert report.ok, str(report)
    assert check_layer(layer, SHAPES.get(layer, (4, 5)), rng=rng, seed=seed).ok


def test_a_layer_made_only_once_is_refused():
    layer = Dense()
    with pytest.raises(ValueError, match="same object twice"):
        check_layer(lambda: layer, (4, 5))


def test_gradients_may_be_added_image_by_image():
    """The second backward then rounds in another order than the first: right, though not the same bits."""
    class ImageByImage(Dense):
        def backward(self, dy):
            for x, row in zip(self.x, dy, strict=True):
                self.W.grad += np.outer(x, row)
                self.b.grad += row
            return dy @ self.W.value.T

    report = check_layer(ImageByImage, (4, 5))
    assert report.ok, str(report)


def test_layers_made_with_other_values_each_time_are_given_the_same():
    seeds = iter(range(1000))
    assert check_layer(lambda: Dense(seed=next(seeds)), (4, 5)).ok


def test_a_bias_of_zeros_does_not_hide_that_it_is_forgotten():
    class ZeroBias(Dense):
        def __init__(self):
            super().__init__()
            self.b.value[...] = 0

        def forward(self, x):
            self.x = x
            return x @ self.W.value

    report = check_layer(ZeroBias, (4, 5), reference=REFERENCES[Dense])
    assert REFERENCE in found_by(report)


def test_inputs_may_be_drawn_from_a_domain():
    class Log:
        params = ()

        def forward(self, x):
            self.x = x
            return np.log(x)

        def backward(self, dy):
            return dy / self.x

    report = check_layer(Log, (4, 3), draw=lambda rng, shape: rng.uniform(0.1, 2, shape), reference=np.log)
    assert report.ok, str(report)


def test_backward_without_forward_is_only_noted_in_a_layer_of_ones_own():
    class Careless(Tanh):
        y = 0.0

    report = check_layer(Careless, (4, 5))
    assert report.ok
    assert line(report, "backward without").status == "NOTE"
    careful = line(check_layer(Tanh, (4, 5)), "backward without")
    assert (careful.status, careful.figure) == ("PASS", "AttributeError")


class ReluDense(Dense):
    """y = max(x W + b, 0) with a small b, which tells nobody its branch."""

    def __init__(self, *args):
        super().__init__(*args)
        self.b.value *= 0.1

    def forward(self, x):
        z = super().forward(x)
        self.mask = z > 0
        return z * self.mask

    def backward(self, dy):
        return super().backward(dy * self.mask)


def line(report, claim):
    """The one line whose claim begins so."""
    (found,) = [line for line in report.lines if line.claim.startswith(claim)]
    return found


@pytest.mark.parametrize("n, n_in, n_out", [(4, 5, 1), (2, 3, 1), (1, 4, 2), (3, 2, 2)])
def test_small_layers_with_dead_units_are_not_called_wrong(n, n_in, n_out):
    """One image in two finds a single unit dead; one pair of vectors in three lies on one side of its kink."""
    for seed in range(40):
        report = check_layer(lambda seed=seed: ReluDense(n_in, n_out, seed), (n, n_in), seed=seed)
        assert report.ok, f"seed {seed}\n{report}"
        assert {line(report, f"no adjoint test in {name}").status for name in ("x", "W", "b")} == {"NOTE"}


def test_a_dead_image_gives_way_to_the_next():
    reports = [check_layer(lambda seed=seed: ReluDense(5, 1, seed), (4, 5), seed=seed) for seed in range(40)]
    assert sum(line(report, "gradient check with N = 1").status == "PASS" for report in reports) >= 32


def test_a_layer_that_is_dead_wherever_one_looks_is_vacuous():
    def dead():
        layer = ReluDense()
        layer.b.value[...] = -1e9, -2e9, -3e9
        return layer

    report = check_layer(dead, (4, 5))
    assert {row.verdict for row in report.rows} == {Verdict.VACUOUS}
    assert not report.ok


def test_one_image_at_which_nothing_can_be_tested_is_a_note():
    class Centred:
        """y = x - mean over the batch: always 0 for a batch of one."""

        params = ()

        def forward(self, x):
            return x - x.mean(axis=0)

        def backward(self, dy):
            return dy - dy.mean(axis=0)

    report = check_layer(Centred, (4, 5))
    assert report.ok, str(report)
    assert line(report, "gradient check with N = 1").status == "NOTE"


@pytest.mark.parametrize("curve", [1e-3, 1e-9])
def test_a_slight_bend_is_not_taken_for_a_wrong_transpose(curve):
    class Bent:
        params = ()

        def forward(self, x):
            self.x = x
            return x + curve * x * x

        def backward(self, dy):
            return dy * (1 + 2 * curve * self.x)

    report = check_layer(Bent, (4, 5))
    assert report.ok, str(report)
    assert line(report, "no adjoint test in x").status == "NOTE"


def test_a_kink_far_out_is_seen_too():
    class Clip:
        """y = min(x + b, 9) for one number and a small b."""

        def __init__(self):
            self.b = Param("b", np.array([0.1]))
            self.params = (self.b,)

        def forward(self, x):
            self.open = x + self.b.value < 9
            return np.where(self.open, x + self.b.value, 9.0).astype(x.dtype)

        def backward(self, dy):
            self.b.grad += (dy * self.open).sum(axis=0)
            return dy * self.open

    report = check_layer(Clip, (2, 1))
    assert report.ok, str(report)
    assert line(report, "no adjoint test in x").status == "NOTE"


def test_a_layer_in_place_of_its_maker_is_refused():
    with pytest.raises(ValueError, match=r"check_layer takes a function that makes a layer.*check\(layer, x\)"):
        check_layer(Dense(), (4, 5))


def test_float32_on_the_way_is_named():
    class Casts(Tanh):
        def forward(self, x):
            return super().forward(x).astype(np.float32)

    report = check_layer(Casts, (4, 5))
    assert line(report, "float64 in, float64 out").status == "FAIL"
    assert any("forward gave float32" in wrong for wrong in report.wrong)


def test_a_backward_without_need_dx_is_noted_and_a_wrong_one_found():
    class Takes(Dense):
        def backward(self, dy, need_dx=True):
            dx = super().backward(dy)
            return dx if need_dx else None

    class Options(Takes):
        def backward(self, dy, **options):
            return super().backward(dy, **options)

    class Stops(Takes):
        def backward(self, dy, need_dx=True):
            return super().backward(dy) if need_dx else None

    claim = "backward(dy, need_dx=False)"
    found = [[line.status for line in check_layer(kind, (4, 5)).lines if line.claim.startswith(claim)]
             for kind in (Dense, Takes, Options, Stops)]
    assert found == [[], ["PASS"], ["PASS"], ["FAIL"]]  # of a layer of one's own it is not asked for
    assert is_npaes(npae.layers.Flatten()) and not is_npaes(Dense())


def test_a_layer_of_ones_own_may_take_its_parameters_from_npae():
    """Its float64 copy has float64 parameters, though Param has a way of its own to be copied."""
    class Own(Dense):
        def __init__(self):
            super().__init__()
            self.W, self.b = (npae.params.Param(p.name, p.value) for p in self.params)
            self.params = (self.W, self.b)

    report = check_layer(Own, (4, 5), reference=REFERENCES[Dense])
    assert report.ok, str(report)


def test_what_a_dead_unit_shows_to_be_wrong_is_not_forgotten_at_a_better_point():
    """dx without the mask: right where every unit is alive, wrong where one is dead."""
    class Unmasked(ReluDense):
        def backward(self, dy):
            super().backward(dy)
            return dy @ self.W.value.T

    reports = [check_layer(lambda seed=seed: Unmasked(3, 1, seed), (1, 3), seed=seed) for seed in range(40)]
    assert sum(not report.ok for report in reports) > 10  # the unit is dead at one first point in two


@pytest.mark.parametrize("size", [1e3, 1e9])
def test_a_bend_far_out_is_seen_where_the_inputs_are_as_large(size):
    class FarClip:
        params = ()

        def forward(self, x):
            self.open = np.abs(x) < size
            return np.clip(x, -size, size)

        def backward(self, dy):
            return dy * self.open

    for seed in range(5):
        report = check_layer(FarClip, (4, 5), draw=lambda rng, shape: size * rng.normal(size=shape), seed=seed)
        assert line(report, "no adjoint test in x").status == "NOTE"
        assert not any(line.status == "FAIL" for line in report.lines), str(report)


def test_a_layer_that_refuses_what_is_outside_its_domain_is_only_noted():
    class Log:
        params = ()

        def forward(self, x):
            if x.min() <= 0:
                raise ValueError("Log expects x > 0")
            self.x = x
            return np.log(x)

        def backward(self, dy):
            return dy / self.x

    report = check_layer(Log, (4, 3), draw=lambda rng, shape: rng.uniform(0.5, 2, shape))
    assert report.ok, str(report)
    said = line(report, "no adjoint test in x").figure
    assert said == "forward does not take every x, it raised ValueError: Log expects x > 0"


def test_layers_without_params_or_with_empty_ones_are_told_so():
    class Bare:
        def forward(self, x):
            return x

    class Empty(Dense):
        def __init__(self):
            super().__init__()
            self.params = (*self.params, Param("c", np.zeros((0, 3))))

    with pytest.raises(ValueError, match=r"Bare has no params: a layer without parameters has params = \(\)"):
        check_layer(Bare, (4, 5))
    with pytest.raises(ValueError, match=r"the parameter 'c' of Empty has no entries, its shape is \(0, 3\)"):
        check_layer(Empty, (4, 5))


def test_a_gradient_that_is_a_number_is_told_to_be_added_in_place():
    class Gain:
        """y = a x with one number a, whose gradient is a number too."""

        def __init__(self):
            self.a = Param("a", np.array(0.7))
            self.a.grad = 0.0
            self.params = (self.a,)

        def forward(self, x):
            self.x = x
            return self.a.value * x

        def backward(self, dy):
            self.a.grad = self.a.grad + (dy * self.x).sum()
            return dy * self.a.value

    report = check_layer(Gain, (4, 5))
    (wrong,) = report.wrong
    assert "gradients are added in place (a: not in place, grad is another array after backward; use grad +=" in wrong


def test_a_reference_of_another_shape_is_no_agreement():
    """One column less, which NumPy would stretch."""
    constant = check_layer(Dense, (4, 5), reference=lambda x, W, b: (x @ W + b)[:, :1])
    assert "y has shape (4, 3), the reference (4, 1)" in line(constant, "forward gives the values").figure


class Forgotten(Dense):
    """Another W each time, and nobody is told of it."""

    def __init__(self):
        super().__init__(seed=None)
        self.params = ()


class Unseeded(Dense):
    def forward(self, x):
        return super().forward(x) + np.random.default_rng().normal(size=(len(x), 3))


@pytest.mark.parametrize("kind", [Forgotten, Unseeded])
def test_layers_that_differ_from_one_to_the_next_are_told_so_once(kind):
    report = check_layer(kind, (3, 5))
    found = line(report, "two new layers with equal parameters give equal values")
    assert (found.status, found.part) == ("FAIL", "state") and found.figure.startswith("y differs by ")
    assert found.figure.endswith(": is a weight missing in params, or noise not drawn from give_rng(rng)?")
    assert line(report, "what compares two layers is left out").status == "NOTE"
    said = " ".join(report.wrong)
    for accusation in ("shared between", "its own cache", "memory order", "when N goes", "from the sum over"):
        assert accusation not in said
    if kind is Forgotten:
        assert [failed for failed in report.lines if failed.status == "FAIL"] == [found]


def test_another_x_of_the_same_size_is_called_that():
    class Adds(Tanh):
        """dx remembers how many forwards there were."""

        count = 0

        def forward(self, x):
            self.count += 1
            return super().forward(x)

        def backward(self, dy):
            return super().backward(dy) * (1 + self.count)

    figure = line(check_layer(Adds, (3, 5)), "backward belongs to the latest forward").figure
    assert figure.endswith("with another x of the same size") and "from 3 to 3" not in figure


class Embedding:
    """y = W[x], x whole numbers: no derivative in x, and a dx of zeros in its place."""

    def __init__(self):
        self.W = Param("W", np.random.default_rng(0).normal(size=(4, 3)))
        self.params = (self.W,)

    def forward(self, x):
        self.x = np.rint(x).astype(int)
        return self.W.value[self.x]

    def backward(self, dy):
        np.add.at(self.W.grad, self.x, dy)
        return np.zeros(self.x.shape, dy.dtype)


def test_what_is_zero_by_design_may_be_named():
    def draw(rng, shape):
        return rng.permutation(np.arange(4.0))[:shape[0]]

    report = check_layer(Embedding, (4,), draw=draw, expect_zero=("x",))
    assert report.ok, str(report)
    assert check_layer(Embedding, (4,), draw=draw).row("x").verdict is Verdict.VACUOUS
    with pytest.raises(ValueError, match="expect_zero names"):
        check_layer(Embedding, (4,), draw=draw, expect_zero=("y",))


def test_a_view_of_x_is_noted_and_in_npaes_own_layers_wrong():
    class Rows:
        params = ()

        def forward(self, x):
            self.shape = x.shape
            return x.reshape(len(x), -1)

        def backward(self, dy):
            return dy.reshape(self.shape)

    class OfNpae(Rows, npae.layers.Flatten):
        """The same, as a layer of npae."""

    report = check_layer(Rows, (2, 3, 4))
    assert report.ok, str(report)
    noted = [found.figure for found in report.lines if found.status == "NOTE"]
    assert "y is a view of x: return a copy; dx is a view of dy: return a copy" in noted
    assert line(check_layer(OfNpae, (2, 3, 4)), "y and dx are fresh").figure == "y is a view of x: return a copy"


def test_a_cache_that_is_handed_out_stays_wrong():
    class Tangent:
        params = ()

        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, dy):
            return dy * (1 - self.y**2)

    assert "its own cache" in line(check_layer(Tangent, (3, 4)), "y and dx are fresh").figure


def raising(method):
    """A layer whose method does something else than to return an array."""
    return lambda act: type("Raising", (Dense,), {method: act})


@pytest.mark.parametrize("made, words", [
    (raising("forward")(lambda self, x: x @ np.ones((7, 2))), r"forward raised ValueError in line \d+: matmul"),
    (raising("forward")(lambda self, x: None), "forward returned None: return y$"),
    (raising("forward")(lambda self, x: [x]), "forward returned a list: return an array$"),
    (raising("forward")(lambda self, x: exit(3)), r"forward raised SystemExit in line \d+: 3"),
    (raising("backward")(lambda self, dy: dy @ self.b.x), r"backward raised AttributeError in line \d+: 'Param'"),
    (raising("backward")(lambda self, dy: None), "backward returned None: return dx$"),
    (raising("backward")(lambda self, dy: (dy, dy)), "backward returned a tuple: return an array$"),
])
def test_what_does_not_run_is_told_once(made, words):
    report = check_layer(made, (4, 5))
    (found,) = report.lines
    assert (found.status, found.claim) == ("FAIL", "forward and backward run") and not report.rows
    assert re.match(words, found.figure), found.figure


def test_the_line_that_is_named_is_the_one_that_raised():
    class Raises(Tanh):
        def backward(self, dy):
            raise ValueError("here")

    number = Raises.backward.__code__.co_firstlineno + 1
    assert check_layer(Raises, (4, 5)).lines[0].figure == f"backward raised ValueError in line {number}: here"


@pytest.mark.parametrize("changed, words", [
    ({"input_shape": ()}, r"input_shape is that of a batch, whole numbers above 0 such as \(4, 5\), got \(\)"),
    ({"input_shape": (0, 4)}, r"got \(0, 4\)"),
    ({"input_shape": 5}, "input_shape is that of a batch.*got 5"),
    ({"seed": None}, "seed is a whole number from 0 on, got None"),
    ({"seed": -1}, "seed is a whole number from 0 on, got -1"),
    ({"entries": 2.5}, "entries is a whole number of at least 1.*got 2.5"),
    ({"rng": 0}, "rng is an int, a generator belongs there"),
    ({"rng": np.random.RandomState(0)}, "rng is a RandomState, a generator belongs there"),
    ({"make_layer": lambda: 5}, "int has no params"),
    ({"make_layer": lambda: Dense}, r"Dense is a class: a layer is checked, such as Dense\(\)"),
])
def test_arguments_that_nothing_can_be_made_of_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        check_layer(**{"make_layer": Dense, "input_shape": (4, 5), **changed})


def test_a_layer_that_can_be_called_is_no_maker():
    class Called(Dense):
        def __call__(self, x):
            return self.forward(x)

    with pytest.raises(ValueError, match="check_layer takes a function that makes a layer"):
        check_layer(Called(), (4, 5))


class Free(Dense):
    """With other params, or other methods."""

    def __init__(self, params=None, **others):
        super().__init__()
        if params is not None:
            self.params = params(self)
        vars(self).update(others)


def bare(name, value):
    return type("Bare", (), {"name": name, "value": value})()


@pytest.mark.parametrize("params, words", [
    (lambda self: [self.W.value], r"params\[0\] of Free is an array: a parameter has a value and a grad"),
    (lambda self: {"W": self.W}, r"params of Free is a dict: make it a tuple of .*, such as \(self.W, self.b\)"),
    (lambda self: lambda: (self.W, self.b), "params of Free is a method: make it a tuple"),
    (lambda self: [Param("W", [[1.0, 2.0]])], "the value of parameter 'W' of Free is a list: make it an array"),
    (lambda self: [bare("W", np.ones(3))], r"the parameter 'W' of Free has no grad: begin with grad = np.zeros_like"),
    (lambda self: [Param("x", np.ones(3))], "the parameter 'x' of Free has the name of the input.*rename it"),
])
def test_parameters_that_are_none_are_refused_in_a_sentence(params, words):
    for act in (lambda: check_layer(lambda: Free(params), (4, 5)), lambda: check(Free(params), np.ones((4, 5)))):
        with pytest.raises(ValueError, match=words):
            act()


@pytest.mark.parametrize("others, words", [
    ({"backward": None}, r"Free has no backward: write backward\(dy\)"),
    ({"backward": lambda dy, lr: dy}, r"backward of Free takes \(dy, lr\), but it is called as backward\(dy\)"),
    ({"forward": lambda: 1}, r"forward of Free takes \(\), but it is called as forward\(x\)"),
])
def test_methods_that_cannot_be_called_are_refused_in_a_sentence(others, words):
    for act in (lambda: check_layer(lambda: Free(**others), (4, 5)), lambda: check(Free(**others), np.ones((4, 5)))):
        with pytest.raises(ValueError, match=words):
            act()


def test_a_parameter_that_is_named_twice_counts_once():
    layer = Free(lambda self: (self.W, self.b, self.W))
    assert [row.name for row in check(layer, np.random.default_rng(0).normal(size=(4, 5))).rows] == ["x", "W", "b"]


class Two:
    """Two layers of one kind, one after the other."""

    def __init__(self):
        self.layers = [Dense(5, 4), Dense(4, 3, seed=1)]
        self.params = [param for layer in self.layers for param in layer.params]

    def forward(self, x):
        return self.layers[1].forward(self.layers[0].forward(x))

    def backward(self, dy):
        return self.layers[0].backward(self.layers[1].backward(dy))


def test_parts_may_share_the_names_of_their_parameters():
    report = check_layer(Two, (3, 5), reference=lambda x, W, b, V, c: (x @ W + b) @ V + c)
    assert report.ok, str(report)
    assert {row.name: row.shape for row in report.rows} == {
        "x": (3, 5), "W": (5, 4), "b": (4,), "W (2)": (4, 3), "b (2)": (3,)}
