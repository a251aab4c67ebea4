"""Batches: the same order under every NumPy, the right pictures with the right labels, and exact binarisation."""
import time

import numpy as np
import pytest

from npae.data.batches import (
    batches,
    binarize_sample,
    binarize_threshold,
    binarizer,
    count,
    permutation,
    to_float,
)

GREYS = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def gathered(pairs):
    x, y = zip(*pairs, strict=True)
    return np.concatenate(x), np.concatenate(y)


# -- order --


def test_the_order_is_pinned():
    """It must survive every release of NumPy: resuming a run depends on it."""
    assert permutation(12, rng(0)).tolist() == [11, 3, 2, 1, 8, 6, 0, 7, 4, 10, 5, 9]
    assert permutation(12, np.random.Generator(np.random.Philox(3))).tolist() == [0, 1, 2, 10, 7, 5, 6, 11, 9, 8, 4, 3]
    long = permutation(60_000, rng(1))
    assert long[:6].tolist() == [13390, 15176, 15571, 18066, 36334, 38592]
    assert int(long @ np.arange(60_000) % 1_000_003) == 470904


@pytest.mark.parametrize("n", [1, 2, 3, 1000])
def test_a_permutation_has_every_index_once(n):
    assert sorted(permutation(n, rng()).tolist()) == list(range(n))


def test_all_orders_of_four_are_equally_likely():
    """24,000 draws: chi-squared with 23 degrees of freedom is above 65 once in 100,000 times; the seed is fixed."""
    generator = rng(5)
    seen = {}
    for _ in range(24_000):
        key = tuple(permutation(4, generator).tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 24
    assert sum((k - 1000) ** 2 / 1000 for k in seen.values()) < 65


def test_sixty_thousand_are_shuffled_in_less_than_fifty_milliseconds():
    """Of the processor's time: what else the machine does is none of its business."""
    generator, times = rng(), []
    for _ in range(5):
        start = time.process_time()
        permutation(60_000, generator)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_without_a_generator_the_rows_stand_as_they_were():
    x, y = gathered(batches(GREYS, np.arange(256), 100))
    np.testing.assert_array_equal(y, np.arange(256))
    np.testing.assert_array_equal(x, to_float(GREYS))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 256, 1000])
def test_shuffled_pictures_keep_their_labels_and_each_comes_once(batch_size):
    x, y = gathered(batches(GREYS, np.arange(256), batch_size, order=rng()))
    np.testing.assert_array_equal(np.rint(x.ravel() * 255), y)
    assert sorted(y.tolist()) == list(range(256))
    np.testing.assert_array_equal(y, permutation(256, rng()))


def test_two_passes_with_one_generator_differ():
    generator = rng()
    first, second = (gathered(batches(GREYS, np.arange(256), order=generator))[1] for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("transform", [binarize_sample, lambda x, noise: x + noise.standard_normal(x.shape)])
def test_noise_never_shifts_the_order(transform):
    order, noise = rng(1), rng(2)
    plain_order = rng(1)
    for _ in range(3):
        noisy = gathered(batches(GREYS, np.arange(256), 50, order=order, noise=noise, transform=transform))
        plain = gathered(batches(GREYS, np.arange(256), 50, order=plain_order))
        np.testing.assert_array_equal(noisy[1], plain[1])


def test_a_pass_draws_its_whole_order_at_its_first_batch():
    """So that a run that stops in the middle of a pass has used up as much of the stream as one that ends it."""
    one, other = rng(), rng()
    next(batches(GREYS, None, 50, order=one))
    list(batches(GREYS, None, 50, order=other))
    assert one.bit_generator.state == other.bit_generator.state


# -- shapes, dtypes, steps --


@pytest.mark.parametrize(("batch_size", "drop_last", "sizes"), [
    (4, False, [4, 4, 2]), (4, True, [4, 4]), (5, False, [5, 5]), (5, True, [5, 5]), (10, True, [10]),
    (11, False, [10]), (1, True, [1] * 10),
])
def test_the_sizes_of_the_batches_and_their_count(batch_size, drop_last, sizes):
    x = np.zeros((10, 2, 3, 1), np.uint8)
    for order in (None, rng()):
        got = [len(x_batch) for x_batch, _ in batches(x, None, batch_size, order=order, drop_last=drop_last)]
        assert got == sizes and count(10, batch_size, drop_last) == len(sizes)


def test_every_grey_becomes_the_nearest_float32_to_its_255th():
    ((x, y),) = batches(GREYS, batch_size=256)
    assert y is None and x.dtype == np.float32 and x.shape == (256, 1, 1, 1)
    np.testing.assert_array_equal(x.ravel(), (np.arange(256) / 255).astype(np.float32))
    assert x.min() == 0 and x.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3, 1)])
