"""The tangent of a net: J v against differences and complex steps, ‖J‖² as a sum and as a mean, its gradient."""
import copy

import numpy as np
import pytest

from npae import gradcheck
from npae.kernels import reference
from npae.layers import (
    Activation,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    MaxPool2d,
    ReLU,
    Reparameterize,
    Reshape,
    Sequential,
    Shift,
    Sigmoid,
    Softplus,
    Tanh,
    TiedDense,
    Upsample2d,
)
from npae.layers.tangent import Tangent
from npae.losses import Bernoulli, SquaredError
from npae.models import ContractiveAutoencoder

ON = {"dtype": np.float64, "kernels": reference}


def rng(seed=0):
    return np.random.default_rng(seed)


def mixed():
    """Every kind of layer that has a tangent, on pictures (4, 6, 2)."""
    r = rng(3)
    first = Dense(12, 5, activation="softplus", rng=r, **ON)
    return Sequential([
        Shift(r.standard_normal((4, 6, 2))), Conv2d(2, 3, (3, 2), stride=2, activation="tanh", rng=r, **ON),
        Upsample2d(2, mode="bilinear"), AvgPool2d(2), ConvTranspose2d(3, 2, 2, activation="sigmoid", rng=r, **ON),
        Flatten(), Sequential([first, Softplus(reference), TiedDense(first, "tanh")]), Reshape((3, 4)), Flatten(),
        Dense(12, 4, rng=r, **ON), Tanh(reference)])


def deep(activation="sigmoid"):
    r = rng(4)
    return Sequential([Flatten(), Dense(8, 6, activation=activation, rng=r, **ON),
                       Dense(6, 3, activation="tanh", rng=r, **ON)])


def test_a_tangent_is_the_derivative_along_its_direction():
    net, r = mixed(), rng(1)
    x, v = r.standard_normal((2, 2, 4, 6, 2))
    h = 1e-5
    central = (net.forward(x + h * v) - net.forward(x - h * v)) / (2 * h)
    y, t = Tangent(net).forward(x, v)
    np.testing.assert_array_equal(y, net.forward(x))
    np.testing.assert_allclose(t, central, rtol=0, atol=1e-8 * abs(central).max())


def test_over_all_basis_vectors_the_squared_tangents_add_up_to_the_squared_jacobian():
    """The Jacobian by complex steps, to the last digits."""
    net, x = deep(), rng(1).standard_normal((3, 2, 4, 1))
    basis = np.eye(8).reshape(8, 2, 4, 1)
    twin = net.to(np.complex128, reference)
    exact = sum(np.square(twin.forward(x + 1e-30j * e).imag / 1e-30).sum() for e in basis)
    tangent = Tangent(net)
    total = sum(np.square(tangent.forward(x, np.broadcast_to(e, x.shape))[1]).sum() for e in basis)
    assert abs(total - exact) <= 1e-10 * exact


def test_the_mean_over_random_directions_is_the_squared_jacobian():
    net, x = deep(), np.repeat(rng(1).standard_normal((1, 2, 4, 1)), 10_000, axis=0)
    tangent = Tangent(net)
    exact = sum(np.square(tangent.forward(x[:1], e.reshape(1, 2, 4, 1))[1]).sum() for e in np.eye(8))
    draws = np.square(tangent.forward(x, rng(2).standard_normal(x.shape))[1]).sum(1)
    assert abs(draws.mean() - exact) < 4 * draws.std() / 100 < 0.1 * exact


def test_a_tangents_gradient_meets_differences_through_every_layer():
    net, r = mixed(), rng(1)
    x, v = r.standard_normal((2, 2, 4, 6, 2))
    gy, gt = r.standard_normal((2, 2, 4))
    for p in net.params:
        def phi(theta, p=p):
            before = p.value.copy()
            p.value[...] = theta
            tangent = Tangent(net)
            y, t = tangent.forward(x, v)
            net.zero_grad()
            tangent.backward(gy, gt)
            p.value[...] = before
            return float((gy * y).sum() + (gt * t).sum()), p.grad.copy()

        report = gradcheck.check_function(phi, p.value, name=p.name)
        assert report.ok, report


