"""Conv2d: im2col and col2im, kernels turned and axes swapped, padding, sums over space, and what is kept.
"""
from npae.lab.planting import Bug, Edit

K = "npae.kernels.reference:"
FORWARD, BACKWARD = f"{K}conv2d_forward", f"{K}conv2d_backward"
CONV, INPUT_GRAD, WEIGHT_GRAD, COL2IM = f"{K}conv2d", f"{K}conv2d_input_grad", f"{K}conv2d_weight_grad", f"{K}col2im"
WINDOWS, GRADIENTS = "npae.kernels.geometry:window_geometry", "npae.layers.conv:Conv2d._gradients"
PLAIN, SQUARE, STRIDED = "Conv2d(3, 4, 3)", "Conv2d(3, 3, 3)", "Conv2d(2, 4, (3, 2), stride=2, padding=1)"
WIDE, SPARSE = "Conv2d(1, 3, (4, 3), stride=(3, 2), padding=2)", "Conv2d(3, 2, 1, stride=(2, 3), padding='valid')"
EVEN, UNPADDED = "Conv2d(2, 3, (2, 3), stride=(2, 1))", "Conv2d(3, 1, (2, 4), stride=2, padding=0)"
TANH, RELU = "Conv2d(2, 3, (3, 2), activation='tanh')", "Conv2d(2, 3, (3, 2), activation='relu')"

DW, DB, DX = "conv2d_weight_grad(x, dz, g)", "_sum(dz, (0, 1, 2))", "conv2d_input_grad(dz, W, g)"
GEOMETRY = "return window_geometry(size, self.kernel_size, self.stride, self.padding, str(self))"
ADD, CUT = "padded[met] += cols[:, :, :, u, v]", "padded[:, top:top + h, left:left + w]"


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug("Conv2d", name, did, subject, edits, killed_by, says)


def _back(old: str, new: str) -> Edit:
    return Edit(BACKWARD, old, new)


