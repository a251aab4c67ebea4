"""The page: one file of HTML with the decoder's config and weights in it, and the engine that runs them (lab/pages).
"""
from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files
from typing import Any

import numpy as np

from npae import losses
from npae.data import Dataset
from npae.explore.codes import drawing, home, ranges, some_of_each, test_codes
from npae.layers import Activation, Layer, Sequential, TiedConvTranspose2d
from npae.layers.base import of_npae
from npae.models import Model

MOST_BYTES = 8_000_000
PICTURES = 60  # test pictures that stand in the page
PICTURE_BYTES = 400_000
LAYERS = ("Sequential", "Dense", "TiedDense", "Conv2d", "ConvTranspose2d", "TiedConvTranspose2d", "UpsampleConv2d",
          "MaxPool2d", "AvgPool2d", "Upsample2d", "Flatten", "Reshape", "Shift", "ReLU", "LeakyReLU", "Sigmoid", "Tanh",
          "Softplus", "Identity", "GaussianNoise", "MaskingNoise", "Dropout")
"""The layers that lab/pages/engine.js can run."""
MEANS = {losses.Bernoulli: "sigmoid", losses.Gaussian: "identity", losses.SquaredError: "identity"}
PRECISIONS: tuple[tuple[str, str | None], ...] = (
    ("<f4", "<f4"), ("<f4", "<i2"), ("<i2", "<i2"), ("<i2", "|i1"), ("<i2", None))
"""(decoder's, encoder's) weights, from exact to small; the first that fits is taken. Whole numbers of 16 bits with one
scale a tensor are 1/65534 of the tensor's range apart: finer than float16 for all but the smallest weights, in the same
bytes, and far below what 1/255 of a grey level needs. The encoder only reads drawings, so it is made coarser first."""


def page(model: Model, dataset: Dataset, *, recipe: str = "", figure: str = "", binarize: str = "none") -> str:
    """One self-contained page of HTML, at most MOST_BYTES long, that decodes and encodes as the model does.

    `recipe` and `figure` (what it reached on the test pictures, with units) are shown; `binarize` is what its pictures
    went through in training.
    Raises ValueError: codes that are pictures; a layer or likelihood of a user's own (named); pictures that are neither
    grey nor colour; a decoder too large for a page.
    """
    told = _told(model, dataset, binarize)
    told.update(recipe=recipe or type(model).__name__, figure=figure, decoder=description(model.decoder))
    encoder = description(model.encoder)
    for precision in PRECISIONS:
        told["encoder"] = None if precision[1] is None else encoder
        told["params"] = weights(model, *precision)
        text = _filled(f"{told['recipe']}, {dataset.name}: latent explorer", told)
        if (size := len(text.encode())) <= MOST_BYTES:
            return text
    raise ValueError(f"the page would have {size / 1e6:.1f} MB with 16 bits a weight and without the encoder, and "
                     f"{MOST_BYTES / 1e6:.0f} MB is the most: explore a model with fewer decoder weights")


def _filled(title: str, told: dict[str, Any]) -> str:
    """The template with its parts; in JSON every < is escaped, so that no text of ours can end the script."""
    pages = files("npae.lab") / "pages"
    parts = {name.upper(): (pages / f"{name}.js").read_text("utf-8") for name in ("engine", "plane", "pad", "explorer")}
    parts.update(TITLE=html.escape(title), DATA=json.dumps(told, allow_nan=False).replace("<", "\\u003c"))
    template = (pages / "explorer.html").read_text("utf-8")
    return re.sub("%(" + "|".join(parts) + ")%", lambda found: parts[found[1]], template)


def description(layer: Layer) -> dict[str, Any]:
    """A layer's config with what the engine needs beside it: the names of its parameters, its activation spelt out.

    Raises ValueError: a layer, or an activation, that is not npae's own (named).
    """
    _refuse_unknown(layer, str(layer))
    config = layer.config()
    config.update({p.name.rsplit(".", 1)[-1]: p.name for p in layer.params})
    if isinstance(layer, Sequential):
        config["layers"] = [description(child) for child in layer.layers]
    if isinstance(choice := getattr(layer, "activation", None), Activation):
        _refuse_unknown(choice, f"{type(choice).__name__} of {layer}")
        config["activation"] = choice.config()
    if isinstance(layer, TiedConvTranspose2d):
        config.update(stride=list(layer.stride), padding=layer.padding)
    return config


def _refuse_unknown(layer: Layer, what: str) -> None:
    if type(layer).__name__ not in LAYERS or not of_npae(layer):
        raise ValueError(f"the page cannot run {what}: its layers have to be npae's own, {', '.join(LAYERS)}")


def weights(model: Model, decoder: str, encoder: str | None) -> dict[str, dict[str, Any]]:
    """Every parameter as `packed` keeps it, in the decoder's dtype or the encoder's (None: left out).

    One that both nets share is stored once, as the decoder's; biases are few and stay exact.
    """
    painting = {id(p) for p in model.decoder.params}
    stored = {}
    for p in model.params:
        dtype = decoder if id(p) in painting else encoder
        if dtype is not None:
            stored[p.name] = packed(p.value, dtype if p.value.ndim > 1 else "<f4")
    return stored


def packed(values: np.ndarray, dtype: str) -> dict[str, Any]:
    """An array as JSON: {"shape", "dtype", "scale", "data"}, data being base64 of little-endian bytes.

        values = scale data,   scale = max |values| / (largest whole number of the dtype), 1 for floats and pictures

    Raises ValueError: a number that is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"an array of shape {values.shape} holds inf or not-a-number: the training has diverged")
    scale = 1.0
    if dtype in ("<i2", "|i1"):
        scale = float(np.abs(values).max()) / np.iinfo(dtype).max or 1.0
        values = np.rint(values / scale)
    data = np.ascontiguousarray(values, dtype).tobytes()
    return {"shape": list(values.shape), "dtype": dtype, "scale": scale, "data": base64.b64encode(data).decode()}


def _told(model: Model, dataset: Dataset, binarize: str) -> dict[str, Any]:
    """What the page knows beside the nets: sizes, ranges, test pictures and their codes."""
    x, y, z = test_codes(model, dataset, binarize)
    d, prior = z.shape[1], hasattr(model, "sample")
    if type(model.likelihood) not in MEANS:
        raise ValueError(f"the page does not know the mean of the likelihood {type(model.likelihood).__name__}: use "
                         f"{', '.join(kind.__name__ for kind in MEANS)}")
    shape = model.decode(z[:1], None if y is None or model.classes is None else y[:1]).shape[1:]
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise ValueError(f"the page shows grey (1 channel) or colour (3) pictures, and this model decodes to {shape}")
    shown = some_of_each(y, len(x), min(PICTURES, max(1, PICTURE_BYTES // x[0].size)))
    return {
        "dataset": dataset.name, "tests": len(dataset.test_x), "shape": list(shape), "latent": d,
        "classes": model.classes, "prior": prior, "mean": MEANS[type(model.likelihood)],
        "binarized": binarize != "none", "ranges": ranges(z, prior),
        "order": np.argsort(-z.std(axis=0), kind="stable").tolist(),
        "home": home(z, prior).tolist(),
        "points": {"z": packed(z, "<f4"), "labels": None if y is None else y.tolist()} if d == 2 else None,
        "pictures": {"x": packed(np.rint(255 * x[shown]), "|u1"), "z": packed(z[shown], "<f4"),
                     "labels": None if y is None else y[shown].tolist()},
        "drawing": drawing(x) if shape[2] == 1 and x.shape[1:] == shape else None,
    }
