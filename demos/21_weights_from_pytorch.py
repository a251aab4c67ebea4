"""Do weights paint the same pictures in PyTorch and here, though the two lay out every array differently?

Promise: outputs differ by at most 1e-5 after the journey of the weights from PyTorch's layout to npae's, a training,
and the way back; with one order of pixels forgotten they differ by at least 0.1. Half a minute on two cores.
"""
# %%
import lesson
import numpy as np
from scipy.signal import convolve, correlate

from npae import evaluate, figures, interop, models, optim, train
from npae.data.batches import to_float
from npae.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Reshape, Sequential

digits, short, pictures = lesson.begin("21_weights_from_pytorch.py", __doc__)
digits = digits.first(1500 if short else 6000)
epochs = 6 if short else 10
seed = 0

# %% [markdown]
# The same autoencoder twice. First as PyTorch has it, on pictures (N, C, H, W): a state dict of names and arrays, and
# a function that computes what PyTorch does with them. Where PyTorch is installed it is PyTorch, and elsewhere SciPy's
# correlations, which know nothing of npae.

# %%
SHAPES = {"encoder.0": (8, 1, 3, 3), "encoder.2": (16, 8, 3, 3), "encoder.5": (16, 16 * 7 * 7),
          "decoder.0": (16 * 7 * 7, 16), "decoder.3": (16, 8, 4, 4), "decoder.5": (8, 1, 4, 4)}
NAMES = list(SHAPES)


def with_pytorch(state, x):
    """The decoder's pictures of the encoder's codes, by PyTorch itself."""
    from torch import from_numpy, nn, no_grad

    net = nn.ModuleDict({
        "encoder": nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
                                 nn.Flatten(), nn.Linear(784, 16)),
        "decoder": nn.Sequential(nn.Linear(16, 784), nn.ReLU(), nn.Unflatten(1, (16, 7, 7)),
                                 nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1),
                                 nn.Sigmoid())})
    net.load_state_dict({name: from_numpy(array) for name, array in state.items()})
    with no_grad():
        return net["decoder"](net["encoder"](from_numpy(x))).numpy()


def with_scipy(state, x):
    """The same by SciPy, in float64: every array in PyTorch's layout."""
    def conv2d(x, name):  # a correlation over (C, H, W); stride 2: every other pixel
        x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        y = [[correlate(picture, kernel, "valid")[0, ::2, ::2] for kernel in state[f"{name}.weight"]] for picture in x]
        return np.array(y) + state[f"{name}.bias"][:, None, None]

    def conv_transpose2d(x, name):  # a convolution of the picture with zeros between its pixels, cropped
        spread = np.zeros((*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1))
        spread[:, :, ::2, ::2] = x
        y = [[sum(map(convolve, picture, kernels)) for kernels in state[f"{name}.weight"].swapaxes(0, 1)]
             for picture in spread]
        return np.array(y)[:, :, 1:-1, 1:-1] + state[f"{name}.bias"][:, None, None]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def relu(x):
        return np.maximum(x, 0)

    code = linear(relu(conv2d(relu(conv2d(x, "encoder.0")), "encoder.2")).reshape(len(x), -1), "encoder.5")
    y = relu(conv_transpose2d(relu(linear(code, "decoder.0")).reshape(-1, 16, 7, 7), "decoder.3"))
    return 1 / (1 + np.exp(-conv_transpose2d(y, "decoder.5")))


try:
    import torch

    elsewhere, name = with_pytorch, f"PyTorch {torch.__version__}"
except ImportError:
    elsewhere, name = with_scipy, "SciPy in PyTorch's layout (PyTorch is not installed)"
print(f"computed beside npae by {name}")

# %% [markdown]
# And as npae has it, on pictures (N, H, W, C). PyTorch's `padding=1` is npae's `padding=1`; npae's default, 'same', is
# TensorFlow's rule, and with a stride of 2 it lays its zeros differently.

# %%


def net() -> models.Autoencoder:
    encoder = [Conv2d(1, 8, 3, stride=2, padding=1, activation="relu"),
               Conv2d(8, 16, 3, stride=2, padding=1, activation="relu"), Flatten(), Dense(784, 16)]
    decoder = [Dense(16, 784, activation="relu"), Reshape((7, 7, 16)),
               ConvTranspose2d(16, 8, 4, stride=2, padding=1, activation="relu"),
               ConvTranspose2d(8, 1, 4, stride=2, padding=1, activation="sigmoid")]
    return models.Autoencoder(Sequential(encoder, input_shape=(28, 28, 1)), Sequential(decoder, input_shape=(16,)))


rng = np.random.default_rng(seed)
state = {}
for place, shape in SHAPES.items():
    reach = 1 / np.sqrt(np.prod(shape[1:]))  # as PyTorch begins, but for its transposed layers
    out = shape[1] if place in ("decoder.3", "decoder.5") else shape[0]
    state[f"{place}.weight"] = rng.uniform(-reach, reach, shape).astype(np.float32)
    state[f"{place}.bias"] = rng.uniform(-reach, reach, out).astype(np.float32)

interop.write_tensors(pictures / "from-pytorch.safetensors", state)  # as PyTorch's save_file would
model = net()
interop.from_pytorch(model, interop.read_tensors(pictures / "from-pytorch.safetensors"), NAMES)

x = to_float(digits.test_x[:10])


def painted_elsewhere(state):
    return elsewhere(state, np.ascontiguousarray(x.transpose(0, 3, 1, 2))).transpose(0, 2, 3, 1)


differences = [np.abs(model.reconstruct(x) - painted_elsewhere(state)).max()]

# %% [markdown]
# Training goes on here, from those weights, and the result goes back.

# %%
before = evaluate.reconstruction_mse(model, digits.test_x)
train.fit(model, digits, optimizer=optim.Adam(2e-3), epochs=epochs, seed=seed)
after = evaluate.reconstruction_mse(model, digits.test_x)
print(f"squared error per pixel: {before:.4f} as it came, {after:.4f} after {epochs} epochs")
state = interop.to_pytorch(model, NAMES)
interop.write_tensors(pictures / "to-pytorch.safetensors", state)  # for PyTorch's load_file
differences.append(np.abs(model.reconstruct(x) - painted_elsewhere(state)).max())

# %% [markdown]
# What if an order is forgotten? Flatten reads a picture of 7 x 7 x 16 as (H, W, C) here and as (C, H, W) there, so the
# rows of the Dense behind it stand in another order. All shapes fit without it, nothing complains, and:

# %%
forgetful = net()
interop.from_pytorch(forgetful, state, NAMES)
forgetful.encoder.layers[3].W.value[...] = state["encoder.5.weight"].T
wrong = np.abs(forgetful.reconstruct(x) - model.reconstruct(x)).max()
figures.save(lesson.blocks({"pictures": x, "npae": model.reconstruct(x), "elsewhere": painted_elsewhere(state),
                            "order forgotten": forgetful.reconstruct(x)}, 5, 2, across=4,
                           title="The same weights, here and elsewhere",
                           note="Right: the rows behind Flatten left in PyTorch's order"), pictures / "journey.png")

# %%
lesson.promised("largest difference between the outputs", float(max(differences)), below=1e-5)
lesson.promised("the same with an order of pixels forgotten", float(wrong), above=0.1)
lesson.promised("what the training left of the error", after / before, below=0.5)

# %% [markdown]
# Try this: give the encoder's first convolution padding="same" and see how far the outputs part. Load
# `to-pytorch.safetensors` with PyTorch's `safetensors.torch.load_file`.
