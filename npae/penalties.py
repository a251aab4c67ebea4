"""What a code or a weight costs: terms of a loss beside the pixels, each with its value and its gradients together.
Sum over the latents, mean over the pictures; gradients already carry the 1/N. Values are taken in float64.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from npae import kernels as _kernels
from npae.checks import real

RHO_ROOM = 1e-6  # a mean activation closer than this to 0 or 1 costs what the tangent says: the logarithm has no end


def gaussian_kl(mu: np.ndarray, logvar: np.ndarray, work: Any = None) -> tuple[float, np.ndarray, np.ndarray]:
    """The divergence of q = N(mu, exp(logvar)) from the prior N(0, 1), in closed form.

    KL(q‖p) = 1/N Σ_n Σ_j  (mu² + exp(logvar) - 1 - logvar) / 2

    exp(logvar) - 1 is computed as expm1: near the prior the plain form loses every digit.
    Beyond the range of exp (logvar 709; 88 for a float32 gradient) the answer is inf: clamp logvar before.

    Shapes: mu, logvar (N, d), dmu and dlogvar likewise: fresh arrays, or those that `work`, a Workspace, keeps.
    Backward: dmu = mu / N,  dlogvar = expm1(logvar) / (2 N)
    Units: nats per image.
    Raises: ValueError for unequal shapes, or arrays that are not (N, d) floats.
    Source: Kingma and Welling 2014, appendix B.

    >>> value, dmu, dlogvar = gaussian_kl(np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    >>> value, dmu, dlogvar
    (0.5, array([[1., 0.]]), array([[0., 0.]]))
    """
    values, dmu, dlogvar = _gaussian_kl_each(mu, logvar, work or _kernels.Workspace())
    return values.sum().item() / len(values), dmu, dlogvar


def gaussian_kl_per_image(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """The terms of `gaussian_kl` before the mean over pictures: (N,) float64.

    KL_n = Σ_j  (mu² + expm1(logvar) - logvar) / 2
    """
    return _gaussian_kl_each(mu, logvar, _kernels.Workspace())[0]


@np.errstate(under="ignore", over="ignore")
def _gaussian_kl_each(mu: np.ndarray, logvar: np.ndarray,
                      work: _kernels.Workspace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The terms before the mean, and the gradients of the mean."""
    _check_pair(mu, logvar)
    n, double = len(mu), np.result_type(mu, np.float64)
    dmu, dlogvar = (work.empty(name, mu.shape, mu.dtype) for name in ("dmu", "dlogvar"))
    m, v, growth = (work.empty(name, mu.shape, double) for name in ("m", "v", "growth"))
    m[...], v[...] = mu, logvar
    np.expm1(v, out=growth)
    np.subtract(growth, v, out=v)
    np.multiply(m, m, out=m)
    m += v
    values = 0.5 * m.sum(axis=1)
    np.divide(mu, n, out=dmu)  # one division is rounded alike from float32 and from float64
    dlogvar[...] = np.divide(growth, 2 * n, out=growth)
    return values, dmu, dlogvar


def gaussian_kl_sampled(mu: np.ndarray, logvar: np.ndarray,
                        eps: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The Monte Carlo estimate of the same divergence at the z that was drawn; its mean over eps is `gaussian_kl`.

    KL ≈ 1/(kN) Σ log q(z|x) - log p(z) = 1/(kN) Σ (z² - eps² - logvar) / 2,  z = mu + sigma eps, sigma = exp(logvar/2)

    Shapes: mu, logvar (N, d); eps (kN, d) for k samples a picture, all pictures of the first sample before the second.
    Backward (total derivative, through z as well): per sample dmu = z / N,  dlogvar = (z sigma eps - 1) / (2 N)
    Units: nats per image; a single estimate may be negative.
    Raises: ValueError for unequal shapes, or an eps whose rows are not a multiple of N.
    Source: Kingma and Welling 2014, equation 6.
    """
    _check_pair(mu, logvar)
    n, d = mu.shape
    if eps.ndim != 2 or eps.shape[1] != d or len(eps) == 0 or len(eps) % n:
        raise ValueError(f"gaussian_kl_sampled needs eps of shape (k * {n}, {d}) for mu {mu.shape}, got {eps.shape}")
    mu64, logvar64 = _double(mu), _double(logvar)
    noise = _double(eps).reshape(-1, n, d)
    with np.errstate(under="ignore", over="ignore"):
        spread = np.exp(logvar64 / 2) * noise  # sigma eps = z - mu
        z = mu64 + spread
        value = 0.5 * np.sum(z * z - noise * noise - logvar64) / len(eps)
        dmu = np.mean(z, axis=0) / n
        dlogvar = np.mean(z * spread - 1, axis=0) / (2 * n)
        return value.item(), dmu.astype(mu.dtype), dlogvar.astype(mu.dtype)


def sparsity_kl(h: np.ndarray, rho: float) -> tuple[float, np.ndarray]:
    """How far the mean activation of each unit is from rho, as a divergence between two coins.

    rho_hat_j = 1/N Σ_n h_nj;   value = Σ_j  rho log(rho / rho_hat_j) + (1 - rho) log((1 - rho) / (1 - rho_hat_j))

    The mean is over the batch: a unit may fire for one picture if it is silent for others. Within 1e-6 of 0 and 1 the
    value goes on along its tangent, so that a saturated unit costs a finite number and finds its way back.

    Shapes: h (N, d) in [0, 1] -> dh likewise
    Backward: dh_nj = (-rho / rho_hat_j + (1 - rho) / (1 - rho_hat_j)) / N, the same row for every picture
    Units: nats, summed over the units; there is nothing left to average over pictures.
    Raises: ValueError for rho outside (0, 1); a unit whose mean lies outside [0, 1] (it is no sigmoid's).
    Source: Lee et al. 2008 and Ng's lecture notes CS294A (the Kullback-Leibler form)

    >>> value, dh = sparsity_kl(np.full((2, 3), 0.1), 0.1)
    >>> value, abs(dh).max().item()
    (0.0, 0.0)
    """
    if not 0 < real(rho) < 1:
        raise ValueError(f"sparsity_kl needs a target rho between 0 and 1, got {rho}")
    if h.ndim != 2 or len(h) == 0:
        raise ValueError(f"sparsity_kl needs activations h of shape (N, d) with N at least 1, got {h.shape}")
    rho_hat = h.mean(axis=0, dtype=np.result_type(h, np.float64))
    low, high = rho_hat.real.min(), rho_hat.real.max()
    if low < 0 or high > 1:
        raise ValueError(f"sparsity_kl needs mean activations in [0, 1], got {low:g} to {high:g}: give the code a "
                         "sigmoid")
    r = rho_hat.clip(RHO_ROOM, 1 - RHO_ROOM)
    slope = (1 - rho) / (1 - r) - rho / r
    value = rho * np.log(rho / r) + (1 - rho) * np.log((1 - rho) / (1 - r)) + slope * (rho_hat - r)
    return value.sum().item(), np.tile((slope / len(h)).astype(h.dtype), (len(h), 1))


class Curve(Protocol):
    """What `contractive` wants of an activation: its slope and the slope's derivative, as functions of the output."""

    def slope(self, y: np.ndarray) -> np.ndarray: ...
    def bend(self, y: np.ndarray) -> np.ndarray: ...


def contractive(h: np.ndarray, W: np.ndarray, activation: Curve) -> tuple[float, np.ndarray, np.ndarray]:
    """The squared size of the Jacobian of one layer h = f(x W + b): how strongly a code answers to its picture.

    J_ji = s_j W_ij,   s = f'(x W + b) = slope(h);     value = 1/N Σ_n ‖J‖²_F = 1/N Σ_n Σ_j s_j² Σ_i W_ij²

    Shapes: h (N, d), W (D, d) -> dh, dW likewise
    Backward: dh_nj = 2 s_j bend(h_nj) Σ_i W_ij² / N   (bend = ds/dh);   dW_ij = 2 W_ij 1/N Σ_n s_j²
    Units: squared change of the code per squared grey level, mean over pictures. A linear layer's is Σ W².
    Raises: ValueError for shapes that do not fit.
    Source: Rifai et al. 2011, equation 8 (there for the sigmoid)
    """
    if h.ndim != 2 or W.ndim != 2 or h.shape[1] != W.shape[1] or len(h) == 0:
        raise ValueError(f"contractive needs h (N, d) and W (D, d), got {h.shape} and {W.shape}: pass the weights of "
                         "the layer that made h")
    s, double = activation.slope(h), np.result_type(h, np.float64)
    w2 = np.square(W).sum(axis=0, dtype=double)
    s2 = np.square(s).mean(axis=0, dtype=double)
    dh = (2 / len(h)) * s * activation.bend(h) * w2
    return (s2 @ w2).item(), dh.astype(h.dtype), 2 * W * s2.astype(W.dtype)


def weight_decay(weights: Sequence[np.ndarray], kernels: ModuleType | None = None) -> tuple[float, list[np.ndarray]]:
    """The squared length of all weights together; biases are not handed in.

    value = Σ_W ‖W‖²

    Backward: dW = 2 W
    Raises: ValueError without weights.

    >>> value, (dW,) = weight_decay([np.array([[3.0, 4.0]])])
    >>> value, dW
    (25.0, array([[6., 8.]]))
    """
    if not weights:
        raise ValueError("weight_decay needs at least 1 array of weights, got 0")
    K = _kernels.resolve(kernels)
    return sum(K.sum_of_squares(np.ravel(W)) for W in weights), [2 * W for W in weights]


def _double(a: np.ndarray) -> np.ndarray:
    """In double precision: float64, or complex128 as it is (a complex step walks through)."""
    return a.astype(np.result_type(a, np.float64))


def _check_pair(mu: np.ndarray, logvar: np.ndarray) -> None:
    if not (isinstance(mu, np.ndarray) and isinstance(logvar, np.ndarray)):
        raise ValueError(f"mu and logvar must be arrays, got {type(mu).__name__} and {type(logvar).__name__}")
    if mu.shape != logvar.shape:
        raise ValueError(f"mu has shape {mu.shape} but logvar {logvar.shape}: they must be equal")
    if mu.ndim != 2 or len(mu) == 0:
        raise ValueError(f"mu and logvar must be (N, d) with N at least 1, got shape {mu.shape}")
    if mu.dtype.kind not in "fc" or mu.dtype != logvar.dtype:
        raise ValueError(f"mu and logvar must be floats of one dtype, got {mu.dtype} and {logvar.dtype}")
