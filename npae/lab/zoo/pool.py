"""Pooling: who wins, who gets the gradient, and what is divided by what.
"""
from npae.lab.planting import Bug, Edit

K = "npae.kernels.reference:"
FORWARD, BACKWARD, COL2IM = f"{K}max_pool2d", f"{K}max_pool2d_input_grad", f"{K}col2im"
MEAN, MEAN_BACK = f"{K}avg_pool2d", f"{K}avg_pool2d_input_grad"
LAYER = "npae.layers.pool:MaxPool2d"
PLAIN, OVERLAP = "MaxPool2d(2)", "MaxPool2d((3, 2), stride=(1, 2))"
PADDED, OBLONG = "MaxPool2d(3, stride=2, padding=1)", "MaxPool2d((2, 3), stride=(3, 2), padding='same')"
AVG_PADDED, AVG_OBLONG = (subject.replace("Max", "Avg") for subject in (PADDED, OBLONG))

DX = 'self.kernels.max_pool2d_input_grad(dy, winner, g, self.work.empty("dx", x_shape, dy.dtype))'
COLS = "np.where(winner[:, :, :, None] == taps, dy[:, :, :, None], np.zeros((), dy.dtype))"
SEES_X = Edit(f"{LAYER}._forward", "self.saved = ", "self.seen = im2col(x, g, -np.inf), y.copy()\n"
              "        self.saved = ")


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(subject.split("(")[0], name, did, subject, edits, killed_by, says)


def _ties(share: str) -> tuple[Edit, Edit]:
    """dy times `share` of each pixel that is equal to the window's maximum."""
    return SEES_X, Edit(f"{LAYER}._backward", f"return {DX}",
                        "cols, y = self.seen\n"
                        "        equal = (cols == y[:, :, :, None, None]).astype(dy.dtype)\n"
                        f"        return self.kernels.col2im({share} * dy[:, :, :, None, None], g)")


BUGS = (
    _bug("every_maximum_gets_all", "Of several equal maxima each gets the whole gradient.", PLAIN, "R",
         ("goes to every maximum",), *_ties("equal")),
    _bug("maxima_share", "Several equal maxima share the gradient.", PLAIN, "R",
         ("of several equal maxima the first wins",),
         *_ties("equal / equal.sum((3, 4), keepdims=True)")),
    _bug("last_maximum_wins", "Of several equal maxima the last wins.", PLAIN, "R",
         ("of several equal maxima the first wins",),
         Edit(FORWARD, "cols.argmax(3))", "cols.shape[3] - 1 - cols[:, :, :, ::-1].argmax(3))")),
    _bug("gradient_of_the_mean", "The gradient is that of average pooling.", OBLONG, "G",
         ("spread over the whole window",),
         Edit(BACKWARD, COLS, "np.broadcast_to(dy[:, :, :, None] / (kh * kw), (n, oh, ow, kh * kw, c))")),
    _bug("gradient_to_the_whole_window", "Every pixel of a window gets the whole gradient.", OBLONG, "G",
         ("spread over the whole window",),
         Edit(BACKWARD, COLS, "np.broadcast_to(dy[:, :, :, None], (n, oh, ow, kh * kw, c))")),
    _bug("winner_of_two_windows_keeps_one", "dx[winner] = dy: a pixel that wins twice keeps the last.", OVERLAP, "G",
         ("= stands where += belongs",),
         Edit(COL2IM, "padded[met] += cols[:, :, :, u, v]",
              "padded[met] = np.where(cols[:, :, :, u, v] != 0, cols[:, :, :, u, v], padded[met])")),
    _bug("winner_read_by_columns", "The winner's place u kw + v is read as v kh + u.", PLAIN, "G",
         ("to another entry than the winner",),
         Edit(BACKWARD, "cols.reshape(n, oh, ow, kh, kw, c)", "cols.reshape(n, oh, ow, kw, kh, c).swapaxes(3, 4)")),
    _bug("winner_one_place_late", "The winners are counted from 1.", PLAIN, "G", ("to another entry than the winner",),
         Edit(BACKWARD, "winner[:, :, :, None] == taps", "winner[:, :, :, None] + 1 == taps")),
    _bug("winner_of_the_first_image", "The first image's winners are used for all.", PLAIN, "G",
         ("the winner of the first image is used for all",), Edit(BACKWARD, "winner[:, :, :, None]",
                                                                  "winner[:1, :, :, None]")),
    _bug("padding_wins_consistent", "The padding is of zeros, which win over negative pixels.", PADDED, "R", (),
         Edit(FORWARD, "im2col(x, g, fill=-np.inf)", "im2col(x, g)")),
    _bug("padding_wins_over_minus_infinity", "Where all pixels are -inf the padding, -inf too, may win.", PADDED, "R",
         (),
         Edit(FORWARD, "np.where(cols.max(3) == -np.inf, inside.argmax(3), cols.argmax(3))", "cols.argmax(3)")),
    _bug("largest_in_size_wins_consistent", "The winner is the largest in size, whatever its sign.", OVERLAP, "R", (),
         Edit(FORWARD, "cols.argmax(3))", "np.abs(np.where(np.isinf(cols), 0, cols)).argmax(3))")),
    _bug("padding_not_counted_consistent", "At the border the mean is that of the pixels inside.", AVG_PADDED, "R", (),
         Edit(MEAN, "(kh * kw)", "im2col(np.ones_like(x), g).sum((3, 4))"),
         Edit(MEAN_BACK, "(kh * kw)", "im2col(np.ones((1, *g.input_size, 1), dy.dtype), g).sum((3, 4))")),
    _bug("mean_not_divided_in_backward", "Each pixel of a window gets all of dy.", AVG_OBLONG, "GA",
         ("dx", "6 ×", "the size of the window"), Edit(MEAN_BACK, "dy / (kh * kw)", "dy")),
    _bug("mean_divided_by_a_square", "The share of a pixel is dy / kh².", AVG_OBLONG, "GA", ("dx", "1.5 ×|3/2 ×"),
         Edit(MEAN_BACK, "(kh * kw)", "(kh * kh)")),
    _bug("mean_divided_twice_consistent", "The mean of the rows' means is divided by the window's size again.",
         AVG_OBLONG, "R", ("y", "1/6 ×", "the size of the window"), Edit(MEAN, "(kh * kw)", "(kh * kw)**2"),
         Edit(MEAN_BACK, "(kh * kw)", "(kh * kw)**2")),
    _bug("gradient_to_the_first_pixel", "Only the first pixel of each window gets its share.", AVG_OBLONG, "GA", (),
         Edit(MEAN_BACK, "(dy / (kh * kw))[:, :, :, None, None]",
              "(dy / (kh * kw))[:, :, :, None, None] * (np.arange(kh * kw).reshape(kh, kw, 1) == 0)")),
)
NOT_HERE: dict[str, str] = {}
