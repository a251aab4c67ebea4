"""Convolution and transposed convolution: one picture at a time, laid out as columns that stay in the core's cache.
There a convolution is one matrix product. The batch is cut into a fixed number of chunks whose partial weight gradients
are added in order, so that any number of threads gives the same bits.
"""
from __future__ import annotations

import numpy as np
from numba import njit, prange

from npae.kernels.fast_activation import IDENTITY, PARALLEL, SERIAL, apply, code_of, times_slope
from npae.kernels.workspace import Workspace

CHUNKS = 8  # never a function of the number of threads: the order of the sums hangs on it


def packed(g):
    """A Geometry as the integer array that parallel loops can take along (they take no tuples)."""
    return np.array(g, np.int64)


@njit(**SERIAL)
def unpacked(g):
    """(h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) of a packed Geometry."""
    return (g[0, 0], g[0, 1]), (g[1, 0], g[1, 1]), (g[2, 0], g[2, 1]), (g[3, 0], g[3, 1]), (g[4, 0], g[4, 1])


@njit(**SERIAL)
def im2col(x, g, cols):
    """cols (oh ow, kh kw C) of one picture x (H, W, C); a tap row (v, c) is contiguous in both."""
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = unpacked(g)
    c, row = x.shape[2], kw * x.shape[2]
    flat, x = cols.reshape(-1), x.reshape(-1)
    to = 0
    for i in range(oh):
        for j in range(ow):
            b = sw * j - left
            first, last = max(0, -b), max(min(kw, w - b), 0)  # taps v that fall inside the picture
            for u in range(kh):
                a = sh * i - top + u
                dst = flat[to:to + row]
                if a < 0 or a >= h or first >= last:
                    dst[:] = 0
                else:
                    src = x[(a * w + b + first) * c:(a * w + b + last) * c]
                    lo, hi = first * c, last * c
                    for q in range(lo):
                        dst[q] = 0
                    for q in range(src.size):
                        dst[lo + q] = src[q]
                    for q in range(hi, row):
                        dst[q] = 0
                to += row


@njit(**SERIAL)
def col2im(cols, g, x):
    """x (H, W, C) of one picture = what im2col's adjoint makes of cols (oh ow, kh kw C)."""
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = unpacked(g)
    c, row = x.shape[2], kw * x.shape[2]
    flat, x = cols.reshape(-1), x.reshape(-1)
    x[:] = 0
    at = 0
    for i in range(oh):
        for j in range(ow):
            b = sw * j - left
            first, last = max(0, -b), max(min(kw, w - b), 0)
            for u in range(kh):
                a = sh * i - top + u
                if 0 <= a < h and first < last:
                    src = flat[at + first * c:at + last * c]
                    dst = x[(a * w + b + first) * c:(a * w + b + last) * c]
                    for q in range(src.size):
                        dst[q] += src[q]
                at += row


@njit(**SERIAL)
def add_bias(z, b):
    """z (pixels, channels) += b"""
    for r in range(z.shape[0]):
        for o in range(b.size):
            z[r, o] += b[o]


@njit(**SERIAL)
def add_column_sums(dz, db):
    """db += the sum of the rows of dz; db is double precision (50,000 float32 pixels would lose three digits)."""
    for r in range(dz.shape[0]):
        for o in range(db.size):
            db[o] += dz[r, o]


@njit(**SERIAL)
def add_to(total, part):
    """total += part for two matrices (a loop: Numba compiles the array expression ten times longer)."""
    for r in range(total.shape[0]):
        for o in range(total.shape[1]):
            total[r, o] += part[r, o]


@njit(**SERIAL)
def add_partials(partial, total):
    """total += partial[0] + partial[1] + ..., in this order."""
    for k in range(partial.shape[0]):
        add_to(total, partial[k])


# ---- one chunk of the batch, by one thread; and under it the loop that hands the chunks out

@njit(**SERIAL)
def _conv_forward_chunk(x, W2, b, g, code, alpha, cols, y):
    for m in range(x.shape[0]):
        y2 = y[m].reshape(-1, b.size)
        im2col(x[m], g, cols)
        np.dot(cols, W2, y2)
        add_bias(y2, b)
        apply(y2.reshape(-1), code, alpha)


@njit(**PARALLEL)
def _conv_forward(x, W2, b, g, code, alpha, cols, y):
    n, chunks = x.shape[0], cols.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _conv_forward_chunk(x[lo:hi], W2, b, g, code, alpha, cols[k], y[lo:hi])


@njit(**SERIAL)
def _conv_backward_chunk(x, W2, y, dy, g, code, alpha, cols, dz, dW, db, product, dx):
    dW[:] = 0
    db[:] = 0
    for m in range(x.shape[0]):
        times_slope(dz.reshape(-1), y[m].reshape(-1), dy[m].reshape(-1), code, alpha)
        add_column_sums(dz, db)
        im2col(x[m], g, cols)
        np.dot(cols.T, dz, product)
        add_to(dW, product)
        if dx.size > 0:
            np.dot(dz, W2.T, cols)
            col2im(cols, g, dx[m])


@njit(**PARALLEL)
def _conv_backward(x, W2, y, dy, g, code, alpha, cols, dz, dW, db, product, dx):
    n, chunks = x.shape[0], cols.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _conv_backward_chunk(x[lo:hi], W2, y[lo:hi], dy[lo:hi], g, code, alpha,
                             cols[k], dz[k], dW[k], db[k], product[k], dx[lo:hi])


