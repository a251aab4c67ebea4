"""Dense layers: matrix products cut into panels of columns that fit the register tile of `fast_tile`.

Why it is fast. A panel is as wide as the tile, and DEPTH of its rows at a time are laid out densely (`pack`), so that
they stay in the first cache while all rows of the left matrix pass by. What is summed lands in a small scratch z, to
which bias and activation are applied before it leaves the cache. A product with W^T is computed as the transpose of
W x^T: the few numbers of x are turned round and not all of W.
Work is cut into chunks by its shapes alone and every sum runs in one order: any number of threads gives the same bits.
"""
from __future__ import annotations

import functools

import numpy as np

from npae.kernels.fast_activation import IDENTITY, apply, code_of, times_slope
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.fast_tile import ONE_ROW, ROWS, VECTOR_BYTES, VECTORS, lanes, prefetch, product, ready, turn
from npae.kernels.workspace import CACHE_LINE, Workspace

CHUNKS = 16  # of one product: several for each of a few threads; never a function of their number
DEPTH = 224  # at most so many rows of a panel are laid out at a time: 28 KB, three fifths of a first cache
FEW = 2 * ROWS  # rows of the left matrix that need no panel
TALL = 256  # rows of the left matrix that a chunk takes on, where there are so many
AHEAD = 16  # rows of a panel that are on their way from the memory at a time
LONG = 1024  # a sum of at least this length is cut into parts where there is nothing else to cut
SLOPE = 8  # multiply-adds that a number's way through the memory is worth
GRAIN = 1 << 18  # multiply-adds that a chunk is worth: fewer are done before another thread has begun


@inner
def pack(B, turned, k0, k1, j0, n, width, room):
    """room (k1 - k0, width) = B[k0:k1, j0:j0 + n], or B[j0:j0 + n, k0:k1]^T with `turned`; zeros to the right of it."""
    if turned:
        turn(B, j0 * B.shape[1] + k0, B.shape[1], n, k1 - k0, room, 0, width)
    else:
        line = CACHE_LINE // B.itemsize
        for k in range(k0, k1):
            for j in range(j0, j0 + n, line):  # rows lie too far apart for the processor to guess the next one
                prefetch(B, (k + AHEAD) * B.shape[1] + j)
            row, dense = B[k, j0:j0 + n], room[(k - k0) * width:]
            for j in range(n):
                dense[j] = row[j]
    for k in range(k1 - k0 if n < width else 0):  # nobody takes their sums, but NaNs and denormals would cost time
        for j in range(k * width + n, (k + 1) * width):
            room[j] = 0


@inner
def panel_width(n, room):
    """Columns of a dense panel for n of them: one vector, or as many as a tile has."""
    slim = VECTOR_BYTES // room.itemsize
    return slim if n <= slim else slim * VECTORS


@inner
def panel(a, a0, ra, ca, M, B, turned, k0, k1, j0, n, room, c, c0, ldc, d, d0, ldd):
    """C (M, width) = D + A[:, k0:k1] B[k0:k1, j0:j0 + n], with A[i, k] = a[a0 + i ra + k ca]; B^T with `turned`.

    For few rows it does not pay to lay B out: each number of it is used but once or twice.
    """
    width, ldb = panel_width(n, room), B.shape[1]
    in_place = M <= FEW and n == width and not turned
    parts = (k1 - k0 + DEPTH - 1) // DEPTH
    for part in range(parts):
        k, end = share(part, parts, k1 - k0)
        k, K = k0 + k, end - k
        if not in_place:
            pack(B, turned, k, k + K, j0, n, width, room)
        if in_place and k == k0:
            product(M, width, a, a0 + k * ca, 0, ra, ca, B, k * ldb + j0, 0, ldb, c, c0, ldc, 1, K, d, d0, ldd)
        elif in_place:
            product(M, width, a, a0 + k * ca, 0, ra, ca, B, k * ldb + j0, 0, ldb, c, c0, ldc, 1, K, c, c0, ldc)
        elif k == k0:
            product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, K, d, d0, ldd)
        else:
            product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, K, c, c0, ldc)


