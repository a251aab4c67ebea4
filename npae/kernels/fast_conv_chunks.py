"""What one thread does with its chunk of a batch, picture by picture, and the doors that start all chunks.

Each chunk has scratch of its own that stays in a thread's cache: a padded picture, a row of sums z, and the weight
gradient of its pictures. These partial gradients are added in order, so that any number of threads gives the same bits.
"""
from __future__ import annotations

from npae.kernels.fast_activation import apply
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.fast_picture import (
    add_pixels,
    clear,
    convolve,
    correlate,
    pack_phases,
    place,
    place_slope,
    place_wide,
    scatter,
    spread,
)
from npae.kernels.fast_tile import ONE_ROW, product, turn

CHUNKS = 8  # never a function of the number of threads: the order of the sums hangs on it
PARTIALS = 32768  # numbers in all partial weight gradients from which more than one thread adds them up


@inner
def _conv_forward_chunk(k, x, W, b, g, code, alpha, xp, z, y):
    (top, left), (h, w), (oh, ow), c, channels = g.padding, g.input_size, g.output_size, x.shape[3], y.shape[3]
    lo, hi = share(k, xp.shape[0], x.shape[0])
    xp, z = xp[k], z[k]
    pitch, n = xp.shape[1] * c, ow * channels
    clear(xp)
    for m in range(lo, hi):
        place(h, w * c, x, m * h * w * c, w * c, xp, top * pitch + left * c, pitch)
        for i in range(oh):
            row = (m * oh + i) * n
            if channels == W.shape[1]:
                convolve(xp, W, g, i, b, y, row)
            else:
                convolve(xp, W, g, i, b, z, 0)
                place(ow, channels, z, 0, W.shape[1], y, row, channels)
            apply(y.reshape(-1)[row:row + n], code, alpha)


@door
def _conv_forward(chunks, x, W, b, g, code, alpha, xp, z, y):
    launch(_conv_forward_chunk, chunks, (x, W, b, g, code, alpha, xp, z, y))


@inner
def _conv_backward_chunk(k, x, phases, starts, y, dy, g, code, alpha, scratch, dx):
    none, one, xp, dzp, dzw, z, dW, db = scratch
    (kh, kw), (sh, sw), (top, left), (h, w), (oh, ow) = g.kernel_size, g.stride, g.padding, g.input_size, g.output_size
    lo, hi = share(k, dW.shape[0], x.shape[0])
    xp, dzp, dzw, z, dW, db = xp[k], dzp[k], dzw[k], z[k], dW[k], db[k]
    c, outs, o, wide = x.shape[3], db.size, dW.shape[1], phases.shape[1]
    x_pitch, pitch = xp.shape[1] * c, dzp.shape[1] * outs
    start = (kh - 1) // sh * pitch + (kw - 1) // sw * outs
    clear(xp)
    clear(dzp)
    clear(dzw)
    for i in range(outs):
        db[i] = 0
    d, ldd = none, ONE_ROW  # the first picture's dW begins with zeros, and each other one's with what is there
    for m in range(lo, hi):
        place_slope(oh, ow * outs, y, dy, m * oh * ow * outs, code, alpha, dzp, start, pitch)
        place(h, w * c, x, m * h * w * c, w * c, xp, top * x_pitch + left * c, x_pitch)
        add_pixels(dzp, start, pitch, oh, ow, one, none, z, db)
        if outs == o:
            correlate(xp, x_pitch, c, kh, kw, sh, sw, oh, ow, dzp, start, pitch, o, dW, d, ldd)
        else:
            place_wide(dzp, start, pitch, oh, ow, outs, dzw)
            correlate(xp, x_pitch, c, kh, kw, sh, sw, oh, ow, dzw, 0, ow * o, o, dW, d, ldd)
        d, ldd = dW.reshape(-1), o
        for a in range(h if dx.size > 0 else 0):
            row = (m * h + a) * w * c
            if c == wide:
                spread(dzp, phases, starts, g, a, none, dx, row)
            else:
                spread(dzp, phases, starts, g, a, none, z, 0)
                place(w, c, z, 0, wide, dx, row, c)


@door
def _conv_backward(chunks, x, W, phases, starts, y, dy, g, code, alpha, scratch, dx, dW, db):
    if dx.size > 0:
        (kh, kw, c, o), (sh, sw) = W.shape, g.stride
        pack_phases(kh, kw, c, o, sh, sw, W, phases, phases.shape[1])
    launch(_conv_backward_chunk, chunks, (x, phases, starts, y, dy, g, code, alpha, scratch, dx))
    _add_partials(scratch[6], scratch[7], dW, db)


