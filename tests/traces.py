"""Traces of small models that the tests of the trace's page share, and what a page was told."""
import base64
import json
import re
import zlib

import numpy as np
from explorables import dense, pictures

from npae import optim, recipes
from npae.layers import Layer
from npae.trace import Trace


class Residual(Layer):
    """y = x + b(a(x)), with two layers inside that the net does not see."""

    forgetful = False

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b, self.params = a, b, (*a.params, *b.params)

    def _forward(self, x):
        self.saved = True
        return x + self.b.forward(self.a.forward(x))

    def _backward(self, dy, need_dx):
        return self.a.backward(self.b.backward(dy)) + (0 if self.forgetful else dy)

    def walk(self):
        yield from (self, *self.a.walk(), *self.b.walk())

    def set_name(self, name):
        self.name = name
        self.a.set_name(f"{name}.a")
        self.b.set_name(f"{name}.b")


def traced(model, x, y=None, seed=0):
    with Trace(model) as t:
        model.zero_grad()
        model.loss(x, y, rng=np.random.default_rng(seed))
        model.backward()
        optim.Adam(1e-3).step(model.theta, model.grad)
    return t


def of_recipe(name, n=12, shape=(28, 28, 1)):
    dataset = pictures(shape, 30)
    recipe = recipes.get(name)
    settings, _ = recipe.resolve({"latent": "6"} if name in ("weight-decay-ae", "overcomplete-ae") else {})
    model = recipe.build(settings, dataset, np.random.default_rng(1))
    x = dataset.train_x[:n] / np.float32(255)
    if settings["binarize"] != "none":
        x = np.ceil(x - np.float32(0.5))
    return traced(model, x, dataset.train_y[:n] if model.classes else None)


def of_nan():
    """A trace in which a weight that every picture meets is not a number."""
    model = dense()
    model.encoder.layers[1].W.value[0] = np.nan
    x = pictures(n=5).train_x / np.float32(255)
    x[:, 0] = 1
    with np.errstate(all="ignore"):
        return traced(model, x)


def told_by(text):
    """What stands in a page: its JSON and its bytes."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]
    blob = re.search(r'<script type="text/plain" id="maps-data">(.*?)</script>', text, re.DOTALL)[1]
    return json.loads(found), np.frombuffer(zlib.decompress(base64.b64decode(blob)), np.uint8)
