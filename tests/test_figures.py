"""Figures: titles, units, orientation, equal bytes, and a caller whose matplotlib is left as it was."""

import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from npae import canvas, figures

RNG = np.random.default_rng(0)
GREY = RNG.random((20, 6, 5, 1), dtype=np.float32)
COLOUR = RNG.random((20, 5, 7, 3), dtype=np.float32)
ROWS = [
    {"epoch": e, "loss": 110 - e, "recon": 90 - 2 * e, "kl": 20 + e, "val_loss": 111 - e, "val_recon": 91 - 2 * e,
     "val_kl": 20 + e, "seconds": 6.0, "lr": 1e-3}
    for e in (1, 2, 3)
]


def texts(figure):
    """All that is written on a figure."""
    found = figure.findobj(matplotlib.text.Text)
    return [text.get_text() for text in found if text.get_text()]


def png(figure, folder):
    return figures.save(figure, folder / "figure.png").read_bytes()


def one_of_each_kind(x):
    """One figure of each kind, drawn from pictures of one kind."""
    yield figures.reconstructions(x, x**2)
    yield figures.samples(x[:6], 2, 3)
    yield figures.sheet(x, np.arange(len(x)) % 10)
    yield figures.pair(x[0], x[1], note="Through 3 numbers")
    yield figures.triples(x, x**2, x**3)
    yield figures.class_sheet(x, 5, beside={"test pictures": x}, unsorted={"plain VAE": x[:10]})
    yield figures.filters(x.reshape(20, -1).T - 0.5, x.shape[1:])
    yield figures.learning_curves(ROWS)
    yield figures.latent_scatter(x[:, 0, :2, 0], np.arange(len(x)) % 10, window=((-2, 2), (0, 1)))
    yield figures.manifold(lambda z: x[np.arange(len(z)) % len(x)], n=3)
    yield figures.traversals(lambda z: x[np.arange(len(z)) % len(x)], np.array([0.0, 2, -7]), [[-3, 3]] * 3, steps=4)
    yield figures.interpolations(x[:3], x[3:6], x[:12].reshape(3, 4, *x.shape[1:]))
    yield figures.jacobian_spectrum({"plain": x[:, :, 0, 0], "contractive": 1e-4 * x[:, :2, 0, 0]})
    yield figures.against_pca([1, 2, 10], [0.03, 0.02, 0.01], [0.05, 0.03, 0.004])
    yield figures.rate_distortion([20, 5, 12], [88, 140, 97], [0.1, 4, 1])


def variants(x):
    """The same kinds with other arguments, as far as the page looks different."""
    yield figures.sheet(x)
    yield figures.latent_scatter(x[:, 0, :2, 0])
    yield figures.class_sheet(x, 4)
    yield figures.filters(np.linspace(-1, 1, 3 * 3 * 2 * 60).reshape(3, 3, 2, 60))
    yield figures.manifold(lambda z: x[np.arange(len(z)) % len(x)], ((-2, 2), (0, 1)), n=3)
    yield figures.jacobian_spectrum(x[:, :, 0, 0])
    yield figures.learning_curves([{**row, "decay": 1.0, "jac": 2.0} for row in ROWS], per="iteration")


def test_every_figure_has_a_title_and_a_note_and_nothing_in_its_margin(tmp_path):
    for figure in (*one_of_each_kind(GREY), *variants(GREY)):
        assert figure.get_suptitle()
        assert figure.texts[1].get_text(), "the note"
        assert len(png(figure, tmp_path)) < 150_000
        width, height = figure.canvas.get_width_height()
        box = figure.get_tightbbox()  # in inches, of all that is visible
        left, right = canvas.DPI * box.x0, width - canvas.DPI * box.x1
        below, above = canvas.DPI * box.y0, height - canvas.DPI * box.y1
        assert min(left, right, below, above) > canvas.MARGIN / 2 - 1, figure.get_suptitle()


