"""The V-curve and the Taylor plot: what is drawn where, and that no two names lie on one another."""
import numpy as np
import pytest
from test_figures import texts
from test_gradcheck_methods import tanh_net
from test_gradcheck_taylor import SPOILS, spoilt

from npae.figures import gradients
from npae.gradcheck.curves import v_curve, v_curve_of
from npae.gradcheck.taylor import taylor
from npae.kernels import reference
from npae.layers import ReLU


@pytest.fixture(scope="module")
def measured():
    return v_curve_of(*tanh_net(), entries=6)


@pytest.fixture(scope="module")
def reports():
    return {"right": taylor(*tanh_net()), **{name: taylor(*spoilt(SPOILS[name])) for name in list(SPOILS)[:3]}}


def overlaps(figure):
    """Pairs of texts of a figure's axes that share pixels, each a little smaller than its box."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent().padded(-3)) for ax in figure.axes for text in ax.texts]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, two in boxes[i + 1:] if one.overlaps(two)]


def outside(figure):
    figure.canvas.draw()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent()) for ax in figure.axes for text in ax.texts]
    return [text for text, at in boxes if at.x0 < 0 or at.y0 < 0 or at.x1 > width or at.y1 > height]


def test_each_v_has_its_line_its_two_best_steps_and_its_name(measured):
    figure = gradients.v_curves(measured)
    double, single = figure.axes
    assert (double.get_title("left"), single.get_title("left")) == ("float64", "float32")
    for ax in figure.axes:
        lines = {line.get_label(): line for line in ax.lines}
        for curve in measured.curves:
            if curve.dtype == ax.get_title("left"):
                line = lines[curve.method]
                shown = np.maximum(curve.errors, gradients.LEAST_SHOWN)
                assert np.array_equal(line.get_ydata(), shown, equal_nan=True)
                assert line.get_color() == gradients.COLOURS[curve.method]
                if curve.predicted is not None:
                    marks = [m for m in ax.lines if len(m.get_xdata()) == 1]
                    assert any(m.get_marker() == "D" and m.get_xdata()[0] == curve.predicted for m in marks)
                    assert any(m.get_marker() == "o" and m.get_xdata()[0] == curve.best for m in marks)
    names = {"forward", "central", "five points", "Richardson", "complex step", "slope 1", "slope 6"}
    assert names <= set(texts(figure))
    assert not overlaps(figure) and not outside(figure)
    assert any("6 derivatives against the complex step" in text for text in texts(figure))


def test_the_guide_lines_have_the_slopes_that_they_are_beside(measured):
    double = gradients.v_curves(measured).axes[0]
    guides = [line for line in double.lines if line.get_color() == gradients.GUIDE["color"]]
    slopes = [np.diff(np.log(line.get_ydata()))[0] / np.diff(np.log(line.get_xdata()))[0] for line in guides]
    assert np.allclose(sorted(slopes), [-1, 1, 2])


def test_a_v_curve_without_float32_or_a_complex_step_is_drawn_too():
    only_double = v_curve(lambda t: (float(np.sum(np.exp(t.astype(float)))), np.exp(t)), np.linspace(-1, 1, 5))
    figure = gradients.v_curves(only_double)
    assert len(figure.axes) == 1 and "complex step" not in texts(figure) and not overlaps(figure)
    kinked = v_curve_of(ReLU(kernels=reference), np.random.default_rng(0).normal(size=(3, 4)))
    assert len(gradients.v_curves(kinked).axes) == 2


def test_remainders_fan_out_to_the_right_each_with_its_name_and_rate(reports):
    figure = gradients.taylor_plot(reports)
    [ax] = figure.axes
    assert ax.get_xlim()[0] > ax.get_xlim()[1], "steps become smaller to the right"
    for name, report in reports.items():
        first = report.remainders[0]
        [line] = [line for line in ax.lines if line.get_label() == name]
        n = len(line.get_xdata())
        assert np.array_equal(line.get_xdata(), first.steps[:n])
        assert np.array_equal(line.get_ydata(), first.remainder[:n]) and line.get_ydata().min() > first.floor
        assert f"{name}\nrate {first.rates[-1]:.2f}" in texts(figure)
    assert not overlaps(figure) and not outside(figure)
    guides = [line for line in ax.lines if line.get_color() == gradients.GUIDE["color"]]
    slopes = [np.diff(np.log(line.get_ydata()))[0] / np.diff(np.log(line.get_xdata()))[0] for line in guides]
    assert np.allclose(slopes, [1, 2, 3])


def test_a_single_report_shows_its_odd_part_and_wrong_ones_alone_are_drawn(reports):
    figure = gradients.taylor_plot(reports["right"])
    assert {line.get_label() for line in figure.axes[0].lines} >= {"remainder", "odd part"}
    assert "odd part\nrate 3.00" in texts(figure) and not overlaps(figure)
    wrong = gradients.taylor_plot({"1 % wrong": reports["1 % wrong"]})
    assert not outside(wrong) and wrong.axes[0].get_xlim()[1] < 1e-6
    with pytest.raises(ValueError, match="at least 1 report, got 0"):
        gradients.taylor_plot({})


def test_a_straight_line_has_nothing_but_rounding():
    report = taylor(ReLU(kernels=reference), np.random.default_rng(0).normal(size=(3, 4)))
    assert "ReLU\nnothing but rounding" in texts(gradients.taylor_plot({"ReLU": report}))
