"""What every autoencoder has: an encoder and a decoder packed into one theta and one grad, and doors for pictures.
A model file adds its objective: `loss` reads as the equation downwards, `backward` is the same lines read upwards.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from npae import interop, store
from npae import kernels as _kernels
from npae.checks import real, whole
from npae.copying import deep_copy
from npae.layers.activations import Identity, Sigmoid
from npae.layers.affine import Affine
from npae.layers.base import Layer, Sequential, Shape, copied
from npae.layers.dense import Dense, TiedDense
from npae.layers.shape import Reshape
from npae.losses import Bernoulli, Likelihood
from npae.models.rebuild import refuse_what_would_not_come_back, unpickled
from npae.params import Param, pack, unique

BATCH = 256  # pictures at a time through encode and decode: a test set of 10,000 would need gigabytes at once
Terms = dict[str, float]


class Model:
    """An encoder, a decoder and a likelihood.

        loss(x) -> {"loss": .., "recon": .., ...}      then      backward() adds into model.grad

    Shapes: theta, grad: one flat vector each; every Param is a view into them
    Units: those of the likelihood (nats per image, or squared grey level per image)
    Raises ValueError: no likelihood; Bernoulli, which takes logits, behind a sigmoid; a layer in both nets; parameters
    that are packed already, or that a file could not tell apart.
    """

    classes: int | None = None  # of a conditional model: how many labels there are

    def __init__(self, encoder: Sequential, decoder: Sequential, likelihood: Likelihood):
        for net, role in ((encoder, "encoder"), (decoder, "decoder")):
            if not isinstance(net, Sequential):
                raise ValueError(f"{type(self).__name__} takes its {role} as a Sequential, got {net!r}")
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self._check_likelihood()
        encoder.set_name("encoder")
        decoder.set_name("decoder")
        if twice := {id(layer) for layer in encoder.walk()} & {id(layer) for layer in decoder.walk()}:
            layer = next(layer for layer in encoder.walk() if id(layer) in twice)
            raise ValueError(f"{layer} stands in the encoder and in the decoder: one Layer object stands once in a "
                             "net; share weights through a tied layer")
        self.params: tuple[Param, ...] = unique((*encoder.params, *decoder.params))
        names = [p.name for p in self.params]
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{names.count(name)} parameters are called {name!r}, and a model file keeps one array a "
                             "name: give a layer's Params different names, or let its inner layers stand in the net")
        if unfit := [name for name in names if not store.ARRAY_NAME.fullmatch(name)]:
            raise ValueError(f"a model file cannot keep a parameter called {unfit[0]!r}: name Params with letters, "
                             "digits and _")
        self.theta, self.grad = pack(self.params)
        self.dy: Any = None  # of the latest loss; None: backward has nothing to start from
        self.work = _kernels.Workspace()
        self.noisy = True  # whether loss hands its generator on to noise and dropout layers

    def _check_likelihood(self) -> None:
        if not isinstance(self.likelihood, Likelihood):
            raise ValueError(f"{type(self).__name__} needs a likelihood such as losses.Bernoulli(), got "
                             f"{self.likelihood!r}")
        if isinstance(self.likelihood, Bernoulli) and self.ends_in_sigmoid:
            raise ValueError("Bernoulli takes logits and has a sigmoid of its own, and the decoder ends in one more: "
                             "leave the decoder's out, or take SquaredError() or Gaussian(variance)")

    @property
    def ends_in_sigmoid(self) -> bool:
        """Whether the decoder's own output lies between 0 and 1."""
        last = _last_but_shapes(self.decoder)
        return isinstance(last.activation if isinstance(last, Affine) else last, Sigmoid)

    def loss(self, x: np.ndarray, y: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Terms:
        """The objective on one batch, and its terms; remembers what backward needs.

        Raises ValueError: x of another shape or dtype than the model's (both shown).
        """
        raise NotImplementedError

    def backward(self) -> None:
        """Add dLoss/dtheta of the latest loss to `grad`.

        Raises ValueError: no loss was computed since the last call of encode, decode, reconstruct or sample.
        """
        raise NotImplementedError

    def _begin(self, x: np.ndarray, rng: np.random.Generator | None) -> None:
        """The door of loss: one dtype; noise layers noisy if there is a generator, and not inside `without_noise`."""
        self.dy = None  # first, so that a loss that fails leaves no stale backward behind
        if not isinstance(x, np.ndarray):
            raise ValueError(f"{type(self).__name__} takes pictures as an array, got {type(x).__name__}")
        if x.dtype != self.theta.dtype:
            raise ValueError(f"{type(self).__name__} is {self.theta.dtype}, got pictures of {x.dtype}: pass float "
                             f"pictures in [0, 1] as {self.theta.dtype} (uint8 ones divided by 255)")
        for net in (self.encoder, self.decoder):
            net.give_rng(rng if self.noisy else None)

    def _check_ready(self) -> None:
        if self.dy is None:
            raise ValueError("backward belongs to the latest loss, and there was none, or encode, decode, reconstruct "
                             "or sample came in between: call loss(x) again, then backward()")

    @property
    def weights(self) -> list[Param]:
        """The parameters that weight decay shrinks: those whose name ends in W, each once."""
        return [p for p in self.params if p.name.endswith("W")]

    @property
    def latent(self) -> int | None:
        """How many numbers a code has; None for codes that are pictures, or where neither net says it."""
        taken = self._taken()
        if taken is not None:
            return taken
        last = _end(self.encoder, -1)
        if isinstance(last, Dense):
            return self._code_shape((last.out_features,))[0]
        if self.encoder.input_shape is None:
            return None
        shape = self._code_shape(self.encoder.output_shape(self.encoder.input_shape))
        return shape[0] if len(shape) == 1 else None

    def _taken(self) -> int | None:
        """How many numbers of a code the decoder takes; None where its first layer does not say it."""
        first = _end(self.decoder, 0)
        if isinstance(first, TiedDense):
            return first.partner.out_features
        return first.in_features if isinstance(first, Dense) else None

    def _code_shape(self, shape: Shape) -> Shape:
        """The shape of one code, given that of what the encoder says of one picture."""
        return shape

    def _encoder_input(self, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        """What the encoder is given of pictures and their labels: the pictures."""
        return x

    def _decoder_input(self, z: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        """What the decoder is given of codes and their labels: the codes."""
        return z

    def encode(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Codes h of pictures x, without noise; labels y are for conditional models.

        Shapes: x (N, H, W, C), y (N,) -> h (N, d)
        """
        return self._quietly(lambda x, y: self.encoder.forward(self._encoder_input(x, y)), x, y)

    def decoder_output(self, z: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """What the decoder says of codes z before `likelihood.mean`: logits under Bernoulli.

        Shapes: z (N, d), y (N,) -> (N, H, W, C)
        """
        return self._quietly(lambda z, y: self.decoder.forward(self._decoder_input(z, y)), z, y)

    def decode(self, z: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Pictures (the likelihood's mean) of codes z; labels y are for conditional models.

        Shapes: z (N, d), y (N,) -> (N, H, W, C)
        """
        return self.likelihood.mean(self.decoder_output(z, y))

    def reconstruct(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """decode(encode(x, y), y)"""
        return self.decode(self.encode(x, y), y)

    def interpolate(self, a: np.ndarray, b: np.ndarray, steps: int = 8, y: np.ndarray | None = None) -> np.ndarray:
        """Pictures on the straight line between the codes of two pictures, both ends included.

        A conditional model takes the labels of the two, y (2,), and paints the first half as a's, the rest as b's.
        Shapes: a, b (H, W, C) -> (steps, H, W, C)
        """
        steps = whole(steps, f"{type(self).__name__}: steps")
        if np.shape(a) != np.shape(b):
            raise ValueError(f"{type(self).__name__} goes between two pictures of one shape, got {np.shape(a)} and "
                             f"{np.shape(b)}")
        ends = self.encode(np.stack([a, b]), y)
        t = np.linspace(0, 1, steps, dtype=ends.dtype).reshape(-1, *[1] * (ends.ndim - 1))
        labels = None if y is None else np.asarray(y)[np.linspace(0, 1, steps).round().astype(int)]
        return self.decode((1 - t) * ends[0] + t * ends[1], labels)

    def _quietly(self, f: Callable[..., np.ndarray], x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """f in batches, without noise; the result is the caller's own array, and backward is off until a new loss."""
        self.dy = None
        for net in (self.encoder, self.decoder):
            net.give_rng(None)
        x = np.asarray(x)
        if len(x) == 0:
            raise ValueError(f"{type(self).__name__} needs at least 1 row, got x of shape {x.shape}")
        if y is not None and len(y) != len(x):
            raise ValueError(f"{type(self).__name__} got {len(x)} rows and {len(y)} labels: they must be as many")
        parts = (slice(i, i + BATCH) for i in range(0, len(x), BATCH))
        return np.concatenate([f(x[part], None if y is None else y[part]).copy() for part in parts])

    @contextmanager
    def without_noise(self) -> Iterator[None]:
        """Inside, noise and dropout layers are the identity in loss too; z is still sampled. For test figures."""
        before, self.noisy = self.noisy, False
        try:
            yield
        finally:
            self.noisy = before

    def zero_grad(self) -> None:
        """Set the whole gradient to zero."""
        self.grad[...] = 0

    def walk(self) -> Iterator[Layer]:
        """All layers, the encoder's first."""
        yield from self.encoder.walk()
        yield from self.decoder.walk()

    def keep_buffers(self, keep: bool) -> None:
        """Let all parts write into the same arrays from step to step (a training loop), or into fresh ones."""
        self.work = _kernels.Workspace(keep)
        for part in (self.encoder, self.decoder, self.likelihood):
            part.keep_buffers(keep)

    def branch_signature(self) -> Any:
        """Which side of each kink the latest loss took, encoder and decoder."""
        return self.encoder.branch_signature(), self.decoder.branch_signature()

    def hold(self, branch: Any) -> None:
        """Stay on this branch in every later loss; None lets go."""
        for net, b in zip((self.encoder, self.decoder), branch or (None, None), strict=True):
            net.hold(b)

    def to(self, dtype: Any = None, kernels: ModuleType | None = None) -> Self:
        """A copy with another dtype or other kernels, packed anew, ties kept."""
        twin = copied(self, dtype, kernels)
        twin.theta, twin.grad = pack(twin.params)
        twin.likelihood.kernels = kernels or twin.likelihood.kernels
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same as `to()`."""
        twin = deep_copy(self, memo, theta=None, grad=None, dy=None, work=_kernels.Workspace())
        twin.theta, twin.grad = pack(twin.params)
        return twin

    def summary(self, input_shape: Sequence[int] | None = None) -> str:
        """The encoder's table and the decoder's."""
        shape = tuple(input_shape or self.encoder.input_shape or ())
        encoder = self.encoder.summary(shape)
        code = self._code_shape(self.encoder.output_shape(shape))
        return f"encoder\n{encoder}\n\ndecoder\n{self.decoder.summary(code)}"

    def config(self) -> dict[str, Any]:
        """What `models.load` needs to make this model again, without the values of its parameters."""
        return {"model": type(self).__name__, "encoder": self.encoder.config(), "decoder": self.decoder.config(),
                "likelihood": self.likelihood.config()}

    def save(self, path: str | Path) -> None:
        """Write the model's config and parameters into one .npz, or .safetensors; `models.load(path)` rebuilds it.

        Raises ValueError: a model that would not come back from the file as it is; nothing is written then.
        """
        config = self.config()
        refuse_what_would_not_come_back(self, config)
        kind = interop if Path(path).suffix == interop.SUFFIX else store
        kind.write(path, {p.name: p.value for p in self.params}, config)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle (for another process, say) holds what `save` writes, and the classes; kernels are the default ones.

        Attribute by attribute the Params would come back as arrays of their own, which theta does not move.
        Raises ValueError: what `save` refuses.
        """
        config = self.config()
        kinds = refuse_what_would_not_come_back(self, config)
        return unpickled, (config, kinds, {p.name: p.value for p in self.params})


def non_negative(model: Model, name: str, value: float) -> float:
    """The weight of a term as a float.

    Raises ValueError: a weight below 0, or not finite.
    """
    if not 0 <= real(value) < math.inf:
        raise ValueError(f"{type(model).__name__}: {name} must be finite and at least 0, got {value}")
    return float(value)


def _end(net: Layer, place: int) -> Layer:
    """The first (place 0) or last (-1) layer of a net, inside of Sequentials."""
    while type(net) is Sequential:
        net = net.layers[place]
    return net


def _last_but_shapes(net: Sequential) -> Layer | None:
    """The layer that a net's output comes from, but for a new shape."""
    for layer in reversed(net.layers):
        last = _last_but_shapes(layer) if type(layer) is Sequential else layer
        if last is not None and not isinstance(last, (Reshape, Identity)):
            return last
    return None
