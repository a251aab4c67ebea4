"""Generated digits: the same bits for a seed, factors that tell the truth, a cache that does no harm, MNIST's look.
The measures beside MNIST read its real files, and are skipped where there are none.
"""

import gzip
import os
import zlib
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from npae.data import skeletons, strokes


@pytest.fixture(scope="module")
def many():
    return strokes.generate(3000, seed=5)


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


# -- the same bits --


def test_the_first_fifty_pictures_of_seed_zero_never_change():
    """A failure means: raise strokes.VERSION (cache files are named by it) and pin the new numbers."""
    pictures, labels, _ = strokes.generate(50, seed=0)
    assert strokes.VERSION == 1
    assert labels[:12].tolist() == [8, 8, 7, 3, 7, 8, 6, 4, 9, 7, 3, 7]
    assert (int(pictures.sum()), zlib.crc32(pictures.tobytes())) == (1342167, 3937069461)


def test_a_seed_gives_the_same_bits_twice_and_another_seed_or_stream_others():
    a = strokes.generate(120, seed=7)
    assert same(a, strokes.generate(120, seed=7))
    for others in (strokes.generate(120, seed=8), strokes.generate(120, seed=7, stream=1)):
        assert not np.array_equal(a[1], others[1])
        assert {p.tobytes() for p in a[0]}.isdisjoint({p.tobytes() for p in others[0]})


@pytest.mark.parametrize(("n", "seed", "stream"), [(250, 7, 1), (100, 0, 0), (3, 8, 2), (0, 0, 0)])
def test_factors_alone_are_those_of_the_pictures(n, seed, stream):
    labels, factors = strokes.factors(n, seed, stream=stream)
    assert same((labels, factors), strokes.generate(n, seed, stream=stream)[1:])


def test_factors_of_the_test_pictures_come_without_drawing_them(monkeypatch):
    expected = strokes.generate(200, 0, stream=1)[1:]
    monkeypatch.setattr(strokes, "_curves", None)
    assert same(strokes.factors(200, 0, stream=1), expected)
    with pytest.raises(ValueError, match="n = -1 and seed = 0"):
        strokes.factors(-1, 0)


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 250])
def test_a_shorter_set_is_the_beginning_of_a_longer_one(n):
    longer = strokes.generate(303, seed=2)
    assert same(strokes.generate(n, seed=2), [part[:n] for part in longer])


def test_the_bits_do_not_depend_on_the_number_of_threads():
    with threadpool_limits(1):
        one = strokes.generate(100, seed=3)
    with threadpool_limits(2):
        assert same(one, strokes.generate(100, seed=3))


def test_no_global_random_state_is_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the legacy state is what must stay as it is)
    strokes.generate(5, seed=1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# -- what comes out --


def test_pictures_and_labels_have_the_shapes_and_types_of_mnist(many):
    pictures, labels, factors = many
    assert pictures.shape == (3000, 28, 28) and pictures.dtype == np.uint8
    assert labels.shape == (3000,) and labels.dtype == np.uint8 and factors.shape == (3000,)
    assert (pictures.max((1, 2)) > 200).all() and (pictures[:, 0, 0] == 0).mean() > 0.99
    assert 25 < pictures.mean() < 42  # MNIST: 33.3


def test_classes_are_balanced_and_shuffled(many):
    labels = many[1]
    assert (np.bincount(labels) == 300).all()
    assert (np.bincount(strokes.generate(250, seed=1)[1], minlength=10) >= 20).all()
    blocks = labels.reshape(-1, 100)
    assert len({block.tobytes() for block in blocks}) == len(blocks)
    assert 0.05 < (labels[1:] == labels[:-1]).mean() < 0.15  # a tenth by chance


def test_no_two_pictures_are_alike(many):
    assert len({picture.tobytes() for picture in many[0]}) == 3000


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (5, -2)])
def test_a_negative_size_or_seed_names_both_numbers(n, seed):
    with pytest.raises(ValueError, match=f"n = {n} and seed = {seed}"):
        strokes.generate(n, seed)


# -- skeletons --


def test_every_class_has_at_least_three_skeletons_with_names_of_their_own():
    for digit in range(10):
        names = [name for name, _, _ in skeletons.SKELETONS[digit]]
        assert len(names) >= 3 and len(set(names)) == len(names)


