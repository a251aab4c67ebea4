"""The textbook: every kernel in plain NumPy, short enough to check by eye. `fast` must give the same numbers.
Layout: x (N, H, W, C), conv weights (kh, kw, in, out), dense weights (in, out). Letters: n image, c in-channel,
o out-channel, i j output row and column, u v kernel row and column; g is a Geometry, p its padding, s its stride.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.geometry import Geometry, bilinear_taps
from npae.kernels.reference_training import (
    adam_step,
    bernoulli_nll,
    moments,
    momentum_step,
    rmsprop_step,
    sgd_step,
    squared_distance,
    squared_error,
    sum_of_squares,
)

__all__ = [
    "activate", "activate_input_grad", "adam_step", "avg_pool2d", "avg_pool2d_input_grad", "bernoulli_nll", "conv2d",
    "conv2d_backward", "conv2d_forward", "conv2d_input_grad", "conv2d_transpose_backward", "conv2d_transpose_forward",
    "conv2d_weight_grad", "dense_backward", "dense_forward", "max_pool2d", "max_pool2d_input_grad", "moments",
    "momentum_step", "rmsprop_step", "sgd_step", "squared_distance", "squared_error", "sum_of_squares",
    "upsample2d_bilinear", "upsample2d_bilinear_input_grad", "upsample2d_nearest", "upsample2d_nearest_input_grad",
]


def _windows(g: Geometry):
    """For each kernel tap (u, v): the slices of the padded picture that the tap meets as the window walks."""
    (kh, kw), (sh, sw), (oh, ow) = g.kernel_size, g.stride, g.output_size
    for u in range(kh):
        for v in range(kw):
            yield u, v, np.s_[:, u:u + sh * (oh - 1) + 1:sh, v:v + sw * (ow - 1) + 1:sw]


def im2col(x: np.ndarray, g: Geometry, fill: float = 0) -> np.ndarray:
    """Lay every window out as a row.

        cols[n,i,j,u,v,c] = x[n, s i + u - p, s j + v - p, c],   `fill` outside the picture

    Shapes: x (N, H, W, C) -> (N, oh, ow, kh, kw, C)
    """
    (h, w), (ph, pw), (top, left) = g.input_size, g.padded_size, g.padding
    padded = np.full((x.shape[0], ph, pw, x.shape[3]), fill, x.dtype)
    padded[:, top:top + h, left:left + w] = x
    cols = np.empty((x.shape[0], *g.output_size, *g.kernel_size, x.shape[3]), x.dtype)
    for u, v, met in _windows(g):
        cols[:, :, :, u, v] = padded[met]
    return cols


def col2im(cols: np.ndarray, g: Geometry) -> np.ndarray:
    """Put every row back where im2col took it from; a pixel that stood in several windows gets their sum.

        x[n,a,b,c] = sum of cols[n,i,j,u,v,c] over s i + u - p = a, s j + v - p = b      (im2col's adjoint)

    Shapes: cols (N, oh, ow, kh, kw, C) -> (N, H, W, C)
    """
    (h, w), (ph, pw), (top, left) = g.input_size, g.padded_size, g.padding
    padded = np.zeros((cols.shape[0], ph, pw, cols.shape[5]), cols.dtype)
    for u, v, met in _windows(g):
        padded[met] += cols[:, :, :, u, v]
    return padded[:, top:top + h, left:left + w]


# ---- three contractions: <conv2d(x, W), dy> = <x, conv2d_input_grad(dy, W)> = <W, conv2d_weight_grad(x, dy)>

def conv2d(x: np.ndarray, W: np.ndarray, g: Geometry) -> np.ndarray:
    """y[n,i,j,o] = sum_{u,v,c} W[u,v,c,o] x[n, s i + u - p, s j + v - p, c]

    Shapes: x (N, H, W, C), W (kh, kw, C, O) -> y (N, oh, ow, O)
    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 2
    """
    return np.tensordot(im2col(x, g), W, 3)


def conv2d_input_grad(dy: np.ndarray, W: np.ndarray, g: Geometry) -> np.ndarray:
    """dx = col2im(sum_o dy[n,i,j,o] W[u,v,c,o]): what each output asks of the pixels that it saw.

    Shapes: dy (N, oh, ow, O), W (kh, kw, C, O) -> dx (N, H, W, C)
    """
    return col2im(np.tensordot(dy, W, ([3], [3])), g)


def conv2d_weight_grad(x: np.ndarray, dy: np.ndarray, g: Geometry) -> np.ndarray:
    """dW[u,v,c,o] = sum_{n,i,j} x[n, s i + u - p, s j + v - p, c] dy[n,i,j,o]

    Shapes: x (N, H, W, C), dy (N, oh, ow, O) -> dW (kh, kw, C, O)
    """
    return np.tensordot(im2col(x, g), dy, ([0, 1, 2], [0, 1, 2]))


# ---- fused pairs: forward, and under it backward; dW and db are added to, dx is written

def conv2d_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d(x, W) + b)"""
    return _into(out, activation.f(conv2d(x, W, g) + b))


def conv2d_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(x, dz);   db += sum dz;   dx = conv2d_input_grad(dz, W)"""
    dz = dy * activation.slope(y)
    dW += conv2d_weight_grad(x, dz, g)
    db += _sum(dz, (0, 1, 2))
    return None if dx is None else _into(dx, conv2d_input_grad(dz, W, g))


def conv2d_transpose_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d_input_grad(x, W) + b); g is the convolution from y's pictures to x's, W (kh, kw, out, in)"""
    return _into(out, activation.f(conv2d_input_grad(x, W, g) + b))


def conv2d_transpose_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)"""
    dz = dy * activation.slope(y)
    dW += conv2d_weight_grad(dz, x, g)
    db += _sum(dz, (0, 1, 2))
    return None if dx is None else _into(dx, conv2d(dz, W, g))


def dense_forward(x, W, b, activation, out=None, work=None):
    """y = f(x W + b)"""
    return _into(out, activation.f(x @ W + b))


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    dz = dy * activation.slope(y)
    dW += x.T @ dz
    db += _sum(dz, 0)
    return None if dx is None else _into(dx, dz @ W.T)


def activate(x, activation, out=None):
    """y = f(x)"""
    return _into(out, activation.f(x))


def activate_input_grad(y, dy, activation, out=None):
    """dx = f'(y) dy, the slope being written as a function of the output"""
    return _into(out, dy * activation.slope(y))


