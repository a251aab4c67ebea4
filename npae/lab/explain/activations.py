"""The activations: one derivation for all, and for each the slope as a function of the output."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from npae.kernels import reference
from npae.lab.explain import example
from npae.lab.explain.algebra import Constant, Expr, Letter, apply, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.layers import Activation, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh

n, i, n_, i_ = letters("n i n′ i′")
x, y, dx, dy = arrays("x y dx dy")
alpha = Letter("alpha")
Shape = tuple[int, ...]
STEP = "step(t) is 1 for t > 0, else 0."


@dataclass(frozen=True)
class Bend:
    """What is particular to an activation: f of an entry of x, f′ of an entry of y, and how one leads to the other."""

    layer: Activation
    idea: str
    f: Callable[[Expr], Expr]
    slope: Callable[[Expr], Expr]
    how: str
    remark: str = ""


BENDS = {
    "Identity": Bend(Identity(kernels=reference), "y = x, the activation that is none", lambda t: t,
                     lambda t: Constant(1), "The slope of x by x is 1 everywhere."),
    "ReLU": Bend(ReLU(kernels=reference), "y = max(x, 0), a gate that is open or shut",
                 lambda t: apply("max", t, 0), lambda t: apply("step", t),
                 "To the right of 0, y is x and the slope is 1; to the left, y is constant and the slope is 0. y > 0 "
                 "says which side it was: x need not be kept. At 0 itself, a kink, 0 is taken.", STEP),
    "LeakyReLU": Bend(LeakyReLU(0.5, kernels=reference), "a gate that never quite shuts",
                      lambda t: apply("max", t, 0) + alpha * apply("min", t, 0),
                      lambda t: apply("step", t) + alpha * (1 - apply("step", t)),
                      "To the right of 0 the slope is 1, to the left it is alpha. y is above 0 where x is, so y says "
                      "which side it was. At 0 itself, a kink, alpha is taken. With an alpha above 0 the slope is "
                      "never 0, so some gradient always gets through.",
                      "Here alpha = {alpha:g}; " + STEP),
    "Sigmoid": Bend(Sigmoid(kernels=reference), "y = 1 / (1 + exp(−x)), and a slope that is at most a quarter",
                    lambda t: 1 / (1 + apply("exp", -t)), lambda t: t * (1 - t),
                    "With e = exp(−x): dy/dx = e / (1 + e)², and 1 − y = e / (1 + e), so it is y (1 − y). It is "
                    "largest at y = 1/2, and near 0 where y is near 0 or 1: a saturated unit passes hardly any "
                    "gradient."),
    "Tanh": Bend(Tanh(kernels=reference), "y = tanh(x), a slope of 1 at 0 and hardly any far from it",
                 lambda t: apply("tanh", t), lambda t: 1 - t.squared(),
                 "tanh = sinh / cosh, sinh′ = cosh and cosh′ = sinh: dy/dx = (cosh² − sinh²) / cosh² = 1 − y²."),
    "Softplus": Bend(Softplus(kernels=reference), "y = log(1 + exp(x)), a ReLU with a round corner",
                     lambda t: apply("log", 1 + apply("exp", t)), lambda t: 1 - apply("exp", -t),
                     "dy/dx = exp(x) / (1 + exp(x)), the sigmoid of x. exp(y) = 1 + exp(x), so it is "
                     "(exp(y) − 1) / exp(y) = 1 − exp(−y)."),
}


def lesson(name: str, shape: Shape | None) -> Lesson:
    """y = f(x), number by number."""
    bend = BENDS[name]
    N, features = example.checked_shape(shape, (2, 3), name, "(N, features)")
    picture = example.first(lambda seed: example.whole((N, features), seed),
                            lambda x: x[0, 0] < 0 < x.max())
    settings = {"alpha": bend.layer.alpha} if isinstance(bend.layer, LeakyReLU) else {}
    e = example.of_layer(bend.layer, picture, {"n": N, "i": features}, letters=settings)
    kept = "" if isinstance(bend.layer, Identity) else "The slope is written in y, which forward has computed already. "
    said = "A function of one number, applied to each. " + bend.remark.format(**settings)
    return Lesson(
        e, bend.idea, "Letters: n is the picture, i the feature.", (Equation(y[n, i], bend.f(x[n, i])),), said.strip(),
        (Gradient(
            Equation(dx[n, i], bend.slope(y[n, i]) * dy[n, i]),
            "x[n, i] stands in y[n, i] and nowhere else.",
            (Path(y[n_, i_], bend.slope(y[n, i]), ((n_, n), (i_, i))),),
            f"Of the sum one term is left. {kept}{bend.how}",
            ("dx = f′(y) ⊙ dy", "Number by number: the Jacobian of f is a diagonal matrix, which is its own "
             "transpose, so no transpose is written.")),),
        (type(bend.layer).f, type(bend.layer).slope, reference.activate, reference.activate_input_grad))
