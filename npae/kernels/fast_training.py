"""What a training step needs beside its layers, in Numba: the names and signatures of `reference_training`.
Each row or block of fixed size is one serial loop, which the compiler vectorises; blocks are dealt out to threads.
"""

import math

import numpy as np

from npae.kernels.fast_math import exp_minus, log1p_unit
from npae.kernels.fast_parallel import door, inner, launch
from npae.kernels.reference_training import TINY_MOMENT

BLOCK = 8192  # entries of a vector that one thread takes at a time; fixed, so that sums do not depend on the threads


# -- likelihoods --


@inner
def _sum(terms):
    """The sum in float64, in four interleaved parts that hide the latency of the addition."""
    a = b = c = d = 0.0
    whole = terms.size - terms.size % 4
    for i in range(0, whole, 4):
        a += terms[i]
        b += terms[i + 1]
        c += terms[i + 2]
        d += terms[i + 3]
    for i in range(whole, terms.size):
        a += terms[i]
    return (a + b) + (c + d)


@inner
def _sum_of_squares(terms):
    """Like `_sum`, of the squares; a float32 is widened before it is squared."""
    a = b = c = d = 0.0
    whole = terms.size - terms.size % 4
    for i in range(0, whole, 4):
        a += np.float64(terms[i]) * np.float64(terms[i])
        b += np.float64(terms[i + 1]) * np.float64(terms[i + 1])
        c += np.float64(terms[i + 2]) * np.float64(terms[i + 2])
        d += np.float64(terms[i + 3]) * np.float64(terms[i + 3])
    for i in range(whole, terms.size):
        a += np.float64(terms[i]) * np.float64(terms[i])
    return (a + b) + (c + d)


@inner
def _bernoulli_row(n, logits, x, nll, dlogits, scale):
    logits, x, dlogits = logits[n], x[n], dlogits[n]
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    terms = np.empty_like(logits)
    for j in range(logits.size):
        l = logits[j]
        z = exp_minus(abs(l))
        sigmoid = (one if l >= zero else z) / (one + z)
        dlogits[j] = (sigmoid - x[j]) * scale
        terms[j] = (zero if l <= zero else l) - x[j] * l + log1p_unit(z)
    nll[n] = _sum(terms)


@door
def _bernoulli(pictures, *args):
    launch(_bernoulli_row, pictures, args)


def bernoulli_nll(logits: np.ndarray, x: np.ndarray, nll: np.ndarray, dlogits: np.ndarray) -> None:
    """nll_n = Σ_j max(l, 0) - x l + log(1 + exp(-|l|));  dlogits = (sigmoid(l) - x) / N."""
    same_shapes(logits=logits.shape, x=x.shape, dlogits=dlogits.shape)
    same_shapes(pictures=logits.shape[:1], nll=nll.shape)
    _bernoulli(len(x), logits, x, nll, dlogits, logits.dtype.type(1 / len(logits)))


@inner
def _squared_row(n, y, x, scale, slope, sse, dy):
    y, x, dy = y[n], x[n], dy[n]
    difference = np.empty_like(y)
    for j in range(y.size):
        r = y[j] - x[j]
        difference[j] = r
        dy[j] = slope * r
    sse[n] = scale * _sum_of_squares(difference)


@door
def _squared(pictures, *args):
    launch(_squared_row, pictures, args)


def squared_error(y: np.ndarray, x: np.ndarray, scale: float, sse: np.ndarray, dy: np.ndarray) -> None:
    """sse_n = scale Σ_j (y - x)²;  dy = 2 scale (y - x) / N."""
    same_shapes(y=y.shape, x=x.shape, dy=dy.shape)
    same_shapes(pictures=y.shape[:1], sse=sse.shape)
    _squared(len(x), y, x, float(scale), y.dtype.type(2 * scale / len(y)), sse, dy)


# -- optimizer steps: each task is a block of the vectors --


@inner
def _block(k, vector):
    return vector[k * BLOCK:min((k + 1) * BLOCK, vector.size)]