def test_skeletons_of_a_class_are_more_than_a_pixel_apart():
    """Measured as the Hausdorff distance of the undisturbed curves."""
    table = skeletons.table()
    curves = table.sharp @ table.controls
    for digit in range(10):
        for a, b in combinations(curves[table.start[digit] : table.start[digit + 1]], 2):
            d = cdist(a, b)
            assert max(d.min(0).max(), d.min(1).max()) > 1.0


def test_a_curve_passes_through_its_points_and_its_soft_twin_cuts_the_corner():
    controls, sharp, soft, pen = skeletons.matrices("4,3 15,2* 9,19 | 6,10 15,9.5")
    np.testing.assert_allclose(sharp.sum(1), 1)  # moving all points together moves the curve with them
    np.testing.assert_allclose(soft.sum(1), 1)
    assert (cdist(controls, sharp @ controls).min(1) < 0.5).all()
    assert cdist(controls, soft @ controls).min(1)[1] > 0.5
    assert (~pen).sum() == 1
    pieces = np.linalg.norm(np.diff(sharp @ controls, axis=0), axis=1)
    assert pieces[pen].max() < 1.0 < pieces[~pen]


def test_every_skeleton_is_drawn_and_about_as_often_as_it_says(many):
    _, labels, factors = many
    for digit in range(10):
        weight = np.array([w for _, w, _ in skeletons.SKELETONS[digit]])
        share = np.bincount(factors["skeleton"][labels == digit], minlength=len(weight)) / 300
        assert len(share) == len(weight) and (share > 0).all()
        np.testing.assert_allclose(share, weight / weight.sum(), atol=4 * np.sqrt(0.25 / 300))


# -- factors tell what made a picture --


def moments(pictures):
    """Ink, centre of mass (x, y), and the tilt to the right as a tangent, by moments."""
    ink = pictures / 255.0
    y, x = np.mgrid[:28, :28]
    mass = ink.sum((1, 2))
    cx, cy = (ink * x).sum((1, 2)) / mass, (ink * y).sum((1, 2)) / mass
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    return mass, cx, cy, -(ink * dx * dy).sum((1, 2)) / (ink * dy * dy).sum((1, 2))


def test_a_plain_one_leans_by_its_slant_and_rotation(many):
    pictures, labels, factors = many
    ones = (labels == 1) & (factors["skeleton"] == 0)
    f, tilt = factors[ones], moments(pictures[ones])[3]
    expected = np.tan(np.arctan(f["slant"]) + np.deg2rad(f["rotation"]))
    slope, offset = np.polyfit(expected, tilt, 1)
    assert abs(slope - 1) < 0.05 and abs(offset) < 0.03
    assert np.corrcoef(tilt, expected)[0, 1] > 0.9
    assert np.corrcoef(tilt - f["slant"], f["rotation"])[0, 1] > 0.6


def test_slant_tells_in_every_class(many):
    pictures, labels, factors = many
    tilt = moments(pictures)[3]
    for digit in range(10):
        assert np.corrcoef(tilt[labels == digit], factors["slant"][labels == digit])[0, 1] > 0.7


def test_the_thickness_of_a_plain_one_is_its_width_in_pixels(many):
    pictures, labels, factors = many
    ones = (labels == 1) & (factors["skeleton"] == 0)
    area = moments(pictures[ones])[0]
    f = factors[ones]
    length = (20 * f["scale"] - f["width"]) / np.cos(np.arctan(f["slant"]) + np.deg2rad(f["rotation"]))
    thickness = area / (length + np.pi / 4 * f["width"])
    assert abs(np.median(thickness / f["width"]) - 1) < 0.05
    assert np.corrcoef(thickness, f["width"])[0, 1] > 0.95


def test_ink_grows_with_width_in_every_class(many):
    pictures, labels, factors = many
    for digit in range(10):
        assert np.corrcoef(pictures[labels == digit].mean((1, 2)), factors["width"][labels == digit])[0, 1] > 0.75


def test_the_centre_of_mass_lies_at_fourteen_plus_the_shift(many):
    pictures, labels, factors = many
    _, cx, cy, _ = moments(pictures)
    for centre, shift in ((cx, factors["shift_x"]), (cy, factors["shift_y"])):
        assert np.corrcoef(centre, shift)[0, 1] > 0.85
        for digit in range(10):  # whatever crosses itself, or has a heavy corner
            assert abs((centre - 14 - shift)[labels == digit].mean()) < 0.15


