"""check_layer on right layers: nothing that a layer may do is called wrong, and odd makers are dealt with."""

import numpy as np
import pytest
from test_gradcheck import Dense, Param, Tanh
from test_gradcheck_mutants import REFERENCE, REFERENCES, SHAPES, found_by

import npae.params
from npae.gradcheck import Verdict, check_layer


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
    assert [line(check_layer(kind, (4, 5)), claim).status for kind in (Dense, Takes, Options, Stops)] == [
        "NOTE", "PASS", "PASS", "FAIL"]


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
