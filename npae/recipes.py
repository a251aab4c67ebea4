"""The recipes: one table of named trainings, each with the settings that `--set key=value` may change.
A recipe says which nets, which objective, which optimizer and how long; the numbers are the published ones.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npae import nets, optim
from npae.losses import Bernoulli, SquaredError
from npae.models import VAE, Autoencoder, Model

Settings = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One thing that `--set` may change: its default, what it means, and the values it may have."""

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    kind: type | None = None  # for a default of None: what a given value must be

    def parse(self, key: str, text: str) -> Any:
        """The value that a command line's text stands for.

        Raises ValueError: text that is not of the default's type, or not among the choices.
        """
        try:
            return self.checked(key, (self.kind or type(self.default))(text))
        except ValueError:
            return self.checked(key, text)

    def checked(self, key: str, value: Any) -> Any:
        """The value itself, if this setting may have it.

        Raises ValueError: a value of another type, below `least`, not finite, or not among the choices.
        """
        kind: Any = self.kind or type(self.default)
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{key} must be one of {', '.join(self.choices)}, got {value!r}")
        elif type(value) is not kind or (kind is float and not math.isfinite(value)) or value < self.least:
            wanted = {int: "a whole number", float: "a number"}[kind]
            raise ValueError(f"{key} must be {wanted} of at least {self.least:g}, got {value!r}")
        return value


@dataclass(frozen=True)
class Recipe:
    """A named training: `build(settings, shape, rng)` makes the model; `adapt` fills in what depends on other settings.

    drop_last: the last, short batch of an epoch is left out.
    """

    name: str
    summary: str
    build: Callable[[Settings, Sequence[int], np.random.Generator], Model]
    settings: Mapping[str, Setting]
    drop_last: bool = False
    adapt: Callable[[Settings], str | None] = field(default=lambda settings: None)

    def resolve(self, given: Mapping[str, str]) -> tuple[Settings, str | None]:
        """All settings, defaults changed by what is given as text, and a remark on what follows from it.

        Raises ValueError: an unknown key (the known ones are listed), or a value that does not fit.
        """
        for key in given:
            if key not in self.settings:
                raise ValueError(f"{self.name} has no setting {key!r}: use one of {', '.join(self.settings)}")
        settings = {key: s.parse(key, given[key]) if key in given else s.default for key, s in self.settings.items()}
        return settings, self.adapt(settings)

    def check(self, settings: Settings) -> None:
        """Look at settings that come from a file.

        Raises ValueError: one that is missing, unknown, or not what it may be.
        """
        if set(settings) != set(self.settings):
            raise ValueError(f"{self.name} has the settings {', '.join(self.settings)}, got {', '.join(settings)}")
        for key, setting in self.settings.items():
            setting.checked(key, settings[key])

    def optimizer(self, settings: Settings) -> optim.Optimizer:
        """The optimizer that the settings name, with their learning rate."""
        return OPTIMIZERS[settings["optimizer"]](settings["lr"])


OPTIMIZERS: dict[str, Callable[[float], optim.Optimizer]] = {
    "sgd": optim.SGD, "momentum": optim.Momentum, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW}


def _common(*, epochs: int, batch_size: int, optimizer: str, lr: float | None, latent: int,
            patience: int, binarize: str) -> dict[str, Setting]:
    """The settings that every recipe has."""
    return {
        "latent": Setting(latent, "dimensions of the code", least=1),
        "epochs": Setting(epochs, "passes over the training pictures", least=1),
        "batch_size": Setting(batch_size, "pictures a step", least=1),
        "optimizer": Setting(optimizer, "how theta moves", choices=tuple(OPTIMIZERS)),
        "lr": Setting(lr, "learning rate", least=0, kind=float),
        "validation": Setting(None, "training pictures set aside (default: a twelfth; 0: none)", least=0, kind=int),
        "patience": Setting(patience, "epochs without a better validation loss until it ends, with the best weights "
                            "(0: it goes on, with the last ones)", least=0),
        "binarize": Setting(binarize, "pixels made 0 or 1", choices=("threshold", "sample", "none")),
    }


def _conv_ae(s: Settings, shape: Sequence[int], rng: np.random.Generator) -> Model:
    return Autoencoder(nets.conv_ae_encoder(shape, s["latent"], rng=rng),
                       nets.conv_ae_decoder(shape, s["latent"], rng=rng), likelihood=SquaredError())


def _conv_ae_rate(s: Settings) -> str | None:
    """The published runs used RMSprop 3e-4 for ten dimensions and 1e-3 for two."""
    if s["lr"] is not None:
        return None
    s["lr"] = 1e-3 if s["latent"] == 2 else 3e-4
    return "latent=2: the learning rate is 0.001 instead of 0.0003" if s["latent"] == 2 else None


def _bernoulli_vae(s: Settings, shape: Sequence[int], rng: np.random.Generator) -> Model:
    return VAE(nets.bernoulli_vae_encoder(shape, s["latent"], rng=rng),
               nets.bernoulli_vae_decoder(shape, s["latent"], rng=rng),
               likelihood=Bernoulli(), beta=s["beta"], kl=s["kl"])


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe(
        "conv-ae", "convolutional autoencoder: squared error", _conv_ae,
        _common(epochs=100, batch_size=64, optimizer="rmsprop", lr=None, latent=10, patience=10, binarize="none"),
        drop_last=True, adapt=_conv_ae_rate),
    Recipe(
        "bernoulli-vae", "convolutional VAE on black-and-white pixels: single-sample ELBO",
        _bernoulli_vae,
        {**_common(epochs=10, batch_size=32, optimizer="adam", lr=1e-4, latent=2, patience=0, binarize="threshold"),
         "kl": Setting("sampled", "KL term: drawn with z, or its closed form", choices=("sampled", "analytic")),
         "beta": Setting(1.0, "weight of the KL term (1: the ELBO)", least=0)}),
)}


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises ValueError: an unknown name (the known ones are listed).
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}: use one of {', '.join(RECIPES)}")
    return RECIPES[name]
