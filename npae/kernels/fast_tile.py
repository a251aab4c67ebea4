"""The one hot loop: a small tile of the result stays in the processor's registers while rows and columns stream by.
Written as LLVM vector operations, because compiled loops alone leave three quarters of the machine unused.
"""
from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npae.kernels.fast_parallel import by_address, inner

# A tile is up to 14 rows x 2 vectors of 64 bytes: 28 of AVX-512's 32 registers, 2 for B, 1 for A. Narrower machines get
# the same code split by LLVM. Fewer rows for what is left over: any number is a sum of these.
ROWS = (14, 7, 4, 2, 1)
VECTOR_BYTES = 64


def lanes(dtype) -> int:
    """Numbers in one vector: 16 of float32, 8 of float64. Columns of B and C come in multiples of it."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def widened(columns: int, dtype) -> int:
    """The next multiple of `lanes`."""
    return -(-columns // lanes(dtype)) * lanes(dtype)


def _make_tile(rows: int, vectors: int):
    """C[i, :] (+)= sum_{s<S} sum_{k<K} A[s sa + i ra + k ca] B[s sb + k ldb + :] for `rows` rows of `vectors` vectors.

    Addresses and strides are bytes; `zero` tells the dtype. With `add` the sums start at C, else at zero.
    """

    @intrinsic
    def tile(typing, zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
        size = zero.bitwidth // 8
        scalar = ir.FloatType() if size == 4 else ir.DoubleType()
        count = VECTOR_BYTES // size
        vector = ir.VectorType(scalar, count)
        word = ir.IntType(64)

        def generate(context, build, signature, args):
            _, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add = args
            # fmuladd, not fma: a machine without a fused multiply-add must not call a library for it
            multiply_add = cgutils.get_or_insert_function(
                build.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{count}f{8 * size}")
            sums = [[cgutils.alloca_once(build, vector) for _ in range(vectors)] for _ in range(rows)]
            cells = [(i, j) for i in range(rows) for j in range(vectors)]

            def step(base, index, stride):
                return build.add(base, build.mul(index, stride))

            def place(base, i, stride, j=0):  # the pointer to vector j of row i
                address = build.add(step(base, word(i), stride), word(j * VECTOR_BYTES))
                return build.inttoptr(address, vector.as_pointer())

            def spread(base, i, stride):  # one number of A in every lane
                pointer = build.inttoptr(step(base, word(i), stride), scalar.as_pointer())
                nothing = ir.Constant(vector, ir.Undefined)
                one = build.insert_element(nothing, build.load(pointer), ir.IntType(32)(0))
                first = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
                return build.shuffle_vector(one, nothing, first)

            with build.if_else(build.icmp_signed("!=", add, word(0))) as (adding, starting):
                with adding:
                    for i, j in cells:
                        build.store(build.load(place(c, i, ldc, j), align=size), sums[i][j])
                with starting:
                    for i, j in cells:
                        build.store(ir.Constant(vector, [0.0] * count), sums[i][j])
            with cgutils.for_range(build, S) as outer:
                a_s, b_s = step(a, outer.index, sa), step(b, outer.index, sb)
                with cgutils.for_range(build, K) as inner:
                    a_k, b_k = step(a_s, inner.index, ca), step(b_s, inner.index, ldb)
                    row = [build.load(place(b_k, 0, ldb, j), align=size) for j in range(vectors)]
                    for i in range(rows):
                        factor = spread(a_k, i, ra)
                        for j in range(vectors):
                            build.store(build.call(multiply_add, [factor, row[j], build.load(sums[i][j])]), sums[i][j])
            for i, j in cells:
                build.store(build.load(sums[i][j]), place(c, i, ldc, j), align=size)
            return context.get_dummy_value()

        return types.void(zero, *[types.int64] * 12), generate

    @inner
    def call(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
        tile(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)

    return call


def _make_tallest(tile14, tile7, tile4, tile2, tile1):
    """The tallest of these tiles that fits into the rows that are left; gives the rows that it did."""

    @inner
    def tallest(left, zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
        if left >= 14:
            tile14(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)
            return 14
        if left >= 7:
            tile7(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)
            return 7
        if left >= 4:
            tile4(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)
            return 4
        if left >= 2:
            tile2(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)
            return 2
        tile1(zero, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)
        return 1

    return tallest


_wide_tile = _make_tallest(*(_make_tile(rows, 2) for rows in ROWS))
_slim_tile = _make_tallest(*(_make_tile(rows, 1) for rows in ROWS))


@inner
def _tiles(zero, M, N, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
    """All tiles of M rows and N bytes: strips of two vectors, in each the rows from top to bottom."""
    j = 0
    while j < N:
        i = 0
        while i < M:
            a_i, b_j, c_ij = a + i * ra, b + j, c + i * ldc + j
            if N - j >= 2 * VECTOR_BYTES:
                i += _wide_tile(M - i, zero, a_i, sa, ra, ca, b_j, sb, ldb, c_ij, ldc, S, K, add)
            else:
                i += _slim_tile(M - i, zero, a_i, sa, ra, ca, b_j, sb, ldb, c_ij, ldc, S, K, add)
        j += 2 * VECTOR_BYTES


def _tiles_float32(M, N, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
    _tiles(np.float32(0), M, N, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)


def _tiles_float64(M, N, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add):
    _tiles(np.float64(0), M, N, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, add)


_drivers: dict[str, Any] = {}
NAMES = ("M", "N", "a", "a0", "sa", "ra", "ca", "b", "b0", "sb", "ldb", "c", "c0", "ldc", "S", "K", "add")


def ready(dtype) -> None:
    """Compile the tiles of a dtype (or take them from the cache) and make them known to compiled code by their name.

    Linking them into every kernel would compile them ten times over.
    """
    number = np.dtype(dtype).name
    if number not in _drivers:
        source = {"float32": _tiles_float32, "float64": _tiles_float64}[number]
        _drivers[number] = by_address(types.void(*[types.int64] * 14))(source)
        llvmlite.binding.add_symbol(f"npae_product_{number}", _drivers[number].address)


@intrinsic
def product(typing, M, N, a, a0, sa, ra, ca, b, b0, sb, ldb, c, c0, ldc, S, K, add):
    """C[i, j] (+)= sum_{s<S} sum_{k<K} A[a0 + s sa + i ra + k ca] B[b0 + s sb + k ldb + j] for i < M, j < N.

    a, b, c: contiguous arrays of one dtype; offsets and strides count numbers; C[i, j] is c[c0 + i ldc + j]; N is a
    multiple of `lanes`. With `add` != 0 the sums are added to C, else they replace it.
    """
    dtype = a.dtype
    size = dtype.bitwidth // 8

    def generate(context, build, signature, args):
        word = ir.IntType(64)
        values = dict(zip(NAMES, args, strict=True))
        address = {}
        for name, position in (("a", 2), ("b", 7), ("c", 11)):
            array = context.make_array(signature.args[position])(context, build, values[name])
            address[name] = build.add(build.ptrtoint(array.data, word), build.mul(values[name + "0"], word(size)))
        scaled = {name: build.mul(values[name], word(size)) for name in ("N", "sa", "ra", "ca", "sb", "ldb", "ldc")}
        driver = cgutils.get_or_insert_function(
            build.module, ir.FunctionType(ir.VoidType(), [word] * 14), f"npae_product_{dtype.name}")
        build.call(driver, [values["M"], scaled["N"], address["a"], scaled["sa"], scaled["ra"], scaled["ca"],
                            address["b"], scaled["sb"], scaled["ldb"], address["c"], scaled["ldc"],
                            values["S"], values["K"], values["add"]])
        return context.get_dummy_value()

    kinds = [{"a": a, "b": b, "c": c}.get(name, types.int64) for name in NAMES]
    return types.void(*kinds), generate
