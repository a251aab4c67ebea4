"""First values of weights: their moments, their limits, and one stream for both dtypes."""
import math

import numpy as np
import pytest

from npae import init

FAN_IN, FAN_OUT, SHAPE = 50, 150, (200, 500)
UNIFORM = {"glorot_uniform": math.sqrt(6 / 200), "he_uniform": math.sqrt(6 / 50), "fan_in_uniform": 1 / math.sqrt(50)}
NORMAL = {"glorot_normal": math.sqrt(2 / 200), "he_normal": math.sqrt(2 / 50)}
every_rule = pytest.mark.parametrize("name", [*UNIFORM, *NORMAL, "zeros"])


def draw(name, dtype=np.float64, seed=0, shape=SHAPE):
    return getattr(init, name)(np.random.default_rng(seed), shape, FAN_IN, FAN_OUT, dtype=dtype)


def moments_in_sigmas(w, sd, fourth):
    """How many standard errors the mean and the mean square are away from 0 and sd²; fourth = E[w⁴] / sd⁴."""
    return (abs(w.mean()) / (sd / math.sqrt(w.size)),
            abs(np.mean(w**2) - sd**2) / (sd**2 * math.sqrt((fourth - 1) / w.size)))


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_rules_fill_their_interval_evenly(name):
    limit, w = UNIFORM[name], draw(name)
    assert max(moments_in_sigmas(w, limit / math.sqrt(3), 9 / 5)) < 4
    assert np.abs(w).max() <= limit
    assert w.max() > 0.999 * limit and w.min() < -0.999 * limit


@pytest.mark.parametrize("name", NORMAL)
def test_normal_rules_have_the_moments_of_a_normal(name):
    sd, w = NORMAL[name], draw(name)
    assert max(moments_in_sigmas(w, sd, 3)) < 4
    assert abs(np.mean(w**4) / sd**4 - 3) < 4 * math.sqrt(96 / w.size)
    assert abs(np.mean(np.abs(w) > 3 * sd) - 0.0027) < 4 * math.sqrt(0.0027 / w.size)  # not truncated


def test_zeros_are_zero_and_draw_nothing():
    rng = np.random.default_rng(0)
    assert not init.zeros(rng, (3, 2), 3, 2).any()
    assert rng.random() == np.random.default_rng(0).random()


@every_rule
def test_float32_and_float64_from_one_seed_agree(name):
    narrow, wide = draw(name, np.float32), draw(name, np.float64)
    assert narrow.dtype == np.float32 and wide.dtype == np.float64
    assert np.array_equal(narrow, wide.astype(np.float32))


@every_rule
def test_float32_is_the_default_and_the_shape_is_kept(name):
    w = getattr(init, name)(np.random.default_rng(0), (3, 3, 1, 8), 9, 72)
    assert w.dtype == np.float32 and w.shape == (3, 3, 1, 8) and w.flags.c_contiguous


@pytest.mark.parametrize("name", [*UNIFORM, *NORMAL])
def test_the_generator_alone_decides(name):
    assert np.array_equal(draw(name, seed=1), draw(name, seed=1))
    assert not np.array_equal(draw(name, seed=1), draw(name, seed=2))


@pytest.mark.parametrize("name", [*UNIFORM, *NORMAL])
def test_a_fan_below_one_is_refused(name):
    with pytest.raises(ValueError, match="fan_in must be at least 1, got 0"):
        getattr(init, name)(np.random.default_rng(0), (2, 2), 0, 2)
