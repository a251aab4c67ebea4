"""What one kind of layer promises beyond what every layer does: limits, twins, conventions, moments.
"""
import json
import math

import numpy as np
import pytest
import scipy.ndimage

from npae.kernels import fast, fast_dense, reference
from npae.lab import oracles
from npae.layers import (
    Activation,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    GaussianNoise,
    Identity,
    LeakyReLU,
    MaskingNoise,
    MaxPool2d,
    ReLU,
    Reparameterize,
    Reshape,
    Sequential,
    Shift,
    Sigmoid,
    Softplus,
    Tanh,
    TiedConvTranspose2d,
    TiedDense,
    Upsample2d,
    UpsampleConv2d,
)

both_kernels = pytest.mark.parametrize("kernels", [reference, fast], ids=["reference", "fast"])
BENDS = [Identity, ReLU, LeakyReLU, Sigmoid, Tanh, Softplus]
WIDE = {"dtype": np.float64}


def run(layer, x, dy):
    layer.zero_grad()
    y = layer.forward(x)
    return [y, layer.backward(dy), *(p.grad.copy() for p in layer.params)]


def agree(a, b, bound=1e-13):
    for one, other in zip(a, b, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= bound * max(1, np.abs(other).max())


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- a variant by its limit, a pair by its twin


@both_kernels
@pytest.mark.parametrize("size", [(3, 3), (2, 3), (1, 4), (5, 2)])
def test_upsample_conv_equals_upsampling_and_a_same_convolution(kernels, size):
    one = UpsampleConv2d(3, 2, size, activation="tanh", kernels=kernels, **WIDE)
    two = Sequential([Upsample2d(2, kernels=kernels), Conv2d(3, 2, size, activation="tanh", kernels=kernels, **WIDE)])
    for p, q in zip(one.params, two.params, strict=True):
        p.value[...] = q.value[...] = normal(*p.value.shape)
    for shape in ((2, 4, 5, 3), (1, 1, 2, 3)):
        x, dy = normal(*shape), normal(shape[0], 2 * shape[1], 2 * shape[2], 2, seed=1)
        agree(run(one, x, dy), run(two, x, dy))


@both_kernels
@pytest.mark.parametrize("shape", [(4, 3), (3, 3)])
def test_a_tied_dense_gradient_is_the_sum_of_the_untied_ones(kernels, shape):
    first = Dense(*shape, activation="tanh", kernels=kernels, **WIDE)
    tied = Sequential([first, TiedDense(first, "sigmoid")])
    a = Dense(*shape, activation="tanh", kernels=kernels, **WIDE)
    b = Dense(*shape[::-1], activation="sigmoid", kernels=kernels, **WIDE)
    untied = Sequential([a, b])
    a.W.value[...], b.W.value[...] = first.W.value, first.W.value.T
    x, dy = normal(2, shape[0]), normal(2, shape[0], seed=1)
    y, dx, dW, db, dc = run(tied, x, dy)
    y_, dx_, dW_a, db_, dW_b, dc_ = run(untied, x, dy)
    agree([y, dx, dW, db, dc], [y_, dx_, dW_a + dW_b.T, db_, dc_])


@both_kernels
def test_a_tied_transposed_convolution_gradient_is_the_sum_of_the_untied_ones(kernels):
    settings = {"stride": (2, 1), "padding": 1, "activation": "tanh", "kernels": kernels, **WIDE}
    first = Conv2d(2, 3, (3, 2), **settings)
    tied = Sequential([first, TiedConvTranspose2d(first, "sigmoid")])
    a, b = Conv2d(2, 3, (3, 2), **settings), ConvTranspose2d(3, 2, (3, 2), **settings | {"activation": "sigmoid"})
    a.W.value[...] = b.W.value[...] = first.W.value
    x = normal(2, 7, 5, 2)
    dy = normal(*tied.forward(x).shape, seed=1)
    y, dx, dW, db, dc = run(tied, x, dy)
    y_, dx_, dW_a, db_, dW_b, dc_ = run(Sequential([a, b]), x, dy)
    agree([y, dx, dW, db, dc], [y_, dx_, dW_a + dW_b, db_, dc_])


@both_kernels
@pytest.mark.parametrize("settings", [
    {"kernel_size": 3, "stride": 2}, {"kernel_size": (2, 3), "stride": (2, 1)}, {"kernel_size": (1, 2), "stride": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (4, 3), "stride": (3, 2), "padding": 2},
    {"kernel_size": 3, "padding": "valid"}], ids=str)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution_with_the_same_arguments(kernels, settings):
    up = ConvTranspose2d(3, 2, kernels=kernels, **settings, **WIDE)
    down = Conv2d(2, 3, kernels=kernels, **settings, **WIDE)
    down.W.value[...] = up.W.value
    x = normal(2, 4, 5, 3)
    y = up.forward(x)
    w = normal(*y.shape, seed=1)
    back = down.forward(w)
    assert back.shape == x.shape
    assert abs((y * w).sum() - (x * back).sum()) <= 1e-13 * np.linalg.norm(y) * np.linalg.norm(w)


@both_kernels
@pytest.mark.parametrize("bend", BENDS, ids=lambda kind: kind.__name__)
def test_a_fused_activation_equals_the_layer_behind(kernels, bend):
    for kind, sizes, x in ((Dense, (3, 4), normal(5, 3)), (Conv2d, (2, 3, 2), normal(2, 4, 3, 2))):
        fused, plain = kind(*sizes, activation=bend(), kernels=kernels, **WIDE), kind(*sizes, kernels=kernels, **WIDE)
        fused.W.value[...] = plain.W.value
        two = Sequential([plain, bend(kernels=kernels)])
        dy = normal(*two.forward(x).shape, seed=1)
        agree(run(fused, x, dy), run(two, x, dy))


class Square(Activation):
    """A user's own activation: f, slope and bend, and no loop of the fast kernels."""

    def f(self, x):
        return np.exp(x)

    def slope(self, y):
        return y

    def bend(self, y):
        return np.ones_like(y)


@pytest.mark.parametrize("make", [
    lambda **k: Dense(3, 4, **k), lambda **k: Conv2d(3, 2, 2, **k), lambda **k: Conv2d(3, 20, 2, **k),
    lambda **k: ConvTranspose2d(3, 20, 2, **k), lambda **k: ConvTranspose2d(3, 2, 2, stride=2, **k),
    lambda **k: UpsampleConv2d(3, 2, 3, **k)])
def test_an_activation_of_ones_own_works_fused_in_both_modules(make):
    results = []
    for kernels in (reference, fast):
        layer = make(activation=Square(), rng=np.random.default_rng(0), kernels=kernels, **WIDE)
        x = normal(2, 3) if isinstance(layer, Dense) else normal(2, 3, 4, 3)
        y = layer.forward(x)
        results.append(run(layer, x, normal(*y.shape, seed=1)))
    agree(*results)
    alone = Square(fast)
    assert np.array_equal(alone.forward(x), np.exp(x)) and np.array_equal(alone.backward(x), x * np.exp(x))


class Capped(ReLU):
    """A built-in activation with another function: the parent's compiled loop must not be taken for it."""

    def f(self, x):
        return np.clip(x, 0, 1)

    def slope(self, y):
        return ((y > 0) & (y < 1)).astype(y.dtype)


def test_a_changed_subclass_of_a_built_in_activation_is_computed_as_it_says():
    x, dy = np.array([[-1.0, 0.5, 3.0]]), np.ones((1, 3))
    for kernels in (reference, fast):
        alone, fused = Capped(kernels), Dense(3, 3, activation=Capped(), kernels=kernels, **WIDE)
        fused.W.value[...] = np.eye(3)
        for layer in (alone, fused):
            assert layer.forward(x).tolist() == [[0, 0.5, 1]] and layer.backward(dy).tolist() == [[0, 1, 0]]
    assert "layer='Capped'" not in repr(Capped()) and fused.config()["activation"] == {"layer": "Capped"}


def test_a_seed_in_the_place_of_a_generator_is_that_seed():
    for make in (lambda rng: Dense(3, 4, rng=rng), lambda rng: Conv2d(1, 2, 3, rng=rng)):
        first, again, other = (make(seed).W.value for seed in (0, 0, 1))
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert not np.array_equal(make(None).W.value, make(None).W.value)  # fresh entropy, never a constant seed


@both_kernels
@pytest.mark.parametrize("factor", [2, (3, 2)])
def test_bilinear_upsampling_is_that_of_an_image_library(kernels, factor):
    fh, fw = (factor, factor) if isinstance(factor, int) else factor
    x = normal(2, 4, 5, 3)
    want = scipy.ndimage.zoom(x, (1, fh, fw, 1), order=1, mode="nearest", grid_mode=True)
    agree([Upsample2d(factor, mode="bilinear", kernels=kernels).forward(x)], [want])
    agree([oracles.bilinear(x, (fh, fw))], [want])


@both_kernels
def test_leaky_relu_with_alpha_0_is_relu_and_with_alpha_1_the_identity(kernels):
    x, dy = normal(3, 4), normal(3, 4, seed=1)
    agree(run(LeakyReLU(0.0, kernels=kernels), x, dy), run(ReLU(kernels), x, dy), 0)
    agree(run(LeakyReLU(1.0, kernels=kernels), x, dy), run(Identity(kernels), x, dy), 0)


@both_kernels
def test_pooling_with_windows_of_one_pixel_is_the_identity(kernels):
    x, dy = normal(2, 3, 4, 2), normal(2, 3, 4, 2, seed=1)
    for kind in (MaxPool2d, AvgPool2d):
        agree(run(kind(1, kernels=kernels), x, dy), [x, dy], 0)


@both_kernels
def test_a_convolution_with_one_tap_is_a_dense_layer_at_every_pixel(kernels):
    conv, dense = Conv2d(3, 2, 1, kernels=kernels, **WIDE), Dense(3, 2, kernels=kernels, **WIDE)
    dense.W.value[...] = conv.W.value[0, 0]
    x, dy = normal(2, 3, 4, 3), normal(2, 3, 4, 2, seed=1)
    y, dx, dW, db = run(dense, x.reshape(-1, 3), dy.reshape(-1, 2))
    agree(run(conv, x, dy), [y.reshape(dy.shape), dx.reshape(x.shape), dW[None, None], db])


# ---- conventions, which no gradient check can see


@both_kernels
@pytest.mark.parametrize("make", [lambda k: (ReLU(k), 0.0), lambda k: (LeakyReLU(0.25, kernels=k), 0.25)])
def test_the_slope_at_zero_is_that_of_the_left_side(kernels, make):
    bend, left = make(kernels)
    x = np.array([[0.0, -0.0, 5e-324, -1.0]])
    y, dx = run(bend, x, np.array([[2.0, 2, 2, 2]]))
    assert y.tolist() == [[0, 0, 5e-324, -left]] and dx.tolist() == [[2 * left, 2 * left, 2, 2 * left]]
    fused = Dense(1, 1, activation=bend, kernels=kernels, **WIDE)
    fused.W.value[...] = 1
    assert run(fused, x.T, np.full((4, 1), 2.0))[1].ravel().tolist() == dx.ravel().tolist()
    assert not np.signbit(ReLU(kernels).forward(x)[0, 1])  # -0.0 becomes 0


@both_kernels
def test_of_equal_pixels_the_first_wins_and_takes_the_whole_gradient(kernels):
    pool = MaxPool2d(2, stride=1, kernels=kernels)
    x = np.array([[1.0, 1, 0], [1, 1, 1]]).reshape(1, 2, 3, 1)
    _, dx = run(pool, x, np.array([2.0, 3]).reshape(1, 1, 2, 1))
    assert dx.ravel().tolist() == [2, 3, 0, 0, 0, 0]
    assert pool.branch_signature().ravel().tolist() == [0, 0]
    for flat in (0.0, -0.0, -3.0):
        pool = MaxPool2d(3, stride=2, padding=1, kernels=kernels)
        _, dx = run(pool, np.full((1, 4, 4, 1), flat), np.ones((1, 2, 2, 1)))
        assert np.flatnonzero(dx).tolist() == [0, 1, 4, 5]


@both_kernels
def test_padding_never_wins_not_even_against_minus_infinity(kernels):
    pool = MaxPool2d(3, stride=2, padding=1, kernels=kernels)
    y, dx = run(pool, np.full((1, 3, 4, 1), -np.inf), np.ones((1, 2, 2, 1)))
    assert (y == -np.inf).all() and dx.sum() == 4


@both_kernels
def test_a_not_a_number_wins_the_pool_and_takes_the_gradient(kernels):
    x = np.array([[1.0, 2, 9], [np.nan, np.nan, 3]]).reshape(1, 2, 3, 1)
    y, dx = run(MaxPool2d(2, stride=1, kernels=kernels), x, np.array([5.0, 7]).reshape(1, 1, 2, 1))
    assert np.isnan(y).all() and dx.ravel().tolist() == [0, 0, 0, 5, 7, 0]


def test_pooling_refuses_windows_that_may_see_no_pixel():
    with pytest.raises(ValueError, match=r"MaxPool2d: padding 2 with windows of \(3, 2\) .* at most 1"):
        MaxPool2d((3, 2), padding=2)


# ---- held branches


@both_kernels
@pytest.mark.parametrize("make", [
    lambda k: MaxPool2d((3, 2), stride=(1, 2), padding=1, kernels=k), lambda k: ReLU(k),
    lambda k: LeakyReLU(0.2, kernels=k), lambda k: Conv2d(2, 3, 3, activation="relu", kernels=k, **WIDE),
    lambda k: ConvTranspose2d(2, 3, 3, stride=2, activation=LeakyReLU(0.3), kernels=k, **WIDE)])
def test_a_held_layer_is_affine_and_its_slope_is_that_of_the_centre(kernels, make):
    layer = make(kernels)
    x, v = normal(2, 4, 5, 2), normal(2, 4, 5, 2, seed=1)
    y = layer.forward(x).copy()
    dy = normal(*y.shape, seed=2)
    dx = layer.backward(dy)
    layer.hold(layer.branch_signature())
    ahead, behind = layer.forward(x + v).copy(), layer.forward(x - v).copy()
    agree([(ahead + behind) / 2], [y])  # as far as one likes, without a bend
    assert abs(((ahead - behind) / 2 * dy).sum() - (dx * v).sum()) <= 1e-12 * np.linalg.norm(dx) * np.linalg.norm(v)


def test_a_smooth_activation_has_no_branch_to_hold():
    for layer in (Tanh(reference), Dense(3, 2, activation="tanh", kernels=reference, **WIDE)):
        layer.forward(normal(2, 3))
        assert layer.branch_signature() is None
        layer.hold(np.ones((2, 3), bool))
        with pytest.raises(ValueError, match="Tanh is smooth"):
            layer.forward(normal(2, 3))


# ---- complex numbers: a derivative without a difference


@pytest.mark.parametrize("layer, shape", [
    (Dense(4, 3, activation="tanh", **WIDE), (2, 4)), (Dense(3, 3, activation="sigmoid", **WIDE), (2, 3)),
    (Conv2d(2, 3, (3, 2), stride=(2, 1), activation="softplus", **WIDE), (2, 5, 4, 2)),
    (ConvTranspose2d(2, 3, 3, stride=2, activation="sigmoid", **WIDE), (2, 2, 3, 2)),
    (UpsampleConv2d(2, 3, 3, activation="tanh", **WIDE), (1, 2, 3, 2)),
    (Sigmoid(), (3, 4)), (Tanh(), (3, 4)), (Softplus(), (3, 4))], ids=str)
def test_the_complex_step_gives_the_gradient_to_twelve_digits(layer, shape):
    """Im f(t + i h) / h is f'(t) without any difference of near numbers."""
    layer = layer.to(np.complex128, kernels=reference)
    x, h = 3 * normal(*shape).astype(np.complex128), 1e-30
    dy = normal(*layer.forward(x).shape, seed=1).astype(np.complex128)
    _, *claimed = run(layer, x, dy)
    for array, gradient in zip([x, *(p.value for p in layer.params)], claimed, strict=True):
        for index in np.ndindex(array.shape):
            array[index] += 1j * h
            found = (dy * layer.forward(x)).sum().imag / h
            array[index] -= 1j * h
            assert abs(found - gradient[index]) <= 1e-12 * max(1, abs(found))


def test_kinked_activations_refuse_complex_numbers_with_a_sentence():
    for layer in (ReLU(reference), LeakyReLU(0.1, kernels=reference),
                  Dense(2, 3, activation="relu", dtype=np.complex128, kernels=reference)):
        with pytest.raises(ValueError, match="ReLU is not analytic: use real numbers instead of complex128"):
            layer.forward(np.ones((1, 2), np.complex128))


# ---- chance


def within(sample, mean, spread):
    """The mean of n independent numbers is within 5 standard errors of what it should be."""
    assert abs(sample.mean() - mean) <= 5 * spread / math.sqrt(sample.size)


N = 40_000


def test_gaussian_noise_has_its_moments_and_passes_the_gradient_through():
    layer, x = GaussianNoise(0.3, rng=np.random.default_rng(0)), np.full((N, 1), 0.7)
    y, dx = run(layer, x, normal(N, 1))
    within(y - x, 0, 0.3)
    within((y - x) ** 2, 0.09, 0.09 * math.sqrt(2))
    assert np.array_equal(dx, normal(N, 1))


@pytest.mark.parametrize("kind", [MaskingNoise, Dropout])
def test_masks_have_their_moments_and_the_gradient_meets_the_same_mask(kind):
    layer, x = kind(0.4, rng=np.random.default_rng(0)), np.full((N, 1), 2.0)
    y, dx = run(layer, x, np.full((N, 1), 3.0))
    kept = 1 if kind is MaskingNoise else 1 / 0.6
    within(y, 2 * 0.6 * kept, 2 * kept * math.sqrt(0.24))
    assert np.allclose(np.unique(y), [0, 2 * kept], rtol=1e-15, atol=0)
    assert np.array_equal(dx != 0, y != 0) and np.allclose(dx, 1.5 * y, rtol=1e-15, atol=0)


def test_a_reparameterised_sample_has_the_mean_and_the_variance_it_is_told():
    mu, logvar = 0.7, -1.2
    x = np.tile([mu, logvar], (N // 4, 1))
    z = Reparameterize(4, rng=np.random.default_rng(0)).forward(x)
    assert z.shape == (N, 1)
    within(z, mu, math.exp(logvar / 2))
    within((z - mu) ** 2, math.exp(logvar), math.exp(logvar) * math.sqrt(2))


def test_several_samples_come_sample_by_sample_with_the_noise_in_that_order():
    layer, x = Reparameterize(3), normal(2, 8)
    layer.eps = normal(6, 4, seed=1)
    z = layer.forward(x)
    for k in range(3):
        for n in range(2):
            row = 2 * k + n
            agree([z[row]], [x[n, :4] + np.exp(x[n, 4:] / 2) * layer.eps[row]], 1e-15)
    layer.eps, drawn = None, np.random.default_rng(5).standard_normal((6, 4))
    layer.give_rng(np.random.default_rng(5))
    layer.forward(x)
    assert np.array_equal(layer.used_eps, drawn)


def test_the_samples_of_a_picture_are_independent_of_each_other():
    z = Reparameterize(2, rng=np.random.default_rng(0)).forward(np.zeros((N, 2))).reshape(2, N)
    within(z[0] * z[1], 0, 1)


@pytest.mark.parametrize("kind", [GaussianNoise, MaskingNoise, Dropout])
def test_noise_without_a_generator_or_of_amount_0_is_the_identity(kind):
    x, dy = normal(3, 4), normal(3, 4, seed=1)
    for layer in (kind(0.5), kind(0.0, rng=np.random.default_rng(0))):
        agree(run(layer, x, dy), [x, dy], 0)
        assert not np.shares_memory(layer.forward(x), x)


def test_noise_comes_from_the_given_generator_alone():
    x = normal(3, 4)
    for make in (lambda: GaussianNoise(0.5), lambda: MaskingNoise(0.5), lambda: Dropout(0.5), Reparameterize):
        a, b = make(), make()
        for layer in (a, b):
            layer.give_rng(np.random.default_rng(3))
        first, second = a.forward(x), a.forward(x)
        assert np.array_equal(b.forward(x), first) and not np.array_equal(first, second)


@pytest.mark.parametrize("make, words", [
    (lambda: GaussianNoise(-0.1), "standard deviation of at least 0, got -0.1"),
    (lambda: MaskingNoise(1.0), "MaskingNoise needs a fraction of at least 0 and below 1, got 1.0"),
    (lambda: Dropout(float("nan")), "Dropout needs a fraction .* got nan"),
    (lambda: Reparameterize(0), "samples must be an integer of at least 1, got 0"),
    (lambda: LeakyReLU(-0.1), "alpha of at least 0, got -0.1"),
    (lambda: Upsample2d(2, mode="cubic"), "'nearest' or 'bilinear', got 'cubic'"),
    (lambda: Dense(2, 3, activation="gelu"), "unknown activation 'gelu': use one of identity, relu"),
    (lambda: Dense(2, 3, activation=LeakyReLU), r"or an Activation such as LeakyReLU\(0.1\), got <class"),
    (lambda: Conv2d(2, 3, 3, activation=np.tanh), "activation must be one of identity, relu, .* got <ufunc 'tanh'>"),
    (lambda: Dense(2.5, 3), "Dense: in_features must be an integer of at least 1, got 2.5"),
    (lambda: Dense(2, 0), "Dense: out_features must be an integer of at least 1, got 0"),
    (lambda: ConvTranspose2d(1, True, 3), "ConvTranspose2d: out_channels must be an integer of at least 1, got True"),
    (lambda: TiedDense(Identity()), "TiedDense needs a Dense partner"),
    (lambda: TiedConvTranspose2d(UpsampleConv2d(1, 2, 3)), "needs a Conv2d partner, got UpsampleConv2d"),
])
def test_an_argument_that_makes_no_sense_is_refused_with_its_value(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("layer", [
    Dense(4, 3), TiedDense(Dense(3, 4)), Conv2d(4, 3, 3), ConvTranspose2d(4, 3, 3), UpsampleConv2d(4, 3, 3),
    TiedConvTranspose2d(Conv2d(3, 4, 3))], ids=repr)
def test_a_table_of_shapes_refuses_what_forward_would(layer):
    """summary() of a net whose layers do not fit must not print sizes that will never be."""
    with pytest.raises(ValueError, match=r"expects 4 (features|input channels), got x of shape"):
        layer.output_shape((6, 6, 5) if layer.input_ndim == 4 else (5,))


def test_reparameterize_without_noise_or_with_odd_columns_is_an_error():
    layer = Reparameterize(3)
    with pytest.raises(ValueError, match="neither eps nor a generator"):
        layer.forward(normal(2, 4))
    layer.give_rng(np.random.default_rng(0))
    with pytest.raises(ValueError, match="an even number of columns, got 5"):
        layer.forward(normal(2, 5))
    layer.eps = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"needs eps of shape \(6, 2\), got \(2, 2\)"):
        layer.forward(normal(2, 4))
    layer.eps = np.ones((6, 2))
    assert layer.forward(np.zeros((2, 4), np.float32)).tolist() == [[1, 1]] * 6 and (layer.used_eps == 1).all()


def test_complex_numbers_on_the_fast_kernels_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="takes complex128 on the reference kernels alone"):
        Tanh(kernels=fast).forward(np.ones((2, 3), complex))


@pytest.mark.parametrize("bend", [Identity(), ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh(), Softplus()])
def test_bend_is_the_derivative_of_the_slope_with_respect_to_y(bend):
    y = bend.f(np.array([-2.0, -0.7, 0.4, 1.5]))
    y, h = y[y != 0], 1e-5  # off the kink of ReLU
    np.testing.assert_allclose(bend.bend(y), (bend.slope(y + h) - bend.slope(y - h)) / (2 * h), rtol=1e-9, atol=1e-10)


@both_kernels
@pytest.mark.parametrize(("layer", "shape"), [(Dense(1, 1), (50_000, 1)), (Conv2d(1, 1, 1), (50, 32, 32, 1)),
                                              (Conv2d(1, 17, 1), (50, 32, 32, 1)),
                                              (ConvTranspose2d(1, 17, 1), (50, 32, 32, 1))])
def test_a_bias_gradient_in_float32_does_not_lose_digits_over_a_large_batch(kernels, layer, shape):
    layer = layer.to(kernels=kernels)
    x = np.zeros(shape, np.float32)
    dy = np.full(layer.forward(x).shape, 0.1, np.float32)
    layer.backward(dy, need_dx=False)
    exact = float(np.float32(0.1)) * dy[..., 0].size
    np.testing.assert_allclose(layer.b.grad, exact, rtol=2e-7)


def test_a_read_only_input_compiles_nothing_anew():
    layer, x = Dense(3, 4, kernels=fast), np.ones((2, 3), np.float32)
    layer.forward(x)
    known = len(fast_dense._forward.signatures)
    x.flags.writeable = False
    layer.forward(x)
    assert len(fast_dense._forward.signatures) == known


@pytest.mark.parametrize(("kind", "fans"), [(Conv2d, (9 * 4, 9 * 60)), (ConvTranspose2d, (9 * 4, 9 * 60)),
                                            (UpsampleConv2d, (9 * 4, 9 * 60))])
def test_glorot_counts_what_a_pixel_meets_and_what_it_is_met_by(kind, fans):
    W = kind(4, 60, 3, rng=np.random.default_rng(0)).W.value
    limit = np.sqrt(6 / sum(fans))
    assert 0.99 * limit < np.abs(W).max() <= limit


def test_a_mask_is_drawn_for_each_number_alone():
    layer = MaskingNoise(0.5)
    layer.give_rng(np.random.default_rng(0))
    kept = layer.forward(np.ones((50, 400), np.float32))
    for axis, n in ((1, 400), (0, 50)):
        assert abs(kept.mean(axis) - 0.5).max() < 5 * 0.5 / np.sqrt(n)


def test_a_subclass_keeps_the_compiled_loop_of_its_parent_only_where_it_changes_nothing():
    class Same(Tanh):
        pass

    class Bent(Tanh):
        def bend(self, y):
            return 0 * y

    class Other(Tanh):
        def f(self, x):
            return x

    class Own(Tanh):
        code = 3

        def slope(self, y):
            return y * (1 - y)

    assert [(kind.code, kind.label) for kind in (Same, Bent, Other, Own)] == [
        (4, "tanh"), (4, "tanh"), (-1, ""), (3, "tanh")]


def test_the_alpha_of_leaky_relu_is_a_number_of_pythons_own():
    assert LeakyReLU().alpha == 0.01
    assert json.loads(json.dumps(LeakyReLU(np.float32(0.25)).config())) == {"layer": "LeakyReLU", "alpha": 0.25}


@pytest.mark.parametrize("make", [ReLU, LeakyReLU])
def test_a_held_layer_keeps_its_dtype(make):
    layer, x = make(kernels=reference), np.array([[1, -1]], np.float32)
    layer.forward(x)
    layer.hold(layer.branch_signature())
    assert layer.forward(x).dtype == np.float32


@pytest.mark.parametrize("bend", [Sigmoid(), Tanh(), Softplus()], ids=lambda a: a.label)
def test_a_complex_step_from_zero_itself_gives_the_slope_there(bend):
    y = bend.f(np.array([1e-30j]))
    np.testing.assert_allclose(y.imag / 1e-30, bend.slope(y.real), rtol=1e-15)


def test_pictures_of_whole_numbers_are_to_be_divided_and_others_converted():
    for dtype, hint in ((np.uint8, "divide uint8 pictures by 255 first"), (np.float16, "convert it first")):
        with pytest.raises(ValueError, match=f"got {np.dtype(dtype)}: {hint}"):
            Dense(2, 3).forward(np.ones((1, 2), dtype))


def test_an_initialiser_is_told_how_many_numbers_meet():
    fans = []

    def init(rng, shape, fan_in, fan_out, dtype):
        fans.append((shape, fan_in, fan_out))
        return np.zeros(shape, dtype)

    Conv2d(4, 5, (2, 3), init=init)
    ConvTranspose2d(4, 5, (3, 2), init=init)
    Dense(4, 5, init=init)
    assert fans == [((2, 3, 4, 5), 24, 30), ((3, 2, 5, 4), 24, 30), ((4, 5), 4, 5)]


@pytest.mark.parametrize(("make", "shape", "terms"), [
    (lambda: Conv2d(2, 3, (3, 2), stride=(2, 1), padding=0), (7, 5, 2), 3 * 4 * 6 * 2 * 3),
    (lambda: ConvTranspose2d(2, 3, (3, 2), stride=(2, 1)), (3, 5, 2), 3 * 5 * 6 * 2 * 3),
    (lambda: TiedConvTranspose2d(Conv2d(3, 2, (3, 2), stride=2)), (3, 5, 2), 3 * 5 * 6 * 2 * 3),
    (lambda: UpsampleConv2d(2, 3, (3, 2)), (4, 5, 2), 4 * 5 * 12 * 2 * 3),  # a (4, 3) kernel at every pixel of x
    (lambda: Dense(4, 5), (4,), 20), (lambda: TiedDense(Dense(5, 4)), (4,), 20), (lambda: MaxPool2d(2), (4, 6, 1), 0),
])
def test_multiply_adds_are_the_products_of_one_picture(make, shape, terms):
    assert make().multiply_adds(shape) == terms


def test_settings_of_numpy_become_pythons_own_and_are_checked_at_once():
    config = Conv2d(1, 1, 3, stride=np.int64(2), padding=np.int64(1)).config()
    assert json.loads(json.dumps(config)) == config and config["padding"] == 1
    assert json.loads(json.dumps(Reshape(np.array([2, 3])).config())) == {"layer": "Reshape", "shape": [2, 3]}
    for kind in (Conv2d, ConvTranspose2d, MaxPool2d):
        with pytest.raises(ValueError, match=f"{kind.__name__}: padding must be 'same', 'valid' or an integer"):
            kind(*([2] if kind is MaxPool2d else [1, 1, 3]), padding=-1)


def test_lists_of_numbers_are_arrays_too():
    layer = Dense(2, 3, dtype=np.float64)
    x, dy = [[1.0, 2.0]], [[1.0, -1.0, 0.5]]
    y = layer.forward(x)
    assert np.array_equal(y, layer.forward(np.array(x))) and layer.backward(dy).shape == (1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_generator_draws_the_same_noise_in_every_dtype(dtype):
    x, eps = normal(3, 4).astype(dtype), np.random.default_rng(7).standard_normal((3, 4))
    y = GaussianNoise(0.3, rng=np.random.default_rng(7)).forward(x)
    agree([y], [x + (0.3 * eps).astype(dtype)], 3 * np.finfo(dtype).eps)
    kept = np.random.default_rng(7).random((3, 4)) >= 0.4
    assert np.array_equal(MaskingNoise(0.4, rng=np.random.default_rng(7)).forward(x), x * kept)
    sample = Reparameterize()
    sample.eps = eps[:, :2]  # in float64
    assert sample.forward(x).dtype == dtype


def test_a_number_that_is_just_the_amount_is_kept():
    class Edge:
        def random(self, shape):
            return np.full(shape, 0.5)

    for layer in (MaskingNoise(0.5), Dropout(0.5)):
        layer.give_rng(Edge())
        assert layer.forward(np.ones((1, 3))).all()


def test_an_amount_of_numpy_becomes_pythons_own():
    for kind in (GaussianNoise, MaskingNoise, Dropout):
        assert json.loads(json.dumps(kind(np.float32(0.25)).config())) == {"layer": kind.__name__, "amount": 0.25}


def test_the_winners_of_one_batch_stay_while_buffers_are_used_again():
    layer, x = MaxPool2d(2), normal(1, 4, 4, 1)
    layer.keep_buffers(True)
    layer.forward(x)
    winners = layer.branch_signature()
    before = winners.copy()
    layer.forward(-x)
    assert np.array_equal(winners, before) and not np.array_equal(layer.branch_signature(), before)


def test_a_shift_adds_its_offset_to_all_digits_and_to_nothing_of_another_shape():
    layer = Shift([0.1, -0.3, 0.7])
    agree([layer.forward(np.zeros((1, 3)))], [np.array([[0.1, -0.3, 0.7]])], 0)
    with pytest.raises(ValueError, match=r"adds an offset of shape \(3,\), got x of shape \(N, 1\)"):
        layer.forward(np.zeros((2, 1)))  # it would broadcast
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="an offset of finite numbers"):
            Shift([0.1, bad])
