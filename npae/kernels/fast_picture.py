"""The three contractions on one picture, read in place: columns are not laid out.

In a zero-padded NHWC picture the window (v, c) of one kernel row is contiguous, so a row of outputs is a sum of kh
short matrix products, which `fast_tile.product` keeps in registers:
    convolve    y[i, j, :]       = sum over u, (v, c) of x[s i + u, s j + v, c] W[u, v, c, :]      for one output row i
    correlate   dW[u, (v, c), :] = sum over i, j      of x[s i + u, s j + v, c] dz[i, j, :]
    spread      x[a, b, :]       = sum over the taps that meet (a, b), one phase (a mod s, b mod s) after another
Channels on the right of a product are widened with zeros to whole vectors (O', C'); a widened row of sums stays in the
first cache until `place` has written its true channels where they belong.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.fast_activation import times_slope
from npae.kernels.fast_link import linked
from npae.kernels.fast_parallel import inner
from npae.kernels.fast_tile import ONE_ROW, VECTOR_BYTES, product


@linked(arrays="a")
def clear(a):
    """a = 0"""
    for i in range(a.size):
        a[i] = 0


@linked(arrays="x y")
def place(rows, n, x, x0, ldx, y, y0, ldy):
    """Copy a block (rows, n): y[y0 + i ldy + j] = x[x0 + i ldx + j]. What stands around it is as it was.

    A block is a picture in a larger one, or pixels with other channels beside theirs.
    """
    for i in range(rows):
        row, out = x[x0 + i * ldx:x0 + i * ldx + n], y[y0 + i * ldy:y0 + i * ldy + n]
        for j in range(n):
            out[j] = row[j]


@linked(arrays="y dy dz", floats="alpha")
def place_slope(rows, n, y, dy, at, code, alpha, dz, z0, ldz):
    """dz = f'(y) dy for rows x n numbers from y[at], dy[at], placed as a block from dz[z0]."""
    for i in range(rows):
        lo = at + i * n
        times_slope(dz[z0 + i * ldz:z0 + i * ldz + n], y[lo:lo + n], dy[lo:lo + n], code, alpha)


@inner
def add_pixels(dz, start, pitch, h, w, one, none, sums, db):
    """db += the sum of the pixels of dz, whose rows begin at start + i pitch; over pictures in double precision.

    Whole vectors of channels are summed as a product with ones: the tile keeps its sums in registers.
    """
    c, flat = db.size, dz.reshape(-1)
    if c * dz.itemsize % VECTOR_BYTES == 0:
        product(1, c, one, 0, 0, 0, 0, dz, start, pitch, c, sums, 0, c, h, w, none, 0, ONE_ROW)
        for o in range(c):
            db[o] += sums[o]
    else:
        for i in range(h):
            for j in range(w):
                for o in range(c):
                    db[o] += flat[start + i * pitch + j * c + o]


@inner
def place_wide(x, start, pitch, h, w, c, wide):
    """wide (h w, C') = h rows of w pixels, which begin at x[start + i pitch]; columns beyond C stay."""
    for i in range(h):
        place(w, c, x, start + i * pitch, c, wide, i * w * wide.shape[1], wide.shape[1])


@inner
def convolve(x, W, g, i, b, z, z0):
    """Row i (ow, O') of b + conv2d(x, W), at z[z0:], of a padded picture x (H', W', C) with W (kh kw C, O')."""
    (kh, kw), (sh, sw), ow = g.kernel_size, g.stride, g.output_size[1]
    row, c, o = x.shape[1] * x.shape[2], x.shape[2], W.shape[1]
    product(ow, o, x, i * sh * row, row, sw * c, 1, W, 0, kw * c * o, o, z, z0, o, kh, kw * c, b, 0, ONE_ROW)


