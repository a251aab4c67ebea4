"""Mistakes that people make in backward passes, each made on purpose, each found by the part of the check meant for it.
A bug that a gradient check cannot see has to leave the gradient table green: otherwise its own test proves nothing."""

import numpy as np
import pytest
from test_gradcheck import KL, Dense, Dropout, Max, Relu, SilentRelu, Tanh

from npae.gradcheck import check, check_function, check_layer


class WrongSign(Dense):
    def backward(self, dy):
        self.W.grad -= self.x.T @ dy
        self.b.grad += dy.sum(axis=0)
        return dy @ self.W.value.T


class TransposedWhereSquare(Dense):
    def backward(self, dy):
        super().backward(dy)
        return dy @ self.W.value


class GradientTransposedWhereSquare(Dense):
    def backward(self, dy):
        self.W.grad += dy.T @ self.x
        self.b.grad += dy.sum(axis=0)
        return dy @ self.W.value.T


class MeanForBias(Dense):
    def backward(self, dy):
        self.W.grad += self.x.T @ dy
        self.b.grad += dy.mean(axis=0)
        return dy @ self.W.value.T


class DividedByBatchTwice(Dense):
    def backward(self, dy):
        return super().backward(dy / len(dy))


class Float32Inside(Dense):
    def backward(self, dy):
        super().backward(dy)
        return (dy.astype(np.float32) @ self.W.value.T.astype(np.float32)).astype(dy.dtype)


class LastImageOnly(Dense):
    def backward(self, dy):
        for x, row in zip(self.x, dy, strict=True):
            grad = np.outer(x, row)
        self.W.grad += grad
        self.b.grad += dy.sum(axis=0)
        return dy @ self.W.value.T


class NoGradientBelow(Dense):
    def backward(self, dy):
        super().backward(dy)
        return np.zeros_like(self.x)


class ForgetsToReturn(Dense):
    def backward(self, dy):
        super().backward(dy)


class MovesItsMask(Dropout):
    def backward(self, dy):
        dx = super().backward(dy)
        self.mask = np.roll(self.mask, 1)  # the mask of the next call
        return dx


class Overwrites(Dense):
    def backward(self, dy):
        self.W.grad[...] = self.x.T @ dy
        self.b.grad[...] = dy.sum(axis=0)
        return dy @ self.W.value.T


class Rebinds(Dense):
    def backward(self, dy):
        self.W.grad = self.W.grad + self.x.T @ dy
        self.b.grad = self.b.grad + dy.sum(axis=0)
        return dy @ self.W.value.T


class StaleCache(Dense):
    first = None

    def forward(self, x):
        y = super().forward(x)
        self.first = self.x = x if self.first is None else self.first
        return y


class OldestCache(Dense):
    def forward(self, x):
        self.queue = [*getattr(self, "queue", []), x]
        return super().forward(x)

    def backward(self, dy):
        self.x = self.queue.pop(0) if self.queue else self.x
        return super().backward(dy)


class NeverShrinks(Dense):
    kept = np.zeros((0, 0))

    def forward(self, x):
        y = super().forward(x)
        if len(self.kept) < len(x):
            self.kept = np.zeros_like(x)
        self.kept[:len(x)] = x
        self.x = self.kept
        return y


class SharedBuffer(Dense):
    buffer = np.zeros(0)

    def forward(self, x):
        if SharedBuffer.buffer.shape != x.shape or SharedBuffer.buffer.dtype != x.dtype:
            SharedBuffer.buffer = np.empty_like(x, order="C")
        SharedBuffer.buffer[...] = x
        return super().forward(SharedBuffer.buffer)


