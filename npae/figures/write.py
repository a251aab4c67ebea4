"""Every figure that a trained model can have, by what the model is and has: one table.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npae.data.batches import Transform, batches
from npae.evaluate import singular_values
from npae.figures.codes import MOST_ROWS, interpolations, traversals
from npae.figures.curves import jacobian_spectrum, learning_curves
from npae.figures.files import save
from npae.figures.grids import class_sheet, reconstructions, samples, triples
from npae.figures.plane import codes_window, latent_scatter, manifold, prior_window
from npae.figures.weights import filters, first_weights
from npae.models import ContractiveAutoencoder
from npae.penalties import gaussian_kl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL_CODE = 64  # numbers of a code that can be looked at one by one
BACKWARDS = 5_000  # rows of dh/dx in all: a second or two of a dense encoder of a thousand units
STEPS = 11  # pictures between two


@dataclass
class Subject:
    """A trained model, and the test pictures that it is shown at with their labels, (N,) or None."""

    model: Any
    test_x: np.ndarray
    test_y: Any
    history: Sequence[Mapping[str, float]]
    unit: str
    per: str
    rng: np.random.Generator
    transform: Transform | None
    beside: Mapping[str, np.ndarray] | None

    def pictures(self, chosen: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Some test pictures as the model is trained on them, and the labels that it takes (None: it takes none)."""
        x, labels = self.test_x[chosen], self.labels(chosen)
        [(x, labels)] = batches(x, labels, len(x), noise=self.rng, transform=self.transform, dtype=self.dtype)
        return x, labels

    def labels(self, chosen: np.ndarray | slice) -> np.ndarray | None:
        """What a conditional model has to be told of these test pictures."""
        return None if self.model.classes is None or self.test_y is None else self.test_y[chosen]

    @property
    def dtype(self) -> Any:
        """The model's."""
        return self.model.theta.dtype

    @cached_property
    def few(self) -> np.ndarray:
        """Which ten test pictures are shown."""
        return one_of_each(self.test_y, len(self.test_x))

    @cached_property
    def codes(self) -> np.ndarray:
        """The codes of all test pictures."""
        return np.concatenate([
            self.model.encode(x, y) for x, y in batches(self.test_x, self.labels(slice(None)), 256, noise=self.rng,
                                                        transform=self.transform, dtype=self.dtype)])

    @property
    def window(self) -> Any:
        """The part of the latent plane that is drawn: the prior's middle, or where the codes lie."""
        return prior_window() if _is_variational(self) else codes_window(self.codes)


def write_all(
    model: Any,
    test_x: np.ndarray,
    test_y: np.ndarray | None,
    history: Sequence[Mapping[str, float]],
    folder: str | Path,
    *,
    unit: str,
    rng: np.random.Generator,
    per: str = "epoch",
    transform: Transform | None = None,
    beside: Mapping[str, np.ndarray] | None = None,
) -> list[Path]:
    """Write the figures that a trained model can have into a folder, and return their paths; TABLE says which.

    `per` is what a row of the history is called; `beside` are pictures without a class to lay beside the class sheet,
    by their names: {"plain VAE": plain.sample(100, rng=rng)}.
    Raises ValueError: a conditional model without labels.
    """
    if model.classes is not None and test_y is None:
        raise ValueError(f"{type(model).__name__} takes labels 0 to {model.classes - 1}, and the test pictures have "
                         "none: give test_y")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    subject = Subject(model, test_x, test_y, history, unit, per, rng, transform, beside)
    return [save(draw(subject), folder / f"{name}.png") for name, belongs, draw in TABLE if belongs(subject)]


def _is_variational(s: Subject) -> bool:
    return hasattr(s.model, "encode_stats")


def _has_prior(s: Subject) -> bool:
    return hasattr(s.model, "sample")


def _has_plane(s: Subject) -> bool:
    return s.model.latent == 2


def _has_telling_code(s: Subject) -> bool:
    return s.model.latent is not None and (_is_variational(s) or s.model.latent <= SMALL_CODE)


def _reconstructions(s: Subject) -> Figure:
    x, y = s.pictures(s.few)
    by = "" if s.model.latent is None else f" from {s.model.latent:,} number{'s' * (s.model.latent != 1)}"
    return reconstructions(x, s.model.reconstruct(x, y), title=f"Test pictures, reconstructed{by}")


def _samples(s: Subject) -> Figure:
    return samples(s.model.sample(64, rng=s.rng), title="Samples from the prior")


def _class_sheet(s: Subject) -> Figure:
    """One z a row: what a row has in common is what z says of a picture beside its class."""
    K, rows = s.model.classes, 10
    z = s.rng.standard_normal((rows, s.model.latent)).astype(s.dtype)
    x = s.model.decode(z.repeat(K, axis=0), np.tile(np.arange(K), rows))
    raw = {"test pictures": _by_class(s, rows)} if len(np.unique(s.test_y)) == K else {}
    return class_sheet(x, K, name="samples of each class", beside=raw, unsorted=s.beside,
                       title="One class a column, one z a row",
                       note="Above each column its label; in the samples each row is one z ~ N(0, I)")


