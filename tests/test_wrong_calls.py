"""Wrong calls from Python: shapes, dtypes, ranges, labels, data, files, objects of another kind. Each is told in one
sentence of npae's own, with what was expected and what was given, before anything is changed or computed.
"""
import traceback
from pathlib import Path

import numpy as np
import pytest

import npae
from npae import callbacks, corruption, data, evaluate, interop, kernels, losses, models, nets, optim, penalties, train
from npae.data import Dataset
from npae.data.batches import batches, binarizer
from npae.layers import (
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Reparameterize,
    Reshape,
    Sequential,
    Shift,
    TiedDense,
    Upsample2d,
)

HOUSE = Path(npae.__file__).parent
RNG = np.random.default_rng(0)
X = RNG.random((6, 4, 4, 1), np.float32)
BYTES = (X * 255).astype(np.uint8)
ROWS = RNG.random((6, 4), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
NUMPYS_OWN = ("broadcast", "einsum", "operand", "matmul", "ufunc", "unsized", "ambiguous", "not supported between",
              "object has no attribute", "not callable", "not iterable")


def ae(kind=models.Autoencoder, **settings):
    encoder = Sequential([Flatten(), Dense(16, 3)], input_shape=(4, 4, 1))
    return kind(encoder, Sequential([Dense(3, 16, activation="sigmoid"), Reshape((4, 4, 1))]), **settings)


def vae(**settings):
    return models.VAE(Sequential([Flatten(), Dense(16, 4)]), Sequential([Dense(2, 16), Reshape((4, 4, 1))]), **settings)


def cvae():
    return models.ConditionalVAE(nets.mlp_encoder((4, 4, 1), [8, 4], classes=3), nets.mlp_decoder((4, 4, 1), [5, 8]),
                                 classes=3)


def fit(x=X, y=None, model=None, **settings):
    return train.fit(ae() if model is None else model, x, y, **{"epochs": 1, "batch_size": 2, **settings})


def after_forward(layer, x, dy):
    layer.forward(x)
    return layer.backward(dy)


SHAPES = [
    (lambda: Conv2d(3, 2, 3).forward(X), r"Conv2d expects 3 input channels, got x of shape \(6, 4, 4, 1\)"),
    (lambda: Conv2d(1, 2, 3).forward(X[0]), r"Conv2d expects x with 4 axes, got 3"),
    (lambda: Conv2d(1, 2, 7, padding="valid").forward(X), r"kernel of \(7, 7\) does not fit into an input of"),
    (lambda: ConvTranspose2d(1, 2, 1, padding=3).forward(X), "padding 3 takes all of the 4 rows"),
    (lambda: MaxPool2d(5).forward(X), r"a kernel of \(5, 5\) does not fit into an input of \(4, 4\)"),
    (lambda: Dense(5, 2).forward(ROWS), r"Dense expects 5 features, got x of shape \(6, 4\)"),
    (lambda: Sequential([Dense(4, 3), Dense(5, 2)]).forward(ROWS), r"Dense '1' expects 5 features, got x of shape"),
    (lambda: Reshape((3, 3)).forward(X), r"Reshape makes \(3, 3\), 9 numbers a picture, but got x .* 16 numbers"),
    (lambda: after_forward(Conv2d(1, 2, 3), X, X), r"gave y of shape \(6, 4, 4, 2\) .* got dy of shape \(6, 4, 4, 1\)"),
    (lambda: Dense(4, 3).backward(ROWS), "backward belongs to the latest forward, and there was none"),
    (lambda: Reparameterize(rng=RNG).forward(ROWS[:, :3]), "needs an even number of columns, got 3"),
    (lambda: losses.SquaredError().nll(X, X[..., 0]), r"output has shape \(6, 4, 4, 1\) but x \(6, 4, 4\)"),
    (lambda: losses.Bernoulli().nll(ROWS[:, :1], ROWS[:, 0]), r"output has shape \(6, 1\) but x \(6,\)"),
    (lambda: penalties.gaussian_kl(ROWS, ROWS[:, :2]), r"mu has shape \(6, 4\) but logvar \(6, 2\)"),
    (lambda: penalties.gaussian_kl_sampled(ROWS, ROWS, ROWS[:4]), r"needs eps of shape \(k \* 6, 4\)"),
    (lambda: ae().loss(X[:, :3]), r"Dense 'encoder.1' expects 16 features, got x of shape \(6, 12\)"),
    (lambda: vae().decode(ROWS), r"Dense 'decoder.0' expects 2 features, got x of shape \(6, 4\)"),
    (lambda: evaluate.pca_mse(X, X[:, :3], 2), r"training pictures of shape \(4, 4, 1\) and test .*\(3, 4, 1\)"),
    (lambda: optim.SGD(0.1).step(ROWS[0], ROWS[0, :3]), r"theta is float32 \(4,\) but grad float32 \(3,\)"),
    (lambda: fit(transform=lambda x, rng: x[:1]), r"transform was given 2 pictures .* and must return as many, got an"),
]
DTYPES = [
    (lambda: Conv2d(1, 2, 3).forward(BYTES), "float32 or float64, got uint8: divide uint8 pictures by 255 first"),
    (lambda: Dense(4, 2).forward(ROWS.astype(np.int64)), "float32 or float64, got int64: convert it first"),
    (lambda: Dense(4, 2).forward(ROWS.astype(np.float64)), "Dense is float32, got x of float64"),
    (lambda: Dense(4, 2).forward(ROWS.astype(np.float16)), "float32 or float64, got float16"),
    (lambda: Dense(4, 2).forward(ROWS.astype(object)), "float32 or float64, got object"),
    (lambda: Dense(4, 2).forward([[1.0, 2.0], [3.0]]), "arrays of numbers, got list that is none"),
    (lambda: Dense(4, 2).forward(None), "arrays of numbers, got NoneType that is none"),
    (lambda: Dense(4, 2, dtype=np.int32), "Dense computes in float32 or float64 .* got int32"),
    (lambda: Conv2d(1, 2, 3, dtype="real"), "Conv2d computes in float32 or float64 .* got .real."),
    (lambda: Dense(4, 2).to("half"), "layers compute in float32 or float64 .* got float16"),
    (lambda: losses.Bernoulli().nll(X, BYTES), "pictures as floats like the output's float32, got x of uint8"),
    (lambda: penalties.gaussian_kl([[0.0]], [[0.0]]), "mu and logvar must be arrays, got list and list"),
    (lambda: ae().loss(X.astype(np.float64)), "Autoencoder is float32, got pictures of float64"),
    (lambda: ae().loss(BYTES), "Autoencoder is float32, got pictures of uint8"),
    (lambda: fit(X.astype(object)), "uint8 pictures or float32 and float64 arrays, got object"),
    (lambda: fit(BYTES.astype(np.uint16)), "uint8 pictures or float32 and float64 arrays, got uint16"),
    (lambda: fit(X > 0.5), "uint8 pictures or float32 and float64 arrays, got bool"),
    (lambda: fit(X * 255), "paints pixels up to 1, and the pictures, float32, go up to 25"),
    (lambda: fit(X.tolist()), "x must be pictures as an array, or a Dataset, got list"),
    (lambda: Dataset(X, None, X, None, "mine"), "train pictures must be uint8 of shape .* got float32"),
    (lambda: optim.SGD(0.1).step(ROWS[0], ROWS[0].astype(np.float64)), "theta is float32 .* but grad float64"),
]
RANGES = [
    (lambda: Dense(0, 3), "in_features must be an integer of at least 1, got 0"),
    (lambda: Dense(2.5, 3), "in_features must be an integer of at least 1, got 2.5"),
    (lambda: Dense("4", 3), "in_features must be an integer of at least 1, got '4'"),
    (lambda: Conv2d(1, 2, 3, stride=0), "stride must be an integer of at least 1, or a pair of them, got 0"),
    (lambda: Conv2d(1, 2, (3, 3, 3)), r"kernel_size must be an integer .* got \(3, 3, 3\)"),
    (lambda: Conv2d(1, 2, 3, padding="full"), "'same', 'valid' or an integer of at least 0, got 'full'"),
    (lambda: MaxPool2d(2, padding=2), "padding 2 with windows of"),
    (lambda: AvgPool2d(0), "pool_size must be an integer of at least 1"),
    (lambda: Upsample2d(2, mode="cubic"), "mode must be 'nearest' or 'bilinear', got 'cubic'"),
    (lambda: Reshape((-1, 4)), "each size must be an integer of at least 1, got -1"),
    (lambda: Dropout(1.0), "a fraction of at least 0 and below 1, got 1.0"),
    (lambda: Dropout("0.5"), "a fraction of at least 0 and below 1, got 0.5"),
    (lambda: GaussianNoise(np.nan), "a standard deviation of at least 0, got nan"),
    (lambda: LeakyReLU("steep"), "a finite alpha of at least 0, got steep"),
    (lambda: Reparameterize(1.5), "samples must be an integer of at least 1, got 1.5"),
    (lambda: losses.Gaussian(0), "a variance above 0 and below infinity, got 0"),
    (lambda: losses.Gaussian("wide"), "a variance above 0 and below infinity, got wide"),
    (lambda: losses.Bernoulli().nll(X, X * 2), r"pixels in \[0, 1\], got x from .* to 1.9"),
    (lambda: penalties.sparsity_kl(ROWS, "rare"), "a target rho between 0 and 1, got rare"),
    (lambda: penalties.sparsity_kl(ROWS + 3, 0.1), r"mean activations in \[0, 1\], got 3"),
    (lambda: vae(beta=-1), "beta must be finite and at least 0, got -1"),
    (lambda: vae(kl="exact"), "kl must be 'analytic' or 'sampled', got 'exact'"),
    (lambda: ae(models.SparseAutoencoder, rho=2), "a target rho between 0 and 1, got 2"),
    (lambda: ae(models.DenoisingAutoencoder, corruption="blur"), "corruption must be one of masking, .* got 'blur'"),
    (lambda: corruption.masking(X, 2, RNG), "an amount from 0 to 1, got 2"),
    (lambda: optim.Adam(-1), "lr must be finite and at least 0, got -1"),
    (lambda: optim.Adam(beta1=1), r"beta1 must be finite and in \[0, 1\), got 1"),
    (lambda: fit(epochs=1.5), "epochs must be an integer of at least 0, got 1.5"),
    (lambda: fit(batch_size=0), "batch_size must be an integer of at least 1, got 0"),
    (lambda: fit(batch_size=100, drop_last=True), "batch_size 100 with drop_last leaves no batch of 6 rows"),
    (lambda: fit(seed=-1), "seed must be an integer of at least 0, got -1"),
    (lambda: evaluate.pca_mse(X, X, 17), r"0 <= k <= 16 .* got k = 17"),
    (lambda: evaluate.pca_mse(X, X, "all"), "k must be an integer of at least 0, got 'all'"),
    (lambda: evaluate.log_likelihood(vae(), X, samples=0, rng=RNG), "samples must be an integer of at least 1, got 0"),
    (lambda: kernels.set_threads(0), "at least 1 thread, got 0"),
    (lambda: data.load("strokes", train=-5), "strokes.generate got n = -5"),
    (lambda: data.load("strokes", train="many"), "strokes.generate got n = many"),
]
LABELLED = [
    (lambda: cvae().loss(X, rng=RNG), "needs the labels y of its 6 pictures: pass integers 0 to 2"),
    (lambda: cvae().loss(X, LABELS + 1, rng=RNG), "knows the labels 0 to 2, got 1 to 3"),
    (lambda: cvae().loss(X, LABELS - 1, rng=RNG), "knows the labels 0 to 2, got -1 to 1"),
    (lambda: cvae().loss(X, LABELS / 1, rng=RNG), r"6 labels as integers of shape \(6,\), got float64"),
    (lambda: cvae().loss(X, np.eye(3, dtype=int)[LABELS], rng=RNG), r"6 labels as integers .* int64 of shape \(6, 3"),
    (lambda: cvae().loss(X, LABELS[:, None], rng=RNG), r"6 labels as integers .* got int64 of shape \(6, 1\)"),
    (lambda: cvae().sample(2, rng=RNG, y=LABELS), "got 2 rows and 6 labels"),
    (lambda: fit(y=LABELS[:2]), "x has 6 rows and y has 2"),
    (lambda: fit(validation=(X, LABELS[:2])), "x has 6 rows and y has 2"),
    (lambda: Dataset(BYTES, LABELS[:3], BYTES, None, "mine"), r"6 train pictures need 6 labels .* shape \(3,\)"),
    (lambda: Dataset(BYTES, LABELS.tolist(), BYTES, None, "mine"), "must be arrays, got ndarray and list"),
    (lambda: evaluate.knn(X, LABELS, X, LABELS[:5]), r"a whole number as label for each, got .* \(5,\)"),
    (lambda: evaluate.knn(X, LABELS, X, LABELS, k=7), "6 training codes, fewer than k = 7"),
]
NOTHING = [
    (lambda: Conv2d(1, 2, 3).forward(X[:0]), r"at least 1 row and 1 number in each, got x of shape \(0, 4, 4, 1\)"),
    (lambda: Conv2d(1, 2, 3).forward(X[:, :0]), r"at least 1 row and 1 number in each, got x of shape \(6, 0, 4, 1\)"),
    (lambda: ae().loss(X[:0]), r"Flatten 'encoder.0' needs at least 1 row"),
    (lambda: vae().encode(X[:0]), r"VAE needs at least 1 row, got x of shape \(0, 4, 4, 1\)"),
    (lambda: losses.SquaredError().nll(X[:0], X[:0]), r"at least 1 picture and 1 pixel, got shape \(0, 4, 4, 1\)"),
    (lambda: fit(X[:0]), "x is empty"),
    (lambda: evaluate.reconstruction_mse(ae(), X[:0]), "x is empty"),
    (lambda: data.load("strokes", train=0), "train pictures must be uint8 .* got uint8 of shape"),
    (lambda: Sequential([]), "at least 1 layer, got 0"),
    (lambda: penalties.weight_decay([]), "at least 1 array of weights, got 0"),
]
KINDS = [
    (lambda: Dense(4, 3, activation="gelu"), "unknown activation 'gelu': use one of identity, relu"),
    (lambda: Dense(4, 3, activation=ReLU), "activation must be one of"),
    (lambda: Dense(4, 3, rng="seed"), r"rng must be a numpy.random.Generator, .* got 'seed'"),
    (lambda: Dense(4, 3, init="he"), "init is a function such as npae.init.he_normal, got 'he'"),
    (lambda: Dense(4, 3, init=lambda *args: np.zeros((2, 2))), r"weights of shape \(4, 3\), got float64 of .*2, 2"),
    (lambda: Dense(4, 3, kernels="fast"), "kernels is a module, npae.kernels.fast or .* got 'fast'"),
    (lambda: Dense(4, 3).to(kernels="reference"), "kernels is a module, .* got 'reference'"),
    (lambda: Sequential(Dense(4, 3)), r"Sequential takes a list of layers, got Dense\("),
    (lambda: Sequential([Dense]), "place 0 holds <class .*>, which is no Layer"),
    (lambda: Sequential([Dense(4, 3)], input_shape=4), "input_shape must be a shape such as .* got 4"),
    (lambda: Reshape(16), r"must be a shape such as \(28, 28, 1\), got 16"),
    (lambda: Shift("dark"), "an offset of numbers, got 'dark'"),
    (lambda: TiedDense(5), "TiedDense needs a Dense partner, got 5"),
    (lambda: models.Autoencoder(Dense(4, 2), Dense(2, 4)), "takes its encoder as a Sequential, got Dense"),
    (lambda: ae(likelihood=losses.Bernoulli()), "Bernoulli takes logits .* and the decoder ends in one more"),
    (lambda: ae(likelihood="bernoulli"), "needs a likelihood such as losses.Bernoulli"),
    (lambda: ae().backward(), "backward belongs to the latest loss, and there was none"),
    (lambda: vae().loss(X), "neither eps nor a generator: pass rng to model.loss"),
    (lambda: vae().loss(X, rng=5), "neither eps nor a generator, got 5: pass rng to model.loss"),
    (lambda: evaluate.elbo(ae(), X, rng=RNG), "an ELBO is in nats, and this model's likelihood SquaredError"),
    (lambda: evaluate.reconstruction_mse(ae(), None), "batches takes pictures as an array, got None"),
    (lambda: list(batches(X, order=5)), r"order shuffles and must be a generator .* got 5"),
    (lambda: fit(transform=5), "transform is a function of .* got 5"),
    (lambda: fit(transform=lambda x, rng: None), "must return as many, got NoneType"),
    (lambda: binarizer("grey"), "unknown binarisation 'grey': expected one of none, threshold, sample"),
    (lambda: fit(optimizer=optim.Adam), "an optimizer such as .*, got <class"),
    (lambda: fit(callbacks=[5]), "callbacks is a list of objects whose classes inherit .* got 5"),
    (lambda: fit(validation=5), r"validation must be pictures, or \(pictures, labels\), as arrays, got int"),
    (lambda: data.load("cifar"), "no data set 'cifar': expected 'strokes', 'mnist', or the path"),
    (lambda: data.load(None), "a data set is 'strokes', 'mnist', or the path .* got None"),
    (lambda: data.load("strokes", dir="/tmp"), "a folder of data, /tmp, is for 'mnist'"),
    (lambda: data.load("mnist", dir="/nowhere"), "MNIST was looked for in /nowhere .* which lacks"),
    (lambda: interop.from_pytorch(ae(), {}, []), "2 layers have weights .* and there are 0 different names"),
]
TYPES = [
    (lambda: Conv2d(1, 2, None), "kernel_size must be an integer of at least 1, or a pair of them, got None"),
    (lambda: Conv2d(1, 2, 2.5), "kernel_size must be an integer of at least 1, or a pair of them, got 2.5"),
    (lambda: Upsample2d(1.5), "factor must be an integer of at least 1, or a pair of them, got 1.5"),
    (lambda: vae(beta="a"), "beta must be finite and at least 0, got a"),
    (lambda: vae().sample(-1, rng=RNG), "n must be an integer of at least 1, got -1"),
    (lambda: vae().sample(2, rng=None), "sample draws z from a generator: pass rng="),
    (lambda: ae().loss(None), "takes pictures as an array, got NoneType"),
    (lambda: ae().interpolate(X[0], X[1, :3]), r"two pictures of one shape, got \(4, 4, 1\) and \(3, 4, 1\)"),
    (lambda: ae().interpolate(X[0], X[1], steps="a"), "steps must be an integer of at least 1, got 'a'"),
    (lambda: ae(models.SparseAutoencoder, rho="a"), "a target rho between 0 and 1, got a"),
    (lambda: corruption.masking(X, "a", RNG), "an amount from 0 to 1, got a"),
    (lambda: corruption.masking(X, 0.5, None), "masking noise is drawn from a generator, got None"),
    (lambda: kernels.set_threads("a"), "at least 1 thread, got a"),
    (lambda: nets.conv_ae_encoder((28, 28), 10), r"a shape \(H, W, C\), got \(28, 28\)"),
    (lambda: nets.mlp_encoder((4, 4, 1), []), "at least 1 width, got none"),
    (lambda: optim.Adam("fast"), "lr must be finite and at least 0, got fast"),
    (lambda: optim.Adam(beta1="a"), r"beta1 must be finite and in \[0, 1\), got a"),
    (lambda: optim.Adam(clip_norm="a"), "clip_norm must be finite and above 0, got a"),
    (lambda: optim.LBFGS("a"), "memory must be an integer of at least 1, got 'a'"),
    (lambda: fit(np.array("a")), "x must be pictures as an array"),
    (lambda: fit(callbacks=5), "callbacks is a list of objects"),
    (lambda: fit(model=Dense(3, 3)), r"fit trains a model such as models.VAE\(encoder, decoder\), got Dense"),
    (lambda: fit(batch_size=100), "batch_size 100 is larger than the 6 training pictures: take at most 6"),
    (lambda: callbacks.EarlyStopping("a"), "patience must be an integer of at least 1, got 'a'"),
    (lambda: callbacks.EarlyStopping(1.5), "patience must be an integer of at least 1, got 1.5"),
]
PLACES = {"shapes": SHAPES, "dtypes": DTYPES, "ranges": RANGES, "labels": LABELLED, "nothing": NOTHING, "kinds": KINDS,
          "types": TYPES}
CALLS = [pytest.param(*row, id=f"{name}-{i}") for name, rows in PLACES.items() for i, row in enumerate(rows)]


@pytest.mark.parametrize(("call", "words"), CALLS)
def test_a_wrong_call_is_told_in_a_sentence(call, words, monkeypatch):
    monkeypatch.delenv("NPAE_DATA", raising=False)
    with pytest.raises(ValueError, match=words) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400 and not [word for word in NUMPYS_OWN if word in sentence]
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert HOUSE in Path(frames[-1].filename).parents, "raised by npae, on purpose"


def test_there_are_as_many_as_were_promised():
    assert sum(map(len, PLACES.values())) >= 40 and all(len(rows) >= 10 for rows in PLACES.values())


@pytest.mark.parametrize("call", [
    lambda: ae().save("/nowhere/model.npz"), lambda: models.load("/nowhere/model.npz"), lambda: models.load("/tmp")])
def test_a_file_that_cannot_be_opened_is_an_os_error_with_its_path(call):
    with pytest.raises(OSError, match=r"/nowhere|/tmp"):
        call()


def test_what_was_refused_has_changed_nothing():
    """A model that has refused a batch goes on as if it had not been asked, and its backward is off."""
    model, twin = vae(), None
    twin = model.to()
    for wrong in (X[:0], X[:, :3], X.astype(np.float64), BYTES):
        with pytest.raises(ValueError, match=r"."):
            model.loss(wrong, rng=RNG)
        with pytest.raises(ValueError, match="call loss"):
            model.backward()
    a, b = (m.loss(X, rng=np.random.default_rng(1))["loss"] for m in (model, twin))
    assert a == b and not model.grad.any()
