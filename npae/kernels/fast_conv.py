"""Convolution and transposed convolution, picture by picture, read in place: columns are not laid out.

Why it is fast. In a zero-padded NHWC picture the window (v, c) of one kernel row is contiguous, so a row of outputs is
a sum of kh short matrix products, which `fast_tile.product` keeps in registers. The contractions are three such sums:
    convolve    y[i, j, :]       = sum over u, (v, c) of x[s i + u, s j + v, c] W[u, v, c, :]
    correlate   dW[u, (v, c), :] = sum over i, j      of x[s i + u, s j + v, c] dy[i, j, :]
    spread      dx[a, b, :]      = sum over the taps that meet (a, b), the same for one phase (a mod s, b mod s)
The batch is cut into a fixed number of chunks whose partial weight gradients are added in order, so that any number of
threads gives the same bits. Channels on the right of a product are widened with zeros to whole vectors; where there
are so few that all taps of a pixel fit into one vector (a head with one channel), one product makes these, and
`scatter` adds them up where they belong.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.fast_activation import IDENTITY, apply, code_of, times_slope
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.fast_tile import lanes, product, ready, widened
from npae.kernels.geometry import Geometry
from npae.kernels.workspace import Workspace

CHUNKS = 8  # never a function of the number of threads: the order of the sums hangs on it


@inner
def place(x, top, left, canvas):
    """Copy the picture x (H, W, C) into a larger one (H', W', C') at (top, left); the rest of it is as it was."""
    h, w, c = x.shape
    if c == canvas.shape[2]:
        x2 = x.reshape(h, w * c)
        canvas2 = canvas.reshape(canvas.shape[0], -1)
        for i in range(h):
            for q in range(w * c):
                canvas2[top + i, left * c + q] = x2[i, q]
    else:
        for i in range(h):
            for j in range(w):
                for k in range(c):
                    canvas[top + i, left + j, k] = x[i, j, k]


@inner
def take(wide, narrow):
    """narrow (rows, C) = the first C columns of wide (rows, C')."""
    for r in range(narrow.shape[0]):
        for c in range(narrow.shape[1]):
            narrow[r, c] = wide[r, c]


@inner
def add_bias(z, b):
    """z (pixels, channels) += b"""
    for r in range(z.shape[0]):
        for o in range(b.size):
            z[r, o] += b[o]


@inner
def add_column_sums(dz, db):
    """db += the sum of the rows of dz; db is double precision (50,000 float32 pixels would lose three digits)."""
    for r in range(dz.shape[0]):
        for o in range(db.size):
            db[o] += dz[r, o]


@inner
def add_to(total, part):
    """total += part for two matrices (a loop: Numba compiles the array expression ten times longer)."""
    for r in range(total.shape[0]):
        for o in range(total.shape[1]):
            total[r, o] += part[r, o]


@door
def add_partials(partial, total):
    """total (rows, O) += partial[0] + partial[1] + ..., in this order; partial (chunks, rows, O') may be wider."""
    for k in range(partial.shape[0]):
        add_to(total, partial[k])


# ---- the three contractions on one picture

@inner
def convolve(x, W, g, y):
    """y (oh ow, O') of a padded picture x (H', W', C) with W (kh kw C, O')."""
    (kh, kw), (sh, sw), (oh, ow) = g.kernel_size, g.stride, g.output_size
    row, c, o = x.shape[1] * x.shape[2], x.shape[2], W.shape[1]
    for i in range(oh):
        product(ow, o, x, i * sh * row, row, sw * c, 1, W, 0, kw * c * o, o, y, i * ow * o, o, kh, kw * c, 0)


@inner
def correlate(x, dy, g, dW):
    """dW (kh kw C, O') += what the padded picture x (H', W', C) and dy (oh ow, O') say of the weights."""
    (kh, kw), (sh, sw), (oh, ow) = g.kernel_size, g.stride, g.output_size
    row, c, o = x.shape[1] * x.shape[2], x.shape[2], dy.shape[1]
    for u in range(kh):
        product(kw * c, o, x, u * row, sh * row, 1, sw * c, dy, 0, ow * o, o, dW, u * kw * c * o, o, oh, ow, 1)


@inner
def spread(dy, phases, starts, g, dx):
    """dx (h w, C') of dy, padded with margin(k, s) zeros in front (H', W', O), with the weights of pack_phases."""
    (h, w), (kh, kw), (sh, sw), (top, left) = g.input_size, g.kernel_size, g.stride, g.padding
    row, o, c = dy.shape[1] * dy.shape[2], dy.shape[2], dx.shape[1]
    for a in range(h):
        r, q = (a + top) % sh, (a + top) // sh  # meets the kernel rows r, r + s, ... at dy's rows q, q - 1, ...
        taps = (kh - r + sh - 1) // sh
        i = q - (taps - 1) + (kh - 1) // sh
        for b in range(min(sw, w)):
            t, p = (b + left) % sw, (b + left) // sw
            across = (kw - t + sw - 1) // sw
            j = p - (across - 1) + (kw - 1) // sw
            product((w - b + sw - 1) // sw, c, dy, (i * dy.shape[1] + j) * o, row, o, 1,
                    phases, starts[r * sw + t] * c, across * o * c, c, dx, (a * w + b) * c, sw * c, taps, across * o, 0)


@door
def pack_phases(W, sh, sw, phases, starts):
    """The taps of each phase (r, t), last tap first, as (taps, across, O, C'): what `spread` multiplies with."""
    kh, kw, channels, outs = W.shape
    at = 0
    phases[:] = 0
    for r in range(sh):
        for t in range(sw):
            starts[r * sw + t] = at
            taps, across = max(0, (kh - r + sh - 1) // sh), max(0, (kw - t + sw - 1) // sw)
            for m in range(taps):
                for n in range(across):
                    u, v = r + sh * (taps - 1 - m), t + sw * (across - 1 - n)
                    for o in range(outs):
                        for c in range(channels):
                            phases[at, c] = W[u, v, c, o]
                        at += 1


@inner
def scatter(taps, g, y):
    """y (h, w, C) = each pixel's kh kw C numbers in taps (oh ow, columns), added up where they belong (col2im)."""
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    y[:] = 0
    for u in range(kh):
        for v in range(kw):
            for i in range(max(0, (top - u + sh - 1) // sh), min(oh, (h - 1 + top - u) // sh + 1)):
                for j in range(max(0, (left - v + sw - 1) // sw), min(ow, (w - 1 + left - v) // sw + 1)):
                    for c in range(y.shape[2]):
                        y[sh * i + u - top, sw * j + v - left, c] += taps[i * ow + j, (u * kw + v) * y.shape[2] + c]


# ---- one chunk of the batch, by one thread; and under it the launch of all chunks

@inner
def _conv_forward_chunk(k, x, W, b, g, code, alpha, xp, z, y):
    top, left = g.padding
    lo, hi = share(k, xp.shape[0], x.shape[0])
    xp, z = xp[k], z[k]
    xp[:] = 0
    for m in range(lo, hi):
        place(x[m], top, left, xp)
        y2 = y[m].reshape(-1, b.size)
        if W.shape[1] == b.size:
            convolve(xp, W, g, y2)
        else:
            convolve(xp, W, g, z)
            take(z, y2)
        add_bias(y2, b)
        apply(y2.reshape(-1), code, alpha)


@door
def _conv_forward(chunks, *args):
    launch(_conv_forward_chunk, chunks, args)


@inner
def _conv_backward_chunk(k, x, phases, starts, y, dy, g, code, alpha, xp, dz, dzp, dzw, dxw, dW, db, dx):
    (kh, kw), (sh, sw), (top, left) = g.kernel_size, g.stride, g.padding
    lo, hi = share(k, dW.shape[0], x.shape[0])
    xp, dz, dzp, dzw, dxw, dW, db = xp[k], dz[k], dzp[k], dzw[k], dxw[k], dW[k], db[k]
    dW[:] = 0
    db[:] = 0
    xp[:] = 0
    dzp[:] = 0
    dzw[:] = 0
    same_o, same_c = dz.shape[2] == dzw.shape[2], x.shape[3] == dxw.shape[1]
    for m in range(lo, hi):
        times_slope(dz.reshape(-1), y[m].reshape(-1), dy[m].reshape(-1), code, alpha)
        add_column_sums(dz.reshape(-1, db.size), db)
        place(x[m], top, left, xp)
        if same_o:
            correlate(xp, dz.reshape(-1, db.size), g, dW)
        else:
            place(dz, 0, 0, dzw)
            correlate(xp, dzw.reshape(-1, dzw.shape[2]), g, dW)
        if dx.size > 0:
            place(dz, (kh - 1) // sh, (kw - 1) // sw, dzp)
            dx2 = dx[m].reshape(-1, dx.shape[3])
            if same_c:
                spread(dzp, phases, starts, g, dx2)
            else:
                spread(dzp, phases, starts, g, dxw)
                take(dxw, dx2)


@door
def _conv_backward(chunks, *args):
    launch(_conv_backward_chunk, chunks, args)


@inner
def _transpose_forward_chunk(k, x, W, starts, b, g, code, alpha, xp, z, y):
    (kh, kw), (sh, sw) = g.kernel_size, g.stride
    lo, hi = share(k, xp.shape[0], x.shape[0])
    xp, z = xp[k], z[k]
    xp[:] = 0
    for m in range(lo, hi):
        y2 = y[m].reshape(-1, b.size)
        if starts.size == 0:  # all taps of a pixel fit into one vector: one product, then put in place
            product(z.shape[0], W.shape[1], x[m], 0, 0, W.shape[0], 1, W, 0, 0, W.shape[1], z, 0, W.shape[1],
                    1, W.shape[0], 0)
            scatter(z, g, y[m])
        else:
            place(x[m], (kh - 1) // sh, (kw - 1) // sw, xp)
            if W.shape[1] == b.size:
                spread(xp, W, starts, g, y2)
            else:
                spread(xp, W, starts, g, z)
                take(z, y2)
        add_bias(y2, b)
        apply(y2.reshape(-1), code, alpha)


@door
def _transpose_forward(chunks, *args):
    launch(_transpose_forward_chunk, chunks, args)


@inner
def _transpose_backward_chunk(k, x, W, y, dy, g, code, alpha, dz, dzp, xw, dxw, dW, db, dx):
    top, left = g.padding
    lo, hi = share(k, dW.shape[0], x.shape[0])
    dz, dzp, xw, dxw, dW, db = dz[k], dzp[k], xw[k], dxw[k], dW[k], db[k]
    dW[:] = 0
    db[:] = 0
    dzp[:] = 0
    xw[:] = 0
    same = x.shape[3] == W.shape[1]
    for m in range(lo, hi):
        times_slope(dz.reshape(-1), y[m].reshape(-1), dy[m].reshape(-1), code, alpha)
        add_column_sums(dz.reshape(-1, db.size), db)
        place(dz, top, left, dzp)
        if same:
            correlate(dzp, x[m].reshape(-1, x.shape[3]), g, dW)
        else:
            place(x[m], 0, 0, xw)
            correlate(dzp, xw.reshape(-1, xw.shape[2]), g, dW)
        if dx.size > 0:
            dx2 = dx[m].reshape(-1, dx.shape[3])
            if same:
                convolve(dzp, W, g, dx2)
            else:
                convolve(dzp, W, g, dxw)
                take(dxw, dx2)


@door
def _transpose_backward(chunks, *args):
    launch(_transpose_backward_chunk, chunks, args)


# ---- the kernels: weights packed, scratch from the workspace, then the launch

def _fit(x, W, b, size, axis, g):
    """Compiled loops do not look at bounds, so what does not fit together is refused before."""
    if (x.shape[1:] != (*size, W.shape[axis]) or W.shape[:2] != g.kernel_size or b.shape != (W.shape[5 - axis],)
            or not x.dtype == W.dtype == b.dtype or not x.flags.c_contiguous):
        raise ValueError(f"x {x.dtype} {x.shape}, W {W.dtype} {W.shape} and b {b.dtype} {b.shape} must be of one "
                         f"dtype, in C order, and fit together and to {g}")


class _Scratch:
    """Arrays for each chunk of a batch of n pictures, from the workspace."""

    def __init__(self, n, dtype, work):
        ready(dtype)
        self.chunks, self.dtype, self.work = min(CHUNKS, n), dtype, work or Workspace()

    def empty(self, key, *shape, dtype=None):
        return self.work.empty(key, (self.chunks, *shape), dtype or self.dtype)

    def wide_weights(self, W):
        """W as a matrix (kh kw C, O') with O' a whole number of vectors; W itself where it is that already."""
        W2 = W.reshape(-1, W.shape[3])
        if W.shape[3] == widened(W.shape[3], W.dtype):
            return W2
        wide = self.work.empty("W", (W2.shape[0], widened(W.shape[3], W.dtype)), W.dtype)
        wide[:, :W.shape[3]], wide[:, W.shape[3]:] = W2, 0
        return wide

    def phases(self, W, g):
        """The weights as `spread` wants them, and where each phase starts."""
        kh, kw, c, o = W.shape
        phases = self.work.empty("phases", (kh * kw * o, widened(c, W.dtype)), W.dtype)
        starts = np.empty(g.stride[0] * g.stride[1], np.int64)
        pack_phases(W, *g.stride, phases, starts)
        return phases, starts

    def taps(self, W):
        """The weights as (in, kh kw out), for a transposed convolution with few channels out."""
        columns = W[..., 0].size
        taps = self.work.empty("taps", (W.shape[3], widened(columns, W.dtype)), W.dtype)
        taps[:, :columns], taps[:, columns:] = W.reshape(columns, -1).T, 0
        return taps

    def margin(self, g, channels, key):
        """dy with room in front and behind for every tap of `spread`."""
        sides = (max(o, (n - 1 + p) // s + 1) + (k - 1) // s
                 for n, k, s, p, o in zip(*g, strict=True))
        return self.empty(key, *sides, channels)


def _narrow(W, channels):
    """Whether all taps of a pixel with so few channels fit into one vector, which would otherwise hold one tap each."""
    return W.shape[0] * W.shape[1] * channels <= lanes(W.dtype)


def _as_transposed(W, g):
    """A narrow convolution of stride 1 as the transposed one with its kernel turned round; else no geometry."""
    front = [k - 1 - p for k, p in zip(g.kernel_size, g.padding, strict=True)]
    if g.stride != (1, 1) or min(front) < 0 or not _narrow(W, W.shape[3]):
        return W, None
    turned = np.ascontiguousarray(W[::-1, ::-1].transpose(0, 1, 3, 2))
    return turned, Geometry(g.output_size, g.kernel_size, g.stride, (front[0], front[1]), g.input_size)


def conv2d_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d(x, W) + b)"""
    _fit(x, W, b, g.input_size, 2, g)
    turned, transposed = _as_transposed(W, g)
    if transposed:
        return conv2d_transpose_forward(x, turned, b, transposed, activation, out, work)
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], *g.output_size, W.shape[3]), x.dtype) if out is None else out
    s = _Scratch(x.shape[0], x.dtype, work)
    wide = s.wide_weights(W)
    z = s.empty("z", g.output_size[0] * g.output_size[1], wide.shape[1])
    xp = s.empty("xp", *g.padded_size, x.shape[3])
    _conv_forward(s.chunks, x, wide, b, g, max(code, IDENTITY), alpha, xp, z, out)
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
    s = _Scratch(x.shape[0], x.dtype, work)
    phases, starts = s.phases(W, g)
    wide = widened(W.shape[3], x.dtype)
    dW_k, db_k = s.empty("dW", W[..., 0].size, wide), s.empty("db", W.shape[3], dtype=np.float64)
    _conv_backward(s.chunks, x, phases, starts, y, dy, g, max(code, IDENTITY), alpha,
                   s.empty("xp", *g.padded_size, x.shape[3]), s.empty("dz", *g.output_size, W.shape[3]),
                   s.margin(g, W.shape[3], "dzp"), s.empty("dzw", *g.output_size, wide),
                   s.empty("dxw", g.input_size[0] * g.input_size[1], phases.shape[1]), dW_k, db_k, _or_none(dx, x))
    add_partials(dW_k, dW.reshape(-1, W.shape[3]))
    db += db_k.sum(0)
    return dx


def conv2d_transpose_forward(x, W, b, g, activation, out=None, work=None):
    """y = f(conv2d_input_grad(x, W) + b)"""
    _fit(x, W, b, g.output_size, 3, g)
    code, alpha = code_of(activation)
    out = np.empty((x.shape[0], *g.input_size, W.shape[2]), x.dtype) if out is None else out
    s = _Scratch(x.shape[0], x.dtype, work)
    if _narrow(W, W.shape[2]):
        weights, starts, pixels = s.taps(W), np.empty(0, np.int64), g.output_size[0] * g.output_size[1]
    else:
        weights, starts = s.phases(W, g)
        pixels = g.input_size[0] * g.input_size[1]
    z, xp = s.empty("z", pixels, weights.shape[1]), s.margin(g, x.shape[3], "xp")
    _transpose_forward(s.chunks, x, weights, starts, b, g, max(code, IDENTITY), alpha, xp, z, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def conv2d_transpose_backward(x, W, y, dy, g, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)"""
    _fit(x, W, db, g.output_size, 3, g)
    code, alpha = code_of(activation)
    dy = dy if code >= 0 else dy * activation.slope(y)
    s = _Scratch(x.shape[0], x.dtype, work)
    wide = s.wide_weights(W)
    dW_k, db_k = s.empty("dW", *wide.shape), s.empty("db", W.shape[2], dtype=np.float64)
    _transpose_backward(s.chunks, x, wide, y, dy, g, max(code, IDENTITY), alpha,
                        s.empty("dz", *y.shape[1:]), s.empty("dzp", *g.padded_size, W.shape[2]),
                        s.empty("xw", *g.output_size, wide.shape[1]),
                        s.empty("dxw", g.output_size[0] * g.output_size[1], wide.shape[1]), dW_k, db_k, _or_none(dx, x))
    add_partials(dW_k, dW.reshape(-1, W.shape[3]))
    db += db_k.sum(0)
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
