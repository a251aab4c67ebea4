"""What the caller sees: reports, refusals, the adjoint test; and a target that stays as it was."""

import copy

import numpy as np
import pytest
from test_gradcheck import SUBJECTS, Dense, Model, SilentRelu, Tanh

from npae.gradcheck import adjoint, adjoint_pair, check, check_function, check_layer


def test_expect_zero_for_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match=r"\['c'\].*\['W', 'b', 'x'\]"):
        check(Dense(), np.ones((4, 5)), expect_zero=["c"])


def test_a_sample_says_how_many_entries_there_were():
    report = check(Dense(200, 60), np.random.default_rng(0).normal(size=(2, 200)), entries=7)
    assert len(report.row("W").entries) == 7
    assert "7 of 12,000" in str(report)
    assert report.ok


def test_large_layers_are_sampled_and_the_same_seed_takes_the_same_entries():
    x = np.random.default_rng(0).normal(size=(2, 100))
    assert len(check(Dense(100, 30), x).row("W").entries) == 2000
    first, second = (check(Dense(100, 30), x, seed=5, entries=9) for _ in range(2))
    assert first.rows == second.rows


@pytest.mark.parametrize("rng", [None, np.random.default_rng(3)])
def test_the_target_the_input_and_the_generator_stay_as_they_were(rng):
    for name in ("dense", "model", "dropout"):
        target = SUBJECTS[name][0](0)
        x = np.random.default_rng(0).normal(size=SUBJECTS[name][1]).astype(np.float32)
        for param in target.params:
            param.grad += 1
        before, x_before, rng_before = copy.deepcopy(target), x.copy(), copy.deepcopy(rng)
        check(target, x, rng=rng)
        if name != "model":
            check_layer(lambda target=target: copy.deepcopy(target), x.shape, rng=rng)
        assert np.array_equal(x, x_before)
        assert rng is None or rng.bit_generator.state == rng_before.bit_generator.state
        for old, new in zip(before.params, target.params, strict=True):
            assert new.value.dtype == np.float32
            assert np.array_equal(old.value, new.value)
            assert np.array_equal(old.grad, new.grad)


def test_values_come_back_when_an_exception_passes():
    """The copy's entry is restored too: seen here through an array that f keeps."""
    kept = []

    def f(theta):
        kept.append(theta.copy())
        if len(kept) > 5:
            raise RuntimeError("enough")
        return float((theta**2).sum()), 2 * theta

    theta = np.array([1.0, 2.0])
    with pytest.raises(RuntimeError, match="enough"):
        check_function(f, theta)
    assert theta.tolist() == [1.0, 2.0]


def test_a_second_reference_to_a_parameter_is_found_in_the_copy():
    """self.weights is W.value: the float64 copy has to keep the two one array."""
    class Aliased(Dense):
        def __init__(self):
            super().__init__()
            self.weights = self.W.value

        def forward(self, x):
            self.x = x
            return x @ self.weights + self.b.value

    assert check(Aliased(), np.random.default_rng(0).normal(size=(4, 5))).ok


def test_a_copy_that_is_the_target_itself_is_copied_again():
    class Returns(Dense):
        def to(self, dtype=None, kernels=None):
            return self

    layer = Returns(dtype=np.float64)
    before = layer.W.value.copy()
    assert check(layer, np.random.default_rng(0).normal(size=(4, 5))).ok
    assert np.array_equal(layer.W.value, before)
    assert not layer.W.grad.any()


def test_arguments_of_the_wrong_kind_are_refused():
    x = np.ones((2, 5))
    with pytest.raises(ValueError, match="a layer takes no y"):
        check(Dense(), x, y=np.zeros(2))
    with pytest.raises(ValueError, match="no upstream gradient"):
        check(Model(n=5), x, upstream=np.ones(()))
    with pytest.raises(ValueError, match="dtype uint8"):
        check(Dense(), x.astype(np.uint8))
    with pytest.raises(ValueError, match="Dense has no hold"):
        check(Dense(), x, hold_branches=True)
    with pytest.raises(ValueError, match="entries is -1"):
        check(Dense(), x, entries=-1)


def test_two_parameters_of_one_name_are_refused():
    layer = Dense()
    layer.b.name = "W"
    with pytest.raises(ValueError, match="two parameters of Dense are called 'W'"):
        check(layer, np.ones((2, 5)))