@inner
def settle(z, rows, width, n, b, y, r0, j0):
    """y[r0:, j0:] = z + b for z (rows, width) of n true columns."""
    for r in range(rows):
        row, out, bias = z[r * width:r * width + n], y[r0 + r, j0:j0 + n], b[j0:j0 + n]
        for j in range(n):
            out[j] = row[j] + bias[j]


@inner
def settle_turned(z, rows, width, n, b, code, alpha, y, r0, j0):
    """y[j0:, r0:] = f(z^T + b) for z (rows, width) of n true columns."""
    for r in range(rows if b.size > 0 else 0):
        row, bias = z[r * width:(r + 1) * width], b[r0 + r]
        for j in range(width):
            row[j] += bias
    apply(z[:rows * width], code, alpha)
    turn(z, 0, width, rows, n, y, j0 * y.shape[1] + r0, y.shape[1])


@inner
def part_of_grid(k, blocks, chunks, rows, columns, size):
    """Chunk k of a grid: the rows r0 ... r1, and the columns j0 ... j1 in whole panels of `size`."""
    groups = chunks // blocks
    r0, r1 = share(k // groups, blocks, rows)
    p0, p1 = share(k % groups, groups, (columns + size - 1) // size)
    return r0, r1, p0 * size, min(columns, p1 * size)


@inner
def product_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, room, z, none, y):
    """A chunk of y = f(left right + b); with `turned` of y = f((left right^T)^T + b)."""
    K, columns, size = left.shape[1], right.shape[0] if turned else right.shape[1], room.size // DEPTH
    start = b if b.size > 0 else none
    r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, left.shape[0], columns, size)
    rows = r1 - r0
    for j in range(j0, j1, size):
        n = min(size, j1 - j)
        width = panel_width(n, room)
        if n == width and not turned:
            at = r0 * columns + j
            panel(left, r0 * K, K, 1, rows, right, False, 0, K, j, n, room, y, at, columns, start, j, ONE_ROW)
        else:
            panel(left, r0 * K, K, 1, rows, right, turned, 0, K, j, n, room, z, 0, width, none, 0, ONE_ROW)
            if turned:
                settle_turned(z, rows, width, n, b, code, alpha, y, r0, j)
            else:
                settle(z, rows, width, n, start, y, r0, j)
    if not turned:
        for r in range(r0, r1):
            apply(y[r, j0:j1], code, alpha)


@inner
def sum_part(k, left, right, turned, parts, room, z, none):
    """z = part k of the sums of a product of one panel."""
    k0, k1 = share(k, parts, left.shape[1])
    columns = right.shape[0] if turned else right.shape[1]
    panel(left, 0, left.shape[1], 1, left.shape[0], right, turned, k0, k1, 0, columns, room,
          z, 0, panel_width(columns, room), none, 0, ONE_ROW)


@inner
def weight_grad_chunk(x, dz, r0, r1, j0, j1, room, tall, z, none, dW):
    """Rows and columns of dW += x^T dz; where there are more than DEPTH pictures, columns of x are laid out too."""
    N, ldx, columns, size = x.shape[0], x.shape[1], dz.shape[1], room.size // DEPTH
    rows, left, at, ca = r1 - r0, x.reshape(-1), r0, ldx
    parts = (N + DEPTH - 1) // DEPTH
    for part in range(parts):
        n0, n1 = share(part, parts, N)
        if tall.size > 0:
            pack(x, False, n0, n1, r0, rows, rows, tall)
            left, at, ca = tall, -n0 * rows, rows
        for j in range(j0, j1, size):
            n = min(size, j1 - j)
            width = panel_width(n, room)
            if n == width:
                c = r0 * columns + j
                panel(left, at, 1, ca, rows, dz, False, n0, n1, j, n, room, dW, c, columns, dW, c, columns)
            else:
                panel(left, at, 1, ca, rows, dz, False, n0, n1, j, n, room, z, 0, width, none, 0, ONE_ROW)
                for r in range(rows):
                    row, out = z[r * width:r * width + n], dW[r0 + r, j:j + n]
                    for i in range(n):
                        out[i] += row[i]


# ---- the doors

@inner
def _forward_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y):
    if parts == 1:
        product_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, room[k], z[k], none, y)
    else:
        sum_part(k, left, right, turned, parts, room[k], z[k], none)