def _blocks(vector):
    return -(-vector.size // BLOCK)


@inner
def _sgd_block(k, theta, grad, lr):
    theta, grad = _block(k, theta), _block(k, grad)
    for i in range(theta.size):
        theta[i] -= lr * grad[i]


@door
def _sgd(blocks, *args):
    launch(_sgd_block, blocks, args)


@inner
def _momentum_block(k, theta, grad, velocity, lr, momentum):
    theta, grad, velocity = _block(k, theta), _block(k, grad), _block(k, velocity)
    zero, tiny = theta.dtype.type(0), theta.dtype.type(TINY_MOMENT)
    for i in range(theta.size):
        a = momentum * velocity[i] + grad[i]
        a = zero if abs(a) < tiny else a
        velocity[i] = a
        theta[i] -= lr * a


@door
def _momentum(blocks, *args):
    launch(_momentum_block, blocks, args)


@inner
def _rmsprop_block(k, theta, grad, v, lr, rho, rest, eps):
    theta, grad, v = _block(k, theta), _block(k, grad), _block(k, v)
    zero, tiny = theta.dtype.type(0), theta.dtype.type(TINY_MOMENT)
    for i in range(theta.size):
        a = rho * v[i] + rest * grad[i] * grad[i]
        a = zero if a < tiny else a
        v[i] = a
        theta[i] -= lr * grad[i] / (math.sqrt(a) + eps)


@door
def _rmsprop(blocks, *args):
    launch(_rmsprop_block, blocks, args)


@inner
def _adam_block(k, theta, grad, m, v, step, root, shrink, beta1, rest1, beta2, rest2, eps):
    theta, grad, m, v = _block(k, theta), _block(k, grad), _block(k, m), _block(k, v)
    zero, tiny = theta.dtype.type(0), theta.dtype.type(TINY_MOMENT)
    for i in range(theta.size):
        a = beta1 * m[i] + rest1 * grad[i]
        b = beta2 * v[i] + rest2 * grad[i] * grad[i]
        a = zero if abs(a) < tiny else a
        b = zero if b < tiny else b
        m[i] = a
        v[i] = b
        theta[i] -= shrink * theta[i] + step * a / (math.sqrt(b) * root + eps)


@door
def _adam(blocks, *args):
    launch(_adam_block, blocks, args)


@inner
def _squares_block(k, g, partial):
    partial[k] = _sum_of_squares(_block(k, g))


@door
def _squares(blocks, *args):
    launch(_squares_block, blocks, args)


def sgd_step(theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
    """theta = theta - lr grad."""
    same_shapes(theta=theta.shape, grad=grad.shape)
    _sgd(_blocks(theta), theta, grad, theta.dtype.type(lr))


def momentum_step(theta: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float) -> None:
    """velocity = momentum velocity + grad;  theta = theta - lr velocity."""
    same_shapes(theta=theta.shape, grad=grad.shape, velocity=velocity.shape)
    real = theta.dtype.type
    _momentum(_blocks(theta), theta, grad, velocity, real(lr), real(momentum))


def rmsprop_step(theta: np.ndarray, grad: np.ndarray, v: np.ndarray, lr: float, rho: float, eps: float) -> None:
    """v = rho v + (1 - rho) grad²;  theta = theta - lr grad / (sqrt(v) + eps)."""
    same_shapes(theta=theta.shape, grad=grad.shape, v=v.shape)
    real = theta.dtype.type
    _rmsprop(_blocks(theta), theta, grad, v, real(lr), real(rho), real(1 - rho), real(eps))


def adam_step(theta: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, lr: float, beta1: float, beta2: float,
              eps: float, t: int, decay: float) -> None:
    """Adam with bias correction, steps t from 1; the corrections are folded into two scalars in float64.

    theta = theta - lr decay theta - [lr / (1 - beta1^t)] m / (sqrt(v) [1 / sqrt(1 - beta2^t)] + eps)
    """
    same_shapes(theta=theta.shape, grad=grad.shape, m=m.shape, v=v.shape)
    step, root = lr / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t)
    scalars = step, root, lr * decay, beta1, 1 - beta1, beta2, 1 - beta2, eps
    _adam(_blocks(theta), theta, grad, m, v, *map(theta.dtype.type, scalars))


def sum_of_squares(g: np.ndarray) -> float:
    """Σ g² in float64: blocks of fixed size, whose sums are added in an order of their own."""
    partial = np.empty(_blocks(g))
    _squares(len(partial), g, partial)
    return float(partial.sum())


def same_shapes(**shapes: tuple[int, ...]) -> None:
    """Compiled loops do not look at bounds, so shapes are compared before."""
    (first, expected), *others = shapes.items()
    for name, shape in others:
        if shape != expected:
            raise ValueError(f"{name} has shape {shape} where {first} has {expected}: they must be equal")
