"""Dense layers: matrix products of `fast_panel`, cut into chunks for the threads.

Bias and activation are applied to what is summed before it leaves the cache. W^T is never laid out as a whole: a panel
of it is turned round when its columns are needed.
Work is cut by its shapes alone and every sum runs in one order: any number of threads gives the same bits.
"""
from __future__ import annotations

import functools

import numpy as np

from npae.kernels.fast_activation import IDENTITY, apply, code_of, times_slope
from npae.kernels.fast_link import linked, ready
from npae.kernels.fast_panel import DEPTH, pack, panel, panel_width, settle
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.fast_tile import ONE_ROW, VECTORS, lanes
from npae.kernels.workspace import Workspace

CHUNKS = 16  # of one product: several for each of a few threads; never a function of their number
TALL = 256  # rows of the left matrix that a chunk takes on, where there are so many
LONG = 1024  # a sum of at least this length is cut into parts where there is nothing else to cut
SLOPE = 8  # multiply-adds that a number's way through the memory is worth
GRAIN = 1 << 18  # multiply-adds that a chunk is worth: fewer are done before another thread has begun


@inner
def part_of_grid(k, blocks, chunks, rows, columns, size):
    """Chunk k of a grid: the rows r0 ... r1, and the columns j0 ... j1 in whole panels of `size`."""
    groups = chunks // blocks
    r0, r1 = share(k // groups, blocks, rows)
    p0, p1 = share(k % groups, groups, (columns + size - 1) // size)
    return r0, r1, p0 * size, min(columns, p1 * size)


@linked(arrays="left right b room z none y", floats="alpha")
def product_chunk(r0, r1, j0, j1, K, left, right, ldr, turned, b, code, alpha, room, z, none, y, ldy):
    """Rows r0 ... r1 and columns j0 ... j1 of y = f(left right + b), or of f(left right^T + b) with `turned`."""
    rows, size = r1 - r0, room.size // DEPTH
    start = b if b.size > 0 else none
    for j in range(j0, j1, size):
        n, a, at = min(size, j1 - j), r0 * K, r0 * ldy + j
        width = panel_width(n, room)
        first = j * ldr if turned else j
        if n == width:
            panel(rows, n, K, left, a, K, 1, right, first, ldr, turned, room, y, at, ldy, start, j, ONE_ROW)
        else:
            panel(rows, n, K, left, a, K, 1, right, first, ldr, turned, room, z, 0, width, none, 0, ONE_ROW)
            settle(rows, n, z, width, start, j, ONE_ROW, y, at, ldy)
    for r in range(r0, r1):
        apply(y[r * ldy + j0:r * ldy + j1], code, alpha)


@linked(arrays="x dz room tall z none dW")
def weight_grad_chunk(r0, r1, j0, j1, N, ldx, ldw, x, dz, room, tall, z, none, dW):
    """Rows and columns of dW += x^T dz; where there are more than DEPTH pictures, columns of x are laid out too."""
    rows, size, parts = r1 - r0, room.size // DEPTH, (N + DEPTH - 1) // DEPTH
    left, a, ca = x, r0, ldx
    for part in range(parts):
        n0, n1 = share(part, parts, N)
        if tall.size > 0:
            pack(n1 - n0, rows, x, n0 * ldx + r0, ldx, False, tall, rows)
            left, a, ca = tall, -n0 * rows, rows
        for j in range(j0, j1, size):
            n, at = min(size, j1 - j), r0 * ldw + j
            width = panel_width(n, room)
            if n == width:
                panel(rows, n, n1 - n0, left, a + n0 * ca, 1, ca, dz, n0 * ldw + j, ldw, False, room,
                      dW, at, ldw, dW, at, ldw)
            else:
                panel(rows, n, n1 - n0, left, a + n0 * ca, 1, ca, dz, n0 * ldw + j, ldw, False, room,
                      z, 0, width, none, 0, ONE_ROW)
                settle(rows, n, z, width, dW, at, ldw, dW, at, ldw)


# ---- the doors

@inner
def _forward_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y):
    K, ldr, columns, room, z = left.shape[1], right.shape[1], y.shape[1], room[k], z[k]
    if parts == 1:
        r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, left.shape[0], columns, room.size // DEPTH)
        product_chunk(r0, r1, j0, j1, K, left, right, ldr, turned, b, code, alpha, room, z, none, y, columns)
    else:  # one panel, part k of its sums
        k0, k1 = share(k, parts, K)
        panel(left.shape[0], columns, k1 - k0, left, k0, K, 1, right, k0 if turned else k0 * ldr, ldr, turned, room,
              z, 0, panel_width(columns, room), none, 0, ONE_ROW)


@door
def _forward(left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y):
    launch(_forward_chunk, chunks, (left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y))
    if parts > 1:
        for k in range(1, parts):
            for i in range(z.shape[1]):
                z[0, i] += z[k, i]
        rows, columns = y.shape
        settle(rows, columns, z[0], panel_width(columns, room[0]), b, 0, ONE_ROW, y, 0, columns)
        apply(y, code, alpha)


@inner
def add_column_sums(dz, lo, hi, sums, db):
    """db += sum_n dz for some columns; in double precision, as the sum of 50,000 float32 would lose three digits."""
    sums, db = sums[lo:hi], db[lo:hi]
    for o in range(db.size):
        sums[o] = 0
    for n in range(dz.shape[0]):
        row = dz[n, lo:hi]
        for o in range(db.size):
            sums[o] += row[o]
    for o in range(db.size):
        db[o] += sums[o]


@inner
def _slope_part(k, chunks, y, dy, code, alpha, dz):
    lo, hi = share(k, chunks, y.size)
    times_slope(dz[lo:hi], y[lo:hi], dy[lo:hi], code, alpha)


@inner
def _backward_chunk(k, x, dz, swap, dW, sums, db, right, turned, w_blocks, w_chunks, blocks, chunks, room, tall,
                    z, none, dx):
    room, z, size = room[k], z[k], room.shape[1] // DEPTH
    w0, w1 = share(k, w_chunks + chunks, w_chunks)  # chunks of dW and of dx in turn: each thread gets of both
    if w0 == w1:
        r0, r1, j0, j1 = part_of_grid(k - w0, blocks, chunks, dx.shape[0], dx.shape[1], size)
        product_chunk(r0, r1, j0, j1, dz.shape[1], dz, right, right.shape[1], turned, none[:0], IDENTITY, 0.0, room, z,
                      none, dx, dx.shape[1])
        return
    r0, r1, j0, j1 = part_of_grid(w0, w_blocks, w_chunks, dW.shape[0], dW.shape[1], size)
    if swap:
        weight_grad_chunk(r0, r1, j0, j1, dz.shape[0], dz.shape[1], x.shape[1], dz, x, room, tall[w0], z, none, dW)
    else:
        weight_grad_chunk(r0, r1, j0, j1, x.shape[0], x.shape[1], dz.shape[1], x, dz, room, tall[w0], z, none, dW)
    if swap and j0 == 0:
        add_column_sums(dz, r0, r1, sums, db)
    elif r0 == 0 and not swap:
        add_column_sums(dz, j0, j1, sums, db)


@door
def _backward(y, dy, code, alpha, slope_chunks, dz, x, swap, dW, sums, db, right, turned, w_blocks, w_chunks,
              blocks, chunks, room, tall, z, none, dx):
    if code != IDENTITY:
        launch(_slope_part, slope_chunks, (slope_chunks, y.reshape(-1), dy.reshape(-1), code, alpha, dz.reshape(-1)))
    launch(_backward_chunk, w_chunks + chunks, (x, dz, swap, dW, sums, db, right, turned, w_blocks, w_chunks,
                                                blocks, chunks, room, tall, z, none, dx))


# ---- the kernels

def _pieces(most: int, work: int) -> int:
    """Into how many pieces some work is cut: a power of two, at most so many, each of GRAIN steps or more."""
    return 1 << max(1, min(most, work // GRAIN)).bit_length() - 1


@functools.lru_cache(maxsize=4096)
def _grid(rows: int, columns: int, depth: int, vector: int) -> tuple[int, int, int]:
    """Into how many blocks of rows, and how many chunks in all, a product is cut; and the rows of the largest block."""
    blocks = -(-rows // TALL)
    panels = -(-columns // (VECTORS * vector))
    groups = _pieces(min(panels, max(1, CHUNKS // blocks)), rows * columns * depth // blocks)
    return blocks, blocks * groups, -(-rows // blocks)


def _scratch(work: Workspace, chunks: int, rows: int, columns: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """For each chunk a dense panel and the sums z of one panel; and zeros, as a bias of so many columns."""
    ready(dtype)
    size = VECTORS * lanes(dtype)
    return (work.empty("room", (chunks, DEPTH * size), dtype), work.empty("z", (chunks, rows * size), dtype),
            np.zeros(max(columns, size), dtype))


def _turned(W: np.ndarray) -> bool:
    """Whether a matrix is a transposed view of one in C order, as a tied layer's is."""
    return not W.flags.c_contiguous


def _fit(x, W, b):
    """Compiled loops do not look at bounds, so what does not fit together is refused before."""
    if x.shape[1:] != W.shape[:1] or b.shape != W.shape[1:] or not x.dtype == W.dtype == b.dtype:
        raise ValueError(f"x {x.dtype} {x.shape}, W {W.dtype} {W.shape} and b {b.dtype} {b.shape} must be of one dtype "
                         "and fit together")
    if not x.flags.c_contiguous or not (W.flags.c_contiguous or W.flags.f_contiguous):
        raise ValueError(f"x of shape {x.shape} must be in C order, and W of shape {W.shape} too, or its transpose")


def dense_forward(x, W, b, activation, out=None, work=None):
    """y = f(x W + b)"""
    _fit(x, W, b)
    code, alpha = code_of(activation)
    work, turned = work or Workspace(), _turned(W)
    out = np.empty((x.shape[0], W.shape[1]), x.dtype) if out is None else out

    def plan():
        rows, depth = x.shape
        blocks, chunks, tallest = _grid(rows, W.shape[1], depth, lanes(x.dtype))
        parts = _pieces(CHUNKS, rows * depth * lanes(x.dtype)) if chunks == 1 and depth >= LONG else 1
        chunks = max(chunks, parts)
        return blocks, chunks, parts, _scratch(work, chunks, tallest, 0, x.dtype)

    blocks, chunks, parts, (room, z, none) = work.once(("dense", x.shape, W.shape, x.dtype), plan)
    _forward(x, W.T if turned else W, turned, b, max(code, IDENTITY), alpha, blocks, chunks, parts, room, z, none, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    _fit(x, W, db)
    code, alpha = code_of(activation)
    work, turned, swap = work or Workspace(), not _turned(W), _turned(dW)
    dy = dy if code >= 0 else dy * activation.slope(y)
    dW = dW.T if swap else dW  # dW^T += dz^T x
    bent = code > IDENTITY

    def plan():
        n, vector, to_x = x.shape[0], lanes(x.dtype), (1, 0, 0)
        w_blocks, w_chunks, w_rows = _grid(dW.shape[0], dW.shape[1], n, vector)
        if dx is not None:
            to_x = _grid(n, x.shape[1], y.shape[1], vector)
        blocks, chunks, rows = to_x
        tall = work.empty("tall", (w_chunks, DEPTH * w_rows if n > DEPTH else 0), x.dtype)
        return (_pieces(CHUNKS, y.size * SLOPE), work.empty("dz", y.shape, y.dtype) if bent else None,
                work.empty("db", (y.shape[1],), np.float64), w_blocks, w_chunks, blocks, chunks, tall,
                _scratch(work, w_chunks + chunks, max(w_rows, rows), x.shape[1], x.dtype))

    slopes, dz, sums, w_blocks, w_chunks, blocks, chunks, tall, (room, z, none) = work.once(
        ("dense backward", x.shape, dW.shape, x.dtype, swap, bent, dx is None), plan)
    dz = dz if bent else dy
    _backward(y, dy, max(code, IDENTITY), alpha, slopes, dz, x, swap, dW, sums, db, W if turned else W.T, turned,
              w_blocks, w_chunks, blocks, chunks, room, tall, z, none, x if dx is None else dx)
    return dx
