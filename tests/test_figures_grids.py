"""Grids of pictures: which picture stands where, what is written below it, and how weights become grey."""
import numpy as np
import pytest
from test_figures import texts

from npae import canvas, figures
from npae.figures.weights import first_weights
from npae.layers import Conv2d, Dense, Flatten, MaskingNoise, ReLU, Sequential, Shift


def block_of(figure, axes, n):
    """The n-th grid of a figure as an image."""
    return figure.axes[axes].images[n].get_array()


def test_triples_show_clean_noisy_and_denoised_with_the_two_errors_from_clean():
    x = np.full((12, 4, 4, 1), 0.2)
    noisy, x_hat = x + (np.arange(12) / 20).reshape(12, 1, 1, 1), x - 0.1
    figure = figures.triples(x, noisy, x_hat)
    written = texts(figure)
    for name in ("clean", "noisy", "denoised"):
        assert written.count(name) == 1
    assert [text for text in written if text.startswith("0.")] == [f"{(k / 20) ** 2:.4f}" for k in range(10)] + [
        "0.0100"] * 10
    image = block_of(figure, 0, 0)
    rows = {text.get_text(): image[round(text.xy[1])] for text in figure.axes[0].texts if text.get_text()[0] in "cnd"}
    greys = {name: sorted(set(row[:, 0].tolist()) - {255}) for name, row in rows.items()}
    assert greys == {"clean": [51], "noisy": [round(255 * (0.2 + k / 20)) for k in range(10)], "denoised": [26]}
    with pytest.raises(ValueError, match=r"originals have shape \(12, 4, 4, 1\), denoised \(3, 4, 4, 1\)"):
        figures.triples(x, noisy, x_hat[:3])


def test_noise_beyond_black_and_white_is_drawn_there_and_measured_as_it_is():
    x = np.zeros((1, 2, 2, 1))
    figure = figures.triples(x, x + 2.0, x - 1.0)
    assert [text for text in texts(figure) if text[0] in "0123456789"] == ["4.0000", "1.0000"]


def test_a_pair_says_its_error():
    x = np.zeros((4, 3, 3))
    figure = figures.pair(x, x + 0.5, title="Mine", note="Through 2 numbers")
    written = texts(figure)
    assert {"Mine", "Through 2 numbers", "original", "reconstructed"} <= set(written)
    assert "mean squared error 0.2500 per pixel" in written
    image = block_of(figure, 0, 0)
    assert (image[:, :3] == 0).all() and (image[:, -3:] == 128).all()


def test_a_class_sheet_has_one_class_a_column_and_its_label_above():
    x = np.tile(np.arange(5) / 10, 3).reshape(15, 1, 1, 1) * np.ones((1, 2, 3, 1))
    figure = figures.class_sheet(x, 5)
    [ax] = figure.axes
    image, corners = ax.images[0].get_array(), canvas.tile(x, 3, 5)[1]
    for n, (i, j) in enumerate(corners):
        assert (image[i : i + 2, j : j + 3] == round(25.5 * (n % 5))).all()
    heads = {text.get_text(): text.get_position() for text in ax.texts}
    assert list(heads) == list("01234")
    for k in range(5):
        assert heads[str(k)][0] == corners[k][1] + 1 and heads[str(k)][1] < 0, "above the middle of its column"


