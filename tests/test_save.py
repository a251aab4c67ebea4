"""Saved models: what comes back is the same model to the last bit, and what is no model of npae is refused."""
import pickle
import zipfile

import numpy as np
import pytest

from npae import layers, losses, models, store
from npae.kernels import reference
from npae.lab.catalogue import ALL
from npae.layers import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Reshape,
    Sequential,
    TiedConvTranspose2d,
    TiedDense,
    Upsample2d,
    UpsampleConv2d,
)
from npae.models import VAE, Autoencoder
from npae.params import Param

SHAPE = (4, 4, 1)


class Scale(Layer):
    """A user's own layer: each feature times a learnt number."""

    def __init__(self, features: int, kernels=None):
        super().__init__(kernels)
        self.features = features
        self.s = Param("s", np.ones(features, np.float32))
        self.params = (self.s,)

    def _forward(self, x):
        self.saved = x
        return x * self.s.value

    def _backward(self, dy, need_dx):
        self.s.grad += (dy * self.saved).sum(0)
        return dy * self.s.value if need_dx else None

    def config(self):
        return {"layer": "Scale", "features": self.features}


class Softsign(Activation):
    """A user's own activation, y = x / (1 + |x|)."""

    def f(self, x):
        return x / (1 + np.abs(x))

    def slope(self, y):
        return np.square(1 - np.abs(y))

    def bend(self, y):
        return -2 * np.sign(y) * (1 - np.abs(y))


def pictures(dtype=np.float32):
    return np.random.default_rng(0).random((5, *SHAPE)).astype(dtype)


def dense(*args, **settings):
    return Dense(*args, **{"rng": np.random.default_rng(args), "kernels": reference, **settings})


def plain():
    return Autoencoder(Sequential([Flatten(), dense(16, 3)], input_shape=SHAPE),
                       Sequential([dense(3, 16, activation="sigmoid"), Reshape(SHAPE)]))


def in_float64():
    head, body = dense(16, 4, dtype=np.float64), dense(2, 16, dtype=np.float64)
    return VAE(Sequential([Flatten(), head]), Sequential([body, Reshape(SHAPE)]), beta=2.5, kl="sampled",
               likelihood=losses.Gaussian(0.25))


def tied_dense():
    a, b = dense(16, 6, activation=LeakyReLU(0.3)), dense(6, 2)
    decoder = Sequential([TiedDense(b, LeakyReLU(0.2)), TiedDense(a, "sigmoid"), Reshape(SHAPE)])
    return Autoencoder(Sequential([Flatten(), a, b]), decoder)


def tied_conv():
    a = Conv2d(1, 3, 3, stride=2, activation="relu", kernels=reference, rng=np.random.default_rng(1))
    return Autoencoder(Sequential([Sequential([a]), Dropout(0.5)]), Sequential([TiedConvTranspose2d(a, "sigmoid")]))


def nested():
    inner = Sequential([Conv2d(1, 2, (3, 2), padding=1, activation="tanh"), MaxPool2d(2)])
    encoder = Sequential([inner, Sequential([Sequential([AvgPool2d((2, 1), padding=0)]), Flatten()]), dense(4, 6)])
    decoder = [dense(3, 4), Reshape((2, 2, 1)), Upsample2d((1, 2), mode="bilinear"),
               Sequential([UpsampleConv2d(1, 1, 3)]), Conv2d(1, 1, (1, 5), stride=(1, 2), padding="same")]
    return VAE(encoder, Sequential(decoder))


def of_ones_own():
    encoder = Sequential([Flatten(), Scale(16), dense(16, 2, activation=Softsign())])
    decoder = [dense(2, 16, activation=Softsign()), Softsign(), Scale(16), Reshape(SHAPE)]
    return Autoencoder(encoder, Sequential(decoder))


def from_a_file(model, folder):
    model.save(folder / "model.npz")
    return models.load(folder / "model.npz", custom=[Scale, Softsign])


def from_a_pickle(model, folder):
    """After a step, which leaves kernels, buffers and what backward needs in the layers."""
    model.loss(pictures(model.theta.dtype), rng=np.random.default_rng(0))
    model.backward()
    return pickle.loads(pickle.dumps(model))


def unlike_its_first_values(model):
    model.theta += np.random.default_rng(3).standard_normal(len(model.theta)).astype(model.theta.dtype)
    return model