def test_a_figure_gives_equal_bytes_without_metadata_whatever_the_callers_settings(tmp_path):
    expected = [png(figure, tmp_path) for figure in one_of_each_kind(COLOUR)]
    assert all(Image.open(io.BytesIO(content)).info == {} for content in expected)
    mine = {"font.size": 30, "axes.facecolor": "black", "text.color": "red", "savefig.dpi": 20, "image.cmap": "jet",
            "font.sans-serif": ["DejaVu Serif"]}
    with matplotlib.rc_context(mine):
        before = dict(matplotlib.rcParams)
        assert [png(figure, tmp_path) for figure in one_of_each_kind(COLOUR)] == expected
        assert dict(matplotlib.rcParams) == before
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_pyplot_is_not_imported_and_the_backend_stays(tmp_path):
    code = """if True:
        import sys
        from npae import evaluate, figures
        assert not {"matplotlib", "PIL", "scipy", "numba"} & set(sys.modules), "not lazy"
        import matplotlib, numpy as np
        matplotlib.use("pdf")
        x = np.zeros((16, 4, 5, 1), np.float32)
        rows = [{"epoch": 1, "loss": 1.0, "recon": 1.0, "kl": 0.0}]
        for figure in (figures.reconstructions(x, x), figures.samples(x, 4, 4), figures.sheet(x),
                       figures.learning_curves(rows), figures.latent_scatter(x[:, 0, :2, 0], np.arange(16)),
                       figures.manifold(lambda z: x[:9], n=3), figures.triples(x, x, x), figures.class_sheet(x, 4),
                       figures.filters(x[:, 0, :, 0], (4, 4, 1)), figures.rate_distortion([1], [2], [1]),
                       figures.traversals(lambda z: x[:len(z)], np.zeros(1), [[0, 1]]),
                       figures.interpolations(x, x, x[:, None]), figures.jacobian_spectrum(x[:, 0, :, 0] + 1),
                       figures.against_pca([1], [.1], [.2])):
            figures.save(figure, sys.argv[1] + "/a.png")
        figures.training_gif([(0, x, x, x), (1, x, x, x)], sys.argv[1] + "/a.gif")
        assert "matplotlib.pyplot" not in sys.modules, "pyplot"
        assert matplotlib.get_backend() == "pdf"
    """
    root = Path(figures.__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_reconstructions_show_originals_above_and_errors_below():
    x = np.zeros((12, 4, 4, 1))
    x_hat = x + (np.arange(12) / 10).reshape(12, 1, 1, 1)
    figure = figures.reconstructions(x, x_hat)
    image = figure.axes[0].images[0].get_array()
    written = texts(figure)
    assert written.count("original") == written.count("reconstructed") == 1
    assert [f"{(k / 10) ** 2:.4f}" for k in range(10)] == [text for text in written if text.startswith("0.")]
    assert any("mean squared error per pixel" in text for text in written)
    top, bottom = image[: image.shape[0] // 2], image[image.shape[0] // 2 :]
    assert (top == 0).all(axis=2).sum() == 10 * 16, "ten black originals"
    assert (bottom == round(255 * 0.3)).all(axis=2).sum() == 16, "the fourth reconstruction once"


def test_bytes_and_grey_levels_look_the_same():
    x = np.arange(250, 256, dtype=np.uint8).reshape(1, 2, 3, 1)
    one, two = (figures.samples(pictures, 1, 1).axes[0].images[0].get_array() for pictures in (x, x / 255))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, x[0].repeat(3, 2))


def test_pictures_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(20, 6, 5, 1\).*\(20, 5, 7, 3\)"):
        figures.reconstructions(GREY, COLOUR)


def test_a_pixel_that_is_not_a_number_is_magenta():
    x = np.full((1, 2, 3, 1), np.nan)
    image = figures.samples(x, 1, 1).axes[0].images[0].get_array()
    assert (image == [255, 0, 255]).all()


def test_what_cannot_be_drawn_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"1 channel .* or 3 .*got 2"):
        figures.sheet(np.zeros((4, 3, 3, 2)))
    with pytest.raises(ValueError, match=r"nothing to draw.*\(0, 3, 3, 1\)"):
        figures.reconstructions(np.zeros((0, 3, 3, 1)), np.zeros((0, 3, 3, 1)))
    with pytest.raises(ValueError, match="2 x 3 shows 6 samples, got 20"):
        figures.samples(GREY, 2, 3)
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(4, 3\)"):
        figures.latent_scatter(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="got 0 rows"):
        figures.learning_curves([])
    with pytest.raises(ValueError, match="got 0"):
        figures.training_gif([], tmp_path / "a.gif")


