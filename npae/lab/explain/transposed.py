"""ConvTranspose2d and UpsampleConv2d: a convolution read backwards, and two neighbouring taps that meet one pixel."""
from __future__ import annotations

import numpy as np

from npae.kernels import reference
from npae.kernels.geometry import Padding
from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Constant, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import ConvTranspose2d, UpsampleConv2d

n, i, j, u, v, c, o, h, w, s, p = letters("n i j u v c o h w s p")
n_, i_, j_, h_, w_, o_ = letters("n′ i′ j′ h′ w′ o′")
k, l, e_, g_, k_, l_, c_, q, kh, kw = letters("k l e g k′ l′ c′ q kh kw")
x, W, b, y, V, dx, dW, db, dV, dy = arrays("x W b y V dx dW db dV dy")
Shape = tuple[int, ...]


def conv_transpose2d(shape: Shape | None, kernel: int = 2, stride: int = 1, padding: Padding = "valid") -> Lesson:
    """Stride 1 without padding: the adjoint of what `Conv2d` explains."""
    N, H, width, channels = example.checked_shape(shape, (2, 3, 3, 2), "ConvTranspose2d", "(N, H, W, in)")
    layer = ConvTranspose2d(channels, 1, kernel, stride=stride, padding=padding, rng=np.random.default_rng(0),
                            dtype=np.float64, kernels=reference)
    layer.W.value[...], layer.b.value[...] = example.whole(layer.W.value.shape, 4), example.halves((1,))
    large = layer.output_shape((H, width, channels))
    sizes = {"n": N, "i": H, "j": width, "h": large[0], "w": large[1], "u": kernel, "v": kernel,
             "c": channels, "o": 1}
    g = layer.geometry((H, width))
    e = example.of_layer(layer, example.whole((N, H, width, channels), 5), sizes,
                         letters=example.window(g))
    return Lesson(
        e, "each pixel paints its kernel, and the roles of x and y are those of a convolution, exchanged",
        "Letters: n is the picture, i and j are the row and column of x, h and w those of y, u and v the "
        f"tap's, c the input channel, o the output channel, {example.WINDOW}, as the convolution from y's pictures to "
        "x's has them. W is the weight of that convolution: its shape is (rows, columns, out, in).",
        (Equation(y[n, h, w, o], total((i, j, c), x[n, i, j, c] * W[h - s * i + p, w - s * j + q, o, c]) + b[o]),),
        "The pixel (i, j) paints the kernel, times its value, with the corner at (s i − p, s j − q); where paintings "
        "overlap they add, and what lies outside y is cut off. Seen from y, tap u = h − s i + p met the pixel (W is 0 "
        "outside its taps). This is the formula of Conv2d's dx, with x for dy, c and o exchanged, and a bias.",
        (_dx(), _dW(), _db()),
        (ConvTranspose2d._apply, ConvTranspose2d._gradients, reference.conv2d_transpose_forward,
         reference.conv2d_transpose_backward, reference.conv2d_input_grad, reference.conv2d_weight_grad,
         reference.conv2d),
        pictures=(pictures.adjoint(g),))


def _dx() -> Gradient:
    return Gradient(
        Equation(dx[n, i, j, c], total((u, v, o), dy[n, s * i + u - p, s * j + v - q, o] * W[u, v, o, c])),
        "x[n, i, j, c] has painted the pixels (s i + u − p, s j + v − q) of y, each with its tap.",
        (Path(y[n_, h_, w_, o_], W[h_ - s * i + p, w_ - s * j + q, o_, c], ((n_, n),)),),
        "n′ is pinned to n. Of all (h′, w′) only the painted ones count. Each belongs to one tap, u = h′ − s i + p "
        "and v = w′ − s j + q, so the sum may go over u and v instead. It is a convolution of dy with W: (u, v) walks "
        "over the window (i, j).",
        ("dx = conv2d(dy, W)", "A convolution is linear, y = A x with some large matrix A. Its backward for x is Aᵀ, "
         "and a transposed convolution is Aᵀ as a forward pass. The backward of Aᵀ is (Aᵀ)ᵀ = A: the convolution "
         "again."))