@pytest.mark.parametrize("make", [plain, in_float64, tied_dense, tied_conv, nested, of_ones_own],
                         ids=lambda f: f.__name__)
@pytest.mark.parametrize("back", [from_a_file, from_a_pickle], ids=lambda f: f.__name__)
def test_a_model_comes_back_the_same_to_the_last_bit(make, back, tmp_path):
    model = unlike_its_first_values(make())
    x = pictures(model.theta.dtype)
    again = back(model, tmp_path)
    assert type(again) is type(model) and again.config() == model.config() and again.latent == model.latent
    assert [p.name for p in again.params] == [p.name for p in model.params]
    for p, q in zip(model.params, again.params, strict=True):
        np.testing.assert_array_equal(p.value, q.value)
        assert p.value.dtype == q.value.dtype and np.shares_memory(q.value, again.theta)
    model, again = model.to(kernels=reference), again.to(kernels=reference)
    np.testing.assert_array_equal(again.reconstruct(x), model.reconstruct(x))
    terms = [m.loss(x, rng=np.random.default_rng(1)) for m in (model, again)]
    assert terms[0] == terms[1]
    for m in (model, again):
        m.zero_grad()
        m.backward()
    assert model.grad.any()
    for p, q in zip(model.params, again.params, strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_sizes_that_are_numpy_integers_can_be_saved(tmp_path):
    size = np.prod(SHAPE)
    encoder = Sequential([Conv2d(np.int64(1), np.int32(2), 3, padding=np.int64(1)), Flatten(), Dense(2 * size, 3)])
    model = models.Autoencoder(encoder, Sequential([Dense(np.int64(3), size), Reshape(SHAPE)]))
    model.save(tmp_path / "model.npz")
    assert np.array_equal(models.load(tmp_path / "model.npz").theta, model.theta)


def test_the_fast_kernels_too_give_the_same_bits(tmp_path):
    model = unlike_its_first_values(nested())
    model.save(tmp_path / "model.npz")
    again = models.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.reconstruct(pictures()), model.reconstruct(pictures()))


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_layer_comes_back_from_its_config(case, tmp_path):
    layer = case.make(np.random.default_rng(1), np.float32, reference)
    model = Autoencoder(Sequential([layer]), Sequential([dense(1, 1)]))
    model.save(tmp_path / "model.npz")
    again = models.load(tmp_path / "model.npz").to(kernels=reference)
    x = np.random.default_rng(2).random(case.input_shapes[0]).astype(np.float32)
    outputs = []
    for m in (model, again):
        m.encoder.give_rng(np.random.default_rng(3))
        outputs.append(m.encoder.forward(x))
    np.testing.assert_array_equal(*outputs)


def test_the_cases_leave_no_public_layer_out():
    public = {getattr(layers, name) for name in layers.__all__} - {Layer, Sequential, Activation}
    assert {kind.__name__ for kind in public if isinstance(kind, type)} <= {case.kind for case in ALL}


# -- what is refused --


def changed(tmp_path, arrays=None, **config):
    """The path of a saved plain model with other arrays (None: taken out) or another config."""
    plain().save(tmp_path / "model.npz")
    stored, meta = store.read(tmp_path / "model.npz")
    stored = {name: a for name, a in {**stored, **(arrays or {})}.items() if a is not None}
    store.write(tmp_path / "model.npz", stored, {**meta, **config})
    return tmp_path / "model.npz"


def test_an_unchanged_file_is_taken(tmp_path):
    assert models.load(changed(tmp_path)).latent == 3


