"""What a recipe is made of: settings with their defaults and limits, and the functions that they are handed to.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npae import optim
from npae.data import Dataset
from npae.models import Model

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
    """A named training: `build(settings, dataset, rng)` makes the model.

    equation: the objective in a line; drop_last: the last, short batch of an epoch is left out; adapt: fills in what
    depends on other settings, or on the data set (None: not known), and returns a remark on it or None; rmsprop:
    settings of that optimizer beside its rate.
    """

    name: str
    summary: str
    equation: str
    build: Callable[[Settings, Dataset, np.random.Generator], Model]
    settings: Mapping[str, Setting]
    drop_last: bool = False
    adapt: Callable[[Settings, Dataset | None], str | None] = field(default=lambda settings, data: None)
    rmsprop: Mapping[str, Any] = field(default_factory=dict)

    def parse(self, given: Mapping[str, str]) -> Settings:
        """All settings, defaults changed by what is given as text; None is left for `adapt` to fill in.

        Raises ValueError: an unknown key (the known ones are listed), or a value that does not fit.
        """
        for key in given:
            if key not in self.settings:
                raise ValueError(f"{self.name} has no setting {key!r}: use one of {', '.join(self.settings)}")
        return {key: s.parse(key, given[key]) if key in given else s.default for key, s in self.settings.items()}

    def resolve(self, given: Mapping[str, str]) -> tuple[Settings, str | None]:
        """All settings, as for data that are not known yet, and a remark on what follows from those given.

        Raises ValueError: as `parse`
        """
        settings = self.parse(given)
        return settings, self.adapt(settings, None)

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
        name, lr = settings["optimizer"], settings["lr"]
        return optim.RMSprop(lr, **self.rmsprop) if name == "rmsprop" else OPTIMIZERS[name](lr)


OPTIMIZERS: dict[str, Callable[[float], optim.Optimizer]] = {
    "sgd": optim.SGD, "momentum": optim.Momentum, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW,
    "lbfgs": lambda lr: optim.LBFGS()}