@inner
def _add_rows(k, blocks, partial, total):
    """A block of rows of total (rows, O) += partial[0] + partial[1] + ..., in this order; partial's may be wider."""
    lo, hi = share(k, blocks, total.shape[0])
    for r in range(lo, hi):
        sums, row = partial[0, r], total[r]
        for chunk in range(1, partial.shape[0]):
            part = partial[chunk, r]
            for o in range(row.size):
                sums[o] += part[o]
        for o in range(row.size):
            row[o] += sums[o]


@inner
def _add_partials(dW_k, db_k, dW, db):
    blocks = min(dW.shape[0], CHUNKS) if dW_k.size > PARTIALS else 1
    launch(_add_rows, blocks, (blocks, dW_k, dW))
    for k in range(1, db_k.shape[0]):
        for o in range(db.size):
            db_k[0, o] += db_k[k, o]
    for o in range(db.size):
        db[o] += db_k[0, o]


@inner
def _transpose_forward_chunk(k, x, W, starts, b, g, code, alpha, none, xp, z, y):
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    lo, hi = share(k, xp.shape[0], x.shape[0])
    xp, z, o, wide, c, pixels = xp[k], z[k], x.shape[3], W.shape[1], y.shape[3], oh * ow
    pitch, n = xp.shape[1] * o, w * c
    clear(xp)
    for m in range(lo, hi):
        if starts.size == 0:  # all taps of a pixel fit into one tile: one product, then put in place
            product(pixels, wide, x, m * pixels * o, 0, o, 1, W, 0, 0, wide, z, 0, wide, 1, o, none, 0, ONE_ROW)
            turn(z, 0, wide, pixels, wide, z, pixels * wide, pixels)
            scatter(h, w, kh, kw, sh, sw, top, left, oh, ow, z, pixels * wide, b, y, m * h * n)
            apply(y[m], code, alpha)
        else:
            place(oh, ow * o, x, m * pixels * o, ow * o, xp, (kh - 1) // sh * pitch + (kw - 1) // sw * o, pitch)
            for a in range(h):
                row = (m * h + a) * n
                if c == wide:
                    spread(xp, W, starts, g, a, b, y, row)
                else:
                    spread(xp, W, starts, g, a, b, z, 0)
                    place(w, c, z, 0, wide, y, row, c)
                apply(y.reshape(-1)[row:row + n], code, alpha)


@door
def _transpose_forward(chunks, W, phases, starts, x, b, g, code, alpha, none, xp, z, y):
    if starts.size > 0:
        (kh, kw, c, o), (sh, sw) = W.shape, g.stride
        pack_phases(kh, kw, c, o, sh, sw, W, phases, phases.shape[1])
    launch(_transpose_forward_chunk, chunks, (x, phases, starts, b, g, code, alpha, none, xp, z, y))


@inner
def _transpose_backward_chunk(k, x, W, y, dy, g, code, alpha, scratch, dx):
    none, one, dzp, xw, z, dW, db = scratch
    (h, w), (kh, kw), (sh, sw), (top, left), (oh, ow) = g
    lo, hi = share(k, dW.shape[0], x.shape[0])
    dzp, xw, z, dW, db = dzp[k], xw[k], z[k], dW[k], db[k]
    c, o, wide, pixels = db.size, x.shape[3], W.shape[1], oh * ow
    pitch = dzp.shape[1] * c
    start = top * pitch + left * c
    clear(dzp)
    clear(xw)
    for i in range(c):
        db[i] = 0
    d, ldd = none, ONE_ROW  # as above
    for m in range(lo, hi):
        place_slope(h, w * c, y, dy, m * h * w * c, code, alpha, dzp, start, pitch)
        add_pixels(dzp, start, pitch, h, w, one, none, z, db)
        if o == wide:
            correlate(dzp, pitch, c, kh, kw, sh, sw, oh, ow, x, m * pixels * o, ow * o, o, dW, d, ldd)
        else:
            place_wide(x, m * pixels * o, ow * o, oh, ow, o, xw)
            correlate(dzp, pitch, c, kh, kw, sh, sw, oh, ow, xw, 0, ow * wide, wide, dW, d, ldd)
        d, ldd = dW.reshape(-1), wide
        for i in range(oh if dx.size > 0 else 0):
            row = (m * oh + i) * ow * o
            if o == wide:
                convolve(dzp, W, g, i, none, dx, row)
            else:
                convolve(dzp, W, g, i, none, z, 0)
                place(ow, o, z, 0, wide, dx, row, o)


@door
def _transpose_backward(chunks, x, W, y, dy, g, code, alpha, scratch, dx, dW, db):
    launch(_transpose_backward_chunk, chunks, (x, W, y, dy, g, code, alpha, scratch, dx))
    _add_partials(scratch[5], scratch[6], dW, db)
