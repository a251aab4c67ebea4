"""Likelihoods: units, constants, chance level, gradients by differences, and the traps of shape, dtype and range."""
import json
import math
from statistics import NormalDist

import numpy as np
import pytest

from npae.kernels import fast_training, reference_training
from npae.losses import Bernoulli, Gaussian, SquaredError

MODULES = [pytest.param(reference_training, id="reference"), pytest.param(fast_training, id="fast")]
both_modules = pytest.mark.parametrize("K", MODULES)
LOSSES = {"Bernoulli": Bernoulli, "Gaussian": lambda **k: Gaussian(0.3, **k), "SquaredError": SquaredError}
every_loss = pytest.mark.parametrize("name", LOSSES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def pictures(dtype=np.float64, shape=(3, 4, 5, 1), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape).astype(dtype), rng.random(shape).astype(dtype)


# -- values --


@both_modules
@both_dtypes
@pytest.mark.parametrize("pixels", [1, 7, 784])
def test_logits_of_zero_cost_one_bit_a_pixel(K, dtype, pixels):
    x = np.random.default_rng(0).random((2, pixels)).astype(dtype)
    value, _ = Bernoulli(kernels=K).nll(np.zeros_like(x), x)
    assert value == pytest.approx(pixels * math.log(2), rel=float(np.finfo(dtype).eps))


@both_modules
def test_bernoulli_is_minus_the_log_probability_of_black_and_white_pixels(K):
    p, x = np.array([[0.9, 0.2], [0.5, 0.01]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    per_image = Bernoulli(kernels=K).per_image(np.log(p / (1 - p)), x)
    np.testing.assert_allclose(per_image, [-math.log(0.9 * 0.2), -math.log(0.5 * 0.99)], rtol=1e-14)


@both_modules
def test_gaussian_is_minus_the_log_density(K):
    y, x = pictures()
    expected = [-sum(math.log(NormalDist(mean, math.sqrt(0.3)).pdf(pixel)) for mean, pixel in zip(*pair, strict=True))
                for pair in zip(y.reshape(3, -1), x.reshape(3, -1), strict=True)]
    np.testing.assert_allclose(Gaussian(0.3, kernels=K).per_image(y, x), expected, rtol=1e-13)


@both_modules
@both_dtypes
def test_gaussian_of_variance_one_half_is_the_squared_error_plus_392_log_pi(K, dtype):
    y, x = pictures(dtype, (2, 28, 28, 1))
    gaussian, dy = Gaussian(0.5, kernels=K).nll(y, x)
    squared, dy_squared = SquaredError(kernels=K).nll(y, x)
    assert gaussian - squared == pytest.approx(392 * math.log(math.pi), rel=1e-11)
    assert np.array_equal(dy, dy_squared)


def test_constants_are_those_of_a_picture():
    assert Gaussian(0.5).constant(784) == pytest.approx(392 * math.log(math.pi), rel=1e-15)
    assert Gaussian(1 / (2 * math.pi)).constant(10) == pytest.approx(0, abs=1e-14)
    assert Bernoulli().constant(784) == SquaredError().constant(784) == 0


@both_modules
@both_dtypes
@every_loss
def test_the_value_is_the_mean_over_pictures_and_the_sum_over_pixels(K, dtype, name):
    loss = LOSSES[name](kernels=K)
    output, x = pictures(dtype)
    value, doutput = loss.nll(output, x)
    per_image = loss.per_image(output, x)
    assert isinstance(value, float) and value == per_image.mean()
    assert per_image.shape == (3,) and per_image.dtype == np.float64
    assert doutput.shape == output.shape and doutput.dtype == dtype
    for n in range(3):
        one, gradient = loss.nll(output[n:n + 1], x[n:n + 1])
        assert one == pytest.approx(per_image[n], rel=1e-14)
        np.testing.assert_allclose(gradient[0], 3 * doutput[n], rtol=4 * np.finfo(dtype).eps)


@every_loss
def test_a_picture_twice_in_the_batch_changes_no_value(name):
    output, x = pictures()
    once, dout = LOSSES[name]().nll(output, x)
    twice, dtwice = LOSSES[name]().nll(np.concatenate([output] * 2), np.concatenate([x] * 2))
    assert twice == pytest.approx(once, rel=1e-14)
    np.testing.assert_allclose(dtwice[:3] + dtwice[3:], dout, rtol=1e-14)


# -- gradients --


@both_modules
@every_loss
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 2, 2, 1)])
def test_gradients_meet_extrapolated_differences(K, name, shape):
    loss = LOSSES[name](kernels=K)
    output, x = pictures(shape=shape)
    doutput = loss.nll(output, x)[1]
    for index in np.ndindex(shape):
        def f(h, index=index):
            moved = output.copy()
            moved[index] += h
            return loss.nll(moved, x)[0]

        coarse, fine = ((f(h) - f(-h)) / (2 * h) for h in (2e-3, 1e-3))
        assert abs((4 * fine - coarse) / 3 - doutput[index]) < 1e-9


