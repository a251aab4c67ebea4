"""The likelihoods: from numbers of a picture to nats, and why Bernoulli's gradient is so plain."""
from __future__ import annotations

import math

import numpy as np

from npae import losses
from npae.kernels import reference
from npae.lab.explain import example
from npae.lab.explain.algebra import Array, Constant, Expr, Letter, apply, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total

n, j, N, D, n_, pi, variance, factor = letters("n j N D n′ π variance factor")
x, y, l, p, nll, dy, dl, dnll = arrays("x y l p nll dy dl dnll")
L = Array("L")[()]
Shape = tuple[int, ...]
INDICES = "Letters: n is the picture, j the pixel, N the number of pictures, nll[n] what picture n costs"


def _example(likelihood: losses.Likelihood, name: str, output: example.Array, pictures: example.Array,
             constants: dict[str, float]) -> example.Example:
    """A likelihood on an output that is called `name`; nll is what each picture costs."""
    def f(x: example.Array, **arrays: example.Array) -> tuple[float, dict[str, example.Array]]:
        value, doutput = likelihood.nll(arrays[name], x)
        return value, {name: doutput}

    count, pixels = output.shape
    title = f"`{likelihood!r}` on {example.counted(count, 'picture')} of {example.counted(pixels, 'pixel')}"
    e = example.of_function(title, f, {name: output},
                            {"n": count, "j": pixels}, constants={"x": pictures},
                            letters={"N": count, "D": pixels, **constants})
    e.arrays.update(nll=likelihood.per_image(output, pictures), dnll=np.full(count, 1 / count), dL=np.array(1.0))
    e.losses["nll"] = lambda nll: float(np.mean(nll))
    return e


MEAN = Equation(L, total(n, nll[n]) / N)
DNLL = Gradient(
    Equation(dnll[n], 1 / N),
    "What a picture costs, nll[n], stands in L once, with the factor 1/N.",
    (Path(L, 1 / N),),
    "L is a mean over the pictures. So the gradient carries 1/N from here on, and no layer's backward has to divide by "
    "N.",
    ("dnll = 1/N", "The sum over pixels has no such factor: a likelihood multiplies over pixels, its logarithm adds."))


def bernoulli(shape: Shape | None) -> Lesson:
    """Cross-entropy of logits."""
    shape = example.checked_shape(shape, (2, 3), "Bernoulli", "(N, pixels)")
    pictures = np.random.default_rng(3).choice((0, 0.5, 1), shape)
    logits = example.first(lambda seed: example.whole(shape, seed), lambda l: l[0, 0] < 0 < l.max())
    e = _example(losses.Bernoulli(kernels=reference), "l", logits, pictures, {})
    e.arrays["p"] = losses.Bernoulli().mean(e.arrays["l"])
    costs = apply("max", l[n, j], 0) - x[n, j] * l[n, j] + apply("log", 1 + apply("exp", -apply("abs", l[n, j])))
    plain = -(x[n, j] * apply("log", p[n, j]) + (1 - x[n, j]) * apply("log", 1 - p[n, j]))
    return Lesson(
        e, "nats per image from logits, and the plainest gradient there is", f"{INDICES}, l a logit.",
        (Equation(p[n, j], 1 / (1 + apply("exp", -l[n, j]))),
         Equation(nll[n], total(j, plain)), Equation(nll[n], total(j, costs)), MEAN),
        "p is the sigmoid of the logit, the probability that the pixel is white. The second line is the definition: "
        "minus the log-probability of x (of a grey x, the cross-entropy). The third is the same and is what is "
        "computed: it needs no logarithm of a number near 0 (put p in, which gives log(1 + exp(l)) − x l; then take "
        "max(l, 0) out of the logarithm).",
        (DNLL, Gradient(
            Equation(dl[n, j], (p[n, j] - x[n, j]) / N),
            "l[n, j] stands in the cost of its own picture, in the term of its own pixel.",
            (Path(nll[n_], p[n, j] - x[n, j], ((n_, n),)),),
            "A pixel costs log(1 + exp(l)) − x l. The derivative of the first is exp(l) / (1 + exp(l)) = p, that of x "
            "l is x: the prediction minus the truth. (By way of p it would be ∂nll/∂p = (p − x) / (p (1 − p)), times "
            "the sigmoid's slope p (1 − p): a division by nearly 0 where p is near 0 or 1, which the slope then takes "
            "back. This is why the decoder ends in logits.)",
            ("dl = (sigmoid(l) − x) / N", "Number by number: each pixel's gradient depends on that pixel alone."))),
        (losses.Likelihood.nll_each, losses.Bernoulli._compute, reference.bernoulli_nll), scalar=True)


def _squares(name: str, likelihood: losses.Likelihood, shape: Shape | None, constants: dict[str, float], cost: Expr,
             constant: Expr | None, slope: Expr, idea: str, words: str, matrix: str) -> Lesson:
    """A Gaussian likelihood or a squared error: the same square with another factor."""
    shape = example.checked_shape(shape, (2, 3), name, "(N, pixels)")
    pictures = np.random.default_rng(3).choice((0, 0.5, 1), shape)
    output = example.first(lambda seed: example.whole(shape, seed) / 2, lambda y: (y != pictures).all())
    e = _example(likelihood, "y", output, pictures, constants)
    rest = "." if constant is None else "; that of a constant is 0."
    each = total(j, cost) if constant is None else total(j, cost) + constant
    return Lesson(
        e, idea, INDICES + ("." if constant is None else ", D the number of pixels. y is the output, the mean of the "
                                                         "density."),
        (Equation(nll[n], each), MEAN), words,
        (DNLL, Gradient(
            Equation(dy[n, j], slope / N),
            "y[n, j] stands in the cost of its own picture, in the term of its own pixel.",
            (Path(nll[n_], slope, ((n_, n),)),),
            f"The derivative of a square, 2 (y − x), times what stands before it{rest}",
            (matrix, "Number by number; the pull towards x grows with the distance."))),
        (losses.Likelihood.nll_each, type(likelihood)._compute, reference.squared_error), scalar=True)


def gaussian(shape: Shape | None) -> Lesson:
    """A normal density of fixed variance."""
    e = Letter("variance")
    difference = y[n, j] - x[n, j]
    return _squares(
        "Gaussian", losses.Gaussian(0.5, kernels=reference), shape, {"variance": 0.5, "π": math.pi},
        difference.squared() / (2 * e), D / Constant(2) * apply("log", 2 * pi * e), difference / e,
        "the squared error over a variance, and a constant that no gradient sees",
        "Minus the logarithm of a normal density with mean y. With a variance of 1/2 it is the squared error and a "
        "constant.", "dy = (y − x) / (variance N)")


def squared_error(shape: Shape | None) -> Lesson:
    """factor Σ (y − x)²"""
    difference = y[n, j] - x[n, j]
    return _squares(
        "SquaredError", losses.SquaredError(0.5, kernels=reference), shape, {"factor": 0.5},
        factor * difference.squared(), None, 2 * factor * difference,
        "the squared distance of output and picture, with a factor",
        "The factor is often 1/2, so that the 2 of the square's derivative goes away.", "dy = 2 factor (y − x) / N")