def test_a_sheet_holds_a_hundred_pictures_and_their_labels():
    x = np.zeros((250, 3, 4, 1), np.uint8)
    figure = figures.sheet(x, np.full(250, 7), title="Sevens")
    assert texts(figure).count("7") == 100
    assert "The first 100 of 250; 3 x 4 pixels, grey; below each its label" in texts(figure)
    assert (figure.axes[0].images[0].get_array() == 0).all(axis=2).sum() == 100 * 12


def test_learning_curves_have_a_panel_for_each_term_and_the_unit():
    figure = figures.learning_curves(ROWS, "nats per image")
    assert [ax.get_title("left") for ax in figure.axes] == ["loss", "recon", "kl"]
    assert figure.axes[0].get_ylabel() == "nats per image"
    for ax, key in zip(figure.axes, ("loss", "recon", "kl"), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        for label, name in (("training", key), ("validation", "val_" + key)):
            assert list(lines[label].get_xdata()) == [1, 2, 3]
            assert list(lines[label].get_ydata()) == [row[name] for row in ROWS]
        assert f"{ROWS[-1][key]:#.4g}" in texts(figure)


def test_one_term_needs_no_panel_of_its_own_and_missing_epochs_are_left_out():
    rows = [{"epoch": e, "loss": 30.0 - e, "recon": 30.0 - e} for e in range(5)]
    rows[1]["val_loss"] = rows[3]["val_loss"] = 31.0
    rows[2]["val_loss"] = None
    figure = figures.learning_curves(rows, "squared grey level per image")
    assert len(figure.axes) == 1
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["validation"].get_xdata()) == [1, 3]
    assert any("squared grey level per image" in text for text in texts(figure))


@pytest.mark.parametrize("validated", [True, False])
def test_the_last_numbers_stand_at_the_right_edge_of_their_panel_side_by_side(validated):
    rows = ROWS if validated else [{k: v for k, v in row.items() if not k.startswith("val_")} for row in ROWS]
    figure = figures.learning_curves(rows)
    figure.canvas.draw()
    for ax in figure.axes:
        first, *others = (text.get_window_extent() for text in ax.texts)
        assert abs(first.x1 - ax.bbox.x1) < 2 and len(others) == validated
        assert all(other.x1 < first.x0 for other in others)


def test_one_epoch_is_a_visible_point_in_the_middle_of_a_whole_numbered_axis(tmp_path):
    figure = figures.learning_curves(ROWS[:1])
    png(figure, tmp_path)
    for ax in figure.axes:
        assert all(line.get_markersize() >= 5 for line in ax.lines)
        assert ax.get_xlim() == (0.5, 1.5)
        assert [tick for tick in ax.get_xticks() if 0.5 <= tick <= 1.5] == [1]


@pytest.mark.parametrize("epochs", [2, 7, 10, 300])
def test_epochs_are_whole_numbers(epochs):
    rows = [{"epoch": e, "loss": 1 / e} for e in range(1, epochs + 1)]
    assert all(tick == round(tick) for tick in figures.learning_curves(rows).axes[0].get_xticks())


def test_a_run_that_went_wrong_can_still_be_drawn(tmp_path):
    rows = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": float("nan")}, {"epoch": 3, "loss": float("inf")}]
    assert png(figures.learning_curves(rows), tmp_path)
    assert png(figures.learning_curves(rows[1:2]), tmp_path)
    assert png(figures.latent_scatter(np.full((5, 2), np.nan), np.arange(5)), tmp_path)
    assert png(figures.latent_scatter(np.zeros((5, 2)), np.arange(5)), tmp_path)
    assert png(figures.manifold(lambda z: np.full((len(z), 3, 3, 1), np.nan), n=3), tmp_path)


