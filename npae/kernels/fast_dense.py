"""Dense layers in Numba's thread pool: each task multiplies a block of rows with BLAS on its own thread.
Two pools of threads (BLAS's and Numba's) would fight for the cores, so BLAS keeps to one thread here.
"""
from __future__ import annotations

import numpy as np
from numba import njit, prange

from npae.kernels.fast_activation import IDENTITY, PARALLEL, SERIAL, apply, code_of, times_slope
from npae.kernels.fast_conv import CHUNKS, add_bias, add_column_sums, add_to
from npae.kernels.workspace import Workspace

LEAST_ROWS = 16  # fewer rows a task would make the matrix product too thin to be fast


def _chunks(rows: int) -> int:
    """Into how many blocks of rows a product is cut: a function of its shape, never of the number of threads."""
    return max(1, min(CHUNKS, rows // LEAST_ROWS))


@njit(**SERIAL)
def _transposed(x, lo, hi, xt):
    """xt[q - lo] = x[:, q]: a block of columns made contiguous, in tiles that fit the cache."""
    for r in range(0, x.shape[0], 32):
        for q in range(lo, hi):
            for m in range(r, min(r + 32, x.shape[0])):
                xt[q, m] = x[m, q]


@njit(**SERIAL)
def _forward_rows(x, W, b, code, alpha, y):
    np.dot(x, W, y)
    add_bias(y, b)
    apply(y.reshape(-1), code, alpha)


@njit(**PARALLEL)
def _forward(x, W, b, code, alpha, chunks, y):
    n = x.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _forward_rows(x[lo:hi], W, b, code, alpha, y[lo:hi])


@njit(**SERIAL)
def _backward_rows(W, y, dy, code, alpha, dz, db, dx):
    times_slope(dz.reshape(-1), y.reshape(-1), dy.reshape(-1), code, alpha)
    db[:] = 0
    add_column_sums(dz, db)
    if dx.size > 0:
        np.dot(dz, W.T, dx)


@njit(**PARALLEL)
def _backward(W, y, dy, code, alpha, dz, db, dx):
    n, chunks = y.shape[0], db.shape[0]
    for k in prange(chunks):
        lo, hi = k * n // chunks, (k + 1) * n // chunks
        _backward_rows(W, y[lo:hi], dy[lo:hi], code, alpha, dz[lo:hi], db[k], dx[lo:hi])


@njit(**SERIAL)
def _weight_grad_rows(x, lo, hi, dz, xt, product, dW):
    _transposed(x, lo, hi, xt)
    np.dot(xt[lo:hi], dz, product[lo:hi])
    add_to(dW[lo:hi], product[lo:hi])


@njit(**PARALLEL)
def _weight_grad(x, dz, chunks, xt, product, dW):
    n = x.shape[1]
    for k in prange(chunks):
        _weight_grad_rows(x, k * n // chunks, (k + 1) * n // chunks, dz, xt, product, dW)


def dense_forward(x, W, b, activation, out=None, work=None):
    """y = f(x W + b)"""
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], W.shape[1]), x.dtype) if out is None else out
    _forward(x, W, b, max(code, IDENTITY), alpha, _chunks(x.shape[0]), out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    code, alpha = code_of(activation)
    work = work or Workspace()
    dy = dy if code >= 0 else dy * activation.slope(y)
    db_k = work.empty("db", (_chunks(x.shape[0]), y.shape[1]), np.float64)
    dz = work.empty("dz", y.shape, y.dtype)
    skip = np.empty((0, x.shape[1]), x.dtype) if dx is None else dx
    _backward(W, y, dy, max(code, IDENTITY), alpha, dz, db_k, skip)
    xt, product = work.empty("xt", x.shape[::-1], x.dtype), work.empty("product", (x.shape[1], y.shape[1]), x.dtype)
    _weight_grad(x, dz, _chunks(x.shape[1]), xt, product, dW)
    db += db_k.sum(0)
    return dx
