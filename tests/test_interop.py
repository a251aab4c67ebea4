"""safetensors files and PyTorch's layout: the same outputs, by an independent computation over (N, C, H, W), and by
PyTorch itself where it is installed."""
import json
import random
import sys

import numpy as np
import pytest
from scipy.signal import convolve, correlate

from npae import interop, layers, losses, models, store
from npae.interop import from_pytorch, read_tensors, to_pytorch, write_tensors
from npae.kernels import reference
from npae.layers import (
    Activation,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Reparameterize,
    Reshape,
    Sequential,
    TiedDense,
)

safetensors = pytest.importorskip("safetensors", reason="safetensors files need the library (extra [interop])")
RNG = np.random.default_rng(0)
PICTURES = RNG.random((2, 7, 6, 3))
NAMES = ("encoder.0", "encoder.2", "encoder.5", "decoder.0", "decoder.3")
SHAPES = {"encoder.0": (4, 3, 3, 3), "encoder.2": (5, 4, 2, 2), "encoder.5": (6, 5 * 5 * 4),
          "decoder.0": (4 * 5 * 3, 6), "decoder.3": (4, 3, 3, 2)}  # of the weights, as PyTorch has them
STATE = {f"{name}.{kind}": RNG.normal(0, 0.3, shape if kind == "weight" else shape[1 if name == "decoder.3" else 0])
         for name, shape in SHAPES.items() for kind in ("weight", "bias")}


def model(dtype=np.float64, kernels=reference):
    """The net of `in_torch_layout`, with other sizes on every side."""
    more = {"dtype": dtype, "kernels": kernels}
    encoder = [Conv2d(3, 4, 3, stride=2, padding=1, activation="relu", **more), Conv2d(4, 5, 2, padding=1, **more),
               layers.Tanh(kernels=kernels), Flatten(), Dropout(0.5), Dense(100, 6, activation="sigmoid", **more)]
    decoder = [Dense(6, 60, **more), ReLU(kernels=kernels), Reshape((5, 3, 4)),
               ConvTranspose2d(4, 3, (3, 2), stride=(2, 3), padding=1, activation="sigmoid", **more)]
    return models.Autoencoder(Sequential(encoder, input_shape=(7, 6, 3)), Sequential(decoder))


def conv2d(x, weight, bias, stride, padding):
    x = np.pad(x, [(0, 0), (0, 0), (padding,) * 2, (padding,) * 2])
    y = [[correlate(picture, kernel, "valid")[0, ::stride, ::stride] for kernel in weight] for picture in x]
    return np.array(y) + bias[:, None, None]


def conv_transpose2d(x, weight, bias, stride, padding):
    n, c, h, w = x.shape
    spread = np.zeros((n, c, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1))
    spread[:, :, ::stride[0], ::stride[1]] = x
    y = np.array([[sum(convolve(plane, kernel) for plane, kernel in zip(picture, kernels, strict=True))
                   for kernels in weight.transpose(1, 0, 2, 3)] for picture in spread])
    return y[:, :, padding:-padding, padding:-padding] + bias[:, None, None]