def test_the_layers_own_biases_get_no_gradient_from_the_tangent_of_a_linear_net():
    net = Sequential([Dense(3, 2, rng=rng(), **ON)])
    tangent = Tangent(net)
    for _ in range(2):  # the spare bias of the linear part is cleared each time
        tangent.forward(np.ones((1, 3)), np.ones((1, 3)))
        tangent.backward(np.zeros((1, 2)), np.ones((1, 2)))
    W, b = net.params
    assert (b.grad == 0).all() and (W.grad == 2).all()
    assert (tangent.steps[0].bias.grad == 0).all()


@pytest.mark.parametrize("layer", [MaxPool2d(2), GaussianNoise(0.1), Dropout(0.1), Reparameterize()], ids=repr)
def test_a_layer_without_a_tangent_is_refused_by_name(layer):
    with pytest.raises(ValueError, match=f"{type(layer).__name__} '0' has no tangent"):
        Tangent(Sequential([layer]))


def test_a_kink_is_refused():
    for layers in ([ReLU()], [Dense(2, 2, activation="relu")], [Dense(2, 2, activation="leaky_relu")]):
        with pytest.raises(ValueError, match=r"has a kink, (Leaky)?ReLU"):
            Tangent(Sequential(layers))
    with pytest.raises(ValueError, match=r"x is \(2, 8\), v \(2, 7\)"):
        Tangent(deep()).forward(np.zeros((2, 8)), np.zeros((2, 7)))


# -- the model --


def one_layer(activation="sigmoid", lam=0.3, closed=True):
    """One dense layer; closed=False hides it from the closed form behind an activation layer."""
    bends = {"sigmoid": Sigmoid, "tanh": Tanh}
    r = rng(5)
    dense = Dense(8, 5, activation=activation if closed else None, rng=r, **ON)
    encoder = [Flatten(), dense] + ([] if closed else [bends[activation](reference)])
    decoder = [TiedDense(dense), Reshape((2, 4, 1))]
    return ContractiveAutoencoder(Sequential(encoder), Sequential(decoder), likelihood=Bernoulli(kernels=reference),
                                  lam=lam)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_the_closed_form_is_the_mean_of_the_random_one_in_value_and_gradient(activation):
    """All basis vectors in place of random directions: their sum is exact, gradient included."""
    x = rng(6).random((3, 2, 4, 1))
    closed, random = one_layer(activation), one_layer(activation, closed=False)
    exact = closed.loss(x)
    closed.backward()
    assert closed.tangent is None and random.tangent is not None
    directions = [np.broadcast_to(e.reshape(2, 4, 1), x.shape) for e in np.eye(8)]
    total = 0.0
    for v in directions:
        random._direction = lambda x, rng, v=v: v
        terms = random.loss(x)
        total += terms["jac"]
        random.backward()
    assert total == pytest.approx(exact["jac"], rel=1e-12)
    plain = one_layer(activation, lam=0.0)  # the reconstruction's part was added eight times
    plain.loss(x)
    plain.backward()
    np.testing.assert_allclose(random.grad - 7 * plain.grad, closed.grad, rtol=0, atol=1e-12 * abs(closed.grad).max())


@pytest.mark.parametrize("make", [one_layer, lambda: one_layer("tanh"), lambda: one_layer(closed=False)],
                         ids=["closed", "tanh", "random"])
def test_a_contractive_models_gradient_meets_differences(make):
    report = gradcheck.check(make(), rng(6).random((3, 2, 4, 1)), rng=rng(7))
    assert report.ok, report


def test_without_lam_a_contractive_autoencoder_is_the_plain_one_and_a_linear_one_is_weight_decay():
    x = rng(6).random((3, 2, 4, 1))
    terms = one_layer(lam=0.0).loss(x)
    assert terms["loss"] == terms["recon"]
    linear = one_layer(None, lam=2.0)
    terms = linear.loss(x)
    W = linear.weights[0]
    assert terms["jac"] == pytest.approx(np.square(W.value).sum(), rel=1e-14)
    linear.backward()
    with_decay = W.grad.copy()
    linear.lam = 0.0
    linear.zero_grad()
    linear.loss(x)
    linear.backward()
    np.testing.assert_allclose(with_decay - W.grad, 4 * W.value, rtol=1e-12, atol=1e-13)