def test_class_sheets_stand_side_by_side_with_names_and_labels_where_there_are_any():
    x = np.zeros((6, 4, 4, 1))
    figure = figures.class_sheet(x, 3, name="mlp-cvae", beside={"test pictures": x + 0.2}, unsorted={"plain": x + 0.4})
    assert [(ax.images[0].get_array()[0, 0, 0], [text.get_text() for text in ax.texts]) for ax in figure.axes] == [
        (0, ["0", "1", "2", "mlp-cvae"]), (51, ["0", "1", "2", "test pictures"]), (102, ["plain"])]
    lefts = [ax.get_position().x0 for ax in figure.axes]
    assert lefts == sorted(lefts) and len({ax.get_position().y1 for ax in figure.axes}) == 1
    with pytest.raises(ValueError, match=r"sheet of 3 columns and 4 x 4 x 1 pixels cannot show 5 .*'plain'"):
        figures.class_sheet(x, 3, unsorted={"plain": x[:5]})
    with pytest.raises(ValueError, match=r"\(5, 4, 1\) \('raw'\)"):
        figures.class_sheet(x, 3, beside={"raw": np.zeros((6, 5, 4, 1))})
    for more in ({"beside": {"samples": x}}, {"beside": {"raw": x}, "unsorted": {"raw": x}}):
        with pytest.raises(ValueError, match=r"one name stands twice among 'samples', '(samples|raw)"):
            figures.class_sheet(x, 3, **more)


def test_forty_seven_classes_fit_on_a_page():
    figure = figures.class_sheet(np.zeros((94, 28, 28, 1)), 47)
    assert figure.bbox.width < 2400


def test_filters_are_the_columns_of_w_largest_norm_first_each_in_its_own_range_about_grey():
    W = np.zeros((6, 4), np.float32)
    W[:, 1] = [4, 0, -4, 0, 2, -2]  # the middle one
    W[:, 2] = [0.1, 0, 0, 0, 0, 0]  # the last but one
    W[:, 3] = [0, 0, 0, 0, 0, -9]  # the first; unit 0 is all zero
    image = block_of(figures.filters(W, (3, 2, 1)), 0, 0)[..., 0]
    _, corners = canvas.tile(np.zeros((4, 3, 2, 1)), 1, 4, 0.12, 0.12)
    shown = [image[i : i + 3, j : j + 2].ravel().tolist() for i, j in corners]
    assert shown == [[128] * 5 + [0], [255, 128, 0, 128, 191, 64], [255] + [128] * 5, [128] * 6]


def test_at_most_a_hundred_units_are_shown_and_a_labels_rows_are_left_out():
    W = np.ones((12 + 5, 256)) * np.arange(1, 257)
    W[12:] = -1000
    figure = figures.filters(W, (2, 2, 3))
    assert any(text.startswith("100 of 256 units") for text in texts(figure))
    image = block_of(figure, 0, 0)
    assert (image == 255).all(), "the largest weight of each is white, and no label's row is looked at"
    assert image.shape == (10 * 3 - 1, 10 * 3 - 1, 3)
    for wrong in ((W, None), (W, (4, 4, 3)), (W[0], (2, 2, 3))):
        with pytest.raises(ValueError, match=r"columns of W \(H W C, units\)"):
            figures.filters(*wrong)


def test_kernels_of_grey_and_colour_pictures_and_of_other_channels():
    W = np.random.default_rng(0).standard_normal((3, 2, 3, 4))
    image = block_of(figures.filters(W), 0, 0)
    best = np.sqrt((W**2).sum(axis=(0, 1, 2))).argmax()
    expected = 255 * (0.5 + W[..., best] / (2 * np.abs(W[..., best]).max()))
    np.testing.assert_array_equal(image[:3, :2], expected.round())
    figure = figures.filters(np.ones((3, 3, 5, 6)))
    assert any(text.startswith("All 30 kernels") for text in texts(figure))


def test_the_first_weights_are_those_that_meet_the_pixels():
    dense, conv = Dense(6, 4), Conv2d(1, 2, 3)

    class Model:
        def __init__(self, *layers):
            self.encoder = Sequential(layers)

    assert first_weights(Model(Flatten(), dense)) is dense.W.value
    shift = Shift(np.zeros((2, 3, 1), np.float32))
    assert first_weights(Model(shift, Sequential([Flatten(), MaskingNoise(0.1)]), dense)) is dense.W.value
    assert first_weights(Model(conv, Flatten(), dense)) is conv.W.value
    assert first_weights(Model(ReLU(), conv)) is None
    assert first_weights(Model(Flatten())) is None
