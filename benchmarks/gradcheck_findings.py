"""Three gradients that are wrong, or a forward that is, of a kind that well-known checks let through, as pairs.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gradcheck_pairs import Arrays, Pair

from npae import gradcheck, losses
from npae.kernels import reference
from npae.params import Param

NUMBERS = 128 * 784  # of a batch of MNIST
SQUARE, TALL = (30, 30), (784, 128)
FAINTEST = 1e-3  # of the rms: entries smaller than this are not zeroed


def wrong_sign(divisor: float = NUMBERS, sign: int = -1) -> tuple[Pair, Arrays]:
    """24 of the pixels of a mean over 128 pictures of 784: the cross-entropy of an untrained decoder's logits."""
    rng = np.random.default_rng(0)
    x, likelihood = rng.uniform(0.1, 0.9, (1, 24)), losses.Bernoulli(kernels=reference)

    def value(output: np.ndarray) -> tuple[float, np.ndarray]:
        total, doutput = likelihood.nll(output, x)
        return total / divisor, sign * doutput / divisor

    pair = Pair(lambda arrays: np.float64(value(arrays["output"])[0]),
                lambda arrays, dy: {"output": dy * value(arrays["output"])[1]},
                lambda arrays, fast: gradcheck.check_function(value, arrays["output"], name="output", fast=fast))
    return pair, {"output": 0.1 * rng.standard_normal((1, 24))}


class Jacobian:
    """y = x A, whose backward has forgotten one entry of A; None: none."""

    params, input_shape = (), (2, 30)

    def __init__(self, forgotten: int | None) -> None:
        self.A = np.random.default_rng(1).standard_normal(SQUARE)
        self.wrong = self.A.copy()
        if forgotten is not None:
            self.wrong.flat[forgotten] = 0

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.dtype = x.dtype
        return x @ self.A.astype(x.dtype)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy @ self.wrong.T.astype(self.dtype)


def zeroed_of_square(forgotten: int | None) -> tuple[Pair, Arrays]:
    """One entry of a Jacobian of 30 x 30 is zero."""
    layer = Jacobian(forgotten)

    def backward(arrays: Arrays, dy: np.ndarray) -> Arrays:
        layer.forward(arrays["x"])
        return {"x": layer.backward(dy)}

    pair = Pair(lambda arrays: layer.forward(arrays["x"]), backward,
                lambda arrays, fast: gradcheck.check(layer, arrays["x"], fast=fast))
    return pair, {"x": np.random.default_rng(2).standard_normal((1, 30))}


def tall_gradient() -> np.ndarray:
    """x^T g: the gradient of <g, x W> by 784 x 128 weights, at one picture."""
    rng = np.random.default_rng(3)
    return np.outer(rng.standard_normal(TALL[0]), rng.standard_normal(TALL[1]))


def zeroed_of_tall(forgotten: int | None) -> tuple[Pair, Arrays]:
    """phi(W) = Σ_ij W_ij x_i g_j, the gradient of which has forgotten one of 100,352 weights."""
    G = tall_gradient()
    wrong = G.copy()
    if forgotten is not None:
        wrong.flat[forgotten] = 0

    def value(W: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.vdot(W, G)), wrong

    pair = Pair(lambda arrays: np.float64(value(arrays["W"])[0]), lambda arrays, dy: {"W": dy * wrong},
                lambda arrays, fast: gradcheck.check_function(value, arrays["W"], name="W", fast=fast))
    return pair, {"W": np.random.default_rng(4).standard_normal(TALL) / 28}


class Tall:
    """The same in a layer, y = x W, for npae's whole protocol."""

    input_shape = 2, 784

    def __init__(self, forgotten: int | None) -> None:
        self.W = Param("W", np.random.default_rng(4).standard_normal(TALL) / 28)
        self.params, self.forgotten = (self.W,), forgotten

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x.copy()
        return x @ self.W.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dW = self.x.T @ dy
        if self.forgotten is not None:
            dW.flat[self.forgotten] = 0
        self.W.grad += dW
        return dy @ self.W.value.T


def spread(gradient: np.ndarray, count: int) -> Iterator[int]:
    """Places of entries from the faintest to the largest, evenly by rank; none below a thousandth of the rms."""
    size = np.abs(gradient).ravel()
    order = np.argsort(size)
    order = order[size[order] >= FAINTEST * np.sqrt(np.mean(size**2))]
    yield from (int(k) for k in order[np.linspace(0, len(order) - 1, count).astype(int)])
