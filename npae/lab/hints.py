"""What to look at again where a stage of `npae grade` fails: questions that lead back to the derivation, no answers.
"""
from __future__ import annotations

SHAPES = "Every gradient has the shape of what it is the gradient of: dx that of x"
BESIDE = ("Alone the layer is right, with a second one beside it it is not: is something kept in the class, or in a "
          "global, where it belongs to self? Or written into dy?")
STATE = "backward adds with += and writes to nothing else: x, dy, the weights and what forward kept stay as they are."
RAISED = {
    NameError: "Where does this name come from? What forward has kept is self's: self.x, and parameters are self.W.",
    AttributeError: ("Has forward kept it on self, under this name? Of a parameter there are .value and .grad, of an "
                     "array .shape, .sum and .T."),
    TypeError: ("Which of the two is an array, and which is not? The array of a parameter is self.W.value, its "
                "gradient self.W.grad."),
}
"""What to look at where the mistake is one of Python, not of shapes."""


def of_raised(error: BaseException) -> str:
    """The question that goes with an exception; nothing where the stage's own fits."""
    return next((text for kind, text in RAISED.items() if isinstance(error, kind)), "")


def look(kind: str) -> dict[str, str]:
    """The question of each stage for the class of this name; those that are the same for all are filled in."""
    own = OWN[kind]
    return {**own, "shapes": SHAPES + own["shapes"] + ".", "composition": BESIDE, "state": STATE}


OWN: dict[str, dict[str, str]] = {
    "Dense": {
        "shapes": " (N, I), dW that of W (I, O), db that of b (O,)",
        "bias": (
            "b[o] stands in y[n, o] once for each picture n: over which axis is dy summed, and is it a sum "
            "or a mean?"),
        "weight": (
            "Which W[i, o] has to do with which x[n, i] and dy[n, o]? n is summed over, and the result is "
            "(I, O)."),
        "input": (
            "x[n, i] reaches every y[n, o] through W[i, o]: which index is summed over, so is it W or its "
            "transpose?"),
    },
    "ReLU": {
        "shapes": "",
        "input": (
            "What is the slope on either side of 0? From which array do you see the side, and does dy come through "
            "unchanged where it comes through at all?"),
    },
    "Sigmoid": {
        "shapes": "",
        "input": "∂y/∂x as a function of y alone: is what stands in it y, or x? And is it multiplied by dy?",
    },
    "Conv2d": {
        "shapes": (
            " (N, H, W, C) without the border and with the rows that are in no window, dW that of W (kh, kw, "
            "C, O)"),
        "bias": "b[o] stands in every pixel of every picture: dy has four axes, how many of them are summed over?",
        "weight": (
            "With windows as rows it is dW of a dense layer: do the rows of cols and those of dy belong "
            "together, and do the axes come out as (kh, kw, C, O)?"),
        "input": (
            "dcols goes back to where im2col took it from: does a pixel get the sum of all its windows (+=), "
            "each tap at its own place, and is the border cut off at the right end?"),
    },
    "MaxPool2d": {
        "shapes": ", also where the windows do not reach",
        "input": (
            "Only the winner of a window gets dy: is it this window's own, in each picture and channel, and "
            "does a pixel that wins twice get both (+=)?"),
    },
    "UpsampleNearest": {
        "shapes": ", f times smaller than dy along H and along W",
        "input": (
            "A pixel stands in all f x f places of its block, which are neighbours: what does it get from "
            "them, one number, the mean, or the sum?"),
    },
    "UpsampleBilinear": {
        "shapes": ", f times smaller than dy along H and along W",
        "input": (
            "The same A and B as in forward, and the other index summed over: is A at the rows and B at the "
            "columns?"),
    },
    "ConvTranspose2d": {
        "shapes": " (N, H, W, C), smaller than dy; dW that of W (kh, kw, O, C)",
        "bias": (
            "b[o] is added to every pixel of y, also where no stamp has fallen: over which of the four axes of dy is "
            "db a sum?"),
        "weight": (
            "The tap (u, v) of dY meets x at all (n, i, j): these are summed over, and (O, C) is left, in "
            "this order."),
        "input": (
            "dx is a convolution of dY with W: does each tap add (+=), is W unturned, and which of its "
            "channels go?"),
    },
    "Reparameterize": {
        "shapes": " (N, 2 d), [dmu | dlogvar]",
        "input": (
            "z = mu + exp(logvar / 2) eps: what is ∂z/∂mu? ∂z/∂logvar has three factors: the eps of forward, "
            "sigma, and the one that comes out of the exponent. Is [dmu | dlogvar] in this order?"),
    },
    "GaussianKL": {
        "shapes": " (N, 2 d), [dmu | dlogvar]; dkl is (N,)",
        "input": (
            "Derive ½ (mu² + exp(logvar) - 1 - logvar): is the ½ right in both? Is each picture multiplied by "
            "its own dkl[n], and is [dmu | dlogvar] in this order?"),
    },
    "TiedPair": {
        "shapes": " (N, I), dW that of W (I, J), db (J,), dc (I,)",
        "bias": (
            "c is added to y, so dc is a sum of dy; b is added within h, so db is a sum of dz: has dh gone "
            "through the sigmoid, h (1 - h)?"),
        "weight": (
            "W stands in y twice: are both contributions there, once each, added, both (I, J), and is dz "
            "behind the sigmoid in the encoder's, dy in the decoder's?"),
        "input": (
            "x reaches y through h alone: dy, back through W, through the sigmoid, and through W again. Is "
            "one of the three missing, or W transposed the wrong way?"),
    },
    "ContractivePenalty": {
        "shapes": " (N, I), dW that of W (I, J), db (J,); djac is (N,)",
        "bias": (
            "db is the sum of dz: has each picture its own djac[n] in it, and are w, both derivatives of the sigmoid "
            "and the 2 of s² there?"),
        "weight": (
            "W stands in jac twice, in w and by way of h: are both contributions there, with the 2 of W² in "
            "the one, and djac[n] s[n, j]² summed over n?"),
        "input": (
            "x reaches jac by way of h alone: dx = dz Wᵀ. Are both derivatives of the sigmoid in dz, and is "
            "each picture multiplied by its own djac[n]?"),
    },
}
