"""Data sets by name or path: what comes out is uint8 (N, H, W, C) with integer labels, or one clear sentence."""
import io
import os
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from npae import data
from npae.cache import cache_dir
from npae.data import Dataset, pictures, strokes
from npae.data.idx import write_idx

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (13, 5, 4), np.uint8), np.arange(13) % 3
TEST_X, TEST_Y = RNG.integers(0, 256, (4, 5, 4), np.uint8), np.arange(4) % 3


def write_folder(folder, images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte",
                 test_images="t10k-images-idx3-ubyte", test_labels="t10k-labels-idx1-ubyte"):
    for name, array in ((images, X), (labels, Y), (test_images, TEST_X), (test_labels, TEST_Y)):
        if name:
            write_idx(folder / name, array.astype(np.uint8))
    return folder


def assert_whole(dataset):
    np.testing.assert_array_equal(dataset.train_x, X[..., None])
    np.testing.assert_array_equal(dataset.test_x, TEST_X[..., None])
    np.testing.assert_array_equal(dataset.train_y, Y)
    np.testing.assert_array_equal(dataset.test_y, TEST_Y)
    assert dataset.train_x.dtype == np.uint8 and dataset.train_y.dtype == np.int64 and dataset.shape == (5, 4, 1)


# -- a path --


@pytest.mark.parametrize("names", [
    {}, {"images": "train-images.idx3-ubyte.gz", "test_images": "test-images.gz", "test_labels": "test-labels"},
    {"images": "emnist-letters-train-images-idx3-ubyte.gz", "labels": "emnist-letters-train-labels-idx1-ubyte"},
])
def test_a_folder_of_idx_files(tmp_path, names):
    dataset = data.load(write_folder(tmp_path, **names))
    assert_whole(dataset)
    assert dataset.name == tmp_path.name


def test_a_folder_of_coloured_idx_pictures_without_labels(tmp_path):
    write_idx(tmp_path / "train-images", np.zeros((7, 2, 3, 3), np.uint8))
    dataset = data.load(str(tmp_path))
    assert dataset.shape == (2, 3, 3) and dataset.train_y is None and dataset.test_y is None


def test_the_last_sixth_is_set_aside_where_there_is_no_test_part(tmp_path):
    dataset = data.load(write_folder(tmp_path, test_images=None, test_labels=None))
    np.testing.assert_array_equal(dataset.train_x[..., 0], X[:11])
    np.testing.assert_array_equal(dataset.test_x[..., 0], X[11:])
    np.testing.assert_array_equal(dataset.train_y, Y[:11])
    np.testing.assert_array_equal(dataset.test_y, Y[11:])


@pytest.mark.parametrize(("n", "test"), [(30, 5), (5, 1), (2, 1)])
def test_a_sixth_is_rounded_down_but_is_one_picture_at_least(n, test, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(4 * n, dtype=np.uint8).reshape(n, 2, 2))
    dataset = data.load(tmp_path / "x.npy")
    assert (len(dataset.train_x), len(dataset.test_x)) == (n - test, test)


@pytest.mark.parametrize(("names", "message"), [
    ({"images": None}, "no IDX file called train-images"),
    ({"test_images": None}, "labels without their pictures"),
])
def test_a_folder_that_lacks_pictures_is_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        data.load(write_folder(tmp_path, **names))


def test_two_files_for_one_part_are_refused_by_name(tmp_path):
    write_folder(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", X)
    with pytest.raises(ValueError, match=r"both train-images-idx3-ubyte and train-images-idx3-ubyte\.gz"):
        data.load(tmp_path)


@pytest.mark.parametrize("array", [X, np.asfortranarray(X), X[..., None]])
def test_an_npy_of_pictures(tmp_path, array):
    np.save(tmp_path / "mine.npy", array)
    dataset = data.load(tmp_path / "mine.npy")
    np.testing.assert_array_equal(dataset.train_x[..., 0], X[:11])
    assert dataset.train_y is None and dataset.name == "mine" and dataset.shape == (5, 4, 1)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("x_train", "y_train", "x_test", "y_test"),
                                  ("train_x", "train_y", "test_x", "test_y")])
def test_an_npz_with_the_usual_names(tmp_path, save, keys):
    save(tmp_path / "x.npz", **dict(zip(keys, (X, Y, TEST_X, TEST_Y), strict=True)))
    assert_whole(data.load(tmp_path / "x.npz"))