def _by_class(s: Subject, rows: int) -> np.ndarray:
    """rows * classes test pictures, the first ones of each class in its column; a small class begins again."""
    columns = [np.resize(np.flatnonzero(s.test_y == k), rows) for k in range(s.model.classes)]
    return s.pictures(np.stack(columns, axis=1).ravel())[0]


def _denoised(s: Subject) -> Figure:
    x, y = s.pictures(s.few)
    x_noisy = s.model.corrupt(x, s.rng)
    return triples(x, x_noisy, s.model.reconstruct(x_noisy, y))


def _filters(s: Subject) -> Figure:
    W: Any = first_weights(s.model)
    return filters(W, s.test_x.shape[1:])


def _latent(s: Subject) -> Figure:
    return latent_scatter(s.codes, s.test_y, window=s.window, title="Test pictures in the latent plane")


def _manifold(s: Subject) -> Figure:
    span = "gaussian" if _is_variational(s) else s.window
    if s.model.classes is None:
        return manifold(lambda z: s.model.decode(z.astype(s.dtype)), span)
    label = int(s.test_y[s.few[0]])
    return manifold(lambda z: s.model.decode(z.astype(s.dtype), np.full(len(z), label)), span,
                    title=f"What the decoder draws across the latent plane for the label {label}")


def _traversals(s: Subject) -> Figure:
    """Of a variational code the numbers with the largest KL, within three standard deviations of the prior; of another
    the ones that differ most between pictures, within their own range."""
    chosen = s.few[len(s.few) // 2 :][:1]
    x, y = s.pictures(chosen)
    z = s.model.encode(x, y)[0]
    if _is_variational(s):
        score, what = _kl_of_each(s), "KL in nats"
        spans = np.tile([-3.0, 3.0], (len(z), 1))
    else:
        score, what = s.codes.std(axis=0, dtype=np.float64), "deviation"
        spans = np.quantile(s.codes.astype(np.float64), (0.01, 0.99), axis=0).T
    dims = np.argsort(-score, kind="stable")[:MOST_ROWS]
    labels = None if y is None else y[0]
    return traversals(
        lambda z: s.model.decode(z, None if labels is None else np.full(len(z), labels)), z, spans, dims=dims.tolist(),
        names=[f"$z_{{{i + 1}}}$   {value:.2f}" for i, value in enumerate(score)],
        note=f"Beside each its {what}, largest first; triangle: the picture's own value")


def _kl_of_each(s: Subject) -> np.ndarray:
    """The KL of each latent number, nats per image, over the first test pictures."""
    x, y = s.pictures(slice(1000))
    mu, logvar = s.model.encode_stats(x, y)
    return np.array([gaussian_kl(mu[:, [i]], logvar[:, [i]])[0] for i in range(mu.shape[1])])


def _interpolations(s: Subject) -> Figure:
    few = s.few[: len(s.few) // 2 * 2]
    x, y = s.pictures(few)
    pairs = [slice(i, i + 2) for i in range(0, len(few), 2)]
    between = [s.model.interpolate(*x[pair], STEPS, None if y is None else y[pair]) for pair in pairs]
    note = "" if y is None else "; the label changes in the middle"
    return interpolations(x[::2], x[1::2], np.stack(between),
                          note=f"Decoded at equal steps between the codes of the two originals{note}")


def _jacobian(s: Subject) -> Figure:
    n = min(len(s.test_x), 100, max(8, BACKWARDS // s.codes.shape[1]))
    x, _ = s.pictures(slice(n))
    return jacobian_spectrum(singular_values(s.model, x))


def one_of_each(labels: np.ndarray | None, n: int) -> np.ndarray:
    """Ten pictures to show: the first of each of ten classes where there are labels, else the first ten."""
    if labels is not None and len(first := np.unique(labels, return_index=True)[1]) >= 10:
        return first[:10]
    return np.arange(min(10, n))


TABLE: tuple[tuple[str, Callable[[Subject], bool], Callable[[Subject], Figure]], ...] = (
    # the figure's file, which models have it, and how it is drawn
    ("reconstructions", lambda s: True, _reconstructions),
    ("learning_curves", lambda s: bool(s.history), lambda s: learning_curves(s.history, s.unit, per=s.per)),
    ("samples", lambda s: _has_prior(s) and s.model.classes is None, _samples),
    ("class_sheet", lambda s: _has_prior(s) and s.model.classes is not None, _class_sheet),
    ("denoised", lambda s: hasattr(s.model, "corrupt"), _denoised),
    ("filters", lambda s: first_weights(s.model) is not None, _filters),
    ("latent", _has_plane, _latent),
    ("manifold", _has_plane, _manifold),
    ("traversals", _has_telling_code, _traversals),
    ("interpolations", lambda s: _has_telling_code(s) and len(s.few) > 1, _interpolations),
    ("jacobian", lambda s: isinstance(s.model, ContractiveAutoencoder), _jacobian),
)
