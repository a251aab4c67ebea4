"""check_layer on right layers: nothing that a layer may do is called wrong, and odd makers are dealt with."""

import numpy as np
import pytest
from test_gradcheck import Dense, Param, Tanh
from test_gradcheck_mutants import REFERENCE, REFERENCES, SHAPES, found_by

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
    assert [line.status for line in report.lines if line.claim.startswith("backward without")] == ["NOTE"]


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

    class Stops(Takes):
        def backward(self, dy, need_dx=True):
            return super().backward(dy) if need_dx else None

    claim = "backward(dy, need_dx=False)"
    assert [line(check_layer(kind, (4, 5)), claim).status for kind in (Dense, Takes, Stops)] == ["NOTE", "PASS", "FAIL"]