def in_torch_layout(state, x):
    """What PyTorch computes, on (N, C, H, W), by SciPy's correlations."""
    def of(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def linear(x, name):
        weight, bias = of(name)
        return x @ weight.T + bias

    y = np.maximum(conv2d(x, *of("encoder.0"), 2, 1), 0)
    y = np.tanh(conv2d(y, *of("encoder.2"), 1, 1)).reshape(len(x), -1)
    code = 1 / (1 + np.exp(-linear(y, "encoder.5")))
    y = np.maximum(linear(code, "decoder.0"), 0).reshape(-1, 4, 5, 3)
    return code, 1 / (1 + np.exp(-conv_transpose2d(y, *of("decoder.3"), (2, 3), 1)))


def of_pytorch(state, x):
    """The same by PyTorch itself, in its own state dict."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn
    net = nn.ModuleDict({
        "encoder": nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 2, 1, 1), nn.Tanh(), nn.Flatten(),
                                 nn.Linear(100, 6), nn.Sigmoid()),
        "decoder": nn.Sequential(nn.Linear(6, 60), nn.ReLU(), nn.Unflatten(1, (4, 5, 3)),
                                 nn.ConvTranspose2d(4, 3, (3, 2), (2, 3), 1), nn.Sigmoid())}).double()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    with torch.no_grad():
        code = net["encoder"](torch.from_numpy(x))
        return code.numpy(), net["decoder"](code).numpy()


@pytest.mark.parametrize("forward", [in_torch_layout, of_pytorch])
def test_a_pytorch_state_dict_gives_pytorchs_outputs(forward):
    """A convolution with a stride, a transposed one, a Dense behind Flatten and one before a picture."""
    net = model()
    from_pytorch(net, STATE, NAMES)
    code, y = forward(STATE, np.ascontiguousarray(PICTURES.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(net.encode(PICTURES), code, rtol=0, atol=1e-13)
    np.testing.assert_allclose(net.reconstruct(PICTURES), y.transpose(0, 2, 3, 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("forward", [in_torch_layout, of_pytorch])
def test_weights_of_npae_give_the_same_outputs_in_pytorch(forward):
    net = model()
    net.theta[...] = np.random.default_rng(1).normal(0, 0.3, net.theta.shape)
    code, y = forward(to_pytorch(net, NAMES), np.ascontiguousarray(PICTURES.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(net.encode(PICTURES), code, rtol=0, atol=1e-13)
    np.testing.assert_allclose(net.reconstruct(PICTURES), y.transpose(0, 2, 3, 1), rtol=0, atol=1e-13)


def test_there_and_back_is_the_same_to_the_last_bit(tmp_path):
    net, path = model(np.float32), tmp_path / "state.safetensors"
    from_pytorch(net, {name: array.astype(np.float32) for name, array in STATE.items()}, NAMES)
    write_tensors(path, to_pytorch(net, NAMES))
    back = read_tensors(path)
    assert set(back) == set(STATE)
    for name, array in STATE.items():
        np.testing.assert_array_equal(back[name], array.astype(np.float32))


def test_pytorch_itself_writes_and_reads_the_files(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    layer = torch.nn.Linear(5, 3)
    save_file(layer.state_dict(), tmp_path / "a.safetensors")
    net = Sequential([Dense(5, 3)], input_shape=(5,))
    from_pytorch(net, {f"0.{name}": array for name, array in read_tensors(tmp_path / "a.safetensors").items()}, ["0"])
    np.testing.assert_array_equal(net.layers[0].W.value, layer.weight.detach().numpy().T)
    write_tensors(tmp_path / "b.safetensors", to_pytorch(net, ["0"]))
    for name, tensor in load_file(tmp_path / "b.safetensors").items():
        assert torch.equal(tensor, layer.state_dict()[name.removeprefix("0.")])
    with pytest.raises(ValueError, match=r"pass model\.state_dict"):
        from_pytorch(net, {f"0.{name}": p for name, p in layer.named_parameters()}, ["0"])


def test_a_dense_between_pictures_takes_both_orders_and_pooling_changes_none():
    """Rows and columns: a picture of 2 x 3 x 2, numbered, comes through W = 1 as the same picture."""
    net = Sequential([MaxPool2d(2), AvgPool2d(1), Flatten(), Dense(12, 12, dtype=np.float64), Reshape((3, 2, 2))],
                     input_shape=(4, 6, 2))
    weight, bias = np.eye(12), np.arange(12.0)
    from_pytorch(net, {"0.weight": weight, "0.bias": bias}, ["0"])
    x = np.random.default_rng(0).random((1, 4, 6, 2))
    pooled = x.reshape(1, 2, 2, 3, 2, 2).max(axis=(2, 4)).transpose(0, 3, 1, 2).ravel()
    wanted = (pooled + bias).reshape(1, 2, 3, 2).transpose(0, 2, 3, 1)  # (C, 3, 2) -> (3, 2, C)
    np.testing.assert_array_equal(net.forward(x), wanted)


def test_one_name_for_two_layers_is_refused_on_the_way_out_too():
    with pytest.raises(ValueError, match=r"5 layers have weights .*, and there are 4 different names"):
        to_pytorch(model(), [*NAMES[:-1], NAMES[0]])


def test_without_a_bias_npaes_becomes_zero():
    net = Sequential([Conv2d(1, 2, 3)], input_shape=(4, 4, 1))
    net.layers[0].b.value[...] = 5
    from_pytorch(net, {"c.weight": np.ones((2, 1, 3, 3), np.float32)}, ["c"])
    assert not net.layers[0].b.value.any()


class Own(Activation):
    """A user's own activation leaves each number in its place."""

    def f(self, x):
        return x * x


class Strange(layers.Layer):
    """A user's own layer: who knows what it does to the order."""


def refused(net, message, tensors=None, names=("0",)):
    before = [p.value.copy() for p in net.params]
    with pytest.raises(ValueError, match=message):
        from_pytorch(net, {"0.weight": np.zeros((2, 12), np.float32)} if tensors is None else tensors, names)
    assert all(np.array_equal(p.value, old) for p, old in zip(net.params, before, strict=True)), "nothing has changed"


DENSE = {"0.weight": np.zeros((2, 12), np.float32), "0.bias": np.zeros(2, np.float32)}


def net_of(*inner, shape=(12,)):
    return Sequential(list(inner), input_shape=shape)


@pytest.mark.parametrize(("tensors", "names", "message"), [
    ({"0.bias": np.zeros(2)}, ["0"], r"no '0.weight' for Dense '0': it has 0.bias"),
    ({**DENSE, "1.weight": 0}, ["0"], r"has 1.weight, which none of the names \['0'\] takes"),
    ({**DENSE, "0.weight": np.zeros((12, 2), np.float32)}, ["0"], r"\(12, 2\), and Dense '0' needs \(2, 12\)"),
    ({**DENSE, "0.bias": np.zeros(3, np.float32)}, ["0"], r"0.bias has shape \(3,\), and Dense '0' needs \(2,\)"),
    ({**DENSE, "0.weight": np.zeros((2, 12))}, ["0"], r"is float64, and Dense '0' is float32: convert"),
    ({**DENSE, "0.weight": np.zeros((2, 12), complex)}, ["0"], r"is complex128, and Dense '0' is float32"),
    ({**DENSE, "0.weight": [[1, 2], [3]]}, ["0"], "0.weight does not become an array"),
    (DENSE, ["0", "1"], r"1 layers have weights \(0\), and there are 2 different names"),
    (DENSE, [], r"and there are 0 different names"),
])
def test_a_state_dict_that_does_not_fit_is_refused(tensors, names, message):
    refused(net_of(Dense(12, 2)), message, tensors, names)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Sequential([Dense(12, 2)]), "Sequential does not say what it takes: pass input_shape"),
    (lambda: net_of(*((a := Dense(12, 2)), TiedDense(a))), "TiedDense '1' has no counterpart"),
    (lambda: net_of(Strange(), Dense(12, 2)), "Strange '0' has no counterpart"),
    (lambda: net_of(Dense(12, 2), Reshape((1, 2))), "Reshape '1' has no counterpart"),
    (lambda: net_of(Reshape((2, 3, 2)), Flatten(), Dense(12, 2)), r"Reshape '0' has the numbers of a picture \(2"),
    (lambda: net_of(Flatten(), Reshape((12, 1, 1)), Flatten(), Dense(12, 2), shape=(2, 3, 2)), r"picture \(2, 3, 2\)"),
    (lambda: net_of(Reshape((12, 1, 1)), Flatten(), Dense(12, 2), shape=(2, 3, 2)), r"picture \(2, 3, 2\) in a row"),
    (lambda: net_of(Flatten(), Reparameterize(), Dense(6, 2), shape=(2, 3, 2)), "Reparameterize '1' has the numbers"),
    (lambda: net_of(Conv2d(2, 2, 1), Flatten(), shape=(2, 3, 2)), "Sequential has the numbers of a picture"),
])
def test_a_net_whose_order_pytorch_cannot_share_is_refused(make, message):
    refused(make(), message)


