"""Layers that move or shift numbers and change none of them: Flatten, Reshape, Shift."""
from __future__ import annotations

from npae.lab.explain import example
from npae.lab.explain.algebra import Constant, Letter, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Flatten, Reshape, Shift

n, i, h, w, c, k, r, q = letters("n i h w c k r q")
n_, i_, k_, r_, q_ = letters("n′ i′ k′ r′ q′")
width, C, columns = Letter("width"), Letter("C"), Letter("columns")
x, y, dx, dy, offset = arrays("x y dx dy offset")
Shape = tuple[int, ...]
MOVED = ("A matrix that only moves numbers is a permutation, and the transpose of a permutation is its inverse: "
         "backward is the way back.")


def flatten(shape: Shape | None) -> Lesson:
    """y = each picture as one row."""
    N, H, wide, channels = example.checked_shape(shape, (2, 2, 3, 2), "Flatten", "(N, H, W, C)")
    sizes = {"n": N, "h": H, "w": wide, "c": channels, "k": H * wide * channels}
    e = example.of_layer(Flatten(), example.whole((N, H, wide, channels), 5), sizes,
                         letters={"width": wide, "C": channels})
    place = (h * width + w) * C + c
    return Lesson(
        e, "a picture as one row of numbers",
        "Letters: n is the picture, h, w and c a pixel's row, column and channel, k the place in the row; width is "
        "that of the picture, C the number of channels.",
        (Equation(y[n, k], total((h, w, c), x[n, h, w, c], (place, k))),),
        "Row by row, and the channels of a pixel beside each other (C order). Of the sum one term is left: each "
        "number has one place.",
        (Gradient(Equation(dx[n, h, w, c], dy[n, place]),
                  "x[n, h, w, c] stands at one place of y.",
                  (Path(y[n_, k_], Constant(1), ((n_, n), (place, k_))),),
                  "Of the sum one term is left, with the factor 1.",
                  ("dx = dy in the shape of x", MOVED)),),
        (Reshape._forward, Reshape._backward))


def reshape(shape: Shape | None) -> Lesson:
    """y = the numbers of x as a small matrix a picture."""
    N, features = example.checked_shape(shape, (2, 6), "Reshape", "(N, features)")
    rows = next((d for d in range(2, features) if features % d == 0), 1)
    sizes = {"n": N, "i": features, "r": rows, "q": features // rows}
    e = example.of_layer(Reshape((rows, features // rows)), example.whole((N, features), 5), sizes,
                         letters={"columns": features // rows})
    return Lesson(
        e, "the same numbers in another shape",
        "Letters: n is the picture, i the place in x, r and q the row and column of y, columns the number of "
        "its columns.",
        (Equation(y[n, r, q], x[n, r * columns + q]),),
        "In C order: the last index runs fastest.",
        (Gradient(Equation(dx[n, i], total((r, q), dy[n, r, q], (r * columns + q, i))),
                  "x[n, i] stands at one place of y.",
                  (Path(y[n_, r_, q_], Constant(1), ((n_, n), (r_ * columns + q_, i))),),
                  "Of the sum one term is left, with the factor 1.",
                  ("dx = dy in the shape of x", MOVED)),),
        (Reshape._forward, Reshape._backward))


def shift(shape: Shape | None) -> Lesson:
    """y = x + offset"""
    N, features = example.checked_shape(shape, (2, 3), "Shift", "(N, features)")
    layer = Shift(example.whole((features,), 6))
    e = example.of_layer(layer, example.whole((N, features), 5), {"n": N, "i": features}, given=("x", "offset", "dy"))
    e.arrays["offset"] = layer.offset
    return Lesson(
        e, "a constant that is added, which no gradient sees",
        "Letters: n is the picture, i the feature. The offset is the same for all pictures.",
        (Equation(y[n, i], x[n, i] + offset[i]),),
        "The offset (the mean picture, say) is not trained: it is no Param and has no gradient.",
        (Gradient(Equation(dx[n, i], dy[n, i]),
                  "x[n, i] stands in y[n, i] alone, with the factor 1.",
                  (Path(y[n_, i_], Constant(1), ((n_, n), (i_, i))),),
                  "Of the sum one term is left. A constant that is added does not change a slope.",
                  ("dx = dy", "The Jacobian of x + offset is the identity. If the offset were trained, its gradient "
                   "would be that of a bias: Σ_n dy[n, :].")),),
        (Shift._forward, Shift._backward))
