"""Dense layers: matrix products cut into panels of columns that fit the register tile of `fast_tile`.

Why it is fast. A panel is as wide as the tile, and DEPTH of its rows at a time are laid out densely (`pack`), so that
they stay in the first cache while all rows of the left matrix pass by. What is summed lands in a small scratch z, to
which bias and activation are applied before it leaves the cache. A product with W^T is computed as the transpose of
W x^T: the few numbers of x are turned round and not all of W.
Work is cut into chunks by its shapes alone and every sum runs in one order: any number of threads gives the same bits.
"""
from __future__ import annotations

import numpy as np

from npae.kernels.fast_activation import IDENTITY, apply, code_of, times_slope
from npae.kernels.fast_parallel import door, inner, launch, share
from npae.kernels.fast_tile import ONE_ROW, VECTORS, lanes, product, ready
from npae.kernels.workspace import Workspace

CHUNKS = 16  # of one product: several for each of a few threads; never a function of their number
DEPTH = 192  # rows of a panel laid out at a time: 24 KB, half of a first cache
TALL = 256  # rows of the left matrix that a chunk takes on, where there are so many
LONG = 1024  # a sum of at least this length is cut into CHUNKS parts where there is nothing else to cut
SMALL = 32768  # numbers that one thread alone is through with before others have woken up


@inner
def pack(B, turned, k0, k1, j0, n, width, room):
    """room (k1 - k0, width) = B[k0:k1, j0:j0 + n], or B[j0:j0 + n, k0:k1]^T with `turned`; zeros to the right of it."""
    if turned:
        for j in range(n):
            row = B[j0 + j, k0:k1]
            for k in range(row.size):
                room[k * width + j] = row[k]
    else:
        for k in range(k0, k1):
            row, dense = B[k, j0:j0 + n], room[(k - k0) * width:]
            for j in range(n):
                dense[j] = row[j]
    if n < width:
        for k in range(k1 - k0):
            room[k * width + n:(k + 1) * width] = 0


@inner
def panel_width(n, room):
    """Columns of a dense panel for n of them: one vector, or as many as a tile has."""
    slim = room.size // (DEPTH * VECTORS)
    return slim if n <= slim else slim * VECTORS


@inner
def panel(a, a0, ra, ca, M, B, turned, k0, k1, j0, n, room, c, c0, ldc, d, d0, ldd):
    """C (M, width) = D + A[:, k0:k1] B[k0:k1, j0:j0 + n], with A[i, k] = a[a0 + i ra + k ca]; B^T with `turned`."""
    width = panel_width(n, room)
    for k in range(k0, k1, DEPTH):
        end = min(k1, k + DEPTH)
        pack(B, turned, k, end, j0, n, width, room)
        if k == k0:
            product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, end - k, d, d0, ldd)
        else:
            product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, end - k, c, c0, ldc)


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
    for r in range(rows):
        row, bias = z[r * width:(r + 1) * width], b[r0 + r]
        for j in range(width):
            row[j] += bias
    apply(z[:rows * width], code, alpha)
    for j in range(n):
        out = y[j0 + j, r0:r0 + rows]
        for r in range(rows):
            out[r] = z[r * width + j]


@inner
def part_of_grid(k, blocks, chunks, rows, columns, size):
    """Chunk k of a grid: the rows r0 ... r1, and the columns j0 ... j1 in whole panels of `size`."""
    r0, r1 = share(k % blocks, blocks, rows)
    p0, p1 = share(k // blocks, chunks // blocks, (columns + size - 1) // size)
    return r0, r1, p0 * size, min(columns, p1 * size)


@inner
def product_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, room, z, none, y):
    """A chunk of y = f(left right + b); with `turned` of y = f((left right^T)^T + b)."""
    K, columns, size = left.shape[1], right.shape[0] if turned else right.shape[1], room.size // DEPTH
    r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, left.shape[0], columns, size)
    rows = r1 - r0
    for j in range(j0, j1, size):
        n = min(size, j1 - j)
        width = panel_width(n, room)
        if n == width and not turned:
            panel(left, r0 * K, K, 1, rows, right, False, 0, K, j, n, room, y, r0 * columns + j, columns, b, j, ONE_ROW)
        else:
            panel(left, r0 * K, K, 1, rows, right, turned, 0, K, j, n, room, z, 0, width, none, 0, ONE_ROW)
            if turned:
                settle_turned(z, rows, width, n, b, code, alpha, y, r0, j)
            else:
                settle(z, rows, width, n, b, y, r0, j)
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
def weight_grad_chunk(k, x, dz, blocks, chunks, room, z, none, dW):
    """A chunk of dW += x^T dz."""
    N, rows, columns, size = x.shape[0], x.shape[1], dz.shape[1], room.size // DEPTH
    r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, rows, columns, size)
    for j in range(j0, j1, size):
        n = min(size, j1 - j)
        width = panel_width(n, room)
        if n == width:
            at = r0 * columns + j
            panel(x, r0, 1, rows, r1 - r0, dz, False, 0, N, j, n, room, dW, at, columns, dW, at, columns)
        else:
            panel(x, r0, 1, rows, r1 - r0, dz, False, 0, N, j, n, room, z, 0, width, none, 0, ONE_ROW)
            for r in range(r0, r1):
                row, out = z[(r - r0) * width:(r - r0) * width + n], dW[r, j:j + n]
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
def _slope_rows(k, y, dy, code, alpha, dz, db):
    lo, hi = share(k, db.shape[0], y.shape[0])
    if code != IDENTITY:
        times_slope(dz[lo:hi].reshape(-1), y[lo:hi].reshape(-1), dy[lo:hi].reshape(-1), code, alpha)
    db, dz = db[k], dz[lo:hi]
    for o in range(db.size):
        db[o] = 0
    for r in range(dz.shape[0]):
        row = dz[r]
        for o in range(db.size):
            db[o] += row[o]


