"""The one hot loop: a small tile of the result stays in the processor's registers while rows and columns stream by.
Written as LLVM vector operations, because compiled loops alone leave three quarters of the machine unused.
"""
from __future__ import annotations

import functools

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from npae.kernels.fast_link import linked
from npae.kernels.fast_parallel import share


def _machine() -> tuple[int, int]:
    """Bytes in a vector register of the processor that Numba compiles for, and how many such registers it has.

    The compiler is asked rather than a table of processors: which registers does it take to add 64 bytes?
    """
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvmlite.binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    module.triple = triple
    add = ir.Function(module, ir.FunctionType(ir.VoidType(), [vector.as_pointer()] * 2), "add")
    build = ir.IRBuilder(add.append_basic_block())
    build.store(build.fadd(*map(build.load, add.args)), add.args[0])
    build.ret_void()
    assembly = machine.emit_assembly(llvmlite.binding.parse_assembly(str(module)))
    if "zmm" in assembly:
        return 64, 32
    if "ymm" in assembly:
        return 32, 16
    return 16, 32 if triple.startswith(("aarch64", "arm64")) else 16


VECTOR_BYTES, REGISTERS = _machine()
VECTORS = 2  # the columns of a tile
ROWS = 14 if REGISTERS == 32 else 6  # at most: a tile of 14 x 2, 2 registers for B and 1 for A are 31 of 32


