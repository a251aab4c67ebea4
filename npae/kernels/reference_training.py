"""What a training step needs beside its layers, in plain NumPy: likelihoods with their gradients and optimizer steps.
Everything is written in place, in the arrays' own dtype; sums over many entries are taken in float64.
"""

import numpy as np

# A moment below this is set to zero: denormal numbers make a step tens of times slower, and dead units lead there.
TINY_MOMENT = 1e-30


@np.errstate(under="ignore")  # exp(-|l|) is meant to fade to zero
def bernoulli_nll(logits: np.ndarray, x: np.ndarray, nll: np.ndarray, dlogits: np.ndarray) -> None:
    """The negative log-likelihood of pixels x under Bernoulli distributions given by their logits, picture by picture.

    nll_n = Σ_j  max(l, 0) - x l + log(1 + exp(-|l|)),   dlogits = (sigmoid(l) - x) / N

    An infinite logit gives what the formula's arithmetic gives: inf or NaN (inf - inf, 0 · inf), never a finite value.

    Shapes: logits, x, dlogits (N, D); nll (N,) float64 (complex logits: all complex; the sides are the real part's).
    """
    negative = logits.real < 0
    z = np.exp(np.where(negative, logits, -logits))
    terms = np.where(negative, np.zeros_like(z), logits) - x * logits + np.log1p(z)
    np.sum(terms, axis=1, dtype=nll.dtype, out=nll)
    sigmoid = np.where(negative, z, np.ones_like(z)) / (1 + z)
    dlogits[...] = (sigmoid - x) / len(logits)


@np.errstate(under="ignore")  # the square of a tiny difference may be zero
def squared_error(y: np.ndarray, x: np.ndarray, scale: float, sse: np.ndarray, dy: np.ndarray) -> None:
    """The squared distance between outputs y and pictures x, times a scale, picture by picture.

    sse_n = scale Σ_j (y - x)²,   dy = 2 scale (y - x) / N

    Shapes: y, x, dy (N, D); sse (N,) float64 (complex y: all complex).
    """
    difference = y - x
    sse[...] = scale * np.sum(np.square(difference, dtype=sse.dtype), axis=1)
    dy[...] = y.dtype.type(2 * scale / len(y)) * difference


@np.errstate(under="ignore")
def sgd_step(theta: np.ndarray, grad: np.ndarray, lr: float) -> None:
    """theta = theta - lr grad."""
    theta -= theta.dtype.type(lr) * grad


@np.errstate(under="ignore")
def momentum_step(theta: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float) -> None:
    """velocity = momentum velocity + grad;  theta = theta - lr velocity."""
    real = theta.dtype.type
    velocity[...] = _flush(real(momentum) * velocity + grad)
    theta -= real(lr) * velocity


@np.errstate(under="ignore")
def rmsprop_step(theta: np.ndarray, grad: np.ndarray, v: np.ndarray, lr: float, rho: float, eps: float) -> None:
    """v = rho v + (1 - rho) grad²;  theta = theta - lr grad / (sqrt(v) + eps)."""
    real = theta.dtype.type
    v[...] = _flush(real(rho) * v + real(1 - rho) * grad * grad)
    theta -= real(lr) * grad / (np.sqrt(v) + real(eps))


@np.errstate(under="ignore")
def adam_step(theta: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, lr: float, beta1: float, beta2: float,
              eps: float, t: int, decay: float) -> None:
    """One step of Adam; the steps t count from 1, and a decay other than 0 makes it AdamW.

    m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad²
    theta = theta - lr decay theta
    theta = theta - lr m_hat / (sqrt(v_hat) + eps)   where  m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)

    Source: Kingma and Ba 2015, Algorithm 1; Loshchilov and Hutter 2019, Algorithm 2 (decay).
    """
    real = theta.dtype.type
    m[...] = _flush(real(beta1) * m + real(1 - beta1) * grad)
    v[...] = _flush(real(beta2) * v + real(1 - beta2) * grad * grad)
    m_hat = m / real(1 - beta1**t)
    v_hat = v / real(1 - beta2**t)
    theta -= real(lr * decay) * theta
    theta -= real(lr) * m_hat / (np.sqrt(v_hat) + real(eps))


@np.errstate(under="ignore", over="ignore")
def sum_of_squares(g: np.ndarray) -> float:
    """Σ g², summed in float64 (complex128 for complex g, without a modulus); inf where that overflows."""
    return np.sum(np.square(g, dtype=np.result_type(g, np.float64))).item()


@np.errstate(under="ignore", over="ignore")
def moments(a: np.ndarray) -> tuple[float, float, int]:
    """Σ a and Σ a², summed in float64, and how many entries are exactly 0.

    Shapes: a (D,), real
    """
    return float(np.sum(a, dtype=np.float64)), sum_of_squares(a), a.size - int(np.count_nonzero(a))


@np.errstate(under="ignore", over="ignore")
def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Σ (a - b)², summed in float64; inf where that overflows.

    Shapes: a, b (D,), real
    """
    return sum_of_squares(np.subtract(a, b, dtype=np.float64))


def _flush(moment: np.ndarray) -> np.ndarray:
    """Moments with the tiny ones set to zero; NaN compares false and stays."""
    moment[np.abs(moment) < TINY_MOMENT] = 0
    return moment