def test_an_npz_of_one_array_or_of_training_pictures_alone(tmp_path):
    for name in ("anything", "x_train"):
        np.savez(tmp_path / "x.npz", **{name: X})
        dataset = data.load(tmp_path / "x.npz")
        assert len(dataset.train_x) == 11 and len(dataset.test_x) == 2 and dataset.train_y is None


@pytest.mark.parametrize(("arrays", "message"), [
    ({"a": X, "b": X}, "has the arrays a.npy, b.npy: expected"),
    ({"x_train": X, "y_train": Y, "extra": X}, "expected one array"),
    ({}, "has the arrays none"),
    ({"x_train": X, "y_train": Y[:5]}, "13 pictures and 5 labels"),
    ({"x_train": X, "y_train": Y[:5], "x_test": X}, "13 train pictures need 13 labels"),
    ({"x_train": X, "x_test": TEST_X, "y_test": Y}, "4 test pictures need 4 labels"),
    ({"x_train": X, "y_test": Y}, "labels without their pictures"),
    ({"x_train": X, "x_test": TEST_X[:, :3]}, r"test pictures are \(3, 4, 1\), training pictures \(5, 4, 1\)"),
    ({"x_train": X, "y_train": np.eye(13)}, "labels must be integers"),
    ({"x_train": X, "y_train": Y[:, None]}, r"int64 of shape \(\d+, 1\)"),
    ({"x_train": X, "y_train": Y - 1}, "least -1"),
    ({"x_train": X[:1]}, "at least 2"),
])
def test_an_npz_that_does_not_fit_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_zero_to_one_become_greys_and_every_grey_comes_back(tmp_path, dtype):
    greys = np.arange(256, dtype=np.uint8).reshape(2, 16, 8)
    np.save(tmp_path / "x.npy", (greys / 255).astype(dtype))
    dataset = data.load(tmp_path / "x.npy")
    np.testing.assert_array_equal(np.concatenate([dataset.train_x, dataset.test_x])[..., 0], greys)


def test_floats_are_rounded_to_the_nearest_grey():
    x = np.array([[[0.0, 0.49 / 255, 0.51 / 255, 0.5, 254.4 / 255, 254.6 / 255]]])
    assert pictures.to_pictures(x, "x").ravel().tolist() == [0, 0, 1, 128, 254, 255]


@pytest.mark.parametrize(("array", "message"), [
    (np.full((2, 3, 3), 1.5), r"lie in \[0, 1\], got 1.5 to 1.5"),
    (np.full((2, 3, 3), -0.1), r"got -0.1 to -0.1"),
    (np.full((2, 3, 3), 255.0), "got 255.0 to 255.0"),
    (np.full((2, 3, 3), np.nan), "got nan to nan"),
    (np.where(np.arange(18) == 7, np.nan, 0.5).reshape(2, 3, 3), "got nan"),
    (np.zeros((2, 3, 3), np.int64), "got int64"),
    (np.zeros((2, 3, 3), bool), "got bool"),
    (np.zeros((2, 3, 3), complex), "got complex128"),
    (np.zeros((2, 9), np.uint8), r"\(N, H, W, C\), got \(2, 9\)"),
    (np.zeros((2, 1, 3, 3, 3), np.uint8), r"got \(2, 1, 3, 3, 3\)"),
    (np.zeros((0, 3, 3), np.uint8), r"got \(0, 3, 3\)"),
    (np.array([["a"]]), "only numbers"),
    (np.zeros(3, np.dtype([("a", "u1")])), "only numbers"),
    (np.zeros((2, 3, 3), "M8[s]"), "only numbers"),
])
@pytest.mark.parametrize("end", [".npy", ".npz"])
def test_what_is_no_picture_is_refused_with_a_reason_and_the_path(tmp_path, array, message, end):
    path = tmp_path / f"x{end}"
    (np.save if end == ".npy" else np.savez)(path, array)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Canary:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("end", [".npy", ".npz"])
def test_pickled_objects_are_never_loaded(tmp_path, end):
    array = np.empty(2, object)
    array[:] = Canary(tmp_path / "canary")
    path = tmp_path / f"x{end}"
    (np.save if end == ".npy" else np.savez)(path, array, allow_pickle=True)
    with pytest.raises(ValueError, match="only numbers"):
        data.load(path)
    assert not (tmp_path / "canary").exists()