def test_the_longest_side_is_the_scale_times_twenty_pixels(many):
    pictures, _, factors = many
    grey = pictures / 255.0
    # The grey of the outermost row says how far into its pixel the ink reaches.
    side = np.maximum(grey.max(2).sum(1), grey.max(1).sum(1))
    assert abs(np.median(side / (20 * factors["scale"])) - 1) < 0.03
    assert np.corrcoef(side, factors["scale"])[0, 1] > 0.6


def test_the_breadth_of_a_zero_follows_the_aspect(many):
    pictures, labels, factors = many
    upright = (labels == 0) & (factors["skeleton"] == 0) & (np.abs(factors["slant"]) < 0.3)
    grey = pictures[upright] / 255.0
    breadth = grey.max(1).sum(1) / grey.max(2).sum(1)
    assert np.corrcoef(breadth, factors["aspect"][upright])[0, 1] > 0.6


def test_wobble_drives_pictures_away_from_the_mean_of_their_skeleton(many):
    pictures, labels, factors = many
    kind = labels * 20 + factors["skeleton"]
    x = pictures / 255.0
    away = np.array([np.linalg.norm(x[i] - x[kind == kind[i]].mean(0)) for i in range(1000)])
    low, high = np.quantile(factors["wobble"][:1000], [0.25, 0.75])
    assert away[factors["wobble"][:1000] > high].mean() > 1.05 * away[factors["wobble"][:1000] < low].mean()


def test_wobble_zero_leaves_the_skeleton_and_wobble_one_moves_its_ends_by_a_pixel_and_a_half():
    """Variance at the end of a stroke: 1 (control point) + 1.1² (two waves of the paper) + about 0.12 (tremor)."""
    labels, factors = np.full(400, 1), np.zeros(400, strokes.FACTORS)
    factors["aspect"] = 1
    table = skeletons.table()
    plain = table.sharp[table.start[1]] @ table.controls[table.start[1]] - 10
    still = strokes._curves(np.random.default_rng(0), labels, factors)[0]
    np.testing.assert_allclose(still, np.broadcast_to(plain, still.shape), atol=1e-12)
    factors["wobble"] = 1
    ends = (strokes._curves(np.random.default_rng(0), labels, factors)[0] - plain)[:, [0, -1]]
    assert abs(np.sqrt((ends**2).mean()) - np.sqrt(1 + 1.1**2 + 0.12)) < 0.1


# -- the cache --


def refuse(*_, **__):
    raise AssertionError("the pictures were generated again")


def test_load_gives_train_and_test_from_two_streams_of_one_seed(cache):
    a, b, c, d = strokes.load(train=130, test=30, seed=4)
    assert same((a, b), strokes.generate(130, seed=4)[:2])
    assert same((c, d), strokes.generate(30, seed=4, stream=1)[:2])
    assert not np.array_equal(a[:30], c)


def test_the_second_load_reads_the_cache_and_gives_the_same_arrays_to_write_to(cache, monkeypatch):
    first = strokes.load(train=50, test=20, seed=1)
    monkeypatch.setattr(strokes, "generate", refuse)
    second = strokes.load(train=50, test=20, seed=1)
    assert same(first, second) and all(part.flags.writeable for part in (*first, *second))
    for other in ({"train": 51}, {"test": 21}, {"seed": 2}):
        with pytest.raises(AssertionError, match="generated again"):
            strokes.load(**({"train": 50, "test": 20, "seed": 1} | other))
    monkeypatch.setattr(strokes, "VERSION", strokes.VERSION + 1)
    with pytest.raises(AssertionError, match="generated again"):
        strokes.load(train=50, test=20, seed=1)


def test_without_the_cache_nothing_is_read_or_written(cache):
    strokes.load(train=10, test=10, cache=False)
    assert not cache.exists()