# ---- pooling

def max_pool2d(x: np.ndarray, g: Geometry, out=None, winner=None):
    """y = the largest of each window; winner = its place u kw + v, the first one where several are equal.

    Zeros of the padding never win. A not-a-number wins.
    Shapes: x (N, H, W, C) -> y (N, oh, ow, C), winner likewise, int32
    """
    cols = im2col(x, g, fill=-np.inf)
    cols = cols.reshape(*cols.shape[:3], -1, x.shape[3])
    inside = im2col(np.ones((1, *g.input_size, 1)), g).reshape(1, *g.output_size, -1, 1)
    place = np.where(cols.max(3) == -np.inf, inside.argmax(3), cols.argmax(3))  # its -inf, not the padding's
    winner = _into(winner, place.astype(np.int32))
    return _into(out, np.take_along_axis(cols, winner[:, :, :, None], 3)[:, :, :, 0]), winner


def max_pool2d_input_grad(dy: np.ndarray, winner: np.ndarray, g: Geometry, out=None) -> np.ndarray:
    """dx: each window's gradient goes to its winner alone; where windows overlap the gradients add up."""
    n, oh, ow, c = dy.shape
    kh, kw = g.kernel_size
    taps = np.arange(kh * kw, dtype=winner.dtype)[:, None]
    cols = np.where(winner[:, :, :, None] == taps, dy[:, :, :, None], np.zeros((), dy.dtype))
    return _into(out, col2im(cols.reshape(n, oh, ow, kh, kw, c), g))


def avg_pool2d(x: np.ndarray, g: Geometry, out=None) -> np.ndarray:
    """y = the sum of each window / (kh kw); zeros of the padding count, so that the map is linear.

    Shapes: x (N, H, W, C) -> y (N, oh, ow, C)
    """
    kh, kw = g.kernel_size
    return _into(out, im2col(x, g).sum((3, 4)) / (kh * kw))


def avg_pool2d_input_grad(dy: np.ndarray, g: Geometry, out=None) -> np.ndarray:
    """dx: each pixel of a window gets dy / (kh kw)."""
    kh, kw = g.kernel_size
    share = (dy / (kh * kw))[:, :, :, None, None]
    return _into(out, col2im(np.broadcast_to(share, (*dy.shape[:3], kh, kw, dy.shape[3])), g))


# ---- upsampling

def upsample2d_nearest(x: np.ndarray, factor: tuple[int, int], out=None) -> np.ndarray:
    """y[n,i,j,c] = x[n, i // fh, j // fw, c]

    Shapes: x (N, H, W, C) -> y (N, H fh, W fw, C)
    """
    return _into(out, x.repeat(factor[0], 1).repeat(factor[1], 2))


def upsample2d_nearest_input_grad(dy: np.ndarray, factor: tuple[int, int], out=None) -> np.ndarray:
    """dx[n,a,b,c] = the sum of dy over the block of pixels that x[n,a,b,c] was copied to"""
    n, oh, ow, c = dy.shape
    fh, fw = factor
    return _into(out, dy.reshape(n, oh // fh, fh, ow // fw, fw, c).sum((2, 4)))


def _bilinear_matrix(size: int, factor: int, dtype) -> np.ndarray:
    """A (size factor, size) with y = A x for one row of pixels."""
    low, high, share = bilinear_taps(size, factor)
    A = np.zeros((size * factor, size), dtype)
    rows = np.arange(size * factor)
    A[rows, low] += 1 - share
    A[rows, high] += share
    return A


def upsample2d_bilinear(x: np.ndarray, factor: tuple[int, int], out=None) -> np.ndarray:
    """y[n,:,:,c] = A x[n,:,:,c] B^T with the mixing matrices of bilinear_taps

    Shapes: x (N, H, W, C) -> y (N, H fh, W fw, C)
    """
    A, B = (_bilinear_matrix(size, f, x.dtype) for size, f in zip(x.shape[1:3], factor, strict=True))
    return _into(out, np.einsum("ia,nabc,jb->nijc", A, x, B, optimize=True))


def upsample2d_bilinear_input_grad(dy: np.ndarray, factor: tuple[int, int], out=None) -> np.ndarray:
    """dx[n,:,:,c] = A^T dy[n,:,:,c] B"""
    A, B = (_bilinear_matrix(size // f, f, dy.dtype) for size, f in zip(dy.shape[1:3], factor, strict=True))
    return _into(out, np.einsum("ia,nijc,jb->nabc", A, dy, B, optimize=True))


def _sum(dz: np.ndarray, axes) -> np.ndarray:
    """Sum in double precision: 50,000 pixels of a batch would cost float32 three digits."""
    return dz.sum(axes, dtype=np.result_type(dz, np.float64))


def _into(out: np.ndarray | None, value: np.ndarray) -> np.ndarray:
    """The value in the caller's array, or as it is where the caller gave none."""
    if out is None:
        return np.ascontiguousarray(value)
    out[...] = value
    return out