@pytest.mark.parametrize(("arrays", "message"), [
    ({"encoder.1.b": None}, r"encoder.1.b should be float32 of shape \(3,\), found nothing"),
    ({"encoder.1.b": np.zeros(4, np.float32)}, r"should be float32 of shape \(3,\), found float32 of shape \(4,\)"),
    ({"encoder.1.W": np.zeros((3, 16), np.float32)}, r"shape \(16, 3\), found float32 of shape \(3, 16\)"),
    ({"encoder.1.b": np.zeros(3)}, r"should be float32 of shape \(3,\), found float64 of shape \(3,\)"),
    ({"encoder.9.W": np.zeros(3)}, "holds 1 arrays that the model has no place for: encoder.9.W"),
], ids=["missing", "too long", "transposed", "float64", "extra"])
def test_parameters_that_do_not_fit_are_refused_with_what_was_found(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        models.load(changed(tmp_path, arrays))


@pytest.mark.parametrize(("config", "message"), [
    ({"model": "GAN"}, "does not describe a model that this version knows: 'GAN' is of an unknown kind: .* custom="),
    ({"likelihood": {"likelihood": "Laplace"}}, "this version knows: 'Laplace' is of an unknown kind: .* custom="),
    ({"likelihood": "Bernoulli"}, "does not describe a model"),
    ({"temperature": 2.0}, "does not describe a model .* unexpected keyword argument 'temperature'"),
    ({"encoder": {"layer": "Attention"}}, "layer encoder is of the unknown kind 'Attention': .* custom="),
    ({"encoder": None}, "does not describe a model"),
    ({"decoder": {"layer": "Sequential", "layers": [{"layer": "TiedDense", "partner": "encoder.7"}]}},
     "layer decoder.0 is tied to 'encoder.7', which does not stand before it"),
    ({"decoder": {"layer": "Dense", "in_features": 3, "out_features": 16, "colour": "red"}},
     "layer decoder cannot be built: .*'colour'"),
], ids=["model", "likelihood", "a word", "setting", "layer", "no encoder", "partner", "argument"])
def test_a_config_that_is_not_understood_is_refused_with_its_name(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        models.load(changed(tmp_path, **config))


def test_a_layer_of_ones_own_has_to_be_named(tmp_path):
    of_ones_own().save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"encoder.1 is of the unknown kind 'Scale': name your own classes, custom="):
        models.load(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="unknown kind 'Softsign'"):
        models.load(tmp_path / "model.npz", custom=[Scale])


class Huber(losses.Likelihood):
    """A user's own likelihood, quadratic up to a width and linear beyond it."""

    unit = "huber per image"

    def __init__(self, width=1.0, *, kernels=None):
        super().__init__(kernels=kernels)
        self.width = width

    def _compute(self, K, output, x, values, doutput):
        r = output - x
        values[...] = np.where(np.abs(r) < self.width, r * r / 2, self.width * (np.abs(r) - self.width / 2)).sum(1)
        doutput[...] = np.clip(r, -self.width, self.width) / len(x)

    def config(self):
        return {"likelihood": "Huber", "width": self.width}


class Heavier(Autoencoder):
    """A user's own model: an autoencoder whose loss has a weight."""

    def __init__(self, encoder, decoder, *, likelihood=None, weight=1.0):
        super().__init__(encoder, decoder, likelihood=likelihood)
        self.weight = weight

    def config(self):
        return {**super().config(), "weight": self.weight}


def nets(*middle):
    return (Sequential([Flatten(), dense(16, 3), *middle]),
            Sequential([dense(3, 16), Reshape(SHAPE)]))


def test_models_and_likelihoods_of_ones_own_come_back_when_they_are_named(tmp_path):
    Heavier(*nets(), likelihood=Huber(0.5), weight=3.0).save(tmp_path / "model.npz")
    again = models.load(tmp_path / "model.npz", custom=[Scale, Huber, Heavier])
    assert (type(again), again.weight, type(again.likelihood), again.likelihood.width) == (Heavier, 3.0, Huber, 0.5)
    for known in ([Heavier], [Huber]):
        with pytest.raises(ValueError, match=r"is of an unknown kind: name your own classes, custom=\[...\]"):
            models.load(tmp_path / "model.npz", custom=known)


class Forgets(Scale):
    """Its config says nothing of `power`, which would come back as 1."""

    def __init__(self, features, power=1, kernels=None):
        super().__init__(features, kernels)

    def config(self):
        return {**super().config(), "layer": "Forgets"}


class ForgetsToo(Softsign):
    def __init__(self, sharpness=1.0):
        super().__init__()


class ForgetsWidth(Huber):
    def config(self):
        return {"likelihood": "ForgetsWidth"}


class ForgetsWeight(Heavier):
    def config(self):
        return Autoencoder.config(self)


class Residual(Sequential):
    """A user's own net: y = x + f(x)."""

    def _forward(self, x):
        return x + super()._forward(x)


class Masked(losses.Gaussian):
    """Its variance is fixed, and so no argument."""

    def __init__(self, *, kernels=None):
        super().__init__(0.5, kernels=kernels)


class Misnamed(Scale):
    """It has its parent's config, and would come back as the parent."""


class Fixed(Autoencoder):
    def __init__(self, encoder, decoder):
        super().__init__(encoder, decoder, likelihood=losses.Gaussian(0.5))


class NamedNets(Autoencoder):
    def __init__(self, *, encoder, decoder, likelihood=None):
        super().__init__(encoder, decoder, likelihood=likelihood)


class TurnedRound(Autoencoder):
    def __init__(self, decoder, encoder, *, likelihood=None):
        super().__init__(encoder, decoder, likelihood=likelihood)


class Restless(Scale):
    """Its size is another one each time it is made."""

    def __init__(self, features, count=0):
        super().__init__(3)
        self.count = count + 1

    def config(self):
        return {"layer": "Restless", "features": 3, "count": self.count}


def sharing():
    """Two layers that share W by hand, without a word in the config."""
    first, second = dense(3, 3), dense(3, 3)
    second.W = first.W
    second.params = (second.W, second.b)
    return first, second


class Block(Sequential):
    """A user's own net that makes its layers itself."""

    def __init__(self, features):
        super().__init__([dense(features, features, activation="tanh"), dense(features, features)])
        self.features = features

    def config(self):
        return {"layer": "Block", "features": self.features}


class Passes(Autoencoder):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)


