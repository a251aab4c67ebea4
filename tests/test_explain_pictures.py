"""The pictures of the explanations: what they show is what layers compute, and no text lies on another or outside."""
from functools import cache

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_explain_page import contrast
from test_figures import texts
from test_figures_gradients import outside, overlaps

from npae.figures import backprop
from npae.kernels import reference
from npae.kernels.geometry import window_geometry
from npae.lab import explain
from npae.lab.explain import pictures
from npae.penalties import gaussian_kl

SHOWN = {"Conv2d": 2, "ConvTranspose2d": 1, "TiedDense": 1, "TiedConvTranspose2d": 1, "MaxPool2d": 2, "AvgPool2d": 1,
         "Reparameterize": 1, "gaussian_kl": 1}


@cache
def shown(name):
    (section,) = explain.explanation(name).section("picture")
    return section.blocks


@cache
def drawn(name, place=0):
    return shown(name)[place].draw()


def numbers(ax):
    """The numbers in the cells of a grid, row by row."""
    cells = {(round(t.get_position()[1] - 0.53), round(t.get_position()[0] - 0.5)): t.get_text() for t in ax.texts}
    rows, columns = (1 + max(place[axis] for place in cells) for axis in (0, 1))
    return np.array([[float(cells[i, j].replace("\N{MINUS SIGN}", "-")) for j in range(columns)] for i in range(rows)])


def written(ax, shape):
    """The numbers in the cells of a grid, 0 where there is none."""
    found = np.zeros(shape)
    for text in ax.texts:
        across, down = text.get_position()
        found[int(down), int(across)] = float(text.get_text())
    return found


def framed(ax):
    """The cells with a frame."""
    return {(int(patch.get_y()), int(patch.get_x())) for patch in ax.patches}


@pytest.mark.parametrize(("name", "place"), [(name, k) for name, count in SHOWN.items() for k in range(count)])
def test_every_picture_is_drawn_within_its_page(name, place):
    assert len(shown(name)) == SHOWN[name]
    picture, figure = shown(name)[place], drawn(name, place)
    assert not overlaps(figure) and not outside(figure)
    width, _ = figure.bbox.size
    assert all(text.get_window_extent().x1 <= width for text in figure.texts), texts(figure)
    assert picture.caption.endswith(".")
    for ax in figure.axes:
        grid = ax.images[0].get_array() if ax.images else np.ones((0, 0, 3))
        for text in ax.texts:
            across, down = map(int, text.get_position())
            ground = grid[down, across] if ax.images and down < len(grid) else (1, 1, 1)
            assert contrast(to_rgb(text.get_color()), ground) >= 4.5, text.get_text()


def test_im2col_shows_where_pixels_go_and_how_often_they_come_back():
    picture, columns, back = drawn("Conv2d").axes
    assert np.array_equal(numbers(picture), np.arange(16).reshape(4, 4))
    windows = [[4 * (i + u) + j + v for u in range(2) for v in range(2)] for i in range(3) for j in range(3)]
    assert np.array_equal(numbers(columns), windows)
    counts = np.bincount(np.ravel(windows)).reshape(4, 4)
    assert np.array_equal(numbers(back), counts)
    framed = [len(ax.patches) for ax in (picture, columns, back)]
    assert framed == [1, counts.max(), 1]
    text = "\n".join(shown("Conv2d")[0].lines())
    assert " 0  1  4  5" in text and "1  2  2  1" in text


def test_im2col_leaves_the_padding_empty():
    """Kernel 3, stride 2, 'same' on 4 x 4: a row and a column of zeros at the bottom and right."""
    picture = pictures.im2col(window_geometry(4, 3, 2, "same"))
    windows = [[4 * (i + u) + j + v if i + u < 4 and j + v < 4 else None for u in range(3) for v in range(3)]
               for i in (0, 2) for j in (0, 2)]
    lines = [line[:40].split() for line in picture.text.splitlines()[1:]]
    assert lines == [["·" if number is None else str(number) for number in row] for row in windows]
    columns = picture.draw().axes[1]
    assert [text.get_text() for text in columns.texts if text.get_text()] == [
        str(number) for row in windows for number in row if number is not None]


@pytest.mark.parametrize("setting", pictures.SETTINGS)
def test_windows_are_counted_one_by_one(setting):
    kernel, stride, padding = pictures.SETTINGS[setting]
    g = window_geometry(4, kernel, stride, padding)
    seen = np.zeros((4, 4), int)
    for i in range(g.output_size[0]):
        for j in range(g.output_size[1]):
            for u in range(kernel):
                for v in range(kernel):
                    row, column = stride * i + u - g.padding[0], stride * j + v - g.padding[1]
                    if 0 <= row < 4 and 0 <= column < 4:
                        seen[row, column] += 1
    assert np.array_equal(pictures.copies(g), seen)
    ax = drawn("Conv2d", 1).axes[list(pictures.SETTINGS).index(setting)]
    inside = [int(t.get_text()) for t in ax.texts if t.get_text().isdigit()]
    assert sorted(inside) == sorted(seen.ravel())


