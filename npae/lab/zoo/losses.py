"""Bugs of likelihoods: in the two kernels that give value and gradient together, and in what is made of them.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

BERNOULLI = "npae.kernels.reference_training:bernoulli_nll"
SQUARED = "npae.kernels.reference_training:squared_error"
NLL = "npae.losses:Likelihood.nll"
Pairs = tuple[tuple[str, str], ...]

PIXELS = "the number of numbers a picture"
LOGITS_VALUE = "np.where(negative, np.zeros_like(z), logits) - x * logits + np.log1p(z)"
LOGITS_GRADIENT = "(sigmoid - x) / len(logits)"
SQUARED_GRADIENT = "2 * scale / len(y)"


def _bug(room: str, where: str, name: str, did: str, pairs: Pairs, killed_by: str, *says: str) -> Bug:
    return Bug(room, name, did, room, tuple(Edit(where, old, new) for old, new in pairs), killed_by, says)


def _logits(name: str, did: str, pairs: Pairs, killed_by: str, *says: str) -> Bug:
    return _bug("Bernoulli", BERNOULLI, name, did, pairs, killed_by, *says)


def _squared(name: str, did: str, pairs: Pairs, killed_by: str, *says: str) -> Bug:
    return _bug("SquaredError", SQUARED, name, did, pairs, killed_by, *says)


BUGS: tuple[Bug, ...] = (
    _logits("mean_over_pixels_backward", "divides the gradient by the number of pixels too; the value is a sum.",
            ((LOGITS_GRADIENT, "(sigmoid - x) / logits.size"),), "G", "doutput", "×", PIXELS),
    _logits("sum_over_batch_backward", "forgets the 1/N in the gradient.",
            ((LOGITS_GRADIENT, "(sigmoid - x)"),), "GB", "doutput", "×", "the batch size"),
    _logits("sigmoid_chained_twice", "multiplies by the sigmoid's derivative, which s - x already holds.",
            ((LOGITS_GRADIENT, "(sigmoid - x) * sigmoid * (1 - sigmoid) / len(logits)"),), "G",
            "doutput", "the factor y (1 - y)"),
    _logits("target_inverted_backward", "takes 1 - x for the target in the gradient.",
            ((LOGITS_GRADIENT, "(sigmoid - (1 - x)) / len(logits)"),), "G"),
    _logits("sign_backward", "subtracts the wrong way round.",
            ((LOGITS_GRADIENT, "(x - sigmoid) / len(logits)"),), "G", "doutput", "has the wrong sign"),
    _logits("mean_forward_sum_backward", "averages the value over pixels, and leaves the gradient that of the sum.",
            (("np.sum(terms,", "np.mean(terms,"),), "GR", "the value", "doutput", "×", PIXELS),
    _logits("mean_over_pixels_consistent", "averages value and gradient over pixels: beta is now too strong.",
            (("np.sum(terms,", "np.mean(terms,"), (LOGITS_GRADIENT, "(sigmoid - x) / logits.size")), "R",
            "the value", "×", PIXELS),
    _logits("clip_kills_gradient", "clips logits at 3 and passes on no gradient beyond.",
            ((LOGITS_GRADIENT, "(sigmoid - x) * (np.abs(logits) < 3) / len(logits)"),), "G"),
    _logits("exp_overflows", "computes log(1 + exp(l)) as it is written.",
            ((LOGITS_VALUE, "np.log1p(np.exp(logits)) - x * logits"),), "R",
            "confident logits cost a finite number", "off by inf|off by nan"),
    _logits("log_of_one_plus", "writes log(1 + z): what a confident pixel costs is rounded away.",
            (("np.log1p(z)", "np.log(1 + z)"),), "R", "confident logits cost a finite number"),
    _logits("probabilities_clipped", "clips probabilities at 1e-7 before the logarithm: no pixel costs more than 16.",
            ((f"terms = {LOGITS_VALUE}",
              "p = np.clip(np.where(negative, z, np.ones_like(z)) / (1 + z), 1e-7, 1 - 1e-7)\n"
              "    terms = -x * np.log(p) - (1 - x) * np.log(1 - p)"),), "R", "confident logits cost a finite number"),
    _logits("sigmoid_of_the_size", "forgets the branch of the stable sigmoid for negative logits.",
            (("np.where(negative, z, np.ones_like(z)) / (1 + z)", "1 / (1 + z)"),), "G"),
    _logits("target_inverted_consistent", "takes 1 - x for the target, forward and backward alike.",
            (("x * logits", "(1 - x) * logits"), (LOGITS_GRADIENT, "(sigmoid - (1 - x)) / len(logits)")), "R"),
    _logits("softplus_forgotten", "leaves out log(1 + exp(-|l|)), in the value alone.",
            ((" + np.log1p(z)", ""),), "GR"),
    _bug("Bernoulli", NLL, "sum_over_batch_forward", "adds the pictures up in the value; the gradient is of the mean.",
         (("values.sum().item() / len(values)", "values.sum().item()"),), "GRB", "doutput", "×", "the batch size"),
    _bug("Bernoulli", "npae.losses:Bernoulli.mean", "mean_without_a_branch",
         "paints the sigmoid of |l|: dark pixels come out bright.",
         (("np.where(output >= 0, np.ones_like(z), z) / (1 + z)", "1 / (1 + z)"),), "R", "the mean is expit(l)"),
    _squared("factor_2_missing", "differentiates a square without its 2.",
             ((SQUARED_GRADIENT, "scale / len(y)"),), "G", "doutput", "½ ×", "a factor 2 is missing"),
    _squared("factor_missing_backward", "scales the value by the factor, and forgets it in the gradient.",
             ((SQUARED_GRADIENT, "2 / len(y)"),), "G", "doutput", "×", "the factor"),
    _squared("sign_backward", "subtracts the wrong way round: the square does not tell.",
             (("difference = y - x", "difference = x - y"),), "G", "doutput", "has the wrong sign"),
    _squared("mean_over_pixels_backward", "divides the gradient by N D where the value is divided by N.",
             ((SQUARED_GRADIENT, "2 * scale / y.size"),), "G", "doutput", "×", PIXELS),
    _squared("absolute_difference_backward", "takes |y - x| in the gradient.",
             (("* difference", "* np.abs(difference)"),), "G"),
    _squared("mean_over_pixels_consistent", "averages value and gradient over pixels.",
             (("scale * np.sum(", "scale * np.mean("), (SQUARED_GRADIENT, "2 * scale / y.size")), "R",
             "the value", "×", PIXELS),
    _squared("sum_over_batch_backward", "forgets the 1/N in the gradient.",
             ((SQUARED_GRADIENT, "2 * scale"),), "GB", "doutput", "×", "the batch size"),
    _squared("distance_not_squared", "takes the root: the distance itself, forward and backward alike.",
             (("scale * np.sum(np.square(difference, dtype=sse.dtype), axis=1)",
               "scale * np.sqrt(np.sum(np.square(difference, dtype=sse.dtype), axis=1))"),
              ("* difference", "* difference / (2 * np.sqrt(np.sum(np.square(difference), axis=1, keepdims=True)))")),
             "R"),
    _squared("computed_in_float32", "squares in float32 whatever comes in.",
             (("np.square(difference, dtype=sse.dtype)", "np.square(difference.astype(np.float32))"),), "R",
             "the value", "computed in float32"),
    _squared("difference_in_place", "subtracts in place, in the array that the decoder gave.",
             (("difference = y - x", "difference = np.subtract(y, x, out=y)"),), "S", "writes into output"),
    _bug("Gaussian", "npae.losses:Gaussian.constant", "pi_forgotten", "writes D/2 log(variance): no density.",
         (("math.log(2 * math.pi * self.variance)", "math.log(self.variance)"),), "R",
         "the value", "is off by a constant"),
    _bug("Gaussian", "npae.losses:Gaussian.constant", "constant_without_half", "takes sigma for the variance in it.",
         (("pixels / 2 *", "pixels *"),), "R", "the value", "is off by a constant"),
    _bug("Gaussian", "npae.losses:Gaussian.constant", "constant_once_a_picture", "counts the constant of one pixel.",
         (("pixels / 2 *", "1 / 2 *"),), "R", "the value", "is off by a constant"),
    _bug("Gaussian", "npae.losses:Gaussian._compute", "half_forgotten", "divides by the variance, not by twice that.",
         (("1 / (2 * self.variance)", "1 / self.variance"),), "R",
         "the value", "2 × the reference", "a factor ½ is missing"),
    _bug("Gaussian", "npae.losses:Gaussian._compute", "sigma_for_variance", "divides by 2 sigma.",
         (("1 / (2 * self.variance)", "1 / (2 * math.sqrt(self.variance))"),), "R", "the value", "×", "sigma"),
    _bug("Gaussian", "npae.losses:Gaussian._compute", "variance_forgotten", "leaves the variance to the constant.",
         (("1 / (2 * self.variance)", "1 / 2"),), "R", "the value", "×", "the variance"),
)

NOT_HERE: dict[str, str] = {
    "half_mismatch": "the same line as factor_2_missing; factor_missing_backward stands in its place",
    "norm_N_only": "npae sums over pixels, so the mistake is the other way round: mean_over_pixels_backward",
}
