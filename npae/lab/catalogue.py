"""The catalogue of cases: every layer of npae in the settings and on the shapes where backward passes go wrong.
`npae gradcheck all` and the tests walk it; a layer that is not in it is not tested.

Shapes are awkward on purpose. No two dimensions are equal, so that a swapped axis cannot pass; a square twin stands
beside them, since on a square some mistakes run without an error. N is 1, 2 or 3, and once more than the fast kernels
have chunks; kernels are odd and even, strides do not divide, padding is 0, 1 and 2.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from npae.layers import (
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    Identity,
    Layer,
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

Shape = tuple[int, ...]
Build = Callable[[np.random.Generator], Layer]
BENT: tuple[str, ...] = ("relu", "leaky_relu", "sigmoid", "tanh", "softplus")
"""Every activation with a bend, by its name; 'identity' is what a layer without an activation has."""


class Make(Protocol):
    """A fresh layer of one case: equal generators give equal parameters, in every dtype and on all kernels."""

    def __call__(self, rng: np.random.Generator, dtype: Any = np.float32,
                 kernels: ModuleType | None = None) -> Layer: ...


@dataclass(frozen=True)
class Case:
    """One layer in one setting: how it is made, which inputs it takes, and what may be expected of it.

    Shapes: each of `input_shapes` is that of a batch, (N, ...); the first is that of the state tests.
    """

    kind: str
    """The layer class that the case stands for; a tied layer stands in a Sequential with its partner."""
    name: str
    make: Make
    input_shapes: tuple[Shape, ...]
    affine: bool
    """f(x) = J x + c: the dot test applies."""
    random: bool
    """The layer draws noise from the generator handed over by give_rng."""


def cases(layer_name: str | None = None) -> tuple[Case, ...]:
    """All cases, or those of one layer class.

    Raises ValueError: a class that the catalogue does not know (those it knows are listed).

    >>> [case.name for case in cases("Flatten")]
    ['Flatten()']
    """
    found = tuple(case for case in ALL if layer_name in (None, case.kind))
    if not found:
        raise ValueError(f"the catalogue has no layer {layer_name!r}: use one of {', '.join(KINDS)}")
    return found


def _maker(build: Build) -> Make:
    """Values are drawn in float32 whatever the dtype; a bias of zeros would hide mistakes and becomes small noise."""
    def make(rng: np.random.Generator, dtype: Any = np.float32, kernels: ModuleType | None = None) -> Layer:
        layer = build(rng)
        for p in layer.params:
            if not p.value.any():
                p.value[...] = 0.1 * rng.standard_normal(p.value.shape)
        return layer.to(dtype, kernels)

    return make


def _case(kind: type[Layer], text: str, build: Build, shapes: tuple[Shape, ...], affine: bool, random: bool) -> Case:
    return Case(kind.__name__, f"{kind.__name__}({text})", _maker(build), shapes, affine, random)


def _weighted(kind: Any, shapes: tuple[Shape, ...], *args: Any, **settings: Any) -> Case:
    """A layer with weights; it is affine where it has no activation."""
    return _case(kind, _text(args, settings), lambda rng: kind(*args, **settings, rng=rng), shapes,
                 "activation" not in settings, False)


def _bare(kind: type[Layer], shapes: tuple[Shape, ...], *args: Any, affine: bool = True, random: bool = False,
          **settings: Any) -> Case:
    """A layer without weights."""
    return _case(kind, _text(args, settings), lambda rng: kind(*args, **settings), shapes, affine, random)


def _tied(kind: Any, partner: Callable[..., Any], shapes: tuple[Shape, ...], *args: Any, activation: Any = None,
          **settings: Any) -> Case:
    """A partner, and after it the layer that holds the partner's W; the activation is the tied layer's."""
    def build(rng: np.random.Generator) -> Layer:
        first = partner(*args, **settings, rng=rng)
        return Sequential([first, kind(first, activation)])

    text = f"{partner.__name__}({_text(args, settings)})" + (f", {activation!r}" if activation else "")
    return _case(kind, text, build, shapes, activation is None, False)


def _text(args: tuple[Any, ...], settings: dict[str, Any]) -> str:
    return ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in settings.items())])


def _dense() -> list[Case]:
    return [
        _weighted(Dense, ((2, 5), (1, 5)), 5, 3),
        _weighted(Dense, ((3, 3),), 3, 3),
        _weighted(Dense, ((3, 1),), 1, 2),
        _weighted(Dense, ((37, 41),), 41, 2, activation="tanh"),  # several blocks of rows, and of columns
        *(_weighted(Dense, ((3, 4),), 4, 5, activation=a) for a in BENT),
        _weighted(Dense, ((2, 4),), 4, 3, activation=LeakyReLU(0.3)),
        _tied(TiedDense, Dense, ((2, 5), (1, 5)), 5, 3),
        _tied(TiedDense, Dense, ((3, 3),), 3, 3, activation="sigmoid"),
        _tied(TiedDense, Dense, ((37, 35),), 35, 33, activation="tanh"),
        *(_tied(TiedDense, Dense, ((3, 4),), 4, 5, activation=a) for a in BENT),
    ]


def _convolutions() -> list[Case]:
    return [
        _weighted(Conv2d, ((2, 5, 6, 3), (1, 6, 5, 3)), 3, 4, 3),
        _weighted(Conv2d, ((1, 5, 4, 2), (2, 4, 6, 2)), 2, 3, (2, 3), stride=(2, 1)),
        _weighted(Conv2d, ((3, 7, 5, 2),), 2, 4, (3, 2), stride=2, padding=1),
        _weighted(Conv2d, ((2, 6, 7, 1), (1, 7, 6, 1)), 1, 3, (4, 3), stride=(3, 2), padding=2),
        _weighted(Conv2d, ((1, 4, 7, 3),), 3, 2, 1, stride=(2, 3), padding="valid"),
        _weighted(Conv2d, ((2, 7, 5, 3),), 3, 1, (2, 4), stride=2, padding=0),
        _weighted(Conv2d, ((1, 2, 3, 4),), 4, 2, (4, 5)),  # a kernel larger than the picture
        _weighted(Conv2d, ((3, 3, 3, 3), (9, 3, 3, 3)), 3, 3, 3),  # the square twin; nine pictures in eight chunks
        _weighted(Conv2d, ((2, 4, 4, 2),), 2, 2, 2, stride=2),
        *(_weighted(Conv2d, ((2, 4, 3, 2),), 2, 3, (3, 2), activation=a) for a in BENT),
        _weighted(Conv2d, ((1, 3, 4, 2),), 2, 3, 2, activation=LeakyReLU(0.3)),
    ]


def _transposed() -> list[Case]:
    return [
        _weighted(ConvTranspose2d, ((2, 4, 3, 2), (1, 3, 4, 2)), 2, 3, 3, stride=2),
        _weighted(ConvTranspose2d, ((1, 3, 4, 3),), 3, 2, (2, 3), stride=(2, 1)),
        _weighted(ConvTranspose2d, ((3, 4, 2, 2),), 2, 4, (3, 4), stride=2, padding=1),
        _weighted(ConvTranspose2d, ((2, 4, 5, 1),), 1, 3, (4, 3), stride=(3, 2), padding=2),
        _weighted(ConvTranspose2d, ((1, 2, 3, 4),), 4, 2, (1, 2), stride=3, padding="valid"),  # with holes
        _weighted(ConvTranspose2d, ((2, 3, 2, 3),), 3, 1, (2, 1), stride=(3, 4)),
        _weighted(ConvTranspose2d, ((3, 3, 3, 3), (9, 3, 3, 3)), 3, 3, 3),
        *(_weighted(ConvTranspose2d, ((2, 3, 2, 4),), 4, 3, (3, 2), stride=(1, 2), activation=a) for a in BENT),
        _tied(TiedConvTranspose2d, Conv2d, ((2, 6, 4, 2), (1, 4, 6, 2)), 2, 3, 3, stride=2),
        _tied(TiedConvTranspose2d, Conv2d, ((1, 7, 5, 2),), 2, 4, (3, 2), stride=(2, 3), padding=1, activation="tanh"),
        _tied(TiedConvTranspose2d, Conv2d, ((3, 3, 3, 3),), 3, 3, 3),
        *(_tied(TiedConvTranspose2d, Conv2d, ((2, 4, 3, 1),), 1, 2, (2, 3), padding=0, activation=a) for a in BENT),
        _weighted(UpsampleConv2d, ((2, 3, 4, 2), (1, 4, 3, 2)), 2, 3, 3),
        _weighted(UpsampleConv2d, ((1, 2, 4, 3),), 3, 2, (2, 3)),
        _weighted(UpsampleConv2d, ((3, 3, 3, 3),), 3, 3, 3),
        *(_weighted(UpsampleConv2d, ((2, 3, 2, 1),), 1, 3, (3, 2), activation=a) for a in BENT),
    ]


def _pools() -> list[Case]:
    windows: tuple[tuple[tuple[Shape, ...], Any, dict[str, Any]], ...] = (
        (((2, 4, 6, 3), (1, 5, 7, 3)), 2, {}),
        (((3, 5, 4, 2),), (3, 2), {"stride": (1, 2)}),  # overlapping
        (((1, 7, 6, 2),), 3, {"stride": 2, "padding": 1}),
        (((2, 5, 7, 1),), (2, 3), {"stride": (3, 2), "padding": "same"}),
        (((1, 4, 6, 2),), (3, 4), {"stride": 1, "padding": 2}),
        (((2, 7, 5, 3),), (2, 1), {"stride": 3, "padding": "valid"}),  # pixels that no window sees
        (((3, 3, 3, 3),), 2, {"stride": 1}),
    )
    return [_bare(kind, shapes, size, affine=kind is AvgPool2d, **settings)
            for kind in (MaxPool2d, AvgPool2d) for shapes, size, settings in windows]


def _shapes_and_bends() -> list[Case]:
    picture, rows = (2, 3, 4, 5), (3, 7)
    return [
        *(_bare(Upsample2d, ((2, 3, 4, 2), (1, 1, 2, 3)), 2, mode=m) for m in ("nearest", "bilinear")),
        *(_bare(Upsample2d, ((3, 4, 2, 1),), (2, 3), mode=m) for m in ("nearest", "bilinear")),
        *(_bare(Upsample2d, ((3, 3, 3, 3),), (1, 3), mode=m) for m in ("nearest", "bilinear")),
        _bare(Flatten, (picture, (1, 3, 3, 3))),
        _bare(Reshape, ((2, 60), (1, 60)), (3, 4, 5)),
        _bare(Reshape, ((3, 2, 6),), (4, 3)),
        _case(Shift, "an offset of (3, 4, 5)", lambda rng: Shift(rng.standard_normal((3, 4, 5))),
              (picture, (1, 3, 4, 5)), True, False),
        _case(Shift, "an offset of (7,)", lambda rng: Shift(rng.standard_normal(7)), (rows,), True, False),
        _bare(Identity, (picture, rows)),
        *(_bare(kind, (picture, rows, (1, 3)), affine=False) for kind in (ReLU, LeakyReLU, Sigmoid, Tanh, Softplus)),
        _bare(LeakyReLU, (rows,), 0.3, affine=False),
        _bare(LeakyReLU, (rows,), 0.0, affine=False),
        *(_bare(Reparameterize, ((3, 8), (1, 2)), samples, affine=False, random=True) for samples in (1, 3)),
        _bare(GaussianNoise, (picture, rows), 0.3, random=True),
        _bare(MaskingNoise, (picture, rows), 0.4, random=True),
        _bare(Dropout, (picture, rows), 0.4, random=True),
    ]


def _nets() -> list[Case]:
    def shallow(rng: np.random.Generator) -> Layer:
        return Sequential([Dense(4, 6, rng=rng), Dense(6, 3, rng=rng)])

    def nested(rng: np.random.Generator) -> Layer:
        encoder = Sequential([Conv2d(1, 3, 3, stride=2, activation="relu", rng=rng), MaxPool2d(2, stride=1), Flatten()])
        larger = Sequential([UpsampleConv2d(3, 2, 3, activation="tanh", rng=rng), Upsample2d(2, mode="bilinear")])
        decoder = Sequential([Dense(4, 6, activation=LeakyReLU(0.2), rng=rng), Reshape((2, 1, 3)), larger,
                              AvgPool2d(3, stride=2, padding=1)])
        return Sequential([encoder, Dense(6, 4, rng=rng), decoder])

    def noisy(rng: np.random.Generator) -> Layer:
        decoder = Sequential([MaskingNoise(0.2), Dense(3, 4, activation="sigmoid", rng=rng)])
        return Sequential([GaussianNoise(0.2), Dense(4, 6, activation="softplus", rng=rng), Dropout(0.3),
                           Reparameterize(2), decoder])

    return [_case(Sequential, "Dense, Dense", shallow, ((2, 4), (1, 4)), True, False),
            _case(Sequential, "nested", nested, ((2, 5, 4, 1), (1, 6, 3, 1)), False, False),
            _case(Sequential, "noisy", noisy, ((3, 4),), False, True)]


ALL: tuple[Case, ...] = (*_dense(), *_convolutions(), *_transposed(), *_pools(), *_shapes_and_bends(), *_nets())
KINDS: tuple[str, ...] = tuple(dict.fromkeys(case.kind for case in ALL))
