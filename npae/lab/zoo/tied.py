"""Tied layers: one W, two contributions to its gradient.
"""
from npae.lab.planting import Bug, Edit

DENSE, TIED, CONV = "npae.layers.dense:Dense", "npae.layers.dense:TiedDense", "npae.layers.conv:ConvTranspose2d"
PLAIN, SQUARE = "TiedDense(Dense(5, 3))", "TiedDense(Dense(3, 3), 'sigmoid')"
PICTURES, CUBE = "TiedConvTranspose2d(Conv2d(2, 3, 3, stride=2))", "TiedConvTranspose2d(Conv2d(3, 3, 3))"
TANH = "TiedDense(Dense(4, 5), 'tanh')"
FORGOTTEN = ("the contribution of", "is missing")


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(subject.split("(")[0], name, did, subject, edits, killed_by, says)


BUGS = (
    _bug("decoder_forgotten", "The decoder's contribution to dW is lost.", PLAIN, "G", FORGOTTEN,
         Edit(f"{TIED}._gradients", "self.W.grad.T", "np.zeros_like(self.W.grad.T)")),
    _bug("encoder_forgotten", "The encoder's contribution to dW is lost.", PLAIN, "G", FORGOTTEN,
         Edit(f"{DENSE}._gradients", "self.W.grad", "np.zeros_like(self.W.grad)")),
    _bug("decoder_counted_twice", "The decoder adds its contribution in the kernel, and once more.", PLAIN, "G",
         ("the contribution of", "is counted twice"),
         Edit(f"{TIED}._gradients", "dx, self.work)",
              "dx, self.work)\n        self.W.grad += (dy * self.activation.slope(y)).T @ x")),
    _bug("decoder_not_transposed", "The decoder's contribution is added as it is, where W is square.", SQUARE, "G",
         ("the contribution of", "is not transposed"), Edit(f"{TIED}._gradients", "self.W.grad.T", "self.W.grad")),
    _bug("decoder_sign", "The decoder's contribution has the wrong sign.", TANH, "G",
         ("the contribution of", "has the wrong sign"), Edit(f"{TIED}._gradients", "dense_backward(x,",
                                                             "dense_backward(-x,")),
    _bug("decoder_with_x_not_h", "The decoder's contribution is made with the net's x instead of the code.", SQUARE,
         "G", (), Edit(f"{TIED}._gradients", "dense_backward(x,", "dense_backward(self.partner.saved[0],")),
    _bug("forward_not_transposed", "The decoder's forward takes W where it is square, and backward W^T.", SQUARE, "GR",
         ("W where W^T belongs|is not transposed",), Edit(f"{TIED}._apply", "self.W.value.T", "self.W.value")),
    _bug("transpose_kept", "The decoder keeps a transposed copy of W from the time it was made.", PLAIN, "G", (),
         Edit(f"{TIED}.__init__", "self.partner = partner",
              "self.partner = partner\n        self.Wt = partner.W.value.T.copy()"),
         Edit(f"{TIED}._apply", "self.W.value.T", "self.Wt")),
    _bug("weights_of_its_own", "The decoder starts with a copy of W and learns it on its own.", PLAIN, "S",
         ("the tied layer holds its partner's W",),
         Edit(f"{TIED}.__init__", "super().__init__(partner.W,",
              'super().__init__(Param("own_W", partner.W.value.copy()),')),
    _bug("decoder_forgotten", "The decoder's contribution to dW is lost.", PICTURES, "G", FORGOTTEN,
         Edit(f"{CONV}._gradients", "self.W.grad", "np.zeros_like(self.W.grad)")),
    _bug("encoder_forgotten", "The encoder's contribution to dW is lost.", PICTURES, "G", FORGOTTEN,
         Edit("npae.layers.conv:Conv2d._gradients", "self.W.grad", "np.zeros_like(self.W.grad)")),
    _bug("decoder_not_transposed", "The decoder's contribution has its channels the other way round.", CUBE, "G",
         ("the contribution of", "is not transposed"),
         Edit(f"{CONV}._gradients", "self.W.grad", "self.W.grad.swapaxes(2, 3)")),
    _bug("decoder_sign", "The decoder's contribution has the wrong sign.", PICTURES, "G",
         ("the contribution of", "has the wrong sign"),
         Edit(f"{CONV}._gradients", "conv2d_transpose_backward(x,", "conv2d_transpose_backward(-x,")),
)
NOT_HERE = {"overwrite_second": "the same as decoder_forgotten: the encoder comes last in backward and overwrites"}
