"""Bad command lines: settings, options, data, folders, runs, pictures, and input that ends in the middle.
Each ends with status 2 and one line on stderr that says what is wrong, and leaves nothing behind.
"""
import gzip
import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from npae.cli import main

BARS = "--data bars.npz"


def written(name, x, y=None, **more):
    arrays = {"x_train": x[:60], "x_test": x[60:]}
    if y is not None:
        arrays.update(y_train=y[:60], y_test=y[60:])
    np.savez(name, **{**arrays, **more})


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with good and bad files of every kind, and two trained runs with broken copies."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NPAE_CACHE", str(folder / "cache"))
        patch.delenv("NPAE_DATA", raising=False)
        _data(folder)
        _runs(folder)
        _pictures(folder)
    return folder


def _data(folder):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 60, (90, 8, 8), np.uint8), rng.integers(0, 2, 90)
    x[np.arange(90), :, 2 + 3 * y] = 250
    written("bars.npz", x, y)
    for name, array in (("plain", x), ("one", x[:1]), ("none", x[:0]), ("flat", x.reshape(90, 64)),
                        ("int", x.astype(int)), ("grey", x.astype(float)), ("nan", np.full((9, 8, 8), np.nan)),
                        ("text", np.array(["a"])),
                        ("rgba", rng.integers(0, 255, (30, 8, 8, 4), np.uint8)), ("odd", x[:30, :7])):
        np.save(f"{name}.npy", array)
    np.save("object.npy", np.array([None, {}]), allow_pickle=True)
    written("lacking.npz", x, y, y_train=y[:50])
    written("negative.npz", x, y - 1)
    written("halves.npz", x, y / 2)
    written("numbers.npz", x, y + 1_000_000_000)
    written("sizes.npz", x, y, x_test=x[60:, :4])
    np.savez("strange.npz", a=x, b=y)
    (folder / "html.npz").write_text("<html>")
    (folder / "empty.npz").touch()
    (folder / "cut.npz").write_bytes((folder / "bars.npz").read_bytes()[:500])
    (folder / "x.txt").write_text("a")
    for name in ("folder", "full", "idx", "bomb"):
        (folder / name).mkdir()
    (folder / "full" / "mine").touch()
    (folder / "idx" / "train-images-idx3-ubyte").write_text("<html>404</html>")
    claim = b"\0\0\x08\x03" + b"\0\xff\xff\xff" * 3
    (folder / "bomb" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(claim + bytes(1000)))


def _runs(folder):
    for command in (f"train ae {BARS} --epochs 1 --out run --set latent=4 batch_size=16",
                    f"train mlp-cvae {BARS} --epochs 1 --out told --set latent=2 batch_size=20"):
        assert main(shlex.split(command)) == 0
    for name, file, content in (("no-model", "model.npz", None), ("cut-model", "model.npz", 300),
                                ("no-history", "history.csv", None), ("no-metrics", "metrics.json", None),
                                ("bad-metrics", "metrics.json", b"{}"), ("bad-config", "config.json", b"{"),
                                ("pickled", "model.npz", b"\x80\x04N.")):
        shutil.copytree("run", name)
        path = folder / name / file
        if content is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    shutil.copytree("run", "data-gone")
    config = json.loads((folder / "run" / "config.json").read_text())
    (folder / "data-gone" / "config.json").write_text(json.dumps({**config, "data": "gone.npz"}))
    shutil.copytree("run", "other-data")
    (folder / "other-data" / "config.json").write_text(json.dumps({**config, "data": str(folder / "odd.npy")}))
    shutil.copytree("run", "other-model")
    shutil.copy("told/model.npz", "other-model/model.npz")


def _pictures(folder):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save("p.png")
    Image.fromarray(grey.astype(np.float32)).save("float.tiff")
    Image.fromarray(grey.astype(np.int32) << 20).save("deep.tiff")
    (folder / "cut.png").write_bytes((folder / "p.png").read_bytes()[:50])


