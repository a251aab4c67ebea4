"""Bugs of penalties: Kullback-Leibler terms, the sparsity of a code, the Jacobian of a layer, the length of weights.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

KL = "npae.penalties:gaussian_kl"
KL_EACH = "npae.penalties:_gaussian_kl_each"
SAMPLED = "npae.penalties:gaussian_kl_sampled"
SPARSITY = "npae.penalties:sparsity_kl"
CONTRACTIVE = "npae.penalties:contractive"
DECAY = "npae.penalties:weight_decay"
Edits = tuple[tuple[str, str, str], ...]
Pairs = tuple[tuple[str, str], ...]

DMU, DLOGVAR = "np.divide(mu, n,", "np.divide(growth, 2 * n,"
BATCH, UNITS, SAMPLES = "the batch size", "the number of units", "the number of samples"


def _bug(subject: str, name: str, did: str, edits: Edits, killed_by: str, *says: str) -> Bug:
    return Bug(subject, name, did, subject, tuple(Edit(*edit) for edit in edits), killed_by, says)


def _kl(name: str, did: str, edits: Edits, killed_by: str, *says: str) -> Bug:
    return _bug("gaussian_kl", name, did, edits, killed_by, *says)


def _in(where: str, name: str, did: str, pairs: Pairs, killed_by: str, *says: str) -> Bug:
    return _bug(where.split(":")[1], name, did, tuple((where, *pair) for pair in pairs), killed_by, *says)


GAUSSIAN: tuple[Bug, ...] = (
    _kl("minus_one_forgotten", "leaves out the -1: a constant that no gradient knows.",
        ((KL_EACH, "m += v", "m += v + 1"),), "R", "the value", "is off by a constant"),
    _kl("sign_consistent", "has the sign of the ELBO's term, forward and backward alike.",
        ((KL_EACH, "0.5 * m", "-0.5 * m"), (KL_EACH, DMU, "np.divide(mu, -n,"),
         (KL_EACH, DLOGVAR, "np.divide(growth, -2 * n,")), "R", "the value", "has the wrong sign"),
    _kl("sign_backward", "differentiates -KL for logvar.",
        ((KL_EACH, DLOGVAR, "np.divide(growth, -2 * n,"),), "G", "dlogvar", "has the wrong sign"),
    _kl("half_missing_consistent", "forgets the ½, forward and backward alike.",
        ((KL_EACH, "0.5 * m", "m"), (KL_EACH, DMU, "np.divide(2 * mu, n,"),
         (KL_EACH, DLOGVAR, "np.divide(growth, n,")), "R",
        "the value", "2 × the reference", "a factor ½ is missing"),
    _kl("half_missing_backward", "forgets the ½ in dlogvar.",
        ((KL_EACH, DLOGVAR, "np.divide(growth, n,"),), "G", "dlogvar", "2 × the numeric gradient"),
    _kl("exp_half_backward", "takes exp(logvar / 2), sigma, for the variance in dlogvar.",
        ((KL_EACH, DLOGVAR, "np.divide(np.expm1(logvar / 2), 2 * n,"),), "G"),
    _kl("batch_mean_missing_backward", "forgets the 1/N in both gradients.",
        ((KL_EACH, DMU, "np.divide(mu, 1,"), (KL_EACH, DLOGVAR, "np.divide(growth, 2,")), "GB",
        "dmu", "dlogvar", "×", BATCH),
    _kl("mean_over_units_consistent", "averages over the numbers of the code, forward and backward alike.",
        ((KL_EACH, "m.sum(", "m.mean("), (KL_EACH, DMU, "np.divide(mu, mu.size,"),
         (KL_EACH, DLOGVAR, "np.divide(growth, 2 * mu.size,")), "R", "the value", "×", UNITS),
    _kl("logvar_for_one_backward", "writes exp(logvar) - logvar where exp(logvar) - 1 belongs.",
        ((KL_EACH, DLOGVAR, "np.divide(np.exp(logvar) - logvar, 2 * n,"),), "G"),
    _kl("dmu_dropped", "lets mu go without a gradient.",
        ((KL_EACH, DMU, "np.divide(0, n,"),), "G", "dmu", "is zero"),
    _kl("gradients_swapped", "hands the gradients over in the wrong order.",
        ((KL, "len(values), dmu, dlogvar", "len(values), dlogvar, dmu"),), "G",
        "the gradients of mu and logvar are swapped"),
    _kl("mu_squared_not_halved", "counts mu² twice in the value.",
        ((KL_EACH, "np.multiply(m, m,", "np.multiply(2 * m, m,"),), "GR", "dmu", "½ ×"),
    _kl("digits_lost_near_the_prior", "writes exp(logvar) - 1 - logvar: near the prior no digit is left.",
        ((KL_EACH, "np.subtract(growth, v,", "np.subtract(np.exp(v) - 1, v,"),), "R",
        "near the prior no digit is lost"),
    _kl("logvar_as_log_sigma", "takes the encoder's output for log sigma, forward and backward alike.",
        ((KL_EACH, "np.expm1(v,", "np.expm1(2 * v,"), (KL_EACH, "np.subtract(growth, v,", "np.subtract(growth, 2 * v,"),
         (KL_EACH, DLOGVAR, "np.divide(growth, n,")), "R"),
    _kl("prior_swapped", "computes KL(p ‖ q), forward and backward alike.",
        ((KL_EACH, "m += v", "m[...] = (mu * mu + 1) * np.exp(-logvar) - 1 + logvar"),
         (KL_EACH, DMU, "np.divide(mu * np.exp(-logvar), n,"),
         (KL_EACH, DLOGVAR, "np.divide(1 - (mu * mu + 1) * np.exp(-logvar), 2 * n,")), "R"),
    _kl("sum_over_batch_forward", "adds the pictures up in the value; the gradients are those of the mean.",
        ((KL, "values.sum().item() / len(values)", "values.sum().item()"),), "GRB", "dmu", "dlogvar", "×", BATCH),
    _kl("float64_leaks", "hands over gradients in the float64 that it computes in.",
        ((KL_EACH, "mu.shape, mu.dtype)", "mu.shape, np.float64)"),), "S",
        "float64 comes out of float32"),
    _kl("computed_in_float32", "converts logvar to float32 on the way to its gradient.",
        ((KL_EACH, DLOGVAR, "np.divide(np.expm1(logvar.astype(np.float32)), 2 * n,"),), "G",
        "dlogvar", "computed in float32"),
    _in(SAMPLED, "path_through_z_forgotten", "differentiates log q(z|x) with z held: the noise's path is not z's.",
        (("np.mean(z, axis=0) / n", "np.mean(noise / np.exp(logvar64 / 2), axis=0) / n"),
         ("np.mean(z * spread - 1, axis=0)", "np.mean(noise * noise - 1, axis=0)")), "G"),
    _in(SAMPLED, "sum_over_samples_forward", "divides the value by N, not by k N.",
        (("/ len(eps)", "/ n"),), "GR", "dmu", "dlogvar", "×", SAMPLES),
    _in(SAMPLED, "first_sample_backward", "takes dmu from the first sample alone.",
        (("np.mean(z, axis=0) / n", "z[0] / n"),), "G", "dmu", "the first sample"),
    _in(SAMPLED, "samples_laid_out_by_picture", "reads eps as all samples of the first picture, then of the second.",
        (("_double(eps).reshape(-1, n, d)",
          "_double(eps).reshape(n, -1, d).transpose(1, 0, 2)"),), "R", "so does the batch, sample by sample"),
    _in(SAMPLED, "noise_of_log_q_forgotten", "leaves eps² out of log q: no gradient knows it.",
        (("z * z - noise * noise - logvar64", "z * z - logvar64"),), "RM", "the estimate has the mean"),
    _in(SAMPLED, "logvar_of_log_q_forgotten", "leaves the normal density's own log sigma out of log q.",
        (("- noise * noise - logvar64", "- noise * noise"),), "GRM",
        "dlogvar is off by a constant|the estimate has the mean"),
    _in(SAMPLED, "half_missing_backward", "forgets the ½ in dlogvar.",
        (("/ (2 * n)", "/ n"),), "G", "dlogvar", "2 × the numeric gradient"),
    _in(SAMPLED, "sigma_forgotten_in_the_path", "differentiates z = mu + sigma eps for logvar without sigma.",
        (("z * spread - 1", "z * noise - 1"),), "G"),
)
CODES: tuple[Bug, ...] = (
    _in(SPARSITY, "batch_mean_missing_backward", "forgets the 1/N of the mean activation.",
        (("(slope / len(h))", "slope"),), "GB", "dh", "×", BATCH),
    _in(SPARSITY, "coins_swapped_backward", "differentiates KL(rho_hat ‖ rho).",
        (("(1 - rho) / (1 - r) - rho / r", "np.log(r / rho) - np.log((1 - r) / (1 - rho))"),), "G"),
    _in(SPARSITY, "coins_swapped_consistent", "computes KL(rho_hat ‖ rho), forward and backward alike.",
        (("(1 - rho) / (1 - r) - rho / r", "np.log(r / rho) - np.log((1 - r) / (1 - rho))"),
         ("rho * np.log(rho / r) + (1 - rho) * np.log((1 - rho) / (1 - r))",
          "r * np.log(r / rho) + (1 - r) * np.log((1 - r) / (1 - rho))")), "R"),
    _in(SPARSITY, "sign_backward", "drives the units away from rho.",
        (("(1 - rho) / (1 - r) - rho / r", "rho / r - (1 - rho) / (1 - r)"),), "G", "dh", "has the wrong sign"),
    _in(SPARSITY, "rho_hat_of_each_picture_backward", "takes each picture's own activation for the mean.",
        (("np.tile((slope / len(h)).astype(h.dtype), (len(h), 1))", "((1 - rho) / (1 - h) - rho / h) / len(h)"),),
        "G"),
    _in(SPARSITY, "second_term_missing_backward", "leaves out the silent side of the coin.",
        (("(1 - rho) / (1 - r) - rho / r", "-rho / r"),), "G"),
    _in(SPARSITY, "rho_hat_of_the_first_picture", "takes the first picture's activations for the mean.",
        (("h.mean(axis=0, dtype=np.result_type(h, np.float64))", "_double(h[0])"),), "GRB", "a batch in another order"),
    _in(SPARSITY, "no_room_at_the_ends", "divides by a mean activation of 0.",
        (("rho_hat.clip(RHO_ROOM, 1 - RHO_ROOM)", "rho_hat"),), "R", "silent and saturated units cost"),
    _in(SPARSITY, "tangent_forgotten", "clips the mean: the value stands still beyond, and the gradient does not.",
        ((" + slope * (rho_hat - r)", ""),), "R", "silent and saturated units cost"),
    _in(SPARSITY, "mean_over_units_consistent", "averages over the units, forward and backward alike.",
        (("value.sum().item()", "value.mean().item()"), ("(slope / len(h))", "(slope / h.size)")), "R",
        "the value", "×", UNITS),
    _in(CONTRACTIVE, "only_the_weights_path", "forgets that the slopes depend on h.",
        (("dh = (2 / len(h)) * s", "dh = 0 * s"),), "G", "dh", "is zero"),
    _in(CONTRACTIVE, "bend_missing", "forgets h'' in dh: 1 - 2 h of a sigmoid.",
        (("* s * activation.bend(h) * w2", "* s * w2"),), "G", "dh", "the factor bend is missing"),
    _in(CONTRACTIVE, "slope_stands_twice", "goes on to the input of the bend: the layer's backward does so again.",
        (("* s * activation.bend(h) * w2", "* s * s * activation.bend(h) * w2"),), "G", "dh", "the factor slope"),
    _in(CONTRACTIVE, "weights_path_forgotten", "forgets that J holds W itself.",
        (("2 * W * s2.astype(W.dtype)", "np.zeros_like(W)"),), "G", "dW", "is zero"),
    _in(CONTRACTIVE, "factor_2_missing", "differentiates W² as W.",
        (("2 * W * s2.astype(W.dtype)", "W * s2.astype(W.dtype)"),), "G", "dW", "½ ×", "a factor 2 is missing"),
    _in(CONTRACTIVE, "batch_mean_missing_backward", "forgets the 1/N in dh.",
        (("(2 / len(h)) * s", "2 * s"),), "GB", "dh", "×", BATCH),
    _in(CONTRACTIVE, "sum_over_batch_forward", "adds the pictures' slopes up.",
        (("np.square(s).mean(", "np.square(s).sum("),), "GRB", "dh", "the value", "×", BATCH),
    _in(CONTRACTIVE, "sums_over_units", "sums W² over the units, not over the pixels.",
        (("np.square(W).sum(axis=0,", "np.square(W).sum(axis=1,"),), "GR"),
    _in(CONTRACTIVE, "slope_not_squared_consistent", "takes h' to the first power, forward and backward alike.",
        (("np.square(s).mean(", "s.mean("), ("(2 / len(h)) * s *", "(1 / len(h)) *")), "R"),
    _in(CONTRACTIVE, "weights_left_out_consistent", "penalises the slopes alone, forward and backward alike.",
        (("np.square(W).sum(axis=0, dtype=double)", "np.ones(W.shape[1])"),
         ("2 * W * s2.astype(W.dtype)", "np.zeros_like(W)")), "R", "a linear layer costs the squared length"),
    _in(DECAY, "factor_2_missing", "differentiates W² as W.",
        (("[2 * W for W in weights]", "[W.copy() for W in weights]"),), "G", "dW", "½ ×", "a factor 2 is missing"),
    _in(DECAY, "half_consistent", "takes half the squared length, forward and backward alike.",
        (("for W in weights), [2 * W for W in weights]", "for W in weights) / 2, [1 * W for W in weights]"),), "R",
        "the value", "½ × the reference"),
    _in(DECAY, "length_not_squared", "takes the length itself, forward and backward alike.",
        (("return sum(K.sum_of_squares(np.ravel(W)) for W in weights), [2 * W for W in weights]",
          "norm = sum(K.sum_of_squares(np.ravel(W)) for W in weights) ** 0.5\n"
          "    return norm, [W / norm for W in weights]"),), "R"),
    _in(DECAY, "last_weights_only", "keeps the value of the last layer alone.",
        (("sum(K.sum_of_squares(np.ravel(W)) for W in weights)", "K.sum_of_squares(np.ravel(weights[-1]))"),), "GR"),
    _in(DECAY, "weights_doubled_in_place", "doubles the weights themselves on the way to the gradient.",
        (("[2 * W for W in weights]", "[np.multiply(2, W, out=W) for W in weights]"),), "S", "writes into W"),
)
BUGS: tuple[Bug, ...] = (*GAUSSIAN, *CODES)

NOT_HERE: dict[str, str] = {
    "b_missing": "contractive hands dh to the layer's own backward, which has one path for W and b: a bias cannot be "
                 "forgotten alone",
    "dx_missing": "nothing with parameters lies below the one dense layer that the closed form is for: no dx is made",
}
