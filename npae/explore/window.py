"""The window: Matplotlib's sliders beside the decoded picture.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npae.explore.codes import home, ranges
from npae.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_WINDOW = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
"""Backends of Matplotlib that only write files."""
MOST_SLIDERS = 64  # a window does not scroll
ROWS, HEIGHT = 16, 5.0  # sliders in a column; inches
PICTURE, LABELS, COLUMN = 4.5, 0.9, 3.0  # inches across


def sliders(model: Model, z: np.ndarray, figure: Figure) -> list[Any]:
    """Draw the decoded picture and one slider a number of the code into an empty figure; the widgets, in code order.

    Beyond MOST_SLIDERS those that vary most are shown, and the others stay where they begin. A conditional model has
    buttons for its labels, the last of the widgets.
    Shapes: z (N, d), codes of test pictures, which say how far each slider reaches
    """
    from matplotlib.widgets import RadioButtons, Slider

    prior = hasattr(model, "sample")
    reach, code, label = ranges(z, prior), home(z, prior), np.zeros(1, np.int64)
    shown = sorted(np.argsort(-z.std(axis=0), kind="stable")[:MOST_SLIDERS].tolist())
    columns, first = -(-len(shown) // ROWS), PICTURE + (LABELS if model.classes is not None else 0)
    figure.set_size_inches(first + COLUMN * columns, HEIGHT)

    def axes(left: float, bottom: float, width: float, height: float) -> Any:
        across = first + COLUMN * columns
        return figure.add_axes((left / across, bottom / HEIGHT, width / across, height / HEIGHT))

    def picture() -> np.ndarray:
        x = model.decode(code[None], None if model.classes is None else label)[0].clip(0, 1)
        return x[..., 0] if x.shape[2] == 1 else x

    ax = axes(0.2, 0.3, PICTURE - 0.4, HEIGHT - 0.8)
    image = ax.imshow(picture(), cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    ax.set_title(f"{len(shown)} of {z.shape[1]} numbers" if len(shown) < z.shape[1] else "decoded", loc="left")

    def changed(array: np.ndarray, i: int, value: float) -> None:
        array[i] = value
        image.set_data(picture())
        figure.canvas.draw_idle()

    made: list[Any] = []
    for place, i in enumerate(shown):
        low, high, step = reach[i]
        where = axes(first + 0.4 + COLUMN * (place // ROWS), HEIGHT - 0.55 - 0.27 * (place % ROWS), COLUMN - 1.1, 0.2)
        made.append(Slider(where, f"$z_{{{i + 1}}}$", low, high, valinit=code[i], valstep=step))
        made[-1].on_changed(lambda value, i=i: changed(code, i, value))
    if model.classes is not None:
        made.append(RadioButtons(axes(PICTURE, 0.3, LABELS - 0.2, HEIGHT - 0.8), list(map(str, range(model.classes)))))
        made[-1].on_clicked(lambda name: changed(label, 0, int(name)))
    return made
