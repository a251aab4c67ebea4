"""Bugs of the training loop, its callbacks, its data and its evaluation: most of them train happily.
The words of a bug are those of the lines and variants of `npae.lab.subjects.training`.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

TRAIN, BATCHES, CALLBACKS = "npae.train:", "npae.data.batches:", "npae.callbacks:"
FILE = "npae.checkpoint.file:"
TERMS = "npae.evaluate.reconstruction:loss_terms"
STEP = ("        with _telling_where(state):\n"
        "            state.optimizer.step(model.theta, model.grad)\n")
FIXED = "streams(seed).validation"
ORDER = "permutation(len(x), rng.order)"
GREYS = "np.divide(x, 255, dtype=dtype)"
U = "rng.random(x.shape, dtype=x.dtype.type)"
KEEP = "self.best, self.epoch, self.theta = value, state.epoch, state.model.theta.copy()"


def _bug(subject: str, name: str, did: str, where: str, changes: tuple[str, ...], says: str,
         killed_by: str = "S") -> Bug:
    """`changes`: old, new, old, new ... in one function."""
    edits = tuple(Edit(where, *pair) for pair in zip(changes[::2], changes[1::2], strict=True))
    return Bug(subject, name, did, subject, edits, killed_by, (says,) if says else ())


FIT: tuple[Bug, ...] = (
    _bug("fit", "zero_grad_forgotten", "Gradients are never cleared: each step goes along the sum of all so far.",
         TRAIN + "_epoch", ("        model.zero_grad()\n", ""), "never cleared", "R"),
    _bug("fit", "zero_grad_once_an_epoch", "Gradients are cleared before the epoch and not before each batch.",
         TRAIN + "_epoch", ("        model.zero_grad()\n", "", "    model = state.model\n",
                            "    model = state.model\n    model.zero_grad()\n"), "cleared once an epoch", "R"),
    _bug("fit", "same_order_every_epoch", "The generator is made anew for every epoch: one ordering forever.",
         TRAIN + "fit", (ORDER, ORDER.replace("rng", "streams(seed)")), "the same order in every epoch"),
    _bug("fit", "validation_consumes_the_noise", "Validation draws from the training's generator: with a validation "
         "part the training is another one.", TRAIN + "_validate", (FIXED, 'state.generators["noise"]'),
         "validation moves the training's noise"),
    _bug("fit", "validation_draws_on", "Each validation draws other noise than the one before: the figures of two "
         "epochs do not compare.", TRAIN + "_validate", (FIXED, 'state.generators["validation"]'),
         "other noise in every validation"),
    _bug("fit", "noise_from_the_order", "The model's noise and the shuffling draw from one generator.",
         TRAIN + "fit", ("dtype=model.theta.dtype), rng.noise, callbacks)",
                         "dtype=model.theta.dtype), rng.order, callbacks)"), "noise changes the order"),
    _bug("fit", "mean_of_batch_means", "The reported loss is the mean over batches, however short the last one is.",
         TRAIN + "_epoch", ("value * len(x)", "value", "value / state.images for", "value / state.step for"),
         "every batch weighs the same", "R"),
    _bug("fit", "last_batch_for_the_epoch", "The reported loss is that of the last batch.",
         TRAIN + "_epoch", ("{name: value / state.images for name, value in state.sums.items()}", "dict(terms)"),
         "the last batch alone", "R"),
    _bug("fit", "sum_of_batches", "The reported loss is a sum over batches.",
         TRAIN + "_epoch", ("value * len(x)", "value", "value / state.images for", "value for"),
         "a sum over batches", "R"),
    _bug("fit", "saved_before_the_update", "Callbacks are told of a batch before its step: what they save is one step "
         "old.", TRAIN + "_epoch", (STEP, "", "            c.on_batch_end(state)\n",
                                    "            c.on_batch_end(state)\n" + STEP), "one step old"),
    _bug("fit", "theta_rebound", "The step is taken on a new theta, of which the parameters are no views.",
         TRAIN + "_epoch", (STEP, "        model.theta = model.theta.copy()\n" + STEP), "no views of theta"),
    _bug("fit", "seed_ignored", "Streams are made from a constant.",
         TRAIN + "streams", ('whole(seed, "seed", least=0)', "0"), "another seed gives the same bits"),
    _bug("fit", "order_without_a_seed", "Shuffling takes fresh entropy.",
         TRAIN + "fit", (ORDER, ORDER.replace("rng.order", "np.random.default_rng()")),
         "the same seed gives other bits"),
    _bug("fit", "nan_passes", "The test for a broken loss knows infinity and not NaN.",
         "npae.nonfinite:check_loss", ("not math.isfinite(loss)", "math.isinf(loss)"), "a NaN passes"),
)
DATA: tuple[Bug, ...] = (
    _bug("batches", "x_shuffled_without_y", "Pictures are shuffled, labels stay where they are.",
         BATCHES + "_walk", ("y[rows]", "y[step * batch_size:(step + 1) * batch_size]"), "y stands as it was"),
    _bug("batches", "not_shuffled", "The order is drawn and not used.",
         BATCHES + "_walk", ("permutation(len(x), order)", "np.sort(permutation(len(x), order))"), "not shuffled"),
    _bug("batches", "drawn_with_replacement", "Rows are drawn and not permuted: some come twice, some never.",
         BATCHES + "permutation", ('np.argsort(rng.bit_generator.random_raw(n), kind="stable")',
                                   "rng.bit_generator.random_raw(n) % np.uint64(n)"), "some rows come twice"),
    _bug("batches", "divided_by_255_twice", "Pictures that are numbers in [0, 1] already are divided again.",
         BATCHES + "_walk", ("to_float(x[rows], dtype)", "to_float(x[rows], dtype) / 255"),
         "divided by 255 twice", "R"),
    _bug("batches", "divided_by_256", "A white pixel is 255/256.",
         BATCHES + "to_float", (GREYS, "np.divide(x, 256, dtype=dtype)"), "divided by 256", "R"),
    _bug("batches", "divided_by_its_own_maximum", "Each batch is scaled by its own brightest pixel.",
         BATCHES + "to_float", (GREYS, "np.divide(x, x.max(), dtype=dtype)"), "divided by the batch's maximum", "R"),
    _bug("batches", "not_divided", "Grey levels go in as 0 to 255.",
         BATCHES + "to_float", (GREYS, "x.astype(dtype)"), "not divided by 255", "R"),
    _bug("batches", "last_rows_left_out", "The number of batches is rounded down.",
         BATCHES + "count", ("-(-n // batch_size)", "n // batch_size"), "the last rows never come"),
    _bug("batches", "short_batch_not_left_out", "drop_last is taken and forgotten.",
         BATCHES + "count", ("n // batch_size if drop_last else -(-n // batch_size)", "-(-n // batch_size)"),
         "the short batch comes all the same"),
    _bug("batches", "transform_draws_from_the_order", "Binarisation draws from the generator of the order.",
         BATCHES + "_walk", ("transform, noise)", "transform, order)"), "noise changes the order"),
    _bug("binarisation", "threshold_at_0", "Every pixel that is not black becomes white.",
         BATCHES + "binarize_threshold", ("np.ceil(x - 0.5)", "np.ceil(x)"), "the threshold is 0", "R"),
    _bug("binarisation", "threshold_inverted", "Dark pixels become 1.",
         BATCHES + "binarize_threshold", ("np.ceil(x - 0.5)", "np.ceil(0.5 - x)"), "black and white swapped", "R"),
    _bug("binarisation", "sample_inverted", "A pixel is 1 with probability 1 - x.",
         BATCHES + "binarize_sample", (f"x - {U}", f"{U} - x"), "black and white swapped", "M"),
    _bug("binarisation", "sample_of_the_root", "The bits of a picture are drawn where u² < x: too many are white.",
         BATCHES + "binarize_sample", (U, f"{U} ** 2"), "1 with probability sqrt(x)", "M"),
    _bug("binarisation", "one_number_for_all_pixels", "One random number decides about all pixels of a batch.",
         BATCHES + "binarize_sample", (U, "rng.random(dtype=x.dtype.type)"), "one random number for all pixels", "M"),
    _bug("binarisation", "drawn_once_and_for_all", "A constant seed: the same noise in every batch.",
         BATCHES + "binarize_sample", (U, "np.random.default_rng(0).random(x.shape, dtype=x.dtype.type)"),
         "the same noise every time", "M"),
    _bug("one-hot", "one_hot_off_by_one", "Labels are taken to count from 1.",
         "npae.models.conditional:ConditionalVAE.one_hot", ("dtype=dtype)[y]", "dtype=dtype)[y - 1]"),
         "one column too far left", "R"),
    _bug("one-hot", "one_hot_of_the_rank", "np.unique renumbers the labels that a batch happens to have.",
         "npae.models.conditional:ConditionalVAE.one_hot",
         ("dtype=dtype)[y]", "dtype=dtype)[np.unique(y, return_inverse=True)[1]]"), "renumbered within the batch", "R"),
)
MEMORY: tuple[Bug, ...] = (
    _bug("callbacks", "checkpoint_keeps_the_worse", "Every epoch overwrites the best weights.",
         CALLBACKS + "ModelCheckpoint.on_epoch_end", ("-math.inf < value < self.best", "value < math.inf"),
         "the last weights come back"),
    _bug("callbacks", "checkpoint_keeps_a_view", "The best weights are kept as a view, which moves with the training.",
         CALLBACKS + "ModelCheckpoint.on_epoch_end", (KEEP, KEEP.replace(".copy()", "")), "the last weights come back"),
    _bug("callbacks", "checkpoint_rebinds_theta", "model.theta becomes the best vector, and the parameters keep the "
         "last.", CALLBACKS + "ModelCheckpoint.on_fit_end", ("state.model.theta[...] =", "state.model.theta ="),
         "the last weights come back"),
    _bug("callbacks", "checkpoint_keeps_the_first", "The best value is never written down... except once.",
         CALLBACKS + "ModelCheckpoint.on_epoch_end", ("-math.inf < value < self.best", "self.theta is None"),
         "the first weights come back"),
    _bug("callbacks", "nan_replaces_the_best", "not value >= best: a NaN counts as better.",
         CALLBACKS + "ModelCheckpoint.on_epoch_end", ("-math.inf < value < self.best", "not value >= self.best"),
         "a NaN counts as better"),
    _bug("callbacks", "checkpoint_forgets_its_best", "After restore any value is the best one.",
         CALLBACKS + "ModelCheckpoint.restore", ('state["best"]', "math.inf"), "the best value is lost"),
    _bug("callbacks", "patience_not_set_back", "All epochs without a new best are counted, not those in a row.",
         CALLBACKS + "EarlyStopping.on_epoch_end", ("0 if value < self.best else self.waited + 1",
                                                    "self.waited + (not value < self.best)"),
         "the count is never set back"),
    _bug("callbacks", "compared_with_the_epoch_before", "The best value is overwritten by the latest.",
         CALLBACKS + "EarlyStopping.on_epoch_end", ("min(self.best, value)", "value"),
         "compares with the epoch before"),
    _bug("callbacks", "patience_one_too_long", "> where >= belongs.",
         CALLBACKS + "EarlyStopping.on_epoch_end", ("self.waited >= self.patience", "self.waited > self.patience"),
         "waits one epoch too long"),
    _bug("callbacks", "patience_lost", "After restore the waiting starts again.",
         CALLBACKS + "EarlyStopping.restore", ('state["waited"]', "0"), "the count is lost"),
    _bug("callbacks", "early_stopping_forgets_its_best", "After restore any value is the best one.",
         CALLBACKS + "EarlyStopping.restore", ('state["best"]', "math.inf"), "the best value is lost"),
    _bug("callbacks", "history_of_two_fits", "A new training does not empty the history.",
         CALLBACKS + "History.on_fit_begin", ("state.fresh", "state.epoch < 0"), "rows of the fit before"),
    _bug("callbacks", "history_twice", "restore adds to the rows that there are.",
         CALLBACKS + "History.restore", ("self.rows =", "self.rows +="), "rows stand twice"),
    _bug("evaluation", "evaluated_with_noise", "Noise and dropout layers stay on in the validation.",
         TERMS, ("with model.without_noise():", "if model.noisy:"), "noise layers are on"),
    _bug("evaluation", "evaluated_by_batch_means", "The mean over batches, however short the last one is.",
         TERMS, ("len(x_batch) * float(value)", "float(value)", "value / len(x)", "value / -(-len(x) // batch_size)"),
         "every batch weighs the same", "R"),
    _bug("evaluation", "reconstructed_with_noise", "The noise layers keep the generator of the latest loss.",
         "npae.models.base:Model._quietly", ("            net.give_rng(None)\n", "            pass\n"),
         "noise layers are on"),
    _bug("evaluation", "squared_error_by_pictures", "The sum of squares is divided by the number of pictures.",
         "npae.evaluate.reconstruction:reconstruction_mse", ("pixels += x_batch.size", "pixels += len(x_batch)"),
         "a sum over pixels", "R"),
)
RESUME: tuple[Bug, ...] = (
    _bug("resume", "resume_lacks_the_rng", "The states of the generators are in the file and not put back: the next "
         "epoch has the order, and the noise, of the first.", FILE + "_take_over",
         ("        rng.bit_generator.state =", "        _ ="), "the generators begin anew"),
    _bug("resume", "epoch_restarts_on_resume", "The place in the epoch is forgotten: pictures of its beginning are met "
         "twice.", FILE + "_take_over", ("= epoch, step, order", "= epoch, 0, order"), "the epoch begins anew"),
    _bug("resume", "rest_of_the_epoch_left_out", "The killed epoch counts as done.", FILE + "_take_over",
         ("= epoch, step, order", "= epoch + 1, 0, None"), "the epoch is left out"),
    _bug("resume", "lr_lost", "The rate is the one that the optimizer is made with, whatever has become of it.",
         "npae.optim:Optimizer.restore", ("            self.lr = in_range", "            in_range"),
         "the rate is that of the beginning"),
    _bug("resume", "config_mismatch_accepted", "Nobody looks whether the checkpoint is of this training.",
         FILE + "_refuse_another_fit", ('meta["config_sha256"] == _digest(config)', "config"),
         "another training's checkpoint is taken"),
)
BUGS = (*FIT, *DATA, *MEMORY, *RESUME)

NOT_HERE: dict[str, str] = {
    "rng_restored_after_the_first_batch": "one function puts everything back, before the first batch",
    "permutation_restarts_on_resume": "the permutation of the epoch is in the file: see epoch_restarts_on_resume",
    "lr_schedule_lost": "a schedule is a function of the optimizer's number of steps: losing it is restore_loses_t",
}