@door
def _forward(left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y):
    launch(_forward_chunk, chunks, (left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, none, y))
    if parts > 1:
        columns = right.shape[0] if turned else right.shape[1]
        for k in range(1, parts):
            for i in range(z.shape[1]):
                z[0, i] += z[k, i]
        width = panel_width(columns, room[0])
        if turned:
            settle_turned(z[0], left.shape[0], width, columns, b, code, alpha, y, 0, 0)
        else:
            settle(z[0], left.shape[0], width, columns, b, y, 0, 0)
            apply(y.reshape(-1), code, alpha)


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
def _backward_chunk(k, x, dz, swap, dW, sums, db, left, right, turned, w_blocks, w_chunks, blocks, chunks, room, tall,
                    z, none, dx):
    if k >= w_chunks:
        product_chunk(k - w_chunks, left, right, turned, none[:0], IDENTITY, 0.0, blocks, chunks, room[k], z[k], none,
                      dx)
        return
    a, c = (dz, x) if swap else (x, dz)
    r0, r1, j0, j1 = part_of_grid(k, w_blocks, w_chunks, a.shape[1], c.shape[1], room.shape[1] // DEPTH)
    weight_grad_chunk(a, c, r0, r1, j0, j1, room[k], tall[k], z[k], none, dW)
    if swap and j0 == 0:
        add_column_sums(dz, r0, r1, sums, db)
    elif r0 == 0 and not swap:
        add_column_sums(dz, j0, j1, sums, db)


@door
def _backward(y, dy, code, alpha, slope_chunks, dz, x, swap, dW, sums, db, left, right, turned, w_blocks, w_chunks,
              blocks, chunks, room, tall, z, none, dx):
    if code != IDENTITY:
        launch(_slope_part, slope_chunks, (slope_chunks, y.reshape(-1), dy.reshape(-1), code, alpha, dz.reshape(-1)))
    launch(_backward_chunk, w_chunks + chunks, (x, dz, swap, dW, sums, db, left, right, turned, w_blocks, w_chunks,
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
    out = np.empty((x.shape[0], W.shape[1]), x.dtype) if out is None else out
    left, right, turned = (W.T, x, True) if _turned(W) else (x, W, False)
    (rows, depth), columns = left.shape, out.size // left.shape[0]
    blocks, chunks, tallest = _grid(rows, columns, depth, lanes(x.dtype))
    parts = _pieces(CHUNKS, rows * depth * lanes(x.dtype)) if chunks == 1 and depth >= LONG else 1
    room, z, none = _scratch(work or Workspace(), max(chunks, parts), tallest, 0, x.dtype)
    _forward(left, right, turned, b, max(code, IDENTITY), alpha, blocks, max(chunks, parts), parts, room, z, none, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    _fit(x, W, db)
    code, alpha = code_of(activation)
    work, n = work or Workspace(), x.shape[0]
    dy = dy if code >= 0 else dy * activation.slope(y)
    dz = work.empty("dz", y.shape, y.dtype) if code > IDENTITY else dy
    swap = _turned(dW)
    dW = dW.T if swap else dW  # dW^T += dz^T x
    w_blocks, w_chunks, w_rows = _grid(dW.shape[0], dW.shape[1], n, lanes(x.dtype))
    left, right, turned = (dz, W.T, False) if _turned(W) else (W, dz, True)
    blocks, chunks, rows = 1, 0, 0
    if dx is not None:
        blocks, chunks, rows = _grid(left.shape[0], dx.size // left.shape[0], y.shape[1], lanes(x.dtype))
    room, z, none = _scratch(work, w_chunks + chunks, max(w_rows, rows), x.shape[1], x.dtype)
    tall = work.empty("tall", (w_chunks, DEPTH * w_rows if n > DEPTH else 0), x.dtype)
    sums = work.empty("db", (y.shape[1],), np.float64)
    _backward(y, dy, max(code, IDENTITY), alpha, _pieces(CHUNKS, y.size * SLOPE), dz, x, swap, dW, sums, db, left,
              right, turned, w_blocks, w_chunks, blocks, chunks, room, tall, z, none, x if dx is None else dx)
    return dx