@functools.lru_cache(maxsize=64)
def lanes(dtype) -> int:
    """Numbers in one vector: with AVX-512, 16 of float32 and 8 of float64. Columns of B and C come in multiples."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def widened(columns: int, dtype) -> int:
    """The next multiple of `lanes`."""
    return -(-columns // lanes(dtype)) * lanes(dtype)


class _Emitter:
    """Emits the code of one tile after another; addresses and strides count bytes."""

    def __init__(self, build, scalar, a, sa, ra, ca, b, sb, ldb, c, ldc, S, K, d, ldd):
        self.build, self.scalar = build, scalar
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.vector = ir.VectorType(scalar, VECTOR_BYTES // self.size)
        self.a, self.sa, self.ra, self.ca, self.b, self.sb, self.ldb = a, sa, ra, ca, b, sb, ldb
        self.c, self.ldc, self.S, self.K, self.d, self.ldd = c, ldc, S, K, d, ldd
        # fmuladd, not fma: a machine without a fused multiply-add must not call a library for it
        name = f"llvm.fmuladd.v{self.vector.count}f{8 * self.size}"
        self.multiply_add = cgutils.get_or_insert_function(
            build.module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def step(self, base, index, stride):
        return self.build.add(base, self.build.mul(index, stride))

    def place(self, base, i, stride, j):
        """The pointer to vector j of row i."""
        word = ir.IntType(64)
        address = self.build.add(self.step(base, word(i), stride), word(j * VECTOR_BYTES))
        return self.build.inttoptr(address, self.vector.as_pointer())

    def spread(self, address):
        """One number of A in every lane."""
        number = self.build.load(self.build.inttoptr(address, self.scalar.as_pointer()))
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = self.build.insert_element(nothing, number, ir.IntType(32)(0))
        first = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), [0] * self.vector.count)
        return self.build.shuffle_vector(one, nothing, first)

    def apart(self, address):
        """The same address, of which the compiler does not know how it came about.

        Otherwise it counts on from row to row, and the address of each waits for that of the one before.
        """
        word = ir.IntType(64)
        return self.build.call(ir.InlineAsm(ir.FunctionType(word, [word]), "", "=r,0"), [address])

    def tile(self, rows: int, vectors: int) -> None:
        """C[i, :] = D[i, :] + sum_{s<S} sum_{k<K} A[s sa + i ra + k ca] B[s sb + k ldb + :] for rows x vectors of C."""
        build, word = self.build, ir.IntType(64)
        sums = [[cgutils.alloca_once(build, self.vector) for _ in range(vectors)] for _ in range(rows)]
        cells = [(i, j) for i in range(rows) for j in range(vectors)]
        for i, j in cells:
            build.store(build.load(self.place(self.d, i, self.ldd, j), align=self.size), sums[i][j])
        with cgutils.for_range(build, self.S) as outer:
            a_s, b_s = self.step(self.a, outer.index, self.sa), self.step(self.b, outer.index, self.sb)
            threes = [self.apart(self.step(a_s, word(i), self.ra)) for i in range(0, rows, 3)]
            with cgutils.for_range(build, self.K) as inner:
                b_k = self.step(b_s, inner.index, self.ldb)
                row = [build.load(self.place(b_k, 0, self.ldb, j), align=self.size) for j in range(vectors)]
                for i in range(rows):
                    first = self.step(threes[i // 3], inner.index, self.ca)  # one address for three rows: the
                    factor = self.spread(self.step(first, word(i % 3), self.ra))  # processor adds 0, 1 or 2 strides
                    for j in range(vectors):
                        total = build.call(self.multiply_add, [factor, row[j], build.load(sums[i][j])])
                        build.store(total, sums[i][j])
        for i, j in cells:
            build.store(build.load(sums[i][j]), self.place(self.c, i, self.ldc, j), align=self.size)


def _make_tile(vectors: int):
    """A tile of any number of rows up to ROWS: each is code of its own, as registers cannot be counted at run time."""

    @intrinsic
    def tile(typing, rows, a, a0, sa, ra, ca, b, b0, sb, ldb, c, c0, ldc, S, K, d, d0, ldd):

        def generate(context, build, signature, args):
            scalar, word = context.get_value_type(a.dtype), ir.IntType(64)
            rows, a_, a0, sa, ra, ca, b_, b0, sb, ldb, c_, c0, ldc, S, K, d_, d0, ldd = args

            def count(numbers):  # in bytes
                return build.mul(numbers, word(a.dtype.bitwidth // 8))

            def address(array, offset):
                data = context.make_array(a)(context, build, array).data
                return build.add(build.ptrtoint(data, word), count(offset))

            emitter = _Emitter(build, scalar, address(a_, a0), count(sa), count(ra), count(ca), address(b_, b0),
                               count(sb), count(ldb), address(c_, c0), count(ldc), S, K, address(d_, d0), count(ldd))
            end = build.append_basic_block("end")
            choice = build.switch(rows, end)
            for height in range(1, ROWS + 1):
                block = build.append_basic_block(f"rows{height}")
                choice.add_case(height, block)
                build.position_at_end(block)
                emitter.tile(height, vectors)
                build.branch(end)
            build.position_at_end(end)
            return context.get_dummy_value()

        word, real = types.int64, a
        return types.void(word, real, *[word] * 4, real, *[word] * 3, real, *[word] * 4, real, word, word), generate

    return tile


_wide_tile, _slim_tile = _make_tile(VECTORS), _make_tile(1)


ONE_ROW = 0  # the ldd of a D whose one row stands for all


@linked(arrays="a b c d")
def product(M, N, a, a0, sa, ra, ca, b, b0, sb, ldb, c, c0, ldc, S, K, d, d0, ldd):
    """C[i, j] = D[i, j] + sum_{s<S} sum_{k<K} A[a0 + s sa + i ra + k ca] B[b0 + s sb + k ldb + j] for i < M, j < N.

    a, b, c, d: contiguous arrays of one dtype; offsets and strides count numbers; C[i, j] is c[c0 + i ldc + j], and D
    alike: C itself, to add to it, or with ldd = ONE_ROW a bias. N is a multiple of `lanes`.
    Strips of C are as wide as a tile, in each the rows in parts as equal as can be.
    """
    parts, slim = (M + ROWS - 1) // ROWS, VECTOR_BYTES // a.itemsize
    for j in range(0, N, VECTORS * slim):
        for p in range(parts):
            i, end = share(p, parts, M)
            a_i, b_j, c_ij, d_ij = a0 + i * ra, b0 + j, c0 + i * ldc + j, d0 + i * ldd + j
            if N - j >= VECTORS * slim:
                _wide_tile(end - i, a, a_i, sa, ra, ca, b, b_j, sb, ldb, c, c_ij, ldc, S, K, d, d_ij, ldd)
            else:
                _slim_tile(end - i, a, a_i, sa, ra, ca, b, b_j, sb, ldb, c, c_ij, ldc, S, K, d, d_ij, ldd)


@intrinsic
def prefetch(typing, a, i):
    """Ask for the cache line of number i of a contiguous array; it may lie beyond the end, where nothing happens."""
    size = a.dtype.bitwidth // 8

    def generate(context, build, signature, args):
        word, code, byte = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
        data = build.ptrtoint(context.make_array(signature.args[0])(context, build, args[0]).data, word)
        place = build.inttoptr(build.add(data, build.mul(args[1], word(size))), byte)
        fetch = cgutils.get_or_insert_function(build.module, ir.FunctionType(ir.VoidType(), [byte, code, code, code]),
                                               "llvm.prefetch.p0")
        build.call(fetch, [place, code(0), code(3), code(1)])  # to be read, into the first cache, data
        return context.get_dummy_value()

    return types.void(a, types.int64), generate


@intrinsic
def turn_block(typing, a, a0, lda, rows, b, b0, ldb):
    """B = A^T for one square of `lanes` x `lanes` numbers: as many perfect shuffles as it takes to turn it.

    Where A has fewer rows, its last one stands for those that are missing.

    A perfect shuffle of the rows r_0 ... r_{n-1} lays the first half and the second half together number by number, as
    one riffles cards. In the number of a card, row then column in binary, it moves the first digit to the end; once
    for each digit of the row, and row and column have changed places.
    """
    size = a.dtype.bitwidth // 8
    count = VECTOR_BYTES // size

    def generate(context, build, signature, args):
        word, vector = ir.IntType(64), ir.VectorType(ir.FloatType() if size == 4 else ir.DoubleType(), count)

        def place(array, kind, offset, i, stride):
            data = build.ptrtoint(context.make_array(kind)(context, build, array).data, word)
            numbers = build.add(offset, build.mul(i, stride))
            return build.inttoptr(build.add(data, build.mul(numbers, word(size))), vector.as_pointer())

        def lay_together(x, y, first):
            order = [first + i // 2 + (i % 2) * count for i in range(count)]
            return build.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), count), order))

        def upto(i):
            last = build.sub(rows, word(1))
            return build.select(build.icmp_signed("<", word(i), last), word(i), last)

        a, a0, lda, rows, b, b0, ldb = args
        half = count // 2
        cards = [build.load(place(a, signature.args[0], a0, upto(i), lda), align=size) for i in range(count)]
        for _ in range(count.bit_length() - 1):
            cards = [lay_together(cards[i // 2], cards[i // 2 + half], (i % 2) * half) for i in range(count)]
        for i in range(count):
            build.store(cards[i], place(b, signature.args[4], b0, word(i), ldb), align=size)
        return context.get_dummy_value()

    word = types.int64
    return types.void(a, word, word, word, b, word, word), generate


@linked(arrays="a b")
def turn(a, a0, lda, rows, columns, b, b0, ldb):
    """B (columns, rows) = A^T for A (rows, columns): A[i, j] = a[a0 + i lda + j] and B[j, i] = b[b0 + j ldb + i]."""
    lanes = VECTOR_BYTES // a.itemsize
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            if i + lanes <= rows and j + lanes <= columns:
                turn_block(a, a0 + i * lda + j, lda, lanes, b, b0 + j * ldb + i, ldb)
            else:
                for q in range(j, min(columns, j + lanes)):
                    for p in range(i, min(rows, i + lanes)):
                        b[b0 + q * ldb + p] = a[a0 + p * lda + q]