SETTINGS = [
    ("train ae --set latent", "--set takes key=value, got 'latent'"),
    ("train ae --set", "argument --set: expected one argument"),
    ("train ae --set latent=", "latent must be a whole number of at least 1, got ''"),
    ("train ae --set =3", "ae has no setting ''"),
    ("train ae --set latent=two", "latent must be a whole number of at least 1, got 'two'"),
    ("train ae --set latent=0", "latent must be a whole number of at least 1, got '0'"),
    ("train ae --set latent=2.5", "latent must be a whole number of at least 1, got '2.5'"),
    (f"train ae {BARS} --set latent=99999999999999999999", "are more than any memory holds: use smaller sizes"),
    ("train ae --set lr=nan", "lr must be a number of at least 0, got 'nan'"),
    ("train ae --set lr=inf", "lr must be a number of at least 0, got 'inf'"),
    ("train ae --set lr=-1", "lr must be a number of at least 0, got '-1'"),
    ("train ae --set optimizer=adamax", "optimizer must be one of sgd, momentum, rmsprop, adam, adamw, got 'adamax'"),
    ("train ae --set optimizer=lbfgs", "optimizer must be one of sgd, momentum, rmsprop, adam, adamw, got 'lbfgs'"),
    ("train ae --set beta=2", "ae has no setting 'beta': use one of latent, epochs"),
    ("train ae --set latent=2 latent=3", "latent is given as 2 and as 3: give it once"),
    ("train ae --epochs 1 --set epochs=2", "epochs is given as 1 and as 2: give it once"),
    ("train ae --set binarize=yes", "binarize must be one of threshold, sample, none, got 'yes'"),
    (f"train ae {BARS} --set validation=60", "bars has 60 training pictures: cannot set 60 aside"),
    (f"train ae {BARS} --set pictures=61", "bars has 55 training pictures: cannot take the first 61"),
    (f"train ae {BARS} --set patience=2 validation=0", "patience=2 waits for a better validation loss"),
    (f"train conv-ae {BARS} --set batch_size=100", "batch_size=100 is more than the 55 training"),
    (f"train denoising-ae {BARS} --set amount=2", "masking noise needs an amount from 0 to 1, got 2"),
    (f"train sparse-ae {BARS} --set rho=1", "a target rho between 0 and 1, got 1"),
    ("train iwae --set samples=0", "samples must be a whole number of at least 1, got '0'"),
    ("train sparse-ae --data bars.npz --set optimizer=lbfgs lr=0.5 epochs=1",
     "lr=0.5 does not go with optimizer=lbfgs, which searches its own steps: leave it out"),
    ("train sparse-ae --data bars.npz --set optimizer=lbfgs batch_size=5 epochs=1",
     "batch_size=5 does not go with optimizer=lbfgs, which sees all pictures at once: leave it out"),
    ("train ae --data bars.npz --epochs 1 --set batch_size=1000", "batch_size=1000 is more than the 55 training"),
]
OPTIONS = [
    ("", "the following arguments are required: COMMAND"),
    ("trian ae", "invalid choice: 'trian'"),
    ("train", "npae train needs a RECIPE (`npae list` shows them), or --resume RUN"),
    ("train vae", "no recipe 'vae': use one of conv-ae"),
    ("train ae extra", "unrecognized arguments: extra"),
    ("train ae --frobnicate", "unrecognized arguments: --frobnicate"),
    ("train ae --epochs 0", "epochs must be a whole number of at least 1, got '0'"),
    ("train ae --epochs two", "argument --epochs: invalid int value: 'two'"),
    ("train ae --seed -1", "--seed must be at least 0, got -1"),
    ("train ae --seed x", "argument --seed: invalid int value: 'x'"),
    ("train ae --threads 0", "at least 1 thread, got 0"),
    ("train ae --threads 100000", "set NUMBA_NUM_THREADS=100000 before Python starts"),
    ("list vae", "no recipe 'vae'"),
    ("gradcheck Dens", "Dens"),
    ("gradcheck nowhere.py:Thing", "there is no file nowhere.py"),
    ("gradcheck Dense --method secant", "no estimate is called 'secant': use one of richardson"),
    ("gradcheck Dense --shape 4,x", "--shape takes whole numbers above 0 with commas, such as 4,5, got '4,x'"),
    ("gradcheck Dense --shape 0,4", "--shape takes whole numbers above 0 with commas, such as 4,5, got '0,4'"),
    ("grade nowhere.py", "there is no file nowhere.py: nothing to grade"),
    ("grade folder", "there is no .py file in the folder folder: nothing to grade"),
    ("grade x.txt", "x.txt is no .py file"),
    ("grade x.txt --seconds 0", "a submission needs more than 0 seconds, got 0"),
    ("bughunt Dens", "Dens"),
    ("bughunt Dense --seed -1", "--seed must be at least 0, got -1"),
    ("bughunt Dense -n 0", "0 questions were asked for"),
    ("bughunt Dense --answers a.md", "--answers goes with --sheet"),
    ("gradcheck Dense --fast --plot nowhere/p.png", "nowhere for p.png: make it, or write to another place"),
    ("gradcheck Dense --fast --plot p.xyz", "p.xyz does not end in .png"),
    ("gradcheck Dense --fast --markdown folder", "folder is a folder: name a file"),
]
DATA = [
    ("train ae --data nowhere.npz", "no data set 'nowhere.npz': expected 'strokes', 'mnist', or the path"),
    (f"train ae --data {'x' * 300}", "no data set 'xxx"),
    ("train ae --data x.txt", "x.txt is neither a folder of IDX files nor a .npy or .npz"),
    ("train ae --data folder", "folder has no IDX file called train-images*"),
    ("train ae --data idx", "not with a magic number (is it a web page saved under this name?)"),
    ("train ae --data bomb", "its header claims shape"),
    ("train ae --data html.npz", "html.npz is not a whole .npz file"),
    ("train ae --data empty.npz", "empty.npz is not a whole .npz file"),
    ("train ae --data cut.npz", "cut.npz is not a whole .npz file"),
    ("train ae --data strange.npz", "strange.npz has the arrays a.npy, b.npy: expected one array, or x_train"),
    ("train ae --data one.npy", "one.npy has 1 picture: at least 2 are needed"),
    ("train ae --data none.npy", "got (0, 8, 8)"),
    ("train ae --data flat.npy", "pictures have the shape (N, H, W) or (N, H, W, C), got (90, 64)"),
    ("train ae --data int.npy", "pictures are uint8 or floats in [0, 1], got int64: convert them"),
    ("train ae --data grey.npy", "pictures of floats lie in [0, 1], got 0.0 to 250.0"),
    ("train ae --data nan.npy", "pictures of floats lie in [0, 1], got nan to nan"),
    ("train ae --data object.npy", "object.npy holds object, and only numbers are read"),
    ("train ae --data text.npy", "text.npy holds <U1, and only numbers are read"),
    ("train ae --data rgba.npy", "the pictures of rgba have 4 channels"),
    ("train conv-ae --data odd.npy", "needs height and width in multiples of 4, got 7 x 8"),
    ("train ae --data lacking.npz", "60 train pictures need 60 labels 0, 1, 2, ..., got int64 of shape (50,)"),
    ("train ae --data negative.npz", "least -1"),
    ("train ae --data halves.npz", "labels must be integers, got float64"),
    ("train ae --data numbers.npz", "a train label is 1000000001, and labels are 0 to 65535 at most"),
    ("train ae --data sizes.npz", "test pictures are (4, 8, 1), training pictures (8, 8, 1)"),
    ("train mlp-cvae --data plain.npy", "mlp-cvae is told each picture's label, and plain has none: take mlp-vae"),
    ("train ae --data strokes --data-dir folder", "a folder of data, folder, is for 'mnist'"),
    ("train ae --data mnist --data-dir nowhere", "MNIST was looked for in nowhere (dir), which lacks train-images"),
    ("data nowhere", "no data set 'nowhere'"),
    ("data bars.npz --out a.jpg", "the picture is a PNG, and a.jpg does not end in .png: choose another name"),
    ("data bars.npz --out nowhere/a.png", "nowhere for a.png: make it"),
]
RUNS = [
    (f"train ae {BARS} --out full", "full is not empty: choose another --out, or remove it"),
    (f"train ae {BARS} --out x.txt", "x.txt is a file: choose another --out"),
    (f"train ae {BARS} --out {'x' * 300}", "cannot be made (File name too long): choose another --out"),
    (f"train ae {BARS} --out x.txt/run", "x.txt/run cannot be made (Not a directory)"),
    ("eval", "the following arguments are required: RUN"),
    ("eval nowhere", "nowhere is no finished run"),
    ("eval folder", "folder is no finished run"),
    ("eval no-model", "no-model is no finished run: it should hold config.json and model.npz"),
    ("eval cut-model", "cut-model/model.npz is not a whole npae file"),
    ("eval pickled", "pickled/model.npz is not a whole npae file"),
    ("eval no-history", "history.csv is missing: the run has not finished"),
    ("eval bad-config", "config.json is refused: its JSON is not readable"),
    ("eval data-gone", "no data set 'gone.npz'"),
    ("compare run no-metrics", "no-metrics has no metrics.json: name the folder of a run"),
    ("compare run bad-metrics", "bad-metrics/metrics.json does not hold figures of npae"),
    ("figures nowhere", "nowhere is no finished run"),
    ("figures run --beside told", "leave --beside out"),
    ("reconstruct run nowhere.png", "nowhere.png is not there: give the path of a picture file"),
    ("reconstruct run folder", "folder is a folder: give the path of a picture file"),
    ("reconstruct run x.txt", "x.txt is no picture that can be read"),
    ("reconstruct run cut.png", "cut.png is no picture that can be read (image file is truncated)"),
    ("reconstruct run float.tiff", "its pixels are real numbers without a known range"),
    ("reconstruct run deep.tiff", "its pixels go from 0 to 66060288, and those of 8 or 16 bits alone have"),
    ("reconstruct run p.png --label 3", "this model takes no labels, got --label 3: leave it out"),
    ("reconstruct told p.png", "add --label K, from 0 to 1"),
    ("reconstruct told p.png --label 9", "add --label K, from 0 to 1, got 9"),
    ("reconstruct run p.png --out p.png", "the reconstruction is a new PNG, and p.png is not: choose another --out"),
    ("reconstruct run p.png --out nowhere/q.png", "nowhere for q.png: make it"),
    ("explore run --html folder", "the explorer is a web page, and folder does not end in .html"),
    ("eval other-model", "model.npz holds a model of the kind ConditionalVAE, and ae makes Autoencoder: it belongs"),
    ("eval other-data", "model.npz is for pictures of 8 x 8 x 1, and odd has 7 x 8 x 1: the data are not those"),
]
GOOD = {"settings": SETTINGS, "options": OPTIONS, "data": DATA, "runs": RUNS}
LINES = [pytest.param(*row, id=f"{name}: {row[0]}") for name, rows in GOOD.items() for row in rows]


