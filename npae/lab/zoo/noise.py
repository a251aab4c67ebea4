"""Noise layers: masks drawn again, scales forgotten, the wrong distribution; Reparameterize with k samples.
"""
from npae.lab.planting import Bug, Edit

NOISE, SAMPLE = "npae.layers.noise:", "npae.layers.latent:Reparameterize"
DROPOUT, MASKING, GAUSSIAN = "Dropout(0.4)", "MaskingNoise(0.4)", "GaussianNoise(0.3)"
ONE, THREE = "Reparameterize(1)", "Reparameterize(3)"
EPS, DX = "rng.standard_normal(x.shape, np.float64)", "dy * scale"
SCALE = "kept.astype(x.dtype) / x.dtype.type(1 - self.amount)"


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(subject.split("(")[0], name, did, subject, edits, killed_by, says)


def _draw(subject: str, name: str, did: str, killed_by: str, says: tuple[str, ...], old: str, new: str) -> Bug:
    return _bug(name, did, subject, killed_by, says, Edit(f"{NOISE}{subject.split('(')[0]}._draw", old, new))


def _back(subject: str, name: str, did: str, killed_by: str, says: tuple[str, ...], old: str, new: str) -> Bug:
    return _bug(name, did, subject, killed_by, says, Edit(f"{NOISE}_Noise._backward", old, new))


