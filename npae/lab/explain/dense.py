"""Dense: where the transposes come from."""
from __future__ import annotations

import numpy as np

from npae.kernels import reference
from npae.lab.explain import example
from npae.lab.explain.algebra import Constant, apply, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Dense

n, i, o, n_, o_ = letters("n i o n′ o′")
x, W, b, z, y, dx, dW, db, dz, dy, slope = arrays("x W b z y dx dW db dz dy f′")
Shape = tuple[int, ...]


def dense(shape: Shape | None) -> Lesson:
    """y = f(x W + b), with a ReLU, so that the way through f is seen."""
    N, features = example.checked_shape(shape, (2, 3), "Dense", "(N, in)")
    layer = Dense(features, 2, activation="relu", rng=np.random.default_rng(0), dtype=np.float64, kernels=reference)
    layer.b.value[...] = example.halves((2,))
    picture = example.whole((N, features), 2)
    layer.W.value[...] = example.first(lambda seed: example.whole((features, 2), seed),
                                       lambda W: len(np.unique(picture @ W + layer.b.value > 0)) == 2)
    z_value = picture @ layer.W.value + layer.b.value
    e = example.of_layer(layer, picture, {"n": N, "i": features, "o": 2})
    f = layer.activation
    e.arrays.update({"z": z_value, "f′": f.slope(e.arrays["y"]), "dz": e.arrays["dy"] * f.slope(e.arrays["y"])})
    e.losses["z"] = lambda z: float(np.sum(e.arrays["dy"] * f.f(z)))
    return Lesson(
        e, "y = f(x W + b), and where its transposes come from",
        "Letters: n is the picture, i the input feature, o the output feature; N, in and out are their numbers.",
        (Equation(z[n, o], total(i, x[n, i] * W[i, o]) + b[o]), Equation(y[n, o], apply("max", z[n, o], 0)),
         Equation(slope[n, o], apply("step", y[n, o]))),
        "A product of two matrices, a bias for each column, and the activation f, here ReLU, number by number. f′ is "
        "f's slope at z, which backward will need: step(t) is 1 for t > 0, else 0. It is written in y, so that y is "
        "all that has to be kept of the activation.",
        (_dz(), _dW(), _db(), _dx()),
        (Dense._apply, Dense._gradients, reference.dense_forward, reference.dense_backward))


def _dz() -> Gradient:
    return Gradient(
        Equation(dz[n, o], slope[n, o] * dy[n, o]),
        "First through the activation. z[n, o] reaches the loss through y[n, o] alone.",
        (Path(y[n_, o_], slope[n, o], ((n_, n), (o_, o))),),
        "Of the two sums a single term is left: nothing is mixed, each number is multiplied by the slope at its "
        "place.",
        ("dz = f′(y) ⊙ dy", "Number by number (⊙), no matrix: the Jacobian of f is diagonal."))


def _dW() -> Gradient:
    return Gradient(
        Equation(dW[i, o], total(n, x[n, i] * dz[n, o])),
        "W[i, o] stands in z[n, o] of every picture n, each time beside x[n, i].",
        (Path(z[n_, o_], x[n_, i], ((o_, o),)),),
        "o′ is pinned to o, since a weight serves one column only. n′ is not: all pictures use the same weight, so "
        "their shares are added up. This is the one sum that is left, over the index that W does not have.",
        ("dW = xᵀ dz", "A matrix product sums over the inner pair of indices, which here has to be n. In x, n comes "
         "first; it comes last in xᵀ. That is where the transpose comes from: (in, N) times (N, out) is (in, out), "
         "the shape of W. In the code the gradient is added to W.grad (+=): another use of the same W may have put "
         "its share there already."))


def _db() -> Gradient:
    return Gradient(
        Equation(db[o], total(n, dz[n, o])),
        "b[o] stands in z[n, o] of every picture n, with the factor 1.",
        (Path(z[n_, o_], Constant(1), ((o_, o),)),),
        "Forward copied b into every row (broadcasting). Backward of a copy is a sum: over n, the index that b "
        "does not have.",
        ("db = Σ_n dz[n, :]", "A row of N ones times dz, as in dW = xᵀ dz: the bias is a weight whose input is "
         "always 1."))


def _dx() -> Gradient:
    return Gradient(
        Equation(dx[n, i], total(o, dz[n, o] * W[i, o])),
        "x[n, i] stands in z[n, o] of its own picture, for every column o, each time beside W[i, o].",
        (Path(z[n_, o_], W[i, o_], ((n_, n),)),),
        "n′ is pinned to n: pictures do not meet in this layer. o′ is free, since one input feeds all outputs, and "
        "the gradients of all of them are added up.",
        ("dx = dz Wᵀ", "The inner index has to be o. It comes last in dz, but last in W too; in Wᵀ it comes first. "
         "(N, out) times (out, in) is (N, in), the shape of x."))
