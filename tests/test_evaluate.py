"""Evaluation: every number against a sum worked out by hand, and PCA against published figures of real MNIST."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

from npae import losses
from npae.data import idx
from npae.data.batches import binarize_sample, binarize_threshold
from npae.evaluate import elbo, pca, pca_mse, reconstruction_mse
from npae.layers import Dense, Flatten, Reshape, Sequential
from npae.models import VAE


class Nats:
    """A likelihood as far as `elbo` looks at one."""

    unit = "nats per image"


class Model:
    """Terms that are simple means over the batch; "loss" carries a beta, as a trained model's does."""

    likelihood = Nats()
    theta = np.zeros(1, np.float32)
    without_noise = staticmethod(nullcontext)

    def loss(self, x, y=None, rng=None):
        recon, kl = x.sum(axis=(1, 2, 3)).mean(), (0 if y is None else y.mean()) + rng.random()
        self.seen = [*getattr(self, "seen", []), (len(x), x.dtype)]
        return {"loss": recon + 4 * kl, "recon": recon, "kl": kl}

    def reconstruct(self, x, y=None):
        return np.full_like(x, 0.5) if y is None else np.broadcast_to(y[:, None, None, None], x.shape).astype(x.dtype)


class Fixed:
    """A generator whose numbers are known."""

    def random(self):
        return 2.0


@pytest.mark.parametrize("shape", [(28, 28, 28), (1, 28, 28), (3, 28, 28)])
def test_pictures_without_a_channel_are_not_stretched_against_their_reconstructions(shape):
    class Net(Model):
        def reconstruct(self, x, y=None):
            return np.zeros((len(x), 28, 28, 1), np.float32)

    with pytest.raises(ValueError, match=r"pictures of shape \(28, 28\) come back as \(28, 28, 1\): pass them as \(N"):
        reconstruction_mse(Net(), np.ones(shape, np.float32))


def test_elbo_is_minus_recon_minus_kl_whatever_beta_the_loss_has():
    x = np.full((4, 2, 3, 1), 0.5, np.float32)
    assert elbo(Model(), x, rng=Fixed()) == {"elbo": -5.0, "recon": 3.0, "kl": 2.0}


def test_the_elbo_of_a_beta_vae_does_not_know_beta():
    def scored(beta):
        rng = np.random.default_rng(0)
        nets = [Flatten(), Dense(6, 4, rng=rng)], [Dense(2, 6, rng=rng), Reshape((2, 3, 1))]
        return elbo(VAE(*map(Sequential, nets), beta=beta), np.full((4, 2, 3, 1), 255, np.uint8),
                    rng=np.random.default_rng(1))

    assert scored(1.0) == scored(4.0)


def test_a_short_last_batch_counts_by_its_pictures():
    x = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1)
    y = np.array([0, 0, 0, 0, 10])
    model = Model()
    result = elbo(model, x, rng=Fixed(), y=y, batch_size=2)
    assert [n for n, _ in model.seen] == [2, 2, 1]
    assert result["recon"] == pytest.approx(2.0, rel=1e-15)
    assert result["kl"] == pytest.approx(2.0 + 10 / 5, rel=1e-15)


def test_elbo_turns_uint8_pictures_into_grey_levels():
    model = Model()
    x = np.full((3, 2, 2, 1), 255, np.uint8)
    assert elbo(model, x, rng=Fixed())["recon"] == 4.0
    assert model.seen == [(3, np.float32)]


def test_elbo_gives_the_transform_its_generator_and_the_same_seed_the_same_number():
    x = np.random.default_rng(0).random((6, 4, 5, 1), dtype=np.float32)
    one, two, other = (
        elbo(Model(), x, rng=np.random.default_rng(seed), transform=binarize_sample)["elbo"] for seed in (3, 3, 4)
    )
    assert one == two != other
    assert elbo(Model(), x, rng=Fixed(), transform=binarize_threshold)["recon"] == (x > 0.5).sum() / 6


def test_elbo_has_the_constant_of_a_gaussian_likelihood():
    class Perfect(Model):
        """A model that reconstructs without error."""

        likelihood = losses.Gaussian(0.5)

        def loss(self, x, y=None, rng=None):
            return {"recon": self.likelihood.nll(x, x)[0], "kl": 0.0}

    x = np.zeros((3, 4, 5, 1), np.float32)
    assert elbo(Perfect(), x, rng=Fixed())["elbo"] == pytest.approx(-10 * math.log(math.pi), rel=1e-15)


def test_squared_error_has_no_elbo():
    model = Model()
    model.likelihood = losses.SquaredError()
    with pytest.raises(ValueError, match=r"nats.*SquaredError is in squared grey level per image: use"):
        elbo(model, np.zeros((2, 2, 2, 1), np.float32), rng=Fixed())


