"""The small example behind an explanation: a layer, loss or penalty that has run on a few whole numbers, and the loss
as a function of each of its arrays, so that every gradient can be had by differences too.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Report
from npae.kernels import reference
from npae.kernels.geometry import Geometry
from npae.lab.explain.writing import Env
from npae.layers import Layer

Array = np.ndarray
MOST = 128
"""Numbers in x: an example is to be read, and its formulas are summed entry by entry in Python."""
MOST_TAPS = 16
"""Of a kernel: a row of cols is a line."""
NOTHING: Mapping[str, Any] = {}
WHOLE = (-2, -1, 1, 2, 3)
"""What small examples are made of; a 0 would hide its term."""
WINDOW = "s the stride, p and q the rows and columns of zeros in front of the picture (the padding)"


@dataclass(frozen=True)
class Example:
    """What a derivation speaks of.

    arrays: by name, gradients under d + the name; sizes: of each index; letters: constants such as a stride;
    losses: name -> L as a function of that array, all else as it is; report: of the gradient check.
    """

    title: str
    arrays: dict[str, Array]
    sizes: Mapping[str, int]
    losses: dict[str, Callable[[Array], float]]
    report: Report
    letters: Mapping[str, float] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    """Which arrays are shown where the example begins."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The path of a net's parameter, or the place of a part of x, -> its name here."""
    layer: Any = None
    """The one that has run; a loss or penalty has none."""

    @property
    def env(self) -> Env:
        """What the letters of its formulas stand for."""
        return Env(self.arrays, self.sizes, self.letters)


