"""Traversals, interpolations and the window in the latent plane: which code is painted where."""
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from test_figures import texts

from npae import canvas, figures
from npae.figures.plane import codes_window, prior_window

Z = np.array([0.5, -1.0, 9.0], np.float32)
SPANS = np.array([[-3, 3], [-2, 0], [0, 4]])


def painted(codes):
    """A decoder that keeps the codes it is given."""
    return lambda z: codes.append(z) or np.zeros((len(z), 4, 4, 1))


def test_a_row_runs_one_number_through_its_span_and_holds_the_others():
    codes = []
    figures.traversals(painted(codes), Z, SPANS, steps=5, dims=[2, 0])
    rows = codes[0].reshape(2, 5, 3)
    assert codes[0].dtype == np.float32
    np.testing.assert_allclose(rows[0], [[0.5, -1, v] for v in (0, 1, 2, 3, 4)])
    np.testing.assert_allclose(rows[1], [[v, -1, 9] for v in (-3, -1.5, 0, 1.5, 3)])


def test_a_triangle_stands_where_the_pictures_own_value_lies():
    figure = figures.traversals(painted([]), Z, SPANS, steps=5, names=["a", "b", "c"])
    ax = figure.axes[0]
    corners = canvas.tile(np.zeros((15, 4, 4, 1)), 3, 5, 34 / 16 / 4, 0.04)[1]
    columns = [corners[i][1] + 1.5 for i in range(5)]
    marks = {line.get_marker(): line.get_xdata()[0] for line in ax.lines}
    assert [line.get_marker() for line in ax.lines] == ["v", "v", ">"], "9 lies beyond 4"
    assert ax.lines[0].get_xdata()[0] == pytest.approx(np.interp(0.5, [-3, 3], [columns[0], columns[-1]]))
    assert ax.lines[1].get_xdata()[0] == pytest.approx(columns[2]) and marks[">"] == pytest.approx(columns[-1])
    assert {"a", "b", "c", "\N{MINUS SIGN}3", "3", "\N{MINUS SIGN}2", "0", "4"} <= set(texts(figure))
    height, width, _ = ax.images[0].get_array().shape
    assert ax.get_xlim() == (-0.5, width - 0.5) and ax.get_ylim() == (height - 0.5, -0.5), "pixels stay square"


def test_a_traversal_shows_at_most_ten_rows_and_refuses_what_does_not_fit():
    codes = []
    figures.traversals(painted(codes), np.zeros(30), np.tile([-1, 1], (30, 1)), steps=3)
    assert len(codes[0]) == 30
    with pytest.raises(ValueError, match=r"z \(3,\), spans \(2, 2\) and no names"):
        figures.traversals(painted([]), Z, SPANS[:2])
    with pytest.raises(ValueError, match=r"and 1 names"):
        figures.traversals(painted([]), Z, SPANS, names=["a"])


def test_interpolations_have_the_originals_at_both_ends():
    a, b = np.full((2, 3, 4, 1), 0.1), np.full((2, 3, 4, 1), 0.9)
    between = np.linspace(0.2, 0.8, 8).reshape(2, 4, 1, 1, 1) * np.ones((1, 1, 3, 4, 1))
    figure = figures.interpolations(a, b, between)
    left, middle, right = figure.axes
    assert left.get_position().x1 < middle.get_position().x0 < middle.get_position().x1 < right.get_position().x0
    image = middle.images[0].get_array()
    shown = [image[i, j, 0] for i, j in canvas.tile(between.reshape(8, 3, 4, 1), 2, 4)[1]]
    assert shown == [round(255 * v) for v in np.linspace(0.2, 0.8, 8)]
    assert left.images[0].get_array()[0, 0, 0] == 26 and right.images[0].get_array()[0, 0, 0] == 230
    assert [text.get_text() for text in middle.texts] == ["0", "0.33", "0.67", "1"]
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 1\), \(1, 3, 4, 1\)"):
        figures.interpolations(a, b[:1], between)


def test_the_window_is_outlined_where_the_manifold_lies_and_stays_in_view():
    z = 0.01 * np.random.default_rng(0).standard_normal((50, 2)) + 5
    figure = figures.latent_scatter(z, np.arange(50) % 10, window=((-2, 1), (0, 3)))
    [outline] = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert outline.get_bbox().bounds == (-2, 0, 3, 3) and not outline.get_fill()
    figure.canvas.draw()
    (left, right), (low, high) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert left < -2 and right > 5 and low < 0 and high > 5
    names = np.array([text.get_position() for text in figure.axes[0].texts])
    apart = np.hypot(*np.moveaxis(names[:, None] - names, 2, 0)) + 9 * np.eye(10)
    assert apart.min() > 0.2, "the names do not lie on each other, though all codes do"
    assert not figures.latent_scatter(z).axes[0].patches


def test_the_window_of_a_plain_code_is_where_its_codes_are():
    z = np.stack([np.linspace(0, 100, 1001), np.linspace(-1, 1, 1001)], axis=1)
    z[0] = 1e6, -1e6
    (low1, high1), (low2, high2) = codes_window(z)
    assert (low1, high1, low2, high2) == pytest.approx((1, 99, -0.98, 0.98), abs=0.2)
    low, high = prior_window()[0]
    assert (low, high) == pytest.approx((-1.6448536, 1.6448536)) and prior_window()[1] == (low, high)


def test_a_manifold_may_have_a_span_for_each_axis():
    codes = []
    figure = figures.manifold(painted(codes), ((-5, 30), (0, 2)), n=3)
    np.testing.assert_allclose(codes[0][[0, 2, 6]], [[-5, 2], [30, 2], [-5, 0]])
    assert any("\N{MINUS SIGN}5 to 30 along $z_1$, 0 to 2 along $z_2$" in text for text in texts(figure))