class Flexible(VAE):
    """Other names for the nets, and whatever else a VAE takes."""

    def __init__(self, enc, dec, **settings):
        super().__init__(enc, dec, **settings)


class ThirdPlace(Autoencoder):
    """An argument behind the nets of which its config says nothing."""

    def __init__(self, encoder, decoder, weight=1.0, *, likelihood=None):
        super().__init__(encoder, decoder, likelihood=likelihood)


class Named(Layer):
    """An `activation` that is a word and no layer."""

    def __init__(self, activation="relu", partner=None):
        super().__init__()
        self.activation, self.partner = activation, partner

    def _forward(self, x):
        self.saved = True
        return x

    def config(self):
        return {"layer": "Named", "activation": self.activation, "partner": self.partner}


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Autoencoder(*nets(Forgets(3, power=2))), "Forgets takes power, and its config"),
    (lambda: Autoencoder(*nets(ForgetsToo(2.0))), "ForgetsToo takes sharpness"),
    (lambda: Autoencoder(*nets(dense(3, 3, activation=ForgetsToo(2.0)))), "ForgetsToo takes sharpness"),
    (lambda: Autoencoder(*nets(), likelihood=ForgetsWidth(2.0)), "ForgetsWidth takes width"),
    (lambda: ForgetsWeight(*nets(), weight=2.0), "ForgetsWeight takes weight"),
    (lambda: ThirdPlace(*nets(), 2.0), "ThirdPlace takes weight"),
    (lambda: Autoencoder(*nets(Named(np.float32(2)))), r"the config.* is float32 '2.0', which JSON cannot hold"),
    (lambda: Autoencoder(*nets(Misnamed(3))), "layer encoder.2 is of the unknown kind 'Scale'"),
    (lambda: Autoencoder(*nets(Scale(3), Misnamed(3))), "with other layers, .* let each config"),
    (lambda: Autoencoder(*nets(), likelihood=Masked()), "Autoencoder would not come back .* argument 'variance'"),
    (lambda: Fixed(*nets()), "Fixed would not come back from a file: .* argument 'likelihood'"),
    (lambda: NamedNets(encoder=nets()[0], decoder=nets()[1]), "NamedNets would not come back .* positional"),
    (lambda: TurnedRound(*nets()[::-1]), "TurnedRound would come back from a file with other layers"),
    (lambda: Autoencoder(*nets(*sharing())), "with other parameters, .*'encoder.3.W'.* instead of"),
    (lambda: Autoencoder(*nets(Scale(3))).to(np.float64), r"a model has one dtype, got \['float32', 'float64'\]"),
    (lambda: Autoencoder(*nets(Restless(3))), "with other config"),
], ids=["layer", "activation layer", "fused activation", "likelihood", "model", "third place", "no JSON", "name",
        "parent's name", "too much", "no likelihood", "keywords", "order", "shared", "dtype", "config"])
def test_what_would_come_back_with_other_settings_is_not_saved(make, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        make().save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=words):
        pickle.dumps(make())