def _dW() -> Gradient:
    return Gradient(
        Equation(dW[u, v, o, c], total((n, i, j), x[n, i, j, c] * dy[n, s * i + u - p, s * j + v - q, o])),
        "W[u, v, o, c] has painted one pixel for each pixel (i, j) of x, in every picture, unless it was cut off.",
        (Path(y[n_, h_, w_, o_], total((i, j), x[n_, i, j, c], (s * i + u - p, h_), (s * j + v - q, w_)),
              ((o_, o),)),),
        "o′ is pinned to o. For each (h′, w′) the inner sum finds the (i, j) that painted it with this tap; together "
        "they run over all pixels of x, in all pictures (dy is 0 outside y).",
        ("dW = conv2d_weight_grad(dy, x)", "The convolution's own formula, dW = colsᵀ dy, with dy for its "
         "input and x for its gradient: dy is cut into windows, and x is what they are weighed by."))


def _db() -> Gradient:
    return Gradient(
        Equation(db[o], total((n, h, w), dy[n, h, w, o])),
        "b[o] stands in every pixel of its channel.",
        (Path(y[n_, h_, w_, o_], Constant(1), ((o_, o),)),),
        "A copy forward is a sum backward.",
        ("db = Σ_{n, h, w} dy[n, h, w, :]", "As in Conv2d, over the pixels of y."))


