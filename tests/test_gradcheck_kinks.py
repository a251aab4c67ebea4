"""Where two branches meet there is no derivative: such entries are stepped away from, held, or reported."""

import copy

import numpy as np
import pytest
from test_gradcheck import Model, Relu, SilentRelu

from npae.gradcheck import Verdict, check
from npae.gradcheck.estimate import Slopes, derivative, richardson
from npae.gradcheck.specimen import Specimen, same_branch


@pytest.mark.parametrize("layer", [Relu(), SilentRelu()])
def test_a_relu_at_zero_is_a_kink(layer):
    x = np.array([[1.0, -2.0, 0.0, 3.0]])
    row = check(layer, x).row("x")
    assert [entry.verdict for entry in row.entries] == [Verdict.PASS, Verdict.PASS, Verdict.KINK, Verdict.PASS]
    assert row.entries[2].h < 3e-6
    assert not row.ok


@pytest.mark.parametrize("layer", [Relu(), SilentRelu()])
@pytest.mark.parametrize("distance", np.geomspace(1e-5, 4e-3, 60))
def test_a_kink_is_stepped_away_from(layer, distance):
    """Whatever part of the step the kink is at, the entry is verified with a smaller step, or was far enough away."""
    entry = check(layer, np.array([[distance, 1.0]])).row("x").entries[0]
    assert entry.verdict is Verdict.PASS
    assert entry.h / 4 < distance


def test_no_distance_of_a_kink_deceives_a_silent_function():
    """phi = t + t^2 + J max(t - s, 0): a right gradient never FAILs, wherever s is."""
    jump = 0.7 * 10.0 ** np.arange(-3, 3)
    for s in np.concatenate([np.geomspace(1e-7, 3e-3, 200), np.linspace(0.4, 0.5, 50) * 2e-3]):
        for J in jump:
            for side in (1, -1):
                def phi(t, J=J, s=s, side=side):
                    return t + t * t + J * max(side * t - s, 0.0), True

                found = derivative(phi, 0.0, 0.0, 1.0)
                assert not found.smooth or abs(found.value - 1) <= found.tol, (s, J, side)


@pytest.mark.parametrize("s", 0.6e-3 / 2.0 ** np.arange(14))
def test_a_clip_around_the_very_point_is_noticed_though_it_has_no_corner(s):
    found = derivative(lambda t: (t + min(max(t, -s), s), True), 0.0, 0.0, 1.0)
    assert (found.smooth and abs(found.value - 2) <= found.tol) == (s > 1e-6)


def test_two_richardson_steps_are_exact_for_a_polynomial_of_degree_five():
    levels = [Slopes(h, 3 + 2 * h**2 - h**4, 3 + 2 * h**2 - h**4, True) for h in (1.0, 0.5, 0.25)]
    assert richardson(levels, 1.0).value == 3.0


def test_a_kink_in_one_of_twelve_entries_is_more_than_one_percent():
    x = np.random.default_rng(0).normal(size=(3, 4))
    x[1, 2] = 0
    report = check(Relu(), x)
    assert report.row("x").verdict is Verdict.KINK
    assert "x: 1 KINK and 0 UNRESOLVED of 12 entries, 1% allowed" in str(report)


def test_a_kink_in_one_of_a_hundred_entries_is_let_pass_and_two_are_not():
    x = np.random.default_rng(0).normal(size=(10, 10))
    x[1, 2] = 0
    assert check(Relu(), x).ok
    x[3, 4] = 0
    assert not check(Relu(), x).ok


def test_held_branches_make_a_net_of_kinks_smooth():
    """With the kinks free, some entry has one nearby; held, none has, and the gradient is the same."""
    x = np.random.default_rng(0).normal(size=(200, 6))
    held, free = (check(Model(), x, entries=60, hold_branches=hold) for hold in (True, False))
    assert held.ok
    assert all(entry.h >= 2e-3 for row in held.rows for entry in row.entries)
    assert any(entry.h < 2e-3 for row in free.rows for entry in row.entries)
    assert not any(row.count(Verdict.FAIL) for row in free.rows)


def test_a_held_layer_may_go_on_telling_the_branch_of_its_input():
    class Natural(Relu):
        def forward(self, x):
            self.natural = x > 0
            return super().forward(x)

        def branch_signature(self):
            return self.natural

    x = np.random.default_rng(0).normal(size=(3, 4))
    x[0, 0] = 0
    assert check(Natural(), x, hold_branches=True).ok
    assert not check(Natural(), x).ok


def test_the_signature_of_the_centre_is_a_copy():
    class Reuses(Relu):
        buffer = np.zeros((2, 3), dtype=bool)

        def branch_signature(self):
            return (np.copyto(self.buffer, self.mask), self.buffer)

    specimen = Specimen(Reuses())
    specimen.forward(np.ones((2, 3)))
    centre = specimen.branch()
    specimen.forward(-np.ones((2, 3)))
    assert not specimen.on_branch(centre)


def test_a_held_branch_that_changes_the_value_is_an_error():
    class Shifts(Relu):
        def forward(self, x):
            return super().forward(x) + (self.held is not None)

    report = check(Shifts(), np.random.default_rng(0).normal(size=(3, 4)), hold_branches=True)
    assert "not so: holding the branches leaves the value as it is" in report.wrong[0]


def test_signatures_may_be_nested():
    a = (None, (np.array([True, False]), [np.array([1, 2])]))
    assert same_branch(a, copy.deepcopy(a))
    assert not same_branch(a, (None, (np.array([True, True]), [np.array([1, 2])])))
    assert not same_branch(a, (None, None))
    assert not same_branch(None, np.array([1]))


def test_the_report_names_the_unit_and_how_far_its_kink_is():
    x = np.array([[1.0, 3e-8, -2.0], [0.7, 0.2, -0.3]])
    report = check(Relu(), x)
    (note,) = [line for line in report.lines if line.claim.startswith("KINK")]
    assert note.claim == "KINK at x[0, 1]"
    assert note.figure == "unit [0, 1] changes its branch 3.0e-08 from 3e-08"
    assert "NOTE  KINK at x[0, 1]: unit [0, 1] changes its branch" in str(report)


def test_a_window_is_named_and_a_layer_that_tells_nothing_is_told_so():
    from npae.layers import MaxPool2d

    x = np.arange(16.0).reshape(1, 4, 4, 1)
    x[0, 0, 1] = x[0, 1, 1] - 4e-8
    notes = [line for line in check(MaxPool2d(2), x).lines if line.claim.startswith("KINK")]
    assert [line.claim for line in notes] == ["KINK at x[0, 0, 1, 0]", "KINK at x[0, 1, 1, 0]"]
    assert all(line.figure.startswith("window [0, 0, 0, 0] changes its branch 4.0e-08 from") for line in notes)
    (silent,) = [line for line in check(SilentRelu(), np.array([[1.0, 0.0, -2.0]])).lines if "KINK" in line.claim]
    assert "the layer does not tell which (branch_signature)" in silent.figure


def test_the_layer_of_a_net_is_named_too():
    from npae.layers import Dense, ReLU, Sequential

    net = Sequential([Dense(2, 3, dtype=np.float64, rng=np.random.default_rng(0)), ReLU()])
    x = np.random.default_rng(1).normal(size=(1, 2))
    z = x @ net.layers[0].W.value
    net.layers[0].b.value[1] = -z[0, 1] + 1e-8
    notes = [line.figure for line in check(net, x).lines if line.claim == "KINK at 0.b[1]"]
    assert notes and notes[0].startswith("unit [0, 1] of layer 1 changes its branch 1.0e-08 from")