def test_floats_are_passed_on_as_they_are(dtype, shape):
    x = rng().standard_normal(shape).astype(dtype)
    for order in (None, rng()):
        rows = range(5) if order is None else permutation(5, rng())
        got = np.concatenate([x_batch for x_batch, _ in batches(x, None, 2, order=order)])
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, x[list(rows)])


def test_batches_that_are_kept_stay_what_they_were():
    kept = [x for x, _ in batches(GREYS, None, 64, order=rng())]
    np.testing.assert_array_equal(np.rint(np.concatenate(kept).ravel() * 255), permutation(256, rng()))


def test_the_callers_pictures_are_not_changed():
    x = GREYS.copy()
    list(batches(x, None, 50, order=rng(), noise=rng(), transform=binarize_sample))
    list(batches(to_float(x), None, 50, transform=binarize_threshold))
    np.testing.assert_array_equal(x, GREYS)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float16, np.longdouble, complex, object])
def test_another_dtype_is_refused_by_name(dtype):
    with pytest.raises(ValueError, match=f"got {np.dtype(dtype)}"):
        batches(np.zeros((3, 2), dtype))


@pytest.mark.parametrize(("n", "labels", "batch_size", "drop_last", "message"), [
    (3, 2, 1, False, "x has 3 rows and y has 2"),
    (3, 3, 0, False, "at least 1, got 0"),
    (3, 3, -4, False, "at least 1, got -4"),
    (0, 0, 4, False, "empty"),
    (3, 3, 4, True, "batch_size 4 with drop_last leaves no batch of 3 rows"),
])
def test_a_pass_that_cannot_be_is_an_error_at_the_call(n, labels, batch_size, drop_last, message):
    with pytest.raises(ValueError, match=message):
        batches(np.zeros((n, 2), np.uint8), np.zeros(labels), batch_size, drop_last=drop_last)


def test_a_batch_size_that_is_no_integer_is_an_error():
    with pytest.raises(ValueError, match=r"batch_size must be an integer of at least 1, got 2\.5"):
        batches(GREYS, None, 2.5)


# -- binarisation --


def test_the_threshold_lies_between_the_greys_127_and_128():
    ((x, _),) = batches(GREYS, batch_size=256, transform=binarizer("threshold"))
    np.testing.assert_array_equal(x.ravel(), (np.arange(256) >= 128).astype(np.float32))
    assert x.dtype == np.float32 and not np.signbit(x).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_threshold_itself_is_black_and_the_next_float_is_white(dtype):
    half = dtype(0.5)
    x = np.array([0, np.nextafter(half, dtype(0)), half, np.nextafter(half, dtype(1)), 1, np.nan], dtype)
    got = binarize_threshold(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, [0, 0, 0, 1, 1, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_zeros_and_ones_with_the_picture_as_their_mean(dtype):
    levels = np.array([0, 1 / 255, 0.25, 0.5, 0.9, 254 / 255, 1], dtype)
    n = 40_000
    got = binarize_sample(np.broadcast_to(levels, (n, 7)), rng(3))
    assert got.dtype == dtype and set(np.unique(got)) == {0, 1} and not np.signbit(got).any()
    spread = np.sqrt(levels * (1 - levels) / n)
    assert (abs(got.mean(axis=0, dtype=np.float64) - levels) <= 4.5 * spread).all()  # 0 and 1 exactly


def test_samples_of_nan_are_nan():
    assert np.isnan(binarize_sample(np.array([np.nan], np.float32), rng())).all()


def test_samples_differ_from_pass_to_pass_and_are_fixed_by_the_seed():
    x = np.full((2, 100), 0.5, np.float32)
    noise = rng()
    first, second = (next(batches(x, noise=noise, transform=binarize_sample))[0] for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(first, next(batches(x, noise=rng(), transform=binarize_sample))[0])


def test_sampling_without_a_generator_is_an_error():
    with pytest.raises(ValueError, match="noise="):
        next(batches(GREYS, transform=binarize_sample))


def test_binarizers_have_names():
    assert binarizer("none") is None and binarizer("sample") is binarize_sample
    with pytest.raises(ValueError, match="unknown binarisation 'half': expected one of none, threshold, sample"):
        binarizer("half")
