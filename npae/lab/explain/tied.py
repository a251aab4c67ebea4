"""TiedDense and TiedConvTranspose2d, each with its partner: one W in two places, two contributions to its gradient."""
from __future__ import annotations

from typing import Any

import numpy as np

from npae.kernels import reference
from npae.kernels.geometry import Padding
from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Constant, arrays, letters
from npae.lab.explain.blocks import Picture
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Conv2d, Dense, Sequential, TiedConvTranspose2d, TiedDense

n, i, o, n_, i_, o_ = letters("n i o n′ i′ o′")
j, u, v, c, h, w, s, p, q, j_, c_, h_, w_ = letters("j u v c h w s p q j′ c′ h′ w′")
x, W, y, code, b_enc, b_dec = arrays("x W y code b_enc b_dec")
dx, dW, dy, dcode, db_enc, db_dec = arrays("dx dW dy dcode db_enc db_dec")
Shape = tuple[int, ...]
ALIASES = {"0.W": "W", "0.b": "b_enc", "1.b": "b_dec"}
TWICE = ("W stands in the net twice, so the chain rule has two terms, one for each way from W to the loss. Neither "
         "layer has to know of the other: each adds its own share to the same W.grad (+=), and the sum is right.")


def _example(net: Sequential, picture: example.Array, sizes: dict[str, int],
             letters: dict[str, float]) -> example.Example:
    """The pair has run; code is what stands between them."""
    for place, param in enumerate(net.params):
        param.value[...] = (example.halves if param.value.ndim == 1 else example.whole)(param.value.shape, 3 + place)
    first, second = net.layers
    title = f"`{example.called_as(first)}` and after it its {type(second).__name__}"
    e = example.of_layer(net, picture, sizes, title=title, aliases=ALIASES, letters=letters)
    e.arrays.update(code=first.forward(picture), dcode=second.backward(e.arrays["dy"]))
    e.losses["code"] = example.weighed(second, e.arrays["dy"])
    return e


def tied_dense(shape: Shape | None) -> Lesson:
    """code = x W + b_enc,  y = code Wᵀ + b_dec"""
    N, features = example.checked_shape(shape, (2, 3), "TiedDense", "(N, in of its partner)")
    partner = Dense(features, 2, rng=np.random.default_rng(0), dtype=np.float64, kernels=reference)
    net = Sequential([partner, TiedDense(partner)])
    e = _example(net, example.whole((N, features), 2), {"n": N, "i": features, "o": 2}, {})
    return Lesson(
        e, "the transpose of a partner's W, and the two contributions to its gradient",
        "Letters: n is the picture, i a feature of x and y, o one of the code between them.",
        (Equation(code[n, o], total(i, x[n, i] * W[i, o]) + b_enc[o]),
         Equation(y[n, i], total(o, code[n, o] * W[i, o]) + b_dec[i])),
        "A Dense partner and after it the tied layer; both are linear here. The first sum goes over W's first "
        "index, the second over its second: code = x W + b_enc, y = code Wᵀ + b_dec.",
        (Gradient(Equation(dcode[n, o], total(i, dy[n, i] * W[i, o])),
                  "The tied layer comes first on the way back. code[n, o] stands in y[n, i] for every i.",
                  (Path(y[n_, i_], W[i_, o], ((n_, n),)),),
                  "Only i′ is free: the sum goes over W's first index, as in forward's x W.",
                  ("dcode = dy W", "Dense has dx = dz Wᵀ. Here the weights are Wᵀ, and (Wᵀ)ᵀ = W.")),
         Gradient(Equation(dW[i, o], total(n, x[n, i] * dcode[n, o]) + total(n, dy[n, i] * code[n, o])),
                  TWICE,
                  (Path(code[n_, o_], x[n_, i], ((o_, o),)), Path(y[n_, i_], code[n_, o], ((i_, i),))),
                  "In the second term code is held still, although it depends on W too: that way is the first term's.",
                  ("dW = xᵀ dcode + dyᵀ code", "The tied layer finds the gradient of Wᵀ, codeᵀ dy, and adds it into "
                   "the transposed view W.grad.T: so dyᵀ code lands in W.grad.")),
         Gradient(Equation(db_dec[i], total(n, dy[n, i])), "The decoder's own bias stands in every row of y.",
                  (Path(y[n_, i_], Constant(1), ((i_, i),)),), "A copy forward is a sum backward.",
                  ("db_dec = Σ_n dy[n, :]", "Biases are not tied: b_dec has a number for each feature of x, b_enc one "
                                            "for each of the code.")),
         Gradient(Equation(db_enc[o], total(n, dcode[n, o])), "The encoder's bias stands in every row of the code.",
                  (Path(code[n_, o_], Constant(1), ((o_, o),)),), "Again a sum over the pictures.",
                  ("db_enc = Σ_n dcode[n, :]", "As in Dense.")),
         Gradient(Equation(dx[n, i], total(o, dcode[n, o] * W[i, o])), "x reaches the loss through the code alone.",
                  (Path(code[n_, o_], W[i, o_], ((n_, n),)),), "Only o′ is free.",
                  ("dx = dcode Wᵀ", "Together dx = dy W Wᵀ: the pair multiplies by W Wᵀ, which is symmetric, so "
                   "backward multiplies by the same matrix as forward."))),
        (TiedDense._apply, TiedDense._gradients, reference.dense_backward),
        pictures=(pictures.contributions(("xᵀ dcode", "dyᵀ code"), e.arrays["x"].T @ e.arrays["dcode"],
                                         e.arrays["dy"].T @ e.arrays["code"]),))


