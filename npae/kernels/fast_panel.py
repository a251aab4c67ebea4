"""A matrix product, cut into panels of columns that fit the register tile of `fast_tile`.

A panel is as wide as the tile, and DEPTH of its rows at a time are laid out densely (`pack`), so that they stay in the
first cache while all rows of the left matrix pass by. What is summed is either written where it belongs, or lands in a
small scratch z, from which `settle` takes it before it leaves the cache.
"""
from __future__ import annotations

from npae.kernels.fast_link import linked
from npae.kernels.fast_parallel import inner, share
from npae.kernels.fast_tile import ROWS, VECTOR_BYTES, VECTORS, prefetch, product, turn, turn_block
from npae.kernels.workspace import CACHE_LINE

DEPTH = 224  # at most so many rows of a panel are laid out at a time: 28 KB, three fifths of a first cache
FEW = 2 * ROWS  # rows of the left matrix that need no panel
AHEAD = 16  # rows of a panel that are on their way from the memory at a time


@linked(arrays="b room")
def pack(K, n, b, b0, ldb, turned, room, width):
    """room (K, width) = B with n columns, and zeros to the right of them.

    B[k, j] = b[b0 + k ldb + j], or with `turned` b[b0 + j ldb + k].
    """
    lanes, line = VECTOR_BYTES // b.itemsize, CACHE_LINE // b.itemsize
    if turned:
        for j in range(0, n, lanes):
            for k in range(0, K, lanes):
                if k + lanes <= K:
                    turn_block(b, b0 + j * ldb + k, ldb, min(lanes, n - j), room, k * width + j, width)
                else:
                    turn(b, b0 + j * ldb + k, ldb, min(lanes, n - j), K - k, room, k * width + j, width)
    else:
        for k in range(K):
            for j in range(0, n, line):  # rows lie too far apart for the processor to guess the next one
                prefetch(b, b0 + (k + AHEAD) * ldb + j)
            row, dense = b[b0 + k * ldb:b0 + k * ldb + n], room[k * width:k * width + n]
            for j in range(n):
                dense[j] = row[j]
    for k in range(K if n < width else 0):  # nobody takes their sums, but NaNs and denormals would cost time
        for j in range(k * width + n, (k + 1) * width):
            room[j] = 0


@inner
def panel_width(n, room):
    """Columns of a dense panel for n of them: one vector, or as many as a tile has."""
    slim = VECTOR_BYTES // room.itemsize
    return slim if n <= slim else slim * VECTORS


@linked(arrays="a b room c d")
def panel(M, n, K, a, a0, ra, ca, b, b0, ldb, turned, room, c, c0, ldc, d, d0, ldd):
    """C (M, panel_width) = D + A B for n columns of B, which is that of `pack`; A, C and D are those of `product`.

    For few rows it does not pay to lay B out: each number of it is used but once or twice.
    """
    width, parts = panel_width(n, room), (K + DEPTH - 1) // DEPTH
    for part in range(parts):
        k, end = share(part, parts, K)
        at = b0 + (k if turned else k * ldb)
        if M <= FEW and n == width and not turned:
            product(M, width, a, a0 + k * ca, 0, ra, ca, b, at, 0, ldb, c, c0, ldc, 1, end - k, d, d0, ldd)
        else:
            pack(end - k, n, b, at, ldb, turned, room, width)
            product(M, width, a, a0 + k * ca, 0, ra, ca, room, 0, 0, width, c, c0, ldc, 1, end - k, d, d0, ldd)
        d, d0, ldd = c, c0, ldc  # the other parts add to the first


@linked(arrays="z d y")
def settle(rows, n, z, width, d, d0, ldd, y, y0, ldy):
    """Y (rows, n) = Z + D for Z (rows, width): Y[r, j] = y[y0 + r ldy + j], and D alike (with ONE_ROW a bias)."""
    for r in range(rows):
        row, out = z[r * width:r * width + n], y[y0 + r * ldy:y0 + r * ldy + n]
        start = d[d0 + r * ldd:d0 + r * ldd + n]
        for j in range(n):
            out[j] = row[j] + start[j]