@pytest.mark.parametrize("make", [
    lambda: net_of(Reshape((12, 1, 1)), Flatten(), Dense(12, 2)),  # one pixel: both orders are one
    lambda: net_of(Flatten(), Reshape((2, 3, 2)), Flatten(), Dense(12, 2), shape=(2, 3, 2)),
    lambda: net_of(Flatten(), Own(), layers.Shift(np.ones(12)), Dense(12, 2), shape=(2, 3, 2)),
])
def test_a_net_whose_order_pytorch_shares_is_taken(make):
    from_pytorch(make(), DENSE, ["0"])


def test_labels_behind_pixels_have_no_layout():
    from npae import nets

    encoder, decoder = nets.mlp_encoder((2, 3, 2), [4], classes=2), nets.mlp_decoder((2, 3, 2), [4])
    net = models.ConditionalVAE(encoder, decoder, classes=2)
    with pytest.raises(ValueError, match="ConditionalVAE lays labels behind its pixels"):
        to_pytorch(net, ["0", "1"])


# -- files --


def test_a_model_comes_back_from_safetensors_the_same_to_the_last_bit(tmp_path):
    net = model(np.float32)
    net.theta[...] = np.random.default_rng(2).normal(size=net.theta.shape)
    net.save(tmp_path / "x.safetensors")
    back = models.load(tmp_path / "x.safetensors")
    assert back.config() == net.config()
    assert all(p.value.tobytes() == old.value.tobytes() for p, old in zip(back.params, net.params, strict=True))
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="numpy") as file:  # plainly, for anyone else
        np.testing.assert_array_equal(file.get_tensor("encoder.0.W"), net.params[0].value)
    first = (tmp_path / "x.safetensors").read_bytes()
    net.save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == first  # equal models, equal bytes