def test_the_adjoint_test_passes_a_dense_layer_and_refuses_an_activation():
    report = adjoint(Dense(), (4, 5))
    assert report.ok
    assert [line.status for line in report.lines] == ["PASS", "PASS", "PASS"]
    with pytest.raises(ValueError, match=r"no adjoint test in x of Tanh: not affine, .*; use check"):
        adjoint(Tanh(), (4, 5))
    with pytest.raises(ValueError, match="matmul"):  # what forward says of a wrong shape
        adjoint(Dense(), (4, 6))


def test_the_adjoint_test_sees_a_single_kink_with_any_seed():
    for seed in range(500):
        with pytest.raises(ValueError, match="no adjoint test in x of SilentRelu: not affine"):
            adjoint(SilentRelu(), (1, 1), seed=seed)


def test_the_adjoint_test_survives_a_large_bias():
    layer = Dense()
    layer.b.value[...] *= 1e6
    assert adjoint(layer, (4, 5)).ok


def test_adjoint_pair_finds_one_entry_wrong_by_a_billionth():
    A = np.random.default_rng(0).normal(size=(7, 5))
    wrong = A.copy()
    wrong[3, 2] *= 1 + 1e-9
    assert adjoint_pair(lambda v: A @ v, lambda w: A.T @ w, (5,), (7,)).ok
    assert not adjoint_pair(lambda v: A @ v, lambda w: wrong.T @ w, (5,), (7,)).ok
    assert not adjoint_pair(lambda v: A @ v, lambda w: A.T @ w * np.nan, (5,), (7,)).ok
    assert "shapes" in str(adjoint_pair(lambda v: A @ v, lambda w: w, (5,), (7,)))


def test_a_report_names_what_is_wrong_and_fits_the_page():
    class Wrong(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.W.grad[0] *= 2
            return dx

    layer = Wrong()
    layer.b.name = "encoder.of.a.net.with.a.very.long.name.indeed.that.goes.on.for.ever.and.ever.12.b"
    report = check_layer(lambda: copy.deepcopy(layer), (4, 5))
    text = str(report)
    assert not report.ok
    assert "W: 3 of 15 entries FAIL" in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("FAIL\n") >= 3
    assert "WRONG: W: 3 of 15 entries FAIL" in text


def test_a_green_report_counts_what_it_verified():
    text = str(check(Dense(), np.random.default_rng(0).normal(size=(4, 5))))
    assert "OK: 38 derivatives verified, 0 KINK, 0 UNRESOLVED" in text


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="no row 'c'; there are"):
        check(Dense(), np.ones((2, 5))).row("c")


def test_what_cancels_within_a_forward_is_allowed_for():
    """y = 0 to rounding: the terms of x W + b are near 1 and cancel, so that y does not show what was rounded."""
    for seed in range(40):
        layer = Dense(6, 1, seed, np.float64)
        x = np.random.default_rng(seed).normal(size=(1, 6))
        layer.b.value -= layer.forward(x)[0]
        report = check(layer, x, seed=seed)
        assert report.ok, str(report)


def test_a_gradient_transposed_in_shape_is_refused():
    class Turned(Dense):
        def backward(self, dy):
            return super().backward(dy).T

    row = check(Turned(), np.random.default_rng(0).normal(size=(4, 5))).row("x")
    assert row.verdict == "FAIL"
    assert "has shape (4, 5), backward gave float64 of shape (5, 4)" in row.reason


def test_a_function_may_write_into_the_theta_that_it_is_given():
    def f(theta):
        theta *= 2
        return float((theta**2).sum()), 4 * theta

    assert check_function(f, np.array([1.0, -2.0, 0.5])).ok


def test_branches_of_a_model_are_held_unless_asked_otherwise():
    x = np.random.default_rng(0).normal(size=(200, 6))
    assert check(Model(), x, entries=30).rows == check(Model(), x, entries=30, hold_branches=True).rows


def test_three_draws_find_what_one_would_miss():
    """One entry wrong by 2e-10, in 60 pairs of maps: a single draw misses several."""
    found = 0
    for seed in range(60):
        A = np.random.default_rng(seed).normal(size=(7, 5))
        wrong = A.copy()
        wrong[3, 2] += 2e-10
        found += not adjoint_pair(lambda v, A=A: A @ v, lambda w, B=wrong: B.T @ w, (5,), (7,), seed=seed).ok
    assert found == 60


def test_a_sample_of_zeros_alone_takes_others_in():
    """Of the pixels of a layer that looks at one in fifty, five at random are no sample."""
    class Sparse:
        params = ()

        def forward(self, x):
            self.shape = x.shape
            return x[:, ::50].copy()

        def backward(self, dy):
            dx = np.zeros(self.shape)
            dx[:, ::50] = dy
            return dx

    for seed in range(5):
        report = check(Sparse(), np.random.default_rng(seed).normal(size=(2, 200)), entries=5, seed=seed)
        assert report.ok, report.wrong
        assert len(report.row("x").entries) == 5