@inner
def _backward_chunk(k, a, c, dW, left, right, turned, w_blocks, w_chunks, blocks, chunks, room, z, none, dx):
    if k < w_chunks:
        weight_grad_chunk(k, a, c, w_blocks, w_chunks, room[k], z[k], none, dW)
    else:
        product_chunk(k - w_chunks, left, right, turned, none, IDENTITY, 0.0, blocks, chunks, room[k], z[k], none, dx)


@door
def _backward(y, dy, code, alpha, dz, db_k, db, a, c, dW, left, right, turned, w_blocks, w_chunks, blocks, chunks,
              room, z, none, dx):
    """dW += a^T c, where a and c are x and dz, or for the transpose of dW dz and x."""
    launch(_slope_rows, db_k.shape[0], (y, dy, code, alpha, dz, db_k))
    for k in range(1, db_k.shape[0]):
        for o in range(db.size):
            db_k[0, o] += db_k[k, o]
    for o in range(db.size):
        db[o] += db_k[0, o]
    launch(_backward_chunk, w_chunks + chunks, (a, c, dW, left, right, turned, w_blocks, w_chunks, blocks, chunks,
                                                room, z, none, dx))


# ---- the kernels

def _grid(rows: int, columns: int, dtype) -> tuple[int, int, int]:
    """Into how many blocks of rows, and how many chunks in all, a product is cut; and the rows of the largest block."""
    blocks = -(-rows // TALL)
    panels = -(-columns // (VECTORS * lanes(dtype)))
    return blocks, blocks * min(panels, max(1, CHUNKS // blocks)), -(-rows // blocks)


def _scratch(work, chunks, rows, columns, dtype):
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
    blocks, chunks, rows = _grid(left.shape[0], out.size // left.shape[0], x.dtype)
    parts = CHUNKS if chunks == 1 and left.shape[1] >= LONG else 1
    chunks = max(chunks, parts)
    room, z, none = _scratch(work or Workspace(), chunks, rows, 0, x.dtype)
    _forward(left, right, turned, b, max(code, IDENTITY), alpha, blocks, chunks, parts, room, z, none, out)
    if code < 0:
        out[...] = activation.f(out)
    return out


def dense_backward(x, W, y, dy, activation, dW, db, dx=None, work=None):
    """dz = f'(y) dy;   dW += x^T dz;   db += sum_n dz;   dx = dz W^T"""
    _fit(x, W, db)
    code, alpha = code_of(activation)
    work = work or Workspace()
    dy = dy if code >= 0 else dy * activation.slope(y)
    dz = work.empty("dz", y.shape, y.dtype) if code > IDENTITY else dy
    db_k = work.empty("db", (1 if y.size < SMALL else CHUNKS // 2, y.shape[1]), np.float64)
    a, c, dW = (dz, x, dW.T) if _turned(dW) else (x, dz, dW)  # dW^T += dz^T x
    w_blocks, w_chunks, w_rows = _grid(*dW.shape, x.dtype)
    left, right, turned = (dz, W.T, False) if _turned(W) else (W, dz, True)
    blocks, chunks, rows = (1, 0, 0) if dx is None else _grid(left.shape[0], dx.size // left.shape[0], x.dtype)
    room, z, none = _scratch(work, w_chunks + chunks, max(w_rows, rows), x.shape[1], x.dtype)
    _backward(y, dy, max(code, IDENTITY), alpha, dz, db_k, db, a, c, dW, left, right, turned, w_blocks, w_chunks,
              blocks, chunks, room, z, none, x if dx is None else dx)
    return dx
