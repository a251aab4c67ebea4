"""Every verdict that an entry or a parameter can get, had on purpose."""

import math

import numpy as np
from test_gradcheck import Dense

from npae.gradcheck import Verdict, check, check_function, check_layer
from npae.gradcheck.estimate import derivative


def test_a_zero_gradient_is_vacuous_unless_it_is_expected():
    class Useless(Dense):
        """y = x W; b is never used."""

        def forward(self, x):
            return super().forward(x) - self.b.value

        def backward(self, dy):
            self.W.grad += self.x.T @ dy
            return dy @ self.W.value.T

    x = np.random.default_rng(0).normal(size=(4, 5))
    report = check(Useless(), x)
    assert report.row("b").verdict is Verdict.VACUOUS
    assert not report.ok
    assert "b: VACUOUS" in str(report)
    assert check(Useless(), x, expect_zero=["b"]).ok


def test_an_expected_zero_that_is_not_zero_fails():
    report = check(Dense(), np.random.default_rng(0).normal(size=(4, 5)), expect_zero=("b",))
    assert report.row("b").verdict is Verdict.FAIL
    assert "b: a zero gradient was expected" in str(report)


def test_ones_as_upstream_gradient_of_a_softmax_is_vacuous():
    """The sum of a softmax is 1 whatever x is: a backward that returns zeros passes a check with g = 1."""
    class Softmax:
        params = ()

        def forward(self, x):
            e = np.exp(x - x.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)

        def backward(self, dy):
            return np.zeros_like(dy)

    x = np.random.default_rng(0).normal(size=(3, 4))
    assert check(Softmax(), x, upstream=np.ones((3, 4))).row("x").verdict is Verdict.VACUOUS
    assert check(Softmax(), x).row("x").verdict is Verdict.FAIL


def test_noise_that_cannot_be_rewound_is_nondeterministic():
    class Noisy(Dense):
        rng = np.random.default_rng(0)

        def forward(self, x):
            return super().forward(x) + Noisy.rng.normal()

    report = check(Noisy(), np.ones((4, 5)))
    assert {row.verdict for row in report.rows} == {Verdict.NONDETERMINISTIC}
    assert "give_rng" in str(report)


def test_a_backward_that_differs_between_equal_runs_is_nondeterministic_in_that_parameter():
    class Racy(Dense):
        calls = 0

        def backward(self, dy):
            Racy.calls += 1
            self.b.grad += 1e-13 * Racy.calls
            return super().backward(dy)

    report = check(Racy(), np.random.default_rng(0).normal(size=(4, 5)))
    assert [row.verdict for row in report.rows] == [Verdict.PASS, Verdict.PASS, Verdict.NONDETERMINISTIC]


def test_what_rounding_hides_is_unresolved():
    """A huge constant in the value leaves no digits for the gradient."""
    def f(theta):
        return 1e9 + float((theta**2).sum()), 2 * theta

    row = check_function(f, np.array([0.5, 1.0])).rows[0]
    assert {entry.verdict for entry in row.entries} == {Verdict.UNRESOLVED}
    assert not row.ok


def test_a_domain_that_ends_nearby_only_makes_the_step_smaller():
    row = check_function(lambda t: (float(np.log(t).sum()), 1 / t), np.array([1e-3, 0.5]), terms=10.0).rows[0]
    assert row.ok
    assert row.entries[0].h < 1e-3


def test_a_value_that_is_not_finite_is_unresolved():
    with np.errstate(all="ignore"):
        report = check_function(lambda t: (float(np.log(t).sum()), 1 / t), np.array([-1.0, 0.5]))
    assert not report.ok
    assert report.rows[0].count(Verdict.UNRESOLVED) == 2


def test_nan_in_a_gradient_is_a_fail():
    report = check_function(lambda t: (float((t**2).sum()), t * math.nan), np.array([1.0, 2.0]))
    assert report.rows[0].count(Verdict.FAIL) == 2


def test_a_number_as_theta_and_a_matrix_as_theta_are_fine():
    assert check_function(lambda t: (float(t**2), 2 * t), np.array(3.0)).ok
    assert check_function(lambda t: (float((t**2).sum()), 2 * t), np.arange(1.0, 7.0).reshape(2, 3)).ok


def test_a_steep_function_is_verified_with_a_smaller_step():
    row = check_function(lambda t: (float(np.sin(300 * t).sum()), 300 * np.cos(300 * t)), np.array([0.3, 1.0])).rows[0]
    assert row.ok
    assert row.entries[0].h < 2e-3


def test_the_tolerance_of_a_smooth_function_is_within_a_few_hundred_times_its_true_error():
    for f, slope, t in ((math.exp, math.exp, 0.5), (math.sin, math.cos, 1.1), (math.log, lambda t: 1 / t, 0.8)):
        found = derivative(lambda u, f=f: (f(u), True), t=t, centre=f(t), scale=2.0)
        assert abs(found.value - slope(t)) <= found.tol < 1e-10
        assert found.truncation < 1e-11


def test_a_forward_that_differs_from_its_reference_by_a_millionth_is_wrong():
    class Off(Dense):
        def forward(self, x):
            return super().forward(x) * (1 + 1e-6)

        def backward(self, dy):
            return super().backward(dy * (1 + 1e-6))

    def product(x, W, b):
        return x @ W + b

    right = check_layer(lambda: Dense(dtype=np.float64), (4, 5), reference=product)
    wrong = check_layer(lambda: Off(dtype=np.float64), (4, 5), reference=product)
    assert right.ok and not wrong.ok and "forward gives" in str(wrong)


def test_the_entries_that_are_checked_lie_all_over_the_array():
    report = check_function(lambda t: (float((t**2).sum()), 2 * t), np.linspace(1, 2, 1000), entries=20)
    places = [entry.index[0] for entry in report.rows[0].entries]
    assert len(set(places)) == 20 and min(places) < 250 and max(places) >= 750