def tied_conv_transpose2d(shape: Shape | None, kernel: int = 2, stride: int = 2, padding: Padding = "same") -> Lesson:
    """A Conv2d of stride 2 and its transpose."""
    N, H, width, channels = example.checked_shape(shape, (2, 4, 4, 1), "TiedConvTranspose2d",
                                                  "(N, H, W, in of its partner)")
    partner = Conv2d(channels, 2, kernel, stride=stride, padding=padding, rng=np.random.default_rng(0),
                     dtype=np.float64, kernels=reference)
    tied = TiedConvTranspose2d(partner)
    net = Sequential([partner, tied])
    g = partner.geometry((H, width))
    large = tied.geometry(g.output_size)
    if large.padding != g.padding:
        raise ValueError(f"{H} x {width} pixels become {large.input_size[0]} x {large.input_size[1]} on the way back, "
                         f"and the padding {large.padding} instead of {g.padding}: use a --shape whose rows and "
                         f"columns are multiples of the stride, {stride}")
    sizes = {"n": N, "i": g.output_size[0], "j": g.output_size[1], "h": large.input_size[0],
             "w": large.input_size[1], "u": kernel, "v": kernel, "c": channels, "o": 2}
    e = _example(net, example.whole((N, H, width, channels), 2), sizes, example.window(large))
    met, painted = x[n, s * i + u - p, s * j + v - q, c], W[h - s * i + p, w - s * j + q, c, o]
    below = dy[n, s * i + u - p, s * j + v - q, c]
    return Lesson(
        e, "the adjoint of its partner, and the two contributions to W's gradient",
        "Letters: n is the picture, h and w are the row and column of x and y, i and j those of the code, u and v the "
        f"tap's, c the channel of the pictures, o that of the code, {example.WINDOW}.",
        (Equation(code[n, i, j, o], total((u, v, c), met * W[u, v, c, o]) + b_enc[o]),
         Equation(y[n, h, w, c], total((i, j, o), code[n, i, j, o] * painted) + b_dec[c])),
        "A Conv2d partner, and after it the tied layer, a transposed convolution with the same W: code[n, i, j, :] "
        "paints into the window (i, j) that it was made of. Both are linear here.",
        (_dcode(below), _conv_dW(met, below), _conv_db_dec(), _conv_db_enc(), _conv_dx()),
        (TiedConvTranspose2d._gradients, reference.conv2d_transpose_backward, reference.conv2d_backward),
        pictures=(_two_shares(e),))