@linked(arrays="x dz dW d")
def correlate(x, row, c, kh, kw, sh, sw, oh, ow, dz, start, pitch, o, dW, d, ldd):
    """dW (kh kw C, O') = D + what the padded picture x, with rows of `row` numbers, and dz say of the weights.

    dz[i, j, :] begins at dz[start + i pitch + j O'].
    """
    for u in range(kh):
        at = u * kw * c
        product(kw * c, o, x, u * row, sh * row, 1, sw * c, dz, start, pitch, o, dW, at * o, o, oh, ow,
                d, at * ldd, ldd)


@inner
def spread(dz, phases, starts, g, a, b, z, z0):
    """Row a (w, C') of b + conv2d_input_grad(dz, W), at z[z0:].

    dz is padded with (k - 1) // s zeros in front (H', W', O), and the weights are those of pack_phases.
    """
    w, (kh, kw), (sh, sw), (top, left) = g.input_size[1], g.kernel_size, g.stride, g.padding
    row, o, c = dz.shape[1] * dz.shape[2], dz.shape[2], phases.shape[1]
    r, q = (a + top) % sh, (a + top) // sh  # meets the kernel rows r, r + s, ... at dz's rows q, q - 1, ...
    taps = (kh - r + sh - 1) // sh
    i = q - (taps - 1) + (kh - 1) // sh
    for p in range(min(sw, w)):  # the pixels p, p + s, ... of the row
        t, n = (p + left) % sw, (p + left) // sw
        across = (kw - t + sw - 1) // sw
        j = n - (across - 1) + (kw - 1) // sw
        product((w - p + sw - 1) // sw, c, dz, (i * dz.shape[1] + j) * o, row, o, 1, phases, starts[r * sw + t] * c,
                across * o * c, c, z, z0 + p * c, sw * c, taps, across * o, b, 0, ONE_ROW)


@linked(arrays="w phases")
def pack_phases(kh, kw, channels, outs, sh, sw, w, phases, wide):
    """The taps of each phase (r, t), last tap first, as (taps, across, O, C'): what `spread` multiplies with."""
    at = 0
    for r in range(sh):
        for t in range(sw):
            taps, across = max(0, (kh - r + sh - 1) // sh), max(0, (kw - t + sw - 1) // sw)
            for m in range(taps):
                for n in range(across):
                    u, v = r + sh * (taps - 1 - m), t + sw * (across - 1 - n)
                    tap = w[(u * kw + v) * channels * outs:]
                    for o in range(outs):
                        row, column = phases[at:at + wide], tap[o:]
                        for c in range(channels):
                            row[c] = column[c * outs]
                        for c in range(channels, wide):
                            row[c] = 0
                        at += wide


@linked(arrays="taps b y")
def scatter(h, w, kh, kw, sh, sw, top, left, oh, ow, taps, t0, b, y, y0):
    """y (h, w, C) = b + the numbers in taps (kh kw C, oh ow), one row a tap, added where they belong (col2im)."""
    c = b.size
    for q in range(h * w):
        pixel = y[y0 + q * c:y0 + (q + 1) * c]
        for k in range(c):
            pixel[k] = b[k]
    for row in range(kh * kw * c):
        u, v, k = row // (kw * c), row // c % kw, row % c
        first, end = max(0, (left - v + sw - 1) // sw), min(ow, (w - 1 + left - v) // sw + 1)
        for i in range(max(0, (top - u + sh - 1) // sh), min(oh, (h - 1 + top - u) // sh + 1)):
            # numbers that cannot be negative: the compiler need not look whether they count from the end
            source = np.uintp(t0 + (row * oh + i) * ow + first)
            place = np.uintp(y0 + ((sh * i + u - top) * w + sw * first + v - left) * c + k)
            step, count = np.uintp(sw * c), np.uintp(max(0, end - first))
            if step == 1:
                for j in range(count):
                    y[place + j] += taps[source + j]
            else:
                for j in range(count):
                    y[place + j * step] += taps[source + j]