def upsample_conv2d(shape: Shape | None, kernel: int = 2) -> Lesson:
    """Upsampling by two and a 'same' convolution, by the folded kernel V."""
    N, H, width, channels = example.checked_shape(shape, (2, 2, 2, 1), "UpsampleConv2d", "(N, H, W, in)")
    layer = UpsampleConv2d(channels, 2, kernel, rng=np.random.default_rng(0), dtype=np.float64, kernels=reference)
    layer.W.value[...], layer.b.value[...] = example.whole(layer.W.value.shape, 4), example.halves((2,))
    sizes = {"n": N, "h": H, "w": width, "i": 2 * H, "j": 2 * width, "u": kernel, "v": kernel, "c": channels,
             "o": 2, "k": kernel + 1, "l": kernel + 1, "e": 2, "g": 2}
    g = layer.geometry((H, width))
    picture = example.whole((N, H, width, channels), 5)
    e = example.of_layer(layer, picture, sizes,
                         letters={"p": (kernel - 1) // 2, "q": g.padding[0], "kh": kernel, "kw": kernel})
    e.arrays.update(V=layer.V.copy(), dV=reference.conv2d_weight_grad(e.arrays["dy"], picture, g))
    e.losses["V"] = lambda V: float(np.sum(e.arrays["dy"] * (reference.conv2d_input_grad(picture, V, g)
                                                             + layer.b.value)))
    folded = W[kh - 1 - k + e_, kw - 1 - l + g_, c, o]
    painted = x[n, h, w, c] * V[i - 2 * h + q, j - 2 * w + q, o, c]
    direct = x[n, (i + u - p) // 2, (j + v - p) // 2, c] * W[u, v, c, o]
    return Lesson(
        e, "upsample by two, then convolve, with the two layers folded into one",
        "Letters: n is the picture, h and w are the row and column of x, i and j those of y, u and v the taps of W, k "
        "and l those of V, c the input channel, o the output channel. W has kh rows and kw columns; p zeros stand in "
        "front of the upsampled picture ('same'), and q is V's padding, kh // 2. e and g are 0 or 1. W and V are 0 "
        "outside their taps.",
        (Equation(V[k, l, o, c], total((e_, g_), folded)),
         Equation(y[n, i, j, o], total((h, w, c), painted) + b[o]),
         Equation(y[n, i, j, o], total((u, v, c), direct) + b[o])),
        "After upsampling each pixel stands twice along an axis, so two neighbouring taps of W often meet the same "
        "one and can be added beforehand: V[k] = W[kh − 1 − k] + W[kh − k] along each axis. "
        "With V it is a transposed convolution of stride 2; what it paints outside y is cut off. The last line is the "
        "same as two layers: a convolution of the upsampled picture, whose pixel (a, b) is x at (a // 2, b // 2).",
        (_dV(), _folded_dW(), _upsampled_db(), _upsampled_dx()),
        (UpsampleConv2d._folded, UpsampleConv2d._gradients, reference.conv2d_transpose_backward))


def _dV() -> Gradient:
    return Gradient(
        Equation(dV[k, l, o, c], total((n, h, w), x[n, h, w, c] * dy[n, 2 * h + k - q, 2 * w + l - q, o])),
        "On the way to W: V[k, l, o, c] has painted one pixel of y for each pixel (h, w) of x, unless it was cut off.",
        (Path(y[n_, i_, j_, o_], total((h, w), x[n_, h, w, c], (2 * h + k - q, i_), (2 * w + l - q, j_)),
              ((o_, o),)),),
        "The weight gradient of a transposed convolution with stride 2 (see ConvTranspose2d).",
        ("dV = conv2d_weight_grad(dy, x)", "The convolution's weight gradient with stride 2, dy being the large "
                                           "picture."))


def _folded_dW() -> Gradient:
    source = dV[kh - 1 - u + e_, kw - 1 - v + g_, o, c]
    direct = x[n, (i + u - p) // 2, (j + v - p) // 2, c] * dy[n, i, j, o]
    return Gradient(
        Equation(dW[u, v, c, o], total((e_, g_), source)),
        "W[u, v, c, o] was added into four taps of V: k = kh − 1 − u + e and l = kw − 1 − v + g.",
        (Path(V[k_, l_, o_, c_], total((e_, g_), Constant(1), (kh - 1 - u + e_, k_), (kw - 1 - v + g_, l_)),
              ((o_, o), (c_, c))),),
        "What was added into four places gets the sum of their four gradients.",
        ("dW = foldᵀ(dV)", "Folding is linear, a matrix F of zeros and ones, V = F W. Backward is its transpose."),
        (Equation(dW[u, v, c, o], total((n, i, j), direct)),),
        "With V a pixel of x is multiplied by (kh + 1) (kw + 1) numbers of each channel of dy, by fewer at an edge. As "
        "two layers, a convolution over the upsampled picture, it is the same gradient by 4 kh kw numbers:")


def _upsampled_db() -> Gradient:
    return Gradient(
        Equation(db[o], total((n, i, j), dy[n, i, j, o])),
        "b[o] stands in every pixel of its channel.",
        (Path(y[n_, i_, j_, o_], Constant(1), ((o_, o),)),),
        "A copy forward is a sum backward.",
        ("db = Σ_{n, i, j} dy[n, i, j, :]", "As in Conv2d."))


def _upsampled_dx() -> Gradient:
    seen = (((i + u - p) // 2, h), ((j + v - p) // 2, w))
    return Gradient(
        Equation(dx[n, h, w, c], total((k, l, o), dy[n, 2 * h + k - q, 2 * w + l - q, o] * V[k, l, o, c])),
        "x[n, h, w, c] has painted V into y with its corner at (2 h − q, 2 w − q).",
        (Path(y[n_, i_, j_, o_], V[i_ - 2 * h + q, j_ - 2 * w + q, o_, c], ((n_, n),)),),
        "n′ is pinned to n. Each painted pixel belongs to one tap of V, so the sum goes over k and l.",
        ("dx = conv2d(dy, V)", "With stride 2, as in ConvTranspose2d."),
        (Equation(dx[n, h, w, c], total((i, j, u, v, o), dy[n, i, j, o] * W[u, v, c, o], *seen)),),
        "As two layers: all windows that saw one of the pixel's four copies, and the copies added up:")