def test_a_model_without_kl_has_no_elbo():
    class Plain(Model):
        """An autoencoder's terms."""

        def loss(self, x, y=None, rng=None):
            return {"loss": 1.0, "recon": 1.0}

    with pytest.raises(ValueError, match=r"'kl', and Plain.loss gives \['loss', 'recon'\]"):
        elbo(Plain(), np.zeros((2, 2, 2, 1), np.float32), rng=Fixed())


def test_no_pictures_have_no_mean():
    empty = np.zeros((0, 2, 3, 1), np.float32)
    for measure in (lambda: elbo(Model(), empty, rng=Fixed()), lambda: reconstruction_mse(Model(), empty),
                    lambda: pca_mse(empty, empty, 1)):
        with pytest.raises(ValueError, match="empty"):
            measure()


def test_reconstruction_mse_is_per_pixel_and_weighs_the_short_batch():
    x = np.zeros((5, 2, 3, 1), np.float32)
    x[4] = 1.5
    assert reconstruction_mse(Model(), x, batch_size=2) == pytest.approx((4 * 0.25 + 1.0) / 5, rel=1e-15)
    assert reconstruction_mse(Model(), np.full((3, 2, 3, 3), 255, np.uint8)) == 0.25


def test_reconstruction_mse_compares_with_the_transformed_picture():
    x = np.full((2, 2, 3, 1), 0.9, np.float32)
    assert reconstruction_mse(Model(), x, transform=binarize_threshold) == 0.25
    assert reconstruction_mse(Model(), x, transform=binarize_sample, rng=np.random.default_rng(0)) == 0.25
    assert reconstruction_mse(Model(), np.ones_like(x), transform=lambda x, rng: x[:, :, ::2]) == 0.25  # fewer pixels


def test_reconstruction_mse_hands_labels_to_a_conditional_model():
    x = np.zeros((3, 2, 2, 1), np.float32)
    assert reconstruction_mse(Model(), x, y=np.array([1, 2, 3]), batch_size=2) == pytest.approx(14 / 3, rel=1e-15)


def test_reconstruction_mse_squares_and_adds_in_float64():
    """In float32 the mean would be right to six or seven digits only."""
    x = np.random.default_rng(5).random((1000, 2, 3, 1), dtype=np.float32)
    expected = math.fsum((float(value) - 0.5) ** 2 for value in x.ravel()) / x.size
    assert reconstruction_mse(Model(), x) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shape", [(5, 4, 1), (3, 4, 3)])
def test_pca_mse_equals_that_of_an_svd(shape):
    rng = np.random.default_rng(1)
    train, test = (rng.random((n, *shape)) ** 2 for n in (70, 31))
    X, Y = (a.reshape(len(a), -1) - train.reshape(70, -1).mean(0) for a in (train, test))
    V = np.linalg.svd(X, full_matrices=False)[2].T
    for k in (0, 1, 7):
        expected = ((Y - Y @ V[:, :k] @ V[:, :k].T) ** 2).mean()
        assert pca_mse(train, test, k) == pytest.approx(expected, rel=1e-12)
    assert pca_mse(train, test, X.shape[1]) < 1e-28


def test_pca_mse_does_not_depend_on_the_size_of_its_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    train, test = rng.integers(0, 256, (50, 3, 4, 1), np.uint8), rng.integers(0, 256, (23, 3, 4, 1), np.uint8)
    whole = pca_mse(train, test, 3)
    monkeypatch.setattr("npae.evaluate.reconstruction.ROWS", 7)
    assert pca_mse(train, test, 3) == pytest.approx(whole, rel=1e-13)
    assert whole == pytest.approx(pca_mse(train / 255, test / 255, 3), rel=1e-6)


def test_pca_mse_names_both_numbers():
    x = np.zeros((3, 2, 2, 1))
    with pytest.raises(ValueError, match=r"0 <= k <= 4.*k = 5"):
        pca_mse(x, x, 5)
    with pytest.raises(ValueError, match=r"\(2, 2, 1\).*\(2, 3, 1\)"):
        pca_mse(x, np.zeros((3, 2, 3, 1)), 1)


def test_pca_of_mnist_has_the_measured_errors(mnist_dir):
    """Fitted on the 60,000 training pictures, measured on the 10,000 test pictures."""
    train, test = (idx.read_idx(find(mnist_dir, name))[..., None] for name in ("train", "t10k"))
    found = pca(train)
    assert found.mse(test, 10) == pytest.approx(0.03407, abs=5e-6)
    assert found.mse(test, 2) == pytest.approx(0.05567, abs=5e-6)


def find(folder, part):
    return next(path for path in sorted(folder.iterdir()) if path.name.startswith(f"{part}-images-idx3-ubyte"))
