"""The training as a moving picture."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npae.callbacks.base import Callback, State


class Animation(Callback):
    """After every epoch, the untrained model included: pictures of 16 fixed codes, and 16 test pictures re-encoded.

    Shapes: codes (16, d), x (16, H, W, C) floats in [0, 1]; written to `path` as an animated GIF at the end
    A conditional model takes the labels y (16,) of x, and decodes the codes as these too.
    """

    def __init__(self, path: str | Path, codes: np.ndarray, x: np.ndarray, y: np.ndarray | None = None):
        self.path, self.codes, self.x, self.y = path, codes, x, y
        self.frames: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def on_fit_begin(self, state: State) -> None:
        """The untrained model."""
        if state.fresh:
            self.frames = []
            self._shoot(state)

    def on_epoch_end(self, state: State) -> None:
        """One more frame."""
        self._shoot(state)

    def on_fit_end(self, state: State) -> None:
        """Write the GIF."""
        from npae import figures

        figures.training_gif(self.frames, self.path)

    def _shoot(self, state: State) -> None:
        model = state.model
        self.frames.append((state.epoch, model.decode(self.codes, self.y), self.x, model.reconstruct(self.x, self.y)))

    def state(self) -> dict[str, Any]:
        """The frames so far."""
        return {"epochs": [frame[0] for frame in self.frames], "decoded": np.array([f[1] for f in self.frames]),
                "reencoded": np.array([f[3] for f in self.frames])}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over."""
        columns: Sequence[Any] = (state["epochs"], state["decoded"], state["reencoded"])
        self.frames = [(epoch, a, self.x, b) for epoch, a, b in zip(*columns, strict=True)]
