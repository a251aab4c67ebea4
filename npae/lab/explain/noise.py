"""Noise layers: what is drawn is a constant of the chain rule."""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.lab.explain import example
from npae.lab.explain.algebra import Constant, Expr, Letter, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.layers import Dropout, GaussianNoise, MaskingNoise
from npae.layers.noise import _Noise

n, i, n_, i_ = letters("n i n′ i′")
x, y, dx, dy, m, eps = arrays("x y dx dy m eps")
amount = Letter("amount")
Shape = tuple[int, ...]
SEED = 4
KEPT = ("m does not depend on x, so it is a constant here. Forward keeps it, since backward has to use the same draw: "
        "with a new one it would be the gradient of another function.")


def _noisy(layer: _Noise, shape: Shape | None, name: str, idea: str, drawn: str, scale: Expr, right: Expr,
           gradient: Expr, matrix: str, words: str, why: str = KEPT) -> Lesson:
    N, features = example.checked_shape(shape, (2, 4), name, "(N, features)")
    picture = example.whole((N, features), 5)
    e = example.of_layer(layer, picture, {"n": N, "i": features}, noise=SEED, given=("x", drawn, "dy"),
                         letters={"amount": layer.amount})
    kept: Any = layer.saved[0]
    e.arrays[drawn] = (kept != 0).astype(np.float64) if drawn == "m" else (e.arrays["y"] - picture) / layer.amount
    return Lesson(
        e, idea, f"Letters: n is the picture, i the feature, {drawn} what was drawn, amount the layer's setting.",
        (Equation(y[n, i], right),), words,
        (Gradient(Equation(dx[n, i], gradient), "x[n, i] stands in y[n, i] and nowhere else.",
                  (Path(y[n_, i_], scale, ((n_, n), (i_, i))),), f"Of the sum one term is left. {why}",
                  (matrix, "Number by number: a diagonal Jacobian.")),),
        (type(layer)._draw, _Noise._forward, _Noise._backward))


def gaussian_noise(shape: Shape | None) -> Lesson:
    """y = x + amount eps"""
    return _noisy(GaussianNoise(0.5), shape, "GaussianNoise", "noise that is added leaves the gradient alone", "eps",
                  Constant(1), x[n, i] + amount * eps[n, i], dy[n, i], "dx = dy",
                  "eps ~ N(0, 1), one draw for each number; amount is the standard deviation of the noise. Without a "
                  "generator nothing is added.",
                  "eps does not depend on x, so it is a constant here, and a constant that is added does not change "
                  "a slope. Nothing has to be kept for backward.")


def masking_noise(shape: Shape | None) -> Lesson:
    """y = m x"""
    return _noisy(MaskingNoise(0.5), shape, "MaskingNoise", "what is blotted out gets no gradient", "m", m[n, i],
                  m[n, i] * x[n, i], m[n, i] * dy[n, i], "dx = m ⊙ dy",
                  "m is 0 with probability `amount`, else 1, one draw for each number. Without a generator y is x.")


def dropout(shape: Shape | None) -> Lesson:
    """y = m x / (1 − amount)"""
    return _noisy(Dropout(0.5), shape, "Dropout", "units left out at random, the others scaled up to keep the mean",
                  "m", m[n, i] / (1 - amount), m[n, i] * x[n, i] / (1 - amount),
                  m[n, i] * dy[n, i] / (1 - amount), "dx = m ⊙ dy / (1 − amount)",
                  "m is 0 with probability `amount`, else 1. Its mean is 1 − amount, so the division makes the mean "
                  "of y over the draws x, which is what y is without a generator; the gradient is scaled alike.")