def test_arrays_of_every_order_are_written_as_they_are(tmp_path):
    arrays = {"t": np.arange(6.0).reshape(2, 3).T, "s": np.arange(10, dtype=np.int16)[::2],
              "b": np.arange(3, dtype=">f8"), "n": np.float32(2.5), "e": np.zeros((0, 3))}
    interop.write(tmp_path / "x.safetensors", arrays, {"a": [1, None, "é"]})
    back, meta = interop.read(tmp_path / "x.safetensors")
    assert meta == {"a": [1, None, "é"]}
    for name, array in arrays.items():
        assert back[name].shape == np.shape(array) and back[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros(2, np.longdouble), np.zeros(2, complex)])
def test_what_safetensors_does_not_hold_is_refused_and_nothing_is_written(array, tmp_path):
    with pytest.raises(store.StoreError):
        interop.write(tmp_path / "x.safetensors", {"a": array}, {})
    with pytest.raises(store.StoreError):
        interop.write(tmp_path / "x.safetensors", {"a": np.zeros(2)}, {"a": np.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("data", "message"), [
    (b"", "is empty"), (b"\x80\x04N.", "no safetensors file"), (b"<html>", "no safetensors file"),
    (b"\xff" * 8 + b"{}", "no safetensors file"), ((2).to_bytes(8, "little") + b"{}" + b"more", "no safetensors file"),
    ((2).to_bytes(8, "little") + b"{}", "no description of a model of npae"),
    (b"npae store 1", "no safetensors file")])
def test_what_is_no_model_of_npae_is_refused(data, message, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(store.CheckpointError, match=message):
        models.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("manifest", ["[]", "{}", "not JSON", '{"format": 1, "arrays": [], "meta": {}}',
                                      '{"format": "npae safetensors 1", "arrays": {}, "meta": {"lr": 1e999}}'])
def test_a_manifest_that_lies_with_the_right_digest_is_refused(manifest, tmp_path):
    write_tensors(tmp_path / "x.safetensors", {}, {"npae": f"{interop.files._sha256(manifest.encode())} {manifest}"})
    with pytest.raises(store.CheckpointError, match=r"x.safetensors is refused: its (manifest|JSON)"):
        models.load(tmp_path / "x.safetensors")


def test_a_file_of_pytorch_says_how_to_go_on_and_one_of_another_version_its_own(tmp_path):
    write_tensors(tmp_path / "x.safetensors", STATE)
    with pytest.raises(store.CheckpointError, match=r"has 10 tensors and no description .* interop\.from_pytorch"):
        models.load(tmp_path / "x.safetensors")
    manifest = json.dumps({"format": "npae safetensors 9", "arrays": {}, "meta": {}})
    write_tensors(tmp_path / "y.safetensors", {}, {"npae": f"{interop.files._sha256(manifest.encode())} {manifest}"})
    with pytest.raises(store.CheckpointError, match="its format is 'npae safetensors 9'"):
        interop.read(tmp_path / "y.safetensors")
    with pytest.raises(FileNotFoundError):
        models.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_numbers_that_numpy_has_not_are_refused(dtype, tmp_path):
    size = 2 if dtype == "BF16" else 1
    header = json.dumps({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    with pytest.raises(store.CheckpointError, match="no safetensors file that NumPy can hold"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("place", [1, 40, 100])
def test_one_bit_of_a_weight_is_seen(place, tmp_path):
    """The format has no checksum: the library reads such a file without a word."""
    path = tmp_path / "x.safetensors"
    model(np.float32).save(path)
    data = bytearray(path.read_bytes())
    data[-place] ^= 1
    path.write_bytes(data)
    assert len(read_tensors(path)) == 10
    with pytest.raises(store.CheckpointError, match="its tensors and its manifest differ in"):
        models.load(path)


def test_one_digit_of_a_setting_is_seen(tmp_path):
    path = tmp_path / "x.safetensors"
    net = models.VAE(Sequential([Flatten(), Dense(4, 4)], input_shape=(2, 2, 1)),
                     Sequential([Dense(2, 4), Reshape((2, 2, 1))]), likelihood=losses.Gaussian(0.53125))
    net.save(path)
    data = path.read_bytes()
    assert data.count(b"0.53125") == 1
    path.write_bytes(data.replace(b"0.53125", b"0.73125"))
    with pytest.raises(store.CheckpointError, match="its manifest has SHA-256 "):
        models.load(path)


@pytest.mark.parametrize("n", [1500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_mutant_of_a_model_file_gives_another_model(n, tmp_path):
    path, draw = tmp_path / "x.safetensors", random.Random(0)
    net = models.VAE(Sequential([Flatten(), Dense(4, 4)], input_shape=(2, 2, 1)),
                     Sequential([Dense(2, 4), Reshape((2, 2, 1))]), likelihood=losses.Gaussian(0.5))
    net.save(path)
    data, refused = path.read_bytes(), 0
    for _ in range(n):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 2))):
            i, j = sorted(draw.randrange(len(data)) for _ in "ij")
            match draw.randrange(5):
                case 0:
                    changed[i % len(changed)] ^= 1 << draw.randrange(8)
                case 1:
                    changed[i % len(changed)] = draw.choice(b'0129{}[]",: ')
                case 2:
                    del changed[i:j]
                case 3:
                    changed[i:i] = changed[i:j]
                case _:
                    changed = changed[:max(j, 1)]
            changed = changed or bytearray(b"\0")
        path.write_bytes(changed)
        try:
            back = models.load(path)
        except store.CheckpointError:
            refused += 1
        else:
            assert back.config() == net.config() and back.theta.tobytes() == net.theta.tobytes()
    assert refused > n / 2


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"pip install 'npae\[interop\]', or save as .npz"):
        model().save(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"pip install 'npae\[interop\]'"):
        read_tensors(tmp_path / "x.safetensors")