def test_the_colour_bar_is_discrete_with_a_tick_for_each_label():
    z = RNG.standard_normal((50, 2))
    figure = figures.latent_scatter(z, np.arange(50) % 10)
    scatter = figure.axes[0].collections[0]
    np.testing.assert_array_equal(scatter.get_offsets(), z)
    assert scatter.cmap.N == 10
    assert list(figure.axes[1].get_yticks()) == list(range(10))
    assert list(scatter.norm.boundaries) == [k - 0.5 for k in range(11)]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("$z_1$", "$z_2$")
    assert figure.axes[0].get_aspect() == 1  # a circle is round: distances in the plane mean something


@pytest.mark.parametrize("scale", [0.02, 1, 5, 300])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_names_of_the_axes_stand_on_the_page_beside_ticks_of_any_length(scale, labelled):
    z = scale * np.random.default_rng(0).standard_normal((200, 2))
    figure = figures.latent_scatter(z, np.arange(200) % 10 if labelled else None)
    figure.canvas.draw()
    axis = figure.axes[0].yaxis
    name, ticks = axis.label.get_window_extent(), [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
    assert name.x0 >= 0 and name.x1 <= min(tick.x0 for tick in ticks)


def test_one_colour_without_labels():
    figure = figures.latent_scatter(RNG.standard_normal((50, 2)))
    assert len(figure.axes) == 1 and len(figure.axes[0].collections[0].get_facecolors()) == 1


def test_more_than_ten_and_scattered_labels_have_a_colour_each():
    labels = np.array([200, -5, 10**12, *range(20, 32)])
    figure = figures.latent_scatter(RNG.standard_normal((15, 2)), labels)
    scatter, bar = figure.axes[0].collections[0], figure.axes[1]
    assert scatter.cmap.N == 15
    assert len({scatter.cmap(scatter.norm(place)) for place in scatter.get_array()}) == 15
    assert [tick.get_text() for tick in bar.get_yticklabels()] == [str(label) for label in sorted(labels)]


def test_hundreds_of_labels_are_not_written_over_each_other(tmp_path):
    figure = figures.latent_scatter(RNG.standard_normal((300, 2)), np.arange(300))
    assert png(figure, tmp_path) and not figure.axes[0].texts
    assert len(figure.axes[1].get_yticks()) <= 20


def test_labels_that_would_hide_each_other_are_moved_apart():
    z = np.array([[0, 0], [0.001, 0], [10, 10]])
    labels = figures.latent_scatter(z, np.arange(3)).axes[0].texts
    places = np.array([text.get_position() for text in labels])
    assert np.hypot(*(places[0] - places[1])) > 0.5
    np.testing.assert_array_equal(places[2], [10, 10])


def test_a_dollar_in_a_files_name_is_no_mathematics(tmp_path):
    assert png(figures.pair(GREY[0], GREY[1], title="$x_$.png"), tmp_path)


def test_integers_whose_white_nobody_knows_are_not_drawn():
    with pytest.raises(ValueError, match=r"uint8, or floats in \[0, 1\], got int64 from 0 to 255: convert"):
        figures.samples(np.array([0, 255]).reshape(2, 1, 1, 1), 1, 2)


def test_a_span_that_is_a_word_is_gaussian():
    with pytest.raises(ValueError, match=r"'gaussian', .* got 'uniform'"):
        figures.manifold(lambda z: z, "uniform")


@pytest.mark.parametrize("span", ["gaussian", (-5.0, 5.0)])
def test_z1_grows_to_the_right_and_z2_upwards(span):
    """The decoder writes its code into the picture: z1 as red, z2 as green."""
    seen = {}

    def decode(z):
        seen["z"] = z
        red_green = (z - z.min()) / np.ptp(z)
        return np.concatenate([red_green, 0 * z[:, :1]], axis=1)[:, None, None, :].repeat(2, 1).repeat(3, 2)

    figure = figures.manifold(decode, span, n=20)
    ax = figure.axes[0]
    image = ax.images[0].get_array()
    assert image.shape == (40, 60, 3) and ax.images[0].origin == "upper" and ax.get_ylim()[0] > ax.get_ylim()[1]
    assert (image[:, 0, 0] == 0).all() and (image[:, -1, 0] == 255).all(), "red is z1: dark left, bright right"
    assert (image[-1, :, 1] == 0).all() and (image[0, :, 1] == 255).all(), "green is z2: dark below, bright above"
    low, high = {"gaussian": (-1.6448536, 1.6448536)}.get(span, span)
    assert seen["z"].dtype == np.float32 and seen["z"].shape == (400, 2)
    assert seen["z"].min() == pytest.approx(low) and seen["z"].max() == pytest.approx(high)


@pytest.mark.parametrize("span", ["gaussian", (-3.0, 1.0)])
def test_the_manifolds_ticks_stand_at_the_pictures_of_their_values(span):
    codes = []
    figure = figures.manifold(lambda z: codes.append(z) or np.zeros((len(z), 4, 5, 1)), span, n=6)
    z = codes[0].reshape(6, 6, 2)
    ax = figure.axes[0]
    values = [[number(label) for label in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis)]
    np.testing.assert_allclose(values[0], z[0, (ax.get_xticks() // 5).astype(int), 0], atol=0.006)
    np.testing.assert_allclose(values[1], z[(ax.get_yticks() // 4).astype(int), 0, 1], atol=0.006)


def number(label):
    return float(label.get_text().replace("\N{MINUS SIGN}", "-"))


def test_gaussian_steps_are_those_of_the_normal_quantile():
    from scipy.special import ndtri

    codes = []
    figures.manifold(lambda z: codes.append(z) or np.zeros((len(z), 2, 2, 1)))
    np.testing.assert_allclose(codes[0][:20, 0], ndtri(np.linspace(0.05, 0.95, 20)), rtol=1e-6)


def frames(n, x=GREY):
    return [(e, x[:16], x[:16] * 0.5, x[:16] * e / n) for e in range(n + 1)]


@pytest.mark.parametrize("x", [GREY, COLOUR])
def test_the_animation_has_a_frame_an_epoch_loops_and_rests_at_the_end(tmp_path, x):
    path = figures.training_gif(frames(3, x), tmp_path / "training.gif")
    with Image.open(path) as gif:
        assert gif.n_frames == 4 and gif.info["loop"] == 0 and 600 <= gif.width <= 950
        durations = []
        for i in range(4):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert durations[:3] == [500] * 3 and durations[3] > 1500
    assert path.read_bytes() == figures.training_gif(frames(3, x), tmp_path / "again.gif").read_bytes()


def test_the_epoch_is_written_on_each_frame_at_the_same_place(monkeypatch, tmp_path):
    titles, places = [], []
    render = figures.files.render

    def spy(figure):
        titles.append(figure.get_suptitle())
        places.append(figure.texts[0].get_position())
        return render(figure)

    monkeypatch.setattr(figures.files, "render", spy)
    figures.training_gif(frames(2), tmp_path / "a.gif", title="A VAE")
    assert titles == [f"A VAE: epoch {e} of 2" for e in range(3)]
    assert len(set(places)) == 1 and places[0][0] < 0.1


def test_an_animation_that_is_too_large_loses_frames_but_not_its_last(monkeypatch, tmp_path):
    full = figures.training_gif(frames(4), tmp_path / "full.gif")
    monkeypatch.setattr(figures.files, "GIF_BYTES", full.stat().st_size - 1)
    thin = figures.training_gif(frames(4), tmp_path / "thin.gif")
    with Image.open(full) as whole, Image.open(thin) as gif:
        assert (whole.n_frames, gif.n_frames) == (5, 3)
        whole.seek(4)
        gif.seek(2)
        assert gif.convert("RGB").tobytes() == whole.convert("RGB").tobytes()


def test_a_figure_that_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        figures.save(figures.sheet(GREY), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
