"""`npae reconstruct RUN PICTURE`: a picture file of the user's own, made fit, encoded and decoded."""
import warnings

import numpy as np
import pytest
from PIL import Image

from npae import data, figures, models, reconstruct, runs, store
from npae.cli import main
from npae.data import photo
from npae.data.pictures import PictureError
from npae.layers import Dense, Flatten, Reshape, Sequential
from npae.recipes import RECIPES


def file(folder, array, name="mine.png", **more):
    """A picture file of an array."""
    path = folder / name
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **more)
    return path


def test_a_picture_of_the_models_own_kind_is_taken_as_it_is(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 1), np.uint8)
    pixels, said = photo.read(file(tmp_path, x[..., 0]), (5, 4, 1))
    np.testing.assert_array_equal(pixels, x)
    assert said == "mine.png (4 x 5, grey): taken as it is" and pixels.dtype == np.uint8


def test_a_colour_picture_becomes_grey_and_a_grey_one_three_colours(tmp_path):
    red = np.full((4, 4, 3), [255, 0, 0])
    pixels, said = photo.read(file(tmp_path, red), (4, 4, 1))
    assert (pixels == round(0.299 * 255)).all() and "made grey" in said
    pixels, said = photo.read(file(tmp_path, np.full((4, 4), 7)), (4, 4, 3))
    assert pixels.shape == (4, 4, 3) and (pixels == 7).all() and "three equal colours" in said
    pixels, said = photo.read(file(tmp_path, red), (4, 4, 3))
    assert (pixels == [255, 0, 0]).all() and said.endswith("taken as it is")


def test_a_large_picture_is_made_small_with_antialiasing_in_its_proportions_on_black(tmp_path):
    stripes = np.tile([0, 255], (40, 40))
    pixels, said = photo.read(file(tmp_path, stripes), (8, 8, 1))
    assert said == "mine.png (80 x 40, grey): scaled to 8 x 4, set in the middle of 8 x 8 black pixels"
    assert (pixels[:2] == 0).all() and (pixels[6:] == 0).all()
    assert (abs(pixels[2:6].astype(int) - 128) < 12).all(), "stripes finer than a pixel are grey, not an accident"
    pixels, said = photo.read(file(tmp_path, [[200]]), (6, 4, 1))
    assert (pixels[1:5] == 200).all() and (pixels[[0, 5]] == 0).all() and "scaled to 4 x 4" in said
    pixels, _ = photo.read(file(tmp_path, np.full((1, 400), 9)), (8, 8, 1))
    assert (pixels[3] == 9).all() and (pixels[4:] == 0).all(), "a hair is still one pixel high"


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("invert", [False, True])
def test_what_is_transparent_is_black_inverted_or_not(colours, invert, tmp_path):
    image = np.full((2, 2, colours + 1), 250)
    image[0, :, -1] = 0
    image[1, :, -1] = 255
    pixels, said = photo.read(file(tmp_path, image), (2, 2, 1), invert=invert)
    assert (pixels[0] == 0).all() and (pixels[1] == (5 if invert else 250)).all()
    assert "transparent made black" in said and ("inverted" in said) == invert


def test_ink_on_paper_is_inverted_before_the_margins_are_laid(tmp_path):
    paper = np.full((2, 4), 255)
    paper[0, 0] = 55
    pixels, said = photo.read(file(tmp_path, paper), (4, 4, 1), invert=True)
    assert pixels[1, 0] == 200 and pixels.sum() == 200 and "inverted" in said