def test_buffers_that_are_kept_are_not_shared_with_the_tangents():
    net, r = mixed(), rng(1)
    x, v = r.standard_normal((2, 2, 4, 6, 2))
    fresh = [a.copy() for a in Tangent(net).forward(x, v)]
    net.keep_buffers(True)
    for _ in range(2):
        for a, b in zip(Tangent(net).forward(x, v), fresh, strict=True):
            np.testing.assert_array_equal(a, b)


class Own(Dense):
    """A user's own dense layer, whose equation nobody else knows."""


def test_the_closed_form_is_for_one_dense_layer_with_nothing_but_shapes_and_shifts_before_it():
    def tangent(*layers):
        decoder = Sequential([Dense(5, 8, rng=rng(), **ON), Reshape((2, 4, 1))])
        return ContractiveAutoencoder(Sequential(layers), decoder, likelihood=SquaredError(kernels=reference)).tangent

    assert tangent(Shift(np.zeros((2, 4, 1))), Flatten(), Dense(8, 5, activation="tanh", **ON)) is None
    assert tangent(Flatten(), Sigmoid(reference), Dense(8, 5, **ON)) is not None
    with pytest.raises(ValueError, match=r"Own 'encoder.1' has no tangent"):
        tangent(Flatten(), Own(8, 5, activation="tanh", **ON))


@pytest.mark.parametrize("layer", [type("Own", (Shift,), {})(np.zeros(3)), type("Own", (Flatten,), {})()], ids=repr)
def test_a_layer_of_ones_own_may_compute_something_else_than_its_parent(layer):
    with pytest.raises(ValueError, match=r"Own '0' has no tangent"):
        Tangent(Sequential([layer]))


class Square(Activation):
    """y = x² for x > 0, by its own slope and bend."""

    f = staticmethod(np.square)

    def slope(self, y):
        return 2 * np.sqrt(y)

    def bend(self, y):
        return 1 / np.sqrt(y)


def test_an_activation_of_ones_own_has_a_tangent():
    net, x = Sequential([Square()]), rng(1).random((2, 3)) + 0.5
    _, t = Tangent(net).forward(x, np.ones((2, 3)))
    np.testing.assert_allclose(t, 2 * x, rtol=1e-14)


def test_a_deep_contractive_model_draws_its_directions_and_is_copied_with_its_tangent():
    decoder = Sequential([Dense(3, 8, rng=rng(), **ON), Reshape((2, 4, 1))])
    model = ContractiveAutoencoder(deep(), decoder, likelihood=SquaredError(kernels=reference), lam=0.5)
    x = rng(6).random((3, 2, 4, 1))
    with pytest.raises(ValueError, match="draws a direction: pass rng"):
        model.loss(x)
    assert model.loss(x, rng=rng(1)) != model.loss(x, rng=rng(2))
    twin = copy.deepcopy(model)
    twin.theta[...] *= 1.5
    assert twin.loss(x, rng=rng(1))["jac"] != model.loss(x, rng=rng(1))["jac"]
    model.theta[...] *= 1.5
    assert twin.loss(x, rng=rng(1)) == model.loss(x, rng=rng(1))
    with pytest.raises(ValueError, match="lam must be finite and at least 0, got -1"):
        one_layer(lam=-1)


def test_a_tangent_has_the_dtype_of_its_net():
    net = Sequential([Dense(3, 2, activation="tanh", kernels=reference)])
    y, t = Tangent(net).forward(np.ones((2, 3), np.float32), np.ones((2, 3)))
    assert y.dtype == t.dtype == np.float32


def test_the_penalty_of_a_tangent_whose_square_leaves_float32_is_a_number():
    on = {"rng": rng(), "kernels": reference}
    encoder = Sequential([Flatten(), Dense(8, 5, **on), Dense(5, 3, **on)])
    decoder = Sequential([Dense(3, 8, **on), Reshape((2, 4, 1))])
    model = ContractiveAutoencoder(encoder, decoder, likelihood=SquaredError(kernels=reference), lam=1e-30)
    for layer in encoder.layers[1:]:
        layer.W.value *= 1e10
    with np.errstate(over="ignore"):
        jac = model.loss(np.zeros((2, 2, 4, 1), np.float32), rng=rng(1))["jac"]
    assert 1e36 < jac < 1e44
