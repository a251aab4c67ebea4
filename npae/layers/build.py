"""From a config back to a layer: what makes a saved net of a user's own load again.
Names are looked up in a table of classes, never imported by name: a file cannot make npae run code.
"""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from npae.layers.activations import Activation, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from npae.layers.affine import Affine, Tied
from npae.layers.base import Layer, Sequential
from npae.layers.conv import Conv2d, ConvTranspose2d, TiedConvTranspose2d, UpsampleConv2d
from npae.layers.dense import Dense, TiedDense
from npae.layers.latent import Reparameterize
from npae.layers.noise import Dropout, GaussianNoise, MaskingNoise
from npae.layers.pool import AvgPool2d, MaxPool2d
from npae.layers.shape import Flatten, Reshape
from npae.layers.shift import Shift
from npae.layers.upsample import Upsample2d

KINDS: tuple[type[Layer], ...] = (
    Dense, TiedDense, Conv2d, ConvTranspose2d, TiedConvTranspose2d, UpsampleConv2d, MaxPool2d, AvgPool2d, Upsample2d,
    Flatten, Reshape, Shift, ReLU, LeakyReLU, Sigmoid, Tanh, Softplus, Identity, Reparameterize, GaussianNoise,
    MaskingNoise, Dropout)
NOT_SETTINGS = ("rng", "init", "dtype", "kernels")
"""Arguments that a config need not tell: how values began, where they are computed; the file has the values."""


def build(config: dict[str, Any], name: str = "", known: dict[str, Layer] | None = None,
          custom: Sequence[type[Layer]] = ()) -> Layer:
    """The layer that a config describes, with fresh parameters.

    `name` is its path in the net, `known` the layers built before it by their paths (partners of tied ones),
    `custom` a user's own layer classes.
    Raises ValueError: an unknown kind, an unknown argument, a partner that does not stand before it.
    """
    known = {} if known is None else known
    settings = dict(config)
    kind = settings.pop("layer", None)
    kinds: tuple[type[Layer], ...] = (Sequential, *KINDS, *custom)
    classes: dict[Any, type[Layer]] = {c.__name__: c for c in kinds}
    if kind not in classes:
        raise ValueError(f"layer {name or '0'} is of the unknown kind {kind!r}: name your own classes, custom=[...]")
    if issubclass(classes[kind], Sequential) and "layers" in settings:
        children = [build(child, f"{name}.{i}" if name else str(i), known, custom)
                    for i, child in enumerate(settings.pop("layers"))]
        net = _made(classes[kind], {"layers": children, **settings}, name)
        net.set_name(name)
        return net
    if issubclass(classes[kind], Affine) and isinstance(settings.get("activation"), dict):
        settings["activation"] = build(settings["activation"], "", {}, custom)
    if issubclass(classes[kind], Tied):
        path = settings.get("partner")
        if path not in known:
            raise ValueError(f"layer {name or '0'} is tied to {path!r}, which does not stand before it")
        settings["partner"] = known[path]
    layer = known[name] = _made(classes[kind], settings, name)
    return layer


def refuse_forgetful(thing: Any, by_place: int = 0) -> None:
    """Raise ValueError where config() leaves out an argument of the constructor: it would come back as its default.

    So many arguments are given `by_place`, whatever they are called, and config() need not tell them.
    """
    takes = [p for p in inspect.signature(type(thing)).parameters.values()
             if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    placed = [p.name for p in takes if p.kind is not p.KEYWORD_ONLY][:by_place]
    missing = [p.name for p in takes if p.name not in (*NOT_SETTINGS, *placed, *thing.config())]
    if missing:
        kind = type(thing).__name__
        raise ValueError(f"{kind} takes {', '.join(missing)}, and its config() does not say with which value: give "
                         f"{kind} a config() that returns every argument, or it would come back with the defaults")


def _made(kind: type[Layer], settings: dict[str, Any], name: str) -> Layer:
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"layer {name or '0'} cannot be built: {error}") from None


__all__ = ["KINDS", "Activation", "build"]
