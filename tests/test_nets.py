"""The architectures: what comes out of them, how many numbers are in them, and what these are before any training."""
import math

import numpy as np
import pytest

from npae import nets
from npae.layers import Conv2d, ConvTranspose2d, Dense
from npae.losses import Bernoulli
from npae.models import VAE, Autoencoder

ENCODERS = [nets.conv_ae_encoder, nets.bernoulli_vae_encoder, nets.conv_pool_encoder, nets.conv_vae_encoder]
DECODERS = [nets.conv_ae_decoder, nets.bernoulli_vae_decoder, nets.conv_pool_decoder, nets.conv_vae_decoder]
TWO_HEADS = (nets.bernoulli_vae_encoder, nets.conv_vae_encoder)
SHAPES = [(28, 28, 1), (32, 32, 3), (8, 12, 2)]
named = {"ids": lambda f: f.__name__}


def rng():
    return np.random.default_rng(0)


def counts(net):
    """Parameters layer by layer, of those that have any."""
    return [sum(p.value.size for p in layer.params) for layer in net.layers if layer.params]


def conv(channels, filters):
    return 9 * channels * filters + filters


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_gives_a_code_and_a_decoder_a_picture(shape):
    x, z = np.random.default_rng(1).random((2, *shape)).astype(np.float32), np.zeros((2, 5), np.float32)
    for make in ENCODERS:
        net, size = make(shape, 5, rng=rng()), 10 if make in TWO_HEADS else 5
        assert net.forward(x).shape == (2, size) == (2, *net.output_shape(shape)) and net.input_shape == shape
    for make in DECODERS:
        net = make(shape, 5, rng=rng())
        assert net.forward(z).shape == (2, *shape) == (2, *net.output_shape((5,))) and net.input_shape == (5,)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decoder_ends_in_pixels_where_the_loss_is_a_distance_and_in_logits_where_it_is_bernoulli(shape):
    z = 300 * np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    pixels = nets.conv_ae_decoder(shape, 3, rng=rng()).forward(z)
    logits = nets.bernoulli_vae_decoder(shape, 3, rng=rng()).forward(z)
    assert pixels.min() >= 0 and pixels.max() <= 1 and logits.min() < 0 and logits.max() > 1


def test_the_numbers_of_parameters_for_mnist_are_the_published_ones():
    shape = (28, 28, 1)
    assert counts(nets.bernoulli_vae_encoder(shape, 2)) == [320, 18_496, 9_220]
    assert counts(nets.bernoulli_vae_decoder(shape, 2)) == [4_704, 18_496, 18_464, 289]
    assert counts(nets.conv_ae_encoder(shape, 2)) == [80, 584, 584, 584, 786]
    assert counts(nets.conv_ae_decoder(shape, 2)) == [9_408, 36_928, 18_464, 9_248, 289]
    assert nets.bernoulli_vae_encoder(shape, 2).output_shape(shape) == (4,)  # [mu | logvar]


@pytest.mark.parametrize(("shape", "vae", "ae", "quarter"), [
    ((28, 28, 1), 6 * 6, 7 * 7, 7 * 7), ((32, 32, 3), 7 * 7, 8 * 8, 8 * 8), ((8, 12, 2), 1 * 2, 2 * 3, 2 * 3)])
def test_the_numbers_of_parameters_follow_the_size_of_the_pictures(shape, vae, ae, quarter):
    """`vae` and `ae` are the pixels before the dense layer: 'valid' loses one at each convolution, 'same' does not."""
    c, d = shape[2], 5
    assert counts(nets.bernoulli_vae_encoder(shape, d)) == [conv(c, 32), conv(32, 64), 64 * vae * 2 * d + 2 * d]
    assert counts(nets.conv_ae_encoder(shape, d)) == [conv(c, 8), *[conv(8, 8)] * 3, 8 * ae * d + d]
    assert counts(nets.bernoulli_vae_decoder(shape, d)) == [
        (d + 1) * 32 * quarter, conv(32, 64), conv(64, 32), conv(32, c)]
    assert counts(nets.conv_ae_decoder(shape, d)) == [
        (d + 1) * 64 * quarter, conv(64, 64), conv(64, 32), conv(32, 32), conv(32, c)]


@pytest.mark.parametrize("make", DECODERS[:3], **named)
@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 26, 1), (7, 8, 3)])
def test_a_picture_that_cannot_be_halved_twice_is_refused_with_its_size(make, shape):
    with pytest.raises(ValueError, match=f"multiples of 4, got {shape[0]} x {shape[1]}: pad or crop"):
        make(shape, 2)


