"""Bugs around z: the reparameterised sample, the two heads of an encoder, the clamp of logvar, the samples of the IWAE.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

FORWARD = "npae.layers.latent:Reparameterize._forward"
BACKWARD = "npae.layers.latent:Reparameterize._backward"
NOISE = "npae.layers.latent:Reparameterize._noise"
VAE_LOSS, VAE_BACKWARD = "npae.models.vae:VAE.loss", "npae.models.vae:VAE.backward"
VAE_Q, VAE_SIDES = "npae.models.vae:VAE._q", "npae.models.vae:VAE._sides"
IWAE_LOSS, IWAE_BACKWARD = "npae.models.iwae:IWAE.loss", "npae.models.iwae:IWAE.backward"
Edits = tuple[tuple[str, str, str], ...]

SAMPLES, BATCH = "the number of samples", "the batch size"
DRAW = "self.rng.standard_normal(shape)"


def _bug(room: str, subject: str, name: str, did: str, edits: Edits, killed_by: str, *says: str) -> Bug:
    return Bug(room, name, did, subject, tuple(Edit(*edit) for edit in edits), killed_by, says)


def _z(name: str, did: str, edits: Edits, killed_by: str, *says: str) -> Bug:
    return _bug("Reparameterize", "reparameterize", name, did, edits, killed_by, *says)


def _z3(name: str, did: str, edits: Edits, killed_by: str, *says: str) -> Bug:
    return _bug("Reparameterize", "reparameterize, 3 samples", name, did, edits, killed_by, *says)


def _vae(name: str, did: str, where: str, old: str, new: str, killed_by: str, *says: str) -> Bug:
    return _bug("VAE", "VAE", name, did, ((where, old, new),), killed_by, *says)


def _clamped(name: str, did: str, where: str, old: str, new: str, killed_by: str, *says: str) -> Bug:
    return _bug("VAE", "VAE, clamped", name, did, ((where, old, new),), killed_by, *says)


def _iwae(name: str, did: str, where: str, old: str, new: str, killed_by: str, *says: str) -> Bug:
    return _bug("IWAE", "IWAE", name, did, ((where, old, new),), killed_by, *says)


REPARAMETERIZE: tuple[Bug, ...] = (
    _z("variance_for_sigma_consistent", "writes z = mu + exp(logvar) eps, forward and backward alike.",
       ((FORWARD, "np.divide(logvar, 2,", "np.divide(logvar, 1,"), (BACKWARD, "dlogvar /= 2", "dlogvar /= 1")), "RM",
       "y", "the factor sigma stands twice"),
    _z("half_missing_backward", "forgets the ½ of logvar / 2.",
       ((BACKWARD, "dlogvar /= 2", "dlogvar /= 1"),), "G", "dlogvar", "2 × the numeric gradient"),
    _z("eps_missing_backward", "forgets that eps stands beside sigma.",
       ((BACKWARD, "dsigma.sum(0,", "dz.sum(0,"),), "G", "dlogvar", "the factor eps is missing"),
    _z("noise_drawn_in_backward", "draws fresh noise for the gradient.",
       ((BACKWARD, "eps, sigma = self.saved",
         "eps, sigma = self.rng.standard_normal(self.saved[0].shape), self.saved[1]"),), "GS", "draws noise again"),
    _z("logvar_for_sigma_backward", "differentiates as if the second head gave sigma itself.",
       ((BACKWARD, "dlogvar *= sigma\n        dlogvar /= 2", "dlogvar *= 1"),), "G",
       "dlogvar", "the factor sigma / 2 is missing"),
    _z("gradients_swapped", "puts dlogvar before dmu.",
       ((BACKWARD, "[dmu, dlogvar]", "[dlogvar, dmu]"),), "G", "the gradients of mu and logvar are swapped"),
    _z("noise_of_its_own", "takes noise from a generator that nobody can rewind.",
       ((NOISE, DRAW, "np.random.default_rng().standard_normal(shape)"),), "GS",
       "NONDETERMINISTIC|equal generators give another z"),
    _z("sigma_missing_backward", "forgets sigma in dlogvar.",
       ((BACKWARD, "dlogvar *= sigma", "dlogvar *= 1"),), "G", "dlogvar", "the factor sigma is missing"),
    _z("uniform_noise", "draws from [0, 1) in place of N(0, 1).",
       ((NOISE, DRAW, "self.rng.random(shape)"),), "RM", "z - mu has the mean"),
    _z("one_noise_for_all_pictures", "draws noise for one code and gives it to every picture.",
       ((NOISE, DRAW, "np.tile(self.rng.standard_normal(shape[1:]), (shape[0], 1))"),), "RM",
       "its product with the next picture's has the mean"),
    _z("noise_subtracted_backward_only", "takes the path through sigma with the wrong sign.",
       ((BACKWARD, "dlogvar *= sigma", "dlogvar *= -sigma"),), "G", "dlogvar", "has the wrong sign"),
    _z3("samples_laid_out_by_picture", "gives all samples of the first picture before those of the second.",
        ((FORWARD, "z.reshape(k * n, d)", "z.transpose(1, 0, 2).reshape(k * n, d)"),), "GR",
        "y", "reshaped where a transpose belongs"),
    _z3("mean_over_samples_backward", "averages dmu over the samples: the loss has done so.",
        ((BACKWARD, "dz.sum(0,", "dz.mean(0,"),), "G", "dmu", "×", SAMPLES),
    _z3("first_sample_backward", "takes dmu from the first sample alone.",
        ((BACKWARD, "dz.sum(0, ", "dz[:1].sum(0, "),), "G", "dmu", "counts only the first sample"),
    _z3("one_noise_for_all_samples", "draws once and repeats: k samples are one.",
        ((FORWARD, "self._noise((k * n, d), x.dtype)", "np.tile(self._noise((n, d), x.dtype), (k, 1))"),), "RM",
        "its product with the next sample's has the mean"),
)
HEADS: tuple[Bug, ...] = (
    _vae("only_mu_learns", "sends the encoder the gradient of mu alone.",
         VAE_BACKWARD, "where=outside", "where=True", "G", "the gradient of encoder.1.W", "counts only"),
    _vae("only_logvar_learns", "sends the encoder the gradient of logvar alone.",
         VAE_BACKWARD, "self.encoder.backward(dq,",
         "self.encoder.backward(dq * (np.arange(dq.shape[1]) >= self.latent),", "G",
         "the gradient of encoder.1.W", "counts only"),
    _vae("mean_of_the_heads", "averages what the two heads send down.",
         VAE_BACKWARD, "self.encoder.backward(dq,", "self.encoder.backward(dq / 2,", "G",
         "the gradient of encoder.1.W", "½ ×"),
    _vae("heads_in_the_wrong_order", "sends each head the other's gradient.",
         VAE_BACKWARD, "self.encoder.backward(dq,", "self.encoder.backward(np.roll(dq, self.latent, axis=1),", "G",
         "swapped"),
    _clamped("gradient_passes_the_clamp", "lets the gradient through where logvar was clamped.",
             VAE_BACKWARD, "where=outside", "where=False", "G", "a clamped logvar is given a gradient"),
    _clamped("clamp_forgotten_before_z", "clamps logvar for the KL, and takes sigma from what the encoder said.",
             VAE_LOSS, "self.reparameterize.forward(q)",
             "self.reparameterize.forward(self.encoder.forward(self._encoder_input(x, y)))", "R",
             "the value of recon is off by"),
    _clamped("clamped_from_above_only", "forgets the lower end of the range.",
             VAE_SIDES, "sides -= np.less(", "np.less(", "R", "encode_stats gives the clamped logvar"),
    _clamped("clamped_to_the_other_end", "mixes up the two ends of the range.",
             VAE_Q, "= LOGVAR_RANGE", "= LOGVAR_RANGE[::-1]", "R", "encode_stats gives the clamped logvar"),
)
IMPORTANCE: tuple[Bug, ...] = (
    _iwae("weights_not_normalised", "weighs by w / max w: they do not add up to 1.",
          IWAE_LOSS, "w / w.sum(axis=0)", "w", "G"),
    _iwae("pixels_not_weighed", "gives every sample the same say in the gradient of the pixels.",
          IWAE_BACKWARD, "self.dy * (k * w)", "self.dy * (0 * w + 1)", "G"),
    _iwae("mean_of_logs", "averages log w: k ELBOs, no tighter bound.",
          IWAE_LOSS, "most + np.log(w.sum(axis=0)) - math.log(k)", "log_w.mean(axis=0)", "GR",
          "loss is what its definition says"),
    _iwae("one_over_k_missing", "forgets the 1/k: the bound is above log p(x) by log k.",
          IWAE_LOSS, " - math.log(k)", "", "R", "the value", "is off by a constant"),
    _iwae("max_not_subtracted", "takes exp(log w) as it is: it is 0 for every sample of a real picture.",
          IWAE_LOSS, "log_w.max(axis=0)", "0 * log_w.max(axis=0)", "R", "pictures of 2,000 nats"),
    _iwae("max_over_the_batch", "subtracts one maximum for all pictures: those far below it are lost.",
          IWAE_LOSS, "log_w.max(axis=0)", "log_w.max() + np.zeros(n)", "R", "pictures of 2,000 nats"),
    _iwae("prior_forgotten_backward", "forgets that log p(z) has a gradient too.",
          IWAE_BACKWARD, " + w / n * self.z", "", "G"),
    _iwae("log_q_forgotten_backward", "forgets the -½ of log q.",
          IWAE_BACKWARD, "dlogvar -= 1 / (2 * n)", "dlogvar -= 0", "G"),
    _iwae("prior_without_batch_mean", "forgets the 1/N of the prior's gradient.",
          IWAE_BACKWARD, "w / n * self.z", "w * self.z", "GB", "a batch twice over"),
    _iwae("pictures_repeated_in_place", "repeats each picture k times where the samples are laid out batch by batch.",
          IWAE_LOSS, "np.concatenate([x] * k)", "np.repeat(x, k, axis=0)", "RB",
          "the means of those of single pictures"),
    _iwae("log_q_without_sigma", "leaves log sigma out of log q.",
          IWAE_LOSS, "np.sum(z * z - eps * eps - logvar, axis=2)", "np.sum(z * z - eps * eps, axis=2)", "GR",
          "the value of kl is off by"),
    _iwae("sum_over_samples_backward", "forgets that dy is that of a mean over k samples.",
          IWAE_BACKWARD, "self.dy * (k * w)", "self.dy * w", "G", "the gradient of decoder.0.W", "×", SAMPLES),
)
BUGS: tuple[Bug, ...] = (*REPARAMETERIZE, *HEADS, *IMPORTANCE)

NOT_HERE: dict[str, str] = {
    "overwrite": "the two heads are one Dense, and there is no second write that could replace the first; "
                 "only_logvar_learns has the same gradient",
    "weights_not_detached": "the backward pass is written by hand, and the derivative of the normalised weights does "
                            "not stand in it: there is nothing to detach; weights_not_normalised comes nearest",
}
