"""Activations inside compiled loops: a whole block of numbers at once, in place, chosen by an integer.
The choice is made once a block and not once a number, so that each loop stays simple enough to become vector code.
"""
from __future__ import annotations

import math

import numpy as np

from npae.kernels.fast_link import linked, ready
from npae.kernels.fast_math import exp_minus, log1p_unit, tanh
from npae.kernels.fast_parallel import door, inner, launch

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, SOFTPLUS = range(6)
BLOCK = 4096  # numbers a task: enough to pay for its start, small enough to share a picture among threads


def code_of(activation) -> tuple[int, float]:
    """The integer and the parameter by which the loops know an activation; -1 for one that they do not know."""
    return getattr(activation, "code", -1), float(getattr(activation, "alpha", 0.0))


@linked(arrays="z", floats="alpha")
def apply(z, code, alpha):
    """z = f(z) in place, for a contiguous block z."""
    zero, one, a = z.dtype.type(0), z.dtype.type(1), z.dtype.type(alpha)
    if code == RELU:
        for i in range(z.size):
            z[i] = zero if z[i] <= zero else z[i]  # not "z if z > 0 else 0": that would swallow a NaN
    elif code == LEAKY_RELU:
        for i in range(z.size):
            z[i] = a * z[i] if z[i] <= zero else z[i]
    elif code == SIGMOID:
        for i in range(z.size):
            e = exp_minus(abs(z[i]))  # at most 1, so that nothing overflows
            z[i] = (e if z[i] < zero else one) / (one + e)
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    elif code == SOFTPLUS:
        for i in range(z.size):
            z[i] = (zero if z[i] <= zero else z[i]) + log1p_unit(exp_minus(abs(z[i])))


@linked(arrays="dz y dy", floats="alpha")
def times_slope(dz, y, dy, code, alpha):
    """dz = f'(y) dy, the slope as a function of the output, for contiguous blocks."""
    zero, one, a = y.dtype.type(0), y.dtype.type(1), y.dtype.type(alpha)
    if code == IDENTITY:
        for i in range(y.size):
            dz[i] = dy[i]
    elif code == RELU:
        for i in range(y.size):
            dz[i] = dy[i] * (one if y[i] > zero else (zero if y[i] <= zero else y[i]))
    elif code == LEAKY_RELU:
        for i in range(y.size):
            dz[i] = dy[i] * (one if y[i] > zero else (a if y[i] <= zero else y[i]))
    elif code == SIGMOID:
        for i in range(y.size):
            dz[i] = dy[i] * (y[i] * (one - y[i]))
    elif code == TANH:
        for i in range(y.size):
            dz[i] = dy[i] * (one - y[i] * y[i])
    elif code == SOFTPLUS:
        for i in range(y.size):
            dz[i] = dy[i] * -math.expm1(-y[i])


def _blocks(x):
    return -(-x.size // BLOCK)


@inner
def _apply_block(k, x, code, alpha, y):
    lo, hi = k * BLOCK, min(x.size, (k + 1) * BLOCK)
    y[lo:hi] = x[lo:hi]
    apply(y[lo:hi], code, alpha)


@door
def _apply_blocks(blocks, *args):
    launch(_apply_block, blocks, args)


@inner
def _slope_block(k, y, dy, code, alpha, dx):
    lo, hi = k * BLOCK, min(y.size, (k + 1) * BLOCK)
    times_slope(dx[lo:hi], y[lo:hi], dy[lo:hi], code, alpha)


@door
def _slope_blocks(blocks, *args):
    launch(_slope_block, blocks, args)


def activate(x, activation, out=None):
    """y = f(x)"""
    code, alpha = code_of(activation)
    out = np.empty(x.shape, x.dtype) if out is None else out
    if code < 0:
        out[...] = activation.f(x)
    else:
        ready(x.dtype)
        _apply_blocks(_blocks(x), x.reshape(-1), code, alpha, out.reshape(-1))
    return out


def activate_input_grad(y, dy, activation, out=None):
    """dx = f'(y) dy"""
    code, alpha = code_of(activation)
    out = np.empty(y.shape, y.dtype) if out is None else out
    if code < 0:
        out[...] = dy * activation.slope(y)
    else:
        ready(y.dtype)
        _slope_blocks(_blocks(y), y.reshape(-1), dy.reshape(-1), code, alpha, out.reshape(-1))
    return out