class ClearsUpstream(Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        dy[...] = 0
        return dx


class EditsInput(Dense):
    def forward(self, x):
        x *= 1 + 2.0**-20
        return super().forward(x)


class EditsInputInFortranOrder(Dense):
    def forward(self, x):
        flat = x.ravel(order="F")  # a copy, unless x is in that order
        flat *= 1 + 2.0**-20
        return super().forward(x)


class NormalisesWeights(Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        self.W.value *= 1 + 2.0**-20
        return dx


class AssumesMemoryOrder(Dense):
    def forward(self, x):
        return super().forward(x.ravel(order="K").reshape(x.shape))


class AssumesUpstreamMemoryOrder(Dense):
    def backward(self, dy):
        return super().backward(dy.ravel(order="K").reshape(dy.shape))


class Squeezes(Dense):
    def backward(self, dy):
        return np.squeeze(super().backward(dy))


class FixedBatch(Dense):
    n = None

    def forward(self, x):
        self.n = self.n or len(x)
        return super().forward(x.reshape(self.n, -1))


class Upcasts(Tanh):
    def backward(self, dy):
        return super().backward(dy).astype(np.float64)


class ReturnsItsCache(Tanh):
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y


class SlopeOfInput(Tanh):
    def forward(self, x):
        self.x = x
        return super().forward(x)

    def backward(self, dy):
        return dy * (1 - self.x**2)


class IgnoresUpstream(Tanh):
    def backward(self, dy):
        return np.ones_like(dy) * (1 - self.y**2)


class MaskOfUpstream(SilentRelu):
    def backward(self, dy):
        return dy * (dy > 0)


class MaskWrong(Relu):
    def backward(self, dy):
        return dy * ~self.mask


class MaskInPlace(Relu):
    def backward(self, dy):
        dy *= self.mask
        return dy


class ViewOfInput(SilentRelu):
    def forward(self, x):
        self.mask = np.ones(x.shape, dtype=bool)
        return x[:]


class WinnerOfFirstImage(Max):
    def backward(self, dy):
        self.winner = np.broadcast_to(self.winner[:1], self.winner.shape)
        return super().backward(dy)


class NoiseDrawnAgain(Dropout):
    def backward(self, dy):
        self.forward(dy)
        return super().backward(dy)


class ScaleForgotten(Dropout):
    def backward(self, dy):
        return dy * (self.mask > 0)


class HalfMissing(KL):
    def backward(self, dy):
        mu, logvar = np.split(self.x, 2, axis=1)
        return dy * np.hstack([mu, np.exp(logvar) - 1]) / len(self.x)


class HalfMissingOnBothSides(KL):
    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dy):
        return 2 * super().backward(dy)


class ScaledOnBothSides(Dropout):
    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dy):
        return 2 * super().backward(dy)


GRADIENT, ADJOINT, ZERO, LINEAR = "gradient", "adjoint test", "backward(0)", "backward is linear"
ARGUMENTS, REPEATS, IN_PLACE = "x, dy and the parameters", "a second backward", "gradients are added in place"
LATEST, INSTANCES, FRESH = "backward belongs to the latest", "two instances", "y and dx are fresh"
FLOAT32, LAYOUT, ONE = "float32 in", "x and dy in Fortran order", "gradient check with N = 1"
REFERENCE = "forward gives"
RUNS = "forward and backward run"

MUTANTS = [
    (WrongSign, (4, 5), {GRADIENT, ADJOINT}),
    (lambda: TransposedWhereSquare(4, 4), (3, 4), {GRADIENT, ADJOINT}),
    (lambda: GradientTransposedWhereSquare(4, 4), (3, 4), {GRADIENT, ADJOINT}),
    (MeanForBias, (4, 5), {GRADIENT, ADJOINT}),
    (DividedByBatchTwice, (4, 5), {GRADIENT, ADJOINT}),
    (Float32Inside, (4, 5), {GRADIENT, ADJOINT, LINEAR}),
    (LastImageOnly, (4, 5), {GRADIENT, ADJOINT}),
    (NoGradientBelow, (4, 5), {GRADIENT, ADJOINT}),
    (ForgetsToReturn, (4, 5), {RUNS}),
    (Overwrites, (4, 5), {REPEATS}),
    (MovesItsMask, (4, 5), {REPEATS}),
    (Rebinds, (4, 5), {IN_PLACE}),
    (StaleCache, (4, 5), {LATEST}),
    (OldestCache, (4, 5), {LATEST}),
    (NeverShrinks, (4, 5), {LATEST}),
    (SharedBuffer, (4, 5), {INSTANCES}),
    (ClearsUpstream, (4, 5), {ARGUMENTS}),
    (EditsInput, (4, 5), {GRADIENT, ARGUMENTS}),
    (EditsInputInFortranOrder, (4, 5), {ARGUMENTS, ONE}),
    (NormalisesWeights, (4, 5), {GRADIENT, ARGUMENTS}),
    (AssumesMemoryOrder, (4, 5), {LAYOUT}),
    (AssumesUpstreamMemoryOrder, (4, 5), {LAYOUT}),
    (Squeezes, (4, 5), {ONE}),
    (FixedBatch, (4, 5), {LATEST}),
    (Upcasts, (4, 5), {FLOAT32}),
    (ReturnsItsCache, (4, 5), {FRESH}),
    (SlopeOfInput, (4, 5), {GRADIENT}),
    (IgnoresUpstream, (4, 5), {GRADIENT, ZERO, LINEAR}),
    (MaskOfUpstream, (4, 5), {GRADIENT, LINEAR}),
    (MaskWrong, (4, 5), {GRADIENT}),
    (MaskInPlace, (4, 5), {ARGUMENTS}),
    (ViewOfInput, (4, 5), {REFERENCE}),
    (WinnerOfFirstImage, (3, 6), {GRADIENT}),
    (NoiseDrawnAgain, (4, 5), {GRADIENT}),
    (ScaleForgotten, (4, 5), {GRADIENT}),
    (HalfMissing, (3, 4), {GRADIENT}),
    (HalfMissingOnBothSides, (3, 4), {REFERENCE}),
    (ScaledOnBothSides, (4, 5), {REFERENCE}),
]
REFERENCES = {
    Dense: lambda x, W, b: np.einsum("ni,io->no", x, W) + b,
    Tanh: lambda x: 1 - 2 / (np.exp(2 * x) + 1),
    Relu: lambda x: np.maximum(x, 0),
    SilentRelu: lambda x: np.maximum(x, 0),
    Max: lambda x: np.maximum(x[:, ::2], x[:, 1::2]),
    KL: lambda x: sum((m * m + np.exp(v) - 1 - v) / 6 for row in x for m, v in zip(row[:2], row[2:], strict=True)),
    Dropout: lambda x: x,
}
NEEDS_NOISE = (MovesItsMask, NoiseDrawnAgain, ScaleForgotten)
SHAPES = {KL: (3, 4), Max: (3, 6)}