def test_nets_of_ones_own_come_back_when_they_are_named(tmp_path):
    inner = Autoencoder(Sequential([Flatten(), Residual([dense(16, 16)]), dense(16, 3)]), nets()[1])
    outer = Autoencoder(Residual([dense(3, 3)]), Sequential([dense(3, 3)]))
    block = Passes(*nets(Block(3)), likelihood=losses.Gaussian(0.5))
    for model, x in ((inner, pictures()), (outer, pictures()[:, 0, :3, 0]), (block, pictures())):
        unlike_its_first_values(model).save(tmp_path / "model.npz")
        again = models.load(tmp_path / "model.npz", custom=[Residual, Block, Passes])
        np.testing.assert_array_equal(again.to(kernels=reference).reconstruct(x), model.reconstruct(x))
        with pytest.raises(ValueError, match=r"unknown kind '(Residual|Block)'"):
            models.load(tmp_path / "model.npz")


def test_a_class_of_ones_own_comes_before_npaes_of_the_same_name(tmp_path):
    class ReLU(Layer):
        """Not npae's."""

        def _forward(self, x):
            self.saved = True
            return x

    class Gaussian(losses.Gaussian):
        """Not npae's either."""

    Autoencoder(*nets(ReLU()), likelihood=Gaussian(0.5)).save(tmp_path / "model.npz")
    again = models.load(tmp_path / "model.npz", custom=[ReLU, Gaussian])
    assert type(again.encoder.layers[2]) is ReLU and type(again.likelihood) is Gaussian


def test_a_model_of_ones_own_may_call_its_nets_what_it_likes(tmp_path):
    nets_of_2 = Sequential([Flatten(), dense(16, 4)]), Sequential([dense(2, 16), Reshape(SHAPE)])
    Flexible(*nets_of_2, beta=2.5).save(tmp_path / "model.npz")
    assert models.load(tmp_path / "model.npz", custom=[Flexible]).beta == 2.5


def test_an_activation_that_is_a_word_is_left_to_its_layer(tmp_path):
    for settings in (("tanh",), (None, "bob"), ({"a": 1}, None)):
        model = Autoencoder(*nets(Named(*settings)))
        model.save(tmp_path / "model.npz")
        again = models.load(tmp_path / "model.npz", custom=[Named]).encoder.layers[2]
        assert (again.activation, again.partner) == (*settings, None)[:2]
        assert "2 Named  " in model.summary(SHAPE)


def test_a_layer_tied_to_a_later_one_is_not_saved(tmp_path):
    """It trains, but a file is built from the encoder's first layer on."""
    late = dense(3, 16)
    model = Autoencoder(Sequential([Flatten(), TiedDense(late)]), Sequential([late, Reshape(SHAPE)]))
    with pytest.raises(ValueError, match=r"Autoencoder would not come back .*: layer encoder.1 is tied to 'deco"):
        model.save(tmp_path / "model.npz")


def test_a_name_that_no_file_can_keep_is_refused_when_the_model_is_made():
    scale = Scale(3)
    scale.s.name = "my scale"
    with pytest.raises(ValueError, match=r"cannot keep a parameter called 'encoder.2.my scale': name Params with lett"):
        Autoencoder(*nets(scale))


def test_a_file_without_a_model_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not a model")
    with pytest.raises(ValueError, match=r"text.npz is not a whole npae file"):
        models.load(tmp_path / "text.npz")
    np.savez(tmp_path / "numpy.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"numpy.npz is refused"):
        models.load(tmp_path / "numpy.npz")
    store.write(tmp_path / "other.npz", {"a": np.zeros(3)}, {"what": "something else"})
    with pytest.raises(ValueError, match=r"other.npz does not describe a model"):
        models.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        models.load(tmp_path / "absent.npz")


class Trap:
    """Unpickling it leaves a mark."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_nothing_is_ever_unpickled(tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "objects.npz", **{"encoder.1.W": trap})
    with pytest.raises(ValueError, match="is refused"):
        models.load(tmp_path / "objects.npz")
    path = changed(tmp_path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "objects.npz") as file:
        members["encoder.1.W.npy"] = file.read("encoder.1.W.npy")
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(ValueError, match="is refused"):
        models.load(path)
    assert not Trap.sprung
    pickle.loads(pickle.dumps(Trap()))
    assert Trap.sprung  # the trap works