def test_the_cache_folder_holds_one_file_without_pickles_and_no_leftovers(cache):
    strokes.load(train=10, test=10)
    (file,) = cache.iterdir()
    with np.load(file, allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(strokes.KEYS)


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[5000] ^= 255
    file.write_bytes(bytes(data))


def emptied(file):
    file.write_bytes(b"")


def scribbled(file):
    file.write_text("not a zip file")


def of_another_size(file):
    np.savez(file, **dict(zip(strokes.KEYS, strokes.load(8, 10, cache=False), strict=True)))


def of_another_type(file):
    parts = [part.astype(np.int64) for part in strokes.load(10, 10, cache=False)]
    np.savez(file, **dict(zip(strokes.KEYS, parts, strict=True)))


def of_objects(file):
    np.savez(file, **dict.fromkeys(strokes.KEYS, np.array([None] * 10)))


@pytest.mark.parametrize(
    "damage",
    [halved, flipped, emptied, scribbled, of_another_size, of_another_type, of_objects],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_cache_file_is_drawn_again_and_mended(cache, monkeypatch, damage):
    whole = strokes.load(train=10, test=10)
    (file,) = cache.iterdir()
    damage(file)
    assert same(whole, strokes.load(train=10, test=10))
    monkeypatch.setattr(strokes, "generate", refuse)
    assert same(whole, strokes.load(train=10, test=10))


def test_an_unwritable_cache_folder_costs_one_warning_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NPAE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="could not be kept") as warned:
        parts = strokes.load(train=10, test=10)
    assert len(warned) == 1 and warned[0].filename == __file__
    assert same(parts, strokes.load(train=10, test=10, cache=False))


def test_without_any_place_for_a_cache_the_pictures_still_come(monkeypatch):
    def nowhere():
        raise ValueError("there is no home folder")

    monkeypatch.setattr(strokes, "cache_dir", nowhere)
    with pytest.warns(UserWarning, match="no home folder"):
        assert len(strokes.load(train=10, test=10)[0]) == 10


def test_a_write_that_breaks_off_leaves_neither_a_file_nor_a_half_one(cache, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="no space left"):
        strokes.load(train=10, test=10)
    assert not list(cache.iterdir())


# -- beside MNIST --


@pytest.fixture(scope="module")
def mnist(mnist_dir):
    """Training pictures and labels, test pictures and labels."""

    def read(name, header):
        plain = mnist_dir / name
        data = plain.read_bytes() if plain.exists() else gzip.decompress((mnist_dir / f"{name}.gz").read_bytes())
        return np.frombuffer(data, np.uint8, offset=header)

    for_training, for_tests = (
        (read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28), read(f"{part}-labels-idx1-ubyte", 8))
        for part in ("train", "t10k")
    )
    return *for_training, *for_tests


def nearest(queries, base, apart=False):
    """Index of the nearest picture in the base, and its distance; `apart`: both are one set, none is its own."""
    q, b = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (queries, base))
    found = np.empty(len(q), int)
    with threadpool_limits(1):
        for i in range(0, len(q), 500):
            d = (b * b).sum(1) - 2 * q[i : i + 500] @ b.T
            if apart:
                np.fill_diagonal(d[:, i:], np.inf)
            found[i : i + 500] = d.argmin(1)
    return found, np.linalg.norm(q - b[found], axis=1)


def measures(mnist, strokes_train, strokes_test, n_base, n_queries, n_spread):
    """Share of strokes that MNIST reads, of MNIST that strokes read; ratio of the median distances to the nearest."""
    x, y, x_test, y_test = mnist
    sx, sy = strokes.generate(strokes_train, seed=0)[:2]
    sx_test, sy_test = strokes.generate(strokes_test, seed=0, stream=1)[:2]
    reads_strokes = (y[nearest(sx_test, x[:n_base])[0]] == sy_test).mean()
    reads_mnist = (sy[nearest(x_test[:n_queries], sx)[0]] == y_test[:n_queries]).mean()
    spread = [np.median(nearest(part[:n_spread], part[:n_spread], apart=True)[1]) for part in (sx, x)]
    return reads_strokes, reads_mnist, spread[0] / spread[1]


def test_a_few_strokes_and_a_few_of_mnist_read_each_other(mnist):
    reads_strokes, reads_mnist, spread = measures(mnist, 2000, 500, 6000, 1000, 2000)
    assert reads_strokes >= 0.85 and reads_mnist >= 0.75 and spread >= 0.7


@pytest.mark.slow
def test_strokes_and_the_whole_of_mnist_read_each_other(mnist):
    reads_strokes, reads_mnist, spread = measures(mnist, 12000, 2000, 60000, 10000, 12000)
    assert reads_strokes >= 0.85 and reads_mnist >= 0.75 and spread >= 0.7