# -- the edges of the floats --


@both_modules
@both_dtypes
def test_extreme_logits_keep_their_cost_and_their_gradient(K, dtype):
    logits, x = np.array([[1e4, -1e4, 1e4, 17]], dtype), np.array([[0, 1, 1, 0]], dtype)
    with np.errstate(all="raise"):
        value, dlogits = Bernoulli(kernels=K).nll(logits, x)
    assert value == pytest.approx(20017.0000000414, abs=4e-6 if dtype is np.float32 else 1e-9)
    np.testing.assert_allclose(dlogits, [[1, -1, 0, 1]], atol=1e-7)


@both_dtypes
def test_the_sigmoid_of_extreme_logits_is_exact_and_silent(dtype):
    logits = np.array([[-1e4, -800, -1, 0, 1, 800, 1e4]], dtype)
    with np.errstate(all="raise"):
        mean = Bernoulli().mean(logits)
    expected = [[0, 0, 0.2689414213699951, 0.5, 0.7310585786300049, 1, 1]]
    np.testing.assert_allclose(mean, expected, rtol=2 * np.finfo(dtype).eps)
    assert mean.dtype == dtype and np.isnan(Bernoulli().mean(np.array([np.nan], dtype))).all()


@pytest.mark.parametrize("loss", [Gaussian(0.3), SquaredError()])
def test_other_means_are_the_output(loss):
    y = pictures(np.float32)[0]
    assert np.array_equal(loss.mean(y), y) and loss.mean(y).dtype == np.float32


@both_modules
@every_loss
def test_nan_in_nan_out(K, name):
    for which in (0, 1):
        arrays = pictures(np.float32)
        arrays[which][1, 0, 0, 0] = np.nan
        value, doutput = LOSSES[name](kernels=K).nll(*arrays)
        assert np.isnan(value) and np.isnan(doutput).sum() == 1


# -- arrays as callers have them --


@both_modules
@every_loss
def test_memory_order_and_read_only_pictures_change_nothing(K, name):
    loss = LOSSES[name](kernels=K)
    output, x = pictures(np.float32)
    expected, doutput = loss.nll(output, x)
    frozen = np.asfortranarray(x)
    frozen.flags.writeable = False
    strided = np.repeat(output, 2, axis=2)[:, :, ::2]
    copies = strided.copy(), frozen.copy()
    value, dstrided = loss.nll(strided, frozen)
    assert value == expected and np.array_equal(dstrided, doutput)
    assert np.array_equal(strided, copies[0]) and np.array_equal(frozen, copies[1])


@every_loss
def test_the_gradient_is_a_fresh_array_each_time(name):
    output, x = pictures()
    loss = LOSSES[name]()
    first, second = loss.nll(output, x)[1], loss.nll(output, x)[1]
    assert not np.shares_memory(first, second) and not np.shares_memory(first, output)


def test_pictures_of_the_other_float_dtype_are_converted():
    output, x = pictures(np.float32)
    assert Bernoulli().nll(output, x.astype(np.float64))[0] == Bernoulli().nll(output, x)[0]


@every_loss
def test_lists_are_arrays_too_and_a_picture_may_be_one_number(name):
    output, x = pictures(shape=(3,))
    value, doutput = LOSSES[name]().nll(output.tolist(), x.tolist())
    assert value == LOSSES[name]().nll(output, x)[0] and doutput.shape == (3,)