def _two_shares(e: example.Example) -> Picture:
    """Taps as rows, channels of the code as columns, of the first channel of the pictures."""
    a, (first, second) = e.arrays, e.layer.layers
    geometries = first.geometry(a["x"].shape[1:3]), second.geometry(a["code"].shape[1:3])
    pairs = (a["x"], a["dcode"]), (a["dy"], a["code"])
    shares = [reference.conv2d_weight_grad(large, small, g)[:, :, 0].reshape(-1, first.out_channels)
              for (large, small), g in zip(pairs, geometries, strict=True)]
    return pictures.contributions(("of x and dcode", "of dy and code"), *shares)


def _dcode(below: Any) -> Gradient:
    return Gradient(
        Equation(dcode[n, i, j, o], total((u, v, c), below * W[u, v, c, o])),
        "The tied layer comes first on the way back. code[n, i, j, o] has painted W into its window of y.",
        (Path(y[n_, h_, w_, c_], W[h_ - s * i + p, w_ - s * j + q, c_, o], ((n_, n),)),),
        "n′ is pinned to n. Each painted pixel belongs to one tap, so the sum goes over u and v.",
        ("dcode = conv2d(dy, W)", "The transpose of the transpose: the partner's own convolution, without its bias."))


def _conv_dW(met: Any, below: Any) -> Gradient:
    return Gradient(
        Equation(dW[u, v, c, o],
                 total((n, i, j), met * dcode[n, i, j, o]) + total((n, i, j), below * code[n, i, j, o])),
        TWICE,
        (Path(code[n_, i_, j_, o_], x[n_, s * i_ + u - p, s * j_ + v - q, c], ((o_, o),)),
         Path(y[n_, h_, w_, c_], total((i, j), code[n_, i, j, o], (s * i + u - p, h_), (s * j + v - q, w_)),
              ((c_, c),))),
        "Both terms have one form: x or dy cut into windows, each weighed by its number in dcode or code.",
        ("dW = conv2d_weight_grad(x, dcode) + conv2d_weight_grad(dy, code)",
         "The first is the partner's, the second the tied layer's. In the partner the input is cut into windows and "
         "the gradient weighs them; in the tied layer it is the other way round."))


def _conv_db_dec() -> Gradient:
    return Gradient(
        Equation(db_dec[c], total((n, h, w), dy[n, h, w, c])), "The decoder's own bias stands in every pixel of y.",
        (Path(y[n_, h_, w_, c_], Constant(1), ((c_, c),)),), "A copy forward is a sum backward.",
        ("db_dec = Σ_{n, h, w} dy[n, h, w, :]", "Biases are not tied: b_dec has a number for each channel of y, b_enc "
                                                "one for each of the code."))


def _conv_db_enc() -> Gradient:
    return Gradient(
        Equation(db_enc[o], total((n, i, j), dcode[n, i, j, o])), "The encoder's bias stands in every pixel of the "
                                                                  "code.",
        (Path(code[n_, i_, j_, o_], Constant(1), ((o_, o),)),), "Again a sum over pictures and places.",
        ("db_enc = Σ_{n, i, j} dcode[n, i, j, :]", "As in Conv2d."))


def _conv_dx() -> Gradient:
    return Gradient(
        Equation(dx[n, h, w, c], total((i, j, o), dcode[n, i, j, o] * W[h - s * i + p, w - s * j + q, c, o])),
        "x reaches the loss through the code alone, by the windows that saw it.",
        (Path(code[n_, i_, j_, o_], W[h - s * i_ + p, w - s * j_ + q, c, o_], ((n_, n),)),),
        "n′ is pinned to n. Windows (i, j) that did not see the pixel ask for a tap outside W, which is 0. Where "
        "windows do not overlap one (i, j) at most is left for each pixel, and the sum goes over o.",
        ("dx = conv2d_input_grad(dcode, W)", "What the tied layer does forward, the partner does backward."))