def found_by(report):
    """The parts of the check that found something wrong."""
    parts = {claim for claim in (ADJOINT, ZERO, LINEAR, ARGUMENTS, REPEATS, IN_PLACE, LATEST, INSTANCES, FRESH, FLOAT32,
                                 LAYOUT, ONE, REFERENCE, RUNS)
             for line in report.lines if line.status == "FAIL" and line.claim.startswith(claim)}
    return parts | ({GRADIENT} if any(not row.ok for row in report.rows) else set())


@pytest.mark.parametrize("make, shape, expected", MUTANTS, ids=[type(make()).__name__ for make, _, _ in MUTANTS])
def test_each_mistake_is_found_by_the_part_meant_for_it(make, shape, expected):
    base = type(make()).__mro__[1]
    noisy = make in NEEDS_NOISE
    report = check_layer(make, shape, reference=None if noisy else REFERENCES[base],
                         rng=np.random.default_rng(0) if noisy else None)
    found = found_by(report)
    assert not report.ok
    assert expected <= found, str(report)
    assert GRADIENT in expected or GRADIENT not in found, "the gradient table saw it: not a bug of state"
    assert str(report).splitlines()[-1]


@pytest.mark.parametrize("wrong", [-1.0, 0.0, 1 + 1e-6, 1 / 784])
def test_a_mean_over_all_pixels_does_not_hide_a_wrong_gradient(wrong):
    """Derivatives near 1e-5 / 100,000: absolute tolerances of 1e-5 accept even the wrong sign."""
    target = np.random.default_rng(0).random((128, 784))

    def mean_square(x, factor):
        return float(((x - target) ** 2).mean()), factor * 2 * (x - target) / x.size

    x = np.random.default_rng(1).random((128, 784))
    assert check_function(lambda x: mean_square(x, 1.0), x, entries=15).ok
    assert not check_function(lambda x: mean_square(x, wrong), x, entries=15).ok


def test_one_zeroed_entry_of_thousands_is_named():
    class OneMissing(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.W.grad[17, 4] = 0
            return dx

    report = check(OneMissing(40, 30), np.random.default_rng(0).normal(size=(3, 40)))
    failed = [entry.index for entry in report.row("W").entries if entry.verdict == "FAIL"]
    assert failed == [(17, 4)]
    assert "W: 1 of 1200 entries FAIL" in report.wrong
    assert str(report).splitlines()[8].lstrip().startswith("W[17, 4]")


def test_a_backward_that_raises_in_one_test_does_not_stop_the_others():
    report = check_layer(FixedBatch, (4, 5))
    assert any("raised ValueError" in line.figure for line in report.lines)
    assert sum(line.status == "PASS" for line in report.lines) > 10
