"""Curves: what is plotted against what, in which units."""
import numpy as np
import pytest
from test_figures import ROWS, texts

from npae import figures


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_many_terms_go_on_two_rows_each_with_its_own_unit():
    rows = [{**row, "sparsity": 0.3, "decay": 5.0, "jac": 2.0} for row in ROWS]
    figure = figures.learning_curves(rows, "squared grey level per image", per="iteration")
    assert [ax.get_title("left") for ax in figure.axes] == ["loss", "recon", "kl", "sparsity", "decay", "jac"]
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "squared grey level per image", "", "nats per image", "nats", "squared weights", "squared norm of dh/dx"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"iteration"}
    boxes = [ax.get_position() for ax in figure.axes]
    assert boxes[0].y0 == boxes[2].y0 > boxes[3].y1 and boxes[3].x0 == boxes[0].x0
    assert "2777" in texts(figures.learning_curves([{**row, "decay": 2777.1} for row in ROWS])), "without a point"
    more = [{**row, "a": 1.0, "b": 2.0, "c": 3.0} for row in rows]
    assert [ax.get_ylabel() for ax in figures.learning_curves(more, "grams").axes[6:]] == ["grams", "", ""]
    four = [ax.get_position() for ax in figures.learning_curves([{**row, "jac": 1.0} for row in ROWS]).axes]
    assert len(four) == 4 and four[0].y0 == four[1].y0 > four[2].y1, "two and two"


def test_four_hundred_iterations_are_a_line_and_a_long_fall_is_logarithmic():
    rows = [{"epoch": e, "loss": 100 / e, "recon": 90 / e, "jac": 1 + 1 / e} for e in range(1, 401)]
    loss, recon, jac = figures.learning_curves(rows, per="iteration").axes
    assert (loss.get_yscale(), recon.get_yscale(), jac.get_yscale()) == ("log", "log", "linear")
    assert loss.lines[0].get_markersize() == 0
    assert all(tick == round(tick) for tick in loss.get_xticks())
    for few in (rows[:20], [{**row, "loss": row["loss"] - 50} for row in rows]):
        assert figures.learning_curves(few).axes[0].get_yscale() == "linear"
    cliff = [{"epoch": 1, "loss": 350_000.0}, {"epoch": 2, "loss": 140.0}, {"epoch": 3, "loss": 139.0}]
    figure = figures.learning_curves(cliff)
    figure.canvas.draw()
    [ax] = figure.axes
    assert ax.get_yscale() == "log" and "$10^{5}$" in [tick.get_text() for tick in ax.get_yticklabels()]


def test_a_spectrum_is_the_median_with_the_quartiles_largest_first():
    values = np.array([[1, 10, 4], [2, 20, 5], [30, 3, 6], [40, 4, 7], [50, 5, 8]], float)
    figure = figures.jacobian_spectrum({"contractive": values, "plain": 100 * values})
    ax = figure.axes[0]
    line = lines(ax)["contractive"]
    assert list(line.get_xdata()) == [1, 2, 3] and ax.get_yscale() == "log"
    assert list(line.get_ydata()) == [30, 6, 3]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    ordered = -np.sort(-values, axis=1)
    assert band.min() == np.quantile(ordered, 0.25, axis=0).min()
    assert band.max() == np.quantile(ordered, 0.75, axis=0).max()
    assert {"contractive", "plain"} <= set(texts(figure))
    assert any("5 pictures" in text for text in texts(figure))
    with pytest.raises(ValueError, match=r"\(N, r\) of singular values, got \(3,\)"):
        figures.jacobian_spectrum(np.ones(3))


def test_a_spectrum_that_ends_in_zeros_or_is_all_zero_can_be_drawn(tmp_path):
    values = np.array([[3.0, 1.0, 0.0], [3.0, 1e-20, 0.0]])
    low, high = figures.jacobian_spectrum(values).axes[0].get_ylim()
    assert 1e-7 < low < high < 10
    figures.save(figures.jacobian_spectrum(np.zeros((2, 3))), tmp_path / "zero.png")
    figures.save(figures.jacobian_spectrum(np.full((2, 3), np.nan)), tmp_path / "nan.png")


def test_pca_and_autoencoder_are_plotted_over_k_in_order():
    figure = figures.against_pca([16, 1, 4], [0.01, 0.04, 0.02], [0.02, 0.05, 0.03], name="conv-ae")
    ax = figure.axes[0]
    assert list(lines(ax)["conv-ae"].get_xdata()) == list(lines(ax)["PCA"].get_xdata()) == [1, 4, 16]
    assert list(lines(ax)["conv-ae"].get_ydata()) == [0.04, 0.02, 0.01]
    assert list(lines(ax)["PCA"].get_ydata()) == [0.05, 0.03, 0.02]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "16"]
    assert {"0.0400", "0.0100", "0.0500", "0.0200"} <= set(texts(figure)) and "per pixel" in ax.get_ylabel()
    near = figures.against_pca([16, 64], [0.0244, 0.009], [0.0236, 0.001])
    near.canvas.draw()
    upper, lower = (next(t for t in near.axes[0].texts if t.get_text() == f"{e}") for e in (0.0244, 0.0236))
    assert upper.get_window_extent().y0 >= lower.get_window_extent().y1, "the numbers of near points stand apart"
    assert texts(figures.against_pca([16], [0.0244], [0.0236])).count("0.0244") == 1
    for wrong in (([1, 2], [0.1], [0.1, 0.2]), ([0, 1], [0.1, 0.2], [0.1, 0.2]), ([], [], [])):
        with pytest.raises(ValueError, match="each k from 1 on"):
            figures.against_pca(*wrong)


def test_rate_and_distortion_have_beta_at_their_points_and_lines_of_equal_elbo():
    figure = figures.rate_distortion([20, 5, 12], [88, 140, 97], [0.5, 4, 1])
    ax = figure.axes[0]
    curve, *equal = ax.lines
    assert list(curve.get_xdata()) == [20, 12, 5] and list(curve.get_ydata()) == [88, 97, 140], "in the order of beta"
    named = {text.get_text(): text.xy for text in ax.texts if "β" in text.get_text()}
    assert named == {"β = 0.5": (20, 88), "β = 1": (12, 97), "β = 4": (5, 140)}
    for line in equal:
        assert np.ptp(line.get_xdata() + line.get_ydata()) == pytest.approx(0, abs=1e-9)
    values = [text for text in ax.texts if "β" not in text.get_text()]
    assert len(values) >= 3
    for text in values:
        assert float(text.get_text().replace("\N{MINUS SIGN}", "-")) == pytest.approx(-sum(text.xy))
    assert ax.get_xlabel().endswith("nats per image") and ax.get_ylabel().endswith("nats per image")
    with pytest.raises(ValueError, match="got 1 beta, 2 rates and 1 distortions"):
        figures.rate_distortion([1, 2], [1], [1])
