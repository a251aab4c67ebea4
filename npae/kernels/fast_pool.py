"""Pooling and upsampling as plain loops over one picture; each picture of the batch is a task of its own.
Its output is written by that task alone, so that no two threads ever meet in a sum.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.fast_parallel import door, inner, launch
from npae.kernels.geometry import bilinear_taps


@inner
def _max_pool(n, x, g, y, winner):
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    for i in range(oh):
        for j in range(ow):
            for c in range(x.shape[3]):
                place, best = -1, x[n, 0, 0, c]
                for u in range(kh):
                    for v in range(kw):
                        a, b = sh * i - top + u, sw * j - left + v
                        # "not <=" and not ">": a NaN wins, and then stays (best == best fails)
                        inside = 0 <= a < h and 0 <= b < w
                        if inside and (place < 0 or (best == best and not x[n, a, b, c] <= best)):
                            place, best = u * kw + v, x[n, a, b, c]
                y[n, i, j, c] = best
                winner[n, i, j, c] = place


@door
def _max_pool_batch(pictures, *args):
    launch(_max_pool, pictures, args)


@inner
def _max_pool_grad(n, dy, winner, g, dx):
    kw, (sh, sw), (top, left), (oh, ow) = g.kernel_size[1], g.stride, g.padding, g.output_size
    dx[n] = 0
    for i in range(oh):
        for j in range(ow):
            for c in range(dy.shape[3]):
                u, v = divmod(winner[n, i, j, c], kw)
                dx[n, sh * i - top + u, sw * j - left + v, c] += dy[n, i, j, c]


@door
def _max_pool_grad_batch(pictures, *args):
    launch(_max_pool_grad, pictures, args)


@inner
def _avg_pool(n, x, g, y):
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    area = x.dtype.type(kh * kw)
    y[n] = 0
    for i in range(oh):
        for j in range(ow):
            for a in range(max(0, sh * i - top), min(h, sh * i - top + kh)):
                for b in range(max(0, sw * j - left), min(w, sw * j - left + kw)):
                    for c in range(x.shape[3]):
                        y[n, i, j, c] += x[n, a, b, c]
            for c in range(x.shape[3]):
                y[n, i, j, c] /= area


@door
def _avg_pool_batch(pictures, *args):
    launch(_avg_pool, pictures, args)


@inner
def _avg_pool_grad(n, dy, g, dx):
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    area = dx.dtype.type(kh * kw)
    dx[n] = 0
    for i in range(oh):
        for j in range(ow):
            for a in range(max(0, sh * i - top), min(h, sh * i - top + kh)):
                for b in range(max(0, sw * j - left), min(w, sw * j - left + kw)):
                    for c in range(dy.shape[3]):
                        dx[n, a, b, c] += dy[n, i, j, c] / area


@door
def _avg_pool_grad_batch(pictures, *args):
    launch(_avg_pool_grad, pictures, args)


@inner
def _nearest(n, x, fh, fw, y):
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            for c in range(x.shape[3]):
                y[n, i, j, c] = x[n, i // fh, j // fw, c]


@door
def _nearest_batch(pictures, *args):
    launch(_nearest, pictures, args)


@inner
def _nearest_grad(n, dy, fh, fw, dx):
    dx[n] = 0
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            for c in range(dy.shape[3]):
                dx[n, i // fh, j // fw, c] += dy[n, i, j, c]


@door
def _nearest_grad_batch(pictures, *args):
    launch(_nearest_grad, pictures, args)


@inner
def _bilinear(n, x, a0, a1, s, b0, b1, t, y):
    one = x.dtype.type(1)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            for c in range(x.shape[3]):
                above = (one - t[j]) * x[n, a0[i], b0[j], c] + t[j] * x[n, a0[i], b1[j], c]
                below = (one - t[j]) * x[n, a1[i], b0[j], c] + t[j] * x[n, a1[i], b1[j], c]
                y[n, i, j, c] = (one - s[i]) * above + s[i] * below


@door
def _bilinear_batch(pictures, *args):
    launch(_bilinear, pictures, args)


@inner
def _bilinear_grad(n, dy, a0, a1, s, b0, b1, t, dx):
    one = dy.dtype.type(1)
    dx[n] = 0
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            for c in range(dy.shape[3]):
                above, below = (one - s[i]) * dy[n, i, j, c], s[i] * dy[n, i, j, c]
                dx[n, a0[i], b0[j], c] += (one - t[j]) * above
                dx[n, a0[i], b1[j], c] += t[j] * above
                dx[n, a1[i], b0[j], c] += (one - t[j]) * below
                dx[n, a1[i], b1[j], c] += t[j] * below


@door
def _bilinear_grad_batch(pictures, *args):
    launch(_bilinear_grad, pictures, args)


def max_pool2d(x, g, out=None, winner=None):
    """y = the largest of each window; winner = its place u kw + v, the first one where several are equal."""
    shape = (x.shape[0], *g.output_size, x.shape[3])
    out = np.empty(shape, x.dtype) if out is None else out
    winner = np.empty(shape, np.int32) if winner is None else winner
    _max_pool_batch(len(x), x, g, out, winner)
    return out, winner


def max_pool2d_input_grad(dy, winner, g, out=None):
    """dx: each window's gradient goes to its winner alone; where windows overlap the gradients add up."""
    out = np.empty((dy.shape[0], *g.input_size, dy.shape[3]), dy.dtype) if out is None else out
    _max_pool_grad_batch(len(dy), dy, winner, g, out)
    return out


