"""Flatten, Reshape, Shift and Sequential, and the workspaces that every layer has: what is moved, kept and shared.
"""
from npae.lab.planting import Bug, Edit

RESHAPE, SHIFT, WALK = "npae.layers.shape:Reshape", "npae.layers.shift:Shift", "npae.layers.base:Sequential._backward"
WORKSPACE = "npae.kernels.workspace:Workspace"
FLATTEN, PICTURE, ROWS = "Flatten()", "Shift(an offset of (3, 4, 5))", "Shift(an offset of (7,))"
SHALLOW, DENSE, TANH = "Sequential(Dense, Dense)", "Dense(5, 3)", "Dense(4, 5, activation='tanh')"
DX = "dy.reshape(self.saved)"


def _bug(room: str, name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(room, name, did, subject, edits, killed_by, says)


SHAPES = (
    _bug("Flatten", "back_in_fortran_order", "dx is put together in Fortran order.", FLATTEN, "GA",
         ("dx", "in Fortran order"),
         Edit(f"{RESHAPE}._backward", DX, 'dy.reshape(self.saved, order="F")')),
    _bug("Flatten", "back_with_h_and_w_swapped", "dx is read as (W, H, C) and turned.", FLATTEN, "GA",
         ("dx", "reshaped where a transpose belongs"),
         Edit(f"{RESHAPE}._backward", DX, "dy.reshape(np.array(self.saved)[[0, 2, 1, 3]]).swapaxes(1, 2)")),
    _bug("Flatten", "channels_first_consistent", "A picture is flattened channel by channel.", FLATTEN, "R",
         ("y", "reshaped where a transpose belongs|as (N, C, H, W)"),
         Edit(f"{RESHAPE}._forward", "x.reshape(", "np.moveaxis(x, -1, 1).reshape("),
         Edit(f"{RESHAPE}._backward", DX,
              "np.moveaxis(dy.reshape(self.saved[0], self.saved[-1], *self.saved[1:-1]), 1, -1)")),
    _bug("Reshape", "y_is_a_view", "y is a view of the caller's x, and dx of dy.", "Reshape((3, 4, 5))", "S",
         ("y is a view of x|y and dx are fresh arrays",),
         Edit(f"{RESHAPE}._own", "view if self.work.keep else view.copy()", "view")),
    _bug("Shift", "offset_subtracted", "The offset is subtracted.", PICTURE, "R", ("y", "lacks 2 × offset"),
         Edit(f"{SHIFT}._forward", "np.add(", "np.subtract(")),
    _bug("Shift", "offset_in_backward", "The offset is added to the gradient too.", PICTURE, "GAL",
         ("dx", "has an extra", "offset"),
         Edit(f"{SHIFT}._backward", "= dy", "= dy + self.offset.astype(dy.dtype)")),
    _bug("Shift", "offset_mean_consistent", "Every pixel is shifted by the mean of the offset.", ROWS, "R", (),
         Edit(f"{SHIFT}._forward", "self.offset.astype", "self.offset.mean().astype")),
    _bug("Shift", "in_place", "The offset is added to the caller's x.", ROWS, "S", ("writes into x",),
         Edit(f"{SHIFT}._forward", "out=y)", "out=x).copy()")),
    _bug("Shift", "offset_in_float64", "The offset is float64, and so is what comes out.", PICTURE, "S",
         ("float64 comes out of float32",), Edit(f"{SHIFT}._forward", ".astype(x.dtype), out=y", "")),
    _bug("Sequential", "first_layer_without_backward", "The walk back ends one layer early.", SHALLOW, "G",
         ("is zero",), Edit(WALK, "last - 1, -1", "last, -1")),
    _bug("Sequential", "hold_forgotten", "A branch to hold is not handed on to the layers.", "Sequential(nested)", "G",
         (), Edit("npae.layers.base:Sequential.hold", "branch or (None,)", "(None,)")),
    _bug("Sequential", "never_let_go", "hold(None) leaves the layers on the branch that they hold.",
         "Sequential(nested)", "G", (), Edit("npae.layers.base:Sequential.hold", "for layer, b in zip(",
                                             "for layer, b in () if branch is None else zip(")),
    _bug("Sequential", "no_dx_within_the_net", "Without dx of the whole, no layer is asked for its dx.", SHALLOW, "S",
         ("need_dx is about dx alone|need_dx=False) gives the same gradients",),
         Edit(WALK, "need_dx or i > last", "need_dx")),
    _bug("Sequential", "backward_from_the_front", "Backward visits the layers in the order of forward.",
         "Sequential(nested)", "G", (), Edit(WALK, "range(len(self.layers) - 1, last - 1, -1)",
                                             "range(last, len(self.layers))")),
)
BUFFERS = (
    _bug("Workspace", "always_kept", "Buffers are kept where fresh arrays are promised.", DENSE, "S",
         ("leave y and dx of this one alone",),
         Edit(f"{WORKSPACE}.empty", "if not self.keep:", "if False:")),
    _bug("Workspace", "never_grows", "A kept buffer stays as large as the first batch.", DENSE, "S",
         ("kept buffers give the same bits",),
         Edit(f"{WORKSPACE}.empty", "or self._kept[slot].size < size", "")),
    _bug("Workspace", "one_buffer_for_all", "y and dx are written into the same kept buffer.", TANH, "S",
         ("kept buffers give the same bits",),
         Edit(f"{WORKSPACE}.empty", "(key, np.dtype(dtype))", '("", np.dtype(dtype))')),
)
BUGS = (*SHAPES, *BUFFERS)
NOT_HERE: dict[str, str] = {}
