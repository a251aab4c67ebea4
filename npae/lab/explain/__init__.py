"""Explanations: the derivation of each layer, loss and penalty, with the numbers of an example small enough to do by
hand. `explanation("Conv2d")` is a document for a terminal (`to_text`), or for a browser and for paper (`to_html`).
"""
from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from npae import store
from npae.checks import sizes, whole
from npae.lab.explain import (
    activations,
    conv,
    dense,
    latent,
    losses,
    net,
    noise,
    penalties,
    pool,
    shapes,
    tied,
    transposed,
)
from npae.lab.explain.compose import explained
from npae.lab.explain.document import Explanation, Section
from npae.lab.explain.lesson import Lesson

__all__ = ["LESSONS", "Explanation", "Section", "called", "contents", "explanation", "write"]

Shape = tuple[int, ...]
LESSONS: dict[str, Callable[..., Lesson]] = {
    "Dense": dense.dense, "TiedDense": tied.tied_dense, "Conv2d": conv.conv2d,
    "ConvTranspose2d": transposed.conv_transpose2d, "TiedConvTranspose2d": tied.tied_conv_transpose2d,
    "UpsampleConv2d": transposed.upsample_conv2d, "MaxPool2d": pool.max_pool2d, "AvgPool2d": pool.avg_pool2d,
    "Upsample2d": pool.upsample2d, "Upsample2d-bilinear": pool.upsample2d_bilinear, "Flatten": shapes.flatten,
    "Reshape": shapes.reshape, "Shift": shapes.shift,
    **{name: partial(activations.lesson, name) for name in activations.BENDS},
    "Reparameterize": latent.reparameterize, "GaussianNoise": noise.gaussian_noise,
    "MaskingNoise": noise.masking_noise, "Dropout": noise.dropout, "Sequential": net.sequential,
    "Bernoulli": losses.bernoulli, "Gaussian": losses.gaussian, "SquaredError": losses.squared_error,
    "gaussian_kl": penalties.gaussian_kl, "gaussian_kl_sampled": penalties.gaussian_kl_sampled,
    "sparsity_kl": penalties.sparsity_kl, "contractive": penalties.contractive,
    "weight_decay": penalties.weight_decay,
}
"""name -> its derivation on a batch of a shape (None: a small one of its own); some take kernel, stride and padding."""
PARTS = {"gaussian_kl_per_image": "gaussian_kl"}
"""Functions that are a line of another's explanation."""


def explanation(name: str, shape: Shape | None = None, *, kernel: int | None = None, stride: int | None = None,
                padding: int | str | None = None) -> Explanation:
    """The explanation of a layer, loss or penalty, on a batch of this shape or on a small one of its own.

    kernel, stride, padding: of a layer that has a window; None is the layer's own example.
    Raises ValueError: a name that is none (they are listed, the nearest first); a shape that does not fit; a kernel,
    stride or padding of what has none.

    >>> found = explanation("Dense")
    >>> found.ok, [section.title for section in found.section("derivation")][:2]
    (True, ['3a dz, by its indices', '3b dW, by its indices'])
    """
    name = called(name)
    settings = {"kernel": kernel, "stride": stride, "padding": padding}
    asked = {key: value for key, value in settings.items() if value is not None}
    for key in asked:
        if key not in _parameters(name):
            able = ", ".join(other for other in LESSONS if key in _parameters(other))
            raise ValueError(f"{name} is explained without --{key}: that is for {able}")
    for key, value in (("kernel", kernel), ("stride", stride)):
        if value is not None:
            whole(value, f"{name}: {key}")
    return explained(name, LESSONS[name](None if shape is None else sizes(shape, f"{name}: shape"), **asked))


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(LESSONS[name]).parameters


def write(found: Explanation, path: str | Path) -> str:
    """Write the page of an explanation; the sentence that says where it is.

    Raises ValueError: a path that does not end in .html.
    """
    if Path(path).suffix.lower() != ".html":
        raise ValueError(f"an explanation is a web page, and {path} does not end in .html: choose another --html")
    store.check_target(path)
    store.write_text(path, found.to_html())
    verdict = "every gradient in it was checked" if found.ok else "NOT every gradient in it is right"
    return f"the explanation of {found.name} is in {path} ({verdict}): open it in a browser, or print it"


def contents() -> str:
    """The names, each with what its explanation is about."""
    width = max(map(len, LESSONS))
    lines = [f"{name:<{width}}  {lesson(None).idea}" for name, lesson in LESSONS.items()]
    return "\n".join([*lines, "`npae explain LAYER` derives its gradients; --html FILE writes a page"])


def called(name: str) -> str:
    """The name as it is written here, in whatever case it was given.

    Raises ValueError: a name that is none of them (they are listed, the nearest first).

    >>> called("conv2D")
    'Conv2d'
    """
    known = {key.lower(): PARTS.get(key, key) for key in (*LESSONS, *PARTS)}
    wanted = str(name).lower()
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1)
    guess = f"did you mean {known[near[0]]}? It is" if near else "use"
    raise ValueError(f"nothing to explain is called {name!r}: {guess} one of {', '.join(LESSONS)}")