def test_a_picture_that_cannot_be_halved_is_refused_with_its_size():
    with pytest.raises(ValueError, match="multiples of 2, got 30 x 27: pad or crop"):
        nets.conv_vae_decoder((30, 27, 1), 2)
    assert nets.conv_vae_decoder((30, 26, 1), 2).output_shape((2,)) == (30, 26, 1)


@pytest.mark.parametrize("make", ENCODERS + DECODERS, **named)
def test_weights_are_glorot_uniform_and_biases_zero(make):
    net = make((28, 28, 1), 2, rng=rng())
    for layer in net.layers:
        if not layer.params:
            continue
        W, b = layer.params
        assert not b.value.any()
        area = math.prod(layer.kernel_size) if isinstance(layer, Conv2d) else 1
        ends = ((layer.in_features, layer.out_features) if isinstance(layer, Dense)
                else (layer.in_channels, layer.out_channels))
        a = math.sqrt(6 / (area * sum(ends)))
        largest = np.abs(W.value).max()
        assert largest <= a * (1 + 1e-6) and largest > a * (1 - 10 / W.value.size)  # e^-10 that all are smaller
        assert np.square(W.value).mean() == pytest.approx(a * a / 3, rel=6 / math.sqrt(W.value.size))


@pytest.mark.parametrize("make", ENCODERS + DECODERS, **named)
def test_one_seed_gives_one_net_and_no_seed_another_one_each_time(make):
    theta = [np.concatenate([p.value.ravel() for p in make((8, 8, 1), 2, rng=r).params])
             for r in (rng(), rng(), np.random.default_rng(1), None, None)]
    np.testing.assert_array_equal(theta[0], theta[1])
    assert len({t.tobytes() for t in theta}) == 4
    assert {p.value.dtype for p in make((8, 8, 1), 2, dtype=np.float64).params} == {np.dtype(np.float64)}


def test_strides_paddings_and_bends_are_those_of_the_published_nets():
    encoder, decoder = nets.bernoulli_vae_encoder((28, 28, 1), 2), nets.bernoulli_vae_decoder((28, 28, 1), 2)
    found = [(layer.stride, layer.padding, layer.activation.label) for layer in encoder.layers[:2]]
    assert found == [((2, 2), "valid", "relu")] * 2 and encoder.layers[-1].activation.label == "identity"
    found = [(layer.stride, layer.activation.label) for layer in decoder.layers if isinstance(layer, ConvTranspose2d)]
    assert found == [((2, 2), "relu"), ((2, 2), "relu"), ((1, 1), "identity")]
    encoder, decoder = nets.conv_ae_encoder((28, 28, 1), 2), nets.conv_ae_decoder((28, 28, 1), 2)
    assert [layer.stride[0] for layer in encoder.layers[:4]] == [2, 1, 2, 1]
    assert [layer.activation.label for layer in decoder.layers if layer.params] == ["relu"] * 4 + ["sigmoid"]


def test_encoder_and_decoder_fit_together_as_a_model():
    shape, x = (8, 8, 1), np.random.default_rng(3).random((3, 8, 8, 1)).astype(np.float32)
    vae = VAE(nets.bernoulli_vae_encoder(shape, 2), nets.bernoulli_vae_decoder(shape, 2), likelihood=Bernoulli())
    plain = Autoencoder(nets.conv_ae_encoder(shape, 2), nets.conv_ae_decoder(shape, 2))
    for model in (vae, plain):
        assert model.latent == 2 and model.reconstruct(x).shape == x.shape
        assert "total" in model.summary()
        model.loss(x, rng=rng())
        model.backward()
        assert all(p.grad.any() for p in model.params if p.name.endswith("W"))


@pytest.mark.parametrize(("make", "bends"), [
    (nets.conv_ae_encoder, ["relu"] * 4 + ["identity"]),
    (nets.conv_ae_decoder, ["relu"] * 4 + ["sigmoid"]),
    (nets.bernoulli_vae_encoder, ["relu"] * 2 + ["identity"]),
    (nets.bernoulli_vae_decoder, ["relu"] * 3 + ["identity"])])
def test_the_activations_are_the_published_ones(make, bends):
    assert [layer.activation.label for layer in make((8, 8, 1), 2).layers if layer.params] == bends


def test_a_pixel_that_was_never_lit_or_always_has_a_logit_all_the_same():
    decoder = nets.mlp_decoder((2, 2, 1), [3], mean=np.array([0.0, 0.5, 1.0, 0.2]).reshape(2, 2, 1))
    low, even, high, fifth = decoder.layers[0].b.value
    assert -7 < low < -6.8 and even == 0 and 6.8 < high < 7 and fifth == pytest.approx(math.log(0.25), rel=1e-6)
