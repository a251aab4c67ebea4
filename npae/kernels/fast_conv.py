"""Convolution and transposed convolution: the contractions of `fast_picture`, picture by picture, fused with what
stands around them.

Here the weights are laid out, scratch is taken from the workspace, and the batch is cut into a fixed number of chunks,
which `fast_conv_chunks` works through. Where there are so few channels that all taps of a pixel fit into one tile (a
head with one channel), one product makes these, and `scatter` adds them up where they belong.
"""
from __future__ import annotations

import functools

import numpy as np

from npae.kernels.fast_activation import IDENTITY, code_of
from npae.kernels.fast_conv_chunks import CHUNKS, _conv_backward, _conv_forward, _transpose_backward, _transpose_forward
from npae.kernels.fast_link import ready
from npae.kernels.fast_tile import VECTORS, lanes, widened
from npae.kernels.geometry import Geometry
from npae.kernels.workspace import Workspace


def _fit(x, W, b, size, axis, g):
    """Compiled loops do not look at bounds, so what does not fit together is refused before."""
    if (x.shape[1:] != (*size, W.shape[axis]) or W.shape[:2] != g.kernel_size or b.shape != (W.shape[5 - axis],)
            or not x.dtype == W.dtype == b.dtype or not x.flags.c_contiguous):
        raise ValueError(f"x {x.dtype} {x.shape}, W {W.dtype} {W.shape} and b {b.dtype} {b.shape} must be of one "
                         f"dtype, in C order, and fit together and to {g}")


@functools.lru_cache(maxsize=4096)
def _padded(g):
    """Rows and columns of a picture with zeros around it."""
    return g.padded_size


