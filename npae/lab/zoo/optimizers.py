"""Bugs of optimizers, clipping and schedules: each takes the loss down, and none is Adam any more.
The words of a bug are names in the tables of variants of `npae.lab.subjects.optimizers`.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

KERNELS, OPTIM = "npae.kernels.reference_training:", "npae.optim:"


def _bug(room: str, name: str, did: str, edits: tuple[Edit, ...], says: str, killed_by: str = "R") -> Bug:
    """A bug that the subject of its room shows."""
    return Bug(room, name, did, room, edits, killed_by, (says,) if says else ())


def _adam(*changes: str) -> tuple[Edit, ...]:
    """old, new, old, new ... in the step of Adam."""
    return tuple(Edit(KERNELS + "adam_step", *pair) for pair in zip(changes[::2], changes[1::2], strict=True))


M_HAT, V_HAT = "m_hat = m / real(1 - beta1**t)", "v_hat = v / real(1 - beta2**t)"
ROOT = "(np.sqrt(v_hat) + real(eps))"
T_OF_ENTRIES = "((t - 1) * m.size + 1 + np.arange(m.size))"

BUGS: tuple[Bug, ...] = (
    # -- Adam and AdamW --
    _bug("Adam", "adam_without_bias_correction", "The step takes m and v as they are: both start at zero and are too "
         "small for the first thousand steps.", _adam(M_HAT, "m_hat = m", V_HAT, "v_hat = v"),
         "without bias correction"),
    _bug("Adam", "adam_v_not_corrected", "The bias of m is corrected, that of v is forgotten.",
         _adam(V_HAT, "v_hat = v"), "v is not corrected"),
    _bug("Adam", "adam_t_starts_at_0", "The steps are counted after the update, so that the first one divides by "
         "1 - beta^0.", (Edit(OPTIM + "Optimizer.step", "self.steps += 1\n        self._update(K, theta, grad, lr)",
                              "self._update(K, theta, grad, lr)\n        self.steps += 1"),), "t starts at 0"),
    _bug("Adam", "adam_t_one_ahead", "The first step is taken for the second.",
         (Edit(OPTIM + "Adam._update", "self.steps, decay", "self.steps + 1, decay"),), "t is one ahead"),
    _bug("Adam", "adam_t_counted_per_parameter", "t += 1 stands inside the loop over the parameters.",
         _adam(M_HAT, f"m_hat = m / real(1 - beta1**{T_OF_ENTRIES})",
               V_HAT, f"v_hat = v / real(1 - beta2**{T_OF_ENTRIES})"), "t counts the entries of theta"),
    _bug("Adam", "adam_eps_inside_the_root", "sqrt(v + eps): small gradients get a far smaller step.",
         _adam(ROOT, "np.sqrt(v_hat + real(eps))"), "eps inside the root"),
    _bug("Adam", "adam_betas_swapped", "beta2 is handed over where beta1 belongs, and the other way round.",
         (Edit(OPTIM + "Adam._update", "self.beta1, self.beta2", "self.beta2, self.beta1"),),
         "beta1 and beta2 swapped"),
    _bug("Adam", "adam_m_of_the_squared_gradient", "m averages the squared gradient as v does, and loses its sign.",
         _adam("real(1 - beta1) * grad)", "real(1 - beta1) * grad * grad)"), "m of the squared gradient"),
    _bug("Adam", "adam_without_the_root", "m is divided by v and not by its root.",
         _adam(ROOT, "(v_hat + real(eps))"), "without the root of v"),
    _bug("AdamW", "adamw_decay_coupled", "decay theta is added to the gradient, as L2 regularisation is: Adam then "
         "divides it by the root of v.",
         (Edit(OPTIM + "AdamW._update", "theta, grad, lr, self.decay)", "theta, grad + self.decay * theta, lr)"),),
         "decay coupled with the gradient"),
    _bug("AdamW", "adamw_decay_without_the_rate", "Each step takes decay theta away, and not lr decay theta.",
         _adam("real(lr * decay)", "real(decay)"), "decay without the learning rate"),
    # -- SGD, Momentum, RMSprop --
    _bug("SGD", "sgd_rebinds_theta", "theta = theta - ...: the name gets a new array, and the model keeps the old one.",
         (Edit(KERNELS + "sgd_step", "theta -= theta.dtype.type(lr) * grad",
               "theta = theta - theta.dtype.type(lr) * grad"),), "theta never moves"),
    _bug("SGD", "sgd_climbs", "The step goes along the gradient and not against it.",
         (Edit(KERNELS + "sgd_step", "theta -=", "theta +="),), "climbs"),
    _bug("Momentum", "momentum_with_the_wrong_sign", "The old velocity is taken away and not added.",
         (Edit(KERNELS + "momentum_step", "real(momentum) * velocity + grad", "grad - real(momentum) * velocity"),),
         "momentum with the wrong sign"),
    _bug("Momentum", "momentum_dampened", "The gradient is weighed with 1 - momentum, as in an average: the steps are "
         "ten times too small.", (Edit(KERNELS + "momentum_step", "velocity + grad)",
                                       "velocity + real(1 - momentum) * grad)"),), "dampened by 1 - momentum"),
    _bug("Momentum", "momentum_holds_the_rate", "The velocity sums lr grad: a schedule acts ten steps late.",
         (Edit(KERNELS + "momentum_step", "velocity + grad)", "velocity + real(lr) * grad)"),
          Edit(KERNELS + "momentum_step", "theta -= real(lr) * velocity", "theta -= velocity")),
         "learning rate inside the velocity"),
    _bug("RMSprop", "rmsprop_eps_inside_the_root", "sqrt(v + eps).",
         (Edit(KERNELS + "rmsprop_step", "(np.sqrt(v) + real(eps))", "np.sqrt(v + real(eps))"),),
         "eps inside the root"),
    _bug("RMSprop", "rmsprop_rho_swapped", "rho weighs the new square and 1 - rho the old average.",
         (Edit(KERNELS + "rmsprop_step", "real(rho) * v + real(1 - rho) *", "real(1 - rho) * v + real(rho) *"),),
         "rho and 1 - rho swapped"),
    # -- clipping --
    _bug("clip_global_norm", "clip_by_value", "Every entry is cut off on its own, and the gradient points elsewhere.",
         (Edit(OPTIM + "clip_global_norm", "grad *= grad.dtype.type(max_norm / norm)",
               "np.clip(grad, -max_norm, max_norm, out=grad)"),), "clips by value"),
    _bug("clip_global_norm", "clip_norm_without_the_root", "The norm is the sum of squares.",
         (Edit(OPTIM + "clip_global_norm", "math.sqrt(_kernels.resolve(kernels).sum_of_squares(grad))",
               "_kernels.resolve(kernels).sum_of_squares(grad)"),), "norm without the root"),
    _bug("clip_global_norm", "clip_lengthens", "The gradient is always brought to the length max_norm.",
         (Edit(OPTIM + "clip_global_norm", "if norm > max_norm:", "if norm > 0:"),), "lengthens short gradients"),
    # -- schedules --
    _bug("Momentum", "schedule_from_step_1", "The schedule is asked after the step has been counted.",
         (Edit(OPTIM + "Optimizer.learning_rate", "self.lr(self.steps)", "self.lr(self.steps + 1)"),),
         "schedule asked for step 1 first"),
    _bug("schedules", "cosine_rises_again", "Nothing holds the cosine at its end.",
         (Edit(OPTIM + "CosineDecay.__call__", "min(step / self.steps, 1)", "step / self.steps"),), "rises again"),
    _bug("schedules", "warmup_begins_at_0", "The first step has rate 0, and is lost.",
         (Edit(OPTIM + "LinearWarmup.__call__", "(step + 1) / self.steps", "step / self.steps"),), "begins at 0"),
    _bug("schedules", "warmup_counts_on", "What follows the warm-up is asked for the step since the beginning.",
         (Edit(OPTIM + "LinearWarmup.__call__", "max(step - self.steps, 0)", "step"),),
         "counts the warm-up's steps too"),
    _bug("schedules", "step_decay_without_steps", "step / every where step // every belongs.",
         (Edit(OPTIM + "StepDecay.__call__", "step // self.every", "step / self.every"),), "decays smoothly"),
    # -- state --
    _bug("Adam", "restore_loses_t", "The moments come back, the number of steps does not: they are corrected again for "
         "a bias that they have lost.", (Edit(OPTIM + "Optimizer.restore", 'int(state["steps"])', "0"),),
         "the steps are lost", "S"),
    _bug("Adam", "restore_loses_the_moments", "The number of steps comes back, the moments start at zero.",
         (Edit(OPTIM + "Optimizer.restore", "_aligned_copy(state[name])", "np.zeros_like(state[name])"),),
         "the moments are lost", "S"),
    _bug("Adam", "restore_in_float32", "The moments come back in float32, whatever they were.",
         (Edit(OPTIM + "Optimizer.restore", "_aligned_copy(state[name])",
               "np.array(state[name], np.float32).astype(state[name].dtype)"),), "rounded to float32", "S"),
    _bug("Momentum", "restore_without_a_copy", "Two optimizers that restore one state step on the same moments.",
         (Edit(OPTIM + "Optimizer.restore", "_aligned_copy(state[name])", "state[name]"),), "share their moments", "S"),
    _bug("RMSprop", "state_without_a_copy", "The state that was saved goes on changing with the training.",
         (Edit(OPTIM + "Optimizer.state", "moment.copy()", "moment"),), "share their moments", "S"),
    _bug("AdamW", "restore_takes_anything", "The state of another optimizer is taken without a word.",
         (Edit(OPTIM + "Optimizer.restore", "if set(state) != wanted:", "if not state:"),),
         "another optimizer's state is taken", "S"),
)

NOT_HERE: dict[str, str] = {
    "decay_on_biases": "AdamW shrinks every entry of theta, as its paper says and its docstring tells; weight decay as "
                       "a term of the loss is a penalty, whose bugs stand in another file of the zoo",
    "state_keyed_by_id": "moments belong to the optimizer object: there is no table to find a recycled id in",
    "norm_per_tensor": "the optimizer gets one flat gradient, and does not know where a tensor ends",
}
