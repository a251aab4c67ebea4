"""Dense layers in Numba's thread pool: each task multiplies a block of rows with BLAS on its own thread.
Two pools of threads (BLAS's and Numba's) would fight for the cores, so BLAS keeps to one thread here.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.fast_activation import IDENTITY, apply, code_of, times_slope
from npae.kernels.fast_conv import CHUNKS, add_bias, add_column_sums, add_to
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.workspace import Workspace

LEAST_ROWS = 16  # fewer rows a task would make the matrix product too thin to be fast


def _chunks(rows: int) -> int:
    """Into how many blocks of rows a product is cut: a function of its shape, never of the number of threads."""
    return max(1, min(CHUNKS, rows // LEAST_ROWS))


@inner
def _transposed(x, lo, hi, xt):
    """xt[q - lo] = x[:, q]: a block of columns made contiguous, in tiles that fit the cache."""
    for r in range(0, x.shape[0], 32):
        for q in range(lo, hi):
            for m in range(r, min(r + 32, x.shape[0])):
                xt[q, m] = x[m, q]


@inner
def _forward_rows(k, x, W, b, code, alpha, chunks, y):
    lo, hi = share(k, chunks, x.shape[0])
    np.dot(x[lo:hi], W, y[lo:hi])
    add_bias(y[lo:hi], b)
    apply(y[lo:hi].reshape(-1), code, alpha)


@door
def _forward(chunks, *args):
    launch(_forward_rows, chunks, args)


@inner
def _backward_rows(k, W, y, dy, code, alpha, dz, db, dx):
    lo, hi = share(k, db.shape[0], y.shape[0])
    times_slope(dz[lo:hi].reshape(-1), y[lo:hi].reshape(-1), dy[lo:hi].reshape(-1), code, alpha)
    db[k] = 0
    add_column_sums(dz[lo:hi], db[k])
    if dx.size > 0:
        np.dot(dz[lo:hi], W.T, dx[lo:hi])


@door
def _backward(chunks, *args):
    launch(_backward_rows, chunks, args)


@inner
def _weight_grad_rows(k, x, dz, chunks, xt, product, dW):
    lo, hi = share(k, chunks, x.shape[1])
    _transposed(x, lo, hi, xt)
    np.dot(xt[lo:hi], dz, product[lo:hi])
    add_to(dW[lo:hi], product[lo:hi])


@door
def _weight_grad(chunks, *args):
    launch(_weight_grad_rows, chunks, args)


def _fit(x, W, b):
    """Compiled loops do not look at bounds, so what does not fit together is refused before."""
    if x.shape[1:] != W.shape[:1] or b.shape != W.shape[1:] or not x.dtype == W.dtype == b.dtype:
        raise ValueError(f"x {x.dtype} {x.shape}, W {W.dtype} {W.shape} and b {b.dtype} {b.shape} must be of one dtype "
                         "and fit together")
    if not x.flags.c_contiguous:
        raise ValueError(f"x of shape {x.shape} must be in C order")


def dense_forward(x, W, b, activation, out=None, work=None):
    """y = f(x W + b)"""
    _fit(x, W, b)
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], W.shape[1]), x.dtype) if out is None else out
    chunks = _chunks(x.shape[0])
    _forward(chunks, x, W, b, max(code, IDENTITY), alpha, chunks, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    _fit(x, W, db)
    code, alpha = code_of(activation)
    work = work or Workspace()
    dy = dy if code >= 0 else dy * activation.slope(y)
    db_k = work.empty("db", (_chunks(x.shape[0]), y.shape[1]), np.float64)
    dz = work.empty("dz", y.shape, y.dtype)
    skip = np.empty((0, x.shape[1]), x.dtype) if dx is None else dx
    _backward(len(db_k), W, y, dy, max(code, IDENTITY), alpha, dz, db_k, skip)
    xt, product = work.empty("xt", x.shape[::-1], x.dtype), work.empty("product", (x.shape[1], y.shape[1]), x.dtype)
    chunks = _chunks(x.shape[1])
    _weight_grad(chunks, x, dz, chunks, xt, product, dW)
    db += db_k.sum(0)
    return dx
