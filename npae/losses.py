"""How far an output is from its picture: each likelihood gives its value and the gradient together.

Convention, here and everywhere: a loss is the SUM over the pixels of a picture and the MEAN over the N pictures, in
nats for likelihoods; the gradient already carries the 1/N, so that backward passes multiply by nothing.
"""

import math
from types import ModuleType
from typing import Any, Self

import numpy as np

from npae import kernels as _kernels
from npae.checks import kernel_module, real
from npae.copying import deep_copy
from npae.kernels import reference


class Likelihood:
    """What Bernoulli, Gaussian and SquaredError share: checks, the mean over pictures, and the choice of kernels.

    Shapes: output and x (N, ...), equal; per_image (N,) float64; doutput as output.
    Raises: ValueError for unequal shapes (they would broadcast), an empty batch, or arrays that are not floats.
    """

    unit = "nats per image"

    def __init__(self, *, kernels: ModuleType | None = None) -> None:
        self.kernels = kernel_module(kernels, type(self).__name__)
        self.work = _kernels.Workspace()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """On the same kernels."""
        return deep_copy(self, memo, kernels=self.kernels, work=_kernels.Workspace())

    def keep_buffers(self, keep: bool) -> None:
        """Write doutput into the same array from call to call (a training loop), or into a fresh one (the default)."""
        self.work = _kernels.Workspace(keep)

    def nll(self, output: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The negative log-likelihood, mean over pictures, and its gradient with respect to output."""
        values, doutput = self.nll_each(output, x)
        return values.sum().item() / len(values), doutput

    def per_image(self, output: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The negative log-likelihood of each picture, (N,) float64; `nll` is its mean."""
        return self.nll_each(output, x)[0]

    def mean(self, output: np.ndarray) -> np.ndarray:
        """The expected picture: pixels from a decoder's output."""
        return output

    def constant(self, pixels: int) -> float:
        """The part of a picture's nll that depends on neither output nor x."""
        return 0.0

    def config(self) -> dict:
        """Name and settings, enough to make the likelihood again."""
        return {"likelihood": type(self).__name__}

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.config().items() if key != "likelihood")
        return f"{type(self).__name__}({settings})"

    def nll_each(self, output: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`per_image`, and the gradient of its mean: what an objective that weighs the pictures starts from."""
        name = type(self).__name__
        output, x = np.asarray(output), np.asarray(x)
        if output.shape != x.shape:
            raise ValueError(f"{name}: output has shape {output.shape} but x {x.shape}: they must be equal")
        if output.ndim == 0 or output.size == 0:
            raise ValueError(f"{name} needs at least 1 picture and 1 pixel, got shape {output.shape}")
        K = _kernels.resolve(self.kernels)
        if output.dtype not in (np.float32, np.float64) and (output.dtype != np.complex128 or K is not reference):
            raise ValueError(f"{name} computes in float32 or float64 (in complex128 on the reference kernels), "
                             f"got an output of {output.dtype}: convert it")
        if x.dtype.kind not in ("f", output.dtype.kind):
            raise ValueError(f"{name} wants pictures as floats like the output's {output.dtype}, got x of {x.dtype}: "
                             f"convert whole-number grey levels by x / 255")
        # a read-only array is another type to the compiler, which would compile anew: hence "W" (nobody writes)
        rows = np.require(output, None, ["C", "W"]).reshape(len(output), -1)
        pictures = np.require(x, output.dtype, ["C", "W"]).reshape(rows.shape)
        values = np.empty(len(rows), np.result_type(rows, np.float64))
        doutput = self.work.empty("doutput", output.shape, output.dtype)
        self._compute(K, rows, pictures, values, doutput.reshape(rows.shape))
        values += self.constant(rows.shape[1])
        return values, doutput

    def _compute(self, K: ModuleType, output: np.ndarray, x: np.ndarray, values: np.ndarray,
                 doutput: np.ndarray) -> None:
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Pixels in [0, 1] under independent Bernoulli distributions; the output is their logits l.

    nll = Σ  max(l, 0) - x l + log(1 + exp(-|l|))

    Backward: dl = (sigmoid(l) - x) / N
    Units: nats per image; logits 0 give D ln 2. For grey pixels it is a cross-entropy and does not go down to 0.
    Raises: ValueError where x leaves [0, 1].

    >>> value, dlogits = Bernoulli().nll(np.zeros((1, 4)), np.ones((1, 4)))
    >>> round(value, 4), dlogits[0, 0].item()
    (2.7726, -0.5)
    """

    def mean(self, output: np.ndarray) -> np.ndarray:
        """sigmoid(l), in a form that does not overflow, in the output's dtype."""
        with np.errstate(under="ignore"):  # exp(-|l|) is meant to fade to zero
            z = np.exp(-np.abs(output))
            return np.where(output >= 0, np.ones_like(z), z) / (1 + z)

    def _compute(self, K: ModuleType, output: np.ndarray, x: np.ndarray, values: np.ndarray,
                 doutput: np.ndarray) -> None:
        low, high = x.real.min(), x.real.max()
        if low < 0 or high > 1:
            raise ValueError(f"Bernoulli wants pixels in [0, 1], got x from {low:g} to {high:g}: rescale the pictures")
        K.bernoulli_nll(output, x, values, doutput)


class Gaussian(Likelihood):
    """Pixels under normal distributions of one fixed variance; the output y is their means.

    nll = Σ (y - x)² / (2 variance) + D/2 log(2 π variance)

    Backward: dy = (y - x) / (variance N)
    Units: nats per image; a density, so it may be negative. variance = 1/2 gives the squared error + D/2 log π.

    >>> value, dy = Gaussian(0.5).nll(np.ones((1, 784)), np.zeros((1, 784)))
    >>> round(value - 392 * math.log(math.pi), 9), dy[0, 0].item()
    (784.0, 2.0)
    """

    def __init__(self, variance: float, *, kernels: ModuleType | None = None) -> None:
        super().__init__(kernels=kernels)
        if not 0 < real(variance) < math.inf:
            raise ValueError(f"Gaussian needs a variance above 0 and below infinity, got {variance}")
        self.variance = float(variance)

    def constant(self, pixels: int) -> float:
        """D/2 log(2 π variance)."""
        return pixels / 2 * math.log(2 * math.pi * self.variance)

    def config(self) -> dict:
        """Name and variance."""
        return {"likelihood": type(self).__name__, "variance": self.variance}

    def _compute(self, K: ModuleType, output: np.ndarray, x: np.ndarray, values: np.ndarray,
                 doutput: np.ndarray) -> None:
        K.squared_error(output, x, 1 / (2 * self.variance), values, doutput)


class SquaredError(Likelihood):
    """The plain squared distance between output y and picture x, not a likelihood.

    nll = factor Σ (y - x)²

    Backward: dy = 2 factor (y - x) / N
    Units: squared grey level per image, times the factor (1/2 in much of the older literature).
    Raises: ValueError for a factor that is not above 0.
    """

    unit = "squared grey level per image"

    def __init__(self, factor: float = 1.0, *, kernels: ModuleType | None = None) -> None:
        super().__init__(kernels=kernels)
        if not 0 < real(factor) < math.inf:
            raise ValueError(f"SquaredError needs a factor above 0 and below infinity, got {factor}")
        self.factor = float(factor)
        if self.factor != 1:
            self.unit = f"{self.factor:g} x {self.unit}"

    def config(self) -> dict:
        """Name and factor."""
        return {"likelihood": type(self).__name__, "factor": self.factor}

    def _compute(self, K: ModuleType, output: np.ndarray, x: np.ndarray, values: np.ndarray,
                 doutput: np.ndarray) -> None:
        K.squared_error(output, x, self.factor, values, doutput)
