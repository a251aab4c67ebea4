"""What a code costs: terms of a loss that look at the latents, each with its value and its gradients together.
Sum over the latents, mean over the pictures, in nats; gradients already carry the 1/N. Values are taken in float64.
"""

import numpy as np


def gaussian_kl(mu: np.ndarray, logvar: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The divergence of q = N(mu, exp(logvar)) from the prior N(0, 1), in closed form.

    KL(q‖p) = 1/N Σ_n Σ_j  (mu² + exp(logvar) - 1 - logvar) / 2

    exp(logvar) - 1 is computed as expm1: near the prior the plain form loses every digit.
    Beyond the range of exp (logvar 709; 88 for a float32 gradient) the answer is inf: clamp logvar before.

    Shapes: mu, logvar (N, d), dmu and dlogvar likewise.
    Backward: dmu = mu / N,  dlogvar = expm1(logvar) / (2 N)
    Units: nats per image.
    Raises: ValueError for unequal shapes, or arrays that are not (N, d) floats.
    Source: Kingma and Welling 2014, appendix B.

    >>> value, dmu, dlogvar = gaussian_kl(np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    >>> value, dmu, dlogvar
    (0.5, array([[1., 0.]]), array([[0., 0.]]))
    """
    values = gaussian_kl_per_image(mu, logvar)
    with np.errstate(under="ignore", over="ignore"):
        dmu = mu.astype(np.float64) / len(mu)
        dlogvar = np.expm1(logvar.astype(np.float64)) / (2 * len(mu))
        return float(np.mean(values)), dmu.astype(mu.dtype), dlogvar.astype(mu.dtype)


def gaussian_kl_per_image(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """The terms of `gaussian_kl` before the mean over pictures: (N,) float64.

    KL_n = Σ_j  (mu² + expm1(logvar) - logvar) / 2
    """
    _check_pair(mu, logvar)
    mu, logvar = mu.astype(np.float64), logvar.astype(np.float64)
    with np.errstate(under="ignore", over="ignore"):
        return 0.5 * np.sum(mu * mu + (np.expm1(logvar) - logvar), axis=1)


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
    mu64, logvar64 = mu.astype(np.float64), logvar.astype(np.float64)
    noise = eps.astype(np.float64).reshape(-1, n, d)
    with np.errstate(under="ignore", over="ignore"):
        spread = np.exp(logvar64 / 2) * noise  # sigma eps = z - mu
        z = mu64 + spread
        value = 0.5 * np.sum(z * z - noise * noise - logvar64) / len(eps)
        dmu = np.mean(z, axis=0) / n
        dlogvar = np.mean(z * spread - 1, axis=0) / (2 * n)
        return float(value), dmu.astype(mu.dtype), dlogvar.astype(mu.dtype)


def _check_pair(mu: np.ndarray, logvar: np.ndarray) -> None:
    if mu.shape != logvar.shape:
        raise ValueError(f"mu has shape {mu.shape} but logvar {logvar.shape}: they must be equal")
    if mu.ndim != 2 or len(mu) == 0:
        raise ValueError(f"mu and logvar must be (N, d) with N at least 1, got shape {mu.shape}")
    if mu.dtype.kind != "f" or mu.dtype != logvar.dtype:
        raise ValueError(f"mu and logvar must be floats of one dtype, got {mu.dtype} and {logvar.dtype}")
