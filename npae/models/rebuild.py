"""From a config back to the model: for `models.load` and pickles, and before either is written, so that none is that
does not load.
"""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from npae import store
from npae.layers import Activation, Layer, build
from npae.layers.build import refuse_forgetful


def rebuilt(config: dict[str, Any], kinds: Sequence[type]) -> Any:
    """The model that a config describes, with fresh parameters.

    `kinds`: the classes of models and likelihoods that it may name, and those of layers that are not npae's own.
    Raises ValueError: a kind that is not among them; a constructor that does not take what the config says.
    """
    settings = dict(config)
    try:
        layers = [kind for kind in kinds if issubclass(kind, Layer)]
        known: dict[str, Layer] = {}
        nets = [build(settings.pop(role), role, known, layers) for role in ("encoder", "decoder")]
        likelihood = {**settings.pop("likelihood")}
        likelihood = _named(likelihood.pop("likelihood"), kinds)(**likelihood)
        return _named(settings.pop("model"), kinds)(*nets, likelihood=likelihood, **settings)
    except Exception as error:  # what a user's own constructor raises, it alone knows
        raise ValueError(f"it has no {error}" if isinstance(error, KeyError) else str(error)) from error


def weights_of(config: Any) -> int:
    """How many weights npae's own layers in a config say that they have: known before any memory is taken for them."""
    if isinstance(config, list):
        return sum(map(weights_of, config))
    if not isinstance(config, dict):
        return 0
    own = 0
    if config.get("layer") in ("Dense", "Conv2d", "ConvTranspose2d", "UpsampleConv2d"):
        ends = [config.get(f"{end}_{what}", 1) for end in ("in", "out") for what in ("features", "channels")]
        kernel = config.get("kernel_size", 1)
        sizes = [*ends, *(kernel if isinstance(kernel, list) else [kernel, kernel])]
        own = math.prod(abs(size) for size in sizes if isinstance(size, int))
    return own + sum(map(weights_of, config.values()))


def _named(name: str, kinds: Sequence[type]) -> Any:
    classes = {kind.__name__: kind for kind in kinds}
    if name not in classes:
        raise ValueError(f"{name!r} is of an unknown kind: name your own classes, custom=[...]")
    return classes[name]


def unpickled(config: dict[str, Any], kinds: Sequence[type], values: dict[str, np.ndarray]) -> Any:
    """The model of a pickle."""
    model = rebuilt(config, kinds)
    for p in model.params:
        p.value[...] = values[p.name]
    return model


def refuse_what_would_not_come_back(model: Any, config: dict[str, Any]) -> list[type]:
    """Rebuild the model from its config, and compare; return the classes that it takes.

    Raises ValueError: a config that says too little or too much; other classes, parameters or settings than before.
    """
    store.check_json(config, "the config")
    fused = (getattr(layer, "activation", None) for layer in model.walk())
    parts = [model, model.likelihood, *model.walk(), *(part for part in fused if isinstance(part, Activation))]
    refuse_forgetful(model, by_place=2)
    for part in parts[1:]:
        refuse_forgetful(part)
    name, kinds = type(model).__name__, [type(part) for part in parts]
    try:
        twin = rebuilt(json.loads(json.dumps(config)), kinds)
    except ValueError as error:
        raise ValueError(f"{name} would not come back from a file: {error}") from None
    for what, was, would_be in (
            ("layers", _kinds(model), _kinds(twin)),
            ("parameters", [(p.name, p.value.shape, str(p.value.dtype)) for p in model.params],
             [(p.name, p.value.shape, str(p.value.dtype)) for p in twin.params]),
            ("config", json.dumps(config, sort_keys=True), json.dumps(twin.config(), sort_keys=True))):
        if was != would_be:
            raise ValueError(f"{name} would come back from a file with other {what}, {would_be} instead of {was}: "
                             "let each config() return the name and all arguments of its class")
    return kinds


def _kinds(model: Any) -> list[str]:
    return [type(part).__name__ for part in (model, model.likelihood, *model.walk())]
