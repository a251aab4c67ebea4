"""Sequential: the chain rule itself, and why it is walked from the last layer to the first."""
from __future__ import annotations

import numpy as np

from npae.kernels import reference
from npae.lab.explain import example
from npae.lab.explain.algebra import Constant, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Dense, Sequential

n, i, k, o, n_, k_, o_ = letters("n i k o n′ k′ o′")
x, y, h, W1, W2, b1, b2 = arrays("x y h W1 W2 b1 b2")
dx, dy, dh, dW1, dW2, db1, db2 = arrays("dx dy dh dW1 dW2 db1 db2")
Shape = tuple[int, ...]


def sequential(shape: Shape | None) -> Lesson:
    """Two dense layers without a bend."""
    N, features = example.checked_shape(shape, (2, 3), "Sequential", "(N, in)")
    net = Sequential([Dense(size_in, 2, rng=np.random.default_rng(0), dtype=np.float64, kernels=reference)
                      for size_in in (features, 2)])
    for place, param in enumerate(net.params):
        param.value[...] = (example.halves if param.value.ndim == 1 else example.whole)(param.value.shape, 3 + place)
    picture = example.whole((N, features), 2)
    names = {"0.W": "W1", "0.b": "b1", "1.W": "W2", "1.b": "b2"}
    first, second = net.layers
    title = f"`{example.called_as(first)}` and after it `{example.called_as(second)}`"
    e = example.of_layer(net, picture, {"n": N, "i": features, "k": 2, "o": 2}, title=title, aliases=names)
    e.arrays.update(h=first.forward(picture), dh=second.backward(e.arrays["dy"]))
    e.losses["h"] = example.weighed(second, e.arrays["dy"])
    return Lesson(
        e, "y = f₂(f₁(x)), the chain rule, and why it is walked from the end",
        "Letters: n is the picture, i a feature of x, k one of h, o one of y.",
        (Equation(h[n, k], total(i, x[n, i] * W1[i, k]) + b1[k]),
         Equation(y[n, o], total(k, h[n, k] * W2[k, o]) + b2[o])),
        "Two Dense layers, h = f₁(x) and y = f₂(h). Neither knows the other: f₁ hands h on, and f₂ keeps it for its "
        "backward.",
        (_dh(), *_second(), *_first(), _dx()),
        (Sequential._forward, Sequential._backward, Dense._gradients, reference.dense_backward))


def _dh() -> Gradient:
    return Gradient(
        Equation(dh[n, k], total(o, dy[n, o] * W2[k, o])),
        "From the end: dy is known, and h stands right before it.",
        (Path(y[n_, o_], W2[k, o_], ((n_, n),)),),
        "This is all of f₂'s backward that f₁ needs. It is handed on as f₁'s upstream gradient, as if L had been "
        "made of h.",
        ("dh = dy W2ᵀ", "For f₁ the rest of the net is this one array, whatever the rest may be."))


def _second() -> tuple[Gradient, Gradient]:
    return (Gradient(
        Equation(dW2[k, o], total(n, h[n, k] * dy[n, o])), "W2 meets what f₂ was given, h.",
        (Path(y[n_, o_], h[n_, k], ((o_, o),)),), "As in Dense, with h for x: so h had to be kept.",
        ("dW2 = hᵀ dy", "This is what backward costs in memory: a Dense layer keeps its input until then.")), Gradient(
        Equation(db2[o], total(n, dy[n, o])), "b2[o] stands in every row.",
        (Path(y[n_, o_], Constant(1), ((o_, o),)),), "A copy forward is a sum backward.",
        ("db2 = Σ_n dy[n, :]", "As in Dense.")))


def _first() -> tuple[Gradient, Gradient]:
    return (Gradient(
        Equation(dW1[i, k], total(n, x[n, i] * dh[n, k])), "W1 reaches the loss through h alone.",
        (Path(h[n_, k_], x[n_, i], ((k_, k),)),), "As in Dense, with dh for dy.",
        ("dW1 = xᵀ dh", "Nothing of f₂ is left in it but dh.")), Gradient(
        Equation(db1[k], total(n, dh[n, k])), "b1[k] stands in every row of h.",
        (Path(h[n_, k_], Constant(1), ((k_, k),)),), "A copy forward is a sum backward.",
        ("db1 = Σ_n dh[n, :]", "As in Dense.")))


def _dx() -> Gradient:
    return Gradient(
        Equation(dx[n, i], total(k, dh[n, k] * W1[i, k])),
        "x reaches the loss through h alone.",
        (Path(h[n_, k_], W1[i, k_], ((n_, n),)),),
        "One layer further down, the same step again.",
        ("dx = dh W1ᵀ = (dy W2ᵀ) W1ᵀ", "The brackets matter. From the end, each step multiplies one row for each "
         "picture by a matrix. dy (W2ᵀ W1ᵀ), which begins at the other end, gives the same numbers, but multiplies "
         "two matrices first; with an activation in between it would have to do so for each picture, since the slopes "
         "would be other ones. With one scalar at the end and many inputs the walk from the end costs less. That is "
         "all that backpropagation is."),
        (Equation(dx[n, i], total((k, o), dy[n, o] * W2[k, o] * W1[i, k])),),
        "Written out, it is a sum over all paths from x[n, i] to the loss, each the product of the slopes on it:")
