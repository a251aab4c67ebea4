"""From a config back to a layer: what makes a saved net of a user's own load again.
Names are looked up in a table of classes, never imported by name: a file cannot make npae run code.
"""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from npae.layers.activations import Activation, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from npae.layers.base import Layer, Sequential
from npae.layers.conv import Conv2d, ConvTranspose2d, TiedConvTranspose2d, UpsampleConv2d
from npae.layers.dense import Dense, TiedDense
from npae.layers.latent import Reparameterize
from npae.layers.noise import Dropout, GaussianNoise, MaskingNoise
from npae.layers.pool import AvgPool2d, MaxPool2d
from npae.layers.shape import Flatten, Reshape
from npae.layers.upsample import Upsample2d

KINDS: tuple[type[Layer], ...] = (
    Dense, TiedDense, Conv2d, ConvTranspose2d, TiedConvTranspose2d, UpsampleConv2d, MaxPool2d, AvgPool2d, Upsample2d,
    Flatten, Reshape, ReLU, LeakyReLU, Sigmoid, Tanh, Softplus, Identity, Reparameterize, GaussianNoise, MaskingNoise,
    Dropout)
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
    if issubclass(classes[kind], Sequential):
        children = [build(child, f"{name}.{i}" if name else str(i), known, custom)
                    for i, child in enumerate(settings.pop("layers", []))]
        net = _made(classes[kind], {"layers": children, **settings}, name)
        net.set_name(name)
        return net
    if isinstance(settings.get("activation"), dict):
        settings["activation"] = build(settings["activation"], "", {}, custom)
    if "partner" in settings:
        path = settings["partner"]
        if path not in known:
            raise ValueError(f"layer {name or '0'} is tied to {path!r}, which does not stand before it")
        settings["partner"] = known[path]
    layer = known[name] = _made(classes[kind], settings, name)
    return layer


def refuse_what_cannot_be_built(layers: Iterable[Layer]) -> None:
    """Look at layers, in the order of forward, before their configs are saved.

    Raises ValueError: a config from which another layer would be made; a tied layer before its partner.
    """
    walked: set[int] = set()
    for layer in layers:
        refuse_unfaithful(layer, "layer")
        if isinstance(fused := getattr(layer, "activation", None), Activation):
            refuse_unfaithful(fused, "layer")
        partner = getattr(layer, "partner", None)
        if isinstance(partner, Layer) and id(partner) not in walked:
            raise ValueError(f"{layer} is tied to {partner}, which does not stand before it, and a file is built from "
                             "the encoder's first layer on: let the earlier layer own W and the later one be tied")
        walked.add(id(layer))


def refuse_unfaithful(thing: Any, what: str, by_place: Sequence[str] = ()) -> None:
    """Raise ValueError where config() is not what the constructor takes: something else would come back from a file.

    `what` is the key of the class's name; the arguments `by_place` are given first, whatever they are called.
    """
    kind, config = type(thing).__name__, thing.config()
    takes = [*inspect.signature(type(thing)).parameters.values()][len(by_place):]
    told = {key for key in config if key != what and key not in by_place}
    missing = [p.name for p in takes if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
               and p.name not in (*NOT_SETTINGS, *told)]
    extra = () if any(p.kind is p.VAR_KEYWORD for p in takes) else sorted(told - {p.name for p in takes})
    if config.get(what) != kind:
        wrong = f"is called {config.get(what)!r} by its config()"
    elif missing:
        wrong = f"takes {', '.join(missing)}, and its config() does not say with which value"
    elif extra:
        wrong = f"does not take {', '.join(extra)}, which its config() tells"
    else:
        return
    raise ValueError(f"{kind} {wrong}, so it would not come back from a file: let config() return the name of {kind} "
                     "and all its arguments")


def _made(kind: type[Layer], settings: dict[str, Any], name: str) -> Layer:
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"layer {name or '0'} cannot be built: {error}") from None


__all__ = ["KINDS", "Activation", "build"]
