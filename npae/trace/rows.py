"""What is known of each layer of a traced step, and of each of its parameters.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from npae.layers import Layer
from npae.trace import statistics
from npae.trace.statistics import Stats

PICTURES = 8  # of the batch, whose maps a page shows
Shape = tuple[int, ...]


@dataclass
class ParamTrace:
    """One parameter: its length before the block (nan while that is open), its gradient's, and how far it has moved.

        update_ratio = ‖p_after - p_before‖ / ‖p_before‖     (None: it stayed; inf: it has left exact zero;
                                                              nan: it has become inf or not-a-number)

    grad_norm is that of `p.grad` when the latest backward had ended; None without one.
    """

    name: str
    shape: Shape
    norm: float = math.nan
    grad_norm: float | None = None
    update_ratio: float | None = None


@dataclass
class LayerTrace:
    """One layer in the latest forward and backward; what did not happen is None (seconds: 0).

    Shapes: with the batch axis. The first layers have no gradient where backward is not asked for it (need_dx=False).
    multiply_adds: of forward, for one row of x. activation: of y. gradient: of the dLoss/dy that arrives.
    dead: share of units (ReLU) that were off in the whole batch. saturated: share of numbers at the flat ends of a
    sigmoid or tanh; blocked: the share of Σ dy² that arrives there.
    bad_input: whether inf or not-a-number came in already; looked for where y holds some.
    y, dy: those of the first pictures, copied.
    """

    name: str
    kind: str
    layer: Layer
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    dtype: np.dtype | None = None
    multiply_adds: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    activation: Stats | None = None
    gradient: Stats | None = None
    dead: float | None = None
    saturated: float | None = None
    blocked: float | None = None
    bad_input: bool = False
    params: list[ParamTrace] = field(default_factory=list)
    y: np.ndarray | None = field(default=None, repr=False)
    dy: np.ndarray | None = field(default=None, repr=False)

    def saw_forward(self, x: np.ndarray, y: np.ndarray, seconds: float, ends: np.ndarray | None) -> None:
        """Take down one forward; what was known of a backward belongs to another one."""
        self.input_shape, self.output_shape, self.dtype = np.shape(x), y.shape, y.dtype
        self.multiply_adds = self.layer.multiply_adds(np.shape(x)[1:])
        self.forward_seconds, self.backward_seconds = seconds, 0.0
        self.activation, self.gradient = statistics.stats(y), None
        self.bad_input = not self.activation.finite and not np.isfinite(x).all()
        self.dead = statistics.never_active(self.layer, y)
        self.saturated, self.blocked = None if ends is None else int(np.count_nonzero(ends)) / ends.size, None
        self.y, self.dy = y[:PICTURES].copy(), None

    def saw_backward(self, dy: np.ndarray, seconds: float, ends: np.ndarray | None) -> None:
        """Take down one backward."""
        self.backward_seconds, self.gradient = seconds, statistics.stats(dy)
        self.blocked = None if ends is None else statistics.share_of_squares(dy, ends)
        self.dy = dy[:PICTURES].copy()


def owned(rows: list[LayerTrace]) -> Iterator[tuple[LayerTrace, list[ParamTrace]]]:
    """Each layer with the parameters that are met there first: a tied one belongs to a layer before."""
    seen: set[str] = set()
    for row in rows:
        yield row, [p for p in row.params if p.name not in seen]
        seen.update(p.name for p in row.params)
