"""MaxPool2d, AvgPool2d and Upsample2d: one number from several, and several from one."""
from __future__ import annotations

import numpy as np

from npae.kernels import reference
from npae.kernels.geometry import Padding
from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Constant, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import AvgPool2d, MaxPool2d, Upsample2d

n, i, j, u, v, c, h, w, s, p, q, k, f = letters("n i j u v c h w s p q k f")
n_, i_, j_, c_ = letters("n′ i′ j′ c′")
x, y, dx, dy, row, column, A, B = arrays("x y dx dy row column A B")
Shape = tuple[int, ...]
INDICES = ("Letters: n is the picture, h and w a pixel's row and column, i and j those of y, u and v the place within "
           f"the window, c the channel, {example.WINDOW}.")


def _sizes(shape: Shape, size: tuple[int, int], kernel: int = 2) -> dict[str, int]:
    (N, H, width, channels), (rows, columns) = shape, size
    return {"n": N, "h": H, "w": width, "c": channels, "i": rows, "j": columns, "u": kernel, "v": kernel}


def max_pool2d(shape: Shape | None, kernel: int = 2, stride: int = 1, padding: Padding = 0) -> Lesson:
    """Windows of 2 x 2 in steps of 1, so that they overlap."""
    shape = example.checked_shape(shape, (2, 4, 4, 1), "MaxPool2d", "(N, H, W, C)")
    layer = MaxPool2d(kernel, stride=stride, padding=padding, kernels=reference)
    g = layer.geometry(shape[1:3])
    e = example.of_layer(layer, example.distinct(shape), _sizes(shape, g.output_size, kernel),
                         letters=example.window(g))
    winner = layer.saved[2]
    above, left = (stride * np.arange(size) - p for size, p in zip(g.output_size, g.padding, strict=True))
    e.arrays.update(row=winner // kernel + above[:, None, None], column=winner % kernel + left[:, None])
    wins = ((row[n, i, j, c], h), (column[n, i, j, c], w))
    primed = ((n_, n), (c_, c), (row[n_, i_, j_, c_], h), (column[n_, i_, j_, c_], w))
    return Lesson(
        e, "the largest number of each window, and how its gradient finds the way back", INDICES,
        (Equation(y[n, i, j, c], x[n, row[n, i, j, c], column[n, i, j, c], c]),),
        "Window (i, j) covers the rows s i + u − p and the columns s j + v − q. Its largest number, the winner, stands "
        "at (row, column) of x; forward remembers the (u, v) that it has in the window. Of several equal ones the "
        "first wins. Zeros of the padding never win.",
        (Gradient(
            Equation(dx[n, h, w, c], total((i, j), dy[n, i, j, c], *wins)),
            "x[n, h, w, c] stands in y[n, i, j, c] if it is the winner of window (i, j), and nowhere else.",
            (Path(y[n_, i_, j_, c_], Constant(1), primed),),
            "A small step of x does not change who wins (unless two are equal: a kink). So the winner's slope is 1 "
            "and that of all others 0. A pixel may win several windows where they overlap; their gradients "
            "are added up. A pixel that won nothing gets 0. (With a stride of the window's size "
            "nothing overlaps, and the sum has one term at most.)",
            ("dx = Rᵀ dy", "With the winners held, y = R x for a matrix R that has a single 1 in each row, in the "
             "winner's column: the gradient is routed. The next forward may have another R.")),),
        (MaxPool2d._forward, MaxPool2d._backward, reference.max_pool2d, reference.max_pool2d_input_grad),
        pictures=(pictures.routing(e.arrays), pictures.strides()), besides=("row", "column"))


def avg_pool2d(shape: Shape | None, kernel: int = 2, stride: int = 1, padding: Padding = 0) -> Lesson:
    """Windows of 2 x 2 in steps of 1, so that they overlap."""
    shape = example.checked_shape(shape, (2, 4, 4, 1), "AvgPool2d", "(N, H, W, C)")
    layer = AvgPool2d(kernel, stride=stride, padding=padding, kernels=reference)
    g = layer.geometry(shape[1:3])
    e = example.of_layer(layer, example.whole(shape, 5), _sizes(shape, g.output_size, kernel),
                         letters={**example.window(g), "k": kernel * kernel})
    meets = ((s * i + u - p, h), (s * j + v - q, w))
    inner = total((u, v), 1 / k, (s * i_ + u - p, h), (s * j_ + v - q, w))
    return Lesson(
        e, "the mean of each window, shared out evenly on the way back", f"{INDICES} k is the number of places in a "
        "window.",
        (Equation(y[n, i, j, c], total((u, v), x[n, s * i + u - p, s * j + v - q, c] / k)),),
        "A convolution of each channel by itself, all of its weights being 1/k. Zeros of the padding count.",
        (Gradient(
            Equation(dx[n, h, w, c], total((i, j, u, v), dy[n, i, j, c] / k, *meets)),
            "x[n, h, w, c] stands in y[n, i, j, c] of every window that covers it, each time with the factor 1/k.",
            (Path(y[n_, i_, j_, c_], inner, ((n_, n), (c_, c))),),
            "The windows that cover (h, w) are those with a place (u, v) for it. Each gives an even share of its "
            "gradient; where windows overlap the shares add up.",
            ("dx = Mᵀ dy", "y = M x with a matrix M that holds 1/k wherever a window covers a pixel. In the code: the "
             "share is spread over the window, and col2im adds up.")),),
        (AvgPool2d._forward, AvgPool2d._backward, reference.avg_pool2d, reference.avg_pool2d_input_grad,
         reference.col2im),
        pictures=(pictures.strides(),))


def upsample2d(shape: Shape | None) -> Lesson:
    """Nearest: each pixel is copied."""
    shape = example.checked_shape(shape, (2, 2, 2, 1), "Upsample2d", "(N, H, W, C)")
    layer = Upsample2d(2, kernels=reference)
    sizes = _sizes(shape, (2 * shape[1], 2 * shape[2]))
    e = example.of_layer(layer, example.whole(shape, 5), sizes, letters={"f": 2})
    return Lesson(
        e, "each pixel is copied into a block, and hears from all of its copies",
        "Letters: n is the picture, h and w the row and column of x, i and j those of y, c the channel, f the factor.",
        (Equation(y[n, i, j, c], x[n, i // f, j // f, c]),),
        "// divides and rounds down: the pixel whose block (i, j) lies in.",
        (Gradient(
            Equation(dx[n, h, w, c], total((i, j), dy[n, i, j, c], (i // f, h), (j // f, w))),
            "x[n, h, w, c] stands in all pixels of its block, with the factor 1.",
            (Path(y[n_, i_, j_, c_], Constant(1), ((n_, n), (c_, c), (i_ // f, h), (j_ // f, w))),),
            "A copy forward is a sum backward: over the f f pixels of the block. (Not their mean: a step of the pixel "
            "moves every copy by the whole step.)",
            ("dx = Uᵀ dy", "y = U x with a matrix U that has a single 1 in each row; each of its columns has f f "
             "ones, over which the transpose sums. In the code: a reshape that gives the block axes of its "
             "own.")),),
        (Upsample2d._forward, Upsample2d._backward, reference.upsample2d_nearest,
         reference.upsample2d_nearest_input_grad))


def upsample2d_bilinear(shape: Shape | None) -> Lesson:
    """Bilinear: each pixel is mixed from its neighbours."""
    shape = example.checked_shape(shape, (2, 2, 2, 1), "Upsample2d bilinear", "(N, H, W, C)")
    layer = Upsample2d(2, mode="bilinear", kernels=reference)
    sizes = _sizes(shape, (2 * shape[1], 2 * shape[2]))
    e = example.of_layer(layer, example.whole(shape, 5), sizes)
    mixing = [reference._bilinear_matrix(size, 2, np.float64) for size in shape[1:3]]
    e.arrays.update(A=mixing[0], B=mixing[1])
    return Lesson(
        e, "each pixel is mixed from its neighbours, and gives the gradient back in the same shares",
        "Letters: n is the picture, h and w the row and column of x, i and j those of y, c the channel. A[i, h] is "
        "the share of row h in row i of y, B[j, w] that of column w in column j.",
        (Equation(y[n, i, j, c], total((h, w), A[i, h] * x[n, h, w, c] * B[j, w])),),
        "Rows are mixed by A and columns by B. For one pixel of y at most two rows and two columns take part; all "
        "other shares are 0, and those of the pixels that take part, A[i, h] B[j, w], add up to 1.",
        (Gradient(
            Equation(dx[n, h, w, c], total((i, j), A[i, h] * dy[n, i, j, c] * B[j, w])),
            "x[n, h, w, c] stands in y[n, i, j, c] with the factor A[i, h] B[j, w].",
            (Path(y[n_, i_, j_, c_], A[i_, h] * B[j_, w], ((n_, n), (c_, c))),),
            "i′ and j′ are free: the sum goes over the first index of A and B now, where forward summed over the "
            "second.",
            ("dx[n, :, :, c] = Aᵀ dy[n, :, :, c] B", "y = A x Bᵀ for each channel. Backward sums over the first "
             "index of each: so A is transposed, and B, which was transposed in forward, is not.")),),
        (Upsample2d._backward, reference._bilinear_matrix, reference.upsample2d_bilinear,
         reference.upsample2d_bilinear_input_grad), besides=("A", "B"))