def npy(shape, content, descr="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


@pytest.mark.parametrize("content", [
    npy((65536, 65536), b"12345678", "<f8"),  # 32 GiB in 128 bytes
    npy((2 ** 32, 2 ** 32, 1), b""),  # a product of 2^64
    npy((-2, -2, 3), bytes(12)),
    npy((2, 2, 3), bytes(11)), npy((2, 2, 3), bytes(13)),
    b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"<html>", b"\x93NUMPY\x03\x00\x00\x00\x00\x00",
    npy((2, 2, 3), bytes(12)).replace(b"(2, 2, 3)", b"(2, 2, 3\n"),
])
@pytest.mark.parametrize("end", [".npy", ".npz"])
def test_an_array_file_that_lies_about_its_size_is_refused(tmp_path, content, end):
    path = tmp_path / f"x{end}"
    if end == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x_train.npy", content)
    with pytest.raises(pictures.PictureError, match=r"x\.np"):
        data.load(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_mutants_of_an_npz_raise_nothing_but_value_errors(tmp_path, compression):
    path, draw = tmp_path / "x.npz", random.Random(0)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x_train.npy", npy((13, 5, 4), X.tobytes()))
    original = path.read_bytes()
    refused = 0
    for _ in range(500):
        changed = bytearray(original)
        for _ in range(draw.choice((1, 3))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed if draw.random() < 0.8 else changed[:draw.randrange(len(changed))])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy warns of headers of Python 2
                dataset = data.load(path)
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(dataset.train_x[..., 0], X[:11])
    assert refused > 250


@pytest.mark.parametrize("name", ["mnits", "no/such.npz", "/dev/null"])
def test_an_unknown_name_is_refused_with_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"IDX files"):
        data.load(name)


# -- by name --


def test_strokes_have_the_sizes_that_were_asked_for(cache):
    dataset = data.load("strokes", train=30, test=10, seed=3)
    assert dataset.train_x.shape == (30, 28, 28, 1) and dataset.test_x.shape == (10, 28, 28, 1)
    assert dataset.train_x.dtype == np.uint8 and dataset.train_y.dtype == np.int64 and dataset.name == "strokes"
    again = data.load("strokes", train=30, test=10, seed=3)
    np.testing.assert_array_equal(dataset.train_x, again.train_x)


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("strokes", {"dir": "x"}, "a folder of data, x, is for 'mnist': it does not go"),
    ("some.npy", {"dir": "x"}, "a folder of data, x, is for 'mnist': it does not go"),
    ("mnist", {"train": 5}, "train are for the generated"),
    ("some.npy", {"test": 5, "seed": 1}, "test, seed are for the generated"),
])
def test_an_argument_that_does_not_go_with_the_name_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, **arguments)


def test_a_folder_called_mnist_is_reached_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    write_folder(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    assert_whole(data.load("./mnist"))


# -- Dataset --


def dataset_of(n=24, labels=True):
    x = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    y = np.arange(n) if labels else None
    return Dataset(x, y, x[:3], None if y is None else y[:3], "tiny")


@pytest.mark.parametrize(("n_train", "n"), [(60_000, 5_000), (12_000, 1_000), (24, 2), (11, 0)])
def test_a_twelfth_is_the_default_for_validation(n_train, n):
    assert data.default_validation(n_train) == n


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("n", "first"), [(None, 22), (5, 19), (23, 1)])
def test_validation_takes_the_last_training_pictures(n, first, labels):
    split = dataset_of(labels=labels).with_validation(n)
    assert split.train_x.ravel().tolist() == list(range(first))
    assert split.valid_x.ravel().tolist() == list(range(first, 24))
    assert len(split.test_x) == 3 and split.name == "tiny" and split.shape == (1, 1, 1)
    if labels:
        assert split.train_y.tolist() == list(range(first)) and split.valid_y.tolist() == list(range(first, 24))
    else:
        assert split.train_y is None and split.valid_y is None


def test_no_validation_leaves_the_data_as_they_are():
    dataset = dataset_of()
    assert dataset.with_validation(0) is dataset and dataset.valid_x is None


@pytest.mark.parametrize(("n", "words"), [
    (24, "24 training pictures: cannot set 24 aside"), (25, "24 training pictures: cannot set 25 aside"),
    (-1, "pictures to set aside must be an integer of at least 0, got -1"), (0.5, "integer of at least 0, got 0.5")])
