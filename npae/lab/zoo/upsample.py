"""Upsampling without weights: what each block gives back, and where pixels have their centres.
"""
from npae.lab.planting import Bug, Edit

K = "npae.kernels.reference:"
NEAREST, NEAREST_BACK = f"{K}upsample2d_nearest", f"{K}upsample2d_nearest_input_grad"
MATRIX, TAPS = f"{K}_bilinear_matrix", "npae.kernels.geometry:bilinear_taps"
BACKWARD = "npae.layers.upsample:Upsample2d._backward"
PLAIN, WIDE = "Upsample2d(2, mode='nearest')", "Upsample2d((1, 3), mode='nearest')"
OBLONG, BILINEAR = "Upsample2d((2, 3), mode='nearest')", "Upsample2d(2, mode='bilinear')"

X, DX = "x.repeat(factor[0], 1).repeat(factor[1], 2)", "dy.reshape(n, oh // fh, fh, ow // fw, fw, c).sum((2, 4))"
CENTRES = "(np.arange(size * factor) + 0.5) / factor - 0.5"


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug("Upsample2d", name, did, subject, edits, killed_by, says)


BUGS = (
    _bug("gradient_of_the_first_pixel", "Of each block only the first pixel's gradient comes back.", PLAIN, "GA",
         ("dx", "the first of every 2 output"),
         Edit(NEAREST_BACK, DX, "dy[:, ::fh, ::fw]")),
    _bug("mean_of_the_block", "The gradients of a block are averaged instead of added.", PLAIN, "GA",
         ("dx", "1/4 ×|¼ ×"), Edit(NEAREST_BACK, "sum(", "mean(")),
    _bug("rows_and_columns_swapped", "dx comes back with rows and columns swapped, which fits a square picture.", WIDE,
         "GA", ("dx", "rows and columns swapped"), Edit(NEAREST_BACK, DX, f"{DX}.swapaxes(1, 2)")),
    _bug("rows_only", "dx adds up the rows of a block, and takes its first column.", OBLONG, "GA",
         ("dx", "the first of every 3 output columns"),
         Edit(NEAREST_BACK, "fw, c).sum((2, 4))", "fw, c).sum(2)[:, :, :, 0]")),
    _bug("tiled_not_repeated_consistent", "The picture is repeated as a whole, np.tile for np.repeat.", OBLONG, "R",
         ("y", "reshaped where a transpose belongs"),
         Edit(NEAREST, X, "np.tile(x, (1, factor[0], factor[1], 1))"),
         Edit(NEAREST_BACK, DX, "dy.reshape(n, fh, oh // fh, fw, ow // fw, c).sum((1, 3))")),
    _bug("corners_aligned_consistent", "The corners of both pictures are laid on each other.", BILINEAR, "R", (),
         Edit(TAPS, f"np.clip({CENTRES}, 0, size - 1)", "np.linspace(0, size - 1, size * factor)")),
    _bug("pixels_without_centres_consistent", "Output i stands at i / factor: pixels are points.", BILINEAR, "R", (),
         Edit(TAPS, CENTRES, "np.arange(size * factor) / factor")),
    _bug("shares_swapped_consistent", "The nearer pixel gets the smaller share.", BILINEAR, "R", (),
         Edit(MATRIX, "+= 1 - share", "+= share"),
         Edit(MATRIX, "A[rows, high] += share", "A[rows, high] += 1 - share")),
    _bug("second_tap_overwrites_consistent", "At the edge, where both taps are the same pixel, = loses one.", BILINEAR,
         "R", ("y", "= stands where += belongs"), Edit(MATRIX, "A[rows, high] +=", "A[rows, high] =")),
    _bug("gradient_of_nearest", "The gradient is that of the other mode.", BILINEAR, "GA", (),
         Edit(BACKWARD, 'if self.mode == "nearest"', "if self.mode")),
)
NOT_HERE: dict[str, str] = {}