COLUMNS = (
    _bug("col2im_assigns", "col2im writes with = where windows overlap.", PLAIN, "GA",
         ("dx", "= stands where += belongs"), Edit(COL2IM, ADD, "padded[met] = cols[:, :, :, u, v]")),
    _bug("col2im_swaps_u_and_v", "col2im swaps the kernel's rows and columns.", SQUARE, "GA",
         ("dx", "rows and columns swapped"), Edit(COL2IM, "cols[:, :, :, u, v]", "cols[:, :, :, v, u]")),
    _bug("col2im_without_stride", "col2im puts the windows side by side, whatever the stride.", STRIDED, "GA",
         ("dx", "puts the windows side by side"),
         Edit(COL2IM, "_windows(g)", "_windows(g._replace(stride=(1, 1)))")),
    _bug("col2im_without_last_tap", "col2im leaves out the kernel's last place.", PLAIN, "GA",
         ("dx", "last kernel place is missing"),
         Edit(COL2IM, "_windows(g)", "list(_windows(g))[:-1]")),
    _bug("col2im_without_last_window", "The last column of windows gives no dx.", SPARSE, "GA",
         ("dx", "the last column", "missing"),
         Edit(COL2IM, ADD, "padded[met][:, :, :-1] += cols[:, :, :-1, u, v]")),
    _bug("padding_cut_one_row_low", "The padding is cut off one row too low.", PLAIN, "GA",
         ("dx", "is shifted by"), Edit(COL2IM, CUT, "padded[:, top + 1:top + 1 + h, left:left + w]")),
    _bug("padding_cut_on_the_right", "The columns of padding are cut off on the right side alone.", PLAIN, "GA",
         ("dx", "is shifted by"), Edit(COL2IM, CUT, "padded[:, top:top + h, :w]")),
    _bug("border_of_dx_cut", "dx is set to zero on the border, as if padding had been there.", PLAIN, "GA",
         ("dx", "the border", "missing"),
         _back(DX, "np.pad(conv2d_input_grad(dz, W, g)[:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1), (0, 0)))")),
)
KERNELS = (
    _bug("kernel_turned_in_dx", "dx is made with the kernel turned once too often.", PLAIN, "GA",
         ("dx", "kernel turned by 180°"), Edit(INPUT_GRAD, "(dy, W, ", "(dy, W[::-1, ::-1], ")),
    _bug("dW_turned", "dW comes out turned, as that of a true convolution.", PLAIN, "GA",
         ("dW", "kernel turned by 180°"), _back(DW, f"{DW}[::-1, ::-1]")),
    _bug("dW_channels_swapped", "dW has its in- and out-channels swapped, where there are as many.", SQUARE, "GA",
         ("dW", "in- and out-channels swapped"), _back(DW, f"{DW}.swapaxes(2, 3)")),
    _bug("dW_rows_and_columns_swapped", "dW has the rows and columns of the kernel swapped.", SQUARE, "GA",
         ("dW", "rows and columns swapped"), _back(DW, f"{DW}.swapaxes(0, 1)")),
    _bug("dx_with_the_other_channels", "dx sums over the in-channels of W instead of its out-channels.", SQUARE, "GA",
         ("dx", "in- and out-channels swapped|uses W where W^T belongs"), Edit(INPUT_GRAD, "([3], [3])", "([3], [2])")),
    _bug("dW_reshaped_not_transposed", "dW comes as (out, kh kw in) and is reshaped instead of transposed.", PLAIN,
         "GA", ("dW", "reshaped where a transpose belongs"),
         Edit(WEIGHT_GRAD, "np.tensordot(im2col(x, g), dy, ([0, 1, 2], [0, 1, 2]))",
                        "np.tensordot(dy, im2col(x, g), ([0, 1, 2], [0, 1, 2]))"
                        ".reshape(*g.kernel_size, x.shape[3], dy.shape[3])")),
    _bug("dW_without_last_kernel_row", "The loop over the kernel's rows ends one early.", PLAIN, "GA",
         ("dW", "the last kernel row", "missing"), _back(f"dW += {DW}", f"dW[:-1] += {DW}[:-1]")),
    _bug("dW_without_last_kernel_column", "The loop over the kernel's columns ends one early.", STRIDED, "GA",
         ("dW", "the last kernel column", "missing"), _back(f"dW += {DW}", f"dW[:, :-1] += {DW}[:, :-1]")),
    _bug("dW_of_x_without_padding", "dW is made with the picture in the corner of its padding.", PLAIN, "GA",
         ("dW", "is shifted by"), Edit(WEIGHT_GRAD, "im2col(x, g)", "im2col(x, g._replace(padding=(0, 0)))")),
    _bug("dW_mean_over_pixels", "dW is divided by the number of output pixels.", WIDE, "GA",
         ("dW", "1/15 ×", "the number of output pixels"), _back(DW, f"{DW} / dz[0, :, :, 0].size")),
    _bug("dW_mean_over_batch", "dW is divided by N, although the loss already is.", STRIDED, "GA",
         ("dW", "1/3 ×", "the batch size"), _back(DW, f"{DW} / len(x)")),
    _bug("dW_of_the_first_image", "dW is made with the first image alone.", STRIDED, "GA",
         ("dW", "counts only the first image"), _back(DW, "conv2d_weight_grad(x[:1], dz[:1], g)")),
    _bug("true_convolution_consistent", "The kernel is turned, forward and backward alike.", PLAIN, "R",
         ("y", "kernel turned by 180°"), Edit(CONV, "im2col(x, g), W, 3", "im2col(x, g), W[::-1, ::-1], 3"),
         Edit(INPUT_GRAD, "(dy, W, ", "(dy, W[::-1, ::-1], "), _back(DW, f"{DW}[::-1, ::-1]")),
)
BIAS = (
    _bug("db_of_the_first_pixel", "db is summed over the batch at pixel (0, 0) alone.", PLAIN, "GA",
         ("db", "counts only the first output pixel"), _back(DB, "_sum(dz[:, 0, 0], 0)")),
    _bug("db_of_the_first_image", "db is summed over space, in the first image alone.", PLAIN, "GA",
         ("db", "counts only the first image"), _back(DB, "_sum(dz[0], (0, 1))")),
    _bug("db_mean_over_pixels", "db is the mean over the picture.", WIDE, "GA",
         ("db", "1/15 ×", "the number of output pixels"), _back(DB, "dz.mean((1, 2)).sum(0)")),
    _bug("db_sign", "db is subtracted.", PLAIN, "GA", ("db", "has the wrong sign"),
         _back(f"db += {DB}", f"db -= {DB}")),
)
FUSED = (
    _bug("slope_missing", "The slope of the activation is left out.", TANH, "G",
         ("the derivative of the activation is missing",), _back("dy * activation.slope(y)", "dy")),
    _bug("slope_missing_in_dx", "dx is made with dy instead of dz.", TANH, "G",
         ("dx", "the derivative of the activation is missing"), _back(DX, "conv2d_input_grad(dy, W, g)")),
    _bug("slope_twice_in_db", "db is multiplied by the slope twice.", TANH, "G",
         ("db", "applied twice"), _back(DB, "_sum(dz * activation.slope(y), (0, 1, 2))")),
    _bug("mask_of_dy", "The mask of the ReLU is taken from dy.", RELU, "GL",
         ("the mask is taken from dy",), _back("activation.slope(y)", "activation.slope(dy)")),
    _bug("bias_before_the_product", "The bias is added after the activation.", TANH, "GR", (),
         Edit(FORWARD, "activation.f(conv2d(x, W, g) + b)", "activation.f(conv2d(x, W, g)) + b")),
)
SIZES = (
    _bug("same_rounds_down_consistent", "Under 'same' a stride that does not divide loses the last window.", EVEN, "R",
         ("the last row is missing|y has shape (1, 2, 4, 3)",), Edit(WINDOWS, "-(-n // s)", "n // s")),
    _bug("same_odd_zero_in_front_consistent", "Under 'same' the odd zero stands at the top left.", TANH, "R",
         ("y", "is shifted by"), Edit(WINDOWS, "max((o - 1) * s + k - n, 0) // 2",
                                      "-(-max((o - 1) * s + k - n, 0) // 2)")),
    _bug("valid_rounds_up_consistent", "A stride that does not divide makes one window more, half outside.", UNPADDED,
         "R", ("y has shape (2, 4, 2, 1)",), Edit(WINDOWS, "(n + 2 * p - k) // s + 1", "-(-(n + 2 * p - k) // s) + 1")),
    _bug("windows_of_the_first_picture", "The geometry is kept from the first picture's size.", PLAIN, "R",
         ("pictures of every size",),
         Edit("npae.layers.conv:Conv2d.geometry", GEOMETRY,
              f'if not hasattr(self, "g"):\n            self.g = {GEOMETRY[7:]}\n        return self.g')),
)
MEMORY = (
    _bug("dW_overwritten", "dW is written with = instead of +=.", PLAIN, "S",
         ("= stands where += belongs|the gradient is overwritten",), _back(f"dW += {DW}", f"dW[...] = {DW}")),
    _bug("columns_of_the_first_batch", "Backward uses the columns of the first batch.", PLAIN, "S",
         ("belongs to an earlier forward",),
         Edit(GRADIENTS, "g = ", 'x = vars(self).setdefault("first_x", x)\n        g = ')),
    _bug("one_workspace_for_all_layers", "All layers keep their buffers in the same place.", TANH, "S",
         ("shared between two instances",), Edit("npae.layers.base:Layer.keep_buffers", "_kernels.Workspace(keep)",
                                                 'vars(_kernels).setdefault("shared", _kernels.Workspace(keep))')),
    _bug("x_read_in_memory_order", "Forward takes it that x lies in C order.", PLAIN, "S", ("memory order",),
         Edit("npae.layers.base:Layer.forward", "x = _in_c_order(x)", 'x = x.ravel(order="K").reshape(x.shape)')),
    _bug("dy_read_in_memory_order", "Backward takes it that dy lies in C order.", PLAIN, "S", ("memory order",),
         Edit("npae.layers.base:Layer.backward", "dy = _in_c_order(dy)", 'dy = dy.ravel(order="K").reshape(dy.shape)')),
)
BUGS = (*COLUMNS, *KERNELS, *BIAS, *FUSED, *SIZES, *MEMORY)
NOT_HERE: dict[str, str] = {}
