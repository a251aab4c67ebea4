"""exp, log1p and tanh as compiled loops want them: the C library's in float64; in float32 polynomials without a branch
or a call, so that the loop around them becomes vector code. NaN stays NaN; errors are below 2 ulp.
"""
from __future__ import annotations

import math

import numpy as np
from numba.extending import overload


def exp_minus(a):
    """exp(-a) for a >= 0; NaN stays NaN."""
    return np.exp(-a)


def log1p_unit(z):
    """log(1 + z) for 0 <= z <= 1; NaN stays NaN."""
    return np.log1p(z)


@overload(exp_minus)
def _typed_exp_minus(a):
    if a.bitwidth == 64:
        return lambda a: np.exp(-a)
    real, integer = np.float32, np.int32
    inv_ln2, ln2_high, ln2_low = real(1.44269504), real(0.693359375), real(-2.12194440e-4)
    magic = real(1.5 * 2**23)  # adding it rounds to the nearest integer, which then stands in the lowest bits
    magic_bits, bias, mantissa_bits = integer(magic.view(np.int32)), integer(127), integer(23)
    one, lowest = real(1), real(-104)  # exp(-104) rounds to zero
    # chebyshev fit of (exp(r) - 1 - r) / r² on |r| <= 0.347; relative error of exp 8e-9
    p0, p1, p2, p3, p4 = real(0.5), real(0.166665766), real(0.0416665541), real(0.00836324667), real(0.00139262681)

    def exp32(a):
        b = lowest if -a < lowest else -a
        shifted = b * inv_ln2 + magic
        k = integer(np.float32(shifted).view(np.int32) - magic_bits)
        whole = shifted - magic
        r = (b - whole * ln2_high) - whole * ln2_low
        power = one + (r + r * r * (p0 + r * (p1 + r * (p2 + r * (p3 + r * p4)))))
        half = integer(k >> integer(1))  # 2^k in two factors, so that denormal results come out right
        first = np.int32(integer(half + bias) << mantissa_bits).view(np.float32)
        second = np.int32(integer(integer(k - half) + bias) << mantissa_bits).view(np.float32)
        return power * first * second

    return exp32


@overload(log1p_unit)
def _typed_log1p_unit(z):
    if z.bitwidth == 64:
        return lambda z: np.log1p(z)
    real = np.float32
    two = real(2)
    # log(1 + z) = 2 artanh(s); chebyshev fit of (artanh(s)/s - 1) / s² on 0 <= s² <= 1/9, relative error 4e-10
    q0, q1, q2, q3, q4 = real(0.333333337), real(0.199998532), real(0.14296179), real(0.108532879), real(0.116121646)

    def log1p32(z):
        s = z / (two + z)
        w = s * s
        return two * (s + s * w * (q0 + w * (q1 + w * (q2 + w * (q3 + w * q4)))))

    return log1p32


def tanh(x):
    """tanh(x)"""
    return np.tanh(x)


@overload(tanh)
def _typed_tanh(x):
    if x.bitwidth == 64:
        return lambda x: math.tanh(x)
    real = np.float32
    zero, one, two, middle = real(0), real(1), real(2), real(0.625)
    # chebyshev fit of (tanh(x) / x - 1) / x² on |x| <= 0.625; relative error of tanh below 1 ulp
    p0, p1, p2, p3, p4, p5 = (real(-0.33333334), real(0.13333304), real(-0.05395941), real(0.02176996),
                              real(-0.00834698), real(0.00229584))

    def tanh32(x):
        a = abs(x)
        w = x * x
        small = x * (one + w * (p0 + w * (p1 + w * (p2 + w * (p3 + w * (p4 + w * p5))))))
        z = exp_minus(two * a)
        large = (one - z) / (one + z)
        return small if a < middle else (-large if x < zero else large)

    return tanh32
