"""Noise on pictures: its moments, its dtype, its generator, and what each kind leaves alone."""
import numpy as np
import pytest

from npae.corruption import CORRUPTIONS, gaussian, masking, salt_and_pepper

N = 100_000


def rng(seed=0):
    return np.random.default_rng(seed)


def share(mask):
    """A share and its standard error."""
    p = mask.mean()
    return p, np.sqrt(p * (1 - p) / mask.size)


@pytest.mark.parametrize("amount", [0.1, 0.5])
def test_masking_sets_its_share_to_zero_and_leaves_the_rest(amount):
    x = rng(1).uniform(0.2, 0.9, N)
    noisy = masking(x, amount, rng())
    p, error = share(noisy == 0)
    assert abs(p - amount) < 4 * error and (noisy[noisy != 0] == x[noisy != 0]).all()


@pytest.mark.parametrize("amount", [0.2, 1.5])
def test_gaussian_noise_has_mean_zero_its_deviation_and_no_end(amount):
    x = np.full(N, 0.5)
    eps = (gaussian(x, amount, rng()) - x) / amount
    assert abs(eps.mean()) < 4 / np.sqrt(N) and abs(np.square(eps).mean() - 1) < 4 * np.sqrt(2 / N)
    assert abs((eps**3).mean()) < 4 * np.sqrt(15 / N) and abs((eps**4).mean() - 3) < 4 * np.sqrt(96 / N)


@pytest.mark.parametrize("amount", [0.1, 0.6])
def test_salt_and_pepper_makes_as_many_ones_as_zeros(amount):
    x = rng(1).uniform(0.2, 0.9, N)
    noisy = salt_and_pepper(x, amount, rng())
    for value in (0, 1):
        p, error = share(noisy == value)
        assert abs(p - amount / 2) < 4 * error
    rest = (noisy != 0) & (noisy != 1)
    assert (noisy[rest] == x[rest]).all() and abs(rest.mean() - (1 - amount)) < 0.01


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_corruption_is_new_each_time_keeps_the_dtype_and_never_writes_to_x(kind, dtype):
    x = rng(2).random((3, 4, 5, 1)).astype(dtype)
    before, draw = x.copy(), rng()
    first, second = CORRUPTIONS[kind](x, 0.4, draw), CORRUPTIONS[kind](x, 0.4, draw)
    assert first.dtype == dtype and first.shape == x.shape and (first != second).any() and (x == before).all()
    assert (CORRUPTIONS[kind](x, 0.4, rng()) == first).all() and (CORRUPTIONS[kind](x, 0.0, rng()) == x).all()


@pytest.mark.parametrize(("kind", "amount", "words"), [
    ("masking", -0.1, "amount from 0 to 1, got -0.1"), ("masking", 1.1, "from 0 to 1, got 1.1"),
    ("salt_and_pepper", 2, "from 0 to 1, got 2"), ("gaussian", -1, "amount of at least 0, got -1"),
    ("gaussian", float("nan"), "got nan"), ("gaussian", float("inf"), "got inf")])
def test_an_amount_that_makes_no_sense_is_refused(kind, amount, words):
    with pytest.raises(ValueError, match=words):
        CORRUPTIONS[kind](np.zeros((2, 2)), amount, rng())