DROPOUTS = (
    _back(DROPOUT, "mask_drawn_again", "Backward draws a mask of its own.", "GAS", ("draws noise again",),
          "scale = self.saved[0]", "scale = self.saved[0] if self.rng is None else self._draw(dy, self.rng)[0]"),
    _back(DROPOUT, "scale_missing_in_backward", "Backward masks, and does not divide by 1 - p.", "GA",
          ("dx", "×", "1 - p"), DX, "dy * (scale > 0)"),
    _back(DROPOUT, "mask_missing_in_backward", "Backward divides by 1 - p, and does not mask.", "GA",
          ("the mask", "is missing"), DX, "dy / dy.dtype.type(1 - self.amount)"),
    _draw(DROPOUT, "not_scaled_consistent", "y = m x: its mean is (1 - p) x.", "RM", ("y", "×", "1 - p"),
          SCALE, "kept.astype(x.dtype)"),
    _draw(DROPOUT, "divided_by_p_consistent", "y = m x / p, the wrong one of the two probabilities.", "RM",
          ("y", "1.5 ×|3/2 ×"),
          "type(1 - self.amount)", "type(self.amount)"),
    _draw(DROPOUT, "p_is_kept_consistent", "p is the part that is kept.", "RM", ("upside down|the mean is",),
          "rng.random(x.shape) >= self.amount", "rng.random(x.shape) < self.amount"),
    _draw(DROPOUT, "one_mask_for_the_batch", "All images of a batch get the same mask.", "RM",
          ("the product of two numbers is",),
          "rng.random(x.shape)", "rng.random(x.shape[1:])"),
    _draw(DROPOUT, "same_mask_every_time", "The generator is made anew in each forward.", "RM", ("the mean is",),
          "rng.random(x.shape)", "np.random.default_rng(0).random(x.shape)"),
    _bug("x_itself_without_a_generator", "Without a generator y is x itself, not a copy.", DROPOUT, "S", (),
         Edit(f"{NOISE}_Noise._forward", "x.copy() if scale", "x if scale")),
    _bug("noise_without_a_generator", "Without a generator the layer draws from one of its own, in evaluation too.",
         DROPOUT, "R", ("without a generator",),
         Edit(f"{NOISE}_Noise._forward", "if self.rng is None or self.amount == 0",
                                "if self.amount == 0"),
         Edit(f"{NOISE}_Noise._forward", "self._draw(x, self.rng)",
              "self._draw(x, np.random.default_rng(0) if self.rng is None else self.rng)")),
)
MASKS = (
    _back(MASKING, "mask_missing_in_backward", "Backward lets all of dy through.", "GA", ("the mask", "is missing"),
          DX, "dy.copy()"),
    _back(MASKING, "mask_twice_upside_down", "Backward lets through what forward masked.", "GA", ("dx", "upside down"),
          DX,
          "dy * (1 - scale)"),
    _draw(MASKING, "scaled_consistent", "The rest is divided by 1 - p, as dropout does.", "RM", ("y", "×", "1 - p"),
          "(rng.random(x.shape) >= self.amount).astype(x.dtype)",
          "(rng.random(x.shape) >= self.amount).astype(x.dtype) / x.dtype.type(1 - self.amount)"),
    _draw(MASKING, "whole_images_masked", "Whole images are masked instead of single numbers.", "RM",
          ("the product of two numbers is",),
          "rng.random(x.shape)", "rng.random(x.shape[:1] + (1,) * (x.ndim - 1))"),
)
NORMALS = (
    _draw(GAUSSIAN, "amount_is_the_variance", "The amount is taken for the variance.", "RM",
          ("the variance is|the mean is",),
          f"self.amount * {EPS}", f"self.amount**0.5 * {EPS}"),
    _draw(GAUSSIAN, "uniform_noise", "The noise is uniform in [-amount, amount].", "RM", ("the variance is",), EPS,
          "rng.uniform(-1, 1, x.shape)"),
    _draw(GAUSSIAN, "one_noise_for_the_batch", "All images of a batch get the same noise.", "RM",
          ("the product of two numbers is",), EPS,
          "rng.standard_normal(x.shape[1:])"),
    _draw(GAUSSIAN, "multiplied_consistent", "y = (1 + amount eps) x.", "RM", ("the variance is|the mean is",),
          f"return None, self.amount * {EPS}.astype(x.dtype)",
          f"return (1 + self.amount * {EPS}).astype(x.dtype), None"),
    _draw(GAUSSIAN, "noise_not_from_the_generator", "The noise comes from a generator of nobody's.", "G",
          ("NONDETERMINISTIC",),
          "rng.standard_normal", "np.random.default_rng().standard_normal"),
    _back(GAUSSIAN, "amount_in_backward", "dy is multiplied by the amount of noise.", "GA",
          ("dx", "is 0.3 ×|is 3/10 ×"), "dy.copy()",
          "dy.dtype.type(self.amount) * dy"),
)
SAMPLES = (
    _bug("gradient_mean_over_samples", "The gradients of the k samples are averaged instead of added.", THREE, "G",
         ("dx", "1/3 ×", "the number of samples|the batch size"),
         Edit(f"{SAMPLE}._backward", "dz.sum(0,", "dz.mean(0,"),
         Edit(f"{SAMPLE}._backward", "dsigma.sum(0,", "dsigma.mean(0,")),
    _bug("gradient_of_the_last_sample", "A loop over the samples overwrites the gradient.", THREE, "G",
         ("dx", "counts only the last sample"),
         Edit(f"{SAMPLE}._backward", "dz.sum(0, ", "dz[-1:].sum(0, "),
         Edit(f"{SAMPLE}._backward", "dsigma.sum(0, ", "dsigma[-1:].sum(0, ")),
    _bug("samples_image_by_image_consistent", "The samples come image by image instead of sample by sample.", THREE,
         "R", ("y", "reshaped where a transpose belongs"),
         Edit(f"{SAMPLE}._forward", "z.reshape(k * n, d)", "z.swapaxes(0, 1).reshape(k * n, d)"),
         Edit(f"{SAMPLE}._backward", "dz.reshape(eps.shape)",
              "dz.reshape(eps.shape[1], eps.shape[0], -1).swapaxes(0, 1)")),
    _bug("one_eps_for_all_samples", "The k samples of an image are k times the same.", THREE, "RM",
         ("the product of two numbers is",),
         Edit(f"{SAMPLE}._forward", "self._noise((k * n, d), x.dtype)",
              "np.tile(self._noise((k * n, d), x.dtype)[:n], (k, 1))")),
    _bug("dmu_and_dlogvar_swapped", "dx is put together as [dlogvar | dmu].", ONE, "G",
         ("the gradients of mu and logvar are swapped",),
         Edit(f"{SAMPLE}._backward", "[dmu, dlogvar]", "[dlogvar, dmu]")),
)
BUGS = (*DROPOUTS, *MASKS, *NORMALS, *SAMPLES)
NOT_HERE: dict[str, str] = {}
