"""Conv2d: every window a row, the weights one matrix, and why its backward adds (+=) where forward only reads."""
from __future__ import annotations

import numpy as np

from npae.kernels import reference
from npae.kernels.geometry import Padding
from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Constant, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import inside, total
from npae.layers import Conv2d

n, i, j, u, v, c, o, h, w, s, p, q = letters("n i j u v c o h w s p q")
n_, i_, j_, u_, v_, c_, o_ = letters("n′ i′ j′ u′ v′ c′ o′")
x, W, b, y, cols, dx, dW, db, dcols, dy = arrays("x W b y cols dx dW db dcols dy")
Shape = tuple[int, ...]
ROW, COLUMN = s * i + u - p, s * j + v - q
INDICES = ("Letters: n is the picture, h and w a pixel's row and column, i and j the window's (those of y), u and v "
           f"the tap's within the kernel, c the input channel, o the output channel, {example.WINDOW}.")


def conv2d(shape: Shape | None, kernel: int = 2, stride: int = 1, padding: Padding = "valid") -> Lesson:
    """Stride 1 without padding, so that windows overlap."""
    N, H, width, channels = example.checked_shape(shape, (2, 4, 4, 1), "Conv2d", "(N, H, W, in)")
    layer = Conv2d(channels, 2, kernel, stride=stride, padding=padding, rng=np.random.default_rng(0),
                   dtype=np.float64, kernels=reference)
    layer.W.value[...], layer.b.value[...] = example.whole(layer.W.value.shape, 4), example.halves((2,))
    picture = example.whole((N, H, width, channels), 5)
    g = layer.geometry((H, width))
    sizes = {"n": N, "h": H, "w": width, "i": g.output_size[0], "j": g.output_size[1], "u": kernel,
             "v": kernel, "c": channels, "o": 2}
    e = example.of_layer(layer, picture, sizes, letters=example.window(g))
    windows, weights = reference.im2col(picture, g), layer.W.value
    e.arrays.update(cols=windows, dcols=np.tensordot(e.arrays["dy"], weights, ([3], [3])))
    e.losses["cols"] = lambda a: float(np.sum(e.arrays["dy"] * (np.tensordot(a, weights, 3) + layer.b.value)))
    return Lesson(
        e, "a window that walks over the picture, and why its backward adds", INDICES,
        (Equation(cols[n, i, j, u, v, c], inside(x[n, ROW, COLUMN, c])),
         Equation(y[n, i, j, o], total((u, v, c), cols[n, i, j, u, v, c] * W[u, v, c, o]) + b[o])),
        "First each window is copied out of the picture and laid into a row (im2col); outside the picture stands 0. "
        "Then the layer is a dense one: each row times W. Here f is the identity; with another activation, "
        "dz = f′(y) ⊙ dy takes the place of dy below, as it does in Dense.",
        (_dW(), _db(), _dcols(), _dx()),
        (Conv2d._gradients, reference.im2col, reference.col2im, reference.conv2d, reference.conv2d_weight_grad,
         reference.conv2d_input_grad, reference.conv2d_backward), pictures=(pictures.im2col(g), pictures.strides()))


def _dW() -> Gradient:
    return Gradient(
        Equation(dW[u, v, c, o], total((n, i, j), x[n, ROW, COLUMN, c] * dy[n, i, j, o])),
        "W[u, v, c, o] stands in y[n, i, j, o] of every picture n and every window (i, j), beside the pixel that its "
        "tap meets there.",
        (Path(y[n_, i_, j_, o_], x[n_, s * i_ + u - p, s * j_ + v - q, c], ((o_, o),)),),
        "o′ is pinned to o. Pictures and windows are not: the same taps are used at every place (weights are "
        "shared), so the sum goes over n, i and j, the indices that W does not have.",
        ("dW = colsᵀ dy", "With n, i, j as one index and u, v, c as another, cols is a matrix and the layer is "
         "y = cols W + b. Then this is Dense's dW = xᵀ dy with a larger batch: each window counts as a picture."),
        (Equation(dW[u, v, c, o], total((n, i, j), cols[n, i, j, u, v, c] * dy[n, i, j, o])),),
        "It is a correlation of the picture with dy, whose entries lie s apart. With the windows laid out as rows:")


def _db() -> Gradient:
    return Gradient(
        Equation(db[o], total((n, i, j), dy[n, i, j, o])),
        "b[o] stands in y[n, i, j, o] of every picture and every window, with the factor 1.",
        (Path(y[n_, i_, j_, o_], Constant(1), ((o_, o),)),),
        "One number was copied to all places of its channel; backward of a copy is a sum over them.",
        ("db = Σ_{n, i, j} dy[n, i, j, :]", "As in Dense, each window counting as a picture."))


def _dcols() -> Gradient:
    return Gradient(
        Equation(dcols[n, i, j, u, v, c], total(o, dy[n, i, j, o] * W[u, v, c, o])),
        "On the way to x: one entry of cols stands in y[n, i, j, o] of its own window, for every channel o.",
        (Path(y[n_, i_, j_, o_], W[u, v, c, o_], ((n_, n), (i_, i), (j_, j))),),
        "Only o′ is free. This is Dense's dx = dy Wᵀ: each window's gradient by the pixels that it saw.",
        ("dcols = dy Wᵀ", "As matrices: dy has a row for each window of each picture and a column for each output "
         "channel, Wᵀ a row for each output channel and a column for each tap of each input channel."))


def _dx() -> Gradient:
    meets = ((s * i + u - p, h), (s * j + v - q, w))
    primed = ((n_, n), (c_, c), (s * i_ + u_ - p, h), (s * j_ + v_ - q, w))
    return Gradient(
        Equation(dx[n, h, w, c], total((i, j, u, v), dcols[n, i, j, u, v, c], *meets)),
        "A pixel x[n, h, w, c] was copied into cols once for every window that saw it, each time under another tap.",
        (Path(cols[n_, i_, j_, u_, v_, c_], Constant(1), primed),),
        "Forward copied the pixel, so backward adds up its copies: all (i, j, u, v) that meet at (h, w). That is "
        "col2im, and why it needs +=. With =, where windows overlap, each would overwrite what its neighbours had "
        "written, and only the last one would be left.",
        ("dx = col2im(dcols)", "im2col is linear: a matrix of zeros and ones with a row for each entry of cols and a "
         "column for each pixel. A row has one 1 (none for a zero of the padding), a column one for each copy of its "
         "pixel. col2im is its transpose, which sums over a pixel's copies."),
        (Equation(dx[n, h, w, c], total((i, j, o), dy[n, i, j, o] * W[h - s * i + p, w - s * j + q, c, o])),),
        "With dcols put in and the conditions solved for the tap, u = h − s i + p and v = w − s j + q (W is 0 "
        "outside its taps), i and j stand in W with a minus. That is a convolution of dy (its entries s apart) with W "
        "as mathematics has it. With forward's plus, which strictly speaking makes a correlation, the kernel would "
        "have to be turned around first:")