@every_loss
@pytest.mark.parametrize("output, x, message", [
    (np.zeros((3, 4)), np.zeros((3, 1)), r"\(3, 4\) but x \(3, 1\)"),
    (np.zeros((3, 1)), np.zeros(3), r"\(3, 1\) but x \(3,\)"),
    (np.zeros((3, 28, 28, 1)), np.zeros((3, 784)), r"\(3, 28, 28, 1\) but x \(3, 784\)"),
    (np.zeros((0, 4)), np.zeros((0, 4)), r"at least 1 picture.*\(0, 4\)"),
    (np.zeros((3, 4)), np.zeros((3, 4), np.uint8), "uint8.*x / 255"),
    (np.zeros((3, 4), np.float16), np.zeros((3, 4), np.float16), "float32 or float64.*float16"),
    (np.zeros((3, 4), int), np.zeros((3, 4)), "float32 or float64.*int64"),
    (np.float64(0), np.float64(0), r"at least 1 picture.*\(\)"),
])
def test_arrays_that_do_not_fit_are_refused(name, output, x, message):
    with pytest.raises(ValueError, match=message):
        LOSSES[name]().nll(output, x)
    with pytest.raises(ValueError, match=message):
        LOSSES[name]().per_image(output, x)


@pytest.mark.parametrize("bad", [-0.01, 1.01, 255.0, np.inf])
def test_bernoulli_refuses_pixels_outside_the_unit_interval(bad):
    x = np.full((2, 3), 0.5)
    x[1, 1] = bad
    with pytest.raises(ValueError, match=rf"pixels in \[0, 1\].*{bad:g}"):
        Bernoulli().nll(np.zeros((2, 3)), x)


@pytest.mark.parametrize("variance", [0, -1, math.nan, math.inf])
def test_gaussian_refuses_a_variance_without_a_density(variance):
    with pytest.raises(ValueError, match="variance above 0"):
        Gaussian(variance)


def test_units_and_config_say_what_a_number_is():
    assert (Bernoulli().unit, Gaussian(1).unit) == ("nats per image", "nats per image")
    assert SquaredError().unit == "squared grey level per image"
    assert json.loads(json.dumps(Gaussian(0.5).config())) == {"likelihood": "Gaussian", "variance": 0.5}
    assert Bernoulli().config() == {"likelihood": "Bernoulli"}
    for likelihood in (Gaussian(np.float32(0.5)), SquaredError(np.float32(0.5))):
        assert json.loads(json.dumps(likelihood.config())) == likelihood.config()
    assert SquaredError().config() == {"likelihood": "SquaredError", "factor": 1.0}
    assert SquaredError(0.5).unit == "0.5 x squared grey level per image"
    assert repr(Gaussian(0.5)) == "Gaussian(variance=0.5)"


def test_half_a_squared_error_is_half_of_it_and_a_factor_is_above_zero():
    y, x = np.random.default_rng(0).random((2, 3, 4))
    (whole, dwhole), (half, dhalf) = SquaredError().nll(y, x), SquaredError(0.5).nll(y, x)
    assert half == pytest.approx(whole / 2, rel=1e-15) and np.allclose(dhalf, dwhole / 2, rtol=1e-15)
    for factor in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"factor above 0 and below infinity, got {factor}"):
            SquaredError(factor)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.3), SquaredError()], ids=repr)
def test_each_pictures_value_comes_with_the_gradient_of_their_mean(likelihood):
    output, x = np.random.default_rng(1).random((2, 3, 4))
    values, doutput = likelihood.nll_each(output, x)
    value, same = likelihood.nll(output, x)
    assert np.array_equal(values, likelihood.per_image(output, x)) and values.mean() == pytest.approx(value, rel=1e-15)
    assert np.array_equal(doutput, same)


def test_half_precision_is_refused_on_the_textbooks_kernels_too():
    from npae.kernels import reference

    with pytest.raises(ValueError, match="got an output of float16: convert it"):
        SquaredError(kernels=reference).nll(np.zeros((2, 3), np.float16), np.zeros((2, 3), np.float16))