@pytest.mark.parametrize("setting", pictures.SETTINGS)
def test_the_windows_lie_on_the_padded_picture(setting):
    """The first and the last window have a frame, the padding is hatched and empty, the size of y stands below."""
    kernel, stride, padding = pictures.SETTINGS[setting]
    g = window_geometry(4, kernel, stride, padding)
    ax = drawn("Conv2d", 1).axes[list(pictures.SETTINGS).index(setting)]
    rows, columns = ax.images[0].get_array().shape[:2]
    top, first = g.padding
    inside = {(top + i, first + j) for i in range(4) for j in range(4)}
    hatched = {(int(p.get_y()), int(p.get_x())) for p in ax.patches if p.get_hatch()}
    assert hatched == set(np.ndindex(rows, columns)) - inside
    said = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    counts = pictures.copies(g)
    assert {place: int(text) for place, text in said.items() if text.isdigit()} == {
        (top + i, first + j): counts[i, j] for i, j in np.ndindex(4, 4)}
    one, last = [(p.get_y(), p.get_x(), p.get_height(), p.get_width()) for p in ax.patches if not p.get_hatch()]
    end = [stride * (size - 1) for size in g.output_size]
    assert one == (0, 0, kernel, kernel)
    assert last == (rows - kernel, columns - kernel, kernel, kernel) and last[:2] == tuple(end)
    assert f"y is {g.output_size[0]} × {g.output_size[1]}" in said.values()


def test_what_a_gradient_meets_is_framed_and_its_sign_has_a_colour():
    x, _, _, dx = drawn("MaxPool2d").axes
    assert framed(x) == framed(dx) and len(framed(x)) > 1
    for ax in drawn("TiedDense").axes:
        values, colours = numbers(ax), ax.images[0].get_array()
        warm = colours[..., 0] - colours[..., 2]
        assert (np.sign(np.round(warm, 2)) == np.sign(values)).all() and np.abs(values).max() > 0


def test_the_two_matrices_are_each_others_transpose_and_are_the_layer():
    kernel, first, second = drawn("ConvTranspose2d").axes
    A, At = (ax.images[0].get_array() for ax in (first, second))
    assert np.array_equal(A, At.transpose(1, 0, 2))
    g = window_geometry(4, 2, 1, 0)
    matrix = shown("ConvTranspose2d")[0].draw.args[1]
    assert np.array_equal(written(first, matrix.shape), matrix) and np.array_equal(written(second, (16, 9)), matrix.T)
    assert np.array_equal(numbers(kernel), [[1, 2], [3, 4]])
    assert np.array_equal(A[4, 5], kernel.images[0].get_array()[0, 0]) and np.array_equal(A[4, 0], (1, 1, 1))
    assert framed(first) == {(4, 5), (4, 6), (4, 9), (4, 10)}  # the middle window, and its four pixels
    assert framed(second) == {(pixel, window) for window, pixel in framed(first)}
    x, taps = np.random.default_rng(0).standard_normal((1, 4, 4, 1)), np.arange(1.0, 5).reshape(2, 2, 1, 1)
    assert np.allclose(matrix @ x.ravel(), reference.conv2d(x, taps, g).ravel())
    dy = np.random.default_rng(1).standard_normal((1, 3, 3, 1))
    assert np.allclose(matrix.T @ dy.ravel(), reference.conv2d_input_grad(dy, taps, g).ravel())


def test_each_window_has_the_colour_of_its_winner():
    x, y, dy, dx = drawn("MaxPool2d").axes
    values, largest, upstream, routed = (numbers(ax) for ax in (x, y, dy, dx))
    large, small = x.images[0].get_array(), dy.images[0].get_array()
    expected = np.zeros((4, 4))
    for i, j in np.ndindex(3, 3):
        window = values[i:i + 2, j:j + 2]
        place = np.unravel_index(window.argmax(), (2, 2))
        assert largest[i, j] == window.max()
        assert np.array_equal(small[i, j], large[i + place[0], j + place[1]])
        expected[i + place[0], j + place[1]] += upstream[i, j]
    assert np.array_equal(routed, expected)


@pytest.mark.parametrize("name", ["TiedDense", "TiedConvTranspose2d"])
def test_two_contributions_add_up_to_what_backward_gives(name):
    first, second, total = (numbers(ax) for ax in drawn(name).axes)
    assert np.array_equal(first + second, total)
    assert np.abs(first).max() > 0 and np.abs(second).max() > 0
    dW = explain.explanation(name).example.arrays["dW"]
    assert np.array_equal(total, dW if name == "TiedDense" else dW[:, :, 0].reshape(total.shape))