def test_validation_that_leaves_nothing_is_an_error(n, words):
    with pytest.raises(ValueError, match=words):
        dataset_of().with_validation(n)


def test_validation_twice_is_an_error():
    with pytest.raises(ValueError, match="has 2 validation pictures already"):
        dataset_of().with_validation().with_validation()


@pytest.mark.parametrize("x", [np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2, 1), np.float32),
                               np.zeros((0, 2, 2, 1), np.uint8)])
def test_a_dataset_holds_uint8_pictures_of_four_dimensions(x):
    with pytest.raises(ValueError, match=r"train pictures must be uint8 of shape \(N, H, W, C\)"):
        Dataset(x, None, x, None, "x")


# -- describe, cache, import --


def test_describe_says_what_is_there_and_what_is_missing(tmp_path, cache, monkeypatch):
    monkeypatch.delenv("NPAE_DATA", raising=False)
    lines = data.describe("mnist")
    assert str(cache / "mnist") in lines[0] and "downloaded on first use" in lines[0]
    assert [line.split(": ")[1] for line in lines[1:]] == ["missing"] * 4
    assert not cache.exists()
    lines = data.describe("mnist", write_folder(tmp_path))
    assert "(dir)" in lines[0] and all("is not MNIST's" in line for line in lines[1:])
    (line,) = data.describe(tmp_path)
    assert "13 training and 4 test pictures of 5 x 4 x 1, in 3 classes" in line
    first, place = data.describe("strokes")
    assert "12,000 training and 2,000 test pictures" in first and "generated from a seed" in first
    assert str(cache) in place and "drawn and kept on first use" in place
    cache.mkdir()
    strokes.cache_file().touch()
    assert "kept from the first use" in data.describe("strokes")[1]


@pytest.mark.parametrize(("name", "short"), [
    ("mnist", "mnist"), ("a/digits.npz", "digits"), ("a/digits.v2", "digits.v2"), (".", Path.cwd().name)])
def test_a_data_set_is_called_by_the_last_part_of_its_path(name, short):
    assert data.short_name(name) == short


def test_describe_verifies_real_mnist(mnist_dir):
    assert sum("verified" in line for line in data.describe("mnist", mnist_dir)) == 4


@pytest.mark.parametrize(("variables", "expected"), [
    ({"NPAE_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, Path("/a/b")),
    ({"NPAE_CACHE": "", "XDG_CACHE_HOME": "/c"}, Path("/c/npae")),
    ({"HOME": "/h"}, Path("/h/.cache/npae")),
    ({"HOME": "/h", "NPAE_CACHE": "~/mine"}, Path("/h/mine")),
])
def test_the_cache_is_where_the_first_of_three_variables_says(monkeypatch, variables, expected):
    for name in ("NPAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == expected


def test_importing_loads_nothing_heavy_and_writes_nothing(tmp_path):
    heavy = ["scipy", "numba", "matplotlib", "pooch", "tqdm", "requests"]
    code = f"import sys, npae.data.batches, npae.store; print([name for name in {heavy} if name in sys.modules])"
    home = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=home)
    assert done.stdout.strip() == "[]" and list(tmp_path.iterdir()) == []


def test_a_data_set_knows_its_mean_picture_its_classes_and_its_first_pictures():
    x = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 1)).astype(np.uint8)
    y = np.array([0, 2, 1, 4, 0, 1, 2])
    full = Dataset(x, y, x[:4], y[:4], "toy")
    np.testing.assert_allclose(full.mean, (x / 255).mean(0), rtol=1e-6)
    assert full.mean.dtype == np.float32 and full.classes == 5
    part = full.first(3)
    assert np.array_equal(part.train_x, x[:3]) and np.array_equal(part.train_y, y[:3]) and part.classes == 5, (
        "the label 4 of a test picture is one too")
    assert np.array_equal(part.test_x, full.test_x) and full.first(0) is full
    kept = Dataset(x[:3], y[:3], x[:1], y[:1], "toy", valid_x=x[3:], valid_y=y[3:])
    assert kept.classes == 5, "and so is that of a validation picture"
    bare = Dataset(x, None, x, None, "bare")
    assert bare.classes is None and bare.first(2).train_y is None
    for n, words in ((8, "toy has 7 training pictures: cannot take the first 8"),
                     (-1, "toy: the number of pictures to take must be an integer of at least 0, got -1")):
        with pytest.raises(ValueError, match=words):
            full.first(n)
