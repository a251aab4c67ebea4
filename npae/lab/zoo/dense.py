"""Dense, alone and with an activation in it, and the two heads of a VAE's encoder, which are one Dense in npae.
"""
from npae.lab.planting import Bug, Edit

FORWARD, BACKWARD = "npae.kernels.reference:dense_forward", "npae.kernels.reference:dense_backward"
LAYER, SAVED = "npae.layers.dense:Dense._gradients", "npae.layers.affine:Affine._forward"
PLAIN, SQUARE, THIN, TANH = "Dense(5, 3)", "Dense(3, 3)", "Dense(1, 2)", "Dense(4, 5, activation='tanh')"
HEADS = "Dense(4, 6) of two heads"

Y, DZ, DW, DB, DX = "activation.f(x @ W + b)", "dy * activation.slope(y)", "x.T @ dz", "_sum(dz, 0)", "dz @ W.T"


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit,
         room: str = "Dense") -> Bug:
    return Bug(room, name, did, subject, edits, killed_by, says)


def _forward(old: str, new: str) -> Edit:
    return Edit(FORWARD, old, new)


def _back(old: str, new: str) -> Edit:
    return Edit(BACKWARD, old, new)


WEIGHTS = (
    _bug("transposed_dW", "dW = dz^T x, which has the right shape where the layer is square.", SQUARE, "GA",
         ("dW", "is the transpose of"), _back(DW, "dz.T @ x")),
    _bug("dW_sign", "The gradient of W is subtracted.", PLAIN, "GA",
         ("dW", "has the wrong sign"), _back("dW += x.T", "dW -= x.T")),
    _bug("dW_mean_over_batch", "dW is divided by N, although the loss already is.", THIN, "GA",
         ("dW", "1/3 ×", "the batch size"), _back(DW, "x.T @ dz / len(x)")),
    _bug("dW_of_the_last_image", "A loop over the images keeps the dW of the last one only.", PLAIN, "GA",
         ("dW", "counts only the last image"), _back(DW, "np.outer(x[-1], dz[-1])")),
    _bug("dW_of_the_absolute_x", "dW is made with |x|.", PLAIN, "GA",
         ("dW", "is right for", "uses another x than the forward"), _back(DW, "np.abs(x).T @ dz")),
    _bug("dW_of_the_output", "dW is made with the output y instead of the input x.", SQUARE, "GA",
         ("dW", "is right for y in the place of x"),
         _back(DW, "y.T @ dz")),
    _bug("dW_overwritten", "dW is written with = instead of +=.", PLAIN, "S",
         ("= stands where += belongs|the gradient is overwritten",), _back("dW += x.T", "dW[...] = x.T")),
    _bug("W_of_the_first_forward", "Forward keeps the weights that it saw first.", PLAIN, "GA", (),
         Edit("npae.layers.dense:Dense._apply", "self.W.value",
              'vars(self).setdefault("first_W", self.W.value.copy())')),
    _bug("W_transposed_consistent", "y = x W^T, forward and backward alike, where the layer is square.", SQUARE, "R",
         ("y", "W where W^T belongs"), _forward("x @ W", "x @ W.T"), _back(DW, "dz.T @ x"), _back(DX, "dz @ W")),
    _bug("gradient_array_replaced", "grad becomes another array, which is in no model's vector.", PLAIN, "S",
         ("not in place",), Edit(LAYER, "self.kernels.", "self.W.grad = self.W.grad.copy()\n        self.kernels.")),
)
BIAS = (
    _bug("db_of_the_first_image", "db is the first row of dz.", PLAIN, "GA",
         ("db", "counts only the first image"), _back(DB, "dz[0]")),
    _bug("db_of_the_last_image", "A loop over the images overwrites db.", THIN, "GA",
         ("db", "counts only the last image"), _back(DB, "dz[-1]")),
    _bug("db_mean_over_batch", "db is the mean over the batch instead of the sum.", THIN, "GA",
         ("db", "1/3 ×", "the batch size"), _back(DB, "dz.mean(0)")),
    _bug("db_missing", "The bias is added in forward and forgotten in backward.", PLAIN, "GA",
         ("db", "is zero"), _back(DB, "0")),
    _bug("db_summed_over_units", "db is the sum of all of dz, the same for each unit.", PLAIN, "GA",
         ("db", "is the sum of the numeric gradient over every unit"),
         _back(DB, "dz.sum()")),
    _bug("db_of_squeezed_dz", "dz is squeezed, and a batch of one image loses its axis.", PLAIN, "G",
         ("gradient check with N = 1",),
         _back(DB, "dz.squeeze().sum(0)")),
    _bug("bias_twice_consistent", "b is added twice, and db is twice as large too.", PLAIN, "R",
         ("y", "has an extra 1 × b|has an extra b"),
         _forward("@ W + b", "@ W + 2 * b"), _back(DB, "2 * _sum(dz, 0)")),
)
INPUT = (
    _bug("dx_with_W_not_transposed", "dx = dz W, which has the right shape where the layer is square.", SQUARE, "GA",
         ("dx", "uses W where W^T belongs"), _back(DX, "dz @ W")),
    _bug("dx_missing", "dx is zero: the layer below never learns.", PLAIN, "GA",
         ("dx", "is zero"), _back(DX, "0 * x")),
    _bug("dx_divided_by_batch", "dx is divided by N in every layer again.", THIN, "GA",
         ("dx", "1/3 ×", "the batch size"), _back(DX, "dz @ W.T / len(x)")),
    _bug("dz_in_float32", "Backward computes in float32, whatever comes in.", PLAIN, "GAL",
         ("computed in float32",), _back(DZ, "(dy * activation.slope(y)).astype(np.float32)")),
    _bug("x_centred_in_place", "Forward subtracts the batch's mean from the caller's x.", PLAIN, "SR",
         ("writes into x",), _forward("return", "x -= x.mean(0)\n    return")),
    _bug("batch_centred_consistent", "The batch's mean is subtracted, and the gradient follows.", PLAIN, "RB",
         ("each image of a batch is on its own",),
         _forward("x @ W", "(x - x.mean(0)) @ W"), _back(DW, "(x - x.mean(0)).T @ dz"),
         _back(DX, "(dz - dz.mean(0)) @ W.T")),
    _bug("dy_zeroed", "Backward clears the gradient that it was given.", PLAIN, "S",
         ("writes into dy",), _back(DZ, "dy * activation.slope(y)\n    dy[...] = 0")),
    _bug("dx_not_asked_for", "dx is computed and given where nobody asked for it.", PLAIN, "S", (),
         Edit("npae.layers.affine:Affine._backward", " if need_dx else None", "")),
    _bug("gradients_only_with_dx", "Without dx nothing is done: a net's first layer never learns.", PLAIN, "S",
         ("is zero",), Edit("npae.layers.affine:Affine._backward", "x, y = self.saved",
                            "x, y = self.saved\n        if not need_dx:\n            return None")),
)
MEMORY = (
    _bug("x_of_the_first_batch", "Backward uses the x that was kept from the first batch.", PLAIN, "S",
         ("belongs to an earlier forward",),
         Edit(SAVED, "self.saved = x,", 'self.saved = vars(self).setdefault("first_x", x),')),
    _bug("x_kept_by_batch_size", "Buffers are kept for each batch size, and x is put there only once.", PLAIN, "SB",
         ("belongs to an earlier forward",),
         Edit(SAVED, "self.saved = x,", 'self.saved = vars(self).setdefault(f"x_of_{len(x)}", x),')),
    _bug("memory_of_the_class", "What backward needs is kept in the class, so that two layers share it.", PLAIN, "S",
         ("shared between two instances",), Edit(SAVED, "self.saved = x,", "type(self).latest = self.saved = x,"),
         Edit("npae.layers.affine:Affine._backward", "x, y = self.saved", "x, y = self.latest")),
    _bug("y_through_float32", "Forward computes in float32, whatever comes in.", PLAIN, "GR", ("computed in float32",),
         _forward(Y, "activation.f((x @ W + b).astype(np.float32))")),
    _bug("y_in_float64", "y is made in float64, whatever x is.", PLAIN, "S",
         ("float64 comes out of float32",), Edit(SAVED, "x.shape[1:])), x.dtype)", "x.shape[1:])), np.float64)")),
)
FUSED = (
    _bug("slope_missing", "The slope of the activation is left out.", TANH, "G",
         ("the derivative of the activation is missing",), _back(DZ, "dy")),
    _bug("slope_twice", "dy is multiplied by the slope in the activation and in Dense.", TANH, "G",
         ("applied twice",), _back(DZ, "dy * activation.slope(y) * activation.slope(y)")),
    _bug("slope_missing_in_dW", "dW is made with dy instead of dz.", TANH, "G",
         ("dW", "the derivative of the activation is missing"), _back(DW, "x.T @ dy")),
    _bug("slope_missing_in_db", "db is made with dy instead of dz.", TANH, "G",
         ("db", "the derivative of the activation is missing"), _back(DB, "_sum(dy, 0)")),
    _bug("slope_missing_in_dx", "dx is made with dy instead of dz.", TANH, "G",
         ("dx", "the derivative of the activation is missing"), _back(DX, "dy @ W.T")),
    _bug("slope_before_the_bias", "The slope is taken at x W, without the bias.", TANH, "G", (),
         _back(DZ, "dy * activation.slope(activation.f(x @ W))")),
    _bug("slope_at_the_input", "The slope is taken at x W + b instead of y.", TANH, "G",
         ("is taken at the input",), Edit(SAVED, "self._kept(y)", "x @ self.W.value + self.b.value")),
    _bug("bias_after_the_activation", "b is added to f(x W).", TANH, "GR", (),
         _forward(Y, "activation.f(x @ W) + b")),
    _bug("activation_twice", "The activation is applied in Dense, and once more.", TANH, "GR", ("y is tanh(y) where",),
         _forward(Y, "activation.f(activation.f(x @ W + b))")),
)
TWO_HEADS = (
    _bug("dx_of_mu_only", "The trunk gets the gradient of mu alone.", HEADS, "GA", ("dx", "counts only"),
         _back(DX, "dz[:, :3] @ W[:, :3].T"), room="Heads"),
    _bug("dx_of_logvar_only", "The second head's dx overwrites the first one's.", HEADS, "GA", ("dx", "counts only"),
         _back(DX, "dz[:, 3:] @ W[:, 3:].T"), room="Heads"),
    _bug("dx_mean_of_heads", "The gradients of the heads are averaged instead of added.", HEADS, "GA",
         ("dx", "½ ×", "a factor 2 is missing"), _back(DX, "dz @ W.T / 2"), room="Heads"),
    _bug("heads_swapped", "dmu goes back through the weights of logvar, and dlogvar through those of mu.", HEADS, "GA",
         (), _back(DX, "np.roll(dz, 3, 1) @ W.T"), room="Heads"),
)
BUGS = (*WEIGHTS, *BIAS, *INPUT, *MEMORY, *FUSED, *TWO_HEADS)
NOT_HERE = {
    "W_divides_by_N_only_bias": "the same as db_mean_over_batch",
    "heads_overwrite": "the same as dx_of_logvar_only: the second head's dx overwrites the first one's",
}
