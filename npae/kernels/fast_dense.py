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
from npae.kernels.fast_tile import VECTORS, lanes, product, ready
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
def panel(a, a0, ra, ca, M, B, turned, k0, k1, j0, n, room, c, c0, ldc, add):
    """C (M, n) (+)= A[:, k0:k1] B[k0:k1, j0:j0 + n], with A[i, k] = a[a0 + i ra + k ca]; columns up to the width are 0."""
    width = panel_width(n, room)
    for k in range(k0, k1, DEPTH):
        end = min(k1, k + DEPTH)
        pack(B, turned, k, end, j0, n, width, room)
        product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, end - k, add or k > k0)


@inner
def settle(z, rows, width, n, turned, b, code, alpha, y, r0, j0):
    """y[r0:, j0:] = f(z + b) for z (rows, width) of n true columns; with `turned`, y[j0:, r0:] = f(z^T + b)."""
    z = z[:rows * width]
    if b.size > 0:
        for r in range(rows):
            row = z[r * width:(r + 1) * width]
            if turned:
                for j in range(width):
                    row[j] += b[r0 + r]
            else:
                for j in range(n):
                    row[j] += b[j0 + j]
    apply(z, code, alpha)
    if turned:
        for j in range(n):
            out = y[j0 + j, r0:r0 + rows]
            for r in range(rows):
                out[r] = z[r * width + j]
    else:
        for r in range(rows):
            row, out = z[r * width:r * width + n], y[r0 + r, j0:j0 + n]
            for j in range(n):
                out[j] = row[j]


@inner
def part_of_grid(k, blocks, chunks, rows, columns, size):
    """Chunk k of a grid: the rows r0 ... r1, and the columns j0 ... j1 in whole panels of `size`."""
    r0, r1 = share(k % blocks, blocks, rows)
    p0, p1 = share(k // blocks, chunks // blocks, (columns + size - 1) // size)
    return r0, r1, p0 * size, min(columns, p1 * size)


@inner
def product_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, y):
    """A chunk of y = f(left right + b), or with `turned` of y = f((left right^T)^T + b) with the rows of y as columns.

    With parts > 1 the chunk is part k of every sum, and is left in z.
    """
    K, columns, size = left.shape[1], right.shape[0] if turned else right.shape[1], room.size // DEPTH
    if parts > 1:
        k0, k1 = share(k, parts, K)
        panel(left, 0, K, 1, left.shape[0], right, turned, k0, k1, 0, columns, room, z, 0, panel_width(columns, room), 0)
        return
    r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, left.shape[0], columns, size)
    for j in range(j0, j1, size):
        n = min(size, j1 - j)
        width = panel_width(n, room)
        panel(left, r0 * K, K, 1, r1 - r0, right, turned, 0, K, j, n, room, z, 0, width, 0)
        settle(z, r1 - r0, width, n, turned, b, code, alpha, y, r0, j)


@inner
def weight_grad_chunk(k, x, dz, blocks, chunks, room, z, dW):
    """A chunk of dW += x^T dz."""
    N, rows, columns, size = x.shape[0], x.shape[1], dz.shape[1], room.size // DEPTH
    r0, r1, j0, j1 = part_of_grid(k, blocks, chunks, rows, columns, size)
    for j in range(j0, j1, size):
        n = min(size, j1 - j)
        width = panel_width(n, room)
        if n == width:
            panel(x, r0, 1, rows, r1 - r0, dz, False, 0, N, j, n, room, dW, r0 * columns + j, columns, 1)
        else:
            panel(x, r0, 1, rows, r1 - r0, dz, False, 0, N, j, n, room, z, 0, width, 0)
            for r in range(r0, r1):
                for i in range(n):
                    dW[r, j + i] += z[(r - r0) * width + i]


# ---- the doors

@inner
def _forward_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, y):
    product_chunk(k, left, right, turned, b, code, alpha, blocks, chunks, parts, room[k], z[k], y)


@door
def _forward(left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, y):
    launch(_forward_chunk, chunks, (left, right, turned, b, code, alpha, blocks, chunks, parts, room, z, y))
    if parts > 1:
        columns = right.shape[0] if turned else right.shape[1]
        for k in range(1, parts):
            for i in range(z.shape[1]):
                z[0, i] += z[k, i]
        settle(z[0], left.shape[0], panel_width(columns, room[0]), columns, turned, b, code, alpha, y, 0, 0)


@inner
def _slope_rows(k, y, dy, code, alpha, dz, db):
    lo, hi = share(k, db.shape[0], y.shape[0])
    if code != IDENTITY:
        times_slope(dz[lo:hi].reshape(-1), y[lo:hi].reshape(-1), dy[lo:hi].reshape(-1), code, alpha)
    db, dz = db[k], dz[lo:hi]
    db[:] = 0
    for r in range(dz.shape[0]):
        row = dz[r]
        for o in range(db.size):
            db[o] += row[o]


@inner
def _backward_chunk(k, x, dz, dW, left, right, turned, none, w_blocks, w_chunks, blocks, chunks, room, z, dx):
    if k < w_chunks:
        weight_grad_chunk(k, x, dz, w_blocks, w_chunks, room[k], z[k], dW)
    else:
        product_chunk(k - w_chunks, left, right, turned, none, IDENTITY, 0.0, blocks, chunks, 1, room[k], z[k], dx)


@door
def _backward(y, dy, code, alpha, dz, db_k, db, x, w_dz, dW, left, right, turned, w_blocks, w_chunks, blocks, chunks,
              room, z, dx):
    launch(_slope_rows, db_k.shape[0], (y, dy, code, alpha, dz, db_k))
    for k in range(1, db_k.shape[0]):
        for o in range(db.size):
            db_k[0, o] += db_k[k, o]
    for o in range(db.size):
        db[o] += db_k[0, o]
    launch(_backward_chunk, w_chunks + chunks, (x, w_dz, dW, left, right, turned, db[:0], w_blocks, w_chunks, blocks,
                                                chunks, room, z, dx))


# ---- the kernels

def _grid(rows: int, columns: int, dtype) -> tuple[int, int, int]:
    """Into how many blocks of rows, and how many chunks in all, a product is cut; and the rows of the largest block."""
    blocks = -(-rows // TALL)
    panels = -(-columns // (VECTORS * lanes(dtype)))
    return blocks, blocks * min(panels, max(1, CHUNKS // blocks)), -(-rows // blocks)


def _scratch(work, chunks, rows, dtype):
    """For each chunk a dense panel and the sums z of one panel."""
    ready(dtype)
    size = VECTORS * lanes(dtype)
    return work.empty("room", (chunks, DEPTH * size), dtype), work.empty("z", (chunks, rows * size), dtype)


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
    room, z = _scratch(work or Workspace(), chunks, rows, x.dtype)
    _forward(left, right, turned, b, max(code, IDENTITY), alpha, blocks, chunks, parts, room, z, out)
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
    room, z = _scratch(work, w_chunks + chunks, max(w_rows, rows), x.dtype)
    _backward(y, dy, max(code, IDENTITY), alpha, dz, db_k, db, a, c, dW, left, right, turned, w_blocks, w_chunks,
              blocks, chunks, room, z, x if dx is None else dx)
    return dx