def whole(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Small whole numbers other than 0, drawn from a seed."""
    return np.random.default_rng([seed, 21]).choice(WHOLE, shape).astype(np.float64)


def halves(shape: tuple[int, ...], seed: int = 0) -> Array:
    """−1/2 and 1/2: as biases of whole numbers they keep every sum off the kink at 0."""
    return np.random.default_rng([seed, 22]).choice((-0.5, 0.5), shape)


def distinct(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Whole numbers no two of which are equal within a picture's channel, about 0: nothing ties."""
    rng = np.random.default_rng([seed, 23])
    n, h, w, c = shape
    x = np.stack([rng.permutation(h * w) for _ in range(n * c)]).reshape(n, c, h, w) - h * w // 2
    return x.transpose(0, 2, 3, 1).astype(np.float64)


def first(draw: Callable[[int], Array], good: Callable[[Array], Any], tries: int = 100) -> Array:
    """The first draw that shows what it is to show; the last one where none does (a shape may leave no room for it)."""
    for seed in range(tries):
        drawn = draw(seed)
        if good(drawn):
            break
    return drawn


def checked_shape(shape: tuple[int, ...] | None, default: tuple[int, ...], what: str, axes: str) -> tuple[int, ...]:
    """The shape that was asked for, or the default.

    Raises ValueError: another number of axes; more numbers than anybody reads.
    """
    if shape is None:
        return default
    if len(shape) != len(default):
        raise ValueError(f"{what} is explained on a batch of shape {axes}, {len(default)} numbers, got --shape "
                         f"{','.join(map(str, shape))}: try {','.join(map(str, default))}")
    if math.prod(shape) > MOST:
        raise ValueError(f"an example of {math.prod(shape)} numbers is too large to be read, {MOST} is the most: use "
                         f"a smaller --shape than {','.join(map(str, shape))}")
    return tuple(shape)


def window(g: Geometry) -> dict[str, float]:
    """What the letters of WINDOW stand for.

    Raises ValueError: a picture or a kernel that nobody reads; windows that all lie in the padding.
    """
    for what, (rows, columns), most in (("picture", g.input_size, MOST), ("kernel", g.kernel_size, MOST_TAPS)):
        if rows * columns > most:
            raise ValueError(f"a {what} of {rows} x {columns} is too large to be read, {most} numbers are the most: "
                             "use a smaller --shape, --kernel or --stride")
    if not reference.im2col(np.ones((1, *g.input_size, 1)), g).any():
        raise ValueError(f"with kernel {g.kernel_size[0]}, stride {g.stride[0]} and padding {g.padding[0]} no window "
                         "meets a pixel, so there is nothing to derive: use a smaller --padding or --stride")
    return {"s": g.stride[0], "p": g.padding[0], "q": g.padding[1]}


def short(path: str, aliases: Mapping[str, str]) -> str:
    """encoder.2.W -> W, or as the example calls it."""
    return aliases.get(path, path.rsplit(".", 1)[-1])


def forward(layer: Layer, x: Array, noise: int | None = None) -> Array:
    """y; with a seed the same noise each time."""
    if noise is not None:
        layer.give_rng(np.random.default_rng(noise))
    return layer.forward(x)


def run(layer: Layer, x: Array, aliases: Mapping[str, str], noise: int | None) -> dict[str, Array]:
    """x, y, dx, L, each parameter with its gradient as forward and backward leave them, and the dy that was drawn.

    dy is one that leaves no gradient 0: few whole numbers may cancel, and a gradient of 0 says nothing.
    """
    y = forward(layer, x, noise)

    def gradients(dy: Array) -> list[Array]:
        layer.zero_grad()
        return [layer.backward(dy), *(p.grad for p in layer.params)]

    dy = first(lambda seed: whole(y.shape, 1 + seed), lambda dy: all(g.any() for g in gradients(dy)))
    dx = gradients(dy)[0]
    found = {"x": x, "y": y, "dy": dy, "dx": dx, "L": np.array(np.sum(dy * y))}
    for p in layer.params:
        name = short(p.name, aliases)
        found |= {name: p.value, f"d{name}": p.grad}
    return {name: np.array(a, np.float64) for name, a in found.items()}


def weighed(layer: Layer, dy: Array, noise: int | None = None) -> Callable[[Array], float]:
    """x -> L = Σ dy y"""
    return lambda x: float(np.sum(dy * forward(layer, x, noise)))


def by_param(layer: Layer, x: Array, dy: Array, p: Any) -> Callable[[Array], float]:
    """The values of one parameter -> L; the parameter is as before afterwards."""
    def L(value: Array) -> float:
        kept = p.value.copy()
        p.value[...] = value
        try:
            return float(np.sum(dy * layer.forward(x)))
        finally:
            p.value[...] = kept

    return L


def counted(number: int, what: str) -> str:
    """1 code, 2 codes."""
    return f"{number} {what}{'s' * (number != 1)}"


def called_as(layer: Layer) -> str:
    """Dense(in_features=3, out_features=2): its settings, but for those that say nothing."""
    plain = {"activation": "identity", "dtype": "float64"}
    settings = [f"{key}={value!r}" for key, value in layer.config().items()
                if key != "layer" and plain.get(key) != value]
    return f"{type(layer).__name__}({', '.join(settings)})"


def of_layer(layer: Layer, x: Array, sizes: Mapping[str, int], *, title: str = "",
             aliases: Mapping[str, str] = NOTHING, letters: Mapping[str, float] = NOTHING,
             given: tuple[str, ...] = (), noise: int | None = None) -> Example:
    """A layer that has run on x: its arrays, L by x and by each parameter, and its gradient check."""
    found = run(layer, x, aliases, noise)
    dy = found["dy"]
    losses = {"x": weighed(layer, dy, noise)}
    losses |= {short(p.name, aliases): by_param(layer, x, dy, p) for p in layer.params}
    rng = None if noise is None else np.random.default_rng(noise)
    report = gradcheck.check(layer, x, upstream=dy, rng=rng)
    given = given or ("x", *(short(p.name, aliases) for p in layer.params), "dy")
    return Example(title or f"`{called_as(layer)}`", found, sizes, losses, report, letters, given, aliases, layer)


def of_function(title: str, f: Callable[..., tuple[float, dict[str, Array]]], arrays: dict[str, Array],
                sizes: Mapping[str, int], *, constants: Mapping[str, Array] = NOTHING,
                letters: Mapping[str, float] = NOTHING) -> Example:
    """A loss or penalty: f(**arrays, **constants) -> (value, gradients by name), differentiated by `arrays`."""
    value, gradients = f(**arrays, **constants)

    def by(name: str) -> Callable[[Array], float]:
        return lambda array: float(f(**{**arrays, name: array}, **constants)[0])

    found = {**arrays, **constants, "L": np.array(value), **{f"d{name}": g for name, g in gradients.items()}}
    report = gradcheck.check_function(lambda theta: f(**theta, **constants), arrays)
    return Example(title, {name: np.array(a, np.float64) for name, a in found.items()}, sizes,
                   {name: by(name) for name in arrays}, report, letters, (*arrays, *constants))