def files(folder):
    return sorted(str(path) for path in folder.rglob("*") if "cache" not in path.parts)


@pytest.fixture
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("NPAE_CACHE", str(desk / "cache"))
    monkeypatch.delenv("NPAE_DATA", raising=False)
    return desk


def status(words):
    try:
        return main(words)
    except SystemExit as error:  # argparse's own
        return error.code


@pytest.mark.parametrize(("line", "words"), LINES)
def test_a_bad_command_line_is_told_in_a_line(line, words, at_desk, capsys):
    before = files(at_desk)
    assert status(shlex.split(line)) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("npae") and error.count("\n") == 1
    assert "Errno" not in error and "Traceback" not in error and files(at_desk) == before


@pytest.mark.parametrize(("raised", "code"), [(EOFError, (0, 1)), (KeyboardInterrupt, (130,))])
def test_input_that_ends_in_the_middle_ends_the_hunt(raised, code, at_desk, capsys, monkeypatch):
    def nothing(*prompt):
        raise raised

    monkeypatch.setattr("builtins.input", nothing)
    assert status(["bughunt", "Dense", "--seed", "1"]) in code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.err.count("\n") <= 1


def test_there_are_as_many_as_were_promised():
    assert sum(map(len, GOOD.values())) >= 60
    assert len({line for rows in GOOD.values() for line, _ in rows}) == sum(map(len, GOOD.values()))