@njit(**SERIAL)
def _transpose_forward_chunk(x, W2, b, g, code, alpha, cols, y):
    for m in range(x.shape[0]):
        np.dot(x[m].reshape(-1, W2.shape[1]), W2.T, cols)
        col2im(cols, g, y[m])
        add_bias(y[m].reshape(-1, b.size), b)
        apply(y[m].reshape(-1), code, alpha)


@njit(**PARALLEL)
def _transpose_forward(x, W2, b, g, code, alpha, cols, y):
    n, chunks = x.shape[0], cols.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _transpose_forward_chunk(x[lo:hi], W2, b, g, code, alpha, cols[k], y[lo:hi])


@njit(**SERIAL)
def _transpose_backward_chunk(x, W2, y, dy, g, code, alpha, cols, dz, dW, db, product, dx):
    dW[:] = 0
    db[:] = 0
    for m in range(x.shape[0]):
        times_slope(dz.reshape(-1), y[m].reshape(-1), dy[m].reshape(-1), code, alpha)
        add_column_sums(dz.reshape(-1, db.size), db)
        im2col(dz, g, cols)
        np.dot(cols.T, x[m].reshape(-1, W2.shape[1]), product)
        add_to(dW, product)
        if dx.size > 0:
            np.dot(cols, W2, dx[m].reshape(-1, W2.shape[1]))


@njit(**PARALLEL)
def _transpose_backward(x, W2, y, dy, g, code, alpha, cols, dz, dW, db, product, dx):
    n, chunks = x.shape[0], cols.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _transpose_backward_chunk(x[lo:hi], W2, y[lo:hi], dy[lo:hi], g, code, alpha,
                                  cols[k], dz[k], dW[k], db[k], product[k], dx[lo:hi])


# ---- the kernels: scratch from the workspace, then one parallel loop

def _columns(x, W, g, work):
    """W as the matrix (kh kw C, O) and the columns of one picture for each chunk."""
    W2 = W.reshape(-1, W.shape[3])
    chunks = min(CHUNKS, x.shape[0])
    return W2, work.empty("cols", (chunks, g.output_size[0] * g.output_size[1], W2.shape[0]), x.dtype)


def _gradient_scratch(chunks, W2, picture, channels, dtype, work):
    """dz of one picture, the partial dW and db, and the product to be added, for each chunk."""
    return (work.empty("dz", (chunks, *picture), dtype), work.empty("dW", (chunks, *W2.shape), dtype),
            work.empty("db", (chunks, channels), np.float64), work.empty("product", (chunks, *W2.shape), dtype))


def conv2d_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d(x, W) + b)"""
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], *g.output_size, W.shape[3]), x.dtype) if out is None else out
    W2, cols = _columns(x, W, g, work or Workspace())
    _conv_forward(x, W2, b, packed(g), max(code, IDENTITY), alpha, cols, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def conv2d_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(x, dz);   db += sum dz;   dx = conv2d_input_grad(dz, W)"""
    code, alpha = code_of(activation)
    work = work or Workspace()
    dy = dy if code >= 0 else dy * activation.slope(y)
    W2, cols = _columns(x, W, g, work)
    dz, dW_k, db_k, product = _gradient_scratch(len(cols), W2, (cols.shape[1], W.shape[3]), W.shape[3], x.dtype, work)
    _conv_backward(x, W2, y, dy, packed(g), max(code, IDENTITY), alpha,
                   cols, dz, dW_k, db_k, product, _or_none(dx, x))
    add_partials(dW_k, dW.reshape(W2.shape))
    db += db_k.sum(0)
    return dx


def conv2d_transpose_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d_input_grad(x, W) + b)"""
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], *g.input_size, W.shape[2]), x.dtype) if out is None else out
    W2, cols = _columns(x, W, g, work or Workspace())
    _transpose_forward(x, W2, b, packed(g), max(code, IDENTITY), alpha, cols, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def conv2d_transpose_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)"""
    code, alpha = code_of(activation)
    work = work or Workspace()
    dy = dy if code >= 0 else dy * activation.slope(y)
    W2, cols = _columns(x, W, g, work)
    dz, dW_k, db_k, product = _gradient_scratch(len(cols), W2, y.shape[1:], W.shape[2], x.dtype, work)
    _transpose_backward(x, W2, y, dy, packed(g), max(code, IDENTITY), alpha,
                        cols, dz, dW_k, db_k, product, _or_none(dx, x))
    add_partials(dW_k, dW.reshape(W2.shape))
    db += db_k.sum(0)
    return dx


def _or_none(dx, x):
    """dx, or an array without pictures that tells the loop to leave it out."""
    return np.empty((0, *x.shape[1:]), x.dtype) if dx is None else dx


# ---- the three contractions are the fused kernels without bias and bend

class _Identity:
    code = IDENTITY


def conv2d(x, W, g):
    """y[n,i,j,o] = sum_{u,v,c} W[u,v,c,o] x[n, s i + u - p, s j + v - p, c]"""
    return conv2d_forward(x, W, np.zeros(W.shape[3], x.dtype), g, _Identity)


def conv2d_input_grad(dy, W, g):
    """dx = col2im(dy W^T)"""
    return conv2d_transpose_forward(dy, W, np.zeros(W.shape[2], dy.dtype), g, _Identity)


def conv2d_weight_grad(x, dy, g):
    """dW[u,v,c,o] = sum_{n,i,j} x[n, s i + u - p, s j + v - p, c] dy[n,i,j,o]"""
    W = np.zeros((*g.kernel_size, x.shape[3], dy.shape[3]), x.dtype)
    dW = np.zeros_like(W)
    conv2d_backward(x, W, dy, dy, g, _Identity, dW, np.zeros(dy.shape[3], x.dtype))
    return dW