def test_other_kinds_of_files_are_read_too(tmp_path):
    grey = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert photo.read(tmp_path / "deep.png", (2, 2, 1))[0].ravel().tolist() == [0, 100, 200, 255]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert photo.read(tmp_path / "bits.png", (1, 2, 1))[0].ravel().tolist() == [255, 0]
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side: a quarter turn clockwise brings it upright
    tall = file(tmp_path, [[10, 10, 240, 240]] * 2, "photo.png", exif=turned)
    assert photo.read(tall, (4, 2, 1))[0][:, 0, 0].tolist() == [10, 10, 240, 240]
    frames = [Image.fromarray(np.full((2, 2), grey, np.uint8)) for grey in (9, 90)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (photo.read(tmp_path / "moving.gif", (2, 2, 1))[0] == 9).all()


def test_what_is_no_picture_is_told_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(PictureError, match=r"nowhere\.png is not there"):
        photo.read("nowhere.png", (2, 2, 1))
    whole = file(tmp_path, np.random.default_rng(0).integers(0, 256, (50, 50))).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:40]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(PictureError, match="is no picture that can be read"):
            photo.read(tmp_path / "bad.png", (2, 2, 1))
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(PictureError, match="without a known range"):
        photo.read(tmp_path / "real.tiff", (2, 2, 1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    with warnings.catch_warnings(), pytest.raises(PictureError, match="bomb"):
        warnings.simplefilter("default")  # as in a terminal, where a warning stops nothing
        photo.read(tmp_path / "mine.png", (2, 2, 1))
    with pytest.raises(PictureError, match="the model takes 2"):
        photo.read(tmp_path / "mine.png", (2, 2, 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was never trained: a linear code of three numbers, for dark pictures of 6 x 5."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    np.savez(folder / "dark.npz", x_train=rng.integers(0, 90, (12, 6, 5), np.uint8))
    save(folder, models.Autoencoder(Sequential([Flatten(), Dense(30, 3, rng=rng)]),
                                    Sequential([Dense(3, 30, activation="sigmoid", rng=rng), Reshape((6, 5, 1))])))
    return folder


def save(folder, model, recipe="ae", **settings):
    settings = {**RECIPES[recipe].resolve({})[0], "validation": 0, **settings}
    store.write_json(folder / "config.json", {"recipe": recipe, "data": str(folder / "dark.npz"), "data_dir": None,
                                              "seed": 0, "settings": settings})
    model.save(folder / "model.npz")


def test_code_and_error_are_said_and_the_two_pictures_drawn(run, tmp_path, capsys):
    x = np.random.default_rng(1).integers(0, 90, (6, 5), np.uint8)
    out = tmp_path / "out.png"
    assert main(["reconstruct", str(run), str(file(tmp_path, x)), "--out", str(out)]) == 0
    done, sentence = capsys.readouterr().out.splitlines()
    assert done == "mine.png (5 x 6, grey): taken as it is"
    model = models.load(run / "model.npz")
    x = x[None, ..., None] / np.float32(255)
    h, x_hat = model.encode(x), model.reconstruct(x)
    error = np.square(x.astype(float) - x_hat).mean()
    code = ", ".join(f"{value:.3g}" for value in h[0])
    assert sentence == (f"ae makes of it 3 numbers ({code}) and paints it again with an error of {error:.5f} "
                        f"squared grey levels per pixel ({30 * error:.2f} per image): {out}")
    expected = figures.pair(x[0], x_hat[0], title="mine.png, painted by ae",
                            note="Through 3 numbers; grey levels from 0 to 1")
    assert out.read_bytes() == figures.save(expected, tmp_path / "expected.png").read_bytes()


def test_a_bright_picture_gets_a_hint_for_a_model_of_dark_ones_and_an_inverted_one_none(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bright, dark = file(tmp_path, np.full((6, 5), 240)), file(tmp_path, np.full((6, 5), 15), "dark.png")
    *_, hint = reconstruct.picture(run, bright)
    assert "mostly bright (mean 0.94)" in hint and "mostly dark (mean 0.1" in hint and hint.endswith("with --invert")
    assert (tmp_path / "mine-reconstructed.png").is_file()
    assert len(reconstruct.picture(run, bright, invert=True)) == len(reconstruct.picture(run, dark)) == 2
    assert reconstruct.picture(run, dark, invert=True)[-1].endswith("without --invert")


def test_a_dark_picture_gets_a_hint_for_a_model_of_bright_ones(run, tmp_path):
    np.savez(tmp_path / "dark.npz", x_train=np.full((12, 6, 5), 250, np.uint8))
    save(tmp_path, models.load(run / "model.npz"))
    dark, out = file(tmp_path, np.full((6, 5), 15)), tmp_path / "out.png"
    *_, hint = reconstruct.picture(tmp_path, dark, out=out)
    assert "mostly dark (mean 0.06), the training pictures mostly bright" in hint


def test_pixels_are_made_black_or_white_for_a_model_that_knows_no_other(run, tmp_path, monkeypatch):
    for name in ("config.json", "model.npz"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "dark.npz").write_bytes((run / "dark.npz").read_bytes())
    save(tmp_path, models.load(run / "model.npz"), binarize="threshold")
    seen, right = [], figures.pair
    monkeypatch.setattr(figures, "pair", lambda x, x_hat, **texts: seen.append(x) or right(x, x_hat, **texts))
    done, *_ = reconstruct.picture(tmp_path, file(tmp_path, [[100, 200] * 2 + [0]] * 6), out=tmp_path / "out.png")
    assert done.endswith("pixels made 0 or 1") and seen[0][0, :, 0].tolist() == [0, 1, 0, 1, 0]


def test_a_model_that_is_told_labels_needs_one(run, tmp_path, monkeypatch):
    told = []

    class Told(models.Autoencoder):
        classes = 4

        def _encoder_input(self, x, y):
            told.append(y)
            return x

        def _decoder_input(self, z, y):
            told.append(y)
            return z

    plain = models.load(run / "model.npz")
    model = Told(plain.encoder.to(), plain.decoder.to())
    monkeypatch.setattr(runs, "load", lambda folder: (model, data.load(run / "dark.npz"), store.read_json(
        run / "config.json")))
    mine, out = file(tmp_path, np.zeros((6, 5))), tmp_path / "out.png"
    with pytest.raises(ValueError, match=r"add --label K, from 0 to 3$"):
        reconstruct.picture(run, mine, out=out)
    with pytest.raises(ValueError, match="from 0 to 3, got 4"):
        reconstruct.picture(run, mine, out=out, label=4)
    reconstruct.picture(run, mine, out=out, label=2)
    assert [y.tolist() for y in told] == [[2], [2]]


@pytest.mark.parametrize(("words", "argv"), [
    ("nowhere is no finished run", ["nowhere", "mine.png"]),
    ("other.png is not there", ["RUN", "other.png"]),
    (". is a folder", ["RUN", "."]),
    ("config.json is no picture that can be read", ["RUN", "RUN/config.json"]),
    ("out.jpg is not: choose another --out", ["RUN", "mine.png", "--out", "out.jpg"]),
    ("./mine.png is not: choose another --out", ["RUN", "mine.png", "--out", "./mine.png"]),
    ("this model takes no labels, got --label 3", ["RUN", "mine.png", "--label", "3"]),
])
def test_whatever_is_wrong_is_one_sentence_and_leaves_nothing(words, argv, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = file(tmp_path, np.zeros((6, 5))).read_bytes()
    assert main(["reconstruct", *(word.replace("RUN", str(run)) for word in argv)]) == 2
    printed = capsys.readouterr()
    assert words.lstrip("./") in printed.err and len(printed.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"] and (tmp_path / "mine.png").read_bytes() == before
