"""ConvTranspose2d and UpsampleConv2d: cropping, output sizes, and contractions with the wrong arguments.
"""
from npae.lab.planting import Bug, Edit

FORWARD = "npae.kernels.reference:conv2d_transpose_forward"
BACKWARD = "npae.kernels.reference:conv2d_transpose_backward"
SIZES, UPSAMPLE = "npae.kernels.geometry:transposed_geometry", "npae.layers.conv:UpsampleConv2d"
PLAIN, SQUARE = "ConvTranspose2d(2, 3, 3, stride=2)", "ConvTranspose2d(3, 3, 3)"
PADDED = "ConvTranspose2d(2, 4, (3, 4), stride=2, padding=1)"
SIGMOID = "ConvTranspose2d(4, 3, (3, 2), stride=(1, 2), activation='sigmoid')"
TANH = "ConvTranspose2d(4, 3, (3, 2), stride=(1, 2), activation='tanh')"

Y, DX = "conv2d_input_grad(x, W, g)", "conv2d(dz, W, g)"
DW, DB = "conv2d_weight_grad(dz, x, g)", "_sum(dz, (0, 1, 2))"


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(subject.split("(")[0], name, did, subject, edits, killed_by, says)


def _back(old: str, new: str) -> Edit:
    return Edit(BACKWARD, old, new)


TRANSPOSED = (
    _bug("dx_without_stride", "dx gathers windows that lie side by side, whatever the stride.", PLAIN, "GA",
         ("dx", "puts the windows side by side"),
         _back(DX, "conv2d(dz, W, g._replace(stride=(1, 1)))")),
    _bug("dW_channels_swapped", "dW has its in- and out-channels swapped, where there are as many.", SQUARE, "GA",
         ("dW", "in- and out-channels swapped"), _back(DW, f"{DW}.swapaxes(2, 3)")),
    _bug("dW_arguments_swapped", "dW is that of the convolution: x and dz are swapped.", SQUARE, "GA",
         ("dW", "turned by 180°", "in- and out-channels swapped"),
         _back(DW, "conv2d_weight_grad(x, dz, g)")),
    _bug("db_missing", "The bias is added in forward and forgotten in backward.", PLAIN, "GA",
         ("db", "is zero"), _back(DB, "0")),
    _bug("db_of_the_last_image", "A loop over the images overwrites db.", PADDED, "GA",
         ("db", "counts only the last image"), _back(DB, "_sum(dz[-1], (0, 1))")),
    _bug("dW_without_last_kernel_column", "The kernel's last column falls off at the edge of the canvas.", PLAIN, "GA",
         ("dW", "the last kernel column", "missing"), _back(f"dW += {DW}", f"dW[:, :-1] += {DW}[:, :-1]")),
    _bug("kernel_turned_in_dx", "dx is made with the kernel turned.", PLAIN, "GA",
         ("dx", "kernel turned by 180°"), _back(DX, "conv2d(dz, W[::-1, ::-1], g)")),
    _bug("dx_sign", "dx has the wrong sign.", PLAIN, "GA", ("dx", "has the wrong sign"),
         _back(DX, "-conv2d(dz, W, g)")),
    _bug("dW_overwritten", "dW is written with = instead of +=.", PLAIN, "S",
         ("= stands where += belongs|the gradient is overwritten",), _back(f"dW += {DW}", f"dW[...] = {DW}")),
    _bug("canvas_cut_one_row_off", "The picture is cut out of the canvas one row too low.", PLAIN, "GAR",
         ("y", "is shifted by"), Edit(FORWARD, Y, "conv2d_input_grad("
                                      "x, W, g._replace(padding=(g.padding[0] + 1, g.padding[1])))")),
    _bug("kernel_turned_consistent", "Every pixel paints its kernel turned, forward and backward alike.", PLAIN, "R",
         ("y", "kernel turned by 180°"), Edit(FORWARD, Y, "conv2d_input_grad(x, W[::-1, ::-1], g)"),
         _back(DX, "conv2d(dz, W[::-1, ::-1], g)"), _back(DW, f"{DW}[::-1, ::-1]")),
    _bug("output_padding_consistent", "The output is stride - 1 pixels longer.", PADDED, "R",
         ("y has shape (3, 8, 5, 4)",),
         Edit(SIZES, "(n - 1) * s + k - 2 * p", "n * s - 1 + k - 2 * p")),
    _bug("same_without_last_stride_consistent", "Under 'same' the output is stride (H - 1) + 1.", PLAIN, "R",
         ("y has shape (2, 7, 5, 3)",),
         Edit(SIZES, "n * s for", "(n - 1) * s + 1 for")),
    _bug("slope_missing", "The slope of the activation is left out.", SIGMOID, "G",
         ("the derivative of the activation is missing",), _back("dy * activation.slope(y)", "dy")),
    _bug("slope_missing_in_dW", "dW is made with dy instead of dz.", TANH, "G",
         ("dW", "the derivative of the activation is missing"), _back(DW, "conv2d_weight_grad(dy, x, g)")),
)
FOLDED, EVEN = "UpsampleConv2d(2, 3, 3)", "UpsampleConv2d(3, 2, (2, 3))"
UPSAMPLED = (
    _bug("kernel_not_turned_consistent", "W is folded as it is, though a transposed convolution turns it.", FOLDED,
         "R", ("y", "kernel turned by 180°"), Edit(f"{UPSAMPLE}._turned", "[::-1, ::-1]", "")),
    _bug("half_of_the_shifts_consistent", "Neighbouring taps are added along the rows alone.", FOLDED, "R", (),
         Edit(f"{UPSAMPLE}._four_shifts", "for j in (0, 1)", "for j in (0,)")),
    _bug("one_row_off_consistent", "An even kernel is anchored one row off.", EVEN, "R", ("y", "is shifted by"),
         Edit(f"{UPSAMPLE}.geometry", "(kh // 2, kw // 2)", "((kh - 1) // 2, (kw - 1) // 2)")),
    _bug("dW_of_one_shift", "Of the four shifts of dV only the first reaches dW.", FOLDED, "GA", (),
         Edit(f"{UPSAMPLE}._gradients", 'self._turned(dV, "sums")):', 'self._turned(dV, "sums"))[:1]:')),
    _bug("dW_overwritten_by_each_shift", "Each of the four shifts overwrites dW.", FOLDED, "GA",
         ("= stands where += belongs",), Edit(f"{UPSAMPLE}._gradients", "self.W.grad += shift",
                                              "self.W.grad[...] = shift")),
    _bug("dW_mean_of_the_shifts", "The four shifts are averaged instead of added.", FOLDED, "GA",
         ("dW", "1/4 ×|¼ ×"), Edit(f"{UPSAMPLE}._gradients", "+= shift", "+= shift / 4")),
)
BUGS = (*TRANSPOSED, *UPSAMPLED)
NOT_HERE: dict[str, str] = {}