def test_x_that_comes_from_the_same_stream_as_the_checkers_own_numbers_hides_nothing():
    """People write default_rng(0).normal(...) too: with x = dy, 2 dy dy is as good as 2 x dy."""
    class Square(Tanh):
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            return 2 * dy * dy

    for seed in range(3):
        assert not check(Square(), np.random.default_rng(seed).normal(size=(3, 4)), seed=seed).ok


def test_two_errors_of_one_size_do_not_cancel_along_directions():
    wrong = np.zeros(10)
    wrong[[0, 9]] = 1, -1
    theta = np.arange(1.0, 11)
    for seed in range(60):
        assert not check_function(lambda t: (float((t**2).sum()), 2 * t + wrong), theta, seed=seed, fast=True).ok


def test_at_a_kink_a_gradient_may_be_what_lies_between_both_sides_and_nothing_else():
    theta = np.append(np.zeros(2), np.linspace(1, 2, 198))
    for claim, ok in ((0.0, True), (0.5, True), (1.0, True), (99.0, False), (-0.5, False), (np.nan, False)):
        report = check_function(lambda t, c=claim: (float(np.maximum(t, 0).sum()), np.where(t == 0, c, 1.0)), theta)
        assert report.ok is ok, claim


def test_nothing_to_check_and_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="theta has 0 arrays"):
        check_function(lambda arrays: (1.0, {}), {})
    with pytest.raises(ValueError, match="got theta of dtype complex128"):
        check_function(lambda t: (1.0, t), np.ones(2, complex))


def test_a_step_is_made_small_enough_for_the_domain():
    theta = np.array([1e-9, 1e-3, 1.0])
    assert check_function(lambda t: (float(np.log(t).sum()), 1 / t), theta).ok


def test_a_report_is_true_where_it_is_ok_and_short_where_an_assertion_fails():
    x = np.random.default_rng(0).normal(size=(4, 5))
    good = check(Dense(), x)
    assert good
    assert repr(good) == "<Report of 'Gradient check of Dense, x (4, 5)': ok, 3 rows, 2 other tests>"
    wrong = check_function(lambda t: (float((t**3).sum()), 2 * t**2), np.array([1.0, -2.0]))
    assert not wrong
    assert repr(wrong).endswith("not ok, 1 row, 0 other tests, WRONG: theta: 2 of 2 entries FAIL>")


def test_the_last_paragraph_is_short_however_much_is_wrong():
    class Many:
        """Twenty parameters, whose gradients are all forgotten, and writes into dy."""

        def __init__(self):
            self.params = tuple(Dense(5, 1, seed).W for seed in range(20))
            for place, param in enumerate(self.params):
                param.name = f"a.rather.long.name.{place}.W"

        def forward(self, x):
            return x @ sum(param.value for param in self.params)

        def backward(self, dy):
            dx = 2 * dy @ sum(param.value for param in self.params).T
            dy[...] = 0
            return dx

    report = check_layer(Many, (4, 5))
    closing = str(report).split("\n\n")[-1]
    assert closing.startswith("WRONG: x: 20 of 20 entries FAIL; a.rather.long.name.0.W, a.rather.long.name.1.W,")
    assert "a.rather.long.name.3.W and 16 more: 5 of 5 entries FAIL" in " ".join(closing.split())
    assert len(closing.splitlines()) <= 4
    failed = sum(line.status == "FAIL" for line in report.lines)
    assert failed >= 2 and " ".join(closing.split()).endswith(f"{failed} other tests FAILED, see above")
    assert len(report.wrong) == 21 + failed  # nothing is lost


def test_what_is_said_of_several_rows_is_said_once():
    class Noisy(Dense):
        def forward(self, x):
            return super().forward(x) + np.random.default_rng().normal()

    closing = " ".join(str(check(Noisy(), np.ones((4, 5)))).split("\n\n")[-1].split())
    assert closing.startswith("WRONG: x, W, b: NONDETERMINISTIC, two equal runs gave")
    assert closing.count("NONDETERMINISTIC") == 1


def test_bars_in_names_do_not_break_a_table_in_markdown():
    layer = Dense()
    layer.W.name, layer.b.name = "|W|", "b\\|"
    text = check(layer, np.random.default_rng(0).normal(size=(4, 5))).to_markdown()
    assert "| \\|W\\| |" in text and "| b\\\\\\| |" in text