@functools.lru_cache(maxsize=4096)
def _margin(g):
    """Rows and columns of dy with room in front and behind for every tap of `spread`."""
    return tuple(max(o, (n - 1 + p) // s + 1) + (k - 1) // s for n, k, s, p, o in zip(*g, strict=True))


@functools.lru_cache(maxsize=4096)
def _starts(g, outs):
    """The first row of each phase (r, t) where `pack_phases` lays them one after another."""
    taps, across = ([-((r - k) // s) for r in range(s)] for k, s in zip(g.kernel_size, g.stride, strict=True))
    rows = [max(0, m) * max(0, n) * outs for m in taps for n in across]
    return np.concatenate([[0], np.cumsum(rows[:-1])]).astype(np.int64)


@functools.lru_cache(maxsize=4096)
def _twin(g):
    """The transposed convolution that a convolution of stride 1 is as well; None where there is none."""
    front = [k - 1 - p for k, p in zip(g.kernel_size, g.padding, strict=True)]
    if g.stride != (1, 1) or min(front) < 0:
        return None
    return Geometry(g.output_size, g.kernel_size, g.stride, (front[0], front[1]), g.input_size)


class _Scratch:
    """Arrays for each chunk of a batch of n pictures, from the workspace."""

    def __init__(self, n, dtype, work):
        ready(dtype)
        self.chunks, self.dtype, self.work = min(CHUNKS, n), dtype, work

    def empty(self, key, *shape, dtype=None):
        return self.work.empty(key, (self.chunks, *shape), dtype or self.dtype)

    def zeros(self, *channels):
        """What a sum without a bias begins with, for any of so many channels."""
        return np.zeros(widened(max(channels), self.dtype), self.dtype)

    def phases(self, kh, kw, c, o):
        """Room for the weights as `spread` wants them."""
        return self.work.empty("phases", (kh * kw * o, widened(c, self.dtype)), self.dtype)

    def partials(self, rows, wide, channels):
        """The weight gradient of each chunk, and its bias gradient in double precision."""
        return self.empty("dW", rows, wide), self.empty("db", channels, dtype=np.float64)

    def widening(self, key, pixels, channels, wide):
        """Room for a picture whose channels are widened; none where they are whole vectors already."""
        return self.empty(key, pixels if channels != wide else 0, wide)


def _wide_weights(W, work):
    """W as a matrix (kh kw C, O') with O' a whole number of vectors; W itself where it is that already."""
    rows, o, wide = W[..., 0].size, W.shape[3], widened(W.shape[3], W.dtype)
    if o == wide:
        return W.reshape(rows, o)
    matrix = work.empty("W", (rows, wide), W.dtype)
    matrix[:, :o], matrix[:, o:] = W.reshape(rows, o), 0
    return matrix


def _wide_bias(b, work):
    """b (O,) with zeros up to O'."""
    if b.size == widened(b.size, b.dtype):
        return b
    wide = work.empty("b", (widened(b.size, b.dtype),), b.dtype)
    wide[:b.size], wide[b.size:] = b, 0
    return wide


def _taps(W, work):
    """The weights as (in, kh kw out), for a transposed convolution with few channels out."""
    columns = W[..., 0].size
    taps = work.empty("taps", (W.shape[3], widened(columns, W.dtype)), W.dtype)
    taps[:, :columns], taps[:, columns:] = W.reshape(columns, -1).T, 0
    return taps


def _narrow(W, channels):
    """Whether all taps of a pixel with so few channels fit into one tile, which would otherwise hold one tap each."""
    return W.shape[0] * W.shape[1] * channels <= VECTORS * lanes(W.dtype)


def _as_transposed(W, g):
    """A narrow convolution of stride 1 as the transposed one with its kernel turned round; else no geometry."""
    if not _narrow(W, W.shape[3]) or _twin(g) is None:
        return W, None
    return np.ascontiguousarray(W[::-1, ::-1].transpose(0, 1, 3, 2)), _twin(g)


def conv2d_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d(x, W) + b)"""
    _fit(x, W, b, g.input_size, 2, g)
    turned, transposed = _as_transposed(W, g)
    if transposed:
        return conv2d_transpose_forward(x, turned, b, transposed, activation, out, work)
    code, alpha = code_of(activation)
    work = work or Workspace()
    out = np.empty((x.shape[0], *g.output_size, W.shape[3]), x.dtype) if out is None else out

    def plan():
        s = _Scratch(x.shape[0], x.dtype, work)
        z = s.empty("z", g.output_size[1] * widened(W.shape[3], x.dtype))
        return s.chunks, s.empty("xp", *_padded(g), x.shape[3]), z

    chunks, xp, z = work.once(("conv", x.shape, W.shape, x.dtype, g), plan)
    _conv_forward(chunks, x, _wide_weights(W, work), _wide_bias(b, work), g, max(code, IDENTITY), alpha, xp, z, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def conv2d_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(x, dz);   db += sum dz;   dx = conv2d_input_grad(dz, W)"""
    _fit(x, W, db, g.input_size, 2, g)
    turned, transposed = _as_transposed(W, g)
    if transposed:
        dturned = np.zeros_like(turned)
        conv2d_transpose_backward(x, turned, y, dy, transposed, activation, dturned, db, dx, work)
        dW += dturned.transpose(0, 1, 3, 2)[::-1, ::-1]
        return dx
    code, alpha = code_of(activation)
    dy = dy if code >= 0 else dy * activation.slope(y)
    work, c, o = work or Workspace(), x.shape[3], W.shape[3]

    def plan():
        s = _Scratch(x.shape[0], x.dtype, work)
        phases = s.phases(*W.shape)
        dW_k, db_k = s.partials(W[..., 0].size, widened(o, x.dtype), o)
        dzw = s.widening("dzw", g.output_size[0] * g.output_size[1], o, dW_k.shape[2])
        z = s.empty("dx row", max(g.input_size[1] * phases.shape[1], dW_k.shape[2]))
        return s.chunks, phases, _starts(g, o), (
            s.zeros(c, o), np.ones(1, x.dtype), s.empty("xp", *_padded(g), c), s.empty("dzp", *_margin(g), o), dzw, z,
            dW_k, db_k)

    chunks, phases, starts, scratch = work.once(("conv backward", x.shape, W.shape, x.dtype, g), plan)
    _conv_backward(chunks, x, np.ascontiguousarray(W), phases, starts, y, dy, g, max(code, IDENTITY), alpha, scratch,
                   _or_none(dx, x), dW.reshape(-1, o), db)
    return dx


def conv2d_transpose_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d_input_grad(x, W) + b)"""
    _fit(x, W, b, g.output_size, 3, g)
    code, alpha = code_of(activation)
    work = work or Workspace()
    out = np.empty((x.shape[0], *g.input_size, W.shape[2]), x.dtype) if out is None else out
    narrow = _narrow(W, W.shape[2])

    def plan():
        s = _Scratch(x.shape[0], x.dtype, work)
        sums = g.output_size[0] * g.output_size[1] if narrow else g.input_size[1]
        wide = widened(W.shape[2] * (W.shape[0] * W.shape[1] if narrow else 1), x.dtype)
        return (s.chunks, None if narrow else s.phases(*W.shape),
                np.empty(0, np.int64) if narrow else _starts(g, W.shape[3]), s.zeros(wide),
                s.empty("xp", *_margin(g), x.shape[3]), s.empty("z", 2 * sums * wide))

    chunks, weights, starts, none, xp, z = work.once(("transpose", x.shape, W.shape, x.dtype, g), plan)
    if narrow:
        weights = _taps(W, work)
    else:
        b = _wide_bias(b, work)
    _transpose_forward(chunks, np.ascontiguousarray(W), weights, starts, x, b, g, max(code, IDENTITY), alpha, none,
                       xp, z, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def conv2d_transpose_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)"""
    _fit(x, W, db, g.output_size, 3, g)
    code, alpha = code_of(activation)
    dy = dy if code >= 0 else dy * activation.slope(y)
    work, (c, o) = work or Workspace(), W.shape[2:]

    def plan():
        s, wide = _Scratch(x.shape[0], x.dtype, work), widened(o, x.dtype)
        dW_k, db_k = s.partials(W[..., 0].size, wide, c)
        xw = s.widening("xw", g.output_size[0] * g.output_size[1], o, wide)
        z = s.empty("dx row", max(g.output_size[1] * wide, c))
        return s.chunks, (s.zeros(c, o), np.ones(1, x.dtype), s.empty("dzp", *_padded(g), c), xw, z, dW_k, db_k)

    chunks, scratch = work.once(("transpose backward", x.shape, W.shape, x.dtype, g), plan)
    _transpose_backward(chunks, x, _wide_weights(W, work), y, dy, g, max(code, IDENTITY), alpha, scratch,
                        _or_none(dx, x), dW.reshape(-1, o), db)
    return dx


def _or_none(dx, x):
    """dx, or an array without pictures that tells the loop to leave it out."""
    return np.empty((0, *x.shape[1:]), x.dtype) if dx is None else dx


# ---- the three contractions on whole batches are the fused kernels without bias and bend

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
    if dy.shape != (x.shape[0], *g.output_size, dy.shape[3]):
        raise ValueError(f"dy of shape {dy.shape} does not fit x of shape {x.shape} and {g}")
    conv2d_backward(x, W, dy, dy, g, _Identity, dW, np.zeros(dy.shape[3], x.dtype))
    return dW