def test_the_score_function_varies_a_hundred_times_as_much():
    for d in (1, 8, 64):
        pathwise, score = pictures.estimates(d)
        truth = pictures.MU - pictures.TARGET
        for estimate in (pathwise, score):
            assert abs(estimate.mean() - truth) < 5 * estimate.std() / np.sqrt(len(estimate))
    assert score.var() / pathwise.var() > 1000
    caption, figure = shown("Reparameterize")[0].caption, drawn("Reparameterize")
    assert f"{float(f'{score.var() / pathwise.var():.2g}'):,.0f} to 1" in caption
    assert any("variance 1" in text for text in texts(figure))
    pathwise, score = pictures.estimates(pictures.SHOWN)
    said = f"mean {score.mean():.2f} ± {score.std() / np.sqrt(len(score)):.2f}\nvariance {score.var():.0f}"
    assert any(said.replace("-", "\N{MINUS SIGN}") in text for text in texts(figure))


def test_the_estimators_picture_is_drawn_where_its_numbers_are():
    figure, truth = drawn("Reparameterize"), pictures.MU - pictures.TARGET
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [truth, truth]
    assert any(f"the derivative, {truth:.3g}".replace("-", "\N{MINUS SIGN}") == text for text in texts(figure))
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log") and len(right.lines) == 2
    for k, line in enumerate(right.lines):
        assert list(line.get_xdata()) == list(pictures.LATENTS)
        expected = [pictures.estimates(d)[k].var() for d in pictures.LATENTS]
        assert list(line.get_ydata()) == expected
    for k, words in enumerate(("reparameterised", "score function")):
        draws = pictures.estimates(pictures.SHOWN)[k]
        error = f"± {draws.std() / len(draws)**0.5:.2f}"
        assert any(text.startswith(f"{words}\n") and error in text for text in texts(figure))


def test_what_is_below_0_is_drawn_below_0():
    _, below = drawn("gaussian_kl").axes
    _, q, p, _ = shown("gaussian_kl")[0].draw.args
    line = q * np.log(q / p)
    np.testing.assert_array_equal(below.lines[0].get_ydata(), line)
    reach = [(area.get_paths()[0].vertices[:, 1].min(), area.get_paths()[0].vertices[:, 1].max())
             for area in below.collections]
    assert reach == [(0, line.max()), (line.min(), 0)]


def test_the_note_counts_windows_and_names_the_padding_where_there_is_any():
    for setting, words, padded in (((4, 2, 2, 0), "1 window sees pixel 0 (framed): forward copies it 1 ×", False),
                                   ((4, 2, 1, 0), "4 windows see pixel 5 (framed): forward copies it 4 ×", False),
                                   ((4, 3, 2, "same"), " (framed): forward copies it ", True)):
        figure = pictures.im2col(window_geometry(*setting)).draw()
        note = next(text for text in texts(figure) if "forward copies" in text)
        assert words in note and ("; empty: the padding" in note) == padded


def test_the_area_is_the_divergence():
    figure = drawn("gaussian_kl")
    text = next(t for t in texts(figure) if "closed form" in t)
    areas = [float(line.split(" = ")[1].split()[0]) for line in text.splitlines()]
    closed = gaussian_kl(np.array([[1.0]]), np.array([[2 * np.log(0.6)]]))[0]
    assert areas == [round(closed, 4)] * 2
    z, q, p, shown_closed = shown("gaussian_kl")[0].draw.args
    assert shown_closed == closed
    for density in (p, q):
        assert np.trapezoid(density, z) == pytest.approx(1, abs=1e-4)
    above, below = (np.trapezoid((sign * q * np.log(q / p)).clip(0), z) for sign in (1, -1))
    assert f"{above:.4f} \N{MINUS SIGN} {below:.4f} = " in text and above - below == pytest.approx(closed, abs=1e-4)
    assert {f"+{above:.2f}", f"\N{MINUS SIGN}{below:.2f}"} <= {t.get_text() for t in figure.axes[1].texts}


def test_a_longer_text_gets_a_wider_cell():
    short, long = (backprop.Grid("", [[text]], np.ones((1, 1, 3))) for text in ("1", "−23.25"))
    assert short.size[0] == backprop.CELL < long.size[0]


def test_a_longer_example_gets_smaller_cells_and_fits_a_sheet():
    figure = pictures.im2col(window_geometry(8, 2, 1, 0)).draw()
    columns = figure.axes[1]
    assert len(written(columns, (49, 4)).nonzero()[0]) == 195 and written(columns, (49, 4))[48, 3] == 63
    figures = [figure, pictures.adjoint(window_geometry(8, 2, 1, 0)).draw()]
    for figure in figures:
        assert figure.bbox.height < backprop.TALL + 150 and not overlaps(figure) and not outside(figure)
    kernel, first, _ = figures[1].axes
    assert kernel.texts and not first.texts, "cells too small for numbers have colours alone"