def avg_pool2d(x, g, out=None):
    """y = the sum of each window / (kh kw); zeros of the padding count."""
    out = np.empty((x.shape[0], *g.output_size, x.shape[3]), x.dtype) if out is None else out
    _avg_pool_batch(len(x), x, g, out)
    return out


def avg_pool2d_input_grad(dy, g, out=None):
    """dx: each pixel of a window gets dy / (kh kw)."""
    out = np.empty((dy.shape[0], *g.input_size, dy.shape[3]), dy.dtype) if out is None else out
    _avg_pool_grad_batch(len(dy), dy, g, out)
    return out


def _upsampled(x, factor):
    return np.empty((x.shape[0], x.shape[1] * factor[0], x.shape[2] * factor[1], x.shape[3]), x.dtype)


def _downsampled(dy, factor):
    return np.empty((dy.shape[0], dy.shape[1] // factor[0], dy.shape[2] // factor[1], dy.shape[3]), dy.dtype)


def upsample2d_nearest(x, factor, out=None):
    """y[n,i,j,c] = x[n, i // fh, j // fw, c]"""
    out = _upsampled(x, factor) if out is None else out
    _nearest_batch(len(x), x, *factor, out)
    return out


def upsample2d_nearest_input_grad(dy, factor, out=None):
    """dx[n,a,b,c] = the sum of dy over the block of pixels that x[n,a,b,c] was copied to"""
    out = _downsampled(dy, factor) if out is None else out
    _nearest_grad_batch(len(dy), dy, *factor, out)
    return out


def _taps(size, factor, dtype):
    low, high, share = bilinear_taps(size, factor)
    return low, high, share.astype(dtype)


def upsample2d_bilinear(x, factor, out=None):
    """y[n,:,:,c] = A x[n,:,:,c] B^T, four taps a pixel"""
    out = _upsampled(x, factor) if out is None else out
    rows, cols = _taps(x.shape[1], factor[0], x.dtype), _taps(x.shape[2], factor[1], x.dtype)
    _bilinear_batch(len(x), x, *rows, *cols, out)
    return out


def upsample2d_bilinear_input_grad(dy, factor, out=None):
    """dx[n,:,:,c] = A^T dy[n,:,:,c] B"""
    out = _downsampled(dy, factor) if out is None else out
    rows, cols = _taps(out.shape[1], factor[0], dy.dtype), _taps(out.shape[2], factor[1], dy.dtype)
    _bilinear_grad_batch(len(dy), dy, *rows, *cols, out)
    return out
